"""A gateway that signs what its users send: keys made by ringmxctl, in its own folder; `records` has what DNS would."""
import json
import os
import subprocess

import pki
import submitters
from harness import BINARY, stuff

TOOL = os.path.join(os.path.dirname(BINARY), "ringmxctl")
RSA, ED25519 = "r2026", "e2026"


def run_tool(*words):
    return subprocess.run([TOOL, "dkim", *words], check=False, capture_output=True, text=True)


class Signer:
    """`domains` are signed with both keys. TLS is there so that there are helpers, as everywhere."""

    def __init__(self, domains=("example.org",), helpers=True, settings=None):
        certificates = {"one": pki.authority().issue("mx.example.org")} if helpers else {}
        listeners = {"tls": {"role": "submission", "tls": "implicit"}} if helpers else {}
        self.gateway = submitters.gateway(
            settings={"submission.from": "any", **(settings or {})}, listeners=listeners, certificates=certificates)
        self.folder = os.path.join(self.gateway.directory, "dkim")
        os.mkdir(self.folder, 0o700)
        self.records, self.texts = {}, {}
        self.make(RSA, "rsa")
        self.make(ED25519, "ed25519")
        self.use(domains, RSA, ED25519)

    def make(self, selector, kind):
        made = run_tool("key", "example.org", "--selector", selector, "--type", kind, "-d", self.folder, "--json")
        assert made.returncode == 0, made.stderr
        self.texts[selector] = json.loads(made.stdout)["text"]

    def use(self, domains, *selectors):
        """These keys from the next start or reload on."""
        keys = ", ".join(f'"{selector}:dkim/example.org.{selector}.key"' for selector in selectors)
        self.gateway.more = "".join(f'dkim "{domain}" {{ keys = {{{keys}}} }}\n' for domain in domains)
        for domain in domains:
            for selector in selectors:
                self.records[f"{selector}._domainkey.{domain}"] = self.texts[selector]

    def client(self, **options):
        return submitters.Submitter(self.gateway.at["submission"], **options)


def send(client, text, recipient="box@example.org", options=" BODY=8BITMIME", sender="alice@example.org"):
    client.expect(250, f"MAIL FROM:<{sender}>{options}")
    client.expect(250, f"RCPT TO:<{recipient}>")
    client.expect(354, "DATA")
    client.send(stuff(text) + b".\r\n")
    return client.expect(250)
