"""Next hops: a Postfix and an Exim of our own, each in a folder that goes with it, which take mail for every user of any
domain by SMTP and keep it, a file each. Both need root; Exim comes unpacked (make deps-test), and runs in a mount
namespace where its fixed paths lead to it."""
import os
import pwd
import shutil
import socket
import subprocess

from harness import ROOT
from peers import Peer

POSTFIX_MASTER = "/usr/lib/postfix/sbin/master"
EXIM_TREE = os.path.join(ROOT, "build", "peers", "exim")

MAIN_CF = """compatibility_level = 3.6
queue_directory = {0}/queue
data_directory = {0}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {0}/log
maillog_file_prefixes = {0}
myhostname = hop.example.net
mydestination =
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
virtual_mailbox_domains = regexp:{{{{/./ OK}}}}
virtual_mailbox_maps = regexp:{{{{/^([^@]+)@/ all/}}}}
virtual_mailbox_base = {0}/mail
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_mailbox_limit = 0
message_size_limit = 100000000
local_header_rewrite_clients =
message_drop_headers =
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_recipient_restrictions = {1}
{2}
"""

MASTER_CF = """{0}:{1} inet n - n - 100 smtpd
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
"""

EXIM_CONF = """primary_hostname = hop.example.net
local_interfaces = <; [{1}]:{2}
spool_directory = {0}/spool
log_file_path = {0}/spool/%slog
pid_file_path = {0}/exim.pid
keep_environment =
trusted_users = root
allow_mx_to_ip = true
return_path_remove = false
delivery_date_remove = false
envelope_to_remove = false
message_size_limit = 100M
acl_smtp_rcpt = acl_rcpt
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
smtp_accept_queue_per_connection = 0
never_users =
check_rfc2047_length = false
begin acl
acl_rcpt:
  accept
begin routers
all:
  driver = accept
  transport = keep
begin transports
keep:
  driver = appendfile
  directory = {0}/mail/all
  maildir_format
  create_directory
  user = nobody
  group = nogroup
  mode = 0644
  delivery_date_add = false
  envelope_to_add = false
  return_path_add = true
"""


def loopback():
    """An address and port that nobody else uses, for servers that can't take port 0."""
    host = "127.{}.{}.{}".format(*(1 + octet % 254 for octet in os.urandom(3)))
    with socket.create_server((host, 0)) as probe:
        return probe.getsockname()


class Hop(Peer):
    """What both have in common: all mail lies in mail/all/new below the folder."""

    def messages(self):
        folder = os.path.join(self.folder, "mail", "all", "new")
        found = []
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            with open(os.path.join(folder, name), "rb") as file:
                found.append(file.read())
        return found

    def count(self):
        folder = os.path.join(self.folder, "mail", "all", "new")
        return len(os.listdir(folder)) if os.path.isdir(folder) else 0

    def make_folders(self, *names):
        os.chmod(self.folder, 0o755)
        for name in names:
            os.makedirs(os.path.join(self.folder, name), exist_ok=True)
        os.makedirs(os.path.join(self.folder, "mail"), exist_ok=True)
        shutil.chown(os.path.join(self.folder, "mail"), "nobody", "nogroup")


class PostfixHop(Hop):
    """`restrictions` stand in front of `permit` for each recipient; `more` is text for main.cf."""

    def __init__(self, restrictions=(), more=""):
        super().__init__()
        self.restrictions, self.more = ", ".join([*restrictions, "permit"]), more

    def __enter__(self):
        self.make_folders("conf", "queue", "data")
        for name in ("active bounce corrupt defer deferred flush hold incoming maildrop pid private public saved "
                     "trace").split():
            path = os.path.join(self.folder, "queue", name)
            os.makedirs(path, mode=0o700, exist_ok=True)
            if name != "pid":
                shutil.chown(path, "postfix", "postdrop" if name in ("maildrop", "public") else None)
        os.chmod(os.path.join(self.folder, "queue", "public"), 0o710)
        shutil.chown(os.path.join(self.folder, "data"), "postfix")
        self.address = loopback()
        self.write("conf/main.cf", MAIN_CF.format(self.folder, self.restrictions, self.more))
        self.write("conf/master.cf", MASTER_CF.format(*self.address))
        return self.launch([POSTFIX_MASTER, "-c", os.path.join(self.folder, "conf"), "-d"], start_new_session=True)


class EximHop(Hop):
    """Exim, from Debian's exim4-daemon-light."""

    def __enter__(self):
        self.make_folders("spool", "etc", "etc/exim4")
        self.address = loopback()
        user = "Debian-exim"
        if user not in (one.pw_name for one in pwd.getpwall()):
            for name, line in (("passwd", f"{user}:x:64900:64900::/:/usr/sbin/nologin\n"), ("group", f"{user}:x:64900:\n")):
                with open(f"/etc/{name}", encoding="utf-8") as system:
                    self.write(f"etc/{name}", system.read().rstrip("\n") + "\n" + line)
            os.chown(os.path.join(self.folder, "spool"), 64900, 64900)
        else:
            shutil.chown(os.path.join(self.folder, "spool"), user)
        self.write("etc/exim4/exim4.conf", EXIM_CONF.format(self.folder, *self.address))
        tree = os.path.realpath(EXIM_TREE)
        lines = ["set -e", f"(cd '{tree}' && mount -t overlay overlay -o lowerdir=usr/sbin:/usr/sbin /usr/sbin)",
                 f"(cd '{self.folder}' && mount -t overlay overlay -o lowerdir=etc:/etc /etc)",
                 'exec /usr/sbin/exim4 -bdf -q1m']
        return self.launch(["/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh", "-c",
                            "\n".join(lines)], start_new_session=True)


def have_postfix():
    return os.getuid() == 0 and os.access(POSTFIX_MASTER, os.X_OK)


def have_exim():
    """Whether Exim is there, and a mount namespace can be made."""
    if os.getuid() != 0 or not os.path.isdir(EXIM_TREE):
        return False
    return subprocess.run(["/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/true"], check=False,
                          capture_output=True).returncode == 0
