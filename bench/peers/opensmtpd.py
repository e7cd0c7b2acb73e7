"""OpenSMTPD, from Debian's opensmtpd."""

import os

from .server import fill
from .unpacked import Unpacked


class OpenSmtpd(Unpacked):
    name = "opensmtpd"
    durability = "writes and renames, no sync"
    most = 1000  # it holds 10,000, but takes longer than a run for a message of each
    pipelining = False
    queues = ("spool/incoming", "spool/queue")
    package = "opensmtpd"
    users = ("opensmtpd", "opensmtpq")
    layers = ("usr/sbin", "usr/libexec", "var/spool")

    def start(self):
        self.prepare()
        os.chmod(os.path.join(self.directory, "spool"), 0o711)
        configuration = os.path.join(self.directory, "smtpd.conf")
        fill("opensmtpd.conf", configuration, port=self.wanted_port)
        with open(os.path.join(self.etc, "resolv.conf"), "w", encoding="ascii") as file:
            file.write("lookup file\n")  # it asks for each client's name: here only /etc/hosts answers
        self.spawn(["/usr/sbin/smtpd", "-d", "-f", configuration])
        self.widen_backlog()

    def mounts(self):
        # In this order, for the benchmark's folder may lie below /var/lib.
        return ["mount --bind spool /var/spool/smtpd", self.overlay("var/lib"), "mount -t tmpfs tmpfs /var/mail"]
