#!/usr/bin/python3
"""Measures ringmx, its do-nothing yardsticks and, with --compare, its peers, all in one run.

Each server runs on one CPU and the load program on another; the servers take turns, so that what disturbs the machine
disturbs them alike. What is measured, how, and what it does not say stands in docs/benchmarks.md.

    bench.py              ringmx and the yardsticks; replaces bench/results/ringmx.json      (make bench)
    bench.py --compare    peers, too; replaces bench/results/results.json                    (make bench-compare)
    bench.py --quick      less than a minute; no file; exits with 1 if something is broken   (a job of make test)
    bench.py --markdown   measures nothing: the tables of docs/benchmarks.md from results.json

With --servers, --scenarios or --quick nothing is replaced; --json FILE writes the results there. After each scenario
build/bench-so-far.json has everything up to then.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile

import environment
import goals
import measure
import peers
import report
import scenarios
import session

RESULTS = os.path.join(peers.HERE, "results")
COMPARED, OWN = os.path.join(RESULTS, "results.json"), os.path.join(RESULTS, "ringmx.json")
SERVERS = peers.ALL + peers.ENCRYPTED
QUICK_SERVERS = ("ringmx", "ringmx tls", "null memory", "null direct")


def options_read():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", action="store_true", help="measure the peers, too")
    parser.add_argument("--quick", action="store_true", help="few scenarios, one short round")
    parser.add_argument("--rounds", type=int, help="runs of each server in each scenario (3; quick: 1)")
    parser.add_argument("--seconds", type=float, help="measured time of a run (1; quick: 0.8)")
    parser.add_argument("--minutes", type=float, default=23,
                        help="fewer rounds than wanted rather than longer than this, in all (23; 0: no limit)")
    parser.add_argument("--servers", help="only these, by name, with commas between")
    parser.add_argument("--scenarios", help="only these: " + " ".join(scenarios.NAMES))
    parser.add_argument("--directory", default=peers.BUILD,
                        help="where the servers keep mail: on the disk to be measured (build/)")
    parser.add_argument("--json", help="write the results here, too")
    parser.add_argument("--markdown", nargs="?", const=COMPARED, metavar="FILE",
                        help="measure nothing: print a results file as tables")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.8 if options.quick else 1.0)
    return options


def chosen_servers(options):
    if options.servers:
        names = options.servers.split(",")
        unknown = set(names) - {kind.name for kind in SERVERS}
        if unknown:
            sys.exit(f"bench: no such server: {', '.join(sorted(unknown))}")
        return [kind for kind in SERVERS if kind.name in names]
    if options.quick:
        return [kind for kind in SERVERS if kind.name in QUICK_SERVERS]
    return [kind for kind in SERVERS if options.compare or issubclass(kind, (peers.Ringmx, peers.Null))]


def chosen_scenarios(options):
    if options.scenarios:
        names = options.scenarios.split(",")
        unknown = set(names) - set(scenarios.NAMES)
        if unknown:
            sys.exit(f"bench: no such scenario: {', '.join(sorted(unknown))}")
        return names
    if options.quick:
        return [one.name for one in scenarios.ALL if one.quick]
    return [name for name in scenarios.NAMES if name != "corpus" or os.path.exists(scenarios.CORPUS)]


def start_servers(kinds, directory):
    """Those that run, and a sentence for each that does not."""
    servers, missing = [], []
    for kind in kinds:
        server = kind(directory, measure.SERVER_CPU)
        try:
            server.start()
            servers.append(server)
        except (peers.Unavailable, OSError) as reason:
            missing.append(f"{server.name} is left out: {reason}")
            server.stop()
    return servers, missing


def measured(options, directory):
    """Starts everything, measures, ends everything; the results as they are written."""
    servers, missing = start_servers(chosen_servers(options), directory)
    try:
        sheet, noise = environment.sheet(directory, servers), environment.Noise()
        print(f"{sheet['cpu']}, Linux {sheet['kernel']}, {sheet['file_system']['type']}; server on CPU "
              f"{measure.SERVER_CPU}, load on CPU {measure.LOAD_CPU}; medians of {options.rounds}")
        print("\n".join([*missing, *environment.warnings(sheet["load_average_at_start"][0], 0)]), flush=True)
        if not servers:
            sys.exit("bench: no server to measure")
        one = session.Session(servers, options)
        one.run(chosen_scenarios(options))
    finally:
        for server in servers:
            server.stop()
    content = {"environment": sheet | {"stolen": noise.share()}} | one.content()
    content["missing"] = missing
    content["goals"] = goals.judged(content)
    return content


def run(options):
    if not os.access(measure.LOAD, os.X_OK):
        sys.exit("bench: build/ringmx-load is missing; run make first")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))  # so that the servers end, too
    peers.allow_files(40_000)
    os.sched_setaffinity(0, {measure.LOAD_CPU})
    directory = tempfile.mkdtemp(prefix="bench-", dir=os.path.abspath(options.directory))
    os.chmod(directory, 0o755)
    try:
        content = measured(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    report.print_goals(content["goals"])
    print("\n".join(environment.warnings(0, content["environment"]["stolen"])))
    return content


def keep(options, content):
    if options.json:
        session.write_json(options.json, content)
    if not (options.quick or options.scenarios or options.servers):
        path = COMPARED if options.compare else OWN
        session.write_json(path, content)
        print(f"{content['minutes']:.0f} minutes; {len(content['failures'])} failures; written to "
              f"{os.path.relpath(path)}")


def judge(content):
    """The quick benchmark is a test: it fails when something is broken, never for noise."""
    absurd = list(goals.absurd(content))
    print("\n".join(absurd))
    print("0 passed, 1 failed" if absurd else "1 passed, 0 failed")
    sys.exit(1 if absurd else 0)


def main():
    options = options_read()
    if options.markdown:
        with open(options.markdown, encoding="utf-8") as file:
            print("\n".join(report.markdown(json.load(file))))
        return
    if not {measure.SERVER_CPU, measure.LOAD_CPU} <= os.sched_getaffinity(0):
        print("bench: two CPUs are needed, one for the server and one for the load\n0 passed, 0 failed, 1 skipped")
        sys.exit(0 if options.quick else 2)
    content = run(options)
    keep(options, content)
    if options.quick:
        judge(content)


if __name__ == "__main__":
    main()
