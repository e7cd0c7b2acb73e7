"""Every dialogue of tests/script against the real program, in clear and over TLS, one test for each
file and each road, and a check that together they try every cell of the state x command table."""
import os
import re
import signal
import unittest

import dialog
import pki
from harness import Client, Gateway, message, wait_until
from tls_client import SecureClient, rest

DOMAINS = {
    "example.org": (["*"], "maildir:{mail}/%d/%u"),
    "example.net": (["alice", "bob+*", "carol"], "maildir:{mail}/%d/%u"),
    "example.com": (["dora", "@users.txt"], "maildir:{mail}/%d/%u"),
    "xn--bcher-kva.example": (["*"], "maildir:{mail}/%d/%u"),
    "discard.example": (["*"], "discard:"),
}
USERS = "# a comment\nemil\nfrida+*\n\ngustav\n"
COMMANDS = ("HELO", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "BDAT LAST", "RSET", "NOOP",
            "VRFY", "EXPN", "HELP", "QUIT", "XYZZY", "GET", "STARTTLS", "AUTH")

gateways = {}


def gateway_for(settings):
    """Dialogues of the same configuration share a gateway; a dead one is replaced."""
    key = tuple(sorted(settings.items()))
    gateway = gateways.get(key)
    if gateway is not None and gateway.alive():
        return gateway
    if gateway is not None:
        gateway.close()
    gateway = Gateway(
        settings=settings, domains=DOMAINS, listeners={tls: {"tls": tls} for tls in dialog.LISTENERS},
        certificates={"mx": pki.authority().issue("mx.example.org")})
    with open(os.path.join(gateway.directory, "users.txt"), "w", encoding="utf-8") as file:
        file.write(USERS)
    gateways[key] = gateway.start()
    return gateway


def tearDownModule():
    try:
        for gateway in gateways.values():
            gateway.stop()
    finally:
        for gateway in gateways.values():
            gateway.close()


class Dialogs(unittest.TestCase):
    def play(self, script, road):
        gateway = gateway_for(script.settings)
        dialog.Player(gateway, road).play(script)
        self.assertTrue(gateway.alive(), "the gateway died:\n" + gateway.log_text()[-2000:])
        gateway.check_reports()


def add(script, road):
    def test(self):
        self.play(script, road)

    test.__name__ = "test_" + script.name.replace("-", "_") + "_over_" + road
    test.__doc__ = f"{script.path} over {road}"
    setattr(Dialogs, test.__name__, test)


for each in dialog.load_all():
    for way in each.roads:
        add(each, way)


class Listeners(unittest.TestCase):
    """What no dialogue of one connection can show."""

    def gateway(self, tls, settings=None):
        gateway = Gateway(settings=settings, listeners={"mx": {"tls": tls}},
                          certificates={"mx": pki.authority().issue("mx.example.org")}).start()
        self.addCleanup(gateway.close)
        return gateway

    def test_a_full_house_says_nothing_in_clear(self):
        """The refusal of a connection is a 421 in clear, but for implicit TLS only the end."""
        for tls in ("starttls", "implicit"):
            gateway = self.gateway(tls, {"limits.connections_per_ip": "1"})
            with SecureClient(gateway.address, source="127.0.0.1", implicit=tls == "implicit") as first:
                first.expect(220)
                with Client(gateway.address) as second:
                    said = rest(second.socket)
                    self.assertEqual(said[:10], b"" if tls == "implicit" else b"421 4.7.0 ")
                first.expect(221, "QUIT")
            gateway.stop()

    def test_tls_taken_away(self):
        """A reload takes TLS from the listener after EHLO has offered it: 454, and the session goes on;
        who is inside stays inside."""
        gateway = self.gateway("starttls")
        with SecureClient(gateway.address) as inside, SecureClient(gateway.address) as outside:
            inside.hello()
            outside.expect(220)
            outside.expect(250, "EHLO client.example")
            gateway.listeners["mx"]["tls"] = "none"
            gateway.write_configuration()
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "event=reloaded")
            reply = outside.command("STARTTLS")
            self.assertEqual((reply.code, reply.enhanced), (454, "4.7.0"))
            self.assertEqual(outside.transfer(message("clear")).code, 250)
            self.assertEqual(inside.transfer(message("secure")).code, 250)
            with Client(gateway.address) as later:
                self.assertNotIn("STARTTLS", later.hello().texts)
                self.assertEqual(later.command("STARTTLS").code, 502)
        gateway.stop()

    def test_requiretls_is_kept(self):
        """In the spool, until it is delivered: the flag has its bit (docs/spool.md)."""
        gateway = self.gateway("implicit")
        with SecureClient(gateway.address, implicit=True) as client:
            client.hello()
            for parameter, sender in ((" REQUIRETLS", "with@client.example"), ("", "without@client.example")):
                client.expect(250, f"MAIL FROM:<{sender}>{parameter}")
                client.expect(250, "RCPT TO:<alice@example.org>")
                client.expect(354, "DATA")
                client.send(message("flagged") + b".\r\n")
                client.expect(250)
        gateway.wait_messages("alice", 2)
        gateway.stop()
        octets = b""
        for folder, _, names in os.walk(gateway.spool):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    octets += file.read()
        for sender, wanted in ((b"with@client.example", 1 << 5), (b"without@client.example", 0)):
            # struct envelope_head is 48 octets: version, flags, ...; then the reverse-path.
            heads = [octets[at.start() - 48:at.start()] for at in re.finditer(sender, octets)]
            flags = [int.from_bytes(head[4:8], "little") for head in heads
                     if head[:4] == b"\1\0\0\0" and head[40:42] == len(sender).to_bytes(2, "little")]
            self.assertEqual(flags, [wanted], sender)


class Table(unittest.TestCase):
    def check(self, states, roads):
        tried = {(road, *cell) for script in dialog.load_all() for cell in script.cells()
                 for road in script.roads}
        missing = [(road, state, command) for road in roads for state in states
                   for command in COMMANDS if (road, state, command) not in tried]
        self.assertEqual(missing, [])

    def test_every_cell_is_tried(self):
        self.check(dialog.STATES, dialog.ROADS_USUAL)

    def test_every_cell_is_tried_in_clear_where_tls_is_required(self):
        self.check(("CONNECTED", "READY"), ("demanded",))


if __name__ == "__main__":
    unittest.main()
