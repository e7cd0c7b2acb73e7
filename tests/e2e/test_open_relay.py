"""No relay for strangers. Everything that would leave the house arrives at one sink, whoever it is for, so that what was
taken by mistake is seen there: every trick that has ever opened a relay, at the MX, at a submission listener without
login, and with one that fails; what the spool has of strangers stays here whatever becomes of the configuration; and
nmap's list of tricks, which does find a relay where one is open."""
import os
import re
import shutil
import signal
import subprocess
import unittest

import submitters
from harness import FLAVOUR, message, quote, wait_until
from sink import Sink
from submitters import Submitter

VICTIM, ABROAD = "victim", "foreign.example"
HERE, NAME, ADDRESS = "example.org", "mx.example.org", "127.0.0.1"

SENDERS = ["", "s@client.example", f"alice@{HERE}", f"postmaster@{HERE}", f"{VICTIM}@{ABROAD}", f"root@[{ADDRESS}]",
           f"alice@{NAME}", "alice@localhost", f"@{HERE}:s@client.example", f"SRS0=aaaa=AA={ABROAD}={VICTIM}@{HERE}"]
RECIPIENTS = [
    f"<{VICTIM}@{ABROAD}>", f"{VICTIM}@{ABROAD}", f'<"{VICTIM}"@{ABROAD}>', f"<{VICTIM}@{ABROAD.upper()}>",
    f"<{VICTIM}%{ABROAD}@{HERE}>", f'<"{VICTIM}%{ABROAD}"@{HERE}>', f"<{VICTIM}%{ABROAD}@{NAME}>",
    f"<{VICTIM}%{ABROAD}@[{ADDRESS}]>", f"<{VICTIM}%{ABROAD}@localhost>", f"<{VICTIM}%{ABROAD}>", f"<{VICTIM}%{ABROAD}@>",
    f"<{VICTIM}%{ABROAD}%{HERE}@{HERE}>", f"<{VICTIM}%{ABROAD}@wild.example>", f'<"{VICTIM}@{ABROAD}"@wild.example>',
    f"<{ABROAD}!{VICTIM}@wild.example>", f'<"{VICTIM}@{ABROAD}"@{HERE}>', f'<"{VICTIM}@{ABROAD}"@{NAME}>',
    f'<"{VICTIM}@{ABROAD}"@[{ADDRESS}]>', f'<"{VICTIM}@{ABROAD}"@>', f'<"{VICTIM}@{ABROAD}">', f"<{VICTIM}@{ABROAD}@{HERE}>",
    f"<{VICTIM}@{ABROAD}@[{ADDRESS}]>", f"<{VICTIM}@{HERE}@{ABROAD}>", f"<{ABROAD}!{VICTIM}@{HERE}>", f"<{ABROAD}!{VICTIM}>",
    f"<{HERE}!{ABROAD}!{VICTIM}@{HERE}>", f"<{ABROAD}!{VICTIM}@[{ADDRESS}]>", f"<{HERE}!{VICTIM}@{ABROAD}>",
    f"<@{HERE}:{VICTIM}@{ABROAD}>", f"<@{HERE},@{NAME}:{VICTIM}@{ABROAD}>", f"<@[{ADDRESS}]:{VICTIM}@{ABROAD}>",
    f"<@{ABROAD}:alice@{HERE}>", f"<@{ABROAD}:{VICTIM}%{ABROAD}@{HERE}>", f"<{VICTIM}@[192.0.2.1]>", f"<{VICTIM}@[{ADDRESS}]>",
    f"<{VICTIM}@[IPv6:::1]>", f"<{VICTIM}@{ABROAD}.>", f"<{VICTIM}@.{ABROAD}>", f"<{VICTIM}@{ABROAD}\0@{HERE}>",
    f"<{VICTIM}@{ABROAD} @{HERE}>", f"<{VICTIM}@{ABROAD},alice@{HERE}>", f"<alice@{HERE},{VICTIM}@{ABROAD}>",
    f"<alice@{HERE}> <{VICTIM}@{ABROAD}>", f"<alice@{HERE}>,<{VICTIM}@{ABROAD}>", f"<{VICTIM}@{ABROAD}(@{HERE})>",
    f"<{VICTIM}({HERE})@{ABROAD}>", f"<{VICTIM}@{ABROAD}?x@{HERE}>", f"<{VICTIM}@{ABROAD}/@{HERE}>", f"<{VICTIM}:{ABROAD}@{HERE}>",
    f"<SRS0=aaaa=AA={ABROAD}={VICTIM}@srs.example.org>", f"<SRS1=aaaa={ABROAD}==x=y=z={VICTIM}@srs.example.org>",
    f"<SRS0+aaaa=AA={ABROAD}={VICTIM}@{HERE}>", f"<{VICTIM}+{ABROAD}@{HERE}>", f"<{VICTIM}={ABROAD}@{HERE}>",
    f"<postmaster@{ABROAD}>", f"<postmaster@[192.0.2.1]>", f"<postmaster%{ABROAD}>", f"<{VICTIM}@{ABROAD}> ORCPT=rfc822;alice@{HERE}",
    f"<alice@{HERE}> ORCPT=rfc822;{VICTIM}@{ABROAD}", f"<{VICTIM}@{ABROAD}> NOTIFY=NEVER", f"<|cat@{HERE}>", f"</dev/null@{HERE}>",
    f"<{VICTIM}\u0040{ABROAD}%\u00e9@{HERE}>", f"<{VICTIM}\uff20{ABROAD}@{HERE}>", "<@>", "<>", f"<@{ABROAD}>", f"<{VICTIM}@>",
]
TEXT = message("relay")


class OpenRelay(unittest.TestCase):
    def setUp(self):
        self.turn = 0
        self.sink = Sink().start()
        self.addCleanup(self.sink.close)
        self.gateway = self.make()
        self.addCleanup(self.gateway.close)
        with open(os.path.join(self.gateway.directory, "srs.key"), "w", encoding="ascii") as file:
            file.write("tests only\n")
        os.chmod(file.name, 0o600)

    def make(self):
        host, port = self.sink.address
        return submitters.gateway(
            ("alice",), {"srs.domain": '"srs.example.org"', "srs.secret": '"srs.key"', "limits.bad_commands": "1000",
                         "auth.failures_per_ip": "0", "auth.failures_per_network": "0", "auth.failures_per_user": "0",
                         "auth.delay_ms": "0"},
            domains={HERE: (["*"], "maildir:{mail}/%d/%u"), "wild.example": (["nobody"], "maildir:{mail}/%d/%u")},
            listeners={"mx": {"xclient": '{"127.0.0.1"}'}},
            more=f'alias "*@wild.example" {{ to = {{"*@forward.example"}} }}\n'
                 f'relay {{ deliver = {{{quote(f"smtp:{host}:{port}")}}} }}\n')

    def settle(self):
        """A message that came behind all others has arrived: the queue works in their order."""
        self.turn += 1
        with self.gateway.client() as client:
            client.hello()
            self.assertEqual(client.transfer(TEXT, "", [f"last{self.turn}@{HERE}"]).code, 250)
        self.gateway.wait_messages(f"last{self.turn}", 1)

    def attempt(self, client, sender, recipient):
        """One trick to the end: what is accepted is sent."""
        if client.command(f"MAIL FROM:<{sender}>" + ("" if recipient.isascii() else " SMTPUTF8")).code != 250:
            return False
        taken = client.command(f"RCPT TO:{recipient}").code == 250
        if taken:
            client.expect(354, "DATA")
            client.send(TEXT + b".\r\n")
            client.expect(250)
        else:
            client.expect(250, "RSET")
        return taken

    def test_mx(self):
        self.gateway.start()
        taken = set()
        for sender in SENDERS:
            with self.gateway.client() as client:
                client.hello()
                taken |= {recipient for recipient in RECIPIENTS if self.attempt(client, sender, recipient)}
        for recipient in taken:  # only what is ours by its domain
            self.assertRegex(recipient, rf"@({re.escape(HERE)}|wild\.example)>|^<@{ABROAD}:alice@{HERE}>", recipient)
        self.assertIn(f"<@{ABROAD}:alice@{HERE}>", taken)
        self.assertNotIn(f"<{VICTIM}%{ABROAD}@wild.example>", taken)
        self.settle()
        self.assertEqual(self.sink.messages(), [])
        self.gateway.stop()

    def test_submission_without_login(self):
        self.gateway.start()
        address = self.gateway.at["submission"]
        for sender in SENDERS:
            with Submitter(address, None) as client:
                self.assertFalse(any(self.attempt(client, sender, recipient) for recipient in RECIPIENTS))
        with Submitter(address, None) as client:
            for line in ("AUTH PLAIN AGFsaWNlAHdyb25n", "AUTH PLAIN =", "AUTH PLAIN *", "AUTH NTLM", "AUTH EXTERNAL =",
                         "AUTH ANONYMOUS", "AUTH PLAIN AGFsaWNlAA==", "AUTH PLAIN AABjb3JyZWN0IGhvcnNl"):
                client.command(line)
                client.refused(530, "5.7.0", f"MAIL FROM:<alice@{HERE}>")
            client.expect(334, "AUTH PLAIN")
            client.expect(501, "*")
            for line in (f"MAIL FROM:<alice@{HERE}> AUTH=<>", f"MAIL FROM:<alice@{HERE}> AUTH=alice@{HERE}",
                         "XCLIENT LOGIN=alice", "PROXY TCP4 127.0.0.1 127.0.0.1 1 2"):
                self.assertGreaterEqual(client.command(line).code, 500)
        with Submitter(address, None) as client:  # in one piece, before anybody has looked
            client.send(f"AUTH PLAIN AGFsaWNlAHdyb25n\r\nMAIL FROM:<alice@{HERE}>\r\nRCPT TO:<{VICTIM}@{ABROAD}>\r\n"
                        "DATA\r\n".encode())
            self.assertGreaterEqual(client.reply().code, 500)
            client.closed()
        self.settle()
        self.assertEqual(self.sink.messages(), [])
        self.gateway.stop()

    def test_literals_of_this_machine(self):
        """What listens on loopback is nothing that users write to, in no spelling; others are abroad."""
        self.gateway.start()
        with Submitter(self.gateway.at["submission"], "alice") as client:
            for literal in ("127.0.0.1", "127.255.1.2", "0.0.0.0", "IPv6:::1", "ipv6:0:0:0:0:0:0:0:1", "IPv6:::",
                            "IPv6:::ffff:127.0.0.1", "IPv6:::FFFF:7f00:1", "IPv6:::ffff:0.0.0.0"):
                client.expect(250, "MAIL FROM:<alice@example.org>")
                reply = client.command(f"RCPT TO:<{VICTIM}@[{literal}]>")
                self.assertEqual((reply.code, reply.enhanced), (550, "5.7.1"), literal)
                client.expect(250, "RSET")
            for literal in ("192.0.2.1", "126.0.0.1", "IPv6:2001:db8::1", "IPv6:::ffff:192.0.2.1"):
                client.expect(250, "MAIL FROM:<alice@example.org>")
                client.expect(250, f"RCPT TO:<{VICTIM}@[{literal}]>")
                client.expect(250, "RSET")
        self.gateway.stop()

    def test_words_that_say_who(self):
        """At the MX nobody can say that he is somebody."""
        self.gateway.start()
        with self.gateway.client() as client:
            client.hello()
            client.expect(502, "AUTH PLAIN AGFsaWNlAGNvcnJlY3QgaG9yc2U=")
            client.expect(220, "XCLIENT LOGIN=alice ADDR=127.0.0.1 HELO=localhost PROTO=ESMTP")
            client.expect(250, f"EHLO {NAME}")
            client.expect(502, "AUTH PLAIN AGFsaWNlAGNvcnJlY3QgaG9yc2U=")
            for parameter in ("", " AUTH=alice@example.org", " AUTH=<>"):
                if client.command(f"MAIL FROM:<alice@{HERE}>{parameter}").code == 250:
                    client.expect(550, f"RCPT TO:<{VICTIM}@{ABROAD}>")
                    client.expect(250, "RSET")
        self.gateway.stop()

    def test_login_ends(self):
        """Who has logged in can relay; and only he, and only there."""
        self.gateway.start()
        with Submitter(self.gateway.at["submission"]) as client:
            for recipient in (f"<{VICTIM}%{ABROAD}@wild.example>", f'<"{VICTIM}@{ABROAD}"@wild.example>',
                              f"<{ABROAD}!{VICTIM}@wild.example>"):
                client.expect(250, f"MAIL FROM:<alice@{HERE}>")
                client.refused(550, "5.7.1", f"RCPT TO:{recipient}")
                client.expect(250, "RSET")
            self.assertEqual(client.transfer(message(sender=f"alice@{HERE}"), f"alice@{HERE}",
                                             [f"{VICTIM}@{ABROAD}"]).code, 250)
            self.sink.wait_messages(1)
            with Submitter(self.gateway.at["submission"], None) as other:
                other.refused(530, "5.7.0", f"MAIL FROM:<alice@{HERE}>")
            with self.gateway.client() as mx:
                mx.hello()
                mx.expect(250, f"MAIL FROM:<alice@{HERE}>")
                mx.expect(550, f"RCPT TO:<{VICTIM}@{ABROAD}>")
        self.gateway.stop()

    def test_the_spool_of_strangers(self):
        """Mail that the MX took for a domain of ours does not leave when the domain is ours no more."""
        self.gateway.domains["gone.example"] = (["*"], "smtp:127.0.0.1:9")
        self.gateway.start()
        with self.gateway.client() as client:
            client.hello()
            for name in (VICTIM, f"x%{ABROAD}", f"{ABROAD}!x"):
                self.assertEqual(client.transfer(TEXT, "", [f"{name}@gone.example"]).code, 250)
        del self.gateway.domains["gone.example"]
        self.gateway.write_configuration()
        self.gateway.signal(signal.SIGHUP)
        wait_until(lambda: sum("the domain is not configured" in str(line) for line in self.gateway.log_lines()) >= 3,
                   "three messages without a home")
        self.gateway.restart()
        self.settle()
        self.assertEqual(self.sink.messages(), [])
        self.gateway.stop()

    @unittest.skipUnless(shutil.which("nmap") and FLAVOUR == "release", "skipped: no nmap, or judged already")
    def test_nmap(self):
        self.gateway.start()
        open_to_all = self.sink.address

        def look(address):
            return subprocess.run(
                ["nmap", "-Pn", "-n", "-v", "-p", str(address[1]), "--script", "+smtp-open-relay", "--script-args",
                 f"smtp-open-relay.domain={ABROAD},smtp-open-relay.ip=192.0.2.1", address[0]],
                capture_output=True, text=True, timeout=60, check=True).stdout

        self.assertRegex(look(open_to_all), r"Server is an open relay \(\d+/\d+ tests\)")
        count = len(self.sink.messages())
        self.assertIn("Server doesn't seem to be an open relay, all tests failed", look(self.gateway.at["mx"]))
        self.assertNotIn("is an open relay", look(self.gateway.at["submission"]))
        self.settle()
        self.assertEqual(len(self.sink.messages()), count)
        self.gateway.stop()


if __name__ == "__main__":
    unittest.main()
