"""ringmx behind a real HAProxy: the headers that it writes, TLS that ends there or passes through, its checks, and the
configuration of docs/deploy/haproxy.cfg."""
import os
import re
import signal
import socket
import subprocess
import time
import unittest

import loader
import pki
from harness import ROOT, Client, Gateway, message, split_delivered, wait_until
from loader import Acked
from peers import HAPROXY, Balancer
from test_proxy import told
from tls_client import tls_context

CLIENT = "127.9.8.7"
DEFAULTS = """defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout check 2s
"""
DEPLOYED = os.path.join(ROOT, "docs", "deploy", "haproxy.cfg")
LISTENERS = {"mx": {"proxy": '{"127.0.0.1"}'}}


def gateway(test, settings=None, listeners=None, **options):
    result = Gateway(settings, listeners=listeners or LISTENERS, **options)
    test.addCleanup(result.close)
    return result.start()


def free_address():
    """One that only whoever was told of it uses."""
    host = "127.{}.{}.{}".format(*(1 + octet % 254 for octet in os.urandom(3)))
    with socket.create_server((host, 0)) as probe:
        return "%s:%d" % probe.getsockname()


def place(server, name="mx"):
    return "%s:%d" % server.at[name]


def certificates():
    made = pki.authority().issue("mx.example.org")
    return {"mx.example.org": (made.chain, made.key)}


def transfer(client, user="alice"):
    client.expect(250, "EHLO client.example")
    reply = client.transfer(message(), recipients=[f"{user}@example.org"])
    assert reply.code == 250, reply
    client.expect(221, "QUIT")


@unittest.skipUnless(os.path.exists(HAPROXY), "skipped: haproxy is not installed")
class Headers(unittest.TestCase):
    def test_both_versions(self):
        server = gateway(self)
        text = DEFAULTS + "".join(f"listen {name}\n  bind {{{name}}}\n  server gateway {place(server)} {words}\n"
                                  for name, words in (("one", "send-proxy"), ("two", "send-proxy-v2"),
                                                      ("crc", "send-proxy-v2 proxy-v2-options crc32c")))
        with Balancer(text, ("one", "two", "crc")) as balancer:
            for number, name in enumerate(("one", "two", "crc"), 1):
                with Client(balancer.at[name], source=CLIENT) as client:
                    client.expect(220)
                    transfer(client)
                for mail in server.wait_messages("alice", number):
                    self.assertIn(f"([{CLIENT}])".encode(), split_delivered(mail)[1])

        def ours(*events):
            return [line for line in server.events(*events) if line["client"] == CLIENT]
        wait_until(lambda: len(ours("proxy")) == 3, "three headers in the log")
        self.assertEqual(sorted(line["version"] for line in ours("proxy")), ["1", "2", "2"])
        server.stop()

    def test_without_a_header(self):
        """A balancer that should send one, and was not told to, hears nothing, and the log says why."""
        server = gateway(self)
        with Balancer(DEFAULTS + f"listen smtp\n  bind {{front}}\n  server gateway {place(server)}\n") as balancer:
            with Client(balancer.address) as client:
                client.send(b"EHLO client.example\r\n")
                self.assertEqual(client.socket.recv(100), b"")
        wait_until(lambda: server.events("proxy_bad"), "event=proxy_bad")
        server.stop()

    def test_where_none_should_be(self):
        server = gateway(self, listeners={"mx": {}})
        text = DEFAULTS + "".join(f"listen {name}\n  bind {{{name}}}\n  server gateway {place(server)} {words}\n"
                                  for name, words in (("one", "send-proxy"), ("two", "send-proxy-v2")))
        with Balancer(text, ("one", "two")) as balancer:
            for name in ("one", "two"):
                with Client(balancer.at[name], source=CLIENT) as client:
                    client.expect(220)
                    self.assertEqual(client.expect(554).enhanced, "5.5.0")
        server.stop()
        self.assertNotIn(CLIENT, server.log_text())

    def test_tls_ends_there(self):
        """With a client's certificate, whose name HAProxy tells us; and with one that it has not verified."""
        authority, stranger = pki.authority(), pki.authority("stranger")
        made = authority.issue("mx.example.org")
        server = gateway(self)
        path = os.path.join(pki.directory(), "haproxy.pem")
        with open(path, "w", encoding="ascii") as both, open(made.chain, encoding="ascii") as chain, \
                open(made.key, encoding="ascii") as key:
            both.write(chain.read() + key.read())
        text = DEFAULTS + (
            f"listen smtps\n  bind {{front}} ssl crt {path} ca-file {authority.path} verify optional "
            f"crt-ignore-err all ca-ignore-err all\n"
            f"  server gateway {place(server)} send-proxy-v2-ssl-cn proxy-v2-options "
            f"ssl,cert-cn,ssl-cipher,authority\n")
        with Balancer(text) as balancer:
            for issuer, name in ((authority, "trusted.example"), (stranger, "stranger.example"), (None, None)):
                mine = issuer.issue(name, client=True) if issuer else None
                context = tls_context(authority.path, certificate=(mine.chain, mine.key) if mine else None)
                with Client(balancer.address, source=CLIENT) as client:
                    client.socket = context.wrap_socket(client.socket, server_hostname="mx.example.org")
                    client.expect(220)
                    transfer(client)
        lines = [line for line in told(server, 3, "proxy") if line["client"] == CLIENT]
        self.assertEqual([(line["client_name"], line["verified"]) for line in lines if "client_name" in line],
                         [("trusted.example", "true"), ("stranger.example", "false")])
        self.assertEqual({line["tls"] for line in lines}, {"TLSv1.3"})
        self.assertEqual({line["authority"] for line in lines}, {"mx.example.org"})
        self.assertTrue(all(line["cipher"].startswith("TLS_AES_") for line in lines), lines)
        for mail in server.wait_messages("alice", 3):
            received = split_delivered(mail)[1]
            self.assertIn(f"([{CLIENT}])".encode(), received)
            self.assertIn(b"with ESMTP id", received)  # as it came to us
        server.stop()

    def test_tls_passes_through(self):
        server = gateway(self, listeners={"mx": {"tls": "implicit", **LISTENERS["mx"]}}, certificates=certificates())
        text = DEFAULTS + f"listen smtps\n  bind {{front}}\n  server gateway {place(server)} send-proxy-v2\n"
        with Balancer(text) as balancer:
            for _ in range(10):
                with Client(balancer.address, source=CLIENT) as client:
                    client.socket = tls_context(pki.authority().path).wrap_socket(
                        client.socket, server_hostname="mx.example.org")
                    client.expect(220)
                    transfer(client)
        for mail in server.wait_messages("alice", 10):
            self.assertIn(b"ESMTPS", split_delivered(mail)[1])
            self.assertIn(f"([{CLIENT}])".encode(), split_delivered(mail)[1])
        server.stop()


@unittest.skipUnless(os.path.exists(HAPROXY), "skipped: haproxy is not installed")
class Checks(unittest.TestCase):
    TEXT = DEFAULTS + """backend gateways
  option smtpchk EHLO check.example
  default-server check check-send-proxy inter 200ms fall 2 rise 1
  server one {one} send-proxy
  server two {two} send-proxy-v2
listen smtp
  bind {front}
  use-server one if TRUE
  server one {one} send-proxy
"""

    def test_smtpchk(self):
        """UP while ringmx takes mail, DOWN as soon as it greets with 421; and nothing of it in the log."""
        server = gateway(self, {"drain.notice": '"3s"', "limits.connections_per_ip": "1", "limits.connection_rate": "1",
                                "limits.greet_delay": '"3s"'})
        text = self.TEXT.replace("{one}", place(server)).replace("{two}", place(server))
        with Balancer(text) as balancer:
            for name in ("one", "two"):
                wait_until(lambda: balancer.checked(f"gateways/{name}"), f"{name} is checked: {balancer.told()}")
            time.sleep(1)  # five checks of each
            for name in ("one", "two"):
                self.assertEqual(balancer.state(f"gateways/{name}"), "UP")
                self.assertEqual(balancer.field(f"gateways/{name}", "chkfail"), "0")
            self.assertEqual(server.events("connect", "proxy", "proxy_bad", "refused"), [])
            server.signal(signal.SIGTERM)
            for name in ("one", "two"):
                wait_until(lambda: balancer.state(f"gateways/{name}") == "DOWN", f"{name} is DOWN: {balancer.told()}")
            self.assertTrue(server.alive(), "it is still in its notice")
            server.stop()

    def test_no_place_no_check(self):
        """A gateway without room for another connection is DOWN."""
        server = gateway(self, {"limits.connections": "3"})
        text = self.TEXT.replace("{one}", place(server)).replace("{two}", place(server))
        with Balancer(text) as balancer:
            wait_until(lambda: balancer.state("gateways/one") == "UP", "UP")
            clients = []

            def full():
                client = Client(balancer.address, source=CLIENT)
                self.addCleanup(client.close)
                if client.reply().code == 220:
                    clients.append(client)
                return len(clients) == 3
            wait_until(full, "all places taken")
            wait_until(lambda: balancer.state("gateways/one") == "DOWN", f"DOWN: {balancer.told()}")
            for client in clients:
                client.close()
            wait_until(lambda: balancer.state("gateways/one") == "UP", f"UP again: {balancer.told()}")
        server.stop()


@unittest.skipUnless(os.path.exists(HAPROXY), "skipped: haproxy is not installed")
class Deployed(unittest.TestCase):
    """docs/deploy/haproxy.cfg."""

    def test_it_is_taken(self):
        done = subprocess.run([HAPROXY, "-c", "-f", DEPLOYED], capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn("WARNING", done.stderr)

    def test_two_gateways(self):
        """As it stands, but for its addresses: mail on both ports goes to both; one that drains is left, with nothing
        lost and no client turned away."""
        with open(DEPLOYED, encoding="ascii") as file:
            text = file.read()
        gateways, places = [], {}
        for name in ("10.0.0.11", "10.0.0.12"):
            agent = free_address()
            server = gateway(self, {"drain.notice": '"8s"', "admin.agent": f'"{agent}"'},
                             {"mx": {"tls": "starttls", **LISTENERS["mx"]},
                              "smtps": {"tls": "implicit", **LISTENERS["mx"]}}, certificates=certificates())
            gateways.append(server)
            places[name] = (place(server, "mx"), place(server, "smtps"), agent)
        text = re.sub(r"^global\n(  .*\n|\n)*", "", text, count=1, flags=re.M)
        for name, (smtp, smtps, agent) in places.items():
            host, port = agent.split(":")
            text = text.replace(f"{name}:25 ", f"{smtp} agent-addr {host} agent-port {port} ")
            text = text.replace(f"{name}:465 ", f"{smtps} ")
        text = re.sub(r" agent-port 9126", "", text)
        text = text.replace("bind :::25 v4v6", "bind {smtp}").replace("bind :::465 v4v6", "bind {smtps}")
        text = re.sub(r"bind 127.0.0.1:8404", "bind {status}", text)
        self.assertNotIn("10.0.0.", re.sub("#.*", "", text))
        with Balancer(text, ("smtp", "smtps", "status")) as balancer:
            for name in ("smtp/a", "smtp/b"):
                wait_until(lambda: balancer.state(name) == "UP", f"{name} is UP: {balancer.told()}")
            with Acked() as acked:
                report = loader.run(balancer.at["smtp"], "--messages", 200, "--messages-per-connection", 4,
                                    "--connections", 8, "--acked", acked.path)
                self.assertEqual(report["messages"], 200)
            with Client(balancer.at["smtps"], source=CLIENT) as client:
                client.socket = tls_context(pki.authority().path).wrap_socket(
                    client.socket, server_hostname="mx.example.org")
                client.expect(220)
                transfer(client)
            wait_until(lambda: sum(server.count("user") for server in gateways) == 200, "all mail has come")
            self.assertTrue(all(server.count("user") > 20 for server in gateways),
                            [server.count("user") for server in gateways])
            gateways[0].signal(signal.SIGTERM)
            wait_until(lambda: balancer.state("smtp/a") != "UP", "the agent says drain")
            before = gateways[1].count("user")
            for _ in range(10):
                with Client(balancer.at["smtp"], source=CLIENT) as client:
                    client.expect(220)
                    transfer(client, "user")
            gateways[1].wait_messages("user", before + 10)
            gateways[0].stop()
        gateways[1].stop()


if __name__ == "__main__":
    unittest.main()
