"""What ringmx-load says was acknowledged, and what `ringmx-load verify` makes of the stores: Maildirs, the spool after
a crash, the log of a sink; whole, and with every kind of damage."""
import os
import re
import shutil
import signal
import subprocess
import unittest

import loader
from harness import Gateway, wait_until
from loader import Acked
from sink import Sink

FINDINGS = ("lost", "torn", "doubled", "strange", "other")
COUNT, RECIPIENTS = 40, 3


class Judged(unittest.TestCase):
    def judge(self, acked, *places, code=0, options=(), **wanted):
        """What is not in `wanted` must be 0."""
        found = loader.verify(acked, *places, code=code, options=options)
        self.assertEqual({key: found[key] for key in FINDINGS}, {**dict.fromkeys(FINDINGS, 0), **wanted}, found)
        return found


class Maildirs(Judged):
    """Forty messages for three users each, and a copy of their Maildirs for each test to damage."""

    @classmethod
    def setUpClass(cls):
        cls.acked = Acked()
        cls.addClassCleanup(cls.acked.folder.cleanup)
        cls.users = [f"user{number}" for number in range(RECIPIENTS)]
        cls.mail = os.path.join(cls.acked.folder.name, "mail")
        with Gateway() as gateway:
            loader.run(gateway.address, "--recipients", RECIPIENTS, "--messages", COUNT, "--acked", cls.acked.path)
            for user in cls.users:
                gateway.wait_messages(user, COUNT)
            shutil.copytree(gateway.mail, cls.mail)

    def setUp(self):
        self.places = os.path.join(self.acked.folder.name, self.id())
        shutil.copytree(self.mail, self.places)

    def maildir(self, user):
        return os.path.join(self.places, "example.org", user)

    def file(self, number=0, user="user0"):
        folder = os.path.join(self.maildir(user), "new")
        return os.path.join(folder, sorted(os.listdir(folder))[number])

    def change(self, path, change):
        """The text of a stored message, changed; returns its id."""
        with open(path, "rb") as file:
            text = file.read()
        with open(path, "wb") as file:
            file.write(change(text))
        return re.search(rb"X-Load-Id: (\S+)", text)[1].decode()

    def test_whole(self):
        """A folder of Maildirs, a folder of folders, or each by its name."""
        self.assertEqual({recipients for _, _, recipients in self.acked.lines()}, {RECIPIENTS})
        self.judge(self.acked, self.places)
        self.judge(self.acked, os.path.join(self.places, "example.org"))
        self.judge(self.acked, *map(self.maildir, self.users))
        self.judge(self.acked, self.places, options=("--strict",))
        self.judge(self.acked, *map(self.maildir, self.users[:2]), code=1, lost=COUNT)
        self.judge(self.acked, *map(self.maildir, self.users[:2]), options=("--copies", "2"))
        self.judge(self.acked, self.places, options=("--copies", "2"), doubled=COUNT)

    def test_read(self):
        """Mail that was read, has line ends of its own, or is being delivered."""
        for number in range(5):
            path = self.file(number)
            self.change(path, lambda text: text.replace(b"\r\n", b"\n"))
            name = os.path.basename(path)
            os.rename(path, os.path.join(self.maildir("user0"), "cur", name + ":2,S"))
        with open(os.path.join(self.maildir("user0"), "tmp", "half"), "wb") as file:
            file.write(b"X-Load-Id: half")
        self.judge(self.acked, self.places)

    def test_lost(self):
        names = {self.change(self.file(3), lambda text: text), self.change(self.file(4, "user1"), lambda text: text)}
        for path in (self.file(3), self.file(4, "user1")):
            os.unlink(path)
        found = self.judge(self.acked, self.places, code=1, lost=len(names))
        self.assertLessEqual(names, set(re.findall(r"[0-9a-f]+-[0-9a-f]+", repr(found))))

    def test_lost_listed(self):
        """The first ten of them, for people, too."""
        names = {self.change(self.file(number), lambda text: text) for number in range(25)}
        for _ in range(25):
            os.unlink(self.file(0))
        done = subprocess.run([loader.PROGRAM, "verify", "--acked", self.acked.path, self.places], capture_output=True,
                              text=True, check=False, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("25", done.stdout)
        listed = set(re.findall(r"[0-9a-f]+-[0-9a-f]+", done.stdout))
        self.assertEqual((len(listed), listed - names), (10, set()))

    def test_torn(self):
        changes = (lambda text: text[:-100] + bytes([text[-100] ^ 1]) + text[-99:], lambda text: text[:-1000],
                   lambda text: text + b"more\r\n")
        for number, change in enumerate(changes):
            name = self.change(self.file(number), change)
            found = loader.verify(self.acked, self.places, code=1)
            self.assertEqual(found["torn"], number + 1, found)
            self.assertIn(name, repr(found))
            self.assertEqual((found["doubled"], found["strange"], found["other"]), (0, 0, 0))

    def test_doubled(self):
        """Twice is at least once."""
        shutil.copy(self.file(7), self.file(7) + "again")
        self.judge(self.acked, self.places, doubled=1)
        self.judge(self.acked, self.places, options=("--strict",), code=1, doubled=1)

    def test_strange_and_other(self):
        """What was never acknowledged, and what is not of this program."""
        with open(self.acked.path, encoding="ascii") as file:
            lines = file.read().splitlines(keepends=True)
        path = os.path.join(self.places, "fewer")
        with open(path, "w", encoding="ascii") as file:
            file.writelines(lines[:-2])
        mail = os.path.join(self.places, "example.org")
        self.judge(path, mail, strange=2 * RECIPIENTS)
        for number in range(3):
            with open(os.path.join(self.maildir("user1"), "new", f"other{number}"), "wb") as file:
                file.write(b"Subject: hello\r\n\r\nX-Load-Id: in the body\r\n")
        for options in ((), ("--strict",)):
            self.judge(path, mail, options=options, strange=2 * RECIPIENTS, other=3)

    def test_two_runs(self):
        """A file that two runs were appended to."""
        both = Acked()
        self.addCleanup(both.folder.cleanup)
        with Gateway() as gateway:
            for _ in range(2):
                loader.run(gateway.address, "--messages", 30, "--acked", both.path)
            gateway.wait_messages("user", 60)
            self.assertEqual(len(both.lines()), 60)
            self.judge(both, gateway.mail)


class SinkLog(Judged):
    @classmethod
    def setUpClass(cls):
        cls.acked = Acked()
        cls.addClassCleanup(cls.acked.folder.cleanup)
        with Sink() as sink:
            loader.run(sink.address, "--messages", COUNT, "--recipients", "1-3", "--acked", cls.acked.path)
            with open(sink.log, encoding="ascii") as file:
                cls.lines = file.read().splitlines(keepends=True)

    def log(self, lines):
        path = os.path.join(self.acked.folder.name, self.id())
        with open(path, "w", encoding="ascii") as file:
            file.writelines(lines)
        return path

    def test_whole(self):
        """Once for each message, however many recipients it has."""
        self.judge(self.acked, self.log(self.lines))
        self.judge(self.acked, self.log(self.lines[:20]), self.log(self.lines[:20]), code=1, doubled=20, lost=20)

    def test_damage(self):
        torn = re.sub(r" sum=\w+", " sum=00000000", self.lines[0])
        other = re.sub(r" load_(id|sum)=\S+", "", self.lines[1])
        strange = re.sub(r" load_id=\S+", " load_id=00000000-0000000001", self.lines[2])
        found = loader.verify(self.acked, self.log([torn, *self.lines[1:]]), code=1)
        self.assertEqual(found["torn"], 1)
        self.judge(self.acked, self.log(self.lines[1:]), code=1, lost=1)
        self.judge(self.acked, self.log([*self.lines, self.lines[5]]), doubled=1)
        self.judge(self.acked, self.log([*self.lines, other, strange]), other=1, strange=1)


class Crashed(Judged):
    """kill -9 under load: everything that was acknowledged is found."""

    def killed(self, gateway, after):
        acked = Acked()
        self.addCleanup(acked.folder.cleanup)
        process = loader.start(gateway.address, "--connections", 20, "--seconds", 60, "--size",
                               "lognormal:3000:1:100k", "--acked", acked.path)
        wait_until(lambda: os.path.exists(acked.path) and len(acked.ids(True)) >= after, "mail")
        gateway.kill()
        report = loader.finish(process, code=1)
        self.assertEqual(report["messages"], len(acked.ids()))
        self.assertGreater(report["lost"] + report["broken"], 0)
        return acked

    def test_spool(self):
        """Nothing was delivered: all is in the spool; after a start with the way free, all arrives."""
        gateway = Gateway(settings={"spool.segment_size": '"40M"', "queue.schedule": '{"1s"}'})
        self.addCleanup(gateway.close)
        gateway.start()
        os.rmdir(gateway.mail)
        with open(gateway.mail, "w", encoding="ascii"):
            pass  # where the Maildirs should be
        acked = self.killed(gateway, 200)
        found = loader.verify(acked, gateway.spool)
        self.assertEqual((found["lost"], found["torn"], found["doubled"], found["other"]), (0, 0, 0, 0))
        self.assertLessEqual(found["strange"], 20, "at most one on each connection")
        before = {name: os.stat(os.path.join(gateway.spool, name)).st_mtime_ns for name in os.listdir(gateway.spool)}
        self.damage(acked, gateway)
        self.assertEqual(before, {name: os.stat(os.path.join(gateway.spool, name)).st_mtime_ns
                                  for name in os.listdir(gateway.spool)}, "it is only read")
        os.unlink(gateway.mail)
        gateway.start()
        wait_until(lambda: gateway.count("user") >= len(acked.ids()), "all mail")
        gateway.stop()
        loader.verify(acked, gateway.mail)

    def damage(self, acked, gateway):
        """A changed octet of a body or a header, and a segment that is cut off, in a copy."""
        identity = sorted(acked.ids())[50].encode()

        def body(text):
            at = text.index(b"\r\n\r\n", text.index(identity)) + 20
            return text[:at] + bytes([text[at] ^ 1]) + text[at + 1:]

        for change in (body, lambda text: text.replace(b"X-Load-Id: " + identity, b"X-Load-Id: x" + identity[1:], 1),
                       lambda text: text[:text.index(identity)]):
            copy = os.path.join(gateway.directory, "copy")
            shutil.copytree(gateway.spool, copy)
            changed = 0
            for name in os.listdir(copy):
                path = os.path.join(copy, name)
                if not name.endswith(".segment"):
                    continue
                with open(path, "rb") as file:
                    text = file.read()
                if identity in text:
                    with open(path, "wb") as file:
                        file.write(change(text))
                    changed += 1
            self.assertEqual(changed, 1)
            found = loader.verify(acked, copy, code=1)
            self.assertGreater(found["lost"] + found["torn"], 0, found)
            shutil.rmtree(copy)

    def test_both(self):
        """Some was delivered, some was not yet: it is in the Maildir or in the spool."""
        gateway = Gateway()
        self.addCleanup(gateway.close)
        gateway.start()
        acked = self.killed(gateway, 300)
        found = loader.verify(acked, gateway.mail, gateway.spool)
        self.assertEqual((found["lost"], found["torn"]), (0, 0))
        gateway.start()
        wait_until(lambda: loader.verify(acked, gateway.mail, code=(0, 1))["lost"] == 0, "all mail", step_s=0.2)
        gateway.stop()

    def test_reconnect(self):
        """The same load goes on when the gateway is back."""
        with Gateway() as gateway, Acked() as acked:
            host, port = gateway.address
            gateway.listeners["mx"]["address"] = f'"{host}:{port}"'
            process = loader.start(gateway.address, "--connections", 10, "--seconds", "10m", "--reconnect", "--acked",
                                   acked.path)
            for again in (True, True, False):
                wanted = len(acked.ids(True)) + 100
                wait_until(lambda: len(acked.ids(True)) > wanted, "mail")
                if again:
                    gateway.kill()
                    gateway.start()
            process.send_signal(signal.SIGINT)
            report = loader.finish(process, code=130)
            self.assertEqual((report["messages"], report["failed"]), (len(acked.ids()), 0))
            self.assertGreaterEqual(report["opened"], 30)
            wait_until(lambda: loader.verify(acked, gateway.mail, code=(0, 1))["lost"] == 0, "all mail", step_s=0.2)


class Arguments(Judged):
    def fails(self, *words):
        done = subprocess.run([loader.PROGRAM, "verify", *words], capture_output=True, text=True, check=False,
                              timeout=60)
        self.assertEqual(done.returncode, 2, done.stderr + done.stdout)
        self.assertTrue(done.stderr.startswith("ringmx-load verify: "), done.stderr)
        return done.stderr

    def test_it_could_not_look(self):
        with Acked() as acked:
            empty = os.path.join(acked.folder.name, "empty")
            os.mkdir(empty)
            self.fails("--acked", acked.path, empty)
            with open(acked.path, "w", encoding="ascii") as file:
                file.write("0a0b0c0d-0000000001 12345678 1\n")
            self.assertIn("/nonexistent", self.fails("--acked", acked.path, "/nonexistent"))
            self.fails("--acked", acked.path)
            self.fails(empty)
            self.fails("--acked", acked.path, "--copies", "x", empty)
            self.assertIn("--unknown", self.fails("--acked", acked.path, "--unknown", empty))
            with open(acked.path, "a", encoding="ascii") as file:
                file.write("not of ours\n")
            self.fails("--acked", acked.path, empty)


if __name__ == "__main__":
    unittest.main()
