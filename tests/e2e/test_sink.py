"""ringmx-sink: the conversation, in SMTP and LMTP, and the account that it keeps. What it does wrong when it is told to
is in test_sink_faults, TLS in test_sink_tls."""
import email.message
import os
import shutil
import smtplib
import subprocess
import unittest
import zlib

import loader
from harness import SLOW, message, stuff
from loader import Acked
from sink import Sink, expect_many_replies

CRLF = b"\r\n"
SMTP_SOURCE = shutil.which("smtp-source") or "/usr/sbin/smtp-source"
def sum_of(text):
    """The sum that the log has of a message: CRC-32 of the body."""
    return f"{zlib.crc32(text.partition(CRLF + CRLF)[2]):08x}"


class Conversation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sink = Sink("--threads", "2").start()
        cls.addClassCleanup(cls.sink.close)

    @classmethod
    def tearDownClass(cls):
        cls.sink.stop()

    def setUp(self):
        self.before = len(self.sink.messages())

    def arrived(self, count=1):
        found = self.sink.messages()[self.before:]
        self.assertEqual(len(found), count)
        return found

    def check(self, line, text):
        self.assertEqual((line["sum"], int(line["size"])), (sum_of(text), len(text)))

    def test_smtplib(self):
        texts = [message(f"m{number}", "line\r\n.dot\r\n..\r\n" * number) for number in range(20)]
        with smtplib.SMTP(*self.sink.address, timeout=30) as client:
            for text in texts:
                client.sendmail("me@client.example", ["one@example.org", "two@example.org"], text)
            self.assertEqual(client.verify("x")[0], 252)
            self.assertEqual(client.noop()[0], 250)
            self.assertEqual(client.rset()[0], 250)
        for line, text in zip(self.arrived(20), texts):
            self.check(line, text)
            self.assertEqual((line["event"], line["from"]),
                             ("message", f"<me@client.example> size={len(text)}"))
            self.assertEqual(line["to"], ["<one@example.org>", "<two@example.org>"])
            self.assertNotIn("load_id", line)
            self.assertNotIn("tls", line)

    def test_numbers(self):
        """The number in the reply is that of the line, and no two are the same."""
        replies = set()
        for _ in range(3):
            with self.sink.client() as client:
                client.hello()
                for _ in range(3):
                    reply = client.transfer(message())
                    self.assertRegex(reply.texts[0], r"^2\.0\.0 Ok \d+$")
                    replies.add(reply.texts[0].split()[-1])
        lines = self.arrived(9)
        self.assertEqual({line["number"] for line in lines}, replies)
        self.assertEqual(len(replies), 9)
        self.assertEqual(len({line["session"] for line in lines}), 3)

    def test_large(self):
        text = message("large", "0123456789abcdef\r\n.dots\r\n..\r\n" * 200000)
        with smtplib.SMTP(*self.sink.address, timeout=60) as client:
            client.sendmail("me@client.example", ["one@example.org"], text)
        self.check(self.arrived()[0], text)

    def test_8bit_and_utf8(self):
        mail = email.message.EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "jürgen@client.example", "émile@example.org", "Grüße"
        mail.set_content("καλημέρα\n")
        with smtplib.SMTP(*self.sink.address, timeout=30) as client:
            client.send_message(mail)
            client.sendmail("", ["one@example.org"], b"A: b\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n", ["BODY=8BITMIME"])
        first, second = self.arrived(2)
        self.assertRegex(first["from"], "^<jürgen@client.example>.*SMTPUTF8")
        self.assertEqual(first["to"], ["<émile@example.org>"])
        self.assertEqual((first["8bit"], second["8bit"]), ("true", "true"))
        self.assertRegex(second["from"], "^<> .*BODY=8BITMIME")

    def test_parameters(self):
        with self.sink.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@b.example> RET=HDRS ENVID=x+3Dy SIZE=10")
            client.expect(250, "RCPT TO:<@old.example:c@d.example> NOTIFY=NEVER")
            client.expect(250, "RCPT TO:<\"q \\\"q\"@d.example>")
            client.expect(555, "RCPT TO:<e@d.example> COLOUR=RED")
            client.expect(354, "DATA")
            client.send(b".\r\n")
            client.expect(250)
        line, = self.arrived()
        self.assertEqual(line["from"], "<a@b.example> RET=HDRS ENVID=x+3Dy SIZE=10")
        self.assertEqual(line["to"], ["<c@d.example> NOTIFY=NEVER", "<\"q \\\"q\"@d.example>"])
        self.assertEqual((line["size"], line["sum"]), ("0", "00000000"))

    def test_cut_anywhere(self):
        """Every segment border, and octet by octet: the same sum, size and fields."""
        text = (b"Subject: x\r\nX-Load-Sum: 12ab34cd\r\nx-load-id:\t77-5\r\nLong: " + b"y" * 200 +
                b"\r\n\r\n.\r\n..two\r\n\r\nbody\r\n")
        wire = stuff(text) + b".\r\n"
        cuts = list(range(1, len(wire), 7 if SLOW else 1))
        with self.sink.client() as client:
            client.hello()
            for cut in cuts:
                client.envelope("a@b.example", "c@d.example")
                client.expect(354, "DATA")
                client.send_split(wire, [cut], pause_s=0.001)
                client.expect(250)
            client.envelope("a@b.example", "c@d.example")
            client.expect(354, "DATA")
            client.send_split(wire, [1] * len(wire))
            client.expect(250)
        for line in self.arrived(len(cuts) + 1):
            self.check(line, text)
            self.assertEqual((line["load_id"], line["load_sum"]), ("77-5", "12ab34cd"))

    def test_only_the_dot_ends(self):
        look_alikes = (b"a\n.\r\nb\r\n.\nc\r.\r\nd\r\n.\r" + b"e\r\n..\r\nf\r\n")
        with self.sink.client() as client:
            client.hello()
            client.envelope("a@b.example", "c@d.example")
            client.expect(354, "DATA")
            client.send(b"H: x\r\n\r\n" + look_alikes)
            self.assertTrue(client.silent(0.2))
            client.send(b".\r\n")
            client.expect(250)
        line, = self.arrived()
        self.assertEqual((line["bare_lf"], line["bare_cr"]), ("true", "true"))

    def test_only_crlf_ends_a_header_line(self):
        """A bare LF or CR begins no field and no body, wherever the text is cut."""
        text = (b"A: b\nX-Load-Id: no\n\nX-Load-Sum: no\r\rC: d\r\nX-Load-Sum : no\r\nX-Load-Id: yes\r\n"
                b"\r\nbody\r\n")
        with self.sink.client() as client:
            client.hello()
            for cut in range(1, len(text)):
                client.envelope("a@b.example", "c@d.example")
                for part, last in ((text[:cut], b""), (text[cut:], b" LAST")):
                    client.send(b"BDAT %d%s\r\n" % (len(part), last) + part)
                    client.expect(250)
        for line in self.arrived(len(text) - 1):
            self.assertEqual((line["sum"], line["load_id"]), (f"{zlib.crc32(b'body' + CRLF):08x}", "yes"))
            self.assertNotIn("load_sum", line)

    def test_bdat(self):
        body = bytes(range(256)) * 64 + b"\r\n.\r\nend without a line end"
        text = b"A: b\r\n\r\n" + body
        with self.sink.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@b.example> BODY=BINARYMIME")
            client.expect(250, "RCPT TO:<c@d.example>")
            client.expect(503, "DATA")
            for at in range(0, len(text), 5000):
                chunk = text[at:at + 5000]
                client.send(b"BDAT %d\r\n" % len(chunk) + chunk)
                client.expect(250)
            client.expect(503, "MAIL FROM:<a@b.example>")
            client.expect(250, "BDAT 0 LAST")
            client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 5\r\nA: b\r"
                        b"BDAT 8 LAST\r\n\n\r\nfive\nRSET\r\n")
            for code in (250, 250, 250, 250, 250):
                client.expect(code)
            client.send(b"BDAT 9 LAST\r\nQUIT\r\nNO\rRSET\r\n")  # skipped, whatever it holds
            client.expect(503)
            client.expect(250)
        first, second = self.arrived(2)
        self.check(first, text)
        self.assertEqual((first["chunked"], first["nul"]), ("true", "true"))
        self.check(second, b"A: b\r\n\r\nfive\n")

    def test_pipelined(self):
        """Many messages in one segment, each command group behind the dot of the one before."""
        one = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
        with self.sink.client() as client:
            client.hello()
            client.send(one)
            for code in (250, 250, 354):
                client.expect(code)
            for _ in range(50):
                client.send(b"A: b\r\n\r\ntext\r\n.\r\n" + one)
                for code in (250, 250, 250, 354):
                    client.expect(code)
            client.send(b".\r\nRSET\r\nNOOP\r\nQUIT\r\n")
            for code in (250, 250, 250, 221):
                client.expect(code)
            self.assertTrue(client.closed())
        self.arrived(51)

    def test_order(self):
        with self.sink.client() as client:
            client.expect(220)
            client.expect(503, "MAIL FROM:<a@b.example>")
            client.expect(250, "HELO x")
            client.expect(500, "LHLO x")
            client.expect(503, "RCPT TO:<c@d.example>")
            client.expect(503, "DATA")
            client.expect(250, "MAIL FROM:<a@b.example>")
            client.expect(503, "MAIL FROM:<a@b.example>")
            client.expect(503, "DATA")
            client.expect(501, "RCPT TO:<c@>")
            client.expect(553, "RCPT TO:<ü@d.example>")
            client.expect(250, "RCPT TO:<c@d.example>")
            client.expect(503, "MAIL FROM:<a@b.example>")
            client.expect(250, "EHLO again")
            client.expect(503, "RCPT TO:<c@d.example>")
            client.expect(502, "STARTTLS")
            client.expect(500, "FLY")
            client.expect(530, "MAIL FROM:<a@b.example> REQUIRETLS")
            client.send(b"EHLO x\r\nNOOP\r\n")
            client.expect(554)
            self.assertTrue(client.closed())
        self.arrived(0)

    def test_lines(self):
        for line in (b"NOOP\n", b"NOOP " + b"x" * 5000 + b"\r\n", b"x" * 100000):
            with self.sink.client() as client:
                client.hello()
                client.send(line)
                client.expect(500)
                self.assertTrue(client.closed())
        with self.sink.client() as client:
            client.hello()
            client.send_split(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n", [1] * 60)
            client.expect(250)
            client.expect(250)

    def test_many_recipients(self):
        with self.sink.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@b.example>")
            for base in range(0, 10100, 100):
                client.send(b"".join(b"RCPT TO:<user%d@d.example>\r\n" % (base + i) for i in range(100)))
                for _ in range(100):
                    client.expect(250 if base < 10000 else 452)
            client.expect(354, "DATA")
            client.send(b".\r\n")
            client.expect(250)
        line, = self.arrived()
        self.assertEqual(line["to"], [f"<user{i}@d.example>" for i in range(10000)])

    def test_swaks(self):
        if not shutil.which("swaks"):
            self.skipTest("skipped: swaks is not installed")
        host, port = self.sink.address
        subprocess.run(["swaks", "--server", host, "--port", str(port), "--from", "me@client.example", "--to",
                        "you@example.org", "--pipeline"], check=True, timeout=60, stdout=subprocess.DEVNULL)
        self.assertEqual(self.arrived()[0]["to"], ["<you@example.org>"])

    def test_smtp_source(self):
        if not os.path.exists(SMTP_SOURCE):
            self.skipTest("skipped: smtp-source (postfix) is not installed")
        host, port = self.sink.address
        count = 100 if SLOW else 1000
        subprocess.run([SMTP_SOURCE, "-4", "-s", "20", "-m", str(count), "-l", "3000", "-f", "me@client.example",
                        "-t", "you@example.org", f"inet:{host}:{port}"], check=True, timeout=60)
        for line in self.arrived(count):
            self.assertEqual((line["from"].split()[0], line["to"]), ("<me@client.example>", ["<you@example.org>"]))


class Account(unittest.TestCase):
    """ringmx-load's list of what was acknowledged against the sink's log of what was accepted."""

    def load(self, sink, *options):
        with Acked() as acked:
            loader.run(sink.address, "--connections", 20, "--messages", 300 if SLOW else 5000, "--acked", acked.path,
                       *options)
            return acked.ids()

    def compare(self, *options, sink_options=("--threads", "2"), recipients=1):
        with Sink(*sink_options) as sink:
            ids = self.load(sink, *options)
            lines = sink.messages()
            totals = sink.stop()
        self.assertEqual(sorted(line["load_id"] for line in lines), sorted(ids))
        for line in lines:
            self.assertEqual(line["load_sum"], line["sum"])
            self.assertEqual(len(line["to"]), recipients)
        self.assertEqual((totals["messages"], totals["torn"]), (len(ids), 0))
        self.assertEqual(totals["recipients"], len(ids) * recipients)
        self.assertEqual(totals["octets"], sum(int(line["size"]) for line in lines))

    def test_pipelined(self):
        self.compare()

    def test_lock_step(self):
        self.compare("--lock-step")

    def test_bdat(self):
        self.compare("--bdat")

    def test_recipients(self):
        self.compare("--recipients", "10", recipients=10)

    def test_sizes(self):
        for size in ("300", "100000"):
            self.compare("--size", size)

    def test_connections(self):
        self.compare("--messages-per-connection", "1")

    def test_torn(self):
        with Sink() as sink:
            with sink.client() as client:
                client.hello()
                for claimed in (b"00000000", f"{zlib.crc32(CRLF):08X}".encode(), b"123", b"not hex!"):
                    client.transfer(b"X-Load-Sum: " + claimed + b"\r\n\r\n\r\n")
            lines = sink.messages()
            self.assertEqual(sink.stop()["torn"], 3)
        self.assertEqual([line["sum"] for line in lines], [f"{zlib.crc32(CRLF):08x}"] * 4)

    def test_refused_messages_are_not_in_the_log(self):
        """Where some are refused or broken off, exactly those with a 250 stand in the log."""
        with Sink("--threads", "2", "--refuse", "dot=10%", "--drop", "data=2%", "--tempfail", "rcpt=5%") as sink:
            with Acked() as acked:
                loader.run(sink.address, "--seconds", 1, "--reconnect", "--acked", acked.path, code=1)
                ids = acked.ids()
            totals = sink.stop()
            self.assertEqual(sorted(line["load_id"] for line in sink.messages()), sorted(ids))
        for key in ("refused_dot", "dropped_data", "tempfailed_rcpt"):
            self.assertGreater(totals[key], 0)


class Lmtp(unittest.TestCase):
    def test_smtplib(self):
        with Sink("--lmtp") as sink:
            with smtplib.LMTP(*sink.address) as client:
                for number in range(5):  # it reads one reply a message, so one recipient
                    client.sendmail("me@client.example", [f"u{number}@example.org"], message())
            self.assertEqual([line["to"] for line in sink.messages()],
                             [[f"<u{number}@example.org>"] for number in range(5)])

    def test_replies(self):
        with Sink("--lmtp") as sink, sink.client() as client:
            self.assertIn("LMTP", client.expect(220).texts[0])
            client.expect(500, "EHLO x")
            client.expect(500, "HELO x")
            client.expect(250, "LHLO x")
            client.expect(250, "MAIL FROM:<a@b.example>")
            client.expect(503, "DATA")
            for name in "one", "two", "three":
                client.expect(250, f"RCPT TO:<{name}@d.example>")
            client.expect(354, "DATA")
            client.send(stuff(message()) + b".\r\nNOOP\r\n")
            for _ in range(4):
                client.expect(250)
            client.envelope("a@b.example", "one@d.example", "two@d.example")
            client.send(b"BDAT 3\r\nabc")
            client.expect(250)
            client.send(b"BDAT 3 LAST\r\nabc")
            client.expect(250)
            client.expect(250)
            self.assertTrue(client.silent(0.1))
            self.assertEqual([len(line["to"]) for line in sink.messages()], [3, 2])

    def test_some_refused(self):
        """The log has those recipients, and only those, that were answered with 250."""
        with Sink("--lmtp", "--refuse", "dot=30%", "--tempfail", "dot=30%") as sink, sink.client() as client:
            client.expect(220)
            client.expect(250, "LHLO x")
            wanted = []
            for number in range(30):
                names = [f"<u{number}-{i}@d.example>" for i in range(number % 7 + 1)]
                client.envelope("a@b.example", *(name.strip("<>") for name in names))
                client.expect(354, "DATA")
                client.send(b".\r\n")
                kept = [name for name in names if client.reply().code == 250]
                wanted += [kept] if kept else []
            self.assertEqual([line["to"] for line in sink.messages()], wanted)
            client.close()
            totals = sink.stop()
            self.assertEqual(totals["recipients"], sum(len(kept) for kept in wanted))
            self.assertEqual(totals["messages"], len(wanted))
            self.assertGreater(totals["refused_dot"], 0)
            self.assertGreater(totals["tempfailed_dot"], 0)

    def test_replies_to_one_who_does_not_read(self):
        """Ten thousand replies to one message do not fit anywhere; they wait for the client."""
        with Sink("--lmtp") as sink, sink.client(receive_buffer=4096) as client:
            client.expect(220)
            expect_many_replies(client, 10000, 0.3)

    def test_drop_within(self):
        """What is broken off between two recipients is kept for those that were answered."""
        with Sink("--lmtp", "--drop", "dot=20%", "--seed", "3") as sink:
            wanted = []
            for _ in range(10):
                with sink.client() as client:
                    client.expect(220)
                    client.expect(250, "LHLO x")
                    client.envelope("a@b.example", *(f"u{i}@d.example" for i in range(6)))
                    client.expect(354, "DATA")
                    client.send(b".\r\n")
                    heard = 0
                    try:
                        while heard < 6:
                            client.expect(250)
                            heard += 1
                    except (EOFError, ConnectionError):
                        pass
                    wanted.append(heard)
            self.assertEqual([len(line["to"]) for line in sink.messages()], [heard for heard in wanted if heard])
            self.assertLess(min(wanted), 6)


class Extensions(unittest.TestCase):
    ALL = {"PIPELINING", "SIZE 0", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "ENHANCEDSTATUSCODES", "DSN",
           "HELP"}

    def hello(self, *options):
        with Sink(*options) as sink, sink.client() as client:
            return set(client.hello().texts[1:])

    def test_announced(self):
        self.assertEqual(self.hello(), self.ALL)
        self.assertEqual(self.hello("--announce", "X-ONE", "--announce", "LIMITS RCPTMAX=5", "--size", "99"),
                         self.ALL - {"SIZE 0"} | {"X-ONE", "LIMITS RCPTMAX=5", "SIZE 99"})
        self.assertEqual(self.hello("--without", "dsn", "--without", "CHUNKING"),
                         self.ALL - {"DSN", "CHUNKING", "BINARYMIME"})

    def refused(self, extension, command, code, *before):
        for options, wanted in (((), 250), (("--without", extension), code)):
            with Sink(*options) as sink, sink.client() as client:
                client.hello()
                for line in before:
                    client.expect(250, line)
                client.expect(wanted, command)

    def test_left_out_is_refused(self):
        self.refused("SIZE", "MAIL FROM:<a@b.example> SIZE=5", 555)
        self.refused("8BITMIME", "MAIL FROM:<a@b.example> BODY=8BITMIME", 555)
        self.refused("BINARYMIME", "MAIL FROM:<a@b.example> BODY=BINARYMIME", 555)
        self.refused("SMTPUTF8", "MAIL FROM:<ü@b.example> SMTPUTF8", 555)
        self.refused("DSN", "MAIL FROM:<a@b.example> RET=FULL", 555)
        self.refused("DSN", "RCPT TO:<c@d.example> NOTIFY=NEVER", 555, "MAIL FROM:<a@b.example>")
        self.refused("CHUNKING", "BDAT 0 LAST", 554, "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>")

    def test_no_pipelining(self):
        with Sink("--without", "PIPELINING") as sink:
            with sink.client() as client:
                client.hello()
                self.assertEqual(client.transfer(message()).code, 250)
                client.envelope("a@b.example", "c@d.example")
                client.send(b"BDAT 5\r\nA: b\r")
                client.expect(250)
                client.send(b"BDAT 3 LAST\r\n\n\r\n")
                client.expect(250)
                client.send(b"NOOP\r\nNOOP\r\n")
                client.expect(250)
                client.expect(554)
                self.assertTrue(client.closed())
            with sink.client() as client:
                client.hello()
                client.envelope("a@b.example", "c@d.example")
                client.expect(354, "DATA")
                client.send(b".\r\nQUIT\r\n")
                client.expect(250)
                client.expect(554)

    def test_size(self):
        with Sink("--size", "1000") as sink, sink.client() as client:
            client.hello()
            client.expect(552, "MAIL FROM:<a@b.example> SIZE=1001")
            self.assertEqual(client.transfer(b"x" * 998 + CRLF).code, 250)
            self.assertEqual(client.transfer(b"x" * 999 + CRLF).code, 552)
            client.envelope("a@b.example", "c@d.example")
            client.send(b"BDAT 1001 LAST\r\n" + b"y" * 1001)
            client.expect(552)
            self.assertEqual(client.transfer(b"x\r\n").code, 250)
            self.assertEqual([line["size"] for line in sink.messages()], ["1000", "3"])
        with Sink("--size", "1000", "--lmtp") as sink, sink.client() as client:
            client.expect(220)
            client.expect(250, "LHLO x")
            client.envelope("a@b.example", "c@d.example", "e@d.example")
            client.expect(354, "DATA")
            client.send(b"x" * 2000 + b"\r\n.\r\n")
            client.expect(552)
            client.expect(552)
            client.expect(250, "NOOP")


if __name__ == "__main__":
    unittest.main()
