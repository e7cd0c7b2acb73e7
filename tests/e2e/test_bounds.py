"""What bounds a client: connections at a time and a minute, messages a minute, by address and network, IPv4 and
IPv6; the length of the queue; who is exempt. And that it ends again."""
import json
import os
import socket
import subprocess
import time
import unittest

import loader
import pki
from bounds import Bounds, gateway
from harness import BINARY, PATIENCE_S, SLOW, Client, Gateway, message, quote, wait_until
from tls_client import TlsSocket

PROGRAM = os.path.join(os.path.dirname(BINARY), "ringmxctl")


class Connections(Bounds):
    def test_of_a_network(self):
        server = gateway(self, {"limits.connections_per_ip": "2", "limits.connections_per_network": "5"})
        clients = [self.welcome(server, f"127.0.7.{1 + i // 2}") for i in range(4)]
        self.refused(server, "127.0.7.1", word="address")
        clients.append(self.welcome(server, "127.0.7.9"))
        for last in (9, 10, 250):
            self.refused(server, f"127.0.7.{last}", word="network")
        self.welcome(server, "127.0.8.1")
        clients[0].close()
        wait_until(lambda: self.come(server, "127.0.7.10").first.code == 220, "a place in the network")
        self.stop(server)

    def test_of_ipv6(self):
        """A /64 is one client, a /48 one network; and an IPv4 address is itself, however it is written."""
        server = self.behind_proxy({"limits.connections_per_ip": "2", "limits.connections_per_network": "3"})
        self.welcome(server, "2001:db8:1:1::1")
        second = self.welcome(server, "2001:db8:1:1:ffff::2")
        self.refused(server, "2001:db8:1:1:2:3:4:5", word="address")
        self.welcome(server, "2001:db8:1:2::1")
        self.refused(server, "2001:db8:1:3::1", word="network")
        self.welcome(server, "2001:db8:2:3::1")
        second.close()
        wait_until(lambda: self.come(server, "2001:db8:1:3::1").first.code == 220, "a place in the network")
        self.welcome(server, "192.0.2.1")
        self.welcome(server, "192.0.2.1")
        self.refused(server, "::ffff:192.0.2.1", word="address")
        self.stop(server)

    def test_exempt(self):
        """Who is exempt is counted among all, and by nothing else."""
        server = gateway(self, {"limits.connections_per_ip": "1", "limits.connections_per_network": "1",
                                "limits.connection_rate": "1", "limits.message_rate": "1",
                                "limits.connections": "12", "limits.exempt": '{"127.0.0.0/25", "2001:db8::/32"}'})
        clients = [self.welcome(server, "127.0.0.9") for _ in range(10)]
        for _ in range(3):
            self.assertEqual(clients[0].command("EHLO client.example").code, 250)
            self.assertEqual(clients[0].transfer(message()).code, 250)
        self.welcome(server, "127.0.0.129")
        self.refused(server, "127.0.0.129", word="address")
        self.welcome(server, "127.0.0.9")
        self.refused(server, "127.0.0.9", enhanced="4.3.2", word="Too many connections")
        self.stop(server)

    def test_every_refusal_is_told(self):
        server = self.behind_proxy({"limits.connections_per_ip": "1"})
        self.welcome(server, "2001:db8::1")
        self.refused(server, "2001:db8::2")
        self.stop(server)
        lines = server.events("refused")
        self.assertEqual([(line["client"], line["reason"]) for line in lines], [("IPv6:2001:db8::2", "too_many_from_address")])
        self.assertRegex(lines[0]["session"], r"^\w+$")


class Rates(Bounds):
    def test_connections(self):
        server = gateway(self, {"limits.connection_rate": "6", "limits.connection_rate_network": "9"})
        for _ in range(6):
            self.welcome(server, "127.0.7.1").close()
        for _ in range(3):
            self.refused(server, "127.0.7.1", word="address connects too often")
        for _ in range(3):
            self.welcome(server, "127.0.7.2").close()
        self.refused(server, "127.0.7.3", word="network connects too often")
        self.welcome(server, "127.0.8.1")
        self.stop(server)

    def test_they_come_back(self):
        """A minute's worth at once, then one each 60/N seconds: those that were refused did not count."""
        server = gateway(self, {"limits.connection_rate": "40"})
        begun = time.monotonic()
        through = 0
        while time.monotonic() - begun < 6:
            through += self.come(server, "127.0.7.1").first.code == 220
            time.sleep(0.05)
        self.assertIn(through, range(40 + 2, 40 + 6), "40 at once, and one each 1.5 s")
        self.stop(server)

    def test_ipv6(self):
        server = self.behind_proxy({"limits.connection_rate": "2", "limits.connection_rate_network": "3"})
        self.welcome(server, "2001:db8:1:1::1")
        self.welcome(server, "2001:db8:1:1::2")
        self.refused(server, "2001:db8:1:1::3", word="address connects too often")
        self.welcome(server, "2001:db8:1:2::1")
        self.refused(server, "2001:db8:1:3::1", word="network connects too often")
        self.welcome(server, "2001:db8:2:1::1")
        self.stop(server)

    def test_messages(self):
        server = gateway(self, {"limits.message_rate": "3", "limits.message_rate_network": "5"})
        client = self.welcome(server, "127.0.7.1")
        client.expect(250, "EHLO client.example")
        for _ in range(3):
            self.assertEqual(client.transfer(message()).code, 250)
        reply = client.command("MAIL FROM:<a@client.example>")
        self.assertEqual((reply.code, reply.enhanced), (450, "4.7.1"), reply)
        self.assertEqual(client.command("NOOP").code, 250, "the session goes on")
        again = self.welcome(server, "127.0.7.1")
        again.expect(250, "EHLO client.example")
        self.assertEqual(again.command("MAIL FROM:<a@client.example>").code, 450, "another connection, the same client")
        other = self.welcome(server, "127.0.7.2")
        other.expect(250, "EHLO client.example")
        for _ in range(2):
            self.assertEqual(other.transfer(message()).code, 250)
        reply = other.command("MAIL FROM:<a@client.example>")
        self.assertEqual((reply.code, reply.enhanced), (450, "4.7.1"))
        self.assertIn("network", reply.text)
        stranger = self.welcome(server, "127.0.8.1")
        stranger.expect(250, "EHLO client.example")
        self.assertEqual(stranger.transfer(message()).code, 250)
        server.wait_messages("alice", 6)
        self.stop(server)
        reasons = {line["reason"] for line in server.events("refused")}
        self.assertEqual(reasons, {"too_many_messages", "too_many_messages_from_network"})

    def test_messages_pipelined(self):
        """What is pipelined behind the refused MAIL is no mistake."""
        server = gateway(self, {"limits.message_rate": "1", "limits.bad_commands": "1"})
        client = self.welcome(server, "127.0.0.1")
        client.expect(250, "EHLO client.example")
        self.assertEqual(client.transfer(message()).code, 250)
        client.send(b"MAIL FROM:<a@client.example>\r\n" + b"RCPT TO:<alice@example.org>\r\n" * 5 + b"DATA\r\nNOOP\r\n")
        self.assertEqual([client.reply().code for _ in range(8)], [450] + [503] * 6 + [250])
        self.stop(server)

    def test_reload(self):
        server = gateway(self, {"limits.message_rate": "1"})
        client = self.welcome(server, "127.0.0.1")
        client.expect(250, "EHLO client.example")
        self.assertEqual(client.transfer(message()).code, 250)
        self.assertEqual(client.command("MAIL FROM:<a@client.example>").code, 450)
        server.settings["limits.message_rate"] = "100"
        server.write_configuration()
        server.signal(1)
        wait_until(lambda: server.events("reloaded"), "the reload")
        wait_until(lambda: client.command("MAIL FROM:<a@client.example>").code == 250, "the new rate", step_s=0.1)
        self.stop(server)


class Queue(Bounds):
    """queue.messages: the least that can be set is 1000."""

    def setUp(self):
        super().setUp()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        made = pki.authority().issue("mx.example.org")
        self.server = Gateway({"queue.messages": "1000", "queue.schedule": '{"1h"}'},
                              listeners={"mx": {}, "implicit": {"tls": "implicit"}},
                              certificates={"mx.example.org": (made.chain, made.key)},
                              domains={"example.org": (["*"], "maildir:{mail}/%d/%u"),
                                       "dead.example": (["*"], f"smtp:127.0.0.1:{port}")})
        self.addCleanup(self.server.close)
        self.control = os.path.join(self.server.directory, "control")
        self.server.settings["admin.control"] = quote(self.control)
        self.server.start()

    def fill(self, count):
        """So many messages that wait."""
        report = loader.run(self.server.address, "--messages", count, "--connections", 4, "--domain", "dead.example")
        self.assertEqual(report["failed"], 0)

    def remove(self, count):
        """Removes so many; what is being tried just then is passed over."""
        def tool(*words):
            return subprocess.run([PROGRAM, "-s", self.control, *words], capture_output=True, text=True, check=False,
                                  timeout=PATIENCE_S * 3)
        rows = [json.loads(line) for line in tool("queue", "list", "--json").stdout.splitlines()]
        for row in rows:
            count -= count > 0 and tool("queue", "remove", row["id"]).returncode == 0
        self.assertEqual(count, 0, "not removed")

    def answer(self):
        """What a client that comes now hears: to its connection, or to its MAIL."""
        with Client(self.server.address) as client:
            reply = client.reply()
            if reply.code != 220:
                return reply.code, reply.enhanced
            client.expect(250, "EHLO client.example")
            reply = client.command("MAIL FROM:<a@client.example>")
            return reply.code, reply.enhanced

    @unittest.skipIf(SLOW, "a handshake of two seconds makes room for the next one")
    def test_who_came_when_it_was_full(self):
        """Where TLS comes first he may be greeted after all, and then the bounds are his as everybody's."""
        self.server.settings.update({"tls.handshakes": "3", "limits.connections_per_ip": "2"})
        self.server.restart()
        loader.run(self.server.address, "--messages", 1000, "--connections", 1, "--domain", "dead.example")
        wait_until(lambda: self.answer() == (421, "4.3.2"), "not ready for new clients")
        here = {"source": "127.0.0.7"}
        for again in range(10):  # on a busy machine the first one may be old enough to make room
            half = [Client(self.server.at["implicit"], **here) for _ in range(3)]
            for client in half:
                self.addCleanup(client.close)
            with Client(self.server.at["implicit"], **here) as fourth:
                if fourth.closed(1):
                    break
            self.assertLess(again, 9, "tls.handshakes")
            for client in half:
                client.close()
        self.remove(5)
        wait_until(lambda: self.answer() == (250, "2.1.0"), "open again")
        codes = []
        for client in half:
            client.socket = TlsSocket(client.socket).handshake()
            codes.append(client.reply().code)
        self.assertEqual(codes, [220, 220, 421], "limits.connections_per_ip")
        for client in half:
            client.close()
        self.server.stop()

    def test_full_and_open_again(self):
        self.fill(998)
        before = self.server.client()
        self.addCleanup(before.close)
        before.hello()
        self.assertEqual(before.transfer(message(), recipients=("a@dead.example",)).code, 250)
        self.assertEqual(before.transfer(message(), recipients=("a@dead.example",)).code, 250)
        wait_until(lambda: self.answer() == (421, "4.3.2"), "not ready for new clients")
        reply = before.command("MAIL FROM:<a@client.example>")
        self.assertEqual((reply.code, reply.enhanced), (452, "4.3.1"), reply)
        self.server.restart()
        self.assertEqual(self.answer(), (421, "4.3.2"), "they are still there")
        self.remove(2)
        wait_until(lambda: self.answer() == (250, "2.1.0"), "open again")
        # With less room than there are messages it starts, too; a reload makes room.
        self.fill(1)
        self.server.settings["queue.messages"] = "1200"
        self.server.write_configuration()
        self.server.signal(1)
        wait_until(lambda: self.server.events("reloaded"), "the reload")
        self.fill(150)
        self.server.stop()
        self.server.settings["queue.messages"] = "1000"
        self.server.start()
        self.assertEqual(self.answer(), (421, "4.3.2"), "more than the bound")
        self.remove(150)
        wait_until(lambda: self.answer() == (250, "2.1.0"), "open again")
        self.server.stop()


if __name__ == "__main__":
    unittest.main()
