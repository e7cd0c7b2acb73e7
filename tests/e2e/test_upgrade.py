"""Zero-downtime upgrade: `ringmx --takeover` takes the sockets and the spool over from the process that runs, under load,
twenty times; what happens when one of the two fails at each step; and other listeners and workers than before."""
import array
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import unittest

import loader
from harness import BINARY, Client, Gateway, message, quote, wait_until
from loader import Acked, sized

ROUNDS = sized(20, 6)
PATIENCE_S = sized(30, 120)


def gateway(test, settings=None, **options):
    """A gateway with a control socket, on ports that the kernel chose for a moment before."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        options.setdefault("addresses", (f"127.0.0.1:{probe.getsockname()[1]}",))
    result = Gateway(settings={"drain.handover": '"2s"', **(settings or {})}, **options)
    result.settings["admin.control"] = quote(os.path.join(result.directory, "control"))
    test.addCleanup(result.close)
    return result


def successor(test, old, settings=None, **changes):
    """The next process of a gateway, not started yet."""
    new = old.variant(settings=settings or {}, **changes)
    new.logs, new.arguments = list(old.logs), ["--takeover"]
    test.addCleanup(lambda: new.process is not None and new.kill())
    return new


def wait_end(gateway, code=0):
    got = gateway.process.wait(PATIENCE_S)
    gateway.process = None
    gateway.check_reports()
    assert got == code, f"exit code {got}\n{gateway.log_text()[-3000:]}"


def take_over(test, old, **changes):
    new = successor(test, old, **changes)
    new.start()
    wait_end(old)
    return new


class Load(unittest.TestCase):
    def test_rolling(self):
        """Under load, again and again: not one connection is refused, nothing acknowledged is lost or comes twice."""
        old = gateway(self).start()
        with Acked() as acked:
            load = loader.start(old.address, "--connections", 8, "--messages-per-connection", "1-20", "--reconnect",
                                "--seconds", 600, "--acked", acked.path)
            try:
                for _ in range(ROUNDS):
                    before = len(acked.ids(unfinished=True))
                    wait_until(lambda: len(acked.ids(unfinished=True)) > before + 5, "mail flows", PATIENCE_S)
                    old = take_over(self, old)
                before = len(acked.ids(unfinished=True))
                wait_until(lambda: len(acked.ids(unfinished=True)) > before + 5, "mail flows at the end", PATIENCE_S)
            finally:
                load.send_signal(signal.SIGINT)
            report = loader.finish(load, code=(0, 1, 130))
            self.assertEqual(report["unopened"], 0, report)
            self.assertLessEqual(set(report["codes"]), {"421"}, "nothing but: try again")
            self.assertGreater(report["messages"], ROUNDS * 5)
            count = len(acked.ids())
            wait_until(lambda: old.count("user") >= count, "all is delivered", PATIENCE_S)
            found = loader.verify(acked, old.mail)
            self.assertEqual((found["lost"], found["torn"], found["doubled"]), (0, 0, 0), found)
        old.stop()

    def test_waiting_clients(self):
        """Who connects while no process accepts waits, and is greeted by the new one."""
        old = gateway(self, {"drain.handover": '"20s"'}).start()
        with old.client() as busy:
            busy.hello()
            busy.envelope("s@client.example", "busy@example.org")
            busy.expect(354, "DATA")
            busy.send(b"Subject: in flight\r\n\r\n")
            new = successor(self, old)
            new.write_configuration()
            new.launch()
            wait_until(lambda: old.events("drain"), "the commit")
            time.sleep(0.3)
            waiting = [Client(old.address) for _ in range(20)]
            self.assertTrue(all(client.silent(0.01) for client in waiting), "nobody accepts")
            self.assertTrue(old.alive())
            busy.send(b"to the end\r\n.\r\n")
            busy.expect(250)
            busy.expect(421)
        wait_end(old)
        for number, client in enumerate(waiting):
            with client:
                client.hello()
                self.assertEqual(client.transfer(message(f"w{number}"), recipients=["late@example.org"]).code, 250)
        new.wait_messages("late", 20)
        new.wait_messages("busy", 1)
        new.stop()

    def test_young_client_is_served_by_the_old(self):
        old = gateway(self).start()
        with old.client() as young:
            young.expect(220)
            new = successor(self, old)
            new.write_configuration()
            new.launch()
            wait_until(lambda: old.events("drain"), "the commit")
            young.expect(250, "EHLO client.example")
            self.assertEqual(young.transfer(message("young")).code, 250)
            self.assertEqual(young.reply().code, 421)
            self.assertTrue(young.closed())
        wait_end(old)
        new.wait_messages("alice", 1)
        new.stop()

    def test_bound(self):
        """A client that does not end its message hears 421 when drain.handover is over."""
        old = gateway(self, {"drain.handover": '"1s"'}).start()
        with old.client() as slow:
            slow.hello()
            slow.envelope("s@client.example", "slow@example.org")
            slow.expect(354, "DATA")
            slow.send(b"Subject: never ends\r\n")
            start = time.monotonic()
            new = take_over(self, old)
            self.assertEqual(slow.reply().code, 421)
            self.assertTrue(slow.closed())
            self.assertLess(time.monotonic() - start, PATIENCE_S)
        new.wait_messages("slow", 0)
        new.stop()


class Changes(unittest.TestCase):
    def sockets(self, gateway):
        """How many sockets of its own the process listens at its first address with."""
        done = subprocess.run(["ss", "-Hltnp", "sport", "=", f":{gateway.address[1]}"], capture_output=True, text=True,
                              check=True)
        return done.stdout.count(f"pid={gateway.process.pid},")

    def test_workers(self):
        """More workers, fewer, more: all sockets go on, and those of nobody are not closed with who waits in them."""
        old = gateway(self, {"workers": "4"}).start()
        for workers in (1, 3, 6, 2):
            new = take_over(self, old, settings={"workers": str(workers)})
            for number in range(30):
                with new.client() as client:
                    client.expect(220)
            old = new
        with new.client() as client:
            client.hello()
            self.assertEqual(client.transfer(message()).code, 250)
        new.wait_messages("alice", 1)
        new.stop()

    def test_addresses(self):
        """An address that is gone is closed, a new one is opened."""
        ports = []
        for _ in range(3):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                ports.append(probe.getsockname()[1])
        first, second, third = (f"127.0.0.1:{port}" for port in ports)
        old = gateway(self, addresses=(first, second)).start()
        new = take_over(self, old, listeners={"mx": {"address": f'{{"{second}", "{third}"}}'}})
        for port, there in zip(ports, (False, True, True)):
            try:
                with Client(("127.0.0.1", port)) as client:
                    client.expect(220)
                self.assertTrue(there)
            except ConnectionRefusedError:
                self.assertFalse(there)
        self.assertIn(first, new.log_text())
        new.stop()


@unittest.skipUnless(os.geteuid() == 0, "skipped: only root can become somebody else")
class Privileges(unittest.TestCase):
    def test_dropped(self):
        """Root takes over from a process that has become somebody else, with a port below 1024, and becomes him, too."""
        old = gateway(self, {"sandbox.user": '"nobody"'})
        control = os.path.join(old.directory, "run", "control")
        os.chmod(old.directory, 0o755)
        for path in (old.mail, os.path.dirname(control)):
            os.makedirs(path)
            shutil.chown(path, "nobody", "nogroup")
        old.settings["admin.control"] = quote(control)
        with socket.socket() as probe:
            for port in range(700, 1000):
                try:
                    probe.bind(("127.0.0.1", port))
                    break
                except OSError:
                    continue
        old.listeners = {"mx": {"address": f'"127.0.0.1:{port}"'}}
        old.start()
        for workers in ("4", "1"):
            old = take_over(self, old, settings={"workers": workers})
            self.assertEqual(os.stat(f"/proc/{old.process.pid}").st_uid, pwd.getpwnam("nobody").pw_uid)
            with old.client() as client:
                client.hello()
                self.assertEqual(client.transfer(message(workers)).code, 250)
        old.wait_messages("alice", 2)
        old.stop()


class Failures(unittest.TestCase):
    def serves(self, gateway, subject="serves"):
        with gateway.client() as client:
            client.hello()
            self.assertEqual(client.transfer(message(subject)).code, 250)

    def run_new(self, old, text=None, code=78):
        """A new process that must fail; what it said."""
        if text is not None:
            old.write_configuration(text)
        done = subprocess.run([BINARY, "-c", old.path, "--takeover"], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False, timeout=PATIENCE_S, cwd=old.directory)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr

    def test_wrong_configuration(self):
        old = gateway(self).start()
        self.run_new(old, "hostname = \n")
        self.serves(old)
        old.stop()

    def test_no_control(self):
        old = gateway(self).start()
        control = old.settings.pop("admin.control")
        self.assertIn("admin.control", self.run_new(old, old.configuration()))
        old.settings["admin.control"] = control
        self.serves(old)
        old.stop()

    def test_another_spool(self):
        """The mail of the old process would stay behind."""
        old = gateway(self).start()
        text = old.configuration().replace(old.spool, old.spool + "2")
        os.mkdir(old.spool + "2")
        self.assertIn("another spool", self.run_new(old, text))
        self.serves(old)
        old.stop()

    def test_address_in_use(self):
        """It has the sockets, and fails before it says commit."""
        old = gateway(self).start()
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            address = old.listeners["mx"]["address"]
            text = old.configuration().replace(address, address[:-1] + f', "127.0.0.1:{other.getsockname()[1]}"}}')
            self.assertIn("can't listen", self.run_new(old, text))
        self.serves(old)
        wait_until(lambda: "given up" in old.log_text(), "the old hears of it")
        old.write_configuration()
        new = take_over(self, old)
        self.serves(new)
        new.stop()

    def test_nobody_there(self):
        """Then it is an ordinary start."""
        first = gateway(self)
        first.arguments = ["--takeover"]
        first.start()
        self.serves(first)
        first.stop()

    def ask(self, old):
        """The words of docs/control.md, by hand. Returns the connection and the sockets."""
        wire = socket.socket(socket.AF_UNIX)
        wire.settimeout(PATIENCE_S)
        wire.connect(json.loads(old.settings["admin.control"]))
        wire.sendall(b'{"do":"handover"}\n')
        line = b""
        while not line.endswith(b"\n"):
            line += wire.recv(1)
        words = line.decode().split()
        if words[0] != "handover":
            return wire, words
        self.assertEqual(words[0:4:2], ["handover", "pid"])
        sockets = []
        for _ in range(int(words[9])):
            letter, ancillary, _, _ = wire.recvmsg(1, socket.CMSG_SPACE(4))
            self.assertEqual(letter, b"o")
            sockets += array.array("i", ancillary[0][2])
        return wire, [socket.socket(fileno=number) for number in sockets]

    def offered(self, old):
        """As `ask`, once the hand-over before is all over."""
        def sockets_or_none():
            wire, found = self.ask(old)
            if isinstance(found[0], socket.socket):
                return wire, found
            wire.close()
            return None
        return wait_until(sockets_or_none, "the sockets are offered", step_s=0.05)

    def test_new_dies_with_the_sockets(self):
        """Before commit nothing has happened."""
        old = gateway(self).start()
        wire, sockets = self.ask(old)
        self.assertGreaterEqual(len(sockets), 1)
        self.assertEqual({one.getsockname() for one in sockets}, {old.address})
        self.serves(old)
        for one in (wire, *sockets):
            one.close()
        self.serves(old)
        self.assertEqual(old.events("drain"), [])
        old.stop()

    def test_new_dies_after_commit(self):
        """While the old one still has its workers it goes on; who has waited meanwhile is served."""
        old = gateway(self, {"drain.handover": '"30s"'}).start()
        for number in range(3):
            with old.client() as busy:
                busy.hello()
                busy.envelope("s@client.example", "busy@example.org")
                busy.expect(354, "DATA")
                busy.send(b"Subject: in flight\r\n\r\n")
                wire, sockets = self.offered(old)
                wire.sendall(b"commit\n")
                wait_until(lambda: len(old.events("drain")) > number, "the commit is heard")
                time.sleep(0.2)
                with old.client() as waits:
                    self.assertTrue(waits.silent(0.2))
                    for one in (wire, *sockets):
                        one.close()
                    waits.hello()
                    self.assertEqual(waits.transfer(message(f"waited{number}")).code, 250)
                    self.assertEqual(waits.transfer(message(f"again{number}")).code, 250)
                busy.send(b"to the end\r\n.\r\n")
                busy.expect(250)
                wait_until(lambda: len(old.events("resumed")) == number + 1, "it is told")
        self.serves(old)
        new = take_over(self, old)
        new.wait_messages("busy", 3)
        new.wait_messages("alice", 7)
        new.stop()

    def test_old_dies(self):
        """kill -9 of the old one while the new one waits for it: as after a crash, with the same sockets."""
        old = gateway(self, {"drain.handover": '"30s"'}).start()
        self.serves(old, "kept")
        with old.client() as busy:
            busy.hello()
            busy.envelope("s@client.example", "busy@example.org")
            busy.expect(354, "DATA")
            new = successor(self, old)
            new.write_configuration()
            new.launch()
            wait_until(lambda: old.events("drain"), "the commit")
            old.kill()
        wait_until(lambda: new.events("start"), "the new one serves", PATIENCE_S)
        self.serves(new)
        wait_until(lambda: new.count("alice") >= 2, "both are delivered", PATIENCE_S)
        new.stop()

    def test_stopped_while_waiting(self):
        """SIGTERM to the new one while it waits: the old one goes on."""
        old = gateway(self, {"drain.handover": '"30s"'}).start()
        with old.client() as busy:
            busy.hello()
            busy.envelope("s@client.example", "busy@example.org")
            busy.expect(354, "DATA")
            new = successor(self, old)
            new.write_configuration()
            new.launch()
            wait_until(lambda: old.events("drain"), "the commit")
            new.signal(signal.SIGTERM)
            wait_end(new, 75)
            wait_until(lambda: old.events("resumed"), "the old one goes on")
            busy.send(b"Subject: x\r\n\r\n.\r\n")
            busy.expect(250)
        self.serves(old)
        old.stop()

    def test_new_dies_too_late(self):
        """When the workers have ended there is no way back: the exit code says that somebody has to start one."""
        with socket.create_server(("127.0.0.1", 0)) as hop:
            old = gateway(self, domains={"example.org": (["*"], "smtp:127.0.0.1:%d" % hop.getsockname()[1])}).start()
            self.serves(old, "on its way")
            hop.settimeout(PATIENCE_S)
            with hop.accept()[0] as link:
                link.settimeout(PATIENCE_S)
                for answer in (b"220 hop\r\n", b"250 hop\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
                    link.sendall(answer)
                    link.recv(65536)
                wire, sockets = self.ask(old)
                wire.sendall(b"commit\n")
                wait_until(lambda: len(old.events("worker_stop")) == 2, "the workers have ended")
                for one in (wire, *sockets):
                    one.close()
                wait_end(old, 75)
        old.domains = {"example.org": (["*"], "maildir:{mail}/%d/%u")}
        old.start()
        old.wait_messages("alice", 1)
        old.stop()

    def test_one_at_a_time(self):
        old = gateway(self).start()
        wire, sockets = self.ask(old)
        other, words = self.ask(old)
        self.assertIn("error", words[0])
        for one in (wire, other, *sockets):
            one.close()
        self.serves(old)
        old.stop()

    def test_nonsense(self):
        """Words that are none end the hand-over, and nothing else."""
        old = gateway(self).start()
        for words in (b"comet!\n", b"commit", b"x" * 100, b""):
            wire, sockets = self.ask(old)
            wire.sendall(words)
            for one in (wire, *sockets):
                one.close()
            self.serves(old)
        self.assertEqual(old.events("drain"), [])
        old.stop()


if __name__ == "__main__":
    unittest.main()
