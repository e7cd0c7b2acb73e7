"""The command line of ringmxctl, without a gateway."""
import os
import subprocess
import unittest

from harness import BINARY, PATIENCE_S

PROGRAM = os.path.join(os.path.dirname(BINARY), "ringmxctl")


class CommandLine(unittest.TestCase):
    def run_tool(self, *words):
        return subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    def test_help_and_version(self):
        self.assertIn("usage: ringmxctl", self.run_tool("--help").stdout)
        self.assertRegex(self.run_tool("--version").stdout, r"^ringmxctl \d+\.\d+\.\d+\n$")

    def test_wrong_words(self):
        for words in ((), ("queue",), ("queue", "explode"), ("explode",), ("queue", "show"), ("queue", "hold"),
                      ("queue", "list", "no-id"), ("queue", "list", "--older-than", "2x"), ("--nonsense",),
                      ("queue", "list", "--limit", "0"), ("queue", "list", "--domain", ""), ("destinations", "x"),
                      ("status", "--all"), ("queue", "list", "--older-than", "99999999999999999999d")):
            done = self.run_tool(*words)
            self.assertEqual(done.returncode, 64, words)
            self.assertIn("ringmxctl: ", done.stderr)

    def test_no_gateway(self):
        self.assertEqual(self.run_tool("-s", "/nonexistent/control", "status").returncode, 69)
        self.assertEqual(self.run_tool("-s", "x" * 200, "status").returncode, 69)


if __name__ == "__main__":
    unittest.main()
