"""Clients that others wrote: swaks, curl, Python's smtplib, Postfix's smtp-source, msmtp. Over IPv4 and IPv6."""
import email.message
import os
import shutil
import smtplib
import socket
import subprocess
import unittest

from harness import SLOW, Gateway, message, split_delivered, wait_until

SMTP_SOURCE = shutil.which("smtp-source") or "/usr/sbin/smtp-source"


def have_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        addresses = ("127.0.0.1:0", "[::1]:0") if have_ipv6() else ("127.0.0.1:0",)
        cls.gateway = Gateway(addresses=addresses)
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()
        cls.host, cls.port = cls.gateway.address

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def need(self, program):
        if not shutil.which(program):
            self.skipTest(f"skipped: {program} is not installed")

    def run_client(self, command, text=None):
        done = subprocess.run(command, input=text, stdout=subprocess.PIPE, timeout=60,
                              stderr=subprocess.STDOUT, check=False)
        self.assertEqual(done.returncode, 0, done.stdout.decode("utf-8", "replace"))
        return done.stdout.decode("utf-8", "replace")

    def arrived(self, user, count=1):
        return [split_delivered(text) for text in self.gateway.wait_messages(user, count)]

    def write(self, name, data):
        path = os.path.join(self.gateway.directory, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    # --- swaks -----------------------------------------------------------------------------------

    def swaks(self, user, *options, server=None):
        self.need("swaks")
        return self.run_client(["swaks", "--server", server or self.host, "--port", str(self.port),
                                "--from", "me@client.example", "--to", f"{user}@example.org",
                                "--body", "one\n.\n..two\n", *options])

    def check_swaks(self, user):
        (sender, _, text), = self.arrived(user)
        self.assertEqual(sender, b"me@client.example")
        self.assertIn(b"\r\n\r\none\r\n.\r\n..two\r\n", text)

    def test_swaks(self):
        self.swaks("swaks")
        self.check_swaks("swaks")

    def test_swaks_pipelined(self):
        output = self.swaks("swaks-pipelined", "--pipeline")
        self.assertIn("PIPELINING", output)
        self.check_swaks("swaks-pipelined")

    def test_swaks_helo(self):
        self.swaks("swaks-helo", "--protocol", "SMTP")
        self.check_swaks("swaks-helo")

    def test_swaks_refused(self):
        self.need("swaks")
        done = subprocess.run(["swaks", "--server", self.host, "--port", str(self.port), "--from",
                               "me@client.example", "--to", "you@elsewhere.example"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, 24, done.stdout)  # swaks: no recipient accepted
        self.assertIn(b"550 5.7.1", done.stdout)

    # --- curl ------------------------------------------------------------------------------------

    def curl(self, user, url, data):
        self.need("curl")
        path = self.write(user + ".eml", data)
        self.run_client(["curl", "--silent", "--show-error", "--max-time", "50", url,
                         "--mail-from", "me@client.example", "--mail-rcpt", f"{user}@example.org",
                         "--mail-rcpt", f"{user}-too@example.org", "--upload-file", path])
        for each in (user, user + "-too"):
            (sender, _, text), = self.arrived(each)
            self.assertEqual((sender, text), (b"me@client.example", data))

    def test_curl(self):
        data = message("curl", ".one\r\n..\r\n.\r\nend\r\n")
        self.curl("curl", f"smtp://{self.host}:{self.port}/client.example", data)

    def test_curl_large(self):
        data = message("curl-large", "0123456789abcdef\r\n.dots\r\n" * 200000)
        self.curl("curl-large", f"smtp://{self.host}:{self.port}/client.example", data)

    def test_curl_ipv6(self):
        if len(self.gateway.listening) < 2:
            self.skipTest("skipped: no IPv6 on this machine")
        data = message("curl6")
        self.curl("curl6", f"smtp://[::1]:{self.gateway.listening[1][1]}/client.example", data)
        (_, received, _), = self.arrived("curl6")
        self.assertIn(b"[IPv6:::1]", received)

    # --- smtplib ---------------------------------------------------------------------------------

    def test_smtplib(self):
        with smtplib.SMTP(self.host, self.port, timeout=30) as client:
            for number in range(20):
                client.sendmail("me@client.example", ["smtplib@example.org", "smtplib2@example.org"],
                                message(f"smtplib-{number}"), mail_options=["BODY=8BITMIME"])
            self.assertEqual(client.verify("alice")[0], 252)
            self.assertEqual(client.noop()[0], 250)
        for user in ("smtplib", "smtplib2"):
            texts = {text for _, _, text in self.arrived(user, 20)}
            self.assertEqual(texts, {message(f"smtplib-{number}") for number in range(20)})

    def test_smtplib_8bit(self):
        data = message("8bit", "Grüße aus Köln\r\n")
        with smtplib.SMTP(self.host, self.port, timeout=30) as client:
            client.sendmail("me@client.example", ["eight@example.org"], data,
                            mail_options=["BODY=8BITMIME"])
        self.assertEqual(self.arrived("eight")[0][2], data)

    def test_smtplib_smtputf8(self):
        mail = email.message.EmailMessage()
        mail["From"] = "jürgen@client.example"
        mail["To"] = "émile@example.org"
        mail["Subject"] = "Grüße"
        mail.set_content("καλημέρα\n")
        with smtplib.SMTP(self.host, self.port, timeout=30) as client:
            client.send_message(mail)
        (sender, received, text), = self.arrived("émile")
        self.assertEqual(sender.decode(), "jürgen@client.example")
        self.assertIn(b"with UTF8SMTP", received)
        self.assertIn("Subject: Grüße".encode(), text)

    def test_smtplib_refusals(self):
        with smtplib.SMTP(self.host, self.port, timeout=30) as client:
            with self.assertRaises(smtplib.SMTPRecipientsRefused) as caught:
                client.sendmail("me@client.example", ["x@elsewhere.example"], message())
            self.assertEqual(caught.exception.recipients["x@elsewhere.example"][0], 550)
            refused = client.sendmail("me@client.example",
                                      ["x@elsewhere.example", "some@example.org"], message("some"))
            self.assertEqual(list(refused), ["x@elsewhere.example"])
        self.assertEqual(self.arrived("some")[0][2], message("some"))

    def test_smtplib_ipv6(self):
        if len(self.gateway.listening) < 2:
            self.skipTest("skipped: no IPv6 on this machine")
        with smtplib.SMTP(*self.gateway.listening[1], timeout=30) as client:
            client.sendmail("me@client.example", ["six@example.org"], message("six"))
        (_, received, text), = self.arrived("six")
        self.assertEqual(text, message("six"))
        self.assertIn(b"[IPv6:::1]", received)

    # --- Postfix's smtp-source -------------------------------------------------------------------

    def smtp_source(self, user, sessions, messages, *options):
        if not os.path.exists(SMTP_SOURCE):
            self.skipTest("skipped: smtp-source (postfix) is not installed")
        self.run_client([SMTP_SOURCE, "-4", "-s", str(sessions), "-m", str(messages), "-l", "3000",
                         "-f", "me@client.example", "-t", f"{user}@example.org", *options,
                         f"inet:{self.host}:{self.port}"])
        found = self.arrived(user, messages)
        self.assertEqual({sender for sender, _, _ in found}, {b"me@client.example"})
        sizes = {len(text) for _, _, text in found}
        self.assertLessEqual(max(sizes) - min(sizes), 32, "torn messages")

    def test_smtp_source(self):
        self.smtp_source("source", 20, 100 if SLOW else 500)

    def test_smtp_source_one_session_each(self):
        self.smtp_source("source-d", 50, 100 if SLOW else 500, "-d")

    def test_smtp_source_recipients(self):
        if not os.path.exists(SMTP_SOURCE):
            self.skipTest("skipped: smtp-source (postfix) is not installed")
        self.run_client([SMTP_SOURCE, "-4", "-s", "5", "-m", "20", "-r", "10", "-N",
                         "-f", "me@client.example", "-t", "many@example.org",
                         f"inet:{self.host}:{self.port}"])
        folder = os.path.join(self.gateway.mail, "example.org")

        def total():
            return sum(self.gateway.count(name) for name in os.listdir(folder)
                       if name.endswith("many"))

        wait_until(lambda: total() >= 200, "20 messages to 10 recipients")

    # --- msmtp -----------------------------------------------------------------------------------

    def test_msmtp(self):
        self.need("msmtp")
        data = message("msmtp", ".dot\r\nend\r\n")
        self.run_client(["msmtp", "--file=/dev/null", f"--host={self.host}", f"--port={self.port}",
                         "--tls=off", "--auth=off", "--from=me@client.example",
                         "--domain=client.example", "--", "msmtp@example.org", "msmtp2@example.org"],
                        data.replace(b"\r\n", b"\n"))
        for user in ("msmtp", "msmtp2"):
            (sender, _, text), = self.arrived(user)
            self.assertEqual(sender, b"me@client.example")
            self.assertTrue(text.endswith(b"\r\n\r\n.dot\r\nend\r\n"), text)


if __name__ == "__main__":
    unittest.main()
