"""The 443 real and malformed mails from the client through ringmx and a next hop into its store, byte for byte: Postfix
and Exim by SMTP, Dovecot by LMTP over TCP and over a unix socket. And mail that ringmx itself has put into Maildirs,
read by IMAP and POP3 from a real Dovecot.

Postfix and Exim write LF for CR LF; nothing else may differ from what was sent, but for the fields that each puts in
front. They mend a header that is none, so they get each mail below an empty line, as a body. What comes by IMAP has 0x80 for NUL, for IMAP can't say NUL (RFC 3501 4.3.1)."""
import imaplib
import os
import poplib
import shutil
import unittest

import hops
import peers
from harness import PATIENCE_S, SLOW, Gateway, wait_until
from test_corpus import MAILS, canonical, difference

MARK = b"X-Ringmx-Test: "


def body_of(content, number):
    """What follows the trace fields: the text as it was sent, from the mark on."""
    content = canonical(content)
    at = content.find(MARK + b"%d\r\n" % number)
    return content[at:] if at >= 0 else content


def number_of(content):
    """The number of the mail that this is a copy of."""
    at = content.index(MARK) + len(MARK)
    return int(content[at:content.index(b"\n", at)])


@unittest.skipUnless(MAILS, "skipped: ../shared/data/eml-* is not there")
class Relay(unittest.TestCase):
    def setUp(self):
        self.mails = MAILS[::8] if SLOW else MAILS

    def wanted(self, as_body=False):
        """The texts, each with a mark in front: that is how a copy is found again."""
        texts = []
        for number, (_, text) in enumerate(self.mails):
            if not text.endswith(b"\r\n"):
                text += b"\r\n"
            texts.append(MARK + b"%d\r\n" % number + b"\r\n" * as_body + text)
        return texts

    def send(self, gateway, texts, user="all"):
        with gateway.client() as client:
            client.hello("sender.client.example")
            for number, text in enumerate(texts):
                reply = client.transfer(text, f"mail-{number}@client.example", [f"{user}@example.org"])
                self.assertEqual(reply.code, 250, reply)

    def judge(self, texts, found, by_imap=False):
        if by_imap:
            texts = [text.replace(b"\0", b"\x80") for text in texts]
        self.assertEqual(len(found), len(texts))
        seen = set()
        for content in found:
            number = number_of(content)
            self.assertNotIn(number, seen, "twice")
            seen.add(number)
            got = body_of(content, number)
            if got != texts[number]:
                self.fail(f"mail {number} ({self.mails[number][0]}): {difference(texts[number], got)}")

    def through(self, hop, target):
        texts = self.wanted(as_body=isinstance(hop, hops.Hop))
        gateway = Gateway(domains={"example.org": (["*"], target)})
        self.addCleanup(gateway.close)
        gateway.start()
        self.send(gateway, texts)
        wait_until(lambda: hop.count() >= len(texts), "all mail at the next hop", 3 * PATIENCE_S)
        self.judge(texts, hop.messages(), isinstance(hop, DovecotHop))
        wait_until(lambda: len(gateway.events("delivered")) == len(texts), "a line for each delivery")
        gateway.stop()
        self.assertEqual(gateway.events("deferred", "refused"), [])

    @unittest.skipUnless(hops.have_postfix(), "skipped: Postfix needs root")
    def test_postfix(self):
        with hops.PostfixHop() as hop:
            self.through(hop, "smtp:{}:{}".format(*hop.address))

    @unittest.skipUnless(hops.have_exim(), "skipped: no Exim, or no mount namespaces")
    def test_exim(self):
        with hops.EximHop() as hop:
            self.through(hop, "smtp:{}:{}".format(*hop.address))


class DovecotHop:
    """A Dovecot as a next hop with one user."""

    def __init__(self, dovecot, user):
        self.dovecot, self.user = dovecot, user

    def folder(self):
        return os.path.join(self.dovecot.maildir(self.user), "new")

    def count(self):
        return len(os.listdir(self.folder())) if os.path.isdir(self.folder()) else 0

    def messages(self):
        """By IMAP, as people read them."""
        with imaplib.IMAP4(*self.dovecot.imap) as client:
            client.login(self.user, "secret")
            count = int(client.select()[1][0])
            return [client.fetch(str(number + 1), "(RFC822)")[1][0][1] for number in range(count)]


@unittest.skipUnless(os.getuid() == 0 and os.path.exists(peers.DOVECOT), "skipped: Dovecot needs root")
class Lmtp(Relay):
    test_postfix = test_exim = None

    def test_tcp(self):
        with peers.Dovecot(["all"], readers=True) as dovecot:
            self.through(DovecotHop(dovecot, "all"), "lmtp:{}:{}".format(*dovecot.address))

    def test_unix(self):
        with peers.Dovecot(["all"], readers=True) as dovecot:
            self.through(DovecotHop(dovecot, "all"), f"lmtp:unix:{dovecot.lmtp()}")

    def test_a_reply_for_each_recipient(self):
        """Users that Dovecot does not know are refused, those beside them get the mail."""
        with peers.Dovecot(["alice", "bob"], readers=True) as dovecot:
            gateway = Gateway(domains={"example.org": (["*"], "lmtp:{}:{}".format(*dovecot.address)),
                                       "client.example": (["*"], "maildir:{mail}/%d/%u")})
            self.addCleanup(gateway.close)
            gateway.start()
            with gateway.client() as client:
                client.hello()
                users = ("alice", "nobody-here", "bob")
                reply = client.transfer(b"Subject: three\r\n\r\ntext\r\n", "sender@client.example",
                                        [f"{user}@example.org" for user in users])
                self.assertEqual(reply.code, 250)
            for user in ("alice", "bob"):
                wait_until(DovecotHop(dovecot, user).count, f"mail for {user}")
            notification, = gateway.wait_messages("sender", 1, "client.example")
            self.assertIn(b"nobody-here@example.org", notification)
            self.assertNotIn(b"alice", notification)
            gateway.stop()
            self.assertEqual(len(gateway.events("delivered")), 3)  # the notification, too
            self.assertEqual([line["to"] for line in gateway.events("refused")], ["nobody-here@example.org"])


@unittest.skipUnless(MAILS and os.getuid() == 0 and os.path.exists(peers.DOVECOT), "skipped: Dovecot needs root")
class Readers(Relay):
    """Dovecot on the Maildirs that ringmx writes."""
    test_postfix = test_exim = None

    def test_imap_and_pop3(self):
        texts = self.wanted()
        gateway = Gateway()
        self.addCleanup(gateway.close)
        gateway.start()
        self.send(gateway, texts, "reader")
        wait_until(lambda: gateway.count("reader") == len(texts), "all mail", 3 * PATIENCE_S)
        gateway.stop()
        os.chmod(gateway.directory, 0o755)
        for place, folders, files in os.walk(gateway.mail):
            for name in (".", *folders, *files):
                shutil.chown(os.path.join(place, name), "nobody", "nogroup")
        with peers.Dovecot(["reader"], readers=True, location=os.path.join(gateway.mail, "example.org", "%n")) as dovecot:
            with imaplib.IMAP4(*dovecot.imap) as client:
                client.login("reader", "secret")
                self.assertEqual(int(client.select()[1][0]), len(texts))
                self.judge(texts, [client.fetch(str(number + 1), "(BODY.PEEK[])")[1][0][1]
                                   for number in range(len(texts))], True)
            poplib._MAXLINE = 1 << 20  # some of these mails have longer lines than it expects
            client = poplib.POP3(*dovecot.pop3)
            self.addCleanup(client.close)
            client.user("reader")
            client.pass_("secret")
            self.assertEqual(client.stat()[0], len(texts))
            for number in range(0, len(texts), 10):
                content = b"\r\n".join(client.retr(number + 1)[1]) + b"\r\n"
                which = number_of(content)
                self.assertEqual(body_of(content, which), texts[which])


if __name__ == "__main__":
    unittest.main()
