"""Aliases from end to end: who gets a copy, and how often; what RCPT says; what the envelope carries on; tables
from files, and a million lines of them, loaded and reloaded beside a client that must not notice."""
import os
import re
import shutil
import signal
import smtplib
import subprocess
import threading
import time
import unittest

from harness import BINARY, SLOW, Gateway, message, quote, split_delivered, wait_until
from reports import Hop

MILLION = 50_000 if SLOW else 1_000_000


class Aliases(unittest.TestCase):
    def gateway(self, more, domains=None, settings=None, files=None):
        gateway = Gateway(settings=settings, more=more, domains={
            "example.org": (["alice", "bob+*", "carol", "Jürgen"], "maildir:{mail}/%d/%u"),
            "old.example": (["postmaster"], "maildir:{mail}/%d/%u"),
            "any.example": (["*"], "maildir:{mail}/%d/%u"), **(domains or {})})
        for name, text in (files or {}).items():
            with open(os.path.join(gateway.directory, name), "w", encoding="utf-8") as file:
                file.write(text)
        self.addCleanup(gateway.close)
        return gateway.start()

    def hop(self, *arguments, **words):
        hop = Hop(*arguments, **words)
        hop.__enter__()
        self.addCleanup(hop.__exit__)
        return hop

    def send(self, gateway, *recipients, sender="sender@client.example", text=None):
        with gateway.client() as client:
            client.hello()
            reply = client.transfer(text or message(), sender, recipients)
            self.assertEqual(reply.code, 250, reply)

    def settled(self, gateway, count):
        """So many copies since the start, and no more."""
        wait_until(lambda: len(gateway.events("delivered")) >= count, f"{count} deliveries")
        time.sleep(0.3)
        self.assertEqual(len(gateway.events("delivered")), count)

    def delivered_to(self, gateway, mailbox):
        wait_until(lambda: any(line.get("to") == mailbox for line in gateway.events("delivered")), mailbox)

    # --- whom ------------------------------------------------------------------------------------

    def test_one_to_many_and_nested(self):
        gateway = self.gateway(
            'alias "staff@example.org" { to = {"team@example.org", "carol@example.org"} }\n'
            'alias "team@example.org" { to = {"alice@example.org", "bob@example.org"} }\n')
        text = message("to all of them")
        self.send(gateway, "Staff@EXAMPLE.org", text=text)
        for user in ("alice", "bob", "carol"):
            reverse_path, received, kept = split_delivered(gateway.wait_messages(user, 1)[0])
            self.assertEqual((reverse_path, kept), (b"sender@client.example", text))
            self.assertIn(b"for <Staff@EXAMPLE.org>", received)
            self.assertNotIn(b"alice", received)
        self.settled(gateway, 3)

    def test_one_copy_however_often(self):
        gateway = self.gateway(
            'alias "one@example.org" { to = {"alice@example.org", "bob@example.org"} }\n'
            'alias "two@example.org" { to = {"Alice@example.org", "one@example.org", "\\"alice\\"@EXAMPLE.org"} }\n')
        self.send(gateway, "one@example.org", "two@example.org", "alice@example.org", "ALICE@example.org",
                  '"alice"@example.org', "bob@example.org", "bob@example.org")
        self.assertEqual([len(gateway.wait_messages(user, 1)) for user in ("alice", "bob")], [1, 1])
        self.settled(gateway, 2)
        line, = gateway.events("message")
        self.assertEqual((line["to"], line["count"]), ("one@example.org", "2"))

    def test_a_copy_stays(self):
        hop = self.hop()
        gateway = self.gateway(
            'alias "alice@example.org" { to = {"alice@example.org", "alice@elsewhere.example"} }\n'
            f"relay {{ deliver = {quote(hop.target)} }}\n")
        self.send(gateway, "alice@example.org")
        gateway.wait_messages("alice", 1)
        wait_until(lambda: hop.messages, "the copy at the other domain")
        sender, recipients, _ = hop.messages[0]
        self.assertEqual((sender.split(b" ")[0], recipients),
                         (b"<sender@client.example>", [b"<alice@elsewhere.example>"]))
        self.settled(gateway, 2)

    def test_catch_alls_domains_and_tags(self):
        gateway = self.gateway(
            'alias "*@old.example" { to = "*@example.org" }\n'
            'alias "sales@old.example" { to = "carol@example.org" }\n'
            'alias "shop+*@example.org" { to = "bob+*@example.org" }\n'
            'alias "*@example.org" { to = "all+*@any.example" }\n')
        self.send(gateway, "alice@old.example")
        gateway.wait_messages("alice", 1)
        self.send(gateway, "sales@old.example")
        gateway.wait_messages("carol", 1)
        self.send(gateway, "shop+summer@example.org")
        gateway.wait_messages("bob", 1)
        self.delivered_to(gateway, "bob+summer@example.org")
        self.send(gateway, "nobody@old.example")  # through two of them
        gateway.wait_messages("all", 1, "any.example")
        self.delivered_to(gateway, "all+nobody@any.example")

    def test_a_domain_that_only_forwards(self):
        """docs/routing.md: no mailbox, no route of its own; its postmaster is the first domain's."""
        hop = self.hop()
        gateway = self.gateway(f"relay {{ deliver = {quote(hop.target)} }}\n"
                               'domain "forward.example" { }\n'
                               'alias "info@forward.example" { to = "jane@elsewhere.example" }\n'
                               'alias "me+*@forward.example" { to = "jane+*@elsewhere.example" }\n')
        self.send(gateway, "info@forward.example", "me+shop@forward.example", "postmaster@forward.example")
        wait_until(lambda: hop.messages, "the message at the next hop")
        self.assertEqual(sorted(hop.messages[0][1]), [b"<jane+shop@elsewhere.example>", b"<jane@elsewhere.example>"])
        gateway.wait_messages("postmaster", 1)
        with gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<>")
            self.assertEqual(client.expect(550, "RCPT TO:<nobody@forward.example>").enhanced, "5.1.1")

    def test_odd_names(self):
        gateway = self.gateway(
            "alias '\"front desk\"@example.org' { to = 'alice@example.org' }\n"
            "alias 'büro@example.org' { to = 'Jürgen@example.org' }\n")
        self.send(gateway, '"Front\\ Desk"@example.org')
        gateway.wait_messages("alice", 1)
        with gateway.client() as client:
            client.hello()
            client.expect(553, "MAIL FROM:<ä@client.example>")
            client.expect(250, "MAIL FROM:<ä@client.example> SMTPUTF8")
            client.expect(250, "RCPT TO:<büro@example.org>")
            client.expect(354, "DATA")
            client.send(message() + b".\r\n")
            client.expect(250)
        gateway.wait_messages("jürgen", 1)

    # --- what RCPT says --------------------------------------------------------------------------

    def test_replies(self):
        gateway = self.gateway(
            'alias "to-alice@example.org" { to = "alice@example.org" }\n'
            'alias "out@example.org" { to = "x@elsewhere.example" }\n'
            'alias "*@old.example" { to = "*@example.org" }\n'
            'alias "*@round.example" { to = "*@circle.example" }\n'
            'alias "*@circle.example" { to = "*@round.example" }\n'
            + 'alias "list@example.org" { to = {' + ", ".join(f'"u{number}@any.example"' for number in range(11)) + '} }\n'
            + 'alias "half@example.org" { to = {' + ", ".join(f'"u{number}@any.example"' for number in range(6)) + '} }\n'
            + 'alias "rest@example.org" { to = {' + ", ".join(f'"v{number}@any.example"' for number in range(6)) + '} }\n',
            domains={"round.example": (["postmaster"], "discard:"), "circle.example": (["postmaster"], "discard:")},
            settings={"limits.recipients": "10"})
        with gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<sender@client.example>")
            alike = {client.expect(250, f"RCPT TO:<{mailbox}>").text for mailbox in (
                "alice@example.org", "to-alice@example.org", "out@example.org", "alice@old.example", "x@any.example")}
            self.assertEqual(alike, {"2.1.5 Recipient ok"})  # nobody learns what is an alias
            for mailbox, code, enhanced in (
                    ("nobody@example.org", 550, "5.1.1"), ("nobody@old.example", 550, "5.1.1"),
                    ("x@elsewhere.example", 550, "5.7.1"), ("x@round.example", 550, "5.4.6"),
                    ("list@example.org", 550, "5.2.4")):
                self.assertEqual(client.expect(code, f"RCPT TO:<{mailbox}>").enhanced, enhanced, mailbox)
            client.expect(250, "RSET")
            client.envelope("sender@client.example", "half@example.org")
            # Those that do not fit beside the others fit into a transaction of their own.
            self.assertEqual(client.expect(452, "RCPT TO:<rest@example.org>").enhanced, "4.5.3")
            client.expect(250, "RCPT TO:<u3@any.example>")
            client.expect(354, "DATA")
            client.send(message() + b".\r\n")
            client.expect(250)
            client.transfer(message(), recipients=["rest@example.org"])
        self.settled(gateway, 12)

    def test_what_wins_and_what_stars_carry(self):
        hop = self.hop()
        gateway = self.gateway(
            f"relay {{ deliver = {quote(hop.target)} }}\n"
            'alias "alice+*@example.org" { to = "shop@elsewhere.example" }\n'
            'alias "*@any.example" { to = "*@elsewhere.example" }\n', domains={"any.example": (["postmaster"], "discard:")})
        self.send(gateway, "alice@example.org")
        gateway.wait_messages("alice", 1)
        self.assertFalse(hop.messages)
        self.send(gateway, "alice+x@example.org")
        wait_until(lambda: hop.messages, "the message at the next hop")
        self.assertEqual(hop.messages[0][1], [b"<shop@elsewhere.example>"])
        with gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<sender@client.example>")
            client.expect(250, "RCPT TO:<u@any.example>")
            for mailbox in ("u%victim.example@any.example", "victim.example!u@any.example",
                            '"u@victim.example"@any.example'):
                self.assertEqual(client.expect(550, f"RCPT TO:<{mailbox}>").enhanced, "5.7.1", mailbox)

    # --- what goes on ----------------------------------------------------------------------------

    def test_dsn_parameters_go_with_the_targets(self):
        hop = self.hop(extensions=("DSN", "PIPELINING", "8BITMIME"))
        gateway = self.gateway(f"relay {{ deliver = {quote(hop.target)} }}\n"
                               'alias "me@example.org" { to = {"a@elsewhere.example", "b@elsewhere.example"} }\n'
                               'alias "+x@example.org" { to = "c@elsewhere.example" }\n')
        with gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<sender@client.example> RET=HDRS ENVID=QQ")
            client.expect(250, "RCPT TO:<me@example.org> NOTIFY=FAILURE,DELAY")
            client.expect(250, "RCPT TO:<+x@example.org> NOTIFY=NEVER ORCPT=rfc822;given@first.example")
            client.expect(354, "DATA")
            client.send(message() + b".\r\n")
            client.expect(250)
        wait_until(lambda: hop.messages, "the message at the next hop")
        sender, recipients, _ = hop.messages[0]
        self.assertIn(b"ENVID=QQ", sender)
        self.assertIn(b"RET=HDRS", sender)
        self.assertEqual({(found[1], found[2]) for found in (
            re.search(rb"<(.*?)>.*ORCPT=(\S+)", recipient) for recipient in recipients)}, {
                (b"a@elsewhere.example", b"rfc822;me@example.org"), (b"b@elsewhere.example", b"rfc822;me@example.org"),
                (b"c@elsewhere.example", b"rfc822;given@first.example")})
        for recipient in recipients:
            self.assertIn(b"NOTIFY=NEVER" if b"<c@" in recipient else b"NOTIFY=FAILURE,DELAY", recipient)

    def test_forwarded_recipients_survive_a_crash(self):
        """What is to be forwarded is known from the spool, not from the aliases of today."""
        hop = self.hop({"RCPT TO:": b"451 4.3.0 Later"})
        gateway = self.gateway(f"relay {{ deliver = {quote(hop.target)} }}\n"
                               'alias "me@example.org" { to = "a@elsewhere.example" }\n',
                               settings={"queue.schedule": '{"1s"}'})
        self.send(gateway, "me@example.org")
        wait_until(lambda: gateway.events("deferred"), "the first attempt")
        gateway.kill()
        hop.answers.clear()
        gateway.more = f"relay {{ deliver = {quote(hop.target)} }}\n"
        gateway.start()
        wait_until(lambda: hop.messages, "the message at the next hop")
        self.assertEqual(hop.messages[0][1], [b"<a@elsewhere.example>"])

    def test_clients_of_others(self):
        gateway = self.gateway('alias "info@example.org" { to = {"alice@example.org", "bob@example.org"} }\n')
        host, port = gateway.address
        with smtplib.SMTP(host, port, timeout=20) as client:
            refused = client.sendmail("sender@client.example", ["info@example.org", "nobody@example.org"],
                                      "Subject: smtplib\r\n\r\nHello\r\n")
        self.assertEqual(refused["nobody@example.org"][0], 550)
        swaks = shutil.which("swaks")
        if swaks:
            run = subprocess.run([swaks, "--server", f"{host}:{port}", "--from", "sender@client.example", "--to",
                                  "info@example.org", "--timeout", "20"], capture_output=True, check=False)
            self.assertEqual(run.returncode, 0, run.stdout)
        self.settled(gateway, 4 if swaks else 2)

    # --- tables ----------------------------------------------------------------------------------

    def test_files_and_reload(self):
        gateway = self.gateway('aliases = {"@first.txt", "@second.txt"}\n', files={
            "first.txt": "\ufeff# who is who\n\none@example.org: alice@example.org, bob@example.org\n"
                         "  two@example.org:carol@example.org  \r\n",
            "second.txt": "three@example.org alice@example.org, carol@example.org\n"
                          '"a b"@example.org: bob@example.org\n'})
        self.send(gateway, "one@example.org", "two@example.org")
        self.settled(gateway, 3)
        self.send(gateway, "three@example.org")
        self.settled(gateway, 5)
        self.send(gateway, '"a b"@example.org')
        self.settled(gateway, 6)
        first = os.path.join(gateway.directory, "first.txt")
        with gateway.client() as client:
            client.hello()
            client.envelope("sender@client.example", "one@example.org")  # keeps who it has
            with open(first, "w", encoding="utf-8") as file:
                file.write("one@example.org: carol@example.org\n")
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "the reload")
            client.expect(550, "RCPT TO:<two@example.org>")
            client.expect(354, "DATA")
            client.send(message() + b".\r\n")
            client.expect(250)
        self.settled(gateway, 8)
        self.send(gateway, "one@example.org")
        self.settled(gateway, 9)
        self.assertEqual(gateway.events("delivered")[-1]["to"], "carol@example.org")
        # A mistake: all is told, and all stays.
        with open(first, "w", encoding="utf-8") as file:
            file.write("one@example.org: two@example.org\ntwo@example.org: one@example.org\n")
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: "one@example.org -> " in gateway.log_text() or "two@example.org -> " in gateway.log_text(),
                   "the circle is told")
        self.send(gateway, "one@example.org")
        self.settled(gateway, 10)

    def check_says(self, text, *words):
        gateway = Gateway(more=text)
        self.addCleanup(gateway.close)
        gateway.write_configuration()
        run = subprocess.run([BINARY, "--check", "-c", gateway.path], capture_output=True, check=False, timeout=60)
        told = (run.stdout + run.stderr).decode()
        self.assertEqual(run.returncode, 78, told)
        for word in words:
            self.assertIn(word, told)

    def test_mistakes_are_told(self):
        self.check_says('alias "a@example.org" { to = "b@example.org" }\nalias "b@example.org" { to = "a@example.org" }\n',
                        "a@example.org -> b@example.org", "circle")
        self.check_says('alias "a@elsewhere.example" { to = "b@example.org" }\n', "not configured")
        self.check_says('alias "a@example.org" { to = "b+*@example.org" }\n', "+*")
        for star in ("sales-*", "+*", "a*b"):
            self.check_says(f'alias "{star}@example.org" {{ to = "b@example.org" }}\n', "a * stands alone")
        self.check_says('domain "no.example" { }\nalias "a@no.example" { to = {"a@no.example", "b@else.example"} }\n',
                        "a@no.example -> a@no.example", "no deliver")
        self.check_says('alias "a@example.org" { to = "b@example.org" }\nalias "b@example.org" { to = "a@example.org" }\n'
                        'alias "a+*@example.org" { to = "c@else.example" }\n', "circle")
        self.check_says('alias "a@example.org" { to = "not a mailbox" }\n', "not a mailbox")

    def test_a_million(self):
        """Loaded at the start and again, twice as many; beside that, a client sends message after message."""
        gateway = Gateway(domains={"example.org": (["alice"], "maildir:{mail}/%d/%u"), "big.example": (["postmaster"], "discard:")},
                          more='aliases = "@big.txt"\n')
        self.addCleanup(gateway.close)
        path = os.path.join(gateway.directory, "big.txt")

        def write(count, user):
            with open(path, "w", encoding="ascii") as file:
                file.writelines(f"user.{number}@big.example: {user}@example.org\n" for number in range(count - 1))
                file.write("last@big.example: alice@example.org\n")

        write(MILLION, "alice")
        start = time.monotonic()
        gateway.start()
        started_s = time.monotonic() - start
        with open(f"/proc/{gateway.process.pid}/status", encoding="ascii") as file:
            resident_kib = int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
        gaps, stopped = [], threading.Event()

        def knock():
            with gateway.client() as client:
                client.hello()
                while not stopped.is_set():
                    before = time.monotonic()
                    client.expect(250, "MAIL FROM:<>")
                    client.expect(250, f"RCPT TO:<user.{len(gaps) % (MILLION - 1)}@big.example>")
                    client.expect(250, "RSET")
                    gaps.append(time.monotonic() - before)

        thread = threading.Thread(target=knock)
        thread.start()
        try:
            write(MILLION, "alice")
            with open(path, "a", encoding="ascii") as file:
                file.write("new@big.example: alice@example.org\n")
            wait_until(lambda: len(gaps) > 100, "the client knocks")
            before, start = len(gaps), time.monotonic()
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "the reload", timeout_s=60)
            reloaded_s, during = time.monotonic() - start, gaps[before:]
        finally:
            stopped.set()
            thread.join()
        print(f"\n  {MILLION} aliases: start {started_s:.2f} s, {resident_kib / 1024:.0f} MiB resident, reload "
              f"{reloaded_s:.2f} s; meanwhile {len(during)} rounds of MAIL, RCPT, RSET, the slowest "
              f"{max(during) * 1000:.1f} ms", flush=True)
        self.assertLess(max(during), 1.0)  # the load takes longer, on a slow machine much longer
        self.send(gateway, "last@big.example", "new@big.example", f"user.{MILLION - 2}@big.example")
        gateway.wait_messages("alice", 1)


if __name__ == "__main__":
    unittest.main()
