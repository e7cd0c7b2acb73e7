"""The mails of test_corpus over TLS, byte for byte: both versions, all ciphers, STARTTLS and implicit, resumed or not,
random records cut into random segments."""
import random
import unittest

import pki
import test_corpus
from harness import Gateway
from tls_client import CIPHERS_12, TLS12, TLS13, SecureClient, tls_context


class Corpus(test_corpus.Corpus):
    RECEIVED = test_corpus.received_pattern(
        rb"\s+\(using TLSv1\.[23] with cipher TLS_[0-9A-Z_]+\)", b"(ESMTPS|UTF8SMTPS)")
    LARGE_MIB = (1, 5)
    test_there_are_443 = test_100_recipients = None  # have nothing to do with TLS

    @staticmethod
    def make_gateway():
        authority = pki.authority()
        return Gateway(
            certificates={"ecdsa": authority.issue("mx.example.org"),
                          "rsa": authority.issue("mx.example.org", key="rsa2048")},
            listeners={"starttls": {"tls": "required"}, "implicit": {"tls": "implicit"}})

    def setUp(self):
        self.contexts = [tls_context(pki.authority().path, version=TLS13)]
        self.contexts += [tls_context(version=TLS12, ciphers=cipher) for cipher in CIPHERS_12]
        self.sessions = {}
        super().setUp()
        chance = random.Random(self.seed)
        for number in (0, 0, 1, 1):  # so that both versions are there, full and resumed
            self.greet(chance, number, self.sessions.get(number)).quit()

    def connect(self, chance):
        number = chance.randrange(len(self.contexts)) if chance.random() < 0.5 else 0
        return self.greet(chance, number, self.sessions.get(number) if chance.random() < 0.5 else None)

    def greet(self, chance, number, session):
        listener = chance.choice(("starttls", "implicit"))
        client = SecureClient(self.gateway.at[listener], self.contexts[number], implicit=listener == "implicit",
                              session=session)
        client.hello("sender.client.example")
        self.sessions[number] = client.tls.session
        client.socket.cut = lambda octets: pieces(chance, octets)
        return client

    def tearDown(self):
        super().tearDown()
        lines = self.gateway.events("tls")
        self.assertEqual(self.gateway.events("tls_failed"), [])
        self.assertEqual({line["version"] for line in lines}, {"TLSv1.2", "TLSv1.3"})
        self.assertEqual({line["resumed"] for line in lines}, {"true", "false"})


def pieces(chance, octets):
    """The octets in one, two or three segments."""
    places = sorted(chance.sample(range(len(octets)), min(len(octets), chance.choice((0, 0, 0, 1, 2)))))
    return [octets[a:b] for a, b in zip([0] + places, places + [len(octets)])]


if __name__ == "__main__":
    unittest.main()
