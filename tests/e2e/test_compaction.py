"""A few messages that wait do not keep the disk full of what is long delivered: disk use comes down while they stay in
the queue, and nothing of them is lost, doubled or damaged by the copying, nor by kill -9 meanwhile."""
import os
import random
import re
import socket
import subprocess
import time
import unittest

from harness import BINARY, SLOW, Gateway, message, quote, seed, wait_until

SEGMENT = 40 << 20
MAIL = 200 if SLOW else 400  # messages of a megaoctet that are delivered at once
KILLS = 3 if SLOW else 8
LINE = "x" * 76 + "\r\n"
MEGA = message("m", LINE * 13000)


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Compaction(unittest.TestCase):
    def setUp(self):
        self.gateway = Gateway(settings={"spool.segment_size": '"40M"', "queue.schedule": '{"1h"}'},
                               domains={"ok.example": (["*"], "discard:"),
                                        "later.example": (["*"], f"smtp:127.0.0.1:{closed_port()}")})
        self.gateway.settings["admin.control"] = quote(self.gateway.directory + "/control")
        self.addCleanup(self.gateway.close)
        self.waiting = {}  # user: text
        self.gateway.start()

    def send(self, count, later=lambda index: None):
        """`later`: the text of what is to wait before mail number `index`, or None."""
        with self.gateway.client() as client:
            client.hello()
            for index in range(count):
                text = later(index)
                if text is not None:
                    user = f"user{len(self.waiting)}"
                    self.assertEqual(client.transfer(text, recipients=[f"{user}@later.example"]).code, 250)
                    self.waiting[user] = text
                self.assertEqual(client.transfer(MEGA, recipients=["user@ok.example"]).code, 250)

    def used(self):
        total = 0
        for name in os.listdir(self.gateway.spool):
            try:
                total += os.stat(os.path.join(self.gateway.spool, name)).st_blocks * 512
            except FileNotFoundError:
                continue
        return total

    def log(self):
        return "".join(self.gateway.log_text(index) for index in range(len(self.gateway.logs)))

    def copied(self):
        """The octets that were copied, as the log says."""
        return sum(int(octets) for octets in re.findall(r"event=compaction .* (\d+) octets", self.log()))

    def comes_down(self, living):
        """`living`: octets of the text that waits. Beside it there are the segment that is written, those that are
        ready or in reserve, and what may be dead before anything is done about it."""
        wanted = max(4 * living, living + 3 * SEGMENT) + 6 * SEGMENT
        wait_until(lambda: self.used() <= wanted, f"at most {wanted >> 20} MiB of spool", 60, 0.2)

    def everything_once(self):
        """What waits is delivered, each message once and whole."""
        self.gateway.stop()
        self.gateway.domains["later.example"] = (["*"], "maildir:{mail}/%d/%u")
        self.gateway.start()
        tool = [os.path.join(os.path.dirname(BINARY), "ringmxctl"), "-s", self.gateway.directory + "/control"]

        def arrived():
            # What is being copied at this moment is busy; it is asked again.
            subprocess.run([*tool, "queue", "retry", "--all"], check=False, capture_output=True, timeout=60)
            return all(self.gateway.count(user, "later.example") for user in self.waiting)

        wait_until(arrived, "all mail", 60, 0.3)
        self.gateway.stop()
        for user, text in self.waiting.items():
            found = self.gateway.messages(user, "later.example")
            self.assertEqual(len(found), 1, user)
            whole = text.encode() if isinstance(text, str) else text
            self.assertTrue(found[0].replace(b"\r\n", b"\n").endswith(whole.replace(b"\r\n", b"\n")), user)
        for name in ("spool.damaged", "spool.read", "compaction.damaged"):
            self.assertNotIn(f"event={name}", self.log())

    def test_spread(self):
        """One small message waits in each segment."""
        self.send(MAIL, lambda index: message("later", f"{index}\r\n") if index % 35 == 0 else None)
        self.comes_down(0)
        wait_until(lambda: self.copied() > 0, "a line of the log")
        self.assertLess(self.copied(), 1 << 20)
        self.everything_once()

    def test_dense_front(self):
        """More than a quarter of the oldest segment lives."""
        self.send(MAIL, lambda index: message("later", LINE * 13000 + f"{index}\r\n") if index < 14 else None)
        self.comes_down(15 << 20)
        self.assertLess(self.copied(), MAIL * len(MEGA) / 2)
        self.everything_once()

    def test_long_message(self):
        """A message longer than half a ring, and than a batch."""
        self.send(MAIL, lambda index: message("later", LINE * 120000) if index == 0 else None)
        self.comes_down(10 << 20)
        wait_until(lambda: self.copied() > 9 * 1000 * 1000, "the long message is copied")
        self.everything_once()

    def test_all_lives(self):
        """Nothing is dead: nothing is copied."""
        self.send(10, lambda index: message("later", LINE * 120000))
        self.send(10, lambda index: message("later", LINE * 120000))
        time.sleep(3)
        self.assertEqual(self.copied(), 0)
        self.everything_once()

    def test_kill(self):
        """kill -9 while long and short messages are copied."""
        chance = random.Random(seed())

        def later(index):
            if index == 0:
                return message("later", LINE * 120000)
            return message("later", f"{index}\r\n") if index % 7 == 0 else None

        for _ in range(KILLS):
            self.send(MAIL // 2, later)
            wait_until(lambda: "compaction" in self.gateway.log_text() or chance.random() < 0.1, "copies", 20, 0.1)
            time.sleep(chance.uniform(0, 0.3))
            self.gateway.kill()
            self.gateway.start()
        self.comes_down(KILLS * 10 << 20)
        self.everything_once()


if __name__ == "__main__":
    unittest.main()
