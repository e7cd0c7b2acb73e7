"""Signing as such: by DATA and BDAT in any pieces, by a helper and without one; what is not signed; keys that change
while mails are on their way; clients that leave while their mail is being signed; ringmxctl dkim."""
import os
import random
import re
import stat
import threading
import unittest

import signed
import submitters
from harness import SLOW, Client, seed, stuff, wait_until
from prometheus import scrape
from signers import ED25519, RSA, Signer, run_tool, send
from test_corpus import chunked

MAIL = b"From: Alice <alice@example.org>\r\nSubject: test\r\n\r\n" + b"Some  text \t\r\n\r\n" * 300 + b"\r\n\r\n"


class Case(unittest.TestCase):
    def start(self, **options):
        self.signer = Signer(**options)
        self.gateway = self.signer.gateway
        self.addCleanup(self.gateway.close)
        self.gateway.start()

    def client(self, **options):
        client = self.signer.client(**options)
        self.addCleanup(client.close)
        return client

    def judge(self, messages):
        """Every signature of every message is good."""
        for content, verdicts in zip(messages, signed.verify_python(messages, self.signer.records)):
            self.assertGreater(len(verdicts), 0, content[:2000])
            for selector, verdict in verdicts:
                self.assertEqual(verdict, "pass", f"{selector}: {content[:2000]!r}")


class Signing(Case):
    def test_any_pieces(self):
        self.start()
        chance, client = random.Random(seed()), self.client()
        for number in range(10 if SLOW else 40):
            text = MAIL + bytes(chance.choice(b"ab  \t\r\n.") for _ in range(chance.randrange(3000)))
            text = re.sub(rb"\r*\n|\r+", b"\r\n", text)
            client.expect(250, "MAIL FROM:<alice@example.org>")
            client.expect(250, "RCPT TO:<box@example.org>")
            if number % 2:
                parts = chunked(chance, text)
                client.send_split(b"".join(parts), iter(lambda: chance.randrange(1, 3000), 0))
                for _ in parts:
                    client.expect(250)
            else:
                text += b"\r\n"
                client.expect(354, "DATA")
                client.send_split(stuff(text) + b".\r\n", iter(lambda: chance.randrange(1, 3000), 0))
                client.expect(250)
        # A last line without its end gets one on the way, wherever DATA is said; only then its white space is at an
        # end of line for python3-dkim.
        self.judge([content if content.endswith(b"\r\n") else content + b"\r\n"
                    for content in self.gateway.wait_messages("box", 10 if SLOW else 40)])

    def test_large(self):
        self.start()
        text = MAIL + b"".join(b"line %d  of \t many \r\n" % number for number in range(100000)) + b" \r\n" * 5000
        send(self.client(), text)
        send(self.client(), b"X-Long: " + b"a " * 30000 + b"\r\n" + MAIL)
        self.judge(self.gateway.wait_messages("box", 2))

    def test_odd_texts(self):
        """No body, no empty line, nothing but empty lines, lines of white space; Bcc is gone before it is signed."""
        self.start()
        client, head = self.client(), b"From: alice@example.org\r\n"
        texts = [head, head + b"\r\n", head + b"\r\n\r\n\r\n", head + b"\r\n \t\r\n", head + b"\r\n x",
                 b"Bcc: eve@example.net\r\n" + head + b"\r\nx\r\n", head + b"To:\r\n \r\n\ta\r\n\r\ny",
                 head + b"no field\r\n", b"\t\r\n" + head]
        for text in texts[:-1]:
            client.expect(250, "MAIL FROM:<alice@example.org>")
            client.expect(250, "RCPT TO:<box@example.org>")
            client.send(b"BDAT %d LAST\r\n" % len(text) + text)
            client.expect(250)
        messages = self.gateway.wait_messages("box", len(texts) - 1)
        self.judge(messages)
        self.assertFalse([content for content in messages if b"Bcc" in content])

    def test_without_helpers(self):
        self.start(helpers=False)
        send(self.client(), MAIL)
        self.judge(self.gateway.wait_messages("box", 1))

    def test_counted(self):
        self.start(settings={"admin.http": '"127.0.0.1:0"'})
        client = self.client()
        for _ in range(3):
            send(client, MAIL)
        self.assertEqual(scrape(self.gateway).value("ringmx_dkim_signed_total"), 3)

    def test_not_signed(self):
        """Another's domain, one below ours, none at all; and whoever has not logged in, whatever it says."""
        self.start()
        client = self.client()
        for sender in (b"From: alice@example.net\r\n", b"From: alice@sub.example.org\r\n", b"From: nobody\r\n",
                       b"Sender: alice@example.org\r\n"):
            send(client, sender + b"\r\nx\r\n")
        stranger = Client(self.gateway.at["mx"])
        self.addCleanup(stranger.close)
        stranger.hello()
        self.assertEqual(stranger.transfer(MAIL, "alice@example.org", ["box@example.org"]).code, 250)
        for content in self.gateway.wait_messages("box", 5):
            self.assertNotIn(b"DKIM-Signature", content)

    def test_refused_mail_is_not_signed(self):
        """A message that is refused at its end waits for no signature, and the session goes on."""
        self.start(settings={"submission.message_size": "10000"})
        client = self.client()
        client.envelope("alice@example.org", "box@example.org")
        client.expect(354, "DATA")
        client.send(stuff(MAIL * 20) + b".\r\n")
        client.expect(552)
        send(client, MAIL)
        self.judge(self.gateway.wait_messages("box", 1))


class Changing(Case):
    def test_keys_change_meanwhile(self):
        """Each mail has signatures of one set of keys, old or new, and all are good."""
        self.start()
        selectors = [("r%d" % number, "e%d" % number) for number in range(3 if SLOW else 8)]
        stop, failures, sent = threading.Event(), [], []

        def work(number):
            try:
                with submitters.Submitter(self.gateway.at["submission"]) as client:
                    while not stop.is_set():
                        send(client, MAIL)
                        sent.append(number)
            except (AssertionError, OSError, EOFError) as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for number, pair in enumerate(selectors):
            self.signer.make(pair[0], "rsa")
            self.signer.make(pair[1], "ed25519")
            self.signer.use(["example.org"], *pair)
            self.gateway.write_configuration()
            self.gateway.signal(1)
            wait_until(lambda wanted=number + 1: len(self.gateway.events("reloaded")) == wanted, "the reload")
            before = len(sent)
            wait_until(lambda wanted=before + 5: failures or len(sent) >= wanted, "some mail")
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        messages = self.gateway.wait_messages("box", len(sent))
        chosen = random.Random(seed()).sample(messages, min(60, len(messages)))
        self.judge(chosen)
        seen = {tuple(signed.selectors(content)) for content in messages}
        self.assertLessEqual(seen, {(RSA, ED25519), *selectors})
        self.assertIn(selectors[-1], seen)

    def test_clients_that_leave(self):
        """The last octet is sent, and the connection closed at once, or reset: nothing breaks, nothing is lost of
        what was answered."""
        self.start()
        for number in range(20 if SLOW else 60):
            client = self.signer.client()
            client.envelope("alice@example.org", "gone@example.org")
            client.expect(354, "DATA")
            client.send(stuff(MAIL) + b".\r\n")
            if number % 2:
                client.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: a reset
            client.close()
        send(self.client(), MAIL)
        self.judge(self.gateway.wait_messages("box", 1))
        self.judge(self.gateway.messages("gone"))

    def test_large_headers_wait_for_nobody(self):
        """What is signed of a large section is hashed when it is whole: uploads of bodies keep no room of it."""
        signer = Signer(settings={"workers": "1"})
        self.addCleanup(signer.gateway.close)
        signer.gateway.start()
        text = b"From: alice@example.org\r\n" + b"X: y\r\n" * 600 + b"\r\n"
        clients = []
        for number in range(40):
            clients.append(signer.client())
            clients[-1].expect(250, "MAIL FROM:<alice@example.org>")
            clients[-1].expect(250, f"RCPT TO:<box{number}@example.org>")
            clients[-1].expect(354, "DATA")
            clients[-1].send(text)
            self.assertTrue(clients[-1].silent(0.01))
            clients[-1].send(b"body\r\n")
            self.assertTrue(clients[-1].silent(0.01))
        for client in clients:
            client.send(b".\r\n")
            client.expect(250)
            client.close()
        signer.gateway.stop()

    def test_drain_meanwhile(self):
        """A drain lets a message that is being signed be answered."""
        self.start()
        clients = [self.client() for _ in range(8)]
        for client in clients:
            client.envelope("alice@example.org", "box@example.org")
            client.expect(354, "DATA")
        for client in clients:
            client.send(stuff(MAIL) + b".\r\n")
        self.gateway.signal(15)
        for client in clients:
            client.expect(250)
        self.gateway.process.wait(20)
        self.judge(self.gateway.messages("box"))


class Tool(unittest.TestCase):
    def setUp(self):
        self.signer = Signer()
        self.addCleanup(self.signer.gateway.close)
        self.folder = self.signer.folder

    def mode(self, selector):
        return os.stat(os.path.join(self.folder, f"example.org.{selector}.key"))

    def test_who_may_read_a_key(self):
        self.assertEqual(stat.S_IMODE(self.mode(RSA).st_mode), 0o600)
        os.chmod(self.folder, 0o750)
        run_tool("key", "example.org", "--selector", "g", "--type", "ed25519", "-d", self.folder)
        made, folder = self.mode("g"), os.stat(self.folder)
        self.assertEqual((stat.S_IMODE(made.st_mode), made.st_gid), (0o640, folder.st_gid))
        os.chmod(self.folder, 0o755)  # who may see the folder is nobody special
        run_tool("key", "example.org", "--selector", "w", "--type", "ed25519", "-d", self.folder)
        self.assertEqual(stat.S_IMODE(self.mode("w").st_mode), 0o600)

    def test_a_key_is_never_overwritten(self):
        path = os.path.join(self.folder, f"example.org.{RSA}.key")
        with open(path, "rb") as file:
            before = file.read()
        again = run_tool("key", "example.org", "--selector", RSA, "-d", self.folder)
        self.assertEqual((again.returncode, again.stdout), (1, ""))
        other = run_tool("key", "EXAMPLE.Org", "--selector", RSA.upper(), "-d", self.folder)  # that is the same one
        self.assertEqual((other.returncode, other.stdout), (1, ""))
        with open(path, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_record(self):
        made = run_tool("key", "example.org", "--bits", "4096", "--selector", "big", "-d", self.folder)
        again = run_tool("record", "example.org", "--selector", "big", "-d", self.folder)
        self.assertEqual((made.returncode, again.returncode, again.stderr), (0, 0, ""))
        self.assertEqual(made.stdout, again.stdout)
        strings = re.findall(r'"([^"]*)"', made.stdout)
        self.assertEqual([len(part) for part in strings[:-1]], [255] * (len(strings) - 1))
        self.assertRegex("".join(strings), r"^v=DKIM1; k=rsa; p=[A-Za-z0-9+/]+=*$")
        self.assertTrue(made.stdout.startswith("big._domainkey.example.org. IN TXT ( "))
        self.assertNotIn("PRIVATE", made.stdout + made.stderr)
        self.assertIn(f'"big:{os.path.realpath(self.folder)}/example.org.big.key"', made.stderr)
        chosen = run_tool("key", "example.org", "--type", "ed25519", "-d", os.path.relpath(self.folder))
        self.assertRegex(chosen.stderr, r'"(e2\d{5}):' + re.escape(os.path.realpath(self.folder)) + r'/example.org.\1.key"')
        self.assertRegex(chosen.stdout, r"^e2\d{5}\._domainkey\.example\.org\. IN TXT "
                                        r"\( \"v=DKIM1; k=ed25519; p=.{44}\" \)$")

    def test_mistakes(self):
        for code, words in ((64, ()), (64, ("key",)), (64, ("key", "-bad-")),
                            (64, ("key", "example.org", "--bits", "512")), (64, ("key", "bücher.example")),
                            (64, ("key", "example.org", "--type", "dsa")),
                            (64, ("key", "example.org", "--type", "ed25519", "--bits", "2048")),
                            (64, ("key", "example.org", "--selector", "a b")), (64, ("record", "example.org")),
                            (64, ("key", "example.org", "--nothing")),
                            (66, ("record", "example.org", "--selector", "x")),
                            (66, ("key", "example.org", "-d", self.folder + "/none")), (0, ("--help",))):
            words = [*words, *([] if "-d" in words else ["-d", self.folder])]
            done = run_tool(*words)
            self.assertEqual(done.returncode, code, words)
            self.assertEqual(bool(done.stderr), code != 0)

    def test_keys_that_can_not_be_used(self):
        """The configuration is refused, with a sentence, and nothing of the key in it."""
        for text, wanted in (("hello", "no private key in PEM"), ("", "no private key in PEM")):
            with open(os.path.join(self.folder, "bad.key"), "w", encoding="utf-8") as file:
                file.write(text)
            self.signer.gateway.more = 'dkim "example.org" { keys = {"bad:dkim/bad.key"} }\n'
            self.signer.gateway.write_configuration()
            self.signer.gateway.launch()
            self.assertEqual(self.signer.gateway.process.wait(20), 78)
            self.signer.gateway.process = None
            self.assertIn(wanted, self.signer.gateway.log_text())


if __name__ == "__main__":
    unittest.main()
