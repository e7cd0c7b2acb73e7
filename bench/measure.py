"""Single runs of the load program against one server, and the figures that are read off them."""

import json
import os
import statistics
import subprocess
import tempfile
import threading

import peers
import scenarios

LOAD = os.path.join(peers.BUILD, "ringmx-load")
SERVER_CPU, LOAD_CPU = 0, 1
TICK = os.sysconf("SC_CLK_TCK")
IDLE_FEW, IDLE_MANY = 2_000, 10_000
OK, INVALID = 0, 3  # exit codes of the load program
ATTEMPTS = 3  # of an open loop
PATIENCE_SECONDS = 120  # for what a run takes beyond its measured time
TENTHS = 51  # of nines: up to p99.999
CURVE_SAMPLES = 10  # slower messages that there must be beyond a percentile, for it to be drawn


class Failed(Exception):
    """A run that gives no figures; says why."""


class Invalid(Failed):
    """The run says nothing: the load program could not keep its own time, or the time was too short."""


def address(server, arguments=""):
    return f"127.0.0.1:{server.port_for(arguments)}"


def run_load(server, arguments, on_mark=lambda mark: None):
    """Runs the load program; calls on_mark("start") and ("end") at the borders of the measured time. Returns its exit
    code and its report; raises Failed unless every transaction succeeded."""
    command = [LOAD, address(server, arguments), "--cpu", str(LOAD_CPU), "--json", "--marks", "--spin",
               *arguments.split()]
    marks, errors = [], []
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True) as load:
            timer = threading.Timer(PATIENCE_SECONDS + seconds_of(command), load.kill)
            timer.start()
            for line in load.stderr:
                if line.strip() in ("start", "end"):
                    marks.append(line.strip())
                    on_mark(line.strip())
                elif line.strip():
                    errors.append(line.strip())
            load.wait()
            timer.cancel()
        output.seek(0)
        report = parsed(output.read())
    if load.returncode not in (OK, INVALID) or report is None or marks[-1:] != ["end"]:
        reasons = (report or {}).get("reasons") or errors[:3] or [f"exit code {load.returncode}"]
        codes = (report or {}).get("codes")
        raise Failed("; ".join(reasons) + (f"; replies {codes}" if codes else ""))
    return load.returncode, report


def seconds_of(command):
    """The time that the command line itself asks for."""
    return sum(float(value) for name, value in zip(command, command[1:]) if name in ("--seconds", "--warm-up"))


def parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


class Meter:
    """Looks at the server when the measured time begins and ends."""

    def __init__(self, server):
        self.server, self.cpu, self.stolen, self.memory = server, {}, {}, 0

    def mark(self, mark):
        self.cpu[mark] = self.server.cpu_seconds()
        self.stolen[mark] = stolen_seconds()
        if mark == "end":
            self.memory = self.server.resident_bytes()

    def settled(self):
        """Waits until the server has nothing more to do for the messages of the run."""
        self.server.settle()
        self.cpu["settled"] = self.server.cpu_seconds()

    def spent(self):
        return self.cpu["end"] - self.cpu["start"]

    def later(self):
        return self.cpu["settled"] - self.cpu["end"]


def stolen_seconds():
    """The time for which other guests of this machine's host had one of our two CPUs."""
    with open("/proc/stat", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith((f"cpu{SERVER_CPU} ", f"cpu{LOAD_CPU} "))]
    return sum(int(fields[8]) for fields in lines) / TICK


def timing(scenario, seconds, warm_up):
    return f"--connections {scenario.connections} --seconds {seconds:g} --warm-up {warm_up:g}"


def figures(report, meter):
    """What is kept of a run: numbers only."""
    seconds, times = report["seconds"], report["times"]
    if report["counted"] == 0:
        raise Invalid("no message was answered in the measured time")
    # What a server puts off is part of the price of all messages of the run; those that count have their share of it.
    spent = meter.spent() + meter.later() * report["counted"] / report["messages"]
    kept = {
        "per_second": report["messages_per_second"],
        "per_cpu": report["counted"] / spent if spent > 0 else 0.0,
        "server_cpu": meter.spent() / seconds,
        "later_cpu": meter.later() / meter.spent() if meter.spent() > 0 else 0.0,
        "load_cpu": report["cpu_seconds"] / seconds,
        "gigabytes": report["bytes_per_second"] / 1e9,
        "memory": meter.memory,
        "stolen": (meter.stolen["end"] - meter.stolen["start"]) / seconds / 2,
    }
    for name, percentile in (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"), ("p9999", "p99.99"),
                             ("max", "max")):
        kept[f"{name}_us"] = times["message"][percentile]
    kept["dot_p50_us"], kept["dot_p99_us"] = times["dot"]["p50"], times["dot"]["p99"]
    return kept


def agreed(report):
    """What client and server have agreed on: lock-step, when the server does not offer PIPELINING; with TLS what most
    connections have, and the share of resumed handshakes."""
    found, tls = {"lock_step": True} if report.get("lock_step") else {}, report.get("tls")
    if tls:
        found |= {what: max(tls[f"{what}s"], key=tls[f"{what}s"].get, default="")
                  for what in ("version", "cipher", "group")}
        found["resumed"] = tls["resumed"] / max(tls["handshakes"], 1)
    return found


def closed(server, scenario, seconds, warm_up):
    """One run of a closed loop: its figures and what TLS has agreed on."""
    meter = Meter(server)
    _, report = run_load(server, f"{timing(scenario, seconds, warm_up)} {scenario.arguments}", meter.mark)
    meter.settled()
    return figures(report, meter), agreed(report)


# --- Open loops. ---

def opened(server, scenario, rate, seconds, warm_up):
    """One run at a given rate: its figures and its histogram, {nanoseconds: messages}. It is made again when the load
    program could not keep its time, and raises Invalid in the end."""
    words = f"{timing(scenario, seconds, warm_up)} {scenario.arguments} --rate {rate:g}"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "histogram")
        for _ in range(ATTEMPTS):
            meter = Meter(server)
            code, report = run_load(server, f"{words} --histogram {path}", meter.mark)
            meter.settled()
            if code == OK:
                break
        else:
            raise Invalid("; ".join(report["reasons"]))
        histogram = histogram_read(path)
    return figures(report, meter) | {
        "offered": report["offered_per_second"], "late_p99_us": report["times"]["lateness"]["p99"],
        "service_p99_us": report["times"]["service"]["p99"]}, histogram


def histogram_read(path):
    steps = {}
    with open(path, encoding="ascii") as file:
        for line in file:
            name, upper, count = line.split()
            if name == "message":
                steps[int(upper)] = steps.get(int(upper), 0) + int(count)
    return steps


def curve(histograms):
    """Percentiles of the messages of all runs together: [share that was as fast, microseconds], from the fastest on
    until too few messages are left to tell. Neighbours are as far apart as a tenth of a nine."""
    steps = {}
    for histogram in histograms:
        for upper, count in histogram.items():
            steps[upper] = steps.get(upper, 0) + count
    total = sum(steps.values())
    shares = [1 - 10 ** (-tenth / 10) for tenth in range(TENTHS)]
    shares = [share for share in shares if total * (1 - share) >= CURVE_SAMPLES]
    below, found = 0, []
    for upper in sorted(steps):
        below += steps[upper]
        while len(found) < len(shares) and below >= total * shares[len(found)]:
            found.append([shares[len(found)], upper / 1e3])
    return found


def knee(server, scenario, start_rate, seconds):
    """The highest rate whose p99 is within the limit; and whether the search ended because the load program was the
    limit, so that it may be higher."""
    code, report = run_load(server, f"--connections {scenario.connections} {scenario.arguments} --sweep "
                            f"{scenarios.KNEE_P99} --rate {start_rate:g} --seconds {seconds:g}")
    if not report["knee"]:
        raise (Invalid if code == INVALID else Failed)(f"not held: {start_rate:g} a second")
    return report["knee"], report["at_least"]


# --- Idle connections. ---

def idle_counts(kind):
    """Between which numbers of connections the memory of one is measured, for servers that take few, too."""
    return (IDLE_FEW, IDLE_MANY) if kind.most >= IDLE_MANY else (kind.most // 5, kind.most)


def memory_with_idle(server, count):
    """The server's memory while `count` connections wait."""
    tls = scenarios.IMPLICIT if server.implicit_port else scenarios.STARTTLS if server.key_kind else ""
    during = []
    _, report = run_load(server, f"--connections 0 --idle {count} --seconds 1 {scenarios.SOURCES} {tls}",
                         lambda mark: during.append(server.resident_bytes()) if mark == "end" else None)
    if report["opened"] < count:
        raise Failed(f"only {report['opened']} of {count} idle connections")
    return during[-1]


def idle_bytes(server):
    """Memory for each further connection that only waits. What the server has once, and what a burst of new
    connections leaves behind, is not counted for each."""
    few, many = idle_counts(server)
    before = memory_with_idle(server, few)
    return (memory_with_idle(server, many) - before) / (many - few)


def summary(runs):
    """Median, least and most of every figure."""
    return {key: middle([run[key] for run in runs]) for key in runs[0]}


def middle(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": values}
