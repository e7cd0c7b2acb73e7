"""kill -9 while mail is taken and sent on to a next hop, again and again: what was acknowledged arrives at the next hop
once or more, whole; what arrives twice is not more than what was under way when the process died. And a backlog that
outlives its process, for a next hop that was not there."""
import os
import random
import re
import socket
import time
import unittest

import loader
from harness import SLOW, Gateway, parse_log_line, seed, wait_until
from sink import Sink

ROUNDS = int(os.environ.get("RINGMX_CRASH_ROUNDS", "6" if SLOW else "25"))
CONNECTIONS = 20
WINDOW_S = 0.3  # an outcome is on disk after 70 ms, on a machine that is busy with tests after some more
BACKLOG = 1000 if SLOW else 20_000


def seconds(line):
    """The time of a log line, as seconds of its day."""
    hours, minutes, rest = re.search(r"T(\d+):(\d+):([\d.]+)Z", line["time"]).groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def under_way(gateway):
    """How many deliveries a crash at the end of this log may repeat: those of the last moments, and one for each
    connection."""
    lines = [line for line in map(parse_log_line, gateway.log_text().splitlines()) if line and "time" in line]
    if not lines:
        return 0
    end = max(seconds(line) for line in lines)
    recent = sum(line.get("event") == "delivered" and seconds(line) >= end - WINDOW_S for line in lines)
    return recent + CONNECTIONS


class RelayCrash(unittest.TestCase):
    def test_kill_under_load(self):
        chance = random.Random(seed())
        with Sink() as sink, loader.Acked() as acked:
            target = "smtp:{}:{}".format(*sink.address)
            gateway = Gateway(settings={"spool.segment_size": '"40M"', "queue.schedule": '{"1s"}'},
                              domains={"example.org": (["*"], target, f"connections = {CONNECTIONS}")})
            self.addCleanup(gateway.close)
            allowed = 0
            for _ in range(ROUNDS):
                gateway.start()
                load = loader.start(gateway.address, "--connections", 10, "--seconds", 60, "--size",
                                    "lognormal:3000:1:100k", "--acked", acked.path)
                time.sleep(chance.uniform(0.05, 0.3) * (4 if SLOW else 1))
                gateway.kill()
                loader.finish(load, code=1)
                allowed += under_way(gateway)
            gateway.start()
            wait_until(lambda: loader.verify(acked, sink.log, code=(0, 1))["lost"] == 0, "all mail at the next hop",
                       60, 0.2)
            gateway.stop()
            self.assertTrue(any(gateway.events("delivered", index=index) for index in range(len(gateway.logs))))
            found = loader.verify(acked, sink.log, code=(0, 1))
            self.assertEqual((found["lost"], found["torn"]), (0, 0), found)
            self.assertLessEqual(found["doubled"], allowed, found)
            self.assertGreater(len(acked.ids()), ROUNDS)
            damage = [line for index in range(len(gateway.logs))
                      for line in gateway.events("damage", "damaged", index=index)]
            self.assertEqual(damage, [], "kill -9 must never look like damage")
            print(f"  {ROUNDS} rounds, {len(acked.ids())} acknowledged, {found['doubled']} of them delivered twice or "
                  f"more; {allowed} were under way", flush=True)

    def test_backlog(self):
        """The next hop is dead; the queue grows, its process is killed, another one takes it over; the next hop comes
        to life, and everything arrives once."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            host, port = probe.getsockname()
        with loader.Acked() as acked:
            gateway = Gateway(settings={"queue.schedule": '{"2s"}'},
                              domains={"example.org": (["*"], f"smtp:{host}:{port}")})
            self.addCleanup(gateway.close)
            gateway.start()
            loader.run(gateway.address, "--messages", BACKLOG, "--connections", 50, "--size", 1000, "--acked", acked.path)
            self.assertEqual(len(acked.ids()), BACKLOG)
            self.assertEqual(gateway.events("delivered", "refused"), [])
            gateway.kill()
            gateway.start()
            with Sink(addresses=(f"{host}:{port}",)) as sink:
                wait_until(lambda: loader.verify(acked, sink.log, code=(0, 1))["lost"] == 0, "the backlog", 200, 0.5)
                gateway.stop()
                found = loader.verify(acked, sink.log)
            self.assertEqual((found["lost"], found["torn"], found["doubled"]), (0, 0, 0), found)


if __name__ == "__main__":
    unittest.main()
