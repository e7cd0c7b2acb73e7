"""What is slow, what hangs, what goes away, and many at once: time-outs and drain during handshakes, RSA keys in the
helpers' hands when the client has left, idle connections by the thousand."""
import os
import random
import socket
import threading
import time
import unittest

import pki
from harness import PATIENCE_S, SLOW, WORKERS, Client, Gateway, message, wait_until
from tls_client import LISTENERS, SecureClient, TlsSocket, knock, records, reset, rest, tls_context


def gateway(test, settings=None, key="ecdsa"):
    result = Gateway(settings, listeners=LISTENERS,
                     certificates={"mx": pki.authority().issue("mx.example.org", key=key)})
    test.addCleanup(result.close)
    return result.start()


class Time(unittest.TestCase):
    """What is slow, and what ends while handshakes are under way."""

    def test_slow(self):
        """A handshake has the time of a command, all in all: dripping octets does not help."""
        server = gateway(self, {"limits.command_timeout": '"2s"'})
        start = time.monotonic()
        waiting = []
        for name in LISTENERS:
            for step in (0, 60, None):
                client = knock(server.at[name], name == "implicit")
                self.addCleanup(client.close)
                hello = client.socket.begin()
                client.socket.raw.sendall(hello[:step])
                waiting.append(client.socket.raw)
        drips = [knock(server.at[name], name == "implicit") for name in LISTENERS]
        for client in drips:
            self.addCleanup(client.close)
        hellos = [iter(client.socket.begin()) for client in drips]
        ended = set()
        while len(ended) < len(drips) and time.monotonic() < start + 12:
            for number, (client, hello) in enumerate(zip(drips, hellos)):
                try:
                    client.socket.raw.sendall(bytes([next(hello)]))
                except OSError:
                    ended.add(number)
            time.sleep(0.05)
        self.assertEqual(len(ended), len(drips), "dripping octets keeps a handshake alive")
        self.assertGreater(time.monotonic() - start, 1.5)
        for raw in waiting:
            records(rest(raw, 5))
        self.assertLess(time.monotonic() - start, 14)
        self.assertEqual(len(server.events("tls_failed")), 6)  # two have never said a word
        server.stop()

    def test_drain(self):
        """SIGTERM while handshakes hang at every step: they end without a word in clear; who is inside hears 421 there,
        and a transfer under way gets its 250."""
        server = gateway(self)
        hanging = []
        for name in LISTENERS:
            for step in range(4):
                client = knock(server.at[name], name == "implicit")
                self.addCleanup(client.close)
                hanging.append(client.socket)
                if step:
                    client.socket.raw.sendall(client.socket.begin()[:50 if step == 1 else None])
                if step == 3:
                    client.socket.raw.sendall(client.socket.answer()[:20])
        idle, busy = SecureClient(server.at["starttls"]), SecureClient(server.at["implicit"], implicit=True)
        for client in (idle, busy):
            self.addCleanup(client.close)
            client.hello()
        busy.envelope("s@client.example", "busy@example.org")
        busy.expect(354, "DATA")
        busy.send(b"Subject: in flight\r\n\r\n")
        time.sleep(0.1)
        start = time.monotonic()
        server.process.terminate()
        for wire in hanging:
            records(bytes(wire.came) + rest(wire.raw))
        try:  # who comes now is told in clear, but not where TLS begins with the first octet
            with Client(server.at["implicit"], timeout_s=3) as late:
                self.assertEqual(rest(late.socket), b"")
        except ConnectionError:
            pass
        reply = idle.reply()
        self.assertEqual((reply.code, reply.enhanced), (421, "4.3.2"))
        self.assertEqual(idle.socket.recv(1), b"", "close_notify")
        busy.send(b"the end\r\n.\r\n")
        busy.expect(250)
        self.assertTrue(busy.closed(5))
        self.assertEqual(server.process.wait(PATIENCE_S), 0)
        self.assertLess(time.monotonic() - start, 10)
        server.stop()

    def test_stop_while_clients_come(self):
        """SIGTERM in a shower of handshakes, five times: exit code 0, nothing in clear, no report."""
        server = gateway(self, key="rsa2048")
        for _ in range(2 if SLOW else 5):
            stopping = threading.Event()
            threads = [threading.Thread(target=shower, args=(server.at["implicit"], stopping))
                       for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(0.2)
            server.stop()
            stopping.set()
            for thread in threads:
                thread.join()
            server.start()
        server.stop()


def shower(address, stopping):
    context = tls_context()
    while not stopping.is_set():
        try:
            with SecureClient(address, context, implicit=True, timeout_s=10) as client:
                client.hello()
        except (OSError, EOFError, AssertionError):
            time.sleep(0.01)


class Rsa(unittest.TestCase):
    """RSA keys are used by helper threads; the connection may be gone when the result comes."""

    def setUp(self):
        self.server = gateway(self, {"tls.helpers": "1"}, "rsa2048")

    def test_aborted(self):
        """200 clients go away, by reset or in order, while their signature is being made."""
        context = tls_context(ciphers="ECDHE-RSA-AES128-GCM-SHA256")
        count = 60 if SLOW else 200
        for number in range(count):
            sock = socket.create_connection(self.server.at["implicit"])
            wire = TlsSocket(sock, context if number % 2 else tls_context())
            sock.sendall(wire.begin())
            if number % 3 == 1:
                time.sleep(0.0003 * (number % 7))
            if number % 5:
                reset(sock)
            else:
                sock.close()
        for _ in range(5):
            with SecureClient(self.server.at["starttls"]) as client:
                client.hello()
                self.assertEqual(client.transfer(message("rsa")).code, 250)
                client.quit()
        self.server.wait_messages("alice", 5)

        def all_ended():
            ends = len(self.server.events("disconnect"))
            return ends > 5 and ends == len(self.server.events("connect"))

        wait_until(all_ended, "all disconnects")
        self.server.stop()
        tls, failed = self.server.events("tls"), self.server.events("tls_failed")
        self.assertEqual(len(tls), 5)
        self.assertGreater(len(failed), count // 10)  # many are gone before they are accepted

    def test_more_comes_meanwhile(self):
        """What the client sends while the key is used waits, and is not lost. (A client in TLS 1.2 may say no more, so
        this is garbage: the end of the handshake, without harm.)"""
        for _ in range(20):
            sock = socket.create_connection(self.server.at["implicit"])
            wire = TlsSocket(sock)
            sock.sendall(wire.begin() + b"\x16\3\3\0\4\x14\0\0\0")
            records(rest(sock))
            sock.close()
        with SecureClient(self.server.at["implicit"], implicit=True) as client:
            client.hello()
        self.server.stop()

    def test_many_at_once(self):
        """More handshakes than a helper can do at once: all are done, and clear text is served meanwhile."""
        count = 20 if SLOW else 100
        wires = []
        for _ in range(count):
            client = knock(self.server.at["implicit"], True)
            self.addCleanup(client.close)
            wires.append(client)
        for client in wires:
            client.socket.raw.sendall(client.socket.begin())
        with Client(self.server.at["starttls"]) as clear:
            clear.hello()
            self.assertEqual(clear.transfer(message("clear")).code, 250)
        for client in wires:
            client.socket.handshake()
        for client in wires:
            client.expect(220)
            client.expect(250, "EHLO client.example")
            client.close()
        self.server.stop()

    def test_stop_with_keys_out(self):
        """SIGTERM while a queue of signatures waits for the helper."""
        for _ in range(3):
            socks = []
            for _ in range(60):
                sock = socket.create_connection(self.server.at["implicit"])
                self.addCleanup(sock.close)
                sock.sendall(TlsSocket(sock).begin())
                socks.append(sock)
            self.server.stop()
            for sock in socks:
                records(rest(sock))
                sock.close()
            self.server.start()
        self.server.stop()


class Idle(unittest.TestCase):
    def test_many_idle(self):
        """Connections that do nothing cost little, and are there when they are wanted."""
        server = gateway(self)
        count = 100 if SLOW else 1000
        context = tls_context()

        def resident():
            with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def connect(number):
            name = ("starttls", "implicit")[number % 2]
            client = SecureClient(server.at[name], context, implicit=name == "implicit")
            self.addCleanup(client.close)
            client.hello()
            return client

        clients = [connect(number) for number in range(100)]
        before = resident()
        clients += [connect(number) for number in range(count)]
        cost = (resident() - before) / count
        if not SLOW and WORKERS <= 2:  # each worker has some memory of its own that is touched late
            self.assertLess(cost, 8192, "octets of each idle connection")
            print(f"\n  an idle TLS connection takes {cost:.0f} octets of the process")
        for client in random.Random(1).sample(clients, len(clients)):
            client.expect(250, "NOOP")
        for client in clients[::2]:
            client.quit()
        for client in clients[1::2]:
            client.expect(250, "NOOP")
            client.close()
        server.stop()


if __name__ == "__main__":
    unittest.main()
