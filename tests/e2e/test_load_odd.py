"""ringmx-load against servers that behave oddly: what is not answered in time, not at all, or on another connection
counts with all the time that it waited, and what can never come is not waited for.
"""
import asyncio
import time
import unittest
from unittest import mock

import loader
from smtp_server import Conversation, SmtpServer

US = 1_000_000
SMALL = ("--size", 1000)
MUTE = {}  # a run that takes the ten seconds of a drain: begun before all others


class MuteAtTimes:
    """Delays for SmtpServer: every fifth EHLO is never answered."""

    def __init__(self):
        self.hellos = self.mute = 0

    def get(self, phase):
        self.hellos += phase == "ehlo"
        if phase != "ehlo" or self.hellos % 5 != 0:
            return None
        self.mute += 1
        return 1000


def setUpModule():
    MUTE["delays"] = MuteAtTimes()
    server = unittest.enterModuleContext(SmtpServer(delays=MUTE["delays"]))
    MUTE["run"] = loader.start(server.address, "--connection-rate", 40, "--arrivals", "constant", "--seconds", 1,
                               "--connections", 60, *SMALL)
    unittest.addModuleCleanup(MUTE["run"].kill)


def nowhere():
    """An address at which nobody listens."""
    with SmtpServer() as server:
        return server.address


class Stall(unittest.TestCase):
    def test_closed_to_the_end(self):
        """All hang past the end of the measured time, and are answered in the drain: that is their latency."""
        connections, count = 5, 0

        async def answer(_message):
            nonlocal count
            count += 1
            if count > 50:
                await asyncio.sleep(2.5)

        with SmtpServer(answer=answer) as server:
            report = loader.run(server.address, "--seconds", 2, "--connections", connections, *SMALL)
        message = report["times"]["message"]
        self.assertEqual((report["messages"], message["count"]), (len(server.done()), 50 + connections))
        self.assertEqual(report["counted"], 50)
        self.assertGreater(message["p99"], 2.4 * US)


class Lost(unittest.TestCase):
    HOLD_S = 0.7

    def dropping(self):
        """Holds every fifth of the first fifty messages for a while, and then drops the connection instead."""
        count = 0

        async def answer(_message):
            nonlocal count
            count += 1
            if count <= 50 and count % 5 == 0:
                await asyncio.sleep(self.HOLD_S)
                raise ConnectionResetError

        return SmtpServer(answer=answer)

    def test_again(self):
        """What was lost is sent again, and has waited since it was first meant to start."""
        for loop in ("--rate", "--connection-rate"):
            with self.subTest(loop=loop), self.dropping() as server:
                report = loader.run(server.address, loop, 60, "--arrivals", "constant", "--seconds", 1, "--connections",
                                    40, "--reconnect", *SMALL)
                self.assertEqual((report["lost"], report["messages"]), (10, report["offered"]))
                self.assertEqual(len(server.done()), report["messages"])
                message = report["times"]["message"]
                self.assertEqual(message["count"], report["offered"])
                self.assertGreater(message["p90"], self.HOLD_S * US)
                self.assertLess(report["times"]["service"]["p50"], self.HOLD_S * US)

    def test_for_good(self):
        """Without --reconnect it counts until it was lost."""
        with self.dropping() as server:
            report = loader.run(server.address, "--connection-rate", 60, "--arrivals", "constant", "--seconds", 1,
                                "--connections", 40, *SMALL, code=1)
        self.assertEqual((report["lost"], report["messages"]), (10, report["offered"] - 10))
        for name in ("message", "connection"):
            self.assertEqual(report["times"][name]["count"], report["offered"], name)
            self.assertGreater(report["times"][name]["p90"], self.HOLD_S * US, name)

    def test_not_all_again(self):
        """A connection of three messages that is lost on the second goes on with that."""
        count = 0

        async def answer(_message):
            nonlocal count
            count += 1
            if count == 2:
                raise ConnectionResetError

        with SmtpServer(answer=answer) as server:
            report = loader.run(server.address, "--connection-rate", 20, "--messages", 3, "--messages-per-connection",
                                3, "--connections", 1, "--reconnect", *SMALL)
        self.assertEqual([len(session.messages) for session in server.sessions][:2], [2, 2])
        self.assertEqual((report["lost"], report["messages"]), (1, 3))


class Unanswered(unittest.TestCase):
    def test_mute(self):
        """Arrivals that never got beyond EHLO have waited until the end, and failed."""
        report = loader.finish(MUTE["run"], code=1)
        mute = MUTE["delays"].mute
        self.assertGreater(mute, 5)
        self.assertEqual((report["unfinished"], report["broken"]), (mute, mute))
        self.assertEqual(report["messages"] + mute, report["offered"])
        for name in ("message", "connection"):
            self.assertEqual(report["times"][name]["count"], report["offered"], name)
            self.assertGreater(report["times"][name]["p90"], 9 * US, name)

    def test_refused(self):
        """As many arrivals as there should be messages: none can be sent, and none is waited for."""
        begun = time.monotonic()
        report = loader.run(nowhere(), "--connection-rate", 200, "--messages", 10, *SMALL, code=1)
        self.assertLess(time.monotonic() - begun, 10)
        self.assertEqual((report["messages"], report["unopened"], report["offered"]), (0, 10, 10))

    def test_aborted(self):
        """Nor what was broken off on purpose."""
        with SmtpServer() as server:
            report = loader.run(server.address, "--connection-rate", 200, "--messages", 40, "--abort", "ehlo=50%",
                                *SMALL)
        self.assertGreater(report["aborted"], 0)
        self.assertEqual(report["messages"] + report["aborted"], 40)
        self.assertEqual(len(server.done()), report["messages"])

    def test_nothing(self):
        """Nothing at all was acknowledged: no success, whatever the options excuse."""
        report = loader.run(nowhere(), "--seconds", 0.3, "--reconnect", *SMALL, code=1)
        self.assertEqual(report["messages"], 0)


class Old(unittest.TestCase):
    def test_helo(self):
        """A server that knows no EHLO: HELO, and one command at a time."""
        async def on_ehlo(conversation, _line):
            await conversation.reply("ehlo", b"502 5.5.1 What?")

        with SmtpServer() as server, mock.patch.object(Conversation, "on_ehlo", on_ehlo):
            report = loader.run(server.address, "--messages", 20, "--connections", 2, *SMALL)
        self.assertEqual((report["messages"], report["lock_step"]), (len(server.done()), 2))
        self.assertEqual(report["codes"], {"502": 2})
        self.assertEqual(server.sessions[0].verbs[:3], ["ehlo", "helo", "mail"])


if __name__ == "__main__":
    unittest.main()
