"""What takes its time: the minimum data rate, which counts only after a grace of 10 s, and clients that never read.
"""
import socket
import threading
import time
import unittest

from harness import Client, Gateway

GRACE_S = 10  # SERVER_RATE_GRACE_S of gateway/receive/server.h


class Rate(unittest.TestCase):
    def test_slowloris_and_slow_link(self):
        """10 octets a second is below the 1,000 that are asked for: dropped soon after the grace.
        3,000 a second is a slow but honest link: served to the end."""
        gateway = Gateway(settings={"limits.min_data_rate": '"1k"', "limits.data_timeout": '"10m"'})
        self.addCleanup(gateway.close)
        gateway.start()
        results = {}
        runs = {"loris-data": (1, 0.1, False), "loris-bdat": (1, 0.1, True),
                "honest-data": (1500, 0.5, False), "honest-bdat": (1500, 0.5, True)}

        def run(name, octets, pause_s, chunk):
            length_s = GRACE_S + 15
            total = int(length_s / pause_s) * octets
            start = time.monotonic()
            with Client(gateway.address, timeout_s=10) as client:
                client.hello()
                client.envelope("s@client.example", f"{name}@example.org")
                if chunk:
                    client.send(b"BDAT %d LAST\r\n" % total)
                else:
                    client.expect(354, "DATA")
                reply = None
                try:
                    for _ in range(int(length_s / pause_s)):
                        client.send(b"x" * (octets - 2) + b"\r\n" if octets > 2 else b"x")
                        if not client.silent(pause_s):
                            break
                    if not chunk and client.silent(0.1):
                        client.send(b"\r\n.\r\n")
                    reply = client.reply().code
                except (EOFError, ConnectionError):
                    pass
                results[name] = (reply, time.monotonic() - start)

        threads = [threading.Thread(target=run, args=(name, *plan)) for name, plan in runs.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in ("loris-data", "loris-bdat"):
            reply, passed = results[name]
            self.assertIn(reply, (421, None), f"{name}: {results[name]}")
            self.assertTrue(GRACE_S - 1 <= passed <= GRACE_S + 8, f"{name}: {results[name]}")
        for name in ("honest-data", "honest-bdat"):
            self.assertEqual(results[name][0], 250, f"{name}: {results[name]}")
            gateway.wait_messages(name, 1)
        gateway.stop()


class Deaf(unittest.TestCase):
    CLIENTS = 700
    HONEST = 20

    def test_deaf_clients_starve_nobody(self):
        """Clients that send commands and never read the replies hold receive buffers until they are found out: the
        honest ones beside them go on."""
        gateway = Gateway(settings={"limits.connections_per_ip": "2000"})
        self.addCleanup(gateway.close)
        gateway.start()
        deaf = [self.deaf_client(gateway.address) for _ in range(self.CLIENTS)]
        honest = [Client(gateway.address, timeout_s=15) for _ in range(self.HONEST)]
        for client in honest:
            client.hello()
        end = time.monotonic() + 8
        commands = b"NOOP\r\n" * 10000
        rounds = 0
        while time.monotonic() < end:
            for client in deaf:
                try:
                    client.send(commands)
                except (BlockingIOError, ConnectionError):
                    pass
            for client in honest:
                client.expect(250, "NOOP")
            rounds += 1
        self.assertGreater(rounds, 1)
        for client in (*deaf, *honest):
            client.close()
        gateway.stop()

    @staticmethod
    def deaf_client(address):
        client = socket.socket(socket.AF_INET)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(address)
        client.setblocking(False)
        return client


if __name__ == "__main__":
    unittest.main()
