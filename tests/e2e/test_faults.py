"""Disks that are full and disks that fail: the documented reply, no abort, no loss, and recovery when it is over."""
import os
import random
import subprocess
import time
import unittest

from harness import PATIENCE_S, Gateway, quote, wait_until
from load import Arrivals, make

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
                                             "queue.retry_min": '"1s"', "queue.retry_max": '"2s"'})
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
        os.rmdir(self.gateway.mail)
        with open(self.gateway.mail, "w", encoding="ascii"):
            pass

    def allow_delivery(self):
        os.unlink(self.gateway.mail)

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


if __name__ == "__main__":
    unittest.main()
