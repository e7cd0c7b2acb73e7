"""Smuggling (hannob/smtpsmug, from ../shared/data): ten look-alikes of the end of data, each with its
bytes cut at every place into two TCP segments, and into single bytes. One message at most may come of
it, and nothing behind the look-alike may be answered as if it were a command."""
import json
import queue
import threading
import time
import unittest

from harness import SLOW, Client, Gateway, data_path, split_delivered, wait_until

PATH = data_path("smtp-smuggling", "sequences.json")
THREADS = 8
PAUSE_S = 0.002  # between two segments, so that the kernel does not join them


def sequences():
    with open(PATH, encoding="utf-8") as file:
        return {name: bytes.fromhex(text) for name, text in json.load(file)["sequences"].items()}


def smuggled_text(sequence):
    """The text as the template of sequences.json has it, without the real end of data."""
    return (b"From: <a@client.example>\r\nSubject: outer\r\n\r\nbefore" + sequence
            + b"MAIL FROM:<evil@client.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
              b"Subject: smuggled\r\n\r\nx")


class Attempt:
    """One transaction: what was answered after the text, until the connection ended."""

    def __init__(self, address, sender, text, cuts, chunks=False):
        self.replies = []
        with Client(address) as client:
            client.hello()
            client.envelope(sender, "b@example.org")
            if chunks:
                client.send(b"BDAT %d LAST\r\n" % len(text))
                data = text
            else:
                client.expect(354, "DATA")
                data = text + b"\r\n.\r\n"
            at = 0
            for cut in cuts:
                client.send(data[at:cut])
                time.sleep(PAUSE_S)
                at = cut
            client.send(data[at:])
            self.replies.append(client.reply())
            client.send(b"QUIT\r\n")
            try:
                while True:
                    self.replies.append(client.reply())
            except (EOFError, ConnectionError):
                pass

    @property
    def accepted(self):
        return self.replies[0].code == 250


@unittest.skipUnless(PATH, "skipped: ../shared/data/smtp-smuggling is not there")
class Smuggling(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway()
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def attempt_all(self, name, text, plans, chunks=False):
        """Plays every plan (a list of cuts), several at a time, and judges each."""
        work, failures, accepted = queue.SimpleQueue(), [], []
        for number, cuts in enumerate(plans):
            work.put((number, cuts))

        def run():
            while not failures:
                try:
                    number, cuts = work.get_nowait()
                except queue.Empty:
                    return
                sender = f"{'bdat-' if chunks else ''}{name}.{number}@client.example"
                try:
                    attempt = Attempt(self.gateway.address, sender, text, cuts, chunks)
                    codes = [reply.code for reply in attempt.replies]
                    if len(codes) != 2 or codes[1] != 221:
                        raise AssertionError(f"answered as commands: {attempt.replies}")
                    if not attempt.accepted and attempt.replies[0].code // 100 != 5:
                        raise AssertionError(f"neither refused nor accepted: {attempt.replies}")
                    if attempt.accepted:
                        accepted.append(sender)
                except (AssertionError, OSError, EOFError) as error:
                    failures.append(f"{name}, cut at {cuts}: {type(error).__name__}: {error}")

        threads = [threading.Thread(target=run) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertIn(len(accepted), (0, len(plans)), "the verdict depends on the segments")
        return accepted

    def judge_delivered(self, name, accepted, text):
        """Exactly the accepted ones arrive, each whole, and none from the smuggler. A dot at the start of
        a line with more behind it is taken for stuffed (RFC 5321 4.5.2)."""
        wait_until(lambda: len(self.delivered(name)) >= len(accepted), "delivery")
        found = self.delivered(name)
        self.assertEqual(sorted(found), sorted(accepted))
        for original in found.values():
            self.assertEqual(original, text.replace(b"\r\n.", b"\r\n") + b"\r\n")
        self.assertNotIn("evil@client.example", self.delivered(""))

    def delivered(self, name):
        result = {}
        for content in self.gateway.messages("b"):
            sender, _, original = split_delivered(content)
            if sender.decode().startswith(name + "." if name else ""):
                result[sender.decode()] = original
        return result

    def attempt_sequence(self, name):
        text = smuggled_text(sequences()[name])
        size = len(text + b"\r\n.\r\n")
        step = 5 if SLOW else 1
        plans = [[]] + [[cut] for cut in range(1, size, step)] + [list(range(1, size))]
        accepted = self.attempt_all(name, text, plans)
        if b"\0" not in sequences()[name]:
            self.assertEqual(accepted, [], "a bare CR or LF was accepted on an mx listener")
        self.judge_delivered(name, accepted, text)

    def test_chunks(self):
        """The same texts by BDAT: the law of lines holds there, too."""
        for name, sequence in sequences().items():
            text = smuggled_text(sequence) + b"\r\n"
            accepted = self.attempt_all(name, text, [[], [len(text) // 2]], chunks=True)
            if b"\0" not in sequence:
                self.assertEqual(accepted, [], name)

    def test_all_sequences_are_known(self):
        self.assertEqual(len(sequences()), 10)


def add(name):
    def test(self):
        self.attempt_sequence(name)

    test.__name__ = "test_" + name
    setattr(Smuggling, test.__name__, test)


for each in sequences() if PATH else ():
    add(each)

if __name__ == "__main__":
    unittest.main()
