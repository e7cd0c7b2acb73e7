"""SASL as a client speaks it, message by message (RFC 4616, 5802, 7677, 7628), and how SMTP carries it (RFC 4954)."""
import base64
import hashlib
import hmac
import os


def encode(octets):
    return base64.b64encode(octets).decode()


def plain(user, password, authorization=""):
    return "\0".join((authorization, user, password)).encode()


def bearer(user, token):
    """OAUTHBEARER's only message."""
    return f"n,a={user},\1auth=Bearer {token}\1\1".encode()


def xoauth2(user, token):
    return f"user={user}\1auth=Bearer {token}\1\1".encode()


class Scram:
    """SCRAM-SHA-256, or -PLUS with `binding`, the octets of tls-exporter."""

    def __init__(self, user, password, binding=None, header=None):
        self.password, self.binding = password.encode(), binding or b""
        self.header = header or (b"p=tls-exporter,," if binding else b"n,,")
        self.nonce = base64.b64encode(os.urandom(18))
        name = user.replace("=", "=3D").replace(",", "=2C").encode()
        self.bare = b"n=" + name + b",r=" + self.nonce
        self.verifier = None

    def first(self):
        return self.header + self.bare

    def last(self, challenge):
        """The answer to the server's first message."""
        words = dict(word.split(b"=", 1) for word in challenge.split(b","))
        assert words[b"r"].startswith(self.nonce) and len(words[b"r"]) > len(self.nonce), challenge
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(words[b"s"]), int(words[b"i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = b"c=" + base64.b64encode(self.header + self.binding) + b",r=" + words[b"r"]
        signed = self.bare + b"," + challenge + b"," + without
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        self.verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature))
        return without + b",p=" + base64.b64encode(proof)

    def proved(self, challenge):
        """Has the server shown that it knows the password, too?"""
        return challenge == b"v=" + base64.b64encode(self.verifier)


def log_in(client, mechanism, *messages, codes=235):
    """AUTH with an initial response and one message for each challenge; those may be functions of the challenge. Returns
    the last reply, whose code is one of `codes`."""
    messages = list(messages)
    reply = client.command(f"AUTH {mechanism} {encode(messages.pop(0)) or '='}")
    while reply.code == 334 and messages:
        message = messages.pop(0)
        if callable(message):
            message = message(base64.b64decode(reply.text))
        reply = client.command(encode(message))
    assert reply.code in (codes if isinstance(codes, (tuple, list)) else (codes,)), reply
    return reply


def scram(client, user, password, codes=235):
    """A whole login with SCRAM-SHA-256; a server that passes must have proved itself."""
    exchange = Scram(user, password)

    def empty(challenge):
        assert exchange.proved(challenge), challenge
        return b""
    return log_in(client, "SCRAM-SHA-256", exchange.first(), exchange.last, empty, codes=codes)
