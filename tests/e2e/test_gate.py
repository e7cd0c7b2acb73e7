"""Before the greeting: the pause in which one who talks early betrays himself. And XCLIENT, by which a trusted server
in front of us says who its client is."""
import shutil
import subprocess
import time
import unittest

import pki
from harness import Client, Gateway, message, split_delivered, wait_until
from test_proxy import CLIENT, CLIENT6, LOCAL, OTHER, heard, told, v1, v2
from tls_client import tls_context

PAUSE_S = 2
OFFERED = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"


def gateway(test, settings=None, **options):
    result = Gateway(settings, **options)
    test.addCleanup(result.close)
    return result.start()


class Delay(unittest.TestCase):
    SETTINGS = {"limits.greet_delay": f'"{PAUSE_S}s"'}

    def greeted(self, client):
        """Seconds until the greeting."""
        began = time.monotonic()
        client.expect(220)
        return time.monotonic() - began

    def test_who_waits_is_greeted(self):
        server = gateway(self, self.SETTINGS)
        with Client(server.address) as client:
            self.assertGreater(self.greeted(client), PAUSE_S * 0.9)
            client.expect(250, "EHLO client.example")
            self.assertEqual(client.transfer(message()).code, 250)
        server.stop()
        self.assertEqual(server.events("early_talker", "refused"), [])

    def test_early_talkers_are_refused(self):
        server = gateway(self, self.SETTINGS)
        began = time.monotonic()
        for octets in (b"EHLO client.example\r\n", b"\r\n", b"Q"):
            with Client(server.address) as client:
                client.send(octets)
                reply = client.expect(554)
                self.assertEqual(reply.enhanced, "5.5.1")
                self.assertEqual(heard(client), b"")
        self.assertLess(time.monotonic() - began, PAUSE_S * 3)
        with Client(server.address) as client:
            client.send(LOCAL)
            self.assertEqual(client.expect(554).enhanced, "5.5.0")
        told(server, 4, "early_talker")
        server.stop()
        self.assertEqual(sorted(line["reason"] for line in server.events("refused")),
                         3 * ["early_talker"] + ["foreign_proxy"])

    def test_exempt(self):
        server = gateway(self, {**self.SETTINGS, "limits.exempt": '{"127.0.0.2"}'})
        with Client(server.address, source="127.0.0.2") as client:
            self.assertLess(self.greeted(client), PAUSE_S * 0.9)
        with Client(server.address) as client:
            self.assertGreater(self.greeted(client), PAUSE_S * 0.9)
        server.stop()

    def test_behind_a_balancer(self):
        """The pause is the client's; the balancer itself has none."""
        server = gateway(self, {**self.SETTINGS, "limits.exempt": f'{{"{OTHER}"}}'},
                         listeners={"mx": {"proxy": '{"127.0.0.1"}'}})
        for header, pause in ((v1(), True), (v1(OTHER), False), (LOCAL, False)):
            with self.subTest(header), Client(server.address) as client:
                client.send(header)
                self.assertEqual(self.greeted(client) > PAUSE_S * 0.9, pause)
        with Client(server.address) as client:
            client.send(v2() + b"EHLO client.example\r\n")
            self.assertEqual(client.expect(554).enhanced, "5.5.1")
        server.stop()

    def test_inside_tls(self):
        authority = pki.authority()
        made = authority.issue("mx.example.org")
        server = gateway(self, self.SETTINGS, listeners={"mx": {"tls": "implicit"}},
                         certificates={"mx.example.org": (made.chain, made.key)})
        for early in (False, True):
            with Client(server.address) as client:
                client.socket = tls_context(authority.path).wrap_socket(client.socket, server_hostname="mx.example.org")
                if early:
                    client.send(b"EHLO client.example\r\n")
                    self.assertEqual(client.expect(554).enhanced, "5.5.1")
                else:
                    self.assertGreater(self.greeted(client), PAUSE_S * 0.8)
        server.stop()

    def test_starttls_has_no_second_pause(self):
        made = pki.authority().issue("mx.example.org")
        server = gateway(self, self.SETTINGS, listeners={"mx": {"tls": "starttls"}},
                         certificates={"mx.example.org": (made.chain, made.key)})
        with Client(server.address) as client:
            client.hello()
            began = time.monotonic()
            client.expect(220, "STARTTLS")
            client.socket = tls_context(pki.authority().path).wrap_socket(
                client.socket, server_hostname="mx.example.org")
            client.expect(250, "EHLO client.example")
            self.assertLess(time.monotonic() - began, PAUSE_S * 0.9)
        server.stop()

    def test_leaving_meanwhile(self):
        """Clients that go during the pause leave nothing behind."""
        server = gateway(self, {**self.SETTINGS, "limits.connections_per_ip": "1"})
        for _ in range(5):
            Client(server.address).close()

        def place():
            with Client(server.address) as client:
                return client.reply().code == 220
        wait_until(place, "a place")
        server.stop()


class Xclient(unittest.TestCase):
    LISTENERS = {"mx": {"xclient": '{"127.0.0.1"}'}}

    def start(self, settings=None, **options):
        return gateway(self, settings, listeners=options.pop("listeners", self.LISTENERS), **options)

    def test_for_others_it_is_unknown(self):
        server = self.start()
        with Client(server.address, source="127.0.0.2") as client:
            self.assertNotIn("XCLIENT", client.hello().text)
            unknown = client.command("XYZZY").text
            for line in (f"XCLIENT ADDR={CLIENT}", "XCLIENT", "xclient " + "x" * 3000, "XCLIENT FOO=BAR"):
                reply = client.expect(500, line)
                self.assertEqual(reply.text, unknown)
        with Client(server.address) as client:
            self.assertIn(OFFERED, client.hello().texts)
        server.stop()
        self.assertEqual(server.events("xclient"), [])

    def test_a_new_session(self):
        server = self.start()
        with Client(server.address) as client:
            client.hello("relay.example")
            client.expect(220, f"XCLIENT NAME=spike.example ADDR={CLIENT} PORT=4711")
            client.expect(503, "MAIL FROM:<a@client.example>")  # as before EHLO
            client.expect(250, "EHLO spike.example")
            self.assertEqual(client.transfer(message()).code, 250)
            client.expect(220, f"xclient addr=IPV6:{CLIENT6} helo=deep.example proto=ESMTP")
            self.assertEqual(client.transfer(message(), recipients=["bob@example.org"]).code, 250)  # EHLO it has said
            client.expect(220, f"XCLIENT ADDR={OTHER} HELO=old.example PROTO=SMTP")
            self.assertEqual(client.transfer(message(), recipients=["carol@example.org"]).code, 250)
        for user, start, what in (("alice", f"from spike.example ([{CLIENT}])", "ESMTP"),
                                  ("bob", f"from deep.example ([IPv6:{CLIENT6}])", "ESMTP"),
                                  ("carol", f"from old.example ([{OTHER}])", "SMTP")):
            received = split_delivered(server.wait_messages(user, 1)[0])[1].decode()
            self.assertIn(start, received)
            self.assertIn(f"with {what} ", received)
        lines = told(server, 3, "xclient")
        self.assertEqual([(line["client"], line["port"]) for line in lines],
                         [(CLIENT, "4711"), ("IPv6:" + CLIENT6, "0"), (OTHER, "0")])
        self.assertEqual(lines[0]["name"], "spike.example")
        server.stop()

    def test_piece_by_piece(self):
        """What is not named stays; what is not known, too."""
        server = self.start()
        with Client(server.address) as client:
            client.expect(220)
            client.expect(220, f"XCLIENT ADDR={CLIENT}")  # before EHLO
            client.expect(220, "XCLIENT PORT=99")
            client.expect(220, "XCLIENT NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] LOGIN=me+20too DESTADDR=192.0.2.1 "
                               "DESTPORT=25")
        lines = told(server, 3, "xclient")
        self.assertEqual([(line["client"], line["port"]) for line in lines],
                         [(CLIENT, "0"), (CLIENT, "99"), (CLIENT, "99")])
        self.assertEqual(lines[2]["login"], "me too")
        server.stop()

    def test_not_in_a_transaction(self):
        server = self.start()
        line = f"XCLIENT ADDR={CLIENT}"
        with Client(server.address) as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(503, line)
            client.expect(250, "RCPT TO:<alice@example.org>")
            client.expect(503, line)
            client.expect(250, "RSET")
            client.expect(220, line)
        server.stop()

    def test_bad_arguments(self):
        server = self.start()
        with Client(server.address) as client:
            client.hello()
            for words in ("", "ADDR", "ADDR=", "ADDR=x", "FOO=1", "PORT=70000", "ADDR=1.2.3.4 ADDR=1.2.3.4",
                          "HELO=a+20b", "NAME=+0D+0A", "PROTO=LMTP"):
                self.assertEqual(client.expect(501, f"XCLIENT {words}").enhanced, "5.5.4")
            client.expect(250, "MAIL FROM:<a@client.example>")  # nothing has changed
        server.stop()
        self.assertEqual(server.events("xclient"), [])

    def test_nothing_may_be_sent_behind_it(self):
        server = self.start()
        with Client(server.address) as client:
            client.hello()
            client.send(f"XCLIENT ADDR={CLIENT}\r\nEHLO x\r\n".encode())
            client.expect(220)
            self.assertEqual(client.expect(554).enhanced, "5.5.0")
            self.assertEqual(heard(client), b"")
        server.stop()

    def test_limits_are_the_new_clients(self):
        server = self.start({"limits.connections_per_ip": "2"})
        relays = []
        for _ in range(2):  # two of one client, so that it is full
            relays.append(Client(server.address))
            self.addCleanup(relays[-1].close)
            relays[-1].hello()
            relays[-1].expect(220, f"XCLIENT ADDR={CLIENT}")
        with Client(server.address) as third:  # the relay's own two are free again
            third.hello()
            self.assertEqual(third.expect(421, f"XCLIENT ADDR={CLIENT}").enhanced, "4.7.0")
            self.assertEqual(heard(third), b"")
        relays[0].expect(220, f"XCLIENT ADDR={OTHER}")
        with Client(server.address) as fourth:
            fourth.hello()
            fourth.expect(220, f"XCLIENT ADDR={CLIENT}")
        for relay in relays:
            relay.close()

        def free():
            with Client(server.address) as client:
                return client.reply().code == 220 and client.command(f"XCLIENT ADDR={CLIENT}").code == 220
        for _ in range(4):
            wait_until(free, "places after the clients have left")
        server.stop()
        self.assertEqual({line["client"] for line in server.events("refused")}, {CLIENT})

    def test_mistakes_are_the_old_clients(self):
        """The tarpit begins anew, too."""
        server = self.start({"limits.tarpit": '"3s"', "limits.tarpit_after": "2"})
        with Client(server.address) as client:
            client.hello()
            for number in (1, 2, 3):
                began = time.monotonic()
                client.expect(500, "XYZZY")
                client.expect(500, "XYZZY")
                self.assertLess(time.monotonic() - began, 2.9)
                client.expect(220, f"XCLIENT ADDR=192.0.2.{number}")
        server.stop()

    def test_rates_are_the_new_clients(self):
        server = self.start({"limits.connection_rate": "2", "limits.exempt": '{"127.0.0.1"}'})
        with Client(server.address) as client:
            client.hello()
            client.expect(220, f"XCLIENT ADDR={CLIENT}")
            client.expect(220, f"XCLIENT ADDR={CLIENT}")
            client.expect(220, f"XCLIENT ADDR={OTHER}")
            self.assertEqual(client.expect(421, f"XCLIENT ADDR={CLIENT}").enhanced, "4.7.0")
        server.stop()

    def test_after_a_check(self):
        """Who speaks for a client is no health check any more: in the log as everybody."""
        server = self.start(listeners={"mx": {"proxy": '{"127.0.0.1"}', "xclient": '{"127.0.0.1"}'}})
        with Client(server.address) as client:
            client.send(LOCAL)
            client.hello()
            client.expect(220, f"XCLIENT ADDR={CLIENT}")
            client.expect(221, "QUIT")
        server.stop()
        self.assertEqual(len(server.events("disconnect")), 1)

    def test_behind_a_balancer(self):
        """The client that the balancer names must be trusted, not the balancer: else everybody behind it were."""
        server = self.start(listeners={"mx": {"proxy": '{"127.0.0.1"}', "xclient": f'{{"127.0.0.1", "{OTHER}"}}'}})
        for header, offered in ((v1(), False), (v1(OTHER), True), (v2(OTHER), True), (LOCAL, True)):
            with self.subTest(header), Client(server.address) as client:
                client.send(header)
                self.assertEqual(OFFERED in client.hello().texts, offered)
                client.expect(220 if offered else 500, f"XCLIENT ADDR={CLIENT6}")
        with Client(server.address) as client:
            client.send(v1(OTHER))
            client.hello()
            client.expect(220, f"XCLIENT ADDR={CLIENT}")
            client.expect(220, f"XCLIENT ADDR={CLIENT6}")  # it is still the same relay
        server.stop()

    def test_inside_tls(self):
        made = pki.authority().issue("mx.example.org")
        server = self.start(listeners={"mx": {"tls": "required", **self.LISTENERS["mx"]}},
                            certificates={"mx.example.org": (made.chain, made.key)})
        with Client(server.address) as client:
            client.hello()
            client.expect(220, "STARTTLS")
            client.socket = tls_context(pki.authority().path).wrap_socket(
                client.socket, server_hostname="mx.example.org")
            self.assertIn(OFFERED, client.expect(250, "EHLO relay.example").texts)
            client.expect(220, f"XCLIENT ADDR={CLIENT} HELO=spike.example PROTO=ESMTP")
            client.expect(503, "STARTTLS")  # TLS stays
            self.assertEqual(client.transfer(message()).code, 250)
        received = split_delivered(server.wait_messages("alice", 1)[0])[1].decode()
        self.assertIn(f"from spike.example ([{CLIENT}])", received)
        self.assertIn("with ESMTPS ", received)
        server.stop()

    @unittest.skipUnless(shutil.which("swaks"), "skipped: swaks is not installed")
    def test_swaks(self):
        """A real client of XCLIENT; alone, and behind a PROXY header of its own."""
        server = self.start(listeners={"mx": {"xclient": '{"127.0.0.1"}', "proxy": '{"127.0.0.2"}'},
                                       "both": {"xclient": f'{{"{OTHER}"}}', "proxy": '{"127.0.0.1"}'}})
        host, port = server.at["mx"]
        both = server.at["both"][1]
        words = ["--xclient-addr", CLIENT, "--xclient-name", "spike.example", "--xclient-helo", "helo+name.example",
                 "--xclient-port", "4711", "--xclient-proto", "ESMTP"]
        header = ["--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", OTHER, "--proxy-source-port",
                  "1025", "--proxy-dest", "203.0.113.25", "--proxy-dest-port", "25"]
        for number, more in enumerate(([str(port)] + words, [str(both)] + header + words), 1):
            done = subprocess.run(["swaks", "--server", host, "--port", *more, "--from", "a@client.example", "--to",
                                   "alice@example.org"], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            for text in server.wait_messages("alice", number):
                self.assertIn(f"([{CLIENT}])".encode(), split_delivered(text)[1])
        self.assertEqual([(line["client"], line["port"], line["helo"]) for line in told(server, 2, "xclient")],
                         2 * [(CLIENT, "4711", "helo+name.example")])
        server.stop()


if __name__ == "__main__":
    unittest.main()
