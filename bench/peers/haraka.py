"""Haraka, from npm, on Debian's Node.js."""

import os
import shutil

from .server import BUILD, HERE, Server, Unavailable, fill, free_port, output

NODE = "/usr/bin/node"


class Haraka(Server):
    name = "haraka"
    durability = "writes and renames, no sync"
    most = 1000  # it holds 10,000, but takes longer than a run for a message of each
    queues = ("queue",)
    tree = os.path.join(BUILD, "peers", "haraka", "node_modules", "Haraka")

    def start(self):
        if not os.path.isdir(self.tree):
            raise Unavailable(f"{self.tree} is not there: make deps-bench")
        os.makedirs(self.directory, exist_ok=True)
        # As `haraka --install` does: its own configuration is copied, and what differs is written over it.
        shutil.copytree(os.path.join(self.tree, "config"), os.path.join(self.directory, "config"), dirs_exist_ok=True)
        self.wanted_port = free_port()
        for folder, _, names in os.walk(os.path.join(HERE, "servers", "haraka")):
            inside = os.path.relpath(folder, os.path.join(HERE, "servers", "haraka"))
            os.makedirs(os.path.join(self.directory, inside), exist_ok=True)
            for name in names:
                fill(os.path.join("haraka", inside, name), os.path.join(self.directory, inside, name),
                     port=self.wanted_port, tls="tls" if self.key_kind else "")
        if self.key_kind is not None:  # where it looks for them
            files = self.make_certificate()
            shutil.copy(files["chain"], os.path.join(self.directory, "config", "tls_cert.pem"))
            shutil.copy(files["key"], os.path.join(self.directory, "config", "tls_key.pem"))
            # Otherwise it starts `openssl dhparam`, which takes CPU time for seconds: here a group of RFC 7919.
            output(["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048", "-out",
                    os.path.join(self.directory, "config", "dhparams.pem")])
        self.spawn([NODE, os.path.join(self.tree, "bin", "haraka"), "-c", self.directory])
        self.widen_backlog()

    def find_port(self):
        return self.wanted_port

    def version(self):
        with open(os.path.join(BUILD, "peers", "haraka", "version"), encoding="utf-8") as file:
            return file.read().strip() + ", Node.js " + output([NODE, "--version"])


class HarakaTls(Haraka):
    name = "haraka tls"
    key_kind = "ecdsa"
