"""A real Prometheus that scrapes a gateway each second, and what it answers; and the page that it scrapes, taken apart."""
import collections
import json
import os
import re
import socket
import urllib.error
import urllib.parse
import urllib.request

import harness
import peers
from harness import wait_until

PROGRAM, PROMTOOL = "/usr/bin/prometheus", "/usr/bin/promtool"
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)')

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: ringmx
    static_configs: [{{targets: ["{target}"]}}]
"""


def deployed(*parts):
    return os.path.join(harness.ROOT, "docs", "deploy", *parts)


def http_of(gateway):
    """The address of admin.http, as HOST:PORT."""
    return wait_until(lambda: [line["address"] for line in gateway.events("admin_listen") if line["for"] == "http"],
                      "event=admin_listen")[0]


class Page:
    """/metrics, read: types by family, values by (name, labels)."""

    def __init__(self, text):
        self.text, self.types, self.helps, self.values = text, {}, {}, collections.OrderedDict()
        for line in text.splitlines():
            kind, _, rest = line.partition(" ")[2].partition(" ") if line.startswith("#") else (None, "", "")
            if kind == "TYPE":
                family, _, self.types[rest.split()[0]] = rest.partition(" ")
                assert family in self.helps, line
            elif kind == "HELP":
                family, _, words = rest.partition(" ")
                assert family not in self.helps and words, line
                self.helps[family] = words
            else:
                name, labels, value = SAMPLE.fullmatch(line).groups()
                key = (name, tuple(LABEL.findall(labels or "")))
                assert key not in self.values, line
                self.values[key] = float(value)

    def value(self, name, **labels):
        return self.values[(name, tuple(labels.items()))]

    def sum(self, wanted, **labels):
        """Over all samples of this name that have these labels, and others."""
        return sum(value for (name, pairs), value in self.values.items()
                   if name == wanted and set(labels.items()) <= set(pairs))


def scrape(gateway):
    with urllib.request.urlopen(f"http://{http_of(gateway)}/metrics", timeout=harness.PATIENCE_S) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"), answer.headers
        return Page(answer.read().decode("utf-8"))


class Prometheus(peers.Peer):
    """Scrapes the gateway at `target` (HOST:PORT), with the alert rules of docs/deploy."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def __enter__(self):
        path = self.write("prometheus.yml", CONFIGURATION.format(
            target=self.target, rules=deployed("prometheus", "ringmx.rules.yml")))
        # It does not say which port the kernel chose: one that is free on an address that nobody else uses.
        host = "127.{}.{}.{}".format(*(1 + octet % 254 for octet in os.urandom(3)))
        with socket.create_server((host, 0)) as free_one:
            self.address = free_one.getsockname()
        self.launch([PROGRAM, f"--config.file={path}", f"--storage.tsdb.path={self.folder}/data",
                     "--web.listen-address={}:{}".format(*self.address), "--log.level=warn"])
        wait_until(self.ready, "Prometheus is ready")
        return self

    def ready(self):
        try:
            with urllib.request.urlopen("http://{}:{}/-/ready".format(*self.address), timeout=harness.PATIENCE_S):
                return True
        except urllib.error.HTTPError:
            return False

    def get(self, path, **words):
        url = "http://{}:{}/api/v1/{}?{}".format(*self.address, path, urllib.parse.urlencode(words))
        try:
            with urllib.request.urlopen(url, timeout=harness.PATIENCE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def query(self, text):
        """The samples of an instant query: a list of (labels, value)."""
        answer = self.get("query", query=text)
        assert answer["status"] == "success", (text, answer)
        return [(each["metric"], float(each["value"][1])) for each in answer["data"]["result"]]

    def number(self, text):
        """The one value of a query; None: there is none."""
        found = self.query(text)
        assert len(found) <= 1, (text, found)
        return found[0][1] if found else None

    def wait_number(self, text, value):
        """Waits until a query has this value: what was scraped before is older."""
        wait_until(lambda: self.number(text) == value, f"{text} == {value}, not {self.number(text)}", step_s=0.2)
