"""What submitted mail may ask for besides delivery: the words of FUTURERELEASE (RFC 4865), DELIVERBY (RFC 2852) and
MT-PRIORITY (RFC 6710); what is held, over restarts and crashes; who goes before whom. test_deliver_by has the rest."""
import base64
import email.utils
import json
import os
import re
import subprocess
import time
import unittest

from harness import BINARY, PATIENCE_S, Client, Gateway, message, quote, wait_until
from reports import Hop, Report
from test_upgrade import take_over

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
                "BY=0;R", "BY=-5;R", "BY=5", "BY=60;R HOLDFOR=60", "BY=60;N HOLDFOR=90",
                "MT-PRIORITY=10", "MT-PRIORITY=high"):
            reply = client.command(f"MAIL FROM:<{ALICE}> {parameters}")
            self.assertEqual((reply.code, reply.enhanced), (501, "5.5.4"), parameters)
        for parameters, code, enhanced in (("BY=1;R", 555, "5.5.4"), ("MT-PRIORITY=7", 550, "5.7.1")):
            reply = client.command(f"MAIL FROM:<{ALICE}> {parameters}")
            self.assertEqual((reply.code, reply.enhanced), (code, enhanced), parameters)
        for parameters in ("HOLDFOR=60 BY=61;R MT-PRIORITY=6", "BY=-5;N", "BY=2;RT", "MT-PRIORITY=-9",
                           "HOLDUNTIL=2001-01-01T00:00:00+01:00"):
            client.expect(250, f"MAIL FROM:<{ALICE}> {parameters}")
            client.expect(250, "RSET")


class Hold(Terms):
    def test_over_restart_crash_and_handover(self):
        gateway = self.start()
        client = self.login(gateway)
        begun = time.time()
        held = self.send(client, "HOLDFOR=3600 MT-PRIORITY=-3", "bob@example.org")
        self.send(client, "", "bob@example.org")
        gateway.wait_messages("bob", 1)
        row, = wait_until(lambda: [row for row in self.rows() if row["id"] == held], "the entry")
        self.assertEqual((row["state"], row["priority"], row["attempts"]), ("waiting", -3, 0))
        self.assertTrue(begun + 3600 <= row["release"] <= time.time() + 3601, row)
        self.assertEqual(row["next"], row["release"])
        self.assertRegex(self.ringmxctl("queue", "show", held), r"asks    released in (\d+m|1h), priority -3\n")
        self.assertRegex(self.ringmxctl("queue", "list"), r"\n +released in (\d+m|1h), priority -3\n")
        self.assertIn("0 recipients in 0 entries", self.ringmxctl("queue", "retry", "--all"))  # is no release
        gateway.signal(1)
        gateway.restart()
        self.assertEqual(self.rows()[0]["release"], row["release"])
        gateway.kill()
        gateway.start()
        self.assertEqual(self.rows()[0]["release"], row["release"])
        gateway = take_over(self, gateway)
        self.assertEqual(self.rows()[0]["release"], row["release"])
        self.assertEqual(gateway.count("bob"), 1)
        self.ringmxctl("queue", "remove", held)
        self.assertEqual(self.rows(), [])
        gateway.stop()

    def test_until(self):
        gateway = self.start()
        client = self.login(gateway)
        at = int(time.time()) + 4
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        part = text.replace("Z", ".9Z")
        self.send(client, f"HOLDUNTIL={part} MT-PRIORITY=-3", "bob@example.org", notify="NOTIFY=SUCCESS")
        gateway.wait_messages("bob", 1)
        self.assertGreaterEqual(time.time(), at + 0.9)
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at + 1))
        self.assertIn(b"\tpriority -3;", gateway.messages("bob")[0])
        report = self.report(gateway, "Your message was delivered")
        self.assertEqual(report.fields[0]["Future-Release-Request"], f"until;{text}")
        gateway.stop()

    def test_for(self):
        gateway = self.start()
        client = self.login(gateway)
        wait_until(lambda: time.time() % 1 > 0.8, "a second that is nearly over")
        begun = time.time()
        self.send(client, "HOLDFOR=3", "bob@example.org", notify="NOTIFY=SUCCESS")
        gateway.wait_messages("bob", 1)
        self.assertGreaterEqual(time.time(), begun + 3)
        report = self.report(gateway, "Your message was delivered")
        self.assertEqual(report.fields[0]["Future-Release-Request"], "for;3")
        gateway.stop()

    def test_logged(self):
        gateway = self.start()
        begun = time.time()
        held = self.send(self.login(gateway), "HOLDFOR=600 BY=900;N MT-PRIORITY=-3", "bob@example.org")
        line = wait_until(lambda: gateway.events("message"), "the line")[-1]
        self.assertEqual((line["id"], line["priority"]), (held, "-3"))
        self.assertTrue(begun + 600 <= int(line["release"]) <= time.time() + 601, line)
        self.assertTrue(begun + 900 <= int(line["by"]) <= time.time() + 901, line)
        gateway.stop()

    def test_half_of_the_queue(self):
        """What users have held leaves room for the mail of others."""
        gateway = self.start(settings={"queue.messages": "1000"})
        client = self.login(gateway)
        text = message("held", sender=ALICE) + b".\r\n"
        for _ in range(500):
            client.send(f"MAIL FROM:<{ALICE}> HOLDFOR=3600\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n".encode())
            self.assertEqual([client.reply().code for _ in range(3)], [250, 250, 354])
            client.send(text)
            self.assertEqual(client.reply().code, 250)
        reply = client.command(f"MAIL FROM:<{ALICE}> HOLDFOR=3600")
        self.assertEqual((reply.code, reply.enhanced), (452, "4.3.1"))
        self.send(client, "", "bob@example.org")
        with gateway.client() as other:
            other.hello()
            self.assertEqual(other.transfer(message(), "a@client.example", ["bob@example.org"]).code, 250)
        gateway.wait_messages("bob", 2)
        gateway.stop()


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
