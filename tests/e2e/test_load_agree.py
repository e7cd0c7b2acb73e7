"""ringmx-load against independent clients of the same server: Postfix's smtp-source, Python's smtplib, swaks. What the
server counts is what each client counts, to the message; rates and latencies are those that the server and the other
clients measure."""
import os
import shutil
import smtplib
import statistics
import subprocess
import threading
import time
import unittest

import loader
from harness import Gateway, message
from loader import sized
from sink import Sink
from smtp_server import SmtpServer

NS = 1_000_000_000
SMTP_SOURCE = shutil.which("smtp-source") or "/usr/sbin/smtp-source"


def with_load(address, count):
    return loader.run(address, "--messages", count, "--connections", 7, "--messages-per-connection", "3-9")["messages"]


def with_load_threads(address, count):
    return loader.run(address, "--messages", count, "--connections", 7, "--threads", 2, "--bdat")["messages"]


def with_load_rate(address, count):
    return loader.run(address, "--rate", count, "--seconds", 1)["messages"]


def with_smtp_source(address, count):
    if not os.path.exists(SMTP_SOURCE):
        raise unittest.SkipTest("skipped: smtp-source (postfix) is not installed")
    subprocess.run([SMTP_SOURCE, "-4", "-s", "7", "-m", str(count), "-f", "me@client.example", "-t", "user@example.org",
                    f"inet:{address[0]}:{address[1]}"], check=True, timeout=60)
    return count


def with_smtplib(address, count):
    """Four threads; each counts what was accepted."""
    def send(number):
        with smtplib.SMTP(*address, timeout=60) as client:
            for _ in range(number, count, 4):
                client.sendmail("me@client.example", ["user@example.org"], message())
                accepted[number] += 1
    accepted = [0] * 4
    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(accepted)


def with_swaks(address, _count):
    if not shutil.which("swaks"):
        raise unittest.SkipTest("skipped: swaks is not installed")
    subprocess.run(["swaks", "--server", address[0], "--port", str(address[1]), "--from", "me@client.example", "--to",
                    "user@example.org"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    return 1


CLIENTS = (with_load, with_load_threads, with_load_rate, with_smtp_source, with_smtplib, with_swaks)


class Counts(unittest.TestCase):
    COUNT = sized(300, 100)

    def test_sink(self):
        """One server for all, which counts on."""
        with Sink("--threads", "2") as sink:
            before = 0
            for client in CLIENTS:
                with self.subTest(client=client.__name__):
                    sent = client(sink.address, self.COUNT)
                    lines = sink.messages()
                    self.assertEqual(len(lines) - before, sent)
                    before = len(lines)
            self.assertEqual(sink.stop()["messages"], before)

    def test_ringmx(self):
        """What is delivered."""
        with Gateway() as gateway:
            before = 0
            for client in CLIENTS:
                with self.subTest(client=client.__name__):
                    sent = client(gateway.address, self.COUNT)
                    gateway.wait_messages("user", before + sent)
                    before += sent

    def test_python(self):
        """A third server, which counts connections, too."""
        with SmtpServer() as server:
            for client in (with_load, with_load_rate, with_smtp_source, with_smtplib):
                with self.subTest(client=client.__name__):
                    before = len(server.done())
                    self.assertEqual(client(server.address, self.COUNT), len(server.done()) - before)
            before = len(server.sessions)
            report = loader.run(server.address, "--messages", 100, "--messages-per-connection", 7, "--connections", 3)
            self.assertEqual(report["opened"], len(server.sessions) - before)


class Rates(unittest.TestCase):
    def test_open(self):
        """Messages arrive at the rate that was asked for, within 2%."""
        for rate in (50, 400):
            with self.subTest(rate=rate):
                for _ in range(loader.TRIES):
                    with SmtpServer() as server:
                        report = loader.run(server.address, "--rate", rate, "--arrivals", "constant", "--seconds", 1.5,
                                            preexec_fn=loader.hurry)
                    at = sorted(each.mail_ns for each in server.done())
                    measured = (len(at) - 1) * NS / (at[-1] - at[0])
                    if abs(measured / rate - 1) < 0.02:
                        break
                else:
                    self.fail(f"{measured} a second")
                self.assertAlmostEqual(report["offered_per_second"], rate, delta=0.02 * rate)
                self.assertAlmostEqual(report["messages_per_second"], rate, delta=0.02 * rate + 1)

    def test_closed(self):
        """The rate that it reports is the server's: what it counted in the time between the first and the last."""
        with SmtpServer() as server:
            report = loader.run(server.address, "--seconds", 1, "--connections", 5)
        self.assertEqual(report["messages"], len(server.done()))
        took = (max(each.reply_ns for each in server.done()) - min(each.mail_ns for each in server.messages)) / NS
        measured = len(server.done()) / took
        self.assertAlmostEqual(report["messages_per_second"], measured, delta=0.05 * measured)
        octets = sum(len(each.content) for each in server.done()) / took
        self.assertAlmostEqual(report["bytes_per_second"], octets, delta=0.05 * octets)

    def test_closed_with_others(self):
        """Where the server takes 50 ms and five connections ask, no client gets more than 100 a second, and with some
        CPU for them both get most of that."""
        if not os.path.exists(SMTP_SOURCE):
            self.skipTest("skipped: smtp-source (postfix) is not installed")
        connections, delay_s, count = 5, 0.05, 80
        most = connections / delay_s
        for _ in range(loader.TRIES):
            with Sink("--delay", f"dot={round(delay_s * 1000)}ms") as sink:
                report = loader.run(sink.address, "--connections", connections, "--messages", count)
                start = time.monotonic()
                subprocess.run([SMTP_SOURCE, "-4", "-s", str(connections), "-m", str(count), "-f", "me@client.example",
                                "-t", "user@example.org", f"inet:{sink.address[0]}:{sink.address[1]}"], check=True,
                               timeout=60)
                other = count / (time.monotonic() - start)
                self.assertEqual(len(sink.messages()), 2 * count)
            self.assertLess(report["messages_per_second"], 1.01 * most)
            self.assertLess(other, 1.01 * most)
            if min(report["messages_per_second"], other) > 0.6 * most:
                break
        else:
            self.fail(f"{report['messages_per_second']} and {other} a second")


class Latencies(unittest.TestCase):
    DELAY_MS, TOLERANCE_MS = 20, 5

    def python(self, address, found):
        """Milliseconds from the text with the final dot to its reply, by a client of its own. In one piece: a dot sent
        behind it would wait for the acknowledgement of the rest (RFC 896), which some systems delay by 40 ms."""
        with smtplib.SMTP(*address, timeout=60) as client:
            client.ehlo()
            for _ in range(50):
                client.mail("me@client.example")
                client.rcpt("user@example.org")
                client.docmd("DATA")
                start = time.monotonic()
                client.send(message() + b".\r\n")
                code = client.getreply()[0]
                found.append((time.monotonic() - start) * 1000)
                assert code == 250

    def test_fixed_delay(self):
        """At the same time, on the same server: the medians are within 5 ms, and neither is below the delay."""
        for _ in range(loader.TRIES):
            with Sink("--delay", f"dot={self.DELAY_MS}ms") as sink:
                measured = []
                thread = threading.Thread(target=self.python, args=(sink.address, measured))
                thread.start()
                report = loader.run(sink.address, "--rate", 50, "--arrivals", "constant", "--seconds", 1.5,
                                    preexec_fn=loader.hurry)
                thread.join()
            times = {name: report["times"][name]["p50"] / 1000 for name in ("dot", "message", "service")}
            self.assertGreaterEqual(min(times.values()), self.DELAY_MS)
            self.assertGreaterEqual(min(measured), self.DELAY_MS)
            other = statistics.median(measured)
            if max(abs(time_ - other) for time_ in times.values()) < self.TOLERANCE_MS:
                break
        else:
            self.fail(f"{times}, another client {other:.1f} ms")

    def test_service_is_the_servers(self):
        """What the server saw between MAIL and its reply is within what the program saw between the same."""
        with SmtpServer(delays={"dot": 0.01}) as server:
            report = loader.run(server.address, "--rate", 100, "--seconds", 1)
        inside = [(each.reply_ns - each.mail_ns) / 1000 for each in server.done()]
        self.assertEqual(report["times"]["service"]["count"], len(inside))
        mean = statistics.mean(inside)
        self.assertGreater(report["times"]["service"]["mean"], mean - 1)
        self.assertLess(report["times"]["service"]["mean"], mean + 10_000)


if __name__ == "__main__":
    unittest.main()
