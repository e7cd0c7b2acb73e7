"""What tests of users who log in have in common: a users file, and a gateway with a submission listener of each kind.
sasl.py has what their programs say."""
import contextlib
import crypt
import hashlib
import hmac
import os
import secrets
import tempfile
import warnings

import pki
import sasl
from harness import Gateway, quote

ALICE, BOB = ("alice@example.org", "geheim"), ("bob@example.org", "pass word")


def b64(octets):
    return sasl.encode(octets if isinstance(octets, bytes) else octets.encode())


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
    """PLAIN's message, as AUTH carries it."""
    return sasl.encode(sasl.plain(user, password, authorization))


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
