"""What tests of users who log in have in common: a users file, what mail programs send for AUTH (RFC 4954, 4616, 5802),
and a gateway with a submission listener of each kind."""
import base64
import contextlib
import crypt
import hashlib
import hmac
import os
import secrets
import tempfile
import warnings

import pki
from harness import Gateway, quote

ALICE, BOB = ("alice@example.org", "geheim"), ("bob@example.org", "pass word")


def b64(octets):
    return base64.b64encode(octets if isinstance(octets, bytes) else octets.encode()).decode()


def sha512(password, rounds=1000):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crypt leaves Python one day
        return "{SHA512-CRYPT}" + crypt.crypt(password, f"$6$rounds={rounds}${secrets.token_hex(8)}")


def scram_keys(password, salt, iterations):
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    return hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256")


def scram_sha256(password, iterations=4096):
    salt = secrets.token_bytes(16)
    client, server = scram_keys(password, salt, iterations)
    return f"{{SCRAM-SHA-256}}{iterations},{b64(salt)},{b64(hashlib.sha256(client).digest())},{b64(server)}"


def plain(user, password, authorization=""):
    return b64(f"{authorization}\0{user}\0{password}")


class Scram:
    """The client's side of SCRAM-SHA-256: first(), final(challenge), verify(last)."""

    def __init__(self, user, password, flag="n"):
        self.password, self.header = password, flag + ",,"
        self.bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={secrets.token_urlsafe(18)}"

    def first(self):
        return b64(self.header + self.bare)

    def final(self, challenge):
        first = base64.b64decode(challenge).decode()
        fields = dict(part.split("=", 1) for part in first.split(","))
        client, server = scram_keys(self.password, base64.b64decode(fields["s"]), int(fields["i"]))
        without = f"c={b64(self.header)},r={fields['r']}"
        message = f"{self.bare},{first},{without}".encode()
        signature = hmac.digest(hashlib.sha256(client).digest(), message, "sha256")
        self.signature = hmac.digest(server, message, "sha256")
        return b64(f"{without},p={b64(bytes(a ^ b for a, b in zip(client, signature)))}")

    def verify(self, last):
        return base64.b64decode(last) == b"v=" + base64.b64encode(self.signature)


@contextlib.contextmanager
def users_file(users):
    """A file with {name: "{SCHEME}hash"}; its path."""
    with tempfile.NamedTemporaryFile("w", prefix="ringmx-users-", dir=os.environ.get("RINGMX_TMP"),
                                     encoding="utf-8") as file:
        file.write("".join(f"{name}:{secret}\n" for name, secret in users.items()))
        file.flush()
        yield file.name


@contextlib.contextmanager
def submission(settings=None, users=None, listeners=None, **more):
    """A gateway for ALICE (SHA512-CRYPT) and BOB (SCRAM): "tls" (implicit), "starttls" (required), "clear" (auth =
    plaintext) and "mx". It is running; .ca is its authority."""
    users = users or {ALICE[0]: sha512(ALICE[1]), BOB[0]: scram_sha256(BOB[1])}
    authority = pki.authority()
    with users_file(users) as path:
        gateway = Gateway(
            settings={"auth.users": quote(path), "auth.domain": quote("example.org"), "auth.delay_ms": "100",
                      **(settings or {})},
            certificates={"one": authority.issue("mx.example.org", "localhost")},
            listeners=listeners or {"tls": {"role": "submission", "tls": "implicit"},
                                    "starttls": {"role": "submission", "tls": "required"},
                                    "clear": {"role": "submission", "auth": "plaintext"},
                                    "mx": {"tls": "starttls"}}, **more)
        gateway.ca, gateway.users = authority, path
        with gateway:
            yield gateway
