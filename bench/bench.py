#!/usr/bin/python3
"""Measures ringmx against the do-nothing yardstick, smtp-sink and Postfix, all in one run.

Each server runs on one CPU and the load program on another; the servers take turns, so that what
disturbs the machine disturbs them alike. What it measures, how, and what it does not say stands in
docs/benchmarks.md. A full run replaces bench/results/results.json; --quick takes less than a minute.
"""

import argparse
import dataclasses
import datetime
import glob
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

import encrypted
import peers

ROOT = os.path.dirname(peers.HERE)
LOAD = os.path.join(peers.BUILD, "ringmx-load")
RESULTS = os.path.join(peers.HERE, "results", "results.json")
SERVER_CPU, LOAD_CPU = 0, 1
SERVERS = [peers.Ringmx, peers.NullMemory, peers.NullDirect, peers.NullFdatasync, peers.SmtpSink, peers.Postfix]
CLEAR = tuple(kind.name for kind in SERVERS)
IDLE_FEW = 2_000
IDLE_CONNECTIONS = 10_000


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    arguments: str
    connections: int
    quick: bool = False
    seconds: float = 3.0
    servers: tuple = CLEAR
    against: str = ""  # the scenario in clear that it is compared with


SCENARIOS = [
    Scenario("c1", "4 KiB, pipelined, 1 connection", "", 1),
    Scenario("c10", "4 KiB, pipelined, 10 connections", "", 10, quick=True),
    Scenario("c100", "4 KiB, pipelined, 100 connections", "", 100, quick=True),
    Scenario("c1000", "4 KiB, pipelined, 1,000 connections", "--many-sources", 1000),
    Scenario("c10000", "4 KiB, pipelined, 10,000 connections", "--many-sources", 10_000),
    Scenario("lockstep", "4 KiB, lock-step, 100 connections", "--lock-step", 100),
    Scenario("once", "4 KiB, one message a connection, 100 at a time", "--messages-per-connection 1", 100, quick=True),
    Scenario("k64", "64 KiB, pipelined, 100 connections", "--size 65536", 100),
    Scenario("m10", "10 MB, pipelined, 10 connections", "--size 10000000", 10, quick=True),
]
SCENARIOS += [Scenario(name, title, arguments, connections, quick, servers=servers, against=against)
              for name, title, arguments, connections, servers, against, quick in encrypted.SCENARIOS]

# What the project wants to reach: title, scenario, what is compared, with whom, how, limit.
GOALS = [
    ("messages a CPU-second against null direct", "c100", "per_cpu", "null direct", ">=", 0.85),
    ("p50 against null direct, 10 connections", "c10", "p50_us", "null direct", "<=", 1.05),
    ("p50 against null direct, 100 connections", "c100", "p50_us", "null direct", "<=", 1.05),
    ("messages a second against Postfix", "c100", "per_second", "postfix", ">=", 60.0),
    ("messages a second against smtp-sink", "c100", "per_second", "smtp-sink", ">=", 2.0),
    ("one message a connection against null direct", "once", "per_cpu", "null direct", ">=", 0.8),
    ("10 MB messages, GB/s", "m10", "gigabytes", None, ">=", 1.0),
    ("CPU per message, 10,000 connections against 10", "c10000", "per_cpu", "c10", ">=", 1 / 1.15),
]


def run_load(server, scenario, seconds, warm_up):
    """One run; returns its figures, or None when any transaction failed."""
    port = server.port_for(scenario.arguments)
    command = [LOAD, "--port", str(port), "--cpu", str(LOAD_CPU), "--json", "--marks", "--spin",
               "--connections", str(scenario.connections), "--seconds", str(seconds),
               "--warm-up", str(warm_up), *scenario.arguments.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        cpu, errors = {}, []
        for line in load.stderr:
            if line.strip() in ("start", "end"):
                cpu[line.strip()] = server.cpu_seconds()
            else:
                errors.append(line.strip())
        report = json.loads(load.stdout.read())
    if load.returncode != 0 or "end" not in cpu or report["counted"] == 0:
        print(f"  {server.name}, {scenario.title}: failed: {'; '.join(errors[:3])} {report['codes']}", file=sys.stderr)
        return None
    spent = cpu["end"] - cpu["start"]
    found = {what: most_used(report["tls"][f"{what}s"]) for what in ("version", "cipher", "group")
             } if "tls" in report else {}
    return found, {
        "per_second": report["messages_per_second"],
        "per_cpu": report["counted"] / spent if spent > 0 else 0.0,
        "server_cpu": spent / report["seconds"],
        "load_cpu": report["cpu_seconds"] / report["seconds"],
        "gigabytes": report["bytes_per_second"] / 1e9,
        "p50_us": report["latency_us"]["p50"],
        "p90_us": report["latency_us"]["p90"],
        "p99_us": report["latency_us"]["p99"],
        "p999_us": report["latency_us"]["p99.9"],
        "max_us": report["latency_us"]["max"],
        "dot_p50_us": report["dot_latency_us"]["p50"],
        "dot_p99_us": report["dot_latency_us"]["p99"],
    }


def most_used(counts):
    return max(counts, key=counts.get, default="")


def resident_with_idle(server, count):
    """The server's resident bytes while `count` connections wait; None when they could not all be opened."""
    tls = encrypted.IMPLICIT if server.implicit_port else ""
    command = [LOAD, "--port", str(server.port_for(tls)), "--cpu", str(LOAD_CPU), "--json", "--marks", "--many-sources",
               "--connections", "0", "--idle", str(count), "--seconds", "1", *tls.split()]
    during = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load:
        for line in load.stderr:
            if line.strip() == "end":
                during = server.resident_bytes()
        opened = json.loads(load.stdout.read())["opened"]
    if during is None or opened < count:
        print(f"  {server.name}: {opened} of {count} idle connections", file=sys.stderr)
        return None
    return during


def run_idle(server):
    """Bytes of the server's own memory for each further connection that only waits, between 2,000 and 10,000: what
    the server has once, and what a burst of new connections leaves behind, is not counted for each."""
    few = resident_with_idle(server, IDLE_FEW)
    many = resident_with_idle(server, IDLE_CONNECTIONS)
    if few is None or many is None:
        return None
    return (many - few) / (IDLE_CONNECTIONS - IDLE_FEW)


def summary(runs):
    """Median, least and most of every figure."""
    return {key: {"median": statistics.median(run[key] for run in runs), "min": min(run[key] for run in runs),
                  "max": max(run[key] for run in runs), "runs": [run[key] for run in runs]} for key in runs[0]}


def run_scenario(servers, scenario, rounds, seconds, warm_up):
    runs, agreed = {}, {}
    servers = [server for server in servers if server.name in scenario.servers]
    for turn in range(rounds):
        order = servers if turn % 2 == 0 else servers[::-1]
        for server in order:
            if scenario.connections > server.most or runs.get(server.name, 0) is None:
                continue
            if not server.alive():
                print(f"  {server.name} has died: {server.log_tail()}", file=sys.stderr)
                runs[server.name] = None
                continue
            result = run_load(server, scenario, seconds, warm_up)
            server.settle()
            runs[server.name] = None if result is None else runs.get(server.name, []) + [result[1]]
            agreed[server.name] = {"agreed": result[0]} if result and result[0] else {}
    return {name: summary(figures) | agreed[name] for name, figures in runs.items() if figures}


# --- What is printed. ---

def spread(figure):
    """Half the distance between most and least, in percent of the median."""
    if len(figure["runs"]) < 2 or not figure["median"]:
        return ""
    return f"{(figure['max'] - figure['min']) / 2 / figure['median'] * 100:.0f}%"


def print_scenario(scenario, results, first, clear):
    base = clear or results.get(first)
    first = "clear" if clear else first
    print(f"\n{scenario.title}")
    print(f"  {'':<15} {'msg/s':>9} {'+-':>4} {'msg/CPU-s':>10} {'+-':>4} {'p50 ms':>9} {'p99 ms':>9} {'MB/s':>6} "
          f"{'CPU':>5} {'load':>5}   {first}, msg/s and msg/CPU-s")
    for name, result in results.items():
        ratio = ""
        if base and name != first:
            ratio = (f"{base['per_second']['median'] / result['per_second']['median']:>7.2f} x "
                     f"{base['per_cpu']['median'] / max(result['per_cpu']['median'], 1e-9):>7.2f} x")
        print(f"  {name:<15} {result['per_second']['median']:>9,.0f} {spread(result['per_second']):>4} "
              f"{result['per_cpu']['median']:>10,.0f} {spread(result['per_cpu']):>4} "
              f"{result['p50_us']['median'] / 1e3:>9.3f} {result['p99_us']['median'] / 1e3:>9.3f} "
              f"{result['gigabytes']['median'] * 1e3:>6.0f} {result['server_cpu']['median'] * 100:>4.0f}% "
              f"{result['load_cpu']['median'] * 100:>4.0f}%   {ratio}", flush=True)


def print_markdown(content):
    """The table of docs/benchmarks.md, from a results file."""
    titles = {scenario.name: scenario.title for scenario in SCENARIOS}
    print("| scenario | server | messages/s | a CPU-second | p50 ms | p99 ms | MB/s |\n|---|---|---:|---:|---:|---:|---:|")
    for name, results in content["scenarios"].items():
        title = titles.get(name, name)
        for server, result in results.items():
            middle = {key: figure["median"] for key, figure in result.items() if key != "agreed"}
            print(f"| {title} | {server} | {middle['per_second']:,.0f} | {middle['per_cpu']:,.0f} | "
                  f"{middle['p50_us'] / 1e3:.3f} | {middle['p99_us'] / 1e3:.3f} | {middle['gigabytes'] * 1e3:,.0f} |")
            title = ""
    if content["goals"]:
        print("\n| goal of ringmx | limit | measured | |\n|---|---:|---:|---|")
    for goal in content["goals"]:
        print(f"| {goal['goal']} | {goal['limit']} | {goal['value']:.2f} | {'reached' if goal['reached'] else 'missed'} |")


def goal_value(results, scenario, figure, against):
    """Of ringmx, relative to another server, or to itself in another scenario, or as it is."""
    def median(name, server):
        return results.get(name, {}).get(server, {}).get(figure, {}).get("median")
    mine = median(scenario, "ringmx")
    if mine is None or against is None:
        return mine
    other = median(against, "ringmx") if against in results else median(scenario, against)
    return mine / other if other else None


def goals(results, idle, alone, beside):
    wanted = [("bytes for an idle connection", idle.get("ringmx"), "<=", 512)]
    wanted += [(title, goal_value(results, scenario, figure, against), how, limit)
               for title, scenario, figure, against, how, limit in GOALS]
    wanted += encrypted.goals(results, idle, alone, beside)
    found = []
    for title, value, how, limit in wanted:
        if value is not None:
            reached = value >= limit if how == ">=" else value <= limit
            digits = 0 if limit >= 100 else 2
            found.append({"goal": title, "value": value, "limit": f"{how} {limit:.{digits}f}", "reached": reached})
    return found


def print_goals(found):
    if found:
        print("\nGoals of ringmx")
    for goal in found:
        print(f"  {'reached' if goal['reached'] else 'MISSED ':<8} {goal['value']:>8.2f}  {goal['limit']:>8}  "
              f"{goal['goal']}")


# --- The environment sheet. ---

def read_line(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip()
    except OSError:
        return ""


def file_system(directory):
    best = ("", "", "", "")
    with open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            device, point, kind, options = line.split()[:4]
            inside = point == "/" or directory == point or directory.startswith(point + "/")
            if inside and len(point) >= len(best[1]):
                best = (device, point, kind, options)
    disk = os.path.basename(os.path.realpath(best[0]))
    cache = read_line(f"/sys/block/{disk}/queue/write_cache") or read_line(
        f"/sys/block/{disk.rstrip('0123456789')}/queue/write_cache")
    return {"device": best[0], "type": best[2], "options": best[3], "write_cache": cache}


def environment(directory, servers):
    vulnerabilities = {}
    for path in sorted(glob.glob("/sys/devices/system/cpu/vulnerabilities/*")):
        text = read_line(path)
        if not text.startswith("Not affected"):
            vulnerabilities[os.path.basename(path)] = text
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                  if line.startswith("model name")), platform.machine())
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "cpu": model,
        "cpus": os.cpu_count(),
        "server_cpu": SERVER_CPU,
        "load_cpu": LOAD_CPU,
        "governor": read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "none",
        "mitigations": vulnerabilities,
        "memory": read_line("/proc/meminfo").split(":")[-1].strip(),
        "file_system": file_system(directory),
        "loopback_mtu": read_line("/sys/class/net/lo/mtu"),
        "congestion_control": read_line("/proc/sys/net/ipv4/tcp_congestion_control"),
        "somaxconn": read_line("/proc/sys/net/core/somaxconn"),
        "load_average_at_start": os.getloadavg(),
        "compiler": peers.output(["gcc", "--version"]).split("\n")[0],
        "liburing": peers.output(["dpkg-query", "-W", "-f", "${Version}", "liburing2"]),
        "versions": {server.name: server.version() for server in servers if server.version()},
    }


# --- The run. ---

def start_servers(names, directory):
    servers, missing = [], []
    for kind in SERVERS + encrypted.SERVERS:
        if names and kind.name not in names:
            continue
        server = kind(directory, SERVER_CPU)
        try:
            server.start()
            servers.append(server)
        except peers.Unavailable as reason:
            missing.append(f"{server.name} is left out: {reason}")
            server.stop()
    return servers, missing


def measure(servers, scenarios, options):
    results, first = {}, servers[0].name
    idle, beside, alone = {}, None, []
    chosen = options.scenarios.split(",") if options.scenarios else [] if options.quick else ["idle", encrypted.BESIDE]
    if "idle" in chosen:  # first, while no server has touched its memory
        print(f"\n{IDLE_CONNECTIONS:,} idle connections: the server's own memory for each")
        for server in servers:
            if server.most < IDLE_CONNECTIONS or isinstance(server, (peers.Null, peers.RingmxRsa)):  # a page for each
                continue
            bytes_each = run_idle(server)
            if bytes_each is not None:
                idle[server.name] = bytes_each
                print(f"  {server.name:<15} {bytes_each:>8,.0f} bytes", flush=True)
            server.settle()
    for scenario in scenarios:
        seconds = options.seconds or (0.8 if options.quick else scenario.seconds)
        if scenario.name in encrypted.ALONE_BEFORE:
            alone.append(encrypted.alone(SERVER_CPU, options.quick))
        results[scenario.name] = run_scenario(servers, scenario, options.rounds, seconds, min(1.0, seconds / 3))
        clear = results.get(scenario.against, {}).get("ringmx")
        if results[scenario.name]:
            print_scenario(scenario, results[scenario.name], first, clear)
    rsa = next((server for server in servers if server.name == encrypted.RSA), None)
    if rsa and encrypted.BESIDE in chosen:
        beside = encrypted.run_beside(rsa, LOAD, LOAD_CPU, options.rounds, options.seconds or 3.0)
        if beside:
            encrypted.print_beside(beside)
    alone = encrypted.middle_of(alone) if alone and all(alone) else None
    if alone:
        encrypted.print_alone(alone)
    return results, idle, beside, alone


def options_read():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few scenarios, one short round; no results file")
    parser.add_argument("--rounds", type=int, help="runs of each server in each scenario (3; quick: 1)")
    parser.add_argument("--seconds", type=float, help="measured time of a run")
    parser.add_argument("--servers", help="only these, by name, with commas between")
    names = ["idle", encrypted.BESIDE, *(one.name for one in SCENARIOS)]
    parser.add_argument("--scenarios", help="only these: " + " ".join(names))
    parser.add_argument("--directory", default=os.path.join(ROOT, "build"),
                        help="where the servers keep mail: on the disk to be measured (build/)")
    parser.add_argument("--json", help="write the results here, too")
    parser.add_argument("--markdown", action="store_true", help="measure nothing: print the last results as tables")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def write_json(path, content):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def main():
    options = options_read()
    if options.markdown:
        with open(RESULTS, encoding="utf-8") as file:
            print_markdown(json.load(file))
        return
    if (os.cpu_count() or 1) < 2:
        sys.exit("bench: two CPUs are needed, one for the server and one for the load")
    if not os.access(LOAD, os.X_OK):
        sys.exit("bench: build/ringmx-load is missing; run make first")
    wanted = options.scenarios.split(",") if options.scenarios else None
    scenarios = [one for one in SCENARIOS if (one.name in wanted if wanted else one.quick or not options.quick)]
    peers.allow_files(40_000)
    os.sched_setaffinity(0, {LOAD_CPU})
    directory = tempfile.mkdtemp(prefix="bench-", dir=os.path.abspath(options.directory))
    os.chmod(directory, 0o755)
    servers = []
    try:
        servers, missing = start_servers(options.servers.split(",") if options.servers else None, directory)
        sheet = environment(directory, servers)
        print(f"{sheet['cpu']}, Linux {sheet['kernel']}, {sheet['file_system']['type']}; server on CPU {SERVER_CPU}, "
              f"load on CPU {LOAD_CPU}; medians of {options.rounds}")
        if sheet["load_average_at_start"][0] > 0.5:
            print(f"This machine is not at rest (load average {sheet['load_average_at_start'][0]:.1f}): figures are rough.")
        for line in missing:
            print(line)
        if not servers:
            sys.exit("bench: no server to measure")
        results, idle, beside, alone = measure(servers, scenarios, options)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    reached = goals(results, idle, alone, beside)
    print_goals(reached)
    content = {"environment": sheet, "rounds": options.rounds, "scenarios": results, "idle_bytes": idle,
               "tls_alone": alone, "tls_beside": beside, "goals": reached}
    if options.json:
        write_json(options.json, content)
    if not options.quick and not options.scenarios and not options.servers:
        write_json(RESULTS, content)


if __name__ == "__main__":
    main()
