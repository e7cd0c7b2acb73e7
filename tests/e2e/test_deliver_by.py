"""DELIVERBY (RFC 2852): what is passed on, to whom, what is returned and what is told of, with next hops that announce
it and such that do not: ringmx, Postfix, Exim."""
import email.utils
import time
import unittest

import hops
from harness import Gateway, wait_until
from reports import Hop
from test_terms import Terms


class DeliverBy(Terms):
    def judge_by(self, report, begun, by_s):
        by = email.utils.parsedate_to_datetime(report.fields[0]["Deliver-By-Date"]).timestamp()
        self.assertTrue(begun + by_s - 1 <= by <= time.time() + by_s + 1, report.fields[0])

    def test_passed_on(self):
        with Hop(extensions=("PIPELINING", "DSN", "DELIVERBY 30", "MT-PRIORITY MIXER")) as hop:
            gateway = self.start({"hop.example": (["*"], hop.target)})
            client = self.login(gateway)
            begun = time.time()
            self.send(client, "BY=100;R MT-PRIORITY=4", "a@hop.example")
            self.send(client, "BY=100;NT", "b@hop.example")
            self.send(client, "BY=20;R", "c@hop.example")  # too little for the hop
            self.send(client, "MT-PRIORITY=0 BY=-7;N", "d@hop.example")
            wait_until(lambda: len(hop.messages) == 3, "three at the hop")
            said = {to: line for line, (to,), _ in hop.messages}
            self.assertRegex(said[b"<a@hop.example>"], rb" BY=(9\d|100);R MT-PRIORITY=4$")
            self.assertRegex(said[b"<b@hop.example>"], rb" BY=(9\d|100);NT$")
            self.assertRegex(said[b"<d@hop.example>"], rb" BY=-([7-9]|\d\d);N$")
            report = self.report(gateway, "Your message was passed on")
            self.judge_by(report, begun, 100)
            self.assertEqual(report.recipients[0]["Action"], "relayed")
            self.assertEqual(report.recipients[0]["Final-Recipient"], "rfc822; b@hop.example")
            report = self.report(gateway, "Your message could not be delivered")
            self.assertEqual(report.recipients[0]["Final-Recipient"], "rfc822; c@hop.example")
            self.assertEqual(report.recipients[0]["Status"], "5.4.7")
            gateway.stop()
            self.assertEqual(gateway.count("alice"), 2)

    def test_over_while_the_text_comes(self):
        """At MAIL there was time; at the end of the text there is none."""
        with Hop(answers={"CONNECT": b"421 4.3.2 Not now"}) as hop:
            gateway = self.start({"hop.example": (["*"], hop.target)})
            for mode, recipient in (("R", "bob@example.org"), ("N", "late@hop.example")):
                client = self.login(gateway)
                client.expect(250, f"MAIL FROM:<alice@example.org> BY=2;{mode}")
                client.expect(250, f"RCPT TO:<{recipient}>")
                client.expect(354, "DATA")
                time.sleep(3.5)
                client.send(b"From: alice@example.org\r\n\r\nlate\r\n.\r\n")
                self.assertEqual(client.reply().code, 250)
            report = self.report(gateway, "Your message could not be delivered")
            self.assertEqual(report.recipients[0]["Status"], "5.4.7")
            report = self.report(gateway, "Your message is delayed")
            self.assertEqual(report.recipients[0]["Status"], "4.4.7")
            self.assertEqual(gateway.count("bob"), 0)
            gateway.stop()

    def judge_silent_hop(self, target, wait_for_mail, domain="hop.example"):
        """A next hop that does not announce it: "R" comes back, "N" is passed on, and that is told of."""
        gateway = self.start({domain: (["*"], target)})
        client = self.login(gateway)
        self.send(client, "BY=100;R MT-PRIORITY=3", f"back@{domain}")
        self.send(client, "BY=100;N MT-PRIORITY=-3", f"on@{domain}")
        self.send(client, "BY=100;N", f"never@{domain}", notify="NOTIFY=NEVER")
        wait_for_mail()
        report = self.report(gateway, "Your message could not be delivered")
        self.assertEqual(report.recipients[0]["Final-Recipient"], f"rfc822; back@{domain}")
        self.assertEqual(report.recipients[0]["Status"], "5.3.3")
        report = self.report(gateway, "Your message was passed on")
        self.assertEqual(report.recipients[0]["Final-Recipient"], f"rfc822; on@{domain}")
        self.assertEqual(report.recipients[0]["Action"], "relayed")
        self.assertEqual(gateway.count("alice"), 2)
        gateway.stop()

    def test_ringmx_does_not_announce(self):
        other = Gateway(domains={"hop.example": (["*"], "maildir:{mail}/%d/%u")})
        self.addCleanup(other.close)
        other.start()

        def arrived():
            other.wait_messages("on", 1, domain="hop.example")
            other.wait_messages("never", 1, domain="hop.example")
            self.assertEqual(other.count("back", "hop.example"), 0)

        self.judge_silent_hop("smtp:{}:{}".format(*other.address), arrived)

    def test_lmtp_delivers(self):
        with Hop(lmtp=True) as hop:
            gateway = self.start({"hop.example": (["*"], hop.target)})
            self.send(self.login(gateway), "BY=100;R", "a@hop.example")
            wait_until(lambda: hop.messages, "it is delivered")
            gateway.stop()
            self.assertEqual(gateway.count("alice"), 0)

    def test_late(self):
        with Hop(answers={"CONNECT": b"421 4.3.2 Not now"}) as hop:
            gateway = self.start({"hop.example": (["*"], hop.target)})
            client = self.login(gateway)
            begun = time.time()
            self.send(client, "BY=3;R", "back@hop.example")
            self.send(client, "BY=3;N", "on@hop.example")
            self.send(client, "", "usual@hop.example")
            report = self.report(gateway, "Your message could not be delivered")
            self.assertGreaterEqual(time.time(), begun + 2)
            self.judge_by(report, begun, 3)
            self.assertEqual((report.recipients[0]["Status"], report.recipients[0]["Action"]), ("5.4.7", "failed"))
            report = self.report(gateway, "Your message is delayed")
            self.judge_by(report, begun, 3)
            self.assertEqual((report.recipients[0]["Status"], report.recipients[0]["Action"]), ("4.4.7", "delayed"))
            self.assertEqual(sorted(row["to"][0] for row in self.rows()), ["on@hop.example", "usual@hop.example"])
            gateway.stop()


@unittest.skipUnless(hops.have_postfix(), "skipped: Postfix needs root")
class Postfix(DeliverBy):
    test_passed_on = test_ringmx_does_not_announce = test_lmtp_delivers = test_late = None
    test_over_while_the_text_comes = None

    def test_does_not_announce(self):
        with hops.PostfixHop() as hop:
            self.judge_silent_hop("smtp:{}:{}".format(*hop.address),
                                  lambda: wait_until(lambda: hop.count() == 2, "two in Postfix's store"), "hop.example")


@unittest.skipUnless(hops.have_exim(), "skipped: no Exim, or no mount namespaces")
class Exim(DeliverBy):
    test_passed_on = test_ringmx_does_not_announce = test_lmtp_delivers = test_late = None
    test_over_while_the_text_comes = None

    def test_does_not_announce(self):
        with hops.EximHop() as hop:
            self.judge_silent_hop("smtp:{}:{}".format(*hop.address),
                                  lambda: wait_until(lambda: hop.count() == 2, "two in Exim's store"), "hop.example")


if __name__ == "__main__":
    unittest.main()
