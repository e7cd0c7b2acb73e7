"""ringmx-load --auth: each connection logs in, by PLAIN or LOGIN, in turn as several users; what a server refuses; and
nothing shows a password."""
import subprocess
import tempfile
import unittest

import loader
from harness import wait_until
from logins import ALICE, BOB, submission

SHORT = ("--messages", 60, "--messages-per-connection", 3, "--connections", 4, "--user", "alice")


def login(user):
    return ":".join(user)


class Auth(unittest.TestCase):
    def run_load(self, gateway, *options, name="tls", **more):
        secure = {"tls": ("--tls", "implicit"), "starttls": ("--tls", "starttls"), "clear": ()}[name]
        return loader.run(gateway.at[name], *secure, *options, **more)

    def test_mechanisms(self):
        with submission() as gateway:
            count = 0
            for name in ("tls", "starttls", "clear"):
                for mechanism in ("plain", "login"):
                    with self.subTest(name=name, mechanism=mechanism):
                        report = self.run_load(gateway, "--auth", login(ALICE), "--auth-mechanism", mechanism, "--from",
                                               ALICE[0], *SHORT, name=name)
                        count += 60
                        self.assertEqual((report["messages"], report["failed"], report["broken"]), (60, 0, 0))
                        self.assertGreaterEqual(report["logins"], 20)
                        self.assertEqual(report["logins"], report["opened"])
                        self.assertGreater(report["times"]["auth"]["count"], 0)
            gateway.wait_messages("alice", count)
            wait_until(lambda: len(gateway.events("login")) >= count / 3, "all logins")
            lines = gateway.events("login")
            self.assertEqual({line["mechanism"] for line in lines}, {"PLAIN", "LOGIN"})
            self.assertEqual({line["user"] for line in lines}, {ALICE[0]})

    def test_users_in_turn(self):
        shared = f'sender "{BOB[0]}" {{ addresses = {{"{ALICE[0]}"}} }}\n'
        with submission(more=shared) as gateway, tempfile.NamedTemporaryFile("w") as users:
            users.write(f"{login(ALICE)}\n{login(BOB)}\n")
            users.flush()
            self.run_load(gateway, "--auth", "@" + users.name, "--messages", 9, "--messages-per-connection", 1,
                          "--connections", 1, "--from", ALICE[0], "--user", "alice")
            wait_until(lambda: len(gateway.events("login")) >= 9, "nine logins")
            names = [line["user"] for line in gateway.events("login")]
            self.assertEqual(sorted(names.count(user[0]) for user in (ALICE, BOB)), [4, 5], names)

    def test_refused(self):
        with submission() as gateway:
            report = self.run_load(gateway, "--auth", f"{ALICE[0]}:verkehrt", *SHORT, code=1)
            self.assertEqual((report["messages"], report["opened"], report["broken"]), (0, 4, 4))
            self.assertEqual(report["codes"], {"535": 4})
            self.assertNotIn("verkehrt", str(report))
            self.assertEqual(len(wait_until(lambda: len(gateway.events("login_failed")) == 4 and
                                            gateway.events("login_failed"), "four failures")), 4)

    def test_nobody_else_offers_it(self):
        """A server without AUTH is told from one that refuses the password."""
        with submission() as gateway:
            report = loader.run(gateway.at["mx"], "--auth", login(ALICE), "--tls", "starttls", *SHORT, code=1)
            self.assertEqual(list(report["codes"]), ["502"])

    def test_broken_off(self):
        with submission() as gateway:
            report = self.run_load(gateway, "--auth", login(ALICE), "--abort", "auth=30%", "--from", ALICE[0], *SHORT)
            self.assertEqual(report["messages"], 60)
            self.assertEqual(set(report["aborts"]), {"auth"})

    def test_the_command_line_forgets_it(self):
        with submission() as gateway:
            process = loader.start(gateway.at["clear"], "--auth", login(ALICE), "--idle", 1, "--connections", 0,
                                   "--seconds", 60)
            self.addCleanup(process.kill)
            wait_until(lambda: gateway.events("login"), "the login")
            with open(f"/proc/{process.pid}/cmdline", "rb") as file:
                words = file.read()
            self.assertIn(b"--auth", words)
            self.assertNotIn(ALICE[1].encode(), words)
            process.send_signal(2)
            process.communicate()

    def test_never_in_clear_elsewhere(self):
        done = subprocess.run([loader.PROGRAM, "192.0.2.1:25", "--auth", login(ALICE)], capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--auth needs --tls", done.stderr)


if __name__ == "__main__":
    unittest.main()
