"""Handshakes that come in pieces, stop half-way, are torn, full of garbage, too slow, or many; with RSA keys in the
helpers' hands when the client goes away."""
import os
import random
import socket
import subprocess
import threading
import time
import unittest

import pki
from harness import PATIENCE_S, SLOW, Client, Gateway, message, seed, wait_until
from tls_client import (TLS12, TLS13, SecureClient, TlsSocket, check_failures, new_source, records, reset, rest,
                        tls_context, wait_event)
from tls_wire import DATA, Wire, WireClient

VERSIONS = (TLS13, TLS12)
CERTIFICATE = pki.authority().issue("mx.example.org")
LISTENERS = {"starttls": {"tls": "starttls"}, "implicit": {"tls": "implicit"}}


def gateway(test, settings=None, certificates=None, listeners=None):
    """One for a test or, given its class, for all of them."""
    result = Gateway(settings, listeners=listeners or LISTENERS,
                     certificates=certificates or {"mx": CERTIFICATE})
    (test.addClassCleanup if isinstance(test, type) else test.addCleanup)(result.close)
    return result.start()


def knock(address, implicit, version=TLS13):
    """A connection on which the server waits for a ClientHello, not yet sent."""
    source = new_source()
    client = Client(address, source=source)
    client.source = source
    if not implicit:
        client.hello()
        client.expect(220, "STARTTLS")
    client.socket = TlsSocket(client.socket, tls_context(version=version))
    return client


def failures(server, *reasons):
    return [line for line in server.events("tls_failed") if not reasons or line["reason"] in reasons]


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
        self.assertEqual(failures(self.gateway), [])

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
        self.assertEqual(failures(self.gateway), [])

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
                if step == 0 and what == "close_notify":
                    continue  # an orderly farewell before a handshake is none of these
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

        check_failures(self.gateway, {
            source: about for source, about in sources.items()
            if about[0] < 4 or about[2] not in ("end", "reset", "half")})
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
            self.assertEqual(wait_event(self.gateway, client.source, "tls_failed")["reason"], "protocol")
            records(rest(raw))


class Time(unittest.TestCase):
    """What is slow, and what ends while handshakes are under way."""

    def test_slow(self):
        """A handshake has the time of a command, all in all: dripping octets does not help."""
        server = gateway(self, {"limits.command_timeout": '"2s"'})
        start = time.monotonic()
        waiting = []
        for name in LISTENERS:
            for step in (0, 60, None):
                client = knock(server.at[name], name == "implicit")
                self.addCleanup(client.close)
                hello = client.socket.begin()
                client.socket.raw.sendall(hello[:step])
                waiting.append(client.socket.raw)
        drips = [knock(server.at[name], name == "implicit") for name in LISTENERS]
        for client in drips:
            self.addCleanup(client.close)
        hellos = [iter(client.socket.begin()) for client in drips]
        ended = set()
        while len(ended) < len(drips) and time.monotonic() < start + 12:
            for number, (client, hello) in enumerate(zip(drips, hellos)):
                try:
                    client.socket.raw.sendall(bytes([next(hello)]))
                except OSError:
                    ended.add(number)
            time.sleep(0.05)
        self.assertEqual(len(ended), len(drips), "dripping octets keeps a handshake alive")
        self.assertGreater(time.monotonic() - start, 1.5)
        for raw in waiting:
            records(rest(raw, 5))
        self.assertLess(time.monotonic() - start, 14)
        self.assertEqual(len(failures(server)), 8)
        server.stop()

    def test_drain(self):
        """SIGTERM while handshakes hang at every step: they end without a word in clear; who is inside hears 421 there,
        and a transfer under way gets its 250."""
        server = gateway(self)
        hanging = []
        for name in LISTENERS:
            for step in range(4):
                client = knock(server.at[name], name == "implicit")
                self.addCleanup(client.close)
                hanging.append(client.socket)
                if step:
                    client.socket.raw.sendall(client.socket.begin()[:50 if step == 1 else None])
                if step == 3:
                    client.socket.raw.sendall(client.socket.answer()[:20])
        idle, busy = SecureClient(server.at["starttls"]), SecureClient(server.at["implicit"], implicit=True)
        for client in (idle, busy):
            self.addCleanup(client.close)
            client.hello()
        busy.envelope("s@client.example", "busy@example.org")
        busy.expect(354, "DATA")
        busy.send(b"Subject: in flight\r\n\r\n")
        time.sleep(0.1)
        start = time.monotonic()
        server.process.terminate()
        for wire in hanging:
            records(bytes(wire.came) + rest(wire.raw))
        try:  # who comes now is told in clear, but not where TLS begins with the first octet
            with Client(server.at["implicit"], timeout_s=3) as late:
                self.assertEqual(rest(late.socket), b"")
        except ConnectionError:
            pass
        reply = idle.reply()
        self.assertEqual((reply.code, reply.enhanced), (421, "4.3.2"))
        self.assertEqual(idle.socket.recv(1), b"", "close_notify")
        busy.send(b"the end\r\n.\r\n")
        busy.expect(250)
        self.assertTrue(busy.closed(5))
        self.assertEqual(server.process.wait(PATIENCE_S), 0)
        self.assertLess(time.monotonic() - start, 10)
        server.stop()

    def test_stop_while_clients_come(self):
        """SIGTERM in a shower of handshakes, five times: exit code 0, nothing in clear, no report."""
        server = gateway(self, certificates={"rsa": pki.authority().issue("mx.example.org", key="rsa2048")})
        for _ in range(2 if SLOW else 5):
            stopping = threading.Event()
            threads = [threading.Thread(target=shower, args=(server.at["implicit"], stopping))
                       for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(0.2)
            server.stop()
            stopping.set()
            for thread in threads:
                thread.join()
            server.start()
        server.stop()


def shower(address, stopping):
    context = tls_context()
    while not stopping.is_set():
        try:
            with SecureClient(address, context, implicit=True, timeout_s=10) as client:
                client.hello()
        except (OSError, EOFError, AssertionError):
            time.sleep(0.01)


class Rsa(unittest.TestCase):
    """RSA keys are used by helper threads; the connection may be gone when the result comes."""

    def setUp(self):
        certificates = {"rsa": pki.authority().issue("mx.example.org", key="rsa2048")}
        self.server = gateway(self, {"tls.helpers": "1"}, certificates)

    def test_aborted(self):
        """200 clients go away, by reset or in order, while their signature is being made."""
        context = tls_context(ciphers="ECDHE-RSA-AES128-GCM-SHA256")
        count = 60 if SLOW else 200
        for number in range(count):
            sock = socket.create_connection(self.server.at["implicit"])
            wire = TlsSocket(sock, context if number % 2 else tls_context())
            sock.sendall(wire.begin())
            if number % 3 == 1:
                time.sleep(0.0003 * (number % 7))
            if number % 5:
                reset(sock)
            else:
                sock.close()
        for _ in range(5):
            with SecureClient(self.server.at["starttls"]) as client:
                client.hello()
                self.assertEqual(client.transfer(message("rsa")).code, 250)
                client.quit()
        self.server.wait_messages("alice", 5)

        def all_ended():
            ends = len(self.server.events("disconnect"))
            return ends > 5 and ends == len(self.server.events("connect"))

        wait_until(all_ended, "all disconnects")
        self.server.stop()
        tls, failed = self.server.events("tls"), self.server.events("tls_failed")
        self.assertEqual(len(tls), 5)
        self.assertGreater(len(failed), count // 2)

    def test_more_comes_meanwhile(self):
        """What the client sends while the key is used waits, and is not lost. (A client in TLS 1.2 may say no more, so
        this is garbage: the end of the handshake, without harm.)"""
        for _ in range(20):
            sock = socket.create_connection(self.server.at["implicit"])
            wire = TlsSocket(sock)
            sock.sendall(wire.begin() + b"\x16\3\3\0\4\x14\0\0\0")
            records(rest(sock))
            sock.close()
        with SecureClient(self.server.at["implicit"], implicit=True) as client:
            client.hello()
        self.server.stop()

    def test_many_at_once(self):
        """More handshakes than a helper can do at once: all are done, and clear text is served meanwhile."""
        count = 20 if SLOW else 100
        wires = []
        for _ in range(count):
            client = knock(self.server.at["implicit"], True)
            self.addCleanup(client.close)
            wires.append(client)
        for client in wires:
            client.socket.raw.sendall(client.socket.begin())
        with Client(self.server.at["starttls"]) as clear:
            clear.hello()
            self.assertEqual(clear.transfer(message("clear")).code, 250)
        for client in wires:
            client.socket.handshake()
        for client in wires:
            client.expect(220)
            client.expect(250, "EHLO client.example")
            client.close()
        self.server.stop()

    def test_stop_with_keys_out(self):
        """SIGTERM while a queue of signatures waits for the helper."""
        for _ in range(3):
            socks = []
            for _ in range(60):
                sock = socket.create_connection(self.server.at["implicit"])
                self.addCleanup(sock.close)
                sock.sendall(TlsSocket(sock).begin())
                socks.append(sock)
            self.server.stop()
            for sock in socks:
                records(rest(sock))
                sock.close()
            self.server.start()
        self.server.stop()


class Idle(unittest.TestCase):
    def test_many_idle(self):
        """Connections that do nothing cost little, and are there when they are wanted."""
        server = gateway(self)
        count = 100 if SLOW else 1000
        context = tls_context()

        def resident():
            with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def connect(number):
            name = ("starttls", "implicit")[number % 2]
            client = SecureClient(server.at[name], context, implicit=name == "implicit")
            self.addCleanup(client.close)
            client.hello()
            return client

        clients = [connect(number) for number in range(100)]
        before = resident()
        clients += [connect(number) for number in range(count)]
        cost = (resident() - before) / count
        if not SLOW:
            self.assertLess(cost, 8192, "octets of each idle connection")
            print(f"\n  an idle TLS connection takes {cost:.0f} octets of the process")
        for client in random.Random(1).sample(clients, len(clients)):
            client.expect(250, "NOOP")
        for client in clients[::2]:
            client.quit()
        for client in clients[1::2]:
            client.expect(250, "NOOP")
            client.close()
        server.stop()


if __name__ == "__main__":
    unittest.main()
