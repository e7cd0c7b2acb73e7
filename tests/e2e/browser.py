"""Chromium without a screen, by chromedriver, which speaks the W3C WebDriver protocol: HTTP and JSON."""
import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from harness import wait_until

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Browser:
    """One browser with a profile of its own. What the page logs and asks for can be read afterwards."""

    def __init__(self, width=1280, height=900, dark=False, motion=True):
        if not CHROMIUM or not DRIVER:
            raise unittest.SkipTest("skipped: chromium and chromedriver are not installed")
        self.profile = tempfile.mkdtemp(prefix="ringmx-browser-", dir=os.environ.get("RINGMX_TMP"))
        port = free_port()
        self.driver = subprocess.Popen([DRIVER, f"--port={port}", "--log-level=SEVERE"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.base, self.session = f"http://127.0.0.1:{port}", None
        try:
            wait_until(self.is_up, "chromedriver", 30)
            flags = FLAGS + [f"--user-data-dir={self.profile}", f"--window-size={width},{height}"]
            flags += ["--force-prefers-reduced-motion"] if not motion else []
            self.session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": {
                "browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                "goog:chromeOptions": {"binary": CHROMIUM, "args": flags}}}})["sessionId"]
            self.prefer(dark)
            self.size(width, height)
        except BaseException:
            self.close()
            raise

    def is_up(self):
        try:
            return self.ask("GET", "/status")["ready"]
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:2000]}") from None

    def do(self, method, path, body=None):
        return self.ask(method, f"/session/{self.session}{path}", body)

    def tool(self, command, **words):
        """A command of the DevTools protocol."""
        return self.do("POST", "/goog/cdp/execute", {"cmd": command, "params": words})

    def prefer(self, dark):
        self.tool("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def size(self, width, height, scale=1, phone=False):
        self.tool("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone)

    def open(self, address):
        self.do("POST", "/url", {"url": address})

    def run(self, script, *arguments):
        return self.do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector):
        return self.run("const e = document.querySelector(arguments[0]); return e && e.textContent", selector)

    def console(self):
        """What the page and the browser complained about since the last call."""
        return self.do("POST", "/se/log", {"type": "browser"})

    def requests(self):
        """Addresses that were asked for since the last call."""
        events = (json.loads(entry["message"])["message"] for entry in self.do("POST", "/se/log", {"type": "performance"}))
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def picture(self, path=None, whole=False):
        """A PNG of what is seen, or of the whole page."""
        shot = self.tool("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        octets = base64.b64decode(shot["data"])
        if path:
            with open(path, "wb") as file:
                file.write(octets)
        return octets

    def close(self):
        if self.session:
            try:
                self.do("DELETE", "")
            except (AssertionError, OSError):
                pass
            self.session = None
        if self.driver.poll() is None:
            self.driver.terminate()
            try:
                self.driver.wait(10)
            except subprocess.TimeoutExpired:
                self.driver.kill()
                self.driver.wait()
        for _ in range(20):
            shutil.rmtree(self.profile, ignore_errors=True)
            if not os.path.exists(self.profile):
                break
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
