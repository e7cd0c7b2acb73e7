"""kill -9 under load, restart, again and again: what was acknowledged arrives once or more, whole, and nothing
arrives that was not sent. Then damage to segments, and what recovery makes of it (docs/spool.md)."""
import os
import random
import shutil
import struct
import time
import unittest

from harness import SLOW, Gateway, seed, wait_until
from load import Arrivals, Load, check, make

ROUNDS = int(os.environ.get("RINGMX_CRASH_ROUNDS", "12" if SLOW else "60"))
BLOCK = 4096
RECORD = struct.Struct("<IBBHIIQQQQIIII")  # gateway/spool/record.h
MAGIC = 0x31524D52
PAD, BODY, COMMIT, ABORT, DONE = 1, 2, 3, 4, 5


class Crash(unittest.TestCase):
    def test_kill_under_load(self):
        number = seed()
        chance = random.Random(number)
        gateway = Gateway(settings={"spool.segment_size": '"40M"'})
        self.addCleanup(gateway.close)
        load, arrivals = Load(number), Arrivals(gateway)
        for _ in range(ROUNDS):
            gateway.settings["spool.sync"] = chance.choice(("dsync", "fdatasync", "auto"))
            gateway.start()
            load.start(gateway.address)
            time.sleep(chance.uniform(0.02, 0.15) * (4 if SLOW else 1))
            gateway.kill()
            load.stop()
            arrivals.take()
            self.assertEqual(load.errors, [])
        gateway.start()

        def all_there():
            arrivals.take()
            return load.acknowledged <= set(arrivals.seen)

        wait_until(all_there, "all acknowledged mail", 60)
        gateway.stop()
        arrivals.take()
        self.assertLessEqual(set(arrivals.seen), load.sent)
        self.assertEqual(load.refused, {})
        self.assertGreater(len(load.acknowledged), ROUNDS)
        damage = [line for index in range(len(gateway.logs)) for line in gateway.events(
            "damage", "damaged", index=index)]
        self.assertEqual(damage, [], "kill -9 must never look like damage")
        twice = sum(count > 1 for count in arrivals.seen.values())
        print(f"  {ROUNDS} rounds, {len(load.sent)} sent, {len(load.acknowledged)} acknowledged, "
              f"{len(arrivals.seen)} arrived, {twice} more than once", flush=True)

    def test_kill_at_start(self):
        """Killed while it recovers and prepares segments."""
        number = seed()
        chance = random.Random(number)
        gateway = Gateway(settings={"spool.segment_size": '"40M"'})
        self.addCleanup(gateway.close)
        load, arrivals = Load(number), Arrivals(gateway)
        for _ in range(5 if SLOW else 10):
            gateway.start()
            load.start(gateway.address)
            time.sleep(0.1)
            gateway.kill()
            load.stop()
            for _ in range(4):
                gateway.launch()
                time.sleep(chance.uniform(0.001, 0.2))
                gateway.kill()
        gateway.start()

        def all_there():
            arrivals.take()
            return load.acknowledged <= set(arrivals.seen)

        wait_until(all_there, "all acknowledged mail", 60)
        gateway.stop()
        self.assertLessEqual(set(arrivals.seen), load.sent)


class Segment:
    """The records of a segment file, read as docs/spool.md describes them."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.data = bytearray(file.read())
        self.generation = int(os.path.basename(path).split(".")[0], 16)
        self.records = []  # (offset, kind, payload length, sequence, message id, batch end)
        at = BLOCK
        while at + RECORD.size <= len(self.data):
            (magic, kind, _, _, length, _, generation, sequence, message, _, _, _, end,
             _) = RECORD.unpack_from(self.data, at)
            if magic != MAGIC or generation != self.generation:
                break
            self.records.append((at, kind, length, sequence, message, end))
            at += RECORD.size + (length + 7) // 8 * 8

    def write(self, path=None):
        with open(path or self.path, "r+b") as file:
            file.write(self.data)
            file.truncate(len(self.data))


class Damage(unittest.TestCase):
    """20 acknowledged messages lie in a spool that can't deliver (a file stands where the Maildirs should
    be); the process is killed, the segment damaged, the way freed, the process started."""

    COUNT = 20

    def setUp(self):
        self.gateway = Gateway(settings={"spool.segment_size": '"40M"', "queue.schedule": '{"1s"}'})
        self.addCleanup(self.gateway.close)
        self.gateway.start()
        os.rmdir(self.gateway.mail)
        with open(self.gateway.mail, "w", encoding="ascii"):
            pass
        chance = random.Random(1)
        with self.gateway.client() as client:
            client.hello()
            for number in range(self.COUNT):
                text = make(f"m{number}", 3000 if number < self.COUNT - 1 else 20000, chance)
                reply = client.transfer(text, f"m{number}@client.example", ["load@example.org"])
                self.assertEqual(reply.code, 250)
        self.gateway.kill()
        os.unlink(self.gateway.mail)
        segments = [Segment(os.path.join(self.gateway.spool, name))
                    for name in sorted(os.listdir(self.gateway.spool)) if name.endswith(".segment")]
        self.segment, = [segment for segment in segments if segment.records]
        self.all = {f"m{number}" for number in range(self.COUNT)}

    def find(self, number, kind):
        """The record of that kind of message mNUMBER: (offset, kind, ...)."""
        marker = f"X-Load-Id: m{number}\r\n".encode()
        body = [record for record in self.segment.records if record[1] == BODY and marker in
                self.segment.data[record[0]:record[0] + RECORD.size + record[2]]]
        return next(record for record in self.segment.records
                    if record[1] == kind and record[4] == body[0][4])

    def recover(self, expected):
        """Starts, waits until the expected ones are there, takes one more, stops. Returns the error
        lines."""
        self.gateway.start()
        arrivals = Arrivals(self.gateway)

        def there():
            arrivals.take()
            return expected <= set(arrivals.seen)

        wait_until(there, f"{len(expected)} messages after recovery")
        with self.gateway.client() as client:
            client.hello()
            reply = client.transfer(make("new", 100, random.Random(2)), recipients=["load@example.org"])
            self.assertEqual(reply.code, 250)
        wait_until(lambda: arrivals.take() or "new" in arrivals.seen, "a new message")
        self.gateway.stop()
        arrivals.take()
        self.assertEqual(set(arrivals.seen), expected | {"new"})
        return [line for line in self.gateway.log_lines() if line["level"] == "error"]

    def test_undamaged(self):
        self.assertEqual(self.recover(self.all), [])

    def test_torn_last_batch(self):
        """The crash came while the last batch was written, in whatever order its blocks reached the
        disk: cut off, quietly, and quiet at the start after that, too."""
        last = max(record[3] for record in self.segment.records)
        torn = [record for record in self.segment.records if record[3] == last]
        start, end = min(record[0] for record in torn), torn[0][5]
        lost = {record[4] for record in torn if record[1] == COMMIT}
        names = {f"m{number}" for number in range(self.COUNT)
                 if self.find_id(number) not in lost}
        self.assertEqual(len(names), self.COUNT - 1)
        end_of_text = max(record[0] + RECORD.size + record[2] for record in torn if record[4] in lost)
        self.assertGreaterEqual(end - start, 3 * BLOCK)
        good = bytes(self.segment.data)
        for first, after in ((start, end), (start, start + BLOCK), (start, end - BLOCK),
                             (start + BLOCK, end), (end - BLOCK, end),
                             (start + BLOCK, start + 2 * BLOCK)):
            with self.subTest(blocks=((first - start) // BLOCK, (after - start) // BLOCK)):
                self.segment.data[first:after] = bytes(after - first)
                self.segment.write()
                # What lies whole before the tear is kept, COMMIT included.
                whole = self.all - names if first >= end_of_text else set()
                self.assertEqual(self.recover_copy(names | whole, again=True), [])
                self.segment.data[:] = good

    def find_id(self, number):
        marker = f"X-Load-Id: m{number}\r\n".encode()
        for offset, kind, length, _, message, _ in self.segment.records:
            if kind == BODY and marker in self.segment.data[offset:offset + RECORD.size + length]:
                return message
        return None

    def test_bit_in_a_text(self):
        offset, _, length, _, _, _ = self.find(7, BODY)
        self.segment.data[offset + RECORD.size + length // 2] ^= 0x10
        self.segment.write()
        errors = self.recover(self.all - {"m7"})
        self.assertTrue(errors, "damage must be reported")

    def test_bit_in_an_envelope(self):
        offset, _, length, _, _, _ = self.find(7, COMMIT)
        self.segment.data[offset + RECORD.size + length // 2] ^= 0x01
        self.segment.write()
        errors = self.recover(self.all - {"m7"})
        self.assertTrue(errors, "damage must be reported")

    def test_bit_in_a_record_header(self):
        """Every field: whatever it is, the record is not believed, and the next one is found."""
        offset = self.find(7, BODY)[0]
        for at in (0, 4, 8, 12, 16, 24, 32, 40, 56, 60):
            with self.subTest(at=at):
                good = bytes(self.segment.data)
                self.segment.data[offset + at] ^= 0x04
                self.segment.write()
                errors = self.recover_copy(self.all - {"m7"})
                self.assertTrue(errors, "damage must be reported")
                self.segment.data[:] = good

    def recover_copy(self, expected, check_spool=None, again=False):
        """recover() without wearing out the spool of this test: on a copy."""
        copy = Gateway(settings={"spool.segment_size": '"40M"'})
        self.addCleanup(copy.close)
        shutil.copytree(self.gateway.spool, copy.spool)
        original, self.gateway = self.gateway, copy
        try:
            errors = self.recover(expected)
            if check_spool:
                check_spool(copy.spool)
            if again:
                copy.start()
                copy.stop()
                self.assertEqual([line for line in copy.log_lines() if line["level"] == "error"], [],
                                 "what was cut once must not look like damage later")
            return errors
        finally:
            self.gateway = original
            copy.close()

    def test_zeroed_block_in_the_middle(self):
        offset = self.find(9, BODY)[0] // BLOCK * BLOCK
        hit = {record[4] for record in self.segment.records
               if record[1] in (BODY, COMMIT) and record[0] < offset + BLOCK
               and record[0] + RECORD.size + record[2] > offset}
        names = {f"m{number}" for number in range(self.COUNT) if self.find_id(number) not in hit}
        self.segment.data[offset:offset + BLOCK] = bytes(BLOCK)
        self.segment.write()
        errors = self.recover(names)
        self.assertTrue(errors, "damage must be reported")

    def test_damaged_segment_header(self):
        """Reported; its records prove themselves; what was in it stays for people to look at."""
        for at in (0, 20, 32, 40, 52):
            with self.subTest(at=at):
                good = bytes(self.segment.data)
                self.segment.data[at] ^= 0x40
                self.segment.write()
                bad = bytes(self.segment.data)
                errors = self.recover_copy(self.all, self.keeps(bad))
                self.assertTrue(errors, "damage must be reported")
                self.segment.data[:] = good

    def keeps(self, data):
        """A check for recover_copy: the damaged file is still there, perhaps under another name."""
        def check_spool(spool):
            number = os.path.basename(self.segment.path).split(".")[0]
            names = [name for name in os.listdir(spool) if name.startswith(number)]
            self.assertEqual(len(names), 1, os.listdir(spool))
            with open(os.path.join(spool, names[0]), "rb") as file:
                self.assertEqual(file.read(), data, "not touched")

        return check_spool

    def test_truncated_segment(self):
        """What is before the cut arrives; the rest is gone, and that is said."""
        cut = self.find(10, BODY)[0] + 100
        del self.segment.data[cut:]
        self.segment.write()
        errors = self.recover_copy({f"m{number}" for number in range(10)},
                                   self.keeps(bytes(self.segment.data)))
        self.assertTrue(errors, "damage must be reported")

    def test_spool_files_of_others(self):
        """Names that are not ours stay."""
        stranger = os.path.join(self.gateway.spool, "README")
        with open(stranger, "w", encoding="ascii") as file:
            file.write("mine\n")
        self.recover(self.all)
        self.assertTrue(os.path.exists(stranger))


class MessageCheck(unittest.TestCase):
    def test_the_check_can_fail(self):
        """The judge of this module sees a torn and a changed message."""
        head = b"Return-Path: <>\r\nReceived: by x;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
        text = make("one", 500, random.Random(3))
        self.assertEqual(check(head + text), "one")
        for broken in (text[:-1], text[:-60] + b"X" + text[-59:], text + b"\r\n"):
            with self.assertRaises(AssertionError):
                check(head + broken)


if __name__ == "__main__":
    unittest.main()
