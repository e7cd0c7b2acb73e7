"""Servers that Debian does not install beside Postfix: their packages are unpacked into a folder of their own
(bench/servers/fetch.sh), and laid over the system's folders in a mount namespace that only the server sees.

So its fixed paths are right, its users exist and its configuration lies where it looks for it, while this machine
does not change.
"""

import grp
import os
import pwd
import shlex

from .server import BUILD, Server, Unavailable, free_port

ENTER = ["/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh", "-c"]
IDS = range(64_000, 65_000)  # Debian gives them to nobody


class Unpacked(Server):
    package = ""  # its folder below build/peers
    users = ()  # whom the package would create: who is missing here is added, with a group
    layers = ()  # folders of the package, laid over the system's of the same name

    def __init__(self, directory, cpu):
        super().__init__(directory, cpu)
        self.tree = os.path.join(BUILD, "peers", self.package)
        self.etc = os.path.join(self.directory, "etc")
        self.wanted_port = None

    def prepare(self):
        """Makes the folders; returns the id of each user."""
        if os.getuid() != 0:
            raise Unavailable(f"{self.name} needs root")
        if not os.path.isdir(self.tree):
            raise Unavailable(f"{self.tree} is not there: make deps-bench")
        for folder in ("etc", "spool"):
            os.makedirs(os.path.join(self.directory, folder), exist_ok=True)
        self.wanted_port = free_port()
        return self.write_accounts()

    def write_accounts(self):
        users = {one.pw_name: one.pw_uid for one in pwd.getpwall()}
        groups = {one.gr_name: one.gr_gid for one in grp.getgrall()}
        free = (number for number in IDS if number not in users.values() and number not in groups.values())
        new_users, new_groups = [], []
        for user in self.users:
            if user not in groups:
                groups[user] = next(free)
                new_groups.append(f"{user}:x:{groups[user]}:\n")
            if user not in users:
                users[user] = next(free)
                new_users.append(f"{user}:x:{users[user]}:{groups[user]}::/:/usr/sbin/nologin\n")
        for name, new in (("passwd", new_users), ("group", new_groups)):
            with open(f"/etc/{name}", encoding="utf-8") as system, \
                    open(os.path.join(self.etc, name), "w", encoding="utf-8") as own:
                own.write(system.read().rstrip("\n") + "\n" + "".join(new))
        return {user: users[user] for user in self.users}

    def overlay(self, layer):
        """A line of shell that lays a folder of the package over the system's."""
        tree = shlex.quote(os.path.realpath(self.tree))
        return f"(cd {tree} && mount -t overlay overlay -o lowerdir={layer}:/{layer} /{layer})"

    def mounts(self):
        """More such lines; the current folder is the server's."""
        return []

    def spawn(self, command):
        lines = ["set -e", *(self.overlay(layer) for layer in self.layers), *self.mounts(),
                 "mount -t overlay overlay -o lowerdir=etc:/etc /etc", "mount -t tmpfs tmpfs /run", 'exec "$@"']
        super().spawn([*ENTER, "\n".join(lines), "sh", *command])

    def find_port(self):
        return self.wanted_port

    def version(self):
        with open(os.path.join(self.tree, "version"), encoding="utf-8") as file:
            return file.read().strip()
