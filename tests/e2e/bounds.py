"""What the tests of bounds share: clients from many addresses, IPv4 ones by their source, IPv6 ones by a PROXY header."""
import unittest

from harness import Client, Gateway


def gateway(test, settings=None, **options):
    result = Gateway(settings=settings, **options)
    test.addCleanup(result.close)
    return result.start()


def proxied(server, address):
    """A client that a balancer speaks for."""
    client = Client(server.address)
    kind, target = ("TCP6", "2001:db8::25") if ":" in address else ("TCP4", "192.0.2.25")
    client.send(f"PROXY {kind} {address} {target} 4711 25\r\n".encode())
    return client


class Bounds(unittest.TestCase):
    def stop(self, server):
        """In order; nobody is left for the drain to wait for."""
        for client in self.clients:
            client.close()
        server.stop()

    def setUp(self):
        self.clients = []

    def come(self, server, source):
        """A client from there: of its own, or by a PROXY header. Its first reply is in .first."""
        client = proxied(server, source) if server.listeners["mx"].get("proxy") else Client(server.address, source=source)
        self.addCleanup(client.close)
        self.clients.append(client)
        client.first = client.reply()
        return client

    def welcome(self, server, source):
        client = self.come(server, source)
        self.assertEqual(client.first.code, 220, client.first)
        return client

    def refused(self, server, source, code=421, enhanced="4.7.0", word="address"):
        client = self.come(server, source)
        self.assertEqual((client.first.code, client.first.enhanced), (code, enhanced), client.first)
        self.assertIn(word, client.first.text)
        self.assertTrue(client.closed(5))
        client.close()

    def behind_proxy(self, settings):
        return gateway(self, settings, listeners={"mx": {"proxy": '{"127.0.0.1"}'}})
