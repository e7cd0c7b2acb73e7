"""ringmx-load measures what it says: the open loop against a server that stalls, rates and gaps as the server sees
them, its own lateness, one phase at a time, the series and histograms against the counts, and the search for the knee.
"""
import asyncio
import contextlib
import json
import signal
import statistics
import subprocess
import time
import unittest

import loader
from harness import wait_until
from loader import Acked, sized
from sink import Sink
from smtp_server import SmtpServer

NS, US = 1_000_000_000, 1_000_000
SMALL = ("--size", 1000)


UNANSWERED = {}  # a run that takes the ten seconds of a drain: begun before all others


def setUpModule():
    server = SmtpServer(delays={"dot": 1000})
    UNANSWERED["server"] = unittest.enterModuleContext(server)
    UNANSWERED["run"] = loader.start(server.address, "--rate", 20, "--arrivals", "constant", "--seconds", 1,
                                     "--connections", 2, *SMALL)
    unittest.addModuleCleanup(UNANSWERED["run"].kill)


def intended(arrivals, rate):
    """The intended starts of a constant rate, from the times at which a server saw them: none is seen too early."""
    start = min(at - number * NS / rate for number, at in enumerate(sorted(arrivals)))
    return [start + number * NS / rate for number in range(len(arrivals))]


def gaps(server):
    at = sorted(message.mail_ns for message in server.done())
    return [after - before for before, after in zip(at, at[1:])]


def variation(values):
    return statistics.pstdev(values) / statistics.mean(values)


class Stall(unittest.TestCase):
    """The server stands still for a second, once: what each loop makes of it."""

    SECONDS = 1.0

    def stalling(self, at):
        count = 0

        async def answer(_message):
            nonlocal count
            count += 1
            if count == at:
                time.sleep(self.SECONDS)  # the whole server

        return SmtpServer(answer=answer)

    def test_open(self):
        """Each of the 200 messages of that second waited, whether it could be sent or not: 100 s in all."""
        rate, count, connections = 200, 800, 20
        with Acked() as scratch, self.stalling(200) as server:
            path = scratch.path + ".histogram"
            report = loader.run(server.address, "--rate", rate, "--arrivals", "constant", "--seconds", count // rate,
                                "--connections", connections, "--histogram", path, *SMALL, preexec_fn=loader.hurry)
            histograms = loader.read_histograms(path)
        done = server.done()
        self.assertEqual((len(done), report["messages"]), (count, count))
        message, service = report["times"]["message"], report["times"]["service"]
        self.assertEqual((message["count"], service["count"]), (count, count))
        starts = intended([each.mail_ns for each in done], rate)
        replies = sorted(each.reply_ns for each in done)
        waited_s = (sum(replies) - sum(starts)) / NS
        self.assertGreater(waited_s, 0.99 * rate * self.SECONDS ** 2 / 2)
        reported_s = message["mean"] * count / US
        self.assertGreater(reported_s, 0.99 * waited_s - 0.5)
        self.assertLess(reported_s, waited_s + 0.02 * count)  # what reading the replies took
        latencies = sorted(reply - start for reply, start in zip(replies, starts))
        for name, share in (("p90", 0.9), ("p99", 0.99)):
            server_us = latencies[int(share * count) - 1] / 1000
            self.assertAlmostEqual(message[name], server_us, delta=0.1 * server_us + 50_000, msg=name)
        # Uncorrected, only those that were under way had to wait.
        self.assertLessEqual(slow(histograms["service"], 0.5), connections)
        self.assertGreaterEqual(slow(histograms["message"], 0.5), 0.45 * rate * self.SECONDS)
        self.assertLess(service["mean"], message["mean"] / 2)

    def test_closed(self):
        """Nobody asks during the stall: one bad latency for each connection, and the percentiles see nothing."""
        with Acked() as scratch, self.stalling(200) as server:
            path = scratch.path + ".histogram"
            report = loader.run(server.address, "--messages", sized(2000, 1000), "--connections", 5, "--histogram",
                                path, *SMALL)
            histograms = loader.read_histograms(path)
        self.assertEqual(len(server.done()), report["messages"])
        self.assertIn(slow(histograms["message"], 0.99), range(1, 6))
        self.assertGreaterEqual(report["times"]["message"]["max"], 0.99 * US)
        self.assertLess(report["times"]["message"]["p99"], 0.5 * US)

    def test_unanswered(self):
        """What is never answered counts with the time that it waited, and as failed."""
        report = loader.finish(UNANSWERED["run"], code=1)
        self.assertEqual((report["unfinished"], report["unstarted"], report["messages"]), (2, 18, 0))
        self.assertEqual(report["times"]["message"]["count"], 20)
        self.assertGreater(report["times"]["message"]["p50"], 9.9 * US)
        self.assertLess(report["times"]["message"]["max"], 14 * US)
        self.assertEqual(len(UNANSWERED["server"].messages), 2)


def slow(steps, seconds):
    """How many of a histogram took so long."""
    return sum(count for upper, count in steps if upper >= seconds * NS)


class Rate(unittest.TestCase):
    def test_constant(self):
        """Neither more nor fewer than asked for, at even distances, however many threads share them out."""
        rate, count = 100, 100
        for threads in (1, 2):
            with self.subTest(threads=threads):
                for attempt in range(loader.TRIES):  # a busy machine delivers them in bunches
                    with SmtpServer() as server:
                        report = loader.run(server.address, "--rate", rate, "--arrivals", "constant", "--seconds",
                                            count / rate, "--connections", 10, "--threads", threads, *SMALL,
                                            preexec_fn=loader.hurry)
                    self.assertEqual(report["messages"], len(server.done()))
                    self.assertAlmostEqual(len(server.done()), count, delta=threads)
                    self.assertAlmostEqual(report["offered_per_second"], rate, delta=0.01 * rate)
                    even = sum(0.5 < gap * rate / NS < 1.5 for gap in gaps(server)) / len(gaps(server))
                    if even > 0.7 and variation(gaps(server)) < 0.5:
                        break
                else:
                    self.fail(f"{attempt + 1} times: {even:.0%} at the distance asked for")

    def test_poisson(self):
        """Independent senders, those of one thread from those of the other, too: many short gaps, and some long."""
        rate, count = 500, 500
        for threads in (1, 2):
            with self.subTest(threads=threads):
                for attempt in range(loader.TRIES):
                    with SmtpServer() as server:
                        report = loader.run(server.address, "--rate", rate, "--seconds", count / rate, "--connections",
                                            50, "--threads", threads, *SMALL, preexec_fn=loader.hurry)
                    self.assertEqual(report["messages"], len(server.done()))
                    self.assertAlmostEqual(len(server.done()), count, delta=5 * count ** 0.5)
                    offered = report["offered_per_second"] * report["seconds"]
                    self.assertAlmostEqual(offered, len(server.done()), delta=3)
                    long = sum(gap * rate / NS > 1 for gap in gaps(server)) / len(gaps(server))
                    if 0.8 < variation(gaps(server)) < 1.3 and 0.3 < long < 0.44:  # 1 and 1/e
                        break
                else:
                    self.fail(f"{attempt + 1} times: variation {variation(gaps(server)):.2f}, long {long:.0%}")

    def test_warm_up(self):
        """What is sent or opened before the measured time is not counted."""
        with SmtpServer() as server:
            report = loader.run(server.address, "--rate", 100, "--arrivals", "constant", "--warm-up", 0.5, "--seconds",
                                1, *SMALL)
        self.assertNotIn("connect", report["times"])
        self.assertAlmostEqual(len(server.done()), 150, delta=1)
        self.assertEqual(report["messages"], len(server.done()))
        self.assertAlmostEqual(report["times"]["message"]["count"], 100, delta=1)
        self.assertAlmostEqual(report["seconds"], 1, delta=0.01)


class Lateness(unittest.TestCase):
    def test_valid(self):
        """Left alone it is on time."""
        with SmtpServer() as server:
            report = loader.valid_run(server.address, "--rate", 200, "--seconds", 1, *SMALL)
        self.assertEqual((report["code"], report["reasons"]), (0, []))

    def test_stopped(self):
        """A program that could not run says so: every message that was late because of it, and that it is no result."""
        with SmtpServer() as server:
            process = loader.start(server.address, "--rate", 300, "--arrivals", "constant", "--seconds", 2, *SMALL)
            wait_until(lambda: len(server.messages) > 20, "mail")
            for _ in range(4):
                process.send_signal(signal.SIGSTOP)
                time.sleep(0.2)
                process.send_signal(signal.SIGCONT)
                time.sleep(0.1)
            report = loader.finish(process, code=3)
        self.assertFalse(report["valid"])
        self.assertIn("late", " ".join(report["reasons"]))
        late, message = report["times"]["lateness"], report["times"]["message"]
        self.assertGreater(late["p90"], 100_000)
        self.assertGreater(late["max"], 190_000)
        self.assertGreaterEqual(message["max"], late["max"])
        # 200 ms, 60 messages, 100 ms on the average, four times.
        self.assertGreater(late["mean"] * late["count"] / US, 0.9 * 4 * 60 * 0.1)
        self.assertAlmostEqual(len(server.done()), 600, delta=1)

    def test_too_fast(self):
        """More handshakes than it can begin: not the server's fault, and not called a result."""
        with Sink("--tls", "implicit", "--self-signed", "--threads", "2") as sink:
            report = loader.run(sink.address, "--connection-rate", 20_000, "--seconds", 0.1, "--tls", "implicit",
                                *SMALL, code=3)
        self.assertFalse(report["valid"])
        self.assertGreater(report["offered_per_second"], 15_000)
        self.assertEqual(report["messages"], report["opened"])


class Connections(unittest.TestCase):
    def test_opened(self):
        with SmtpServer() as server:
            report = loader.run(server.address, "--connection-rate", 100, "--arrivals", "constant", "--seconds", 1,
                                "--messages-per-connection", 2, "--connections", 50, *SMALL)
        self.assertEqual(report["loop"], "open, connections")
        self.assertAlmostEqual(len(server.sessions), 100, delta=1)
        self.assertEqual(report["opened"], len(server.sessions))
        self.assertEqual({len(session.messages) for session in server.sessions}, {2})
        self.assertTrue(all(session.quit for session in server.sessions))
        self.assertEqual(report["messages"], 2 * len(server.sessions))
        self.assertEqual(report["times"]["connection"]["count"], len(server.sessions))

    def test_poisson(self):
        with SmtpServer() as server:
            report = loader.run(server.address, "--connection-rate", 300, "--seconds", 1, "--connections", 200, *SMALL)
        self.assertAlmostEqual(len(server.sessions), 300, delta=85)
        self.assertEqual((report["opened"], report["messages"]), (len(server.sessions), len(server.sessions)))

    def test_wait(self):
        """Two at a time, each for 100 ms: twice as many as can be served wait for their turn, and that counts."""
        rate, count = 40, 40
        with SmtpServer(delays={"dot": 0.1}) as server:
            report = loader.run(server.address, "--connection-rate", rate, "--arrivals", "constant", "--seconds", 1,
                                "--connections", 2, *SMALL)
        self.assertAlmostEqual(len(server.sessions), count, delta=1)
        ends = sorted(session.closed_ns for session in server.sessions)
        starts = sorted(session.opened_ns for session in server.sessions)
        for end, start in zip(ends, starts[2:]):
            self.assertGreater(start, end - 0.05 * NS, "a third at a time")
        waited_us = (sum(ends) - sum(intended(starts, rate))) / 1000
        reported = report["times"]["connection"]
        self.assertEqual(reported["count"], len(ends))
        self.assertAlmostEqual(reported["mean"] * len(ends), waited_us, delta=0.1 * waited_us)
        self.assertGreater(reported["max"], 0.9 * US)
        self.assertGreater(report["times"]["message"]["max"], 0.8 * US)
        self.assertLess(report["times"]["service"]["p50"], 0.5 * US)


class Phases(unittest.TestCase):
    """One phase is slow: it alone shows it."""

    DELAY_MS = 120
    # phase of the sink -> histogram, and those that contain it
    PHASES = {"connect": "banner", "ehlo": "ehlo", "starttls": "starttls", "mail": "mail", "rcpt": "rcpt",
              "data": "data", "dot": "dot"}
    WHOLE = {"message", "service"}
    COUNT = 20

    def slow_only(self, phase, name, *options):
        with Sink("--tls", "starttls", "--self-signed", "--delay", f"{phase}={self.DELAY_MS}ms") as sink:
            report = loader.run(sink.address, "--tls", "starttls", "--lock-step", "--connections", 10, "--messages",
                                self.COUNT, "--messages-per-connection", 1, *options)
        delay_us, times = self.DELAY_MS * 1000, report["times"]
        for other, time_ in times.items():
            if other == name or (other in self.WHOLE and phase in ("mail", "rcpt", "data", "dot")):
                self.assertGreaterEqual(time_["p50"], 0.9 * delay_us, other)  # it may notice the start late
                self.assertLess(time_["p50"], 3 * delay_us, other)
            else:
                self.assertLess(time_["p50"], delay_us, other)
        return times

    def test_phases(self):
        for phase, name in self.PHASES.items():
            with self.subTest(phase=phase):
                times = self.slow_only(phase, name)
                wanted = {"connect", "banner", "ehlo", "starttls", "handshake", "mail", "rcpt", "data", "dot",
                          *self.WHOLE}
                self.assertEqual(set(times) & wanted, wanted)
                counts = {each: times[each]["count"] for each in wanted}
                opened = {each: counts.pop(each) for each in ("connect", "banner", "ehlo", "starttls", "handshake")}
                self.assertEqual(set(counts.values()), {self.COUNT}, counts)
                # Before the start, too; and at the end there may be some more than were wanted.
                self.assertGreaterEqual(min(opened.values()), self.COUNT)
                self.assertGreaterEqual(opened["ehlo"], 2 * opened["handshake"])  # again after STARTTLS

    def test_rcpt_each(self):
        times = self.slow_only("rcpt", "rcpt", "--recipients", 2)
        self.assertEqual(times["rcpt"]["count"], 2 * self.COUNT)
        self.assertGreaterEqual(times["message"]["p50"], 2 * self.DELAY_MS * 1000)

    def test_chunks(self):
        """`data` is each chunk but the last, `dot` the last."""
        for phase in ("data", "dot"):
            with self.subTest(phase=phase):
                times = self.slow_only(phase, phase, "--bdat", "--size", 2500, "--chunk", 1000)
                self.assertEqual((times["data"]["count"], times["dot"]["count"]), (2 * self.COUNT, self.COUNT))

    def test_lmtp_last(self):
        """`dot` is the last of the replies."""
        with SmtpServer(lmtp=True, delays={"dot": 0.1}) as server:
            report = loader.run(server.address, "--lmtp", "--recipients", 3, "--messages", 10, "--connections", 5)
        self.assertEqual(report["times"]["dot"]["count"], 10)
        self.assertGreaterEqual(report["times"]["dot"]["p50"], 100_000)


class Counts(unittest.TestCase):
    """What the parts of a report say of the same thing."""

    def test_series_and_histograms(self):
        """Of each loop, with a warm-up and connections that come and go."""
        runs = []
        with contextlib.ExitStack() as stack:
            for options in ((), ("--rate", 300), ("--connection-rate", 100)):
                path = stack.enter_context(Acked()).path + ".histogram"
                server = stack.enter_context(SmtpServer())
                runs.append((options, path, loader.start(
                    server.address, *options, "--seconds", 2, "--warm-up", 0.2, "--histogram", path,
                    "--messages-per-connection", "1-5", *SMALL)))
            for options, path, process in runs:
                with self.subTest(options=options):
                    report = loader.finish(process)
                    self.judge_series(report)
                    self.judge_histograms(report, loader.read_histograms(path))

    def judge_series(self, report):
        series = report["series"]
        self.assertEqual(len(series), 2)
        self.assertEqual(sum(second["answered"] for second in series), report["counted"])
        self.assertGreater(min(second["answered"] for second in series), 0)
        self.assertLessEqual(sum(second["opened"] for second in series), report["opened"])
        self.assertGreater(sum(second["opened"] for second in series), 0)
        self.assertEqual(sum(second["failed"] for second in series), 0)

    def judge_histograms(self, report, histograms):
        self.assertEqual(set(histograms), set(report["times"]))
        for name, steps in histograms.items():
            time_ = report["times"][name]
            self.assertEqual(sum(count for _, count in steps), time_["count"], name)
            for key, share in loader.QUANTILES.items():
                self.assertAlmostEqual(loader.quantile_ns(steps, share) / 1000, time_[key],
                                       delta=0.002 * time_[key] + 0.2, msg=f"{name} {key}")
            mean = sum(upper * count for upper, count in steps) / time_["count"] / 1000
            self.assertAlmostEqual(mean, time_["mean"], delta=0.01 * mean + 1, msg=name)

    def test_threads(self):
        """Two threads send as many as were asked for, and never the same."""
        for count, connections in ((1001, 7), (1, 2), (333, 3)):
            with self.subTest(count=count), Acked() as acked, Sink("--threads", "2") as sink:
                report = loader.run(sink.address, "--threads", 2, "--messages", count, "--connections", connections,
                                    "--acked", acked.path)
                found = [line["load_id"] for line in sink.messages()]
                self.assertEqual(report["messages"], count)
                self.assertEqual((len(found), set(found)), (count, acked.ids()))
                self.assertEqual(len(acked.lines()), count)
                self.assertEqual(sink.stop()["connections"], connections if count > 1 else sink.totals["connections"])

    def test_codes(self):
        """What was refused is counted by its code, and in the series."""
        with Sink("--refuse", "rcpt=20%", "--tempfail", "dot=10%") as sink:
            report = loader.run(sink.address, "--messages", 500, code=1)
            lines, totals = sink.messages(), sink.stop()
        self.assertEqual(report["messages"], len(lines))
        refused = {int(code): count for code, count in report["codes"].items()}
        self.assertEqual(sum(count for code, count in refused.items() if code >= 500), totals["refused_rcpt"] +
                         refused.get(503, 0) + refused.get(554, 0))
        self.assertEqual(sum(count for code, count in refused.items() if code < 500), totals["tempfailed_dot"])
        self.assertEqual(report["failed"], totals["refused_rcpt"] + totals["tempfailed_dot"])


class Sweep(unittest.TestCase):
    LIMIT = 400  # messages a second that the server can answer; it falls behind by the rest
    P99_S = 0.04  # a step takes fifty times as long, or a thousand messages

    def bucket(self):
        free = 0

        async def answer(_message):
            nonlocal free
            now = asyncio.get_running_loop().time()
            free = max(free, now) + 1 / self.LIMIT
            await asyncio.sleep(free - now)

        return SmtpServer(answer=answer)

    def sweep(self):
        """Returns exit code and report."""
        with self.bucket() as server, Acked() as acked:
            process = loader.start(server.address, "--sweep", f"{self.P99_S * 1000:g}ms", "--rate", 0.4 * self.LIMIT,
                                   "--arrivals", "constant", "--seconds", 0.5, "--connections", 60, *SMALL,
                                   "--acked", acked.path, preexec_fn=loader.hurry)
            output, errors = process.communicate(timeout=120)
            self.assertIn(process.returncode, (0, 1, 3), errors.decode() + output.decode())
            self.assertEqual(len(acked.lines()), len(acked.ids()))  # no step sends those of another
        found = json.loads(output)
        for step in found["steps"]:
            loader.check_report(step)
            self.assertGreater(step["seconds"], 0.99 * max(50 * self.P99_S, min(10, 1000 / step["rate"])))
        return process.returncode, found

    def test_knee(self):
        """At R a second for two seconds it ends (R - 400) * 2 messages behind, or (R - 400) * 5 ms; 40 ms are allowed,
        3 used."""
        for _ in range(loader.TRIES):  # where others have the CPU, a lower rate may fail, or a step be invalid
            code, found = self.sweep()
            self.assertLess(found["knee"] or 0, 1.25 * self.LIMIT)
            if code == 0 and not found["at_least"] and found["knee"] > 0.90 * self.LIMIT:
                break
        else:
            self.skipTest(f"skipped: this machine is too busy: {found['knee']}")
        steps = [step for step in found["steps"] if step["valid"]]  # one that is not was tried again
        rates = list(dict.fromkeys(step["rate"] for step in found["steps"]))
        self.assertEqual(rates[:3], [0.4 * self.LIMIT, 0.8 * self.LIMIT, 1.6 * self.LIMIT])
        for step in steps:
            self.assertAlmostEqual(step["offered_per_second"], step["rate"], delta=2.01)
            self.assertEqual(step["held"], step["times"]["message"]["p99"] <= self.P99_S * 1e6, step["rate"])
        last = {step["rate"]: step["held"] for step in steps}  # where one was slow by chance, the second counts
        self.assertEqual({rate for rate, held in last.items() if held}, {rate for rate in last if rate <= found["knee"]})
        self.assertEqual(found["steps"][-1]["rate"], found["knee"])  # it was tried once more
        self.assertLess(min(rate for rate in rates if rate > found["knee"]) / found["knee"], 1.051)

    def test_table(self):
        """A line for each step, and the knee. Where nothing holds there is none, and that is a failure."""
        with SmtpServer(delays={"dot": 0.2}) as server:
            words = loader.words(server.address, "--sweep", "100ms", "--rate", 3, "--arrivals", "constant", "--seconds",
                                 0.3)
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60,
                                  env=loader.environment())
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        lines = done.stdout.splitlines()
        self.assertEqual([float(line.split("/s")[0]) for line in lines[:-1]], [3, 1.5])
        self.assertTrue(all("failed: " in line for line in lines[:-1]), done.stdout)
        self.assertIn("p99 is above 100.000 ms", lines[0])
        self.assertRegex(lines[-1], "^knee: none")


if __name__ == "__main__":
    unittest.main()
