"""A name server with the zones that a test gives: a real nsd, and before it a door of our own, on one loopback port
(UDP and TCP), which keeps a list of the questions and can be told to fall silent or to say SERVFAIL for some names."""
import signal
import socket
import struct
import threading
import time

from harness import PATIENCE_S, wait_until
from peers import Peer

NSD = "/usr/sbin/nsd"

NSD_CONF = """server:
  ip-address: {0}@{1}
  username: ""
  chroot: ""
  zonesdir: "{2}"
  zonelistfile: "{2}/zone.list"
  xfrdfile: "{2}/xfrd.state"
  xfrdir: "{2}"
  pidfile: ""
  database: ""
  logfile: "{2}/log"
  server-count: 1
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: "{2}/root.zone"
"""

# One zone has all names: what the test does not give does not exist.
ROOT_ZONE = """$TTL 300
. 3600 IN SOA ns.invalid. hostmaster.invalid. {0} 3600 600 86400 {1}
. 3600 IN NS ns.invalid.
{2}
"""

TYPES = {1: "A", 5: "CNAME", 15: "MX", 16: "TXT", 28: "AAAA"}
SERVFAIL = 2


def read_question(message):
    """(name in lower case without a final dot, type) of a message, or None."""
    labels, at = [], 12
    try:
        while message[at]:
            labels.append(message[at + 1:at + 1 + message[at]])
            at += 1 + message[at]
        number = struct.unpack_from(">H", message, at + 1)[0]
    except (IndexError, struct.error):
        return None
    return b".".join(labels).decode("ascii", "backslashreplace").lower(), TYPES.get(number, str(number))


def open_pair(host):
    """UDP and TCP sockets on one port that the kernel chooses."""
    for _ in range(50):
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((host, 0))
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.bind(datagrams.getsockname())
            listener.listen(64)
            return datagrams, listener
        except OSError:
            datagrams.close()
            listener.close()
    raise AssertionError("no port is free for both UDP and TCP")


class NameServer(Peer):
    """`records` are lines of a zone file with absolute names, as "example.net. MX 10 mx.example.net.". For names in
    `silent` and `servfail` (without a final dot; for all below them, too) there is no answer, or SERVFAIL; these
    sets, and `delay_s` of every answer, may be changed at any time. `asked` has (name, type) of all questions;
    `text` is the address for a configuration."""

    def __init__(self, records, silent=(), servfail=(), negative_s=60):
        super().__init__()
        self.silent, self.servfail, self.delay_s = set(silent), set(servfail), 0
        self.negative_s, self.serial, self.asked = negative_s, 0, []
        self.write_zone(records)
        self.datagrams, self.listener, self.stopping = None, None, False

    def __enter__(self):
        for _ in range(5):  # nsd can't be given a socket: somebody else may be quicker
            datagrams, listener = open_pair("127.0.0.1")
            self.address = datagrams.getsockname()
            datagrams.close()
            listener.close()
            path = self.write("nsd.conf", NSD_CONF.format(*self.address, self.folder))
            try:
                self.launch([NSD, "-d", "-c", path])
                break
            except AssertionError:
                if self.process.poll() is None or "in use" not in self.told():
                    raise
        self.nsd_address = self.address
        self.datagrams, self.listener = open_pair("127.0.0.1")
        self.address = self.datagrams.getsockname()
        self.text = "%s:%d" % self.address
        for work in (self.serve_datagrams, self.serve_connections):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.stopping = True
        self.datagrams.close()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        super().__exit__(*exception)

    def write_zone(self, records):
        self.serial += 1
        return self.write("root.zone", ROOT_ZONE.format(self.serial, self.negative_s, records))

    def change(self, records):
        """Other records instead; answers with them when it returns. (The gateway may still know the old ones.)"""
        self.write_zone(records)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.loaded() == self.serial, f"the new zone is served: {self.told()}")

    def loaded(self):
        """The serial number of the zone that is served."""
        question = struct.pack(">6HBHH", 0x1234, 0, 1, 0, 0, 0, 0, 6, 1)
        answer = self.ask_nsd(question, socket.SOCK_DGRAM)
        return self.serial_of(answer)

    @staticmethod
    def serial_of(answer):
        """SOA is the first record of the answer: its five numbers follow two names, which are not compressed away."""
        at = 12 + 1 + 4
        if not answer or struct.unpack_from(">H", answer, 6)[0] == 0:
            return None
        at += 1 + 8  # root, type, class, TTL
        length = struct.unpack_from(">H", answer, at)[0]
        return struct.unpack_from(">I", answer, at + 2 + length - 20)[0]

    # --- the door ---

    def habit(self, name, names):
        return any(name == other or name.endswith("." + other) for other in names)

    def answer(self, message, kind):
        """The answer to a message, or None: silence."""
        question = read_question(message)
        if question is None:
            return None
        self.asked.append(question)
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.habit(question[0], self.silent):
            return None
        if self.habit(question[0], self.servfail):
            return message[:2] + struct.pack(">H", 0x8180 | SERVFAIL) + message[4:]
        answer = self.ask_nsd(message, kind)
        # As a resolver: recursion is available.
        return answer and answer[:3] + bytes([answer[3] | 0x80]) + answer[4:]

    def ask_nsd(self, message, kind):
        try:
            with socket.socket(socket.AF_INET, kind) as asking:
                asking.settimeout(PATIENCE_S)
                asking.connect(self.nsd_address)
                if kind == socket.SOCK_DGRAM:
                    asking.send(message)
                    return asking.recv(65536)
                asking.sendall(struct.pack(">H", len(message)) + message)
                with asking.makefile("rb") as stream:
                    return stream.read(struct.unpack(">H", stream.read(2))[0])
        except (OSError, struct.error):
            return None

    def serve_datagrams(self):
        def serve(message, sender):
            answer = self.answer(message, socket.SOCK_DGRAM)
            if answer and not self.stopping:
                try:
                    self.datagrams.sendto(answer, sender)
                except OSError:
                    pass  # it has ended meanwhile

        while not self.stopping:
            try:
                message, sender = self.datagrams.recvfrom(65536)
            except OSError:
                return
            threading.Thread(target=serve, args=(message, sender), daemon=True).start()

    def serve_connections(self):
        def serve(connection):
            with connection, connection.makefile("rb") as stream:
                connection.settimeout(PATIENCE_S)
                try:
                    while head := stream.read(2):
                        answer = self.answer(stream.read(struct.unpack(">H", head)[0]), socket.SOCK_STREAM)
                        if answer:
                            connection.sendall(struct.pack(">H", len(answer)) + answer)
                except (OSError, struct.error):
                    pass

        while not self.stopping:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()
