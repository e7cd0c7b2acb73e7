"""What is measured: the scenarios, in the order in which they are run, and which servers take part in each."""

import dataclasses
import os

import peers

ROOT = os.path.dirname(peers.HERE)
SOURCES = "--sources 127.0.0.0/8"  # each connection from an address of its own, as in life
ONCE = "--messages-per-connection 1"
IMPLICIT = "--tls implicit --tls-min 1.3"
STARTTLS = "--tls starttls --tls-min 1.3"
LIFE = "--size lognormal:8k:1.5:10M"

# Mails to send: a folder of messages, or the folder that the tests read, too, if it is there.
CORPUS = os.environ.get("BENCH_CORPUS") or os.path.join(
    os.path.dirname(ROOT), "shared", "data", "eml-spamassassin-hard-ham")

# Groups of servers. Ringmx with an RSA certificate is only in the scenario of RSA.
FDATASYNC = "null fdatasync"
GROUPS = {
    "all": lambda kind: kind.key_kind is None,
    "clear": lambda kind: kind.key_kind is None and kind.name != FDATASYNC,
    "durable": lambda kind: kind.key_kind is None and kind.name != FDATASYNC and kind.durable,
    "own": lambda kind: kind.name in ("ringmx", "null direct"),
    "ecdsa": lambda kind: kind.key_kind == "ecdsa",
    "ringmx tls": lambda kind: kind.name == "ringmx tls",
    "ringmx rsa": lambda kind: kind.name == "ringmx rsa",
}


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    arguments: str
    connections: int
    group: str = "clear"
    quick: bool = False
    longer: float = 1.0  # its time, in times that of the others
    idle: int = 0  # connections beside those that send
    against: str = ""  # the scenario in clear that it is compared with
    alone: bool = False  # what BoringSSL does by itself is measured beside it

    def takes(self, kind):
        return GROUPS[self.group](kind) and self.connections + self.idle <= kind.most


def sending(words, connections, **more):
    """A scenario whose only point is the number of connections."""
    sources = SOURCES if connections >= 300 else ""
    unit = "connection" if connections == 1 else "connections"
    return Scenario(f"{words[0]}{connections}", f"4 KiB, {words[1]}, {connections:,} {unit}",
                    f"{words[2]} {sources}".strip(), connections, **more)


PIPELINED = ("c", "pipelined", "")
LOCK_STEP = ("l", "lock-step", "--lock-step")

CLOSED = [
    sending(PIPELINED, 1),
    sending(PIPELINED, 10, group="all", quick=True),
    sending(PIPELINED, 30),
    sending(PIPELINED, 100, group="all", quick=True),
    sending(PIPELINED, 300),
    sending(PIPELINED, 1000),
    sending(PIPELINED, 3000),
    sending(PIPELINED, 10_000),
    sending(LOCK_STEP, 1),
    sending(LOCK_STEP, 10),
    sending(LOCK_STEP, 100),
    sending(LOCK_STEP, 1000),
    Scenario("once", "4 KiB, one message a connection, 100 at a time", ONCE, 100, quick=True),
    Scenario("k64", "64 KiB, pipelined, 100 connections", "--size 65536", 100),
    Scenario("m10", "10 MB, pipelined, 10 connections", "--size 10000000", 10, quick=True, longer=2.0),
    Scenario("r100", "4 KiB, 100 recipients, pipelined, 10 connections", "--recipients 100", 10, longer=2.0),
    Scenario("life", "sizes as in life (lognormal, median 8 kB), 100 connections", LIFE, 100, longer=2.0),
    Scenario("corpus", "real mail, 100 connections", f"--corpus {CORPUS}", 100),
    Scenario("beside-idle", "4 KiB, pipelined, 100 connections beside 10,000 idle ones", f"--idle 10000 {SOURCES}", 100,
             idle=10_000, against="c100"),
]

TLS = [
    Scenario("tls-once", "TLS 1.3, one message a connection, ECDSA", f"{IMPLICIT} {ONCE}", 100, "ringmx tls", True,
             against="once", alone=True),
    Scenario("tls-starttls", "STARTTLS 1.3, one message a connection, ECDSA", f"{STARTTLS} {ONCE}", 100, "ecdsa",
             against="once", alone=True),
    Scenario("tls-starttls-resumed", "STARTTLS 1.3 resumed, one message a connection",
             f"{STARTTLS} --tls-resume {ONCE}", 100, "ecdsa", against="once"),
    Scenario("tls-resumed", "TLS 1.3 resumed, one message a connection", f"{IMPLICIT} --tls-resume {ONCE}", 100,
             "ringmx tls", True, against="once"),
    Scenario("tls-rsa", "TLS 1.3, one message a connection, RSA-2048", f"{IMPLICIT} {ONCE}", 100, "ringmx rsa",
             against="once"),
    Scenario("tls-old", "TLS 1.2, one message a connection, ECDSA", f"--tls implicit --tls-max 1.2 {ONCE}", 100,
             "ringmx tls", against="once"),
    Scenario("tls-old-resumed", "TLS 1.2 resumed, one message a connection",
             f"--tls implicit --tls-max 1.2 --tls-resume {ONCE}", 100, "ringmx tls", against="once"),
    Scenario("tls-c100", "STARTTLS 1.3, 4 KiB, pipelined, 100 connections", STARTTLS, 100, "ecdsa", against="c100"),
    Scenario("tls-m10", "TLS 1.3, 10 MB, pipelined, 10 connections", f"{IMPLICIT} --size 10000000", 10, "ringmx tls",
             True, longer=2.0, against="m10", alone=True),
]

# Open loops: messages begin when the clock says so. Their rates are half of what a server takes with 100 connections in
# a closed loop (c100): of all that are durable the slowest, or ringmx.
RATED_BY, RATED_SHARE = "c100", 0.5
OPEN = [
    Scenario("open-slowest", "open loop, half of what the slowest durable server takes", "--arrivals poisson", 100,
             "durable", longer=4.0),
    Scenario("open-own", "open loop, half of what ringmx takes", "--arrivals poisson", 100, "own", longer=4.0),
]
KNEE_P99 = "10ms"
KNEE = Scenario("knee", f"the highest rate with p99 <= {KNEE_P99}, open loop", "--arrivals poisson", 100, "own")

# Measures of another kind, and what they are called with --scenarios.
IDLE, BESIDE_RSA = "idle", "tls-beside"
GROWTH = [one.name for one in CLOSED if one.name.startswith("c") and one.name[1:].isdigit() and one.connections >= 10]
ALL = [*CLOSED, *TLS, *OPEN, KNEE]
NAMES = [IDLE, *(one.name for one in ALL), BESIDE_RSA]


def title_of(name):
    return next((one.title for one in ALL if one.name == name), name)
