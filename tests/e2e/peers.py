"""Programs of others that the tests start as peers, each with a configuration and a folder of its own: HAProxy, which
judges PROXY headers, Dovecot, which takes mail by LMTP and knows who users are, and Redis."""
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile

from harness import PATIENCE_S, wait_until

HAPROXY, DOVECOT = shutil.which("haproxy") or "/usr/sbin/haproxy", "/usr/sbin/dovecot"
DOVECOT_LMTP = "/usr/lib/dovecot/lmtp"
REDIS = "/usr/bin/redis-server"

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


class Balancer(Peer):
    """HAProxy with any configuration: `text` is its sections; in it "{NAME}" of each of `names` is an address to bind
    to, which is then in `at`. `state` asks it what it thinks of a server."""

    def __init__(self, text, names=("front",)):
        super().__init__()
        self.text, self.names, self.at = text, names, {}

    def __enter__(self):
        listeners = {name: socket.create_server(("127.0.0.1", 0), backlog=1000) for name in self.names}
        try:
            self.at = {name: listener.getsockname() for name, listener in listeners.items()}
            self.address = self.at[self.names[0]]
            text = self.text
            for name, listener in listeners.items():
                text = text.replace("{" + name + "}", f"fd@{listener.fileno()}")
            text = f"global\n  stats socket {self.folder}/stats\n" + text
            self.launch([HAPROXY, "-db", "-f", self.write("haproxy.cfg", text)],
                        pass_fds=[listener.fileno() for listener in listeners.values()])
            return self
        finally:
            for listener in listeners.values():
                listener.close()

    def listens(self):
        """Its sockets listen from the start, and a connection to one of them is a client to whoever is behind it."""
        if self.process.poll() is not None:
            raise AssertionError(f"it ended: {self.told()}")
        try:
            return bool(self.ask("show info"))
        except OSError:
            return False

    def ask(self, command):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PATIENCE_S)
            asking.connect(os.path.join(self.folder, "stats"))
            asking.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: asking.recv(65536), b"")).decode()

    def field(self, server, name):
        """What `show stat` has of "backend/server" in one column."""
        told = self.ask("show stat")
        names, *lines = [line.split(",") for line in told.lstrip("# ").splitlines() if line]
        for line in lines:
            if "/".join(line[:2]) == server:
                return line[names.index(name)]
        raise AssertionError(f"no server {server}:\n{told}")

    def state(self, server):
        """"UP", "DOWN", "DRAIN", ... of "backend/server": UP also before its first check."""
        return self.field(server, "status").split(" ")[0]

    def checked(self, server):
        """Whether a check has passed."""
        return self.field(server, "check_status").lstrip("* ") in ("L4OK", "L6OK", "L7OK")


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


DOVECOT_AUTH_TEXT = """base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
auth_verbose = yes
auth_mechanisms = {mechanisms}
auth_failure_delay = {failure_delay_s} secs
default_vsz_limit = 0
passdb {{
  driver = passwd-file
  mechanisms = plain login scram-sha-256
  args = {folder}/users
}}
{more}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  unix_listener {folder}/auth {{
    mode = 0666
  }}
  inet_listener {{
    address = {host}
    port = {port}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""

DOVECOT_OAUTH2 = """passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {folder}/oauth2
}}
"""

DOVECOT_OAUTH2_TEXT = """introspection_mode = post
introspection_url = {url}
username_attribute = user
active_attribute = active
active_value = true
"""


class DovecotAuth(Peer):
    """Dovecot that only says who users are, at `address` and at the unix socket `path`, with the protocol that
    Postfix and Exim use. `users` is {name: (scheme, password)}, or {name: (scheme, password, extra fields)}; doveadm
    makes the hashes. `introspection` is the URL that knows tokens. Needs root."""

    def __init__(self, users, mechanisms="plain login scram-sha-256", introspection=None, failure_delay_s=0, more=""):
        super().__init__()
        self.users, self.mechanisms, self.introspection = users, mechanisms, introspection
        self.failure_delay_s, self.more = failure_delay_s, more
        self.path = os.path.join(self.folder, "auth")

    @staticmethod
    @functools.lru_cache
    def hashed(scheme, password):
        return subprocess.run(["doveadm", "pw", "-s", scheme, "-p", password], stdout=subprocess.PIPE, check=True,
                              timeout=PATIENCE_S).stdout.decode().strip()

    def __enter__(self):
        os.chmod(self.folder, 0o755)
        for name in ("run", "state"):
            os.makedirs(os.path.join(self.folder, name))
        self.write_users()
        # It can't take port 0: one that is free on an address that nobody else uses.
        host = "127.{}.{}.{}".format(*(1 + octet % 254 for octet in os.urandom(3)))
        with socket.create_server((host, 0)) as free_one:
            self.address = free_one.getsockname()
        more = self.more
        if self.introspection:
            self.write("oauth2", DOVECOT_OAUTH2_TEXT.format(url=self.introspection))
            more += DOVECOT_OAUTH2.format(folder=self.folder)
        self.configuration = self.write("dovecot.conf", DOVECOT_AUTH_TEXT.format(
            folder=self.folder, host=host, port=self.address[1], mechanisms=self.mechanisms, more=more,
            failure_delay_s=self.failure_delay_s))
        return self.start()

    def write_users(self):
        self.write("users", "".join(f"{name}:{self.hashed(*words[:2])}::::::{' '.join(words[2:])}\n"
                                    for name, words in self.users.items()))

    def start(self):
        """Runs it. A lock that is left behind by one that ends too early would hold up the next for 10 seconds."""
        self.launch([DOVECOT, "-F", "-c", self.configuration])
        instances = os.path.join(self.folder, "state", "instances")
        wait_until(lambda: os.path.exists(instances) and not os.path.exists(instances + ".lock"), "Dovecot is settled")
        return self

    def stop(self):
        """As an administrator does it: those of its processes stay that have somebody to serve."""
        self.process.terminate()
        self.process.wait(PATIENCE_S)

    def kill(self):
        """All of it, at once: the master starts nothing in the stead of what is gone."""
        self.process.send_signal(signal.SIGSTOP)
        processes = self.processes()
        for process in processes + [self.process.pid]:
            os.kill(process, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not any(self.runs(process) for process in processes), "Dovecot's processes have ended")

    @staticmethod
    def runs(process):
        try:
            with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
                return file.read().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def signal(self, number):
        """To those of its processes that answer."""
        for process in self.processes():
            os.kill(process, number)

    def processes(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def words(self, unix=True):
        """The section of ringmx' configuration."""
        address = f"unix:{self.path}" if unix else "{}:{}".format(*self.address)
        return {"auth.dovecot": f'"{address}"'}


REDIS_TEXT = """bind {host}
port {port}
unixsocket {folder}/redis.sock
dir {folder}
save ""
appendonly no
loglevel verbose
user default off
user {user} on >{password} ~{prefix}:* +get +set +incrby +expire +ping +select
user judge on >judge ~* +@all
"""


class Redis(Peer):
    """A Redis that only `user`, with `password`, may use, and only as ringmx does, and for keys that begin with `prefix`. It can be
    killed, stopped and started again on the same port."""

    def __init__(self, user="gateway", password="geheim", prefix="ringmx"):
        super().__init__()
        self.user, self.password, self.prefix = user, password, prefix

    def __enter__(self):
        # It can't take port 0: one that is free on an address that nobody else uses.
        host = "127.{}.{}.{}".format(*(1 + octet % 254 for octet in os.urandom(3)))
        with socket.create_server((host, 0)) as free_one:
            self.address = free_one.getsockname()
        self.path = self.write("redis.conf", REDIS_TEXT.format(
            host=host, port=self.address[1], folder=self.folder, user=self.user, password=self.password,
            prefix=self.prefix))
        self.write("password", self.password + "\n")
        return self.start()

    def start(self):
        return self.launch([REDIS, self.path])

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def words(self, unix=False):
        """The section of ringmx' configuration."""
        address = f"unix:{self.folder}/redis.sock" if unix else "{}:{}".format(*self.address)
        return {"redis.address": f'"{address}"', "redis.user": f'"{self.user}"',
                "redis.password": f'"{self.folder}/password"', "redis.prefix": f'"{self.prefix}"'}

    def ask(self, *words):
        """What redis-cli answers, as a list of lines."""
        output = subprocess.run(["redis-cli", "-s", os.path.join(self.folder, "redis.sock"), "--user", "judge", "--pass",
                                 "judge", "--no-auth-warning", *map(str, words)],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=PATIENCE_S, check=True).stdout
        return output.decode().split("\n")[:-1]

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        super().__exit__(*exception)
