"""Postfix as a sender over TLS: opportunistic, `encrypt`, `verify`, `secure`, `wrappermode`, with resumption and a
client certificate. One Postfix of our own, below a directory of this test; it listens nowhere, its mail is put in by
sendmail."""
import ctypes
import os
import re
import shutil
import signal
import subprocess
import unittest

import pki
from harness import Gateway, quote, split_delivered, wait_until

PR_SET_PDEATHSIG = 1  # linux/prctl.h
POSTFIX, SENDMAIL = "/usr/sbin/postfix", "/usr/sbin/sendmail"
MASTER = """postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 3600 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
error unix - - n - - error
retry unix - - n - - error
scache unix - - n - 1 scache
"""
MAIN = """compatibility_level = 3.6
queue_directory = {0}/queue
data_directory = {0}/data
maillog_file = {0}/log
maillog_file_prefixes = {0}
mail_owner = postfix
setgid_group = postdrop
myhostname = sender.client.example
mydestination =
inet_interfaces = loopback-only
alias_maps =
local_transport = error:there is none
transport_maps = inline:{{ {1} }}
smtp_tls_loglevel = 1
smtp_tls_connection_reuse = no
smtp_tls_session_cache_database = btree:{0}/data/sessions
smtp_connection_cache_on_demand = no
smtp_host_lookup = native
smtp_dns_support_level = disabled
smtp_address_preference = ipv4
minimal_backoff_time = 300s
"""


class Postfix:
    """An instance in a directory; `ways` are {name: (address, options)}: mail for NAME.example.org goes that way."""

    def __init__(self, directory, ways):
        self.directory, self.process = directory, None
        for name in ("", "queue", "data", "etc"):
            os.makedirs(os.path.join(directory, name), exist_ok=True)
        os.chmod(directory, 0o755)
        shutil.chown(os.path.join(directory, "data"), "postfix")
        transports = ", ".join(f"{{ {name}.example.org = {name}:[{address[0]}]:{address[1]} }}"
                               for name, (address, _) in ways.items())
        master = MASTER + "".join(
            f"{name} unix - - n - - smtp" + "".join(
                f"\n  -o {{ {option} }}" for option in (f"syslog_name = postfix/{name}", *options)) + "\n"
            for name, (_, options) in ways.items())
        for name, text in (("main.cf", MAIN.format(directory, transports)), ("master.cf", master)):
            with open(os.path.join(directory, "etc", name), "w", encoding="ascii") as file:
                file.write(text)

    def start(self):
        etc = os.path.join(self.directory, "etc")
        done = subprocess.run([POSTFIX, "-c", etc, "check"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                              check=False)  # makes its folders
        if done.returncode != 0:
            raise AssertionError(f"postfix check: {done.stderr.decode()}\n{self.log()}")
        daemons = subprocess.run(["/usr/sbin/postconf", "-c", etc, "-h", "daemon_directory"], capture_output=True,
                                 check=True, text=True).stdout.strip()

        def follow():
            """It makes a session of its own, and must not outlive us all the same."""
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        self.process = subprocess.Popen([os.path.join(daemons, "master"), "-c", etc, "-d"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, preexec_fn=follow)
        wait_until(lambda: "daemon started" in self.log(), f"postfix: {self.log()}")

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def send(self, recipient, text):
        subprocess.run([SENDMAIL, "-C", os.path.join(self.directory, "etc"), "-f", "me@client.example", "-i",
                        recipient], input=text, check=True, timeout=60, capture_output=True)

    def log(self):
        path = os.path.join(self.directory, "log")
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8") as file:
            return file.read()

    def wait_status(self, recipient, status, count=1):
        """The log lines of a recipient's delivery attempts, once there are `count` with that status."""
        def lines():
            found = [line for line in self.log().splitlines() if f"to=<{recipient}>" in line]
            wrong = [line for line in found if f"status={status}" not in line]
            if wrong:
                raise AssertionError("\n".join(wrong) + "\n" + self.log()[-4000:])
            return found if len(found) >= count else None
        return wait_until(lines, f"status={status} of {recipient}: {self.log()[-3000:]}")


@unittest.skipUnless(os.path.exists(POSTFIX), "skipped: postfix is not installed")
@unittest.skipUnless(os.geteuid() == 0, "skipped: postfix wants root to start")
class Senders(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        authority, other, clients = pki.authority(), pki.authority("other"), pki.authority("clients")
        certificates = {"mx": authority.issue("mx.example.org")}
        domains = {"example.org": (["*"], "maildir:{mail}/%d/%u")}
        names = ("may", "encrypt", "old", "verify", "secure", "wrong-ca", "wrong-name", "wrapped", "shown", "required",
                 "none", "refuses", "again")
        domains.update({f"{name}.example.org": (["*"], "maildir:{mail}/%d/%u") for name in names})
        cls.gateway = Gateway(
            domains=domains, certificates=certificates,
            listeners={"starttls": {"tls": "starttls"}, "required": {"tls": "required"},
                       "implicit": {"tls": "implicit"}, "none": {"tls": "none"},
                       "ask": {"client_ca": quote(clients.path)}})
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()
        at = cls.gateway.at
        trust, name = f"smtp_tls_CAfile = {authority.path}", "mx.example.org"
        secure = ["smtp_tls_security_level = secure", f"smtp_tls_secure_cert_match = {name}"]
        shown = clients.issue("sender.client.example", client=True)
        ways = {
            "may": (at["starttls"], ["smtp_tls_security_level = may"]),
            "encrypt": (at["starttls"], ["smtp_tls_security_level = encrypt"]),
            "old": (at["starttls"], ["smtp_tls_security_level = encrypt",
                                     "smtp_tls_mandatory_protocols = TLSv1.2, !TLSv1.3"]),
            "verify": (at["starttls"], ["smtp_tls_security_level = verify", f"smtp_tls_verify_cert_match = {name}",
                                        trust]),
            "secure": (at["starttls"], [*secure, trust, f"smtp_tls_servername = {name}"]),
            "again": (at["starttls"], [*secure, trust]),
            "wrong-ca": (at["starttls"], [*secure, f"smtp_tls_CAfile = {other.path}"]),
            "wrong-name": (at["starttls"], ["smtp_tls_security_level = secure",
                                            "smtp_tls_secure_cert_match = other.example.org", trust]),
            "wrapped": (at["implicit"], [*secure, trust, "smtp_tls_wrappermode = yes"]),
            "shown": (at["ask"], ["smtp_tls_security_level = encrypt", f"smtp_tls_cert_file = {shown.chain}",
                                  f"smtp_tls_key_file = {shown.key}"]),
            "required": (at["required"], ["smtp_tls_security_level = may"]),
            "none": (at["none"], ["smtp_tls_security_level = may"]),
            "refuses": (at["none"], ["smtp_tls_security_level = encrypt"]),
        }
        directory = pki.place("postfix")
        os.chmod(pki.directory(), 0o755)  # its programs do not run as root
        cls.readable(authority.path, other.path, *shown)
        cls.postfix = Postfix(directory, ways)
        cls.postfix.start()
        cls.addClassCleanup(cls.postfix.stop)

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    @staticmethod
    def readable(*paths):
        for path in paths:
            os.chmod(path, 0o644)

    def send(self, way, number=1):
        text = "".join(f"line {line} of {way}\n" for line in range(200)).encode() + b".\n..\n"
        self.postfix.send(f"alice@{way}.example.org", b"Subject: postfix\n\n" + text)
        self.postfix.wait_status(f"alice@{way}.example.org", "sent", number)
        found = self.gateway.wait_messages("alice", number, f"{way}.example.org")
        _, received, content = split_delivered(found[-1])
        self.assertTrue(content.endswith(text.replace(b"\n", b"\r\n")), content[-300:])
        return received

    def check_secure(self, way, version="TLSv1.3", word="Untrusted"):
        received = self.send(way)
        self.assertIn(f"using {version} with cipher".encode(), received)
        self.assertRegex(received, rb"\swith ESMTPS\s")
        line = rf"postfix/{way}/smtp\[\d+\]: {word} TLS connection established to .*: {version} with"
        self.assertEqual(len(re.findall(line, self.postfix.log())), 1, self.postfix.log()[-3000:])
        return received

    def test_opportunistic(self):
        self.check_secure("may")

    def test_encrypt(self):
        self.check_secure("encrypt")

    def test_tls12(self):
        self.check_secure("old", "TLSv1.2")

    def test_verify(self):
        self.check_secure("verify", word="Verified")

    def test_secure(self):
        self.check_secure("secure", word="Verified")

    def test_wrapped(self):
        self.check_secure("wrapped", word="Verified")

    def test_required(self):
        self.check_secure("required")

    def test_client_certificate(self):
        self.assertIn(b"sender.client.example", self.check_secure("shown").split(b"\tby ")[0].split(b"(using")[1])

    def test_none(self):
        """Without STARTTLS `may` goes on in clear, and `encrypt` waits."""
        self.assertNotIn(b"using TLS", self.send("none"))
        self.check_deferred("refuses", "TLS is required, but was not offered")

    def check_deferred(self, way, words):
        self.postfix.send(f"alice@{way}.example.org", b"Subject: never\n\n")
        line, = self.postfix.wait_status(f"alice@{way}.example.org", "deferred")
        self.assertIn(words, line)
        self.assertEqual(self.gateway.count("alice", f"{way}.example.org"), 0)

    def test_not_trusted(self):
        """Who verifies us with the wrong authority or for another name keeps the mail."""
        self.check_deferred("wrong-ca", "Server certificate not verified")
        self.check_deferred("wrong-name", "Server certificate not verified")

    def test_resumption(self):
        """The second mail the same way uses the session of the first: in Postfix's cache is our ticket."""
        for number in range(1, 5):
            self.send("again", number)

        def resumed():
            return len([line for line in self.gateway.events("tls") if line["resumed"] == "true"]) >= 3

        wait_until(resumed, "three resumed sessions")

    def test_many(self):
        """A heap of mail at once, over several connections."""
        count = 40
        for number in range(count):
            self.postfix.send("bob@encrypt.example.org", b"Subject: %d\n\n" % number)
        self.postfix.wait_status("bob@encrypt.example.org", "sent", count)
        found = self.gateway.wait_messages("bob", count, "encrypt.example.org")
        subjects = {re.search(rb"Subject: (\d+)\r\n", text)[1] for text in found}
        self.assertEqual(len(subjects), count)


if __name__ == "__main__":
    unittest.main()
