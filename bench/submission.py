#!/usr/bin/python3
"""Measures what submission adds to taking mail: logging in, signing, and hashing passwords beside other clients. The
server has one CPU, the load the other; what is compared takes turns, in one run.

    submission.py              all of it; replaces bench/results/submission.json      (make bench-submission)
    submission.py --quick      seconds; no file; exits with 1 if something is broken  (a job of make test)
    submission.py --only NAME  one of: login signing hashing

login    AUTH PLAIN with a password that the server remembers, against a listener without users: CPU of a message and
         round trips, with one message a connection and with ten; what the rules for users' mail cost (the mended
         fields, whose address is whose) is measured on connections that stay, and told apart
signing  CPU that a message costs more when it is signed (RSA-2048), against BoringSSL's RSA operation alone; all
         three with as much to do on the other CPU, which may be another thread of the same core
hashing  p99 of other clients while users log in whose passwords are hashed each time, against without them
"""

import argparse
import base64
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import environment
import measure
import peers
import session
from peers.server import fill, output

RESULTS = os.path.join(peers.HERE, "results", "submission.json")
BENCH_TLS = os.path.join(peers.BUILD, "ringmx-bench-tls")
DOVEADM, OPENSSL = "/usr/bin/doveadm", "openssl"
ALICE, BOB, PASSWORD = "alice@example.org", "bob@example.org", "correct-horse"
SIGNED, UNSIGNED = "--from alice@example.org", "--from alice@unsigned.example"
IMPLICIT = "--tls implicit"
CONNECTIONS, PLAIN, BESIDE = 20, 10, 20
RATE_SHARE = 0.7  # of the rate at which all can be signed
GOALS = {"round_trips": ("logging in, round trips", 1.0),
         "cpu_1": ("logging in, CPU of a message, one a connection, times that without", 1.1),
         "cpu_10": ("logging in, CPU of a message, ten a connection, times that without", 1.1),
         "signing": ("signing, CPU, times that of the RSA operation", 1.2),
         "hashing": ("p99 of others while passwords are hashed, times that without", 1.5)}


def argon2id(password):
    """doveadm's; None where it is not."""
    said = output([DOVEADM, "-O", "pw", "-s", "ARGON2ID", "-p", password])
    return said if said.startswith("{ARGON2ID}") else None


def sha512(password):
    said = output([OPENSSL, "passwd", "-6", password])
    if not said.startswith("$6$"):
        raise peers.Unavailable(f"openssl hashes no password: {said[-200:]}")
    return "{SHA512-CRYPT}" + said


class Submission(peers.RingmxTls):
    """ringmx with a listener in clear, one with TLS, and one for users."""

    name = "ringmx submission"

    def __init__(self, directory, users, cache="5m"):
        super().__init__(directory, measure.SERVER_CPU)
        self.users, self.cache, self.at = users, cache, {}

    def start(self):
        os.makedirs(os.path.join(self.directory, "spool"), exist_ok=True)
        key = os.path.join(self.directory, "dkim.key")
        output([OPENSSL, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key])
        users = os.path.join(self.directory, "users")
        for path, text in ((users, "".join(f"{name}:{secret}\n" for name, secret in self.users.items())), (key, None)):
            if text is not None:
                with open(path, "w", encoding="ascii") as file:
                    file.write(text)
            os.chmod(path, 0o600)
        configuration = os.path.join(self.directory, "ringmx.conf")
        fill("ringmx-submission.conf", configuration, directory=self.directory, cache=self.cache, dkim=key,
             **self.make_certificate())
        self.spawn([os.path.join(peers.BUILD, "ringmx"), "-c", configuration])

    def find_port(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            found = re.findall(r"event=listen address=127\.0\.0\.1:(\d+) listener=(\S+)", log.read())
        self.at = {name: int(port) for port, name in found}
        return self.at["mx"] if len(self.at) == 3 else None

    def port_for(self, arguments):
        return self.at["submission" if "--auth" in arguments else "mx-tls" if IMPLICIT in arguments else "mx"]


def auth(user=ALICE):
    return f"--auth {user}:{PASSWORD}"


def run(server, arguments, options):
    """One run over TLS: its figures."""
    meter = measure.Meter(server)
    warm_up = min(1.0, options.seconds / 3)
    _, report = measure.run_load(server, f"--connections {CONNECTIONS} --seconds {options.seconds:g} --warm-up "
                                 f"{warm_up:g} {IMPLICIT} {arguments}", meter.mark)
    meter.settled()
    return measure.figures(report, meter)


def cpu_us(server, arguments, options):
    """CPU time of the server for a message, in microseconds."""
    return 1e6 / run(server, arguments, options)["per_cpu"]


def in_turns(rounds, **actions):
    """Runs each action once a round, in alternating order; their medians, least and most, with the ratio of `with_it`
    to `without` in each round."""
    found = {name: [] for name in actions}
    for number in range(rounds):
        for name in list(actions)[::-1 if number % 2 else 1]:
            found[name].append(actions[name]())
    return found


def compared(runs, over, under):
    ratios = [one / other for one, other in zip(runs[over], runs[under])]
    return {name: measure.middle(values) for name, values in runs.items()} | {"ratio": measure.middle(ratios)}


def middle(figure):
    return figure["median"]


# --- Logging in. ---


class Dialogue:
    """A client that counts for how many replies it has to wait."""

    def __init__(self, port):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
        self.lines, self.waits = self.socket.makefile("rb"), 0

    def reply(self):
        self.waits += 1
        while (line := self.lines.readline())[3:4] == b"-":
            pass
        return line[:3].decode()

    def say(self, text):
        self.socket.sendall(text.encode() + b"\r\n")
        return self.reply()

    def close(self):
        self.lines.close()
        self.socket.close()


def round_trips(port):
    """How many of them a client waits for between EHLO's reply and the moment when it may say MAIL."""
    client = Dialogue(port)
    try:
        secret = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
        if client.reply() != "220" or client.say("EHLO bench.example") != "250":
            raise measure.Failed("no greeting")
        before, code = client.waits, client.say(f"AUTH PLAIN {secret}")
        while code == "334":
            code = client.say("")
        waited = client.waits - before
        if code != "235" or client.say(f"MAIL FROM:<{ALICE}>") != "250":
            raise measure.Failed(f"logging in: {code}")
        return waited
    finally:
        client.close()


def measure_login(directory, options):
    server = Submission(directory, {ALICE: sha512(PASSWORD)})
    found = {}
    try:
        server.start()
        found["round_trips"] = round_trips(server.at["submission"])
        for count, name in ((0, "cpu_rules"), (1, "cpu_1"), (10, "cpu_10")):
            mail = f"--messages-per-connection {count} {UNSIGNED}"
            found[name] = compared(in_turns(
                options.rounds, without=lambda mail=mail: cpu_us(server, mail, options),
                with_login=lambda mail=mail: cpu_us(server, f"{mail} {auth()}", options)), "with_login", "without")
        rules = middle(found["cpu_rules"]["with_login"]) - middle(found["cpu_rules"]["without"])
        for name in ("cpu_1", "cpu_10"):
            found[name]["login_alone"] = found[name]["ratio"]["median"] - rules / middle(found[name]["without"])
    finally:
        server.stop()
    return found


# --- Signing. ---


def bare_us(server, options):
    """The RSA operation alone, on the server's CPU, while the load program has nothing to do on the other and never
    sleeps, as in the other runs."""
    words = [measure.LOAD, measure.address(server), "--cpu", str(measure.LOAD_CPU), "--spin", "--connections", "0", "--idle",
             "1", "--seconds", "60"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as spinning:
        done = subprocess.run(["taskset", "-c", str(measure.SERVER_CPU), BENCH_TLS, "--sign", "--milliseconds",
                               str(int(options.seconds * 500))], capture_output=True, text=True, check=False)
        spinning.kill()
    said = measure.parsed(done.stdout)
    if done.returncode != 0 or said is None:
        raise measure.Failed(f"{BENCH_TLS}: {done.stderr[-200:]}")
    return said["rsa2048_sign_us"]


def measure_signing(directory, options):
    """Signed and unsigned messages come at the same rate, at which all can be signed: at another one the synced writes
    would be shared by more or fewer of them."""
    server = Submission(directory, {ALICE: sha512(PASSWORD)})
    try:
        server.start()
        most = run(server, f"{SIGNED} {auth()}", options)["per_second"]
        pace = f"--rate {most * RATE_SHARE:.0f} --arrivals constant"
        runs = in_turns(options.rounds, bare=lambda: bare_us(server, options),
                        unsigned=lambda: cpu_us(server, f"{UNSIGNED} {auth()} {pace}", options),
                        signed=lambda: cpu_us(server, f"{SIGNED} {auth()} {pace}", options))
    finally:
        server.stop()
    runs["signing"] = [signed - unsigned for signed, unsigned in zip(runs["signed"], runs["unsigned"])]
    return compared(runs, "signing", "bare") | {"signed_per_second": most}


# --- Hashing beside others. ---


def lower_priority():
    os.nice(5)


def others_p99(server, user, options):
    """p99 in microseconds of clients in clear, alone or (with `user`) beside clients that log in for each message;
    and how many logins there were. Neither load program spins, and the second has the lower priority: what it takes
    from the first on their CPU is not the server's doing."""
    own = ["--cpu", str(measure.LOAD_CPU), "--json", "--warm-up", "0.3"]
    beside, logins = None, 0
    if user is not None:
        words = f"{IMPLICIT} --messages-per-connection 1 {UNSIGNED} {auth(user)}"
        beside = subprocess.Popen(
            [measure.LOAD, measure.address(server, words), *words.split(), "--connections", str(BESIDE), "--seconds",
             str(options.seconds + 1.5), *own], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lower_priority)
        time.sleep(0.5)
    plain = subprocess.run([measure.LOAD, measure.address(server), "--connections", str(PLAIN), "--seconds",
                            str(options.seconds), *own], stdout=subprocess.PIPE, text=True, check=False)
    if beside is not None:
        said, errors = beside.communicate()
        logins = (measure.parsed(said) or {}).get("logins", 0)
        if logins == 0:
            raise measure.Failed(f"nobody has logged in: {errors[-200:]}")
    if plain.returncode != 0:
        raise measure.Failed("the clients in clear failed")
    server.settle()
    return json.loads(plain.stdout)["times"]["message"]["p99"], logins


def measure_hashing(directory, options):
    users = {ALICE: sha512(PASSWORD), BOB: argon2id(PASSWORD)}
    users = {name: secret for name, secret in users.items() if secret}
    server, found = Submission(directory, users, cache="0"), {}
    try:
        server.start()
        for user, scheme in ((ALICE, "sha512_crypt"), (BOB, "argon2id")):
            if user not in users:
                print(f"{scheme} is left out: no {DOVEADM}")
                continue
            logins = []

            def beside(user=user, logins=logins):
                p99, count = others_p99(server, user, options)
                logins.append(count)
                return p99
            found[scheme] = compared(in_turns(options.rounds, alone=lambda: others_p99(server, None, options)[0],
                                              beside=beside), "beside", "alone") | {"logins": logins}
    finally:
        server.stop()
    return found


# --- All of it. ---


def values(content):
    """What was measured, by goal."""
    login, signing, hashing = (content.get(name) for name in ("login", "signing", "hashing"))
    if login:
        yield "round_trips", login["round_trips"]
        yield "cpu_1", login["cpu_1"]["login_alone"]
        yield "cpu_10", login["cpu_10"]["login_alone"]
    if signing:
        yield "signing", middle(signing["ratio"])
    if hashing:
        yield "hashing", max(middle(scheme["ratio"]) for scheme in hashing.values())


def judged(content):
    for name, value in values(content):
        title, limit = GOALS[name]
        yield {"goal": title, "limit": limit, "sense": "at most", "value": value, "reached": value <= limit}


def options_read():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, help="of each (7; quick: 1)")
    parser.add_argument("--seconds", type=float, help="measured time of a run (2; quick: 0.5)")
    parser.add_argument("--only", choices=("login", "signing", "hashing"))
    parser.add_argument("--directory", default=peers.BUILD)
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 7)
    options.seconds = options.seconds or (0.5 if options.quick else 2.0)
    return options


def main():
    options = options_read()
    peers.allow_files(40_000)
    os.sched_setaffinity(0, {measure.LOAD_CPU})
    directory = tempfile.mkdtemp(prefix="bench-", dir=os.path.abspath(options.directory))
    os.chmod(directory, 0o755)
    noise = environment.Noise()
    content = {"environment": environment.sheet(directory, []), "rounds": options.rounds, "seconds": options.seconds}
    try:
        for name, action in (("login", measure_login), ("signing", measure_signing), ("hashing", measure_hashing)):
            if options.only in (None, name):
                content[name] = action(os.path.join(directory, name), options)
                print(name, json.dumps(content[name], indent=1), flush=True)
    except (measure.Failed, peers.Unavailable) as reason:
        print(f"failed: {reason}\n0 passed, 1 failed")
        sys.exit(1)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    content["environment"]["stolen"] = noise.share()
    session.conclude(content, judged(content), options, RESULTS)


if __name__ == "__main__":
    main()
