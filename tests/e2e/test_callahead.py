"""`verify = callahead`: the next hop is asked at RCPT whether there is such a mailbox, is believed for a while, and is spared when
it does not answer."""
import signal
import time
import unittest

from harness import wait_until
from test_through import PATIENCE, STALL, Asking, text_of


class Callahead(Asking):
    def asked(self, hop, user=b""):
        return sum(command.upper().startswith(b"RCPT TO:<" + user.upper()) for command in hop.commands)

    def test_cache(self):
        hop = self.hop({"RCPT TO:<NOBODY": b"553 5.1.1 Nobody of that name", "RCPT TO:<GREY": b"450 4.2.0 Come back"})
        gateway = self.gateway(hop.target, words="verify = callahead")
        client = self.greeted(gateway)
        for _ in range(3):
            client.expect(250, "MAIL FROM:<sender@client.example>")
            client.expect(250, "RCPT TO:<alice@d0.example>")
            reply = client.expect(550, "RCPT TO:<nobody@D0.Example>")
            self.assertEqual(reply.text, "5.1.1 Nobody of that name")
            client.expect(250, "RCPT TO:<grey@d0.example>")
            client.expect(250, "RSET")
        self.assertEqual([self.asked(hop, user) for user in (b"alice", b"nobody", b"grey")], [1, 1, 3])
        senders = {command for command in hop.commands if command.startswith(b"MAIL")}
        self.assertEqual(len(senders), 1)
        self.assertTrue(senders.pop().startswith(b"MAIL FROM:<>"))
        self.assertGreaterEqual(hop.commands.count(b"RSET"), 4)
        self.assertEqual(hop.messages, [])
        self.assertEqual(client.transfer(text_of(1), recipients=["alice@d0.example"]).code, 250)
        self.wait_for(hop, [1])
        gateway.write_configuration()  # a reload forgets
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: gateway.events("reloaded"), "event=reloaded")
        client.expect(250, "MAIL FROM:<sender@client.example>")
        client.expect(550, "RCPT TO:<nobody@d0.example>")
        self.assertEqual(self.asked(hop, b"nobody"), 2)
        self.stop(gateway)

    def test_nobody_answers(self):
        """Our own lists decide then."""
        hop = self.hop({"RCPT": lambda line: time.sleep(STALL) or b"550 5.1.1 Too late"})
        gateway = self.gateway(hop.target, words="verify = callahead")
        client = self.greeted(gateway)
        client.expect(250, "MAIL FROM:<sender@client.example>")
        begin = time.monotonic()
        client.expect(250, "RCPT TO:<nobody@d0.example>")
        self.assertLess(time.monotonic() - begin, STALL - 0.2)
        hop.server.server_close()
        hop.answers["MAIL"] = None
        begin = time.monotonic()
        client.expect(250, "RCPT TO:<another@d0.example>")
        self.assertLess(time.monotonic() - begin, STALL - 0.2)
        self.stop(gateway)

    def test_asked_no_more(self):
        """The patience is paid once, not for each recipient."""
        hop = self.hop({"RCPT": lambda line: time.sleep(STALL * 2) or b"250 2.1.5 Ok"})
        gateway = self.gateway(hop.target, words="verify = callahead")
        begin = time.monotonic()
        for _ in range(2):  # the second one's client has other recipients
            client = self.greeted(gateway)
            client.send(b"MAIL FROM:<a@client.example>\r\n"
                        + b"".join(b"RCPT TO:<u%d.%d@d0.example>\r\n" % (_, number) for number in range(12)))
            self.assertEqual([client.reply().code for _ in range(13)], [250] * 13)
        self.assertLess(time.monotonic() - begin, PATIENCE * 6)  # of 24
        self.assertEqual(self.asked(hop), 1)
        self.stop(gateway)

    def test_sender_refused(self):
        """A server that refuses MAIL FROM:<> has said nothing about the mailbox."""
        hop = self.hop({"MAIL FROM:<>": b"550 5.7.1 No bounces"})
        gateway = self.gateway(hop.target, words="verify = callahead")
        client = self.greeted(gateway)
        self.assertEqual(client.transfer(text_of(1), recipients=["a@d0.example"]).code, 250)
        self.wait_for(hop, [1])
        self.stop(gateway)

    def test_asked_once(self):
        """Equal questions at the same time are one."""
        hop = self.hop({"RCPT": lambda line: time.sleep(PATIENCE / 2) or b"550 5.1.1 No"})
        gateway = self.gateway(hop.target, words="verify = callahead")
        clients = [self.greeted(gateway) for _ in range(20)]
        for client in clients:
            client.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<guess@d0.example>\r\nQUIT\r\n")
        for client in clients:
            self.assertEqual([client.reply().code for _ in range(3)], [250, 550, 221])
        self.assertEqual(self.asked(hop), 1)
        self.stop(gateway)

    def test_mixed_with_others(self):
        """Spooled domains share a transaction, whoever is asked; a pass-through one does not."""
        hop = self.hop({"RCPT TO:<NO": b"550 5.1.1 No"})
        gateway = self.gateway(hop.target, words="verify = callahead")
        client = self.greeted(gateway)
        client.expect(250, "MAIL FROM:<a@client.example>")
        client.expect(250, "RCPT TO:<a@plain.example>")
        client.expect(550, "RCPT TO:<no@d0.example>")
        client.expect(250, "RCPT TO:<yes@d0.example>")
        client.expect(354, "DATA")
        client.send(text_of(5) + b".\r\n")
        client.expect(250)
        self.wait_for(hop, [5])
        gateway.wait_messages("a", 1, "plain.example")
        self.stop(gateway)

    def test_lmtp(self):
        hop = self.hop({"RCPT TO:<NO": b"550 5.1.1 No"}, lmtp=True)
        gateway = self.gateway(hop.target, words="verify = callahead")
        client = self.greeted(gateway)
        client.expect(250, "MAIL FROM:<a@client.example>")
        client.expect(550, "RCPT TO:<no@d0.example>")
        client.expect(250, "RCPT TO:<yes@d0.example>")
        self.stop(gateway)


if __name__ == "__main__":
    unittest.main()
