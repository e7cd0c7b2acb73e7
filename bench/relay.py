#!/usr/bin/python3
"""Measures delivery to a next hop: a server takes mail durably and sends it on by SMTP to ringmx-sink. The server has
one CPU; load and sink share the other.

    relay.py              all of it; replaces bench/results/relay.json      (make bench-relay)
    relay.py --quick      seconds; no file; exits with 1 if something is broken
    relay.py --only NAME  one of: relay through fair backlog

relay    messages a second from the first MAIL until the sink has the last one: ringmx and Postfix
cost     CPU time of taking and delivering against taking alone
through  what pass-through adds to the time of a message
fair     the time from MAIL to the next hop, alone and beside 1,000 destinations that are dead
backlog  1,000,000 messages for a next hop that is dead: memory for each, time to list them, kill -9 and the time of
         recovery, then the rate at which they leave; each must arrive exactly once
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import environment
import measure
import peers
import session
from peers.server import fill, free_port, listening_port

CONTROL = os.path.join(peers.BUILD, "ringmxctl")
RESULTS = os.path.join(peers.HERE, "results", "relay.json")
SINK = os.path.join(peers.BUILD, "ringmx-sink")
CONNECTIONS = 100
DEAD = 1000
BACKLOG, BACKLOG_FEW, BACKLOG_QUICK = 1_000_000, 100_000, 20_000
BACKLOG_SIZE = 600
BACKLOG_DISK = 4096  # octets for each, at most: one block each, if no two ever shared a batch
BACKLOG_PATIENCE = 600
GOALS = {"relay": ("relay rate, times Postfix's", 25.0, "at least"),
         "cost": ("CPU of delivering, times that of receiving", 1.2, "at most"),
         "through": ("pass-through adds to p50, ms", 1.0, "at most"),
         "fair": ("p99 beside 1,000 dead destinations, times that without", 1.3, "at most"),
         "backlog": ("memory for a waiting message, octets", 256.0, "at most")}


class Sink:
    """ringmx-sink on the load's CPU; counts what has arrived."""

    def __init__(self, directory, port=0):
        self.log_path = os.path.join(directory, "sink.log")
        open(self.log_path, "w", encoding="ascii").close()
        self.process = subprocess.Popen(
            [SINK, "--listen", f"127.0.0.1:{port}", "--cpu", str(measure.LOAD_CPU), "--log", self.log_path],
            stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().rpartition(":")[2])
        self.offset, self.count = 0, 0

    def arrived(self):
        """How many messages it has taken so far."""
        with open(self.log_path, "rb") as log:
            log.seek(self.offset)
            data = log.read()
        self.offset += len(data)
        self.count += data.count(b"\n")
        return self.count

    def wait_for(self, count, seconds):
        deadline = time.monotonic() + seconds
        while self.arrived() < count:
            if time.monotonic() > deadline:
                raise measure.Failed(f"the sink has {self.count} of {count} messages")
            time.sleep(0.01)
        return time.monotonic()

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class RingmxRelay(peers.Ringmx):
    """ringmx with the sink as its next hop."""

    def __init__(self, directory, sink, more="", domains="", name="relay", settings="", level="info"):
        super().__init__(directory, measure.SERVER_CPU)
        self.words = {"sink": sink, "connections": CONNECTIONS, "more": more, "domains": domains, "settings": settings,
                      "level": level}
        self.directory = os.path.join(directory, name)
        self.log_path = os.path.join(self.directory, "log")

    def start(self):
        os.makedirs(os.path.join(self.directory, "spool"), exist_ok=True)
        configuration = os.path.join(self.directory, "ringmx.conf")
        fill("ringmx-relay.conf", configuration, directory=self.directory, **self.words)
        self.spawn([os.path.join(peers.BUILD, "ringmx"), "-c", configuration])

    def find_port(self):
        """The log says it only at level info."""
        return super().find_port() if self.words["level"] == "info" else listening_port(self.process.pid)

    def kill(self):
        """As if the power failed; what was written stays."""
        self.process.kill()
        self.process.wait()
        self.stop()


class PostfixRelay(peers.Postfix):
    """Postfix with the sink as its next hop."""

    queues = (*peers.Postfix.queues, "queue/deferred")

    def __init__(self, directory, sink):
        super().__init__(directory, measure.SERVER_CPU)
        self.sink = sink

    def spawn(self, command):
        conf = os.path.join(self.directory, "conf")
        more = os.path.join(conf, "relay.cf")
        fill("postfix-relay.cf", more, sink=self.sink, connections=CONNECTIONS)
        with open(more, encoding="utf-8") as text, open(os.path.join(conf, "main.cf"), "a", encoding="utf-8") as main:
            main.write(text.read())
        with open(os.path.join(conf, "master.cf"), "a", encoding="utf-8") as master:
            master.write("smtp unix - - n - - smtp\n")
        super().spawn(command)


def run_load(server, messages, arguments="", patience=measure.PATIENCE_SECONDS):
    """Sends so many messages; returns the program's report."""
    command = [measure.LOAD, measure.address(server), "--cpu", str(measure.LOAD_CPU), "--json", "--messages",
               str(messages), "--connections", str(CONNECTIONS), *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=False)
    report = measure.parsed(done.stdout)
    if done.returncode not in (measure.OK, measure.INVALID) or report is None:
        raise measure.Failed(done.stderr[-300:] or f"exit code {done.returncode}")
    return report


def with_server(server, action):
    try:
        server.start()
        return action(server)
    finally:
        server.stop()


def relayed(server, sink, messages):
    """One run: messages a second up to the last arrival, and CPU seconds of the server for each."""
    before, cpu, begun = sink.arrived(), server.cpu_seconds(), time.monotonic()
    run_load(server, messages)
    ended = sink.wait_for(before + messages, 120)
    server.settle()
    return {"per_second": messages / (ended - begun), "cpu_us": (server.cpu_seconds() - cpu) / messages * 1e6}


def received(server, messages):
    """CPU seconds for a message that is only taken."""
    cpu = server.cpu_seconds()
    run_load(server, messages)
    server.settle()
    return {"cpu_us": (server.cpu_seconds() - cpu) / messages * 1e6}


def middle(runs, name):
    return measure.middle([run[name] for run in runs])["median"]


def measure_relay(directory, options):
    """ringmx and Postfix, and ringmx that only receives, in turns."""
    sink = Sink(directory)
    runs = {"ringmx": [], "receiving": [], "postfix": []}
    messages = 5_000 if options.quick else 100_000
    try:
        for number in range(options.rounds):
            place = os.path.join(directory, f"round{number}")
            relay = RingmxRelay(place, sink.port)
            runs["ringmx"].append(with_server(relay, lambda one: (relayed(one, sink, messages // 10),
                                                                  relayed(one, sink, messages))[1]))
            plain = peers.Ringmx(place, measure.SERVER_CPU)
            runs["receiving"].append(with_server(plain, lambda one: (received(one, messages // 10),
                                                                     received(one, messages))[1]))
            if not options.quick:
                postfix = PostfixRelay(place, sink.port)
                runs["postfix"].append(with_server(postfix, lambda one: relayed(one, sink, 3_000)))
            shutil.rmtree(place, ignore_errors=True)
    finally:
        sink.stop()
    found = {name: {figure: middle(those, figure) for figure in those[0]} for name, those in runs.items() if those}
    delivering = found["ringmx"]["cpu_us"] - found["receiving"]["cpu_us"]
    found["cost"] = delivering / found["receiving"]["cpu_us"]
    if "postfix" in found:
        found["times_postfix"] = found["ringmx"]["per_second"] / found["postfix"]["per_second"]
    return found


def measure_through(directory, options):
    """p50 of a message: to the sink, and through ringmx to the sink; open loop, so that neither is busy."""
    sink = Sink(directory)
    arguments = f"--rate 300 --arrivals constant --seconds {2 if options.quick else 10}"

    def p50(server):
        command = [measure.LOAD, f"127.0.0.1:{server.port}", "--cpu", str(measure.LOAD_CPU), "--json", "--connections",
                   "20", *arguments.split()]
        report = measure.parsed(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
        return report["times"]["message"]["p50"] / 1000

    direct, through, spooled = [], [], []
    try:
        for number in range(options.rounds):
            direct.append(p50(sink))
            relay = RingmxRelay(directory, sink.port, "mode = through", name=f"through{number}")
            through.append(with_server(relay, p50))
            relay = RingmxRelay(directory, sink.port, name=f"spooled{number}")
            spooled.append(with_server(relay, p50))
    finally:
        sink.stop()
    found = {"direct_ms": measure.middle(direct)["median"], "through_ms": measure.middle(through)["median"],
             "spooled_ms": measure.middle(spooled)["median"]}
    found["adds_ms"] = found["through_ms"] - found["direct_ms"]
    return found


# --- Fairness: a sender and a next hop in this process, so that both read one clock. ---


class Arrivals:
    """A small SMTP server: when did each message come whose text says when it was sent?"""

    def __init__(self):
        self.times = []

    async def serve(self, reader, writer):
        writer.write(b"220 sink ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-sink\r\n250 PIPELINING\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                await writer.drain()
                text = await reader.readuntil(b"\r\n.\r\n")
                self.times.append(time.monotonic() - float(re.search(rb"X-Sent: (\S+)", text)[1]))
                writer.write(b"250 ok\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
        writer.close()


async def send_one(port, recipients, text):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    for line in ["EHLO load.example", "MAIL FROM:<load@sender.example>",
                 *(f"RCPT TO:<{one}>" for one in recipients), "DATA"]:
        writer.write(line.encode() + b"\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
    writer.write(text + b"\r\n.\r\nQUIT\r\n")
    reply = await reader.readline()
    writer.close()
    if not reply.startswith(b"250"):
        raise measure.Failed(f"the message was refused: {reply!r}")


def dead_domains(hanging_port):
    """Domains that have next hops of their own: half refuse connections, half never answer."""
    lines = []
    for number in range(DEAD):
        host = f"127.1.{number // 250}.{number % 250 + 1}"
        port = hanging_port if number % 2 else 9
        lines.append(f'domain "d{number}.dead.example" {{ recipients = {{"*"}} deliver = "smtp:{host}:{port}" }}')
    return "\n".join(lines)


def hanging_listener():
    """A port whose line is full: who connects hears nothing."""
    listener = socket.socket()
    listener.bind(("0.0.0.0", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    held = []
    for _ in range(8):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
        held.append(one)
    return listener, held, port


async def letters(server_port, seconds, rate):
    """Sends at a constant rate; gives the times to the next hop, in milliseconds, sorted."""
    for number in range(int(seconds * rate)):
        begun = time.monotonic()
        text = b"X-Sent: %.6f\r\nSubject: letter\r\n\r\nhello" % begun
        await send_one(server_port, [f"user{number}@example.org"], text)
        await asyncio.sleep(max(0, 1 / rate - (time.monotonic() - begun)))


async def fair_run(directory, options, dead):
    listener, held, hanging = hanging_listener()
    arrivals = Arrivals()
    sink = await asyncio.start_server(arrivals.serve, "127.0.0.1", 0)
    port = sink.sockets[0].getsockname()[1]
    relay = RingmxRelay(directory, port, domains=dead_domains(hanging), name=f"fair{int(dead)}")
    seconds, rate = (2, 50) if options.quick else (15, 100)
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(None, relay.start)
        if dead:
            for number in range(0, DEAD, 50):
                await send_one(relay.port, [f"x@d{one}.dead.example" for one in range(number, number + 50)],
                               b"Subject: dead\r\n\r\nx")
        await letters(relay.port, seconds, rate)
        await asyncio.sleep(0.5)
    finally:
        relay.stop()
        sink.close()
        for one in (listener, *held):
            one.close()
    times = sorted(one * 1000 for one in arrivals.times)
    if len(times) != seconds * rate:
        raise measure.Failed(f"{len(times)} of {seconds * rate} letters arrived")
    return {"p50_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100]}


def measure_fair(directory, options):
    """The healthy destination's p99, without and beside the dead ones, in turns."""
    alone, beside = [], []
    for number in range(options.rounds):
        place = os.path.join(directory, f"fair-round{number}")
        alone.append(asyncio.run(fair_run(place, options, False)))
        beside.append(asyncio.run(fair_run(place, options, True)))
    found = {"alone": {name: middle(alone, name) for name in alone[0]},
             "beside": {name: middle(beside, name) for name in beside[0]}}
    found["ratio"] = found["beside"]["p99_ms"] / found["alone"]["p99_ms"]
    return found


# --- A backlog ---


def enough_disk(directory, messages):
    free = shutil.disk_usage(directory).free
    if free < messages * BACKLOG_DISK:
        raise measure.Failed(f"{messages:,} messages may need {messages * BACKLOG_DISK >> 20:,} MiB of disk, and "
                             f"{free >> 20:,} are free")


def queue_up(relay, messages, acked, seed):
    report = run_load(relay, messages, f"--size {BACKLOG_SIZE} --acked {acked} --seed {seed} --domain example.org",
                      BACKLOG_PATIENCE)
    if report["messages"] != messages:
        raise measure.Failed(f"{report['messages']} of {messages} messages were taken")
    relay.settle()
    return report["messages_per_second"]


def status(relay):
    done = subprocess.run([CONTROL, "-s", os.path.join(relay.directory, "control"), "status", "--json"],
                          capture_output=True, text=True, timeout=60, check=False)
    return measure.parsed(done.stdout) or {}


def list_queue(relay, messages):
    """Seconds to list the whole queue."""
    begun = time.monotonic()
    done = subprocess.run([CONTROL, "-s", os.path.join(relay.directory, "control"), "queue", "list", "--json"],
                          capture_output=True, timeout=BACKLOG_PATIENCE, check=False)
    seconds = time.monotonic() - begun
    rows = done.stdout.count(b'"id"')
    if done.returncode != 0 or rows != messages:
        raise measure.Failed(f"queue list: {rows} of {messages} rows, exit code {done.returncode}")
    return seconds


def expect_queued(relay, messages):
    queued = status(relay).get("queued")
    if queued != messages:
        raise measure.Failed(f"{queued} of {messages} messages are in the queue")


def drain(relay, place, port, messages):
    """The next hop comes to life: messages a second from the first arrival to the last, and what that cost."""
    sink = Sink(place, port)
    try:
        woke = time.monotonic()
        first = sink.wait_for(1, 60)
        cpu, seen = relay.cpu_seconds(), sink.count
        last = sink.wait_for(messages, BACKLOG_PATIENCE)
        relay.settle()
        left = status(relay).get("queued")
        cpu = relay.cpu_seconds() - cpu
    finally:
        sink.stop()
    if left != 0:
        raise measure.Failed(f"{left} messages are still in the queue")
    return {"wait_s": first - woke, "per_second": (messages - seen) / (last - first),
            "cpu_us": cpu / (messages - seen) * 1e6}, sink.log_path


def verify(acked, log_path):
    """Each one that was acknowledged arrived exactly once."""
    arguments = [word for path in acked for word in ("--acked", path)]
    done = subprocess.run([measure.LOAD, "verify", *arguments, "--strict", log_path], capture_output=True, text=True,
                          timeout=BACKLOG_PATIENCE, check=False)
    if done.returncode != 0:
        raise measure.Failed(f"verify: {(done.stdout + done.stderr)[-400:]}")


def measure_backlog(directory, options):
    """One round. Memory: the staging ring, which lies in memory whole when it has been around once (16 MiB), and all
    else that does not grow, is there at the smaller number already; of the spool only the account of its segments grows,
    some 100 octets for 64 MiB of mail. So the difference is the courier's queue."""
    few, messages = (BACKLOG_QUICK // 2, BACKLOG_QUICK) if options.quick else (BACKLOG_FEW, BACKLOG)
    enough_disk(directory, messages)
    place = os.path.join(directory, "backlog")
    os.makedirs(place, exist_ok=True)
    acked = [os.path.join(place, "acked-few"), os.path.join(place, "acked-more")]
    port = free_port()
    relay = RingmxRelay(place, port, level="warn",
                        settings='queue { schedule = {"1s", "2s"} }\nadmin { control = "control" }')
    found = {"messages": messages}
    try:
        relay.start()
        found["empty_bytes"] = relay.resident_bytes()
        found["queued_per_second"] = queue_up(relay, few, acked[0], 1)
        with_few = relay.resident_bytes()
        found["list_seconds"], found["listed"] = list_queue(relay, few), few
        with_few = max(with_few, relay.resident_bytes())
        queue_up(relay, messages - few, acked[1], 2)
        found["full_bytes"] = relay.resident_bytes()
        found["bytes_each"] = (found["full_bytes"] - with_few) / (messages - few)
        expect_queued(relay, messages)
        spool = os.path.join(relay.directory, "spool")
        found["disk_bytes_each"] = sum(one.stat().st_size for one in os.scandir(spool)) / messages
        relay.kill()
        begun = time.monotonic()
        relay.start()
        found["recovery_seconds"] = time.monotonic() - begun
        expect_queued(relay, messages)
        found["recovered_bytes"] = relay.resident_bytes()
        drained, log_path = drain(relay, place, port, messages)
        found |= {f"drain_{name}": value for name, value in drained.items()}
    finally:
        relay.stop()
    verify(acked, log_path)
    shutil.rmtree(place, ignore_errors=True)
    if options.quick:
        del found["bytes_each"]  # too few: the staging ring has hardly been around
    return found


def judged(content):
    """Each goal with what was measured, where it was."""
    places = {"relay": ("relay", "times_postfix"), "cost": ("relay", "cost"), "through": ("through", "adds_ms"),
              "fair": ("fair", "ratio"), "backlog": ("backlog", "bytes_each")}
    for name, (title, limit, sense) in GOALS.items():
        part, figure = places[name]
        value = content.get(part, {}).get(figure)
        if value is not None:
            reached = value >= limit if sense == "at least" else value <= limit
            yield {"goal": title, "limit": limit, "sense": sense, "value": value, "reached": reached}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", choices=("relay", "through", "fair", "backlog"))
    parser.add_argument("--directory", default=peers.BUILD)
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    peers.allow_files(40_000)
    os.sched_setaffinity(0, {measure.LOAD_CPU})
    directory = tempfile.mkdtemp(prefix="bench-", dir=os.path.abspath(options.directory))
    os.chmod(directory, 0o755)
    content = {"environment": environment.sheet(directory, [])}
    try:
        for name, action in (("relay", measure_relay), ("through", measure_through), ("fair", measure_fair),
                             ("backlog", measure_backlog)):
            if options.only in (None, name):
                content[name] = action(directory, options)
                print(name, json.dumps(content[name], indent=1), flush=True)
    except (measure.Failed, peers.Unavailable) as reason:
        print(f"failed: {reason}\n0 passed, 1 failed")
        sys.exit(1)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    session.conclude(content, judged(content), options, RESULTS)


if __name__ == "__main__":
    main()
