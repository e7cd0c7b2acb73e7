"""The status page in Chromium: nothing is complained about or asked for elsewhere, its figures move with real traffic and
are those of status.json, in light and dark, on a phone, and while the gateway is away."""
import re
import signal
import time
import unittest

import loader
from browser import Browser
from harness import Gateway, quote, wait_until
from test_admin import ADMIN, admin_addresses, fetch, status

MOVES = """return [...document.querySelectorAll("#plots .plot")].map(plot => [...plot.querySelectorAll("path.curve")]
    .map(path => (path.getAttribute("d") || "").length))"""
CELLS = """return [...document.querySelectorAll(arguments[0] + " tbody tr")].map(row => [...row.cells].map(cell => cell.textContent))"""
# The contrast (WCAG 2) of every text against what is behind it.
CONTRAST = """
const parse = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => { const f = c => { c /= 255; return c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
  return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] > .99) return c; } return [255, 255, 255]; };
const found = [];
for (const e of document.querySelectorAll("body *")) {
  if (!(e instanceof HTMLElement) || !e.offsetParent) continue;
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
  const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
  found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.tagName + " " + e.className + " " + e.textContent.trim().slice(0, 20)]);
}
return found.sort((x, y) => x[0] - y[0])[0]"""
BOXES = """return [...document.querySelectorAll("section, .tiles > div")].map(e => { const b = e.getBoundingClientRect();
    return [b.left, b.top + scrollY, b.width, b.height].map(Math.round) })"""


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        self.gateway = Gateway(settings=ADMIN).start()
        self.addCleanup(self.gateway.close)
        self.http = admin_addresses(self.gateway)["http"]
        self.base = "http://%s:%d/" % self.http
        self.browser.size(1280, 900)
        self.browser.prefer(False)
        self.browser.open("about:blank")  # the page of the test before asks no more
        self.browser.console(), self.browser.requests()

    def open(self):
        self.browser.open(self.base)
        self.wait_word("Ready")

    def wait_word(self, word, timeout_s=None):
        wait_until(lambda: self.browser.text("#word") == word, f"{word!r} on the page", timeout_s, 0.1)

    def no_complaints(self):
        self.assertEqual(self.browser.console(), [])

    def test_figures(self):
        """Under traffic they move; afterwards they are those of status.json."""
        self.open()
        load = loader.start(self.gateway.address, "--rate", "100", "--seconds", "4", "--connections", "5")
        wait_until(lambda: int(self.browser.run("return document.querySelector('[data-key=messages]').dataset.value || 0")) > 20,
                   "messages on the page")
        before = self.browser.run(MOVES)
        wait_until(lambda: self.browser.text("[data-key=connections]") == "5", "5 connections")
        with self.gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            for _ in range(7):
                client.expect(550, "RCPT TO:<a@elsewhere.example>")
        report = loader.finish(load)
        wait_until(lambda: self.browser.run(MOVES) != before, "the plots move")
        wait_until(lambda: self.browser.text("[data-key=connections]") == "0", "no connections any more")
        time.sleep(2.2)
        shown, page = status(self.http), self.browser.text("#tiles")
        self.assertEqual(shown["totals"]["messages"], report["messages"])
        self.assertIn(f"{report['messages']:,} in all", page)
        self.assertEqual(self.browser.run(CELLS, "#refusals")[0], ["550 5.7.1 Relaying denied", "7", "7"])
        self.assertEqual(shown["refusals"][0], {"reply": "550 5.7.1 Relaying denied", "minute": 7, "total": 7})
        phases = {row[0]: row for row in self.browser.run(CELLS, "#phases")}
        self.assertEqual(phases["To disk, and the reply"][1], f"{shown['phases']['commit']['count']:,}")
        threads = self.browser.run("return [...document.querySelectorAll('#threads li span')].map(e => e.textContent)")
        self.assertEqual(threads, [thread["name"] for thread in shown["threads"]])
        self.assertIn(shown["version"], self.browser.text("#about"))
        # The plots have what the rows have: hover over a second that was busy.
        rows, columns = shown["history"]["rows"], shown["history"]["columns"]
        top = max(rows, key=lambda row: row[columns.index("messages")])
        self.hover(top[0])
        self.assertEqual(self.browser.text("#plots section:nth-child(1) .legend b"),
                         f"{top[columns.index('messages')]:,}")
        self.no_complaints()
        elsewhere = [url for url in self.browser.requests() if not url.startswith(self.base)
                     and not url.startswith(("data:", "chrome:"))]
        self.assertEqual(elsewhere, [])
        self.gateway.stop()

    def hover(self, second):
        """The arrow keys find it: from the end, to the left."""
        script = """const plot = document.querySelector("#plots .plot"); plot.focus();
            const aside = () => plot.parentElement.querySelector(".top .muted").textContent;
            const d = new Date(arguments[0] * 1000), two = n => String(n).padStart(2, "0");
            const wanted = two(d.getHours()) + ":" + two(d.getMinutes()) + ":" + two(d.getSeconds());
            for (let i = 0; i < 700 && aside() !== wanted; i++)
                plot.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true, cancelable: true }));
            return aside() === wanted"""
        self.assertTrue(self.browser.run(script, second), "no such second in the plot")

    def test_history_is_there_at_once(self):
        """A page that is opened later shows what was before."""
        loader.run(self.gateway.address, "--messages", "50", "--connections", "2")
        time.sleep(1.5)
        self.open()
        wait_until(lambda: max(map(max, self.browser.run(MOVES))) > 30, "a curve")
        self.no_complaints()
        self.gateway.stop()

    def test_light_and_dark(self):
        self.open()
        colours = {}
        for dark in (False, True):
            self.browser.prefer(dark)
            colours[dark] = self.browser.run("return getComputedStyle(document.body).backgroundColor")
            worst = self.browser.run(CONTRAST)
            self.assertGreaterEqual(worst[0], 4.5, f"{'dark' if dark else 'light'}: {worst[1]}")
        self.assertNotEqual(colours[False], colours[True])
        # The choice is stronger than what the system prefers, and is remembered.
        self.browser.prefer(False)
        self.browser.run("document.querySelector('#theme input[value=dark]').click()")
        self.assertEqual(self.browser.run("return getComputedStyle(document.body).backgroundColor"), colours[True])
        self.open()
        self.assertEqual(self.browser.run("return getComputedStyle(document.body).backgroundColor"), colours[True])
        self.browser.run("document.querySelector('#theme input[value=\"\"]').click()")
        self.assertEqual(self.browser.run("return getComputedStyle(document.body).backgroundColor"), colours[False])
        self.no_complaints()
        self.gateway.stop()

    def test_phone(self):
        for width in (320, 390, 768):
            self.browser.size(width, 844, 2, True)
            self.open()
            self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), width)
            plots = self.browser.run("return [...document.querySelectorAll('#plots section')].map(e => e.offsetLeft)")
            self.assertEqual(len(set(plots)), 1 if width < 720 else 2)
        self.no_complaints()
        self.gateway.stop()

    def test_nothing_jumps(self):
        """From the first moment on, and with traffic, every part stays where it is."""
        self.browser.open(self.base)
        self.wait_word("Ready")
        wait_until(lambda: self.browser.text("#threads b"), "threads")
        before = self.browser.run(BOXES)
        loader.run(self.gateway.address, "--seconds", "2", "--connections", "5")
        with self.gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(550, "RCPT TO:<a@elsewhere.example>")
            client.expect(500, "NONSENSE")
        time.sleep(2.2)
        self.assertEqual(self.browser.run(BOXES), before)
        self.gateway.stop()

    def test_away_and_back(self):
        """Killed: it says so. Started again: it goes on by itself, with the figures of the new process."""
        for name, (host, port) in admin_addresses(self.gateway).items():
            self.gateway.settings[f"admin.{name}"] = quote(f"{host}:{port}")
        loader.run(self.gateway.address, "--messages", "50", "--connections", "2")
        self.open()
        wait_until(lambda: "50 in all" in self.browser.text("#tiles"), "50 messages")
        self.gateway.kill()
        self.wait_word("No answer")
        self.assertIn("not answered", self.browser.text("#why"))
        self.assertEqual(self.browser.run("return document.documentElement.dataset.state"), "away")
        self.gateway.start()
        self.wait_word("Ready")
        wait_until(lambda: "0 in all" in self.browser.text("#tiles") and "50 in all" not in self.browser.text("#tiles"),
                   "the new process's figures")
        self.gateway.stop()

    def test_drain(self):
        self.open()
        with self.gateway.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(250, "RCPT TO:<a@example.org>")
            client.expect(354, "DATA")
            self.gateway.signal(signal.SIGTERM)
            self.wait_word("Draining")
            self.assertEqual(self.browser.run("return document.documentElement.dataset.state"), "draining")
            client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
            self.assertEqual(client.reply().code, 250)
        self.gateway.stop()

    def test_text_is_text(self):
        """What comes from outside can only become text: the page has no way to make markup of a string."""
        text = fetch(self.http)[2].decode()
        self.assertIsNone(re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|srcdoc", text))
        self.assertIsNone(re.search(r"<[^>]* (on[a-z]+|style)=", text.split("<script>")[0].split("</style>")[1]))
        self.gateway.stop()

    def test_names(self):
        """What a screen reader finds: a name for each plot and choice, one heading, a state that is announced."""
        self.open()
        wait_until(lambda: self.browser.run("return document.querySelectorAll('.plot[aria-label]').length") == 6, "names of plots")
        found = self.browser.run("""return { h1: document.querySelectorAll("h1").length, lang: document.documentElement.lang,
            live: document.querySelector("#word").closest("[aria-live]") !== null,
            legends: [...document.querySelectorAll("fieldset")].every(f => f.querySelector("legend").textContent.trim()),
            scopes: [...document.querySelectorAll("th")].every(t => t.scope === "col") }""")
        self.assertEqual(found, {"h1": 1, "lang": "en", "live": True, "legends": True, "scopes": True})
        self.gateway.stop()


if __name__ == "__main__":
    unittest.main()
