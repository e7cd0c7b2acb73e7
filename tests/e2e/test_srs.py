"""SRS with postsrsd at the other end: what it makes we read, what we make it reads, both write the same; then a
gateway with the same secret forwards through a next hop, and takes what comes back."""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from harness import BIN_DIRECTORY, Gateway, message, quote, seed, wait_until
from reports import Hop

POSTSRSD = shutil.which("postsrsd", path="/usr/sbin:/usr/bin")
VECTORS = os.path.join(BIN_DIRECTORY, "ringmx-vectors")
DOMAIN = "srs.example.org"
SECRET = "a secret that both know"
DAY = 86400


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Postsrsd:
    """One postsrsd with its two tables (Postfix's tcp_table(5))."""

    def __init__(self, secrets, domain=DOMAIN, options=()):
        self.directory = tempfile.mkdtemp(prefix="ringmx-postsrsd-", dir=os.environ.get("RINGMX_TMP"))
        path = os.path.join(self.directory, "secret")
        with open(path, "w", encoding="ascii") as file:
            file.write("".join(secret + "\n" for secret in secrets))
        self.forward_port, self.reverse_port = free_ports(2)
        with open(os.path.join(self.directory, "log"), "wb") as log:
            self.process = subprocess.Popen(
                [POSTSRSD, "-4", f"-f{self.forward_port}", f"-r{self.reverse_port}", f"-d{domain}", f"-s{path}", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self.listens, "postsrsd listens")

    def listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f"postsrsd ended with {self.process.returncode}")
        try:
            for port in (self.forward_port, self.reverse_port):
                socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def ask(port, keys):
        """{key: answer, or None}."""
        answers = {}
        with socket.create_connection(("127.0.0.1", port), 20) as connection, connection.makefile("rb") as reader:
            for key in keys:
                coded = "".join(c if 32 < ord(c) < 127 and c not in "%+" else f"%{ord(c):02x}" for c in key)
                connection.sendall(b"get " + coded.encode("ascii") + b"\n")
                code, _, text = reader.readline().decode("ascii").rstrip("\n").partition(" ")
                answers[key] = text if code == "200" else None
        return answers

    def forward(self, *keys):
        return self.ask(self.forward_port, keys)

    def reverse(self, *keys):
        return self.ask(self.reverse_port, keys)


def ours(mailboxes, now=None, **options):
    """What ringmx makes of them: [{"result": ..., "mailbox": ...}]."""
    requests = "".join(json.dumps({"srs": mailbox, "of": DOMAIN, "secret": SECRET, "now": int(now or time.time()),
                                   **options}) + "\n" for mailbox in mailboxes)
    run = subprocess.run([VECTORS], input=requests.encode(), capture_output=True, check=True, timeout=60)
    return [json.loads(line) for line in run.stdout.splitlines()]


def not_at_midnight():
    """Both must see the same day."""
    left = DAY - time.time() % DAY
    if left < 60:
        time.sleep(left + 1)


def senders(chance, count):
    def some(letters, low, high):
        return "".join(chance.choices(letters, k=chance.randint(low, high)))

    def host():
        return ".".join([some("abcXYZ019", 1, 12) for _ in range(chance.randint(1, 3))] + [some("abcXYZ", 2, 6)])

    made = []
    for _ in range(count):
        local = ".".join(some("abcABC019!#$&'*+-/=?^_`{|}~", 1, chance.choice([5, 20, 60]))
                         for _ in range(chance.randint(1, 3)))
        made.append(chance.choice([
            lambda: f"{local}@{host()}",
            lambda: f"SRS0{chance.choice('=+-')}{some('abcXYZ09+/', 4, 8)}={some('ABCZ27', 2, 2)}={host()}={local}@{host()}",
            lambda: f"srs0={some('abcXYZ09', 4, 4)}={some('ABCZ27', 2, 2)}={host()}={local}@{host()}",
            lambda: (f"SRS1{chance.choice('=+-')}{some('abcXYZ09', 4, 4)}={host()}={chance.choice('=+-')}"
                     f"{some('abcXYZ09', 4, 4)}={some('ABCZ27', 2, 2)}={host()}={local}@{host()}"),
        ])())
    return sorted(set(made))


@unittest.skipUnless(POSTSRSD, "postsrsd is not installed")
class Agreement(unittest.TestCase):
    def postsrsd(self, *arguments, **words):
        made = Postsrsd(*arguments, **words)
        self.addCleanup(made.close)
        return made

    def setUp(self):
        not_at_midnight()

    def test_both_write_the_same(self):
        chance = random.Random(seed())
        for separator in "=+-":
            for hash_length in (4, 12):
                made = senders(chance, 300)
                theirs = self.postsrsd([SECRET], options=[f"-a{separator}", f"-n{hash_length}"]).forward(*made)
                compared = 0
                for sender, answer in zip(made, ours(made, separator=separator, hash_length=hash_length)):
                    if answer["result"] == "too-long":
                        self.assertGreater(len(theirs[sender]), 254)
                        continue
                    self.assertEqual(answer.get("mailbox"), theirs[sender], sender)
                    compared += 1
                self.assertGreater(compared, 200)

    def test_each_reads_the_other(self):
        chance = random.Random(seed())
        postsrsd = self.postsrsd([SECRET])
        made = senders(chance, 300)
        theirs = [address for address in postsrsd.forward(*made).values() if len(address) <= 254]
        self.assertGreater(len(theirs), 200)
        known = postsrsd.reverse(*theirs)
        for address, answer in zip(theirs, ours(theirs, reverse=True)):
            self.assertEqual((answer["result"], answer.get("mailbox")), ("ok", known[address]), address)
        mine = [answer["mailbox"] for answer in ours(made) if answer["result"] == "ok"]
        self.assertGreater(len(mine), 200)
        for address, answer in zip(mine, ours(mine, reverse=True)):
            self.assertEqual(postsrsd.reverse(address)[address], answer["mailbox"])

    def test_ordinary_senders_come_back(self):
        made = [f"User.{number}+tag=x@Sender{number}.Example" for number in range(50)]
        postsrsd = self.postsrsd([SECRET])
        mine = [answer["mailbox"] for answer in ours(made)]
        self.assertEqual(list(postsrsd.reverse(*mine).values()), made)
        theirs = list(postsrsd.forward(*made).values())
        self.assertEqual([answer["mailbox"] for answer in ours(theirs, reverse=True)], made)

    def test_folded_on_the_way(self):
        postsrsd = self.postsrsd([SECRET])
        mine = ours(["alice@sender.example"])[0]["mailbox"]
        self.assertEqual(postsrsd.reverse(mine.lower())[mine.lower()], "alice@sender.example")
        theirs = postsrsd.forward("alice@sender.example")["alice@sender.example"]
        self.assertEqual(ours([theirs.lower()], reverse=True)[0]["mailbox"], "alice@sender.example")

    def test_other_secrets_and_rotation(self):
        mine = ours(["alice@sender.example"])[0]["mailbox"]
        stranger = self.postsrsd(["another secret"])
        self.assertIsNone(stranger.reverse(mine)[mine])
        theirs = stranger.forward("alice@sender.example")["alice@sender.example"]
        self.assertEqual(ours([theirs], reverse=True)[0]["result"], "forged")
        rotated = self.postsrsd(["another secret", SECRET])
        self.assertEqual(rotated.reverse(mine)[mine], "alice@sender.example")

    def test_old_ones(self):
        now = time.time()
        postsrsd = self.postsrsd([SECRET])
        for days, good in ((0, True), (20, True), (21, True), (22, False), (500, False)):
            mine = ours(["alice@sender.example"], now=now - days * DAY)[0]["mailbox"]
            self.assertEqual(postsrsd.reverse(mine)[mine], "alice@sender.example" if good else None, days)
            self.assertEqual(ours([mine], now=now, reverse=True)[0]["result"], "ok" if good else "expired")

    def test_three_forwarders(self):
        """Ours between two of theirs: the way back leaves ours out, or begins there."""
        first = self.postsrsd(["first"], domain="first.example")
        last = self.postsrsd(["last"], domain="last.example")
        one = first.forward("alice@sender.example")["alice@sender.example"]
        two = ours([one])[0]["mailbox"]
        self.assertTrue(two.startswith("SRS1=") and two.endswith("@" + DOMAIN), two)
        three = last.forward(two)[two]
        self.assertTrue(three.startswith("SRS1=") and three.endswith("@last.example"), three)
        self.assertEqual(last.reverse(three)[three], one)
        self.assertEqual(ours([two], reverse=True)[0]["mailbox"], one)
        self.assertEqual(first.reverse(one)[one], "alice@sender.example")


class Forwarding(unittest.TestCase):
    """A gateway that forwards to a hop, and what comes back to it."""

    def gateway(self, hop, srs=True, words="", settings=None):
        settings = {"queue.schedule": '{"1s"}', **(settings or {})}
        gateway = Gateway(settings=settings, domains={"example.org": (["alice"], "maildir:{mail}/%d/%u")})
        secret = os.path.join(gateway.directory, "srs.key")
        with open(secret, "w", encoding="ascii") as file:
            file.write(SECRET + "\n")
        os.chmod(secret, 0o600)
        gateway.more = (
            f"relay {{ deliver = {quote(hop.target)} }}\n"
            'alias "info@example.org" { to = {"alice@example.org", "bob@elsewhere.example"} }\n'
            'alias "me@example.org" { to = "bob@elsewhere.example" }\n')
        if srs:
            gateway.more += f"srs {{ domain = {quote(DOMAIN)} secret = {quote(secret)} {words} }}\n"
        self.addCleanup(gateway.close)
        return gateway.start()

    def hop(self, answers=None):
        hop = Hop(answers)
        hop.__enter__()
        self.addCleanup(hop.__exit__)
        return hop

    def arrived(self, hop, count=1):
        wait_until(lambda: len(hop.messages) >= count, f"{count} messages at the next hop")
        self.assertEqual(len(hop.messages), count)
        return hop.messages

    @unittest.skipUnless(POSTSRSD, "postsrsd is not installed")
    def test_there_and_back(self):
        not_at_midnight()
        hop = self.hop()
        gateway = self.gateway(hop)
        text = message("forwarded")
        with gateway.client() as client:
            client.hello()
            client.transfer(text, "Carol+x@Sender.example", ["info@example.org"])
        (sender, recipients, received), = self.arrived(hop)
        self.assertEqual(recipients, [b"<bob@elsewhere.example>"])
        self.assertTrue(received.endswith(text))  # nothing but trace fields in front
        self.assertEqual(received.count(b"Received:"), 1)
        self.assertIn(b"for <info@example.org>", received)
        self.assertNotIn(b"bob@", received)
        address = sender.decode().split(">")[0].lstrip("<")
        self.assertTrue(address.startswith("SRS0=") and address.endswith("@" + DOMAIN), address)
        postsrsd = Postsrsd([SECRET])
        self.addCleanup(postsrsd.close)
        self.assertEqual(postsrsd.reverse(address)[address], "Carol+x@Sender.example")
        # The copy that stays is not forwarded: its reverse-path is the sender's.
        local, = gateway.wait_messages("alice", 1)
        self.assertTrue(local.startswith(b"Return-Path: <Carol+x@Sender.example>\r\n"), local[:80])
        # A bounce to it goes to the sender.
        with gateway.client() as client:
            client.hello()
            client.transfer(message("bounce"), "", [address])
        sender, recipients, _ = self.arrived(hop, 2)[-1]
        self.assertEqual((sender[:2], recipients), (b"<>", [b"<Carol+x@Sender.example>"]))

    def test_forged_and_unknown(self):
        gateway = self.gateway(self.hop())
        old = ours(["carol@sender.example"], now=time.time() - 40 * DAY)[0]["mailbox"]
        with gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<>")
            for mailbox, code, enhanced in (
                    (f"SRS0=AAAA=BB=sender.example=carol@{DOMAIN}", 550, "5.7.1"),
                    (f"SRS1=AAAA=first.example==b=c=d=carol@{DOMAIN}", 550, "5.7.1"),
                    (f"SRS0=@{DOMAIN}", 550, "5.7.1"),
                    (old, 550, "5.7.1"),
                    (f"carol@{DOMAIN}", 550, "5.1.1"),
                    (f"postmaster@{DOMAIN}", 250, "2.1.5"),
                    ("SRS0=AAAA=BB=sender.example=carol@elsewhere.example", 550, "5.7.1")):
                reply = client.expect(code, f"RCPT TO:<{mailbox}>")
                self.assertEqual(reply.enhanced, enhanced, mailbox)

    def guesses(self, client, count, mailbox):
        """So many wrong ones, pipelined; the codes of the answers."""
        client.send(b"".join(b"RCPT TO:<" + mailbox.replace("HASH", f"x{number:03x}").encode() + b">\r\n"
                             for number in range(count)))
        return [client.reply().code for _ in range(count)]

    def test_guesses(self):
        """A right hash is not told from a wrong one any more when there were too many wrong ones; others go on."""
        gateway = self.gateway(self.hop(), settings={"limits.bad_commands": "1000"})
        good, = (answer["mailbox"] for answer in ours(["carol@sender.example"]))
        guess = "SRS0=HASH=" + good.split("=", 2)[2]
        with gateway.client() as one, gateway.client() as other:
            for client in (one, other):
                client.hello()
                client.expect(250, "MAIL FROM:<>")
            codes = self.guesses(one, 250, guess)
            self.assertEqual(set(codes), {550, 451})
            self.assertLess(codes.count(550), 100 + 10 * 10)  # 10 s at most
            self.assertGreaterEqual(codes.count(550), 100)
            self.assertEqual(other.expect(451, f"RCPT TO:<{good}>").enhanced, "4.7.1")  # of the whole process
            other.expect(250, "RCPT TO:<alice@example.org>")
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "the reload")
            self.assertIn(451, self.guesses(one, 60, guess))  # a reload does not fill it again
            wait_until(lambda: other.command(f"RCPT TO:<{good}>").code == 250, "it fills again")
        wait_until(lambda: len(gateway.events("srs_refused")) >= 100, "they are told")
        self.assertEqual(gateway.events("srs_refused")[0]["client"], "127.0.0.1")

    def test_guesses_count_as_bad_commands(self):
        gateway = self.gateway(self.hop(), settings={"limits.bad_commands": "5"})
        with gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<>")
            for _ in range(5):
                client.expect(550, f"RCPT TO:<SRS0=AAAA=BB=sender.example=carol@{DOMAIN}>")
            client.expect(421, f"RCPT TO:<SRS0=AAAA=BB=sender.example=carol@{DOMAIN}>")

    def test_long_hashes(self):
        """They can't be guessed: no shorter ones are taken, and nobody can use anything up."""
        gateway = self.gateway(self.hop(), words="hash_length = 12", settings={"limits.bad_commands": "1000"})
        short, = (answer["mailbox"] for answer in ours(["carol@sender.example"]))
        good, = (answer["mailbox"] for answer in ours(["carol@sender.example"], hash_length=12))
        with gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<>")
            self.assertEqual(set(self.guesses(client, 250, "SRS0=HASHabcdefgh=" + good.split("=", 2)[2])), {550})
            client.expect(250, f"RCPT TO:<{good}>")
            client.expect(550, f"RCPT TO:<{short}>")

    def test_what_has_no_srs(self):
        hop = self.hop()
        gateway = self.gateway(hop)
        for sender in ("", f"ringmx@{DOMAIN}", "carol@[192.0.2.1]"):
            with gateway.client() as client:
                client.hello()
                client.transfer(message(), sender, ["me@example.org"])
        self.arrived(hop, 3)
        self.assertEqual(sorted(message[0].split(b" ")[0] for message in hop.messages),
                         sorted([b"<>", f"<ringmx@{DOMAIN}>".encode(), b"<carol@[192.0.2.1]>"]))
        hop = self.hop()
        gateway = self.gateway(hop, srs=False)
        with gateway.client() as client:
            client.hello()
            client.transfer(message(), "carol@sender.example", ["me@example.org"])
        self.assertTrue(self.arrived(hop)[0][0].startswith(b"<carol@sender.example>"))

    def test_long_senders(self):
        """Local parts over 64 octets: those of lists come in, and their SRS addresses come back."""
        hop = self.hop()
        gateway = self.gateway(hop)
        sender = "bounce+" + "0123456789-" * 8 + "@lists.news.sender.example"
        with gateway.client() as client:
            client.hello()
            client.transfer(message(), sender, ["me@example.org"])
        address = self.arrived(hop)[0][0].decode().split(">")[0].lstrip("<")
        self.assertGreater(len(address.split("@")[0]), 64)
        with gateway.client() as client:
            client.hello()
            client.transfer(message(), "", [address])
        self.assertEqual(self.arrived(hop, 2)[-1][1], [f"<{sender}>".encode()])

    def test_failures_are_told_to_the_sender(self):
        """What the next hop refuses goes to the reverse-path as it came, with the recipient that was asked for."""
        hop = self.hop({"RCPT TO:<bob@": b"550 5.1.1 No such user here"})
        gateway = self.gateway(hop)
        with gateway.client() as client:
            client.hello()
            client.transfer(message(), "alice@example.org", ["me@example.org"])
        report, = gateway.wait_messages("alice", 1)
        self.assertIn(b"Original-Recipient: rfc822; me@example.org\r\n", report)


if __name__ == "__main__":
    unittest.main()
