"""ringmxctl trace: dialogues are shown as they happen, to those who asked for them, and nothing of messages or
secrets is; watchers come, go and fall asleep, and SMTP goes on as ever."""
import json
import os
import socket
import subprocess
import threading
import time
import unittest

import loader
import pki
from harness import BINARY, PATIENCE_S, SLOW, Client, Gateway, message, quote, wait_until
from tls_client import SecureClient

PROGRAM = os.path.join(os.path.dirname(BINARY), "ringmxctl")
BODY_MARK = "zebra-crossing-7731"
SECRET = "dGhlLXNlY3JldC1vZi1hbGljZQ=="
WATCHERS_MAX = 8


class Watcher:
    """A client of the control socket that watches, and keeps all it hears."""

    def __init__(self, path, reads=True, **request):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.sendall(json.dumps({"do": "trace", **request}).encode() + b"\n")
        self.raw = b""
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.read, daemon=True)
        if reads:
            self.thread.start()

    def read(self):
        while True:
            try:
                got = self.socket.recv(65536)
            except OSError:
                break
            if not got:
                break
            self.raw += got
        self.done.set()

    def objects(self):
        text, _, _ = self.raw.rpartition(b"\n")
        return [json.loads(line) for line in text.split(b"\n") if line]

    def events(self, name):
        return [row for row in self.objects() if row.get("event") == name]

    def texts(self, name):
        return [row.get("text") for row in self.events(name)]

    def wait(self, what, condition):
        try:
            return wait_until(lambda: condition(self), what)
        except AssertionError as error:
            raise AssertionError(f"{error}; heard: {self.raw[-4000:]!r}") from None

    def wait_event(self, name, count=1):
        self.wait(f"{count} times {name}", lambda self: len(self.events(name)) >= count)

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)  # else the thread that reads keeps it open
        except OSError:
            pass
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Trace(unittest.TestCase):
    settings = {}
    certificates = {"mx": pki.authority().issue("mx.example.org")}

    def setUp(self):
        self.gateway = Gateway(settings=self.settings, certificates=self.certificates,
                               listeners={"mx": {"tls": "starttls"}, "implicit": {"tls": "implicit"}})
        self.addCleanup(self.gateway.close)
        self.path = os.path.join(self.gateway.directory, "control")
        self.gateway.settings["admin.control"] = quote(self.path)
        self.gateway.start()

    def tearDown(self):
        self.gateway.stop()

    def watch(self, settled=True, **request):
        """A watcher that the workers know of: what comes from now on is seen."""
        watcher = Watcher(self.path, **request)
        self.addCleanup(watcher.close)
        if settled:
            self.settle(request)
        return watcher

    def settle(self, request):
        """The log tells that the watcher was taken in; the workers hear of it at once."""
        asked = json.dumps({"do": "trace", **{k: v for k, v in request.items() if k != "reads"}})
        wait_until(lambda: any(event.get("action") == "trace" and event.get("request") == asked
                               for event in self.gateway.events("control")), "the log tells of " + asked)
        time.sleep(0.2 if SLOW else 0.05)

    def client(self, source="127.0.0.1", name="mx", **options):
        return Client(self.gateway.at[name], source=source, **options)


class Dialogues(Trace):
    def test_by_address(self):
        watcher = self.watch(ip="127.0.0.7")
        with self.client("127.0.0.8") as other, self.client("127.0.0.7") as client:
            for one in (other, client):
                one.hello()
                one.transfer(message(body=BODY_MARK + "\r\n"))
                one.expect(221, "QUIT")
        watcher.wait_event("disconnect")
        objects = watcher.objects()
        self.assertEqual({row["client"] for row in objects}, {"127.0.0.7"})
        self.assertEqual(len({row["session"] for row in objects}), 1)
        wait_until(lambda: [line["event"] for line in self.gateway.events("disconnect", "message")
                            if line["session"] == objects[0]["session"]] == ["message", "disconnect"],
                   "the log has the same id")
        self.assertEqual([row["event"] for row in objects],
                         ["connect", "reply", "command", "reply", "command", "reply", "command", "reply", "command",
                          "reply", "text", "reply", "command", "reply", "disconnect"])
        self.assertEqual(watcher.texts("command"),
                         ["EHLO client.example", "MAIL FROM:<sender@client.example>", "RCPT TO:<alice@example.org>",
                          "DATA", "QUIT"])
        replies = watcher.texts("reply")
        self.assertRegex(replies[0], r"\A220 mx.example.org ESMTP ringmx\Z")
        self.assertIn("\r\n250-PIPELINING\r\n", replies[1])
        self.assertRegex(replies[-2], r"\A250 2.0.0 Ok: queued as ")
        text = message(body=BODY_MARK + "\r\n")
        self.assertEqual(watcher.events("text")[0]["octets"], len(text))
        self.assertNotIn(BODY_MARK.encode(), watcher.raw)

    def test_by_recipient(self):
        """From RCPT on, with what came before; also of a whole domain, and in any case."""
        one = self.watch(rcpt="bob@example.org")
        domain = self.watch(rcpt="@EXAMPLE.org")
        neither = self.watch(rcpt="@example.com")
        with self.client() as client:
            client.hello("somebody.example")
            client.envelope("one@client.example", "alice@example.org")
            client.expect(250, "RSET")
            client.envelope("two@client.example", "alice@example.org", "Bob@Example.ORG")
            client.expect(221, "QUIT")
        one.wait_event("disconnect")
        domain.wait_event("disconnect")
        self.assertEqual(one.objects()[0]["event"], "joined")
        self.assertEqual(one.objects()[0]["helo"], "somebody.example")
        self.assertEqual(one.objects()[0]["from"], "two@client.example")
        self.assertEqual(one.texts("command"), ["RCPT TO:<Bob@Example.ORG>", "QUIT"])
        self.assertEqual(domain.objects()[0]["from"], "one@client.example")
        self.assertEqual(domain.texts("command")[0], "RCPT TO:<alice@example.org>")
        self.assertNotIn(b"one@client.example", one.raw)
        self.assertEqual(neither.objects(), [])

    def test_open_sessions(self):
        """Who is here already is seen from now on."""
        with self.client("127.0.0.9") as client:
            client.hello("earlier.example")
            watcher = self.watch(ip="127.0.0.8/30")
            watcher.wait_event("joined")
            self.assertEqual(watcher.objects()[0]["helo"], "earlier.example")
            client.expect(250, "NOOP")
            watcher.wait_event("reply")
        watcher.wait_event("disconnect")
        self.assertEqual(watcher.events("command")[0]["verb"], "NOOP")

    def test_tls_chunks_and_pipelining(self):
        watcher = self.watch(ip="127.0.0.0/8")
        text = message(body=BODY_MARK + "\r\n")
        with SecureClient(self.gateway.at["mx"], source="127.0.0.1") as client:
            client.hello("inside.example")
            half = len(text) // 2
            client.send(b"MAIL FROM:<a@client.example> SIZE=%d\r\nRCPT TO:<carol@example.org>\r\n"
                        b"RCPT TO:<nobody@elsewhere.example>\r\nBDAT %d\r\n" % (len(text), half) + text[:half]
                        + b"BDAT %d LAST\r\n" % (len(text) - half) + text[half:] + b"QUIT\r\n")
            for code in (250, 250, 550, 250, 250, 221):
                client.expect(code)
        watcher.wait_event("disconnect")
        self.assertIn("STARTTLS", watcher.texts("command"))
        self.assertIn("220 2.0.0 Ready to start TLS", watcher.texts("reply"))
        self.assertRegex(watcher.events("tls")[0]["version"], r"TLSv1\.[23]")
        commands = watcher.texts("command")
        self.assertEqual(commands[commands.index("STARTTLS") + 2:],
                         [f"MAIL FROM:<a@client.example> SIZE={len(text)}", "RCPT TO:<carol@example.org>",
                          "RCPT TO:<nobody@elsewhere.example>", f"BDAT {half}", f"BDAT {len(text) - half} LAST",
                          "QUIT"])
        codes = [reply[:3] for reply in watcher.texts("reply")]
        self.assertEqual(codes[-6:], ["250", "250", "550", "250", "250", "221"])
        self.assertEqual(watcher.events("text")[0]["octets"], len(text))
        self.assertNotIn(BODY_MARK.encode(), watcher.raw)

    def test_behind_a_balancer(self):
        """The client is who PROXY says, or XCLIENT later."""
        self.gateway.stop()
        self.gateway.listeners["mx"]["proxy"] = '{"127.0.0.1"}'
        self.gateway.listeners["mx"]["xclient"] = '{"192.0.2.0/24"}'
        self.gateway.start()
        one, other = self.watch(ip="192.0.2.7"), self.watch(ip="198.51.100.0/24")
        balancer = self.watch(ip="127.0.0.1")
        with self.client() as client:
            client.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n")
            client.hello()
            client.expect(220, "XCLIENT ADDR=198.51.100.9")
            client.expect(250, "EHLO renamed.example")
        for watcher in (one, other):
            watcher.wait_event("disconnect")
        self.assertEqual([row["event"] for row in one.objects()][:3], ["proxy", "connect", "reply"])
        self.assertEqual(one.events("proxy")[0]["balancer"], "127.0.0.1")
        self.assertEqual(one.events("connect")[0]["port"], 4711)
        self.assertEqual(other.objects()[0]["event"], "client")
        self.assertEqual(other.objects()[0]["client"], "198.51.100.9")
        self.assertEqual(other.texts("command"), ["EHLO renamed.example"])
        self.assertEqual(balancer.objects(), [])

    def test_implicit_tls(self):
        watcher = self.watch(ip="127.0.0.1")
        with SecureClient(self.gateway.at["implicit"], implicit=True, source="127.0.0.1") as client:
            client.expect(220)
            client.expect(221, "QUIT")
        watcher.wait_event("disconnect")
        self.assertEqual([row["event"] for row in watcher.objects()],
                         ["connect", "tls", "reply", "command", "reply", "disconnect"])
        with socket.create_connection(self.gateway.at["implicit"]) as rude:
            rude.sendall(b"EHLO nonsense\r\n")
            watcher.wait_event("tls_failed")

    def test_nothing_that_is_not_for_others(self):
        """Arguments of AUTH, what follows it, and text where commands are expected."""
        watcher = self.watch(ip="127.0.0.1")
        lines = [f"AUTH PLAIN {SECRET}", f"auth login {SECRET}", SECRET, f"MAIL {SECRET}", f"HELP {SECRET}",
                 f"NOOP {SECRET}", f"POSTING {SECRET}", f"rcpt {SECRET}", f"EXPN  {SECRET}"]
        with self.client() as client:
            client.hello()
            for line in lines[:-1]:
                client.command(line)
            client.command("MAIL FROM:<a@client.example>")
            client.command("RCPT TO:<x@elsewhere.example>")
            client.expect(554, "DATA")
            for line in (f"Subject: {BODY_MARK}", f"mail {BODY_MARK}", f"vrfy\x01{BODY_MARK}", f"help {BODY_MARK}",
                         "." + BODY_MARK):
                client.command(line)
        watcher.wait_event("disconnect")
        self.assertNotIn(SECRET.encode(), watcher.raw)
        self.assertNotIn(BODY_MARK.encode(), watcher.raw)
        shown = watcher.events("command")
        self.assertIn({"verb": "AUTH", "octets": len(lines[0])},
                      [{key: row[key] for key in ("verb", "octets")} for row in shown if "verb" in row])
        self.assertIn("?", [row.get("verb") for row in shown])
        self.assertNotIn(SECRET, self.gateway.log_text())

    def test_text_after_a_refused_data(self):
        """Lines of a message that look like commands are not shown, nor to those who begin to watch then."""
        early = self.watch(ip="127.0.0.1")
        lines = [f"{verb} {BODY_MARK} more" for verb in ("helo", "EHLO", "Vrfy", "EXPN", "MAIL", "data", "quit", "RSET", "BDAT")]
        lines += [f"VRFY {BODY_MARK}", f"EXPN {BODY_MARK}", f"EHLO {BODY_MARK}", f"MAIL FROM:<{BODY_MARK}@client.example>"]

        def refused(client):
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(550, "RCPT TO:<x@elsewhere.example>")
            client.expect(554, "DATA")

        with self.client() as one, self.client() as two:
            refused(one)
            refused(two)
            late = self.watch(ip="127.0.0.0/8")
            two.command(f"EHLO {BODY_MARK}")
            later = self.watch(ip="127.0.0.0/24")
            for line in lines:
                one.command(line)
                two.command(line)
        for watcher in (early, late, later):
            watcher.wait_event("disconnect", 2)
            self.assertNotIn(BODY_MARK.encode(), watcher.raw)
            self.assertIn("VRFY", [row.get("verb") for row in watcher.events("command")])

    def test_reset_after_a_refused_data(self):
        """Who says RSET has understood: what comes then is shown."""
        watcher = self.watch(ip="127.0.0.1")
        with self.client() as client:
            client.hello()
            client.expect(503, "DATA")
            client.expect(250, "RSET")
            client.transfer(message())
            client.expect(221, "QUIT")
        watcher.wait_event("disconnect")
        self.assertEqual(watcher.texts("command"),
                         ["EHLO client.example", "DATA", "RSET", "MAIL FROM:<sender@client.example>",
                          "RCPT TO:<alice@example.org>", "DATA", "QUIT"])

    def test_nothing_after_auth(self):
        watcher = self.watch(ip="127.0.0.1")
        with self.client() as client:
            client.hello()
            for line in ("AUTH LOGIN", f"VRFY {SECRET}", f"EXPN {SECRET}"):
                client.command(line)
            client.command("MAIL FROM:<a@client.example>")
        watcher.wait_event("disconnect")
        self.assertNotIn(SECRET.encode(), watcher.raw)
        self.assertIn("MAIL FROM:<a@client.example>", watcher.texts("command"))

    def test_any_octets(self):
        """What is shown is JSON, whatever was said; long lines and replies are cut."""
        watcher = self.watch(ip="127.0.0.1")
        with self.client() as client:
            client.expect(220)
            for octets in (b"EHLO \xff\xfe\x01\x1b[31m\"\\", b"EHLO a\0b", b"VRFY " + bytes(range(1, 10)),
                           b"MAIL FROM:<" + b"x" * 900 + b"@client.example>", b"EHLO \xe2\x82\xac\xe2\x82"):
                client.send(octets + b"\r\n")
                client.reply()
        watcher.wait_event("disconnect")
        commands = watcher.texts("command")
        self.assertIn("EHLO a?b", commands)
        self.assertEqual(len(commands), 5)
        self.assertTrue(any(text.endswith("...") and len(text) == 515 for text in commands))

    def test_refused_connections(self):
        self.gateway.settings["limits.connections_per_ip"] = "1"
        self.gateway.restart()
        watcher = self.watch(ip="127.0.0.1")
        with self.client() as first:
            first.expect(220)
            with self.client() as second:
                second.expect(421)
            watcher.wait_event("refused")
        self.assertRegex(watcher.texts("refused")[0], r"\A421 4\.7\.0 ")


class Watching(Trace):
    def test_limit_ends(self):
        watcher = self.watch(ip="127.0.0.1", limit=3)
        with self.client() as client:
            client.hello()
        watcher.wait("the end", lambda self: any("end" in row for row in self.objects()))
        objects = watcher.objects()
        self.assertEqual(len(objects), 4)
        self.assertEqual(objects[-1], {"end": True, "rows": 3, "lost": 0})

    def test_wrong_requests(self):
        for request, why in (({}, "needs"), ({"ip": "nonsense"}, "IP address"), ({"ip": "10.0.0.1/8"}, "bits"),
                             ({"rcpt": "nobody"}, "address"), ({"rcpt": "@"}, "address"), ({"ip": 7}, "IP address"),
                             ({"ip": "127.0.0.1", "domain": "example.org"}, "filter"),
                             ({"ip": "127.0.0.1", "all": True}, "filter")):
            with Watcher(self.path, **request) as watcher:
                watcher.wait("an error", lambda self: self.raw.endswith(b"\n"))
                self.assertIn(why, watcher.objects()[0]["error"], request)

    def test_so_many_and_no_more(self):
        watchers = [self.watch(ip=f"127.0.0.{i + 1}") for i in range(WATCHERS_MAX)]
        with Watcher(self.path, ip="127.0.0.1") as late:
            late.wait("an error", lambda self: self.raw.endswith(b"\n"))
            self.assertIn("too many", late.objects()[0]["error"])
        for i, watcher in enumerate(watchers):
            with self.client(f"127.0.0.{i + 1}") as client:
                client.expect(220)
            watcher.wait_event("disconnect")
            self.assertEqual({row["client"] for row in watcher.objects()}, {f"127.0.0.{i + 1}"})
            watcher.close()
        again = self.watch(ip="127.0.0.3/32")
        with self.client("127.0.0.3") as client, self.client("127.0.0.1") as other:
            client.expect(220)
            other.expect(220)
        again.wait_event("disconnect")
        self.assertEqual({row["client"] for row in again.objects()}, {"127.0.0.3"})

    def test_the_tool(self):
        tool = subprocess.Popen([PROGRAM, "-s", self.path, "trace", "--ip", "127.0.0.0/8", "--limit", "5"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: self.gateway.events("control"), "the tool watches")
        time.sleep(0.2)
        with self.client() as client:
            client.hello()
            client.expect(250, "NOOP hidden")
        out, errors = tool.communicate(timeout=PATIENCE_S)
        self.assertEqual((tool.returncode, errors), (0, ""))
        lines = out.splitlines()
        self.assertRegex(lines[0], r"\A\d\d:\d\d:\d\d\.\d{3}  [a-z2-7]{13}  127\.0\.0\.1 +- connect port=\d+\Z")
        self.assertRegex(lines[1], r" < 220 mx\.example\.org ESMTP ringmx\Z")
        self.assertRegex(lines[2], r" > EHLO client\.example\Z")
        self.assertRegex(lines[3], r" < 250-mx\.example\.org\Z")
        self.assertRegex(lines[-2], r" < 250 HELP\Z")
        self.assertRegex(lines[-1], r" > NOOP \(11 octets, not shown\)\Z")
        for words in (["trace"], ["trace", "--ip", "x"], ["trace", "more", "--ip", "::1"]):
            done = subprocess.run([PROGRAM, "-s", self.path, *words], capture_output=True, text=True, check=False,
                                  timeout=PATIENCE_S)
            self.assertIn(done.returncode, (64, 76), words)
            self.assertNotEqual(done.stderr, "")

    def test_the_tool_in_json(self):
        with subprocess.Popen([PROGRAM, "-s", self.path, "trace", "--rcpt", "@example.org", "--json"],
                              stdout=subprocess.PIPE, text=True) as tool:
            wait_until(lambda: self.gateway.events("control"), "the tool watches")
            time.sleep(0.2)
            with self.client() as client:
                client.hello()
                client.envelope("a@client.example", "alice@example.org")
                first = json.loads(tool.stdout.readline())
                self.assertEqual(first["event"], "joined")
                self.assertEqual(json.loads(tool.stdout.readline())["text"], "RCPT TO:<alice@example.org>")
            tool.kill()

    def test_the_gateway_stops_while_they_watch(self):
        watcher = self.watch(ip="127.0.0.1")
        self.gateway.stop()
        wait_until(watcher.done.is_set, "it is hung up on")
        self.assertIn("end", watcher.objects()[-1])
        self.gateway.start()


class Load(Trace):
    def setUp(self):
        self.gateway = Gateway(settings=self.settings, domains={"example.org": (["*"], "discard:")})
        self.addCleanup(self.gateway.close)
        self.path = os.path.join(self.gateway.directory, "control")
        self.gateway.settings["admin.control"] = quote(self.path)
        self.gateway.start()

    def load(self):
        """Messages, all of which are answered 250."""
        return loader.start(self.gateway.address, "--connections", "20", "--messages",
                            str(loader.sized(20000, 1500)))

    def test_watchers_come_and_go(self):
        running = self.load()
        rounds = 0
        seen = 0
        while running.poll() is None or rounds < 5:
            watchers = [Watcher(self.path, ip="127.0.0.0/8"), Watcher(self.path, rcpt="@example.org")]
            time.sleep(0.05 * (rounds % 4))
            for watcher in watchers:
                seen += len(watcher.objects())
                watcher.close()
            rounds += 1
        loader.finish(running)
        self.assertGreater(seen, 0)

    def test_a_watcher_that_does_not_read(self):
        """It loses lines, hears how many, and holds up nobody."""
        slow = Watcher(self.path, reads=False, ip="127.0.0.0/8")
        self.addCleanup(slow.close)
        quick = Watcher(self.path, ip="127.0.0.77")
        self.addCleanup(quick.close)
        time.sleep(0.3)
        loader.finish(self.load())
        with self.client("127.0.0.77") as client:
            client.expect(220)
        quick.wait_event("disconnect")
        self.assertTrue(self.gateway.alive())
        slow.thread.start()
        slow.wait("what it has lost", lambda self: self.events("lost"))
        self.assertGreater(slow.events("lost")[0]["count"], 0)

    def client(self, source="127.0.0.1", name=None, **options):
        return Client(self.gateway.address, source=source, **options)


if __name__ == "__main__":
    unittest.main()
