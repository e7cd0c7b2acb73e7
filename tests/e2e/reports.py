"""Reading delivery status notifications as their receivers do: with Python's email package, with flufl.bounce
(Mailman's), and in Perl with Mail::DeliveryStatus::BounceParser and Sisimai. And a next hop that says what the test
wants, octet for octet."""
import email
import email.policy
import json
import os
import re
import socketserver
import subprocess
import tempfile
import threading

PERL = r"""
use strict; use JSON::PP; use Mail::DeliveryStatus::BounceParser; use Sisimai;
my @all;
for my $file (@ARGV) {
    my $text = do { open my $in, '<', $file or die; local $/; <$in> };
    $text =~ s/\r\n/\n/g;
    my $parser = Mail::DeliveryStatus::BounceParser->new($text);
    my $found = Sisimai->make($file, delivered => 1) || [];
    push @all, {
        bounce => $parser->is_bounce ? 1 : 0,
        reports => [map { [$_->get('email') // '', $_->get('std_reason') // ''] } $parser->reports],
        sisimai => [map { [$_->recipient->address, $_->reason, $_->deliverystatus, $_->action] } @$found],
    };
}
print encode_json(\@all);
"""


class Report:
    """One notification as it came into a Maildir (or to a next hop: `added` False)."""

    def __init__(self, content, added=True):
        self.content = content
        self.return_path, self.text = None, content
        if added:
            # A notification begins here: it has no Received field of ours.
            found = re.match(rb"Return-Path: <([^\r\n]*)>\r\n", content)
            self.return_path, self.text = found[1], content[found.end():]
        self.message = email.message_from_bytes(self.text, policy=email.policy.default)
        self.parts = list(self.message.iter_parts())
        groups = self.parts[1].get_content() if self.parts[1].get_content_maintype() != "message" else None
        if groups is None:
            groups = self.parts[1].get_payload()
            if isinstance(groups, list) and len(groups) == 1 and groups[0].get_payload():
                groups = None  # of a type that Python does not know as fields: message/global-...
        self.fields = groups if isinstance(groups, list) else self.read_groups()

    def read_groups(self):
        content = self.text.split(self.boundary())[2].split(b"\r\n\r\n", 1)[1]
        return [email.message_from_bytes(group, policy=email.policy.SMTPUTF8)
                for group in content.rstrip(b"\r\n-").split(b"\r\n\r\n")]

    def boundary(self):
        return b"\r\n--" + self.message.get_boundary().encode() + b"\r\n"

    @property
    def words(self):
        return self.parts[0].get_content()

    @property
    def recipients(self):
        return self.fields[1:]

    def raw_part(self, index):
        """The octets of a part, without its header."""
        part = self.text.split(b"\r\n--" + self.message.get_boundary().encode())[1 + index]
        return part.split(b"\r\n\r\n", 1)[1]

    def defects(self):
        return [defect for part in self.message.walk() for defect in part.defects]


def perl_reads():
    return subprocess.run(["perl", "-MMail::DeliveryStatus::BounceParser", "-MSisimai", "-e", "1"],
                          capture_output=True, check=False).returncode == 0


def read_with_perl(reports):
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, report in enumerate(reports):
            paths.append(os.path.join(folder, f"{number}.eml"))
            with open(paths[-1], "wb") as file:
                file.write(report.text)
        run = subprocess.run(["perl", "-e", PERL, *paths], capture_output=True, check=True, timeout=120)
        return json.loads(run.stdout)


class Hop:
    """A next hop. `answers`: {beginning of a command in upper case, or "DOT": reply}, as bytes, or a function of the
    line that returns them; the longest that fits counts. None: it closes. `extensions`: what EHLO says."""

    def __init__(self, answers=None, extensions=("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"), lmtp=False):
        self.answers, self.extensions, self.lmtp = dict(answers or {}), list(extensions), lmtp
        self.commands, self.messages = [], []
        hop = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                try:
                    hop.talk(self.rfile, self.wfile)
                except (OSError, EOFError):
                    pass

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.target = ("lmtp" if lmtp else "smtp") + ":127.0.0.1:%d" % self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, line, default):
        upper = line.decode("utf-8", "surrogateescape").upper()
        found = [words for words in self.answers if upper.startswith(words.upper())]
        reply = self.answers[max(found, key=len)] if found else default
        reply = reply(line) if callable(reply) else reply
        if reply is None:
            raise EOFError
        return reply + b"\r\n"

    def talk(self, reader, writer):
        sender, recipients, text = None, [], b""
        writer.write(self.answer(b"CONNECT", b"220 hop.example ESMTP"))
        while line := reader.readline():
            line = line.rstrip(b"\r\n")
            self.commands.append(line)
            verb = line.split(b" ")[0].upper()
            if verb in (b"EHLO", b"LHLO"):
                words = ("hop.example", *self.extensions)
                reply = b"".join(b"250-" + word.encode() + b"\r\n" for word in words) + b"250 HELP"
                writer.write(self.answer(line, reply))
            elif verb == b"MAIL":
                reply = self.answer(line, b"250 2.1.0 Ok")
                sender, recipients = line[10:], []
                writer.write(reply)
            elif verb == b"RCPT":
                reply = self.answer(line, b"250 2.1.5 Ok")
                if reply.startswith(b"2"):
                    recipients.append(line[8:])
                writer.write(reply)
            elif verb == b"DATA":
                if not recipients:
                    writer.write(b"554 5.5.1 No valid recipients\r\n")
                    continue
                writer.write(self.answer(line, b"354 Go on"))
                lines = []
                while (line := reader.readline()) != b".\r\n":
                    if not line:
                        raise EOFError
                    lines.append(line[1:] if line.startswith(b".") else line)
                text = b"".join(lines)
                self.finish(writer, sender, recipients, text)
            elif verb == b"BDAT":
                words = line.split(b" ")
                text += reader.read(int(words[1]))
                if not recipients:
                    writer.write(b"554 5.5.1 No valid recipients\r\n")
                    text = b""
                elif len(words) > 2:
                    self.finish(writer, sender, recipients, text)
                    text = b""
                else:
                    writer.write(b"250 2.0.0 More\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 Bye\r\n")
                return
            else:
                writer.write(self.answer(line, b"250 2.0.0 Ok"))

    def finish(self, writer, sender, recipients, text):
        for recipient in recipients if self.lmtp else recipients[:1]:
            reply = self.answer(b"DOT " + recipient, b"250 2.0.0 Ok")
            writer.write(reply)
        if reply.startswith(b"2"):
            self.messages.append((sender, list(recipients), text))
