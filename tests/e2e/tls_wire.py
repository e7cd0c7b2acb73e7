"""TLS records by hand, after a handshake of Python's ssl: a client that makes each record itself, of any type and
length, right or wrong, and sees each that the server sends. TLS 1.3 (RFC 8446 5) and 1.2 (RFC 5246 6.2, RFC 5288,
RFC 7905); keys from the key log."""
import hashlib
import hmac
import ssl

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

import pki
from tls_client import OverSocket, SecureClient, tls_context

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
CLOSE_NOTIFY, UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW = 0, 10, 20, 22
DECODE_ERROR, USER_CANCELED, NO_RENEGOTIATION = 50, 90, 100
KEY_UPDATE, KEY_UPDATE_ASK = b"\x18\0\0\1\0", b"\x18\0\0\1\1"  # RFC 8446 4.6.3


def expand(secret, info, length, digest):
    """HKDF-Expand (RFC 5869 2.3)."""
    block, out = b"", b""
    while len(out) < length:
        block = hmac.digest(secret, block + info + bytes([len(out) // hashlib.new(digest).digest_size + 1]), digest)
        out += block
    return out[:length]


def expand_label(secret, label, length, digest):
    """RFC 8446 7.1, with an empty context."""
    label = b"tls13 " + label
    return expand(secret, length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0", length, digest)


def prf(secret, seed, length, digest):
    """RFC 5246 5."""
    a, out = seed, b""
    while len(out) < length:
        a = hmac.digest(secret, a, digest)
        out += hmac.digest(secret, a + seed, digest)
    return out[:length]


class Direction:
    """The keys of one direction, and the number of the next record."""

    def __init__(self, cipher, modern):
        self.modern, self.sequence = modern, 0
        self.aead = ChaCha20Poly1305 if "CHACHA20" in cipher else AESGCM
        self.key_len = 16 if "AES128" in cipher or "AES_128" in cipher else 32
        self.digest = "sha384" if cipher.endswith("SHA384") else "sha256"
        self.nonce_sent = not modern and self.aead is AESGCM
        self.secret = self.box = self.iv = None

    def set_secret(self, secret):
        self.secret, self.sequence = secret, 0
        self.set_key(expand_label(secret, b"key", self.key_len, self.digest),
                     expand_label(secret, b"iv", 12, self.digest))

    def set_key(self, key, iv):
        self.box, self.iv = self.aead(key), iv

    def update(self):
        """RFC 8446 7.2."""
        self.set_secret(expand_label(self.secret, b"traffic upd", len(self.secret), self.digest))

    def nonce(self, explicit):
        if self.nonce_sent:
            return self.iv + explicit
        return (int.from_bytes(self.iv, "big") ^ self.sequence).to_bytes(12, "big")

    def seal(self, kind, text, padding=0):
        """One record. The lengths are the caller's: nothing here minds a record that is too long."""
        explicit = self.sequence.to_bytes(8, "big") if self.nonce_sent else b""
        if self.modern:
            text = text + bytes([kind]) + bytes(padding)
            head = b"\x17\3\3" + (len(text) + 16).to_bytes(2, "big")
            sealed = self.box.encrypt(self.nonce(explicit), text, head)
        else:
            head = bytes([kind]) + b"\3\3" + (len(explicit) + len(text) + 16).to_bytes(2, "big")
            extra = self.sequence.to_bytes(8, "big") + head[:3] + len(text).to_bytes(2, "big")
            sealed = explicit + self.box.encrypt(self.nonce(explicit), text, extra)
        self.sequence += 1
        return head + sealed

    def open(self, record):
        """-> (type, text) of a whole record; AssertionError when it is not good."""
        head, body = record[:5], record[5:]
        explicit, body = (body[:8], body[8:]) if self.nonce_sent else (b"", body)
        extra = head
        if not self.modern:
            extra = self.sequence.to_bytes(8, "big") + head[:3] + (len(body) - 16).to_bytes(2, "big")
        try:
            text = self.box.decrypt(self.nonce(explicit), body, extra)
        except InvalidTag:
            raise AssertionError(f"a record of the server is not authentic: {record[:40]!r}") from None
        self.sequence += 1
        if not self.modern:
            return head[0], text
        text = text.rstrip(b"\0")
        return text[-1], text[:-1]


class Wire(OverSocket):
    """Takes the place of a TlsSocket after its handshake. Has those methods of a socket that harness.Client uses."""

    def __init__(self, socket, keys, cipher=None, modern=None):
        """`cipher` and `modern` for a handshake that is not over yet."""
        self.raw, self.came, self.went = socket.raw, socket.came, socket.went
        cipher = cipher or socket.tls.cipher()[0]
        self.modern = socket.tls.version() == "TLSv1.3" if modern is None else modern
        self.write, self.read = Direction(cipher, self.modern), Direction(cipher, self.modern)
        self.buffer = socket.incoming.read()
        self.seen = []  # (type, text) of all records from the server that are no text
        assert socket.tls.pending() == 0
        with open(keys, encoding="ascii") as file:
            lines = [line.split() for line in file if not line.startswith("#")]
        client_random, server_random = bytes(socket.went[11:43]), bytes(socket.came[11:43])
        secrets = {label: bytes.fromhex(secret) for label, random, secret in lines
                   if random == client_random.hex()}
        if self.modern:
            self.write.set_secret(secrets["CLIENT_TRAFFIC_SECRET_0"])
            self.read.set_secret(secrets["SERVER_TRAFFIC_SECRET_0"])
            return
        key_len, iv_len = self.write.key_len, 4 if self.write.nonce_sent else 12
        block = prf(secrets["CLIENT_RANDOM"], b"key expansion" + server_random + client_random,
                    2 * (key_len + iv_len), self.write.digest)
        keys, ivs = block[:2 * key_len], block[2 * key_len:]
        self.write.set_key(keys[:key_len], ivs[:iv_len])
        self.read.set_key(keys[key_len:], ivs[iv_len:])
        self.write.sequence = self.read.sequence = 1  # 0 were the Finished messages

    # --- records ---------------------------------------------------------------------------------

    def send(self, kind, text, padding=0):
        self.raw.sendall(self.write.seal(kind, text, padding))

    def alert(self, description, fatal=True):
        self.send(ALERT, bytes([2 if fatal else 1, description]))

    def record(self):
        """The next record of the server, sealed; b"" at the end of the connection."""
        while len(self.buffer) < 5 or len(self.buffer) < 5 + int.from_bytes(self.buffer[3:5], "big"):
            more = self.raw.recv(65536)
            self.came += more
            if not more:
                if self.buffer:
                    raise AssertionError(f"a record cut short: {self.buffer!r}")
                return b""
            self.buffer += more
        length = 5 + int.from_bytes(self.buffer[3:5], "big")
        record, self.buffer = self.buffer[:length], self.buffer[length:]
        return record

    def next(self):
        """(type, text) of the next record; None at the end of the connection."""
        record = self.record()
        if not record:
            return None
        kind, text = self.read.open(record)
        if kind == HANDSHAKE and text[:1] == b"\x18":
            self.read.update()
        if kind != DATA:
            self.seen.append((kind, text))
        return kind, text

    def last_alert(self, time_s=10):
        """Reads to the end, which must come; the description of the alert before it, or None."""
        self.raw.settimeout(time_s)
        alert = None
        try:
            while (got := self.next()) is not None:
                alert = got[1][1] if got[0] == ALERT else alert
        except ConnectionError:
            pass  # a reset, because we sent more than was read
        return alert

    # --- as a socket -----------------------------------------------------------------------------

    def sendall(self, octets):
        for at in range(0, len(octets), 16384):
            self.send(DATA, bytes(octets[at:at + 16384]))

    def recv(self, _room):
        while True:
            got = self.next()
            if got is None:
                raise ConnectionAbortedError("an end without close_notify")
            if got[0] == DATA and got[1]:
                return got[1]
            if got[0] == ALERT:
                if got[1][1] == CLOSE_NOTIFY:
                    return b""
                raise ConnectionAbortedError(f"alert {got[1][1]}")


class WireClient(SecureClient):
    """A SecureClient whose records are ours: client.wire."""

    def __init__(self, address, version=ssl.TLSVersion.TLSv1_3, ciphers=None, **options):
        self.keys = pki.place("keys")
        super().__init__(address, tls_context(version=version, ciphers=ciphers, keys=self.keys), **options)

    def secure(self):
        super().secure()
        self.socket = Wire(self.socket, self.keys)
        return self

    @property
    def wire(self):
        return self.socket
