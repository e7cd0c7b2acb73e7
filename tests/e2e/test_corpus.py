"""The 443 real and malformed mails of ../shared/data/eml-*: byte for byte from the client into the
Maildir, by DATA and by BDAT, in random segments, pipelined or in lock-step, to 1 and to 100 recipients.

Before sending: an mbox "From " line is taken off, and every line end is made CR LF (LF and CR LF are line
ends; the files have no other CR). DATA cannot carry an unfinished last line, so it gets its CR LF there;
BDAT can, and does not. What arrives must be Return-Path, Received, and those very bytes."""
import os
import queue
import random
import re
import threading
import unittest

from harness import (PATIENCE_S, SLOW, Client, Gateway, data_path, seed, split_delivered, stuff,
                     wait_until)

FOLDERS = ("eml-cpython", "eml-enmime", "eml-haraka", "eml-mail-parser",
           "eml-mailparser-nodemailer", "eml-spamassassin-hard-ham")
COUNT = 443
THREADS = 6


def received_pattern(security, protocol):
    return re.compile(
        rb"\AReceived: from \S+ \([^\r\n]*\[(?:IPv6:)?[0-9a-fA-F.:]+\][^\r\n]*\)" + security
        + rb"\s+by mx\.example\.org\s+(?:\([^()\r\n]*\)\s+)?with " + protocol
        + rb"\s+id [0-9A-Za-z.-]+(\s+for <[^>\r\n]+>)?\s*;\s+"
        rb"(?:[A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} [+-]\d{4}"
        rb"(?: \([^()\r\n]*\))?\r\n\Z")


def corpus():
    """All mails as (name, text with CR LF ends); licences and SOURCE.txt are not mails."""
    result = []
    for folder in FOLDERS:
        top = data_path(folder)
        if top is None:
            return None
        for place, folders, names in os.walk(top):
            folders[:] = sorted(name for name in folders if name != "LICENSES")
            for name in sorted(names):
                if not name.startswith(("SOURCE", "LICENSE")):
                    path = os.path.join(place, name)
                    with open(path, "rb") as file:
                        result.append((os.path.relpath(path, os.path.dirname(top)),
                                       canonical(file.read())))
    return result


def canonical(text):
    if text.startswith(b"From "):
        text = text[text.index(b"\n") + 1:]
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


MAILS = corpus()


def sizes(chance, count):
    """Endless random sizes, small ones as likely as large ones; short texts may be cut to bits."""
    smallest = 0 if count < 20000 else 8
    largest = chance.uniform(smallest, 16)
    while True:
        yield max(1, int(2 ** chance.uniform(smallest / 2, largest)))


def chunked(chance, text):
    """BDAT commands for the whole text, cut at random; the last chunk may be empty."""
    at, parts = 0, []
    cutter = sizes(chance, len(text))
    if chance.random() < 0.5:
        cutter = iter(lambda: chance.randrange(1, 60000), None)
    while at < len(text):
        size = min(next(cutter), len(text) - at)
        if len(parts) > 200:
            size = len(text) - at
        last = at + size == len(text) and chance.random() < 0.7
        parts.append(b"BDAT %d%s\r\n" % (size, b" LAST" if last else b"") + text[at:at + size])
        at += size
    if not parts or b"LAST" not in parts[-1][:40]:
        parts.append(b"BDAT 0 LAST\r\n")
    return parts


class Sender:
    """Sends one mail after the other over a connection, each in a manner of its own."""

    def __init__(self, client, chance):
        self.client, self.chance = client, chance

    def send_cut(self, data):
        self.client.send_split(data, sizes(self.chance, len(data)))

    def begin(self, sender, recipients, pipelined, last):
        lines = [f"MAIL FROM:<{sender}> BODY=8BITMIME"]
        lines += [f"RCPT TO:<{recipient}>" for recipient in recipients]
        lines += [last] if last else []
        codes = [250] * (1 + len(recipients)) + ([354] if last else [])
        if pipelined:
            self.send_cut("".join(line + "\r\n" for line in lines).encode())
            for line, code in zip(lines, codes):
                self.client.expect(code)
        else:
            for line, code in zip(lines, codes):
                self.client.expect(code, line)

    def data(self, sender, recipients, text, pipelined):
        self.begin(sender, recipients, pipelined, "DATA")
        self.send_cut(stuff(text) + b".\r\n")
        self.client.expect(250)

    def bdat(self, sender, recipients, text, pipelined):
        parts = chunked(self.chance, text)
        if pipelined:
            lines = [f"MAIL FROM:<{sender}> BODY=8BITMIME"]
            lines += [f"RCPT TO:<{recipient}>" for recipient in recipients]
            head = "".join(line + "\r\n" for line in lines).encode()
            self.send_cut(head + b"".join(parts))
            for _ in range(len(lines) + len(parts)):
                self.client.expect(250)
            return
        self.begin(sender, recipients, False, None)
        for part in parts:
            self.send_cut(part)
            self.client.expect(250)


@unittest.skipUnless(MAILS, "skipped: ../shared/data/eml-* is not there")
class Corpus(unittest.TestCase):
    RECEIVED = received_pattern(b"", b"(E?SMTP|UTF8SMTP)")
    LARGE_MIB = (1, 5) if SLOW else (1, 5, 20)

    @staticmethod
    def make_gateway():
        return Gateway()

    def connect(self, _chance):
        """A client that has said EHLO."""
        client = Client(self.gateway.address)
        client.hello("sender.client.example")
        return client

    def setUp(self):
        self.gateway = self.make_gateway()
        self.addCleanup(self.gateway.close)
        self.gateway.start()
        self.seed = seed()
        self.mails = MAILS[::6] if SLOW else MAILS

    def tearDown(self):
        self.gateway.stop()

    def send_all(self, jobs):
        """jobs: (number, method, text, recipients). Every job must be answered with 250."""
        work, failures = queue.SimpleQueue(), []
        for job in jobs:
            work.put(job)

        def run():
            sender, job = None, None
            try:
                while not failures:
                    job = work.get_nowait()
                    chance = random.Random(f"{self.seed}/{job[0]}")
                    if sender is None or chance.random() < 0.1:
                        if sender:
                            sender.client.close()
                        sender = Sender(self.connect(chance), chance)
                    sender.chance = chance
                    getattr(sender, job[1])(f"mail-{job[0]}@client.example", job[3], job[2],
                                            chance.random() < 0.5)
            except queue.Empty:
                pass
            except (AssertionError, OSError, EOFError) as error:
                failures.append(f"job {job[:2]} seed {self.seed}: {type(error).__name__}: {error}")
            finally:
                if sender:
                    sender.client.close()

        threads = [threading.Thread(target=run) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def judge(self, user, jobs, many):
        wanted = {f"mail-{number}@client.example": text for number, _, text, _ in jobs}
        wait_until(lambda: self.gateway.count(user) >= len(wanted), f"all mail for {user}",
                   PATIENCE_S * 3)
        seen = set()
        for content in self.gateway.messages(user):
            sender, received, original = split_delivered(content)
            sender = sender.decode()
            self.assertNotIn(sender, seen, "delivered twice")
            seen.add(sender)
            if original != wanted[sender]:
                self.fail(f"{sender} for {user} differs: " + difference(wanted[sender], original))
            self.assertRegex(received, self.RECEIVED)
            self.assertLessEqual(max(map(len, received.split(b"\r\n"))), 998)
            if many:
                self.assertNotIn(b" for <", received, "tells one recipient of another")
        self.assertEqual(seen, set(wanted))

    def test_there_are_443(self):
        self.assertEqual(len(MAILS), COUNT)

    def test_data(self):
        jobs = [(number, "data", text if text.endswith(b"\r\n") else text + b"\r\n",
                 ["data@example.org"]) for number, (_, text) in enumerate(self.mails)]
        self.send_all(jobs)
        self.judge("data", jobs, False)

    def test_bdat(self):
        jobs = [(number, "bdat", text, ["bdat@example.org"])
                for number, (_, text) in enumerate(self.mails)]
        self.send_all(jobs)
        self.judge("bdat", jobs, False)

    def test_100_recipients(self):
        """A sample, since every mail becomes 100 files."""
        chance = random.Random(self.seed)
        everybody = [f"r{number}@example.org" for number in range(100)]
        sample = chance.sample(self.mails, 6 if SLOW else 24)
        jobs = [(number, chance.choice(("data", "bdat")),
                 text if text.endswith(b"\r\n") else text + b"\r\n", everybody)
                for number, (_, text) in enumerate(sample)]
        self.send_all(jobs)
        for number in range(100):
            self.judge(f"r{number}", jobs, True)

    def test_large(self):
        """Messages larger than any buffer and than many a segment."""
        chance = random.Random(self.seed)
        jobs = []
        for number, mebibytes in enumerate(self.LARGE_MIB):
            line = bytes(chance.randrange(32, 256) for _ in range(76)) + b"\r\n"
            text = b"Subject: large\r\n\r\n" + (b"." + line) * (mebibytes * 1024 * 1024 // 79)
            jobs.append((2 * number, "data", text, ["large@example.org"]))
            jobs.append((2 * number + 1, "bdat", text, ["large@example.org"]))
        self.send_all(jobs)
        self.judge("large", jobs, False)


def difference(wanted, found):
    at = next((index for index, pair in enumerate(zip(wanted, found)) if pair[0] != pair[1]),
              min(len(wanted), len(found)))
    return (f"{len(found)} octets for {len(wanted)}, first at {at}: "
            f"{found[max(0, at - 30):at + 30]!r} for {wanted[max(0, at - 30):at + 30]!r}")


if __name__ == "__main__":
    unittest.main()
