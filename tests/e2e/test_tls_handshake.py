"""Handshakes that come in pieces, stop half-way, are torn or full of garbage; and the same for what follows them."""
import random
import socket
import subprocess
import threading
import time
import unittest

import pki
from harness import SLOW, Gateway, message, seed, wait_until
from tls_client import (LISTENERS, TLS12, TLS13, SecureClient, TlsSocket, check_failures, knock, records, reset, rest,
                        tls_context, wait_event)
from tls_wire import DATA, Wire, WireClient

VERSIONS = (TLS13, TLS12)
CERTIFICATE = pki.authority().issue("mx.example.org")


def gateway(test):
    """One for all tests of a class."""
    result = Gateway(listeners=LISTENERS, certificates={"mx": CERTIFICATE})
    test.addClassCleanup(result.close)
    return result.start()


class Pieces(unittest.TestCase):
    """Every split of what the client sends."""

    @classmethod
    def setUpClass(cls):
        cls.gateway = gateway(cls)

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def shake(self, listener, version, cut_hello, cut_finish, pause_s):
        """A whole handshake; both flights of the client are cut by functions: octets -> list of segments. Returns
        the lengths of the flights."""
        implicit = listener == "implicit"
        client = knock(self.gateway.at[listener], implicit, version)
        with client:
            wire = client.socket

            def send(octets, cut):
                for part in cut(octets):
                    wire.raw.sendall(part)
                    if pause_s and part is not octets:
                        time.sleep(pause_s)

            hello = wire.begin()
            send(hello, cut_hello)
            last = wire.answer()
            send(last, cut_finish)
            wire.handshake()
            if implicit:
                client.expect(220)
            client.expect(250, "EHLO client.example")
            return len(hello), len(last)

    def test_every_split(self):
        whole = lambda octets: (octets,)  # noqa: E731  # pylint: disable=unnecessary-lambda-assignment
        step = 11 if SLOW else 1
        for version in VERSIONS:
            for listener in LISTENERS:
                hello, last = self.shake(listener, version, whole, whole, 0)
                self.assertGreater(hello, 100)
                self.assertGreater(last, 50)
                two = lambda at: lambda octets: (octets[:at], octets[at:])  # noqa: E731
                if listener == "starttls":  # the rest is the same, once the handshake has begun
                    for at in range(1, hello, step * 3):
                        self.shake(listener, version, two(at), whole, 0.0005)
                    continue
                for at in range(1, hello, step):
                    self.shake(listener, version, two(at), two(1 + at % (last - 1)), 0.0005)
                for at in range(1, last):
                    self.shake(listener, version, whole, two(at), 0.0005)
        self.assertEqual(self.gateway.events("tls_failed"), [])

    def test_octet_by_octet(self):
        single = lambda octets: [octets[at:at + 1] for at in range(len(octets))]  # noqa: E731
        for version in VERSIONS:
            for listener in LISTENERS:
                self.shake(listener, version, single, single, 0.0002)

    def test_random_pieces(self):
        chance = random.Random(seed())

        def cut(octets):
            places = sorted(chance.sample(range(1, len(octets)), 7))
            return [octets[a:b] for a, b in zip([0] + places, places + [len(octets)])]

        for number in range(8 if SLOW else 60):
            self.shake(("starttls", "implicit")[number % 2], VERSIONS[number // 2 % 2], cut, cut, 0.0003)

    def test_hello_in_many_records(self):
        """A handshake message may be cut into records as one likes (RFC 8446 5.1)."""
        def cut_records(size):
            def cut(octets):
                text = octets[5:]
                return [octets[:3] + len(text[at:at + size]).to_bytes(2, "big") + text[at:at + size]
                        for at in range(0, len(text), size)]
            return cut

        whole = lambda octets: (octets,)  # noqa: E731
        for version in VERSIONS:
            for size in (1, 2, 5, 100, 200):
                self.shake("implicit", version, cut_records(size), whole, 0)

    def test_finished_and_command_together(self):
        """The client need not wait: its Finished and its first command in one segment."""
        for cut in (lambda o: (o,), lambda o: (o[:70], o[70:]), lambda o: [o[i:i + 1] for i in range(len(o))]):
            for implicit, name in ((False, "starttls"), (True, "implicit")):
                client = knock(self.gateway.at[name], implicit)
                with client:
                    wire = client.socket
                    wire.raw.sendall(wire.begin())
                    last = wire.answer()
                    wire.tls.write(b"EHLO client.example\r\n")
                    for part in cut(last + wire.outgoing.read()):
                        wire.raw.sendall(part)
                    if implicit:
                        client.expect(220)
                    client.expect(250)
                    self.assertEqual(client.transfer(message()).code, 250)

    def resumable(self, version):
        """A session of the server, and the context that it belongs to."""
        context = tls_context(version=version)
        with SecureClient(self.gateway.at["implicit"], context, implicit=True) as client:
            client.expect(220)
            return client.tls.session, context

    def test_resumed_in_pieces(self):
        """A resumed handshake, where in TLS 1.2 the client's Finished is the last word and its first command may
        follow at once: every split of that flight."""
        for version in VERSIONS:
            session, context = self.resumable(version)
            at, length = 1, 2
            while at < length:
                with knock(self.gateway.at["starttls"], False) as client:
                    wire = client.socket = TlsSocket(client.socket.raw, context, session=session)
                    wire.raw.sendall(wire.begin())
                    last = wire.answer()
                    self.assertTrue(wire.tls.session_reused)
                    wire.tls.write(b"EHLO client.example\r\n")
                    octets = last + wire.outgoing.read()
                    length = len(octets)
                    wire.raw.sendall(octets[:at])
                    time.sleep(0.0005)
                    wire.raw.sendall(octets[at:])
                    client.expect(250)
                at += 5 if SLOW else 1
        self.assertEqual(self.gateway.events("tls_failed"), [])

    def test_false_start(self):
        """RFC 7918: in TLS 1.2 a client may send text before it has seen our Finished."""
        for together in (True, False):
            keys = pki.place("keys")
            context = tls_context(version=TLS12, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256", keys=keys)
            with knock(self.gateway.at["starttls"], False) as client:
                wire = client.socket = TlsSocket(client.socket.raw, context)
                hello = wire.begin()
                wire.went += hello
                wire.raw.sendall(hello)
                last = wire.answer()
                early = Wire(wire, keys, "ECDHE-ECDSA-AES128-GCM-SHA256", modern=False)
                text = early.write.seal(DATA, b"EHLO client.example\r\n")
                for octets in (last + text,) if together else (last, text):
                    wire.raw.sendall(octets)
                wire.handshake()
                client.expect(250)

    def test_real_clients_octet_by_octet(self):
        """openssl and gnutls through a proxy that passes on one octet at a time, both ways."""
        host, port = Splitter(self, self.gateway.at["implicit"]).address
        script = b"NOOP\r\nVRFY alice\r\nQUIT\r\n"
        for command in (["openssl", "s_client", "-quiet", "-connect", f"{host}:{port}"],
                        ["openssl", "s_client", "-quiet", "-tls1_2", "-connect", f"{host}:{port}"],
                        ["gnutls-cli", "--insecure", "-p", str(port), host]):
            done = subprocess.run(command, input=script, capture_output=True, timeout=60, check=False)
            self.assertIn(b"\n252 ", done.stdout, (command, done.stderr))
            self.assertIn(b"\n221 ", done.stdout, (command, done.stderr))


class Splitter:
    """A proxy in front of `address`: each octet is a segment of its own, both ways."""

    def __init__(self, test, address):
        self.server = address
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        test.addCleanup(self.listener.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.server)
                for one, other in ((near, far), (far, near)):
                    one.settimeout(30)
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self.copy, args=(one, other), daemon=True).start()
        except OSError:
            pass

    @staticmethod
    def copy(one, other):
        try:
            while octets := one.recv(65536):
                for at in range(len(octets)):
                    other.sendall(octets[at:at + 1])
        except OSError:
            pass
        finally:
            for sock in (one, other):
                sock.close()


class Torn(unittest.TestCase):
    """At every step: the end, a reset, an alert, garbage, a command in clear. Nothing is said in clear, nothing is
    kept, and the log says why."""

    GARBAGE = {
        "clear": b"QUIT\r\nMAIL FROM:<evil@client.example>\r\n",
        "zeros": bytes(200),
        "alert": b"\x15\3\3\0\2\2\x28",
        "close_notify": b"\x15\3\3\0\2\1\0",
        "too long": b"\x17\3\3\xff\xff" + bytes(100),
        "text": b"\x17\3\3\0\x20" + bytes(32),
        "type": b"\x63\3\3\0\x04abcd",
        "finished": b"\x16\3\3\0\4\x14\0\0\0",
        "hello request": b"\x16\3\3\0\4\0\0\0\0",
    }

    @classmethod
    def setUpClass(cls):
        cls.gateway = gateway(cls)
        cls.seed = seed()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def reach(self, step, listener, version):
        """A connection at a step of its life -> (client, raw socket, octets to come in clear were all read)."""
        implicit = listener == "implicit"
        if step < 4:
            client = knock(self.gateway.at[listener], implicit, version)
            wire = client.socket
            if step > 0:
                hello = wire.begin()
                wire.raw.sendall(hello[:100] if step == 1 else hello)
            if step > 1:
                last = wire.answer()
                if step == 3:
                    wire.raw.sendall(last[:30])
            return client
        client = WireClient(self.gateway.at[listener], version, implicit=implicit)
        client.hello()
        if step > 4:
            client.envelope("torn@client.example", "torn@example.org")
        if step == 5:
            client.expect(354, "DATA")
            client.send(b"Subject: torn\r\n\r\nhalf of it\r\n")
        if step == 6:
            client.send(b"BDAT 1000 LAST\r\nSubject: torn\r\n\r\nhalf of it\r\n")
        return client

    def check_end(self, client):
        """Closed, and all that came were records."""
        raw, came = client.socket.raw, client.socket.came
        octets = bytes(came) + rest(raw)
        records(octets)
        client.close()

    def test_every_step(self):
        chance = random.Random(self.seed)
        wrong, sources = list(self.GARBAGE) + ["random", "end", "reset", "half"], {}
        for number, step in enumerate(step for step in range(7) for _ in (0, 1)):
            listener = ("starttls", "implicit")[number % 2]
            for count, what in enumerate(wrong):
                version = VERSIONS[(number // 2 + count) % 2]
                if step < 2 and listener == "implicit" and what == "reset":
                    continue  # may be gone before it is accepted
                with self.subTest(step=step, listener=listener, what=what, version=version.name):
                    client = self.reach(step, listener, version)
                    raw = client.socket.raw
                    sources[client.source] = (step, listener, what, version.name)
                    if what == "reset":
                        reset(raw)
                        continue
                    if what == "end":
                        client.close()
                        continue
                    if what == "half":
                        raw.shutdown(socket.SHUT_WR)
                    elif step in (1, 3) and what != "random":
                        raw.sendall(bytes(700))  # ends the record begun, wrongly
                        raw.sendall(self.GARBAGE[what])
                    else:
                        raw.sendall(self.GARBAGE.get(what) or b"\x80" + chance.randbytes(2000))
                    self.check_end(client)
        self.judge(sources)

    def judge(self, sources):
        """The server lives, no mail was kept, and each failure stands in the log once."""
        with SecureClient(self.gateway.at["starttls"]) as client:
            client.hello()
            client.transfer(message("good"), recipients=["torn@example.org"])
        found = self.gateway.wait_messages("torn", 1)
        self.assertIn(b"Subject: good", found[0])

        left = {source: about for source, about in sources.items() if about[2] in ("end", "reset", "half")}
        # Who leaves before the first octet of a handshake has not failed in one.
        silent = {source: about for source, about in left.items() if about[0] == 0}
        check_failures(self.gateway, {source: about for source, about in sources.items()
                                      if source not in silent and (about[0] < 4 or source not in left)}, silent)
        wait_until(lambda: self.gateway.events("message"), "event=message")
        self.assertEqual(len(self.gateway.events("message")), 1)

    def test_flipped_hello(self):
        """A ClientHello with one octet changed, at each place: refused, or a handshake that fails later, or one
        that does not matter. The server lives."""
        for version in VERSIONS:
            length = 100
            for at in range(0, 600, 7 if SLOW else 1):
                if at >= length:
                    break
                with knock(self.gateway.at["implicit"], True, version) as client:
                    wire = client.socket
                    hello = bytearray(wire.begin())
                    length = len(hello)
                    hello[at] ^= 1 << at % 8
                    wire.raw.sendall(hello)
                    wire.raw.shutdown(socket.SHUT_WR)
                    records(rest(wire.raw))
        with SecureClient(self.gateway.at["implicit"], implicit=True) as client:
            client.hello()

    def test_huge_hello(self):
        """A ClientHello that announces 16 MB is refused at once, not collected."""
        client = knock(self.gateway.at["implicit"], True)
        with client:
            raw = client.socket.raw
            raw.sendall(b"\x16\3\1\x10\0\x01\xff\xff\xff\3\3" + bytes(4090))
            records(rest(raw))
        self.assertEqual(wait_event(self.gateway, client.source, "tls_failed")["reason"], "protocol")


if __name__ == "__main__":
    unittest.main()
