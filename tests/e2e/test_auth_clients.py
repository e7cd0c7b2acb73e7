"""Users' programs log in: swaks, curl, Python's smtplib, msmtp (SCRAM by GNU SASL), Postfix as a client (by Cyrus SASL);
and SCRAM-SHA-256-PLUS, bound to its TLS connection."""
import hashlib
import hmac
import os
import shutil
import smtplib
import subprocess
import tempfile
import unittest

import pki
import test_tls_postfix
from harness import message, split_delivered, wait_until
from logins import ALICE, BOB, submission
from sasl import Scram, log_in
from tls_client import TLS12, TLS13, SecureClient, tls_context


def exporter(path, hash_name):
    """tls-exporter (RFC 9266) of the only connection whose secrets are in this file, by RFC 8446 7.1 and 7.5."""
    with open(path, encoding="ascii") as file:
        secret, = [bytes.fromhex(line.split()[2]) for line in file if line.startswith("EXPORTER_SECRET ")]
    size = len(secret)

    def expand(key, label, context, length):
        name = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(name)]) + name + bytes([len(context)]) + context
        return hmac.digest(key, info + b"\1", hash_name)[:length]

    def digest(octets):
        return hashlib.new(hash_name, octets).digest()

    return expand(expand(secret, b"EXPORTER-Channel-Binding", digest(b""), size), b"exporter", digest(b""), 32)


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = submission({"auth.delay_ms": "0", "auth.failures_per_ip": "0"})
        cls.gateway = cls.context.__enter__()
        cls.ca = cls.gateway.ca

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def run_client(self, program, *options, text=None, code=0):
        if not shutil.which(program):
            self.skipTest(f"skipped: {program} is not installed")
        done = subprocess.run([program, *options], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=60, check=False)
        said = done.stdout.decode("utf-8", "replace")
        if code is None:
            self.assertNotEqual(done.returncode, 0, said)
        else:
            self.assertEqual(done.returncode, code, said)
        return said

    def arrived(self, to, user, mechanism, protocol="ESMTPSA"):
        """The one message for a recipient came from a user who had logged in so."""
        (_, received, _), = map(split_delivered, self.gateway.wait_messages(to, 1))
        self.assertIn(f"with {protocol} id".encode(), received)

        def logged():
            return [line for line in self.gateway.events("message") if line["to"] == f"{to}@example.org"]

        line, = wait_until(logged, "the message in the log")
        self.assertEqual(line["user"], user)
        login, = [other for other in self.gateway.events("login") if other["session"] == line["session"]]
        self.assertEqual((login["user"], login["mechanism"]), (user, mechanism))

    # --- swaks -----------------------------------------------------------------------------------

    def swaks(self, to, mechanism, user, password, listener="starttls", code=0, options=()):
        host, port = self.gateway.at[listener]
        road = {"tls": ["--tls-on-connect"], "starttls": ["--tls"], "clear": []}[listener]
        return self.run_client("swaks", "--server", host, "--port", str(port), *road, "--from", user,
                               "--to", f"{to}@example.org", "--auth", mechanism, "--auth-user", user,
                               "--auth-password", password, *options, code=code)

    def test_swaks(self):
        for mechanism in ("PLAIN", "LOGIN"):
            for listener in ("tls", "starttls", "clear"):
                to = f"swaks-{mechanism}-{listener}".lower()
                self.swaks(to, mechanism, *ALICE, listener)
                self.arrived(to, ALICE[0], mechanism, "ESMTPA" if listener == "clear" else "ESMTPSA")

    def test_swaks_refused(self):
        for mechanism in ("PLAIN", "LOGIN"):
            said = self.swaks("swaks-refused", mechanism, ALICE[0], "falsch", code=28)
            self.assertIn("535 5.7.8", said)
        self.assertIn("530 5.7.0", self.run_client(
            "swaks", "--server", "%s:%s" % self.gateway.at["tls"], "--tls-on-connect", "--from", ALICE[0],
            "--to", "swaks-refused@example.org", code=23))
        self.assertEqual(self.gateway.messages("swaks-refused"), [])

    # --- curl ------------------------------------------------------------------------------------

    def curl(self, to, user, password, *options, listener="tls", code=0):
        host, port = self.gateway.at[listener]
        path = os.path.join(self.gateway.directory, to + ".eml")
        with open(path, "wb") as file:
            file.write(message(to, sender=user))
        return self.run_client(
            "curl", "--silent", "--show-error", "--max-time", "50", "--ssl-reqd", "--cacert", self.ca.path,
            "--resolve", f"mx.example.org:{port}:{host}",
            f"{'smtps' if listener == 'tls' else 'smtp'}://mx.example.org:{port}/client.example",
            "--mail-from", user, "--mail-rcpt", f"{to}@example.org", "--user", f"{user}:{password}",
            "--upload-file", path, *options, code=code)

    def test_curl(self):
        for mechanism, options in (("PLAIN", ["--sasl-ir"]), ("PLAIN", []), ("LOGIN", []), ("LOGIN", ["--sasl-ir"])):
            for listener in ("tls", "starttls"):
                to = f"curl-{mechanism}-{len(options)}-{listener}".lower()
                self.curl(to, *ALICE, "--login-options", f"AUTH={mechanism}", *options, listener=listener)
                self.arrived(to, ALICE[0], mechanism)
        self.curl("curl-any", *ALICE)
        self.assertEqual(len(self.gateway.wait_messages("curl-any", 1)), 1)

    def test_curl_refused(self):
        self.curl("curl-refused", ALICE[0], "falsch", code=67)  # CURLE_LOGIN_DENIED

    # --- smtplib ---------------------------------------------------------------------------------

    def test_smtplib(self):
        for listener in ("tls", "starttls"):
            to = f"smtplib-{listener}"
            context = tls_context(self.ca.path)
            if listener == "tls":
                client = smtplib.SMTP_SSL("localhost", self.gateway.at[listener][1], context=context)
            else:
                client = smtplib.SMTP("localhost", self.gateway.at[listener][1])
                self.assertRaises(smtplib.SMTPNotSupportedError, client.login, *ALICE)
                client.starttls(context=context)
            with client:
                with self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
                    client.login(ALICE[0], "falsch")
                self.assertEqual(caught.exception.smtp_code, 535)
                client.login(*ALICE)
                client.sendmail(ALICE[0], [f"{to}@example.org"], message(to, sender=ALICE[0]))
            self.arrived(to, ALICE[0], "PLAIN")

    # --- msmtp -----------------------------------------------------------------------------------

    def msmtp(self, to, user, password, method, listener="tls", code=0):
        path = os.path.join(self.gateway.directory, "msmtprc-" + to)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"""account default
host localhost
port {self.gateway.at[listener][1]}
tls on
tls_starttls {'off' if listener == 'tls' else 'on'}
tls_trust_file {self.ca.path}
auth {method}
user {user}
password "{password}"
from {user}
""")
        os.chmod(path, 0o600)
        return self.run_client("msmtp", "--file", path, f"{to}@example.org", code=code,
                               text=message(to, sender=user).replace(b"\r\n", b"\n"))

    def test_msmtp(self):
        for method, user in (("scram-sha-256", BOB), ("plain", ALICE), ("login", ALICE), ("plain", BOB)):
            for listener in ("tls", "starttls"):
                to = f"msmtp-{method}-{listener}-{user[0][0]}"
                self.msmtp(to, *user, method, listener)
                self.arrived(to, user[0], method.upper())

    def test_msmtp_refused(self):
        self.msmtp("msmtp-refused", BOB[0], "falsch", "scram-sha-256", code=77)
        self.msmtp("msmtp-refused", ALICE[0], ALICE[1], "scram-sha-256", code=77)  # has no such secret
        self.assertEqual(self.gateway.messages("msmtp-refused"), [])

    # --- channel binding -------------------------------------------------------------------------

    def bound(self, version=TLS13):
        """A client inside TLS 1.3, and what binds a login to it."""
        with tempfile.NamedTemporaryFile() as keys:
            client = SecureClient(self.gateway.at["tls"], tls_context(self.ca.path, version, keys=keys.name),
                                  implicit=True)
            self.addCleanup(client.close)
            offers = client.hello().texts
            name = "sha384" if client.tls.cipher()[0].endswith("SHA384") else "sha256"
            return client, offers, exporter(keys.name, name) if version == TLS13 else None

    def plus(self, client, binding, header=None, codes=235, password=BOB[1]):
        scram = Scram(BOB[0], password, binding, header)

        def empty(challenge):
            self.assertTrue(scram.proved(challenge))
            return b""

        return log_in(client, "SCRAM-SHA-256-PLUS", scram.first(), scram.last, empty, codes=codes)

    def test_plus(self):
        client, _, binding = self.bound()
        self.plus(client, binding, codes=535, password="falsch")
        self.plus(client, binding)
        client.transfer(message("plus", sender=BOB[0]), BOB[0], ["plus@example.org"])
        self.arrived("plus", BOB[0], "SCRAM-SHA-256-PLUS")

    def test_plus_between(self):
        """Somebody who has two connections, and passes messages on."""
        client, _, _ = self.bound()
        _, _, other = self.bound()
        self.plus(client, other, codes=535)
        self.plus(client, bytes(32), codes=535)
        self.plus(client, None, header=b"n,,", codes=(501, 535))
        self.plus(client, other, header=b"p=tls-unique,,", codes=(501, 535))

    def test_plus_not_before_13(self):
        client, offers, _ = self.bound(TLS12)
        self.assertIn("AUTH SCRAM-SHA-256 PLAIN LOGIN", offers)
        self.plus(client, bytes(32), codes=504)

    # --- Postfix ---------------------------------------------------------------------------------

    @unittest.skipUnless(os.path.exists(test_tls_postfix.POSTFIX), "skipped: postfix is not installed")
    @unittest.skipUnless(os.geteuid() == 0, "skipped: postfix wants root to start")
    def test_postfix(self):
        """A satellite that sends all its mail by its user's name, over each mechanism; and one with a wrong password."""
        directory = pki.place("postfix")
        os.chmod(pki.directory(), 0o755)  # its programs do not run as root
        os.chmod(self.ca.path, 0o644)
        tls = ["smtp_tls_security_level = encrypt", f"smtp_tls_CAfile = {self.ca.path}", "smtp_sasl_auth_enable = yes",
               "smtp_sasl_security_options = noanonymous", "smtp_sasl_auth_soft_bounce = no"]

        def way(user, password, *more, listener="starttls"):
            secret = f"smtp_sasl_password_maps = inline:{{ {{ [127.0.0.1]:{self.gateway.at[listener][1]} = {user}:{password} }} }}"
            return self.gateway.at[listener], [*tls, secret, *more]

        ways = {"plain": way(*ALICE, "smtp_sasl_mechanism_filter = plain"),
                "login": way(*ALICE, "smtp_sasl_mechanism_filter = login"),
                "wrapped": way(*ALICE, "smtp_sasl_mechanism_filter = plain", "smtp_tls_wrappermode = yes", listener="tls"),
                "scram": way(*BOB, "smtp_sasl_mechanism_filter = scram-sha-256"),
                "wrong": way(ALICE[0], "falsch", "smtp_sasl_mechanism_filter = plain")}
        postfix = test_tls_postfix.Postfix(directory, ways)
        postfix.start()
        self.addCleanup(postfix.stop)
        for name, (_, _) in ways.items():
            sender = BOB[0] if name == "scram" else ALICE[0]
            to = f"carol@{name}.example.org"
            subprocess.run([test_tls_postfix.SENDMAIL, "-C", os.path.join(directory, "etc"), "-f", sender, "-i", to],
                           input=f"From: {sender}\nSubject: {name}\n\ntext\n".encode(), check=True, timeout=60)
        for name, mechanism in (("plain", "PLAIN"), ("login", "LOGIN"), ("wrapped", "PLAIN"), ("scram", "SCRAM-SHA-256")):
            postfix.wait_status(f"carol@{name}.example.org", "sent")
            line, = wait_until(lambda to=f"carol@{name}.example.org": [
                line for line in self.gateway.events("message") if line["to"] == to], "the message in the log")
            login, = [other for other in self.gateway.events("login") if other["session"] == line["session"]]
            self.assertEqual(login["mechanism"], mechanism)
        wait_until(lambda: "535 5.7.8" in postfix.log(), "the refusal in Postfix's log")


if __name__ == "__main__":
    unittest.main()
