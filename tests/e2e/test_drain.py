"""The end of a gateway: the notice, the drain with its bound, the last word to all; by signal and by ringmxctl; and
resuming nothing that was acknowledged."""
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

import loader
from harness import BINARY, PATIENCE_S, Client, Gateway, message, quote, wait_until
from loader import Acked

PROGRAM = os.path.join(os.path.dirname(BINARY), "ringmxctl")
YOUNG_S = 2.2  # who has connected longer ago is not young


def start(test, settings=None, **options):
    gateway = Gateway(settings=settings, **options)
    gateway.settings["admin.control"] = quote(os.path.join(gateway.directory, "control"))
    test.addCleanup(gateway.close)
    return gateway.start()


def control(gateway, *words, code=0):
    done = subprocess.run([PROGRAM, "-s", os.path.join(gateway.directory, "control"), *words], capture_output=True,
                          text=True, check=False, timeout=PATIENCE_S * 3)
    codes = code if isinstance(code, tuple) else (code,)
    assert done.returncode in codes, f"{words}: exit code {done.returncode}\n{done.stderr}\n{done.stdout}"
    return done.stdout


def wait_end(gateway, timeout_s=None):
    code = gateway.process.wait(timeout_s or PATIENCE_S)
    gateway.process = None
    gateway.check_reports()
    assert code == 0, f"exit code {code}\n{gateway.log_text()[-3000:]}"


class Drain(unittest.TestCase):
    def says_bye(self, client):
        reply = client.reply()
        self.assertEqual((reply.code, reply.enhanced), (421, "4.3.2"), reply)
        self.assertIn("mx.example.org", reply.text)
        self.assertTrue(client.closed())

    def test_states(self):
        """Each session by what it is doing: those between two transactions go at once, the others finish first."""
        gateway = start(self)
        with gateway.client() as silent, gateway.client() as hello, gateway.client() as done, \
                gateway.client() as mail, gateway.client() as data, gateway.client() as half:
            silent.expect(220)
            for client in (hello, done, mail, data, half):
                client.hello()
            self.assertEqual(done.transfer(message("done")).code, 250)
            mail.expect(250, "MAIL FROM:<s@client.example>")
            data.envelope("s@client.example", "data@example.org")
            data.expect(354, "DATA")
            data.send(b"Subject: in flight\r\n")
            half.send(b"MAIL FR")
            time.sleep(YOUNG_S)
            begun = time.monotonic()
            with gateway.client() as young:
                young.expect(220)
                self.assertEqual(control(gateway, "drain"), "draining\n")
                for client in (silent, hello, done, half):
                    self.says_bye(client)
                self.assertLess(time.monotonic() - begun, PATIENCE_S / 2)
                with self.assertRaises(ConnectionRefusedError):
                    for _ in range(100):
                        Client(gateway.address).close()
                        time.sleep(0.01)
                young.expect(250, "EHLO young.example")
                self.assertEqual(young.transfer(message("young"), recipients=["young@example.org"]).code, 250)
                self.says_bye(young)
            mail.expect(250, "RCPT TO:<mail@example.org>")
            mail.expect(354, "DATA")
            mail.send(b"Subject: x\r\n\r\n.\r\n")
            mail.expect(250)
            self.says_bye(mail)
            self.assertTrue(gateway.alive())
            data.send(b"\r\n.\r\n")
            data.expect(250)
            self.says_bye(data)
        wait_end(gateway)
        gateway.start()
        for user in ("alice", "young", "mail", "data"):
            gateway.wait_messages(user, 1)
        gateway.stop()

    def test_reset_ends_it(self):
        """A transaction that is given up leaves the session between two."""
        gateway = start(self)
        with gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<s@client.example>")
            time.sleep(YOUNG_S)
            gateway.signal(signal.SIGTERM)
            wait_until(lambda: gateway.events("drain"), "the drain")
            time.sleep(0.1)
            client.expect(250, "RSET")
            self.says_bye(client)
        wait_end(gateway)

    def test_young_and_silent(self):
        """Who is young but says nothing does not keep the gateway for long."""
        gateway = start(self)
        with gateway.client() as client:
            client.hello()
            begun = time.monotonic()
            gateway.signal(signal.SIGTERM)
            self.says_bye(client)
            self.assertGreater(time.monotonic() - begun, 3)
            self.assertLess(time.monotonic() - begun, 10)
        wait_end(gateway)

    def test_bound(self):
        """drain.timeout: then all hear 421, in the middle of a message, too; what was 250 is there."""
        gateway = start(self, {"drain.timeout": '"1s"'})
        with gateway.client() as data, gateway.client() as chunk, gateway.client() as mail, gateway.client() as full:
            for client in (data, chunk, mail, full):
                client.hello()
                client.envelope("s@client.example", "never@example.org")
            data.expect(354, "DATA")
            data.send(b"Subject: never ends\r\n")
            chunk.send(b"BDAT 100\r\nSubject: ")
            full.expect(354, "DATA")
            stop = threading.Event()

            def trickle():
                while not stop.is_set():
                    try:
                        full.send(b"x" * 70 + b"\r\n")
                    except OSError:
                        return
                    time.sleep(0.01)
            thread = threading.Thread(target=trickle)
            thread.start()
            begun = time.monotonic()
            gateway.signal(signal.SIGTERM)
            for client in (data, chunk, mail, full):
                self.says_bye(client)
            stop.set()
            thread.join()
            self.assertGreater(time.monotonic() - begun, 0.9)
            self.assertLess(time.monotonic() - begun, PATIENCE_S)
        wait_end(gateway)
        gateway.start()
        time.sleep(0.5)
        self.assertEqual(gateway.count("never"), 0)
        gateway.stop()

    def test_second_signal(self):
        """Hurries: the bound is over at once."""
        gateway = start(self)
        with gateway.client() as client:
            client.hello()
            client.envelope("s@client.example", "never@example.org")
            client.expect(354, "DATA")
            begun = time.monotonic()
            gateway.signal(signal.SIGTERM)
            wait_until(lambda: gateway.events("drain"), "the drain")
            gateway.signal(signal.SIGTERM)
            self.says_bye(client)
            self.assertLess(time.monotonic() - begun, 10)
        wait_end(gateway)

    def test_notice(self):
        """New clients hear 421 while those that are there go on; then the drain. A second signal ends the notice."""
        gateway = start(self, {"drain.notice": '"20s"'})
        with gateway.client() as old:
            old.hello()
            begun = time.monotonic()
            gateway.signal(signal.SIGTERM)
            wait_until(lambda: gateway.events("drain"), "the notice")
            time.sleep(0.1)
            for _ in range(3):
                with gateway.client() as late:
                    self.says_bye(late)
            self.assertEqual(old.transfer(message("one")).code, 250)
            self.assertEqual(old.transfer(message("two")).code, 250)
            gateway.signal(signal.SIGTERM)
            self.says_bye(old)
            self.assertLess(time.monotonic() - begun, 15)
        wait_end(gateway)

    def test_notice_ends(self):
        gateway = start(self, {"drain.notice": '"1s"'})
        begun = time.monotonic()
        self.assertEqual(control(gateway, "drain", "--wait"), "draining\n")
        self.assertGreater(time.monotonic() - begun, 0.9)
        self.assertIsNotNone(gateway.process.poll(), "--wait waits for the end")
        wait_end(gateway)

    def test_acknowledged(self):
        """Nothing that was answered 250 is lost or comes twice, over drains under load."""
        gateway = start(self, {"drain.timeout": '"2s"'})
        with Acked() as acked:
            port = gateway.address[1]
            gateway.listeners = {"mx": {"address": f'"127.0.0.1:{port}"'}}
            load = loader.start(gateway.address, "--connections", 6, "--reconnect", "--seconds", 600, "--acked",
                                acked.path)
            try:
                for _ in range(4):
                    before = len(acked.ids(unfinished=True))
                    wait_until(lambda: len(acked.ids(unfinished=True)) > before + 5, "mail flows")
                    gateway.signal(signal.SIGTERM)
                    wait_end(gateway)
                    gateway.start()
                    wait_until(lambda: len(acked.ids(unfinished=True)) > before + 10, "mail flows again")
            finally:
                load.send_signal(signal.SIGINT)
            loader.finish(load, code=(0, 1, 130))
            count = len(acked.ids())
            wait_until(lambda: gateway.count("user") >= count, "all is delivered")
            found = loader.verify(acked, gateway.mail)
            self.assertEqual((found["lost"], found["torn"], found["doubled"]), (0, 0, 0), found)
        gateway.stop()

    def test_ctl_words(self):
        gateway = start(self)
        control(gateway, "drain", "--domain", "x", code=64)
        control(gateway, "reload", "--wait", code=64)
        control(gateway, "drain", "now", code=64)
        self.assertTrue(gateway.alive())
        self.assertIn('"pid"', control(gateway, "drain", "--json", "--wait"))
        wait_end(gateway)
        control(gateway, "drain", code=69)


class Reload(unittest.TestCase):
    def reload(self, gateway, settings=None, text=None, code=0):
        gateway.settings.update(settings or {})
        gateway.write_configuration(text)
        return control(gateway, "reload", code=code)

    def test_outcomes(self):
        """0: all of it; 75: some words need a restart, and are named; 78: nothing."""
        gateway = start(self)
        with gateway.client() as client:
            client.hello()
            self.assertEqual(self.reload(gateway), "reloaded\n")
            said = self.reload(gateway, {"workers": "1", "limits.recipients": "7"}, code=75)
            self.assertRegex(said, r"(?m)^workers is new .* only a restart")
            self.assertIn("reloaded, but", said)
            self.assertIn("LIMITS RCPTMAX=7", client.command("EHLO client.example").text)
            said = self.reload(gateway, text="hostname = \n", code=78)
            self.assertRegex(said, r"ringmx\.conf:\d+: ")
            self.assertIn("the old configuration stays", said)
            self.assertIn("LIMITS RCPTMAX=7", client.command("EHLO client.example").text)
            self.assertEqual(client.transfer(message()).code, 250)
        lines = control(gateway, "reload", "--json", code=78)
        self.assertIn('"code":78', lines.replace(" ", ""))
        gateway.write_configuration()
        gateway.wait_messages("alice", 1)
        gateway.stop()

    def test_many_at_once(self):
        """Each who asks hears what became of it, and other clients of the socket do not wait."""
        gateway = start(self)
        running = [subprocess.Popen([PROGRAM, "-s", os.path.join(gateway.directory, "control"), "reload"],
                                    stdout=subprocess.PIPE, text=True) for _ in range(10)]
        self.assertIn("queued", control(gateway, "status"))
        self.assertEqual([process.communicate(timeout=PATIENCE_S)[0] for process in running], ["reloaded\n"] * 10)
        gateway.stop()

    def test_no_connection_is_dropped(self):
        """Everything that can change does, again and again, while sessions go on."""
        gateway = start(self)
        with Acked() as acked:
            load = loader.start(gateway.address, "--connections", 6, "--seconds", 600, "--acked", acked.path)
            try:
                for number in range(20):
                    self.reload(gateway, {
                        "hostname": quote(f"mx{number}.example.org"),
                        "limits.connections_per_ip": str(1000 + number),
                        "limits.command_timeout": f'"{100 + number}s"',
                        "limits.message_rate": str(100000 + number),
                        "log.level": "debug" if number % 2 else "info",
                        "log.repeats": str(number),
                        "drain.timeout": f'"{10 + number}s"',
                        "queue.lifetime": f'"{1 + number}h"',
                        "deliver.idle": f'"{1 + number}s"',
                    }, code=(0, 75))
            finally:
                load.send_signal(signal.SIGINT)
            report = loader.finish(load, code=(0, 130))
            self.assertEqual([report[key] for key in ("lost", "failed", "unopened", "broken")], [0] * 4, report)
            count = len(acked.ids())
            self.assertGreater(count, 0)
            wait_until(lambda: gateway.count("user") >= count, "all is delivered")
        with gateway.client() as client:
            self.assertIn("mx19.example.org", client.expect(220).text)
        gateway.stop()

    def test_drain_words(self):
        """The drain goes by what was loaded last."""
        gateway = start(self)
        self.reload(gateway, {"drain.timeout": '"1s"'})
        with gateway.client() as client:
            client.hello()
            client.envelope("s@client.example", "never@example.org")
            client.expect(354, "DATA")
            begun = time.monotonic()
            gateway.signal(signal.SIGTERM)
            self.assertEqual(client.reply().code, 421)
            self.assertLess(time.monotonic() - begun, 10)
        wait_end(gateway)


class Systemd(unittest.TestCase):
    """What systemd is told (sd_notify(3)), by somebody who listens in its place."""

    def heard(self):
        states = []
        self.place.setblocking(False)
        try:
            while True:
                states.append(self.place.recv(4096).decode())
        except BlockingIOError:
            return states

    def check(self, path):
        self.place = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.place.close)
        self.place.bind(path)
        shown = "@" + path[1:] if path[0] == "\0" else path
        gateway = Gateway(environment={"NOTIFY_SOCKET": shown})
        self.addCleanup(gateway.close)
        gateway.start()
        states = []
        wait_until(lambda: states.extend(self.heard()) or any("READY=1" in state for state in states), "READY=1")
        self.assertIn(f"MAINPID={gateway.process.pid}\n", states[-1])
        gateway.signal(signal.SIGHUP)
        states = []
        wait_until(lambda: states.extend(self.heard()) or any("READY=1" in state for state in states), "READY=1 again")
        self.assertRegex(states[0], r"(?m)^RELOADING=1\nMONOTONIC_USEC=\d+$")
        at_us = int(states[0].split("MONOTONIC_USEC=")[1].split("\n")[0])
        self.assertLess(abs(at_us - time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6), 60e6)
        gateway.stop()
        states = self.heard()
        self.assertRegex(states[0], r"(?m)^STOPPING=1\nEXTEND_TIMEOUT_USEC=\d+$")

    def test_path(self):
        with Acked() as scratch:
            self.check(os.path.join(scratch.folder.name, "notify"))

    def test_abstract(self):
        self.check(f"\0ringmx-test-{os.getpid()}")


if __name__ == "__main__":
    unittest.main()
