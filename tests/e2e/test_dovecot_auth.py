"""Who may log in: a real Dovecot says so (docs/submission.md). All mechanisms that it announces, what it refuses, its
slowness, its absence, and its return in the midst of traffic."""
import concurrent.futures
import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import unittest
import urllib.parse

import peers
import sasl
from harness import SLOW, WORKERS, Client, Gateway, message, wait_until
from prometheus import scrape
from residue import found_in, shapes

TIMEOUT_MS = 3000
LISTENER = {"submission": {"address": '"127.0.0.1:0"', "role": "submission", "auth": "plaintext"}}
USERS = {
    "anna@example.org": ("SCRAM-SHA-256", "geheim"),
    "bert@example.org": ("SHA512-CRYPT", "pass word\u00e4"),
    "carl@example.org": ("BLF-CRYPT", "c", "nodelay"),
    "dora@example.org": ("ARGON2ID", "d"),
    "local@example.org": ("PLAIN", "l", "allow_nets=127.0.0.2/32"),
}


@contextlib.contextmanager
def introspection(tokens):
    """Tells whose a token is: {token: user}. Yields (URL, what was asked)."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            token = urllib.parse.parse_qs(text).get("token", [""])[0]
            asked.append(token)
            user = tokens.get(token)
            answer = json.dumps({"active": True, "user": user} if user else {"active": False}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield "http://127.0.0.1:{}/introspect".format(server.server_address[1]), asked
        finally:
            server.shutdown()
            thread.join()


class DovecotAuth(unittest.TestCase):
    def setUp(self):
        self.clients = []

    def leave(self):
        for client in self.clients:
            client.close()
        self.clients = []

    @contextlib.contextmanager
    def gateway(self, dovecot, unix=True, listeners=None, **settings):
        settings = {"auth.timeout_ms": str(TIMEOUT_MS), "auth.delay_ms": "0", "auth.failures_per_ip": "0",
                    "auth.failures_per_network": "0", "auth.failures_per_user": "0", **dovecot.words(unix), **settings}
        with Gateway(settings, listeners=listeners or LISTENER) as gateway:
            try:
                self.connected(gateway)
                yield gateway
            finally:
                self.leave()

    def connected(self, gateway, times=1):
        wait_until(lambda: self.states(gateway).count("connected") >= times * int(gateway.settings["workers"]),
                   f"connected: {self.states(gateway)}")

    @staticmethod
    def states(gateway):
        return [line["state"] for line in gateway.events("dovecot")]

    def client(self, gateway, source=None):
        client = Client(gateway.address, source=source)
        self.clients.append(client)
        client.greeting = client.hello()
        return client

    def offered(self, client):
        for text in client.greeting.texts:
            if text.startswith("AUTH "):
                return set(text.split(" ")[1:])
        return set()

    def test_mechanisms(self):
        with peers.DovecotAuth(USERS) as dovecot:
            with self.gateway(dovecot, unix=False) as gateway:
                sasl.scram(self.client(gateway), "anna@example.org", "geheim")
            with self.gateway(dovecot) as gateway:
                client = self.client(gateway)
                self.assertEqual(self.offered(client), {"PLAIN", "LOGIN", "SCRAM-SHA-256"})
                sasl.log_in(client, "PLAIN", sasl.plain("anna@example.org", "geheim"))
                self.assertEqual(client.transfer(message(sender="anna@example.org"), "anna@example.org").code, 250)
                refused = []
                for user, (_, password, *_) in list(USERS.items())[:4]:
                    sasl.log_in(self.client(gateway), "PLAIN", sasl.plain(user, password))
                    sasl.log_in(self.client(gateway), "LOGIN", user.encode(), password.encode())
                    wrong = self.client(gateway)
                    wrong.send(f"AUTH PLAIN {sasl.encode(sasl.plain(user, password + 'x'))}\r\n".encode())
                    refused.append(wrong)
                for wrong in refused:
                    self.assertEqual(wrong.expect(535).enhanced, "5.7.8")
                sasl.scram(self.client(gateway), "anna@example.org", "geheim")
                refused = sasl.scram(self.client(gateway), "anna@example.org", "falsch", codes=535)
                self.assertEqual(refused.enhanced, "5.7.8")
                sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("nobody@example.org", "x"), codes=535)
                # To act for another is Dovecot's to allow, and it does not.
                sasl.log_in(self.client(gateway), "PLAIN",
                            sasl.plain("anna@example.org", "geheim", "bert@example.org"), codes=535)
                client = self.client(gateway)
                client.expect(504, "AUTH CRAM-MD5")
                client.expect(504, "AUTH OAUTHBEARER")
                log = gateway.log_text()
                self.assertNotIn("geheim", log)
                self.assertNotIn(sasl.encode(sasl.plain("anna@example.org", "geheim")), log)

    def test_name_of_dovecot(self):
        """The name that Dovecot gives is the user's, not the one that was said: and it is his each time."""
        with peers.DovecotAuth(USERS) as dovecot, self.gateway(dovecot) as gateway:
            for _ in range(3):
                client = self.client(gateway)
                sasl.log_in(client, "PLAIN", sasl.plain("ANNA@example.ORG", "geheim"))
                self.assertEqual(client.transfer(message(sender="anna@example.org"), "anna@example.org").code, 250)
            wait_until(lambda: len(gateway.events("login")) == 3, "logged")
            self.assertEqual({line["user"] for line in gateway.events("login")}, {"anna@example.org"})

    def test_from_where(self):
        """Dovecot hears where a client is, and a password that was right there is not believed from elsewhere."""
        with peers.DovecotAuth(USERS) as dovecot, self.gateway(dovecot) as gateway:
            for source, code in (("127.0.0.3", 535), ("127.0.0.2", 235), ("127.0.0.2", 235), ("127.0.0.3", 535)):
                sasl.log_in(self.client(gateway, source), "PLAIN", sasl.plain("local@example.org", "l"), codes=code)

    def test_cached(self):
        """Who has just logged in is not asked for again, also when Dovecot is away."""
        with peers.DovecotAuth(USERS) as dovecot, self.gateway(dovecot) as gateway:
            sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("anna@example.org", "geheim"))
            dovecot.kill()
            wait_until(lambda: self.states(gateway).count("away") == WORKERS, "Dovecot is away")
            client = self.client(gateway)
            self.assertEqual(self.offered(client), {"PLAIN", "LOGIN", "SCRAM-SHA-256"})  # as it was
            sasl.log_in(client, "PLAIN", sasl.plain("anna@example.org", "geheim"))
            refused = sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("bert@example.org", "x"), codes=454)
            self.assertEqual(refused.enhanced, "4.7.0")

    def test_tokens(self):
        tokens = {"t0ken": "anna@example.org", "l" * 3000: "bert@example.org"}
        with introspection(tokens) as (url, asked), peers.DovecotAuth(
                USERS, mechanisms="plain oauthbearer xoauth2", introspection=url) as dovecot, self.gateway(
                    dovecot) as gateway:
            client = self.client(gateway)
            self.assertEqual(self.offered(client), {"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"})
            for mechanism, first in (("OAUTHBEARER", sasl.bearer), ("XOAUTH2", sasl.xoauth2)):
                for token, user in tokens.items():
                    client = self.client(gateway)
                    sasl.log_in(client, mechanism, first(user, token))
                    self.assertEqual(client.transfer(message(sender=user), user).code, 250)
                seen = []

                def go_on(challenge):
                    seen.append(json.loads(challenge))
                    return b"\1"
                refused = sasl.log_in(self.client(gateway), mechanism, first("anna@example.org", "wr0ng"), go_on, codes=535)
                self.assertEqual(refused.enhanced, "5.7.8")
                self.assertEqual(len(seen), 1)
                self.assertIn("status", seen[0])
                # A token of somebody else.
                sasl.log_in(self.client(gateway), mechanism, first("bert@example.org", "t0ken"), go_on, codes=535)
            self.assertIn("t0ken", asked)
            self.assertNotIn("t0ken", gateway.log_text())
            self.assertNotIn("llllllll", gateway.log_text())

    def test_nothing_stays(self):
        """No password or token stays in memory, or gets into the log; Dovecot repeats tokens in its answers."""
        password, token = "Regenrinne-4711", "Dachpappe0815xyz"
        with introspection({token: "anna@example.org"}) as (url, _), peers.DovecotAuth(
                {"anna@example.org": ("PLAIN", password)}, mechanisms="plain oauthbearer scram-sha-256",
                introspection=url) as dovecot, self.gateway(dovecot) as gateway:
            for code, said in ((235, password), (535, "x" + password), (235, password)):
                sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("anna@example.org", said), codes=code)
            sasl.log_in(self.client(gateway), "LOGIN", b"anna@example.org", password.encode())
            sasl.log_in(self.client(gateway), "OAUTHBEARER", sasl.bearer("anna@example.org", token))
            for _ in range(6):  # where SCRAM wants a proof
                client = self.client(gateway)
                first = sasl.Scram("anna@example.org", password).first()
                client.expect(334, "AUTH SCRAM-SHA-256 " + sasl.encode(first))
                client.command(sasl.encode(password.encode() * 400))
            self.leave()
            wait_until(lambda: len(gateway.events("disconnect")) == 11, "all have left")
            forms = [form for secret in (password, token) for form in shapes(secret)]
            self.assertEqual(found_in(gateway.process.pid, [b"anna@example.org"]), {b"anna@example.org"})  # it does look
            self.assertEqual(found_in(gateway.process.pid, forms), set())
            self.assertEqual([form for form in forms if form in gateway.log_text().encode()], [])

    def test_half_a_login(self):
        """Clients that leave, or stop, in the midst: Dovecot forgets them, and others go on."""
        with peers.DovecotAuth(USERS) as dovecot, self.gateway(dovecot) as gateway:
            for how in range(60):
                client = self.client(gateway)
                exchange = sasl.Scram("anna@example.org", "geheim")
                self.assertEqual(client.command("AUTH SCRAM-SHA-256 " + sasl.encode(exchange.first())).code, 334)
                if how % 3 == 0:
                    client.expect(501, "*")
                elif how % 3 == 1:
                    client.close()
                else:
                    client.send(b"Yz1i")
            sasl.scram(self.client(gateway), "anna@example.org", "geheim")

    def test_failures_wait(self):
        """Dovecot holds refusals back; that holds nobody else back, and is no silence."""
        with peers.DovecotAuth(USERS, failure_delay_s=4) as dovecot, self.gateway(
                dovecot, **{"auth.timeout_ms": "20000"}) as gateway:
            wrong = [self.client(gateway) for _ in range(40)]
            start = time.monotonic()
            for client in wrong:
                client.send(f"AUTH PLAIN {sasl.encode(sasl.plain('anna@example.org', 'x'))}\r\n".encode())
            sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("bert@example.org", USERS["bert@example.org"][1]))
            if not SLOW:
                self.assertLess(time.monotonic() - start, 3.5)
            for client in wrong:
                client.expect(535)
            self.assertEqual(self.states(gateway).count("away"), 0)

    def test_silence(self):
        """A Dovecot that is stopped costs a client the time-out, once; then 454 at once, and it comes back."""
        with peers.DovecotAuth(USERS) as dovecot, self.gateway(dovecot, workers="1") as gateway:
            dovecot.signal(signal.SIGSTOP)
            try:
                start = time.monotonic()
                reply = sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("anna@example.org", "geheim"), codes=454)
                self.assertEqual(reply.enhanced, "4.7.0")
                self.assertGreater(time.monotonic() - start, TIMEOUT_MS / 1000 - 0.1)
                wait_until(lambda: "away" in self.states(gateway), "it is known")
                self.assertEqual(gateway.events("dovecot")[-1]["reason"], "no answer in time")
                start = time.monotonic()
                sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("anna@example.org", "geheim"), codes=454)
                self.assertLess(time.monotonic() - start, TIMEOUT_MS / 1000 - 0.1)
            finally:
                dovecot.signal(signal.SIGCONT)
            wait_until(lambda: self.states(gateway).count("connected") == 2, "it is back")
            sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("anna@example.org", "geheim"))

    def test_restarts_in_traffic(self):
        """Dovecot is restarted and killed while clients log in: each is told 235, 535 as its password says, or 454."""
        count, stop, wrong = [0, 0, 0], threading.Event(), []

        def traffic(gateway, number):
            while not stop.is_set():
                right = count[0] % 2 == number % 2
                with Client(gateway.address) as client:
                    client.hello()
                    text = sasl.plain("carl@example.org", "c" if right else "d")
                    code = client.command("AUTH PLAIN " + sasl.encode(text)).code
                if code not in (454, 235 if right else 535):
                    wrong.append((right, code))
                count[0 if code == 235 else 1 if code == 535 else 2] += 1

        with peers.DovecotAuth(USERS) as dovecot, self.gateway(dovecot, **{"auth.cache": '"0s"'}) as gateway, \
                concurrent.futures.ThreadPoolExecutor(4) as pool:
            threads = [pool.submit(traffic, gateway, number) for number in range(4)]
            try:
                for kill in (True, False):
                    passed, refused = count[:2]
                    wait_until(lambda: count[0] > passed + 3 and count[1] > refused + 3, f"traffic: {count}")
                    if kill:
                        dovecot.kill()
                    else:  # what it leaves behind for us is left within seconds
                        dovecot.stop()
                    away = count[2]
                    wait_until(lambda: count[2] > away + 3, f"454: {count}")
                    dovecot.start()
                passed = count[0]
                wait_until(lambda: count[0] > passed + 3, f"after the last: {count}")
            finally:
                stop.set()
            for thread in threads:
                thread.result()
            self.assertEqual(wrong, [])

    def test_not_there_at_start(self):
        """A gateway starts without Dovecot, answers 454, and finds it by itself."""
        with peers.DovecotAuth(USERS) as dovecot:
            dovecot.kill()
            if os.path.exists(dovecot.path):
                os.unlink(dovecot.path)
            with Gateway({"auth.timeout_ms": str(TIMEOUT_MS), **dovecot.words()}, listeners=LISTENER) as gateway:
                try:
                    wait_until(lambda: self.states(gateway).count("away") == WORKERS, "it is not there")
                    self.assertIn("No such file", gateway.events("dovecot")[0]["reason"])
                    client = self.client(gateway)
                    self.assertEqual(self.offered(client), {"PLAIN", "LOGIN"})
                    sasl.log_in(client, "PLAIN", sasl.plain("anna@example.org", "geheim"), codes=454)
                    dovecot.start()
                    self.connected(gateway)
                    sasl.log_in(client, "PLAIN", sasl.plain("anna@example.org", "geheim"))
                finally:
                    self.leave()

    def test_sandbox(self):
        """Confined, and as nobody, it still gets to the socket, and finds it again when it is another one."""
        with peers.DovecotAuth(USERS) as dovecot:
            gateway = Gateway({"sandbox.user": "nobody", "auth.cache": '"0s"', **dovecot.words()}, listeners=LISTENER)
            os.makedirs(gateway.mail)
            os.chmod(gateway.directory, 0o755)
            shutil.chown(gateway.mail, "nobody")
            with gateway:
                try:
                    for times in (1, 2):
                        self.connected(gateway, times)
                        sasl.scram(self.client(gateway), "anna@example.org", "geheim")
                        if times == 1:
                            dovecot.kill()
                            wait_until(lambda: self.states(gateway).count("away") == WORKERS, "Dovecot is away")
                            dovecot.start()
                finally:
                    self.leave()

    def test_reload_and_metrics(self):
        with peers.DovecotAuth(USERS) as dovecot, self.gateway(dovecot, **{"admin.http": '"127.0.0.1:0"'}) as gateway:
            def value(name, **labels):
                return scrape(gateway).value(name, **labels)
            for _ in range(2):
                sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("anna@example.org", "geheim"))
            sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("anna@example.org", "x"), codes=535)
            wait_until(lambda: value("ringmx_dovecot_results_total", result="refused") == 1, "refused")
            self.assertEqual(value("ringmx_dovecot_connections"), WORKERS)
            self.assertEqual(value("ringmx_dovecot_connections_wanted"), WORKERS)
            self.assertEqual(value("ringmx_dovecot_logins_total"), 2)
            self.assertEqual(value("ringmx_dovecot_results_total", result="passed"), 1)
            self.assertEqual(value("ringmx_login_cache_hits_total"), 1)
            half = self.client(gateway)
            self.assertEqual(half.command("AUTH PLAIN").code, 334)
            gateway.settings["auth.dovecot"] = '"unix:/nonexistent"'
            gateway.write_configuration()
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reload_needs_restart"), "a restart is asked for")
            self.assertIn("auth.dovecot", str(gateway.events("reload_needs_restart")))
            half.expect(235, sasl.encode(sasl.plain("bert@example.org", USERS["bert@example.org"][1])))
            sasl.log_in(self.client(gateway), "PLAIN", sasl.plain("dora@example.org", "d"))

    @unittest.skipUnless(shutil.which("msmtp"), "msmtp is not installed")
    def test_msmtp(self):
        with peers.DovecotAuth(USERS) as dovecot, self.gateway(dovecot) as gateway:
            for mechanism in ("plain", "login", "scram-sha-256"):
                for password, passes in (("geheim", True), ("falsch", False)):
                    done = subprocess.run(
                        ["msmtp", "--file=/dev/null", f"--host={gateway.address[0]}", f"--port={gateway.address[1]}",
                         "--tls=off", f"--auth={mechanism}", "--user=anna@example.org",
                         f"--passwordeval=echo {password}", "--from=anna@example.org", "alice@example.org"],
                        input=message(sender="anna@example.org"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                        timeout=30, check=False)
                    self.assertEqual(done.returncode == 0, passes, (mechanism, password, done.stdout))
            gateway.wait_messages("alice", 3)


if __name__ == "__main__":
    unittest.main()
