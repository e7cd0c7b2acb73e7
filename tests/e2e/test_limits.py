"""Every limit: what is said when it is reached, that others do not suffer, and that it ends again."""
import os
import random
import signal
import socket
import struct
import threading
import time
import unittest

from harness import SLOW, Client, Gateway, message, seed, split_delivered, wait_until


def gateway(test, settings=None, **options):
    result = Gateway(settings=settings, **options)
    test.addCleanup(result.close)
    return result.start()


class Connections(unittest.TestCase):
    def refused(self, server, code, enhanced, source=None):
        with Client(server.address, source=source) as client:
            reply = client.reply()
            self.assertEqual((reply.code, reply.enhanced), (code, enhanced), reply)
            self.assertTrue(client.closed(5))

    def accepted(self, server, source=None):
        client = Client(server.address, source=source)
        self.addCleanup(client.close)
        return client if client.reply().code == 220 else None

    def test_total(self):
        server = gateway(self, {"limits.connections": "5"})
        clients = [self.accepted(server) for _ in range(5)]
        self.assertNotIn(None, clients)
        for _ in range(3):
            self.refused(server, 421, "4.3.2")
        self.assertEqual(clients[0].command("NOOP").code, 250)
        clients[1].close()
        clients[2].expect(221, "QUIT")
        clients[2].close()
        again = wait_until(lambda: self.accepted(server), "a place after one was left")
        again.expect(250, "EHLO client.example")
        server.stop()

    def test_a_reload(self):
        """It lowers the bound, and raises it again, but not above what there is room for."""
        server = gateway(self, {"limits.connections": "5"})
        for count, (bound, held) in enumerate(((100, 5), (2, 2), (4, 4)), 1):
            server.settings["limits.connections"] = str(bound)
            server.write_configuration()
            server.signal(signal.SIGHUP)
            wait_until(lambda: len(server.events("reloaded")) == count, "the reload")
            clients = [self.accepted(server) for _ in range(held)]
            self.assertNotIn(None, clients)
            self.refused(server, 421, "4.3.2")
            for client in clients:
                client.close()
            wait_until(lambda: len(server.events("disconnect")) == len(server.events("connect")), "the end of all")
        server.stop()

    def test_per_address(self):
        server = gateway(self, {"limits.connections_per_ip": "3"})
        clients = [self.accepted(server) for _ in range(3)]
        self.assertNotIn(None, clients)
        self.refused(server, 421, "4.7.0")
        other = self.accepted(server, source="127.0.0.2")
        self.assertIsNotNone(other, "another address has its own places")
        clients[0].close()
        wait_until(lambda: self.accepted(server), "a place after one was left")
        server.stop()

    def test_refusals_cost_no_place(self):
        """100 refused connections do not wear the limit out."""
        server = gateway(self, {"limits.connections_per_ip": "2"})
        first, second = self.accepted(server), self.accepted(server)
        for _ in range(100):
            self.refused(server, 421, "4.7.0")
        first.close()
        second.close()
        wait_until(lambda: self.accepted(server), "a place")
        server.stop()


class Commands(unittest.TestCase):
    def test_bad_commands(self):
        server = gateway(self, {"limits.bad_commands": "20"})
        with server.client() as client:
            client.hello()
            codes = []
            for _ in range(25):
                client.send(b"XYZZY\r\n")
                try:
                    codes.append(client.reply())
                except (EOFError, ConnectionError):
                    break
                if codes[-1].code == 421:
                    break
            self.assertEqual((codes[-1].code, codes[-1].enhanced), (421, "4.7.0"), codes)
            self.assertIn(len(codes), (20, 21), codes)
            self.assertEqual({reply.code for reply in codes[:-1]}, {500})
            self.assertTrue(client.closed(5))
        server.stop()

    def test_good_commands_are_not_bad(self):
        server = gateway(self, {"limits.bad_commands": "20"})
        with server.client() as client:
            client.hello()
            for _ in range(100):
                client.expect(250, "NOOP")
                client.expect(250, "RSET")
            self.assertEqual(client.transfer(message()).code, 250)
        server.stop()

    def test_bad_commands_pipelined(self):
        """All in one segment: the same count, then the end."""
        server = gateway(self, {"limits.bad_commands": "20"})
        with server.client() as client:
            client.hello()
            client.send(b"XYZZY\r\n" * 500)
            codes = []
            try:
                while True:
                    codes.append(client.reply().code)
            except (EOFError, ConnectionError):
                pass
            self.assertLessEqual(codes.count(500), 21)
            if codes.count(421):
                self.assertEqual(codes[-1], 421)
        server.stop()

    def test_every_kind_of_bad_command_counts(self):
        server = gateway(self, {"limits.bad_commands": "20"})
        for line in (b"XYZZY\r\n", b"\r\n", b"NO\nOP\r\n", b"N" * 3000 + b"\r\n", b"NO\0OP\r\n",
                     b"RCPT TO:<>\r\n", b"DATA\r\n", b"BDAT 4\r\nabcd", b"STARTTLS\r\n",
                     b"MAIL FROM:<broken\r\n", b"BDAT x\r\n"):
            with self.subTest(line=line[:40]), server.client() as client:
                client.hello()
                for count in range(1, 31):
                    client.send(line)
                    if client.reply().code == 421:
                        break
                self.assertIn(count, (20, 21))
                self.assertTrue(client.closed(5))
        server.stop()

    def test_foreign_protocol(self):
        server = gateway(self)
        for start in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                      b"POST / HTTP/1.1\r\nContent-Length: 200\r\n\r\nEHLO x\r\nMAIL FROM:<>\r\n"
                      b"RCPT TO:<http@example.org>\r\nDATA\r\n\r\nx\r\n.\r\nQUIT\r\n"):
            with server.client() as client:
                client.expect(220)
                client.send(start)
                replies = []
                try:
                    while True:
                        replies.append(client.reply())
                except (EOFError, ConnectionError):
                    pass
                self.assertLessEqual(len(replies), 1, replies)
                self.assertTrue(all(reply.code >= 400 for reply in replies), replies)
        time.sleep(0.3)
        self.assertEqual(server.count("http"), 0)
        server.stop()

    def test_talking_before_the_greeting(self):
        """It is noted in the log, and the session goes on. The gateway is stopped while the client
        speaks, so that it is certain who spoke first."""
        server = gateway(self)
        server.signal(signal.SIGSTOP)
        with server.client() as client:
            client.send(b"EHLO client.example\r\n")
            time.sleep(0.05)
            server.signal(signal.SIGCONT)
            client.expect(220)
            client.expect(250)
            self.assertEqual(client.transfer(message()).code, 250)
        wait_until(lambda: "early" in server.log_text(), "a line about early input")
        server.stop()


class Times(unittest.TestCase):
    def test_command_timeout(self):
        server = gateway(self, {"limits.command_timeout": '"2s"'})
        with server.client() as client:
            client.hello()
            start = time.monotonic()
            reply = client.reply()
            passed = time.monotonic() - start
            self.assertEqual((reply.code, reply.enhanced), (421, "4.4.2"), reply)
            self.assertTrue(1.5 <= passed <= 5, passed)
            self.assertTrue(client.closed(5))
        server.stop()

    def test_command_timeout_before_hello(self):
        server = gateway(self, {"limits.command_timeout": '"2s"'})
        with server.client() as client:
            client.expect(220)
            self.assertEqual(client.reply().code, 421)
            self.assertTrue(client.closed(5))
        server.stop()

    def test_commands_reset_the_clock(self):
        server = gateway(self, {"limits.command_timeout": '"2s"'})
        with server.client() as client:
            client.hello()
            for _ in range(5):
                time.sleep(0.8)
                client.expect(250, "NOOP")
        server.stop()

    def test_command_letter_by_letter(self):
        """A command must be whole within the time: single letters win nothing."""
        server = gateway(self, {"limits.command_timeout": '"2s"'})
        with server.client() as client:
            client.hello()
            start = time.monotonic()
            try:
                while time.monotonic() - start < 12:
                    client.send(b"N")
                    if not client.silent(0.4):
                        break
                self.assertEqual(client.reply().code, 421)
            except (ConnectionError, EOFError):
                pass
            self.assertLess(time.monotonic() - start, 6)
        server.stop()

    def test_data_timeout(self):
        server = gateway(self, {"limits.data_timeout": '"2s"', "limits.command_timeout": '"60s"'})
        with server.client() as client, server.client() as chunks:
            for each in (client, chunks):
                each.hello()
                each.envelope("s@client.example", "late@example.org")
            client.expect(354, "DATA")
            client.send(b"Subject: x\r\n\r\nbut then ")
            chunks.send(b"BDAT 1000 LAST\r\nSubject: x\r\n\r\nbut then ")
            for each in (client, chunks):
                reply = each.reply()
                self.assertEqual((reply.code, reply.enhanced), (421, "4.4.2"), reply)
                self.assertTrue(each.closed(5))
        time.sleep(0.2)
        self.assertEqual(server.count("late"), 0)
        server.stop()

    def test_data_goes_on(self):
        """Slow, but never silent for the time."""
        server = gateway(self, {"limits.data_timeout": '"2s"', "limits.command_timeout": '"60s"'})
        with server.client() as client:
            client.hello()
            client.envelope("s@client.example", "slow@example.org")
            client.expect(354, "DATA")
            for _ in range(6):
                client.send(b"X-Slow: yes\r\n")
                time.sleep(0.7)
            client.send(b"\r\n.\r\n")
            client.expect(250)
        server.wait_messages("slow", 1)
        server.stop()

    def test_client_that_does_not_read(self):
        """Replies that nobody takes: bounded memory, and others are served. It ends by its timeout."""
        server = gateway(self, {"limits.command_timeout": '"3s"'})
        with Client(server.address, receive_buffer=4096) as deaf, server.client() as other:
            deaf.hello()
            other.hello()
            deaf.socket.settimeout(1)
            sent = 0
            try:
                while sent < 200 * 1024 * 1024:
                    sent += deaf.socket.send(b"HELP\r\n" * 10000)
            except (TimeoutError, ConnectionError):
                pass
            self.assertLess(sent, 100 * 1024 * 1024, "reads on although nobody takes the replies")
            self.assertEqual(other.transfer(message()).code, 250)
            wait_until(lambda: self.gone(deaf), "the deaf client is dropped", 20)
        server.stop()

    def gone(self, client):
        try:
            client.socket.send(b"\r\n")
            return False
        except TimeoutError:
            return False
        except ConnectionError:
            return True


class Hostile(unittest.TestCase):
    """Clients that talk nonsense, break off and reset: others are served, and nothing is leaked."""

    WORDS = (b"HELO x\r\n", b"EHLO x\r\n", b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<> BODY=BINARYMIME\r\n",
             b"RCPT TO:<hostile@example.org>\r\n", b"DATA\r\n", b"\r\n.\r\n", b".\r\n", b"BDAT 0\r\n",
             b"BDAT 5 LAST\r\n", b"BDAT 100000\r\n", b"BDAT 99999999999999999999 LAST\r\n", b"QUIT\r\n",
             b"RSET\r\n", b"NOOP\r\n", b"GET / HTTP/1.0\r\n", b"\r", b"\n", b"\0", b"x" * 3000, b"\xff\xfe",
             b"From: x\r\n\r\ntext\r\n", b"Received: x\r\n" * 60)

    def setUp(self):
        self.seed = seed()

    def one(self, address, chance):
        with Client(address, timeout_s=0.05) as client:
            try:
                for _ in range(chance.randrange(1, 12)):
                    data = b"".join(chance.choices(self.WORDS, k=chance.randrange(1, 8)))
                    if chance.random() < 0.3:
                        data = bytes(chance.choices(data, k=len(data)))
                    client.send_split(data, (chance.randrange(1, 400) for _ in range(20)))
                    if chance.random() < 0.5:
                        client.socket.recv(chance.choice((1, 100, 65536)))
                    if chance.random() < 0.1:
                        client.socket.shutdown(socket.SHUT_WR)
            except (OSError, EOFError):
                pass
            if chance.random() < 0.4:  # RST in place of FIN
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                         struct.pack("ii", 1, 0))

    def test_nonsense(self):
        server = gateway(self, {"limits.message_size": '"64k"', "io.buffers": "64"})
        count = 40 if SLOW else 150

        def run(thread):
            for number in range(count):
                self.one(server.address, random.Random(f"{self.seed}/{thread}/{number}"))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        with server.client() as good:
            good.hello()
            sent = 0
            while any(thread.is_alive() for thread in threads):
                self.assertEqual(good.transfer(message(f"good-{sent}")).code, 250)
                sent += 1
                time.sleep(0.05)
        for thread in threads:
            thread.join()
        server.wait_messages("alice", sent)
        opened = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        server.stop()
        self.assertLess(opened, 100, "descriptors are leaked")
        self.assertEqual(len(server.events("connect")), len(server.events("disconnect")))


class Exhaustion(unittest.TestCase):
    def test_out_of_buffers(self):
        """Eight receive buffers for 200 clients with 1 MB each: all wait their turn, none is lost."""
        server = gateway(self, {"io.buffers": "8", "limits.data_timeout": '"120s"'})
        count = 40 if SLOW else 200
        text = message("large", ("0123456789" * 7 + "\r\n") * 14563)
        failures = []

        def run(number):
            try:
                with Client(server.address, timeout_s=110) as client:
                    client.hello()
                    reply = client.transfer(text, f"s{number}@client.example", ["big@example.org"])
                    if reply.code != 250:
                        raise AssertionError(reply)
            except (AssertionError, OSError, EOFError) as error:
                failures.append(f"{number}: {type(error).__name__}: {error}")

        threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        wait_until(lambda: server.count("big") >= count, "delivery", 60)
        senders = set()
        for content in server.messages("big"):
            sender, _, original = split_delivered(content)
            self.assertEqual(original, text)
            senders.add(sender)
        self.assertEqual(len(senders), count)
        server.stop()

    def test_idle_clients_hold_no_buffers(self):
        """Half-sent messages of many clients do not keep the last buffers from one that is quick."""
        server = gateway(self, {"io.buffers": "8"})
        holders = []
        for _ in range(50):
            client = server.client()
            self.addCleanup(client.close)
            client.hello()
            client.envelope("s@client.example", "held@example.org")
            client.expect(354, "DATA")
            client.send(b"Subject: x\r\n\r\n" + b"half a line")
            holders.append(client)
        with server.client() as quick:
            quick.hello()
            for _ in range(20):
                self.assertEqual(quick.transfer(message()).code, 250)
        for client in holders:
            client.send(b"\r\n.\r\n")
            client.expect(250)
        server.wait_messages("held", 50)
        server.stop()

    def test_out_of_descriptors(self):
        """More connections than descriptors: who is in is served, the others wait or get 421, the
        processor is not busy with it, and afterwards all is as before."""
        server = gateway(self, {"limits.connections": "1000", "queue.schedule": '{"1s", "2s"}'}, files_max=128)
        clients, greeted = [], []
        for _ in range(200):
            client = server.client()
            self.addCleanup(client.close)
            clients.append(client)
        time.sleep(0.5)
        for client in clients:
            client.socket.settimeout(0.02)
            try:
                if client.reply().code == 220:
                    greeted.append(client)
            except (TimeoutError, EOFError, ConnectionError):
                pass
        self.assertGreater(len(greeted), 20)
        self.assertLess(len(greeted), 200, "the limit was not reached")
        for client in greeted[:10]:
            client.socket.settimeout(10)
            client.expect(250, "EHLO client.example")
            self.assertEqual(client.transfer(message("tight")).code, 250)
        before = self.processor_time(server)
        time.sleep(1)
        self.assertLess(self.processor_time(server) - before, 0.5, "spins when out of descriptors")
        self.assertTrue(server.alive())
        for client in clients:
            client.close()

        def greets():
            with server.client(timeout_s=2) as client:
                try:
                    return client.reply().code == 220
                except (TimeoutError, EOFError, ConnectionError):
                    return False

        wait_until(greets, "new connections are taken again")
        server.wait_messages("alice", 10, timeout_s=30)
        server.stop()

    def processor_time(self, server):
        with open(f"/proc/{server.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    unittest.main()
