"""The tarpit: refusals come late, what is pipelined behind them waits, and it holds up nobody else."""
import time
import unittest

from bounds import Bounds, gateway
from harness import message, wait_until
from test_through import Asking

TARPIT_S = 1


class Tarpit(Bounds):
    def settings(self, **more):
        return {"limits.tarpit": f'"{TARPIT_S}s"', "limits.tarpit_after": "3", "limits.bad_commands": "50", **more}

    def server(self, more=None, **options):
        return gateway(self, self.settings(**(more or {})), domains={
            "example.org": (["alice", "bob"], "maildir:{mail}/%d/%u")}, **options)

    def took(self, client, line, code):
        begun = time.monotonic()
        client.expect(code, line)
        return time.monotonic() - begun

    def test_refusals_come_late(self):
        server = self.server()
        client = self.welcome(server, "127.0.0.1")
        client.expect(250, "EHLO client.example")
        client.expect(250, "MAIL FROM:<a@client.example>")
        for line, code in (("RCPT TO:<carol@example.org>", 550), ("XYZZY", 500), ("RCPT TO:<x@elsewhere.example>", 550)):
            self.assertLess(self.took(client, line, code), TARPIT_S * 0.9, line)
        for line, code in (("RCPT TO:<dave@example.org>", 550), ("XYZZY", 500), ("MAIL FROM:<b@c.example>", 503),
                           ("RCPT TO:<x@elsewhere.example>", 550), ("N" * 13000, 500)):
            self.assertGreaterEqual(self.took(client, line, code), TARPIT_S * 0.95, line[:40])
        # What is right is answered at once.
        self.assertLess(self.took(client, "RCPT TO:<alice@example.org>", 250), TARPIT_S * 0.9)
        client.expect(354, "DATA")
        client.send(message() + b".\r\n")
        client.expect(250)
        server.wait_messages("alice", 1)
        self.stop(server)

    def test_pipelined_input_waits(self):
        """A dictionary in one segment: each wrong name costs its time, and replies are in order."""
        server = self.server()
        client = self.welcome(server, "127.0.0.1")
        client.expect(250, "EHLO client.example")
        names = ["u1", "u2", "alice", "u3", "u4", "bob", "u5"]
        begun = time.monotonic()
        client.send(b"MAIL FROM:<a@client.example>\r\n" + b"".join(
            b"RCPT TO:<%s@example.org>\r\n" % name.encode() for name in names) + b"DATA\r\n")
        codes = [client.reply().code for _ in range(len(names) + 2)]
        self.assertEqual(codes, [250, 550, 550, 250, 550, 550, 250, 550, 354])
        self.assertGreaterEqual(time.monotonic() - begun, TARPIT_S * 2 * 0.95)
        client.send(message() + b".\r\n")
        client.expect(250)
        self.stop(server)

    def test_bare_newlines_and_chunks(self):
        """What follows a line that is refused is skipped as ever, after the reply."""
        server = self.server({"limits.tarpit_after": "0"})
        client = self.welcome(server, "127.0.0.1")
        client.expect(250, "EHLO client.example")
        begun = time.monotonic()
        client.send(b"NOOP\nMAIL FROM:<x@y.example>\r\nNOOP\r\nBDAT 4\r\nabcdNOOP\r\nBDAT 0\r\nNOOP\r\n")
        self.assertEqual([client.reply().code for _ in range(6)], [500, 250, 503, 250, 503, 250])
        self.assertGreaterEqual(time.monotonic() - begun, TARPIT_S * 3 * 0.95)
        self.stop(server)

    def test_end_of_it(self):
        """limits.bad_commands ends the session as ever, at once; and a client that goes away meanwhile is let go."""
        server = self.server({"limits.tarpit_after": "0", "limits.bad_commands": "2"})
        client = self.welcome(server, "127.0.0.1")
        self.took(client, "XYZZY", 500)
        self.took(client, "XYZZY", 500)
        self.assertLess(self.took(client, "XYZZY", 421), TARPIT_S * 0.9)
        gone = self.welcome(server, "127.0.0.1")
        gone.send(b"XYZZY\r\n")
        time.sleep(0.2)
        gone.close()
        wait_until(lambda: len(server.events("disconnect")) == 2, "both ends")
        self.stop(server)

    def test_exempt(self):
        server = self.server({"limits.tarpit_after": "0", "limits.exempt": '"127.0.0.1"'})
        client = self.welcome(server, "127.0.0.1")
        self.assertLess(self.took(client, "XYZZY", 500), TARPIT_S * 0.9)
        other = self.welcome(server, "127.0.0.2")
        self.assertGreaterEqual(self.took(other, "XYZZY", 500), TARPIT_S * 0.95)
        self.stop(server)

    def test_drain(self):
        """Nobody has to wait for the tarpit: the reply is said, and who has nothing under way is told to go."""
        server = self.server({"limits.tarpit_after": "0", "limits.tarpit": '"60s"'})
        client = self.welcome(server, "127.0.0.1")
        time.sleep(2.5)  # else the drain thinks that it has just come
        client.send(b"XYZZY\r\nNOOP\r\n")
        time.sleep(0.2)
        begun = time.monotonic()
        server.signal(15)
        self.assertEqual([client.reply().code for _ in range(2)], [500, 421])
        self.assertTrue(client.closed(5))
        self.stop(server)
        self.assertLess(time.monotonic() - begun, 20)

    def test_others_are_not_held_up(self):
        """200 in the tarpit, and one who is served."""
        server = self.server({"limits.tarpit_after": "0", "limits.tarpit": '"60s"'})
        for _ in range(200):
            self.welcome(server, "127.0.0.2").send(b"XYZZY\r\n" * 10)
        client = self.welcome(server, "127.0.0.1")
        client.expect(250, "EHLO client.example")
        for _ in range(20):
            self.assertEqual(client.transfer(message()).code, 250)
        client.close()
        server.stop()

    def test_buffers_are_for_all(self):
        """What those in the tarpit have pipelined holds the receive buffers: released, as soon as others need one."""
        server = self.server({"limits.tarpit_after": "1", "limits.tarpit": '"60s"', "workers": "1", "io.buffers": "64"})
        for _ in range(80):
            self.welcome(server, "127.0.0.2").send(b"XYZZY\r\n" * 3 + b"NOOP\r\n")
        time.sleep(0.5)
        for attacker in self.clients:  # behind what is held already
            attacker.send(b"NOOP\r\n")
        begun = time.monotonic()
        client = self.welcome(server, "127.0.0.1")
        client.expect(250, "EHLO client.example")
        for _ in range(5):
            self.assertEqual(client.transfer(message()).code, 250)
        self.assertLess(time.monotonic() - begun, 10)
        self.stop(server)

    def test_dictionary_attack(self):
        """How many names can be tried in a while, without it and with it."""
        tried = {}
        for name, more in (("without", {"limits.tarpit": "0"}), ("with", {})):
            server = self.server({**more, "limits.bad_commands": "1000"})
            client = self.welcome(server, "127.0.0.1")
            client.expect(250, "EHLO client.example")
            client.expect(250, "MAIL FROM:<a@client.example>")
            begun, count = time.monotonic(), 0
            while time.monotonic() - begun < 4:
                client.expect(550, f"RCPT TO:<user{count}@example.org>")
                count += 1
            tried[name] = count
            client.close()
            self.stop(server)
        self.assertLessEqual(tried["with"], 3 + 4 / TARPIT_S + 1)
        self.assertGreater(tried["without"], tried["with"] * 10)


class OfNextHops(Asking):
    """It is the next hop that says who is there."""

    def check(self, words):
        hop = self.hop({"RCPT TO:<NO": b"550 5.1.1 Never heard of him", "RCPT TO:<BUSY": b"450 4.2.0 Come back"})
        gateway = self.gateway(hop.target, words=words, settings={
            "limits.tarpit": f'"{TARPIT_S}s"', "limits.tarpit_after": "1"})
        client = self.greeted(gateway)
        client.expect(250, "MAIL FROM:<sender@client.example>")
        client.expect(550, "RCPT TO:<no1@d0.example>")
        begun = time.monotonic()
        client.send(b"".join(b"RCPT TO:<%s@d0.example>\r\n" % user for user in (b"no2", b"alice", b"no3", b"no2")))
        replies = [client.reply() for _ in range(4)]
        self.assertEqual([reply.code for reply in replies], [550, 250, 550, 550])
        self.assertEqual(replies[2].text, "5.1.1 Never heard of him")
        self.assertGreaterEqual(time.monotonic() - begun, TARPIT_S * 3 * 0.95)
        begun = time.monotonic()
        client.command("RCPT TO:<busy@d0.example>")  # no refusal for good
        self.assertLess(time.monotonic() - begun, TARPIT_S * 0.9)
        client.expect(354, "DATA")
        client.send(message() + b".\r\n")
        client.expect(250)
        wait_until(lambda: hop.messages, "the message at the hop")
        self.stop(gateway)

    def test_callahead(self):
        self.check("verify = callahead")

    def test_through(self):
        self.check("mode = through")


if __name__ == "__main__":
    unittest.main()
