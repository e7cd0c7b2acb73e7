"""While the client waits: `mode = through` (test_callahead: `verify = callahead`) with next hops that say what the test wants, stall, break
off at each step, or are a real Postfix. What the next hop says is what the client hears; what it does not say in time, the
spool takes over; nothing is lost, and twice comes only what RFC 1047 allows."""
import re
import threading
import time
import unittest

import hops
from harness import PATIENCE_S, SLOW, Gateway, message, wait_until
from reports import Hop
from sink import Sink

PATIENCE = 3 if SLOW else 1  # seconds that a next hop has
STALL = 3 * PATIENCE


def text_of(number, octets=0):
    line = b"x" * 70 + b"\r\n"
    return message(f"number-{number}") + line * (octets // len(line))


def numbers(hop):
    """The numbers of the messages that a hop has taken, in order of arrival."""
    return [int(re.search(rb"\r\nSubject: number-(\d+)\r\n", text)[1]) for _, _, text in hop.messages]


class Asking(unittest.TestCase):
    def setUp(self):
        self.clients = []

    def stop(self, gateway):
        """An orderly end, after the clients': nobody lingers."""
        for client in self.clients:
            client.close()
        gateway.stop()

    def hop(self, *arguments, **words):
        hop = Hop(*arguments, **words)
        hop.__enter__()
        self.addCleanup(hop.__exit__)
        return hop

    def gateway(self, *targets, words="mode = through", settings=None):
        """Domains d0.example, d1.example, ... at these targets; plain.example in Maildirs."""
        domains = {f"d{number}.example": (["*"], target, words) for number, target in enumerate(targets)}
        domains["plain.example"] = (["*"], "maildir:{mail}/%d/%u")
        gateway = Gateway(domains=domains, settings={
            "queue.schedule": '{"1s"}', "through.patience": f'"{PATIENCE}s"', **(settings or {})})
        self.addCleanup(gateway.close)
        return gateway.start()

    def greeted(self, gateway):
        client = gateway.client()
        self.clients.append(client)
        self.addCleanup(client.close)
        client.hello()
        return client

    def ways(self, gateway):
        """[(way, reply code)] of all transactions, from the log."""
        return [(line.get("way"), line["reply"]) for line in gateway.events("message")]

    def wait_for(self, hop, wanted):
        wait_until(lambda: len(hop.messages) >= len(wanted), f"{len(wanted)} messages at the hop", PATIENCE_S + 2 * STALL)
        self.assertEqual(sorted(numbers(hop)), sorted(wanted))


class Through(Asking):
    def test_replies_pass(self):
        hop = self.hop({"RCPT TO:<NOBODY": b"550 5.1.1 Never heard of him", "RCPT TO:<FULL": b"452 4.2.2 Mailbox\tfull",
                        "RCPT TO:<GONE": b"251 2.1.5 Has moved", "RCPT TO:<OLD": b"550-No\r\n550 such user",
                        "DOT": b"250 2.6.0 Queued as 12345"})
        gateway = self.gateway(hop.target)
        client = self.greeted(gateway)
        client.expect(250, "MAIL FROM:<sender@client.example> BODY=8BITMIME SIZE=1000")
        for user, code, text in (("alice", 250, "2.1.5 Ok"), ("nobody", 550, "5.1.1 Never heard of him"),
                                 ("full", 452, "4.2.2 Mailbox full"), ("gone", 251, "2.1.5 Has moved"),
                                 ("old", 550, "5.0.0 No such user")):
            reply = client.command(f"RCPT TO:<{user}@d0.example>")
            self.assertEqual((reply.code, reply.text), (code, text))
        text = message(body="..\r\n.\r\nh\xe9llo\r\n")
        client.expect(354, "DATA")
        client.send(text.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        reply = client.expect(250)
        self.assertEqual(reply.text, "2.6.0 Queued as 12345")
        wait_until(lambda: hop.messages, "the message at the hop")
        (sender, recipients, content), = hop.messages
        self.assertTrue(sender.startswith(b"<sender@client.example>"), sender)
        self.assertEqual(recipients, [b"<alice@d0.example>", b"<gone@d0.example>"])
        self.assertTrue(content.endswith(text))
        self.assertRegex(content[:-len(text)], rb"\AReceived: from client\.example (?s:.*)\sby mx\.example\.org"
                                               rb"(?s:.*)\r\n\Z")
        self.assertEqual(content.count(b"\r\n") - text.count(b"\r\n"), content[:-len(text)].count(b"\r\n"))
        self.stop(gateway)
        self.assertEqual(self.ways(gateway), [("through", "250")])
        self.assertEqual(len(gateway.events("delivered")), 2)

    def test_text_refused(self):
        replies = [b"554 5.7.1 Spam", b"451 4.7.1 Not now", b"250 2.0.0 Fine"]
        hop = self.hop({"DOT": lambda line: replies.pop(0)})
        gateway = self.gateway(hop.target)
        client = self.greeted(gateway)
        got = [client.transfer(text_of(n), recipients=["a@d0.example"]) for n in range(3)]
        self.assertEqual([reply.text for reply in got], ["5.7.1 Spam", "4.7.1 Not now", "2.0.0 Fine"])
        self.assertEqual([reply.code for reply in got], [554, 451, 250])
        client.expect(221, "QUIT")
        self.stop(gateway)
        self.wait_for(hop, [2])
        connections = sum(command.startswith(b"EHLO") for command in hop.commands)
        self.assertEqual(connections, 1, "the connection is used again")

    def test_mail_refused(self):
        hop = self.hop({"MAIL": b"550 5.7.1 We don't like you"})
        gateway = self.gateway(hop.target)
        client = self.greeted(gateway)
        client.expect(250, "MAIL FROM:<a@client.example>")
        for _ in range(2):
            reply = client.expect(550, "RCPT TO:<a@d0.example>")
            self.assertEqual(reply.text, "5.7.1 We don't like you")
        client.expect(554, "DATA")
        self.stop(gateway)

    def test_rset_and_leave(self):
        """A passage that is given up leaves nothing at the next hop."""
        hop = self.hop()
        gateway = self.gateway(hop.target)
        client = self.greeted(gateway)
        client.envelope("a@client.example", "a@d0.example")
        client.expect(250, "RSET")
        client.envelope("a@client.example", "b@d0.example")
        client.close()
        client = self.greeted(gateway)
        self.assertEqual(client.transfer(text_of(1), recipients=["c@d0.example"]).code, 250)
        self.wait_for(hop, [1])
        self.assertEqual(hop.messages[0][1], [b"<c@d0.example>"])
        self.stop(gateway)

    def test_pipelined(self):
        hop = self.hop({"RCPT TO:<B@": b"550 5.1.1 no", "RCPT": lambda line: time.sleep(0.05) or b"250 2.1.5 Ok"})
        gateway = self.gateway(hop.target)
        client = self.greeted(gateway)
        client.send(b"MAIL FROM:<x@client.example>\r\nRCPT TO:<a@d0.example>\r\nRCPT TO:<b@d0.example>\r\n"
                    b"RCPT TO:<c@plain.example>\r\nRCPT TO:<d@d0.example>\r\nDATA\r\n")
        self.assertEqual([client.reply().code for _ in range(6)], [250, 250, 550, 452, 250, 354])
        client.send(text_of(1) + b".\r\nMAIL FROM:<x@client.example>\r\nRCPT TO:<c@plain.example>\r\n"
                    b"RCPT TO:<a@d0.example>\r\nBDAT 4 LAST\r\na\r\n\nQUIT\r\n")
        self.assertEqual([client.reply().code for _ in range(6)], [250, 250, 250, 452, 550, 221])
        self.wait_for(hop, [1])
        self.assertEqual(hop.messages[0][1], [b"<a@d0.example>", b"<d@d0.example>"])
        self.stop(gateway)

    def test_one_destination(self):
        one, two = self.hop(), self.hop()
        gateway = self.gateway(one.target, two.target, one.target)
        client = self.greeted(gateway)
        client.envelope("a@client.example", "a@d0.example")
        reply = client.expect(452, "RCPT TO:<b@d1.example>")
        self.assertEqual(reply.enhanced, "4.5.3")
        client.expect(250, "RCPT TO:<c@d2.example>")  # another domain, the same next hop
        client.expect(354, "DATA")
        client.send(text_of(1) + b".\r\n")
        client.expect(250)
        self.assertEqual(client.transfer(text_of(2), recipients=["b@d1.example"]).code, 250)
        self.wait_for(one, [1])
        self.wait_for(two, [2])
        self.stop(gateway)

    def test_stalls_at_recipient(self):
        """The spool takes over, and delivers when the next hop is quick again."""
        slow = threading.Event()
        slow.set()
        hop = self.hop({"RCPT": lambda line: slow.is_set() and time.sleep(STALL) or b"250 2.1.5 Ok"})
        gateway = self.gateway(hop.target)
        client = self.greeted(gateway)
        client.expect(250, "MAIL FROM:<a@client.example>")
        begin = time.monotonic()
        client.expect(250, "RCPT TO:<a@d0.example>")
        self.assertGreater(time.monotonic() - begin, PATIENCE - 0.1)
        self.assertLess(time.monotonic() - begin, STALL - 0.2)
        begin = time.monotonic()
        client.expect(250, "RCPT TO:<b@d0.example>")
        client.expect(250, "RCPT TO:<c@plain.example>")
        self.assertLess(time.monotonic() - begin, PATIENCE * 0.9, "nobody is asked any more")
        slow.clear()
        client.expect(354, "DATA")
        client.send(text_of(1) + b".\r\n")
        self.assertRegex(client.expect(250).text, "queued as")
        self.wait_for(hop, [1])
        gateway.wait_messages("c", 1, "plain.example")
        self.stop(gateway)
        self.assertEqual(self.ways(gateway), [("spooled", "250")])

    def test_stalls_at_the_dot(self):
        """RFC 1047's window: the next hop has taken it, and says so too late."""
        slow = threading.Event()
        slow.set()
        hop = self.hop({"DOT": lambda line: slow.is_set() and time.sleep(STALL) or b"250 2.0.0 Ok"})
        gateway = self.gateway(hop.target)
        client = self.greeted(gateway)
        begin = time.monotonic()
        reply = client.transfer(text_of(1), recipients=["a@d0.example"])
        self.assertLess(time.monotonic() - begin, STALL - 0.2)
        self.assertRegex(reply.text, "queued as")
        slow.clear()
        wait_until(lambda: len(hop.messages) == 2, "both copies", PATIENCE_S + STALL)
        self.assertEqual(numbers(hop), [1, 1])
        self.stop(gateway)
        self.assertEqual(len(gateway.events("through_doubt")), 1)

    def test_breaks_at_each_step(self):
        """Once each; then it is well again."""
        for number, step in enumerate(("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "DOT")):
            with self.subTest(step=step):
                # The passage, its second try, and one for the courier.
                left = [3]

                def once(line, step=step, left=left):
                    left[0] -= 1
                    ordinary = {"CONNECT": b"220 hop", "EHLO": b"250 hop", "DATA": b"354 Go on"}
                    return None if left[0] >= 0 else ordinary.get(step, b"250 2.0.0 Ok")
                extensions = ("PIPELINING", "CHUNKING") if step == "BDAT" else ("PIPELINING",)
                hop = self.hop({"DOT" if step == "BDAT" else step: once}, extensions)
                gateway = self.gateway(hop.target, settings={"queue.schedule": '{"1s"}'})
                client = self.greeted(gateway)
                reply = client.transfer(text_of(number), recipients=["a@d0.example"])
                self.assertEqual(reply.code, 250)
                self.assertRegex(reply.text, "queued as")
                if step in ("CONNECT", "EHLO"):
                    continue  # a dead destination has its own clock
                self.wait_for(hop, [number])
                client.expect(221, "QUIT")
                self.stop(gateway)

    def test_dead(self):
        hop = self.hop()
        target = hop.target
        hop.server.server_close()
        gateway = self.gateway(target, settings={"through.patience": '"30s"'})
        client = self.greeted(gateway)
        for number in range(3):
            begin = time.monotonic()
            self.assertRegex(client.transfer(text_of(number), recipients=["a@d0.example"]).text, "queued as")
            self.assertLess(time.monotonic() - begin, 10, "a dead hop is no reason to wait")
        self.stop(gateway)
        self.assertEqual(self.ways(gateway), [("spooled", "250")] * 3)

    def test_big(self):
        """Through memory, up to 8 MiB and as long as there is room; else through the spool."""
        for extensions in (("PIPELINING",), ("PIPELINING", "CHUNKING")):
            hop = self.hop(extensions=extensions)
            gateway = self.gateway(hop.target, settings={"through.memory": '"16M"', "workers": "1"})
            client = self.greeted(gateway)
            octets = (100 << 10, 7 << 20, 9 << 20, 20 << 20)
            for number, size in enumerate(octets):
                self.assertEqual(client.transfer(text_of(number, size), recipients=["a@d0.example"]).code, 250)
            self.wait_for(hop, [0, 1, 2, 3])
            for _, _, content in hop.messages:
                number = int(re.search(rb"number-(\d)", content)[1])
                self.assertTrue(content.endswith(text_of(number, octets[number])))
            # Two at once that don't fit together.
            other = self.greeted(gateway)
            clients = (client, other, self.greeted(gateway))
            for one in clients:
                one.envelope("a@client.example", "a@d0.example")
                one.expect(354, "DATA")
                one.send(text_of(9, 6 << 20))
            for one in clients:
                one.send(b".\r\n")
                one.expect(250)
            self.wait_for(hop, [0, 1, 2, 3, 9, 9, 9])
            self.stop(gateway)
            ways = [way for way, _ in self.ways(gateway)]
            self.assertEqual(ways[:4], ["through", "through", "spooled", "spooled"])
            self.assertEqual(sorted(ways[4:]), ["spooled", "through", "through"])

    def test_lmtp(self):
        hop = self.hop({"DOT <FULL": b"452 4.2.2 Full", "DOT <NEVER": b"550 5.2.2 Never", "DOT": b"250 2.0.0 Saved"},
                       lmtp=True)
        gateway = self.gateway(hop.target, settings={"queue.lifetime": '"1h"'})
        client = self.greeted(gateway)
        reply = client.transfer(text_of(1), recipients=["full@d0.example", "never@d0.example"])
        self.assertEqual((reply.code, reply.text), (452, "4.2.2 Full"))
        reply = client.transfer(text_of(2), recipients=["never@d0.example"])
        self.assertEqual((reply.code, reply.text), (550, "5.2.2 Never"))
        reply = client.transfer(text_of(3), recipients=["alice@d0.example", "bob@d0.example"])
        self.assertEqual((reply.code, reply.text), (250, "2.0.0 Saved"))
        # Mixed: the spool has those that failed; who is refused is told of to the sender.
        reply = client.transfer(text_of(4), sender="carol@plain.example",
                                recipients=["alice@d0.example", "never@d0.example"])
        self.assertRegex(reply.text, "queued as")
        self.assertIn(b"never@d0.example", gateway.wait_messages("carol", 1, "plain.example")[0])
        self.stop(gateway)
        self.assertEqual(sum(b"DOT" in command for command in hop.commands), 0)

    def test_lmtp_stalls(self):
        """It has the text for one, and says nothing about the other: only that one gets it from the spool."""
        slow = threading.Event()
        slow.set()
        hop = self.hop({"DOT <SLOW": lambda line: slow.is_set() and time.sleep(STALL) or b"250 2.0.0 Saved",
                        "DOT": b"250 2.0.0 Saved"}, lmtp=True)
        gateway = self.gateway(hop.target)
        client = self.greeted(gateway)
        reply = client.transfer(text_of(1), recipients=["alice@d0.example", "slow@d0.example"])
        self.assertRegex(reply.text, "queued as")
        slow.clear()
        wait_until(lambda: hop.commands.count(b"RCPT TO:<slow@d0.example>") == 2, "the other one again", PATIENCE_S + STALL)
        wait_until(lambda: [line for line in gateway.events("delivered") if line.get("way") != "through"], "event=delivered")
        self.stop(gateway)
        self.assertEqual(hop.commands.count(b"RCPT TO:<alice@d0.example>"), 1)
        self.assertEqual(len(gateway.events("through_doubt")), 1)

    def test_named_twice(self):
        """A mailbox that is there already is not asked about, and gets it once."""
        hop = self.hop(lmtp=True)
        gateway = self.gateway(hop.target)
        client = self.greeted(gateway)
        reply = client.transfer(text_of(1), recipients=["a@d0.example", "A@D0.Example", "b@d0.example", "a@d0.example"])
        self.assertEqual(reply.code, 250)
        self.wait_for(hop, [1])
        self.assertEqual(hop.messages[0][1], [b"<a@d0.example>", b"<b@d0.example>"])
        self.stop(gateway)
        self.assertEqual(self.ways(gateway), [("through", "250")])

    def test_not_about_the_mailbox(self):
        """What is between us and the next hop is not the client's business."""
        for code in (503, 530):
            hop = self.hop({"RCPT TO:<ODD": b"%d 5.5.1 What?" % code})
            gateway = self.gateway(hop.target)
            client = self.greeted(gateway)
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(250, "RCPT TO:<odd@d0.example>")
            self.stop(gateway)
            self.assertEqual([line["code"] for line in gateway.events("through_failed")], [str(code)])

    def test_near_the_limit(self):
        """A message that fits with our Received field fits; one that does not is refused, not bounced."""
        limit = 10000
        hop = self.hop(extensions=("PIPELINING", f"SIZE {limit}"))
        gateway = self.gateway(hop.target)
        client = self.greeted(gateway)
        for size, code in ((limit - 450, 250), (limit - 10, 552)):
            client.expect(250, f"MAIL FROM:<a@client.example> SIZE={size}")
            reply = client.expect(code, "RCPT TO:<a@d0.example>")
            self.assertEqual(reply.enhanced, "2.1.5" if code == 250 else "5.3.4")
            client.expect(250, "RSET")
        client.envelope("a@client.example", "a@d0.example")  # it did not say how large
        client.expect(354, "DATA")
        client.send(text_of(1, limit) + b".\r\n")
        self.assertEqual(client.expect(552).enhanced, "5.3.4")
        self.stop(gateway)
        self.assertEqual(hop.messages, [])

    def test_idle_clients(self):
        """Clients that rest keep spooled mail for the same next hop waiting no longer than a moment."""
        hop = self.hop()
        gateway = self.gateway(hop.target, settings={"through.patience": '"1s"'})
        idle = [self.greeted(gateway) for _ in range(24)]
        for client in idle:
            client.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<a@d0.example>\r\n")
        for client in idle:
            self.assertEqual([client.reply().code for _ in range(2)], [250, 250])
        for _ in range(8):  # until one finds no connection, and the spool takes over
            busy = self.greeted(gateway)
            busy.expect(250, "MAIL FROM:<a@client.example>")
            busy.expect(250, "RCPT TO:<b@d0.example>")
            if busy.command("RCPT TO:<c@plain.example>").code == 250:
                break
        else:
            self.fail("all were passed through")
        busy.expect(354, "DATA")
        begin = time.monotonic()
        busy.send(text_of(1) + b".\r\n")
        busy.expect(250)
        self.wait_for(hop, [1])
        self.assertLess(time.monotonic() - begin, 10)
        # Those who rest where others wait give their connection back soon.
        wait_until(lambda: hop.commands.count(b"RSET") + hop.commands.count(b"QUIT") > 0, "a connection given back", 20)
        self.stop(gateway)

    def test_dsn(self):
        """Somebody must tell of the success: without DSN at the next hop it is the courier."""
        for words, relayed in ((("PIPELINING", "DSN"), 0), (("PIPELINING",), 1)):
            hop = self.hop(extensions=words)
            gateway = self.gateway(hop.target)
            client = self.greeted(gateway)
            client.expect(250, "MAIL FROM:<carol@plain.example> RET=HDRS ENVID=e1")
            client.expect(250, "RCPT TO:<a@d0.example> NOTIFY=SUCCESS ORCPT=rfc822;x@y.example")
            client.expect(354, "DATA")
            client.send(text_of(1) + b".\r\n")
            client.expect(250)
            self.wait_for(hop, [1])
            said = b"\n".join(hop.commands)
            self.assertEqual(b"NOTIFY=SUCCESS" in said and b"ENVID=e1" in said, not relayed)
            if relayed:
                gateway.wait_messages("carol", 1, "plain.example")
            self.stop(gateway)

    def test_stop_in_the_midst(self):
        """A drain answers what was asked, whatever the next hop does."""
        for verb in ("RCPT", "DOT"):
            for reply in (b"250 2.0.0 Ok", None):
                hop = self.hop({verb: lambda line, reply=reply: time.sleep(PATIENCE / 2) or reply})
                # A transaction that is answered, and goes no further, is waited for.
                gateway = self.gateway(hop.target, settings={"drain.timeout": f'"{2 * PATIENCE}s"'})
                client = self.greeted(gateway)
                client.expect(250, "MAIL FROM:<a@client.example>")
                if verb == "DOT":
                    client.expect(250, "RCPT TO:<a@d0.example>")
                    client.expect(354, "DATA")
                    client.send(text_of(1) + b".\r\n")
                else:
                    client.send(b"RCPT TO:<a@d0.example>\r\n")
                time.sleep(PATIENCE / 4)
                self.assertEqual(gateway.terminate(), 0)
                client.expect(250)
                client.expect(421)
                gateway.check_reports()
                if verb == "DOT" and reply is None:  # it lies in the spool
                    hop.answers.clear()
                    gateway.start()
                    self.wait_for(hop, [1])
                    self.stop(gateway)

    def test_kill(self):
        """Who has a 250 has delivered; who has none sends again."""
        hop = self.hop({"DOT": lambda line: time.sleep(0.02) or b"250 2.0.0 Ok"})
        gateway = self.gateway(hop.target)
        done, doubt, lock = set(), set(), threading.Lock()

        def send(number):
            for _ in range(100):
                try:
                    with gateway.client(timeout_s=5) as client:
                        client.hello()
                        reply = client.transfer(text_of(number), recipients=["a@d0.example"])
                    self.assertEqual(reply.code, 250)
                    with lock:
                        done.add(number)
                    return
                except (OSError, EOFError, IndexError):
                    with lock:
                        doubt.add(number)
                    time.sleep(0.2)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(40)]
        for thread in threads[:20]:
            thread.start()
        time.sleep(0.1)
        gateway.kill()
        gateway.start()
        for thread in threads[20:]:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(done, set(range(40)))
        wait_until(lambda: set(numbers(hop)) == done, "all at the hop")
        twice = {number for number in done if numbers(hop).count(number) > 1}
        self.assertLessEqual(twice, doubt)
        self.stop(gateway)

    def test_many_clients(self):
        """More than there are connections, some of whom give up in the midst; a healthy hop gets each message once."""
        hop = self.hop({"DOT": lambda line: time.sleep(0.01) or b"250 2.0.0 Ok"})
        gateway = self.gateway(hop.target, settings={"through.patience": '"30s"'})
        count, each = (16, 4) if SLOW else (60, 8)
        failures = []

        def send(number):
            try:
                client = gateway.client(timeout_s=60)
                client.hello()
                for at in range(each):
                    if number % 5 == 4:
                        client.envelope("a@client.example", "a@d0.example")
                        client.expect(250, "RSET")
                    if client.transfer(text_of(number * each + at), recipients=["a@d0.example"]).code != 250:
                        failures.append((number, at))
                if number % 3 == 0:
                    client.envelope("a@client.example", "a@d0.example")
                client.close()
            except Exception as error:  # pylint: disable=broad-except
                failures.append((number, error))

        threads = [threading.Thread(target=send, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.wait_for(hop, range(count * each))
        self.stop(gateway)
        self.assertEqual({way for way, _ in self.ways(gateway)}, {"through"})

    def test_moody(self):
        """A next hop in all moods: each message that was answered 250 is there, or was told of; no other one is."""
        count, each = (6, 10) if SLOW else (12, 25)
        accepted, refused = set(), set()

        def send(gateway, number):
            with gateway.client() as client:
                client.hello()
                for name in (f"u{number * each + at}" for at in range(each)):
                    client.expect(250, "MAIL FROM:<carol@plain.example>")
                    well = client.command(f"RCPT TO:<{name}@d0.example>").code == 250
                    if well:
                        client.expect(354, "DATA")
                        client.send(text_of(0) + b".\r\n")
                        well = client.reply().code == 250
                    else:
                        client.expect(250, "RSET")
                    (accepted if well else refused).add(name)

        with Sink("--refuse", "rcpt=15%", "--tempfail", "rcpt=10%", "--tempfail", "dot=10%", "--refuse", "dot=5%",
                  "--drop", "rcpt=4%", "--drop", "dot=4%", "--drop", "mail=4%", "--delay", "dot=2%:1500ms") as sink:
            gateway = self.gateway("smtp:%s:%d" % sink.address, settings={"queue.schedule": '{"1s"}'})
            threads = [threading.Thread(target=send, args=(gateway, number)) for number in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(len(accepted | refused), count * each)
            self.assertTrue(accepted and refused)

            def arrived():
                return {re.match(r"<(u\d+)@", name)[1] for line in sink.messages() for name in line["to"]}

            def told():
                return {name.decode() for text in gateway.messages("carol", "plain.example")
                        for name in re.findall(rb"Final-Recipient: rfc822; ?(u\d+)@", text)}

            wait_until(lambda: accepted <= arrived() | told(), "all that was accepted", PATIENCE_S * 3)
            self.stop(gateway)
            self.assertEqual(arrived() & refused, set())
            self.assertEqual(told() - accepted, set())

    @unittest.skipUnless(hops.have_postfix(), "skipped: Postfix needs root")
    def test_postfix(self):
        with hops.PostfixHop(["check_recipient_access regexp:{{/^nobody@/ 550 5.1.1 No such mailbox}}"]) as hop:
            gateway = self.gateway("smtp:%s:%d" % hop.address)
            client = self.greeted(gateway)
            client.expect(250, "MAIL FROM:<sender@client.example>")
            reply = client.expect(550, "RCPT TO:<nobody@d0.example>")
            self.assertRegex(reply.text, "5.1.1 <nobody@d0.example>: Recipient address rejected: No such mailbox")
            client.expect(250, "RCPT TO:<alice@d0.example>")
            client.expect(250, "RCPT TO:<bob@d0.example>")
            client.expect(354, "DATA")
            text = text_of(7, 1 << 20)
            client.send(text + b".\r\n")
            self.assertRegex(client.expect(250).text, r"2\.0\.0 Ok: queued as [0-9A-Z]+|2\.0\.0 Ok: \d+ bytes queued as")
            wait_until(lambda: hop.count() == 2, "two copies in the store")
            for content in hop.messages():
                self.assertTrue(content.endswith(text.replace(b"\r\n", b"\n")))
            self.assertEqual(client.transfer(text_of(8), recipients=["carol@d0.example"]).code, 250)
            wait_until(lambda: hop.count() == 3, "and another")
            self.stop(gateway)
            self.assertEqual(self.ways(gateway), [("through", "250")] * 2)


if __name__ == "__main__":
    unittest.main()
