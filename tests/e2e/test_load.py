"""ringmx-load: its command line and exit codes; over TLS, against ringmx and against servers that behave badly: what it
sends arrives whole, what it reports is so, and it takes records in any pieces."""
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
import unittest
import zlib

import loader
import pki
from harness import FLAVOUR, PATIENCE_S, ROOT, SLOW, Gateway, wait_until
from loader import Acked
from sink import Sink
from smtp_server import SmtpServer

NAME = "mx.example.org"
VERSIONS = {"1.2": "TLSv1.2", "1.3": "TLSv1.3"}
RECORD_TEXT_MAX, RECORD_HEADER = 16384, 5


def load(port, *options, code=0):
    """Runs it to the end; returns the report, with "stderr". `code` is what it must exit with."""
    return loader.run(("127.0.0.1", port), *options, code=code)


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
                        # One that ends after the last message has no time.
                        self.assertIn(report["times"]["handshake"]["count"], range(3, tls["handshakes"] + 1))
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
        command = loader.words(self.gateway.at["implicit"], "--tls", "implicit", "--domain", "none.example",
                               "--connections", 20, "--messages", 40, "--size", "10M")
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


class CommandLine(unittest.TestCase):
    """How it is called, and how it ends."""

    def output(self, *arguments, code=0):
        done = subprocess.run([loader.PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False,
                              timeout=PATIENCE_S, stdin=subprocess.DEVNULL, env=loader.environment())
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        return done

    def test_just_works(self):
        """A target is all it needs; a table for people comes of it."""
        with SmtpServer() as server:
            done = self.output("{}:{}".format(*server.address), "--messages", 100)
            self.assertEqual((len(server.done()), len(server.sessions)), (100, 10))
            self.assertEqual({len(message.content) for message in server.done()}, {4096})
        self.assertEqual(done.stderr, "")
        self.assertRegex(done.stdout, r"(?m)^loop: closed")
        self.assertRegex(done.stdout, r"\b100\b")
        for name in ("connect", "banner", "ehlo", "mail", "rcpt", "data", "dot", "message"):
            self.assertRegex(done.stdout, rf"(?m)^{name} +[\d.]+ ")

    def test_help(self):
        """All options are in the manual page, and it has no others."""
        text = self.output("--help").stdout
        self.assertRegex(self.output("--version").stdout, r"^ringmx-load \d+\.\d+\.\d+\n$")
        with open(os.path.join(ROOT, "docs", "man", "ringmx-load.1"), encoding="utf-8") as file:
            manual = set(re.findall(r"Fl -([a-z][a-z0-9-]+)", file.read()))
        options = set(re.findall(r"--([a-z][a-z0-9-]+)", text))
        self.assertEqual(options - manual, set(), "not in the manual page")
        self.assertEqual(manual - options - {"copies", "strict"}, set(), "not in --help")

    def test_wrong(self):
        """Exit code 2, and a message that names what is wrong."""
        target = "127.0.0.1:25"
        for words, named in (
                ((), "target"), ((target, "--unknown"), "--unknown"), ((target, "more"), "more"),
                ((target, "--rate", "x"), "--rate"), ((target, "--rate", "-1"), "--rate"),
                ((target, "--rate", "0"), "--rate"), ((target, "--connections"), "--connections"),
                ((target, "--size", "4q"), "--size"), ((target, "--size", "lognormal:4k"), "--size"),
                ((target, "--size", "lognormal:4k:x"), "--size"), ((target, "--recipients", "5-2"), "--recipients"),
                ((target, "--recipients", "0"), "--recipients"), ((target, "--seconds", "5y"), "--seconds"),
                ((target, "--arrivals", "often", "--rate", "1"), "--arrivals"), ((target, "--abort", "dot"), "--abort"),
                ((target, "--abort", "sleep=1%"), "--abort"), ((target, "--abort", "dot=101%"), "--abort"),
                ((target, "--sources", "127.0.0.0/33"), "--sources"), ((target, "--sources", "here"), "--sources"),
                ((target, "--sources", "fd00::/8"), "--sources"), ((target, "--proxy", "v3"), "--proxy"),
                ((target, "--proxy-sources", "10.0.0.0/8"), "--proxy"), ((target, "--chunk", "5"), "--bdat"),
                ((target, "--rate", "1", "--connection-rate", "1"), "exclude"),
                ((target, "--threads", "0"), "--threads"),
                ((target, "--tls", "maybe"), "--tls"), ((target, "--user", "a b"), "--user"),
                (("127.0.0.1:70000",), "70000"), (("127.0.0.1:",), "127.0.0.1:"), (("no.such.invalid:25",), "no.such"),
                ((target, "--acked", "/nonexistent/file"), "/nonexistent/file")):
            with self.subTest(words=words):
                done = self.output(*words, code=2)
                self.assertTrue(done.stderr.startswith("ringmx-load: "), done.stderr)
                self.assertIn(named, done.stderr)
                self.assertEqual((done.stdout, done.stderr.count("\n")), ("", 1))

    def test_nobody_there(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
        report = loader.run(address, "--connections", 3, "--messages", 3, code=1)
        self.assertEqual((report["messages"], report["opened"]), (0, 0))
        self.assertGreaterEqual(report["unopened"], 3)

    def test_failed(self):
        with Sink("--refuse", "dot=50%") as sink:
            report = loader.run(sink.address, "--messages", 40, code=1)
            refused = sink.stop()["refused_dot"]
        self.assertEqual((report["messages"], report["failed"]), (40 - refused, refused))
        self.assertEqual(report["codes"], {"554": refused})

    def test_interrupted(self):
        """SIGINT: what is under way is ended, and the report is of what was done."""
        for options in ((), ("--rate", 200), ("--connection-rate", 50), ("--idle", 5, "--threads", 2)):
            for number in (signal.SIGINT, signal.SIGTERM):
                with self.subTest(options=options, number=number), SmtpServer() as server, Acked() as acked:
                    process = loader.start(server.address, "--seconds", 60, *options, "--acked", acked.path)
                    wait_until(lambda: len(server.done()) >= 20, "mail")
                    asked = time.monotonic()
                    process.send_signal(number)
                    report = loader.finish(process, code=130)
                    self.assertLess(time.monotonic() - asked, 5)
                    self.assertEqual((report["messages"], len(acked.ids())), (len(server.done()),) * 2)
                    self.assertLess(report["seconds"], 30)
                    self.assertEqual((report["failed"], report["lost"], report["broken"]), (0, 0, 0))

    def test_marks(self):
        with SmtpServer() as server:
            report = loader.run(server.address, "--marks", "--messages", 10)
        self.assertEqual(report["stderr"].split(), ["start", "end"])

    def test_progress(self):
        """A line that is drawn anew, on a terminal alone, and none with --quiet."""
        with SmtpServer() as server:
            drawn = self.on_terminal(server, "--seconds", 2.5)
            self.assertEqual(self.on_terminal(server, "--seconds", 1, "--quiet"), "")
            self.assertEqual(loader.run(server.address, "--seconds", 1)["stderr"], "")
        lines = [line.strip() for line in drawn.split("\r") if line.strip()]
        self.assertGreaterEqual(len(lines), 3, drawn)
        self.assertNotIn("\n", drawn)
        self.assertTrue(drawn.endswith("\r"), "the line is taken away")
        self.assertEqual(drawn.split("\r")[-2].strip(), "", "the line is taken away")
        rates = [re.search(r"(\d+) messages/s.* p50 ([\d.]+) ms.* p99 ([\d.]+) ms.* (\d+) s left", line)
                 for line in lines]
        rates = [found for found in rates if found]
        self.assertTrue(rates, lines)
        self.assertGreater(int(rates[-1][1]), 0)
        self.assertLess(int(rates[-1][4]), 3)

    def on_terminal(self, server, *options):
        """What a terminal is shown."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(loader.words(server.address, "--json", *options), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=theirs, env=loader.environment())
        os.close(theirs)
        drawn = b""
        try:
            while octets := os.read(ours, 4096):
                drawn += octets
        except OSError:
            pass  # nobody has the other end
        os.close(ours)
        json.loads(process.communicate(timeout=PATIENCE_S)[0])
        self.assertEqual(process.returncode, 0, drawn)
        return drawn.decode()


class Crash(unittest.TestCase):
    def test_reconnect(self):
        """Killed under load: what was acknowledged over TLS is delivered, and lost connections are no failure."""
        with Gateway(certificates={"mx": pki.authority().issue(NAME)},
                     listeners={"mx": {"tls": "starttls"}}) as gateway:
            acked = Acked()
            self.addCleanup(acked.folder.cleanup)
            address = gateway.at["mx"]
            gateway.listeners["mx"]["address"] = f'"{address[0]}:{address[1]}"'
            process = loader.start(address, "--tls", "starttls", "--tls-resume", "--connections", 10, "--messages", 400,
                                   "--reconnect", "--messages-per-connection", 3, "--acked", acked.path)
            for count in (80, 160):
                wait_until(lambda: os.path.exists(acked.path) and len(acked.ids(True)) >= count, "mail")
                gateway.kill()
                gateway.start()
            report = loader.finish(process)
            self.assertGreater(report["tls"]["handshakes"], 10)
            wanted = acked.ids()
            self.assertEqual((len(wanted), report["messages"]), (400, 400))

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
