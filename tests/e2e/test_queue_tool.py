"""ringmxctl and the control socket: what waits is shown as it is, what is done to it is done, and nobody who talks to
the socket, or falls silent, can hold up anybody else."""
import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time
import unittest

from harness import BINARY, FLAVOUR, PATIENCE_S, SLOW, Client, Gateway, message, quote, wait_until
from reports import Hop
from sink import Sink

PROGRAM = os.path.join(os.path.dirname(BINARY), "ringmxctl")
LOAD = os.path.join(os.path.dirname(BINARY), "ringmx-load")


def closed_port():
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Tool(unittest.TestCase):
    """Three domains at next hops that refuse connections: two at one of them, and one at another."""
    settings = {}

    def setUp(self):
        shared, other = closed_port(), closed_port()
        self.gateway = Gateway(
            settings={"queue.schedule": '{"1h"}', **self.settings},
            domains={"example.org": (["*"], "maildir:{mail}/%d/%u"),
                     "one.example": (["*"], f"smtp:127.0.0.1:{shared}"),
                     "two.example": (["*"], f"smtp:127.0.0.1:{shared}"),
                     "other.example": (["*"], f"smtp:127.0.0.1:{other}")})
        self.addCleanup(self.gateway.close)
        self.path = os.path.join(self.gateway.directory, "control")
        self.gateway.settings["admin.control"] = quote(self.path)
        self.shared = f"smtp:127.0.0.1:{shared}"
        self.other = f"smtp:127.0.0.1:{other}"

    def start(self):
        return self.gateway.start()

    def stop(self):
        self.gateway.stop()

    def run_tool(self, *words, code=0, path=None):
        """The output of ringmxctl, which must end with this code."""
        done = subprocess.run([PROGRAM, "-s", path or self.path, *words], capture_output=True, text=True, check=False,
                              timeout=PATIENCE_S * 3)
        self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        self.said = done.stderr
        return done.stdout

    def objects(self, *words, code=0):
        return [json.loads(line) for line in self.run_tool(*words, "--json", code=code).splitlines()]

    def rows(self, *words):
        return self.objects("queue", "list", *words)

    def send(self, *recipients, sender="sender@client.example", subject="test", size=0):
        """One message; returns its id."""
        with self.gateway.client() as client:
            client.hello()
            reply = client.transfer(message(subject, "x" * 70 + "\r\n" if size == 0 else "x\r\n" * (size // 3)),
                                    sender=sender, recipients=recipients)
            self.assertEqual(reply.code, 250)
            return re.search(r"queued as (\w+)", reply.text)[1]

    def wait_failed(self, count):
        """Until so many entries have had an attempt that failed."""
        return wait_until(lambda: (rows := self.rows()) and len(rows) == count
                          and all(row["reason"] for row in rows) and rows, f"{count} entries with a reason")


class Shows(Tool):
    def test_list_and_show(self):
        self.start()
        self.assertEqual(self.run_tool("queue", "list"), "nothing is queued\n")
        self.assertEqual(self.rows(), [])
        before = time.time()
        first = self.send("a@one.example", "b@other.example", "c@two.example", "here@example.org")
        rows = {row["destination"]: row for row in self.wait_failed(2)}
        row = rows[self.shared]
        self.assertEqual(row["id"], first)
        self.assertEqual(row["from"], "sender@client.example")
        self.assertEqual(row["to"], ["a@one.example", "c@two.example"])
        self.assertEqual((row["recipients"], row["attempts"], row["state"]), (2, 1, "waiting"))
        self.assertIn("refused", row["reason"].lower())
        self.assertLessEqual(abs(row["arrived"] - before), 5)
        self.assertTrue(3590 <= row["next"] - before <= 3600 * 1.25 + 5, row)
        self.assertEqual(rows[self.other]["to"], ["b@other.example"])

        shown = self.objects("queue", "show", first)
        self.assertEqual(len(shown), 2)
        self.assertIn("Subject: test\r\n", shown[0]["header"])
        self.assertTrue(shown[0]["header"].startswith("Received: "))
        text = self.run_tool("queue", "show", first)
        for wanted in (first, "a@one.example", "b@other.example", "    Subject: test", "1 attempt, next in"):
            self.assertIn(wanted, text)
        missing = {"id": "aaaaaaaaaaaaa", "trouble": "missing"}
        self.assertEqual(self.objects("queue", "show", "aaaaaaaaaaaaa", code=1), [missing])
        self.assertEqual(self.objects("queue", "show", "aaaaaaaaaaaaa", first, code=1), [*shown, missing])
        self.assertIn("c@two.example", self.run_tool("queue", "show", first, "aaaaaaaaaaaaa", code=1))
        self.assertEqual(self.said, "aaaaaaaaaaaaa: is not in the queue\n")
        self.assertEqual(self.run_tool("queue", "list", "aaaaaaaaaaaaa", "--domain", "one.example", code=1),
                         "nothing is queued\n")
        # An id that is there and does not fit is not missing.
        self.assertEqual(self.rows(first, "--domain", "nowhere.example"), [])
        self.stop()

    def test_columns(self):
        self.start()
        self.send("a@one.example")
        self.send("someone.with.a.long.name@other.example", sender="")
        self.wait_failed(2)
        lines = self.run_tool("queue", "list").splitlines()
        heads = lines[0]
        self.assertRegex(heads, r"^ID +AGE +SIZE +STATE +TRIES +NEXT +FROM > TO$")
        place = heads.index("FROM")
        for line in lines[1::2]:
            self.assertEqual(line[place - 2:place], "  ", line)
            self.assertRegex(line[place:], r"^(sender@client.example|<>) > \S+$")
        for line in lines[2::2]:
            self.assertRegex(line, "^ {%d}smtp:127.0.0.1:" % place)
        self.stop()

    def test_filters(self):
        self.start()
        one = self.send("a@one.example", sender="bob@b.example")
        two = self.send("a@ONE.example", "x@two.example", sender="Carol@b.example")
        other = self.send("a@other.example", sender="")
        self.wait_failed(3)

        def ids(*words):
            return {row["id"] for row in self.rows(*words)}

        self.assertEqual(ids(), {one, two, other})
        self.assertEqual(ids(one, other), {one, other})
        self.assertEqual(ids(one.upper()), {one})
        self.assertEqual(ids("--domain", "One.Example"), {one, two})
        self.assertEqual(ids("--domain", "two.example"), {two})
        self.assertEqual(ids("--domain", "example"), set())
        self.assertEqual(ids("--sender", "bob@b.example"), {one})
        self.assertEqual(ids("--sender", "carol@B.example"), {two})
        self.assertEqual(ids("--sender", "@b.example"), {one, two})
        self.assertEqual(ids("--sender", "b.example"), set())
        self.assertEqual(ids("--sender", "<>"), {other})
        self.assertEqual(ids("--reason", "REFUSED"), {one, two, other})
        self.assertEqual(ids("--reason", "nothing like it"), set())
        self.assertEqual(ids("--destination", self.other), {other})
        # The first one found out, the others wait for the destination to come back.
        self.assertEqual(ids("--state", "waiting") | ids("--state", "lined"), {one, two, other})
        self.assertIn(other, ids("--state", "waiting"))
        self.assertEqual(ids("--state", "held"), set())
        self.assertEqual(ids("--older-than", "1h"), set())
        time.sleep(2.1)
        self.assertEqual(ids("--older-than", "1s"), {one, two, other})
        self.assertEqual(ids("--older-than", "1s", "--domain", "two.example", "--sender", "@b.example"), {two})
        self.assertEqual(len(self.rows("--limit", "2")), 2)
        self.assertNotIn("more", self.run_tool("queue", "list", "--limit", "3"))
        self.assertIn("... and perhaps more", self.run_tool("queue", "list", "--limit", "2"))
        self.stop()

    def test_summary_destinations_status(self):
        self.start()
        for number in range(3):
            self.send("a@one.example", "b@two.example", subject=f"s{number}")
        self.send("a@other.example")
        self.wait_failed(4)
        groups = self.objects("queue", "summary")
        self.assertEqual([group["recipients"] for group in groups],
                         sorted((group["recipients"] for group in groups), reverse=True))
        self.assertEqual(sum(group["rows"] for group in groups if group["destination"] == self.shared), 3)
        self.assertEqual(sum(group["recipients"] for group in groups if group["destination"] == self.shared), 6)
        self.assertEqual([group["recipients"] for group in groups if group["destination"] == self.other], [1])
        self.assertTrue(all(group["octets"] > 0 and "efused" in group["reason"] for group in groups))
        groups = self.objects("queue", "summary", "--domain", "two.example")
        self.assertEqual([sum(group[key] for group in groups) for key in ("rows", "recipients")], [3, 3])
        lines = self.run_tool("queue", "summary").splitlines()
        self.assertRegex(lines[0], r"^RECIPIENTS +ENTRIES +SIZE +OLDEST +STATE +DESTINATION +REASON$")
        self.assertEqual(lines[-1], "7 recipients in 4 entries")
        self.assertEqual(len({line.index(self.shared[:14]) for line in lines[1:-1]}), 1)

        found = {row["destination"]: row for row in self.objects("destinations")}
        self.assertEqual(found[self.shared]["state"], "dead")
        self.assertIn("efused", found[self.shared]["reason"])
        self.assertIn("DESTINATION", self.run_tool("destinations"))
        status, = self.objects("status")
        self.assertEqual((status["queued"], status["held"], status["delivered"]), (4, 0, 0))
        self.assertRegex(self.run_tool("status"), r"(?m)^queued +4$")
        self.stop()


    def test_hostile_header(self):
        """A NUL, octets that are no UTF-8 and what a terminal would obey: shown, harmlessly."""
        self.start()
        with self.gateway.client() as client:
            client.hello()
            client.transfer(b"Subject: a\0b\r\nX: \xff\x1b[31m\r\n\r\nbody\r\n", sender="s@client.example",
                            recipients=["a@one.example"])
        row, = self.wait_failed(1)
        shown, = self.objects("queue", "show", row["id"])
        self.assertIn("Subject: a?b\r\nX: ?\x1b[31m\r\n", shown["header"])
        text = self.run_tool("queue", "show", row["id"])
        self.assertIn("    Subject: a?b\n", text)
        self.assertNotIn("\x1b", text)
        self.stop()

    def test_many_recipients(self):
        """Of very many recipients, those who are finished are neither shown nor acted on."""
        def answer(line):
            return b"451 4.7.1 come back later" if b"TWO.EXAMPLE" in line.upper() else b"250 2.1.5 ok"
        with Hop({"RCPT": answer}, lmtp=True) as hop:
            for domain in ("one.example", "two.example", "sub.two.example"):
                self.gateway.domains[domain] = (["*"], hop.target)
            self.start()
            self.send(*(f"a{number}@one.example" for number in range(70)),
                      *(f"b{number}@two.example" for number in range(3)), "c@sub.two.example")
            row, = self.wait_failed(1)
            self.assertEqual((row["recipients"], row["to"]),
                             (4, ["b0@two.example", "b1@two.example", "b2@two.example", "c@sub.two.example"]))
            self.assertEqual(row["reason"], "451 4.7.1 come back later")
            self.assertEqual(self.rows("--reason", "451 4.7"), [row])
            self.assertEqual(self.rows("--reason", "450"), [])
            self.assertIn("451 4.7.1 come back later", self.run_tool("queue", "summary"))
            self.assertEqual(self.rows("--domain", "one.example"), [])
            self.assertIn("0 recipients", self.run_tool("queue", "hold", "--domain", "one.example"))
            self.assertEqual(self.run_tool("queue", "remove", "--domain", "two.example"),
                             "3 recipients in 1 entry: removed\n")
            left, = self.rows()
            self.assertEqual((left["to"], left["recipients"], left["state"]), (["c@sub.two.example"], 1, "waiting"))
            self.assertLessEqual(abs(left["next"] - row["next"]), 1)
            self.stop()


class Acts(Tool):
    def test_durable(self):
        """What ringmxctl says to be done is done, even if the process is killed at once."""
        self.start()
        for _ in range(3):
            kept = self.send("a@one.example")
            gone = self.send("b@other.example")
            wait_until(lambda: len(self.rows()) == 2, "two entries")
            self.run_tool("queue", "hold", kept)
            self.run_tool("queue", "remove", gone)
            self.gateway.kill()
            self.start()
            self.assertEqual([(row["id"], row["state"]) for row in self.rows()], [(kept, "held")])
            self.run_tool("queue", "remove", "--all")
            self.gateway.kill()
            self.start()
            self.assertEqual(self.rows(), [])
        self.stop()

    def test_reload_while_people_look(self):
        """Rows are read by the routes that are in force: a new table comes, the old one goes, while lists are made."""
        self.start()
        for number in range(20):
            self.send("a@one.example", "b@two.example", "c@other.example", subject=f"m{number}")
        stopping = threading.Event()
        errors = []

        def look():
            while not stopping.is_set():
                done = subprocess.run([PROGRAM, "-s", self.path, "queue", "list", "--domain", "one.example", "--json"],
                                      capture_output=True, text=True, check=False, timeout=PATIENCE_S)
                if done.returncode or any("a@one.example" not in json.loads(line)["to"]
                                          for line in done.stdout.splitlines()):
                    errors.append(done)
                    return

        lookers = [threading.Thread(target=look) for _ in range(2)]
        for looker in lookers:
            looker.start()
        for number in range(10):
            self.gateway.domains["one.example"] = (["*"], self.other if number % 2 else self.shared)
            self.gateway.write_configuration()
            self.gateway.signal(signal.SIGHUP)
            wait_until(lambda: len(self.gateway.events("reloaded")) > number, "a reload")
        self.gateway.domains["one.example"] = (["*"], "maildir:{mail}/%d/%u")
        self.gateway.write_configuration()
        self.gateway.signal(signal.SIGHUP)
        self.gateway.wait_messages("a", 20, "one.example")
        stopping.set()
        for looker in lookers:
            looker.join()
        self.assertEqual(errors, [])
        wait_until(lambda: not self.rows("--domain", "one.example"), "nothing more for one.example")
        self.assertEqual({recipient for row in self.rows() for recipient in row["to"]},
                         {"b@two.example", "c@other.example"})
        self.stop()

    @unittest.skipIf(FLAVOUR == "tsan", "skipped: a preloaded library does not go together with ThreadSanitizer")
    def test_disk_that_takes_nothing(self):
        """It is done, and ringmxctl says that a crash could undo it."""
        faults, library = (os.path.join(self.gateway.directory, name) for name in ("faults", "fault.so"))
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fault_preload.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", library, source, "-ldl", "-pthread"],
                       check=True)

        def weather(line):
            with open(faults + ".next", "w", encoding="ascii") as file:
                file.write(line)
            os.rename(faults + ".next", faults)

        weather("")
        self.gateway.environment.update(LD_PRELOAD=library, RINGMX_FAULTS=faults,
                                        ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=1")
        self.gateway.settings["spool.sync"] = "dsync"
        self.start()
        held = self.send("a@one.example")
        self.wait_failed(1)
        weather("write EIO always .segment\n")
        self.assertIn("a crash now could undo it", self.run_tool("queue", "hold", held, code=75))
        self.assertEqual(self.objects("queue", "hold", held)[-1]["rows"], 0)
        self.assertEqual([row["state"] for row in self.rows()], ["held"])
        self.assertEqual(self.objects("queue", "release", held, code=75)[-1]["durable"], False)
        weather("")
        wait_until(lambda: self.objects("status")[0]["duplicates_possible"] == 0, "a disk that works")
        self.run_tool("queue", "remove", held)
        self.gateway.kill()
        self.start()
        self.assertEqual(self.rows(), [])
        self.stop()

    def test_hold_and_release(self):
        self.start()
        held = self.send("a@one.example")
        kept = self.send("b@other.example")
        self.wait_failed(2)
        self.assertEqual(self.run_tool("queue", "hold", held), "1 recipient in 1 entry: on hold\n")
        self.assertEqual([row["id"] for row in self.rows("--state", "held")], [held])
        self.assertEqual(self.objects("status")[0]["held"], 1)
        self.gateway.restart()
        wait_until(lambda: len(self.rows()) == 2, "two entries")
        rows = {row["id"]: row for row in self.rows()}
        self.assertEqual(rows[held]["state"], "held")
        self.assertNotEqual(rows[kept]["state"], "held")
        self.gateway.kill()
        self.start()
        self.assertEqual([row["id"] for row in self.rows("--state", "held")], [held])
        self.assertIn("released", self.run_tool("queue", "release", "--state", "held"))
        wait_until(lambda: not self.rows("--state", "held"), "nothing is held")
        self.assertEqual({row["id"] for row in self.rows()}, {held, kept})
        wait_until(lambda: [line["action"] for line in self.gateway.events("control")] == ["release"],
                   "a log line about the release")
        self.stop()

    def test_retry(self):
        """The next hop comes to life: what would be due in an hour goes at once."""
        self.start()
        self.send("a@one.example")
        self.send("b@two.example")
        self.wait_failed(2)
        with Sink(addresses=(self.shared.removeprefix("smtp:"),)) as sink:
            self.assertIn("2 recipients in 2 entries: due now", self.run_tool("queue", "retry", "--all"))
            sink.wait_messages(2)
            wait_until(lambda: not self.rows(), "an empty queue")
        self.stop()

    def test_remove(self):
        self.start()
        both = self.send("a@one.example", "b@two.example", "c@other.example")
        alone = self.send("d@one.example", sender="bob@b.example")
        last = self.send("e@other.example")
        self.wait_failed(4)
        self.run_tool("queue", "remove", code=64)
        self.assertIn("needs ids, a filter, or --all", self.said)
        self.run_tool("queue", "remove", "--all", "--domain", "one.example", code=76)
        self.assertEqual(len(self.rows()), 4)

        # Its neighbours at the same destination stay.
        self.assertEqual(self.run_tool("queue", "remove", "--domain", "one.example", "--sender", "@client.example"),
                         "1 recipient in 1 entry: removed\n")
        rows = {(row["id"], row["destination"]): row for row in self.rows()}
        self.assertEqual(rows[both, self.shared]["to"], ["b@two.example"])
        self.assertEqual(rows[both, self.other]["to"], ["c@other.example"])
        self.assertIn((alone, self.shared), rows)

        self.assertEqual(self.objects("queue", "remove", alone, "aaaaaaaaaaaaa", code=1),
                         [{"id": "aaaaaaaaaaaaa", "trouble": "missing"},
                          {"end": True, "rows": 1, "recipients": 1, "busy": 0, "missing": 1, "durable": True}])
        self.run_tool("queue", "remove", alone, code=1)
        self.assertIn(f"{alone}: is not in the queue", self.said)
        self.assertEqual(self.run_tool("queue", "hold", alone, both, "--domain", "nowhere.example", code=1),
                         "0 recipients in 0 entries: on hold\n")
        self.assertEqual(self.said, f"{alone}: is not in the queue\n")
        time.sleep(1.1)
        self.assertIn("2 recipients in 2 entries", self.run_tool("queue", "remove", "--older-than", "1s",
                                                                 "--destination", self.other))
        self.assertEqual([row["id"] for row in self.rows()], [both])
        # Gone for good, without a bounce.
        self.gateway.restart()
        wait_until(lambda: [row["id"] for row in self.rows()] == [both], "one message")
        self.assertEqual(self.run_tool("queue", "remove", "--all"), "1 recipient in 1 entry: removed\n")
        wait_until(lambda: self.objects("status")[0]["queued"] == 0, "an empty queue")
        self.gateway.restart()
        self.assertEqual(self.rows(), [])
        removed = [line["id"] for line in self.gateway.events("removed", index=0)]
        self.assertEqual(sorted(removed), sorted([both, both, alone, last]))
        self.assertEqual({line["uid"] for line in self.gateway.events("control", index=0)}, {str(os.getuid())})
        self.stop()


class Socket(Tool):
    def dial(self):
        found = socket.socket(socket.AF_UNIX)
        found.settimeout(PATIENCE_S)
        found.connect(self.path)
        self.addCleanup(found.close)
        return found

    def ask(self, connection, text):
        """Sends a line, returns the objects of the answer."""
        connection.sendall(text if isinstance(text, bytes) else json.dumps(text).encode() + b"\n")
        answer, buffer = [], b""
        while not answer or not ({"end", "error"} & answer[-1].keys()):
            more = connection.recv(65536)
            if not more:
                raise EOFError(buffer)
            *lines, buffer = (buffer + more).split(b"\n")
            answer += [json.loads(line) for line in lines]
        return answer

    def test_mode_and_end(self):
        self.start()
        status = os.stat(self.path)
        self.assertTrue(stat.S_ISSOCK(status.st_mode))
        self.assertEqual(stat.S_IMODE(status.st_mode), 0o660)
        self.stop()
        self.assertFalse(os.path.exists(self.path))
        self.run_tool("queue", "list", code=69)
        self.assertIn("no gateway to talk to", self.said)

    def test_stale_socket(self):
        self.start()
        self.gateway.kill()
        self.assertTrue(os.path.exists(self.path))
        self.start()
        self.assertEqual(self.rows(), [])
        self.stop()

    def refused_start(self, wanted):
        self.gateway.write_configuration()
        self.gateway.launch()
        code = wait_until(lambda: self.gateway.process.poll(), "the end of the process")
        self.assertNotEqual(code, 0)
        self.assertIn(wanted, self.gateway.log_text())
        self.gateway.check_reports()
        self.gateway.process = None

    def test_live_socket(self):
        with socket.socket(socket.AF_UNIX) as alive:
            alive.bind(self.path)
            alive.listen()
            self.refused_start("another process answers at")
        self.assertTrue(os.path.exists(self.path))

    def test_no_socket_at_that_path(self):
        with open(self.path, "w", encoding="ascii") as file:
            file.write("precious\n")
        self.refused_start("is no socket")
        with open(self.path, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious\n")

    def test_no_folder(self):
        self.gateway.settings["admin.control"] = quote(os.path.join(self.gateway.directory, "no", "such", "control"))
        self.refused_start("No such file or directory")
        self.path = os.path.join(self.gateway.directory, "made", "control")
        self.gateway.settings["admin.control"] = quote(self.path)
        self.start()
        self.assertEqual(self.rows(), [])
        self.stop()

    def test_garbage(self):
        self.start()
        with self.dial() as connection:
            for text in (b"\n", b"\0\xff\xfe\n", b"{}\n", b"[[[[[[[\n", b'{"do":"explode"}\n', b'{"do":"remove"}\n',
                         b'{"do":"remove","domian":"x"}\n', b'{"do":"list","limit":-1}\n', b"GET / HTTP/1.0\r\n",
                         b'{"do":"list","domain":"\xff"}\n', b"[" * 5000 + b"\n"):
                self.assertIn("error", self.ask(connection, text)[-1], text)
            self.assertEqual(self.ask(connection, {"do": "list"})[-1]["rows"], 0)
        with self.dial() as connection:
            with self.assertRaises((BrokenPipeError, ConnectionResetError)):
                while True:
                    connection.sendall(b"x" * 65536)
            self.assertIn(b"too long", connection.recv(65536))
        self.assertEqual(self.rows(), [])
        self.stop()

    def test_many_questions_at_once(self):
        self.start()
        self.send("a@one.example")
        self.wait_failed(1)
        with self.dial() as connection:
            connection.sendall(b'{"do":"list"}\n' * 500 + b'{"do":"status"}\n')
            connection.shutdown(socket.SHUT_WR)
            text = b"".join(iter(lambda: connection.recv(65536), b""))
        objects = [json.loads(line) for line in text.splitlines()]
        self.assertEqual(sum(1 for found in objects if "id" in found), 500)
        self.assertEqual(objects[-1]["queued"], 1)
        self.stop()

    def test_clients_in_pieces_and_in_crowds(self):
        self.start()
        with self.dial() as connection:
            for octet in b'{"do":"status"}':
                connection.sendall(bytes([octet]))
                time.sleep(0.002)
            self.assertEqual(self.ask(connection, b"\n")[-1]["queued"], 0)
        silent = [self.dial() for _ in range(16)]
        wait_until(lambda: self.dial().recv(100) == b'{"error":"too many clients"}\n', "a full house")
        for connection in silent[:8]:
            connection.close()
        wait_until(lambda: subprocess.run([PROGRAM, "-s", self.path, "status"], capture_output=True,
                                          check=False).returncode == 0, "room for another")
        self.assertEqual(self.rows(), [])
        self.stop()


class Crowd(Tool):
    """Very many messages."""
    COUNT = 5000 if SLOW or FLAVOUR == "profile61" else 100000
    settings = {"limits.message_size": '"1M"'}

    def test_very_many_messages(self):
        self.start()
        done = subprocess.run([LOAD, "--messages", str(self.COUNT), "--connections", "20", "--size", "600",
                               "--domain", "one.example", "%s:%d" % self.gateway.address],
                              capture_output=True, text=True, check=False, timeout=PATIENCE_S * 15)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

        def queued():
            with open(f"/proc/{self.gateway.process.pid}/status", encoding="ascii") as file:
                return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1])

        before_kb = queued()
        start = time.monotonic()
        rows = self.rows()
        took_s = time.monotonic() - start
        self.assertEqual(len(rows), self.COUNT)
        self.assertEqual(len({row["id"] for row in rows}), self.COUNT)
        self.assertTrue(all(row["to"] and row["from"] for row in rows))
        print(f"\n  {self.COUNT} messages listed in {took_s:.2f} s, {queued() - before_kb} KiB more in memory")
        self.assertLess(queued() - before_kb, 65536 if not SLOW else 1 << 20)
        group, = self.objects("queue", "summary", "--destination", self.shared.upper())[:1]
        self.assertGreater(group["recipients"], 0)

        # Somebody who takes nothing of a long answer keeps nobody waiting.
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(self.path)
            deaf.sendall(b'{"do":"list"}\n')
            time.sleep(0.2)
            start = time.monotonic()
            self.assertEqual(len(self.rows("--limit", "10")), 10)
            self.assertLess(time.monotonic() - start, PATIENCE_S / 4)

        # Whoever acts on all of them is not kept from it by those who look.
        looking = threading.Thread(target=self.rows)
        looking.start()
        start = time.monotonic()
        self.assertIn(f"{self.COUNT} recipients", self.run_tool("queue", "hold", "--domain", "one.example"))
        looking.join()
        print(f"  held in {time.monotonic() - start:.2f} s")
        self.assertEqual(self.objects("status")[0]["held"], self.COUNT)
        start = time.monotonic()
        self.assertIn(f"{self.COUNT} recipients", self.run_tool("queue", "release", "--all"))
        print(f"  released in {time.monotonic() - start:.2f} s")
        self.assertEqual(self.objects("status")[0]["held"], 0)
        wait_until(lambda: not self.rows("--state", "active", "--limit", "1"), "the end of the attempts")
        start = time.monotonic()
        self.assertIn(f"{self.COUNT} recipients", self.run_tool("queue", "hold", "--all"))
        print(f"  held again in {time.monotonic() - start:.2f} s")
        self.assertEqual(self.objects("status")[0]["held"], self.COUNT)
        start = time.monotonic()
        self.assertIn(f"{self.COUNT} recipients", self.run_tool("queue", "remove", "--domain", "one.example"))
        print(f"  removed in {time.monotonic() - start:.2f} s")
        wait_until(lambda: self.objects("status")[0]["queued"] == 0, "an empty queue")
        with Client(self.gateway.address) as client:
            client.hello()
        self.stop()


if __name__ == "__main__":
    unittest.main()
