"""An SMTP and LMTP server in Python, to measure the load program with: it notes when each thing came and when it was
answered, on the clock that the program uses, and delays, stalls and refuses as the test says.

    with SmtpServer(delays={"rcpt": 0.05}) as server:
        ... server.address ...
        server.stall(1.0)             # everything stands still, as in a server that swaps or collects garbage
    server.sessions, server.messages
"""
import asyncio
import ipaddress
import re
import struct
import threading
import time
from dataclasses import dataclass, field

from harness import PATIENCE_S
from loader import hurry

CRLF = b"\r\n"
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
LINE_MAX = 1 << 26


@dataclass
class Message:
    """Times are nanoseconds of the monotonic clock; 0: it did not get so far."""
    session: "Session"
    sender: str
    mail_ns: int
    recipients: list = field(default_factory=list)
    text_ns: int = 0  # DATA or the first BDAT was read
    done_ns: int = 0  # the last octet was read
    reply_ns: int = 0
    chunks: list = field(default_factory=list)
    content: bytes = b""  # without stuffed dots

    def id(self):
        found = re.match(rb"(?:[^\r\n]*\r\n)*?X-Load-Id: (\S+)\r\n", self.content)
        return found[1].decode() if found else None


@dataclass
class Session:
    peer: tuple
    local: tuple
    opened_ns: int
    proxied: tuple = None  # (source, destination) of a PROXY header, as (address, port)
    closed_ns: int = 0
    quit: bool = False
    verbs: list = field(default_factory=list)
    messages: list = field(default_factory=list)


class SmtpServer:
    """`delays`: seconds before a reply, by phase (connect, ehlo, mail, rcpt, data, dot, quit). `answer`: a coroutine
    function, given each Message before its final reply, returns None or the reply. `proxy`: a PROXY header must
    come first. Everything is noted before the reply that tells of it."""

    def __init__(self, delays=None, lmtp=False, proxy=False, answer=None, host="127.0.0.1",
                 extensions=("PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING")):
        self.delays, self.lmtp, self.proxy, self.answer = delays or {}, lmtp, proxy, answer
        self.host, self.extensions = host, extensions
        self.sessions, self.messages, self.errors = [], [], []
        self.stalls = []  # (from, to) in ns
        self.address = None
        self.loop = asyncio.new_event_loop()
        self.server, self.tasks = None, set()
        self.thread = threading.Thread(target=self.run, daemon=True)

    # --- life ------------------------------------------------------------------------------------

    def __enter__(self):
        self.thread.start()
        self.in_loop(self.listen())
        return self

    def __exit__(self, kind, *_):
        self.in_loop(self.end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE_S)
        self.loop.close()
        if kind is None and self.errors:
            raise AssertionError(f"the client did what it may not: {self.errors[:5]}")

    def run(self):
        hurry()  # what it notes shall be the client's doing, not that of others on this machine
        self.loop.run_forever()

    def in_loop(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    async def listen(self):
        self.server = await asyncio.start_server(self.connected, self.host, 0, limit=LINE_MAX, backlog=4096)
        self.address = self.server.sockets[0].getsockname()[:2]

    async def end(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def stall(self, seconds):
        """Lets nothing happen for that time, from now on; returns at once."""
        def sleep():
            start = time.monotonic_ns()
            time.sleep(seconds)
            self.stalls.append((start, time.monotonic_ns()))
        self.loop.call_soon_threadsafe(sleep)

    def done(self):
        """The messages that were answered."""
        return [message for message in self.messages if message.reply_ns]

    # --- one connection --------------------------------------------------------------------------

    async def connected(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        session = Session(writer.get_extra_info("peername")[:2], writer.get_extra_info("sockname")[:2],
                          time.monotonic_ns())
        self.sessions.append(session)
        try:
            await Conversation(self, session, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        except asyncio.CancelledError:
            pass  # end()
        except (ValueError, asyncio.LimitOverrunError) as error:
            self.errors.append(repr(error))
        finally:
            session.closed_ns = time.monotonic_ns()
            self.tasks.discard(task)
            writer.close()


class Conversation:
    """What is said on one connection; ValueError when the client breaks a rule."""

    def __init__(self, server, session, reader, writer):
        self.server, self.session, self.reader, self.writer = server, session, reader, writer
        self.message = None

    async def reply(self, phase, text):
        if delay := self.server.delays.get(phase):
            await asyncio.sleep(delay)
        self.writer.write(text + CRLF)

    async def line(self):
        line = await self.reader.readuntil(CRLF)
        return line[:-2]

    async def run(self):
        if self.server.proxy:
            self.session.proxied = await read_proxy(self.reader)
        await self.reply("connect", b"220 python.example ESMTP")
        while not self.session.quit:
            line = await self.line()
            verb = line.split(b" ")[0].decode("ascii").lower()
            self.session.verbs.append(verb)
            handler = getattr(self, "on_" + verb, None)
            if not handler:
                raise ValueError(f"no such command: {line[:100]!r}")
            await handler(line.decode("utf-8"))

    async def hello(self, line, lmtp):
        if lmtp != self.server.lmtp or not re.fullmatch(r"\w{4} [\w.\[\]:-]+", line):
            raise ValueError(line)
        await self.reply("ehlo", b"".join(b"250-" + word.encode() + CRLF for word in
                                          ("python.example", *self.server.extensions)) + b"250 ENHANCEDSTATUSCODES")

    async def on_helo(self, _line):
        await self.reply("ehlo", b"250 python.example")

    async def on_ehlo(self, line):
        await self.hello(line, False)

    async def on_lhlo(self, line):
        await self.hello(line, True)

    async def on_mail(self, line):
        found = re.fullmatch(r"MAIL FROM:(<[^<>]*>.*)", line, re.I)
        if not found or self.message:
            raise ValueError(line)
        self.message = Message(self.session, found[1], time.monotonic_ns())
        self.session.messages.append(self.message)
        self.server.messages.append(self.message)
        await self.reply("mail", b"250 2.1.0 Ok")

    async def on_rcpt(self, line):
        found = re.fullmatch(r"RCPT TO:<([^<>]+)>", line, re.I)
        if not found or not self.message:
            raise ValueError(line)
        self.message.recipients.append(found[1])
        await self.reply("rcpt", b"250 2.1.5 Ok")

    async def on_data(self, line):
        if line.upper() != "DATA" or not self.message or not self.message.recipients:
            raise ValueError(line)
        self.message.text_ns = time.monotonic_ns()
        await self.reply("data", b"354 Go on")
        text = CRLF + await self.text()
        self.message.content = text.replace(b"\r\n.", CRLF)[2:]
        await self.finish()

    async def text(self):
        """Up to the final dot, which an empty message begins with."""
        first = await self.reader.readexactly(3)
        if first == b".\r\n":
            return b""
        return first + (await self.reader.readuntil(b"\r\n.\r\n"))[:-3]

    async def on_bdat(self, line):
        found = re.fullmatch(r"BDAT (\d+)( LAST)?", line, re.I)
        if not found or not self.message or not self.message.recipients:
            raise ValueError(line)
        self.message.text_ns = self.message.text_ns or time.monotonic_ns()
        self.message.chunks.append(int(found[1]))
        self.message.content += await self.reader.readexactly(int(found[1]))
        if found[2]:
            await self.finish()
        else:
            await self.reply("data", b"250 2.0.0 More")

    async def finish(self):
        message, self.message = self.message, None
        message.done_ns = time.monotonic_ns()
        text = await self.server.answer(message) if self.server.answer else None
        count = len(message.recipients) if self.server.lmtp else 1
        if delay := self.server.delays.get("dot"):
            await asyncio.sleep(delay)
        message.reply_ns = time.monotonic_ns()
        await self.reply("", CRLF.join([text or b"250 2.0.0 Ok"] * count))

    async def on_rset(self, _line):
        self.message = None
        await self.reply("rset", b"250 2.0.0 Ok")

    async def on_noop(self, _line):
        await self.reply("noop", b"250 2.0.0 Ok")

    async def on_quit(self, _line):
        self.session.quit = True
        await self.reply("quit", b"221 2.0.0 Bye")
        await self.writer.drain()


async def read_proxy(reader):
    """A PROXY header of either version -> ((source, port), (destination, port))."""
    head = await reader.readexactly(12)
    if head == PROXY_V2:
        version_command, family, length = struct.unpack(">BBH", await reader.readexactly(4))
        body = await reader.readexactly(length)
        size = {0x11: 4, 0x21: 16}.get(family)
        if version_command != 0x21 or not size or length < 2 * size + 4:
            raise ValueError(f"PROXY v2: {version_command:#x} {family:#x} {body!r}")
        ports = struct.unpack_from(">HH", body, 2 * size)
        return tuple((str(ipaddress.ip_address(body[at:at + size])), port)
                     for at, port in zip((0, size), ports))
    text = (head + await reader.readuntil(CRLF)).decode("ascii")
    found = re.fullmatch(r"PROXY (TCP4|TCP6) (\S+) (\S+) (\d+) (\d+)\r\n", text)
    if not found or len(text) > 107:
        raise ValueError(f"PROXY v1: {text!r}")
    addresses = [ipaddress.ip_address(found[2]), ipaddress.ip_address(found[3])]
    if {address.version for address in addresses} != {int(found[1][3])}:
        raise ValueError(f"PROXY v1: {text!r}")
    return tuple((str(address), int(port)) for address, port in zip(addresses, (found[4], found[5])))
