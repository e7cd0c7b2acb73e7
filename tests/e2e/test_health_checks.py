"""HAProxy watches a gateway in its three ways: agent-check, `option httpchk` on /readyz, and `option smtpchk`; what it
makes of each state is read from its own statistics."""
import csv
import io
import os
import signal
import socket
import subprocess
import tempfile
import unittest

from harness import FLAVOUR, Gateway, quote, wait_until
from peers import HAPROXY
from test_admin import ADMIN, admin_addresses, fetch

TEXT = """global
  stats socket {folder}/stats level admin
defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout check 5s
backend agent
  server a {smtp} check inter 100ms rise 1 fall 1 agent-check agent-addr 127.0.0.1 agent-port {agent} agent-inter 100ms
backend http
  option httpchk
  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host ringmx
  http-check expect status 200
  server a {smtp} check addr 127.0.0.1 port {http} inter 100ms rise 1 fall 1
backend smtp
  option smtpchk EHLO check.example
  server a {smtp} check inter 100ms rise 1 fall 1
"""


class Balancer:
    """An HAProxy that watches one gateway."""

    def __init__(self, test, gateway):
        self.folder = tempfile.mkdtemp(prefix="ringmx-haproxy-", dir=os.environ.get("RINGMX_TMP"))
        test.addCleanup(lambda: subprocess.run(["rm", "-rf", self.folder], check=False))
        found = admin_addresses(gateway)
        path = os.path.join(self.folder, "haproxy.cfg")
        with open(path, "w", encoding="ascii") as file:
            file.write(TEXT.format(folder=self.folder, smtp="%s:%d" % gateway.address, http=found["http"][1],
                                   agent=found["agent"][1]))
        with open(os.path.join(self.folder, "log"), "wb") as log:
            self.process = subprocess.Popen([HAPROXY, "-db", "-f", path], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        test.addCleanup(self.end)
        wait_until(lambda: os.path.exists(os.path.join(self.folder, "stats")), "HAProxy's socket")

    def end(self):
        self.process.terminate()
        self.process.wait(20)

    def say(self, command):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(20)
            stream.connect(os.path.join(self.folder, "stats"))
            stream.sendall(command.encode() + b"\n")
            said = b""
            while octets := stream.recv(65536):
                said += octets
        return said.decode()

    def states(self):
        """{backend: (status, last check, last agent-check)}"""
        rows = csv.DictReader(io.StringIO(self.say("show stat").lstrip("# ")))
        return {row["pxname"]: (row["status"], row["check_status"], row["agent_status"]) for row in rows if row["svname"] == "a"}

    def wait(self, what, **wanted):
        """Waits until each of the backends has its status: agent="UP"."""
        def there():
            states = self.states()
            return all(states[name][0].startswith(status) for name, status in wanted.items())
        try:
            wait_until(there, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.states()}, not {wanted}") from None


@unittest.skipUnless(os.path.exists(HAPROXY), "skipped: haproxy is not installed")
class Watched(unittest.TestCase):
    def start(self, **settings):
        self.gateway = Gateway(settings={**ADMIN, **settings})
        self.addCleanup(self.gateway.close)

    def fixed(self):
        """The same ports at the next start."""
        found = admin_addresses(self.gateway)
        for name, (host, port) in found.items():
            self.gateway.settings[f"admin.{name}"] = quote(f"{host}:{port}")
        self.gateway.listeners = {"mx": {"address": quote("%s:%d" % self.gateway.address)}}

    def expect_faults(self):
        """The gateway will start with a disk that fails on command (fault_preload.c). Returns the file of commands."""
        if FLAVOUR == "tsan":
            self.skipTest("skipped: a preloaded library does not go together with ThreadSanitizer")
        directory = self.gateway.directory
        library, faults = os.path.join(directory, "fault.so"), os.path.join(directory, "faults")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fault_preload.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", library, source, "-ldl", "-pthread"],
                       check=True)
        self.gateway.environment.update(LD_PRELOAD=library, RINGMX_FAULTS=faults,
                                        ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=1")
        return faults

    def test_up_drain_gone_and_up(self):
        """A notice is a drain; who comes back after it is used again, which takes more than "up"."""
        self.start(**{"drain.notice": quote("5s")})
        self.gateway.start()
        balancer = Balancer(self, self.gateway)
        balancer.wait("all up", agent="UP", http="UP", smtp="UP")
        self.fixed()
        self.gateway.signal(signal.SIGTERM)
        balancer.wait("the notice", agent="DRAIN", http="DOWN", smtp="DOWN")
        self.assertEqual(fetch(admin_addresses(self.gateway)["http"], "/readyz")[2], b"draining")
        self.assertEqual(self.gateway.process.wait(30), 0)
        self.gateway.process = None
        balancer.wait("gone", http="DOWN", smtp="DOWN")
        self.gateway.start()
        balancer.wait("all up again", agent="UP", http="UP", smtp="UP")
        self.gateway.stop()

    def test_disk_that_fails(self):
        """Writes fail: down in all three ways, with the word; alive for those who ask; and up when it is over."""
        self.start(**{"spool.sync": "fdatasync"})
        faults = self.expect_faults()
        self.gateway.start()
        http = admin_addresses(self.gateway)["http"]
        balancer = Balancer(self, self.gateway)
        balancer.wait("all up", agent="UP", http="UP", smtp="UP")
        for weather, word in (("write EIO always .segment", b"sync_errors"),
                              ("write ENOSPC always .segment\nallocate ENOSPC always spool\ncreate ENOSPC always spool", None)):
            with open(faults + ".next", "w", encoding="ascii") as file:
                file.write(weather + "\n")
            os.rename(faults + ".next", faults)
            with self.gateway.client() as client:
                client.hello()
                for _ in range(5):
                    if client.command("MAIL FROM:<a@client.example>").code != 250:
                        break
                    client.command("RCPT TO:<a@example.org>")
                    client.command("DATA")
                    client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
                    self.assertIn(client.reply().code, (451, 452))
            code, _, body = fetch(http, "/readyz")
            self.assertEqual(code, 503)
            self.assertIn(body, (word,) if word else (b"sync_errors", b"disk_full"))
            self.assertEqual(fetch(http, "/healthz")[0], 200)
            balancer.wait("all down", agent="DOWN", http="DOWN", smtp="DOWN")
            os.unlink(faults)
            balancer.wait("all up again", agent="UP", http="UP", smtp="UP")
            self.assertEqual(fetch(http, "/readyz")[2], b"ready")
        self.gateway.stop()

    def test_disk_full(self):
        """No segment can be made: disk_full, in all three ways."""
        self.start(**{"spool.segment_size": quote("40M")})
        faults = self.expect_faults()
        self.gateway.domains = {"example.org": (["*"], "maildir:" + os.path.join(self.gateway.directory, "no", "%d", "%u"))}
        with open(os.path.join(self.gateway.directory, "no"), "w", encoding="ascii"):
            pass  # in the way of the Maildirs: what comes stays in the spool
        self.gateway.start()
        http = admin_addresses(self.gateway)["http"]
        balancer = Balancer(self, self.gateway)
        balancer.wait("all up", agent="UP", http="UP", smtp="UP")
        with open(faults, "w", encoding="ascii") as file:
            file.write("allocate ENOSPC always spool\ncreate ENOSPC always spool\n")
        text = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n"
        text += (b"y" * 76 + b"\r\n") * 13000
        with self.gateway.client() as client:
            client.hello()
            for _ in range(300):
                if client.command("MAIL FROM:<a@client.example>").code != 250:
                    break
                client.expect(250, "RCPT TO:<a@example.org>")
                client.send(b"BDAT %d LAST\r\n" % len(text) + text)
                if client.reply().code != 250:
                    break
        wait_until(lambda: fetch(http, "/readyz")[2] == b"disk_full", "disk_full")
        balancer.wait("all down", agent="DOWN", http="DOWN", smtp="DOWN")
        self.assertIn("disk_full", balancer.say("show stat"))
        self.assertEqual(fetch(http, "/healthz")[0], 200)
        os.unlink(faults)
        balancer.wait("all up again", agent="UP", http="UP", smtp="UP")
        self.gateway.stop()


if __name__ == "__main__":
    unittest.main()
