"""A client that speaks TLS, for the tests: harness.Client with Python's ssl between it and the socket. What goes over
the wire passes through our hands: it can be cut, kept, recorded. tls_wire.py goes further down, to single records."""
import itertools
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import time

from harness import PATIENCE_S, Client, wait_until

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
NAME = "mx.example.org"
LISTENERS = {"starttls": {"tls": "starttls"}, "implicit": {"tls": "implicit"}}  # for Gateway
CIPHERS_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
# As OpenSSL calls them -> as IANA does.
CIPHERS_12 = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}


def tls_context(ca=None, version=None, ciphers=None, alpn=None, certificate=None, keys=None):
    """What a client wants: `ca` to trust (None: anybody), one version, TLS 1.2 ciphers as OpenSSL names them, a list
    for ALPN, a certificate to show (pki.py), a file that the secrets are written to."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca:
        made.load_verify_locations(ca)
    else:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if version:
        made.minimum_version = made.maximum_version = version
    if ciphers:
        made.set_ciphers(ciphers)
    if alpn:
        made.set_alpn_protocols(alpn)
    if certificate:
        made.load_cert_chain(*certificate)
    if keys:
        made.keylog_filename = keys
    return made


class OverSocket:
    """What a layer over a socket passes on to it: those methods that harness.Client uses and the layer does not change."""

    def settimeout(self, time_s):
        self.raw.settimeout(time_s)

    def gettimeout(self):
        return self.raw.gettimeout()

    def shutdown(self, how):
        self.raw.shutdown(how)

    def close(self):
        self.raw.close()


class TlsSocket(OverSocket):
    """The client's end of TLS. Has those methods of a socket that harness.Client uses."""

    def __init__(self, raw, context=None, name=NAME, session=None):
        self.raw = raw
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or tls_context()).wrap_bio(
            self.incoming, self.outgoing, server_hostname=name, session=session)
        self.cut = lambda octets: (octets,)  # how octets are cut into segments
        self.came, self.went = bytearray(), bytearray()  # all that was on the wire

    def flush(self):
        octets = self.outgoing.read()
        if octets:
            self.went += octets
            for part in self.cut(octets):
                self.raw.sendall(part)

    def fill(self):
        octets = self.raw.recv(65536)
        self.came += octets
        if octets:
            self.incoming.write(octets)
        elif self.incoming.eof:
            raise ConnectionAbortedError("the server has ended the connection")
        else:
            self.incoming.write_eof()

    def begin(self):
        """Sends nothing: returns the ClientHello."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def answer(self):
        """Reads the server's flight after a ClientHello; returns what the client would send next."""
        octets = b""
        while not octets:
            self.fill()
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            octets = self.outgoing.read()
        return octets

    def handshake(self):
        self.drive(self.tls.do_handshake)
        return self

    def drive(self, action, *arguments):
        while True:
            try:
                result = action(*arguments)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                self.fill()
            except ssl.SSLError:
                try:
                    self.flush()  # our alert
                except OSError:
                    pass
                raise

    def sendall(self, octets):
        """A record for each 16384 octets, the rest in one of its own."""
        octets = memoryview(octets)
        for at in range(0, len(octets), 16384):
            self.tls.write(octets[at:at + 16384])
        self.flush()

    def recv(self, room):
        """b"" is close_notify; an end without it, or an alert, is ConnectionAbortedError."""
        try:
            return self.drive(self.tls.read, room)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            raise ConnectionAbortedError(str(error)) from error

    def close_notify(self):
        """Ours only; what the server says is for recv."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def reset(self):
        """Ends the connection with RST."""
        reset(self.raw)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def new_source(count=itertools.count(256)):
    """An address of 127.0.0.0/8 that no client of this test has had, by which its session is found in the log."""
    number = next(count)
    return f"127.{number >> 16 & 127}.{number >> 8 & 255}.{number & 255}"


class SecureClient(Client):
    """harness.Client over TLS: by STARTTLS at hello(), or from the first octet."""

    def __init__(self, address, context=None, implicit=False, name=NAME, session=None, **options):
        self.source = options.pop("source", None) or new_source()
        super().__init__(address, source=self.source, **options)
        self.context, self.name, self.session = context or tls_context(), name, session
        self.implicit = implicit
        if implicit:
            try:
                self.secure()
            except BaseException:
                self.close()
                raise

    def secure(self):
        """The handshake, now."""
        if self.buffer:
            raise AssertionError(f"in clear before the handshake: {self.buffer!r}")
        self.socket = TlsSocket(self.socket, self.context, self.name, self.session)
        self.socket.handshake()
        return self

    def starttls(self):
        self.expect(220, "STARTTLS")
        return self.secure()

    def hello(self, name="client.example"):
        if not self.implicit:
            super().hello(name)
            self.starttls()
            return self.expect(250, "EHLO " + name)
        return super().hello(name)

    @property
    def tls(self):
        return self.socket.tls

    def quit(self):
        """In order: 221, close_notify, the end."""
        self.expect(221, "QUIT")
        if self.socket.recv(1) != b"":
            raise AssertionError("more behind 221")
        if self.socket.raw.recv(1) != b"":
            raise AssertionError("more behind close_notify")
        self.close()


def knock(address, implicit, version=TLS13):
    """A connection on which the server waits for a ClientHello, not yet sent."""
    source = new_source()
    client = Client(address, source=source)
    client.source = source
    if not implicit:
        client.hello()
        client.expect(220, "STARTTLS")
    client.socket = TlsSocket(client.socket, tls_context(version=version))
    return client


def wait_event(gateway, source, name):
    """The one line with this event of the session that came from an address (new_source)."""
    def lines():
        found = gateway.log_lines()
        session = [line["session"] for line in found if line["event"] == "connect" and line["client"] == source]
        return [line for line in found if line["event"] == name and line["session"] in session]

    found = wait_until(lines, f"event={name} of {source}")
    if len(found) != 1:
        raise AssertionError(f"told {len(found)} times: {found}")
    return found[0]


def check_failures(gateway, failed, orderly=()):
    """event=tls_failed stands in the log exactly once for each source of `failed` {source: what was done}, and for none
    of `orderly`."""
    def counter():
        lines = gateway.log_lines()
        names = {line["client"]: line["session"] for line in lines if line["event"] == "connect"}
        told = [line["session"] for line in lines if line["event"] == "tls_failed"]
        return lambda source: told.count(names.get(source, "none"))

    def all_told():
        count = counter()
        return all(count(source) for source in failed)

    try:
        wait_until(all_told, "tls_failed", step_s=0.1, timeout_s=10)
    except AssertionError:
        pass
    count = counter()
    wrong = [(about, count(source)) for source, about in failed.items() if count(source) != 1]
    wrong += [(about, count(source)) for source, about in dict(orderly).items() if count(source)]
    if wrong:
        raise AssertionError(f"event=tls_failed so many times: {wrong}")


class Interactive:
    """A program under way: say() writes to it, wait() reads until a pattern is there."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, bufsize=0)
        self.output, self.at = b"", 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def say(self, octets):
        self.process.stdin.write(octets)

    def wait(self, pattern):
        """What comes before the match is not looked at again."""
        deadline = time.monotonic() + PATIENCE_S
        while not (match := re.search(pattern, self.output[self.at:], re.M)):
            more = b""
            if select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                said = self.output.decode("utf-8", "replace")
                raise AssertionError(f"ended, or waited too long, without {pattern!r}:\n{said}")
            self.output += more
        self.at += match.end()


def records(octets):
    """What came from a server, as [(type, length)]; AssertionError for anything that is no TLS record: that is, for
    anything in clear."""
    found, at = [], 0
    while at < len(octets):
        head = bytes(octets[at:at + 5])
        if len(head) < 5 or head[0] not in (20, 21, 22, 23) or head[1:3] not in (b"\3\1", b"\3\3"):
            raise AssertionError(f"no TLS record at {at}: {bytes(octets[at:at + 80])!r}")
        length = int.from_bytes(head[3:], "big")
        if length > 16640 or at + 5 + length > len(octets):
            raise AssertionError(f"record of {length} octets at {at} of {len(octets)}")
        found.append((head[0], length))
        at += 5 + length
    return found


def rest(sock, time_s=10):
    """Everything that still comes over a raw socket; it must end within the time, in whatever manner."""
    sock.settimeout(time_s)
    octets = b""
    try:
        while more := sock.recv(65536):
            octets += more
    except ConnectionError:
        pass
    except TimeoutError:
        raise AssertionError(f"not closed in {time_s} s; until then {octets[:200]!r}") from None
    return octets
