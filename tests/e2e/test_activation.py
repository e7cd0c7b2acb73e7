"""Sockets from systemd (sd_listen_fds(3)): by systemd-socket-activate of Debian, and by hand, so that they outlive the
gateway: restarts refuse nobody."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BINARY, PATIENCE_S, Client, Gateway, message, quote, wait_until

ACTIVATE = shutil.which("systemd-socket-activate")
# What systemd does between fork and exec: the descriptors stand from 3 on, and LISTEN_PID is the process itself.
EXEC = 'export LISTEN_PID=$$; exec "$0" "$@"'


class Activated(unittest.TestCase):
    def setUp(self):
        self.sockets = []
        self.addCleanup(lambda: [one.close() for one in self.sockets])

    def listen(self, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        one = socket.socket(family)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((host, 0))
        one.listen(512)
        self.sockets.append(one)
        port = one.getsockname()[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def gateway(self, *addresses, settings=None, names=None, **options):
        result = Gateway(settings=settings, addresses=addresses, **options)
        self.addCleanup(result.close)
        result.environment.update(LISTEN_FDS=str(len(self.sockets)), LISTEN_FDNAMES=":".join(
            names or [f"ringmx{number}" for number in range(len(self.sockets))]))
        return result

    def launch(self, gateway):
        """As Gateway.launch, with the sockets as descriptors 3, 4, ..."""
        os.makedirs(gateway.mail, exist_ok=True)
        gateway.write_configuration()
        numbers = [one.fileno() for one in self.sockets]
        gateway.logs.append(os.path.join(gateway.directory, f"log.{len(gateway.logs)}"))

        def arrange():
            kept = [os.dup2(number, 200 + index) for index, number in enumerate(numbers)]
            for index, number in enumerate(kept):
                os.dup2(number, 3 + index)
                os.close(number)

        with open(gateway.logs[-1], "wb") as log:
            gateway.process = subprocess.Popen(
                ["/bin/sh", "-c", EXEC, BINARY, "-c", gateway.path, *gateway.arguments], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env={**os.environ, **gateway.environment}, cwd=gateway.directory,
                close_fds=False, preexec_fn=arrange)
        return gateway

    def start(self, gateway):
        self.launch(gateway)
        wait_until(lambda: gateway.events("start") or gateway.process.poll() is not None, "the start")
        assert gateway.alive(), gateway.log_text()
        gateway.listening = [one.getsockname()[:2] for one in self.sockets]
        return gateway

    def serves(self, address, subject="serves"):
        with Client(address) as client:
            client.hello()
            self.assertEqual(client.transfer(message(subject)).code, 250)

    def test_restart(self):
        """Who connects while nothing runs waits, and is served; nobody is refused, with several workers on one socket."""
        gateway = self.gateway(self.listen(), settings={"workers": "3"})
        self.start(gateway)
        for number in range(9):
            self.serves(gateway.address, f"first{number}")
        gateway.stop()
        waiting = [Client(self.sockets[0].getsockname()) for _ in range(50)]
        self.start(gateway)
        for number, client in enumerate(waiting):
            with client:
                client.hello()
                self.assertEqual(client.transfer(message(f"waited{number}")).code, 250)
        gateway.wait_messages("alice", 59)
        gateway.stop()

    def test_restarts_under_load(self):
        gateway = self.gateway(self.listen(), settings={"drain.timeout": '"2s"'})
        self.start(gateway)
        stop, refused, count = threading.Event(), [], [0]

        def load():
            while not stop.is_set():
                try:
                    with Client(gateway.address) as client:
                        client.hello()
                        if client.transfer(message()).code == 250:
                            count[0] += 1
                except ConnectionRefusedError as error:
                    refused.append(repr(error))
                except (OSError, EOFError, AssertionError):
                    pass  # a 421, or a connection that ended: it is tried again

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            before = count[0]
            wait_until(lambda: count[0] > before + 10, "mail flows")
            gateway.stop()
            self.start(gateway)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(refused, [])
        wait_until(lambda: gateway.count("alice") >= 50, "delivered")
        gateway.stop()

    def test_addresses(self):
        """Each by its address; one that systemd does not have is our own; one that nobody wants is told."""
        gateway = self.gateway(self.listen(), self.listen("::1"), "127.0.0.1:0")
        unwanted = self.listen()
        gateway.environment["LISTEN_FDS"] = "3"
        self.start(gateway)
        found = {line["address"] for line in gateway.events("listen")}
        self.assertEqual(len(found), 3)
        for address in found:
            host, port = address.rsplit(":", 1)
            self.serves((host.strip("[]"), int(port)))
        self.assertTrue(any(unwanted in line["msg"] for line in gateway.events("socket_unused")))
        gateway.stop()

    def test_admin(self):
        admin = self.listen()
        gateway = self.gateway(self.listen(), settings={"admin.http": quote(admin)})
        self.start(gateway)
        for _ in range(2):
            with socket.create_connection(self.sockets[0].getsockname(), PATIENCE_S) as one:
                one.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                self.assertIn(b" 200 ", one.recv(4096))
            gateway.stop()
            self.start(gateway)
        gateway.stop()

    def test_refused(self):
        """What is no TCP socket that listens is named."""
        address = self.listen()
        for make, words in ((lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "no TCP socket"),
                            (lambda: socket.socket(socket.AF_UNIX), "no TCP socket"),
                            (socket.socket, "no TCP socket")):
            gateway = self.gateway(address)
            self.sockets.append(make())
            gateway.environment.update(LISTEN_FDS="2", LISTEN_FDNAMES="mail:odd.socket")
            self.launch(gateway)
            self.assertEqual(gateway.process.wait(PATIENCE_S), 78)
            self.assertIn(words, gateway.log_text())
            self.assertIn("odd.socket", gateway.log_text())
            gateway.process = None
            self.sockets.pop().close()

    def test_both_families(self):
        """A socket of [::] that takes IPv4, too, would show clients under other addresses than ours."""
        one = socket.socket(socket.AF_INET6)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind(("::", 0))
        one.listen()
        self.sockets.append(one)
        gateway = self.gateway(f"[::]:{one.getsockname()[1]}")
        self.launch(gateway)
        self.assertEqual(gateway.process.wait(PATIENCE_S), 78)
        self.assertIn("ipv6-only", gateway.log_text())
        gateway.process = None

    def test_not_for_us(self):
        """LISTEN_PID of another process: the descriptors are not ours."""
        gateway = Gateway(environment={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
        with gateway:
            self.serves(gateway.address)

    def test_takeover(self):
        """A hand-over passes systemd's sockets on as such, and systemd hears of the new main process."""
        gateway = self.gateway(self.listen(), settings={"workers": "2"})
        gateway.settings["admin.control"] = quote(os.path.join(gateway.directory, "control"))
        place = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(place.close)
        place.bind(os.path.join(gateway.directory, "notify"))
        gateway.environment["NOTIFY_SOCKET"] = os.path.join(gateway.directory, "notify")
        self.start(gateway)
        new = gateway.variant(settings={"workers": "4"})
        new.logs, new.arguments = list(gateway.logs), ["--takeover"]
        new.environment = {"NOTIFY_SOCKET": gateway.environment["NOTIFY_SOCKET"]}
        self.addCleanup(lambda: new.process is not None and new.kill())
        new.start()
        self.assertEqual(gateway.process.wait(PATIENCE_S), 0)
        gateway.process = None
        place.setblocking(False)
        states = []
        try:
            while True:
                states.append(place.recv(4096).decode())
        except BlockingIOError:
            pass
        self.assertEqual([state for state in states if "STOPPING" in state], [])
        self.assertEqual(sum(f"MAINPID={new.process.pid}\n" in state for state in states), 2, states)
        new.stop()
        waits = Client(self.sockets[0].getsockname())  # the socket is still there
        gateway.environment.pop("NOTIFY_SOCKET")
        self.start(gateway)
        waits.hello()
        waits.close()
        gateway.stop()

    @unittest.skipUnless(ACTIVATE, "skipped: no systemd-socket-activate")
    def test_systemd_socket_activate(self):
        """The real thing: the first connection starts the gateway, and is served."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % probe.getsockname()[1]
        gateway = Gateway(addresses=(address,), prefix=[
            ACTIVATE, "-l", address, "--fdname=smtp", *sum((["-E", f"{name}={os.environ[name]}"] for name in (
                "ASAN_OPTIONS", "TSAN_OPTIONS", "LD_PRELOAD") if name in os.environ), [])])
        self.addCleanup(gateway.close)
        os.makedirs(gateway.mail, exist_ok=True)
        gateway.write_configuration()
        gateway.launch()
        host, port = address.rsplit(":", 1)

        def connects():
            try:
                return Client((host, int(port)))
            except ConnectionRefusedError:
                assert gateway.alive(), gateway.log_text()
                return None
        with wait_until(connects, "systemd-socket-activate listens") as client:
            client.hello()
            self.assertEqual(client.transfer(message()).code, 250)
        gateway.wait_messages("alice", 1)
        gateway.stop()

    @unittest.skipUnless(os.geteuid() == 0, "skipped: only root can become somebody else")
    def test_without_root(self):
        """A user without any privilege serves a port below 1024 that systemd has opened."""
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for port in range(700, 1000):
            try:
                one.bind(("127.0.0.1", port))
                break
            except OSError:
                continue
        one.listen()
        self.sockets.append(one)
        folder = tempfile.mkdtemp(prefix="ringmx-", dir=os.environ.get("RINGMX_TMP"))
        self.addCleanup(shutil.rmtree, folder, True)
        gateway = self.gateway(f"127.0.0.1:{port}", directory=folder)
        os.makedirs(gateway.mail)
        gateway.write_configuration()
        for path in (folder, gateway.mail, gateway.path):
            os.chown(path, 65534, 65534)
        before = EXEC
        try:
            globals()["EXEC"] = 'export LISTEN_PID=$$; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" "$@"'
            self.start(gateway)
        finally:
            globals()["EXEC"] = before
        self.serves(("127.0.0.1", port))
        gateway.wait_messages("alice", 1)
        gateway.signal(signal.SIGTERM)
        self.assertEqual(gateway.process.wait(PATIENCE_S), 0)
        gateway.process = None


if __name__ == "__main__":
    unittest.main()
