"""The 17 SMTP conversations of chasquid's own tests (Apache-2.0, read from ../shared/data), judged by
the class of each reply code, for texts and exact codes are chasquid's own. Where we answer in another
class, or cannot play a dialogue yet, it is listed here with its reason."""
import ast
import os
import unittest

from harness import Client, Gateway, data_path, split_delivered

FOLDER = data_path("smtp-dialogues-chasquid", "test", "t-12-minor_dialogs")
COUNT = 17

# Dialogues that need what is not offered on port 25 (yet).
SKIPPED = {
    "auth_multi_dialog": "submission with implicit TLS and AUTH: not offered yet",
    "auth_too_many_failures": "submission with implicit TLS and AUTH: not offered yet",
}

# (dialogue, number of the reply in it) -> class that we answer instead, and why.
EXCEPTIONS = {
    ("bad_data", 10): (2, "a line in the header section that is no field: RFC 5321 3.3 says that a "
                         "server SHOULD NOT reject mail for defects of its header or body"),
}

# Where the server may close without a word (HTTP on the SMTP port).
MAY_CLOSE = {"wrong_proto"}


def octets(text):
    """A chamuyero octet expression: quoted texts, `*` and `+`, nothing else."""

    def value(node):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, int)):
            return node.value
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return value(node.left) * value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return value(node.left) + value(node.right)
        raise ValueError(f"not an octet expression: {text}")

    return value(ast.parse(text.strip(), mode="eval").body).encode("utf-8")


def steps(path):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            if line.strip() and not line.startswith("#"):
                name, word, rest = (line.split(" ", 2) + [""])[:3]
                if name != "c":
                    raise ValueError(f"{path}:{number}: {line}")
                yield number, word, rest


@unittest.skipUnless(FOLDER, "skipped: ../shared/data/smtp-dialogues-chasquid is not there")
class ForeignDialogs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway(
            settings={"hostname": '"testserver"', "limits.message_size": '"1M"'},
            domains={"testserver": (["user", "user+*"], "maildir:{mail}/%d/%u")})
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def play(self, name):
        if name in SKIPPED:
            self.skipTest(f"skipped: {name}: {SKIPPED[name]}")
        path = os.path.join(FOLDER, name + ".cmy")
        before = self.gateway.count("user", "testserver")
        accepted, replies, client = 0, 0, None
        try:
            for number, word, rest in steps(path):
                if word == "tcp_connect":
                    if client:
                        client.close()
                    client = Client(self.gateway.address)
                elif word == "close":
                    client.close()
                elif word == "->":
                    client.send(rest.encode("utf-8") + b"\r\n")
                elif word == "~>":
                    client.send(octets(rest))
                elif word in ("<~", "<-", "<..."):
                    replies += 1
                    wanted = int(rest[0])
                    wanted = EXCEPTIONS.get((name, replies), (wanted,))[0]
                    try:
                        reply = client.reply()
                    except (EOFError, ConnectionError):
                        self.assertIn(name, MAY_CLOSE, f"{path}:{number}: closed")
                        continue
                    self.assertEqual(reply.code // 100, wanted, f"{path}:{number}: {rest}: {reply}")
                    previous = reply.code
                    accepted += previous == 250 and bool(reply.enhanced) and ended
                else:
                    self.fail(f"{path}:{number}: unknown word {word}")
                ended = word in ("->", "~>") and (rest == "." or rest.endswith("\\r\\n.\\r\\n'"))
        finally:
            if client:
                client.close()
        if accepted:
            found = self.gateway.wait_messages("user", before + accepted, "testserver")
            self.verify(path + ".verify", found)
        else:
            self.assertEqual(self.gateway.count("user", "testserver"), before)

    def verify(self, path, found):
        """chasquid's picture of the message that must arrive."""
        if not os.path.exists(path):
            return
        with open(path, "rb") as file:
            wanted = file.read().replace(b"\r\n", b"\n").strip()
        texts = [split_delivered(text)[2].replace(b"\r\n", b"\n").strip() for text in found]
        self.assertIn(wanted, texts)

    def test_none_is_missing(self):
        names = [name for name in os.listdir(FOLDER) if name.endswith(".cmy")]
        self.assertEqual(len(names), COUNT)
        self.assertEqual(set(SKIPPED) - {name[:-4] for name in names}, set())


def add(name):
    def test(self):
        self.play(name)

    test.__name__ = "test_" + name
    setattr(ForeignDialogs, test.__name__, test)


for each in sorted(os.listdir(FOLDER)) if FOLDER else ():
    if each.endswith(".cmy"):
        add(each[:-4])

if __name__ == "__main__":
    unittest.main()
