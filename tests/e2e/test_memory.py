"""The memory contract: what `ringmx --check` says that a configuration can need at most holds while everything is done
at once that makes a gateway large; and who comes when something is used up hears 421 or 452."""
import concurrent.futures
import os
import socket
import ssl
import subprocess
import threading
import unittest
import urllib.request

from harness import BINARY, FLAVOUR, SLOW, Client, Gateway, message, wait_until
import pki

CONNECTIONS = 300
QUEUE = 1000  # the least that can be configured
MIB = 1 << 20


def resident_most(pid):
    """The most that was ever resident, in octets."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Contract(unittest.TestCase):
    def settings(self, **more):
        return {
            "limits.connections": str(CONNECTIONS), "limits.connections_per_ip": "0", "limits.recipients": "10000",
            "queue.messages": str(QUEUE), "deliver.connections": "20", "io.buffers": "64", "spool.staging_size": '"1M"',
            "resolver.cache": "100", "tls.handshakes": "100", "workers": "2",
            "admin.control": '"run/control"', "admin.http": f'"127.0.0.1:{self.http}"', **more}

    def setUp(self):
        self.http = free_port()

    def parts(self, gateway):
        """What --check prints: {name: MiB}."""
        said = subprocess.run([BINARY, "-c", gateway.path, "--check"], check=True, capture_output=True, text=True,
                              cwd=gateway.directory).stdout
        lines = said[said.index("memory, at most (MiB):\n"):].split("\n")[1:]
        return {line[11:36].strip(): float(line[:9]) for line in lines if line[:9].strip()}

    def test_table(self):
        gateway = Gateway(settings=self.settings())
        try:
            gateway.write_configuration()
            parts = self.parts(gateway)
            total = parts.pop("together")
            self.assertAlmostEqual(sum(parts.values()), total, delta=0.1 * len(parts))
            gateway.settings["limits.connections"] = str(10 * CONNECTIONS)
            gateway.write_configuration()
            more = self.parts(gateway)
            self.assertGreater(more["connections"], 5 * parts["connections"])
            self.assertGreater(more["unfinished commands"], 5 * parts["unfinished commands"])
            gateway.settings["queue.messages"] = str(1000 * QUEUE)
            gateway.write_configuration()
            self.assertGreater(self.parts(gateway)["queue"], parts["queue"] + 250)
            self.assertNotIn("TLS records", parts)
        finally:
            gateway.close()

    def test_warning(self):
        """A machine that has less is told of, by --check and in the log."""
        gateway = Gateway(settings=self.settings())
        gateway.settings["queue.messages"] = "1000000000"
        try:
            gateway.write_configuration()
            said = subprocess.run([BINARY, "-c", gateway.path, "--check"], check=True, capture_output=True, text=True,
                                  cwd=gateway.directory).stdout
            self.assertRegex(said, r"(?m)^warning: this machine, or the control group, has [0-9.]+ MiB: lower ")
            gateway.start()
            line = gateway.events("memory_contract")[0]
            self.assertEqual(line["level"], "warn")
            self.assertGreater(int(line["octets"]), int(line["here"]))
            gateway.stop()
        finally:
            gateway.close()

    # --- everything at once ---

    def idle_in_tls(self, gateway, count):
        """Connections that hold as much as TLS ones can: an unfinished record and an unfinished command."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        held = []

        def one(_):
            client = gateway.client()
            client.hello()
            client.expect(220, "STARTTLS")
            raw = client.socket
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    incoming.write(raw.recv(65536))
            tls.write(b"x" * 12000)  # the beginning of a command
            raw.sendall(outgoing.read())
            tls.write(b"x" * 16384)
            raw.sendall(outgoing.read()[:16000])  # the beginning of a record
            held.append((client, tls))
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(one, range(count)))
        return held

    def long_transactions(self, gateway, count, recipients):
        """Transactions with as many recipients as there is room for. Returns clients, and the refusals."""
        held, refused = [], []

        def one(number):
            client = gateway.client()
            client.hello()
            client.expect(250, "MAIL FROM:<sender@client.example>")
            for start in range(0, recipients, 500):
                lines = [f"RCPT TO:<user{number}-{start + n}-{'x' * 30}@example.org> "
                         f"ORCPT=rfc822;{'y' * 450}@a.example\r\n" for n in range(500)]
                client.send("".join(lines).encode())
                refused.extend(reply for reply in (client.reply() for _ in lines) if reply.code != 250)
            held.append(client)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(count)))
        return held, refused

    def fill_queue(self, gateway, count):
        """Messages to a next hop that is not there, until there are enough of them. Returns the codes."""
        codes, lock = [], threading.Lock()

        def one(share):
            client = gateway.client()
            try:
                client.hello()
            except (AssertionError, EOFError):
                client.close()
                with lock:
                    codes.append(421)  # not even greeted any more
                return
            for number in range(share):
                reply = client.command("MAIL FROM:<sender@client.example>")
                if reply.code == 250:
                    wait_until(lambda: client.command("RCPT TO:<a@dead.example>").code == 250, "room for a recipient")
                    client.expect(354, "DATA")
                    client.send(message(f"m{number}") + b".\r\n")
                    reply = client.reply()
                with lock:
                    codes.append(reply.code)
                if reply.code != 250:
                    break
            client.close()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(one, [count // 16 + 1] * 16))
        return codes

    def scrape(self, count):
        def one(_):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=60) as answer:
                return len(answer.read())
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            self.assertGreater(min(pool.map(one, range(count))), 1000)

    def too_many(self, gateway, count):
        """Connections beyond what is allowed: all that are too many hear 421. Returns the clients that stay."""
        held, refused = [], 0
        for _ in range(count):
            client = Client(gateway.address)
            reply = client.reply()
            self.assertIn(reply.code, (220, 421))
            if reply.code == 421:
                refused += 1
                client.close()
            else:
                held.append(client)
        return held, refused

    @unittest.skipIf(FLAVOUR in ("asan", "tsan"), "a sanitizer takes memory of its own")
    def test_everything(self):
        gateway = Gateway(settings=self.settings(),
                          domains={"example.org": (["*"], "maildir:{mail}/%d/%u"),
                                   "dead.example": (["*"], f"smtp:127.0.0.1:{free_port()}")},
                          certificates={"mx": pki.authority().issue("mx.example.org")})
        with gateway:
            pid = gateway.process.pid
            start = resident_most(pid)
            contract = int(gateway.events("memory_contract")[0]["octets"])
            self.assertLess(abs(self.parts(gateway)["together"] * MIB - contract), 32 * MIB)
            secret = self.idle_in_tls(gateway, 100)
            # Larger messages than memory is allowed to hold.
            with gateway.client() as client:
                client.hello()
                text = message("large", body=("x" * 70 + "\r\n") * 600000)
                for _ in range(5):
                    self.assertEqual(client.transfer(text).code, 250)
            busy, refused = self.long_transactions(gateway, 60, 9500)
            self.assertTrue(refused, "there was room for all recipients: the test is too tame")
            self.assertEqual({reply.code for reply in refused}, {452})
            for client in busy[::2]:
                client.close()  # else there is no room for a single recipient
            queued = self.fill_queue(gateway, 2 * QUEUE)
            self.assertTrue({421, 452} & set(queued), set(queued))
            self.assertLessEqual(queued.count(250), QUEUE + 100)
            self.scrape(200)
            subprocess.run([os.path.join(os.path.dirname(BINARY), "ringmxctl"), "-s", "run/control", "queue", "list"],
                           check=True, capture_output=True, cwd=gateway.directory)
            crowd, turned_away = self.too_many(gateway, CONNECTIONS)
            self.assertGreater(turned_away, 0)
            most = resident_most(pid)
            print(f"\n  {start / MIB:.0f} MiB at the start, {most / MIB:.0f} at most, contract {contract / MIB:.0f}",
                  flush=True)
            self.assertLess(most, contract)
            self.assertGreater(most, contract / 8, "the contract is far from the truth, or the test too tame")
            for client in [*busy[1::2], *crowd, *(client for client, _ in secret)]:
                client.close()
            wait_until(lambda: gateway.count("alice") == 5, "the large messages", 60)


if __name__ == "__main__":
    unittest.main()
