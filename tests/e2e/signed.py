"""Verifiers of DKIM signatures: python3-dkim, Mail::DKIM and opendkim, each with the records that the test gives as
{name: text} in place of DNS. verify_*(messages, records) return, for each message, a list of what each of its
signatures came to, from the top down: (selector, "pass", or what the verifier says)."""
import os
import re
import subprocess
import tempfile

import dkim

PERL = r"""
use strict; use warnings; use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS;
package Records; my %records;
sub new { open(my $in, '<', $_[1]) or die;
  while (<$in>) { chomp; my ($name, $text) = split / /, $_, 2; $records{lc $name} = $text; }
  return bless {}; }
sub errorstring { 'NXDOMAIN' }
sub send { my ($self, $name, $type) = @_; my $packet = Net::DNS::Packet->new($name, $type);
  my $text = $records{lc $name};
  if (defined $text) { $packet->push(answer => Net::DNS::RR->new(owner => $name, type => 'TXT', txtdata =>
      [unpack '(a255)*', $text])); $packet->header->rcode('NOERROR'); }
  else { $packet->header->rcode('NXDOMAIN'); }
  return $packet; }
package main;
Mail::DKIM::DNS::resolver(Records->new(shift @ARGV));
for my $path (@ARGV) {
  open(my $in, '<:raw', $path) or die; local $/; my $text = <$in>;
  my $dkim = Mail::DKIM::Verifier->new(); $dkim->PRINT($text); $dkim->CLOSE;
  print join("\t", map { my $said = ($_->selector || '-') . ' ' . $_->result . ' ' . ($_->result_detail // '');
    $said =~ s/\s+/ /g; $said } $dkim->signatures), "\n";
}
"""


class Files:
    """Messages and records in a directory of their own."""

    def __init__(self, messages, records):
        self.folder = tempfile.TemporaryDirectory(prefix="dkim-", dir=os.environ.get("RINGMX_TMP"))
        self.paths = []
        for number, content in enumerate(messages):
            self.paths.append(os.path.join(self.folder.name, f"{number:04}"))
            with open(self.paths[-1], "wb") as file:
                file.write(content)
        self.records = os.path.join(self.folder.name, "records")
        with open(self.records, "w", encoding="utf-8") as file:
            file.writelines(f"{name} {text}\n" for name, text in records.items())

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.folder.cleanup()


def selectors(message):
    """Of the DKIM-Signature fields at the front, behind Return-Path and Received."""
    head = message.split(b"\r\n\r\n", 1)[0]
    fields = re.findall(rb"^DKIM-Signature:((?:.*\r\n[ \t])*.*)", head, re.M | re.I)
    return [re.search(rb"[;\s]s=([^;\s]*)", field)[1].decode() for field in fields]


def verify_python(messages, records):
    answers = {name.encode() + b".": text.encode() for name, text in records.items()}
    result = []
    for message in messages:
        verdicts = []
        for number, selector in enumerate(selectors(message)):
            try:
                good = dkim.DKIM(message, minkey=1024).verify(number, dnsfunc=lambda name, timeout: answers.get(name))
                verdicts.append((selector, "pass" if good else "fail"))
            except dkim.DKIMException as error:
                verdicts.append((selector, f"{type(error).__name__}: {error}"))
        result.append(verdicts)
    return result


def verify_perl(messages, records):
    with Files(messages, records) as files:
        done = subprocess.run(["perl", "-e", PERL, files.records, *files.paths], check=True,
                              capture_output=True)
    lines = done.stdout.decode("latin-1").split("\n")
    return [[(one.split(" ")[0], "pass" if one.split(" ")[1] == "pass" else one) for one in line.split("\t") if one]
            for line in lines]


def alone(message, selector):
    """The message with no other signature than this one."""
    head, empty, body = message.partition(b"\r\n\r\n")
    this = rb"(?:.*\r\n[ \t])*?.*[; \t]s=" + re.escape(selector.encode()) + rb";"
    others = rb"^DKIM-Signature:(?!" + this + rb")(?:.*\r\n[ \t])*.*\r\n"
    return re.sub(others, b"", head + b"\r\n", flags=re.M | re.I) + empty[2:] + body


def verify_opendkim(messages, records):
    """opendkim tells of the one signature that decides: so each is verified without the others."""
    parts = [(number, selector) for number, message in enumerate(messages) for selector in selectors(message)]
    result = [[] for _ in messages]
    with Files([alone(messages[number], selector) for number, selector in parts], records) as files:
        configuration = os.path.join(files.folder.name, "conf")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(f"TestPublicKeys {files.records}\nMode v\nMaximumHeaders 0\n")
        said = subprocess.run(["/usr/sbin/opendkim", "-x", configuration, "-v", "-t", ",".join(files.paths)],
                              check=False, capture_output=True).stdout.decode("latin-1")
        verdicts = dict(re.findall(r"^opendkim: (\S+): verification (.*)", said, re.M))
        for (number, selector), path in zip(parts, files.paths):
            verdict = verdicts.get(path, "nothing")
            good = re.match(rf"\(s={selector}[, ]", verdict) and verdict.endswith(" succeeded")
            result[number].append((selector, "pass" if good else verdict))
    return result


ALL = {"python3-dkim": verify_python, "Mail::DKIM": verify_perl, "opendkim": verify_opendkim}
PERL_ED25519 = subprocess.run(["perl", "-MCrypt::PK::Ed25519", "-e", "1"], check=False,
                              stderr=subprocess.DEVNULL).returncode == 0
