"""What submitted mail may ask for besides delivery: FUTURERELEASE (RFC 4865), DELIVERBY (RFC 2852), MT-PRIORITY (RFC
6710), from the MAIL command to the Maildir, the next hop and the notifications; over restarts and crashes, too."""
import base64
import email.utils
import json
import os
import re
import subprocess
import time
import unittest

import hops
from harness import BINARY, PATIENCE_S, SLOW, Client, Gateway, message, quote, wait_until
from reports import Hop, Report

PROGRAM = os.path.join(os.path.dirname(BINARY), "ringmxctl")
# The hash of "secret", as `openssl passwd -6 -salt abc secret` makes it.
USERS = "alice@example.org:{SHA512-CRYPT}$6$abc$IdWKNKTJEb8LxY7CGg8YBXlvtfZzFw7Mp/r6niK9YB2mdvgY..TKjv1T..8RadRt2qvUHYRLr/TsVArtr91iR1\n"
OFFER = {"submission.hold": '"7d"', "submission.deliver_by": '"2s"', "submission.priority": "6"}
ALICE = "alice@example.org"


class Terms(unittest.TestCase):
    def start(self, domains=None, settings=None, more=""):
        """A gateway with a listener of each role."""
        gateway = Gateway(
            settings={**OFFER, "auth.users": quote("users"), "queue.schedule": '{"1h"}', **(settings or {})},
            domains={"example.org": (["*"], "maildir:{mail}/%d/%u"), **(domains or {})},
            listeners={"mx": {}, "submission": {"role": "submission", "auth": "plaintext"}}, more=more)
        self.addCleanup(gateway.close)
        self.control = os.path.join(gateway.directory, "control")
        gateway.settings["admin.control"] = quote(self.control)
        with open(os.path.join(gateway.directory, "users"), "w", encoding="ascii") as file:
            file.write(USERS)
        os.chmod(os.path.join(gateway.directory, "users"), 0o600)
        gateway.start()
        return gateway

    def login(self, gateway):
        client = Client(gateway.at["submission"])
        self.addCleanup(client.close)
        client.hello()
        secret = base64.b64encode(b"\0" + ALICE.encode() + b"\0secret").decode()
        client.expect(235, f"AUTH PLAIN {secret}")
        return client

    def send(self, client, parameters, *recipients, subject="test", notify=""):
        client.expect(250, f"MAIL FROM:<{ALICE}> {parameters}")
        for recipient in recipients:
            client.expect(250, f"RCPT TO:<{recipient}> {notify}".rstrip())
        client.expect(354, "DATA")
        client.send(message(subject, sender=ALICE) + b".\r\n")
        reply = client.reply()
        self.assertEqual(reply.code, 250, reply)
        return re.search(r"queued as (\w+)", reply.text)[1]

    def ringmxctl(self, *words):
        done = subprocess.run([PROGRAM, "-s", self.control, *words], capture_output=True, text=True, check=False,
                              timeout=PATIENCE_S * 3)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def rows(self):
        return [json.loads(line) for line in self.ringmxctl("queue", "list", "--json").splitlines()
                if "id" in json.loads(line)]

    def report(self, gateway, subject):
        """The notification with this subject that alice gets."""
        def look():
            found = [Report(content) for content in gateway.messages("alice")
                     if b"multipart/report" in content]
            return [report for report in found if report.message["subject"] == subject]
        report = wait_until(look, f"a report: {subject}")[0]
        self.assertEqual(report.defects(), [])
        return report


class Words(Terms):
    def test_offered_to_submission_only(self):
        gateway = self.start()
        before = time.time()
        with Client(gateway.at["submission"]) as client:
            client.hello()
            lines = client.expect(250, "EHLO client.example").texts
            found = [line.split() for line in lines if line.startswith("FUTURERELEASE")]
            self.assertEqual(found[0][1], str(7 * 86400))
            until = email.utils.datetime.datetime.fromisoformat(found[0][2].replace("Z", "+00:00")).timestamp()
            self.assertTrue(before - 1 <= until - 7 * 86400 <= time.time() + 1, found)
            self.assertIn("DELIVERBY 2", lines)
            self.assertIn("MT-PRIORITY", lines)
            client.expect(530, f"MAIL FROM:<{ALICE}> HOLDFOR=60 BY=99;R MT-PRIORITY=1")
        with gateway.client() as client:
            client.hello()
            text = client.expect(250, "EHLO client.example").text
            for word in ("FUTURERELEASE", "DELIVERBY", "MT-PRIORITY"):
                self.assertNotIn(word, text)
            for parameter in ("HOLDFOR=60", "HOLDFOR=x", "HOLDUNTIL=2030-01-01T00:00:00Z", "BY=99;R", "BY=0;R",
                              "MT-PRIORITY=0", "MT-PRIORITY=77"):
                self.assertEqual(client.command(f"MAIL FROM:<a@client.example> {parameter}").code, 555, parameter)
            client.expect(250, "MAIL FROM:<a@client.example>")

    def test_nothing_configured(self):
        gateway = self.start(settings={word: {"submission.priority": "off"}.get(word, '"0s"') for word in OFFER})
        client = self.login(gateway)
        text = client.expect(250, "EHLO client.example").text
        for word in ("FUTURERELEASE", "DELIVERBY", "MT-PRIORITY"):
            self.assertNotIn(word, text)
        for parameter in ("HOLDFOR=60", "BY=99;R", "MT-PRIORITY=0"):
            self.assertEqual(client.command(f"MAIL FROM:<{ALICE}> {parameter}").code, 555, parameter)

    def test_refused(self):
        client = self.login(self.start())
        for parameters in (
                f"HOLDFOR={7 * 86400 + 60}", "HOLDUNTIL=2099-01-01T00:00:00Z", "HOLDFOR=0", "HOLDFOR=1m",
                "HOLDFOR=5 HOLDUNTIL=2030-01-01T00:00:00Z", "HOLDUNTIL=2030-02-30T00:00:00Z",
                "BY=1;R", "BY=0;R", "BY=-5;R", "BY=5", "BY=60;R HOLDFOR=60", "BY=60;N HOLDFOR=90",
                "MT-PRIORITY=7", "MT-PRIORITY=10", "MT-PRIORITY=high"):
            reply = client.command(f"MAIL FROM:<{ALICE}> {parameters}")
            self.assertEqual((reply.code, reply.enhanced), (501, "5.5.4"), parameters)
        for parameters in ("HOLDFOR=60 BY=61;R MT-PRIORITY=6", "BY=-5;N", "BY=2;RT", "MT-PRIORITY=-9",
                           "HOLDUNTIL=2001-01-01T00:00:00+01:00"):
            client.expect(250, f"MAIL FROM:<{ALICE}> {parameters}")
            client.expect(250, "RSET")


class Hold(Terms):
    def test_over_restart_and_crash(self):
        gateway = self.start()
        client = self.login(gateway)
        begun = time.time()
        hold_s = 12 if SLOW else 6
        held = self.send(client, f"HOLDFOR={hold_s} MT-PRIORITY=-3", "bob@example.org", notify="NOTIFY=SUCCESS")
        self.send(client, "", "bob@example.org")
        gateway.wait_messages("bob", 1)
        row, = wait_until(lambda: [row for row in self.rows() if row["id"] == held], "the entry")
        self.assertEqual((row["state"], row["priority"], row["attempts"]), ("waiting", -3, 0))
        self.assertTrue(begun + hold_s - 1 <= row["release"] <= time.time() + hold_s, row)
        self.assertEqual(row["next"], row["release"])
        self.assertRegex(self.ringmxctl("queue", "show", held), r"asks    released in \d+s, priority -3\n")
        self.assertRegex(self.ringmxctl("queue", "list"), r"\n +released in \d+s, priority -3\n")
        self.ringmxctl("queue", "retry", "--all")  # is no release
        gateway.signal(1)
        gateway.restart()
        self.assertEqual(self.rows()[0]["release"], row["release"])
        gateway.kill()
        gateway.start()
        self.assertEqual(self.rows()[0]["release"], row["release"])
        self.assertEqual(gateway.count("bob"), 1)
        gateway.wait_messages("bob", 2)
        self.assertGreaterEqual(time.time(), row["release"])
        late = [content for content in gateway.messages("bob") if b"\tpriority -3;" in content]
        self.assertEqual(len(late), 1)
        report = self.report(gateway, "Your message was delivered")
        self.assertEqual(report.fields[0]["Future-Release-Request"], f"for;{hold_s}")
        gateway.stop()

    def test_until(self):
        gateway = self.start()
        client = self.login(gateway)
        at = int(time.time()) + 3
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        self.send(client, f"HOLDUNTIL={text}", "bob@example.org", notify="NOTIFY=SUCCESS")
        gateway.wait_messages("bob", 1)
        self.assertGreaterEqual(time.time(), at)
        report = self.report(gateway, "Your message was delivered")
        self.assertEqual(report.fields[0]["Future-Release-Request"], f"until;{text}")
        gateway.stop()


class DeliverBy(Terms):
    def judge_by(self, report, begun, by_s):
        by = email.utils.parsedate_to_datetime(report.fields[0]["Deliver-By-Date"]).timestamp()
        self.assertTrue(begun + by_s - 1 <= by <= time.time() + by_s, report.fields[0])

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

    def test_does_not_announce(self):
        with hops.PostfixHop() as hop:
            self.judge_silent_hop("smtp:{}:{}".format(*hop.address),
                                  lambda: wait_until(lambda: hop.count() == 2, "two in Postfix's store"), "hop.example")


@unittest.skipUnless(hops.have_exim(), "skipped: no Exim, or no mount namespaces")
class Exim(DeliverBy):
    test_passed_on = test_ringmx_does_not_announce = test_lmtp_delivers = test_late = None

    def test_does_not_announce(self):
        with hops.EximHop() as hop:
            self.judge_silent_hop("smtp:{}:{}".format(*hop.address),
                                  lambda: wait_until(lambda: hop.count() == 2, "two in Exim's store"), "hop.example")


class Priority(Terms):
    def test_order(self):
        """One connection, and a first message that keeps it busy until the others stand in line."""
        going = []

        def slowly(line):
            if b"<first@" in line:
                wait_until(lambda: going, "the others are there")
            return b"250 2.1.5 Ok"

        with Hop(answers={"RCPT": slowly}) as hop:
            gateway = self.start({"hop.example": (["*"], hop.target, "connections = 1")})
            client = self.login(gateway)
            self.send(client, "", "first@hop.example")
            wait_until(lambda: any(b"<first@" in line for line in hop.commands), "the first is under way")
            for number, priority in enumerate((0, -4, 6, 0, 1, -1)):
                self.send(client, f"MT-PRIORITY={priority}", f"u{number}@hop.example")
            wait_until(lambda: [row["state"] for row in self.rows()].count("lined") == 6, "six in line")
            going.append(True)
            wait_until(lambda: len(hop.messages) == 7, "all at the hop")
            order = [to[0].decode() for _, to, _ in hop.messages]
            self.assertEqual(order, [f"<{user}@hop.example>" for user in ("first", "u2", "u4", "u0", "u3", "u1", "u5")])
            gateway.stop()


if __name__ == "__main__":
    unittest.main()
