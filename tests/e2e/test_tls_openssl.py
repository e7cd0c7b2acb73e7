"""openssl s_client, as a person would use it: versions, ciphers, groups, ALPN, SNI, resumption, key updates,
renegotiation, client certificates, over STARTTLS and from the first octet."""
import re
import shutil
import subprocess
import time
import unittest

import pki
from harness import PATIENCE_S, SLOW, Gateway, quote, split_delivered, stuff, wait_until
from tls_client import CIPHERS_12, CIPHERS_13, Interactive, new_source, wait_event


class Openssl(Interactive):
    """An s_client under way."""

    def __init__(self, address, *options, starttls=True):
        self.source = new_source()
        command = ["openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", "-bind", self.source + ":0",
                   *options]
        super().__init__(command + (["-starttls", "smtp", "-name", "before.example"] if starttls else []))

    def command(self, line, code=b"250"):
        self.say(line + b"\r\n")
        self.wait(rb"^" + code + rb" .*\r\n")

    def begin(self):
        """The handshake is done and EHLO was said inside. (After STARTTLS the last line of the reply to the EHLO in
        clear is shown once more.)"""
        self.wait(rb"Verify return code|Verification")
        self.say(b"EHLO client.example\r\n")
        self.wait(rb"^250-mx\.example\.org\r\n")
        self.wait(rb"^250 .*\r\n")

    def send(self, user, text):
        """A message by DATA. Small letters, since an R or a K at the start of a line is an order to s_client."""
        self.command(b"mail from:<s@client.example>")
        self.command(b"rcpt to:<%s@example.org>" % user.encode())
        self.command(b"data", b"354")
        self.command(stuff(text) + b".")

    def end(self):
        """-> all that was said."""
        self.say(b"quit\r\n")
        self.wait(rb"^221 ")
        rest, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.output + rest


@unittest.skipUnless(shutil.which("openssl"), "skipped: openssl is not installed")
class Matrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        authority = pki.authority()
        cls.clients = pki.authority("clients")
        cls.gateway = Gateway(
            certificates={"ecdsa": authority.issue("mx.example.org"),
                          "rsa": authority.issue("mx.example.org", key="rsa2048"),
                          "other": authority.issue("other.example.org")},
            listeners={"starttls": {}, "implicit": {"tls": "implicit"},
                       "modern": {"tls": "required", "tls_min": quote("1.3")},
                       "ask": {"client_ca": quote(cls.clients.path)}})
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def start(self, *options, listener="starttls"):
        client = Openssl(self.gateway.at[listener], *options, starttls=listener != "implicit")
        self.addCleanup(client.close)
        return client

    def log_of(self, user):
        """The message's Received field and the event=tls of its session."""
        (_, received, _), = map(split_delivered, self.gateway.wait_messages(user, 1))
        name = re.search(rb"\sid (\S+)", received)[1].decode().rstrip(";")

        def lines():
            session = [line["session"] for line in self.gateway.events("message") if line["id"] == name]
            return [line for line in self.gateway.events("tls") if line["session"] in session]

        return received, wait_until(lines, "event=tls")[0]

    def refused(self, *options, alert, reason, listener="implicit"):
        with self.start(*options, listener=listener) as client:
            said, _ = client.process.communicate(timeout=PATIENCE_S)
        self.assertIn(b"SSL alert number %d\n" % alert, client.output + said)
        failed = wait_event(self.gateway, client.source, "tls_failed")
        self.assertEqual(failed["reason"], reason, failed)

    # --- versions, ciphers, groups ---------------------------------------------------------------

    def combinations(self):
        for cipher in CIPHERS_13:
            for group in ("X25519", "P-256"):
                yield ("-tls1_3", "-ciphersuites", cipher, "-groups", group), "TLSv1.3", cipher, group
        for cipher, name in CIPHERS_12.items():
            # An ECDSA certificate on P-256 wants that among the groups, too (RFC 8422 5.1).
            groups = ("X25519:P-256", "P-256") if "ECDSA" in cipher else ("X25519", "P-256")
            for group in groups[1 if SLOW else 0:]:
                yield ("-tls1_2", "-cipher", cipher, "-groups", group), "TLSv1.2", name, group.split(":")[0]

    def test_every_cipher_and_group(self):
        """One message with each, over both kinds of listener; large enough for several records."""
        text = b"Subject: matrix\r\n\r\n" + b"".join(b"%05d .dots and text\r\n" % n for n in range(3000))
        for number, (options, version, cipher, group) in enumerate(self.combinations()):
            with self.subTest(cipher=cipher, group=group):
                listener = ("starttls", "implicit")[number % 2]
                client = self.start(*options, listener=listener)
                client.begin()
                client.send(f"matrix{number}", text)
                said = client.end()
                self.assertIn(f"New, {version}, Cipher is ".encode(), said)
                self.assertIn(b"Secure Renegotiation IS " + (b"supported" if version == "TLSv1.2" else b"NOT"), said)
                self.assertIn(b"Compression: NONE", said)
                received, line = self.log_of(f"matrix{number}")
                self.assertEqual((line["version"], line["cipher"], line["group"]), (version, cipher, group))
                self.assertIn(f"using {version} with cipher {cipher}".encode(), received)
                (_, _, found), = map(split_delivered, self.gateway.messages(f"matrix{number}"))
                self.assertTrue(found == text, "the text differs")

    def test_old_versions(self):
        for version in ("-tls1", "-tls1_1"):
            self.refused(version, "-cipher", "ALL@SECLEVEL=0", alert=70, reason="version")
        self.refused("-tls1_2", listener="modern", alert=70, reason="version")
        # A client that was talked into less than both can (RFC 7507).
        self.refused("-tls1_2", "-fallback_scsv", alert=86, reason="protocol")
        client = self.start("-tls1_3", listener="modern")
        client.begin()
        client.end()

    def test_weak_ciphers(self):
        """Without forward secrecy, without AEAD, without authentication, without encryption."""
        for cipher in ("AES128-GCM-SHA256", "AES256-SHA256", "ECDHE-RSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA",
                       "DHE-RSA-AES128-GCM-SHA256", "AECDH-AES128-SHA", "ECDHE-ECDSA-AES128-CCM",
                       "ECDHE-RSA-NULL-SHA", "PSK"):
            options = ["-psk", "00"] if cipher == "PSK" else []
            with self.subTest(cipher=cipher):
                self.refused("-tls1_2", "-cipher", cipher + ":@SECLEVEL=0", *options, alert=40, reason="cipher")

    def test_other_groups(self):
        for version in ("-tls1_2", "-tls1_3"):
            for group in ("P-384", "P-521", "X448"):
                with self.subTest(version=version, group=group):
                    self.refused(version, "-groups", group, alert=40, reason="cipher")

    def test_hello_retry(self):
        """The client's first guess at a group is one we lack: HelloRetryRequest, and on."""
        for listener in ("starttls", "implicit"):
            client = self.start("-tls1_3", "-groups", "P-384:P-256", listener=listener)
            client.begin()
            client.send("retry-" + listener, b"Subject: retry\r\n\r\n")
            client.end()
            self.assertEqual(self.log_of("retry-" + listener)[1]["group"], "P-256")

    # --- names -----------------------------------------------------------------------------------

    def test_alpn(self):
        for offer, chosen in (("smtp", b"ALPN protocol: smtp"), ("http/1.1,smtp", b"ALPN protocol: smtp"),
                              ("x" * 200 + ",smtp", b"ALPN protocol: smtp"), (None, b"No ALPN negotiated")):
            for version in ("-tls1_2", "-tls1_3"):
                client = self.start(version, *(["-alpn", offer] if offer else []), listener="implicit")
                client.begin()
                self.assertIn(chosen, client.end())
        for offer in ("http/1.1", "h2,http/1.1", "SMTP", "smt", "smtpx", "imap"):
            for number, version in enumerate(("-tls1_2", "-tls1_3")):
                with self.subTest(offer=offer, version=version):
                    self.refused(version, "-alpn", offer, alert=120, reason="alpn",
                                 listener=("starttls", "implicit")[number])

    def test_server_name(self):
        for options, subject in ((("-servername", "other.example.org"), b"other.example.org"),
                                 (("-servername", "mx.example.org"), b"mx.example.org"),
                                 (("-noservername",), b"mx.example.org")):
            client = self.start(*options)
            client.begin()
            self.assertIn(b"subject=CN = " + subject, client.end())

    def test_verified(self):
        client = self.start("-CAfile", pki.authority().path, "-verify_hostname", "mx.example.org",
                            "-verify_return_error", "-x509_strict")
        client.begin()
        self.assertIn(b"Verify return code: 0 (ok)", client.end())

    def test_client_certificate(self):
        certificate = self.clients.issue("out.client.example", client=True)
        for version in ("-tls1_2", "-tls1_3"):
            user = "shown" + version
            client = self.start(version, "-cert", certificate.chain, "-key", certificate.key, listener="ask")
            client.begin()
            client.send(user, b"Subject: shown\r\n\r\n")
            said = client.end()
            self.assertIn(b"Acceptable client certificate CA names\nCN = clients", said)
            received, line = self.log_of(user)
            self.assertIn(b"out.client.example", received)
            self.assertEqual(line["client_name"], "out.client.example")

    # --- sessions --------------------------------------------------------------------------------

    def test_resumption(self):
        for version in ("-tls1_2", "-tls1_3"):
            store = pki.place("session")
            for number in range(4):
                listener = ("starttls", "implicit")[number // 2]
                options = ["-sess_in", store] if number else []
                client = self.start(version, "-sess_out", store, *options, listener=listener)
                client.begin()
                client.command(b"NOOP")
                said = client.end()
                self.assertIn(b"\nReused, " if number else b"\nNew, ", said)

    def test_reconnect(self):
        """-reconnect: five times more with the same session (TLS 1.2)."""
        host, port = self.gateway.at["implicit"]
        done = subprocess.run(["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_2", "-reconnect"],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.stdout.count(b"\nReused, TLSv1.2"), 5, done.stdout)

    def test_key_update(self):
        """K asks for an update of both sides, k updates one's own; text goes on in both directions."""
        for listener in ("starttls", "implicit"):
            client = self.start("-tls1_3", listener=listener)
            client.begin()
            for order in (b"k", b"K", b"k", b"K", b"K"):
                client.say(order + b"\n")
                client.wait(rb"KEYUPDATE")
                client.command(b"NOOP")
            client.command(b"mail from:<s@client.example>")
            client.command(b"rcpt to:<update@example.org>")
            client.command(b"data", b"354")
            client.say(b"Subject: update\r\n\r\n")
            time.sleep(0.05)
            client.say(b"K\n")
            client.wait(rb"KEYUPDATE")
            client.command(b"text\r\n.")
            client.end()
        for text in self.gateway.wait_messages("update", 2):
            self.assertEqual(split_delivered(text)[2], b"Subject: update\r\n\r\ntext\r\n")

    def test_renegotiation(self):
        """R: refused with an alert; the session is over, others go on."""
        for listener in ("starttls", "implicit"):
            with self.start("-tls1_2", listener=listener) as client:
                client.begin()
                client.say(b"R\n")
                client.wait(rb"RENEGOTIATING")
                said, _ = client.process.communicate(timeout=PATIENCE_S)
                self.assertRegex(client.output + said, rb"no renegotiation|SSL alert number 100")
            wait_event(self.gateway, client.source, "tls_failed")
        client = self.start("-tls1_2")
        client.begin()
        client.end()


if __name__ == "__main__":
    unittest.main()
