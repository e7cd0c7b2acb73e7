"""What every end-to-end test stands on: a gateway process with a configuration and a directory of its
own, its log, its Maildirs, and an SMTP client that decides itself how bytes are cut into segments.

Environment: RINGMX_BIN (the program), RINGMX_FLAVOUR (release, asan, tsan, profile61), RINGMX_WORKERS,
RINGMX_TMP (where directories are made), RINGMX_SEED (replays a run), RINGMX_KEEP=1 (leaves them there).
"""
import copy
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(os.path.dirname(ROOT), "shared", "data")
FLAVOUR = os.environ.get("RINGMX_FLAVOUR", "release")
BIN_DIRECTORY = os.path.join(ROOT, "build", FLAVOUR if FLAVOUR in ("asan", "tsan") else "")
BINARY = os.path.abspath(os.environ.get("RINGMX_BIN", os.path.join(BIN_DIRECTORY, "ringmx")))
WORKERS = int(os.environ.get("RINGMX_WORKERS", "2"))
SLOW = FLAVOUR in ("asan", "tsan")
FOLDER_OCTETS = "abcdefghijklmnopqrstuvwxyz0123456789._+=@-"
PATIENCE_S = 60 if SLOW else 20  # how long anything may take before it counts as hanging
REPORTS = re.compile(
    rb"(AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehaviorSanitizer|"
    rb"runtime error:|ringmx: bug:).*"
)


def seed():
    """The seed of this run: RINGMX_SEED replays one; printed, so that a failure can be repeated."""
    value = int(os.environ.get("RINGMX_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"\n  seed: RINGMX_SEED={value}", flush=True)
    return value


def data_path(*parts):
    """A path in the foreign test data, or None when that data is not beside the project."""
    path = os.path.join(DATA, *parts)
    return path if os.path.exists(path) else None


def wait_until(condition, what, timeout_s=None, step_s=0.01):
    """Waits until condition() is true and returns what it returned; AssertionError after a time."""
    deadline = time.monotonic() + (timeout_s or PATIENCE_S)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s or PATIENCE_S} s: {what}")
        time.sleep(step_s)


def parse_logfmt(line):
    """One logfmt line -> dict; ValueError when it is not one."""
    fields, at = {}, 0
    pattern = re.compile(r'([a-z0-9_.]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))(?: |$)')
    while at < len(line):
        match = pattern.match(line, at)
        if not match:
            raise ValueError(f"not logfmt at {at}: {line!r}")
        key, quoted, bare = match.groups()
        if key in fields:
            raise ValueError(f"key {key} twice: {line!r}")
        fields[key] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
        at = match.end()
    return fields


def parse_log_line(line):
    """One log line in either format -> dict of strings, or None when it is neither."""
    try:
        if line.startswith("{"):
            return {key: str(value) for key, value in json.loads(line).items()}
        return parse_logfmt(line)
    except ValueError:
        return None


def quote(text):
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def folder_name(user):
    """The name of a user's Maildir: in lower case, without +tag, odd octets as %XX."""
    user = user.encode("utf-8").lower()
    user = user.split(b"+")[0] or user
    return "".join(chr(octet) if chr(octet) in FOLDER_OCTETS else f"%{octet:02X}" for octet in user)


class Gateway:
    """One ringmx on one directory. `settings` overrides single values: {"limits.recipients": "5"}, the
    text as it stands in the configuration. `domains` is {name: (recipients, target)} or {name: (recipients,
    target, other words)}; a target, or each of a list of them, may use {mail} for the directory of
    Maildirs. `more` is further text of the configuration. `certificates` is {title: (chain, key)} (pki.py), or
    {title: text of the section}. `listeners` is {name: {word: text}}, each on an address of
    127.0.0.1 unless it has "address"; without it there is one, "mx", on `addresses`."""

    def __init__(self, settings=None, domains=None, addresses=("127.0.0.1:0",), prefix=(),
                 environment=None, directory=None, files_max=None, listeners=None,
                 certificates=None, more=""):
        self.directory = directory or tempfile.mkdtemp(
            prefix="ringmx-", dir=os.environ.get("RINGMX_TMP"))
        self.mail = os.path.join(self.directory, "mail")
        self.spool = os.path.join(self.directory, "spool")
        self.path = os.path.join(self.directory, "ringmx.conf")
        self.settings = {
            "hostname": quote("mx.example.org"),
            "workers": str(WORKERS),
            "limits.connections": "20000",
            "limits.connections_per_ip": "20000",
            "spool.path": quote(self.spool),
            "log.level": "info",
            "log.format": "logfmt",
            "log.repeats": "0",  # tests look for single lines
        }
        if FLAVOUR == "profile61":
            self.settings["io.features"] = "baseline"
        self.settings.update(settings or {})
        self.domains = dict(domains or {"example.org": (["*"], "maildir:{mail}/%d/%u")})
        listed = ", ".join(quote(address) for address in addresses)
        self.listeners = listeners or {"mx": {"address": "{" + listed + "}"}}
        self.certificates = dict(certificates or {})
        self.more = more
        self.prefix = list(prefix)
        self.arguments = []
        self.environment = dict(environment or {})
        self.files_max = files_max
        self.process = None
        self.logs = []  # one file per start
        self.listening = []
        self.at = {}  # name of a listener -> (host, port), the first of its addresses

    # --- configuration ---------------------------------------------------------------------------

    def configuration(self):
        top, sections = [], {}
        for key, value in self.settings.items():
            section, _, name = key.rpartition(".")
            if section:
                sections.setdefault(section, []).append(f"{name} = {value}")
            else:
                top.append(f"{name} = {value}")
        text = "\n".join(top) + "\n"
        for section, lines in sections.items():
            text += section + " { " + "  ".join(lines) + " }\n"
        for title, files in self.certificates.items():
            words = files if isinstance(files, str) else (
                f"chain = {quote(files[0])}  key = {quote(files[1])}")
            text += f"certificate {quote(title)} {{ {words} }}\n"
        for name, words in self.listeners.items():
            words = {"address": '"127.0.0.1:0"', "role": "mx", **words}
            listed = "  ".join(f"{word} = {value}" for word, value in words.items())
            text += f"listener {quote(name)} {{ {listed} }}\n"
        for name, (recipients, targets, *words) in self.domains.items():
            listed = ", ".join(quote(recipient) for recipient in recipients)
            targets = [targets] if isinstance(targets, str) else targets
            targets = ", ".join(quote(target.replace("{mail}", self.mail)) for target in targets)
            text += (f"domain {quote(name)} {{ recipients = {{{listed}}} deliver = {{{targets}}} "
                     f"{' '.join(words)} }}\n")
        return text + self.more

    def write_configuration(self, text=None):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(self.configuration() if text is None else text)

    # --- life ------------------------------------------------------------------------------------

    def launch(self):
        """Starts the process without waiting for it to listen."""
        assert self.process is None, "already running"
        self.logs.append(os.path.join(self.directory, f"log.{len(self.logs)}"))
        environment = dict(os.environ, **self.environment)
        environment.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
        environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        suppressions = os.path.join(ROOT, "tests", "tsan.supp")
        environment["TSAN_OPTIONS"] = "halt_on_error=0:second_deadlock_stack=1" + (
            f":suppressions={suppressions}" if os.path.exists(suppressions) else "")

        def limit():
            if self.files_max:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.files_max, self.files_max))

        with open(self.logs[-1], "wb") as log:
            self.process = subprocess.Popen(
                self.prefix + [BINARY, "-c", self.path, *self.arguments], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=environment, cwd=self.directory, preexec_fn=limit)
        return self

    def start(self):
        os.makedirs(self.mail, exist_ok=True)
        self.write_configuration()
        self.launch()

        def listening():
            if self.process.poll() is not None:
                raise AssertionError(f"ended at start with {self.process.returncode}:\n"
                                     + self.log_text()[-4000:])
            found = {line["address"]: line["listener"] for line in self.events("listen")}
            wanted = sum(words.get("address", "one").count(",") + 1
                         for words in self.listeners.values())
            return found if len(found) >= wanted else None

        self.listening, self.at = [], {}
        for address, name in wait_until(listening, "event=listen for each address").items():
            host, port = address.rsplit(":", 1)
            self.listening.append((host.strip("[]"), int(port)))
            self.at.setdefault(name, self.listening[-1])
        return self

    @property
    def address(self):
        return self.listening[0]

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """kill -9, as a crash."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def terminate(self, timeout_s=None):
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout_s or PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()
            self.process = None
            raise AssertionError("did not end after SIGTERM:\n" + self.log_text()[-4000:]) from None
        self.process = None
        return code

    def stop(self):
        """An orderly end: SIGTERM, exit code 0, nothing reported by a sanitizer."""
        code = self.terminate()
        self.check_reports()
        assert code == 0, f"exit code {code}:\n" + self.log_text()[-4000:]

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        """Ends the process whatever its state, and removes the directory."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None
        finally:
            if os.environ.get("RINGMX_KEEP") == "1":
                print(f"  kept: {self.directory}")
            else:
                shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                if self.process is not None:
                    self.stop()
                else:
                    self.check_reports()
        finally:
            self.close()

    def variant(self, **changes):
        """A Gateway with the same directory (same spool, same Maildirs) and other settings."""
        other = copy.copy(self)
        other.settings = dict(self.settings, **changes.pop("settings", {}))
        for name, value in changes.items():
            setattr(other, name, value)
        other.process = None
        return other

    # --- log -------------------------------------------------------------------------------------

    def log_text(self, index=-1):
        if not self.logs:
            return ""
        with open(self.logs[index], "rb") as file:
            return file.read().decode("utf-8", "backslashreplace")

    def log_lines(self, index=-1):
        lines = (parse_log_line(line) for line in self.log_text(index).split("\n") if line)
        return [line for line in lines if line]

    def events(self, *names, index=-1):
        return [line for line in self.log_lines(index) if line.get("event") in names]

    def check_reports(self):
        for path in self.logs:
            with open(path, "rb") as file:
                text = file.read()
            match = REPORTS.search(text)
            if match:
                raise AssertionError(
                    "report in the log:\n" + text[max(0, match.start() - 200):][:8000].decode(
                        "utf-8", "backslashreplace"))

    # --- mail ------------------------------------------------------------------------------------

    def maildir(self, user, domain="example.org"):
        return os.path.join(self.mail, domain, folder_name(user))

    def messages(self, user, domain="example.org"):
        """The contents of all messages in a Maildir's new/."""
        folder = os.path.join(self.maildir(user, domain), "new")
        result = []
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            with open(os.path.join(folder, name), "rb") as file:
                result.append(file.read())
        return result

    def count(self, user, domain="example.org"):
        folder = os.path.join(self.maildir(user, domain), "new")
        return len(os.listdir(folder)) if os.path.isdir(folder) else 0

    def wait_messages(self, user, count, domain="example.org", timeout_s=None):
        wait_until(lambda: self.count(user, domain) >= count,
                   f"{count} messages for {user}@{domain}", timeout_s)
        found = self.messages(user, domain)
        assert len(found) == count, f"{len(found)} messages for {user}@{domain}, expected {count}"
        return found

    def client(self, **options):
        return Client(self.address, **options)


# The Received field ends with its date: a text may begin with a blank, and is not part of it.
ADDED = re.compile(
    rb"\AReturn-Path: <([^\r\n]*)>\r\n"
    rb"(Received: (?:[^\r\n]*\r\n[ \t])*?[^\r\n]* \d\d:\d\d:\d\d [+-]\d{4}(?: \([A-Z]+\))?\r\n)")


def split_delivered(content):
    """A delivered message -> (reverse-path, Received field, original text)."""
    match = ADDED.match(content)
    if not match:
        raise AssertionError(f"no Return-Path and Received in front: {content[:300]!r}")
    return match[1], match[2], content[match.end():]


class Reply:
    """A reply of the server, one or more lines, already checked for its form (RFC 5321 4.2)."""

    def __init__(self, code, texts):
        self.code = code
        self.texts = texts

    @property
    def enhanced(self):
        match = re.match(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)", self.texts[0])
        return match[1] if match else None

    @property
    def text(self):
        return "\n".join(self.texts)

    def __repr__(self):
        return f"<{self.code} {self.text!r}>"


class Client:
    """A raw SMTP client. Nothing is sent that the test did not say, and in the segments it said."""

    def __init__(self, address, source=None, timeout_s=None, receive_buffer=None):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s or PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def send_split(self, data, sizes, pause_s=0.0):
        """Sends `data` in segments of the given sizes (an iterable; its last goes on)."""
        view, at, size = memoryview(data), 0, 1 << 30
        sizes = iter(sizes)
        while at < len(data):
            size = next(sizes, size)
            self.socket.sendall(view[at:at + size])
            at += size
            if pause_s and at < len(data):
                time.sleep(pause_s)

    def line(self):
        while b"\n" not in self.buffer:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(f"connection closed; unfinished: {self.buffer!r}")
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        if not line.endswith(b"\r"):
            raise AssertionError(f"reply line without CR: {line!r}")
        line = line[:-1]
        if len(line) > 510 or b"\r" in line or b"\0" in line:
            raise AssertionError(f"bad reply line: {line!r}")
        return line.decode("utf-8")

    def reply(self):
        texts, code = [], None
        while True:
            line = self.line()
            match = re.fullmatch(r"([2-5][0-9]{2})(?:([ -])(.*))?", line)
            if not match or (code is not None and match[1] != code):
                raise AssertionError(f"bad reply: {line!r} after {texts!r}")
            code = match[1]
            texts.append(match[3] or "")
            if match[2] != "-":
                return Reply(int(code), texts)
            if len(texts) > 100:
                raise AssertionError(f"endless reply: {texts[:3]!r}")

    def command(self, line):
        if isinstance(line, str):
            line = line.encode("utf-8")
        self.send(line + b"\r\n")
        return self.reply()

    def expect(self, code, line=None):
        """Sends `line` if there is one; the reply must have `code` (a number, or several)."""
        reply = self.reply() if line is None else self.command(line)
        codes = code if isinstance(code, (tuple, list, set)) else (code,)
        if reply.code not in codes:
            raise AssertionError(f"{line!r}: expected {code}, got {reply}")
        return reply

    def hello(self, name="client.example"):
        self.expect(220)
        return self.expect(250, "EHLO " + name)

    def envelope(self, sender, *recipients):
        self.expect(250, f"MAIL FROM:<{sender}>")
        for recipient in recipients:
            self.expect(250, f"RCPT TO:<{recipient}>")

    def transfer(self, text, sender="sender@client.example", recipients=("alice@example.org",)):
        """One message in lock-step by DATA; `text` has CRLF ends. Returns the last reply."""
        self.envelope(sender, *recipients)
        self.expect(354, "DATA")
        self.send(stuff(text) + b".\r\n")
        return self.reply()

    def closed(self, timeout_s=None):
        """True when the server closes within the time; whatever it still says is ignored."""
        self.socket.settimeout(timeout_s or PATIENCE_S)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except (ConnectionError, BrokenPipeError):
            return True
        except TimeoutError:
            return False

    def silent(self, time_s):
        """True when nothing arrives for that time."""
        if self.buffer:
            return False
        before = self.socket.gettimeout()
        self.socket.settimeout(time_s)
        try:
            more = self.socket.recv(65536)
            self.buffer += more
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(before)


def stuff(text):
    """Dot-stuffing (RFC 5321 4.5.2); the text must end in CRLF or be empty."""
    assert not text or text.endswith(b"\r\n"), "DATA cannot carry an unfinished last line"
    text = text.replace(b"\r\n.", b"\r\n..")
    return b"." + text if text.startswith(b".") else text


def message(subject="test", body="Hello.\r\n", sender="sender@client.example"):
    return (f"From: {sender}\r\nSubject: {subject}\r\nMessage-ID: <{subject}@client.example>\r\n\r\n"
            f"{body}").encode("utf-8")
