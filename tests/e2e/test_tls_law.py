"""The law of the change to TLS (docs/tls.md, RFC 3207): what may be said before, what comes behind STARTTLS in clear,
what is forgotten, and that nothing in clear ever follows. Looked at octet by octet."""
import signal
import socket
import time
import unittest

import pki
from harness import Client, Gateway, message, split_delivered
from tls_client import (TLS12, TLS13, SecureClient, TlsSocket, new_source, records, rest, tls_context,
                        wait_event)


class Law(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway(
            certificates={"mx": pki.authority().issue("mx.example.org")},
            listeners={"none": {"tls": "none"}, "default": {}, "starttls": {"tls": "starttls"},
                       "required": {"tls": "required"}, "implicit": {"tls": "implicit"}})
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def connect(self, listener="starttls"):
        source = new_source()
        client = Client(self.gateway.at[listener], source=source)
        client.source = source
        self.addCleanup(client.close)
        client.expect(220)
        return client

    def connect_secure(self, listener="starttls", context=None):
        client = SecureClient(self.gateway.at[listener], context, implicit=listener == "implicit")
        self.addCleanup(client.close)
        return client

    def said(self, reply, code, enhanced):
        self.assertEqual((reply.code, reply.enhanced), (code, enhanced), reply)

    def ends(self, client):
        """The connection ends, and what still comes is no word in clear."""
        octets = client.buffer + rest(client.socket)
        self.assertIn({kind for kind, _ in records(octets)}, (set(), {21}), octets)

    # --- what is offered -------------------------------------------------------------------------

    def test_offered(self):
        for listener, offered in (("none", False), ("default", True), ("starttls", True),
                                  ("required", True)):
            with self.subTest(listener=listener):
                texts = self.connect(listener).expect(250, "EHLO client.example").texts
                self.assertEqual("STARTTLS" in texts, offered, texts)
                self.assertNotIn("REQUIRETLS", texts)
        for listener in ("starttls", "required", "implicit"):
            with self.subTest(inside=listener):
                texts = self.connect_secure(listener).hello().texts
                self.assertNotIn("STARTTLS", texts)
                self.assertIn("REQUIRETLS", texts)

    def test_not_offered_is_refused(self):
        client = self.connect("none")
        client.expect(250, "EHLO client.example")
        self.said(client.command("STARTTLS"), 502, "5.5.1")
        self.assertEqual(client.transfer(message("none")).code, 250)

    def test_default_without_certificate(self):
        with Gateway() as server, server.client() as client:
            client.expect(220)
            self.assertNotIn("STARTTLS", client.expect(250, "EHLO client.example").texts)
            self.said(client.command("STARTTLS"), 502, "5.5.1")

    def test_clear_is_taken(self):
        client = self.connect()
        client.expect(250, "EHLO client.example")
        reply = client.transfer(message("clear"), recipients=["clear@example.org"])
        self.assertEqual(reply.code, 250)
        (_, received, _), = map(split_delivered, self.gateway.wait_messages("clear", 1))
        self.assertIn(b" with ESMTP ", received)
        self.assertNotIn(b"using TLS", received)

    def test_wrong_places(self):
        """503 in a transaction and inside TLS, 501 with an argument; and then it still works."""
        client = self.connect()
        client.expect(250, "EHLO client.example")
        for argument in ("now", "TLSv1.3", "STARTTLS"):
            self.said(client.command("STARTTLS " + argument), 501, "5.5.4")
        client.expect(250, "MAIL FROM:<s@client.example>")
        self.said(client.command("STARTTLS"), 503, "5.5.1")
        client.expect(250, "RCPT TO:<alice@example.org>")
        self.said(client.command("STARTTLS"), 503, "5.5.1")
        client.send(b"BDAT 12\r\nSubject: x\r\n")
        client.expect(250)
        self.said(client.command("STARTTLS"), 503, "5.5.1")
        client.expect(250, "RSET")
        client.expect(220, "sTaRtTlS")
        client.socket = TlsSocket(client.socket).handshake()
        client.expect(250, "EHLO client.example")
        self.said(client.command("STARTTLS"), 503, "5.5.1")
        inside = self.connect_secure("implicit")
        inside.hello()
        self.said(inside.command("STARTTLS"), 503, "5.5.1")
        self.assertEqual(inside.transfer(message("after")).code, 250)

    # --- required --------------------------------------------------------------------------------

    def test_required(self):
        client = self.connect("required")
        client.expect(250, "EHLO client.example")
        for line in ("MAIL FROM:<s@client.example>", "RCPT TO:<alice@example.org>", "DATA",
                     "VRFY alice"):
            self.said(client.command(line), 530, "5.7.0")
        client.send(b"BDAT 14 LAST\r\nRSET\r\nQUIT\r\n\r\nNOOP\r\n")  # the chunk is no command
        self.said(client.reply(), 530, "5.7.0")
        client.expect(250)
        self.assertTrue(client.silent(0.1))
        for line, code in (("NOOP", 250), ("RSET", 250), ("HELP", 214), ("HELO client.example", 250)):
            client.expect(code, line)
        client.expect(250, "EHLO client.example")
        client.expect(220, "STARTTLS")
        client.socket = TlsSocket(client.socket).handshake()
        client.expect(250, "EHLO client.example")
        reply = client.transfer(message("required"), recipients=["required@example.org"])
        self.assertEqual(reply.code, 250)
        self.gateway.wait_messages("required", 1)

    def test_required_pipelined(self):
        client = self.connect("required")
        client.expect(250, "EHLO client.example")
        client.send(b"MAIL FROM:<s@client.example>\r\nRCPT TO:<pipe@example.org>\r\nDATA\r\n")
        for _ in range(3):
            self.said(client.reply(), 530, "5.7.0")
        client.expect(250, "NOOP")

    # --- REQUIRETLS (RFC 8689) -------------------------------------------------------------------

    def test_requiretls(self):
        client = self.connect()
        client.expect(250, "EHLO client.example")
        self.said(client.command("MAIL FROM:<s@client.example> REQUIRETLS"), 530, "5.7.0")
        client.expect(250, "MAIL FROM:<s@client.example>")
        for listener in ("starttls", "implicit"):
            client = self.connect_secure(listener)
            client.hello()
            for bad in ("REQUIRETLS=", "REQUIRETLS=YES", "REQUIRETLS REQUIRETLS"):
                self.assertIn(client.command(f"MAIL FROM:<s@client.example> {bad}").code, (501, 555))
            client.expect(250, "MAIL FROM:<s@client.example> REQUIRETLS BODY=8BITMIME")
            client.expect(250, f"RCPT TO:<require-{listener}@example.org>")
            client.expect(354, "DATA")
            client.send(message() + b".\r\n")
            client.expect(250)
            self.gateway.wait_messages("require-" + listener, 1)

    # --- octets in clear behind STARTTLS ---------------------------------------------------------

    def test_behind_starttls(self):
        """In one segment with it: 554 and the end; nothing of it is done (CVE-2011-0411)."""
        hello = TlsSocket(None).begin()
        injected = b"EHLO evil.example\r\nMAIL FROM:<evil@client.example>\r\n"
        for listener in ("starttls", "required"):
            for tail in (b"N", b"\n", b"\0", b"\r\n", b"NOOP\r\n", b"STARTTLS\r\n", b"QUIT\r\n",
                         hello, hello[:1], injected,
                         b"MAIL FROM:<e@client.example>\r\nRCPT TO:<evil@example.org>\r\nDATA\r\n"
                         b"\r\nx\r\n.\r\n"):
                with self.subTest(listener=listener, tail=tail[:20]):
                    client = self.connect(listener)
                    client.expect(250, "EHLO client.example")
                    client.send(b"STARTTLS\r\n" + tail)
                    self.said(client.reply(), 554, "5.5.1")
                    self.assertEqual(client.buffer + rest(client.socket), b"")
        self.assertEqual(self.gateway.count("evil"), 0)

    def test_group_before(self):
        """Commands that came before STARTTLS in its group are answered; then the handshake."""
        client = self.connect()
        client.send(b"EHLO client.example\r\n")
        client.reply()
        client.send(b"NOOP\r\nRSET\r\nVRFY x\r\nSTARTTLS\r\n")
        for code in (250, 250, 252, 220):
            client.expect(code)
        client.socket = TlsSocket(client.socket).handshake()
        client.expect(250, "EHLO client.example")

    def test_two_segments(self):
        """STARTTLS and what follows wait in the kernel as two segments: whatever the server makes of it, it
        is not taken for commands, neither in clear nor inside TLS."""
        outcomes = set()
        for number in range(12):
            client = self.connect()
            client.expect(250, "EHLO client.example")
            if number % 2:
                self.gateway.signal(signal.SIGSTOP)
            client.send(b"STARTTLS\r\n")
            client.send(b"EHLO evil.example\r\nMAIL FROM:<evil@client.example>\r\n")
            self.gateway.signal(signal.SIGCONT)
            reply = client.reply()
            self.assertIn((reply.code, reply.enhanced), ((554, "5.5.1"), (220, "2.0.0")))
            outcomes.add(reply.code)
            self.ends(client)
        self.assertTrue(outcomes)

    def test_clear_after_220(self):
        """What follows 220 and is no TLS ends the connection without a reply in clear."""
        tails = (b"EHLO client.example\r\n", b"QUIT\r\n", b"\r\n", b"N", b"\0",
                 b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"MAIL FROM:<evil@client.example>\r\nRCPT TO:<evil@example.org>\r\n" * 20,
                 b"\0" * 64, b"\x80\x2e\x01\3\1\0\x15\0\0\0\x10" + b"\1" * 40, b"CONNECT x:1 HTTP/1.0\r\n\r\n",
                 b"\x17\3\3\0\5hello", b"\x15\3\3\0\2\1\0", b"\x14\3\3\0\1\1" * 40)
        for tail in tails:
            with self.subTest(tail=tail[:20]):
                client = self.connect()
                client.expect(250, "EHLO client.example")
                client.expect(220, "STARTTLS")
                client.send(tail)
                self.ends(client)
                client.close()  # else the server lingers, and tells afterwards
                failed = wait_event(self.gateway, client.source, "tls_failed")
                self.assertLessEqual({"session", "reason", "text"}, set(failed))
                if tail[0] not in (0x14, 0x15, 0x17, 0x80):
                    self.assertEqual(failed["reason"], "not_tls", failed)
        self.assertEqual(self.gateway.count("evil"), 0)

    def test_less_than_a_record(self):
        """Fewer octets than a header has: it waits, and ends without a word."""
        client = self.connect()
        client.expect(250, "EHLO client.example")
        client.expect(220, "STARTTLS")
        client.send(b"\x16\3")
        self.assertTrue(client.silent(0.2))
        client.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(rest(client.socket), b"")

    def test_clear_on_implicit(self):
        """A client that waits for a greeting hears none; one that talks in clear is not understood."""
        client = Client(self.gateway.at["implicit"])
        self.addCleanup(client.close)
        self.assertTrue(client.silent(0.3), "a greeting in clear")
        for tail in (b"EHLO client.example\r\n", b"STARTTLS\r\n", b"QUIT\r\n"):
            client = Client(self.gateway.at["implicit"])
            self.addCleanup(client.close)
            client.send(tail)
            self.ends(client)

    def test_refusals_on_implicit(self):
        """Who is one too many hears 421 in clear where the greeting would be in clear, and nothing elsewhere."""
        for limit in ("limits.connections", "limits.connections_per_ip"):
            with Gateway({limit: "1"}, certificates=self.gateway.certificates,
                         listeners={"starttls": {}, "implicit": {"tls": "implicit"}}) as server:
                with SecureClient(server.at["implicit"], implicit=True, source="127.0.0.1") as first:
                    first.hello()
                    with Client(server.at["starttls"]) as client:
                        self.assertEqual(client.reply().code, 421)
                    with Client(server.at["implicit"]) as client:
                        self.assertEqual(rest(client.socket), b"")
                    with self.assertRaises(OSError):
                        SecureClient(server.at["implicit"], implicit=True, source="127.0.0.1")
                    first.expect(250, "NOOP")

    def test_mistakes_are_not_forgotten(self):
        """STARTTLS is no way to get new ones."""
        with Gateway({"limits.bad_commands": "5"}, certificates=self.gateway.certificates) as server:
            with SecureClient(server.address) as client:
                client.expect(220)
                client.expect(250, "EHLO client.example")
                for _ in range(4):
                    client.expect(500, "XYZZY")
                client.starttls()
                codes = [client.command("XYZZY").code for _ in range(2)]
                self.assertEqual(codes[-1], 421, codes)

    def test_tls_on_a_clear_port(self):
        """A ClientHello where a command should be: no command, the bad ones are counted, no answer in TLS."""
        client = self.connect()
        client.send(TlsSocket(None).begin() + b"\r\n")
        reply = client.reply()
        self.assertGreaterEqual(reply.code, 500)

    def test_end_instead_of_a_handshake(self):
        for how in ("close", "half", "reset"):
            client = self.connect()
            client.expect(250, "EHLO client.example")
            client.expect(220, "STARTTLS")
            if how == "half":
                client.socket.shutdown(socket.SHUT_WR)
                self.ends(client)
            elif how == "reset":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        self.assertEqual(self.connect().command("NOOP").code, 250)

    # --- what is forgotten -----------------------------------------------------------------------

    def test_forgotten(self):
        """HELO name and state of before: gone. MAIL wants an EHLO of its own, and Received has its name."""
        client = self.connect()
        client.expect(250, "EHLO before.example")
        client.expect(220, "STARTTLS")
        client.socket = TlsSocket(client.socket).handshake()
        self.said(client.command("MAIL FROM:<s@client.example>"), 503, "5.5.1")
        self.said(client.command("RCPT TO:<alice@example.org>"), 503, "5.5.1")
        client.expect(250, "EHLO after.example")
        client.transfer(message(), recipients=["forgotten@example.org"])
        (_, received, _), = map(split_delivered, self.gateway.wait_messages("forgotten", 1))
        self.assertIn(b"from after.example ", received)
        self.assertNotIn(b"before.example", received)

    def test_extensions_forgotten(self):
        """EHLO in clear, HELO inside: it is no ESMTP any more."""
        client = self.connect()
        client.expect(250, "EHLO before.example")
        client.expect(220, "STARTTLS")
        client.socket = TlsSocket(client.socket).handshake()
        client.expect(250, "HELO after.example")
        client.transfer(message(), recipients=["helo@example.org"])
        (_, received, _), = map(split_delivered, self.gateway.wait_messages("helo", 1))
        self.assertNotIn(b"before.example", received)
        self.assertRegex(received, rb"\swith (ESMTPS|SMTPS|SMTP)\s")

    # --- what is on the wire ---------------------------------------------------------------------

    def test_nothing_in_clear(self):
        """After 220 each octet of the server belongs to a record, in both versions, up to the end."""
        for version in (TLS12, TLS13):
            for listener in ("starttls", "implicit"):
                with self.subTest(version=version, listener=listener):
                    client = self.connect_secure(listener, tls_context(version=version))
                    client.hello()
                    for line in ("NOOP", "XYZZY", "VRFY alice", "HELP", "STARTTLS"):
                        client.command(line)
                    self.assertEqual(client.transfer(message("wire")).code, 250)
                    wire = client.socket
                    client.quit()
                    found = records(wire.came)
                    self.assertEqual(found[0][0], 22)
                    self.assertNotIn(b"mx.example.org ESMTP", wire.came)
                    self.assertNotIn(b"2.0.0", wire.came)

    def test_server_first(self):
        """STARTTLS: after the handshake the server says nothing before the client does, not even a ticket."""
        for version in (TLS12, TLS13):
            client = self.connect_secure("starttls", tls_context(version=version))
            client.expect(220)
            client.expect(250, "EHLO client.example")
            client.starttls()
            self.assertEqual(client.socket.incoming.pending, 0)
            client.socket.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                client.socket.raw.recv(1)
            client.socket.settimeout(20)
            client.expect(250, "EHLO client.example")

    # --- the trace -------------------------------------------------------------------------------

    def test_received_and_log(self):
        for version, cipher, name in ((TLS13, None, "TLSv1.3"),
                                      (TLS12, "ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2")):
            for listener in ("starttls", "implicit"):
                with self.subTest(version=name, listener=listener):
                    user = f"trace-{name[-1]}-{listener}"
                    context = tls_context(version=version, ciphers=cipher)
                    client = self.connect_secure(listener, context)
                    client.hello()
                    client.transfer(message(), recipients=[user + "@example.org"])
                    spoken = client.tls.cipher()[0]
                    client.quit()
                    if version == TLS12:
                        self.assertEqual(spoken, cipher)
                        spoken = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
                    (_, received, _), = map(split_delivered, self.gateway.wait_messages(user, 1))
                    self.assertIn(f"using {name} with cipher {spoken}".encode(), received)
                    self.assertRegex(received, rb"\swith ESMTPS\s")
                    self.assertLessEqual(max(map(len, received.split(b"\r\n"))), 78 + 20)
                    line = wait_event(self.gateway, client.source, "tls")
                    self.assertEqual((line["version"], line["cipher"]), (name, spoken))
                    self.assertEqual(line["sni"], "mx.example.org")
                    self.assertIn(line["group"], ("X25519", "X25519MLKEM768", "P-256"))
                    self.assertEqual(line["resumed"], "false")

    def test_utf8_trace(self):
        client = self.connect_secure()
        client.hello()
        client.expect(250, "MAIL FROM:<jürgen@client.example> SMTPUTF8")
        client.expect(250, "RCPT TO:<utf8@example.org>")
        client.expect(354, "DATA")
        client.send(message() + b".\r\n")
        client.expect(250)
        (_, received, _), = map(split_delivered, self.gateway.wait_messages("utf8", 1))
        self.assertRegex(received, rb"\swith UTF8SMTPS\s")

    def test_time_outs_inside(self):
        """421 of a time-out is inside, with a close_notify behind."""
        with Gateway({"limits.command_timeout": '"1s"'}, certificates=self.gateway.certificates) as server:
            with SecureClient(server.address) as client:
                client.hello()
                start = time.monotonic()
                self.said(client.reply(), 421, "4.4.2")
                self.assertLess(time.monotonic() - start, 5)
                self.assertEqual(client.socket.recv(1), b"")
                records(client.socket.came)


if __name__ == "__main__":
    unittest.main()
