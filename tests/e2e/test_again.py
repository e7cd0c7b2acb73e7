"""Next hops that end connections between two messages: after so many, or because they were idle. No message is put off
for that, and none comes twice."""
import os
import select
import time
import unittest

import hops
from harness import PATIENCE_S, Gateway, wait_until
from reports import Hop

COUNT = 200
MARK = b"X-Ringmx-Test: "


class Connection:
    """One of ImpatientHop's, to read from and to write to; it ends when the hop has had enough."""

    def __init__(self, hop, reader, writer):
        self.hop, self.reader = hop, reader
        self.read, self.write = reader.read, writer.write
        self.count, self.idle = 0, False

    def readline(self):
        if self.idle and self.hop.rest_s and not select.select([self.reader.fileno()], [], [], self.hop.rest_s)[0]:
            self.hop.ended += 1
            raise EOFError
        line = self.reader.readline()
        if line.upper().startswith(b"MAIL"):
            self.idle = False
            if self.count == self.hop.takes:
                self.hop.ended += 1
                self.write(b"421 4.7.0 too many messages on this connection\r\n")
                raise EOFError
            self.count += 1
        return line


class ImpatientHop(Hop):
    """Takes so many messages on a connection, and says 421 to MAIL then; closes what is idle for so long."""

    def __init__(self, takes=None, rest_s=0, **options):
        super().__init__(**options)
        self.takes, self.rest_s = takes, rest_s
        self.opened = self.ended = 0

    def talk(self, reader, writer):
        self.opened += 1
        connection = Connection(self, reader, writer)
        super().talk(connection, connection)

    def finish(self, writer, sender, recipients, text):
        super().finish(writer, sender, recipients, text)
        writer.idle = True


class EximHop(hops.EximHop):
    """With a limit of messages on a connection."""

    def write(self, name, text):
        if name.endswith("exim4.conf"):
            text = "smtp_accept_max_per_connection = 10\n" + text
        return super().write(name, text)


def text_of(number, lines=1):
    return MARK + b"%d\r\n\r\n" % number + b"some text\r\n" * lines


def number_of(content):
    at = content.index(MARK) + len(MARK)
    return int(content[at:].split(b"\n", 1)[0])


class Again(unittest.TestCase):
    def gateway(self, target):
        gateway = Gateway(domains={"example.org": (["*"], target)})
        self.addCleanup(gateway.close)
        gateway.start()
        return gateway

    def send(self, gateway, numbers, lines=1):
        with gateway.client() as client:
            client.hello()
            for number in numbers:
                reply = client.transfer(text_of(number, lines), f"mail-{number}@client.example")
                self.assertEqual(reply.code, 250, reply)

    def judge(self, gateway, found, count=COUNT):
        self.assertEqual(sorted(number_of(content) for content in found), list(range(count)))
        wait_until(lambda: len(gateway.events("delivered")) == count, "a line for each delivery")
        gateway.stop()
        self.assertEqual(gateway.events("deferred", "refused"), [])

    def limited(self, hop, lines=1):
        with hop:
            gateway = self.gateway(hop.target)
            self.send(gateway, range(COUNT), lines)
            wait_until(lambda: len(hop.messages) >= COUNT, "all mail at the next hop", 3 * PATIENCE_S)
            self.judge(gateway, [text for _, _, text in hop.messages])
            self.assertGreaterEqual(hop.opened, COUNT // 5)
            self.assertGreater(hop.ended, 0)
            self.assertLessEqual(hop.ended, 20)  # the limit was learned

    def test_a_limit(self):
        self.limited(ImpatientHop(takes=5))

    def test_a_limit_and_the_text_in_the_flight(self):
        self.limited(ImpatientHop(takes=5, extensions=("PIPELINING", "CHUNKING", "8BITMIME")))

    def test_a_limit_and_much_text(self):
        """The server closes while most of the text is unread, so a reset follows the 421."""
        self.limited(ImpatientHop(takes=5, extensions=("PIPELINING", "CHUNKING")), 20000)

    def test_a_limit_step_by_step(self):
        self.limited(ImpatientHop(takes=5, extensions=("8BITMIME",)))

    def idle(self, extensions):
        with ImpatientHop(rest_s=0.2, extensions=extensions) as hop:
            gateway = self.gateway(hop.target)
            for number in range(COUNT):
                self.send(gateway, [number])
                time.sleep((0.0, 0.05, 0.19, 0.0, 0.0, 0.2, 0.0, 0.21)[number % 8])
            wait_until(lambda: len(hop.messages) >= COUNT, "all mail at the next hop", 3 * PATIENCE_S)
            self.judge(gateway, [text for _, _, text in hop.messages])
            self.assertGreater(hop.ended, 10)

    def test_idle(self):
        self.idle(("PIPELINING", "8BITMIME"))

    def test_idle_and_the_text_in_the_flight(self):
        self.idle(("PIPELINING", "CHUNKING"))

    @unittest.skipUnless(hops.have_exim(), "skipped: no Exim, or no mount namespaces")
    def test_exim(self):
        with EximHop() as hop:
            gateway = self.gateway("smtp:{}:{}".format(*hop.address))
            self.send(gateway, range(COUNT))
            wait_until(lambda: hop.count() >= COUNT, "all mail at the next hop", 3 * PATIENCE_S)
            self.judge(gateway, hop.messages())
            with open(os.path.join(hop.folder, "spool", "mainlog"), encoding="utf-8") as log:
                self.assertIn("too many messages", log.read())


if __name__ == "__main__":
    unittest.main()
