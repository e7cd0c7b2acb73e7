"""/metrics as Prometheus reads it: the figures are those of the traffic, every query of the dashboard and every alert rule
stands on metrics that exist, and docs/metrics.md has them all. With a real Prometheus, its promtool, and Redis."""
import json
import os
import re
import subprocess
import threading
import unittest

import harness
import logins
import peers
import pki
from harness import Client, Gateway, quote, wait_until
from prometheus import PROMTOOL, Prometheus, deployed, http_of, scrape
from tls_client import SecureClient

TEXT = b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 100
METRIC = re.compile(r"\b(?:ringmx|process)_[a-z_]+\b")
# Only with Dovecot (test_dovecot has it), and only with jemalloc; sanitizers have an allocator of their own.
ABSENT = {True: re.compile("ringmx_(malloc|dovecot)_"), False: re.compile("ringmx_dovecot_")}[harness.SLOW]


def promtool(*words, **more):
    return subprocess.run([PROMTOOL, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          timeout=6 * harness.PATIENCE_S, text=True, **more)


def documented():
    """docs/metrics.md: {name: (type, labels)}, and the names of alerts."""
    with open(os.path.join(harness.ROOT, "docs", "metrics.md"), encoding="utf-8") as file:
        text = file.read()
    rows = re.findall(r"^\| ((?:ringmx|process)_\w+) \| (\w+) \|([\w, ]*)\|", text, re.M)
    names = {name: (kind, set(labels.replace(",", " ").split())) for name, kind, labels in rows}
    assert len(names) == len(rows), "a name stands there twice"
    return names, re.findall(r"^\| (Ringmx\w+) \| ([\w, ]+) \|", text, re.M)


def dashboard():
    """The queries of the dashboard, as Grafana would send them."""
    with open(deployed("grafana", "ringmx.json"), encoding="utf-8") as file:
        board = json.load(file)
    texts = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    texts += [note["expr"] for note in board["annotations"]["list"]]
    return [text.replace("$__rate_interval", "10s").replace("$instance", ".*") for text in texts]


def base(name, types):
    """The family of a sample's name."""
    stem = re.sub("_(bucket|sum|count)$", "", name)
    return stem if types.get(stem) == "histogram" else name


def send(gateway, count, recipients=("alice@example.org",)):
    with gateway.client() as client:
        client.hello()
        for _ in range(count):
            assert client.transfer(TEXT, recipients=recipients).code == 250
        client.expect(221, "QUIT")


class Traffic(unittest.TestCase):
    """One gateway with all kinds of traffic, and a Prometheus that has scraped it since before."""

    @classmethod
    def setUpClass(cls):
        users = cls.enterClassContext(logins.users_file({logins.ALICE[0]: logins.sha512(logins.ALICE[1])}))
        # A test program may go on below the limit of connections of one address, and nobody listens on port 1.
        cls.gateway = Gateway(
            settings={"admin.http": '"127.0.0.1:0"', "tls.helpers": "1", "log.repeats": "0"},
            certificates={"the one": pki.authority().issue("mx.example.org", key="rsa2048")},
            listeners={"mx": {"tls": "starttls"}, "users": {"role": "submission", "auth": "plaintext"}},
            more=f'auth {{ users = {quote(users)} delay_ms = 0 }}\n',
            domains={"example.org": (["alice", "bob", "carol"], "maildir:{mail}/%d/%u"),
                     "dead.example": (["*"], "smtp:127.0.0.1:1")})
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()
        cls.prometheus = Prometheus(http_of(cls.gateway))
        cls.prometheus.__enter__()
        cls.addClassCleanup(cls.prometheus.__exit__)
        cls.prometheus.wait_number("up", 1)
        cls.drive()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    @classmethod
    def drive(cls):
        """40 messages with 70 recipients on 5 connections; 7 refused recipients; one session inside TLS, one handshake broken
        off; 3 messages to a next hop that is dead; three logins, one of them with a wrong password."""
        for passwords in (("wrong", logins.ALICE[1]), (logins.ALICE[1],)):
            with Client(cls.gateway.at["users"]) as client:
                client.hello()
                for password in passwords:
                    client.command("AUTH PLAIN " + logins.plain(logins.ALICE[0], password))
                client.expect(221, "QUIT")
        threads = [threading.Thread(target=send, args=(cls.gateway, 10), kwargs={
            "recipients": ("alice@example.org", "bob@example.org")}) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        send(cls.gateway, 7)
        send(cls.gateway, 3, ["someone@dead.example"])
        with cls.gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<x@client.example>")
            for number in range(7):
                client.expect(550, f"RCPT TO:<nobody{number}@example.org>")
            client.expect(550, "RCPT TO:<x@elsewhere.example>")
        client = SecureClient(cls.gateway.address)
        client.hello()
        client.expect(221, "QUIT")
        client.close()
        with cls.gateway.client() as client:
            client.hello()
            client.expect(220, "STARTTLS")
            client.send(b"this is no handshake\r\n")
            client.closed()
        cls.gateway.wait_messages("alice", 37)

    def test_promtool_finds_nothing(self):
        checked = promtool("check", "metrics", input=scrape(self.gateway).text)
        self.assertEqual((checked.returncode, checked.stdout), (0, ""))

    def test_promtool_would_find_something(self):
        checked = promtool("check", "metrics", input="# TYPE a_gauge counter\na_gauge 1\n")
        self.assertNotEqual(checked.returncode, 0, checked.stdout)

    def test_figures_are_those_of_the_traffic(self):
        wait = self.prometheus.wait_number
        wait("sum(ringmx_messages_total)", 40)
        wait("sum(ringmx_recipients_total)", 70)
        wait("sum(ringmx_message_bytes_total)", 40 * len(TEXT))
        wait("sum(ringmx_connections_total)", 10)
        wait("sum(ringmx_sessions)", 0)
        wait('ringmx_replies_total{code="550",reason="no_such_user"}', 7)
        wait('sum(ringmx_replies_total{code="550"})', 8)
        wait('sum(ringmx_replies_total{code="354"})', 40)
        wait('ringmx_replies_total{reason="greeting"}', 10)
        wait('ringmx_logins_total{mechanism="PLAIN",result="passed"}', 2)
        wait('ringmx_logins_total{mechanism="PLAIN",result="refused"}', 1)
        wait("sum(ringmx_logins_total)", 3)
        wait("ringmx_login_hashes_total", 2)
        wait("ringmx_login_cache_hits_total", 1)
        for phase, count in (("envelope", 40), ("text", 40), ("commit", 40), ("message", 40), ("session", 10),
                             ("handshake", 1), ("login", 3)):
            wait(f'ringmx_phase_duration_seconds_count{{phase="{phase}"}}', count)
            wait(f'ringmx_phase_duration_seconds_bucket{{phase="{phase}",le="+Inf"}}', count)
        wait("sum(ringmx_tls_handshakes_total)", 1)
        wait("sum(ringmx_tls_ciphers_total)", 1)
        wait("sum(ringmx_tls_failures_total)", 1)
        wait("ringmx_helper_jobs_total > 0", self.prometheus.number("ringmx_helper_jobs_total"))
        wait('ringmx_deliveries_total{outcome="delivered"}', 67)
        wait("ringmx_queue_messages", 3)
        wait('ringmx_queue_destination_recipients{destination="smtp:127.0.0.1:1"}', 3)
        wait('ringmx_queue_destination_dead{destination="smtp:127.0.0.1:1"}', 1)
        wait('ringmx_queue_aged_recipients{age_max="60"} or ringmx_queue_aged_recipients{age_max="600"} > 0', 3)
        wait('ringmx_spool_state{state="open"}', 1)
        wait("ringmx_ready", 1)

    def test_times_are_plausible(self):
        page = scrape(self.gateway)
        commits = page.value("ringmx_phase_duration_seconds_sum", phase="commit")
        self.assertGreater(commits, 0)
        self.assertLess(commits, 40 * harness.PATIENCE_S)
        whole = page.value("ringmx_phase_duration_seconds_sum", phase="message")
        parts = sum(page.value("ringmx_phase_duration_seconds_sum", phase=phase) for phase in ("envelope", "text", "commit"))
        self.assertAlmostEqual(whole, parts, places=5)
        self.assertGreater(page.value("ringmx_spool_sync_duration_seconds_sum"), 0)
        self.assertEqual(page.value("ringmx_spool_sync_duration_seconds_count"), page.value("ringmx_spool_batches_total"))
        started = float(subprocess.check_output(["date", "+%s"])) - page.value("process_start_time_seconds")
        self.assertTrue(0 <= started < 600, started)
        self.assertGreater(page.value("process_cpu_seconds_total"), page.sum("ringmx_worker_cpu_seconds_total") * 0.9)

    def test_certificate(self):
        expires = subprocess.check_output(["openssl", "x509", "-enddate", "-noout", "-in",
                                           pki.authority().issue("mx.example.org", key="rsa2048").chain], text=True)
        wanted = subprocess.check_output(["date", "-d", expires.strip().partition("=")[2], "+%s"])
        self.assertEqual(self.prometheus.number('ringmx_certificate_expiry_timestamp_seconds{certificate="the one",kind="rsa"}'),
                         float(wanted))

    def test_documented(self):
        names, _ = documented()
        page = scrape(self.gateway)
        for name, kind in page.types.items():
            self.assertIn(name, names, "docs/metrics.md has it not")
            self.assertEqual(names[name][0], kind, name)
        for (name, pairs), _ in page.values.items():
            labels = {label for label, _ in pairs} - {"le"}
            self.assertEqual(names[base(name, page.types)][1], labels, name)
        for name in names:
            if not name.startswith("ringmx_redis_") and not ABSENT.match(name):
                self.assertIn(name, page.types, "docs/metrics.md has it, /metrics has it not")

    def test_dashboard(self):
        names, _ = documented()
        page = scrape(self.gateway)
        queries = dashboard()
        self.assertGreater(len(queries), 50)
        for text in queries:
            with self.subTest(query=text):
                used = {base(name, page.types) for name in METRIC.findall(text)}
                self.assertTrue(used)
                self.assertEqual({name for name in used if not ABSENT.match(name)} - set(page.types), set())
                if not any(ABSENT.match(name) for name in used) and "> 0" not in text:
                    wait_until(lambda text=text: self.prometheus.query(text), "an answer: " + text)
        for text in queries:  # labels that nobody has are a mistake, too
            for name, wanted in re.findall(r"by \(([a-z_, ]+)\) \((?:rate\()?((?:ringmx|process)_[a-z_]+)", text):
                labels = set(name.split(", ")) - {"instance", "le"}
                self.assertLessEqual(labels, names[base(wanted, page.types)][1], text)

    def test_rules(self):
        names, alerts = documented()
        groups = wait_until(lambda: [group for group in self.prometheus.get("rules")["data"]["groups"]
                                     if all(rule["health"] != "unknown" for rule in group["rules"])], "rules evaluated")
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        self.assertEqual({name: rule.get("lastError") for name, rule in rules.items() if rule["health"] != "ok"}, {})
        self.assertEqual(sorted(rules), sorted(name for name, _ in alerts))
        types = {name: kind for name, (kind, _) in names.items()}
        for name, listed in alerts:
            used = {base(metric, types) for metric in METRIC.findall(rules[name]["query"])} or {"up"}
            self.assertEqual(used, set(listed.split(", ")), name)
            self.assertLessEqual(used, set(names) | {"up"}, name)
        wait_until(lambda: self.prometheus.query('ALERTS{alertname="RingmxDestinationDead",alertstate="pending"}'),
                   "the alert about the dead destination")
        self.assertEqual(self.prometheus.query('ALERTS{alertstate="firing"}'), [])

    def test_deployed_files(self):
        for words in (("check", "config", deployed("prometheus", "prometheus.yml")),
                      ("test", "rules", deployed("prometheus", "ringmx.rules.test.yml"))):
            checked = promtool(*words, cwd=deployed("prometheus"))
            self.assertEqual(checked.returncode, 0, checked.stdout)
        with open(deployed("prometheus", "ringmx.rules.test.yml"), encoding="utf-8") as file:
            text = file.read()
        for name, _ in documented()[1]:
            self.assertIn(f"name: {name} fires\n", text)
            self.assertIn(f"name: {name} stays quiet\n", text)


class Life(unittest.TestCase):
    def test_trouble_and_drain(self):
        with Gateway(settings={"admin.http": '"127.0.0.1:0"', "drain.timeout": '"20s"'}) as gateway:
            with Prometheus(http_of(gateway)) as prometheus:
                prometheus.wait_number("ringmx_ready", 1)
                client = gateway.client()
                client.hello()
                client.envelope("a@client.example", "alice@example.org")
                client.expect(354, "DATA")
                prometheus.wait_number("sum(ringmx_sessions)", 1)
                gateway.signal(15)
                prometheus.wait_number("ringmx_ready", 0)
                prometheus.wait_number('ringmx_trouble{reason="draining"}', 1)
                prometheus.wait_number("sum(ringmx_messages_total)", 0)
                client.send(b"x\r\n.\r\n")
                client.expect(250)
                client.close()

    def test_turned_away(self):
        with Gateway(settings={"admin.http": '"127.0.0.1:0"', "limits.connections_per_ip": "2"}) as gateway:
            kept = [gateway.client() for _ in range(2)]
            for client in kept:
                client.hello()
            for _ in range(3):
                with gateway.client() as client:
                    client.expect(421)
            page = scrape(gateway)
            self.assertEqual(page.value("ringmx_replies_total", code="421", reason="too_many_from_address"), 3)
            self.assertEqual(page.sum("ringmx_connections_total"), 2)
            self.assertEqual(page.sum("ringmx_sessions"), 2)
            for client in kept:
                client.close()
            wait_until(lambda: scrape(gateway).sum("ringmx_sessions") == 0, "sessions that have ended")

    def test_redis(self):
        with peers.Redis() as redis, Gateway(settings={
                "admin.http": '"127.0.0.1:0"', "limits.connection_rate": "100", **redis.words()}) as gateway:
            wait_until(lambda: scrape(gateway).value("ringmx_redis_connections") == harness.WORKERS, "Redis")
            page = scrape(gateway)
            names, _ = documented()
            for name, (kind, _) in names.items():
                if name.startswith("ringmx_redis_"):
                    self.assertEqual(page.types[name], kind)
            checked = promtool("check", "metrics", input=page.text)
            self.assertEqual((checked.returncode, checked.stdout), (0, ""))
            send(gateway, 1)
            wait_until(lambda: scrape(gateway).value("ringmx_redis_results_total", result="answered") > 0, "an answer")
            redis.kill()
            wait_until(lambda: scrape(gateway).value("ringmx_redis_connections") == 0, "Redis is away")

    def test_nobody_asks(self):
        with Gateway() as gateway:
            send(gateway, 1)
            self.assertEqual(gateway.events("admin_listen"), [])

    def test_reload_tells_new_certificates(self):
        first, second = pki.authority().issue("mx.example.org"), pki.authority().issue("mx.example.org", ends_d=90, number=7)
        with Gateway(settings={"admin.http": '"127.0.0.1:0"'}, certificates={"a": first},
                     listeners={"mx": {"tls": "starttls"}}) as gateway:
            before = scrape(gateway).value("ringmx_certificate_expiry_timestamp_seconds", certificate="a", kind="ecdsa")
            gateway.certificates = {"a": second}
            gateway.write_configuration()
            gateway.signal(1)
            wait_until(lambda: scrape(gateway).value("ringmx_certificate_expiry_timestamp_seconds", certificate="a",
                                                     kind="ecdsa") > before + 50 * 86400, "the new one")

    def test_many_scrapes_under_load(self):
        """For sanitizers: everything is counted while it is read."""
        with Gateway(settings={"admin.http": '"127.0.0.1:0"'}) as gateway:
            stop = threading.Event()
            failures = []

            def read_on():
                while not stop.is_set():
                    try:
                        scrape(gateway)
                    except Exception as error:  # pylint: disable=broad-except
                        failures.append(error)
                        return

            readers = [threading.Thread(target=read_on) for _ in range(2)]
            for reader in readers:
                reader.start()
            for _ in range(5):
                send(gateway, 20, ["alice@example.org", "bob@example.org"])
            stop.set()
            for reader in readers:
                reader.join()
            self.assertEqual(failures, [])
            self.assertEqual(scrape(gateway).sum("ringmx_messages_total"), 100)


if __name__ == "__main__":
    unittest.main()
