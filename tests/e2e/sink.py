"""A ringmx-sink process for tests: a next hop that accounts for every message that it accepted.

    with Sink("--refuse", "rcpt=10%") as sink:
        ... sink.address ...
    sink.messages(), sink.totals
"""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from harness import BINARY, PATIENCE_S, REPORTS, Client, parse_logfmt, wait_until

PROGRAM = os.path.join(os.path.dirname(BINARY), "ringmx-sink")


def expect_many_replies(client, count, pause_s):
    """An LMTP transaction of so many recipients (in hundreds) whose replies, and that to a NOOP behind it, are read
    only after a pause."""
    client.expect(250, "LHLO x")
    client.expect(250, "MAIL FROM:<a@b.example>")
    for base in range(0, count, 100):
        client.send(b"".join(b"RCPT TO:<user%d@d.example>\r\n" % (base + i) for i in range(100)))
        for _ in range(100):
            client.expect(250)
    client.expect(354, "DATA")
    client.send(b".\r\nNOOP\r\n")
    time.sleep(pause_s)
    for _ in range(count + 1):
        client.expect(250)


class Sink:
    """Starts with the given options; --log and --count are always among them."""

    def __init__(self, *options, addresses=("127.0.0.1:0",)):
        self.directory = tempfile.mkdtemp(prefix="ringmx-sink-", dir=os.environ.get("RINGMX_TMP"))
        self.log = os.path.join(self.directory, "sink.log")
        self.errors = os.path.join(self.directory, "stderr")
        self.options = list(options)
        self.addresses = list(addresses)
        self.listening = []
        self.totals = {}
        self.process = None

    def start(self):
        try:
            return self.launch()
        except BaseException:
            self.close()
            raise

    def launch(self):
        command = [PROGRAM, "--log", self.log, "--count", *self.options]
        for address in self.addresses:
            command += ["--listen", address]
        environment = dict(os.environ)
        environment.setdefault("ASAN_OPTIONS", "detect_leaks=1")
        environment.setdefault("TSAN_OPTIONS", "halt_on_error=0")
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=errors, env=environment)
        self.listening = []
        for _ in self.addresses:
            line = self.process.stdout.readline().decode()
            match = re.fullmatch(r"listening on (.*):(\d+)\n", line)
            if not match:
                raise AssertionError(f"did not start: {line!r} {self.error_text()}")
            self.listening.append((match[1].strip("[]"), int(match[2])))
        return self

    @property
    def address(self):
        return self.listening[0]

    def error_text(self):
        with open(self.errors, "rb") as file:
            return file.read().decode("utf-8", "backslashreplace")

    def stop(self, number=signal.SIGTERM, timeout_s=None):
        """An orderly end: exit code 0, nothing reported by a sanitizer. Sets `totals`."""
        self.process.send_signal(number)
        try:
            output = self.process.communicate(timeout=timeout_s or PATIENCE_S)[0].decode()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError("did not end after the signal: " + self.error_text()) from None
        code, self.process = self.process.returncode, None
        text = self.error_text()
        if REPORTS.search(text.encode()):
            raise AssertionError("report on stderr:\n" + text[:8000])
        assert code == 0, f"exit code {code}: {text}"
        fields = parse_logfmt(output.strip().split("\n")[-1])
        assert fields.pop("event") == "totals", output
        self.totals = {key: int(value) for key, value in fields.items()}
        return self.totals

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.process is not None:
                self.stop()
        finally:
            self.close()

    def client(self, **options):
        return Client(self.address, **options)

    def messages(self):
        """What the log says, one dict for each message; a line that is not whole is an error."""
        with open(self.log, "rb") as file:
            text = file.read().decode("utf-8")
        assert not text or text.endswith("\n"), "the last line is not whole"
        lines = [parse_logfmt(line) for line in text.splitlines()]
        for line in lines:
            line["to"] = re.findall(r"<[^>]*>(?: [^<,]*)?", line["to"])
        return lines

    def wait_messages(self, count):
        wait_until(lambda: len(self.messages()) >= count, f"{count} messages in the sink's log")
        found = self.messages()
        assert len(found) == count, f"{len(found)} messages, expected {count}"
        return found
