"""Every mail of the corpus, submitted and signed by an RSA and an Ed25519 key at once, as python3-dkim, Mail::DKIM
(RSA; Ed25519 where its library is there) and opendkim see it; a record of ringmxctl in a zone of nsd; and what was
changed on the way, which they must see."""
import re
import subprocess
import unittest

import signed
from harness import split_delivered
from signers import ED25519, RSA, Signer, run_tool, send
from test_corpus import MAILS
from zones import NameServer

MAIL = (b"From: Alice <alice@example.org>\r\nTo: box@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= and\r\n"
        b" a folded   line \r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n"
        b"Two  spaces \t \r\n\r\n.\r\n..and the end\r\n\r\n\r\n")

PERL_DNS = signed.PERL.replace("Records->new(shift @ARGV)", "Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], "
                               "port => shift @ARGV, recurse => 0)")


def from_domains(text):
    """Domains that the From fields of a mail may be about, however malformed they are."""
    head = text.split(b"\r\n\r\n", 1)[0]
    found = b" ".join(re.findall(rb"^From[ \t]*:((?:.*\r\n[ \t])*.*)", head, re.M | re.I))
    names = re.findall(rb"@\s*((?:[A-Za-z0-9-]+\.)*[A-Za-z0-9-]+)", found)
    return {name.decode().lower() for name in names if not re.search(rb"(^|\.)-|-(\.|$)", name)}


class Verified(unittest.TestCase):
    def start(self, domains=("example.org",)):
        self.signer = Signer(domains)
        self.gateway = self.signer.gateway
        self.addCleanup(self.gateway.close)
        self.gateway.start()
        client = self.signer.client()
        self.addCleanup(client.close)
        return client

    def judge(self, messages, wanted="pass"):
        """All that can judge them agree that both signatures of each message are `wanted`. Returns how many they can
        not read: python3-dkim wants no white space before a colon (RFC 5322 4.5 has it), and opendkim's test mode has
        lines end at a NUL."""
        unread = 0
        for name, verify in signed.ALL.items():
            for message, verdicts in zip(messages, verify(messages, self.signer.records)):
                ours = [verdict for verdict in verdicts if verdict[0] in (RSA, ED25519)]
                self.assertEqual([selector for selector, _ in ours], [RSA, ED25519], f"{name}: {message[:3000]!r}")
                if name == "Mail::DKIM" and not signed.PERL_ED25519:
                    self.assertIn("unsupported algorithm", ours.pop()[1])
                if name == "python3-dkim" and all("MessageFormatError" in verdict for _, verdict in ours):
                    unread += 1
                    continue
                if name == "opendkim" and b"\0" in message:
                    unread += 1
                    continue
                for selector, verdict in ours:
                    if (verdict == "pass") != (wanted == "pass"):
                        self.fail(f"{name}: {selector}: {verdict}: {message[:3000]!r}")
        return unread


@unittest.skipUnless(MAILS, "skipped: ../shared/data/eml-* is not there")
class Corpus(Verified):
    DOMAINS = sorted(set.union({"example.org"}, *(from_domains(text) for _, text in MAILS or [])))

    def test_all_mails(self):
        client = self.start(self.DOMAINS)
        mails = [text if text.endswith(b"\r\n") else text + b"\r\n" for _, text in MAILS]
        for number, text in enumerate(mails):
            send(client, text, sender=f"alice+{number}@example.org")
        ready, left = [], []
        for content in self.gateway.wait_messages("box", len(mails)):
            if RSA in signed.selectors(content):
                ready.append(content)
            else:
                left.append(int(re.match(rb"Return-Path: <alice\+(\d+)@", content)[1]))
        # Those that have no author, or none in a domain, get one.
        self.assertLessEqual(len(left), 80)
        for number in left:
            send(client, b"From: Corpus <corpus@example.org>\r\nX-Corpus: \r\n" + mails[number], "again@example.org")
        ready += self.gateway.wait_messages("again", len(left))
        self.assertEqual(len(ready), 443)
        self.assertLess(self.judge(ready), 10)


class Changes(Verified):
    def test_they_see_what_was_changed(self):
        client = self.start()
        send(client, MAIL)
        message, = self.gateway.wait_messages("box", 1)
        self.judge([message])
        body = message.index(b"Two  spaces")
        harmless = [message.replace(b"Two  spaces \t ", b"Two spaces"), message + b"\r\n \r\n",
                    message.replace(b"Subject: ", b"subject:\r\n\t"), b"Received: x\r\n" + message]
        self.judge(harmless)
        self.judge([message.replace(b"Two", b"two"), message + b"more\r\n", message.replace(b"\r\n..and", b"\r\n .and"),
                    message.replace(b"and\r\n a", b"und\r\n a"), b"Subject: other\r\n" + message,
                    b"From: eve@example.org\r\n" + message, b"Reply-To: eve@example.net\r\n" + message,
                    b"Content-Type: text/html\r\n" + message,
                    message[:body - 2] + b"Cc: eve@example.net\r\n" + message[body - 2:]], "fail")

    def test_header_of_utf8(self):
        client = self.start(("example.org", "bücher.example"))
        text = MAIL.replace(b"Alice", "Élise Ñandú".encode())
        send(client, text, options=" BODY=8BITMIME SMTPUTF8")
        send(client, MAIL.replace(b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße".encode()), options=" SMTPUTF8")
        self.judge(self.gateway.wait_messages("box", 2))

    def test_record_in_a_zone(self):
        """As ringmxctl shows it, in a real zone, with Mail::DKIM's own resolver."""
        client = self.start()
        send(client, MAIL)
        message, = self.gateway.wait_messages("box", 1)
        shown = [run_tool("record", "example.org", "--selector", selector, "-d", self.signer.folder)
                 for selector in (RSA, ED25519)]
        for made in shown:
            self.assertEqual((made.returncode, made.stderr), (0, ""))
            self.assertLessEqual(max(map(len, re.findall(r'"(.*?)"', made.stdout))), 255)
        with NameServer("".join(made.stdout for made in shown)) as server, signed.Files([message], {}) as files:
            done = subprocess.run(["perl", "-e", PERL_DNS, str(server.address[1]), *files.paths], check=True,
                                  capture_output=True, text=True)
            self.assertIn(f"{RSA} pass", done.stdout)
            names = {name for name, kind in server.asked if kind == "TXT"}
            self.assertIn(f"{RSA}._domainkey.example.org", names)

    def test_where_it_stands(self):
        """Below our Received, above all fields of the message, which is otherwise as it was."""
        client = self.start()
        send(client, MAIL)
        message, = self.gateway.wait_messages("box", 1)
        _, _, rest = split_delivered(message)
        fields = re.match(rb"(DKIM-Signature: (?:.*\r\n[ \t])*.*\r\n){2}", rest)
        self.assertEqual(rest[fields.end():], MAIL)


if __name__ == "__main__":
    unittest.main()
