"""Running the gateway: --check, --help, --version, start and stop, reload, log lines, missing io_uring, workers."""
import errno
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from harness import (BINARY, ROOT, Client, Gateway, message, parse_log_line, split_delivered,
                     wait_until)

EX_USAGE, EX_CONFIG = 64, 78  # sysexits.h


def run(*arguments, prefix=()):
    return subprocess.run([*prefix, BINARY, *arguments], stdin=subprocess.DEVNULL, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, text=True)


class CommandLine(unittest.TestCase):
    def test_help(self):
        done = run("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("--check", "--help", "--version", "-c"):
            self.assertIn(word, done.stdout)
        self.assertEqual(done.stderr, "")

    def test_version(self):
        done = run("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"\Aringmx \d+\.\d+\.\d+")

    def test_unknown_option(self):
        done = run("--no-such-option")
        self.assertEqual(done.returncode, EX_USAGE)
        self.assertNotEqual(done.stderr, "")

    def test_missing_file(self):
        done = run("-c", "/nowhere/ringmx.conf")
        self.assertEqual(done.returncode, EX_CONFIG)
        self.assertIn("/nowhere/ringmx.conf", done.stderr)


class Check(unittest.TestCase):
    GOOD = ('hostname = "mx.example.org"\n'                          # line 1
            'workers = 1\n'                                          # 2
            'limits { message_size = "1M" }\n'                       # 3
            'spool { path = "DIR/spool" }\n'                         # 4
            'listener "mx" { address = {"127.0.0.1:0"} role = mx }\n'  # 5
            'domain "example.org" { recipients = {"*"} deliver = "discard:" }\n')  # 6

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = os.path.join(self.directory.name, "ringmx.conf")

    def check(self, text):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text.replace("DIR", self.directory.name))
        return run("--check", "-c", self.path)

    def refused(self, old, new, line):
        self.assertIn(old, self.GOOD)
        done = self.check(self.GOOD.replace(old, new))
        said = done.stdout + done.stderr
        self.assertEqual(done.returncode, EX_CONFIG, said)
        self.assertRegex(said, rf"(?m)^{re.escape(self.path)}:{line}: .+")
        return said

    def test_good(self):
        done = self.check(self.GOOD)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.directory.name, "spool")),
                         "a check makes nothing")

    def test_examples(self):
        for name in ("example.conf", "local.conf"):
            path = os.path.join(ROOT, "docs", name)
            with self.subTest(name=name):
                self.assertTrue(os.path.exists(path))
                done = run("--check", "-c", path)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_bad(self):
        for old, new, line in (
                ("workers = 1", "wokers = 1", 2),
                ("workers = 1", "workers = many", 2),
                ("workers = 1", "workers = 1000", 2),
                ('"1M"', '"1X"', 3),
                ('"1M"', '"0"', 3),
                ("message_size", "massage_size", 3),
                ("127.0.0.1:0", "127.0.0.1", 5),
                ("127.0.0.1:0", "300.0.0.1:25", 5),
                ("role = mx", "role = sender", 5),
                ("discard:", "nowhere:", 6),
                ("discard:", "maildir:/var/mail/%d/../%u", 6),
                ('"*"', '"@missing.txt"', 6),
                ('domain "example.org"', 'domain "exa mple..org"', 6),
                ('recipients = {"*"}', 'recipients = {"*"', 6)):
            with self.subTest(new=new):
                self.refused(old, new, line)

    def test_all_mistakes_are_told(self):
        text = self.GOOD.replace("workers = 1", "workers = many").replace('"1M"', '"1X"').replace(
            "discard:", "nowhere:")
        done = self.check(text)
        self.assertEqual(done.returncode, EX_CONFIG)
        said = done.stdout + done.stderr
        self.assertEqual(re.findall(rf"(?m)^{re.escape(self.path)}:(\d+): ", said), ["2", "3", "6"])

    def test_warnings(self):
        """No mistakes, and said all the same."""
        redis = 'redis { address = "127.0.0.1:6379" }\n'
        for old, new, says in (
                ("role = mx", 'role = mx proxy = {"10.0.0.0/8", "0.0.0.0/0"}', "proxy holds all addresses"),
                ("role = mx", 'role = mx proxy = {"::/0"}', "proxy holds all addresses"),
                ("role = mx", 'role = mx xclient = {"::/0"}', "xclient holds all addresses"),
                ("role = mx", 'role = mx proxy = {"10.0.0.0/8", "2001:db8::/32"}', None),
                ("workers = 1\n", "workers = 1\n" + redis, "redis has nothing to do"),
                ("workers = 1\n", "workers = 1\n" + redis + 'greylist { delay = "5m" }\n', None),
                ('"1M"', '"1M" message_rate_network = 9', None),
                ('"1M" }', '"1M" connection_rate = 9 } ' + redis, None)):
            with self.subTest(new=new):
                self.assertIn(old, self.GOOD)
                done = self.check(self.GOOD.replace(old, new))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                said = re.findall("(?m)^warning: (?!this machine).*$", done.stdout)
                self.assertEqual(len(said), says is not None, said)
                self.assertIn(says or "", "".join(said))

    def test_start_with_a_bad_file(self):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(self.GOOD.replace("workers = 1", "workers = many"))
        done = run("-c", self.path)
        self.assertEqual(done.returncode, EX_CONFIG)
        self.assertRegex(done.stderr, rf"{re.escape(self.path)}:2: ")


class Life(unittest.TestCase):
    def gateway(self, settings=None, **options):
        result = Gateway(settings=settings, **options)
        self.addCleanup(result.close)
        return result.start()

    def test_drain(self):
        """SIGTERM: a transfer under way ends with its 250, the idle get 421, nobody new is let in."""
        server = self.gateway()
        with server.client() as busy, server.client() as chunks, server.client() as idle, \
                server.client() as fresh:
            for client in (busy, chunks, idle):
                client.hello()
            fresh.expect(220)
            for client, user in ((busy, "busy"), (chunks, "chunks")):
                client.envelope("s@client.example", f"{user}@example.org")
            busy.expect(354, "DATA")
            busy.send(b"Subject: in flight\r\n\r\nfirst half, ")
            chunks.send(b"BDAT 10\r\nSubject: x")
            chunks.expect(250)
            chunks.send(b"BDAT 20 LAST\r\n\r\n\r\n0123456")
            time.sleep(0.1)
            server.signal(signal.SIGTERM)
            for client in (idle, fresh):
                reply = client.reply()
                self.assertEqual((reply.code, reply.enhanced), (421, "4.3.2"), reply)
                self.assertTrue(client.closed(5))
            self.assertTrue(server.alive())
            try:
                with Client(server.address, timeout_s=2) as late:
                    self.assertEqual(late.reply().code, 421)
            except (OSError, EOFError):
                pass
            busy.send(b"second half\r\n.\r\n")
            busy.expect(250)
            chunks.send(b"7890123\r\n")
            self.assertTrue(busy.closed(5))
            chunks.expect(250)
            self.assertTrue(chunks.closed(5))
        self.assertEqual(server.terminate(), 0)
        server.check_reports()
        server.start()
        (_, _, text), = [split_delivered(text) for text in server.wait_messages("busy", 1)]
        self.assertEqual(text, b"Subject: in flight\r\n\r\nfirst half, second half\r\n")
        server.wait_messages("chunks", 1)
        server.stop()

    def test_drain_ends_without_the_client(self):
        """A client that never finishes its message does not keep the gateway for ever."""
        server = self.gateway({"limits.data_timeout": '"3s"', "limits.command_timeout": '"3s"'})
        with server.client() as client:
            client.hello()
            client.envelope("s@client.example", "never@example.org")
            client.expect(354, "DATA")
            client.send(b"Subject: x\r\n")
            time.sleep(0.1)
            start = time.monotonic()
            server.stop()
            self.assertLess(time.monotonic() - start, 15)

    def test_interrupt(self):
        """Ctrl-C is an orderly end, too."""
        server = self.gateway()
        server.signal(signal.SIGINT)
        server.process.wait(15)
        server.stop()

    def test_stop_at_once(self):
        """Start and stop, ten times on one spool."""
        server = self.gateway()
        for _ in range(10):
            server.restart()
        server.stop()

    def test_two_on_one_spool(self):
        server = self.gateway()
        done = run("-c", server.path)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(server.spool, done.stderr + done.stdout)
        with server.client() as client:
            client.hello()
            self.assertEqual(client.transfer(message()).code, 250)
        server.stop()

    def test_many_addresses(self):
        server = self.gateway(addresses=("127.0.0.1:0", "127.0.0.2:0", "[::1]:0"))
        self.assertEqual(len(server.listening), 3)
        for address in server.listening:
            with Client(address) as client:
                client.hello()
                self.assertEqual(client.transfer(message()).code, 250)
        server.wait_messages("alice", 3)
        server.stop()

    def test_workers(self):
        for count in (1, 2, 8):
            with self.subTest(workers=count):
                server = self.gateway({"workers": str(count)})
                failures = []

                def run_client(number):
                    try:
                        with server.client() as client:
                            client.hello()
                            for _ in range(5):
                                reply = client.transfer(message(f"w{number}"))
                                if reply.code != 250:
                                    raise AssertionError(reply)
                            client.expect(221, "QUIT")
                    except (AssertionError, OSError, EOFError) as error:
                        failures.append(f"{type(error).__name__}: {error}")

                threads = [threading.Thread(target=run_client, args=(number,)) for number in range(24)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                self.assertEqual(failures, [])
                server.wait_messages("alice", 24 * 5)
                server.stop()


class Reload(unittest.TestCase):
    def setUp(self):
        self.server = Gateway()
        self.addCleanup(self.server.close)
        self.server.start()

    def rcpt(self, recipient):
        with self.server.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<s@client.example>")
            return client.command(f"RCPT TO:<{recipient}>").code

    def test_new_domain(self):
        self.assertEqual(self.rcpt("alice@example.net"), 550)
        with self.server.client() as old:
            old.hello()
            old.envelope("s@client.example", "alice@example.org")
            self.server.domains["example.net"] = (["alice"], "maildir:{mail}/%d/%u")
            self.server.write_configuration()
            self.server.signal(signal.SIGHUP)
            wait_until(lambda: self.rcpt("alice@example.net") == 250, "the new domain")
            self.assertEqual(self.rcpt("bob@example.net"), 550)
            old.expect(354, "DATA")
            old.send(b"Subject: begun before\r\n\r\n.\r\n")
            old.expect(250)
            self.assertEqual(old.transfer(message(), recipients=["alice@example.net"]).code, 250)
        self.server.wait_messages("alice", 1)
        self.server.wait_messages("alice", 1, "example.net")
        self.server.stop()

    def test_removed_domain(self):
        self.server.domains = {"example.net": (["*"], "maildir:{mail}/%d/%u")}
        self.server.write_configuration()
        self.server.signal(signal.SIGHUP)
        wait_until(lambda: self.rcpt("x@example.net") == 250, "the new domain")
        self.assertEqual(self.rcpt("alice@example.org"), 550)
        self.server.stop()

    def test_broken_file_changes_nothing(self):
        self.server.write_configuration("hostname = \n}}}")
        before = len(self.server.log_lines())
        self.server.signal(signal.SIGHUP)
        wait_until(lambda: any(line.get("level") == "error"
                               for line in self.server.log_lines()[before:]), "an error in the log")
        self.assertEqual(self.rcpt("alice@example.org"), 250)
        self.server.write_configuration()
        self.server.signal(signal.SIGHUP)
        time.sleep(0.2)
        self.assertEqual(self.rcpt("alice@example.org"), 250)
        self.server.stop()

    def test_many_reloads_under_load(self):
        stop, failures, count = threading.Event(), [], [0]

        def load():
            try:
                with self.server.client() as client:
                    client.hello()
                    while not stop.is_set():
                        reply = client.transfer(message())
                        if reply.code != 250:
                            raise AssertionError(reply)
                        count[0] += 1
            except (AssertionError, OSError, EOFError) as error:
                failures.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=load)
        thread.start()
        for _ in range(30):
            self.server.signal(signal.SIGHUP)
            time.sleep(0.03)
        stop.set()
        thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(count[0], 0)
        self.server.wait_messages("alice", count[0])
        self.server.stop()


class Log(unittest.TestCase):
    def session(self, log_format):
        server = Gateway(settings={"log.format": log_format})
        self.addCleanup(server.close)
        server.start()
        with server.client() as client:
            client.hello('spaced.example')
            reply = client.transfer(message("log"), "s@client.example",
                                    ["alice@example.org", "bob@example.org"])
            self.assertEqual(reply.code, 250)
            client.envelope('"quo\\"ted \\\\ s"@client.example', "alice@example.org")
            client.expect(354, "DATA")
            client.send(b"Subject: x\r\n\r\nbare\nline\r\n.\r\n")
            client.expect(550)
            client.expect(221, "QUIT")
        server.wait_messages("alice", 1)
        wait_until(lambda: len(server.events("delivered")) >= 2, "event=delivered")
        server.stop()
        text = server.log_text()
        for line in text.splitlines():
            fields = parse_log_line(line)
            self.assertIsNotNone(fields, f"neither logfmt nor JSON: {line!r}")
            self.assertLessEqual({"time", "level", "event"}, set(fields), line)
            self.assertEqual(line.startswith("{"), log_format == "json", line)
            self.assertRegex(fields["time"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z")
            self.assertIn(fields["level"], ("error", "warn", "info", "debug"))
        good, refused = server.events("message")
        self.assertEqual(good["from"], "s@client.example")
        self.assertEqual(refused["from"], '"quo\\"ted \\\\ s"@client.example')
        self.assertTrue(reply.text.endswith(good["id"]), reply)
        self.assertTrue(good["reply"].startswith("250"), good)
        self.assertTrue(refused["reply"].startswith("550"), refused)
        self.assertEqual(int(good["size"]), len(message("log")))
        self.assertGreaterEqual(float(good["ms"]), 0)
        self.assertEqual((good["to"], good["count"]), ("alice@example.org", "2"))
        self.assertEqual(server.events("connect")[0]["client"], "127.0.0.1")
        self.assertEqual(len(server.events("disconnect")), 1)
        delivered = server.events("delivered")
        self.assertEqual({line["id"] for line in delivered}, {good["id"]})
        found = {split_delivered(text)[1] for text in server.messages("alice")}
        self.assertIn(good["id"].encode(), found.pop())

    def test_logfmt(self):
        self.session("logfmt")

    def test_json(self):
        self.session("json")

    def test_no_injection(self):
        """What a client sends cannot end a line or open a new one."""
        server = Gateway(settings={"log.level": "debug"})
        self.addCleanup(server.close)
        server.start()
        with server.client() as client:
            client.expect(220)
            client.command(b"EHLO a\x01b level=error event=forged \"x")
            client.command(b"XYZZY \xff\xfe \x1b[2J\r event=forged")
            client.command("EHLO client.example")
            client.command("MAIL FROM:<\" event=forged \"@client.example>")
            client.command("RCPT TO:<\"a\\\" event=forged\"@elsewhere.example>")
            client.expect(221, "QUIT")
        server.stop()
        self.assertEqual(server.events("forged"), [])
        for line in server.log_text().splitlines():
            self.assertIsNotNone(parse_log_line(line), line)
            self.assertNotRegex(line, r"[\x00-\x1f\x7f]")


class NoUring(unittest.TestCase):
    """io_uring that is missing or forbidden: one exact sentence and exit 78."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.directory.cleanup)
        cls.helper = os.path.join(cls.directory.name, "no_uring")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "no_uring.c")
        subprocess.run(["cc", "-Wall", "-o", cls.helper, source], check=True)

    def refused(self, error):
        server = Gateway(prefix=[self.helper, str(error)])
        self.addCleanup(server.close)
        os.makedirs(server.mail)
        server.write_configuration()
        server.launch()
        self.assertEqual(server.process.wait(30), EX_CONFIG, server.log_text())
        text = server.log_text()
        self.assertEqual(text.count("io_uring is not available"), 1, text)
        return text

    def test_not_permitted(self):
        text = self.refused(errno.EPERM)
        self.assertRegex(text, "seccomp profile forbids it|kernel.io_uring_disabled")

    def test_no_such_call(self):
        text = self.refused(errno.ENOSYS)
        self.assertIn("6.1", text)

    def test_out_of_memory(self):
        text = self.refused(errno.ENOMEM)
        self.assertIn("RLIMIT_MEMLOCK", text)


if __name__ == "__main__":
    unittest.main()
