"""A reload of all that submission stands on: users, senders, keys and limits, in files that only the group of
sandbox.user may read, after root is given up; mistakes in them leave everything as it was."""
import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import unittest

import logins
from harness import Client, Gateway, message, quote, split_delivered, wait_until

ROOT = os.geteuid() == 0
LISTENERS = {"s": {"role": "submission", "auth": "plaintext"}}


def make_key(path):
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)


class Reload(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ringmx-users-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.files = os.path.join(self.folder, "etc")
        os.mkdir(self.files)
        self.reloads = 0

    def put(self, name, text=None):
        """A file is replaced as ringmxctl and editors do it; it belongs to root and the group of the gateway."""
        path = os.path.join(self.files, name)
        if text is None:
            make_key(path + ".new")
        else:
            with open(path + ".new", "w", encoding="utf-8") as file:
                file.write(text)
        os.chmod(path + ".new", 0o640)
        if ROOT:
            os.chown(path + ".new", 0, self.group())
        os.rename(path + ".new", path)

    @staticmethod
    def group():
        return pwd.getpwnam("nobody").pw_gid

    def configured(self, gateway, more):
        gateway.more = (f"auth {{ users = {quote(self.files + '/users')} domain = example.org delay_ms = 0 }}\n"
                        + more)
        gateway.write_configuration()

    def gateway(self, more):
        settings = {"sandbox.user": "nobody", "sandbox.group": grp.getgrgid(self.group()).gr_name} if ROOT else {}
        gateway = Gateway(settings=settings, listeners=LISTENERS)
        self.configured(gateway, more)
        os.makedirs(gateway.mail)
        if ROOT:
            for folder, mode in ((self.folder, 0o755), (gateway.directory, 0o755), (self.files, 0o750)):
                os.chown(folder, 0, self.group())
                os.chmod(folder, mode)
            os.chown(gateway.mail, pwd.getpwnam("nobody").pw_uid, self.group())
        return gateway

    def reload(self, gateway, event="reloaded"):
        before = len(gateway.events(event))
        gateway.signal(signal.SIGHUP)
        return wait_until(lambda: gateway.events(event)[before:], event)[0]

    def log_in(self, gateway, user, password, codes=235):
        client = self.clients.enter_context(Client(gateway.address))
        client.hello()
        client.expect(codes, "AUTH PLAIN " + logins.plain(user, password))
        return client

    def test_everything(self):
        self.put("users", f"alice:{logins.sha512('first')}\ncarol:{logins.sha512('carol')}\n")
        self.put("senders", "alice: info@example.org\n")
        self.put("one.key")
        first = (f'submission {{ senders = "@{self.files}/senders" }}\n'
                 f'dkim example.org {{ keys = {{"one:{self.files}/one.key"}} }}\n')
        with self.gateway(first) as gateway, contextlib.ExitStack() as self.clients:
            self.assertEqual([line for line in gateway.events("sandbox") if "reload" in line["msg"]], [])
            self.assertEqual(gateway.events("submission_warning"), [])
            alice = self.log_in(gateway, "alice", "first")
            carol = self.log_in(gateway, "carol", "carol")
            alice.expect(553, "MAIL FROM:<sales@example.org>")
            self.assertEqual(alice.transfer(self.mail(), "info@example.org", ["alice@example.org"]).code, 250)
            self.log_in(gateway, "bob", "bob", 535)

            self.put("users", f"alice:{logins.sha512('second')}\nbob:{logins.sha512('bob')}\n")
            self.put("senders", "alice: sales@example.org\n")
            self.put("two.key")
            self.configured(gateway, f'submission {{ senders = "@{self.files}/senders" messages_per_hour = 2 }}\n'
                                     f'dkim example.org {{ keys = {{"two:{self.files}/two.key"}} }}\n')
            self.reload(gateway)
            self.assertEqual(gateway.events("reload_needs_restart"), [])
            # Who is logged in stays so, under the new rules.
            alice.expect(553, "MAIL FROM:<info@example.org>")
            self.assertEqual(alice.transfer(self.mail(), "sales@example.org", ["alice@example.org"]).code, 250)
            alice.expect(250, "RSET")
            carol.expect(250, "MAIL FROM:<carol@example.org>")
            carol.expect(250, "RSET")
            # A password that was right a moment ago, and is remembered, is not.
            self.log_in(gateway, "alice", "first", 535)
            self.log_in(gateway, "carol", "carol", 535)
            self.log_in(gateway, "bob", "bob")
            again = self.log_in(gateway, "alice", "second")
            self.assertEqual(again.transfer(self.mail(), "alice@example.org", ["alice@example.org"]).code, 250)
            again.expect(450, "MAIL FROM:<alice@example.org>")
            signed = [split_delivered(found)[2] for found in gateway.wait_messages("alice", 3)]
            self.assertEqual(sorted(b"s=one;" in text for text in signed), [False, False, True])
            self.assertEqual(sorted(b"s=two;" in text for text in signed), [False, True, True])

    @staticmethod
    def mail():
        return message("reload").replace(b"From: ", b"From: alice@example.org\r\nX-Old: ")

    def test_other_backend(self):
        """From users to Dovecot only a restart leads: until then those go on who were users last."""
        self.put("users", f"alice:{logins.sha512('first')}\n")
        with self.gateway("") as gateway, contextlib.ExitStack() as self.clients:
            self.log_in(gateway, "alice", "first")
            self.put("users", f"alice:{logins.sha512('second')}\n")
            self.reload(gateway)
            for _ in range(2):
                gateway.more = 'auth { dovecot = "unix:/nowhere/auth-client" delay_ms = 0 }\n'
                gateway.write_configuration()
                self.reload(gateway)
                self.assertIn("auth.dovecot", str(gateway.events("reload_needs_restart")))
                self.log_in(gateway, "alice@example.org", "second")
                self.log_in(gateway, "alice", "first", 535)
            self.put("users", f"bob:{logins.sha512('bob')}\n")
            self.configured(gateway, "")
            self.reload(gateway)
            self.log_in(gateway, "bob", "bob")
            self.log_in(gateway, "alice", "second", 535)

    def test_mistakes(self):
        good = f"alice:{logins.sha512('first')}\n"
        self.put("users", good)
        self.put("one.key")
        keys = f'dkim example.org {{ keys = {{"one:{self.files}/one.key"}} }}\n'
        with self.gateway(keys) as gateway, contextlib.ExitStack() as self.clients:
            self.put("users", good + "\nbob:hunter2\n")
            said = self.reload(gateway, "reload_failed")["msg"]
            self.assertIn(f"{self.files}/users:3: auth.users: ", said)
            self.assertNotIn("hunter2", gateway.log_text())
            self.log_in(gateway, "alice", "first")
            self.put("users", good)
            self.put("one.key", "-----BEGIN PRIVATE KEY-----\nhunter3\n")
            said = self.reload(gateway, "reload_failed")["msg"]
            self.assertIn("dkim.keys: ", said)
            self.assertNotIn("hunter3", gateway.log_text())
            self.log_in(gateway, "alice", "first")
            self.put("one.key")
            self.reload(gateway)
            os.chmod(os.path.join(self.files, "users"), 0o666)
            self.reload(gateway)
            self.assertIn("mode 666 lets others at it", gateway.events("submission_warning")[-1]["msg"])

    def test_dovecot_needs_a_restart(self):
        """What was begun with a file goes on with it, and the other way round nobody is let in meanwhile."""
        self.put("users", f"alice:{logins.sha512('first')}\n")
        with self.gateway("") as gateway, contextlib.ExitStack() as self.clients:
            gateway.more = f'auth {{ dovecot = "unix:{self.folder}/nobody" }}\n'
            gateway.write_configuration()
            self.reload(gateway)
            self.assertIn("auth.dovecot", gateway.events("reload_needs_restart")[0]["msg"])
            client = self.clients.enter_context(Client(gateway.address))
            client.hello()
            reply = client.command("AUTH PLAIN " + logins.plain("alice", "wrong"))
            self.assertIn(reply.code, [454, 535])
            client.expect(530, "MAIL FROM:<alice@example.org>")


if __name__ == "__main__":
    unittest.main()
