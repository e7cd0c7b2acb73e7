"""Who may log in: users files as doveadm writes them, ringmxctl user, reloads, and what a file may not say."""
import json
import os
import pty
import re
import shutil
import signal
import smtplib
import ssl
import stat
import subprocess
import tempfile
import unittest

import sasl
from harness import BINARY, PATIENCE_S, quote, wait_until
from logins import sha512, submission
from tls_client import SecureClient

PROGRAM = os.path.join(os.path.dirname(BINARY), "ringmxctl")
SCHEMES = "SHA512-CRYPT", "BLF-CRYPT", "ARGON2ID", "SCRAM-SHA-256", "SHA256-CRYPT", "CRYPT"


def tool(*words, password=None):
    return subprocess.run([PROGRAM, "user", *words], input=password, capture_output=True, text=True, check=False,
                          timeout=PATIENCE_S * 3)


class Users(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ringmx-users-", dir=os.environ.get("RINGMX_TMP"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "users")

    def run_tool(self, *words, password=None, code=0):
        done = tool(*words, "-f", self.path, password=password)
        self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout if code == 0 else done.stderr

    def lines(self):
        with open(self.path, encoding="utf-8") as file:
            return file.read().splitlines()

    def gateway(self):
        context = submission({"auth.users": quote(self.path)})
        gateway = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return gateway

    def code(self, gateway, user, password):
        with SecureClient(gateway.at["tls"], implicit=True) as client:
            client.hello()
            return client.command("AUTH PLAIN " + sasl.encode(sasl.plain(user, password))).code

    def scram(self, gateway, user, password, codes=235):
        with SecureClient(gateway.at["tls"], implicit=True) as client:
            client.hello()
            return sasl.scram(client, user, password, codes=codes)

    def reload(self, gateway, event="reloaded"):
        before = len(gateway.events("reloaded", "reload_failed"))
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: len(gateway.events("reloaded", "reload_failed")) > before, "the reload")
        self.assertEqual(gateway.events("reloaded", "reload_failed")[-1]["event"], event)

    @unittest.skipUnless(shutil.which("doveadm"), "doveadm is not installed")
    def test_doveadm(self):
        """A file that doveadm has made, with the further fields of a passwd-file; smtplib logs in."""
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("# made by doveadm pw\n\n")
            for number, scheme in enumerate(SCHEMES):
                stored = subprocess.run(["doveadm", "pw", "-s", scheme, "-p", "geheim: uml"], capture_output=True,
                                        text=True, check=True).stdout.strip()
                file.write(f"{scheme.lower()}:{stored}{':1000:1000::/home/x::' if number % 2 else ''}\n")
        gateway = self.gateway()
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        for scheme in SCHEMES:
            with smtplib.SMTP_SSL(*gateway.at["tls"], context=trust, timeout=PATIENCE_S) as client:
                code, _ = client.login(scheme.lower(), "geheim: uml")
                self.assertEqual(code, 235, scheme)
            self.assertEqual(self.code(gateway, scheme.lower(), "geheim: u"), 535, scheme)
        self.assertTrue(self.scram(gateway, "scram-sha-256", "geheim: uml"))
        self.scram(gateway, "argon2id", "geheim: uml", codes=535)

    def test_tool(self):
        """add, passwd, remove, list; each is in force after a reload, and nothing else changes."""
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(f"# ours\nzoe:{sha512('zzz')}:1000\r\n\nlocked:!{sha512('x')}")
        os.chmod(self.path, 0o640)
        gateway = self.gateway()
        before = self.lines()
        self.run_tool("add", "alice", password="one\n")
        self.assertEqual(self.lines()[:4], before)
        self.assertRegex(self.lines()[4], r"^alice:\{SCRAM-SHA-256\}100000,")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)
        self.assertEqual(os.listdir(self.folder), ["users"])
        self.assertEqual(self.code(gateway, "alice", "one"), 535)
        self.reload(gateway)
        self.assertEqual(self.code(gateway, "alice", "one"), 235)
        self.scram(gateway, "alice", "one")
        self.assertEqual(self.code(gateway, "locked", "x"), 535)

        self.assertIn("is there already", self.run_tool("add", "ALICE", password="two\n", code=1))
        self.run_tool("passwd", "Alice", "--scheme", "argon2id", password="two")
        self.run_tool("passwd", "zoe", "--scheme", "SHA512-CRYPT", password="three\r\n")
        self.assertRegex(self.lines()[1], r"^zoe:\{SHA512-CRYPT\}\$6\$rounds=100000\$[^:]+:1000$")
        self.reload(gateway)
        self.assertEqual(self.code(gateway, "alice", "one"), 535)  # although it was right a moment ago
        self.assertEqual(self.code(gateway, "alice", "two"), 235)
        self.assertEqual(self.code(gateway, "zoe", "three"), 235)
        self.assertEqual([row.split() for row in self.run_tool("list").splitlines()],
                         [["zoe", "SHA512-CRYPT"], ["locked", "locked"], ["alice", "ARGON2ID"]])
        self.assertEqual(json.loads(self.run_tool("list", "--json").splitlines()[0]),
                         {"user": "zoe", "scheme": "SHA512-CRYPT"})

        said = tool("passwd", "locked", "--scheme", "SHA512-CRYPT", "-f", self.path, password="y\n")
        self.assertEqual(said.returncode, 0)
        self.assertIn("stays locked", said.stderr)
        self.assertRegex(self.lines()[3], r"^locked:!\{SHA512-CRYPT\}\$6\$rounds=100000\$[^:]+$")
        self.reload(gateway)
        self.assertEqual(self.code(gateway, "locked", "y"), 535)

        self.run_tool("remove", "alice")
        self.assertIn("no such user", self.run_tool("remove", "alice", code=1))
        self.assertIn("no such user", self.run_tool("passwd", "alice", password="x\n", code=1))
        self.reload(gateway)
        self.assertEqual(self.code(gateway, "alice", "two"), 535)
        self.assertEqual(len(self.lines()), 4)
        self.assertNotIn("two", gateway.log_text())

    def test_new_file(self):
        """It is for its owner alone, and for the group of a folder that only the group may read."""
        self.run_tool("add", "a", "--scheme", "BLF-CRYPT", password="x\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        os.unlink(self.path)
        os.chmod(self.folder, 0o750)
        self.run_tool("add", "a", "--scheme", "BLF-CRYPT", password="x\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)
        link = self.path + ".link"
        os.symlink(self.path, link)
        self.assertEqual(tool("add", "b", "-f", link, "--scheme", "BLF-CRYPT", password="x\n").returncode, 0)
        self.assertTrue(os.path.islink(link))
        self.assertEqual(len(self.lines()), 2)

    def test_refused(self):
        self.run_tool("list", code=66)
        self.run_tool("passwd", "a", password="x\n", code=66)
        self.run_tool("add", "a", password="\n", code=65)
        self.run_tool("add", "a", password="", code=65)
        self.run_tool("add", "a", password="x" * 513 + "\n", code=65)
        self.run_tool("add", "a", "--scheme", "blf-crypt", password="x" * 73 + "\n", code=65)
        self.run_tool("add", "a", "--scheme", "plain", password="x\n", code=64)
        for name in ("a:b", "#a", "", " a", "a\n", "x" * 256):
            self.run_tool("add", name, password="x\n", code=64)
        self.run_tool("add", code=64)
        self.run_tool("frobnicate", "a", code=64)
        self.assertFalse(os.path.exists(self.path))
        self.assertIn("usage:", tool("--help").stdout)

    def test_terminal(self):
        """Asked for twice, and not shown; two that differ are none."""
        def ask(*answers):
            child, terminal = pty.fork()
            if child == 0:
                os.execl(PROGRAM, PROGRAM, "user", "add", "tess", "--scheme", "BLF-CRYPT", "-f", self.path)
            shown = b""
            for question, answer in zip((b"Password: ", b"again: "), answers):
                while question not in shown:
                    shown += os.read(terminal, 1000)
                os.write(terminal, answer)
            try:
                while True:
                    shown += os.read(terminal, 1000)
            except OSError:  # the end
                pass
            os.close(terminal)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown

        code, shown = ask(b"grunz17\n", b"grunz18\n")
        self.assertEqual(code, 65)
        self.assertFalse(os.path.exists(self.path))
        self.assertIn(b"differ", shown)
        code, more = ask(b"grunz17\n", b"grunz17\n")
        self.assertEqual(code, 0, more)
        self.assertNotIn(b"grunz", shown + more)
        self.assertEqual(ask()[0], 1)  # she is there already
        self.run_tool("remove", "tess")
        self.assertEqual(ask(b"\x03")[0], 130)  # control-C

    def test_concurrent(self):
        """Many at once: each change is there afterwards."""
        running = [subprocess.Popen([PROGRAM, "user", "add", f"u{i}", "--scheme", "BLF-CRYPT", "-f", self.path],
                                    stdin=subprocess.PIPE, text=True) for i in range(8)]
        for process in running:
            process.communicate("x\n", timeout=PATIENCE_S * 3)
            self.assertEqual(process.returncode, 0)
        self.assertEqual(sorted(line.split(":")[0] for line in self.lines()), [f"u{i}" for i in range(8)])

    def test_bad_file(self):
        """A file with mistakes is not taken, and nobody reads in the log what stands in it."""
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(f"alice:{sha512('one')}\n")
        gateway = self.gateway()
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"bob:{{PLAIN}}opensesame\ncarol\nAlice:{sha512('two')}\ndave:hunter2\n")
        self.reload(gateway, "reload_failed")
        text = gateway.log_text()
        for word in ("users:2", "users:3", "users:4", "users:5", "already", "scheme"):
            self.assertIn(word, text)
        self.assertIsNone(re.search("opensesame|hunter2|carol", text))
        self.assertEqual(self.code(gateway, "alice", "one"), 235)


if __name__ == "__main__":
    unittest.main()
