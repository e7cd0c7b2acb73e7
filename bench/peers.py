"""The servers of the benchmark: how each is started on one CPU, found, measured and ended."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(os.path.dirname(HERE), "build")
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
START_SECONDS = 30


class Unavailable(Exception):
    """The server is not on this machine, or does not start; says why."""


def allow_files(count):
    """Children may open `count` files, as far as this user may say so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (count, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))
            return
        except (OSError, ValueError):
            continue


def stat_fields(pid):
    """The fields of /proc/PID/stat after the command's name: [0] is field 3, the state."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def process_tree(root):
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(stat_fields(entry)[1]), []).append(int(entry))
            except (OSError, IndexError):
                continue
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left += children.get(pid, [])
    return found


def listening_port(pid):
    """The first TCP port that the process listens on, or None."""
    inodes = set()
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
        except OSError:
            continue
    with open("/proc/net/tcp", encoding="ascii") as file:
        for line in list(file)[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                return int(fields[1].rpartition(":")[2], 16)
    return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fill(name, target, **words):
    with open(os.path.join(HERE, "servers", name), encoding="utf-8") as file:
        text = file.read()
    for word, value in words.items():
        text = text.replace("{" + word + "}", str(value))
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)


class Server:
    """One server; `name` heads its column, `most` is the number of connections it can serve."""

    name = ""
    durable = False
    most = 1_000_000
    key_kind = None  # with TLS: "ecdsa" or "rsa"

    def __init__(self, directory, cpu):
        self.directory = os.path.join(directory, self.name.replace(" ", "-"))
        self.cpu = cpu
        self.process = None
        self.port = None
        self.implicit_port = None
        self.log_path = os.path.join(self.directory, "log")

    def spawn(self, command):
        os.makedirs(self.directory, exist_ok=True)
        if not os.access(command[0], os.X_OK):
            raise Unavailable(f"{command[0]} is not there")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, {self.cpu}))
        deadline = time.monotonic() + START_SECONDS
        while self.port is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"{command[0]} does not start: {self.log_tail()}")
            time.sleep(0.05)
            self.port = self.find_port()
        self.wait_for_banner(deadline)

    def wait_for_banner(self, deadline):
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
                    if client.recv(512).startswith(b"220"):
                        client.sendall(b"QUIT\r\n")
                        client.recv(512)
                        return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise Unavailable(f"{self.name} sends no banner: {self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()[-300:].strip()

    def find_port(self):
        return listening_port(self.process.pid)

    def port_for(self, arguments):
        return self.implicit_port if "--tls implicit" in arguments else self.port

    def start(self):
        raise NotImplementedError

    def make_certificate(self):
        """A certificate that is signed by itself, as PEM files, and their paths."""
        os.makedirs(self.directory, exist_ok=True)
        chain, key = os.path.join(self.directory, "chain.pem"), os.path.join(self.directory, "key.pem")
        kind = ["rsa:2048"] if self.key_kind == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        said = output(["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=mx.bench.example", "-addext",
                       "subjectAltName=DNS:mx.bench.example", "-keyout", key, "-out", chain, "-newkey", *kind])
        if not os.path.exists(chain):
            raise Unavailable(f"openssl makes no certificate: {said[-200:]}")
        return {"chain": chain, "key": key}

    def version(self):
        return ""

    def cpu_seconds(self):
        """Of all threads and processes, those that have ended included."""
        ticks = 0
        for pid in process_tree(self.process.pid):
            try:
                fields = stat_fields(pid)
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
            if pid == self.process.pid:
                ticks += int(fields[13]) + int(fields[14])
        return ticks / TICK

    def resident_bytes(self):
        total = 0
        for pid in process_tree(self.process.pid):
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                total += int(file.read().split()[1]) * PAGE
        return total

    def settle(self):
        """Waits, at most ten seconds, until the server has no more to do."""
        before = self.cpu_seconds()
        for _ in range(50):
            time.sleep(0.2)
            now = self.cpu_seconds()
            if now - before <= 1 / TICK:
                return
            before = now

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.process is None:
            return
        pids = process_tree(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in pids[1:]:  # children of a master that has gone; their session is ours
            try:
                if os.getsid(pid) == pids[0]:
                    os.kill(pid, signal.SIGTERM)
            except OSError:
                continue


class Ringmx(Server):
    name = "ringmx"
    durable = True

    def start(self):
        os.makedirs(os.path.join(self.directory, "spool"), exist_ok=True)
        configuration = os.path.join(self.directory, "ringmx.conf")
        fill("ringmx.conf", configuration, directory=self.directory)
        self.spawn([os.path.join(BUILD, "ringmx"), "-c", configuration])

    def find_port(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            found = re.search(r"event=listen\b.*\baddress=127\.0\.0\.1:(\d+)", log.read())
        return int(found[1]) if found else None

    def version(self):
        return output([os.path.join(BUILD, "ringmx"), "--version"])


class RingmxTls(Ringmx):
    name = "ringmx tls"
    key_kind = "ecdsa"

    def start(self):
        os.makedirs(os.path.join(self.directory, "spool"), exist_ok=True)
        configuration = os.path.join(self.directory, "ringmx.conf")
        fill("ringmx-tls.conf", configuration, directory=self.directory, **self.make_certificate())
        self.spawn([os.path.join(BUILD, "ringmx"), "-c", configuration])

    def find_port(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            lines = [line for line in log if " event=listen " in line]
        ports = [re.search(r"address=127\.0\.0\.1:(\d+)", line) for line in lines]
        if len(ports) < 2:
            return None
        self.implicit_port = int(ports[1][1])
        return int(ports[0][1])


class RingmxRsa(RingmxTls):
    name = "ringmx rsa"
    key_kind = "rsa"


class Null(Server):
    """The do-nothing yardstick."""

    arguments = ["--memory"]

    def start(self):
        self.spawn([os.path.join(BUILD, "ringmx-null"), *self.arguments])


class NullMemory(Null):
    name = "null memory"


class NullDirect(Null):
    name = "null direct"
    durable = True
    arguments = ["--durable=direct", "--dir", "."]


class NullFdatasync(Null):
    name = "null fdatasync"
    durable = True
    arguments = ["--durable=fdatasync", "--dir", "."]


class SmtpSink(Server):
    name = "smtp-sink"
    most = 1000  # it walks all its timers for each event, and takes a minute to greet 10,000

    def start(self):
        user = ["-u", "postfix"] if os.getuid() == 0 else []
        self.spawn(["/usr/sbin/smtp-sink", *user, "-m", "20000", "127.0.0.1:0", "4096"])

    def version(self):
        return "Postfix " + output(["/usr/sbin/postconf", "-d", "-h", "mail_version"])


class Postfix(Server):
    """A whole instance below the benchmark's own folder; the system's is not touched."""

    name = "postfix"
    durable = True
    most = 100  # its default_process_limit

    def start(self):
        if os.getuid() != 0:
            raise Unavailable("Postfix needs root")
        for folder in ("conf", "queue", "data"):
            os.makedirs(os.path.join(self.directory, folder), exist_ok=True)
        for folder in ("active bounce corrupt defer deferred flush hold incoming maildrop pid private public "
                       "saved trace").split():
            path = os.path.join(self.directory, "queue", folder)
            os.makedirs(path, mode=0o700, exist_ok=True)
            if folder != "pid":
                shutil.chown(path, "postfix", "postdrop" if folder in ("maildrop", "public") else None)
        os.chmod(os.path.join(self.directory, "queue", "public"), 0o710)
        shutil.chown(os.path.join(self.directory, "data"), "postfix")
        self.wanted_port = free_port()
        conf = os.path.join(self.directory, "conf")
        fill("postfix-main.cf", os.path.join(conf, "main.cf"), directory=self.directory)
        if self.key_kind is not None:
            fill("postfix-tls.cf", os.path.join(conf, "tls.cf"), **self.make_certificate())
            with open(os.path.join(conf, "tls.cf"), encoding="utf-8") as more, \
                    open(os.path.join(conf, "main.cf"), "a", encoding="utf-8") as main:
                main.write(more.read())
        fill("postfix-master.cf", os.path.join(conf, "master.cf"), port=self.wanted_port)
        self.spawn(["/usr/lib/postfix/sbin/master", "-c", conf, "-d"])

    def find_port(self):
        return self.wanted_port

    def version(self):
        return output(["/usr/sbin/postconf", "-d", "-h", "mail_version"])


class PostfixTls(Postfix):
    name = "postfix tls"
    key_kind = "ecdsa"


def output(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return (done.stdout or done.stderr).strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
