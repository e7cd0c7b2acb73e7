"""The 443 real and malformed mails of ../shared/data/eml-*, sent by a user who may send as anybody: what arrives is what
a plain reading of RFC 6409 8 makes of each, to the octet."""
import random
import re
import unittest

import submitters
import test_corpus
from harness import seed, split_delivered, stuff, wait_until
from submitters import Submitter

FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[^\r]*(?:\r(?!\n)[^\r]*)*(?:\r\n[ \t][^\r]*(?:\r(?!\n)[^\r]*)*)*(?:\r\n|\Z)")
DATE = rb"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000\r\n"
MESSAGE_ID = rb"Message-ID: <[0-9A-Za-z]{13}\.[0-9a-f]{16}@mx\.example\.org>\r\n"


def mended(text):
    """What must become of it: (fields that stay, pattern of those that are added, body)."""
    at, kept, names = 0, [], set()
    while match := FIELD.match(text, at):
        name = match[1].lower()
        if name not in (b"bcc", b"resent-bcc"):
            kept.append(match[0])
            names.add(name)
        at = match.end()
    kept = b"".join(kept)
    if kept and not kept.endswith(b"\r\n"):
        kept += b"\r\n"
    added = (b"" if b"date" in names else DATE) + (b"" if b"message-id" in names else MESSAGE_ID) + b"\r\n"
    return kept, re.compile(added), text[at + (2 if text.startswith(b"\r\n", at) else 0):]


@unittest.skipUnless(test_corpus.MAILS, "skipped: no mails beside the project")
class Corpus(unittest.TestCase):
    def test_mended(self):
        chance = random.Random(seed())
        mails = list(test_corpus.MAILS)

        def cuts(largest):
            return [chance.randrange(1, largest) for _ in range(chance.randrange(10))]

        self.assertEqual(len(mails), test_corpus.COUNT)
        gateway = submitters.gateway(("alice",), {"submission.from": "any", "submission.sender": "keep"})
        self.addCleanup(gateway.close)
        gateway.start()
        with Submitter(gateway.at["submission"]) as client:
            for number, (name, text) in enumerate(mails):
                whole = number % 2 == 0
                if whole and not text.endswith(b"\r\n"):
                    text += b"\r\n"
                client.expect(250, "MAIL FROM:<alice@example.org> BODY=" + ("8BITMIME" if whole else "BINARYMIME"))
                client.expect(250, f"RCPT TO:<mail{number}@example.org>")
                if whole:
                    client.expect(354, "DATA")
                    client.send_split(stuff(text) + b".\r\n", cuts(3000))
                    reply = client.reply()
                else:
                    reply = client.chunks(text, cuts(5000))
                self.assertEqual(reply.code, 250, (name, reply))
                mails[number] = (name, text)
        wait_until(lambda: all(gateway.count(f"mail{number}") for number in range(len(mails))), "all mails")
        for number, (name, text) in enumerate(mails):
            found, = gateway.messages(f"mail{number}")
            found = split_delivered(found)[2]
            kept, added, body = mended(text)
            self.assertTrue(found.startswith(kept), name)
            match = added.match(found, len(kept))
            self.assertTrue(match and found[match.end():] == body, name)
        gateway.stop()


if __name__ == "__main__":
    unittest.main()
