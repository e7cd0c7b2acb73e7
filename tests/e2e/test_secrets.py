"""Passwords that users have said, right or wrong, whole or not, are nowhere when they were read."""
import unittest

from harness import SLOW, wait_until
from logins import ALICE, BOB, b64, plain, scram_sha256, sha512
from residue import found_in, shapes
from sasl import Scram
from test_auth import Case


class Secrets(Case):
    @unittest.skipIf(SLOW, "skipped: sanitizers keep copies, and reserve terabytes")
    def test_memory(self):
        """No password stays in the memory of the process, or comes to a log: in clear and in TLS, by any mechanism, right
        or wrong, in pieces, too long, cut off."""
        secrets = ["Zwiebelturm-%d-Regenrinne" % number for number in range(13)]
        users = {ALICE[0]: sha512(secrets[0]), BOB[0]: scram_sha256(secrets[1])}
        with self.submission({"auth.delay_ms": "0", "log.level": "debug", "auth.failures_per_ip": "0"}, users=users) as gateway:
            for client in (self.clear(gateway), self.secure(gateway), self.secure(gateway, "starttls")):
                self.say(client, "AUTH PLAIN " + plain("nobody", secrets[2]), 535)
                self.say(client, "AUTH LOGIN " + b64("bob"), 334)
                self.say(client, b64(secrets[3]), 535)
                self.say(client, "AUTH LOGIN", 334)
                self.say(client, b64(secrets[4]), 334)  # in the wrong field
                self.say(client, "*", 501)
                self.say(client, "AUTH PLAIN", 334)
                client.send_split((plain("alice", secrets[5]) + "\r\n").encode(), [1] * 200)
                self.assertEqual(client.reply().code, 535)
                self.say(client, b64(secrets[6]), 500)  # no response: nobody has asked
                self.say(client, "AUTH PLAIN " + b64(secrets[7] + "x" * 6000 + "\0\0"), 501)
                client.send(("AUTH PLAIN " + (b64(secrets[8] + "--") * 500) + "\r\n").encode())
                self.assertEqual(client.reply().code, 500)
                self.say(client, "AUTH PLAIN " + plain(ALICE[0], secrets[0]), 235)
                self.say(client, "AUTH PLAIN " + plain(ALICE[0], secrets[0]), 503)
            for client in (self.clear(gateway), self.secure(gateway)):
                scram = Scram(BOB[0], secrets[1])
                reply = self.say(client, "AUTH SCRAM-SHA-256 " + b64(scram.first()), 334)
                self.say(client, self.last(scram, reply), 334)
                self.say(client, "", 235)
            for client in (self.clear(gateway), self.secure(gateway)):
                client.send(("AUTH PLAIN " + b64(secrets[9] + "---")).encode())  # and no more
                client.close()
            client = self.clear(gateway)
            client.send(("AUTH PLAIN\r\n" + b64(secrets[10]) + "\r\n").encode())
            self.assertEqual(client.reply().code, 554)
            client = self.clear(gateway)
            self.say(client, "AUTH PLAIN " + plain(BOB[0], secrets[1]), 235)
            wait_until(lambda: len(gateway.events("disconnect")) >= 3, "the end of those that were cut off")
            for client in [self.clear(gateway) for _ in range(6)]:  # the last to put a line aside, in each worker
                line = f"AUTH PLAIN {plain('alice', secrets[11])}\r\n".encode()
                client.send_split(line, [len(line) - 8], 0.02)
                self.assertEqual(client.reply().code, 535)
            left = len(gateway.events("disconnect"))
            cut = [self.clear(gateway) for _ in range(6)]  # nobody puts a line aside after these
            for client in cut:
                client.send(("AUTH PLAIN " + b64(secrets[12] + "---")).encode())
            for client in cut:
                client.close()
            wait_until(lambda: len(gateway.events("disconnect")) >= left + 6, "the end of those, too")
            forms = [form for secret in secrets for form in shapes(secret)]
            self.assertEqual(found_in(gateway.process.pid, [b"Regenrinnenprobe"]), set())
            self.assertEqual(found_in(gateway.process.pid, [ALICE[0].encode()]), {ALICE[0].encode()})  # it does look
            self.assertEqual(found_in(gateway.process.pid, forms), set())
            told = gateway.log_text().encode()
            self.assertEqual([form for form in forms if form in told and form != secrets[4].encode()], [])


if __name__ == "__main__":
    unittest.main()
