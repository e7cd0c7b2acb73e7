"""The sandbox of a running gateway, from outside (/proc) and from inside: a library that is loaded into it tries, on
a signal, what an intruder would. What a gateway does every day, and reloads, work all the same. Root is needed to
become somebody else; everything else works for anybody."""
import errno
import glob
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from harness import BINARY, FLAVOUR, Gateway, message, wait_until
import pki
from zones import read_question

FILTERED = FLAVOUR not in ("asan", "tsan")  # sanitizers can't live with a filter
ROOT = os.geteuid() == 0
STAYS_ROOT = ["ringmx stays root, with all capabilities: sandbox.user names whom to become"] if ROOT else []
PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Runs a program with another /etc.
OTHER_ETC = ["unshare", "-m", "sh", "-c", 'mount --make-rprivate / && mount --bind "$0" /etc && exec "$@"']


def issue(folder, name):
    """A new certificate with its key, in a folder."""
    return tuple(shutil.copy(path, os.path.join(folder, f"{name}.{kind}"))
                 for path, kind in zip(pki.authority().issue("mx.example.org"), ("chain", "key")))


def statuses(pid):
    """What /proc says of each thread: {field: value}."""
    found = []
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="ascii") as file:
            found.append(dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line))
    return found


def deny_all(test, asked):
    """A name server that knows no name, on port 53 of some loopback address, which is returned."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for last in range(1, 255):
        try:
            server.bind((f"127.53.0.{last}", 53))
            break
        except OSError:
            pass
    test.addCleanup(server.close)

    def serve():
        while True:
            try:
                question, client = server.recvfrom(4096)
                asked.append(read_question(question))
                server.sendto(question[:2] + b"\x81\x83" + question[4:], client)
            except OSError:
                return
    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[0]


class Sandbox(unittest.TestCase):
    def setUp(self):
        self.outside = tempfile.mkdtemp(prefix="ringmx-outside-")
        self.addCleanup(subprocess.run, ["rm", "-rf", self.outside], check=True)

    def deliver(self, gateway, name):
        with gateway.client() as client:
            client.hello()
            self.assertEqual(client.transfer(message(name), recipients=(f"{name}@example.org",)).code, 250)
        gateway.wait_messages(name, 1)

    # --- from outside ---

    def test_threads(self):
        with Gateway() as gateway:
            self.deliver(gateway, "alice")
            for status in statuses(gateway.process.pid):
                self.assertEqual(status["NoNewPrivs"], "1", status["Name"])
                self.assertEqual(status["Seccomp"], "2" if FILTERED else "0", status["Name"])
            said = [line["msg"] for line in gateway.events("sandbox")]
            self.assertEqual(said, STAYS_ROOT + ([] if FILTERED else ["seccomp is off in a build with a sanitizer"]))

    def test_off(self):
        with Gateway(settings={"sandbox.seccomp": "off", "sandbox.landlock": "off"}) as gateway:
            self.deliver(gateway, "alice")
            for status in statuses(gateway.process.pid):
                self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "0"), status["Name"])
            self.assertEqual([line["msg"] for line in gateway.events("sandbox")], STAYS_ROOT)

    def test_lists(self):
        """What the filter allows when all has started, the profile for containers must allow, too."""
        with open(os.path.join(PROJECT, "gateway", "gateway_sandbox_calls.c"), encoding="utf-8") as file:
            source = file.read()
        with open(os.path.join(PROJECT, "docs", "deploy", "container", "seccomp.json"), encoding="utf-8") as file:
            profile = {name for rule in json.load(file)["syscalls"] for name in rule["names"]}
        whole = re.search(r"allowed\[\] = \{(.*?)\};", source, re.S)[1]
        partly = re.search(r"struct partly calls\[\] = \{(.*?)\n    \};", source, re.S)[1]
        names = re.findall(r'"(\w+)"', re.sub(r"/\*.*?\*/", "", whole, flags=re.S)) + re.findall(r'\{"(\w+)"', partly)
        self.assertGreater(len(names), 140)
        self.assertEqual(sorted(set(names) - profile), [])

    def prepared(self, **more):
        """A gateway whose folders nobody may use."""
        nobody = pwd.getpwnam("nobody")
        gateway = Gateway(settings={"sandbox.user": "nobody",
                                    "admin.control": f'"{self.outside}/run/control"'}, **more)
        os.makedirs(gateway.mail)
        os.chmod(gateway.directory, 0o755)
        os.chmod(self.outside, 0o755)
        os.chown(gateway.mail, nobody.pw_uid, nobody.pw_gid)
        return gateway, nobody

    @unittest.skipUnless(ROOT, "only root can become somebody else")
    def test_user(self):
        gateway, nobody = self.prepared()
        with gateway:
            self.deliver(gateway, "alice")
            for status in statuses(gateway.process.pid):
                self.assertEqual(set(status["Uid"].split()), {str(nobody.pw_uid)}, status["Name"])
                self.assertEqual(set(status["Gid"].split()), {str(nobody.pw_gid)}, status["Name"])
                self.assertNotIn("0", status["Groups"].split(), status["Name"])
                for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                    self.assertEqual(int(status[name], 16), 0, f"{status['Name']}: {name}")
            for path in (gateway.spool, os.path.join(self.outside, "run")):
                self.assertEqual(os.stat(path).st_uid, nobody.pw_uid, path)
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "the reload")
            self.deliver(gateway, "bob")
            gateway.restart()  # with the spool as it is
            self.deliver(gateway, "carol")

    @unittest.skipUnless(ROOT, "only root can become somebody else")
    def test_files_of_root(self):
        """A key that only root may read serves until a reload, which is refused; both are told."""
        gateway, _ = self.prepared()
        chain, key = issue(gateway.directory, "first")
        os.chmod(chain, 0o644)
        os.chmod(key, 0o600)
        gateway.certificates = {"mx.example.org": (chain, key)}
        with gateway:
            said = [line["msg"] for line in gateway.events("sandbox")]
            self.assertIn(f"{key} can't be read any more by whom we have become: a reload would be refused", said)
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reload_failed"), "a refused reload")
            self.deliver(gateway, "alice")

    @unittest.skipUnless(ROOT, "only root can become somebody else")
    def test_certificate_to_make(self):
        """--check tells that a self-signed certificate can't be made by whom ringmx becomes."""
        gateway, nobody = self.prepared()
        folder = os.path.join(self.outside, "keys")
        os.makedirs(folder, mode=0o755)
        gateway.certificates = {"mx.example.org": f'chain = "{folder}/chain" key = "{folder}/key" self_signed = true'}

        def told():
            gateway.write_configuration()
            said = subprocess.run([BINARY, "-c", gateway.path, "--check"], check=True, capture_output=True, text=True)
            return re.findall(r"(?m)^warning: (\S+) is to be made \(self_signed\), and nobody may not", said.stdout)
        try:
            self.assertEqual(told(), [f"{folder}/chain", f"{folder}/key"])
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self.assertEqual(told(), [])
        finally:
            gateway.close()

    @unittest.skipUnless(ROOT, "only root can become somebody else")
    def test_spool_of_root(self):
        gateway, _ = self.prepared()
        os.makedirs(gateway.spool, mode=0o700)
        gateway.write_configuration()
        gateway.launch()
        self.assertEqual(gateway.process.wait(20), 78)
        self.assertIn("chown -R nobody", gateway.log_text())
        gateway.process = None
        gateway.close()

    @unittest.skipIf(ROOT, "root can become anybody")
    def test_not_root(self):
        with tempfile.TemporaryDirectory() as folder:
            gateway = Gateway(settings={"sandbox.user": "daemon"}, directory=folder)
            gateway.write_configuration()
            gateway.launch()
            self.assertEqual(gateway.process.wait(20), 78)
            self.assertIn("only root can become daemon", gateway.log_text())
            gateway.process = None

    # --- from inside ---

    def attempt(self, gateway, *words):
        """What a call gives that is made from inside: its errno; -SIGSYS when the process was ended for it."""
        with open(os.path.join(gateway.directory, "attempt"), "w", encoding="utf-8") as file:
            file.write(" ".join(words) + "\n")
        before = gateway.log_text().count(f"attempt {words[0]} ")
        gateway.signal(signal.SIGUSR1)

        def answer():
            if gateway.process.poll() is not None:
                return True
            return gateway.log_text().count(f"attempt {words[0]} ") > before
        wait_until(answer, f"an answer to {words}")
        if gateway.process.poll() is not None:
            return gateway.process.returncode
        last = [line for line in gateway.log_text().split("\n") if f"attempt {words[0]} " in line][-1]
        return int(last[last.index(f"attempt {words[0]} "):].split()[2])

    def inside(self, **more):
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside_preload.c")
        gateway = Gateway(**more)
        library = os.path.join(self.outside, "inside.so")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", library, source], check=True)
        gateway.environment = {"LD_PRELOAD": library, "RINGMX_ATTEMPT": os.path.join(gateway.directory, "attempt")}
        return gateway

    @unittest.skipUnless(FILTERED, "a sanitizer wants to be loaded first, and has no filter")
    def test_refused(self):
        secret = os.path.join(self.outside, "secret")
        with open(secret, "w", encoding="utf-8") as file:
            file.write("secret\n")
        with self.inside() as gateway:
            for name in ("packet", "listen", "fork", "code", "root"):
                self.assertEqual(self.attempt(gateway, name), errno.EPERM, name)
            for name, path in (("read", secret), ("write", secret), ("write", self.outside + "/new"),
                               ("read", "/etc/shadow"), ("read", "/root"), ("read", "/"),
                               ("write", gateway.path), ("write", "/etc/cron.d/ringmx")):
                self.assertEqual(self.attempt(gateway, name, path), errno.EACCES, f"{name} {path}")
            self.assertEqual(self.attempt(gateway, "read", gateway.path), 0)
            self.assertEqual(self.attempt(gateway, "write", gateway.spool + "/x"), 0)
            self.assertEqual(self.attempt(gateway, "write", gateway.mail + "/x"), 0)
            self.deliver(gateway, "alice")

    @unittest.skipUnless(FILTERED, "a sanitizer wants to be loaded first, and has no filter")
    def test_deadly(self):
        for name in ("execve", "ring", "trace", "namespace"):
            with self.subTest(name):
                gateway = self.inside()
                try:
                    gateway.start()
                    self.assertEqual(self.attempt(gateway, name), -signal.SIGSYS, name)
                finally:
                    gateway.close()

    @unittest.skipUnless(FILTERED, "a sanitizer wants to be loaded first")
    def test_without(self):
        """The same from inside works when all is off: the tests above can fail."""
        secret = os.path.join(self.outside, "secret")
        with self.inside(settings={"sandbox.seccomp": "off", "sandbox.landlock": "off"}) as gateway:
            for words in (("listen",), ("fork",), ("code",), ("ring",), ("write", secret), ("read", secret)):
                self.assertEqual(self.attempt(gateway, *words), 0, words)

    # --- reload ---

    @unittest.skipUnless(ROOT and FILTERED, "needs root; a sanitizer may read all")
    def test_name_servers(self):
        """As root, another file in the place of /etc/resolv.conf is out of reach: the name servers stay, which is
        told, and mail goes on."""
        etc = os.path.join(self.outside, "etc")
        os.makedirs(etc)
        for name in ("passwd", "group", "hosts", "nsswitch.conf"):
            shutil.copy(os.path.join("/etc", name), etc)

        def write(name, text):
            with open(os.path.join(etc, name), "w", encoding="ascii") as file:
                file.write(text)
        asked = []
        write("resolv.conf", f"nameserver {deny_all(self, asked)}\n")
        with Gateway(prefix=OTHER_ETC + [etc], domains={"first.test": (["*"], "mx:"),
                                                         "second.test": (["*"], "mx:")}) as gateway:
            def send(domain):
                with gateway.client() as client:
                    client.hello()
                    self.assertEqual(client.transfer(message("x"), recipients=(f"a@{domain}",)).code, 250)
                wait_until(lambda: (domain, "MX") in asked, f"a question for {domain}")
            send("first.test")
            write("resolv.conf.new", "nameserver 127.0.0.2\n")
            os.rename(os.path.join(etc, "resolv.conf.new"), os.path.join(etc, "resolv.conf"))
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "the reload")
            said = [line["msg"] for line in gateway.events("reload_needs_restart")]
            self.assertEqual(len(said), 1)
            self.assertIn("/etc/resolv.conf is another file since the start", said[0])
            send("second.test")

    def test_reload_beyond(self):
        with Gateway(settings={"queue.schedule": '"1s"'}) as gateway:
            gateway.domains["example.net"] = (["*"], f"maildir:{self.outside}/mail/%u")
            gateway.write_configuration()
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "the reload")
            said = [line["msg"] for line in gateway.events("reload_needs_restart")]
            self.assertEqual(said, [f"{self.outside}/mail is out of reach since the start (sandbox.landlock), "
                                    "and only a restart can change it"])
            with gateway.client() as client:
                client.hello()
                self.assertEqual(client.transfer(message("net"), recipients=("bob@example.net",)).code, 250)
            wait_until(lambda: gateway.events("deferred"), "a deferred message")
            gateway.restart()
            folder = os.path.join(self.outside, "mail", "bob", "new")
            wait_until(lambda: os.path.isdir(folder) and os.listdir(folder), "the mail after the restart", 90)

    def test_certificate_beyond(self):
        """A new certificate in the known folder is taken; one elsewhere refuses the reload, which says why."""
        gateway = Gateway()
        gateway.certificates = {"mx.example.org": issue(gateway.directory, "first")}
        with gateway:
            gateway.certificates = {"mx.example.org": issue(gateway.directory, "renewed")}
            gateway.write_configuration()
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "the reload")
            self.assertEqual(gateway.events("reload_failed", "reload_needs_restart"), [])
            if FILTERED:  # a sanitizer must be able to read everything
                gateway.certificates = {"mx.example.org": issue(self.outside, "elsewhere")}
                gateway.write_configuration()
                gateway.signal(signal.SIGHUP)
                wait_until(lambda: gateway.events("reload_failed"), "a refused reload")
                self.assertTrue(any("sandbox.landlock" in line["msg"] for line in gateway.events("reload_failed")))
            self.deliver(gateway, "alice")


if __name__ == "__main__":
    unittest.main()
