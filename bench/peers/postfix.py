"""Postfix, and the sink of its test tools."""

import os
import shutil

from .server import Server, Unavailable, fill, free_port, output

MASTER = "/usr/lib/postfix/sbin/master"


class SmtpSink(Server):
    name = "smtp-sink"
    durability = "stores nothing"
    most = 1000  # it walks all its timers for each event, and takes a minute to greet 10,000

    def start(self):
        user = ["-u", "postfix"] if os.getuid() == 0 else []
        self.spawn(["/usr/sbin/smtp-sink", *user, "-m", "20000", "127.0.0.1:0", "4096"])

    def version(self):
        return "Postfix " + output(["/usr/sbin/postconf", "-d", "-h", "mail_version"])


class Postfix(Server):
    """A whole instance below the benchmark's own folder; the system's is not touched."""

    name = "postfix"
    durable = True
    durability = "fsync of the queue file"
    queues = ("queue/incoming", "queue/active")
    most = 1000  # a process for each connection

    def start(self):
        if os.getuid() != 0:
            raise Unavailable("Postfix needs root")
        if not os.access(MASTER, os.X_OK):
            raise Unavailable(f"{MASTER} is not there")
        for folder in ("conf", "queue", "data"):
            os.makedirs(os.path.join(self.directory, folder), exist_ok=True)
        for folder in ("active bounce corrupt defer deferred flush hold incoming maildrop pid private public "
                       "saved trace").split():
            path = os.path.join(self.directory, "queue", folder)
            os.makedirs(path, mode=0o700, exist_ok=True)
            if folder != "pid":
                shutil.chown(path, "postfix", "postdrop" if folder in ("maildrop", "public") else None)
        os.chmod(os.path.join(self.directory, "queue", "public"), 0o710)
        shutil.chown(os.path.join(self.directory, "data"), "postfix")
        self.wanted_port = free_port()
        conf = os.path.join(self.directory, "conf")
        fill("postfix-main.cf", os.path.join(conf, "main.cf"), directory=self.directory)
        if self.key_kind is not None:
            fill("postfix-tls.cf", os.path.join(conf, "tls.cf"), **self.make_certificate())
            with open(os.path.join(conf, "tls.cf"), encoding="utf-8") as more, \
                    open(os.path.join(conf, "main.cf"), "a", encoding="utf-8") as main:
                main.write(more.read())
        fill("postfix-master.cf", os.path.join(conf, "master.cf"), port=self.wanted_port)
        self.spawn([MASTER, "-c", conf, "-d"])
        self.widen_backlog()

    def find_port(self):
        return self.wanted_port

    def version(self):
        return output(["/usr/sbin/postconf", "-d", "-h", "mail_version"])


class PostfixTls(Postfix):
    name = "postfix tls"
    key_kind = "ecdsa"
