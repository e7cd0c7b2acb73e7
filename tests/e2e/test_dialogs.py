"""Every dialogue of tests/script against the real program, one test for each file, and a check that
together they try every cell of the state x command table."""
import os
import unittest

import dialog
from harness import Gateway

DOMAINS = {
    "example.org": (["*"], "maildir:{mail}/%d/%u"),
    "example.net": (["alice", "bob+*", "carol"], "maildir:{mail}/%d/%u"),
    "example.com": (["dora", "@users.txt"], "maildir:{mail}/%d/%u"),
    "xn--bcher-kva.example": (["*"], "maildir:{mail}/%d/%u"),
    "discard.example": (["*"], "discard:"),
}
USERS = "# a comment\nemil\nfrida+*\n\ngustav\n"
COMMANDS = ("HELO", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "BDAT LAST", "RSET", "NOOP",
            "VRFY", "EXPN", "HELP", "QUIT", "XYZZY", "GET", "STARTTLS", "AUTH")

gateways = {}


def gateway_for(settings):
    """Dialogues of the same configuration share a gateway; a dead one is replaced."""
    key = tuple(sorted(settings.items()))
    gateway = gateways.get(key)
    if gateway is not None and gateway.alive():
        return gateway
    if gateway is not None:
        gateway.close()
    gateway = Gateway(settings=settings, domains=DOMAINS)
    with open(os.path.join(gateway.directory, "users.txt"), "w", encoding="utf-8") as file:
        file.write(USERS)
    gateways[key] = gateway.start()
    return gateway


def tearDownModule():
    try:
        for gateway in gateways.values():
            gateway.stop()
    finally:
        for gateway in gateways.values():
            gateway.close()


class Dialogs(unittest.TestCase):
    def play(self, script):
        gateway = gateway_for(script.settings)
        dialog.Player(gateway).play(script)
        self.assertTrue(gateway.alive(), "the gateway died:\n" + gateway.log_text()[-2000:])
        gateway.check_reports()


def add(script):
    def test(self):
        self.play(script)

    test.__name__ = "test_" + script.name.replace("-", "_")
    test.__doc__ = script.path
    setattr(Dialogs, test.__name__, test)


for each in dialog.load_all():
    add(each)


class Table(unittest.TestCase):
    def test_every_cell_is_tried(self):
        tried = {cell for script in dialog.load_all() for cell in script.cells()}
        missing = [(state, command) for state in dialog.STATES for command in COMMANDS
                   if (state, command) not in tried]
        self.assertEqual(missing, [])


if __name__ == "__main__":
    unittest.main()
