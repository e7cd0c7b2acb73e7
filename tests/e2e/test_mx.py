"""MX from end to end: the gateway asks a real name server (nsd, behind tests/e2e/zones.py) and delivers to next hops on
several loopback addresses: in which order, what counts as failure for now and what for good, and that mail never comes
back to ourselves."""
import socketserver
import threading
import time
import unittest

from harness import Gateway, message, wait_until
from reports import Hop, Report
from zones import NameServer


class Exchange(Hop):
    """A next hop at another address than 127.0.0.1; port 0: one that the kernel chooses."""

    def __init__(self, host, port, **words):
        super().__init__(**words)
        handler = self.server.RequestHandlerClass
        self.server.server_close()
        self.server = socketserver.ThreadingTCPServer((host, port), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)


class Mx(unittest.TestCase):
    def setUp(self):
        self.exchanges = []
        for number in (2, 3, 4):
            port = self.exchanges[0].port if self.exchanges else 0
            self.exchanges.append(Exchange(f"127.0.0.{number}", port))
            self.exchanges[-1].__enter__()
            self.addCleanup(self.exchanges[-1].__exit__)
        self.port = self.exchanges[0].port

    def names(self, records, **words):
        # a, b and c are there; d is not: nobody listens.
        hosts = "".join(f"{name}.test. A 127.0.0.{number}\n" for number, name in enumerate("abcd", 2))
        server = NameServer(hosts + records, **words)
        server.__enter__()
        self.addCleanup(server.__exit__)
        return server

    def gateway(self, names, *domains, settings=None, **words):
        gateway = Gateway(
            settings={"resolver.address": '{"%s"}' % names.text, "resolver.timeout": '"1s"', "resolver.tries": "1",
                      "deliver.smtp_port": str(self.port), "queue.schedule": '{"1s"}', "queue.lifetime": '"1h"',
                      **(settings or {})},
            domains={"example.org": (["*"], "maildir:{mail}/%d/%u"), **{name: (["*"], "mx:") for name in domains}},
            **words)
        self.addCleanup(gateway.close)
        return gateway.start()

    def send(self, gateway, *recipients, subject="test"):
        with gateway.client() as client:
            client.hello()
            client.transfer(message(subject), sender="alice@example.org", recipients=recipients)

    def received(self):
        return [len(exchange.messages) for exchange in self.exchanges]

    def wait(self, count):
        wait_until(lambda: sum(self.received()) >= count, f"{count} messages: {self.received()}")
        return self.received()

    def report(self, gateway, count=1):
        return Report(gateway.wait_messages("alice", count)[-1])

    # --- order ---

    def test_preferences(self):
        names = self.names("sorted.test. MX 30 c.test.\nsorted.test. MX 10 b.test.\nsorted.test. MX 20 a.test.\n"
                           "fallback.test. MX 10 d.test.\nfallback.test. MX 20 gone.test.\n"
                           "fallback.test. MX 30 c.test.\nimplicit.test. A 127.0.0.2\nalias.test. CNAME sorted.test.\n")
        gateway = self.gateway(names, "sorted.test", "fallback.test", "implicit.test", "alias.test")
        for _ in range(3):
            self.send(gateway, "bob@sorted.test")
        self.assertEqual(self.wait(3), [0, 3, 0])
        self.send(gateway, "bob@alias.test")
        self.assertEqual(self.wait(4), [0, 4, 0])
        self.send(gateway, "bob@fallback.test")
        self.assertEqual(self.wait(5), [0, 4, 1])
        self.send(gateway, "bob@implicit.test")
        self.assertEqual(self.wait(6), [1, 4, 1])
        self.assertEqual(gateway.events("refused", "deferred"), [])
        gateway.stop()

    def test_a_greeting_that_refuses(self):
        """The next host is tried when one does not want to serve (RFC 5321 5.1)."""
        names = self.names("one.test. MX 10 a.test.\none.test. MX 20 b.test.\n")
        self.exchanges[0].answers["CONNECT"] = b"421 4.3.2 Not now"
        gateway = self.gateway(names, "one.test")
        self.send(gateway, "bob@one.test")
        self.assertEqual(self.wait(1), [0, 1, 0])
        gateway.stop()

    def test_equal_preferences(self):
        """Those of many destinations are spread."""
        domains = [f"equal{number}.test" for number in range(30)]
        names = self.names("".join(f"{domain}. MX 10 {name}.test.\n" for domain in domains for name in "abc"))
        gateway = self.gateway(names, *domains)
        for domain in domains:
            self.send(gateway, f"bob@{domain}")
        for number in self.wait(30):
            self.assertGreater(number, 1)
        gateway.stop()

    def test_answers_are_kept(self):
        names = self.names("one.test. MX 10 a.test.\n")
        gateway = self.gateway(names, "one.test", settings={"deliver.idle": '"1s"', "deliver.ipv6": "false"})
        for count in range(1, 4):
            self.send(gateway, "bob@one.test")
            self.wait(count)
        self.assertEqual(sorted(names.asked), [("a.test", "A"), ("one.test", "MX")])
        gateway.stop()

    # --- failures ---

    def test_refusals(self):
        names = self.names("null.test. MX 0 .\nlost.test. MX 10 gone.test.\nus.test. MX 10 mx.example.org.\n"
                           "us.test. MX 20 b.test.\nbehind-us.test. MX 10 a.test.\nbehind-us.test. MX 5 us-too.test.\n")
        wanted = {"null.test": "5.1.10", "lost.test": "5.4.4", "gone.test": "5.1.2", "us.test": "5.4.6"}
        gateway = self.gateway(names, *wanted)
        for count, (domain, status) in enumerate(wanted.items(), 1):
            with self.subTest(domain):
                self.send(gateway, f"bob@{domain}")
                wait_until(lambda: gateway.count("alice") >= count, "a notification")
                reports = [Report(content) for content in gateway.messages("alice")]
                fields = [report.recipients[0] for report in reports
                          if report.recipients[0]["Final-Recipient"] == f"rfc822; bob@{domain}"]
                self.assertEqual([(one["Action"], one["Status"]) for one in fields], [("failed", status)])
        self.assertEqual(self.received(), [0, 0, 0])
        gateway.stop()

    def test_our_own_address(self):
        """An MX that leads to where we listen ourselves, under a name that we do not know."""
        names = self.names("back.test. MX 10 here.test.\nback.test. MX 20 b.test.\nhere.test. A 127.0.0.1\n")
        with self.assertRaises(OSError):  # the port is free at 127.0.0.1: that is where we shall listen
            Exchange("127.0.0.2", self.port)
        gateway = self.gateway(names, "back.test", addresses=(f"127.0.0.1:{self.port}",))
        self.send(gateway, "bob@back.test")
        self.assertEqual(self.report(gateway).recipients[0]["Status"], "5.4.6")
        self.assertEqual(self.received(), [0, 0, 0])
        gateway.stop()

    def test_for_now(self):
        """No answer and SERVFAIL are no reason to bounce; when the DNS is well again the mail goes."""
        records = "quiet.test. MX 10 a.test.\nill.test. MX 10 b.test.\nhalf.test. MX 10 ill-host.test.\n"
        records += "ill-host.test. A 127.0.0.4\n"
        names = self.names(records, silent={"quiet.test"}, servfail={"ill.test", "ill-host.test"})
        gateway = self.gateway(names, "quiet.test", "ill.test", "half.test")
        for domain in ("quiet.test", "ill.test", "half.test"):
            self.send(gateway, f"bob@{domain}")
        lines = wait_until(lambda: (found := gateway.events("deferred")) and
                           len({line["to"] for line in found}) == 3 and found, "three are deferred")
        for line in lines:
            self.assertIn("DNS", line["error"])
        self.assertEqual(gateway.count("alice"), 0)
        names.silent.clear()
        names.servfail.clear()
        wait_until(lambda: self.received() == [1, 1, 1], "they go")
        self.assertEqual(gateway.events("refused"), [])
        gateway.stop()

    def test_a_change(self):
        """The MX moves: its TTL counts, and a host that is gone is no reason to lose mail."""
        names = self.names("$TTL 1\nmoving.test. MX 10 a.test.\n")
        gateway = self.gateway(names, "moving.test", settings={"deliver.idle": '"1s"'})
        self.send(gateway, "bob@moving.test")
        self.assertEqual(self.wait(1), [1, 0, 0])
        names.change("c.test. 1 A 127.0.0.4\nmoving.test. 1 MX 10 c.test.\n")
        time.sleep(1.5)  # the connection, too, has come to its end
        self.send(gateway, "bob@moving.test")
        self.assertEqual(self.wait(2), [1, 0, 1])
        gateway.stop()


if __name__ == "__main__":
    unittest.main()
