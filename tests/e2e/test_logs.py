"""The log as those who keep it see it: where it goes, floods, JSON whatever comes, sessions and messages that can be
followed, and docs/logs.md, which has every event."""
import glob
import json
import os
import re
import signal
import socket
import subprocess
import time
import unittest

from harness import BINARY, ROOT, SLOW, Client, Gateway, message, quote, wait_until

LEVELS = {"3": "error", "4": "warn", "6": "info", "7": "debug"}


class Outputs(unittest.TestCase):
    """A gateway with standard output and standard error in two files."""

    def start(self, **settings):
        gateway = Gateway(settings={f"log.{word}": value for word, value in settings.items()})
        self.addCleanup(gateway.close)
        gateway.write_configuration()
        paths = [os.path.join(gateway.directory, name) for name in ("out", "err")]
        files = [open(path, "ab") for path in paths]  # pylint: disable=consider-using-with
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            [BINARY, "-c", gateway.path], stdin=subprocess.DEVNULL, stdout=files[0], stderr=files[1])
        for file in files:
            file.close()
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.gateway, self.process = gateway, process

        def read(index):
            with open(paths[index], encoding="utf-8") as file:
                return file.read()
        self.out, self.err = lambda: read(0), lambda: read(1)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(60), 0)

    def test_stdout(self):
        self.start(output="stdout", format="json")
        wait_until(lambda: '"event":"start"' in self.out(), "the start")
        self.stop()
        events = [json.loads(line)["event"] for line in self.out().splitlines()]
        self.assertIn("stop", events)
        self.assertEqual(self.err(), "")

    def test_journal(self):
        self.start(output="journal")
        wait_until(lambda: "event=start " in self.err(), "the start")
        with open(self.gateway.path, "a", encoding="utf-8") as file:
            file.write("nonsense\n")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "stays in force" in self.err(), "the refusal")
        self.stop()
        self.assertEqual(self.out(), "")
        seen = set()
        for line in self.err().splitlines():
            match = re.match(r"<(\d)>time=\S+ level=(\w+) event=", line)
            self.assertIsNotNone(match, line)
            self.assertEqual(LEVELS[match.group(1)], match.group(2))
            seen.add(match.group(2))
        self.assertLessEqual({"info", "error"}, seen)

    def test_reload_changes_all(self):
        self.start(output="stderr")
        wait_until(lambda: "event=start " in self.err(), "the start")
        self.gateway.settings.update({"log.output": "stdout", "log.format": "json"})
        self.gateway.write_configuration()
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: '"event":"reloaded"' in self.out(), "the reload")
        before = self.err()
        self.stop()
        self.assertIn('"event":"stop"', self.out())
        self.assertEqual(self.err(), before)


class Floods(unittest.TestCase):
    def test_a_flood_is_summarised(self):
        """What clients can cause at will has so many lines a second; each is counted. Others are not touched."""
        count, bound = (60 if SLOW else 300), 5
        with Gateway(settings={"log.repeats": str(bound), "workers": "1", "limits.connections_per_ip": "1"}) as gateway:
            with Client(gateway.address) as first:
                first.expect(220)
                begun = time.monotonic()
                for _ in range(count):
                    with Client(gateway.address) as client:
                        client.expect(421)
                seconds = int(time.monotonic() - begun) + 2

                def told():
                    return sum(int(line["count"]) for line in gateway.events("repeated") if line["of"] == "refused")
                wait_until(lambda: len(gateway.events("refused")) + told() == count, "the sum")
                self.assertLessEqual(len(gateway.events("refused")), seconds * bound)
                self.assertGreater(told(), 0)
                self.assertEqual({line["level"] for line in gateway.events("repeated")}, {"warn"})

    def test_what_must_be_found_is_there(self):
        count = 30
        with Gateway(settings={"log.repeats": "1", "workers": "1"}) as gateway:
            with Client(gateway.address) as client:
                client.hello()
                for _ in range(count):
                    client.transfer(message())
            wait_until(lambda: len(gateway.events("delivered")) == count, "all deliveries")
            self.assertEqual(len(gateway.events("message")), count)
            self.assertEqual(gateway.events("repeated"), [])


class Followed(unittest.TestCase):
    def test_who_left_has_a_session(self):
        """Also the line of a message whose client has gone, and of a session that was ended for its manners."""
        with Gateway(settings={"limits.greet_delay": '"1s"'}) as gateway:
            with Client(gateway.address) as early:
                early.send(b"EHLO early.example\r\n")
                early.expect(554)
            with Client(gateway.address) as client:
                client.hello()
                client.envelope("a@client.example", "alice@example.org")
                client.expect(354, "DATA")
                client.send(message() + b".\r\n")
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            wait_until(lambda: gateway.events("delivered") and len(gateway.events("disconnect")) == 2, "the ends")
            sessions = [line["session"] for line in gateway.events("connect")]
            names = ("early_talker", "refused", "message", "disconnect")
            for line in gateway.events(*names):
                self.assertIn(line["session"], sessions, line)
            self.assertEqual({line["event"] for line in gateway.events(*names)}, set(names))
            for line in gateway.events("early_talker", "refused"):
                self.assertEqual(line["client"], "127.0.0.1")
            self.assertEqual(gateway.events("message")[0]["id"], gateway.events("delivered")[0]["id"])

    def test_json_whatever_comes(self):
        octets = [b"a%cb" % octet for octet in range(1, 256) if octet not in b"\r\n"]
        with Gateway(settings={"log.format": "json", "limits.bad_commands": "1000"}) as gateway:
            with Client(gateway.address) as client:
                client.hello()
                for odd in octets:
                    client.send(b'MAIL FROM:<"' + odd + b'"@client.example> SMTPUTF8\r\n'
                                b"RCPT TO:<alice@example.org>\r\nDATA\r\n")
                    if client.reply().code == 250:
                        client.expect(250)
                        client.expect(354)
                        client.send(b"\r\n.\r\n")
                        client.expect(250)
                    else:
                        client.reply()
                        client.reply()
            wait_until(lambda: '"disconnect"' in gateway.log_text(), "the end")
            for line in gateway.log_text().splitlines():
                json.loads(line)
            self.assertGreater(len(gateway.events("message")), 90)


# Where an event is no constant in the call: the names that it may have.
VARIABLE = {
    "gateway/deliver/client.c": ("client.opened", "client.closed"),
    "gateway/deliver/outcome_log.c": ("refused", "held", "expired", "deferred", "delivered", "removed", "through_doubt",
                                      "through_deferred", "through_refused", "through_failed"),
    # and gateway_say and gateway_say_lines, whose callers are looked at
    "gateway/gateway.c": ("srs_warning", "submission_warning"),
    "gateway/gateway_reload.c": ("reload_failed", "reload_needs_restart"),
    "gateway/receive/server_log.c": ("login", "login_failed"),
}
OTHER = ("gateway/base/log_line.c",         # the log itself
         "gateway/receive/trace_session.c")  # what it writes is not for the log: docs/control.md
CALL = re.compile(r"(?<![\w.>])(log_begin(?:_often|_audit)?|log_message|gateway_say(?:_lines)?)\(([^;{]*)[;{]")


def events_of_sources():
    """All events with their places; the second value: calls whose event could not be read."""
    found, unknown = {}, []
    for path in sorted(glob.glob(os.path.join(ROOT, "gateway", "**", "*.c"), recursive=True)):
        name = os.path.relpath(path, ROOT)
        if name in OTHER:
            continue
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for names in VARIABLE.get(name, ()):
            assert f'"{names}"' in text, f"{name} has no {names} any more"
            found.setdefault(names, name)
        for match in CALL.finditer(text):
            arguments = re.sub(r"\s+", " ", match.group(2))
            event = re.match(r'(?:[^",]|"[^"]*")+, [^",]*, "([a-z0-9_.]+)"', arguments)
            if event:
                found.setdefault(event.group(1), name)
            elif name not in VARIABLE and not arguments.startswith("struct "):
                unknown.append(f"{name}: {match.group(0)[:80]}")
    return found, unknown


class Page(unittest.TestCase):
    def test_every_event_is_on_the_page(self):
        found, unknown = events_of_sources()
        self.assertEqual(unknown, [])
        self.assertGreater(len(found), 60)
        with open(os.path.join(ROOT, "docs", "logs.md"), encoding="utf-8") as file:
            rows = [line.split("|")[1] for line in file if line.startswith("| `")]
        documented = {name for row in rows for name in re.findall(r"`([a-z0-9_.]+)`", row)}
        self.assertEqual({f"{name} ({path})" for name, path in found.items() if name not in documented}, set())
        self.assertEqual(documented - set(found), set(), "the program writes these no more")


if __name__ == "__main__":
    unittest.main()
