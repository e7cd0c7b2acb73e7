"""What an address router does: an alias to a foreign domain is followed by the MX of that, under a reverse-path of ours
(SRS), header and body untouched; what comes back to that address finds the sender, and nobody else can use it."""
import os
import unittest

from harness import Gateway, quote
from sink import Sink
from zones import NSD, NameServer

HOST = "127.77.1.1"
RECORDS = f"""
foreign.example. MX 10 mx.foreign.example.
mx.foreign.example. A {HOST}
"""
TEXT = b"From: s@client.example\r\nSubject:  odd   spaces\r\n\r\nbody\r\n. dots\r\n"


@unittest.skipUnless(os.path.exists(NSD), "skipped: no nsd")
class Forward(unittest.TestCase):
    def gateway(self, names, sink):
        secret = os.path.join(names.folder, "srs.key")
        with open(secret, "w", encoding="ascii") as file:
            file.write("tests only\n")
        os.chmod(secret, 0o600)
        gateway = Gateway(
            settings={"resolver.address": "{" + quote(names.text) + "}", "deliver.smtp_port": str(sink.address[1])},
            domains={name: (["*"], "maildir:{mail}/%d/%u") for name in ("example.org", "client.example")},
            more=('alias "sales@example.org" { to = {"alice@example.org", "team@foreign.example"} }\n'
                  f'srs {{ domain = "srs.example.org" secret = {quote(secret)} }}\n'))
        self.addCleanup(gateway.close)
        return gateway.start()

    def test_there_and_back(self):
        with NameServer(RECORDS) as names, Sink(addresses=(f"{HOST}:0",)) as sink:
            gateway = self.gateway(names, sink)
            with gateway.client() as client:
                client.hello()
                self.assertEqual(client.transfer(TEXT, "sender@client.example", ["sales@example.org"]).code, 250)
            kept, = gateway.wait_messages("alice", 1)
            self.assertTrue(kept.startswith(b"Return-Path: <sender@client.example>"), kept)
            self.assertTrue(kept.endswith(TEXT), kept)
            found, = sink.wait_messages(1)
            self.assertEqual(found["to"], ["<team@foreign.example> ORCPT=rfc822;sales@example.org"])
            sender = found["from"].split()[0].strip("<>")
            self.assertRegex(sender, r"^SRS0=[^=]+=[^=]+=client\.example=sender@srs\.example\.org$")
            with gateway.client() as client:
                client.hello()
                self.assertEqual(client.transfer(b"Subject: bounce\r\n\r\n\r\n", "", [sender]).code, 250)
                client.expect(250, "MAIL FROM:<>")
                client.expect(550, "RCPT TO:<" + sender.replace("sender", "victim") + ">")
                client.expect(550, "RCPT TO:<team@foreign.example>")
            back, = gateway.wait_messages("sender", 1, "client.example")
            self.assertIn(b"Subject: bounce", back)
            gateway.stop()


if __name__ == "__main__":
    unittest.main()
