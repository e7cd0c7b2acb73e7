"""Messages with many recipients on their way to next hops: how they are parted, that every recipient gets exactly one
copy however often parts of it are deferred, what a reload and a restart make of parts that are under way, and how
long a stop waits for them."""
import signal
import time
import unittest

from harness import SLOW, Gateway, wait_until
from sink import Sink

TEXT = b"Subject: parts\r\n\r\nhello\r\n"


def target(sink, scheme="smtp"):
    host, port = sink.address
    return f"{scheme}:{host}:{port}"


def recipients_of(sink):
    """Who got a copy, once for each copy."""
    return sorted(line.split(">")[0].strip("<") for message in sink.messages() for line in message["to"])


class Consignments(unittest.TestCase):
    def send(self, gateway, recipients, sender="s@client.example", text=TEXT):
        with gateway.client() as client:
            client.hello("client.example")
            reply = client.transfer(text, sender, recipients)
            self.assertEqual(reply.code, 250, reply)

    def wait_delivered(self, gateway, count):
        """Until the log says so for that many recipients; it must not say more."""
        wait_until(lambda: len(gateway.events("delivered")) >= count, f"{count} recipients delivered")
        self.assertEqual(len(gateway.events("delivered")), count)

    def test_more_than_a_transaction_takes(self):
        users = [f"u{number}@example.org" for number in range(730)]
        with Sink() as sink, Gateway(domains={"example.org": (["*"], target(sink))},
                                     settings={"limits.recipients": "1000"}) as gateway:
            self.send(gateway, users)
            self.wait_delivered(gateway, len(users))
            self.assertEqual(recipients_of(sink), sorted(users))
            sizes = sorted(len(message["to"]) for message in sink.messages())
            self.assertEqual(sizes, [30] + 7 * [100])

    def test_each_recipient_once_however_often_deferred(self):
        """Half of all RCPT are deferred by two next hops, and one by LMTP defers at the end of the text."""
        domains, wanted = {}, []
        with Sink("--tempfail", "rcpt=50%") as one, Sink("--tempfail", "rcpt=50%", "--seed", "7") as two, \
                Sink("--lmtp", "--tempfail", "dot=50%") as three:
            for name, hop in (("one", target(one)), ("two", target(two)), ("three", target(three, "lmtp"))):
                domains[f"{name}.example"] = (["*"], hop)
            domains["box.example"] = (["*"], "maildir:{mail}/%d/%u")
            with Gateway(domains=domains, more='queue { schedule = {"1s"} }\n') as gateway:
                for number in range(5 if SLOW else 20):
                    users = [f"u{number}x{place}@{name}.example" for place in range(5)
                             for name in ("one", "two", "three", "box")]
                    wanted += users
                    self.send(gateway, users)
                wait_until(lambda: len(gateway.events("delivered")) >= len(wanted), "all delivered", 60)
                got = recipients_of(one) + recipients_of(two) + recipients_of(three)
                self.assertEqual(sorted(got), sorted(user for user in wanted if "box" not in user))
                self.assertGreater(len(gateway.events("deferred")), len(wanted) // 8)
                for line in gateway.events("deferred"):
                    self.assertTrue(line["reply"].startswith("45"), line)
                time.sleep(0.1)
                gateway.stop()
                self.assertEqual(gateway.events("refused", "expired", "held"), [])
                gateway.start()  # nothing is left in the spool
                time.sleep(0.3)
                self.assertEqual(gateway.events("delivered", "deferred"), [])

    def test_reload_while_a_part_is_under_way(self):
        """Two parts wait where nobody listens and one is in a transaction when the routes change: that ends as it began,
        the others go the new ways, and what they have in common goes together."""
        with Sink("--delay", "dot=2s") as slow, Sink() as new, Gateway(
                domains={"slow.example": (["*"], target(slow)), "dead.example": (["*"], "smtp:127.0.0.1:1"),
                         "mute.example": (["*"], "lmtp:127.0.0.1:1")},
                more='queue { schedule = {"10m"} }\n') as gateway:
            self.send(gateway, ["a@slow.example", "b@dead.example", "c@mute.example", "d@slow.example"])
            wait_until(lambda: len(gateway.events("deferred")) >= 2, "two parts deferred")
            gateway.domains = {name: (["*"], target(new)) for name in gateway.domains}
            gateway.write_configuration()
            gateway.signal(signal.SIGHUP)
            wait_until(lambda: gateway.events("reloaded"), "the reload")
            self.wait_delivered(gateway, 4)
            self.assertEqual(recipients_of(slow), ["a@slow.example", "d@slow.example"])
            self.assertEqual(recipients_of(new), ["b@dead.example", "c@mute.example"])
            self.assertEqual(len(new.messages()), 1)

    def test_restart_with_parts_left(self):
        with Sink() as sink, Sink("--tempfail", "mail") as later:
            gateway = Gateway(domains={"now.example": (["*"], target(sink)), "later.example": (["*"], target(later))},
                              more='queue { schedule = {"1s", "2s"} }\n')
            with gateway:
                for number in range(30):
                    self.send(gateway, [f"u{number}@now.example", f"u{number}@later.example"])
                self.wait_delivered(gateway, 30)
                gateway.stop()
                gateway.domains["later.example"] = (["*"], target(sink))
                gateway.start()
                self.wait_delivered(gateway, 30)
                self.assertEqual(recipients_of(sink), sorted(f"u{number}@{name}.example" for number in range(30)
                                                             for name in ("now", "later")))

    def test_stop_waits_for_what_is_under_way(self):
        with Sink("--delay", "dot=1s") as sink:
            gateway = Gateway(domains={"example.org": (["*"], target(sink))})
            with gateway:
                self.send(gateway, ["a@example.org"])
                time.sleep(0.3)
                gateway.stop()
                self.assertEqual(len(gateway.events("delivered")), 1)
                gateway.start()
                time.sleep(0.3)
                self.assertEqual(gateway.events("delivered"), [])
            self.assertEqual(recipients_of(sink), ["a@example.org"])

    def test_stop_does_not_wait_for_ever(self):
        with Sink("--delay", "dot=60s") as sink:
            with Gateway(domains={"example.org": (["*"], target(sink))}) as gateway:
                self.send(gateway, ["a@example.org"])
                time.sleep(0.3)
                begun = time.monotonic()
                gateway.stop()
                self.assertLess(time.monotonic() - begun, 16)
                self.assertEqual(gateway.events("delivered"), [])
                gateway.domains["example.org"] = (["*"], "maildir:{mail}/%d/%u")
                gateway.start()
                gateway.wait_messages("a", 1)


if __name__ == "__main__":
    unittest.main()
