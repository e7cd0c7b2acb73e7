"""ringmx-load over TLS, against ringmx and against servers that behave badly: what it sends arrives whole, what it
reports is so, and it takes records in any pieces."""
import json
import os
import re
import socket
import subprocess
import threading
import time
import unittest
import zlib

import pki
from harness import BINARY, FLAVOUR, PATIENCE_S, SLOW, Gateway, wait_until

LOAD = os.path.join(os.path.dirname(BINARY), "ringmx-load")
NAME = "mx.example.org"
VERSIONS = {"1.2": "TLSv1.2", "1.3": "TLSv1.3"}
RECORD_TEXT_MAX, RECORD_HEADER = 16384, 5


def load(port, *options, code=0):
    """Runs it to the end; returns the report, with "stderr". `code` is what it must exit with."""
    command = [LOAD, "--port", str(port), "--json", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S * 5)
    if done.returncode != code:
        raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-4000:]}{done.stdout}")
    return {**(json.loads(done.stdout) if done.stdout else {}), "stderr": done.stderr}


class Server:
    """A listener whose every connection is given to `serve` in a thread of its own."""

    def __init__(self, serve):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.serve = serve
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(connection,), daemon=True).start()

    def one(self, connection):
        with connection:
            connection.settimeout(PATIENCE_S)
            try:
                self.serve(connection)
            except OSError:
                pass  # the client has gone

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Relay(Server):
    """Passes octets on to a server, those for the client in pieces of `piece` octets, and notes the records."""

    def __init__(self, address, piece=None):
        self.address, self.piece = address, piece
        self.records = {"sent": [], "received": []}  # (type, octets without the header)
        super().__init__(self.pass_on)

    def pass_on(self, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with socket.create_connection(self.address) as server:
            back = threading.Thread(target=self.pump, args=(server, client, "received"))
            back.start()
            self.pump(client, server, "sent")
            back.join()

    def pump(self, source, target, direction):
        waits = b""
        while octets := source.recv(65536):
            waits += octets
            while len(waits) >= RECORD_HEADER:
                size = int.from_bytes(waits[3:5], "big")
                if len(waits) < RECORD_HEADER + size:
                    break
                self.records[direction].append((waits[0], size))
                waits = waits[RECORD_HEADER + size:]
            piece = self.piece if direction == "received" and self.piece else len(octets)
            for at in range(0, len(octets), piece):
                target.sendall(octets[at:at + piece])
        target.shutdown(socket.SHUT_WR)


class AgainstRingmx(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway(
            settings={"limits.message_size": '"50M"'},
            domains={"example.org": (["*"], "maildir:{mail}/%d/%u"), "none.example": (["*"], "discard:")},
            certificates={"mx": pki.authority().issue(NAME)},
            listeners={"none": {"tls": "none"}, "starttls": {"tls": "starttls"}, "implicit": {"tls": "implicit"},
                       "modern": {"tls": "implicit", "tls_min": '"1.3"'}})
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def run_load(self, mode, *options, user="user", port=None, **more):
        return load(port or self.gateway.at[mode][1], "--tls", mode, "--user", user, *options, **more)

    def delivered(self, user, count):
        """All messages came, each once and whole."""
        wait_until(lambda: self.gateway.count(user) >= count, f"{count} messages for {user}")
        ids = set()
        for text in self.gateway.messages(user):
            text = re.sub(rb"\r?\n", b"\r\n", text)
            header, _, body = text.partition(b"\r\n\r\n")
            self.assertEqual(re.search(rb"X-Load-Sum: (\w+)", header)[1], b"%08x" % zlib.crc32(body))
            ids.add(re.search(rb"X-Load-Id: (\S+)", header)[1])
        self.assertEqual(len(ids), count)

    # --- what is sent ----------------------------------------------------------------------------

    def test_delivered(self):
        """DATA and BDAT, in groups and one by one, short and long, in both versions."""
        long, count = (1_000_000, 3) if SLOW else (10_000_000, 4)
        number = 0
        for mode in ("starttls", "implicit"):
            for version, name in VERSIONS.items():
                for options in (["--messages", 60, "--messages-per-connection", 7], ["--bdat", "--messages", 60],
                                ["--lock-step", "--messages", 30], ["--messages", count, "--size", long],
                                ["--messages", count, "--size", long, "--bdat"]):
                    with self.subTest(mode=mode, version=version, options=options):
                        number += 1
                        report = self.run_load(mode, "--tls-min", version, "--tls-max", version, "--connections", 3,
                                               *options, user=f"delivered{number}")
                        tls = report["tls"]
                        self.assertEqual(tls["handshakes"], report["opened"])
                        self.assertEqual(tls["versions"], {name: tls["handshakes"]})
                        self.assertEqual((tls["resumed"], tls["failed"], tls["broken"]), (0, 0, 0))
                        self.assertGreater(tls["latency_us"]["p50"], 0)
                        self.delivered(f"delivered{number}", report["messages"])

    def test_records(self):
        """The commands of a group are one record, the message records of 16 KiB, close_notify the last."""
        for version in VERSIONS:
            with self.subTest(version=version), Relay(self.gateway.at["implicit"]) as relay:
                self.run_load("implicit", "--tls-min", version, "--tls-max", version, "--connections", 1,
                              "--messages", 1, "--size", 600_000, user="records", port=relay.port)
                over = (8 if version == "1.2" else 1) + 16  # nonce or content type, and the tag
                sent = [size - over for kind, size in relay.records["sent"] if kind in (21, 23)]
                sent = sent[1:] if version == "1.3" else sent  # Finished
                commands = "MAIL FROM:<load@sender.example>\r\nRCPT TO:<records@example.org>\r\nDATA\r\n"
                hello, group, *text, last, leave, alert = sent
                self.assertEqual((hello, group), (len("EHLO load.example\r\n"), len(commands)))
                self.assertEqual((leave, alert), (len("QUIT\r\n"), 2))
                self.assertEqual(set(text), {RECORD_TEXT_MAX})
                self.assertLessEqual(last, RECORD_TEXT_MAX)
                self.assertGreater(sum(text) + last, 600_000)

    @unittest.skipUnless(FLAVOUR == "release", "a sanitizer has memory of its own")
    def test_memory(self):
        """A long message is not sealed as a whole: twenty at a time would take 200 MB."""
        command = [LOAD, "--port", str(self.gateway.at["implicit"][1]), "--tls", "implicit", "--domain",
                   "none.example", "--connections", "20", "--messages", "40", "--size", "10000000"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            most = 0
            while process.poll() is None:
                with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                    found = re.search(r"VmHWM:\s+(\d+) kB", file.read())  # not there when it is ending
                most = max(most, int(found[1]) << 10 if found else 0)
                time.sleep(0.01)
        self.assertEqual(process.returncode, 0)
        self.assertGreater(most, 10_000_000)
        self.assertLess(most, 80_000_000)

    # --- what comes ------------------------------------------------------------------------------

    def test_pieces(self):
        """Handshake and replies come octet by octet, and in parts that cut records anywhere."""
        for piece in (1, 7, 1000):
            for version in VERSIONS:
                with self.subTest(piece=piece, version=version), \
                        Relay(self.gateway.at["implicit"], piece) as relay:
                    report = self.run_load(
                        "implicit", "--tls-min", version, "--tls-max", version, "--tls-resume", "--domain",
                        "none.example", "--recipients", 90, "--connections", 2, "--messages", 6,
                        "--messages-per-connection", 1, port=relay.port)
                    self.assertEqual(report["messages"], 6)
                    self.assertGreater(report["tls"]["resumed"], 0)
                    longest = max(size for _, size in relay.records["received"])
                    self.assertGreater(longest, 1024, "one record in several receives")

    # --- what is agreed --------------------------------------------------------------------------

    def test_resumed(self):
        """From the second connection on; the others make a full handshake."""
        for mode in ("starttls", "implicit"):
            for version in VERSIONS:
                with self.subTest(mode=mode, version=version):
                    options = ["--tls-min", version, "--tls-max", version, "--domain", "none.example",
                               "--connections", 1, "--messages", 20, "--messages-per-connection", 1]
                    tls = self.run_load(mode, *options, "--tls-resume")["tls"]
                    self.assertEqual(tls["resumed"], tls["handshakes"] - 1)
                    self.assertEqual(tls["resumed_counted"], tls["counted"])
                    self.assertEqual(self.run_load(mode, *options)["tls"]["resumed"], 0)

    def test_choices(self):
        cipher = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
        tls = self.run_load("starttls", "--messages", 5, "--tls-max", "1.2", "--tls-groups", "P-256",
                            "--tls-ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305", "--domain", "none.example")["tls"]
        self.assertEqual((tls["ciphers"], tls["groups"]), ({cipher: 10}, {"P-256": 10}))

    def test_verified(self):
        options = ["--messages", 4, "--connections", 2, "--domain", "none.example"]
        ours, other = pki.authority().path, pki.authority("other").path
        report = self.run_load("implicit", *options, "--tls-ca", ours, "--tls-name", NAME)
        self.assertEqual((report["messages"], report["tls"]["failed"]), (4, 0))
        for ca, name in ((ours, "mx.example.net"), (other, NAME)):
            with self.subTest(ca=ca, name=name):
                report = self.run_load("implicit", *options, "--tls-ca", ca, "--tls-name", name, code=1)
                self.assertEqual((report["messages"], report["tls"]["handshakes"]), (0, 0))
                self.assertEqual(report["tls"]["reasons"], {"certificate": 2})

    def test_not_agreed(self):
        options = ["--messages", 4, "--connections", 2]
        for listener, mode, more, reason, codes in (
                ("none", "starttls", [], "refused", {"502": 2}), ("none", "implicit", [], "not_tls", {}),
                ("modern", "implicit", ["--tls-max", "1.2"], "alert", {})):
            with self.subTest(listener=listener, mode=mode):
                report = self.run_load(mode, *options, *more, port=self.gateway.at[listener][1], code=1)
                self.assertEqual((report["tls"]["failed"], report["tls"]["reasons"]), (2, {reason: 2}))
                self.assertEqual(report["codes"], codes)

    def test_clear(self):
        """Without --tls nothing is said of TLS."""
        report = load(self.gateway.at["starttls"][1], "--messages", 20, "--user", "clear")
        self.assertNotIn("tls", report)
        self.delivered("clear", report["messages"])


class Crash(unittest.TestCase):
    def test_reconnect(self):
        """Killed under load: what was acknowledged over TLS is delivered, and lost connections are no failure."""
        with Gateway(certificates={"mx": pki.authority().issue(NAME)},
                     listeners={"mx": {"tls": "starttls"}}) as gateway:
            acked = os.path.join(gateway.directory, "acked")
            port = gateway.at["mx"][1]
            gateway.listeners["mx"]["address"] = f'"127.0.0.1:{port}"'
            reports = []
            thread = threading.Thread(target=lambda: reports.append(load(
                port, "--tls", "starttls", "--tls-resume", "--connections", 10, "--seconds", 4, "--reconnect",
                "--messages-per-connection", 3, "--acked", acked)))
            thread.start()
            for round_ in range(1, 3):
                size = 2000 * round_
                wait_until(lambda: os.path.exists(acked) and os.path.getsize(acked) >= size, "mail")
                gateway.kill()
                gateway.start()
            thread.join()
            self.assertEqual(len(reports), 1, "the load program failed")
            self.assertGreater(reports[0]["tls"]["handshakes"], 10)
            with open(acked, encoding="ascii") as file:
                wanted = set(file.read().split())
            self.assertEqual(len(wanted), reports[0]["messages"])

            def missing():
                return wanted - {re.search(rb"X-Load-Id: (\S+)", text)[1].decode()
                                 for text in gateway.messages("user")}

            wait_until(lambda: not missing(), "all that was acknowledged", step_s=0.2)


class BadServers(unittest.TestCase):
    def failed(self, serve, mode, reason):
        with Server(serve) as server:
            report = load(server.port, "--tls", mode, "--connections", 2, "--messages", 4, code=1)
        self.assertEqual((report["tls"]["failed"], report["tls"]["reasons"]), (2, {reason: 2}))
        self.assertEqual((report["tls"]["handshakes"], report["messages"]), (0, 0))

    @staticmethod
    def starttls(after, later=b""):
        def serve(client):
            client.sendall(b"220 bad.example\r\n")
            client.recv(1000)
            client.sendall(b"250-bad.example\r\n250 STARTTLS\r\n")
            client.recv(1000)
            if after:
                client.sendall(after)
                client.recv(1000)
                client.sendall(later)
        return serve

    def test_refused(self):
        self.failed(self.starttls(b"454 4.7.0 not now\r\n"), "starttls", "refused")

    def test_injected(self):
        """Octets in clear behind the 220 never become part of the text (CVE-2011-0411)."""
        self.failed(self.starttls(b"220 2.0.0 go\r\n250 a line\r\n"), "starttls", "injected")
        self.failed(self.starttls(b"220 2.0.0 go\r\n25", b"0 a line\r\n"), "starttls", "injected")

    def test_lost(self):
        self.failed(self.starttls(None), "starttls", "lost")
        self.failed(lambda client: client.recv(1000), "implicit", "lost")

    def test_not_tls(self):
        self.failed(lambda client: client.sendall(b"220 bad.example\r\n") or client.recv(1000), "implicit", "not_tls")

    def test_options(self):
        for options in (["--tls", "sometimes"], ["--tls-resume"], ["--tls", "starttls", "--tls-min", "1.1"],
                        ["--tls", "starttls", "--tls-min", "1.3", "--tls-max", "1.2"],
                        ["--tls", "starttls", "--tls-groups", "none such"],
                        ["--tls", "starttls", "--tls-ca", "/nonexistent"]):
            with self.subTest(options=options):
                self.assertTrue(load(1, *options, code=2)["stderr"].startswith("ringmx-load: "))


if __name__ == "__main__":
    unittest.main()
