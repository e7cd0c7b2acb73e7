"""Dialogues as text: reads tests/script/*.smtp and plays them. tests/script/README.md has the format."""
import os
import re
import socket
import time

import tls_client
from harness import ROOT, Client
from tls_client import SecureClient, TlsSocket

SCRIPTS = os.path.join(ROOT, "tests", "script")
STATES = ("CONNECTED", "READY", "MAIL", "RCPT", "BDAT")
RECIPIENT = "alice@example.net"

# The listeners of the gateway, by the value of their `tls`.
LISTENERS = ("none", "starttls", "required", "implicit")

# What a dialogue is held over: to which listener, and how TLS begins ("" : it is held in clear).
ROADS = {
    "clear": ("none", ""),
    "offered": ("starttls", ""),
    "demanded": ("required", ""),
    "implicit": ("implicit", "at once"),
    "starttls": ("starttls", "STARTTLS"),
    "required": ("required", "STARTTLS"),
}
ROADS_USUAL = ("clear", "offered", "implicit", "starttls", "required")

# How a new connection gets into a state: lines to send, and the code that each must get.
WAYS = {
    "CONNECTED": [],
    "READY": [(b"EHLO client.example\r\n", 250)],
    "MAIL": [(b"EHLO client.example\r\n", 250), (b"MAIL FROM:<sender@client.example>\r\n", 250)],
    "RCPT": [(b"EHLO client.example\r\n", 250), (b"MAIL FROM:<sender@client.example>\r\n", 250),
             (b"RCPT TO:<alice@example.net>\r\n", 250)],
    "BDAT": [(b"EHLO client.example\r\n", 250), (b"MAIL FROM:<sender@client.example>\r\n", 250),
             (b"RCPT TO:<alice@example.net>\r\n", 250), (b"BDAT 12\r\nSubject: x\r\n", 250)],
}

# What tells a state from every other; playing it ends the use of the connection.
PROOFS = {
    "CONNECTED": [(b"MAIL FROM:<proof@client.example>\r\n", 503)],
    "READY": [(b"RCPT TO:<alice@example.net>\r\n", 503), (b"DATA\r\n", 503),
              (b"MAIL FROM:<proof@client.example>\r\n", 250)],
    "MAIL": [(b"MAIL FROM:<proof@client.example>\r\n", 503), (b"DATA\r\n", (503, 554)),
             (b"RCPT TO:<alice@example.net>\r\n", 250)],
    "RCPT": [(b"MAIL FROM:<proof@client.example>\r\n", 503), (b"DATA\r\n", 354),
             (b"Subject: proof\r\n\r\n.\r\n", 250)],
    "BDAT": [(b"MAIL FROM:<proof@client.example>\r\n", 503),
             (b"RCPT TO:<alice@example.net>\r\n", 503), (b"BDAT 0 LAST\r\n", 250)],
}

# The same in clear where TLS is required.
PROOFS_DEMANDED = {"CONNECTED": [(b"STARTTLS\r\n", 503)], "READY": [(b"STARTTLS\r\n", 220)]}


class DialogError(AssertionError):
    pass


class Dialog:
    """One file: `settings` from its config lines, `steps` of (line number, word, rest), and the
    `roads` that it can be held over."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)[:-len(".smtp")]
        self.settings = {}
        self.steps = []
        self.roads = ROADS_USUAL
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\n")
                if not line.strip() or line.startswith("#"):
                    continue
                word, _, rest = line.partition(" ")
                if word == "config:":
                    if self.steps:
                        raise ValueError(f"{path}:{number}: config after the first step")
                    key, _, value = rest.partition(" ")
                    self.settings[key] = value
                elif word == "over:":
                    if self.steps or not set(rest.split()) <= set(ROADS):
                        raise ValueError(f"{path}:{number}: {line}")
                    self.roads = tuple(rest.split())
                elif word in WORDS:
                    self.steps.append((number, word, rest))
                else:
                    raise ValueError(f"{path}:{number}: unknown word {word!r}")

    def cells(self):
        """The (state, command) pairs that this file tries: the first line sent after each `in`."""
        state = None
        for _, word, rest in self.steps:
            if word == "in":
                state = rest.strip()
            elif word in ("C:", "C>") and state:
                line = unescape(rest) if word == "C>" else rest.encode()
                words = line.split(b"\r\n")[0].upper().split()
                verb = words[0].decode() if words else ""
                if verb == "BDAT":
                    verb = "BDAT LAST" if words[-1] == b"LAST" else "BDAT"
                yield state, verb
                state = None


def unescape(text):
    """A "quoted" text with \\r \\n \\t \\0 \\xNN \\\\ \\" -> octets; `* N` after it repeats."""
    match = re.fullmatch(r'"((?:[^"\\]|\\.)*)"(?: \* (\d+))?(?: \+ (.*))?', text.strip())
    if not match:
        raise ValueError(f"not a quoted text: {text!r}")
    plain = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\", '"': b'"'}

    def octet(part):
        if part.startswith("\\x"):
            return bytes([int(part[2:], 16)])
        return plain[part[1]] if part.startswith("\\") else part.encode("utf-8")

    parts = re.findall(r"\\x[0-9a-fA-F]{2}|\\.|[^\\]+", match[1])
    data = b"".join(octet(part) for part in parts) * int(match[2] or 1)
    return data + (unescape(match[3]) if match[3] else b"")


class Player:
    """Plays one dialogue against a gateway, over one of the ROADS."""

    def __init__(self, gateway, road="clear"):
        self.gateway = gateway
        self.road = road
        listener, self.way = ROADS[road]
        self.address = gateway.at[listener]
        self.client = None
        self.counted = {}

    def play(self, dialog):
        for _, word, rest in dialog.steps:
            if word == "M:":
                user, _, domain = rest.split()[0].partition("@")
                self.counted.setdefault((user, domain), self.gateway.count(user, domain))
        if not dialog.steps or dialog.steps[0][1] not in ("in", "connect", "connect-raw"):
            self.connect("")
        try:
            for number, word, rest in dialog.steps:
                try:
                    WORDS[word](self, rest)
                except (DialogError, AssertionError, OSError, EOFError, ValueError) as error:
                    raise DialogError(f"{dialog.path}:{number}: {word} {rest[:200]}\n  "
                                      f"{type(error).__name__}: {error}") from error
        finally:
            if self.client:
                self.client.close()

    def connect(self, _):
        self.connect_raw("")
        self.client.expect(220)
        if self.way == "STARTTLS":
            self.client.expect(250, "EHLO clear.example")
            self.client.starttls()

    def connect_raw(self, _):
        """A connection whose greeting is left to the dialogue, and STARTTLS, too."""
        if self.client:
            self.client.close()
        self.client = SecureClient(self.address, implicit=self.way == "at once")

    def connect_clear(self, _):
        """A connection that knows nothing of TLS."""
        if self.client:
            self.client.close()
        self.client = Client(self.address)

    def starttls(self, _):
        reply = self.client.command("STARTTLS")
        if reply.code != 220 or reply.enhanced != "2.0.0":
            raise DialogError(f"STARTTLS: {reply}")
        self.client.secure()

    def handshake(self, _):
        self.client.secure()

    def send_clear(self, words):
        """Octets that pass by TLS."""
        self.client.socket.raw.sendall(unescape(words))

    def wait_broken(self, _):
        """TLS has failed: the connection ends, and nothing comes before but an alert, in a record."""
        octets = tls_client.rest(getattr(self.client.socket, "raw", self.client.socket))
        kinds = [kind for kind, _ in tls_client.records(self.client.buffer + octets)]
        if len(kinds) > 1:
            raise DialogError(f"more than an alert before the end: {kinds}")

    def enter(self, rest):
        self.connect("")
        for data, code in WAYS[rest.strip()]:
            self.client.send(data)
            self.client.expect(code)

    def prove(self, words):
        state = words.strip()
        if state == "CLOSED":
            self.wait_close("")
            return
        proofs = PROOFS
        if self.road == "demanded" and not isinstance(self.client.socket, TlsSocket):
            proofs = PROOFS_DEMANDED
        for data, code in proofs[state]:
            self.client.send(data)
            reply = self.client.reply()
            if reply.code not in (code if isinstance(code, tuple) else (code,)):
                raise DialogError(f"not in state {state}: {data!r} got {reply}")
        self.client.close()
        self.client = None

    def send_line(self, rest):
        self.client.send(rest.encode("utf-8") + b"\r\n")

    def send_octets(self, rest):
        self.client.send(unescape(rest))

    def expect(self, rest, lines=None):
        match = re.fullmatch(
            r"([2-5x|0-9]+)(?: ([245]\.\d+\.\d+(?:\|[245]\.\d+\.\d+)*))?(?: /(.*)/)?", rest.strip())
        if not match:
            raise ValueError(f"not an expectation: {rest!r}")
        reply = self.client.reply()
        codes = match[1].replace("x", "[0-9]")
        if not re.fullmatch(codes, str(reply.code)):
            raise DialogError(f"expected {match[1]}, got {reply}")
        if match[2] and reply.enhanced not in match[2].split("|"):
            raise DialogError(f"expected {match[1]} {match[2]}, got {reply}")
        if match[3] and not re.search(match[3], reply.text, re.MULTILINE):
            raise DialogError(f"expected /{match[3]}/ in {reply}")
        if reply.enhanced and reply.enhanced[0] != str(reply.code)[0]:
            raise DialogError(f"class of code and enhanced code differ: {reply}")
        if lines is not None and lines != (len(reply.texts) > 1):
            raise DialogError(f"expected {'several lines' if lines else 'one line'}, got {reply}")

    def expect_one(self, rest):
        self.expect(rest, False)

    def expect_many(self, rest):
        self.expect(rest, True)

    def mail(self, rest):
        match = re.fullmatch(r"(\S+) (\d+)(?: (\".*\"))?", rest.strip())
        if not match:
            raise ValueError(f"not `address count \"ending\"`: {rest!r}")
        user, _, domain = match[1].partition("@")
        before = self.counted[(user, domain)]
        if int(match[2]) == 0:
            time.sleep(0.3)
            if self.gateway.count(user, domain) != before:
                raise DialogError(f"a message for {match[1]} arrived")
            return
        found = self.gateway.wait_messages(user, before + int(match[2]), domain)
        if match[3] and not any(text.endswith(unescape(match[3])) for text in found):
            raise DialogError(f"no message for {match[1]} ends in {match[3]}: {found[-1][-300:]!r}")

    def pause(self, rest):
        time.sleep(float(rest))

    def wait_close(self, _):
        if self.client.buffer:
            raise DialogError(f"more before the end: {self.client.buffer!r}")
        rest = b""
        while True:
            try:
                more = self.client.socket.recv(4096)
            except ConnectionError:
                break
            if not more:
                break
            rest += more
        if rest:
            raise DialogError(f"more before the end: {rest!r}")

    def closes(self, _):
        """The connection ends; at most one refusal is said before."""
        try:
            reply = self.client.reply()
            if reply.code < 400:
                raise DialogError(f"expected a refusal or nothing, got {reply}")
            self.wait_close("")
        except (EOFError, ConnectionError):
            pass

    def hang_up(self, _):
        self.client.close()

    def half_close(self, _):
        if isinstance(self.client.socket, TlsSocket):
            self.client.socket.close_notify()
        else:
            self.client.socket.shutdown(socket.SHUT_WR)

    def silence(self, rest):
        if not self.client.silent(float(rest or "0.2")):
            raise DialogError(f"not silent: {self.client.buffer!r}")


WORDS = {
    "connect": Player.connect,
    "connect-raw": Player.connect_raw,
    "connect-clear": Player.connect_clear,
    "starttls": Player.starttls,
    "handshake": Player.handshake,
    "clear>": Player.send_clear,
    "wait-broken": Player.wait_broken,
    "in": Player.enter,
    "is": Player.prove,
    "C:": Player.send_line,
    "C>": Player.send_octets,
    "S:": Player.expect,
    "S1": Player.expect_one,
    "S*": Player.expect_many,
    "M:": Player.mail,
    "pause": Player.pause,
    "silence": Player.silence,
    "wait-close": Player.wait_close,
    "closes": Player.closes,
    "half-close": Player.half_close,
    "hang-up": Player.hang_up,
}


def load_all():
    names = sorted(name for name in os.listdir(SCRIPTS) if name.endswith(".smtp"))
    return [Dialog(os.path.join(SCRIPTS, name)) for name in names]
