"""Too many at once: thousands of slow and of idle clients, and more connections than may be. Honest clients hardly
notice: their times are compared within one run, with and without the crowd."""
import os
import resource
import selectors
import socket
import time
import unittest

import loader
from harness import FLAVOUR, SLOW, Gateway, message, wait_until

DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
# Each is a descriptor of the gateway's and one of ours.
SLOW_COUNT = 500 if SLOW else min(10000, DESCRIPTORS - 4000)
CROWD = 2000 if SLOW else min(15000, DESCRIPTORS - 3000)
SETTINGS = {"limits.connections": str(CROWD + 500), "limits.connections_per_ip": str(CROWD + 500),
            "deliver.connections": "10"}
TIMES_SLOWER_MAX = 10
TRIES = 3


def p99_us(report):
    return report["times"]["message"]["p99"]


class Crowd:
    """So many sockets of one process, from several addresses, so that ports suffice."""

    def __init__(self, address):
        self.address, self.sockets = address, []
        self.selector = selectors.EpollSelector()
        self.first = {}  # socket -> what it heard first
        self.ended = set()

    def come(self, count, wave=500):
        """`count` more, some at a time; returns when all of them have heard something."""
        for begin in range(0, count, wave):
            for number in range(begin, min(begin + wave, count)):
                made = socket.socket()
                made.setblocking(False)
                made.bind((f"127.0.{1 + number % 50}.1", 0))
                made.connect_ex(self.address)
                self.sockets.append(made)
                self.selector.register(made, selectors.EVENT_READ)
            wait_until(lambda: self.listen() and len(self.first) == len(self.sockets), "an answer for each", 60, 0)

    def listen(self, timeout_s=0.05):
        for key, _ in self.selector.select(timeout_s):
            try:
                octets = key.fileobj.recv(4096)
            except ConnectionError:
                octets = b""
            self.first.setdefault(key.fileobj, octets)
            if not octets:
                self.ended.add(key.fileobj)
                self.selector.unregister(key.fileobj)
        return True

    def heard(self, code):
        return [one for one in self.sockets if self.first.get(one, b"").startswith(b"%d" % code)]

    def say(self, octets):
        for one in self.heard(220):
            if one not in self.ended:
                one.send(octets)

    def close(self):
        for one in self.sockets:
            one.close()
        self.selector.close()


class Slowloris(unittest.TestCase):
    def measure(self, address):
        """Honest mail at a steady rate."""
        return loader.run(address, "--rate", 100, "--connections", 20, "--seconds", 2, "--warm-up", 0.5)

    def compare(self, begin):
        """begin(gateway) brings the crowd and returns what ends it."""
        seen = []
        for _ in range(TRIES):
            with Gateway(SETTINGS) as gateway:
                without = self.measure(gateway.address)
                end = begin(gateway)
                try:
                    crowded = self.measure(gateway.address)
                finally:
                    end()
                self.assertEqual((without["failed"], crowded["failed"]), (0, 0))
                seen.append((p99_us(without), p99_us(crowded)))
                if seen[-1][1] <= seen[-1][0] * TIMES_SLOWER_MAX:
                    print(f"\n  p99 without and with: {seen} us", flush=True)
                    return
        self.fail(f"p99 without and with: {seen} us")

    def test_many_slow_senders(self):
        """Each holds a message open and sends 50 octets a second."""
        def begin(gateway):
            before = len(os.listdir(f"/proc/{gateway.process.pid}/fd"))
            process = loader.start(gateway.address, "--slow", SLOW_COUNT, "--slow-rate", 50, "--connections", 1,
                                   "--sources", "127.0.0.0/8", "--seconds", 60)

            def end():
                process.terminate()
                process.communicate()
            try:
                wait_until(lambda: len(os.listdir(f"/proc/{gateway.process.pid}/fd")) >= before + SLOW_COUNT,
                           "all of them", 60, 0.1)
            except BaseException:
                end()
                raise
            return end
        self.compare(begin)

    def test_unfinished_commands(self):
        """Each has sent half a command, and then an octet now and then."""
        def begin(gateway):
            crowd = Crowd(gateway.address)
            crowd.come(SLOW_COUNT)
            self.assertEqual(len(crowd.heard(220)), SLOW_COUNT)
            crowd.say(b"EHL")
            return crowd.close
        self.compare(begin)


class TooMany(unittest.TestCase):
    def test_more_than_may_be(self):
        """As many as there may be are served, those beyond hear 421 at once, and places come free again."""
        room = CROWD * 4 // 5
        with Gateway({**SETTINGS, "limits.connections": str(room)}) as gateway:
            crowd = Crowd(gateway.address)
            self.addCleanup(crowd.close)
            crowd.come(CROWD)
            served, refused = crowd.heard(220), crowd.heard(421)
            self.assertEqual((len(served), len(refused)), (room, CROWD - room))
            self.assertTrue(all(crowd.first[one].startswith(b"421 4.3.2 ") for one in refused))
            wait_until(lambda: crowd.listen() and len(crowd.ended) == len(refused), "their end", 60, 0)
            # Those within work, all of them.
            crowd.first = {}
            for one in served:
                one.send(b"EHLO crowd.example\r\n")
            wait_until(lambda: crowd.listen() and len(crowd.heard(250)) == room, "all to be answered", 60, 0)
            # One goes: there is a place, for one.
            served[0].close()

            def place():
                with gateway.client() as client:
                    if client.reply().code != 220:
                        return False
                    client.expect(250, "EHLO client.example")
                    return client.transfer(message()).code == 250
            wait_until(place, "a place")
            crowd.close()
            wait_until(place, "places for all")


if __name__ == "__main__":
    unittest.main()
