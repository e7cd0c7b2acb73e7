"""What the benchmark measures of TLS: its scenarios, RSA clients beside plain ones, and the goals, which are
ratios to what BoringSSL does alone (ringmx-bench-tls) and to the same server in clear."""

import json
import os
import statistics
import subprocess
import time

import peers

ALONE = os.path.join(peers.BUILD, "ringmx-bench-tls")
SERVERS = [peers.RingmxTls, peers.RingmxRsa, peers.PostfixTls]
ECDSA, RSA, POSTFIX = "ringmx tls", "ringmx rsa", "postfix tls"
BESIDE = "tls-beside"
BESIDE_PLAIN, BESIDE_RSA = 10, 20  # connections
ALONE_BEFORE = ("tls-once", "tls-starttls", "tls-m10")  # scenarios whose goals need it: it is measured beside them

# Name, title, arguments of the load program, connections, who, the scenario in clear to compare with, quick.
IMPLICIT = "--tls implicit --tls-min 1.3"
ONCE = "--messages-per-connection 1"
SCENARIOS = [
    ("tls-once", "TLS 1.3, one message a connection, ECDSA", f"{IMPLICIT} {ONCE}", 100, (ECDSA,), "once", True),
    ("tls-starttls", "STARTTLS 1.3, one message a connection, ECDSA", f"--tls starttls --tls-min 1.3 {ONCE}", 100,
     (ECDSA, POSTFIX), "once", False),
    ("tls-resumed", "TLS 1.3 resumed, one message a connection", f"{IMPLICIT} --tls-resume {ONCE}", 100, (ECDSA,),
     "once", True),
    ("tls-rsa", "TLS 1.3, one message a connection, RSA-2048", f"{IMPLICIT} {ONCE}", 100, (RSA,), "once", False),
    ("tls-old", "TLS 1.2, one message a connection, ECDSA", f"--tls implicit --tls-max 1.2 {ONCE}", 100, (ECDSA,),
     "once", False),
    ("tls-old-resumed", "TLS 1.2 resumed, one message a connection",
     f"--tls implicit --tls-max 1.2 --tls-resume {ONCE}", 100, (ECDSA,), "once", False),
    ("tls-c100", "TLS 1.3, 4 KiB, pipelined, 100 connections", IMPLICIT, 100, (ECDSA,), "c100", False),
    ("tls-m10", "TLS 1.3, 10 MB, pipelined, 10 connections", f"{IMPLICIT} --size 10000000", 10, (ECDSA,), "m10",
     True),
]

# Names of ringmx-bench-tls for what was agreed.
HANDSHAKES = {"X25519": "tls13_ecdsa", "P-256": "tls13_ecdsa_p256", "X25519MLKEM768": "tls13_ecdsa_mlkem"}
CIPHERS = {"TLS_AES_128_GCM_SHA256": "aes128gcm_tls13", "TLS_AES_256_GCM_SHA384": "aes256gcm",
           "TLS_CHACHA20_POLY1305_SHA256": "chacha20"}


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


def plain_p99(server, load, cpu, seconds, with_rsa):
    """p99 in microseconds of clients in clear, alone or with a second load program of RSA handshakes. Neither spins,
    and the second has the lower priority: what it takes from the first on their CPU is not the server's doing."""
    own = ["--cpu", str(cpu), "--json", "--warm-up", "0.5"]
    beside = None
    if with_rsa:
        beside = subprocess.Popen(
            [load, "--port", str(server.implicit_port), "--connections", str(BESIDE_RSA), "--seconds", str(seconds + 2),
             *own, *IMPLICIT.split(), *ONCE.split()], stdout=subprocess.PIPE, text=True, preexec_fn=lower_priority)
        time.sleep(0.5)
    plain = subprocess.run([load, "--port", str(server.port), "--connections", str(BESIDE_PLAIN), "--seconds",
                            str(seconds), *own], stdout=subprocess.PIPE, text=True, check=False)
    if beside is not None:
        other = json.loads(beside.communicate()[0])
        if other["counted"] == 0 or beside.returncode != 0:
            return None
    return json.loads(plain.stdout)["latency_us"]["p99"] if plain.returncode == 0 else None


def run_beside(server, load, cpu, rounds, seconds):
    """The two alternate; medians of both, or None when a run failed."""
    found = {"alone": [], "beside": []}
    for _ in range(rounds):
        for name, with_rsa in (("alone", False), ("beside", True)):
            p99 = plain_p99(server, load, cpu, seconds, with_rsa)
            server.settle()
            if p99 is None:
                return None
            found[name].append(p99)
    return {"p99_us": {name: {"median": statistics.median(runs), "runs": runs} for name, runs in found.items()}}


def print_beside(result):
    p99 = {name: row["median"] for name, row in result["p99_us"].items()}
    print(f"\n4 KiB in clear, pipelined, {BESIDE_PLAIN} connections: p99 alone {p99['alone'] / 1e3:.3f} ms, with "
          f"{BESIDE_RSA} connections that make RSA-2048 handshakes {p99['beside'] / 1e3:.3f} ms", flush=True)


# --- Goals: title, value, how, limit. ---

def middle(results, scenario, server, figure):
    return results.get(scenario, {}).get(server, {}).get(figure, {}).get("median")


def agreed(results, scenario, what):
    """The name of the group or cipher that the connections of a scenario have, or None."""
    return results.get(scenario, {}).get(ECDSA, {}).get("agreed", {}).get(what)


def handshake_goals(results, figures):
    yardstick = middle(results, "once", "null direct", "per_cpu")
    full = middle(results, "tls-once", ECDSA, "per_cpu")
    for scenario, title in (("tls-once", "TLS 1.3 and one message"), ("tls-starttls", "the same by STARTTLS")):
        rate = middle(results, scenario, ECDSA, "per_cpu")
        name = HANDSHAKES.get(agreed(results, scenario, "group"))
        if figures and yardstick and rate and name in figures["handshake_us"]:
            seconds = figures["handshake_us"][name]["boringssl"] / 1e6 + 1 / yardstick
            yield f"{title}, against BoringSSL's handshake and null direct's message", rate * seconds, ">=", 0.7
    for scenario, base, title in (("tls-resumed", "tls-once", "TLS 1.3 resumed against full"),
                                  ("tls-old-resumed", "tls-old", "TLS 1.2 resumed against full")):
        resumed, full = (middle(results, name, ECDSA, "per_cpu") for name in (scenario, base))
        if resumed and full:
            yield title, resumed / full, ">=", 2.0


def bulk_goals(results, figures):
    speed = {}
    for scenario, server in (("tls-m10", ECDSA), ("m10", "ringmx")):
        rate, cpu = (middle(results, scenario, server, figure) for figure in ("gigabytes", "server_cpu"))
        speed[scenario] = rate / cpu if rate and cpu else None
    name = CIPHERS.get(agreed(results, "tls-m10", "cipher"))
    if figures and name and all(speed.values()):
        cipher = figures["gigabytes_per_second"][name]["open"]["aead"]
        yield ("10 MB over TLS, GB a CPU-second, against the lesser of cipher and clear path",
               speed["tls-m10"] / min(cipher, speed["m10"]), ">=", 0.6)


def goals(results, idle, figures, beside):
    if ECDSA in idle:
        yield "octets for an idle TLS connection", idle[ECDSA], "<=", 8192
    yield from handshake_goals(results, figures)
    yield from bulk_goals(results, figures)
    if beside:
        p99 = beside["p99_us"]
        yield ("p99 of plain clients, with RSA clients beside, against without",
               p99["beside"]["median"] / p99["alone"]["median"], "<=", 2.0)
