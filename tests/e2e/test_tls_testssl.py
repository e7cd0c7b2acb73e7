"""testssl.sh, the judge that operators use, over STARTTLS and from the first octet: no finding above LOW but those
below, each with its reason. It takes 45 seconds, mostly of waiting."""
import json
import shutil
import subprocess
import unittest

import pki
from harness import Gateway, wait_until

PROGRAM = shutil.which("testssl") or shutil.which("testssl.sh")
ACCEPTABLE = ("OK", "INFO", "LOW", "DEBUG")
REASONS = {
    # id of a finding: (what it says, why it stays)
    "cipher_order": ("NOT a cipher order configured",
                     "all that is offered is good, so the client may choose what its hardware is fast with"),
    "cert_revocation": ("Neither CRL nor OCSP URI provided", "the test's own authority revokes nothing"),
    "sessionresumption_ticket": ("check failed because of connect problem",
                                 "its client may leave before the ticket comes with our first reply"),
}
WHAT = {  # listener -> checks
    "implicit": ("--protocols", "--std", "--pfs", "--server-preference", "--server-defaults", "--vulnerable"),
    "starttls": ("--protocols", "--vulnerable", "--starttls", "smtp"),  # with the ciphers of the other
}
# Findings that must be among the good ones, or the judge has not looked.
LOOKED = {
    "implicit": {"SSLv2", "SSLv3", "TLS1_2", "TLS1_3", "cipherlist_NULL", "cipherlist_aNULL", "cipherlist_STRONG",
                 "PFS", "cert_trust <cert#1>", "cert_trust <cert#2>", "cert_chain_of_trust <cert#1>", "heartbleed", "CCS",
                 "secure_renego", "secure_client_renego", "CRIME_TLS", "fallback_SCSV", "SWEET32", "FREAK"},
    "starttls": {"SSLv2", "SSLv3", "TLS1_2", "TLS1_3", "heartbleed", "CCS", "secure_renego",
                 "secure_client_renego", "CRIME_TLS"},
}


@unittest.skipUnless(PROGRAM, "skipped: testssl.sh is not installed")
class Judge(unittest.TestCase):
    def test_findings(self):
        authority = pki.authority()
        server = Gateway(
            certificates={key: authority.issue("mx.example.org", key=key, ends_d=90) for key in ("ecdsa", "rsa2048")},
            listeners={"starttls": {}, "implicit": {"tls": "implicit"}})
        self.addCleanup(server.close)
        server.start()
        running = {name: self.begin(server.at[name], authority, checks) for name, checks in WHAT.items()}
        for name, (process, path) in running.items():
            said, _ = process.communicate(timeout=400)
            with open(path, encoding="utf-8") as file:
                findings = json.load(file)
            with self.subTest(listener=name):
                self.judge(name, findings, said.decode("utf-8", "replace"))
        with server.client() as client:
            client.hello()
        wait_until(lambda: len(server.events("tls_failed")) > 10, "its odd handshakes in the log")
        server.stop()

    def begin(self, address, authority, checks):
        path = pki.place("findings.json")
        process = subprocess.Popen(
            [PROGRAM, "--jsonfile", path, "--warnings", "batch", "--color", "0", "--quiet", "--nodns", "none",
             "--add-ca", authority.path, "--ip", address[0], *checks, f"mx.example.org:{address[1]}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(process.kill)
        return process, path

    def judge(self, name, findings, said):
        good = {finding["id"] for finding in findings if finding["severity"] in ("OK", "INFO")}
        self.assertEqual(LOOKED[name] - good, set(), said)
        for finding in findings:
            if finding["severity"] in ACCEPTABLE:
                continue
            words, _ = REASONS.get(finding["id"].split(" ")[0], ("no reason", ""))
            self.assertEqual(finding["finding"], words, finding)
        by_id = {finding["id"]: finding["finding"] for finding in findings}
        self.assertRegex(by_id["TLS1_2"], "offered")
        self.assertRegex(by_id["TLS1_3"], "offered")
        for old in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
            self.assertEqual(by_id[old], "not offered", old)


if __name__ == "__main__":
    unittest.main()
