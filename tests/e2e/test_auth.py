"""AUTH (RFC 4954): every state and reply, whatever is said when; who may say it where; limits and delays; what becomes of
a login at RSET, EHLO, STARTTLS, XCLIENT, a reload and a drain."""
import base64
import concurrent.futures
import contextlib
import os
import re
import signal
import socket
import tempfile
import time
import unittest

from harness import SLOW, Client, quote, wait_until
from logins import ALICE, BOB, b64, plain, scram_sha256, sha512, submission
from prometheus import scrape
from sasl import Scram
from test_trace import Watcher
from tls_client import SecureClient

LINE_MAX = 12288
OFFERED = "AUTH SCRAM-SHA-256 PLAIN LOGIN"
OFFERED_PLUS = "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"
GOOD = plain(*ALICE)


class Case(unittest.TestCase):
    def say(self, client, line, code, enhanced=None):
        reply = client.expect(code, line)
        if enhanced:
            self.assertEqual(reply.enhanced, enhanced, f"{line} -> {reply}")
        return reply

    @contextlib.contextmanager
    def submission(self, *settings, **options):
        """As logins.submission; the clients leave before the gateway does."""
        with submission(*settings, **options) as gateway:
            yield gateway
            self.doCleanups()

    def clear(self, gateway, **options):
        client = Client(gateway.at["clear"], **options)
        self.addCleanup(client.close)
        client.hello()
        return client

    def secure(self, gateway, listener="tls"):
        client = SecureClient(gateway.at[listener], implicit=listener == "tls")
        self.addCleanup(client.close)
        client.hello()
        return client

    def log_in(self, client, user=ALICE):
        self.say(client, "AUTH PLAIN " + plain(*user), 235, "2.7.0")
        return client

    def last(self, scram, reply):
        return b64(scram.last(base64.b64decode(reply.text)))

    def is_in(self, client):
        code = client.command("MAIL FROM:<alice@example.org>").code
        client.expect(250, "RSET")
        self.assertIn(code, (250, 530))
        return code == 250

    def counted(self, gateway, **labels):
        """ringmx_logins_total of this mechanism and result."""
        return scrape(gateway).value("ringmx_logins_total", **labels)


class Dialogues(Case):
    @classmethod
    def setUpClass(cls):
        cls.context = submission({"admin.http": quote("127.0.0.1:0"), "auth.failures_per_ip": "0",
                                  "auth.delay_ms": "0"})
        cls.gateway = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def test_offered(self):
        for client, offer in ((self.clear(self.gateway), OFFERED), (self.secure(self.gateway), OFFERED_PLUS),
                              (self.secure(self.gateway, "starttls"), OFFERED_PLUS)):
            texts = client.expect(250, "EHLO again").texts
            self.assertIn(offer, texts)
            self.assertEqual(sum(text.startswith("AUTH") for text in texts), 1)

    def test_not_offered(self):
        """In clear where TLS is to come first, in TLS before that, and on a listener for everybody."""
        for listener, code, enhanced in (("starttls", 530, "5.7.0"), ("mx", 502, "5.5.1")):
            with Client(self.gateway.at[listener]) as client:
                client.reply()
                texts = client.expect(250, "EHLO me").texts
                self.assertFalse([text for text in texts if text.startswith("AUTH")])
                self.say(client, "AUTH PLAIN " + GOOD, code, enhanced)
                self.say(client, "AUTH", code, enhanced)
        with SecureClient(self.gateway.at["mx"]) as client:
            client.hello()
            self.say(client, "AUTH PLAIN " + GOOD, 502, "5.5.1")

    def test_order(self):
        with Client(self.gateway.at["clear"]) as client:
            client.reply()
            self.say(client, "AUTH PLAIN " + GOOD, 503, "5.5.1")
            self.say(client, "HELO me", 250)
            self.say(client, "AUTH PLAIN " + GOOD, 503, "5.5.1")
            self.say(client, "EHLO me", 250)
            self.say(client, "MAIL FROM:<alice@example.org>", 530, "5.7.0")
            self.log_in(client)
            self.say(client, "AUTH PLAIN " + GOOD, 503, "5.5.1")
            self.say(client, "MAIL FROM:<alice@example.org> AUTH=<>", 250)
            self.say(client, "AUTH PLAIN " + GOOD, 503, "5.5.1")
            self.say(client, "RCPT TO:<bob@example.org>", 250)
            self.say(client, "AUTH LOGIN", 503, "5.5.1")
            self.say(client, "RSET", 250)
            self.say(client, "AUTH LOGIN", 503, "5.5.1")

    def test_replies(self):
        client = self.clear(self.gateway)
        for line, code, enhanced in (
                ("AUTH", 501, "5.5.4"), ("AUTH NTLM", 504, "5.5.4"), ("AUTH =", 504, "5.5.4"),
                ("AUTH SCRAM-SHA-256-PLUS", 504, "5.5.4"), ("AUTH XOAUTH2 dGVzdA==", 504, "5.5.4"),
                ("AUTH PLAIN =", 501, "5.5.2"), ("AUTH PLAIN x", 501, "5.5.2"), ("AUTH PLAIN " + GOOD[:-1], 501, "5.5.2"),
                ("AUTH PLAIN " + GOOD + " x", 501, "5.5.2")):
            with self.clear(self.gateway) as client:
                self.say(client, line, code, enhanced)
                self.log_in(client)

    def test_responses(self):
        """Lines that are no responses end the exchange, and the next one can succeed."""
        for line, code, enhanced in (
                ("*", 501, "5.7.0"), ("* ", 501, "5.5.2"), ("x", 501, "5.5.2"), ("", 501, "5.5.2"), ("=", 501, "5.5.2"),
                (b64("no NUL"), 501, "5.5.2"), (b64("\0\0geheim"), 501, "5.5.2"), (b64("\0alice\0"), 501, "5.5.2"),
                (b64("\0a\0b\0c"), 501, "5.5.2"), ("QUIT", 501, "5.5.2"), (plain("alice", "x" * 600), 501, "5.5.2"),
                (plain(*ALICE, "bob@example.org"), 535, "5.7.8"), (plain("nobody", "x"), 535, "5.7.8")):
            with self.subTest(line=line[:40]), self.clear(self.gateway) as client:
                self.assertEqual(self.say(client, "AUTH PLAIN", 334).texts, [""])
                self.say(client, line, code, enhanced)
                self.say(client, "NOOP", 250)
                self.log_in(client)

    def test_mechanisms(self):
        for name, authorization in (("alice", ""), ("ALICE@Example.ORG", ""), ("alice@example.org", ALICE[0])):
            with self.clear(self.gateway) as client:
                self.say(client, "auth plain " + plain(name, ALICE[1], authorization), 235, "2.7.0")
        with self.clear(self.gateway) as client:
            self.say(client, "AUTH PLAIN", 334)
            self.say(client, GOOD, 235)
        for first in ("AUTH LOGIN", "AUTH LOGIN " + b64(ALICE[0])):
            with self.clear(self.gateway) as client:
                reply = self.say(client, first, 334)
                if first == "AUTH LOGIN":
                    self.assertEqual(reply.texts, [b64("Username:")])
                    reply = self.say(client, b64(ALICE[0]), 334)
                self.assertEqual(reply.texts, [b64("Password:")])
                self.say(client, b64(ALICE[1]), 235)
                self.assertTrue(self.is_in(client))

    def test_login_wrong(self):
        for lines, code, enhanced in (
                ((b64("nobody"), b64("x")), 535, "5.7.8"), ((b64(ALICE[0]), b64("x")), 535, "5.7.8"),
                ((b64(ALICE[0]), "*"), 501, "5.7.0"), (("*",), 501, "5.7.0"), (("",), 501, "5.5.2"),
                ((b64("a\0b"),), 501, "5.5.2"), ((b64(ALICE[0]), ""), 501, "5.5.2"),
                ((b64(ALICE[0]), b64("x" * 600)), 501, "5.5.2")):
            with self.subTest(lines=lines), self.clear(self.gateway) as client:
                self.say(client, "AUTH LOGIN", 334)
                for line in lines[:-1]:
                    self.say(client, line, 334)
                self.say(client, lines[-1], code, enhanced)
                self.assertFalse(self.is_in(client))

    def scram(self, client, user, initial=True, **options):
        scram = Scram(*user, **options)
        if initial:
            reply = self.say(client, "AUTH SCRAM-SHA-256 " + b64(scram.first()), 334)
        else:
            self.assertEqual(self.say(client, "AUTH SCRAM-SHA-256", 334).texts, [""])
            reply = self.say(client, b64(scram.first()), 334)
        return scram, client.command(self.last(scram, reply))

    def test_scram(self):
        for initial in (True, False):
            client = self.clear(self.gateway)
            scram, reply = self.scram(client, BOB, initial)
            self.assertEqual(reply.code, 334)
            self.assertTrue(scram.proved(base64.b64decode(reply.text)))
            self.say(client, "", 235, "2.7.0")
        for user in ((BOB[0], "wrong"), ("nobody@example.org", BOB[1]), ALICE):
            client = self.clear(self.gateway)
            _, reply = self.scram(client, user)
            self.assertEqual((reply.code, reply.enhanced), (535, "5.7.8"))

    def test_scram_last(self):
        """What may be said to the server's last message."""
        for line, code, enhanced in (("*", 501, "5.7.0"), ("eA==", 501, "5.5.2"), ("=", 501, "5.5.2")):
            client = self.clear(self.gateway)
            self.scram(client, BOB)
            self.say(client, line, code, enhanced)
            self.assertFalse(self.is_in(client))
            self.log_in(client)

    def test_scram_downgrade(self):
        """"y": I could bind, but you have not offered it. True in clear; in TLS somebody lies."""
        _, reply = self.scram(self.clear(self.gateway), BOB, header=b"y,,")
        self.assertEqual(reply.code, 334)
        client = self.secure(self.gateway)
        client.send(("AUTH SCRAM-SHA-256 " + b64(Scram(*BOB, header=b"y,,").first()) + "\r\n").encode())
        self.assertEqual(client.reply().code, 535)

    def test_long_lines(self):
        long = "A" * (LINE_MAX - 2)
        for sizes in ([1 << 20], [1000], [1, LINE_MAX + 1, 1]):
            for line, code, enhanced in ((long, 501, "5.5.2"), (long + "A", 500, "5.5.6"),
                                         (long * 3, 500, "5.5.6"), ("*" * 40000, 500, "5.5.6")):
                with self.subTest(sizes=sizes, octets=len(line)), self.clear(self.gateway) as client:
                    self.say(client, "AUTH PLAIN", 334)
                    client.send_split(line.encode() + b"\r\n", sizes)
                    reply = client.reply()
                    self.assertEqual((reply.code, reply.enhanced), (code, enhanced))
                    self.say(client, "NOOP", 250)
                    self.log_in(client)
            for line, code, enhanced in (("AUTH PLAIN " + long[11:], 501, "5.5.2"), ("Auth PLAIN " + long, 500, "5.5.6")):
                with self.subTest(sizes=sizes, octets=len(line)), self.clear(self.gateway) as client:
                    client.send_split(line.encode() + b"\r\n", sizes)
                    reply = client.reply()
                    self.assertEqual((reply.code, reply.enhanced), (code, enhanced))
                    self.log_in(client)

    def test_in_pieces(self):
        client = self.clear(self.gateway)
        client.send_split(b"AUTH PLAIN\r\n", [1] * 20, 0.001)
        self.assertEqual(client.reply().code, 334)
        client.send_split(GOOD.encode() + b"\r\n", [1] * 80, 0.001)
        self.assertEqual(client.reply().code, 235)

    def test_bare_newline(self):
        client = self.clear(self.gateway)
        self.say(client, "AUTH PLAIN", 334)
        client.send(GOOD.encode() + b"\n")
        self.assertEqual(client.reply().code, 500)
        client.send(b"x\r\n")
        self.say(client, "NOOP", 250)
        self.assertFalse(self.is_in(client))
        self.log_in(client)

    def test_pipelined(self):
        """Nothing may stand behind AUTH, or behind a response, before the reply."""
        for lines in (("AUTH PLAIN " + GOOD, "MAIL FROM:<alice@example.org>"), ("AUTH LOGIN", b64(ALICE[0])),
                      ("AUTH PLAIN", GOOD)):
            client = self.clear(self.gateway)
            client.send("".join(line + "\r\n" for line in lines).encode())
            self.assertEqual(client.reply().code, 554)
            self.assertTrue(client.closed())
        client = self.clear(self.gateway)
        self.say(client, "AUTH LOGIN", 334)
        client.send(f"{b64(ALICE[0])}\r\n{b64(ALICE[1])}\r\n".encode())
        self.assertEqual(client.reply().code, 554)
        self.assertTrue(client.closed())

    def test_too_many(self):
        """Failures count as bad commands (limits.bad_commands, 20)."""
        client = self.clear(self.gateway)
        codes = []
        while not codes or codes[-1] == 535:
            codes.append(client.command("AUTH PLAIN " + plain("nobody", "x")).code)
        self.assertEqual(codes[-1], 421)
        self.assertTrue(client.closed())
        self.assertEqual(len(codes), 21)

    def test_keeps(self):
        client = self.log_in(self.clear(self.gateway))
        for line in ("RSET", "EHLO other", "HELO other", "NOOP", "EHLO third"):
            self.say(client, line, 250)
        self.assertTrue(self.is_in(client))

    def test_secured_forgets(self):
        """A login in clear says nothing of who shakes hands after it."""
        with self.submission(listeners={"clear": {"role": "submission", "auth": "plaintext", "tls": "starttls"}}) as gateway:
            client = SecureClient(gateway.at["clear"])
            self.addCleanup(client.close)
            Client.hello(client)
            self.log_in(client)
            client.starttls()
            self.say(client, "EHLO me", 250)
            self.say(client, "MAIL FROM:<alice@example.org>", 530, "5.7.0")
            self.log_in(client)
            self.assertTrue(self.is_in(client))

    def test_clear_only_at_home(self):
        """auth = plaintext: for clients and addresses of this machine, whoever a balancer says it speaks for."""
        with self.submission(listeners={"clear": {"role": "submission", "auth": "plaintext", "xclient": '{"127.0.0.1"}'},
                                   "proxied": {"role": "submission", "auth": "plaintext", "proxy": '{"127.0.0.1"}'},
                                   "closed": {"role": "submission"}}) as gateway:
            client = self.log_in(self.clear(gateway))
            self.say(client, "XCLIENT ADDR=192.0.2.1", 220)
            self.assertNotIn(OFFERED, self.say(client, "EHLO me", 250).texts)
            self.say(client, "MAIL FROM:<alice@example.org>", 530)
            self.say(client, "AUTH PLAIN " + GOOD, 538, "5.7.11")
            self.say(client, "XCLIENT ADDR=127.0.0.2", 220)
            self.assertIn(OFFERED, self.say(client, "EHLO me", 250).texts)
            self.log_in(client)
            for source, code in (("192.0.2.1", 538), ("127.0.0.9", 235)):
                with Client(gateway.at["proxied"]) as client:
                    client.send(f"PROXY TCP4 {source} 127.0.0.1 1000 25\r\n".encode())
                    client.hello()
                    self.say(client, "AUTH PLAIN " + GOOD, code)
            with Client(gateway.at["closed"]) as client:
                client.hello()
                self.say(client, "AUTH PLAIN " + GOOD, 538, "5.7.11")

    def test_received(self):
        client = self.log_in(self.secure(self.gateway))
        client.transfer(b"From: alice@example.org\r\nSubject: x\r\n\r\nx\r\n", "alice@example.org", ["received@example.org"])
        text, = self.gateway.wait_messages("received", 1)
        self.assertIn(b"with ESMTPSA id ", text)
        self.assertNotIn(b"Authentication-Results:", text)
        client = self.log_in(self.clear(self.gateway))
        client.transfer(b"From: alice@example.org\r\nSubject: x\r\n\r\nx\r\n", "alice@example.org", ["clear@example.org"])
        self.assertIn(b"with ESMTPA id ", self.gateway.wait_messages("clear", 1)[0])

        def told():
            return [line.get("user") for line in self.gateway.events("message")
                    if line["to"] in ("received@example.org", "clear@example.org")]

        wait_until(lambda: len(told()) == 2, "two messages in the log")
        self.assertEqual(told(), [ALICE[0]] * 2)

    def test_log_and_metrics(self):
        before = {result: self.counted(self.gateway, mechanism="PLAIN", result=result)
                  for result in ("passed", "refused", "malformed", "cancelled")}
        client = self.clear(self.gateway, source="127.0.0.77")
        for line in (plain("nobody", "secret1"), plain(ALICE[0], "secret2"), "x", "*", GOOD):
            self.say(client, "AUTH PLAIN", 334)
            client.command(line)

        def told():
            return [(line["event"], line.get("user"), line["mechanism"], line.get("reason"))
                    for line in self.gateway.events("login", "login_failed") if line["client"] == "127.0.0.77"]

        wait_until(lambda: len(told()) == 5, "five lines")
        self.assertEqual(told(), [("login_failed", "nobody@example.org", "PLAIN", "refused"),
                                  ("login_failed", ALICE[0], "PLAIN", "refused"),
                                  ("login_failed", None, "PLAIN", "malformed"),
                                  ("login_failed", None, "PLAIN", "cancelled"), ("login", ALICE[0], "PLAIN", None)])
        for result, more in (("passed", 1), ("refused", 2), ("malformed", 1), ("cancelled", 1)):
            self.assertEqual(self.counted(self.gateway, mechanism="PLAIN", result=result), before[result] + more)
        self.assertNotIn("secret", self.gateway.log_text())


class Life(Case):
    def reasons(self, gateway, count):
        wait_until(lambda: len(gateway.events("login_failed")) >= count, f"{count} failures")
        return sorted(line["reason"] for line in gateway.events("login_failed"))

    def test_results(self):
        with self.submission({"submission.results": "true"}) as gateway:
            client = self.log_in(self.secure(gateway))
            forged = b"Authentication-Results: mx.example.org; auth=pass smtp.auth=root\r\n"
            client.transfer(forged + b"From: alice@example.org\r\n\r\nx\r\n", "alice@example.org", ["bob@example.org"])
            text, = gateway.wait_messages("bob", 1)
            fields = re.findall(rb"^Authentication-Results: .*\r?\n(?:[ \t].*\r?\n)*", text, re.M)
            self.assertEqual([re.sub(rb"\s+", b" ", field) for field in fields],
                             [b"Authentication-Results: mx.example.org; auth=pass (PLAIN) smtp.auth=alice@example.org "])

    def test_behind_a_refusal(self):
        """What comes while a refusal is held back is read when it has been said."""
        with self.submission({"auth.delay_ms": "600"}) as gateway:
            client = self.clear(gateway)
            client.send(f"AUTH PLAIN {plain('nobody', 'x')}\r\n".encode())
            time.sleep(0.2)
            client.send(b"NOOP\r\n")
            self.assertEqual([client.reply().code, client.reply().code], [535, 250])

    def test_delay(self):
        """A refusal takes its time, the same for all; who is right does not wait."""
        with self.submission({"auth.delay_ms": "3000"}) as gateway:
            clients = [self.clear(gateway) for _ in range(4)]
            begun = time.monotonic()
            for client, user in zip(clients, (("nobody", "x"), (ALICE[0], "x"), (BOB[0], "x"))):
                client.send(f"AUTH PLAIN {plain(*user)}\r\n".encode())
            self.log_in(clients[3])
            self.assertLess(time.monotonic() - begun, 20 if SLOW else 2.5)
            for client in clients[:3]:
                client.expect(535)
                self.assertGreaterEqual(time.monotonic() - begun, 2.99)

    def test_limits(self):
        """Failures of an address are limited, whatever the mechanism; others, and cancelled attempts, are not."""
        with self.submission({"auth.failures_per_ip": "4", "auth.delay_ms": "0"}) as gateway:
            client = self.clear(gateway, source="127.0.0.5")
            for _ in range(6):
                self.say(client, "AUTH LOGIN", 334)
                self.say(client, "*", 501)
            self.say(client, "AUTH PLAIN " + plain("a", "x"), 535)
            self.say(client, "AUTH LOGIN " + b64("b"), 334)
            self.say(client, b64("x"), 535)
            for user in ("nobody", BOB[0]):
                scram = Scram(user, "x")
                reply = self.say(client, "AUTH SCRAM-SHA-256 " + b64(scram.first()), 334)
                self.say(client, self.last(scram, reply), 535)
            self.say(client, "AUTH PLAIN " + GOOD, 454, "4.7.0")
            self.say(client, "AUTH LOGIN", 334)
            self.say(client, b64(ALICE[0]), 454, "4.7.0")  # with the name, before the password
            self.log_in(self.clear(gateway, source="127.0.0.6"))
            self.assertEqual(self.reasons(gateway, 12), ["address_limit"] * 2 + ["cancelled"] * 6 + ["refused"] * 4)

    def test_user_limit(self):
        with self.submission({"auth.failures_per_user": "3", "auth.delay_ms": "0"}) as gateway:
            self.log_in(self.clear(gateway, source="127.0.1.1"))
            names = ["alice", "ALICE@example.org", "alice@example.org"]
            for number, name in enumerate(names):
                client = self.clear(gateway, source=f"127.0.{number + 2}.1")
                self.say(client, "AUTH PLAIN " + plain(name, "x"), 535)
            client = self.clear(gateway, source="127.0.9.1")
            self.say(client, "AUTH PLAIN " + GOOD, 454, "4.7.0")
            self.say(client, "AUTH LOGIN " + b64("alice"), 454, "4.7.0")
            self.log_in(client, BOB)
            self.log_in(self.clear(gateway, source="127.0.1.2"))  # where he is known
            self.assertEqual(self.reasons(gateway, 5), ["refused"] * 3 + ["user_limit"] * 2)

    def test_crowd(self):
        """A hundred at once: right ones get in, wrong ones do not, nobody hangs."""
        users = {ALICE[0]: sha512(ALICE[1], 5000), BOB[0]: scram_sha256(BOB[1])}
        with self.submission({"auth.failures_per_ip": "0", "auth.failures_per_network": "0", "auth.failures_per_user": "0"},
                        users=users) as gateway:
            def one(number):
                good = number % 4 != 0
                with self.clear(gateway) as client:
                    return good, client.command("AUTH PLAIN " + plain(ALICE[0], ALICE[1] if good else "x")).code

            with concurrent.futures.ThreadPoolExecutor(50) as pool:
                answers = list(pool.map(one, range(100)))
            for good, code in answers:
                self.assertIn(code, (235, 454) if good else (535, 454))
            self.assertIn((True, 235), answers)
            self.assertIn((False, 535), answers)

    def test_gone(self):
        """Clients that leave while a password is looked at."""
        users = {ALICE[0]: sha512(ALICE[1], 10000)}
        with self.submission({"auth.delay_ms": "2000", "auth.failures_per_ip": "0"}, users=users) as gateway:
            for number in range(20):
                client = self.clear(gateway)
                client.send(f"AUTH PLAIN {plain(ALICE[0], 'x' * number + 'y')}\r\n".encode())
                if number % 2:
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
            self.log_in(self.clear(gateway))

    def test_many_at_once(self):
        """Who is right is never refused because others, or he himself, log in at the same moment."""
        users = {f"u{number}@example.org": sha512("geheim", 20000) for number in range(30)}
        limits = {"auth.failures_per_ip": "5", "auth.failures_per_user": "5", "auth.delay_ms": "0"}
        with self.submission(limits, users=users) as gateway:
            silent = [self.clear(gateway) for _ in range(10)]
            for client in silent:
                self.say(client, "AUTH PLAIN", 334)
            for name in ("u%d", "u0"):
                clients = [self.clear(gateway, timeout_s=40) for _ in range(30)]
                for number, client in enumerate(clients):
                    user = name % number if "%" in name else name
                    client.send(f"AUTH PLAIN {plain(user, 'geheim')}\r\n".encode())
                self.assertEqual([client.reply().code for client in clients], [235] * 30)
                for client in clients:
                    client.close()

    def test_many_guesses_at_once(self):
        """But of wrong ones no more are looked at than one after the other; then the right one is none either."""
        users = {ALICE[0]: sha512(ALICE[1], 20000)}
        with self.submission({"auth.failures_per_ip": "5", "auth.delay_ms": "0"}, users=users) as gateway:
            clients = [self.clear(gateway, timeout_s=40) for _ in range(30)]
            for number, client in enumerate(clients):
                client.send(f"AUTH PLAIN {plain('alice', f'x{number}')}\r\n".encode())
            codes = [client.reply().code for client in clients]
            self.assertEqual((codes.count(535), codes.count(454)), (5, 25))
            self.say(clients[0], "AUTH PLAIN " + GOOD, 454)

    def test_gone_in_line(self):
        """Clients that have left, in clear or with the farewell of TLS, wait for no hash."""
        users = {ALICE[0]: sha512(ALICE[1], 400000)}
        off = {f"auth.failures_per_{who}": "0" for who in ("ip", "network", "user")}
        with self.submission({**off, "auth.helpers": "1", "auth.delay_ms": "0"}, users=users) as gateway:
            begun = time.monotonic()
            client = self.clear(gateway, timeout_s=60)
            self.say(client, "AUTH PLAIN " + plain("alice", "x"), 535)
            one_s = time.monotonic() - begun
            for number in range(24):
                gone = self.secure(gateway) if number % 2 else self.clear(gateway)
                gone.send(f"AUTH PLAIN {plain('alice', f'x{number}')}\r\n".encode())
                gone.close()
            begun = time.monotonic()
            self.log_in(client)
            self.assertLess(time.monotonic() - begun, 8 * one_s + 1)

    def test_right_before_the_end(self):
        """Whose proof was right is no guesser, whether or not he has the patience for the empty line."""
        with self.submission({"auth.failures_per_ip": "2", "auth.delay_ms": "0"}) as gateway:
            for _ in range(4):
                client, scram = self.clear(gateway), Scram(*BOB)
                reply = self.say(client, "AUTH SCRAM-SHA-256 " + b64(scram.first()), 334)
                self.say(client, self.last(scram, reply), 334)
                client.close()
            self.reasons(gateway, 4)
            self.log_in(self.clear(gateway), BOB)

    def test_drain(self):
        """The end of the server: a challenge is dropped, a refusal said at once, who is in ends his message."""
        with self.submission({"auth.delay_ms": "30000"}) as gateway:
            held, asked, inside = (self.clear(gateway) for _ in range(3))
            time.sleep(2.1)  # they are no longer young (docs/operations.md)
            self.log_in(inside)
            self.say(inside, "MAIL FROM:<alice@example.org>", 250)
            self.say(asked, "AUTH LOGIN", 334)
            held.send(f"AUTH PLAIN {plain('nobody', 'x')}\r\n".encode())
            wait_until(lambda: gateway.events("login_failed"), "the refusal, which is held back")
            gateway.signal(signal.SIGTERM)
            self.assertEqual(asked.reply().code, 421)
            self.assertEqual([held.reply().code, held.reply().code], [535, 421])
            self.say(inside, "RCPT TO:<bob@example.org>", 250)
            self.say(inside, "DATA", 354)
            self.say(inside, "From: alice@example.org\r\n\r\nx\r\n.", 250)
            self.assertEqual(inside.reply().code, 421)

    def test_reload(self):
        """A reload brings users and takes them; who is in stays in. One that takes all away: 454."""
        with self.submission() as gateway:
            client = self.log_in(self.clear(gateway))
            begun, waiting = self.clear(gateway), self.clear(gateway)
            self.say(begun, "AUTH LOGIN " + b64("carol"), 334)
            with open(gateway.users, "w", encoding="ascii") as file:
                file.write("carol@example.org:" + sha512("neu") + "\n")
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "reload")
            self.say(begun, b64("neu"), 235)
            self.say(waiting, "AUTH PLAIN " + GOOD, 535)
            self.say(waiting, "AUTH PLAIN " + plain("carol", "neu"), 235)
            self.assertTrue(self.is_in(client))

    def test_reload_without(self):
        """A reload that takes logins away, between AUTH and its response: 454, and mail goes on to come in."""
        with self.submission() as gateway:
            inside = self.log_in(self.clear(gateway))
            plains, logins, named, scrams = (self.clear(gateway) for _ in range(4))
            self.say(plains, "AUTH PLAIN", 334)
            self.say(logins, "AUTH LOGIN", 334)
            self.say(named, "AUTH LOGIN " + b64(ALICE[0]), 334)
            scram = Scram(*BOB)
            proof = self.last(scram, self.say(scrams, "AUTH SCRAM-SHA-256 " + b64(scram.first()), 334))
            without = gateway.variant()
            without.settings = {name: value for name, value in gateway.settings.items() if not name.startswith("auth.")}
            without.listeners = {name: {word: value for word, value in words.items() if word not in ("role", "auth")}
                                 for name, words in gateway.listeners.items()}
            without.write_configuration()
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "reload")
            self.say(plains, GOOD, 454, "4.7.0")
            self.say(logins, b64("alice"), 334)
            for client, line in ((logins, b64(ALICE[1])), (named, b64(ALICE[1])), (scrams, proof)):
                self.say(client, line, 454, "4.7.0")
            for client in (plains, inside):
                client.command("MAIL FROM:<alice@example.org>")
                self.say(client, "NOOP", 250)
            self.clear(gateway)

    def test_traced(self):
        """A watcher sees the dialogue, and of what may be a secret how long it is."""
        def probe():
            with Client(gateway.at["clear"], source="127.0.0.1") as client:
                client.expect(220)

        with tempfile.TemporaryDirectory(dir=os.environ.get("RINGMX_TMP")) as folder:
            path = os.path.join(folder, "control")
            with self.submission({"admin.control": quote(path), "workers": "1"}) as gateway, \
                    Watcher(path, ip="127.0.0.1") as watcher:
                watcher.wait("a client", lambda self: probe() or self.events("connect"))
                client = self.clear(gateway, source="127.0.0.1")
                self.say(client, "AUTH LOGIN " + b64("bob"), 334)
                self.say(client, b64("Zwiebelturm"), 535)
                self.say(client, b64("Zwiebelturm"), 500)
                self.say(client, "AUTH PLAIN " + plain("alice", "Zwiebelturm"), 535)
                reply = self.say(client, "AUTH SCRAM-SHA-256 " + b64(Scram(*BOB).first()), 334)
                self.say(client, "*", 501)
                self.log_in(client)
                self.say(client, "VRFY shown", 252)
                self.say(client, "QUIT", 221)
                watcher.wait("the end", lambda self: any(text.startswith("221") for text in self.texts("reply")))
                self.assertNotIn(b64("Zwiebelturm").encode()[:12], watcher.raw)
                self.assertNotIn(b"Zwiebelturm", watcher.raw)
                self.assertNotIn(reply.text.encode(), watcher.raw)
                self.assertEqual([row["octets"] for row in watcher.events("response")], [len(b64("Zwiebelturm")), 1])
                self.assertEqual(watcher.texts("reply").count("334"), 2)
                self.assertIn("VRFY shown", watcher.texts("command"))
                self.assertIn("235 2.7.0 Authentication successful", watcher.texts("reply"))


if __name__ == "__main__":
    unittest.main()
