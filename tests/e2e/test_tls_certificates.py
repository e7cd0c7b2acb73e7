"""Certificates: which one is shown to whom, what --check says of bad ones, what a reload changes and for whom, those
that sign themselves, and those of clients."""
import os
import re
import signal
import ssl
import stat
import subprocess
import threading
import time
import unittest

import pki
from harness import BINARY, SLOW, Gateway, message, quote, split_delivered, wait_until
from tls_client import LISTENERS, TLS12, TLS13, SecureClient, TlsSocket, new_source, tls_context, wait_event

EX_CONFIG = 78
ECDSA_ONLY, RSA_ONLY = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"


def shown(address, name, ciphers=None, signatures=None, source="127.0.0.1"):
    """The fingerprint of the certificate that a client of a TLS 1.2 cipher list, or of TLS 1.3, is shown."""
    if signatures:  # Python cannot choose them, openssl can
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", "-bind", source + ":0",
             "-servername", name, "-sigalgs", signatures],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        if done.returncode != 0:
            return None  # the handshake failed, perhaps after a certificate was shown
        found = re.search(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", done.stdout, re.S)
        return pki.fingerprint(ssl.PEM_cert_to_DER_cert(found[0].decode()))
    context = tls_context(version=TLS12 if ciphers else None, ciphers=ciphers)
    with SecureClient(address, context, implicit=True, name=name) as client:
        return pki.fingerprint(client.tls.getpeercert(True))


class Choice(unittest.TestCase):
    """SNI, wildcards, ECDSA and RSA side by side (docs/tls.md, Certificates)."""

    @classmethod
    def setUpClass(cls):
        ca = cls.ca = pki.authority()
        cls.made = {
            "first": ca.issue("mx.example.org", "mx.example.net"),
            "first-rsa": ca.issue("mx.example.org", key="rsa2048"),
            "wild": ca.issue("*.example.com", "example.com"),
            "exact": ca.issue("exact.example.com"),
            "rsa-alone": ca.issue("rsa.example.com", key="rsa3072"),
            "p384": ca.below().issue("p384.example.com", key="p384"),
        }
        cls.gateway = Gateway(certificates=cls.made, listeners=LISTENERS)
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()
        cls.prints = {certificate.fingerprint(): title for title, certificate in cls.made.items()}
        assert len(cls.prints) == len(cls.made)

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def chosen(self, name, **how):
        return self.prints.get(shown(self.gateway.at["implicit"], name, **how))

    def test_names(self):
        for name, title in (
                ("mx.example.org", "first"), ("MX.Example.ORG", "first"), ("mx.example.net", "first"),
                ("unknown.example", "first"), (None, "first"),
                ("example.com", "wild"), ("any.example.com", "wild"), ("ANY.example.com", "wild"),
                ("exact.example.com", "exact"),
                ("a.b.example.com", "first"),  # a wildcard is one label
                ("rsa.example.com", "rsa-alone"),  # exact RSA before ECDSA by wildcard
                ("p384.example.com", "p384"),
                ("xexample.com", "first"), ("com", "first"), ("a" * 63 + ".example.com", "wild"),
                ("1.2.3.4.example", "first"),
                (".".join(["a" * 61] * 4 + ["ab"]), "first")):  # the longest there can be
            with self.subTest(name=name):
                self.assertEqual(self.chosen(name), title)

    def test_kinds(self):
        """The first ECDSA that the client can verify, else RSA."""
        for name, how, title in (
                ("mx.example.org", {"ciphers": ECDSA_ONLY}, "first"),
                ("mx.example.org", {"ciphers": RSA_ONLY}, "first-rsa"),
                ("mx.example.org", {"ciphers": RSA_ONLY + ":" + ECDSA_ONLY}, "first"),
                ("mx.example.org", {"signatures": "RSA-PSS+SHA256"}, "first-rsa"),
                ("mx.example.org", {"signatures": "RSA-PSS+SHA256:ECDSA+SHA256"}, "first"),
                ("mx.example.org", {"signatures": "ECDSA+SHA256"}, "first"),
                (None, {"ciphers": RSA_ONLY}, "first-rsa"),
                ("rsa.example.com", {"ciphers": RSA_ONLY}, "rsa-alone")):
            with self.subTest(name=name, how=how):
                if name is None:
                    self.assertEqual(self.chosen(None, **how), title)
                else:
                    self.assertEqual(self.chosen(name, **how), title)

    def test_no_common_kind(self):
        """A client that cannot verify anything we have is refused with an alert, and counted as such."""
        source = new_source()
        found = shown(self.gateway.at["implicit"], "exact.example.com", signatures="ECDSA+SHA512", source=source)
        self.assertIsNone(found)
        self.assertEqual(wait_event(self.gateway, source, "tls_failed")["reason"], "cipher")

    def test_verified(self):
        """A client that verifies is content with chain and name; of an intermediate authority, too."""
        context = tls_context(self.ca.path)
        for name in ("mx.example.org", "any.example.com", "rsa.example.com", "p384.example.com"):
            with SecureClient(self.gateway.at["starttls"], context, name=name) as client:
                client.hello()
        for name in ("unknown.example", "a.b.example.com"):
            with self.assertRaises(ssl.SSLCertVerificationError), \
                    SecureClient(self.gateway.at["starttls"], context, name=name) as client:
                client.hello()
        with self.assertRaises(ssl.SSLCertVerificationError), \
                SecureClient(self.gateway.at["starttls"], tls_context(pki.authority("other").path)) as client:
            client.hello()

    def test_alert_of_the_client_is_logged(self):
        source = new_source()
        with self.assertRaises(ssl.SSLError):
            SecureClient(self.gateway.at["implicit"], tls_context(pki.authority("other").path), implicit=True,
                         source=source)
        failed = wait_event(self.gateway, source, "tls_failed")
        self.assertEqual(failed["reason"], "alert")
        self.assertRegex(failed["text"].lower().replace("_", " "), "unknown ca")


class Bad(unittest.TestCase):
    """What --check, a start and a reload say of certificates that are not good."""

    @classmethod
    def setUpClass(cls):
        ca, good = pki.authority(), pki.authority().issue("mx.example.org")
        other = ca.issue("other.example.org")
        missing = os.path.join(pki.directory(), "no-such-file.pem")
        garbage = pki.write("garbage.pem", "this is no PEM\n")
        empty = pki.write("empty.pem", "")
        torn = pki.write("torn.pem", pki.read(good.chain)[:400])
        twisted = pki.write("twisted.pem", pki.read(good.chain).replace("A", "B"))
        cls.good = good
        cls.cases = [
            # what is wrong, (chain, key), the file that must be named
            ("missing chain", (missing, good.key), missing),
            ("missing key", (good.chain, missing), missing),
            ("a folder", (pki.directory(), good.key), pki.directory()),
            ("no PEM", (garbage, good.key), garbage),
            ("no PEM key", (good.chain, garbage), garbage),
            ("empty", (empty, good.key), empty),
            ("empty key", (good.chain, empty), empty),
            ("torn", (torn, good.key), torn),
            ("twisted", (twisted, good.key), twisted),
            ("exchanged", (good.key, good.chain), good.key),
            ("another's key", pki.mismatched(good, other), good.chain),
            ("expired", ca.issue("mx.example.org", begins_d=-20, ends_d=-1), None),
            ("not valid yet", ca.issue("mx.example.org", begins_d=1, ends_d=20), None),
            ("RSA 1024", weak := ca.issue("mx.example.org", key="rsa1024"), weak.key),
            ("Ed25519", odd := ca.issue("mx.example.org", key="ed25519"), odd.key),
        ]

    def test_check(self):
        for what, files, named in self.cases:
            with self.subTest(what):
                server = Gateway(certificates={"mx": files})
                self.addCleanup(server.close)
                server.write_configuration()
                done = subprocess.run([BINARY, "--check", "-c", server.path], capture_output=True, text=True,
                                      timeout=60, check=False)
                said = done.stdout + done.stderr
                self.assertEqual(done.returncode, EX_CONFIG, said)
                with open(server.path, encoding="utf-8") as file:
                    line = next(n for n, text in enumerate(file, 1) if text.startswith("certificate "))
                self.assertRegex(said, rf"(?m)^{re.escape(server.path)}:{line}: .+")
                self.assertIn(named or files[0], said)
                server.launch()
                self.assertEqual(server.process.wait(30), EX_CONFIG)
                server.process = None

    def test_modes_without_certificate(self):
        for mode in ("starttls", "required", "implicit"):
            server = Gateway(listeners={"mx": {"tls": mode}})
            self.addCleanup(server.close)
            server.write_configuration()
            done = subprocess.run([BINARY, "--check", "-c", server.path], capture_output=True, text=True,
                                  timeout=60, check=False)
            self.assertEqual(done.returncode, EX_CONFIG)
            self.assertIn("certificate", done.stderr + done.stdout)

    def test_reload(self):
        """Whatever is wrong: the old certificate goes on, and the log names the file."""
        server = Gateway(certificates={"mx": self.good}, listeners={"mx": {"tls": "implicit"}})
        self.addCleanup(server.close)
        server.start()
        for what, files, named in self.cases:
            with self.subTest(what):
                before = len(server.log_lines())
                server.certificates = {"mx": files}
                server.write_configuration()
                server.signal(signal.SIGHUP)

                def told():
                    return [line for line in server.log_lines()[before:]  # pylint: disable=cell-var-from-loop
                            if line["level"] == "error"]

                lines = wait_until(told, "an error in the log")
                self.assertIn(named or files[0], " ".join(map(str, lines)))
                self.assertEqual(shown(server.address, None), self.good.fingerprint())
        server.stop()


class Reload(unittest.TestCase):
    def setUp(self):
        ca = pki.authority()
        self.made = [ca.issue("mx.example.org"), ca.issue("mx.example.org", number=1)]
        self.server = Gateway(certificates={"mx": self.made[0]}, listeners=LISTENERS)
        self.addCleanup(self.server.close)
        self.server.start()

    def use(self, number):
        """Reloads, and waits until every worker shows the certificate."""
        self.server.certificates = {"mx": self.made[number]}
        self.server.write_configuration()
        self.server.signal(signal.SIGHUP)
        wanted = self.made[number].fingerprint()

        def all_new():
            return all(shown(self.server.at["implicit"], None) == wanted for _ in range(6))

        wait_until(all_new, "the new certificate")

    def test_connections_stay(self):
        """Open connections go on; handshakes under way end with the certificate that they began with."""
        open_ones = [SecureClient(self.server.at["starttls"]),
                     SecureClient(self.server.at["implicit"], implicit=True)]
        for client in open_ones:
            self.addCleanup(client.close)
            client.hello()
        open_ones[0].envelope("s@client.example", "alice@example.org")
        open_ones[0].expect(354, "DATA")
        open_ones[0].send(b"Subject: begun before\r\n\r\n")
        halves = []
        for version in (TLS12, TLS13):
            for step in (0, 50, None):  # nothing sent yet, half of the ClientHello, all of it
                raw = SecureClient(self.server.at["starttls"])
                self.addCleanup(raw.close)
                super(SecureClient, raw).hello()
                raw.expect(220, "STARTTLS")
                wire = TlsSocket(raw.socket, tls_context(version=version))
                hello = wire.begin()
                wire.raw.sendall(hello[:step])
                halves.append((wire, hello[step:] if step is not None else b""))
        time.sleep(0.1)
        self.use(1)
        for wire, more in halves:
            wire.raw.sendall(more)
            wire.handshake()
            self.assertEqual(pki.fingerprint(wire.tls.getpeercert(True)), self.made[0].fingerprint())
            wire.sendall(b"EHLO client.example\r\n")
            self.assertTrue(wire.recv(100).startswith(b"250-"))
        open_ones[0].send(b".\r\n")
        open_ones[0].expect(250)
        for client in open_ones:
            self.assertEqual(client.transfer(message("after")).code, 250)
            client.quit()
        self.server.wait_messages("alice", 3)
        self.server.stop()

    def test_under_load(self):
        """Certificates change again and again while clients come and go: not one transaction fails."""
        failed, count, seen, stop = [], [0], set(), threading.Event()

        def load(number):
            context = tls_context(pki.authority().path)
            name = ("starttls", "implicit")[number % 2]
            try:
                while not stop.is_set():
                    with SecureClient(self.server.at[name], context, implicit=name == "implicit") as client:
                        seen.add(pki.fingerprint(self.certificate_of(client)))
                        for _ in range(number):
                            reply = client.transfer(message("load"), recipients=[f"load{number}@example.org"])
                            if reply.code != 250:
                                raise AssertionError(reply)
                            count[0] += 1
                        client.quit()
            except (AssertionError, OSError, EOFError) as error:
                failed.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=load, args=(number,)) for number in range(1, 5)]
        for thread in threads:
            thread.start()
        for number in range(1, 5 if SLOW else 21):
            self.server.certificates = {"mx": self.made[number % 2]}
            self.server.write_configuration()
            self.server.signal(signal.SIGHUP)
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        self.assertEqual(seen, {one.fingerprint() for one in self.made})
        self.assertGreater(count[0], 20)
        self.assertEqual(self.server.events("tls_failed"), [])
        wait_until(lambda: sum(self.server.count(f"load{n}") for n in range(1, 5)) == count[0], "all mail")
        self.server.stop()

    @staticmethod
    def certificate_of(client):
        client.hello()
        return client.tls.getpeercert(True)

    def test_files_replaced_in_place(self):
        """As certbot does it: the same paths, other contents."""
        chain, key = pki.place("live.pem"), pki.place("live.key")
        for number, (start, certificate) in enumerate(((True, self.made[0]), (False, self.made[1]))):
            for path, source in ((chain, certificate.chain), (key, certificate.key)):
                with open(path + ".new", "w", encoding="ascii") as file:
                    file.write(pki.read(source))
                os.rename(path + ".new", path)
            if start:
                self.server.certificates = {"mx": (chain, key)}
                self.server.write_configuration()
            self.server.signal(signal.SIGHUP)
            wanted = self.made[number].fingerprint()
            wait_until(lambda: shown(self.server.at["implicit"], None) == wanted,  # pylint: disable=cell-var-from-loop
                       "the new contents")
        self.server.stop()

    def test_listener_words(self):
        """tls_min applies to those that come after the reload."""
        address = self.server.at["implicit"]
        self.assertEqual(shown(address, None, ciphers=ECDSA_ONLY), self.made[0].fingerprint())
        self.server.listeners = {**LISTENERS, "implicit": {"tls": "implicit", "tls_min": quote("1.3")}}
        self.server.write_configuration()
        self.server.signal(signal.SIGHUP)

        def refused():
            try:
                shown(address, None, ciphers=ECDSA_ONLY)
                return False
            except (ssl.SSLError, ConnectionError):
                return True

        wait_until(lambda: all(refused() for _ in range(6)), "tls_min in force")
        self.assertEqual(shown(address, None), self.made[0].fingerprint())
        wait_until(lambda: self.server.events("tls_failed"), "tls_failed")
        self.assertIn("version", {line["reason"] for line in self.server.events("tls_failed")})
        self.server.stop()


    def test_modes(self):
        """`tls` applies to those that come after the reload."""
        server = self.server
        for mode, greeted, offered, mail in (("none", True, False, 250), ("required", True, True, 530),
                                             ("implicit", False, False, None), ("starttls", True, True, 250)):
            server.listeners = {**LISTENERS, "starttls": {"tls": mode}}
            server.write_configuration()
            server.signal(signal.SIGHUP)

            def seen():
                """What a client in clear finds."""
                with server.client() as client:
                    if client.silent(0.2):
                        return False, False, None
                    client.expect(220)
                    texts = client.expect(250, "EHLO client.example").texts
                    return True, "STARTTLS" in texts, client.command("MAIL FROM:<s@client.example>").code

            wanted = (greeted, offered, mail)
            wait_until(lambda: all(seen() == wanted for _ in range(4)), mode)  # pylint: disable=W0640
            if mode != "none":
                with SecureClient(server.address, implicit=not greeted) as client:
                    client.hello()
                    self.assertEqual(client.transfer(message(mode)).code, 250)
        server.wait_messages("alice", 3)
        server.stop()


class SelfSigned(unittest.TestCase):
    def test_made_at_start(self):
        server = Gateway(listeners=LISTENERS)
        self.addCleanup(server.close)
        files = [os.path.join(server.directory, name) for name in ("self.pem", "self.key")]
        server.certificates = {"mx.example.org": f"chain = {quote(files[0])} key = {quote(files[1])} "
                                                 "self_signed = true"}
        server.write_configuration()
        done = subprocess.run([BINARY, "--check", "-c", server.path], capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(os.path.exists(files[0]), "a check makes nothing")
        server.start()
        self.assertEqual(stat.S_IMODE(os.stat(files[1]).st_mode), 0o600)
        warnings = [line for line in server.log_lines() if line["level"] == "warn"]
        self.assertIn("self-signed", " ".join(map(str, warnings)))
        first = shown(server.at["implicit"], "mx.example.org")
        context = tls_context(files[0])  # its own authority; the name is checked, too
        with SecureClient(server.at["starttls"], context) as client:
            client.hello()
            client.quit()
        text = pki.openssl("x509", "-in", files[0], "-noout", "-subject", "-ext", "subjectAltName").decode()
        self.assertIn("DNS:mx.example.org", text)
        server.restart()
        self.assertEqual(shown(server.at["implicit"], "mx.example.org"), first, "kept over a restart")
        server.signal(signal.SIGHUP)
        time.sleep(0.3)
        self.assertEqual(shown(server.at["implicit"], "mx.example.org"), first, "and over a reload")
        server.stop()

    def test_half_there(self):
        """One of the two files is missing: neither is made, since the other would be lost."""
        good = pki.authority().issue("mx.example.org")
        missing = os.path.join(pki.directory(), "not-there")
        for chain, key in ((missing, good.key), (good.chain, missing)):
            server = Gateway(certificates={
                "mx.example.org": f"chain = {quote(chain)} key = {quote(key)} self_signed = true"})
            self.addCleanup(server.close)
            server.write_configuration()
            server.launch()
            self.assertEqual(server.process.wait(30), EX_CONFIG, server.log_text())
            server.process = None
            self.assertFalse(os.path.exists(missing))


class Clients(unittest.TestCase):
    """client_ca: asked for, not demanded; the verified name stands in Received and in the log."""

    @classmethod
    def setUpClass(cls):
        cls.ca = pki.authority("clients")
        cls.gateway = Gateway(
            certificates={"mx": pki.authority().issue("mx.example.org")},
            listeners={"ask": {"client_ca": quote(cls.ca.path)}, "plain": {},
                       "ask-implicit": {"tls": "implicit", "client_ca": quote(cls.ca.path)}})
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def send(self, user, listener="ask", **how):
        context = tls_context(**how)
        with SecureClient(self.gateway.at[listener], context, implicit=listener == "ask-implicit") as client:
            client.hello()
            reply = client.transfer(message(user), recipients=[user + "@example.org"])
            self.assertEqual(reply.code, 250)
            client.quit()
        (_, received, _), = map(split_delivered, self.gateway.wait_messages(user, 1))
        return received, wait_event(self.gateway, client.source, "tls")

    def test_verified(self):
        for number, (key, version) in enumerate((("ecdsa", TLS13), ("ecdsa", TLS12), ("rsa2048", TLS13),
                                                 ("rsa2048", TLS12), ("p384", TLS13))):
            with self.subTest(key=key, version=version):
                certificate = self.ca.issue(f"out{number}.client.example", key=key, client=True)
                listener = ("ask", "ask-implicit")[number % 2]
                received, line = self.send(f"verified{number}", listener, version=version, certificate=certificate)
                self.assertIn(f"out{number}.client.example".encode(), received)
                self.assertEqual(line["client_name"], f"out{number}.client.example")

    def test_intermediate(self):
        certificate = self.ca.below().issue("deep.client.example", client=True)
        received, _ = self.send("deep", certificate=certificate)
        self.assertIn(b"deep.client.example", received)

    def test_none(self):
        for listener in ("ask", "ask-implicit"):
            received, line = self.send("none-" + listener, listener)
            self.assertNotIn("client_name", line)
            self.assertNotIn(b"client certificate", received)

    def test_not_asked(self):
        """A listener without client_ca does not look at what a client might show."""
        certificate = self.ca.issue("out.client.example", client=True)
        received, line = self.send("unasked", "plain", certificate=certificate)
        self.assertNotIn(b"out.client.example", received)
        self.assertNotIn("client_name", line)

    def test_refused(self):
        other = pki.authority("other")
        for what, certificate in (
                ("of another authority", other.issue("out.client.example", client=True)),
                ("expired", self.ca.issue("out.client.example", client=True, begins_d=-9, ends_d=-1)),
                ("not yet", self.ca.issue("out.client.example", client=True, begins_d=1)),
                ("of a server", self.ca.issue("out.client.example", client=False)),
                ("signed by a leaf", self.forged())):
            for version in (TLS12, TLS13):
                with self.subTest(what, version=version):
                    context = tls_context(version=version, certificate=certificate)
                    with SecureClient(self.gateway.at["ask"], context) as client:
                        with self.assertRaises((OSError, EOFError)):
                            client.hello()
                    failed = wait_event(self.gateway, client.source, "tls_failed")
                    self.assertEqual(failed["reason"], "certificate", failed)

    def forged(self):
        """Issued with a certificate that is no authority's."""
        leaf = self.ca.issue("leaf.client.example", client=True)
        false = pki.Authority("false")
        false.key, false.path, false.chain = leaf.key, leaf.chain, pki.read(leaf.chain)
        return false.issue("victim.client.example", client=True)

    def test_wrong_key(self):
        """The certificate of one, the key of another: openssl shows it all the same, and we refuse it."""
        certificate = self.ca.issue("out.client.example", client=True)
        other = self.ca.issue("out.client.example", client=True, number=1)
        with self.assertRaises(ssl.SSLError):
            tls_context(certificate=pki.mismatched(certificate, other))

    def test_odd_names(self):
        """What a certificate says cannot break Received or the log."""
        for number, name in enumerate(('evil" event=forged x="', "a) by evil (b", "line\\nbreak", "ümlaut",
                                       "x" * 64)):
            with self.subTest(name=name):
                certificate = self.ca.issue(key="ecdsa", client=True, common_name=name.replace("/", ""))
                received, line = self.send(f"odd{number}", certificate=certificate)
                self.assertEqual(received.count(b"Received:"), 1)
                self.assertEqual(line["event"], "tls")
                self.assertNotIn(b"by evil (b", received)
        self.assertEqual(self.gateway.events("forged"), [])

    def test_no_resumption(self):
        """Such a listener hands out no tickets: a resumed session would have no certificate."""
        context = tls_context(version=TLS12)
        with SecureClient(self.gateway.at["ask"], context) as client:
            client.hello()
            self.assertFalse(client.tls.session.has_ticket)
        with SecureClient(self.gateway.at["plain"], context) as client:
            client.hello()
            self.assertTrue(client.tls.session.has_ticket)
        context = tls_context(version=TLS13)
        with SecureClient(self.gateway.at["ask"], context) as client:
            client.hello()
            client.expect(250, "NOOP")
            self.assertTrue(client.tls.session is None or not client.tls.session.has_ticket)

    def test_no_resumption_from_elsewhere(self):
        """A ticket of a listener that asked for nothing is no way past the question."""
        for version in (TLS12, TLS13):
            context = tls_context(version=version)
            with SecureClient(self.gateway.at["plain"], context) as client:
                client.hello()
                session = client.tls.session
            for listener, resumed in (("plain", True), ("ask", False)):
                with SecureClient(self.gateway.at[listener], context, session=session) as client:
                    client.hello()
                    self.assertEqual(client.tls.session_reused, resumed, listener)


if __name__ == "__main__":
    unittest.main()
