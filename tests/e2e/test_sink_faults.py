"""ringmx-sink: what it does wrong when it is told to (refuse, tempfail, drop, delay at a rate), its start and its end."""
import math
import os
import random
import signal
import smtplib
import subprocess
import time
import unittest

from harness import BINARY, SLOW, message, seed, stuff, wait_until
from sink import PROGRAM, Sink

LOAD = os.path.join(os.path.dirname(BINARY), "ringmx-load")
PHASES = {  # phase: the codes of --refuse and --tempfail
    "connect": (554, 421), "ehlo": (550, 451), "mail": (550, 451), "rcpt": (550, 450),
    "data": (554, 451), "dot": (554, 451), "quit": (554, 421),
}


def converse(client, stop_at=None, lmtp=False):
    """Plays one message in lock-step; returns {phase: code}, and stops when a reply is none of 2xx and 3xx or when
    the phase `stop_at` is over. A connection that ends without a reply is code 0."""
    codes = {}
    text = stuff(message()) + b".\r\n"
    steps = [("connect", None), ("ehlo", b"LHLO x\r\n" if lmtp else b"EHLO x\r\n"),
             ("mail", b"MAIL FROM:<a@client.example>\r\n"), ("rcpt", b"RCPT TO:<b@example.org>\r\n"),
             ("data", b"DATA\r\n"), ("dot", text), ("quit", b"QUIT\r\n")]
    for phase, data in steps:
        try:
            if data:
                client.send(data)
            codes[phase] = client.reply().code
        except (EOFError, ConnectionError):
            codes[phase] = 0
        if codes[phase] // 100 not in (2, 3) or phase == stop_at:
            break
    return codes


class Faults(unittest.TestCase):
    def test_refuse_and_tempfail(self):
        for phase, codes in PHASES.items():
            for option, code in zip(("refuse", "tempfail"), codes):
                with self.subTest(phase=phase, option=option), Sink(f"--{option}", phase) as sink:
                    with sink.client() as client:
                        got = converse(client)
                        self.assertEqual(list(got.items())[-1], (phase, code))
                        if phase in ("mail", "rcpt", "data", "dot"):  # it goes on
                            client.expect(250, "RSET")
                            client.expect(250, "NOOP")
                        if phase == "quit" or code == 421:
                            self.assertTrue(client.closed())
                    self.assertEqual(len(sink.messages()), int(phase == "quit"))
                    self.assertEqual(sink.stop()[f"{option}{'d' if option == 'refuse' else 'ed'}_{phase}"], 1)

    def test_refused_at_connect(self):
        with Sink("--refuse", "connect") as sink, sink.client() as client:
            client.expect(554)
            client.expect(503, "EHLO x")
            client.expect(503, "MAIL FROM:<a@b.example>")
            client.expect(221, "QUIT")
            self.assertTrue(client.closed())

    def test_drop(self):
        for phase in PHASES:
            with self.subTest(phase=phase), Sink("--drop", phase) as sink:
                with sink.client() as client:
                    got = converse(client)
                    self.assertEqual(list(got.items())[-1], (phase, 0))
                    self.assertTrue(client.closed())
                self.assertEqual(len(sink.messages()), int(phase == "quit"))
                self.assertEqual(sink.stop()[f"dropped_{phase}"], 1)

    def test_delay(self):
        for phase in PHASES:
            with self.subTest(phase=phase), Sink("--delay", f"{phase}=120ms") as sink:
                with sink.client() as client:
                    start = time.monotonic()
                    got = converse(client)
                    took = time.monotonic() - start
                self.assertEqual(list(got.values()), [220, 250, 250, 250, 354, 250, 221])
                self.assertGreaterEqual(took, 0.12)
                self.assertLess(took, 5)
                self.assertEqual(sink.stop()[f"delayed_{phase}"], 1)

    def test_delay_is_for_one(self):
        """A delayed connection does not hold up others, and a hundred wait at the same time."""
        with Sink("--delay", "dot=3s") as sink:
            clients = [sink.client() for _ in range(100)]
            for client in clients:
                client.hello()
                client.envelope("a@b.example", "c@d.example")
                client.expect(354, "DATA")
            start = time.monotonic()
            for client in clients:
                client.send(b"A: b\r\n\r\n.\r\nNOOP\r\n")
            with sink.client() as other:
                other.hello()
            self.assertLess(time.monotonic() - start, 3)
            for client in clients:
                client.expect(250)
                self.assertGreaterEqual(time.monotonic() - start, 3)
                client.expect(250)
                client.close()
            self.assertLess(time.monotonic() - start, 10 if SLOW else 8)
            self.assertEqual(sink.stop()["delayed_dot"], 100)

    def test_gone_while_delayed(self):
        """Clients that reset the connection, or say farewell, while a reply waits."""
        with Sink("--delay", "dot=300ms", "--delay", "mail=200ms") as sink:
            for reset in (False, True):
                for stop_at in (b"", b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
                                     b"BDAT 3 LAST\r\nabcNOOP\r\n"):
                    client = sink.client()
                    client.hello()
                    client.send(stop_at or b"MAIL FROM:<a@b.example>\r\n")
                    time.sleep(0.25 if stop_at else 0.05)
                    if reset:
                        client.socket.setsockopt(1, 13, bytes((1, 0, 0, 0, 0, 0, 0, 0)))  # SO_LINGER: none
                    client.close()
            time.sleep(0.4)
            with sink.client() as client:
                client.hello()

    def test_delay_and_refuse(self):
        with Sink("--delay", "rcpt=100ms", "--refuse", "rcpt=50%") as sink, sink.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@b.example>")
            start = time.monotonic()
            client.send(b"".join(b"RCPT TO:<u%d@d.example>\r\n" % i for i in range(10)))
            codes = [client.reply().code for _ in range(10)]
            self.assertGreaterEqual(time.monotonic() - start, 1.0)
            self.assertEqual(set(codes), {250, 550})
            client.expect(354, "DATA")
            client.send(b".\r\n")
            client.expect(250)
            kept = [f"<u{i}@d.example>" for i, code in enumerate(codes) if code == 250]
            self.assertEqual(sink.messages()[0]["to"], kept)

    def rcpt_codes(self, count, *options):
        with Sink(*options) as sink, sink.client() as client:
            client.hello()
            codes = []
            for base in range(0, count, 100):
                client.expect(250, "MAIL FROM:<a@b.example>")
                client.send(b"".join(b"RCPT TO:<u%d@d.example>\r\n" % (base + i) for i in range(100)))
                codes += [client.reply().code for _ in range(100)]
                client.expect(250, "RSET")
            client.close()
            return codes, sink.stop()

    def test_rates(self):
        """As many as the rate says, within five standard deviations, whatever the seed is."""
        choice = random.Random(seed())
        count = 3000 if SLOW else 20000
        for percent in (50, 10, 0.5):
            options = ("--refuse", f"rcpt={percent}%", "--tempfail", "rcpt=20%",
                       "--seed", str(choice.randrange(1 << 63)))
            codes, totals = self.rcpt_codes(count, *options)
            for code, share, key in ((550, percent / 100, "refused_rcpt"), (450, 0.2, "tempfailed_rcpt")):
                found = codes.count(code)
                self.assertEqual(found, totals.get(key, 0))
                self.assertLess(abs(found - share * count), 5 * math.sqrt(count * share * (1 - share)) + 1, options)

    def test_seed(self):
        rates = ("--refuse", "rcpt=0.3", "--seed")
        first, again, other = (self.rcpt_codes(500, *rates, number)[0] for number in ("77", "77", "78"))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_seed_with_threads(self):
        """With the same number of messages the same number is refused, however they are spread."""
        found = set()
        for threads, connections in (("1", "1"), ("2", "20")):
            with Sink("--threads", threads, "--refuse", "dot=10%", "--seed", "5") as sink:
                subprocess.run([LOAD, "--port", str(sink.address[1]), "--connections", connections, "--messages",
                                "400"], check=False, timeout=60, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
                totals = sink.stop()
                refused, accepted = totals["refused_dot"], totals["messages"]
                found.add((refused, accepted))
        self.assertEqual(len(found), 1, found)


class Noise(unittest.TestCase):
    """Conversations that are cut, doubled and spoilt at random: the sink stays up and its account whole."""

    LINES = (b"EHLO x", b"LHLO x", b"MAIL FROM:<a@b.example>", b"MAIL FROM:<> SIZE=99999999999999999999",
             b"RCPT TO:<c@d.example>", b"RCPT TO:<" + b"c" * 70 + b"@d.example>", b"DATA", b"X-Load-Id: \xff 1",
             b"X-Load-Sum: zz", b"", b".", b"..", b"BDAT 5", b"BDAT 0", b"BDAT 9 LAST", b"BDAT 99999999999999999999",
             b"RSET", b"NOOP", b"STARTTLS", b"QUIT", b"text \x00\x80")

    def spoilt(self, choice):
        data = bytearray(b"".join(choice.choice(self.LINES) + choice.choice((b"\r\n",) * 9 + (b"\n", b"\r", b""))
                                  for _ in range(choice.randrange(40))))
        for _ in range(choice.randrange(3)):
            if data:
                data[choice.randrange(len(data))] = choice.randrange(256)
        return bytes(data)

    def test_noise(self):
        choice = random.Random(seed())
        proper = (b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n", b"DATA\r\n", b"A: b\r\n\r\nc\r\n.\r\n")
        for options in ((), ("--lmtp",), ("--size", "20", "--delay", "rcpt=5%:5ms", "--drop", "data=20%")):
            with Sink("--threads", "2", *options) as sink:
                for _ in range(300 if SLOW else 1000):
                    with sink.client(timeout_s=0.03) as client:  # it need not answer
                        parts = [b"LHLO x\r\n" if "--lmtp" in options else b"EHLO x\r\n", *proper]
                        parts.insert(choice.randrange(5), self.spoilt(choice))
                        try:
                            for part in parts:
                                client.send_split(part, [choice.randrange(1, 200) for _ in range(9)])
                                if choice.random() < 0.7:
                                    client.reply()
                        except (EOFError, OSError):
                            pass
                totals = sink.stop()
                self.assertEqual(totals["messages"], len(sink.messages()))
                self.assertGreater(totals["messages"], 10)


class Life(unittest.TestCase):
    def test_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            sink = Sink(addresses=("127.0.0.1:0", "127.0.0.1:0")).start()
            self.addCleanup(sink.close)
            self.assertEqual(len(set(sink.listening)), 2)
            with sink.client() as idle, sink.client() as busy:
                idle.hello()
                busy.hello()
                busy.envelope("a@b.example", "c@d.example")
                busy.expect(354, "DATA")
                busy.send(b"A: b\r\n")
                sink.process.send_signal(number)
                idle.expect(421)
                self.assertTrue(idle.closed())
                busy.send(b"\r\n.\r\n")  # what is in flight is taken
                busy.expect(250)
                busy.expect(421)
                wait_until(lambda: sink.process.poll() is not None, "the end")
            self.assertEqual(sink.stop()["messages"], 1)
            self.assertEqual(len(sink.messages()), 1)

    def test_in_flight_for_ever(self):
        """One that never ends its message does not keep the sink from ending."""
        with Sink() as sink, sink.client() as client:
            client.hello()
            client.envelope("a@b.example", "c@d.example")
            client.expect(354, "DATA")
            self.assertEqual(sink.stop()["messages"], 0)

    def test_ipv6(self):
        try:
            with Sink(addresses=("[::1]:0",)) as sink, smtplib.SMTP(*sink.address, timeout=30) as client:
                client.sendmail("a@b.example", ["c@d.example"], message())
        except AssertionError as error:
            if "Cannot assign" not in str(error):
                raise
            self.skipTest("skipped: no IPv6 on this machine")

    def test_too_many_connections(self):
        with Sink("--connections", "3") as sink:
            clients = [sink.client() for _ in range(3)]
            for client in clients:
                client.hello()
            with sink.client() as client:
                client.expect(421)
            for client in clients:
                client.close()

    def test_arguments(self):
        for arguments, word in (
                (["--listen", "nowhere"], "--listen"), (["--refuse", "lunch=1%"], "--refuse"),
                (["--refuse", "rcpt=60%", "--drop", "rcpt=50%"], "--drop"), (["--drop", "rcpt=1x"], "--drop"),
                (["--delay", "dot"], "--delay"), (["--delay", "dot=5"], "--delay"), (["--tls", "maybe"], "--tls"),
                (["--tls", "starttls"], "--certificate"), (["--self-signed"], "certificate"),
                (["--without", "LUCK"], "--without"), (["--threads", "0"], "--threads"), (["word"], "word"),
                (["--announce", "X" * 900], "EHLO")):
            with self.subTest(arguments=arguments):
                done = subprocess.run([PROGRAM, *arguments], capture_output=True, timeout=30, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertIn(word.encode(), done.stderr)
        for argument in ("--help", "--version"):
            done = subprocess.run([PROGRAM, argument], capture_output=True, timeout=30, check=True)
            self.assertIn(b"ringmx-sink", done.stdout)

    def test_address_in_use(self):
        with Sink() as sink:
            done = subprocess.run([PROGRAM, "--listen", "192.0.2.1:25"], capture_output=True, timeout=30, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"192.0.2.1:25", done.stderr)
            self.assertIsNone(sink.process.poll())


if __name__ == "__main__":
    unittest.main()
