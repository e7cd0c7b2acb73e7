"""Load that keeps accounts: what was sent, what was acknowledged, and whether a mail that arrived is one of them, whole."""
import hashlib
import os
import random
import threading
import time

from harness import Client, split_delivered, stuff

LINE = b"0123456789abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRST\r\n"


def make(identity, size, chance):
    """A mail that carries its id and the checksum of its body; dots at line starts included."""
    body = bytearray()
    while len(body) < size:
        body += (b".", b"..", b"")[chance.randrange(3)] + LINE[chance.randrange(40):]
    digest = hashlib.md5(body).hexdigest()
    head = f"Subject: load\r\nX-Load-Id: {identity}\r\nX-Load-Sum: {digest}\r\n\r\n"
    return head.encode() + bytes(body)


def check(content):
    """The id of a delivered mail; AssertionError when it is not whole."""
    _, _, text = split_delivered(content)
    head, _, body = text.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n"))
    if hashlib.md5(body).hexdigest() != fields[b"X-Load-Sum"].decode():
        raise AssertionError(f"torn: {fields[b'X-Load-Id'].decode()}, {len(body)} octets of body")
    return fields[b"X-Load-Id"].decode()


class Load:
    """Threads that send until the gateway goes away or stop() is called. The accounts outlive rounds."""

    def __init__(self, seed, user="load@example.org", threads=4, size_max=20000, pause_s=0.002):
        self.seed, self.user, self.count = seed, user, threads
        self.size_max, self.pause_s = size_max, pause_s
        self.lock = threading.Lock()
        self.sent, self.acknowledged, self.refused = set(), set(), {}
        self.round = 0
        self.errors = []
        self.stopping = threading.Event()
        self.threads = []

    def start(self, address):
        self.round += 1
        self.stopping.clear()
        self.threads = [threading.Thread(target=self.run, args=(address, number, self.round))
                        for number in range(self.count)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        self.threads = []

    def run(self, address, thread, load_round):
        chance = random.Random(f"{self.seed}/{load_round}/{thread}")
        number = 0
        try:
            with self.greeted(address) as client:
                while not self.stopping.is_set():
                    number += 1
                    self.one(client, chance, f"{load_round}.{thread}.{number}")
                    time.sleep(chance.uniform(0, 2 * self.pause_s))
        except (OSError, EOFError):
            pass  # the gateway was killed: that is what this is for
        except AssertionError as error:
            self.errors.append(str(error))

    @staticmethod
    def greeted(address):
        """A client that was greeted; while no mail can be taken, it hears 421 and comes again."""
        while True:
            client = Client(address, timeout_s=60)
            if client.expect((220, 421)).code == 220:
                client.expect(250, "EHLO client.example")
                return client
            client.close()
            time.sleep(0.05)

    def one(self, client, chance, identity):
        size = int(2 ** chance.uniform(5, self.size_max.bit_length()))
        text = make(identity, min(size, self.size_max), chance)
        with self.lock:
            self.sent.add(identity)
        bdat = chance.random() < 0.5
        group = f"MAIL FROM:<{identity}@client.example>\r\nRCPT TO:<{self.user}>\r\n".encode()
        client.send(group + (b"BDAT %d LAST\r\n" % len(text) + text if bdat else b"DATA\r\n"))
        replies = [client.reply(), client.reply()]
        if not bdat and replies[1].code == 250:
            client.expect(354)
            client.send(stuff(text) + b".\r\n")
        elif not bdat:
            replies.append(client.reply())  # to DATA, without recipients
        if bdat or replies[1].code == 250:
            replies.append(client.reply())
        with self.lock:
            if replies[-1].code == 250:
                self.acknowledged.add(identity)
            else:
                first = next(reply for reply in replies if reply.code >= 400)
                self.refused[identity] = first
        if replies[-1].code != 250:
            client.expect(250, "RSET")
            time.sleep(0.05)


class Arrivals:
    """What came into one Maildir; files are removed once they are judged."""

    def __init__(self, gateway, user="load"):
        self.folder = os.path.join(gateway.maildir(user), "new")
        self.seen = {}

    def take(self):
        if not os.path.isdir(self.folder):
            return
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            with open(path, "rb") as file:
                identity = check(file.read())
            self.seen[identity] = self.seen.get(identity, 0) + 1
            os.unlink(path)
