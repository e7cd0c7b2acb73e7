"""The PROXY header: the vectors of others, in one piece and in many; required from the networks of listener.proxy and
refused from everybody else; whose address then counts in limits, log and Received; before TLS; health checks."""
import ipaddress
import json
import random
import re
import signal
import socket
import ssl
import struct
import time
import unittest

import loader
import pki
from harness import Client, Gateway, data_path, message, seed, split_delivered, wait_until
from prometheus import scrape
from tls_client import tls_context

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\0\0\0"
CLIENT, OTHER, CLIENT6 = "192.0.2.77", "198.51.100.9", "2001:db8:1:2::3"
LISTENERS = {"mx": {"proxy": '{"127.0.0.1", "::1"}'}}
FILE = data_path("proxy-protocol", "vectors-aiosmtpd.json")


def v1(source=CLIENT, port=4711):
    family = 6 if ":" in source else 4
    target = "2001:db8::25" if family == 6 else "203.0.113.25"
    return f"PROXY TCP{family} {source} {target} {port} 25\r\n".encode()


def v2(source=CLIENT, port=4711, tlvs=b""):
    source = ipaddress.ip_address(source)
    target = ipaddress.ip_address("2001:db8::25" if source.version == 6 else "203.0.113.25")
    body = source.packed + target.packed + struct.pack(">HH", port, 25) + tlvs
    return SIGNATURE + bytes([0x21, 0x21 if source.version == 6 else 0x11]) + struct.pack(">H", len(body)) + body


def tlv(kind, value):
    return bytes([kind]) + struct.pack(">H", len(value)) + value


def crc32c(data):
    crc = 0xffffffff
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def gateway(test, settings=None, listeners=None, **options):
    result = Gateway(settings, listeners=listeners or LISTENERS, **options)
    test.addCleanup(result.close)
    return result.start()


def heard(client):
    """What comes until the server closes."""
    octets = client.buffer
    try:
        while more := client.socket.recv(65536):
            octets += more
    except ConnectionError:
        pass
    return octets


def told(server, count, *names):
    """So many lines of these events, and no more."""
    wait_until(lambda: len(server.events(*names)) >= count, f"{count} lines of {names}:\n{server.log_text()[-3000:]}")
    lines = server.events(*names)
    assert len(lines) == count, (count, lines)
    return lines


@unittest.skipUnless(FILE, "skipped: proxy-protocol/vectors-aiosmtpd.json is not beside the project")
class Vectors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(FILE, encoding="ascii") as file:
            cls.vectors = json.load(file)

    def test_there_are_all(self):
        self.assertEqual(len(self.vectors), 50)

    def check(self, server, vector, sizes):
        """`sizes` of the segments, the first of them first."""
        octets = bytes.fromhex(vector["hex"])
        with Client(server.address) as client:
            if vector["accept"] is None:
                client.send_split(octets, sizes, 0.002)
                self.assertTrue(client.silent(0.2))
                return
            try:
                client.send_split(octets, sizes, 0.002)
            except ConnectionError:
                self.assertIs(vector["accept"], False)
            if not vector["accept"]:
                self.assertEqual(heard(client), b"")
                return
            client.expect(220)
            if "tail" in vector:
                client.expect(500, "")  # behind the header they are the beginning of a command
            client.expect(221, "QUIT")
            port = client.socket.getsockname()[1]
        source, port = (vector["src"], vector["sport"]) if "src" in vector else (None, port)
        if source:
            source = ("IPv6:" if ":" in source else "") + source
            wait_until(lambda: any(line["client"] == source and int(line["port"]) == port
                                   for line in server.events("connect")), f"{vector['id']}: {source} in the log")

    def test_whole(self):
        server = gateway(self)
        for vector in self.vectors:
            with self.subTest(vector["id"]):
                self.check(server, vector, [1 << 20])
        server.stop()

    def test_in_pieces(self):
        chance, server = random.Random(seed()), gateway(self)
        for vector in self.vectors:
            with self.subTest(vector["id"]):
                sizes = [chance.choice((1, 2, 5, 11, 13, 16, 40)) for _ in range(20)]
                self.check(server, vector, sizes)
        server.stop()

    def test_the_checksum_counts(self):
        """One of the vectors has a checksum; with another one it is refused."""
        server = gateway(self)
        vector = next(dict(vector) for vector in self.vectors if vector["id"] == "v2-tlv-exact")
        octets = bytes.fromhex(vector["hex"])
        at = octets.index(b"\x03\0\x04", 28) + 3
        right = struct.pack(">I", crc32c(octets[:at] + bytes(4) + octets[at + 4:]))
        for checksum, accept in ((right, True), (bytes(4), False), (right[::-1], False)):
            octets = octets[:at] + checksum + octets[at + 4:]
            self.check(server, {**vector, "hex": octets.hex(), "accept": accept}, [1 << 20])
        server.stop()

    def test_unfinished_ones_are_dropped(self):
        """After 5 seconds, or limits.command_timeout if that is shorter."""
        server = gateway(self, {"limits.command_timeout": '"1s"'})
        for vector in self.vectors:
            if vector["accept"] is None:
                with Client(server.address) as client:
                    client.send(bytes.fromhex(vector["hex"]))
                    began = time.monotonic()
                    self.assertEqual(heard(client), b"")
                    self.assertLess(0.8, time.monotonic() - began)
                    self.assertLess(time.monotonic() - began, 5)
        self.assertEqual({line["reason"] for line in told(server, 2, "proxy_bad")},
                         {"no whole PROXY header in time"})
        server.stop()


class Required(unittest.TestCase):
    def test_address_everywhere(self):
        """In the log and in Received."""
        server = gateway(self)
        for number, (header, source) in enumerate([(v1(), CLIENT), (v2(), CLIENT), (v1(CLIENT6), CLIENT6),
                                                   (v2(CLIENT6), CLIENT6), (v2("::ffff:" + CLIENT), CLIENT)], 1):
            shown = ("IPv6:" if ":" in source else "") + source
            with self.subTest(header), Client(server.address) as client:
                client.send(header)
                client.hello()
                self.assertEqual(client.transfer(message(f"m{number}")).code, 250)
                client.expect(221, "QUIT")
            text = server.wait_messages("alice", number)
            received = [split_delivered(one)[1] for one in text if b"Subject: m%d\r\n" % number in one][0]
            self.assertIn(f"([{shown}])".encode(), received)
        lines = told(server, 5, "connect")
        self.assertEqual(sorted(line["client"] for line in lines), 3 * [CLIENT] + 2 * ["IPv6:" + CLIENT6])
        self.assertEqual({line["balancer"] for line in told(server, 5, "proxy")}, {"127.0.0.1"})
        self.assertEqual({line["port"] for line in lines}, {"4711"})
        told(server, 5, "disconnect")
        server.stop()

    def test_followed_in_the_same_segment(self):
        """What stands behind the header is the client's, who has not waited for the greeting."""
        server = gateway(self)
        for header in (v1(), v2()):
            with Client(server.address) as client:
                client.send(header + b"EHLO client.example\r\n")
                client.expect(220)
                client.expect(250)
                self.assertEqual(client.transfer(message()).code, 250)
        told(server, 2, "early_talker")
        server.stop()

    def test_each_cut(self):
        """Two segments, cut at every octet."""
        server = gateway(self)
        tlvs = tlv(5, b"id") + tlv(2, b"mx.example.org")
        for header in (v1(), v2(tlvs=tlvs)):
            for at in range(1, len(header)):
                with Client(server.address) as client:
                    client.send_split(header + b"NOOP\r\n", [at], 0.001)
                    client.expect(220)
                    client.expect(250)
        count = len(v1()) + len(v2(tlvs=tlvs)) - 2
        self.assertEqual({line.get("authority") for line in told(server, count, "proxy")}, {None, "mx.example.org"})
        server.stop()

    def test_a_missing_header(self):
        """Closed without a word, whatever is said; nothing that is said is carried out."""
        server = gateway(self)
        for octets in (b"EHLO client.example\r\n", b"\r\n\r\n\0\r\nQUIT\r\n", b"PROXY TCP4 1.2.3.4\r\n",
                       b"proxy unknown\r\n", b"X" * 5000, v2()[:12] + b"\x21\x11\xff\xff" + bytes(5000)):
            with self.subTest(octets[:20]), Client(server.address) as client:
                try:
                    client.send(octets)
                except ConnectionError:
                    pass
                self.assertEqual(heard(client), b"")
        told(server, 6, "proxy_bad")
        server.stop()
        self.assertEqual(server.events("connect"), [])

    def test_who_says_nothing(self):
        """A balancer that only looks whether the port is open leaves no line in the log."""
        server = gateway(self)
        for _ in range(20):
            Client(server.address).close()
        with Client(server.address) as client:
            client.send(v1())
            client.hello()
        told(server, 1, "disconnect")
        told(server, 1, "connect")
        self.assertEqual(server.events("proxy_bad"), [])
        server.stop()

    def test_tlvs_in_the_log(self):
        server = gateway(self)
        tls = tlv(0x20, b"\x07\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"client.example") + tlv(0x23, b"AES"))
        with Client(server.address) as client:
            client.send(v2(tlvs=tlv(2, b'mx.example.org"\n') + tlv(5, b"a\0b") + tls + tlv(0xe0, b"ours")))
            client.hello()
        line = told(server, 1, "proxy")[0]
        self.assertEqual((line["client"], line["version"]), (CLIENT, "2"))
        self.assertEqual((line["tls"], line["cipher"], line["client_name"], line["verified"]),
                         ("TLSv1.3", "AES", "client.example", "true"))
        self.assertIn("mx.example.org", line["authority"])
        self.assertTrue(server.log_text().count("\n") >= 3)
        server.stop()

    def test_a_drain_ends_who_waits(self):
        """Not at once: those who have just come may still send a message."""
        server = gateway(self)
        with Client(server.address) as client:
            client.send(b"PROXY TCP4 ")
            time.sleep(2.2)
            server.signal(signal.SIGTERM)
            began = time.monotonic()
            self.assertIn(heard(client)[:4], (b"", b"421 "))
            self.assertLess(time.monotonic() - began, 2)
        server.stop()


class Checks(unittest.TestCase):
    def test_local(self):
        """The balancer itself: no limits, no pause, and nothing in the log."""
        server = gateway(self, {"limits.connections_per_ip": "1", "limits.connection_rate": "1",
                                "limits.greet_delay": '"5s"'})
        clients = []
        for header in (LOCAL, SIGNATURE + b"\x20\x11\0\x0c" + bytes(12), b"PROXY UNKNOWN\r\n",
                       SIGNATURE + b"\x21\0\0\0", SIGNATURE + b"\x21\x12\0\x0c" + bytes(12), v1, v2):
            clients.append(Client(server.address))
            self.addCleanup(clients[-1].close)
            if callable(header):  # it names the end of this very connection
                header = header(*clients[-1].socket.getsockname())
            clients[-1].send(header)
            clients[-1].hello()
        for client in clients:
            client.expect(221, "QUIT")
        server.stop()
        self.assertEqual(server.events("connect", "disconnect", "proxy", "refused"), [])

    def test_another_port_is_a_client(self):
        """Whoever is on the balancer's machine comes from its address, too, but not by this connection."""
        server = gateway(self)
        with Client(server.address) as client:
            host, port = client.socket.getsockname()
            client.send(v1(host, port ^ 1))
            client.hello()
        wait_until(lambda: server.events("proxy"), "event=proxy")
        self.assertEqual(server.events("proxy")[0]["client"], host)
        server.stop()

    def test_mail_of_the_balancer(self):
        """It comes from its own address."""
        server = gateway(self)
        with Client(server.address) as client:
            client.send(LOCAL)
            client.hello()
            self.assertEqual(client.transfer(message()).code, 250)
        self.assertIn(b"([127.0.0.1])", split_delivered(server.wait_messages("alice", 1)[0])[1])
        server.stop()


class Refused(unittest.TestCase):
    """From whoever is in no network of listener.proxy: nobody outside can choose an address."""
    LISTENERS = {"mx": {"proxy": '{"10.0.0.0/8", "127.0.0.2"}'}}

    def test_refused(self):
        server = gateway(self, listeners=self.LISTENERS)
        for header in (v1(), b"PROXY UNKNOWN\r\n", v2(), LOCAL, b"proxy tcp4 1.2.3.4 1.2.3.4 1 2\r\n"):
            for sizes in ([1 << 20], [1] * 20, [3, 5, 7]):
                with self.subTest(header, sizes=sizes), Client(server.address) as client:
                    client.expect(220)
                    try:
                        client.send_split(header + b"EHLO client.example\r\n", sizes, 0.001)
                    except ConnectionError:
                        pass
                    replies = heard(client).split(b"\r\n")
                    self.assertTrue(replies[-2].startswith(b"554 5.5.0 "), replies)
                    if sizes[0] > 100:
                        self.assertEqual(len(replies), 2)
        server.stop()
        self.assertEqual(server.events("proxy"), [])
        self.assertEqual({line["client"] for line in server.events("connect")}, {"127.0.0.1"})

    def test_in_the_middle(self):
        """Nor later, in any state; nor from a balancer a second time."""
        server = gateway(self, listeners=self.LISTENERS)
        for source, header in (("127.0.0.1", b""), ("127.0.0.2", v1())):
            with Client(server.address, source=source) as client:
                client.send(header)
                client.hello()
                client.envelope("sender@client.example", "alice@example.org")
                client.expect(554, v1()[:-2])
                self.assertEqual(heard(client), b"")
        server.stop()

    def test_who_must_and_who_may_not(self):
        server = gateway(self, listeners=self.LISTENERS)
        with Client(server.address, source="127.0.0.2") as client:
            self.assertTrue(client.silent(0.1))
            client.send(v1())
            client.hello()
        with Client(server.address) as client:
            client.hello()
        server.stop()

    def test_before_implicit_tls(self):
        """There it is no TLS, and closed without a word in clear."""
        authority = pki.authority()
        made = authority.issue("mx.example.org")
        server = gateway(self, listeners={"mx": {"tls": "implicit", **self.LISTENERS["mx"]}},
                         certificates={"mx.example.org": (made.chain, made.key)})
        for header in (v1(), v2()):
            with Client(server.address) as client:
                client.send(header)
                octets = heard(client)
                self.assertTrue(octets == b"" or octets[0] == 21, octets)  # an alert
        server.stop()
        self.assertEqual(server.events("proxy"), [])


class Limits(unittest.TestCase):
    def setUp(self):
        self.clients = []

    def leave(self, server):
        """All clients go, so that the server need not wait for them."""
        for client in self.clients:
            client.close()
        server.stop()

    def connect(self, server):
        self.clients.append(Client(server.address))
        self.addCleanup(self.clients[-1].close)
        return self.clients[-1]

    def proxied(self, server, source, code=220):
        client = self.connect(server)
        client.send(v2(source))
        reply = client.expect(code)
        if code != 220:
            self.assertTrue(client.closed())
        return client, reply

    def test_each_client_has_its_own(self):
        server = gateway(self, {"limits.connections_per_ip": "2"})
        first, _ = self.proxied(server, CLIENT)
        self.proxied(server, CLIENT)
        _, reply = self.proxied(server, CLIENT, 421)
        self.assertEqual(reply.enhanced, "4.7.0")
        self.proxied(server, OTHER)
        self.proxied(server, CLIENT6)
        self.proxied(server, CLIENT6)
        self.proxied(server, CLIENT6[:-1] + "4", 421)  # the same /64
        first.expect(221, "QUIT")
        first.close()
        wait_until(lambda: self.place(server, CLIENT), "a place after one was left")
        self.leave(server)
        self.assertEqual({line["client"] for line in server.events("refused")}, {CLIENT, "IPv6:" + CLIENT6[:-1] + "4"})

    def test_counts_are_given_back_once(self):
        """Whatever way a connection ends; the balancer's own address is never counted."""
        server = gateway(self, {"limits.connections_per_ip": "1", "limits.connections": "3"})
        chance = random.Random(seed())
        for number in range(60):
            with Client(server.address) as client:
                client.send(chance.choice((v1(), v2(), LOCAL, v1()[:9], b"", b"nonsense\r\n")))
                if chance.random() < 0.5:
                    client.socket.setblocking(True)
                    client.socket.settimeout(0.02)
                    try:
                        client.socket.recv(10)
                    except OSError:
                        pass
                if chance.random() < 0.3:
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        wait_until(lambda: self.place(server, CLIENT), "the place of a client")
        self.proxied(server, CLIENT, 421)
        wait_until(lambda: self.place(server, OTHER), "a second of three places")
        self.leave(server)

    def place(self, server, source):
        """A connection that is greeted, or None."""
        client = self.connect(server)
        try:
            client.send(v1(source))
            return client if client.reply().code == 220 else client.close()
        except (EOFError, ConnectionError):
            return client.close()

    def test_rates(self):
        server = gateway(self, {"limits.connection_rate": "3"})
        for _ in range(3):
            self.proxied(server, CLIENT)
        _, reply = self.proxied(server, CLIENT, 421)
        self.assertEqual(reply.enhanced, "4.7.0")
        self.proxied(server, OTHER)
        self.leave(server)

    def test_exempt(self):
        server = gateway(self, {"limits.connections_per_ip": "1", "limits.connection_rate": "1",
                                "limits.exempt": '{"192.0.2.0/24"}'})
        for _ in range(4):
            self.proxied(server, CLIENT)
        self.proxied(server, OTHER)
        self.proxied(server, OTHER, 421)
        self.leave(server)


class Secure(unittest.TestCase):
    """The header comes before TLS."""

    def setUp(self):
        self.authority = pki.authority()
        made = self.authority.issue("mx.example.org")
        self.server = gateway(self, {"limits.connections_per_ip": "2", "admin.http": '"127.0.0.1:0"'},
                              {"implicit": {"tls": "implicit", **LISTENERS["mx"]},
                               "starttls": {"tls": "starttls", **LISTENERS["mx"]}},
                              certificates={"mx.example.org": (made.chain, made.key)})

    def shake(self, client, header, sizes):
        """Header and ClientHello in segments of these sizes, then the rest of the handshake."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = tls_context(self.authority.path).wrap_bio(incoming, outgoing, server_hostname="mx.example.org")
        first = header
        while True:
            try:
                tls.do_handshake()
                client.send(outgoing.read())
                return tls, incoming, outgoing
            except ssl.SSLWantReadError:
                client.send_split(first + outgoing.read(), sizes, 0.001)
                first, sizes = b"", [1 << 20]
                octets = client.socket.recv(65536)
                if not octets:
                    raise EOFError from None
                incoming.write(octets)

    def greeting(self, client, tls, incoming):
        while True:
            try:
                return tls.read(1000)
            except ssl.SSLWantReadError:
                incoming.write(client.socket.recv(65536))

    def test_implicit(self):
        count = 0
        for header in (v1(), v2(tlvs=tlv(2, b"mx.example.org"))):
            length = len(header)
            for sizes in ([1 << 20], [length], [length - 1], [length + 1], [length + 5, 1], [10, length, 50], [1] * 99):
                with self.subTest(sizes=sizes), Client(self.server.at["implicit"]) as client:
                    tls, incoming, _ = self.shake(client, header, sizes)
                    self.assertTrue(self.greeting(client, tls, incoming).startswith(b"220 "))
                count += 1
                told(self.server, count, "disconnect")
        self.server.stop()
        self.assertEqual({line["client"] for line in self.server.events("connect")}, {CLIENT})
        self.assertEqual(len(self.server.events("tls")), count)
        self.assertEqual(self.server.events("tls_failed"), [])

    def test_implicit_refusals_are_silent(self):
        def refusals():
            page = scrape(self.server)
            return (page.sum("ringmx_replies_total", reason="too_many_from_address"),
                    page.value("ringmx_proxy_connections_total", kind="bad"))
        clients = []
        for _ in range(2):
            clients.append(Client(self.server.at["implicit"]))
            self.addCleanup(clients[-1].close)
            self.shake(clients[-1], v2(), [1 << 20])
        for octets in (v2(), b"EHLO client.example\r\n", b"\x16\x03\x01\0\x80"):
            with Client(self.server.at["implicit"]) as client:
                client.send(octets)
                self.assertEqual(heard(client), b"")
        self.assertEqual(refusals(), (1, 2), "counted all the same")
        for client in clients:
            client.close()
        self.server.stop()

    def test_starttls(self):
        with Client(self.server.at["starttls"]) as client:
            client.send(v1())
            client.hello()
            client.expect(220, "STARTTLS")
            client.socket = tls_context(self.authority.path).wrap_socket(
                client.socket, server_hostname="mx.example.org")
            client.expect(250, "EHLO client.example")
            self.assertEqual(client.transfer(message()).code, 250)
        received = split_delivered(self.server.wait_messages("alice", 1)[0])[1]
        self.assertIn(f"([{CLIENT}])".encode(), received)
        self.assertIn(b"ESMTPS", received)
        self.server.stop()


class Reload(unittest.TestCase):
    def test_who_is_believed(self):
        """From the next connection on; who is connected stays who he is."""
        server = gateway(self)

        def greets(header):
            with Client(server.address) as client:
                client.send(header)
                client.socket.settimeout(2)
                try:
                    return client.reply().code == 220 and client.command("NOOP").code == 250
                except (EOFError, ConnectionError, TimeoutError):
                    return False
        with Client(server.address) as old:
            old.send(v1())
            old.hello()
            self.assertFalse(greets(b"\r\n\r\n\r\n"))
            for networks, header, other in (('{"10.0.0.0/8"}', b"", v1()), ('{"10.0.0.0/8", "127.0.0.1"}', v1(), b"")):
                server.listeners = {"mx": {"proxy": networks}}
                host, port = server.address
                server.listeners["mx"]["address"] = f'"{host}:{port}"'
                server.write_configuration()
                server.signal(signal.SIGHUP)
                wait_until(lambda: greets(header), f"{header} is right")
                self.assertFalse(greets(other))
            self.assertEqual(old.transfer(message()).code, 250)
        self.assertIn(f"([{CLIENT}])".encode(), split_delivered(server.wait_messages("alice", 1)[0])[1])
        server.stop()


class Generator(unittest.TestCase):
    """ringmx-load as the balancer, with invented clients."""

    def test_load(self):
        server = gateway(self)
        network = ipaddress.ip_network("203.0.113.0/24")
        for number, version in enumerate(("v1", "v2"), 1):
            report = loader.run(server.address, "--proxy", version, "--proxy-sources", network, "--messages", 60,
                                "--messages-per-connection", 2)
            self.assertEqual(report["messages"], 60)
            mail = server.wait_messages("user", 60 * number)
        sources = [re.search(rb"\(\[([0-9.]+)\]\)", split_delivered(text)[1])[1].decode() for text in mail]
        self.assertTrue(all(ipaddress.ip_address(source) in network for source in sources), sources)
        self.assertGreater(len(set(sources)), 20)
        server.stop()


if __name__ == "__main__":
    unittest.main()
