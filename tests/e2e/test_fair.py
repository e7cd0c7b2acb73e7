"""A healthy destination beside dead, silent, slow, and refusing ones: its mail is there at once, whatever waits for the
others; and each of those gets what is its own: few connections, few attempts, nothing lost."""
import socket
import time
import unittest

from harness import SLOW, Gateway, message, wait_until
from sink import Sink

EACH = 60 if SLOW else 300  # messages for each bad destination
LETTERS = 20
AT_ONCE_S = 5  # the slow take longer, a connection that hangs takes 30 s, a probe of the dead comes after 60


def full_listener():
    """A listener whose line of connections is full: who connects now hears nothing."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    held = []
    for _ in range(8):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
        held.append(one)
    return listener, held


def target(address):
    return "smtp:{}:{}".format(*address)


class Fair(unittest.TestCase):
    def test_bad_company(self):
        silent, held = full_listener()
        for one in (silent, *held):
            self.addCleanup(one.close)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            dead = probe.getsockname()
        with Sink() as healthy, Sink("--delay", "dot=6s") as slow, Sink("--tempfail", "rcpt") as busy:
            bad = {"dead": dead, "silent": silent.getsockname(), "slow": slow.address, "busy": busy.address}
            gateway = Gateway(domains={
                **{f"{name}.example": (["*"], target(address), "connections = 5") for name, address in bad.items()},
                "healthy.example": (["*"], target(healthy.address))})
            self.addCleanup(gateway.close)
            gateway.start()
            with gateway.client() as client:
                client.hello()
                for number in range(EACH):
                    for name in bad:
                        client.transfer(message(), "a@client.example", [f"user{number}@{name}.example"])
                for number in range(LETTERS):
                    begun = time.monotonic()
                    # One of the recipients is healthy; the others don't hold it up.
                    recipients = [f"user@{name}.example" for name in (*bad, "healthy")]
                    self.assertEqual(client.transfer(message(), "a@client.example", recipients).code, 250)
                    wait_until(lambda: len(healthy.messages()) > number, "the letter", AT_ONCE_S)
                    self.assertLess(time.monotonic() - begun, AT_ONCE_S)
            # Each message for the busy one was tried once and has been put off; the dead one cost an attempt or two.
            wait_until(lambda: self.deferred(gateway, "busy") >= EACH + LETTERS, "the busy one's answers")
            self.assertLessEqual(self.deferred(gateway, "dead"), 3)
            self.assertEqual(gateway.events("refused"), [])
            wait_until(lambda: len(slow.messages()) > 0, "mail at the slow one")
            self.assertLess(len(slow.messages()), EACH, "it is slow")
            gateway.stop()
            self.assertEqual(len(healthy.messages()), LETTERS)
            totals = slow.stop()
            self.assertLessEqual(totals["connections"], 10)

    @staticmethod
    def deferred(gateway, name):
        return sum(line["to"].endswith(f"@{name}.example") for line in gateway.events("deferred"))

    def test_one_message_many_destinations(self):
        """Recipients of one message have schedules of their own: who was reached is not tried again."""
        with Sink() as one, Sink("--tempfail", "rcpt=50%") as other, Sink("--refuse", "mail") as never:
            gateway = Gateway(settings={"queue.schedule": '{"1s"}'}, domains={
                "one.example": (["*"], target(one.address)), "other.example": (["*"], target(other.address)),
                "never.example": (["*"], target(never.address)), "client.example": (["*"], "maildir:{mail}/%d/%u")})
            self.addCleanup(gateway.close)
            gateway.start()
            recipients = [f"user{number}@{name}.example" for number in range(30) for name in ("one", "other", "never")]
            with gateway.client() as client:
                client.hello()
                self.assertEqual(client.transfer(message(), "sender@client.example", recipients).code, 250)
            wait_until(lambda: sum(len(line["to"]) for line in other.messages()) >= 30, "all at the moody one", 60)
            notification, = gateway.wait_messages("sender", 1, "client.example")
            for number in range(30):
                self.assertIn(b"user%d@never.example" % number, notification)
            self.assertNotIn(b"other.example", notification)
            gateway.stop()
            first, = one.messages()
            self.assertEqual(len(first["to"]), 30)
            reached = [recipient.split()[0] for line in other.messages() for recipient in line["to"]]
            self.assertEqual(len(set(reached)), 30)
            self.assertEqual(len(reached), 30, "nobody twice")


if __name__ == "__main__":
    unittest.main()
