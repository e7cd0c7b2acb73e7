"""tls.handshakes: as many TLS handshakes under way as may be, and each one counted out again."""
import time
import unittest

import pki
from bounds import Bounds, gateway
from harness import PATIENCE_S, Client, message, wait_until
from prometheus import scrape
from tls_client import SecureClient


class Handshakes(Bounds):
    def server(self, settings=None):
        good = pki.authority().issue("mx.example.org")
        return gateway(self, {"tls.handshakes": "4", "limits.command_timeout": '"60s"', **(settings or {})},
                       certificates={"mx": (good.chain, good.key)},
                       listeners={"starttls": {"tls": "starttls"}, "implicit": {"tls": "implicit"}})

    def half_open(self, server, name):
        """A handshake that is begun and left so."""
        client = Client(server.at[name])
        self.addCleanup(client.close)
        self.clients.append(client)
        if name == "starttls":
            client.hello()
            client.expect(220, "STARTTLS")
        client.send(b"\x16\x03\x01\x02\x00")  # the head of a ClientHello
        return client

    def wait_connected(self, server, count):
        wait_until(lambda: len(server.events("connect")) >= count, f"{count} connections")

    def test_starttls(self):
        server = self.server()
        half = [self.half_open(server, "starttls") for _ in range(4)]
        with Client(server.at["starttls"]) as client:
            client.hello()
            for _ in range(3):
                reply = client.command("STARTTLS")
                self.assertEqual((reply.code, reply.enhanced), (454, "4.7.0"), reply)
            self.assertEqual(client.transfer(message()).code, 250, "the session goes on in clear")
        half[0].close()

        def secured():
            with SecureClient(server.at["starttls"]) as honest:
                try:
                    honest.hello()
                except AssertionError:
                    return False
                return honest.transfer(message()).code == 250
        wait_until(secured, "room for a handshake")
        self.stop(server)
        self.assertIn("too_many_handshakes", {line["reason"] for line in server.events("refused")})

    def test_implicit(self):
        server = self.server()
        half = [self.half_open(server, "implicit") for _ in range(4)]
        self.wait_connected(server, 4)
        with Client(server.at["implicit"]) as client:
            self.assertTrue(client.closed(5))
            self.assertEqual(client.buffer, b"", "not a word in clear")
        for client in half:
            client.close()

        def served():
            try:
                with SecureClient(server.at["implicit"], implicit=True) as honest:
                    honest.hello()
                    return honest.transfer(message()).code == 250
            except (OSError, EOFError):
                return False
        wait_until(served, "room for a handshake")
        self.stop(server)

    def test_the_oldest_makes_room(self):
        """Who says nothing can't keep TLS from others for longer than two seconds, and is counted out once."""
        server = self.server({"workers": "1", "admin.http": '"127.0.0.1:0"'})
        silent = [Client(server.at["implicit"]) for _ in range(4)]
        for client in silent:
            self.addCleanup(client.close)
            self.clients.append(client)
        self.wait_connected(server, 4)
        with Client(server.at["implicit"]) as client:
            self.assertTrue(client.closed(5), "they are young")
        time.sleep(2.1)
        for closed, name in enumerate(("starttls", "implicit"), 1):
            with SecureClient(server.at[name], implicit=name == "implicit") as honest:
                honest.hello()
                self.assertEqual(honest.transfer(message()).code, 250)
            # The place that the honest one had is free again, so it takes another to make room.
            self.half_open(server, "starttls")
            self.assertEqual([client.closed(5 if which < closed else 0.1) for which, client in enumerate(silent)],
                             [which < closed for which in range(4)])
        page = scrape(server)
        self.assertEqual(page.value("ringmx_tls_handshakes_running"), 4)
        self.assertEqual(page.sum("ringmx_replies_total", reason="too_many_handshakes"), 1)
        self.stop(server)
        self.assertEqual([line["reason"] for line in server.events("refused")], ["too_many_handshakes"])

    def test_balanced(self):
        """Whatever becomes of a handshake, it is counted out again: done, broken off, garbage, timed out, refused."""
        server = self.server({"limits.command_timeout": '"1s"'})
        for _ in range(3):
            for name in ("starttls", "implicit"):
                self.half_open(server, name).close()
                garbage = self.half_open(server, name)
                garbage.send(b"no record at all" * 100)
                self.assertTrue(garbage.closed(5))
                garbage.close()
                late = self.half_open(server, name)
                self.assertTrue(late.closed(10), "its time runs out")
                late.close()
                with SecureClient(server.at[name], implicit=name == "implicit") as client:
                    client.hello()
        wait_until(lambda: len(server.events("disconnect")) == 24, "the end of all")
        for _ in range(4):  # all four places are there
            self.half_open(server, "starttls")
        with Client(server.at["starttls"]) as client:
            client.hello()
            self.assertEqual(client.command("STARTTLS").code, 454, "and no more than four")
        self.stop(server)

    def test_many_half_open(self):
        """A flood of handshakes that are never finished: honest ones go on as soon as there is room."""
        server = self.server({"tls.handshakes": "50", "limits.command_timeout": '"3s"'})
        begun = time.monotonic()
        flood = []
        for _ in range(400):
            client = Client(server.at["implicit"])
            self.addCleanup(client.close)
            self.clients.append(client)
            client.send(b"\x16\x03\x01\x02\x00")
            flood.append(client)
        delivered = 0
        while delivered < 10:
            self.assertLess(time.monotonic() - begun, PATIENCE_S)
            try:
                with SecureClient(server.at["implicit"], implicit=True) as honest:
                    honest.hello()
                    delivered += honest.transfer(message()).code == 250
            except (OSError, EOFError):
                time.sleep(0.1)
        server.wait_messages("alice", 10)
        self.stop(server)


if __name__ == "__main__":
    unittest.main()
