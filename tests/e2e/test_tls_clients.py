"""TLS with clients that others wrote: gnutls-cli, swaks, curl, msmtp, Python's smtplib. By STARTTLS and from the first
octet; verifying us, and refusing us when they should."""
import os
import shutil
import smtplib
import ssl
import subprocess
import unittest

import pki
from harness import SLOW, Gateway, message, quote, split_delivered, wait_until
from tls_client import TLS12, TLS13, Interactive, tls_context


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.ca, cls.other, cls.client_ca = pki.authority(), pki.authority("other"), pki.authority("clients")
        cls.gateway = Gateway(
            certificates={"ecdsa": cls.ca.issue("mx.example.org", "localhost"),
                          "rsa": cls.ca.issue("mx.example.org", "localhost", key="rsa2048")},
            listeners={"starttls": {"tls": "starttls"}, "implicit": {"tls": "implicit"},
                       "ask": {"client_ca": quote(cls.client_ca.path)}})
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def run_client(self, program, *options, text=None, code=0):
        if not shutil.which(program):
            self.skipTest(f"skipped: {program} is not installed")
        done = subprocess.run([program, *options], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=60, check=False)
        said = done.stdout.decode("utf-8", "replace")
        if code is not None:
            self.assertEqual(done.returncode, code, said)
        return said

    def arrived(self, user, text=None, version="TLSv1.3"):
        """The one message for a user came over TLS, and is whole; returns its Received field."""
        (_, received, found), = map(split_delivered, self.gateway.wait_messages(user, 1))
        self.assertIn(f"using {version} with cipher TLS_".encode(), received)
        if text is not None:
            self.assertEqual(found, text)
        return received

    def write(self, name, data):
        path = os.path.join(self.gateway.directory, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    # --- gnutls-cli ------------------------------------------------------------------------------

    def gnutls(self, *options, listener="starttls", script=None, code=0):
        host, port = self.gateway.at[listener]
        options = [*options, *(["--starttls-proto=smtp"] if listener != "implicit" else [])]
        return self.run_client("gnutls-cli", "--x509cafile", self.ca.path, "--verify-hostname=mx.example.org",
                               "-p", str(port), *options, host,
                               text=script or b"NOOP\r\nVRFY alice\r\nQUIT\r\n", code=code)

    def test_gnutls(self):
        for number, priority in enumerate((
                "NORMAL", "NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305",
                "NORMAL:-CIPHER-ALL:+AES-128-GCM", "NORMAL:-GROUP-ALL:+GROUP-SECP256R1",
                "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-RSA", "PFS", "SECURE128")):
            with self.subTest(priority=priority):
                said = self.gnutls("--priority", priority, listener=("starttls", "implicit")[number % 2])
                self.assertIn("The certificate is trusted", said)
                self.assertIn("Handshake was completed", said)
                self.assertIn("252 2.5.0", said)
                self.assertIn("221 2.0.0", said)
                self.assertNotIn("Fatal error", said)
                self.assertNotIn("Safe renegotiation failed", said)

    def test_gnutls_refused(self):
        for priority in ("NORMAL:-VERS-ALL:+VERS-TLS1.1", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA",
                         "NORMAL:-GROUP-ALL:+GROUP-SECP521R1"):
            said = self.gnutls("--priority", priority, code=1)
            self.assertIn("A TLS fatal alert has been received", said)

    def test_gnutls_resume(self):
        """-r: the same again with the ticket of the first time, if it had come when the client left that."""
        for version in ("1.2", "1.3"):
            for again in range(5):
                said = self.gnutls("-r", "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}", listener="implicit")
                if "*** This is a resumed session" in said:
                    break
                self.assertLess(again, 4, said)

    def test_gnutls_rekey(self):
        host, port = self.gateway.at["implicit"]
        with Interactive(["gnutls-cli", "--inline-commands", "--insecure", "-p", str(port), host]) as client:
            client.wait(rb"^220 ")
            for _ in range(3):
                client.say(b"NOOP\r\n")
                client.wait(rb"^250 ")
                client.say(b"^rekey^\n")
                client.wait(rb"Rekey was completed")
            client.say(b"VRFY alice\r\n")
            client.wait(rb"^252 ")
            client.say(b"QUIT\r\n")
            client.wait(rb"^221 ")

    def test_gnutls_alpn(self):
        self.assertIn("Application protocol: smtp", self.gnutls("--alpn=smtp", listener="implicit"))
        self.assertIn("No supported application protocol", self.gnutls("--alpn=h2", listener="implicit", code=1))

    def test_gnutls_client_certificate(self):
        certificate = self.client_ca.issue("out.client.example", client=True)
        self.gnutls("--x509certfile", certificate.chain, "--x509keyfile", certificate.key, listener="ask")

        def named():
            return [line for line in self.gateway.events("tls") if line.get("client_name") == "out.client.example"]

        wait_until(named, "client_name")

    # --- swaks -----------------------------------------------------------------------------------

    def swaks(self, user, *options, listener="starttls", code=0):
        host, port = self.gateway.at[listener]
        return self.run_client("swaks", "--server", host, "--port", str(port), "--from", "me@client.example",
                               "--to", f"{user}@example.org", "--body", "one\n.\n..two\n",
                               "--tls-on-connect" if listener == "implicit" else "--tls", *options, code=code)

    def test_swaks(self):
        for listener in ("starttls", "implicit"):
            for protocol, version in (("tlsv1_2", "TLSv1.2"), ("tlsv1_3", "TLSv1.3")):
                user = f"swaks-{listener}-{protocol}"
                said = self.swaks(user, "--tls-protocol", protocol, listener=listener)
                self.assertIn(f"TLS started with cipher {version}:", said)
                received = self.arrived(user, version=version)
                self.assertIn(b"with ESMTPS", received)

    def test_swaks_pipelined(self):
        self.swaks("swaks-pipelined", "--pipeline")
        self.arrived("swaks-pipelined")

    def test_swaks_verify(self):
        self.swaks("swaks-verify", "--tls-verify", "--tls-ca-path", self.ca.path, "--tls-sni", "mx.example.org")
        self.arrived("swaks-verify")
        self.swaks("swaks-verify", "--tls-verify", "--tls-ca-path", self.other.path, code=29)

    def test_swaks_certificate(self):
        certificate = self.client_ca.issue("swaks.client.example", client=True)
        self.swaks("swaks-certificate", "--tls-cert", certificate.chain, "--tls-key", certificate.key, listener="ask")
        self.assertIn(b"swaks.client.example", self.arrived("swaks-certificate"))

    # --- curl ------------------------------------------------------------------------------------

    def curl(self, user, data, *options, listener="starttls", code=0, ca=None):
        host, port = self.gateway.at[listener]
        scheme = "smtps" if listener == "implicit" else "smtp"
        return self.run_client(
            "curl", "--silent", "--show-error", "--max-time", "50", "--ssl-reqd", "--cacert", (ca or self.ca).path,
            "--resolve", f"mx.example.org:{port}:{host}", f"{scheme}://mx.example.org:{port}/client.example",
            "--mail-from", "me@client.example", "--mail-rcpt", f"{user}@example.org",
            "--upload-file", self.write(user + ".eml", data), *options, code=code)

    def test_curl(self):
        for listener in ("starttls", "implicit"):
            for options, version in ((["--tlsv1.3"], "TLSv1.3"), (["--tls-max", "1.2"], "TLSv1.2")):
                user = f"curl-{listener}-{version[-1]}"
                data = message(user, ".one\r\n..\r\n.\r\nend\r\n")
                self.curl(user, data, *options, listener=listener)
                self.arrived(user, data, version)

    def test_curl_large(self):
        data = message("curl-large", "0123456789abcdef\r\n.dots\r\n" * (20000 if SLOW else 200000))
        for listener in ("starttls", "implicit"):
            self.curl("large-" + listener, data, listener=listener)
            self.arrived("large-" + listener, data)

    def test_curl_does_not_trust(self):
        for listener in ("starttls", "implicit"):
            self.curl("untrusted", message(), ca=self.other, listener=listener, code=60)
        self.assertEqual(self.gateway.count("untrusted"), 0)

    # --- msmtp -----------------------------------------------------------------------------------

    def msmtp(self, user, *options, listener="starttls", ca=None, code=0):
        host, port = self.gateway.at[listener]
        return self.run_client(
            "msmtp", "--file=/dev/null", f"--host={host}", f"--port={port}", "--tls=on",
            "--tls-starttls=" + ("off" if listener == "implicit" else "on"), "--auth=off",
            f"--tls-trust-file={(ca or self.ca).path}", "--tls-host-override=mx.example.org",
            "--from=me@client.example", "--domain=client.example", *options, "--", f"{user}@example.org",
            text=b"Subject: msmtp\n\n.dot\nend\n", code=code)

    def test_msmtp(self):
        for listener in ("starttls", "implicit"):
            self.msmtp("msmtp-" + listener, listener=listener)
            self.arrived("msmtp-" + listener)
        self.msmtp("msmtp-untrusted", ca=self.other, code=None)
        self.assertEqual(self.gateway.count("msmtp-untrusted"), 0)

    # --- smtplib ---------------------------------------------------------------------------------

    def test_smtplib(self):
        for version, name in ((TLS12, "TLSv1.2"), (TLS13, "TLSv1.3")):
            context = tls_context(self.ca.path, version=version)
            with smtplib.SMTP(*self.gateway.at["starttls"], timeout=30) as client:
                client._host = "mx.example.org"  # pylint: disable=protected-access  # for SNI
                self.assertEqual(client.starttls(context=context)[0], 220)
                with self.assertRaises(smtplib.SMTPNotSupportedError):
                    client.starttls(context=context)
                client.ehlo("client.example")
                self.assertTrue(client.has_extn("requiretls"))
                self.assertFalse(client.has_extn("starttls"))
                client.sendmail("me@client.example", [f"lib{name[-1]}@example.org"], message("lib"))
            self.arrived(f"lib{name[-1]}", message("lib"), name)

    def test_smtplib_implicit(self):
        class Smtps(smtplib.SMTP_SSL):
            """Connects to an address, and asks for a name."""

            def _get_socket(self, host, port, timeout):
                raw = smtplib.SMTP._get_socket(self, host, port, timeout)  # pylint: disable=no-member
                return self.context.wrap_socket(raw, server_hostname="mx.example.org")

        with Smtps(*self.gateway.at["implicit"], timeout=30, context=tls_context(self.ca.path)) as client:
            for number in range(10):
                client.sendmail("me@client.example", ["ssl@example.org"], message(f"ssl-{number}"))
        self.assertEqual(len(self.gateway.wait_messages("ssl", 10)), 10)

    def test_smtplib_does_not_trust(self):
        with smtplib.SMTP(*self.gateway.at["starttls"], timeout=30) as client:
            client._host = "mx.example.org"  # pylint: disable=protected-access
            with self.assertRaises(ssl.SSLCertVerificationError):
                client.starttls(context=tls_context(self.other.path))


if __name__ == "__main__":
    unittest.main()
