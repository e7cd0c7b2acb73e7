"""Resumption: tickets are good in every thread and every process with the same secret, across a rotation of keys, and
nowhere else. A ticket that is refused costs a full handshake and nothing more."""
import os
import signal
import subprocess
import time
import unittest

import pki
from harness import Client, Gateway, message, quote, wait_until
from tls_client import TLS12, TLS13, SecureClient, TlsSocket, records, tls_context

VERSIONS = (TLS12, TLS13)
LISTENERS = {"starttls": {}, "implicit": {"tls": "implicit"}, "second": {"tls": "required"}}


class Tickets(unittest.TestCase):
    def setUp(self):
        self.certificate = pki.authority().issue("mx.example.org")

    def secret(self, octets=48):
        path = pki.place("ticket.key")
        with open(path, "wb") as file:
            file.write(os.urandom(octets))
        os.chmod(path, 0o600)
        return path

    def gateway(self, secret=None, lifetime=None, workers=None, **options):
        settings = {"tls.helpers": "1"}
        if secret:
            settings["tls.ticket_secret"] = quote(secret)
        if lifetime:
            settings["tls.ticket_lifetime"] = quote(lifetime)
        if workers:
            settings["workers"] = str(workers)
        options.setdefault("listeners", LISTENERS)
        server = Gateway(settings, certificates={"mx": self.certificate}, **options)
        self.addCleanup(server.close)
        return server.start()

    @staticmethod
    def visit(address, context, session=None, implicit=False):
        """A short conversation -> (session for the next, whether it was resumed)."""
        with SecureClient(address, context, session=session, implicit=implicit) as client:
            client.hello()
            reply = client.transfer(message("ticket"))
            if reply.code != 250:
                raise AssertionError(reply)
            result = client.tls.session, client.tls.session_reused
            client.quit()
            return result

    def test_every_thread(self):
        """Any worker takes the ticket of any other, again and again, and on any listener of the same kind."""
        server = self.gateway(self.secret(), workers=4)
        for version in VERSIONS:
            context = tls_context(version=version)
            session, reused = self.visit(server.at["starttls"], context)
            self.assertFalse(reused)
            for number in range(12):
                name = list(LISTENERS)[number % 3]
                session, reused = self.visit(server.at[name], context, session, name == "implicit")
                self.assertTrue(reused, (version, number))
        server.wait_messages("alice", 26)
        server.stop()
        resumed = [line["resumed"] for line in server.events("tls")]
        self.assertEqual((resumed.count("true"), resumed.count("false")), (24, 2))

    def test_two_processes(self):
        """Two machines behind a balancer: the same secret, no word between them. A third has another."""
        secret = self.secret()
        copy = pki.place("copy.key")
        with open(secret, "rb") as source, open(copy, "wb") as target:
            target.write(source.read())
        one, two, other, none = (self.gateway(secret), self.gateway(copy), self.gateway(self.secret()),
                                 self.gateway())
        for version in VERSIONS:
            context = tls_context(version=version)
            session, reused = self.visit(one.at["starttls"], context)
            self.assertFalse(reused)
            session, reused = self.visit(two.at["starttls"], context, session)
            self.assertTrue(reused)
            session, reused = self.visit(one.at["implicit"], context, session, True)
            self.assertTrue(reused)
            for server in (other, none):
                _, reused = self.visit(server.at["starttls"], context, session)
                self.assertFalse(reused, "another secret")
            _, reused = self.visit(one.at["starttls"], context, session)
            self.assertTrue(reused)
        one.restart()
        _, reused = self.visit(one.at["starttls"], context, session)
        self.assertTrue(reused, "after a restart")
        for server in (one, two, other, none):
            server.stop()
            self.assertEqual(server.events("tls_failed"), [])

    def test_random_secret(self):
        """Without a file: as long as the process lives, over reloads, but no longer."""
        server = self.gateway()
        context = tls_context()
        session, _ = self.visit(server.at["starttls"], context)
        server.signal(signal.SIGHUP)
        time.sleep(0.3)
        session, reused = self.visit(server.at["starttls"], context, session)
        self.assertTrue(reused, "after a reload")
        server.restart()
        _, reused = self.visit(server.at["starttls"], context, session)
        self.assertFalse(reused, "after a restart")
        server.stop()

    def test_secret_changed(self):
        """Another secret at a reload: old tickets are worth nothing at once."""
        secret = self.secret()
        server = self.gateway(secret)
        context = tls_context()
        session, _ = self.visit(server.at["starttls"], context)
        with open(secret, "wb") as file:
            file.write(os.urandom(48))
        server.signal(signal.SIGHUP)

        def refused():
            return not self.visit(server.at["starttls"], context, session)[1]

        wait_until(refused, "the new secret", step_s=0.1)
        session, _ = self.visit(server.at["starttls"], context)
        self.assertTrue(self.visit(server.at["starttls"], context, session)[1])
        server.stop()

    def test_bad_secret(self):
        for octets in (0, 31):
            server = Gateway({"tls.ticket_secret": quote(self.secret(octets))},
                             certificates={"mx": self.certificate})
            self.addCleanup(server.close)
            server.write_configuration()
            server.launch()
            self.assertEqual(server.process.wait(30), 78, server.log_text())
            self.assertIn("ticket.key", server.log_text())
            server.process = None

    @staticmethod
    def key_name(address):
        """The first octets of a ticket, which say what key it was sealed with (tls/ticket.h). TLS 1.2 sends them in
        clear, in its handshake."""
        with SecureClient(address, tls_context(version=TLS12), implicit=True) as client:
            came, at = bytes(client.socket.came), 0
        while True:
            kind, length = came[at], int.from_bytes(came[at + 3:at + 5], "big")
            if kind == 22 and came[at + 5] == 4:
                return came[at + 15:at + 31]
            at += 5 + length

    def test_keys_rotate(self):
        """Two processes with the same secret change to the same key at the same time; one with another lifetime of
        tickets has others."""
        secret = self.secret()
        one, two, slow = (self.gateway(secret, lifetime) for lifetime in ("1s", "1s", "2s"))
        names = {}
        while len(names) < 4:
            epoch = int(time.time())
            found = [self.key_name(server.at["implicit"]) for server in (one, two, slow)]
            if int(time.time()) == epoch:
                self.assertEqual(found[0], found[1])
                self.assertNotEqual(found[0], found[2])
                self.assertIn(names.setdefault(epoch, found[0]), found)
            time.sleep(0.15)
        self.assertEqual(len(set(names.values())), len(names), "the same key in two epochs")
        for server in (one, two, slow):
            server.stop()

    def test_rotation(self):
        """A ticket of the last moment of an epoch is good in the next one, in two processes; in the third it is not
        (TLS 1.2, where the client does not look at its age)."""
        lifetime = 2
        secret = self.secret()
        one, two = self.gateway(secret, f"{lifetime}s"), self.gateway(secret, f"{lifetime}s")
        contexts = {version: tls_context(version=version) for version in VERSIONS}
        fresh = lifetime - 0.5 - time.time() % lifetime
        time.sleep(fresh % lifetime)  # half a second before the end of an epoch
        born = time.time() // lifetime
        sessions = {version: self.visit(one.at["starttls"], contexts[version])[0] for version in VERSIONS}
        self.assertEqual(time.time() // lifetime, born, "this machine is too slow for this test")
        time.sleep(lifetime - time.time() % lifetime + 0.02)
        renewed = {}
        for version in VERSIONS:
            for server in (one, two):
                session, reused = self.visit(server.at["starttls"], contexts[version], sessions[version])
                self.assertTrue(reused, f"{version} in the next epoch")
            renewed[version] = session
        self.assertEqual(time.time() // lifetime, born + 1, "this machine is too slow for this test")
        time.sleep(lifetime - time.time() % lifetime + 0.02)
        for server in (one, two):
            _, reused = self.visit(server.at["starttls"], contexts[TLS12], sessions[TLS12])
            self.assertFalse(reused, "two epochs later")
            _, reused = self.visit(server.at["starttls"], contexts[TLS13], sessions[TLS13])
            self.assertFalse(reused, "two epochs later")
        one.stop()
        two.stop()

    def test_one_ticket_with_the_first_reply(self):
        """TLS 1.3: nothing before the client has spoken; then one ticket, in front of the reply, and no more
        (Microsoft's senders reset a connection on which the server speaks first)."""
        server = self.gateway()
        with Client(server.at["starttls"]) as client:
            client.hello()
            client.expect(220, "STARTTLS")
            wire = client.socket = TlsSocket(client.socket, tls_context(version=TLS13))
            wire.handshake()
            handshake = len(wire.came)
            wire.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                wire.raw.recv(1)
            wire.settimeout(20)
            self.assertFalse(wire.tls.session.has_ticket)
            client.expect(250, "EHLO client.example")
            self.assertTrue(wire.tls.session.has_ticket)
            found = records(wire.came[handshake:])
            self.assertEqual(len(found), 2, "a ticket and a reply")
            client.expect(250, "NOOP")
            self.assertEqual(len(records(wire.came[handshake:])), 3)
        server.stop()

    def test_damaged_tickets(self):
        """A ticket with any octet changed is refused; the handshake goes on in full. By hand, over the ClientHello of
        TLS 1.2, whose transcript does not cover it with a binder."""
        server = self.gateway(self.secret())
        context = tls_context(version=TLS12)
        session, _ = self.visit(server.at["implicit"], context, implicit=True)
        with SecureClient(server.at["implicit"], context, session=session, implicit=True) as client:
            self.assertTrue(client.tls.session_reused)
            hello = bytes(client.socket.went)
        at = hello.index(b"\0\x23", 43 + 32)  # extension session_ticket
        length = int.from_bytes(hello[at + 2:at + 4], "big")
        self.assertGreater(length, 100)
        for place in list(range(0, length, 9)) + [length - 1]:
            with Client(server.at["implicit"]) as client:
                damaged = bytearray(hello)
                damaged[at + 4 + place] ^= 1 << place % 8
                client.send(damaged)
                octets = b""
                while b"\x0e\0\0\0" not in octets:  # ServerHelloDone ends a full handshake's flight
                    more = client.socket.recv(65536)
                    self.assertNotEqual(more, b"", f"refused because of octet {place}")
                    octets += more
        server.stop()

    def test_no_early_data(self):
        """0-RTT is neither offered nor taken."""
        server = self.gateway(self.secret())
        host, port = server.at["implicit"]
        store = pki.place("session.pem")
        command = ["openssl", "s_client", "-connect", f"{host}:{port}", "-ign_eof"]
        done = subprocess.run(command + ["-sess_out", store], input=b"EHLO client.example\r\nQUIT\r\n",
                              capture_output=True, timeout=60, check=False)
        self.assertIn(b"Max Early Data: 0", done.stdout)
        early = pki.write("early", "EHLO early.example\r\n")
        done = subprocess.run(command + ["-sess_in", store, "-early_data", early],
                              input=b"EHLO client.example\r\nQUIT\r\n", capture_output=True, timeout=60, check=False)
        self.assertIn(b"Reused, TLSv1.3", done.stdout)
        self.assertNotIn(b"Early data was accepted", done.stdout)
        server.stop()


if __name__ == "__main__":
    unittest.main()
