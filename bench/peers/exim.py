"""Exim, from Debian's exim4-daemon-light."""

import os
import shutil

from .server import fill
from .unpacked import Unpacked


class Exim(Unpacked):
    name = "exim"
    durable = True
    durability = "fsync of body, header and folder"
    most = 1000  # a process for each connection
    queues = ("spool/input",)
    package = "exim"
    users = ("Debian-exim",)
    layers = ("usr/sbin",)

    def start(self):
        ids = self.prepare()
        spool = os.path.join(self.directory, "spool")
        shutil.chown(spool, ids["Debian-exim"])
        tls = os.path.join(self.directory, "tls.conf")
        if self.key_kind is None:
            fill("exim-clear.conf", tls)
        else:
            files = self.make_certificate()
            fill("exim-tls.conf", tls, **files)
            shutil.chown(files["key"], ids["Debian-exim"])
        folder = os.path.join(self.etc, "exim4")
        os.makedirs(folder, exist_ok=True)
        fill("exim.conf", os.path.join(folder, "exim4.conf"), directory=self.directory, port=self.wanted_port)
        self.spawn(["/usr/sbin/exim4", "-bdf", "-q30m"])


class EximTls(Exim):
    name = "exim tls"
    key_kind = "ecdsa"
