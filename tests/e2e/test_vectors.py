"""The pure functions of parser/, asked through ringmx-vectors, against foreign data and second opinions.

- isemail: its 164 and 279 addresses, by the class of the reply code that MAIL and RCPT get.
- An oracle for addresses: the ABNF of RFC 5321 4.1.2 and 4.1.3 and RFC 6531 3.3, written as regular
  expressions and held against the parser on addresses made from that grammar, and broken ones.
- An oracle for the scanner: "find the end, undo the dots", on whole messages.
- Header fields of real mail: what Python's email package finds in them.

Environment: RINGMX_VECTORS, else the ringmx-vectors beside RINGMX_BIN, else build/ringmx-vectors.
RINGMX_SEED replays a run.
"""

import email
import email.policy
import glob
import json
import os
import random
import re
import subprocess
import unittest
import xml.etree.ElementTree

BESIDE = os.path.dirname(os.environ.get("RINGMX_BIN", "build/ringmx"))
PROGRAM = os.environ.get("RINGMX_VECTORS", os.path.join(BESIDE, "ringmx-vectors"))
DATA = os.path.abspath("../shared/data")
SEED = int(os.environ.get("RINGMX_SEED", random.SystemRandom().randrange(1 << 32)))


def ask_lines(lines):
    """Puts lines of bytes to the program, all at once; returns its answers."""
    done = subprocess.run([PROGRAM], input=b"".join(line + b"\n" for line in lines),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, check=False)
    if done.returncode != 0:
        raise AssertionError(f"ringmx-vectors: exit {done.returncode}\n{done.stderr.decode()}")
    return [json.loads(line) for line in done.stdout.split(b"\n") if line]


def ask(requests):
    answers = ask_lines([json.dumps(request).encode() for request in requests])
    if len(answers) != len(requests):
        raise AssertionError(f"{len(requests)} requests, {len(answers)} answers")
    return answers


def octets(answer, name):
    """A member that is text when it is UTF-8, and hexadecimal when it is not."""
    if name in answer:
        return answer[name].encode()
    return bytes.fromhex(answer[name + "_hex"])


# isemail --------------------------------------------------------------------------------------------

# What the suite says, and what RFC 5321 says about the same address. Each with the reason.
ISEMAIL_EXCEPTIONS = {
    # "[tag:...]" is a General-address-literal by 4.1.3, whose tag may be any Ldh-str: well formed,
    # though no such tag is registered. The parser takes it and says "general".
    ("tests.xml", "66"): True,
    ("tests-original.xml", "38"): True,
    # "::" beside seven groups, or five and an IPv4 tail, stands for one group. The suite takes that
    # as deprecated (RFC 5952 4.2.2); RFC 5321 4.1.3 has no form for it: '"::" represents at least 2
    # 16-bit groups of zeros', 'no more than 6 groups (4 before IPv4) in addition may be present'.
    ("tests-original.xml", "39"): False,
    ("tests-original.xml", "45"): False,
    ("tests-original.xml", "230"): False,
    ("tests-original.xml", "231"): False,
    ("tests-original.xml", "252"): False,
    ("tests-original.xml", "254"): False,
}
ISEMAIL_ACCEPTED = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
# A line with one of these is refused as a line (500) before anybody looks for an address in it.
NO_LINE = re.compile("[\0\r\n]")


def without_pictures(text):
    """Control characters stand in the suite as their pictures, U+2400 and up."""
    return "".join(chr(ord(c) - 0x2400) if 0x2400 <= ord(c) < 0x2420 else
                   "\x7f" if c == "\u2421" else c for c in text)


def isemail_cases(name):
    tree = xml.etree.ElementTree.parse(os.path.join(DATA, "isemail/test", name))
    for case in tree.getroot().iter("test"):
        address = without_pictures(case.findtext("address") or "")
        accepted = case.findtext("category") in ISEMAIL_ACCEPTED
        key = (name, case.get("id"))
        if key in ISEMAIL_EXCEPTIONS:
            if ISEMAIL_EXCEPTIONS[key] == accepted:
                raise AssertionError(f"{key}: the exception agrees with the suite")
            accepted = not accepted
        yield case.get("id"), address, accepted


@unittest.skipUnless(os.path.isdir(os.path.join(DATA, "isemail")), "../shared/data/isemail absent")
class Isemail(unittest.TestCase):
    def judge(self, name, count):
        cases = list(isemail_cases(name))
        self.assertEqual(len(cases), count)
        bare = ask([{"address": address} for _, address, _ in cases])
        mail = ask([{"command": f"MAIL FROM:<{address}>"} for _, address, _ in cases])
        rcpt = ask([{"command": f"RCPT TO:<{address}> NOTIFY=NEVER"} for _, address, _ in cases])
        for (number, address, accepted), *answers in zip(cases, bare, mail, rcpt):
            with self.subTest(suite=name, test=number, address=address):
                for answer in answers:
                    self.check(answer, address, accepted)

    def check(self, answer, address, accepted):
        codes = {250} if accepted else {501, 553}
        if "verb" in answer and NO_LINE.search(address):
            codes = {500}
        if answer.get("verb") == "MAIL" and address == "":
            codes = {250}  # "<>" is no mailbox, but the null reverse-path (RFC 5321 4.5.5)
        self.assertIn(answer["code"], codes)
        if accepted:
            self.assertEqual(octets(answer.get("address", answer), "text"), address.encode())

    def test_new_suite(self):
        self.judge("tests.xml", 164)

    def test_original_suite(self):
        self.judge("tests-original.xml", 279)


# The grammar of addresses, a second time -----------------------------------------------------------

UTF8 = (rb"(?:[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
        rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}"
        rb"|\xf4[\x80-\x8f][\x80-\xbf]{2})")
ATOM = rb"(?:[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]|" + UTF8 + rb")+"
DOT_STRING = ATOM + rb"(?:\." + ATOM + rb")*"
QUOTED = rb'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|' + UTF8 + rb'|\\[\x20-\x7e])*"'
LET_DIG = rb"(?:[A-Za-z0-9]|" + UTF8 + rb")"
LABEL = LET_DIG + rb"(?:(?:-|" + LET_DIG + rb")*" + LET_DIG + rb")?"
DOMAIN = LABEL + rb"(?:\." + LABEL + rb")*"
SNUM = rb"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]{1,2})"
IPV4 = SNUM + rb"(?:\." + SNUM + rb"){3}"
HEX = rb"[0-9A-Fa-f]{1,4}"
IPV6 = re.compile(
    rb"(?P<full>H(?::H){7})|(?P<comp>(?:H(?::H){0,5})?::(?:H(?::H){0,5})?)"
    rb"|(?P<fullv4>H(?::H){5}:V4)|(?P<compv4>(?:H(?::H){0,3})?::(?:H(?::H){0,3}:)?V4)"
    .replace(b"H", HEX).replace(b"V4", IPV4))
GENERAL = re.compile(rb"[A-Za-z0-9-]*[A-Za-z0-9]:[\x21-\x5a\x5e-\x7e]+")
MAILBOX = re.compile(rb"(?P<local>" + DOT_STRING + rb"|" + QUOTED + rb")@(?P<domain>" + DOMAIN +
                     rb"|\[(?P<literal>[^\]]*)\])", re.DOTALL)


def groups(text):
    return len([group for group in text.split(b":") if group and b"." not in group])


def literal_kind(text):
    if re.fullmatch(IPV4, text):
        return "ipv4"
    if text[:5].lower() == b"ipv6:":
        match = IPV6.fullmatch(text[5:])
        if not match or match["comp"] and groups(text[5:]) > 6 or \
                match["compv4"] and groups(text[5:]) > 4:
            return None
        return "ipv6"
    return "general" if GENERAL.fullmatch(text) else None


def expected(address, utf8):
    """What the parser must say: result, and kind when it is ok."""
    match = MAILBOX.fullmatch(address)
    if not match:
        return "bad", None
    kind = "name"
    if match["literal"] is not None:
        kind = literal_kind(match["literal"])
        if kind is None:
            return "bad", None
    elif any(len(label.decode()) > 63 for label in match["domain"].split(b".")):
        return "too-long", None
    if len(match["local"]) > 64 or len(match["domain"]) > 255 or len(address) > 254:
        return "too-long", None
    if max(address) > 127 and not utf8:
        return "utf8", None
    return "ok", kind


class Maker:
    """Addresses by the grammar, many of them at its edges, some of them then broken."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, *makers):
        return self.random.choice(makers)()

    def some(self, letters, low, high):
        return "".join(self.random.choices(letters, k=self.random.randint(low, high)))

    def atom(self):
        long = self.random.random() < 0.03
        return self.some("abzAZ09!#$%&'*+-/=?^_`{|}~" + "éß中𝄞" * (self.random.random() < 0.1),
                         1, 70 if long else 6)

    def quoted(self):
        inside = [self.random.choice(['a', ' ', '.', '@', '\\"', '\\\\', '\\ ', '>', 'é', '\\a'])
                  for _ in range(self.random.randint(0, 40))]
        return '"' + "".join(inside) + '"'

    def local(self):
        return self.pick(lambda: ".".join(self.atom() for _ in range(self.random.randint(1, 4))),
                         self.quoted)

    def label(self):
        length = self.random.choice([0, 0, 1, 5, 61, 62])
        inner = self.some("abcXYZ019-" + "é中" * (self.random.random() < 0.1), length, length)
        return self.some("aZ5", 1, 1) + inner + (self.some("bY6", 1, 1) if inner else "")

    def name(self):
        return ".".join(self.label() for _ in range(self.random.choice([1, 2, 3, 3, 8])))

    def ipv4(self):
        return ".".join(str(self.random.choice([0, 1, 10, 99, 249, 250, 255, 256, "007", "00", 300]
                                               if self.random.random() < 0.2 else [0, 1, 25, 255]))
                        for _ in range(self.random.choice([4, 4, 4, 4, 3, 5])))

    def ipv6(self):
        def run(count):
            return ":".join(self.some("0129abcdefF", 1, 4) for _ in range(count))
        tail = self.random.choice(["", "", ":" + self.ipv4()])
        before, after = self.random.randint(0, 6), self.random.randint(0, 6)
        return "IPv6:" + self.pick(lambda: run(8), lambda: run(6) + ":" + self.ipv4(),
                                   lambda: run(before) + "::" + run(after),
                                   lambda: run(before) + "::" + (run(after) + tail).lstrip(":"))

    def literal(self):
        return "[" + self.pick(self.ipv4, self.ipv6, self.ipv6, lambda: self.some("aZ9-", 1, 4) +
                               ":" + self.some("!aZ:~\"<>", 1, 5)) + "]"

    def address(self):
        made = bytearray((self.local() + "@" + self.pick(self.name, self.literal)).encode())
        if self.random.random() < 0.4:
            for _ in range(self.random.randint(1, 2)):
                at = self.random.randrange(len(made))
                value = self.random.choice(b'.@"\\[]<>: -:\0\r\n\x7f\x80\xc3\xed\xf4a5,')
                self.random.choice([lambda: made.insert(at, value), lambda: made.pop(at),
                                    lambda: made.__setitem__(at, value)])()
                if not made:
                    made = bytearray(b"@")
        return bytes(made)


class Grammar(unittest.TestCase):
    def test_addresses_against_the_abnf(self):
        maker = Maker(SEED)
        addresses = [maker.address() for _ in range(20000)]
        utf8 = [bool(i % 2) for i in range(len(addresses))]
        answers = ask([{"address_hex": address.hex(), "utf8": flag}
                       for address, flag in zip(addresses, utf8)])
        seen = set()
        for address, flag, answer in zip(addresses, utf8, answers):
            result, kind = expected(address, flag)
            self.assertEqual((answer["result"], answer.get("kind")), (result, kind),
                             f"{address!r}, utf8 {flag}, RINGMX_SEED={SEED}")
            seen.add((result, kind))
            if result != "ok":
                continue
            local, domain = octets(answer, "local"), octets(answer, "domain")
            self.assertEqual(local + b"@" + domain, address)
            meaning = re.sub(rb"(?s)\\(.)", rb"\1", local[1:-1]) if answer["quoted"] else local
            self.assertEqual(octets(answer, "unquoted"), meaning)
        # The maker reaches every answer that there is; else the test above would say little.
        self.assertEqual(seen, {("bad", None), ("too-long", None), ("utf8", None), ("ok", "name"),
                                ("ok", "ipv4"), ("ok", "ipv6"), ("ok", "general")})

    def test_paths_against_the_abnf(self):
        maker = Maker(SEED + 1)
        for _ in range(4):
            mailboxes = [maker.address() for _ in range(1000)]
            routes = [",".join("@" + maker.name() for _ in range(maker.random.randint(1, 3)))
                      for _ in mailboxes]
            paths = [b"<" + route.encode() + b":" + mailbox + b"> SIZE=1"
                     for route, mailbox in zip(routes, mailboxes)]
            answers = ask([{"address_hex": path.hex(), "utf8": True, "path": True}
                           for path in paths])
            for path, route, mailbox, answer in zip(paths, routes, mailboxes, answers):
                result, _ = expected(mailbox, True)
                hops = [hop[1:] for hop in route.split(",")]
                if result == "ok" and any(len(hop.encode()) > 255 or
                                          max(map(len, hop.split("."))) > 63 for hop in hops):
                    result = "too-long"
                if b">" in mailbox:
                    continue  # where the path ends is then another question, which fuzzing asks
                self.assertEqual(answer["result"], result, f"{path!r} RINGMX_SEED={SEED}")
                if result == "ok":
                    self.assertEqual(octets(answer, "text"), mailbox)
                    self.assertEqual(answer["used"], path.rindex(b">") + 1)


# The scanner ----------------------------------------------------------------------------------------

def scanned(data):
    """All of a message that has its end: text, octets taken. The end is looked for in the whole."""
    framed = b"\r\n" + data
    end = framed.index(b"\r\n.\r\n")
    return framed[:end + 2].replace(b"\r\n.", b"\r\n")[2:], end + 3


class Scanner(unittest.TestCase):
    def kinds(self):
        answers = {kind: ask([{"scan": "", "kind": kind}])[0]
                   for kind in ("scalar", "sse2", "avx2", "avx512", "neon")}
        usable = [kind for kind, answer in answers.items() if "error" not in answer]
        self.assertIn("scalar", usable)
        return usable

    def test_messages_against_the_whole(self):
        chance = random.Random(SEED + 2)
        kinds = self.kinds()
        messages = []
        for _ in range(3000):
            words = chance.choices([b"\r\n", b"\r", b"\n", b".", b"\r\n.", b"a" * 61, b"\0", b"\x80",
                                    b"text"], k=chance.randint(0, 30))
            messages.append(b"".join(words) + b"\r\n.\r\n" + b"QUIT\r\n")
        requests = [{"scan_hex": message.hex(), "kind": chance.choice(kinds), "splits": sorted(
            chance.choices(range(len(message) + 1), k=chance.randint(0, 9)))} for message in messages]
        for message, request, answer in zip(messages, requests, ask(requests)):
            text, taken = scanned(message)
            note = f"{request} RINGMX_SEED={SEED}"
            self.assertTrue(answer["ended"], note)
            self.assertEqual((answer["text"], answer["consumed"]), (text.hex(), taken), note)
            lines = re.sub(rb"\r\n", b"", message[:taken])
            self.assertEqual("bare-cr" in answer["seen"], b"\r" in lines, note)
            self.assertEqual("bare-lf" in answer["seen"], b"\n" in lines, note)
            self.assertEqual("nul" in answer["seen"], b"\0" in lines, note)
            self.assertEqual("8bit" in answer["seen"], b"\x80" in lines, note)


# Header fields --------------------------------------------------------------------------------------

# Real files where Python's email package is not the measure.
HEADER_EXCEPTIONS = {
    # "Fro :uMmlti Sender": white space before the colon, RFC 5322 4.5 obs-optional. Python takes the
    # line, and so the whole header section, for text.
    "eml-mail-parser/eml/malformed/019.eml",
    # The first line begins with a space: no field, so no header section. Python forgives it.
    "eml-enmime/low-quality/bad-header-start.raw",
}


def mail_files():
    for path in sorted(glob.glob(os.path.join(DATA, "eml-*/**"), recursive=True)):
        name = os.path.relpath(path, DATA)
        if os.path.isfile(path) and "LICENSE" not in name and not name.endswith("SOURCE.txt"):
            yield name, path


def canonical(text):
    """CR LF line ends, and no "From " line of an mbox."""
    if text.startswith(b"From "):
        text = text.partition(b"\n")[2]
    return re.sub(rb"\r*\n", b"\r\n", text)


@unittest.skipUnless(glob.glob(os.path.join(DATA, "eml-*")), "../shared/data/eml-* absent")
class Headers(unittest.TestCase):
    def test_fields_of_real_mail(self):
        chance = random.Random(SEED + 3)
        mails, requests = [], []
        for name, path in mail_files():
            with open(path, "rb") as file:
                mails.append((name, canonical(file.read())))
            cuts = range(len(mails[-1][1]) + 1)
            requests.append({"header_hex": mails[-1][1].hex(), "splits": sorted(
                chance.choices(cuts, k=50))})
        self.assertEqual(len(mails), 443)
        for (name, text), answer in zip(mails, ask(requests)):
            with self.subTest(mail=name, RINGMX_SEED=SEED):
                fields = [(octets(field, "name").lower(), octets(field, "value").lstrip(b" \t"))
                          for field in answer["fields"]]
                received = [field for field in fields if field[0] == b"received"]
                self.assertEqual(answer["watch"]["received_count"], len(received))
                self.assertEqual(answer["watch"]["len"], answer["used"])
                if name not in HEADER_EXCEPTIONS:
                    self.assertEqual(fields, self.fields_of_python(text))

    def fields_of_python(self, text):
        message = email.message_from_bytes(text, policy=email.policy.compat32)
        return [(name.lower().encode(), str(value).encode("ascii", "surrogateescape"))
                for name, value in message.raw_items()]


# The program itself ---------------------------------------------------------------------------------

class Program(unittest.TestCase):
    def test_a_wrong_line_is_answered_with_an_error(self):
        wrong = [b"", b"{", b"[]", b"7", b"{}", b'{"adress":"a@b"}', b'{"address":7}', b"\xff",
                 b'{"address_hex":"0"}', b'{"address_hex":"0g"}', b'{"address":"a@b","utf":true}',
                 b'{"address":"a@b","utf8":1}', b'{"address":"a@b","path":"x"}',
                 b'{"command":"NOOP","path":true}', b'{"scan":"ab","splits":[3]}',
                 b'{"scan":"ab","splits":[1,0]}', b'{"scan":"ab","splits":[-1]}',
                 b'{"scan":"ab","splits":7}', b'{"scan":"ab","splits":["1"]}',
                 b'{"scan":"ab","kind":"mmx"}', b'{"scan":"ab","kind":1}', b'{"scan":"ab","bdat":0}']
        answers = ask_lines(wrong + [b'{"address":"a@b.c","id":[1]}'])
        self.assertEqual(len(answers), len(wrong) + 1)
        for line, answer in zip(wrong, answers):
            self.assertEqual(list(answer), ["error"], line)
        self.assertEqual((answers[-1]["ok"], answers[-1]["id"]), (True, [1]))

    def test_codes_of_commands(self):
        cases = {"FOO": 500, "": 500, "MAIL": 501, "DATA x": 501, "MAIL FROM:<é@x.org>": 553,
                 "MAIL FROM:<é@x.org> SMTPUTF8": 250, "MAIL FROM:<> FOO=1": 555, "a\0b": 500,
                 "RCPT TO:<a@b> SIZE=1": 555, "RCPT TO:<a@b> NOTIFY=NEVER,DELAY": 501,
                 "MAIL FROM:<@a:b@c> SIZE=99999999999999999999": 250, "MAIL FROM: <>": 501}
        for (line, code), answer in zip(cases.items(), ask([{"command": line} for line in cases])):
            self.assertEqual(answer["code"], code, line)
        huge = ask([{"command": "MAIL FROM:<> SIZE=99999999999999999999"}])[0]
        self.assertEqual(huge["parameters"]["size"], str(2 ** 64 - 1))

    def test_examples_of_the_manual(self):
        """docs/vectors.md: each line after ">" is asked, and "<" must be its answer, member by member."""
        with open("docs/vectors.md", encoding="utf-8") as file:
            lines = [line.strip() for line in file]
        examples = [(line[2:], lines[i + 1][2:]) for i, line in enumerate(lines)
                    if line.startswith("> {")]
        self.assertGreater(len(examples), 8)
        answers = ask_lines([request.encode() for request, _ in examples])
        for (request, shown), answer in zip(examples, answers):
            self.assertEqual(answer, json.loads(shown), request)

    def test_help_and_version(self):
        for option, word in (("--help", "usage:"), ("--version", "ringmx-vectors ")):
            done = subprocess.run([PROGRAM, option], stdout=subprocess.PIPE, check=True, timeout=10)
            self.assertTrue(done.stdout.decode().startswith(word))
        done = subprocess.run([PROGRAM, "--no-such"], stderr=subprocess.PIPE, check=False, timeout=10)
        self.assertEqual(done.returncode, 64)


if __name__ == "__main__":
    unittest.main()
