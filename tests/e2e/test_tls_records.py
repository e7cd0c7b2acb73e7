"""Records of TLS 1.3 and 1.2 after the handshake, made by hand (tls_wire.py): every size, every cut, what may come and
what may not, and how a connection ends. What ended wrongly is never kept."""
import random
import socket
import threading
import time
import unittest

import pki
from harness import SLOW, Gateway, message, seed, split_delivered
from tls_client import CIPHERS_12, TLS12, TLS13, SecureClient, check_failures, reset, tls_context, wait_event
from tls_wire import (ALERT, BAD_RECORD_MAC, CHANGE_CIPHER_SPEC, CLOSE_NOTIFY, DATA, DECODE_ERROR, HANDSHAKE,
                      KEY_UPDATE, KEY_UPDATE_ASK, NO_RENEGOTIATION, RECORD_OVERFLOW, UNEXPECTED_MESSAGE, USER_CANCELED,
                      WireClient)

VERSIONS = {"1.3": (TLS13, None), "1.2 GCM": (TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256"),
            "1.2 ChaCha": (TLS12, "ECDHE-ECDSA-CHACHA20-POLY1305")}
EMPTY_MAX, UPDATE_MAX, WARNING_MAX = 32, 32, 4  # docs/tls.md


class Records(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.seed = seed()
        authority = pki.authority()
        cls.gateway = Gateway(
            {"limits.min_data_rate": "0"},
            certificates={"ecdsa": authority.issue("mx.example.org"),
                          "rsa": authority.issue("mx.example.org", key="rsa2048")},
            listeners={"starttls": {}, "implicit": {"tls": "implicit"}})
        cls.addClassCleanup(cls.gateway.close)
        cls.gateway.start()

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()

    def setUp(self):
        self.failed, self.orderly = {}, {}  # sources -> what was done

    def tearDown(self):
        check_failures(self.gateway, self.failed, self.orderly)

    def connect(self, about="1.3", listener="implicit"):
        version, ciphers = VERSIONS.get(about, (TLS12, about))
        client = WireClient(self.gateway.at[listener], version, ciphers, implicit=listener == "implicit")
        self.addCleanup(client.close)
        client.hello()
        return client

    def begin_chunk(self, client, size, user):
        client.envelope("s@client.example", user + "@example.org")
        client.send(b"BDAT %d LAST\r\n" % size)

    def arrived(self, user, text):
        (_, _, found), = map(split_delivered, self.gateway.wait_messages(user, 1))
        self.assertEqual(len(found), len(text))
        self.assertTrue(found == text, "the text differs")

    # --- sizes -----------------------------------------------------------------------------------

    def text_of(self, size):
        chance = random.Random(f"{self.seed}/{size}")
        line = bytes(chance.randrange(33, 127) for _ in range(98)) + b"\r\n"
        text = (b"Subject: sizes\r\n\r\n" + line * (size // 100 + 1))[:max(size - 2, 0)]
        return (text[:-1] + b"." if text.endswith(b"\r") else text) + b"\r\n"  # no bare CR

    def send_sizes(self, user, about, sizes, **padding):
        client = self.connect(about)
        text = self.text_of(sum(sizes))
        self.begin_chunk(client, len(text), user)
        at, out = 0, []
        for size in sizes:
            out.append(client.wire.write.seal(DATA, text[at:at + size], **padding))
            at += size
        client.wire.raw.sendall(b"".join(out))
        client.expect(250)
        client.expect(221, "QUIT")
        self.assertEqual(client.wire.last_alert(), CLOSE_NOTIFY)
        self.arrived(user, text)
        return client.source

    def test_every_size(self):
        """1, 2, 3 ... octets a record, and the largest ones."""
        sizes = list(range(1, 400 if SLOW else 2000)) + list(range(16384 - 40, 16385))
        for number, about in enumerate(VERSIONS):
            with self.subTest(about):
                self.send_sizes(f"sizes{number}", about, sizes)

    def test_largest(self):
        for number, about in enumerate(VERSIONS):
            self.send_sizes(f"largest{number}", about, [16384] * (40 if SLOW else 300))

    def test_single_octets(self):
        for number, about in enumerate(VERSIONS):
            self.send_sizes(f"single{number}", about, [1] * 3000)

    def test_random_sizes_and_segments(self):
        chance = random.Random(self.seed)
        for number, about in enumerate(list(VERSIONS) * (1 if SLOW else 4)):
            client = self.connect(about, ("implicit", "starttls")[number % 2])
            text = self.text_of(chance.randrange(20000, 200000))
            user = f"random{number}"
            self.begin_chunk(client, len(text), user)
            at, out = 0, b""
            while at < len(text):
                size = int(2 ** chance.uniform(0, 14))
                out += client.wire.write.seal(DATA, text[at:at + size])
                at += size
            at = 0
            while at < len(out):
                size = int(2 ** chance.uniform(0, 16))
                client.wire.raw.sendall(out[at:at + size])
                at += size
            client.expect(250)
            self.arrived(user, text)

    def test_every_cut_of_a_record(self):
        """A record over two segments, cut at each place; and octet by octet."""
        for about in VERSIONS:
            client = self.connect(about)
            length = len(client.wire.write.seal(DATA, b"NOOP\r\n"))
            client.wire.write.sequence -= 1
            for at in range(1, length):
                record = client.wire.write.seal(DATA, b"NOOP\r\n")
                client.wire.raw.sendall(record[:at])
                time.sleep(0.0005)
                client.wire.raw.sendall(record[at:])
                client.expect(250)
            for octet in client.wire.write.seal(DATA, b"NOOP\r\n") + client.wire.write.seal(DATA, b"RSET\r\n"):
                client.wire.raw.sendall(bytes([octet]))
                time.sleep(0.0003)
            client.expect(250)
            client.expect(250)

    def test_commands_over_records(self):
        """Commands know nothing of records: cut anywhere, or many in one."""
        for about in VERSIONS:
            client = self.connect(about)
            group = b"NOOP\r\nRSET\r\nVRFY alice\r\nNOOP\r\n"
            for at in range(1, len(group)):
                client.wire.send(DATA, group[:at])
                client.wire.send(DATA, group[at:])
                for code in (250, 250, 252, 250):
                    client.expect(code)
            client.wire.send(DATA, group * 50)
            for _ in range(50):
                for code in (250, 250, 252, 250):
                    client.expect(code)

    def test_pipelined_messages(self):
        """Many messages at once, in records that end anywhere: while one waits for the disk the rest waits, too."""
        chance = random.Random(self.seed)
        for number, about in enumerate(VERSIONS):
            client = self.connect(about)
            user, count = f"piped{number}", 30
            texts = [b"Subject: %d\r\n\r\n" % n + self.text_of(chance.randrange(1000)) for n in range(count)]
            out = b""
            for text in texts:
                out += b"MAIL FROM:<s@client.example>\r\nRCPT TO:<%s@example.org>\r\nBDAT %d LAST\r\n" % (
                    user.encode(), len(text)) + text
            at, sealed = 0, b""
            while at < len(out):
                size = int(2 ** chance.uniform(0, 12))
                sealed += client.wire.write.seal(DATA, out[at:at + size])
                at += size
            client.wire.raw.sendall(sealed)
            for _ in range(3 * count):
                client.expect(250)
            found = sorted(split_delivered(text)[2] for text in self.gateway.wait_messages(user, count))
            self.assertEqual(found, sorted(texts))

    def test_padding(self):
        """RFC 8446 5.4: zeros behind the type, up to the largest record."""
        self.send_sizes("padded", "1.3", [1, 2, 3, 100, 16000, 16384 - 255], padding=255)
        client = self.connect()
        for length in (0, 1, 100, 16384 - 6):
            client.wire.send(DATA, b"NOOP\r\n", length)
            client.expect(250)

    def test_each_cipher(self):
        """Every cipher of TLS 1.2, with both kinds of certificate, in both directions."""
        for number, (cipher, name) in enumerate(CIPHERS_12.items()):
            with self.subTest(cipher):
                source = self.send_sizes(f"cipher{number}", cipher, [16384, 1, 5000])
                self.assertEqual(wait_event(self.gateway, source, "tls")["cipher"], name)

    # --- what may not come -----------------------------------------------------------------------

    def refused(self, client, *alerts):
        """The connection ends with one of the alerts, and the log says so once."""
        self.failed[client.source] = self.id()
        self.assertIn(client.wire.last_alert(), alerts)
        client.close()  # else the server lingers, and tells afterwards

    def test_too_long(self):
        for about in VERSIONS:
            with self.subTest(about):
                client = self.connect(about)
                client.wire.send(DATA, b"N" * 16385)
                self.refused(client, RECORD_OVERFLOW)
        client = self.connect()
        client.wire.send(DATA, b"NOOP\r\n", 16384)  # too long by its padding
        self.refused(client, RECORD_OVERFLOW)

    def test_too_long_announced(self):
        """A header that announces too much is refused at once, not waited for."""
        for about in VERSIONS:
            for length in (16641, 18433, 65535) if about == "1.3" else (18433, 65535):
                with self.subTest(about, length=length):
                    client = self.connect(about)
                    client.wire.raw.sendall(b"\x17\3\3" + length.to_bytes(2, "big"))
                    self.refused(client, RECORD_OVERFLOW)

    def test_too_short(self):
        for about in VERSIONS:
            for length in (0, 1, 7, 15, 16):
                with self.subTest(about, length=length):
                    client = self.connect(about)
                    client.wire.raw.sendall(b"\x17\3\3" + length.to_bytes(2, "big") + bytes(length))
                    self.refused(client, BAD_RECORD_MAC, DECODE_ERROR, RECORD_OVERFLOW)

    def test_every_bit_counts(self):
        """One bit changed anywhere in a record: not authentic."""
        for about in VERSIONS:
            length = len(self.connect(about).wire.write.seal(DATA, b"NOOP\r\n"))
            for at in range(0, length, 4 if SLOW else 1):
                with self.subTest(about, at=at):
                    client = self.connect(about)
                    record = bytearray(client.wire.write.seal(DATA, b"NOOP\r\n"))
                    record[at] ^= 1 << at % 8
                    if at == 3:
                        record[3] |= 0x80  # else the rest of a long record is waited for
                    client.wire.raw.sendall(record + (bytes(256) if at == 4 else b""))
                    self.refused(client, BAD_RECORD_MAC, RECORD_OVERFLOW, UNEXPECTED_MESSAGE, DECODE_ERROR, 70)

    def test_order(self):
        """Twice the same record, one left out, two exchanged."""
        for about in VERSIONS:
            for play in ((0, 0), (1,), (1, 0)):
                with self.subTest(about, play=play):
                    client = self.connect(about)
                    sealed = [client.wire.write.seal(DATA, b"NOOP\r\n") for _ in range(2)]
                    for number in play:
                        client.wire.raw.sendall(sealed[number])
                    if play[0] == 0:
                        client.expect(250)
                    self.refused(client, BAD_RECORD_MAC)

    def test_clear_inside(self):
        """What is not sealed is not taken, whatever it says it is."""
        for about in VERSIONS:
            for octets in (b"QUIT\r\n", b"\x15\3\3\0\2\1\0", b"\x17\3\3\0\6NOOP\r\n", b"\x16\3\3\0\4\0\0\0\0",
                           b"\x14\3\3\0\1\1", b"\x14\3\3\0\1\2", b"\x16\3\1\1\0\1\0\0\xfc\3\3" + bytes(250),
                           b"\x80\x2e\1\3\1" + bytes(60), b"\x63\3\3\0\1x", bytes(600)):
                with self.subTest(about, octets=octets[:12]):
                    client = self.connect(about)
                    client.wire.raw.sendall(octets)
                    # A short record in clear looks like one that is not authentic.
                    self.refused(client, BAD_RECORD_MAC, UNEXPECTED_MESSAGE, RECORD_OVERFLOW, DECODE_ERROR, 70)

    def test_wrong_types(self):
        """Sealed rightly, but of a type that may not come."""
        for about in VERSIONS:
            for kind, text in ((CHANGE_CIPHER_SPEC, b"\1"), (HANDSHAKE, b"\1\0\0\4abcd"), (24, b"\1\0\1x"),
                               (HANDSHAKE, b"\x14\0\0\x0c" + bytes(12)), (0, b"x"), (99, b"x"), (HANDSHAKE, b""),
                               (ALERT, b""), (ALERT, b"\2"), (HANDSHAKE, b"\x18"), (HANDSHAKE, b"\x18\0\0\1\2"),
                               (HANDSHAKE, b"\x18\0\0\1\0\x18\0\0\1\0"), (HANDSHAKE, b"\4\0\0\1x"),
                               (HANDSHAKE, b"\0\0\0\0"), (0, b""), (0, bytes(40))):
                with self.subTest(about, kind=kind, text=text[:10]):
                    client = self.connect(about)
                    client.wire.send(kind, text)
                    self.refused(client, UNEXPECTED_MESSAGE, DECODE_ERROR, NO_RENEGOTIATION, 47)

    def test_no_renegotiation(self):
        """TLS 1.2: a new ClientHello inside is refused, and nothing of it is done."""
        for about in ("1.2 GCM", "1.2 ChaCha"):
            client = self.connect(about)
            hello = b"\3\3" + bytes(32) + b"\0\0\4\xc0\x2b\0\xff\1\0"
            client.wire.send(HANDSHAKE, b"\1" + len(hello).to_bytes(3, "big") + hello)
            self.refused(client, NO_RENEGOTIATION)

    # --- what may come, with measure -------------------------------------------------------------

    def test_empty_records(self):
        """Records without text: some are taken, more than a few dozen in a row are not (they cost work, and bring
        nothing)."""
        for about in VERSIONS:
            with self.subTest(about):
                client = self.connect(about)
                for _ in range(6):
                    for _ in range(EMPTY_MAX):
                        client.wire.send(DATA, b"")
                    client.expect(250, "NOOP")
                try:
                    for _ in range(EMPTY_MAX + 1):
                        client.wire.send(DATA, b"")
                    client.wire.send(DATA, b"NOOP\r\n")
                except OSError:
                    pass
                self.refused(client, UNEXPECTED_MESSAGE)

    def test_key_updates(self):
        """RFC 8446 4.6.3: taken and, when asked for, answered; in DATA and BDAT, too."""
        client = self.connect()
        for round_number in range(1, 60):
            ask = round_number % 3 == 0
            client.wire.send(HANDSHAKE, KEY_UPDATE_ASK if ask else KEY_UPDATE)
            client.wire.write.update()
            client.expect(250, "NOOP")
        answers = [text for kind, text in client.wire.seen if kind == HANDSHAKE and text[:1] == b"\x18"]
        self.assertEqual(len(answers), 19)
        self.assertEqual(set(answers), {KEY_UPDATE}, "an answer that asks for an answer")
        text = self.text_of(5000)
        self.begin_chunk(client, len(text), "updated")
        for at in range(0, 5000, 500):
            client.wire.send(DATA, text[at:at + 500])
            client.wire.send(HANDSHAKE, KEY_UPDATE_ASK)
            client.wire.write.update()
        client.expect(250)
        self.arrived("updated", text)

    def test_many_key_updates(self):
        """More than 32 in a row are too many."""
        client = self.connect()
        for _ in range(UPDATE_MAX):
            client.wire.send(HANDSHAKE, KEY_UPDATE)
            client.wire.write.update()
        client.expect(250, "NOOP")
        try:
            for _ in range(UPDATE_MAX + 2):
                client.wire.send(HANDSHAKE, KEY_UPDATE_ASK)
                client.wire.write.update()
        except OSError:
            pass
        self.refused(client, UNEXPECTED_MESSAGE)

    def test_many_asks(self):
        """Asked for an update 30 times before it says anything, the server answers at least once, and in measure."""
        client = self.connect()
        for _ in range(30):
            client.wire.send(HANDSHAKE, KEY_UPDATE_ASK)
            client.wire.write.update()
        client.expect(250, "NOOP")
        client.expect(250, "NOOP")
        answers = [text for kind, text in client.wire.seen if kind == HANDSHAKE and text[:1] == b"\x18"]
        self.assertIn(len(answers), range(1, 31))

    def test_warnings(self):
        """TLS 1.2: a few warnings are let pass. In TLS 1.3 user_canceled is the only one."""
        client = self.connect("1.2 GCM")
        for _ in range(WARNING_MAX):
            client.wire.alert(NO_RENEGOTIATION, fatal=False)
        client.expect(250, "NOOP")
        for _ in range(WARNING_MAX + 2):
            try:
                client.wire.alert(NO_RENEGOTIATION, fatal=False)
            except OSError:
                break
        self.refused(client, UNEXPECTED_MESSAGE)
        client = self.connect()
        client.wire.alert(USER_CANCELED, fatal=False)
        client.expect(250, "NOOP")

    # --- the end ---------------------------------------------------------------------------------

    ENDS = ("close_notify", "end", "reset", "fatal alert", "half record", "bad record", "clear text", "close and end")

    def finish(self, client, how):
        """Ends a connection in a way; returns whether tls_failed must be told."""
        wire = client.wire
        if how in ("close_notify", "close and end"):
            wire.alert(CLOSE_NOTIFY, fatal=False)
        if how == "fatal alert":
            wire.alert(80)
        if how == "half record":
            wire.raw.sendall(wire.write.seal(DATA, b"more of the text\r\n.\r\n")[:-1])
        if how == "bad record":
            record = bytearray(wire.write.seal(DATA, b"more of the text\r\n.\r\n"))
            record[-1] ^= 1
            wire.raw.sendall(record)
        if how == "clear text":
            wire.raw.sendall(b"more of the text\r\n.\r\n" * 100)
        if how == "reset":
            reset(wire.raw)
            return False
        if how in ("end", "half record", "close and end"):
            wire.raw.shutdown(socket.SHUT_WR)
        wire.last_alert(5)
        wire.close()
        return how in ("fatal alert", "bad record", "clear text")

    def test_torn_messages(self):
        """In DATA, in BDAT, behind a whole BDAT, before the last dot: nothing is kept (docs/tls.md, 5)."""
        places = ("command", "data", "data almost", "chunk", "between chunks", "recipients")
        for about in VERSIONS:
            for place in places:
                for how in self.ENDS:
                    with self.subTest(about, place=place, how=how):
                        client = self.connect(about, ("implicit", "starttls")[len(how) % 2])
                        if place != "command":
                            client.envelope("torn@client.example", "torn@example.org")
                        if place.startswith("data"):
                            client.expect(354, "DATA")
                            client.send(b"Subject: torn\r\n\r\ntext\r\n" + (b".\r" if "almost" in place else b""))
                        elif place == "chunk":
                            client.send(b"BDAT 500 LAST\r\nSubject: torn\r\n\r\ntext\r\n")
                        elif place == "between chunks":
                            client.send(b"BDAT 17\r\nSubject: torn\r\n\r\n")
                            client.expect(250)
                        told = self.failed if self.finish(client, how) else self.orderly
                        told[client.source] = (about, place, how)
        with SecureClient(self.gateway.at["starttls"], tls_context()) as client:
            client.hello()
            client.transfer(message("whole"), recipients=["torn@example.org"])
        found = self.gateway.wait_messages("torn", 1)
        self.assertIn(b"Subject: whole", found[0])

    def test_close_notify_then_clear(self):
        """CVE-2026-45185: close_notify in the middle of BDAT or DATA, then clear text that would complete it."""
        for about in VERSIONS:
            for clear in (b"x", b"rest\r\n.\r\nQUIT\r\n", b"x" * 100, b"\r\nMAIL FROM:<evil@client.example>\r\n"):
                for start in (b"BDAT 120 LAST\r\nSubject: torn\r\n\r\nab", b"DATA\r\n"):
                    client = self.connect(about)
                    client.envelope("torn2@client.example", "torn2@example.org")
                    client.send(start)
                    if start == b"DATA\r\n":
                        client.expect(354)
                        client.send(b"Subject: torn\r\n\r\nab")
                    record = client.wire.write.seal(ALERT, bytes([1, CLOSE_NOTIFY]))
                    client.wire.raw.sendall(record + clear)
                    try:
                        client.wire.raw.sendall(clear)
                    except OSError:
                        pass
                    self.assertIn(client.wire.last_alert(5), (CLOSE_NOTIFY, None))
        with SecureClient(self.gateway.at["starttls"], tls_context()) as client:
            client.hello()
            client.transfer(message("whole"), recipients=["torn2@example.org"])
        self.assertIn(b"Subject: whole", self.gateway.wait_messages("torn2", 1)[0])

    def test_orderly_end(self):
        """QUIT: 221, close_notify, the end of the connection, in this order and with no record more; and a close_notify
        of the client alone is answered with ours."""
        for about in VERSIONS:
            client = self.connect(about)
            client.expect(221, "QUIT")
            self.assertEqual(client.wire.next(), (ALERT, bytes([1, CLOSE_NOTIFY])))
            self.assertIsNone(client.wire.next())
            client = self.connect(about)
            client.wire.alert(CLOSE_NOTIFY, fatal=False)
            self.assertEqual(client.wire.next(), (ALERT, bytes([1, CLOSE_NOTIFY])))
            self.assertIsNone(client.wire.next())

    def test_message_then_close_notify(self):
        """A message that is whole before the close_notify is kept, though nobody may hear of its 250."""
        for number, about in enumerate(VERSIONS):
            client = self.connect(about)
            client.envelope("s@client.example", f"last{number}@example.org")
            client.expect(354, "DATA")
            client.wire.raw.sendall(client.wire.write.seal(DATA, message("last") + b".\r\n")
                                    + client.wire.write.seal(ALERT, bytes([1, CLOSE_NOTIFY])))
            client.wire.last_alert(5)
            self.arrived(f"last{number}", message("last"))


class Resources(unittest.TestCase):
    """Few buffers, slow clients, deaf clients."""

    def gateway(self, settings):
        server = Gateway(settings, certificates={"mx": pki.authority().issue("mx.example.org")},
                         listeners={"starttls": {}, "implicit": {"tls": "implicit"}})
        self.addCleanup(server.close)
        return server.start()

    def connect(self, server, about="1.3"):
        client = WireClient(server.at["implicit"], *VERSIONS[about], implicit=True)
        self.addCleanup(client.close)
        client.hello()
        return client

    def test_few_buffers(self):
        """Records many times larger than a buffer, from more clients than there are buffers."""
        server = self.gateway({"io.buffers": "4", "io.buffer_size": '"1k"', "workers": "1"})
        clients = [self.connect(server, list(VERSIONS)[number % 3]) for number in range(12)]
        line = b"0123456789abcdef" * 6 + b"\r\n"
        text = b"Subject: few\r\n\r\n" + line * 1000
        sealed = []
        for number, client in enumerate(clients):
            client.envelope("s@client.example", f"few{number}@example.org")
            start = b"BDAT %d LAST\r\n" % len(text)
            record = client.wire.write.seal(DATA, start)
            for at in range(0, len(text), 16384):
                record += client.wire.write.seal(DATA, text[at:at + 16384])
            sealed.append(record)
        step = 3001
        for at in range(0, max(map(len, sealed)), step):
            for client, octets in zip(clients, sealed):
                client.wire.raw.sendall(octets[at:at + step])
        for number, client in enumerate(clients):
            client.expect(250)
            (_, _, found), = map(split_delivered, server.wait_messages(f"few{number}", 1))
            self.assertTrue(found == text, "the text differs")
            client.expect(221, "QUIT")
            self.assertEqual(client.wire.last_alert(), CLOSE_NOTIFY)
            client.close()
        server.stop()

    def test_half_records(self):
        """A record that never becomes whole: the time-outs of commands and of text hold, and are told inside."""
        server = self.gateway({"limits.command_timeout": '"1s"', "limits.data_timeout": '"1s"'})
        clients = []
        for about in VERSIONS:
            for place in ("command", "data", "chunk"):
                client = self.connect(server, about)
                if place != "command":
                    client.envelope("s@client.example", "half@example.org")
                if place == "data":
                    client.expect(354, "DATA")
                if place == "chunk":
                    client.send(b"BDAT 1000 LAST\r\n")
                record = client.wire.write.seal(DATA, b"NOOP\r\n" * 100)
                client.wire.raw.sendall(record[:5 if place == "command" else 300])
                clients.append(client)
        for client in clients:
            reply = client.reply()
            self.assertEqual((reply.code, reply.enhanced), (421, "4.4.2"))
            self.assertEqual(client.wire.last_alert(), CLOSE_NOTIFY)
            client.close()
        server.stop()
        self.assertEqual(server.count("half"), 0)

    def test_dripping_records(self):
        """A command's time is that of the whole command, however many records it drips in."""
        server = self.gateway({"limits.command_timeout": '"2s"'})
        client = self.connect(server)
        start = time.monotonic()
        while client.silent(0.1):
            client.wire.send(DATA, b"N")
            client.wire.send(HANDSHAKE, KEY_UPDATE)
            client.wire.write.update()
            self.assertLess(time.monotonic() - start, 6)
        reply = client.reply()
        self.assertEqual((reply.code, reply.enhanced), (421, "4.4.2"))
        client.close()
        server.stop()

    def test_deaf_client(self):
        """A client that sends commands and reads no replies is stopped by the window, and later served all of them."""
        server = self.gateway({})
        client = self.connect(server)
        count = 3000 if SLOW else 20000
        group = b"NOOP\r\n" * 1000
        replies = b""
        client.wire.raw.settimeout(20)

        def send():
            for _ in range(count // 1000):
                client.wire.send(DATA, group)

        thread = threading.Thread(target=send)
        thread.start()
        time.sleep(0.2)
        while replies.count(b"\n") < count:
            replies += client.wire.recv(65536)
        thread.join()
        self.assertEqual(set(replies.split(b"\r\n")[:-1]), {b"250 2.0.0 Ok"})
        client.close()
        server.stop()


if __name__ == "__main__":
    unittest.main()
