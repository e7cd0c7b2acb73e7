"""ringmx-load for tests: one run and its report, which is checked for what must be so of every report (docs/load.md):
percentiles rise, the histograms and the series have what was counted, and `valid` and the exit code are what follows
from the figures.

An open loop on a busy machine may be invalid, and that is right so: run() then takes exit code 3 for 0. What needs a
valid run asks for it (valid_run), which tries again and at last says `skipped`."""
import json
import os
import re
import subprocess
import tempfile
import unittest

from harness import BINARY, PATIENCE_S, REPORTS, SLOW

PROGRAM = os.path.join(os.path.dirname(BINARY), "ringmx-load")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "p99.99": 0.9999}
LATENESS_US_MAX, BUSIEST_MAX = 1000, 0.7
TRIES = 4


def words(address, *options):
    host, port = address
    host = f"[{host}]" if ":" in host else host
    return [PROGRAM, f"{host}:{port}", *map(str, options)]


def environment():
    return {**os.environ, **{name: os.environ.get(name, text) for name, text in (
        ("ASAN_OPTIONS", "detect_leaks=1"), ("TSAN_OPTIONS", "halt_on_error=0"))}}


def hurry():
    """Before all others, where that is allowed: the calling thread, and what it starts."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        pass


def start(address, *options, **more):
    """Begins a run that will be ended by finish()."""
    return subprocess.Popen(words(address, "--json", *options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=environment(), **more)


def finish(process, code=0, timeout_s=None):
    """Waits for its end and returns the checked report, with "code" and "stderr". `code` is what it must exit with, or
    several; an open run that is invalid may exit with 3 in place of 0."""
    try:
        output, errors = process.communicate(timeout=timeout_s or PATIENCE_S * 4)
    except subprocess.TimeoutExpired:
        process.kill()
        errors = process.communicate()[1]
        raise AssertionError(f"{process.args} does not end: {errors[-2000:]}") from None
    errors = errors.decode("utf-8", "backslashreplace")
    told = f"{' '.join(process.args)}: exit code {process.returncode}\n{errors[-4000:]}\n{output[:4000].decode()}"
    if REPORTS.search(errors.encode()):
        raise AssertionError(told)
    report = json.loads(output) if output else {}
    codes = code if isinstance(code, (tuple, set, list)) else (code,)
    busy = process.returncode == 3 and 0 in codes and report.get("loop", "closed") != "closed"
    if process.returncode not in codes and not busy:
        raise AssertionError(told)
    if report:
        try:
            check_report(report)
            check_code(report, process.returncode, process.args)
        except (AssertionError, KeyError) as error:
            raise AssertionError(f"{error!r}\n{told}") from error
    return {**report, "code": process.returncode, "stderr": errors}


def run(address, *options, code=0, timeout_s=None, **more):
    return finish(start(address, *options, **more), code, timeout_s)


def valid_run(address, *options):
    """An open run that was not disturbed."""
    for _ in range(TRIES):
        report = run(address, *options, preexec_fn=hurry)
        if report["valid"]:
            return report
    raise unittest.SkipTest(f"skipped: this machine is too busy: {report['reasons']}")


def check_report(report):
    """What must be so of every report."""
    for name, time in report["times"].items():
        assert time["count"] > 0, f"{name} is empty"
        row = [time[key] for key in QUANTILES] + [time["max"]]
        assert row == sorted(row), f"{name}: {time}"
        assert 0 < time["mean"] <= time["max"], f"{name}: {time}"
    assert report["counted"] <= report["messages"]
    assert sum(report["aborts"].values()) == report["aborted"]
    assert report["loop"] in ("closed", "open, messages", "open, connections")
    series = report.get("series", [])
    assert sum(second["answered"] for second in series) <= report["counted"], "more in the series than counted"
    if len(series) > report["seconds"] - 0.001:
        assert sum(second["answered"] for second in series) == report["counted"], "less in the series than counted"
    if report["loop"] == "closed":
        assert report["valid"] and not report["reasons"]
        assert "offered_per_second" not in report
    else:
        late = report["times"]["lateness"]["p99"] if "lateness" in report["times"] else 0
        assert report["valid"] == (late <= LATENESS_US_MAX and report["busiest"] <= BUSIEST_MAX), "validity"
        assert bool(report["reasons"]) != report["valid"], "a reason, or valid"
        assert report["offered_per_second"] > 0


def check_code(report, code, arguments):
    """What follows for the exit code."""
    reconnect = "--reconnect" in arguments
    holds_only = any(pair == ("--connections", "0") for pair in zip(arguments, arguments[1:]))
    asked = report["offered"] > 0 if "offered" in report else not holds_only
    nothing = asked and report["messages"] + report["aborted"] == 0
    failures = sum(report[key] for key in ("failed", "unfinished", "unstarted"))
    if not reconnect:
        failures += sum(report[key] for key in ("lost", "unopened", "broken"))
    handshakes = report.get("tls", {"failed": 0, "broken": 0})
    if not reconnect or set(handshakes.get("reasons", ())) - {"lost"}:
        failures += handshakes["failed"] + handshakes["broken"]
    if code != 130:
        assert code == (1 if failures or nothing else 0 if report["valid"] else 3), "exit code"


def read_histograms(path):
    """The file of --histogram -> {name: [(upper_ns, count)]}, checked for its form."""
    found = {}
    with open(path, encoding="ascii") as file:
        for line in file:
            match = re.fullmatch(r"([a-z]+) (\d+) (\d+)\n", line)
            assert match and int(match[3]) > 0, f"not NAME UPPER_NS COUNT: {line!r}"
            found.setdefault(match[1], []).append((int(match[2]), int(match[3])))
    for name, steps in found.items():
        assert steps == sorted(steps) and len({upper for upper, _ in steps}) == len(steps), f"{name} is out of order"
    return found


def quantile_ns(steps, quantile):
    """The step in which a share of all lies."""
    total, seen = sum(count for _, count in steps), 0
    for upper, count in steps:
        seen += count
        if seen >= quantile * total:
            return upper
    return 0


class Acked:
    """A file for --acked, in a scratch folder that goes with it."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="ringmx-load-", dir=os.environ.get("RINGMX_TMP"))
        self.path = os.path.join(self.folder.name, "acked")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def lines(self, unfinished=False):
        """[(id, sum, recipients)]; each id once. `unfinished`: it is being written."""
        if not os.path.exists(self.path):
            return []
        with open(self.path, encoding="ascii") as file:
            text = file.read()
        text = text[:text.rfind("\n") + 1] if unfinished else text
        assert not text or text.endswith("\n"), "the last line is not whole"
        found = [re.fullmatch(r"([0-9a-f]+-[0-9a-f]+) ([0-9a-f]{8}) (\d+)", line) for line in text.splitlines()]
        assert all(found), text[:1000]
        assert len({match[1] for match in found}) == len(found), "an id twice"
        return [(match[1], match[2], int(match[3])) for match in found]

    def ids(self, unfinished=False):
        return {identity for identity, _, _ in self.lines(unfinished)}


def verify(acked, *places, code=0, options=()):
    """Runs `ringmx-load verify`; returns its report as an object."""
    done = subprocess.run([PROGRAM, "verify", "--json", "--acked", getattr(acked, "path", acked), *options,
                           *map(str, places)], capture_output=True, text=True, check=False, env=environment(),
                          timeout=PATIENCE_S)
    codes = code if isinstance(code, (tuple, set, list)) else (code,)
    if done.returncode not in codes or REPORTS.search(done.stderr.encode()):
        raise AssertionError(f"{done.args}: exit code {done.returncode}\n{done.stderr}\n{done.stdout[:4000]}")
    return json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}


def sized(release, slow):
    """A number for release builds, and one for those with a sanitizer."""
    return slow if SLOW else release
