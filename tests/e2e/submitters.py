"""Users of a submission listener: a gateway with one beside its MX, and clients that log in. In clear, on loopback:
what TLS and AUTH do has tests of its own."""
import os

from harness import Client, Gateway
from logins import plain, sha512

PASSWORD = "correct horse"


def users_file(path, *names):
    """Users who all have PASSWORD, in the cheapest hash that there is."""
    hashed = sha512(PASSWORD)
    with open(path, "w", encoding="utf-8") as file:
        for name in names:
            file.write(f"{name}:{hashed}\n")
    os.chmod(path, 0o600)


def gateway(names=("alice", "bob"), settings=None, listeners=None, **more):
    """A Gateway, not started, with listeners "mx" and "submission". Users without a domain are of example.org."""
    made = Gateway(
        settings={"auth.users": '"users"', "auth.domain": '"example.org"', **(settings or {})},
        listeners={"mx": {}, "submission": {"role": "submission", "auth": "plaintext"}, **(listeners or {})}, **more)
    users_file(os.path.join(made.directory, "users"), *names)
    return made


class Submitter(Client):
    """A client that has said EHLO and, unless `user` is None, has logged in."""

    def __init__(self, address, user="alice", **options):
        super().__init__(address, **options)
        self.hello()
        if user is not None:
            self.login(user)

    def login(self, user):
        return self.expect(235, "AUTH PLAIN " + plain(user, PASSWORD))

    def refused(self, code, enhanced, line):
        reply = self.expect(code, line)
        assert reply.enhanced == enhanced, f"{line}: {reply}"

    def chunks(self, text, sizes):
        """Sends the text of a message in BDAT chunks of these sizes, the rest in the last. Returns the last reply, or
        the first that refuses."""
        at = 0
        for size in sizes:
            self.send(b"BDAT %d\r\n" % len(text[at:at + size]) + text[at:at + size])
            at += size
            reply = self.reply()
            if reply.code != 250:
                return reply
        self.send(b"BDAT %d LAST\r\n" % len(text[at:]) + text[at:])
        return self.reply()
