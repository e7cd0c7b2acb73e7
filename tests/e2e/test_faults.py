"""Disks that are full and disks that fail: the documented reply, no abort, no loss, and recovery when it is over."""
import os
import random
import re
import subprocess
import time
import unittest

import submitters
from harness import FLAVOUR, PATIENCE_S, Gateway, quote, seed, wait_until
from load import Arrivals, Load, make

MEBIBYTE = 1024 * 1024


class Disk:
    """A small ext4 file system of its own, on a loop device. Needs root."""

    def __init__(self, test, mebibytes):
        self.image = os.path.join(test.directory(), f"disk-{mebibytes}.img")
        self.path = self.image + ".mount"
        with open(self.image, "wb") as file:
            file.truncate(mebibytes * MEBIBYTE)
        os.mkdir(self.path)
        commands = (["mkfs.ext4", "-q", "-F", "-m", "0", self.image],
                    ["mount", "-o", "loop", self.image, self.path])
        for command in commands:
            try:
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      check=False)
            except OSError as error:
                test.skipTest(f"skipped: {command[0]}: {error}")
            if done.returncode != 0:
                test.skipTest(f"skipped: no loop-mounted disk: {command[0]}: "
                              + done.stdout.decode(errors="replace").strip())
        test.addCleanup(self.unmount)

    def unmount(self):
        for _ in range(50):
            if subprocess.run(["umount", self.path], check=False,
                              stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "-l", self.path], check=False)

    def fill(self, leave=0):
        """A file that takes all the room but `leave` octets. Returns its path."""
        path = os.path.join(self.path, "filler")
        with open(path, "ab") as file:
            state = os.statvfs(self.path)
            room = state.f_bavail * state.f_frsize - leave
            if room > 0:
                try:
                    os.posix_fallocate(file.fileno(), file.tell(), room)
                except OSError:
                    pass
            if not leave:
                try:
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, 4096)
                except OSError:
                    pass
        return path


class Faults(unittest.TestCase):
    def setUp(self):
        self.gateway = None
        self.sent, self.acknowledged, self.refusals = set(), set(), []
        self.chance = random.Random(4)
        self.arrivals = None

    def directory(self):
        if self.gateway is None:
            self.gateway = Gateway(settings={"spool.segment_size": '"40M"',
                                             "queue.schedule": '{"1s", "2s"}'})
            self.addCleanup(self.gateway.close)
            self.arrivals = Arrivals(self.gateway)
        return self.gateway.directory

    def send(self, client, size):
        """One message; True when it was acknowledged. A refusal is kept with the command it came to."""
        identity = f"f{len(self.sent)}"
        self.sent.add(identity)
        text = make(identity, size, self.chance)
        reply = client.command(f"MAIL FROM:<{identity}@client.example>")
        if reply.code != 250:
            self.refusals.append(("MAIL", reply))
            return False
        client.expect(250, "RCPT TO:<load@example.org>")
        client.send(b"BDAT %d LAST\r\n" % len(text) + text)
        reply = client.reply()
        if reply.code != 250:
            self.refusals.append(("BDAT", reply))
            return False
        self.acknowledged.add(identity)
        return True

    def wait_all(self):
        def there():
            self.arrivals.take()
            return self.acknowledged <= set(self.arrivals.seen)

        wait_until(there, "all acknowledged mail", 2 * PATIENCE_S)
        self.assertLessEqual(set(self.arrivals.seen), self.sent)

    def recovers(self, client):
        """MAIL is taken again within a time."""
        def taken():
            reply = client.command("MAIL FROM:<probe@client.example>")
            client.expect(250, "RSET")
            return reply.code == 250

        wait_until(taken, "MAIL is taken again", step_s=0.2)

    # --- full disks ------------------------------------------------------------------------------

    def block_delivery(self):
        with open(os.path.join(self.gateway.mail, "example.org"), "w", encoding="ascii"):
            pass

    def allow_delivery(self):
        os.unlink(os.path.join(self.gateway.mail, "example.org"))

    def test_spool_disk_full(self):
        """Nothing can be delivered and the spool's disk fills: 452 at MAIL, before any data."""
        self.directory()
        disk = Disk(self, 150)
        self.gateway.settings["spool.path"] = quote(os.path.join(disk.path, "spool"))
        self.gateway.start()
        self.block_delivery()
        with self.gateway.client() as client:
            client.hello()
            for _ in range(400):
                if not self.send(client, MEBIBYTE):
                    break
            self.assertEqual(len(self.refusals), 1, "the disk did not get full")
            self.assertGreater(len(self.acknowledged), 20)
            command, reply = self.refusals[0]
            self.assertEqual((command, reply.code, reply.enhanced), ("MAIL", 452, "4.3.1"))
            for _ in range(3):
                self.send(client, 1000)
                time.sleep(0.5)
            self.assertEqual({(command, reply.code) for command, reply in self.refusals},
                             {("MAIL", 452)})
            client.expect(250, "NOOP")
            self.assertTrue(self.gateway.alive())
            self.allow_delivery()
            self.recovers(client)
            for _ in range(60):
                self.assertTrue(self.send(client, MEBIBYTE), self.refusals[-1])
        self.wait_all()
        self.gateway.stop()

    def test_spool_disk_full_then_crash(self):
        """The same, but killed when full: a restart on the full disk works and delivers all."""
        self.directory()
        disk = Disk(self, 150)
        self.gateway.settings["spool.path"] = quote(os.path.join(disk.path, "spool"))
        self.gateway.start()
        self.block_delivery()
        with self.gateway.client() as client:
            client.hello()
            for _ in range(400):
                if not self.send(client, MEBIBYTE):
                    break
            self.assertEqual(len(self.refusals), 1, "the disk did not get full")
        self.gateway.kill()
        disk.fill()
        self.allow_delivery()
        self.gateway.start()
        self.wait_all()
        with self.gateway.client() as client:
            client.hello()
            self.recovers(client)
            self.assertTrue(self.send(client, 1000), self.refusals[-1])
        self.wait_all()
        self.gateway.stop()

    def test_mail_disk_full(self):
        """The Maildirs' disk is full: mail is taken, waits in the spool, and arrives when there is room."""
        self.directory()
        disk = Disk(self, 20)
        self.gateway.mail = os.path.join(disk.path, "mail")
        self.arrivals = Arrivals(self.gateway)
        os.mkdir(self.gateway.mail)
        self.gateway.start()
        with self.gateway.client() as client:
            client.hello()
            self.assertTrue(self.send(client, 1000))
            self.wait_all()
            filler = disk.fill()
            for _ in range(30):
                self.assertTrue(self.send(client, 100000), self.refusals[-1:])
            wait_until(lambda: "ENOSPC" in self.gateway.log_text()
                       or "No space left" in self.gateway.log_text(), "a line about the full disk")
            folder = os.path.join(self.gateway.maildir("load"), "tmp")
            os.unlink(filler)
        self.wait_all()
        self.assertEqual(os.listdir(folder), [], "leftovers in tmp")
        self.gateway.stop()

    def test_maildir_appears_later(self):
        """A Maildir that can't be made is tried again and again, across a restart, too."""
        self.directory()
        self.gateway.start()
        self.block_delivery()
        with self.gateway.client() as client:
            client.hello()
            for _ in range(10):
                self.assertTrue(self.send(client, 1000))
        wait_until(lambda: self.gateway.events("deferred"), "event=deferred")
        self.gateway.stop()
        self.allow_delivery()
        self.gateway.start()
        self.wait_all()
        self.gateway.stop()

    # --- disks that fail -------------------------------------------------------------------------

    def weather(self, *lines):
        """Writes the control file of fault_preload.c; no line: the weather is fine."""
        path = os.path.join(self.directory(), "faults")
        with open(path + ".next", "w", encoding="ascii") as file:
            file.write("".join(line + "\n" for line in lines))
        os.rename(path + ".next", path)

    def start_with_faults(self, **settings):
        if FLAVOUR == "tsan":
            self.skipTest("skipped: a preloaded library does not go together with ThreadSanitizer")
        library = os.path.join(self.directory(), "fault.so")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fault_preload.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", library, source,
                        "-ldl", "-pthread"], check=True)
        self.weather()
        self.gateway.settings.update(settings)
        self.gateway.environment.update(
            LD_PRELOAD=library, RINGMX_FAULTS=os.path.join(self.gateway.directory, "faults"),
            ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=1")
        self.gateway.start()

    def one_error(self, sync, *lines):
        """A single error: nobody outside notices, the segment is poisoned."""
        self.start_with_faults(**{"spool.sync": sync})
        with self.gateway.client() as client:
            client.hello()
            for number in range(20):
                if number in (5, 12):
                    self.weather("# " + str(number), *lines)  # a new content: the counts begin anew
                self.assertTrue(self.send(client, 5000), self.refusals)
        self.wait_all()
        failed = [re.search(r"segment ([0-9a-f]{16}) ", line["msg"])[1]
                  for line in self.gateway.events("spool.write")]
        self.assertEqual(len(failed), 2, "two errors, two lines")
        wait_until(lambda: not any(name + ".segment" in os.listdir(self.gateway.spool)
                                   for name in failed), "no poisoned segment keeps its name")
        self.weather()
        self.gateway.restart()
        self.wait_all()
        self.gateway.stop()

    def test_one_write_error(self):
        self.one_error("dsync", "write EIO 1 .segment")

    def test_one_write_error_fdatasync(self):
        self.one_error("fdatasync", "write EIO 1 .segment")

    def test_one_sync_error(self):
        self.one_error("fdatasync", "sync EIO 1 .segment")

    def test_short_writes(self):
        self.start_with_faults()
        self.weather("write short always .segment")
        with self.gateway.client() as client:
            client.hello()
            for _ in range(20):
                self.assertTrue(self.send(client, 30000), self.refusals)
        self.wait_all()
        self.assertFalse([line for line in self.gateway.log_lines() if line["level"] == "error"])
        self.gateway.restart()
        self.gateway.stop()

    def lasting_error(self, sync, *lines):
        """An error that stays: 451, first for the message, then at MAIL; then it ends."""
        self.start_with_faults(**{"spool.sync": sync})
        with self.gateway.client() as client:
            client.hello()
            for _ in range(5):
                self.assertTrue(self.send(client, 5000), self.refusals)
            self.weather(*lines)
            for _ in range(10):
                self.assertFalse(self.send(client, 5000), "acknowledged although nothing can be written")
                time.sleep(0.1)
            self.assertEqual({(reply.code, reply.enhanced) for _, reply in self.refusals},
                             {(451, "4.3.0")})
            self.assertEqual(self.refusals[-1][0], "MAIL", "refused before any data")
            self.assertTrue(self.gateway.alive())
            self.weather()
            self.recovers(client)
            for _ in range(5):
                self.assertTrue(self.send(client, 5000), self.refusals)
        self.wait_all()
        self.gateway.restart()
        self.wait_all()
        self.gateway.stop()

    def test_lasting_write_error(self):
        self.lasting_error("dsync", "write EIO always .segment")

    def test_lasting_sync_error(self):
        self.lasting_error("fdatasync", "sync EIO always .segment")

    def test_lasting_error_then_crash(self):
        """Killed while the disk fails: what was acknowledged before is there after a restart."""
        self.start_with_faults()
        self.block_delivery()
        with self.gateway.client() as client:
            client.hello()
            for _ in range(20):
                self.assertTrue(self.send(client, 5000), self.refusals)
            self.weather("write EIO always .segment")
            for _ in range(5):
                self.send(client, 5000)
        self.gateway.kill()
        self.weather()
        self.allow_delivery()
        self.gateway.start()
        self.wait_all()
        self.gateway.stop()

    def test_no_new_segment(self):
        """No segment can be made (quota): 452 at MAIL, until it is over."""
        self.start_with_faults()
        self.block_delivery()
        self.weather("allocate EDQUOT always spool", "create EDQUOT always spool")
        with self.gateway.client() as client:
            client.hello()
            for _ in range(300):
                if not self.send(client, MEBIBYTE):
                    break
            command, reply = self.refusals[0]
            self.assertEqual((command, reply.code, reply.enhanced), ("MAIL", 452, "4.3.1"))
            self.weather()
            self.recovers(client)
            self.assertTrue(self.send(client, 1000), self.refusals)
        self.allow_delivery()
        self.wait_all()
        self.gateway.stop()

    def test_quota_of_lost_mail(self):
        """What the disk did not take does not count as sent by the user."""
        self.gateway = submitters.gateway(("alice",), {"submission.messages_per_hour": "2",
                                                       "submission.recipients_per_hour": "2"})
        self.addCleanup(self.gateway.close)
        self.start_with_faults()
        text = b"From: alice@example.org\r\n\r\nx\r\n.\r\n"
        address = self.gateway.at["submission"]
        clients = [submitters.Submitter(address) for _ in range(2)]

        def begin(client):
            client.envelope("alice@example.org", "q@example.org")
            client.expect(354, "DATA")

        def ready():
            with submitters.Client(address) as client:
                return client.reply().code == 220

        for client in clients:
            begin(client)
        self.weather("write EIO always .segment", "sync EIO always .segment")
        for client in clients:
            client.send(text)
        for client in clients:
            client.expect(451)
        self.weather()
        wait_until(ready, "the disk again")
        for client in clients:
            begin(client)
            client.send(text)
            client.expect(250)
        clients[0].refused(450, "4.7.1", "MAIL FROM:<alice@example.org>")
        for client in clients:
            client.close()
        self.gateway.stop()

    def test_maildir_errors(self):
        """Write and sync errors in the Maildir: the message waits, is tried again, and is never half there."""
        for weather in ("write EIO always /mail/", "sync EIO always /mail/",
                        "write ENOSPC always /mail/", "create EROFS always /mail/"):
            with self.subTest(weather=weather):
                self.setUp()
                self.start_with_faults()
                self.weather(weather)
                with self.gateway.client() as client:
                    client.hello()
                    for _ in range(10):
                        self.assertTrue(self.send(client, 5000), self.refusals)
                wait_until(lambda: self.gateway.events("deferred"), "event=deferred")
                self.arrivals.take()
                self.weather()
                self.wait_all()
                self.gateway.stop()

    def test_changing_weather(self):
        """Errors of every kind come and go under load: only 451 and 452 are said, and all that was
        acknowledged arrives."""
        number = seed()
        chance = random.Random(number)
        # What is pipelined behind a refused MAIL is out of order, but does not count as a bad command.
        self.start_with_faults()
        load = Load(number, threads=4, size_max=20000)
        load.start(self.gateway.address)
        kinds = ("write EIO 1 .segment", "write EIO 3 .segment", "sync EIO 2 .segment",
                 "write short 5 .segment", "write ENOSPC 2 .segment", "allocate ENOSPC 3 spool",
                 "write EIO 2 /mail/", "sync EIO 2 /mail/", "create ENOSPC 2 /mail/",
                 "write EIO always .segment")
        for turn in range(20):
            self.weather(f"# {turn}", *chance.sample(kinds, 2))
            time.sleep(chance.uniform(0.1, 0.4))
            self.weather()
            time.sleep(chance.uniform(0.1, 0.6))
        time.sleep(3)
        load.stop()
        self.assertTrue(self.gateway.alive(), self.gateway.log_text()[-2000:])
        self.assertEqual(load.errors, [])
        self.assertLessEqual({reply.code for reply in load.refused.values()}, {451, 452})
        self.assertGreater(len(load.acknowledged), 100)
        self.acknowledged, self.sent = load.acknowledged, load.sent
        self.wait_all()
        self.gateway.restart()
        self.wait_all()
        self.gateway.stop()
        print(f"  {len(load.acknowledged)} acknowledged, {len(load.refused)} refused", flush=True)


if __name__ == "__main__":
    unittest.main()
