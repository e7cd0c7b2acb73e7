"""Programs of others that the tests start as peers, each with a configuration and a folder of its own: HAProxy, which
judges PROXY headers, and Dovecot, which takes mail by LMTP."""
import os
import shutil
import socket
import subprocess
import tempfile

from harness import PATIENCE_S, wait_until

HAPROXY, DOVECOT = shutil.which("haproxy") or "/usr/sbin/haproxy", "/usr/sbin/dovecot"
DOVECOT_LMTP = "/usr/lib/dovecot/lmtp"

HAPROXY_TEXT = """defaults
  mode tcp
  timeout connect 20s
  timeout client 60s
  timeout server 60s
listen judge
  bind fd@{descriptor} accept-proxy
  server next {host}:{port} {onward}
"""

DOVECOT_TEXT = """base_dir = {0}/run
state_dir = {0}/state
log_path = {0}/log
protocols = {3}
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
mail_location = maildir:{4}
default_vsz_limit = 0
auth_username_format = %Ln
userdb {{
  driver = passwd-file
  args = {0}/users
}}
passdb {{
  driver = passwd-file
  args = {0}/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = {1}
    port = {2}
  }}
  unix_listener {0}/lmtp {{
    mode = 0666
  }}
}}
service imap-login {{
  inet_listener imap {{
    address = {1}
    port = {5}
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    address = {1}
    port = {6}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""


class Peer:
    """A process in the foreground, in a folder that goes with it. `self.address` is where it listens."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="ringmx-peer-", dir=os.environ.get("RINGMX_TMP"))
        self.process, self.address = None, None

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def launch(self, command, **more):
        with open(os.path.join(self.folder, "output"), "wb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **more)
        wait_until(self.listens, f"{command[0]} listens: {self.told()}")
        return self

    def listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f"it ended: {self.told()}")
        try:
            with socket.create_connection(self.address, 1):
                return True
        except OSError:
            return False

    def told(self):
        text = ""
        for name in ("output", "log"):
            if os.path.exists(os.path.join(self.folder, name)):
                with open(os.path.join(self.folder, name), encoding="utf-8", errors="backslashreplace") as file:
                    text += file.read()[-3000:]
        return text

    def __exit__(self, *_):
        try:
            self.process.terminate()
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)


class Haproxy(Peer):
    """Takes connections that begin with a PROXY header, either version, refuses bad ones, and passes them on to
    `target`, with a header of version 1 that it writes itself (`onward`)."""

    def __init__(self, target, onward=True):
        super().__init__()
        self.target, self.onward = target, "send-proxy" if onward else ""

    def __enter__(self):
        with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
            self.address = listener.getsockname()
            path = self.write("haproxy.cfg", HAPROXY_TEXT.format(
                descriptor=listener.fileno(), host=self.target[0], port=self.target[1],
                onward=self.onward))
            return self.launch([HAPROXY, "-db", "-f", path], pass_fds=[listener.fileno()])


class Dovecot(Peer):
    """Takes mail by LMTP (`address`, and the unix socket `lmtp` in `folder`) for `users` of any domain, each into a
    Maildir: mail/USER below `folder`. With `readers` it also serves IMAP and POP3, for users of a password
    `secret`; `location` are then Maildirs of somebody else, whose files belong to
    nobody. Needs root."""

    def __init__(self, users, readers=False, location=None):
        super().__init__()
        self.users, self.readers, self.location = users, readers, location
        self.imap = self.pop3 = None

    def __enter__(self):
        os.chmod(self.folder, 0o755)
        for name in ("run", "state", "mail"):
            os.makedirs(os.path.join(self.folder, name))
        shutil.chown(os.path.join(self.folder, "mail"), "nobody", "nogroup")
        password = "{PLAIN}secret" if self.readers else ""
        self.write("users", "".join(f"{user}:{password}:65534:65534::{self.folder}/mail/{user}::\n"
                                    for user in self.users))
        # It can't take port 0: one that is free on an address that nobody else uses.
        host = "127.{}.{}.{}".format(*(1 + octet % 254 for octet in os.urandom(3)))
        with socket.create_server((host, 0)) as one, socket.create_server((host, 0)) as two, \
                socket.create_server((host, 0)) as three:
            self.address, self.imap, self.pop3 = one.getsockname(), two.getsockname(), three.getsockname()
        location = self.location or os.path.join(self.folder, "mail", "%n")
        text = DOVECOT_TEXT.format(self.folder, *self.address, "lmtp imap pop3" if self.readers else "lmtp", location,
                                   self.imap[1], self.pop3[1])
        path = self.write("dovecot.conf", text)
        self.launch([DOVECOT, "-F", "-c", path])
        if self.readers:
            for address in (self.imap, self.pop3):
                wait_until(lambda: self.takes(address), f"Dovecot reads out: {self.told()}")
        return self

    @staticmethod
    def takes(address):
        try:
            with socket.create_connection(address, 1):
                return True
        except OSError:
            return False

    def maildir(self, user):
        return os.path.join(self.folder, "mail", user)

    def lmtp(self):
        """The path of its unix socket."""
        return os.path.join(self.folder, "lmtp")
