"""Notifications from end to end: a next hop refuses, and the sender's Maildir has a report that Python, Mailman's
parser and two of Perl's understand; NOTIFY, RET and ENVID do what RFC 3461 says; nobody is told about a notification; a
message that grows too old is told of; next hops that write strange things into their replies write nothing else."""
import os
import re
import shutil
import signal
import tempfile
import time
import unittest

from flufl.bounce import all_failures

import reports
from harness import PATIENCE_S, SLOW, Gateway, message, wait_until
from reports import Hop, Report

REFUSE = b"550 5.1.1 No such user here"


class Bounces(unittest.TestCase):
    def gateway(self, hop, settings=None, more="", users=("*",)):
        """Senders are at example.org, in Maildirs; hop.example is at the hop, or at the target in its place."""
        target = hop if isinstance(hop, str) else hop.target
        gateway = Gateway(
            settings={"queue.schedule": '{"1s"}', "queue.lifetime": '"1h"', **(settings or {})},
            domains={"example.org": (users, "maildir:{mail}/%d/%u"), "hop.example": (["*"], target)}, more=more)
        self.addCleanup(gateway.close)
        return gateway.start()

    def hop(self, *arguments, **words):
        hop = Hop(*arguments, **words)
        hop.__enter__()
        self.addCleanup(hop.__exit__)
        return hop

    def send(self, gateway, text=None, sender="<alice@example.org>", recipients=("<bob@hop.example>",)):
        with gateway.client() as client:
            client.hello()
            client.expect(250, f"MAIL FROM:{sender}")
            for recipient in recipients:
                client.expect(250, f"RCPT TO:{recipient}")
            client.expect(354, "DATA")
            text = text or message()
            client.send(text.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            return client.expect(250)

    def report(self, gateway, user="alice", count=1):
        found = [Report(content) for content in gateway.wait_messages(user, count)]
        for report in found:
            self.check(report)
        return found[-1]

    def check(self, report):
        """What must hold for each."""
        self.assertEqual(report.return_path, b"")
        self.assertEqual(report.defects(), [])
        self.assertEqual(report.message.get_content_type(), "multipart/report")
        self.assertEqual(report.message.get_param("report-type"), "delivery-status")
        self.assertEqual(report.message["Auto-Submitted"], "auto-replied")
        self.assertEqual(report.message["From"].addresses[0].addr_spec, "MAILER-DAEMON@mx.example.org")
        self.assertTrue(report.message["Message-ID"].endswith("@mx.example.org>"))
        self.assertLess(abs(report.message["Date"].datetime.timestamp() - time.time()), 600)
        self.assertEqual(report.fields[0]["Reporting-MTA"], "dns; mx.example.org")
        for line in report.text.split(b"\r\n"):
            self.assertLessEqual(len(line), 998)
            self.assertNotRegex(line, rb"[\r\n\0]")

    def settled(self, gateway, count, seconds=1.0):
        """So many notifications since the start, and no more."""
        wait_until(lambda: len(gateway.events("bounce")) >= count, f"{count} notifications")
        time.sleep(seconds)
        self.assertEqual(len(gateway.events("bounce")), count)

    # --- whom and what ---------------------------------------------------------------------------

    def test_refused_recipient(self):
        hop = self.hop({"RCPT TO:<bob@": REFUSE})
        gateway = self.gateway(hop)
        self.send(gateway, sender="<alice@example.org> ENVID=QQ+2B314",
                  recipients=("<bob@hop.example> ORCPT=rfc822;bob+2Btag@hop.example", "<carol@hop.example>"))
        report = self.report(gateway)
        self.assertEqual(report.message["To"].addresses[0].addr_spec, "alice@example.org")
        self.assertEqual([part.get_content_type() for part in report.parts],
                         ["text/plain", "message/delivery-status", "message/rfc822"])
        self.assertEqual(report.fields[0]["Original-Envelope-Id"], "QQ+314")
        self.assertEqual(len(report.recipients), 1)
        fields = report.recipients[0]
        self.assertEqual(fields["Original-Recipient"], "rfc822; bob+tag@hop.example")
        self.assertEqual(fields["Final-Recipient"], "rfc822; bob@hop.example")
        self.assertEqual((fields["Action"], fields["Status"]), ("failed", "5.1.1"))
        self.assertEqual(fields["Diagnostic-Code"], "smtp; 550 5.1.1 No such user here")
        self.assertRegex(fields["Remote-MTA"], r"^dns; \S+$")
        self.assertIn("<bob@hop.example>", report.words)
        self.assertIn("550 5.1.1 No such user here", report.words)
        # The other one was delivered, and the original came back as it was.
        wait_until(lambda: hop.messages, "carol's copy")
        self.assertEqual(hop.messages[0][1], [b"<carol@hop.example>"])
        original = report.raw_part(2)
        self.assertRegex(original, rb"\AReceived: from ")
        self.assertTrue(original.endswith(message()), original)
        line = wait_until(lambda: gateway.events("bounce"), "the line of the notification")[0]
        self.assertEqual((line["to"], line["action"], line["recipients"]), ("alice@example.org", "failed", "1"))
        gateway.stop()

    def test_parsers(self):
        """What other programs make of it."""
        hop = self.hop({"RCPT TO:<bob@": REFUSE, "RCPT TO:<full@": b"552 5.2.2 Mailbox full",
                        "DOT": b"554 5.7.1 Spam, says our filter"})
        gateway = self.gateway(hop)
        self.send(gateway, recipients=("<bob@hop.example>", "<full@hop.example>"))
        self.report(gateway)
        self.send(gateway, text="Subject: h\u00e9llo\r\n\r\n\u00e9\r\n".encode())
        self.report(gateway, count=2)
        self.send(gateway, sender="<carol@example.org> RET=HDRS", recipients=("<dave@hop.example>",))
        self.report(gateway, "carol")
        found = [Report(content) for content in gateway.messages("alice") + gateway.messages("carol")]
        found.sort(key=lambda report: -len(report.recipients))
        failures = [sorted(all_failures(report.message)[1]) for report in found]
        wanted = [[b"bob@hop.example", b"full@hop.example"], [b"bob@hop.example"], [b"dave@hop.example"]]
        self.assertEqual(sorted(failures), sorted(wanted))
        if not reports.perl_reads():
            self.skipTest("skipped: Mail::DeliveryStatus::BounceParser and Sisimai are not there")
        perl = reports.read_with_perl(found)
        self.assertEqual([one["bounce"] for one in perl], [1, 1, 1])
        self.assertEqual(perl[0]["reports"], [["bob@hop.example", "user_unknown"], ["full@hop.example", "over_quota"]])
        self.assertEqual(perl[0]["sisimai"], [["bob@hop.example", "userunknown", "5.1.1", "failed"],
                                              ["full@hop.example", "mailboxfull", "5.2.2", "failed"]])
        self.assertIn(["dave@hop.example"], [[report[0] for report in one["reports"]] for one in perl])
        gateway.stop()

    def test_notify(self):
        """NOTIFY to a hop without DSN, and to one that has it."""
        hop = self.hop({"RCPT TO:<bad": REFUSE})
        gateway = self.gateway(hop)
        self.send(gateway, recipients=("<bad1@hop.example> NOTIFY=NEVER", "<bad2@hop.example> NOTIFY=SUCCESS,DELAY",
                                       "<good1@hop.example>", "<good2@hop.example> NOTIFY=FAILURE"))
        wait_until(lambda: len(gateway.events("refused")) == 2 and len(gateway.events("delivered")) == 2, "outcomes")
        self.settled(gateway, 0)
        self.assertEqual(gateway.count("alice"), 0)
        self.send(gateway, recipients=("<good@hop.example> NOTIFY=SUCCESS", "<carol@example.org> NOTIFY=SUCCESS",
                                       "<quiet@hop.example> NOTIFY=FAILURE"))
        self.report(gateway, count=2)
        found = sorted((Report(content) for content in gateway.messages("alice")),
                       key=lambda report: report.recipients[0]["Action"])
        self.assertEqual([report.recipients[0]["Action"] for report in found], ["delivered", "relayed"])
        self.assertEqual([report.recipients[0]["Final-Recipient"] for report in found],
                         ["rfc822; carol@example.org", "rfc822; good@hop.example"])
        self.assertEqual([len(report.recipients) for report in found], [1, 1])
        for report in found:
            self.assertEqual(report.recipients[0]["Status"][0], "2")
            self.assertEqual(report.parts[2].get_content_type(), "text/rfc822-headers")
        gateway.stop()

    def test_hop_with_dsn(self):
        """It reports by itself; we hand on what was asked for."""
        hop = self.hop({"RCPT TO:<bad": REFUSE}, extensions=("DSN", "8BITMIME", "ENHANCEDSTATUSCODES"))
        gateway = self.gateway(hop)
        self.send(gateway, sender="<alice@example.org> RET=HDRS ENVID=QQ314",
                  recipients=("<good@hop.example> NOTIFY=SUCCESS ORCPT=rfc822;x@y.example", "<bad@hop.example>"))
        report = self.report(gateway)
        self.assertEqual([fields["Final-Recipient"] for fields in report.recipients], ["rfc822; bad@hop.example"])
        self.settled(gateway, 1)
        said = b"\n".join(hop.commands)
        self.assertRegex(said, rb"MAIL FROM:<alice@example.org>.* RET=HDRS")
        self.assertRegex(said, rb"MAIL FROM:<alice@example.org>.* ENVID=QQ314")
        self.assertRegex(said, rb"RCPT TO:<good@hop.example>.* NOTIFY=SUCCESS")
        self.assertRegex(said, rb"RCPT TO:<good@hop.example>.* ORCPT=rfc822;x@y.example")
        self.assertEqual(gateway.count("alice"), 1)
        gateway.stop()

    def test_original(self):
        """What goes back: all, the header, octets with 8 bits."""
        hop = self.hop({"RCPT": REFUSE})
        gateway = self.gateway(hop, {"queue.bounce_size": '"4k"'})
        small = b"Subject: small\r\n\r\n" + "\u00e9\u00e8\r\n".encode() * 10 + b"--=_ringmx-x--\r\n..\r\n"
        self.send(gateway, small, "<small@example.org> BODY=8BITMIME")
        report = self.report(gateway, "small")
        self.assertTrue(report.raw_part(2).endswith(small))
        self.assertEqual(report.message["Content-Transfer-Encoding"], "8bit")
        self.send(gateway, small, "<headers@example.org> RET=HDRS BODY=8BITMIME")
        report = self.report(gateway, "headers")
        self.assertEqual(report.parts[2].get_content_type(), "text/rfc822-headers")
        self.assertTrue(report.raw_part(2).endswith(b"Subject: small\r\n"))
        self.assertIsNone(report.message["Content-Transfer-Encoding"])
        large = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + b"y\r\n" * 2000
        self.send(gateway, large, "<large@example.org> RET=FULL")
        report = self.report(gateway, "large")
        self.assertEqual(report.parts[2].get_content_type(), "text/rfc822-headers")
        self.assertTrue(report.raw_part(2).endswith(b"Subject: large\r\n"))
        self.assertLess(len(report.text), 4000)
        self.send(gateway, b"Subject: long\r\n\r\n" + b"x" * 2000 + b"\r\n", "<long@example.org>")
        report = self.report(gateway, "long")
        self.assertEqual(report.parts[2].get_content_type(), "text/rfc822-headers")
        gateway.stop()

    def test_utf8(self):
        hop = self.hop({"RCPT": REFUSE}, extensions=("SMTPUTF8", "8BITMIME"))
        gateway = self.gateway(hop)
        text = "Subject: \u674e\r\n\r\n\u674e\r\n".encode()
        self.send(gateway, text, "<j\u00f6rg@example.org> SMTPUTF8",
                  ("<\u674e@hop.example> ORCPT=utf-8;\\x{674E}@hop.example",))
        report = self.report(gateway, "j\u00f6rg")
        types = [part.get_content_type() for part in report.parts]
        self.assertEqual(types, ["text/plain", "message/global-delivery-status", "message/global"])
        self.assertIn("<\u674e@hop.example>", report.words)
        self.assertIn("Final-Recipient: utf-8; \u674e@hop.example\r\n".encode(), report.text)
        self.assertIn("Original-Recipient: utf-8; \u674e@hop.example\r\n".encode(), report.text)
        self.assertIn("To: <j\u00f6rg@example.org>\r\n".encode(), report.text)
        self.assertTrue(report.raw_part(2).endswith(text))
        gateway.stop()

    # --- never ---------------------------------------------------------------------------------

    def test_nobody_is_told_about_a_notification(self):
        """From <>: an error in the log. A notification that can't be delivered itself: the same, and no more."""
        hop = self.hop({"RCPT": REFUSE})
        gateway = self.gateway(hop)
        self.send(gateway, sender="<>")
        wait_until(lambda: gateway.events("refused"), "the refusal")
        self.settled(gateway, 0, 0.5)
        self.assertEqual(gateway.events("refused")[0]["level"], "error")
        self.send(gateway, sender="<eve@hop.example>")
        wait_until(lambda: len(gateway.events("refused")) == 3, "the refusal of the notification, too")
        self.settled(gateway, 1)
        self.assertEqual(len(gateway.events("bounce")), 1)
        self.assertEqual(gateway.events("refused")[-1]["level"], "error")
        self.assertEqual(sum(b"MAIL FROM:<>" in line for line in hop.commands), 2)
        gateway.restart()
        self.settled(gateway, 0)
        self.assertEqual(gateway.events("refused", "bounce", "deferred"), [])
        gateway.stop()

    # --- ways out ------------------------------------------------------------------------------

    def test_foreign_sender(self):
        """The notification leaves by the section relay { }, from <>."""
        hop = self.hop({"RCPT TO:<bob@": REFUSE})
        gateway = self.gateway(hop, more=f'relay {{ deliver = "{hop.target}" }}\n')
        self.send(gateway, sender="<alice@foreign.example>")
        wait_until(lambda: hop.messages, "the notification at the hop")
        sender, recipients, text = hop.messages[0]
        self.assertTrue(sender.startswith(b"<>"), sender)
        self.assertEqual(recipients, [b"<alice@foreign.example>"])
        # The text goes behind a Received field only if there is one; it is a report either way.
        report = Report(text, added=False)
        self.assertEqual(report.recipients[0]["Final-Recipient"], "rfc822; bob@hop.example")
        self.assertEqual(report.defects(), [])
        gateway.stop()

    def test_alias(self):
        """The sender wrote to an alias, and is told of that address, too."""
        hop = self.hop({"RCPT": REFUSE})
        alias = 'alias "sales+x@example.org" { to = {"bob@hop.example", "carol@example.org"} }\n'
        gateway = self.gateway(hop, more=alias)
        self.send(gateway, recipients=("<sales+x@example.org>",))
        report = self.report(gateway)
        self.assertEqual(report.recipients[0]["Original-Recipient"], "rfc822; sales+x@example.org")
        self.assertEqual(report.recipients[0]["Final-Recipient"], "rfc822; bob@hop.example")
        self.assertIn("  <bob@hop.example>\n      for <sales+x@example.org>\n", report.words.replace("\r\n", "\n"))
        self.assertEqual(len(gateway.wait_messages("carol", 1)), 1)
        gateway.stop()

    # --- senders of ours ---------------------------------------------------------------------------

    def nobody_told(self, gateway, sender, action):
        """The last line about notifications: an error, and no notification before it."""
        line = wait_until(lambda: gateway.events("bounce"), "the line about the notification")[-1]
        self.assertEqual((line["level"], line["to"], line["action"]), ("error", sender, action))
        self.assertNotIn("id", line)
        return line["error"]

    def test_sender_who_does_not_exist(self):
        """No Maildir is made for a ghost, whatever the notification would say."""
        hop = self.hop({"RCPT TO:<bob@": REFUSE})
        gateway = self.gateway(hop, users=("alice",))
        self.send(gateway, sender="<ghost@example.org>", recipients=("<alice@example.org> NOTIFY=SUCCESS",))
        gateway.wait_messages("alice", 1)
        self.assertEqual(self.nobody_told(gateway, "ghost@example.org", "delivered"), "no such user here")
        self.send(gateway, sender="<ghost@example.org>", recipients=("<carol@hop.example> NOTIFY=SUCCESS",))
        wait_until(lambda: len(gateway.events("bounce")) == 2, "the second line")
        self.assertEqual(self.nobody_told(gateway, "ghost@example.org", "relayed"), "no such user here")
        self.send(gateway, sender="<ghost@example.org>")
        wait_until(lambda: len(gateway.events("bounce")) == 3, "the third line")
        self.assertEqual(self.nobody_told(gateway, "ghost@example.org", "failed"), "no such user here")
        self.assertEqual(len(gateway.events("refused")), 1)
        gateway.restart()  # all three messages are finished
        self.settled(gateway, 0)
        self.assertEqual(gateway.events("refused", "delivered", "deferred"), [])
        self.assertEqual(os.listdir(os.path.join(gateway.mail, "example.org")), ["alice"])
        gateway.stop()

    def test_sender_who_is_an_alias(self):
        """Each whom it leads to is told, here and elsewhere; a reload changes who that is."""
        hop = self.hop({"RCPT TO:<bob@": REFUSE})
        aliases = ('domain "old.example" { }\nrelay { deliver = "%s" }\n' % hop.target
                   + 'alias "sales@old.example" { to = {"team@example.org"} }\n'
                   + 'alias "team@example.org" { to = {"alice@example.org", "carol@foreign.example"} }\n')
        gateway = self.gateway(hop, more=aliases, users=("alice", "dave"))
        self.send(gateway, sender="<sales@old.example>")
        report = self.report(gateway)
        self.assertEqual(report.message["To"].addresses[0].addr_spec, "sales@old.example")
        wait_until(lambda: hop.messages, "carol's copy")
        sender, recipients, text = hop.messages[0]
        self.assertTrue(sender.startswith(b"<>"), sender)
        self.assertEqual(recipients, [b"<carol@foreign.example>"])
        self.assertEqual(Report(text, added=False).text, report.text)
        self.settled(gateway, 1)
        line = gateway.events("bounce")[0]
        self.assertEqual((line["to"], line["targets"]), ("sales@old.example", "2"))

        gateway.more = gateway.more.replace('"alice@example.org", "carol@foreign.example"', '"dave@example.org"')
        gateway.write_configuration()
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: gateway.events("reloaded"), "the reload")
        self.send(gateway, sender="<sales@old.example>")
        self.report(gateway, "dave")
        self.settled(gateway, 2)
        self.assertEqual(gateway.count("alice"), 1)
        self.assertEqual(len(hop.messages), 1)
        gateway.stop()

    def test_sender_with_our_srs_address(self):
        """Forwarded mail has an SRS address of ours as its sender; when that comes in as a sender, its report finds the
        way back. A forged one, and one that is too old, is nobody."""
        hop = self.hop({"RCPT TO:<bob@": REFUSE})
        folder = tempfile.mkdtemp(prefix="ringmx-bounces-", dir=os.environ.get("RINGMX_TMP"))
        self.addCleanup(shutil.rmtree, folder)
        key = os.path.join(folder, "srs.key")
        with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write("one secret of ours\n")
        gateway = self.gateway(hop, users=("alice",), more=(
            'alias "away@example.org" { to = {"carol@foreign.example"} }\n'
            f'relay {{ deliver = "{hop.target}" }}\nsrs {{ domain = "srs.example.net" secret = "{key}" }}\n'))
        self.send(gateway, sender="<orig@sender.example>", recipients=("<away@example.org>",))
        wait_until(lambda: hop.messages, "the forwarded message")
        address = re.match(rb"<(SRS0=[^>]+@srs\.example\.net)>", hop.messages[0][0])[1].decode()
        self.send(gateway, sender=f"<{address}>")
        wait_until(lambda: len(hop.messages) == 2, "the report")
        self.assertTrue(hop.messages[1][0].startswith(b"<>"), hop.messages[1][0])
        self.assertEqual(hop.messages[1][1], [b"<orig@sender.example>"])
        self.assertEqual(Report(hop.messages[1][2], added=False).recipients[0]["Final-Recipient"],
                         "rfc822; bob@hop.example")
        forged = address.replace("orig@", "eve@").replace("=orig", "=eve")
        self.send(gateway, sender=f"<{forged}>")
        wait_until(lambda: len(gateway.events("bounce")) == 2, "the line about the forged one")
        self.assertEqual(self.nobody_told(gateway, forged, "failed"), "an SRS address that is forged or too old")
        self.settled(gateway, 2)
        self.assertEqual(len(hop.messages), 2)
        gateway.stop()

    def burst(self, target, settings, count):
        """Sends `count` messages, waits for as many notifications, and for no more."""
        gateway = self.gateway(target, settings)
        with gateway.client() as client:
            client.hello()
            for first in range(0, count, 500):
                numbers = range(first, min(count, first + 500))
                client.send(b"".join(b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<u%d@hop.example>\r\n"
                                     b"BDAT 18 LAST\r\nSubject: %05d\r\n\r\n" % (at, at) for at in numbers))
                for _ in range(3 * len(numbers)):
                    client.expect(250)
        wait_until(lambda: gateway.count("alice") >= count, f"{count} notifications", 5 * PATIENCE_S)
        self.settled(gateway, count)
        subjects = {re.search(rb"\r\nSubject: (\d+)\r\n", content)[1] for content in gateway.messages("alice")}
        self.assertEqual(len(subjects), count)
        self.assertEqual(gateway.count("alice"), count)
        # What was put off for want of room is given up once, not twice.
        given_up = [line["id"] for line in gateway.events("refused", "expired")]
        self.assertEqual((len(given_up), len(set(given_up))), (count, count))
        gateway.stop()

    def test_burst(self):
        """Thousands are refused: each is told of, once."""
        hop = self.hop({"RCPT": REFUSE})
        self.burst(hop, {}, 400 if SLOW else 2000)

    def test_burst_of_the_old(self):
        """Thousands grow too old behind a dead destination, more at once than may wait for their notification."""
        with Hop() as hop:
            target = hop.target
        self.burst(target, {"queue.lifetime": '"6s"'}, 400 if SLOW else 5000)

    # --- time ----------------------------------------------------------------------------------

    def test_too_old(self):
        """4xx until the lifetime is over."""
        hop = self.hop({"RCPT": b"451 4.3.0 Come back later"})
        gateway = self.gateway(hop, {"queue.lifetime": '"3s"'})
        self.send(gateway)
        report = self.report(gateway)
        self.assertEqual((report.recipients[0]["Action"], report.recipients[0]["Status"]), ("failed", "4.3.0"))
        self.assertEqual(report.recipients[0]["Diagnostic-Code"], "smtp; 451 4.3.0 Come back later")
        self.assertIn("tried again and again", report.words)
        tries = [line for line in hop.commands if line.startswith(b"RCPT")]
        self.assertGreaterEqual(len(tries), 2)
        gateway.restart()
        self.settled(gateway, 0)
        self.assertEqual(gateway.count("alice"), 1)
        gateway.stop()

    def test_unreachable(self):
        """Nobody listens there."""
        with Hop() as hop:
            target = hop.target
        gateway = self.gateway(target, {"queue.lifetime": '"2s"'})
        self.send(gateway)
        report = self.report(gateway)
        fields = report.recipients[0]
        self.assertEqual((fields["Action"], fields["Status"][0]), ("failed", "4"))
        self.assertTrue(fields["Diagnostic-Code"].startswith("x-ringmx; "), fields["Diagnostic-Code"])
        gateway.stop()

    def test_delayed(self):
        """Told once that it waits, then delivered."""
        answers = {"RCPT": b"451 4.3.0 Come back later"}
        hop = self.hop(answers)
        gateway = self.gateway(hop, {"queue.warn_after": '"2s"'})
        self.send(gateway, sender="<alice@example.org> RET=FULL",
                  recipients=("<bob@hop.example>", "<carol@hop.example> NOTIFY=FAILURE"))
        report = self.report(gateway)
        self.assertEqual(len(report.recipients), 1)
        fields = report.recipients[0]
        self.assertEqual((fields["Action"], fields["Status"]), ("delayed", "4.3.0"))
        self.assertEqual(fields["Final-Recipient"], "rfc822; bob@hop.example")
        self.assertIsNotNone(fields["Will-Retry-Until"])
        self.assertEqual(report.parts[2].get_content_type(), "text/rfc822-headers")
        self.settled(gateway, 1, 3.0)
        hop.answers.clear()
        wait_until(lambda: hop.messages, "the delivery")
        self.settled(gateway, 1)
        self.assertEqual(gateway.count("alice"), 1)
        gateway.stop()

    # --- hostile ---------------------------------------------------------------------------------

    def test_words_of_next_hops(self):
        """Whatever a next hop says, the report is one, about one recipient that failed."""
        attacks = [
            b"550-5.1.1 one\r\n550-5.1.1 \r\n550-5.1.1 Action: delivered\r\n"
            b"550 5.1.1 Final-Recipient: rfc822; eve@example.com",
            b"550 5.1.1 \x1b[2J\x07\x00\x7f\x80\xff",
            b"550 5.1.1 " + b"x" * 400,
            b"550 5.1.1 " + b"word " * 80,
            b"550 5.1.1 bare\rCR Action: delivered",
            b"550 9.9.9 what?",
            b"550",
            b"550 ",
            b"599 5.999.999 --=_ringmx-aaaaaaaaaaaaa-1--",
            "550 5.1.1 Utilisateur inconnu, d\u00e9sol\u00e9".encode(),
            b"550 2.0.0 Delivered",
        ]
        hop = self.hop()
        gateway = self.gateway(hop)
        for number, attack in enumerate(attacks):
            hop.answers["RCPT"] = attack
            self.send(gateway, sender=f"<user{number}@example.org>")
            report = self.report(gateway, f"user{number}")
            self.assertEqual(len(report.recipients), 1, attack)
            fields = report.recipients[0]
            self.assertEqual(fields["Action"], "failed", attack)
            self.assertEqual(fields["Final-Recipient"], "rfc822; bob@hop.example")
            self.assertRegex(fields["Status"], r"^5\.\d{1,3}\.\d{1,3}$")
            self.assertTrue(fields["Diagnostic-Code"].startswith("smtp; 5"), fields["Diagnostic-Code"])
            ours = report.text[:report.text.index(b"message/rfc822")]
            self.assertNotRegex(ours, rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff]")
            self.assertEqual(len(report.parts), 3)
        gateway.stop()

    # --- many ------------------------------------------------------------------------------------

    def test_many_recipients(self):
        """600 refused recipients of one message: each is told of, once."""
        hop = self.hop({"RCPT": REFUSE})
        gateway = self.gateway(hop)
        self.send(gateway, recipients=[f"<u{number}@hop.example>" for number in range(600)])
        names = []

        def all_told():
            names[:] = [fields["Final-Recipient"] for content in gateway.messages("alice")
                        for fields in Report(content).recipients]
            return len(names) >= 600

        wait_until(all_told, "600 recipients told of")
        self.assertEqual(sorted(names), sorted(f"rfc822; u{number}@hop.example" for number in range(600)))
        gateway.stop()

    def test_killed(self):
        """A kill -9 in the midst of many failures: each message has a notification in the end, or more."""
        count = 60 if SLOW else 300
        hop = self.hop({"RCPT": REFUSE})
        gateway = self.gateway(hop)
        with gateway.client() as client:
            client.hello()
            for number in range(count):
                reply = client.transfer(message(f"m{number}"), "alice@example.org", ["bob@hop.example"])
                self.assertEqual(reply.code, 250)
                if number in (count // 3, 2 * count // 3):
                    gateway.kill()
                    gateway.start()
                    client.close()
                    client.__init__(gateway.address)
                    client.hello()

        def subjects():
            return {re.search(rb"\r\nSubject: (m\d+)\r\n", content)[1] for content in gateway.messages("alice")}

        wait_until(lambda: len(subjects()) == count, f"{count} subjects", 3 * PATIENCE_S)
        ids = [Report(content).message["Message-ID"] for content in gateway.messages("alice")]
        print(f"\n  {count} messages, {len(ids)} files, {len(set(ids))} notifications", flush=True)
        gateway.stop()


if __name__ == "__main__":
    unittest.main()
