"""ringmx-sink over TLS: STARTTLS, required and implicit; with Python's ssl, swaks and ringmx-load."""
import os
import shutil
import smtplib
import ssl
import subprocess
import time
import unittest
import zlib

import loader
from harness import SLOW, message, stuff, wait_until
from loader import Acked
from pki import authority
from sink import Sink, expect_many_replies
from tls_client import TLS12, TLS13, tls_context

NAME = "sink.example.org"


def with_certificate(mode, *options, key="ecdsa"):
    certificate = authority().issue(NAME, key=key)
    return Sink("--tls", mode, "--certificate", certificate.chain, "--key", certificate.key, *options)


def trusting(version=None):
    return tls_context(authority().path, version)


def secure(client, context=None, session=None):
    """TLS on the socket of a harness.Client."""
    client.socket = (context or trusting()).wrap_socket(client.socket, server_hostname=NAME, session=session)
    return client.socket


class Starttls(unittest.TestCase):
    def test_smtplib(self):
        text = message("tls", ".dot\r\n" * 1000)
        body = text.partition(b"\r\n\r\n")[2]
        with with_certificate("starttls", "--threads", "2") as sink:
            for version in (TLS12, TLS13):
                with smtplib.SMTP(*sink.address, timeout=30) as client:
                    client._host = NAME  # pylint: disable=protected-access
                    client.starttls(context=trusting(version))
                    client.sendmail("a@b.example", ["c@d.example"], text)
                    client.sendmail("a@b.example", ["c@d.example"], text)
            with smtplib.SMTP(*sink.address, timeout=30) as client:
                client.sendmail("a@b.example", ["c@d.example"], text)
            lines = sink.messages()
            totals = sink.stop()
        self.assertEqual([line.get("tls") for line in lines], ["TLSv1.2"] * 2 + ["TLSv1.3"] * 2 + [None])
        for line in lines:
            self.assertEqual((int(line["size"]), line["sum"]), (len(text), f"{zlib.crc32(body):08x}"))
        for line in lines[:4]:
            self.assertEqual(line["sni"], NAME)
            self.assertTrue(line["cipher"].startswith("TLS_"))
        self.assertEqual((totals["tls"], totals["tls_failed"]), (2, 0))

    def test_rsa(self):
        with with_certificate("starttls", key="rsa2048") as sink, sink.client() as client:
            client.hello()
            client.expect(220, "STARTTLS")
            secure(client)
            client.expect(250, "EHLO x")

    def test_offer(self):
        with with_certificate("starttls") as sink, sink.client() as client:
            clear = set(client.hello().texts)
            client.expect(220, "STARTTLS")
            secure(client)
            inside = set(client.expect(250, "EHLO x").texts)
            self.assertEqual((clear - inside, inside - clear), ({"STARTTLS"}, {"REQUIRETLS"}))
            client.expect(503, "STARTTLS")
            client.expect(250, "MAIL FROM:<a@b.example> REQUIRETLS")

    def test_without(self):
        with with_certificate("starttls", "--without", "STARTTLS") as sink, sink.client() as client:
            self.assertNotIn("STARTTLS", client.hello().texts)
            client.expect(502, "STARTTLS")
        with with_certificate("starttls", "--without", "REQUIRETLS") as sink, sink.client() as client:
            client.hello()
            client.expect(220, "STARTTLS")
            secure(client)
            self.assertNotIn("REQUIRETLS", client.expect(250, "EHLO x").texts)
            client.expect(555, "MAIL FROM:<a@b.example> REQUIRETLS")

    def test_all_is_forgotten(self):
        with with_certificate("starttls") as sink, sink.client() as client:
            client.hello()
            client.envelope("a@b.example", "c@d.example")
            client.expect(503, "STARTTLS")
            client.expect(250, "RSET")
            client.expect(501, "STARTTLS now")
            client.expect(220, "STARTTLS")
            secure(client)
            client.expect(503, "MAIL FROM:<a@b.example>")
            client.expect(250, "EHLO x")
            self.assertEqual(client.transfer(message()).code, 250)

    def test_injection(self):
        """What came behind STARTTLS in clear is never carried out, not even where the reply is late."""
        for options, pause_s in (((), 0), (("--delay", "starttls=300ms"), 0), (("--delay", "starttls=300ms"), 0.1)):
            with with_certificate("starttls", *options) as sink, sink.client() as client:
                client.hello()
                client.send_split(b"STARTTLS\r\nRSET\r\n", [10, 6] if pause_s else [16], pause_s)
                client.expect(554)
                self.assertTrue(client.closed())

    def test_required(self):
        with with_certificate("required") as sink, sink.client() as client:
            self.assertIn("STARTTLS", client.hello().texts)
            client.expect(530, "MAIL FROM:<a@b.example>")
            client.expect(220, "STARTTLS")
            secure(client)
            client.expect(250, "EHLO x")
            self.assertEqual(client.transfer(message()).code, 250)

    def test_version(self):
        with with_certificate("starttls", "--tls-min", "1.3") as sink:
            with sink.client() as client:
                client.hello()
                client.expect(220, "STARTTLS")
                with self.assertRaises((ssl.SSLError, OSError)):
                    secure(client, trusting(TLS12))
            with sink.client() as client:
                client.hello()
                client.expect(220, "STARTTLS")
                self.assertEqual(secure(client).version(), "TLSv1.3")
                client.expect(250, "NOOP")
            totals = sink.stop()
        self.assertEqual((totals["tls"], totals["tls_failed"]), (1, 1))

    def test_self_signed(self):
        with Sink("--tls", "starttls", "--self-signed", "--hostname", "own.example") as sink, sink.client() as client:
            client.hello()
            client.expect(220, "STARTTLS")
            found = secure(client, tls_context()).getpeercert(binary_form=True)
            pem = os.path.join(sink.directory, "ca.pem")
            with open(pem, "w", encoding="ascii") as file:
                file.write(ssl.DER_cert_to_PEM_cert(found))
            with sink.client() as second:
                second.hello()
                second.expect(220, "STARTTLS")
                second.socket = tls_context(pem).wrap_socket(second.socket, server_hostname="own.example")
                second.expect(250, "NOOP")

    def test_resumption(self):
        with with_certificate("starttls", "--threads", "2") as sink:
            for version in (TLS12, TLS13):
                context, session = trusting(version), None
                for number in range(6):
                    with sink.client() as client:
                        client.hello()
                        client.expect(220, "STARTTLS")
                        tls = secure(client, context, session)
                        client.expect(250, "EHLO x")
                        self.assertEqual(tls.session_reused, number > 0)
                        self.assertEqual(client.transfer(message()).code, 250)
                        session = tls.session
            self.assertEqual([line.get("resumed") for line in sink.messages()], ([None] + ["true"] * 5) * 2)

    def test_swaks(self):
        if not shutil.which("swaks"):
            self.skipTest("skipped: swaks is not installed")
        for mode, option in (("starttls", "-tls"), ("implicit", "-tlsc")):
            with with_certificate(mode) as sink:
                host, port = sink.address
                subprocess.run(["swaks", "--server", host, "--port", str(port), "--from", "a@b.example", "--to",
                                "c@d.example", option], check=True, timeout=60, stdout=subprocess.DEVNULL)
                self.assertIn("tls", sink.messages()[0])


class Implicit(unittest.TestCase):
    def test_smtplib(self):
        with with_certificate("implicit") as sink:
            with smtplib.SMTP_SSL(*sink.address, context=tls_context(), timeout=30) as client:
                client.ehlo()
                self.assertFalse(client.has_extn("starttls"))
                client.sendmail("a@b.example", ["c@d.example"], message())
            self.assertEqual(sink.messages()[0]["tls"], "TLSv1.3")

    def test_large(self):
        text = message("large", "0123456789abcdef\r\n.dots\r\n..\r\n" * 200000)
        with with_certificate("implicit") as sink:
            with smtplib.SMTP_SSL(*sink.address, context=tls_context(), timeout=60) as client:
                client.sendmail("a@b.example", ["c@d.example"], text)
            line, = sink.messages()
        body = text.partition(b"\r\n\r\n")[2]
        self.assertEqual((int(line["size"]), line["sum"]), (len(text), f"{zlib.crc32(body):08x}"))

    def test_clear_text(self):
        with with_certificate("implicit") as sink:
            with sink.client() as client:
                client.send(b"EHLO x\r\n")
                self.assertTrue(client.closed())
            self.assertEqual(sink.stop()["tls_failed"], 1)

    def test_lmtp_replies(self):
        """More replies than a record, or a socket, has room for."""
        with with_certificate("implicit", "--lmtp") as sink, sink.client(receive_buffer=4096) as client:
            secure(client)
            client.expect(220)
            expect_many_replies(client, 5000, 0.2)

    def test_end(self):
        """A client that is idle inside TLS hears 421 there."""
        with with_certificate("implicit") as sink, sink.client() as client:
            secure(client)
            client.hello()
            sink.process.terminate()
            client.expect(421)
            self.assertTrue(client.closed())
            wait_until(lambda: sink.process.poll() is not None, "the end")


class Faults(unittest.TestCase):
    def test_starttls(self):
        for option, code in (("refuse", 554), ("tempfail", 454)):
            with with_certificate("starttls", f"--{option}", "starttls") as sink, sink.client() as client:
                client.hello()
                client.expect(code, "STARTTLS")
                self.assertEqual(client.transfer(message()).code, 250)  # in clear
                self.assertNotIn("tls", sink.messages()[0])
        with with_certificate("starttls", "--drop", "starttls") as sink, sink.client() as client:
            client.hello()
            client.send(b"STARTTLS\r\n")
            with self.assertRaises((EOFError, ConnectionError)):
                client.reply()

    def test_implicit(self):
        for option in ("refuse", "tempfail", "drop"):
            with with_certificate("implicit", f"--{option}", "starttls") as sink, sink.client() as client:
                with self.assertRaises((EOFError, ConnectionError)):
                    client.reply()
            with with_certificate("implicit", f"--{option}", "connect") as sink, sink.client() as client:
                secure(client)
                if option != "drop":
                    client.expect(554 if option == "refuse" else 421)
                    continue
                with self.assertRaises((EOFError, ConnectionError)):
                    client.reply()

    def test_delay(self):
        for phase in ("starttls", "connect", "ehlo", "rcpt", "data", "dot", "quit"):
            for mode in ("starttls", "implicit"):
                with with_certificate(mode, "--delay", f"{phase}=120ms") as sink, sink.client() as client:
                    start = time.monotonic()
                    if mode == "implicit":
                        secure(client)
                        client.expect(220)
                    else:
                        client.hello()
                        client.expect(220, "STARTTLS")
                        secure(client)
                    client.expect(250, "EHLO x")
                    client.envelope("a@b.example", "c@d.example")
                    client.expect(354, "DATA")
                    client.send(stuff(message()) + b".\r\nQUIT\r\n")
                    client.expect(250)
                    client.expect(221)
                    took = time.monotonic() - start
                    twice = mode == "starttls" and phase == "ehlo"
                    self.assertGreaterEqual(took, 0.24 if twice else 0.12)
                    self.assertLess(took, 5)


class Account(unittest.TestCase):
    def test_load(self):
        """Every message that was acknowledged inside TLS is in the log, whole, once."""
        count = 300 if SLOW else 3000
        for options in (("--tls", "starttls"), ("--tls", "implicit", "--bdat"),
                        ("--tls", "implicit", "--messages-per-connection", "3", "--tls-resume"),
                        ("--tls", "starttls", "--size", "100000", "--tls-max", "1.2")):
            with self.subTest(options=options), with_certificate(options[1], "--threads", "2") as sink:
                with Acked() as acked:
                    loader.run(sink.address, "--messages", count, "--acked", acked.path, *options)
                    ids = acked.ids()
                lines = sink.messages()
                totals = sink.stop()
                self.assertEqual(sorted(line["load_id"] for line in lines), sorted(ids))
                self.assertEqual((totals["messages"], totals["torn"], totals["tls_failed"]), (count, 0, 0))
                self.assertTrue(all(line["load_sum"] == line["sum"] and "tls" in line for line in lines))


if __name__ == "__main__":
    unittest.main()
