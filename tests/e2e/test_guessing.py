"""Guessing of passwords, by hydra: it stays limited by address, network and user, while those who know their password
go on to log in: from elsewhere, from the guesser's own network, and with the very name that is guessed at."""
import collections
import os
import re
import shutil
import signal
import smtplib
import subprocess
import unittest

import logins
from harness import wait_until

WORDS, AT = 600, 150  # so many passwords are tried; there the right one stands
ALICE, BOB = logins.ALICE, logins.BOB


def log_in(gateway, who, source, listener="clear"):
    """The code of the reply to AUTH: 235, 454, 535."""
    host, port = gateway.at[listener]
    with smtplib.SMTP(host, port, timeout=60, source_address=(source, 0)) as client:
        client.ehlo()
        return client.docmd("AUTH", "PLAIN " + logins.plain(*who))[0]


class Hydra:
    """hydra, from 127.0.0.1."""

    def __init__(self, gateway, *options, listener="clear", user=ALICE[0]):
        self.words = os.path.join(gateway.directory, "words")
        with open(self.words, "w", encoding="ascii") as file:
            file.write("".join(f"word{i}\n" if i != AT else ALICE[1] + "\n" for i in range(WORDS)))
        host, port = gateway.at[listener]
        self.log = open(os.path.join(gateway.directory, "hydra"), "w+b")
        self.process = subprocess.Popen(
            ["hydra", "-I", "-l", user, "-P", self.words, "-t", "8", "-f", "-s", str(port), *options, host,
             "smtp", "PLAIN"], cwd=gateway.directory, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT, start_new_session=True)

    def said(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as file:
            return file.read()

    def found(self):
        return re.search(r"password: (\S+)", self.said())

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def looked_at(gateway, *results):
    """How many attempts ended so."""
    return sum(line["reason"] in results for line in gateway.events("login_failed"))


@unittest.skipUnless(shutil.which("hydra"), "skipped: hydra is not installed")
class Guessing(unittest.TestCase):
    def gateway(self, **limits):
        return logins.submission({"auth.delay_ms": "0", "auth.cache": "0", "limits.bad_commands": "1000",
                                  **{f"auth.{name}": str(number) for name, number in limits.items()}})

    def attack(self, gateway, hydra, limit, honest):
        """Waits until hydra has been refused often; meanwhile `honest` is called."""
        turns = 0

        def enough():
            nonlocal turns
            turns += 1
            honest(turns)
            return looked_at(gateway, limit) >= 30 or hydra.process.poll() is not None
        wait_until(enough, f"30 attempts over {limit}", 180, 0.1)
        self.assertIsNone(hydra.found(), hydra.said())
        self.assertGreaterEqual(looked_at(gateway, limit), 8, hydra.said())
        self.assertGreater(turns, 0)

    def test_without_limits_it_finds_the_password(self):
        with self.gateway(failures_per_ip=0, failures_per_network=0, failures_per_user=0) as gateway:
            with Hydra(gateway) as hydra:
                wait_until(hydra.found, "hydra has the password", 120)
                self.assertEqual(hydra.found()[1], ALICE[1])

    def test_an_address(self):
        with self.gateway(failures_per_ip=10) as gateway, Hydra(gateway) as hydra:
            passed = collections.Counter()

            def honest(_turn):
                passed[log_in(gateway, ALICE, "127.0.9.1")] += 1  # from far away
                passed[log_in(gateway, BOB, "127.0.0.9", "clear")] += 1  # from next door
            self.attack(gateway, hydra, "address_limit", honest)
            self.assertEqual(set(passed), {235}, passed)
            self.assertLessEqual(looked_at(gateway, "refused"), 11)

    def test_with_tls(self):
        with self.gateway(failures_per_ip=5) as gateway, Hydra(gateway, "-S", listener="tls") as hydra:
            codes = collections.Counter()

            def honest(_turn):
                codes[log_in(gateway, BOB, "127.0.0.77")] += 1
            self.attack(gateway, hydra, "address_limit", honest)
            self.assertEqual(set(codes), {235}, codes)
            self.assertLessEqual(looked_at(gateway, "refused"), 6)

    def test_a_network(self):
        with self.gateway(failures_per_ip=0, failures_per_network=10) as gateway, Hydra(gateway) as hydra:
            codes = collections.Counter()

            def honest(_turn):
                codes[log_in(gateway, ALICE, "127.0.9.1")] += 1
            self.attack(gateway, hydra, "network_limit", honest)
            self.assertEqual(set(codes), {235}, codes)
            self.assertEqual(log_in(gateway, BOB, "127.0.0.200"), 454)  # who shares it shares its limit
            self.assertLessEqual(looked_at(gateway, "refused"), 11)

    def test_a_user_from_another_network(self):
        """Strangers use up the limit of a name: its owner goes on where he was before, and only there."""
        with self.gateway(failures_per_ip=0, failures_per_network=0, failures_per_user=10) as gateway:
            self.assertEqual(log_in(gateway, ALICE, "127.0.9.1"), 235)
            with Hydra(gateway) as hydra:
                codes = collections.Counter()

                def honest(turn):
                    codes[log_in(gateway, ALICE, f"127.0.9.{turn % 100 + 1}")] += 1
                    codes[log_in(gateway, BOB, "127.0.0.9")] += 1
                self.attack(gateway, hydra, "user_limit", honest)
                self.assertEqual(set(codes), {235}, codes)
                self.assertEqual(log_in(gateway, ALICE, "127.0.8.1"), 454)
                self.assertEqual(log_in(gateway, ("ALICE@Example.ORG", "wrong"), "127.0.8.1"), 454)
            self.assertLessEqual(looked_at(gateway, "refused"), 11)

    def test_a_user_from_the_network_he_is_known_in(self):
        """Someone next to him guesses: no further than the limit, and no harm is done to him anywhere else."""
        with self.gateway(failures_per_ip=0, failures_per_network=0, failures_per_user=10) as gateway:
            for source in ("127.0.0.9", "127.0.9.1"):
                self.assertEqual(log_in(gateway, ALICE, source), 235)
            with Hydra(gateway) as hydra:
                codes = collections.Counter()

                def honest(turn):
                    codes[log_in(gateway, ALICE, "127.0.9.1")] += 1
                    if turn % 5 == 0:  # nor where he never was
                        codes[log_in(gateway, ALICE, f"127.0.{turn % 100 + 10}.1")] += 1
                    codes[log_in(gateway, BOB, "127.0.0.10")] += 1
                self.attack(gateway, hydra, "user_limit", honest)
                self.assertEqual(set(codes), {235}, codes)
            self.assertLessEqual(looked_at(gateway, "refused"), 11)

    def test_those_who_are_exempt(self):
        """A webmail host speaks for all users: only what a user's name may be guessed at holds for it."""
        with self.gateway(failures_per_ip=3, failures_per_network=3, failures_per_user=10) as gateway:
            gateway.settings["limits.exempt"] = '{"127.0.0.0/24"}'
            gateway.write_configuration()
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "reloaded")
            with Hydra(gateway) as hydra:
                codes = collections.Counter()

                def honest(_turn):
                    codes[log_in(gateway, BOB, "127.0.0.1")] += 1
                self.attack(gateway, hydra, "user_limit", honest)
                self.assertEqual(set(codes), {235}, codes)
            self.assertLessEqual(looked_at(gateway, "refused"), 11)


if __name__ == "__main__":
    unittest.main()
