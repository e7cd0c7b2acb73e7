"""What can go wrong at a hand-over besides the death of a process (test_upgrade.py): limits of the system, signals at bad
moments, a worker that hangs."""
import ctypes
import os
import shutil
import signal
import time
import unittest

import test_upgrade
from harness import FLAVOUR, Client, wait_until
from loader import sized
from test_upgrade import PATIENCE_S, gateway, successor, take_over, wait_end

SMALL = {"limits.connections": "200", "limits.connections_per_ip": "100", "deliver.connections": "10"}
KIB = 1024
UID = 61234  # nobody else's: locked memory is counted by user


class Base(unittest.TestCase):
    ask = test_upgrade.Failures.ask
    serves = test_upgrade.Failures.serves

    def launch(self, old, **changes):
        new = successor(self, old, **changes)
        new.write_configuration()
        return new.launch()

    def busy(self, old):
        """A client in the midst of a message."""
        client = old.client()
        self.addCleanup(client.close)
        client.hello()
        client.envelope("s@client.example", "busy@example.org")
        client.expect(354, "DATA")
        return client

    def hang_up(self, wire, sockets):
        for one in (wire, *sockets):
            one.close()


@unittest.skipUnless(os.geteuid() == 0, "skipped: only root can become somebody else, and raise limits")
class LockedMemory(Base):
    def gateway(self, soft, hard, settings=None, user=True):
        result = gateway(self, {**SMALL, **(settings or {})})
        result.prefix = ["prlimit", f"--memlock={soft}:{hard}"]
        if user:
            result.prefix += ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        os.makedirs(result.mail)
        for path in (result.directory, result.mail):
            shutil.chown(path, UID, UID)
        result.write_configuration()
        os.chmod(result.path, 0o644)
        return result

    def fails(self, gateway, code=78):
        gateway.write_configuration()
        gateway.launch()
        self.assertEqual(gateway.process.wait(PATIENCE_S), code)
        gateway.process = None
        return gateway.log_text()

    def test_raised(self):
        """Up to the hard limit, as for descriptors."""
        with self.gateway(64 * KIB, 8192 * KIB, {"workers": "4"}) as running:
            self.serves(running)

    def test_too_little(self):
        self.assertIn("workers need", self.fails(self.gateway(512 * KIB, 512 * KIB, {"workers": "4"})))

    def test_user(self):
        """As root it is raised for whom we become."""
        running = self.gateway(64 * KIB, 8192 * KIB, {"workers": "4", "sandbox.user": '"games"'}, user=False)
        os.mkdir(running.spool)
        for path in (running.directory, running.mail, running.spool):
            shutil.chown(path, "games")
        running.start()
        self.serves(running)
        running.stop()

    def test_known_before_commit(self):
        """More workers than there is memory for: the old one goes on. As many as before: theirs goes with them."""
        old = self.gateway(2048 * KIB, 2048 * KIB, {"workers": "3"})
        old.start()
        new = successor(self, old, settings={"workers": "8"})
        text = self.fails(new)
        self.assertIn("RLIMIT_MEMLOCK", text)
        self.assertEqual(old.events("drain"), [])
        self.serves(old)
        old.write_configuration()
        new = take_over(self, old)
        self.serves(new)
        new.stop()

    def test_files_of_another(self):
        """A segment that the new one may not write is no surprise after the end of the old one either."""
        old = self.gateway(8192 * KIB, 8192 * KIB)
        old.start()
        self.serves(old)
        name = next(name for name in os.listdir(old.spool) if name.endswith(".segment"))
        for other in os.listdir(old.spool):
            if other.endswith(".segment"):
                os.chown(os.path.join(old.spool, other), 0, 0)
                os.chmod(os.path.join(old.spool, other), 0o600)
        self.assertIn(".segment: Permission denied", self.fails(successor(self, old)), name)
        self.assertEqual(old.events("drain"), [])
        self.serves(old)
        old.stop()


class Signals(Base):
    def test_stop_before_commit(self):
        """SIGTERM to the old one, which has a long drain, while another has its sockets: drain.handover counts."""
        old = gateway(self, {"drain.handover": '"1s"', "drain.timeout": '"600s"'}).start()
        self.busy(old)
        wire, sockets = self.ask(old)
        old.signal(signal.SIGTERM)
        wait_until(lambda: old.events("drain"), "the drain")
        wire.sendall(b"commit\n")
        self.assertEqual(wire.recv(10), b"gone\n")
        wait_end(old)
        self.hang_up(wire, sockets)

    def test_stop_and_commit_together(self):
        old = gateway(self, {"drain.handover": '"1s"', "drain.timeout": '"600s"'}).start()
        self.busy(old)
        wire, sockets = self.ask(old)
        old.signal(signal.SIGSTOP)
        wire.sendall(b"commit\n")
        old.signal(signal.SIGTERM)
        old.signal(signal.SIGCONT)
        self.assertEqual(wire.recv(10), b"gone\n")
        wait_end(old)
        self.hang_up(wire, sockets)

    def test_remembered(self):
        """SIGHUP while it yields is heard when it turns back, and so is SIGTERM."""
        old = gateway(self, {"drain.handover": '"30s"'}).start()
        client = self.busy(old)
        for number in (signal.SIGHUP, signal.SIGTERM):
            wire, sockets = self.ask(old)
            drains = len(old.events("drain"))
            wire.sendall(b"commit\n")
            wait_until(lambda: len(old.events("drain")) > drains, "the commit")
            old.signal(number)
            time.sleep(0.2)
            self.hang_up(wire, sockets)
            if number == signal.SIGHUP:
                wait_until(lambda: old.events("reloaded"), "the reload")
                client.send(b"Subject: x\r\n\r\n.\r\n")
                client.expect(250)
                client.close()
                client = self.busy(old)
        wait_end(old)

    def test_idle_and_lost(self):
        """commit, and gone at once: an old one without a session looks before it ends its workers."""
        old = gateway(self).start()
        for number in range(10):
            wire, sockets = self.ask(old)
            old.signal(signal.SIGSTOP)
            wire.sendall(b"commit\n")
            self.hang_up(wire, sockets)
            old.signal(signal.SIGCONT)
            wait_until(lambda: len(old.events("resumed")) > number or not old.alive(), "it goes on")
            self.serves(old)
        old.stop()

    def test_reload_at_start(self):
        """SIGHUP may come while the configuration is read."""
        running = gateway(self, domains={"example.org": (["@users.txt"], "maildir:{mail}/%d/%u")})
        with open(os.path.join(running.directory, "users.txt"), "w", encoding="utf-8") as file:
            file.writelines(f"user{number}\n" for number in range(300000))
        os.makedirs(running.mail)
        running.write_configuration()
        running.launch()
        status = f"/proc/{running.process.pid}/status"

        def blocked():
            with open(status, encoding="ascii") as file:
                line = next(line for line in file if line.startswith("SigBlk"))
            return int(line.split()[1], 16) & 1
        end = time.monotonic() + sized(0.05, 3)
        while not blocked() and time.monotonic() < end:
            time.sleep(0.001)
        self.assertEqual(running.events("start"), [])
        running.signal(signal.SIGHUP)
        wait_until(lambda: running.events("reloaded") or not running.alive(), "the reload", PATIENCE_S)
        running.stop()

    def test_stopped_while_asking(self):
        """The old one hangs: SIGTERM ends a new one that waits for its answer; and the code says: try again."""
        old = gateway(self).start()
        old.signal(signal.SIGSTOP)
        new = self.launch(old)
        time.sleep(0.5)
        start = time.monotonic()
        new.signal(signal.SIGTERM)
        wait_end(new, 75)
        self.assertLess(time.monotonic() - start, 5)
        old.signal(signal.SIGCONT)
        self.serves(old)
        old.stop()

    def test_temporary(self):
        """Another hand-over is under way; or somebody still has the lock of the spool."""
        old = gateway(self).start()
        wire, sockets = self.ask(old)
        new = self.launch(old)
        wait_end(new, 75)
        self.hang_up(wire, sockets)
        os.unlink(os.path.join(old.directory, "control"))
        new = self.launch(old, listeners={"mx": {"address": '"127.0.0.1:0"'}})
        wait_end(new, 75)
        self.assertIn("in use", new.log_text())
        old.stop()

    def test_lock_is_waited_for(self):
        old = gateway(self).start()
        os.unlink(os.path.join(old.directory, "control"))
        new = self.launch(old, listeners={"mx": {"address": '"127.0.0.1:0"'}})
        time.sleep(1)
        old.stop()
        wait_until(lambda: new.events("start"), "it starts")
        new.stop()

    def test_queue_at_drain(self):
        """Who waits in our own queue when listening ends hears 421, and no reset."""
        for _ in range(3):
            running = gateway(self, {"workers": "1"}).start()
            running.signal(signal.SIGSTOP)
            clients = [Client(running.address) for _ in range(600)]
            running.signal(signal.SIGTERM)
            running.signal(signal.SIGCONT)
            codes = set()
            for client in clients:
                with client:
                    codes.add(client.reply().code)
            self.assertLessEqual(codes, {220, 421})
            wait_end(running)


PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WAIT_ANY_THREAD = 0x4206, 0x4207, 17, 0x40000000


@unittest.skipUnless(os.geteuid() == 0 and FLAVOUR in ("release", "debug"), "skipped: needs root, and no sanitizer")
class Stalled(Base):
    def trace(self, request, thread):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long] * 4
        libc.ptrace.restype = ctypes.c_long
        if libc.ptrace(request, thread, 0, 0) != 0:
            self.skipTest("ptrace is not allowed here")

    def test_worker_hangs(self):
        """A worker that hears of the hand-over only when it is over: it goes on accepting."""
        old = gateway(self, {"drain.handover": '"30s"', "workers": "2"}).start()
        wire, sockets = self.ask(old)
        threads = f"/proc/{old.process.pid}/task"
        for name in os.listdir(threads):
            with open(f"{threads}/{name}/comm", encoding="ascii") as file:
                if file.read().strip() == "worker 1":
                    thread = int(name)
        client = old.client()
        self.addCleanup(client.close)
        self.trace(PTRACE_SEIZE, thread)
        self.trace(PTRACE_INTERRUPT, thread)
        os.waitpid(thread, WAIT_ANY_THREAD)
        wire.sendall(b"commit\n")
        time.sleep(2.6)
        self.hang_up(wire, sockets)
        time.sleep(0.5)
        self.trace(PTRACE_DETACH, thread)
        wait_until(lambda: old.events("resumed"), "it goes on")
        for _ in range(16):
            with old.client() as other:
                other.expect(220)
        old.stop()


if __name__ == "__main__":
    unittest.main()
