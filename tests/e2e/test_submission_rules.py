"""Mail of users: whose addresses are whose, what is mended and what is not, how it is cut, limits of its own, where it
goes and under which reverse-path, and where it bounces to."""
import concurrent.futures
import os
import random
import re
import signal
import unittest

import submitters
from harness import seed, split_delivered, stuff, wait_until
from reports import Hop
from sink import Sink
from submitters import Submitter

FROM = b"From: Alice <alice@example.org>\r\n"
WHOLE = FROM + b"Date: Sat, 21 Nov 2026 20:25:15 +0000\r\nMessage-ID: <1@client.example>\r\n"
DATE = rb"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000\r\n"
MESSAGE_ID = rb"Message-ID: <[0-9A-Za-z]{13}\.[0-9a-f]{16}@mx\.example\.org>\r\n"
SENDERS = ('sender "alice" { addresses = {"sales@example.org", "info+*@example.net", "*@example.com"} }\n'
           'sender "relay" { addresses = {"*"} }\n')


def pattern(*parts):
    return b"".join(part if part in (DATE, MESSAGE_ID) else re.escape(part) for part in parts) + rb"\Z"


class Rules(unittest.TestCase):
    def setUp(self):
        self.clients = []
        self.sent = 0

    def start(self, *settings, names=("alice", "bob", "relay"), **more):
        gateway = submitters.gateway(names, dict(settings), more=SENDERS + more.pop("words", ""), **more)
        self.addCleanup(gateway.close)
        return gateway.start()

    def client(self, gateway, user="alice"):
        self.clients.append(Submitter(gateway.at["submission"], user))
        self.addCleanup(self.clients[-1].close)
        return self.clients[-1]

    def stop(self, gateway):
        for client in self.clients:  # it would wait for them
            client.close()
        gateway.stop()

    def test_login_first(self):
        gateway = self.start()
        client = self.client(gateway, None)
        client.refused(530, "5.7.0", "MAIL FROM:<alice@example.org>")
        client.refused(530, "5.7.0", "MAIL FROM:<>")
        client.expect(503, "RCPT TO:<bob@example.org>")
        client.expect(503, "DATA")
        client.send(b"BDAT 3 LAST\r\nx\r\n")
        client.expect(503)
        client.login("alice")
        self.assertEqual(client.transfer(WHOLE + b"\r\n", "alice@example.org", ["bob@example.org"]).code, 250)
        self.stop(gateway)

    def test_reverse_path(self):
        gateway = self.start()
        client = self.client(gateway)
        for mine in ("alice@example.org", "ALICE+tag@Example.ORG", '"alice"@example.org', "sales@example.org", "",
                     "info+x@example.net", "info@example.net", "who.ever@example.com",
                     "@a.example,@b.example:alice@example.org"):
            client.expect(250, f"MAIL FROM:<{mine}>")
            client.expect(250, "RSET")
        for foreign in ("bob@example.org", "alice@example.net", "alicex@example.org", '"alice "@example.org',
                        "sales+x@example.org", '"alice@example.org"@evil.example', "alice@sub.example.org",
                        "alice@sub.example.com", "alice%example.org@evil.example", "evil.example!alice@example.org",
                        "@example.org:alice@evil.example", "x@evil.example"):
            client.refused(553, "5.7.1", f"MAIL FROM:<{foreign}>")
        relay = self.client(gateway, "relay")
        relay.expect(250, "MAIL FROM:<anybody@anywhere.example>")
        relay.expect(250, "RSET")
        for value in (b"root (Cron Daemon)", b"MAILER-DAEMON", b"x@foo_bar.example"):  # "*" is anything at all
            self.assertEqual(relay.transfer(b"From: " + value + b"\r\n\r\nx\r\n", "x@foo.example",
                                            ["bob@example.org"]).code, 250)
        self.stop(gateway)

    def send(self, gateway, text, code=250, enhanced="2.0.0", sender="alice@example.org", body=""):
        """Sends it whole, and in chunks; returns what became of the text, which must be the same for both."""
        found = []
        for sizes in ((), (1, 2, 30)):
            self.sent += 1
            client = self.client(gateway)
            client.expect(250, f"MAIL FROM:<{sender}>{body}")
            client.expect(250, f"RCPT TO:<to{self.sent}@example.org>")
            if sizes or body or not text.endswith(b"\r\n"):
                reply = client.chunks(text, sizes)
            else:
                client.expect(354, "DATA")
                client.send(stuff(text) + b".\r\n")
                reply = client.reply()
            self.assertEqual((reply.code, reply.enhanced), (code, enhanced), reply)
            client.close()
            if code == 250:
                found.append(split_delivered(*gateway.wait_messages(f"to{self.sent}", 1))[2])
        if code != 250:
            return None
        texts = {re.sub(MESSAGE_ID, b"", re.sub(DATE, b"", text)) for text in found}
        self.assertTrue(len(texts) == 1, [text[:2000] for text in texts])
        return found[0]

    def mended(self, gateway, text, *parts, **options):
        found = self.send(gateway, text, **options)
        self.assertRegex(found, re.compile(rb"\A" + pattern(*parts), re.DOTALL))

    def test_mended(self):
        gateway = self.start()
        self.mended(gateway, WHOLE + b"\r\nbody\r\n.dot\r\n", WHOLE + b"\r\nbody\r\n.dot\r\n")
        self.mended(gateway, FROM + b"\r\nbody\r\n", FROM, DATE, MESSAGE_ID, b"\r\nbody\r\n")
        self.mended(gateway, b"Bcc: x@y,\r\n\tz@w\r\n" + WHOLE + b"resent-bcc :\r\n\r\nBcc: x\r\n",
                    WHOLE + b"\r\nBcc: x\r\n")
        self.mended(gateway, b"From: alice@example.org,\r\n sales@example.org\r\n\r\n",
                    b"From: alice@example.org,\r\n sales@example.org\r\n", DATE, MESSAGE_ID,
                    b"Sender: alice@example.org\r\n\r\n")
        self.mended(gateway, b"Hello\r\nFrom: x@evil.example\r\n\r\n", DATE, MESSAGE_ID,
                    b"Sender: alice@example.org\r\n\r\nHello\r\nFrom: x@evil.example\r\n\r\n")
        self.mended(gateway, b"\r\nbody\r\n", DATE, MESSAGE_ID, b"Sender: alice@example.org\r\n\r\nbody\r\n")
        self.mended(gateway, b"", DATE, MESSAGE_ID, b"Sender: alice@example.org\r\n\r\n")
        self.mended(gateway, WHOLE, WHOLE + b"\r\n")
        self.mended(gateway, WHOLE[:-2], WHOLE + b"\r\n")
        self.mended(gateway, WHOLE + b"\r\na\nb\rc\0d", WHOLE + b"\r\na\nb\rc\0d", body=" BODY=BINARYMIME")
        self.stop(gateway)

    def test_from(self):
        gateway = self.start()
        for value in (b"x@evil.example", b'"alice@example.org" <x@evil.example>', b"bob@example.org",
                      b"alice@example.org, x@evil.example", b"alice@example.org <x@evil.example>",
                      b"g: x@evil.example;", b"(alice@example.org) x@evil.example", b"alice", b"Alice <alice@example.org",
                      b"\r\n\tx@evil.example", b"(PayPal service@paypal.example)", b'"ceo@evil.example":;', b"",
                      b'"ceo@evil.example\r\n " <alice@example.org>', b'"Alice" [x] <alice@example.org>',
                      b'"alice@example.org"@evil.example', "\u00e9@example.org".encode()):
            self.send(gateway, b"From: " + value + b"\r\n\r\nx\r\n", 553, "5.7.1")
        self.send(gateway, FROM + b"FROM : x@evil.example\r\n\r\nx\r\n", 553, "5.7.1")
        self.send(gateway, b"From: x@evil.example\r\n\r\nx\r\n", 553, "5.7.1", sender="")
        self.send(gateway, b"Subject: x\nFrom: x@evil.example\r\n\r\n", 550, "5.6.11", body=" BODY=BINARYMIME")
        self.send(gateway, WHOLE + b"Subject: a\0b\r\n\r\nx\r\n", 550, "5.6.11")
        self.assertEqual(os.listdir(gateway.mail), [])
        for value in (b'"alice"@example.org', b"sales(x)@(y)example . org", b"=?utf-8?q?x?= <ALICE+a@example.ORG>",
                      b"<@x,@y:who.ever@example.com>", b"g: alice@example.org, info+1@example.net;"):
            self.send(gateway, b"From: " + value + b"\r\n\r\nx\r\n")
        self.assertTrue(self.send(gateway, WHOLE + b"\r\n", sender="").startswith(b"From:"))
        self.stop(gateway)

    def test_any_from(self):
        gateway = self.start(("submission.from", "any"), ("submission.sender", "force"))
        self.mended(gateway, b"From: x@evil.example\r\nSender: y@evil.example\r\n\r\n", b"From: x@evil.example\r\n",
                    DATE, MESSAGE_ID, b"Sender: alice@example.org\r\n\r\n")
        self.mended(gateway, WHOLE + b"Sender: y@evil.example\r\n\r\n", WHOLE + b"\r\n")
        client = self.client(gateway)
        client.refused(553, "5.7.1", "MAIL FROM:<x@evil.example>")
        self.stop(gateway)

    def test_large_headers(self):
        gateway = self.start()
        for octets in (2900, 3071, 3072, 3073, 3074, 4000, 4096, 5000, 60000, 129000):
            header = WHOLE + b"Subject: " + b"x" * (octets - len(WHOLE) - 13) + b"\r\n"
            text = header + b"\r\n" + b"body\r\n" * 3000
            self.assertTrue(self.send(gateway, text) == text, octets)
        for octets in (131072, 131073, 300000):
            header = WHOLE + b"X: x\r\n" * (octets // 6)
            self.send(gateway, header + b"\r\nbody\r\n", 552, "5.3.4")
        self.stop(gateway)

    def test_cut_anywhere(self):
        source = random.Random(seed())
        gateway = self.start()
        client = self.client(gateway)
        header = b"Bcc: x@y\r\n" + WHOLE + b"Subject: " + b"word " * 300 + b"\r\n\tfolded\r\nBcc: z\r\n z\r\n"
        kept = WHOLE + b"Subject: " + b"word " * 300 + b"\r\n\tfolded\r\n"
        for turn in range(40):
            body = b"\r\n.\r\n..body\r\n" * source.randrange(400)
            sizes = [source.choice((1, 2, 3, 10, 100, 1500, 4096)) for _ in range(30)]
            client.envelope("alice@example.org", f"turn{turn}@example.org")
            if turn % 2:
                reply = client.chunks(header + b"\r\n" + body, sizes)
            else:
                client.expect(354, "DATA")
                client.send_split(stuff(header + b"\r\n" + body) + b".\r\n", sizes, 0.0005)
                reply = client.reply()
            self.assertEqual(reply.code, 250)
            found, = gateway.wait_messages(f"turn{turn}", 1)
            self.assertEqual(split_delivered(found)[2], kept + b"\r\n" + body)
        self.stop(gateway)

    def test_bound_of_large_headers(self):
        """128 large sections at a time for a worker, 32 of them of one user; more are put off, and none is kept for
        ever."""
        users = ("alice", "bob", "carol", "dave")
        gateway = self.start(("workers", "1"), names=users)
        header = WHOLE + b"X: y\r\n" * 600
        clients = []
        for user in users * 33:
            clients.append(self.client(gateway, user))
            clients[-1].envelope(f"{user}@example.org", "bob@example.org")
            clients[-1].expect(354, "DATA")
            clients[-1].send(header.replace(b"alice", user.encode()))
        wait_until(lambda: all(client.silent(0.001) for client in clients), "silence")
        codes = []
        for client in clients:
            client.send(b"\r\nbody\r\n.\r\n")
        for client in clients:
            codes.append(client.reply().code)
        self.assertEqual(codes, [250] * 128 + [452] * 4, codes)
        for client in clients[:80:4]:
            self.assertEqual(client.transfer(header + b"\r\n", "alice@example.org", ["bob@example.org"]).code, 250)
        gateway.wait_messages("bob", 148)
        self.stop(gateway)

    def test_refused_header_gives_room_back(self):
        """A large section that was refused does not wait for the end of its text: others have the room at once."""
        gateway = self.start(("workers", "1"))
        header = b"X: y\r\n" * 600
        clients = [self.client(gateway) for _ in range(40)]
        for client in clients:
            client.envelope("alice@example.org", "bob@example.org")
            client.expect(354, "DATA")
            client.send(b"From: eve@evil.example\r\n" + header + b"\r\nbody")
            self.assertTrue(client.silent(0.01))
        again = self.client(gateway)
        self.assertEqual(again.transfer(WHOLE + header + b"\r\n", "alice@example.org", ["bob@example.org"]).code, 250)
        self.stop(gateway)

    def test_crowded_ring(self):
        """The staging ring is full most of the time: the section, too, waits for room, and nothing is lost."""
        gateway = self.start(("spool.staging_size", '"1M"'), ("workers", "1"))
        texts = [WHOLE + b"Subject: " + b"x" * (10000 * number) + b"\r\n\r\n" + b"%08d" % number * 150000 + b"\r\n"
                 for number in range(12)]

        def send(number):
            with Submitter(gateway.at["submission"]) as client:
                client.envelope("alice@example.org", f"to{number}@example.org")
                if number % 2:
                    return client.chunks(texts[number], (1000, 20000, 500000)).code
                client.expect(354, "DATA")
                client.send(stuff(texts[number]) + b".\r\n")
                return client.reply().code

        with concurrent.futures.ThreadPoolExecutor(len(texts)) as pool:
            self.assertEqual(set(pool.map(send, range(len(texts)))), {250})
        for number, text in enumerate(texts):
            found, = gateway.wait_messages(f"to{number}", 1)
            self.assertTrue(split_delivered(found)[2] == text, number)
        self.stop(gateway)

    def test_reload(self):
        """Who owns what is looked up anew; and a listener that the configuration has lost takes nothing from anybody."""
        gateway = self.start()
        client = self.client(gateway)
        client.expect(250, "MAIL FROM:<sales@example.org>")
        client.expect(250, "RCPT TO:<bob@example.org>")
        client.expect(354, "DATA")
        client.send(b"From: sales@example.org\r\n")
        gateway.more = ""
        self.reload(gateway, 1)
        client.send(b"\r\n.\r\n")
        client.refused(553, "5.7.1", None)
        client.refused(553, "5.7.1", "MAIL FROM:<sales@example.org>")
        client.envelope("alice@example.org", "bob@example.org")
        del gateway.listeners["submission"]
        self.reload(gateway, 2)
        client.expect(354, "DATA")
        client.send(b"\r\n.\r\n")
        client.expect(454)
        client.expect((454, 530), "MAIL FROM:<alice@example.org>")
        self.assertEqual(gateway.count("bob"), 0)
        self.stop(gateway)

    def reload(self, gateway, count):
        gateway.write_configuration()
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: len(gateway.events("reload", "reloaded")) >= count, "the reload")

    def test_limits(self):
        gateway = self.start(("submission.message_size", '"20k"'), ("submission.recipients", "3"),
                             ("submission.messages_per_hour", "4"), ("submission.recipients_per_hour", "5"),
                             ("limits.message_size", '"1M"'))
        client = self.client(gateway)
        client.refused(552, "5.3.4", "MAIL FROM:<alice@example.org> SIZE=20481")
        client.envelope("alice@example.org", "a@example.org", "b@foreign.example", "c@example.org")
        client.refused(452, "4.5.3", "RCPT TO:<d@example.org>")
        client.refused(452, "4.5.3", "RCPT TO:<d@foreign.example>")
        client.expect(354, "DATA")
        client.send(WHOLE + b"\r\n" + b"x" * 20480 + b"\r\n.\r\n")
        client.expect(552)
        for _ in range(20):  # what came to nothing does not count
            client.envelope("alice@example.org", "a@example.org", "b@foreign.example")
            client.expect(250, "RSET")
        for _ in range(2):
            self.assertEqual(client.transfer(WHOLE + b"\r\n", "alice@example.org",
                                             ["a@example.org", "b@example.org"]).code, 250)
        client.expect(250, "MAIL FROM:<alice@example.org>")
        client.expect(250, "RCPT TO:<a@example.org>")
        client.refused(450, "4.7.1", "RCPT TO:<b@example.org>")
        client.refused(450, "4.7.1", "RCPT TO:<b@foreign.example>")
        client.expect(250, "RSET")
        other = self.client(gateway, "bob")  # each user for himself
        for _ in range(4):
            self.assertEqual(other.transfer(b"\r\n", "bob@example.org", ["a@example.org"]).code, 250)
        other.refused(450, "4.7.1", "MAIL FROM:<bob@example.org>")
        with gateway.client() as mx:  # the MX has limits of its own
            mx.hello()
            self.assertEqual(mx.transfer(WHOLE + b"\r\n" + b"x" * 20480 + b"\r\n", "bob@example.org", [
                "a@example.org", "b@example.org", "c@example.org", "d@example.org"]).code, 250)
        self.stop(gateway)

    def test_abroad(self):
        with Sink() as sink:
            secret = "secret.srs"
            gateway = submitters.gateway(
                ("alice",), {"srs.domain": '"srs.example.org"', "srs.secret": f'"{secret}"'},
                domains={"example.org": (["alice", "bob"], "maildir:{mail}/%d/%u"),
                         "void.example": (["*"], "discard:")},
                more=f'relay {{ deliver = {{"smtp:127.0.0.1:{sink.address[1]}"}} }}\n'
                     'alias "team@example.org" { to = {"bob@example.org", "far@foreign.example"} }\n')
            self.addCleanup(gateway.close)
            with open(os.path.join(gateway.directory, secret), "w", encoding="ascii") as file:
                file.write("tests only\n")
            os.chmod(file.name, 0o600)
            gateway.start()
            client = self.client(gateway)
            long = "x" * 200 + "@foreign.example"
            self.assertEqual(client.transfer(WHOLE + b"\r\nx\r\n", "alice@example.org", [
                "a@foreign.example", "A@foreign.example", "a@FOREIGN.example", "b%c@foreign.example", "u@[192.0.2.1]",
                "team@example.org", long]).code, 250)
            gateway.wait_messages("bob", 1)
            wait_until(lambda: sum(len(line["to"]) for line in sink.messages()) == 6, "six recipients abroad")
            self.assertEqual({line["from"].split()[0] for line in sink.messages()}, {"<alice@example.org>"})
            told = sorted(recipient.split()[0] for line in sink.messages() for recipient in line["to"])
            self.assertEqual(told, sorted(f"<{name}>" for name in (
                "A@foreign.example", "a@foreign.example", "b%c@foreign.example", "u@[192.0.2.1]",
                "far@foreign.example", long)))
            # An MX listener does for the same alias what it did before: SRS.
            with gateway.client() as mx:
                mx.hello()
                self.assertEqual(mx.transfer(WHOLE + b"\r\nx\r\n", "s@client.example", ["team@example.org"]).code, 250)
            wait_until(lambda: any("@srs.example.org" in line["from"] for line in sink.messages()), "SRS")
            self.stop(gateway)

    def test_far_local_parts(self):
        """Elsewhere a local part may be longer than any of ours."""
        gateway = self.start(words='relay { deliver = {"smtp:127.0.0.1:1"} }\n')
        client = self.client(gateway)
        client.expect(250, "MAIL FROM:<alice@example.org>")
        long = "a" * 70
        for code, domain in ((501, "example.org"), (501, "EXAMPLE.org"), (250, "far.example"), (250, "[192.0.2.1]")):
            client.expect(code, f"RCPT TO:<{long}@{domain}>")
        self.stop(gateway)

    def test_nobody_is_asked(self):
        """A user's client hears at once, and what a next hop says of it comes as a bounce: it is not asked while he
        waits, as it is for strangers."""
        for words in ("mode = through", "verify = callahead"):
            with self.subTest(words), Hop({"RCPT": b"550 5.1.1 Nobody"}) as hop:
                gateway = self.start(domains={"example.org": (["alice"], "maildir:{mail}/%d/%u"),
                                              "hop.example": (["*"], hop.target, words)})
                client = self.client(gateway)
                client.expect(250, "MAIL FROM:<alice@example.org>")
                client.expect(250, "RCPT TO:<far@hop.example>")
                self.assertEqual(hop.commands, [])
                client.expect(354, "DATA")
                client.send(WHOLE + b"\r\nx\r\n.\r\n")
                client.expect(250)
                bounce, = gateway.wait_messages("alice", 1)
                self.assertIn(b"far@hop.example", bounce)
                with gateway.client() as mx:
                    mx.hello()
                    mx.expect(250, "MAIL FROM:<x@client.example>")
                    mx.expect(550, "RCPT TO:<far@hop.example>")
                self.stop(gateway)

    def test_bounces_to_the_user(self):
        with Sink("--refuse", "rcpt=100%") as sink:
            gateway = self.start(words=f'relay {{ deliver = {{"smtp:127.0.0.1:{sink.address[1]}"}} }}\n')
            client = self.client(gateway)
            self.assertEqual(client.transfer(WHOLE + b"\r\nx\r\n", "alice@example.org", ["a@foreign.example"]).code, 250)
            bounce, = gateway.wait_messages("alice", 1)
            self.assertTrue(bounce.startswith(b"Return-Path: <>"), bounce)
            self.assertIn(b"a@foreign.example", bounce)
            self.stop(gateway)

    def test_discard_only(self):
        """Where all our own mail is thrown away, that of users is sent all the same."""
        with Sink() as sink:
            gateway = self.start(domains={"example.org": (["*"], "discard:")},
                                 words=f'relay {{ deliver = {{"smtp:127.0.0.1:{sink.address[1]}"}} }}\n')
            client = self.client(gateway)
            self.assertEqual(client.transfer(WHOLE + b"\r\nx\r\n", "alice@example.org", ["a@foreign.example"]).code, 250)
            sink.wait_messages(1)
            self.stop(gateway)

    def test_not_for_users(self):
        """Greylist, tarpit and rates by address are for those who have not logged in."""
        gateway = self.start(("greylist.delay", '"1h"'), ("limits.tarpit", '"30s"'), ("limits.tarpit_after", "1"),
                             ("limits.message_rate", "1"), domains={"example.org": (["bob"], "discard:")})
        client = self.client(gateway)
        for _ in range(4):
            client.expect(250, "MAIL FROM:<alice@example.org>")
            client.refused(550, "5.1.1", "RCPT TO:<nobody@example.org>")
            client.expect(250, "RCPT TO:<bob@example.org>")
            client.expect(250, "RSET")
        self.stop(gateway)


if __name__ == "__main__":
    unittest.main()
