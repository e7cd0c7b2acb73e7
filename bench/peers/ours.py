"""ringmx, in clear and with TLS, and its do-nothing yardstick."""

import os
import re

from .server import BUILD, Server, fill, output


class Ringmx(Server):
    name = "ringmx"
    durable = True
    durability = "synced write of each batch"

    def start(self):
        os.makedirs(os.path.join(self.directory, "spool"), exist_ok=True)
        configuration = os.path.join(self.directory, "ringmx.conf")
        fill("ringmx.conf", configuration, directory=self.directory)
        self.spawn([os.path.join(BUILD, "ringmx"), "-c", configuration])

    def find_port(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            found = re.search(r"event=listen\b.*\baddress=127\.0\.0\.1:(\d+)", log.read())
        return int(found[1]) if found else None

    def version(self):
        return output([os.path.join(BUILD, "ringmx"), "--version"])


class RingmxTls(Ringmx):
    name = "ringmx tls"
    key_kind = "ecdsa"

    def start(self):
        os.makedirs(os.path.join(self.directory, "spool"), exist_ok=True)
        configuration = os.path.join(self.directory, "ringmx.conf")
        fill("ringmx-tls.conf", configuration, directory=self.directory, **self.make_certificate())
        self.spawn([os.path.join(BUILD, "ringmx"), "-c", configuration])

    def find_port(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            lines = [line for line in log if " event=listen " in line]
        ports = [re.search(r"address=127\.0\.0\.1:(\d+)", line) for line in lines]
        if len(ports) < 2:
            return None
        self.implicit_port = int(ports[1][1])
        return int(ports[0][1])


class RingmxRsa(RingmxTls):
    name = "ringmx rsa"
    key_kind = "rsa"


class Null(Server):
    """The do-nothing yardstick."""

    durability = "stores nothing"
    arguments = ["--memory"]

    def start(self):
        self.spawn([os.path.join(BUILD, "ringmx-null"), *self.arguments])


class NullMemory(Null):
    name = "null memory"


class NullDirect(Null):
    name = "null direct"
    durable = True
    durability = "O_DSYNC write of each batch"
    arguments = ["--durable=direct", "--dir", "."]


class NullFdatasync(Null):
    name = "null fdatasync"
    durable = True
    durability = "fdatasync of each batch"
    arguments = ["--durable=fdatasync", "--dir", "."]
