"""What all servers of the benchmark have in common: one CPU, a folder, a port, their cost and their end."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import time

from .group import Group

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(os.path.dirname(HERE), "build")
START_SECONDS = 30
SETTLE_SECONDS = 15
BACKLOG = 4096
SYS_PIDFD_GETFD = 438


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


def descriptors(pid):
    """(number, what it leads to) of each open file of a process, as far as it is there to be asked."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for number in numbers:
        try:
            yield int(number), os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue


def listeners():
    """(inode, port) of each listening TCP socket."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        for fields in (line.split() for line in list(file)[1:]):
            if fields[3] == "0A":
                yield f"socket:[{fields[9]}]", int(fields[1].rpartition(":")[2], 16)


def listening_port(pid):
    """The first TCP port that the process listens on, or None."""
    own = {target for _, target in descriptors(pid)}
    return next((port for inode, port in listeners() if inode in own), None)


def widen_backlog(pids, port):
    """Makes the line of connections that wait to be accepted longer, on the listening socket of a server that has a
    short one built in: connections that do not fit are dropped, and some of them wait for a banner for ever."""
    wanted = {inode for inode, its_port in listeners() if its_port == port}
    held = ((pid, number) for pid in pids for number, target in descriptors(pid) if target in wanted)
    for pid, number in held:
        try:
            process = os.pidfd_open(pid)
        except OSError:
            continue
        copy = ctypes.CDLL(None).syscall(SYS_PIDFD_GETFD, process, number, 0)
        os.close(process)
        if copy >= 0:
            with socket.socket(fileno=copy) as listener:
                listener.listen(BACKLOG)
            return


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fill(name, target, **words):
    """Writes bench/servers/NAME to `target`, with each {word} replaced."""
    with open(os.path.join(HERE, "servers", name), encoding="utf-8") as file:
        text = file.read()
    for word, value in words.items():
        text = text.replace("{" + word + "}", str(value))
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)


def output(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return (done.stdout or done.stderr).strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


class Server:
    """One server; `name` heads its column."""

    name = ""
    durable = False
    durability = ""  # what it does before its 250, in a few words
    most = 1_000_000  # connections that it can serve
    pipelining = True  # whether it takes commands in groups
    queues = ()  # folders, below its own, of mail that is to be delivered
    key_kind = None  # with TLS: "ecdsa" or "rsa"

    def __init__(self, directory, cpu):
        self.directory = os.path.join(directory, self.name.replace(" ", "-"))
        self.cpu = cpu
        self.process = None
        self.group = None
        self.port = None
        self.implicit_port = None
        self.log_path = os.path.join(self.directory, "log")

    def spawn(self, command):
        """Starts it, and returns when it greets. May be called again after stop()."""
        os.makedirs(self.directory, exist_ok=True)
        if not os.access(command[0], os.X_OK):
            raise Unavailable(f"{command[0]} is not there")
        self.port = None
        self.group = Group()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.directory, start_new_session=True, preexec_fn=self.before_exec)
        self.group.leader = self.process.pid
        deadline = time.monotonic() + START_SECONDS
        while self.port is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"{command[0]} does not start: {self.log_tail()}")
            time.sleep(0.05)
            self.port = self.find_port()
        self.wait_for_banner(deadline)

    def before_exec(self):
        os.sched_setaffinity(0, {self.cpu})
        self.group.join()

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
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"{self.name} sends no banner: {self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()[-300:].strip()

    def widen_backlog(self):
        widen_backlog(self.group.pids(), self.port)

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
        return self.group.cpu_seconds()

    def resident_bytes(self):
        """Of all processes; what several of them share counts once."""
        return self.group.resident_bytes()

    def settle(self):
        """Waits until the server has no more to do: it was at rest twice in a row and its queue is empty. Says
        whether it came to that in time."""
        deadline = time.monotonic() + SETTLE_SECONDS
        before, rests = self.cpu_seconds(), 0
        while time.monotonic() < deadline:
            time.sleep(0.2)
            now = self.cpu_seconds()
            rests = rests + 1 if now - before <= 0.01 else 0
            before = now
            if rests >= 2 and not self.queued():
                return True
        return False

    def queued(self):
        """How many files lie in the folders where it keeps mail that is to be delivered."""
        return sum(len(names) for folder in self.queues
                   for _, _, names in os.walk(os.path.join(self.directory, folder)))

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.group is None:
            return
        pids = []
        if self.process is not None:
            pids = self.group.pids()
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.group.end(pids)
        self.process = self.group = None
