"""Two gateways behind a real HAProxy: one is killed under load, or drained, or upgraded. Clients see no more than that
they have to try again, and nothing that was acknowledged is lost: the killed one delivers what it had when it is
started again."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

import loader
from harness import PATIENCE_S, Client, Gateway, wait_until
from loader import Acked
from peers import HAPROXY

CONFIGURATION = """defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout check 1s
  retries 3
  option redispatch
  balance leastconn
listen smtp
  bind fd@{descriptor}
  option smtpchk EHLO check.example
  default-server check inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
  server one {one} send-proxy-v2 check-send-proxy
  server two {two} send-proxy-v2 check-send-proxy
"""


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@unittest.skipUnless(os.path.exists(HAPROXY), "skipped: no haproxy")
class Balanced(unittest.TestCase):
    def setUp(self):
        self.gateways = []
        for _ in range(2):
            gateway = Gateway(listeners={"mx": {"address": f'"{free_address()}"', "proxy": '{"127.0.0.0/8"}'}})
            self.addCleanup(gateway.close)
            self.gateways.append(gateway.start())
        folder = tempfile.mkdtemp(prefix="ringmx-haproxy-", dir=os.environ.get("RINGMX_TMP"))
        self.addCleanup(shutil.rmtree, folder, True)
        front = socket.socket()
        front.bind(("127.0.0.1", 0))
        front.listen(512)
        self.address = front.getsockname()
        path = os.path.join(folder, "haproxy.cfg")
        with open(path, "w", encoding="ascii") as file:
            one, two = ("%s:%d" % gateway.address for gateway in self.gateways)
            file.write(CONFIGURATION.format(descriptor=front.fileno(), one=one, two=two))
        self.haproxy = subprocess.Popen([HAPROXY, "-db", "-q", "-f", path], pass_fds=(front.fileno(),),
                                        stdin=subprocess.DEVNULL)
        front.close()
        self.addCleanup(self.haproxy.wait)
        self.addCleanup(self.haproxy.kill)

        def greets():
            try:
                with Client(self.address, timeout_s=2) as client:
                    return client.reply().code == 220
            except (OSError, EOFError):
                return False
        wait_until(greets, "HAProxy passes clients on")
        self.acked = Acked()
        self.addCleanup(self.acked.folder.cleanup)

    def load(self):
        return loader.start(self.address, "--connections", 8, "--messages-per-connection", "1-10", "--reconnect",
                            "--seconds", 600, "--acked", self.acked.path)

    def flows(self, more=30):
        before = len(self.acked.ids(unfinished=True))
        wait_until(lambda: len(self.acked.ids(unfinished=True)) >= before + more, "mail flows")

    def both_take_mail(self):
        before = [gateway.count("user") for gateway in self.gateways]
        wait_until(lambda: all(gateway.count("user") > count for gateway, count in zip(self.gateways, before)),
                   "both gateways get mail", PATIENCE_S)

    def judge(self, load, doubled_max):
        load.send_signal(signal.SIGINT)
        report = loader.finish(load, code=(0, 1, 130))
        self.assertLessEqual(set(report["codes"]), {"421"}, "nothing but: try again")
        places = [gateway.mail for gateway in self.gateways]

        def delivered():
            found = loader.verify(self.acked, *places, code=(0, 1))
            return found if found["lost"] == 0 else None
        found = wait_until(delivered, "nothing that was acknowledged is lost", PATIENCE_S, 0.3)
        self.assertEqual(found["torn"], 0, found)
        self.assertLessEqual(found["doubled"], doubled_max, found)
        for gateway in self.gateways:
            gateway.stop()

    def test_one_is_killed(self):
        """kill -9, three times. Twice may come what was stored and not yet answered: eight connections, one each."""
        load = self.load()
        try:
            for _ in range(3):
                self.both_take_mail()
                victim = self.gateways[0]
                victim.kill()
                self.flows()
                victim.start()
        finally:
            self.judge(load, doubled_max=3 * 2 * 8)

    def test_one_is_drained(self):
        """SIGTERM, and a start: nothing comes twice."""
        load = self.load()
        try:
            for _ in range(3):
                self.both_take_mail()
                leaves = self.gateways[0]
                leaves.stop()
                self.flows()
                leaves.start()
        finally:
            self.judge(load, doubled_max=0)


if __name__ == "__main__":
    unittest.main()
