"""What the benchmark measures of TLS beside its scenarios: what BoringSSL does alone (ringmx-bench-tls), to which the
goals are ratios, and clients in clear with RSA handshakes beside them."""

import json
import os
import statistics
import subprocess
import time

import measure
import peers
import scenarios

ALONE = os.path.join(peers.BUILD, "ringmx-bench-tls")
BESIDE_PLAIN, BESIDE_RSA = 10, 20  # connections


def alone(cpu, quick):
    """What BoringSSL and tls/ do by themselves, on the server's CPU; None when the program is not there."""
    try:
        done = subprocess.run([ALONE, "--json", "--milliseconds", "100" if quick else "500"], capture_output=True,
                              text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
        return json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def middle_of(all_figures):
    """One of several results of alone(): each figure is the median of its kind."""
    first = all_figures[0]
    if isinstance(first, dict):
        return {name: middle_of([figures[name] for figures in all_figures]) for name in first}
    return first if isinstance(first, str) else statistics.median(all_figures)


def print_alone(figures):
    print(f"\n{figures['library']} alone, in memory, server side; microseconds and GB/s"
          f"\n  {'':<30} {'BoringSSL':>10} {'tls/':>10}")
    for name, row in figures["handshake_us"].items():
        print(f"  {name:<30} {row['boringssl']:>10.1f} {row['ringmx']:>10.1f}")
    for name, row in figures["gigabytes_per_second"].items():
        print(f"  {name + ', open':<30} {row['open']['aead']:>10.2f} {row['open']['ringmx']:>10.2f}")
    row = figures["memory_octets"]
    print(f"  {'octets of a waiting connection':<30} {row['boringssl']['idle']:>10,} {row['ringmx']['idle']:>10,}",
          flush=True)


# --- RSA clients beside plain ones. ---

def lower_priority():
    os.nice(5)


def plain_p99(server, seconds, with_rsa):
    """p99 in microseconds of clients in clear, alone or with a second load program of RSA handshakes. Neither spins,
    and the second has the lower priority: what it takes from the first on their CPU is not the server's doing."""
    own = ["--cpu", str(measure.LOAD_CPU), "--json", "--warm-up", "0.5"]
    beside = None
    if with_rsa:
        words = f"{measure.address(server, scenarios.IMPLICIT)} {scenarios.IMPLICIT} {scenarios.ONCE}"
        beside = subprocess.Popen(
            [measure.LOAD, *words.split(), "--connections", str(BESIDE_RSA), "--seconds", str(seconds + 2), *own],
            stdout=subprocess.PIPE, text=True, preexec_fn=lower_priority)
        time.sleep(0.5)
    plain = subprocess.run([measure.LOAD, measure.address(server), "--connections", str(BESIDE_PLAIN), "--seconds",
                            str(seconds), *own], stdout=subprocess.PIPE, text=True, check=False)
    if beside is not None:
        other = json.loads(beside.communicate()[0])
        if other["counted"] == 0 or beside.returncode != 0:
            raise measure.Failed("the clients with RSA handshakes failed")
    if plain.returncode != 0:
        raise measure.Failed("the clients in clear failed")
    return json.loads(plain.stdout)["times"]["message"]["p99"]


def run_beside(server, rounds, seconds):
    """The two alternate; medians of both."""
    found = {"alone": [], "beside": []}
    for _ in range(rounds):
        for name, with_rsa in (("alone", False), ("beside", True)):
            found[name].append(plain_p99(server, seconds, with_rsa))
            server.settle()
    return {"p99_us": {name: measure.middle(runs) for name, runs in found.items()}}


def print_beside(result):
    p99 = {name: row["median"] for name, row in result["p99_us"].items()}
    print(f"\n4 KiB in clear, pipelined, {BESIDE_PLAIN} connections: p99 alone {p99['alone'] / 1e3:.3f} ms, with "
          f"{BESIDE_RSA} connections that make RSA-2048 handshakes {p99['beside'] / 1e3:.3f} ms", flush=True)
