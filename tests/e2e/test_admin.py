"""admin.http and admin.agent: what each address answers and in which state, that clients of HTTP that are broken, slow
or many harm neither the answers to others nor mail, and that nothing else can be read or changed."""
import http.client
import json
import re
import signal
import socket
import threading
import time
import unittest

from harness import SLOW, Gateway, quote, wait_until

ADMIN = {"admin.http": quote("127.0.0.1:0"), "admin.agent": quote("127.0.0.1:0")}
CONNECTIONS_MAX = 64  # gateway/admin/http_clients.h


def admin_addresses(gateway):
    """{"http": (host, port), "agent": (host, port)} of a gateway that runs."""
    found = {}
    for line in gateway.events("admin_listen"):
        host, port = line["address"].rsplit(":", 1)
        found[line["for"]] = (host.strip("[]"), int(port))
    return found


def fetch(address, path="/", method="GET", timeout_s=20):
    """(status, headers in lower case, body)"""
    connection = http.client.HTTPConnection(*address, timeout=timeout_s)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def agent_word(address):
    with socket.create_connection(address, timeout=20) as stream:
        said = b""
        while True:
            octets = stream.recv(100)
            if not octets:
                return said.decode()
            said += octets


def status(address, since=None):
    return json.loads(fetch(address, "/status.json" + ("" if since is None else f"?since={since}"))[2])


class Endpoints(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway(settings=ADMIN).start()
        cls.addClassCleanup(cls.gateway.close)
        cls.http = admin_addresses(cls.gateway)["http"]
        cls.agent = admin_addresses(cls.gateway)["agent"]

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def test_health(self):
        code, headers, body = fetch(self.http, "/healthz")
        self.assertEqual((code, body), (200, b"ok"))
        code, headers, body = fetch(self.http, "/readyz")
        self.assertEqual((code, body), (200, b"ready"))
        self.assertEqual(headers["content-type"], "text/plain; charset=utf-8")
        self.assertEqual(agent_word(self.agent), "ready up\n")

    def test_metrics(self):
        code, headers, body = fetch(self.http, "/metrics")
        self.assertEqual(code, 200)
        self.assertEqual(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertIn(b"ringmx_", body)

    def test_page(self):
        code, headers, body = fetch(self.http, "/")
        self.assertEqual((code, headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertLess(len(body), 60 * 1024)
        policy = headers["content-security-policy"]
        self.assertTrue(policy.startswith("default-src 'none'; "), policy)
        self.assertNotIn("unsafe", policy)
        self.assertRegex(policy, r"script-src 'sha256-[A-Za-z0-9+/]{43}='")
        # Nothing is loaded from elsewhere; the names of XML are no addresses to ask.
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        self.assertIsNone(re.search(r"https?://|//[a-z]+\.|@import|url\(", text))

    def test_headers_of_all(self):
        for path in ("/", "/healthz", "/readyz", "/metrics", "/status.json", "/nothing"):
            _, headers, _ = fetch(self.http, path)
            with self.subTest(path=path):
                self.assertEqual(headers["x-content-type-options"], "nosniff")
                self.assertEqual(headers["cache-control"], "no-store")
                self.assertEqual(headers["referrer-policy"], "no-referrer")
                self.assertIn("default-src 'none'", headers["content-security-policy"])
                self.assertIn("frame-ancestors 'none'", headers["content-security-policy"])

    def test_head_has_no_body(self):
        code, headers, body = fetch(self.http, "/", "HEAD")
        self.assertEqual((code, body), (200, b""))
        self.assertEqual(int(headers["content-length"]), len(fetch(self.http, "/")[2]))

    def test_other_methods(self):
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "NONSENSE"):
            with self.subTest(method=method), socket.create_connection(self.http, timeout=20) as stream:
                stream.sendall(f"{method} /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".encode())
                said = stream.recv(4096)
                self.assertTrue(said.startswith(b"HTTP/1.1 405 "), said)
                self.assertIn(b"Allow: GET, HEAD", said)

    def test_other_places(self):
        for path in ("/nothing", "/status", "/..", "/../../etc/passwd", "/%2e%2e/etc/passwd", "//", "/healthz/",
                     "/gateway/admin/page.html", "/%00", "/healthz%00.html", "/" + "a" * 3000):
            with self.subTest(path=path[:40]):
                self.assertEqual(fetch(self.http, path)[0], 404)

    def test_one_connection_many_requests(self):
        connection = http.client.HTTPConnection(*self.http, timeout=20)
        for _ in range(20):
            connection.request("GET", "/readyz")
            reply = connection.getresponse()
            self.assertEqual((reply.status, reply.read()), (200, b"ready"))
            self.assertFalse(reply.will_close)
        connection.close()

    def test_status(self):
        """The figures are those of the mail that was sent."""
        before = wait_until(lambda: (lambda s: s if s.get("history", {}).get("next", 0) > 0 else None)(status(self.http)),
                            "a first row")
        with self.gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(550, "RCPT TO:<a@elsewhere.example>")
            client.expect(250, "RCPT TO:<a@example.org>")
            client.expect(354, "DATA")
            client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
            self.assertEqual(client.reply().code, 250)
            now = wait_until(
                lambda: (lambda s: s if s["totals"]["messages"] > before["totals"]["messages"] else None)(status(self.http)),
                "the message in the totals")
            self.assertEqual(now["connections"], 1)
        self.assertEqual(now["totals"]["messages"] - before["totals"]["messages"], 1)
        self.assertEqual(now["totals"]["recipients"] - before["totals"]["recipients"], 1)
        self.assertEqual(now["totals"]["refusals"] - before["totals"]["refusals"], 1)
        self.assertIn("550 5.7.1 Relaying denied", [row["reply"] for row in now["refusals"]])
        self.assertTrue(now["health"]["ready"])
        names = {thread["name"] for thread in now["threads"]}
        self.assertLessEqual({"worker 0", "worker 1", "writer", "courier", "http", "main"}, names)
        columns = now["history"]["columns"]
        at = columns.index("messages")
        self.assertEqual(sum(row[at] for row in now["history"]["rows"]), now["totals"]["messages"])
        for row, loads in zip(now["history"]["rows"], now["history"]["loads"]):
            self.assertEqual(len(row), len(columns))
            self.assertEqual(len(loads), len(now["threads"]))
        # Only what is new, if that is asked for; all again, when it makes no sense.
        some = status(self.http, now["history"]["next"])
        self.assertLess(len(some["history"]["rows"]), 4)
        self.assertEqual(some["history"]["first"], now["history"]["next"])
        for nonsense in (10 ** 9, "x", "-1", ""):
            self.assertEqual(status(self.http, nonsense)["history"]["first"], 0, nonsense)
        # The queue is empty, and the census has seen it.
        self.assertEqual(now["queue"]["messages"], 0)

    def test_rows_are_a_second_apart(self):
        first = status(self.http)["history"]["next"]
        time.sleep(4)
        rows = status(self.http, first)["history"]["rows"]
        self.assertIn(len(rows), (3, 4, 5) if not SLOW else range(1, 6))
        times = [row[0] for row in rows]
        self.assertEqual(len(set(times)), len(times))
        self.assertEqual(times, sorted(times))


class Hostile(unittest.TestCase):
    def setUp(self):
        self.gateway = Gateway(settings=ADMIN).start()
        self.addCleanup(self.gateway.close)
        self.http = admin_addresses(self.gateway)["http"]
        self.agent = admin_addresses(self.gateway)["agent"]
        self.streams = []

    def tearDown(self):
        for stream in self.streams:
            stream.close()

    def call(self, octets=b"", address=None):
        stream = socket.create_connection(address or self.http, timeout=20)
        self.streams.append(stream)
        if octets:
            try:
                stream.sendall(octets)
            except OSError:
                pass  # it has hung up: that is its right
        return stream

    def mail_works(self):
        with self.gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(250, "RCPT TO:<a@example.org>")
            client.expect(354, "DATA")
            client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
            self.assertEqual(client.reply().code, 250)

    def all_is_well(self):
        self.mail_works()
        self.assertTrue(self.gateway.alive())
        wait_until(self.answers, "/healthz answers", 30)

    def answers(self):
        try:
            return fetch(self.http, "/healthz", timeout_s=5)[0] == 200
        except OSError:
            return False

    def test_garbage(self):
        for octets in (b"\0" * 1000, b"\r\n\r\n\r\n", b"EHLO client\r\nMAIL FROM:<>\r\n", bytes(range(256)) * 40,
                       b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET  /  HTTP/1.1\r\n\r\n", b"GET /\n\n",
                       b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                       b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                       b"GET /status.json?" + b"a=b&" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
                       b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500):
            stream = self.call(octets)
            stream.settimeout(0.2)
            try:
                stream.recv(100)
            except OSError:
                pass
            self.call(octets, self.agent)
        self.all_is_well()
        self.gateway.stop()

    def test_huge_headers(self):
        for head in (b"GET /" + b"a" * 10 ** 6 + b" HTTP/1.1\r\n\r\n",
                     b"GET / HTTP/1.1\r\nX: " + b"a" * 10 ** 6 + b"\r\n\r\n",
                     b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10 ** 5 + b"\r\n"):
            stream = self.call(head)
            said = b""
            try:
                said = stream.recv(1000)
            except OSError:
                pass
            self.assertFalse(said.startswith(b"HTTP/1.1 200"), said)
        self.all_is_well()
        self.gateway.stop()

    def test_body_that_never_ends(self):
        stream = self.call(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            for _ in range(200):
                stream.sendall(b"x" * 65536)
        except OSError:
            pass
        self.all_is_well()
        self.gateway.stop()

    def attack(self, hold_s, octets):
        """Connections that never ask to the end come all the time, each for so long."""
        stop = threading.Event()

        def run():
            held = []
            while not stop.is_set():
                try:
                    stream = socket.create_connection(self.http, timeout=1)
                    held.append((time.monotonic() + hold_s, stream))
                    stream.sendall(octets)
                except OSError:
                    pass
                while held and held[0][0] <= time.monotonic():
                    held.pop(0)[1].close()
                time.sleep(0.003)
            for _, stream in held:
                stream.close()

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()

        def end():
            stop.set()
            for thread in threads:
                thread.join()
        self.addCleanup(end)
        return end

    def test_slow_and_many(self):
        """Whatever others do not ask to the end: health checks are answered meanwhile, and mail does not notice."""
        for hold_s, octets in ((0, b""), (0, b"GET /me"), (60, b"GET / HTTP/1.1\r\nX")):
            with self.subTest(hold_s=hold_s, octets=octets):
                end = self.attack(hold_s, octets)
                time.sleep(1.5)
                for path in ("/healthz", "/readyz") * 4:
                    begin = time.monotonic()
                    self.assertEqual(fetch(self.http, path, timeout_s=20)[0], 200)
                    self.assertLess(time.monotonic() - begin, 10 if SLOW else 5)
                    time.sleep(0.05)
                self.mail_works()
                end()
        for _ in range(100):
            self.call(address=self.agent)
        self.assertEqual(agent_word(self.agent), "ready up\n")
        self.gateway.stop()

    def test_all_at_once(self):
        """Many that came before and stay are no reason to wait."""
        for _ in range(CONNECTIONS_MAX + 200):
            self.call(b"GET / HTTP/1.1\r\nX")
        begin = time.monotonic()
        self.assertEqual(fetch(self.http, "/healthz")[0], 200)
        self.assertLess(time.monotonic() - begin, 10 if SLOW else 5)
        self.gateway.stop()

    def test_half_closed(self):
        """Who has asked and closes its side gets its answer."""
        for path in (b"/healthz", b"/metrics", b"/"):
            stream = self.call(b"GET " + path + b" HTTP/1.0\r\n\r\n")
            stream.shutdown(socket.SHUT_WR)
            said = b""
            while octets := stream.recv(65536):
                said += octets
            head, _, body = said.partition(b"\r\n\r\n")
            self.assertIn(b" 200 ", head)
            self.assertIn(b"content-length: %d\r\n" % len(body), head.lower() + b"\r\n")
        self.gateway.stop()

    def test_stop_answers_those_who_ask(self):
        """A client that is connected when the gateway ends is answered, not reset."""
        answered = 0
        stop = threading.Event()
        failed = []

        def ask():
            nonlocal answered
            while not stop.is_set():
                try:
                    stream = socket.create_connection(self.http, timeout=20)
                except OSError:
                    return
                try:
                    stream.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                    if stream.recv(100).startswith(b"HTTP/1.1 "):
                        answered += 1
                    else:
                        failed.append("nothing")
                except OSError as error:
                    failed.append(repr(error))
                finally:
                    stream.close()

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: answered > 20, "answers")
        self.gateway.stop()
        stop.set()
        thread.join()
        self.assertLessEqual(len(failed), 1, failed)  # one that the kernel had taken, and nobody else

    def test_reader_that_does_not_read(self):
        streams = [self.call(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 100) for _ in range(20)]
        self.all_is_well()
        self.assertEqual(len(streams), 20)
        self.gateway.stop()


class States(unittest.TestCase):
    def test_only_one_of_them(self):
        for word, other in (("http", "agent"), ("agent", "http")):
            with Gateway(settings={f"admin.{word}": quote("[::1]:0")}) as gateway:
                found = admin_addresses(gateway)
                self.assertIn(word, found)
                self.assertNotIn(other, found)
                if word == "http":
                    self.assertEqual(fetch(found["http"], "/readyz")[0], 200)
                else:
                    self.assertEqual(agent_word(found["agent"]), "ready up\n")

    def test_neither(self):
        with Gateway() as gateway:
            self.assertEqual(admin_addresses(gateway), {})

    def test_address_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            for word in ("http", "agent"):
                gateway = Gateway(settings={f"admin.{word}": quote("127.0.0.1:%d" % taken.getsockname()[1])})
                self.addCleanup(gateway.close)
                gateway.write_configuration()
                gateway.launch()
                self.assertNotEqual(gateway.process.wait(30), 0)
                self.assertRegex(gateway.log_text(), "event=start_failed .*127.0.0.1:[0-9]+: Address already in use")

    def test_drain(self):
        """While a session is finished: alive, not ready, and the page still has its figures."""
        gateway = Gateway(settings={**ADMIN, "drain.timeout": quote("20s")}).start()
        self.addCleanup(gateway.close)
        found = admin_addresses(gateway)
        with gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(250, "RCPT TO:<a@example.org>")
            client.expect(354, "DATA")
            gateway.signal(15)
            wait_until(lambda: fetch(found["http"], "/readyz")[2] == b"draining", "draining")
            self.assertEqual(fetch(found["http"], "/readyz")[0], 503)
            self.assertEqual(fetch(found["http"], "/healthz")[0], 200)
            self.assertEqual(agent_word(found["agent"]), "down #draining\n")
            shown = status(found["http"])
            self.assertEqual((shown["health"]["word"], shown["connections"]), ("draining", 1))
            self.assertEqual(fetch(found["http"], "/metrics")[0], 200)
            client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
            self.assertEqual(client.reply().code, 250)
        gateway.stop()
        with self.assertRaises(OSError):
            fetch(found["http"], "/healthz")

    def test_limits_after_a_reload(self):
        """What is shown is what holds: lower, and again, and what memory may be needed."""
        def shown():
            text = fetch(found["http"], "/metrics")[2].decode()
            return [int(re.search(rf"^{name} (\d+)$", text, re.M)[1])
                    for name in ("ringmx_sessions_limit", "ringmx_memory_limit_bytes")]
        with Gateway(settings={**ADMIN, "limits.connections": "300", "queue.messages": "1000"}) as gateway:
            found = admin_addresses(gateway)
            wait_until(lambda: fetch(found["http"], "/metrics")[0] == 200, "metrics")
            connections, memory = shown()
            self.assertEqual(connections, 300)
            for limit, messages, more in ((100, 1000000, True), (200, 1000000, False)):
                gateway.settings.update({"limits.connections": str(limit), "queue.messages": str(messages)})
                gateway.write_configuration()
                gateway.signal(signal.SIGHUP)
                wait_until(lambda: shown()[0] == limit, "the new limit")
                self.assertEqual(status(found["http"])["connections_max"], limit)
                self.assertEqual(shown()[1] > memory, more)
                memory = shown()[1]
                wait_until(lambda: gateway.events("memory_contract")[-1]["octets"] == str(memory), "the new contract")

    def test_strangers_push_out_no_errors(self):
        """Clients that are turned away are no news: what is wrong with the gateway stays on the page."""
        with Gateway(settings={**ADMIN, "log.repeats": "100", "limits.connections_per_ip": "1"}) as gateway:
            found = admin_addresses(gateway)
            gateway.write_configuration(gateway.configuration() + "nonsense = 1\n")
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reload_failed"), "an error")
            with gateway.client() as first:
                first.expect(220)
                for _ in range(70):
                    with gateway.client() as other:
                        other.expect(421)
            wait_until(lambda: len(gateway.events("refused")) >= 60, "they are in the log")
            problems = status(found["http"])["problems"]
            self.assertTrue([line for line in problems if "event=reload_failed" in line], problems)
            self.assertFalse([line for line in problems if "event=refused" in line], problems)

    def test_problems(self):
        """Warnings and errors of the log are shown; what strangers write is nothing but text."""
        with Gateway(settings=ADMIN, files_max=4096) as gateway:
            found = admin_addresses(gateway)
            lines = [line for line in gateway.log_text().splitlines() if " level=warn " in line or " level=error " in line]
            self.assertTrue(lines, "too few descriptors: there is a warning")
            shown = wait_until(lambda: status(found["http"])["problems"], "a warning")
            self.assertIn(shown[0][:300], [line[:300] for line in lines])


if __name__ == "__main__":
    unittest.main()
