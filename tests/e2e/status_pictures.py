"""Draws docs/pictures/status-*.png anew: the status page of a gateway that runs here, with mail from ringmx-load, some of
it refused, some for a destination that is away. Not a test: tests/e2e/status_pictures.py [SECONDS [FOLDER]]"""
import io
import os
import sys
import threading
import time

from PIL import Image

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import loader  # noqa: E402
from browser import Browser  # noqa: E402
from harness import ROOT, Gateway  # noqa: E402
from test_admin import ADMIN, admin_addresses  # noqa: E402


def strangers(gateway, end):
    """Clients that are refused now and then, in all the usual ways."""
    turn = 0
    while time.monotonic() < end and gateway.alive():
        turn += 1
        with gateway.client() as client:
            client.hello()
            client.command(f"MAIL FROM:<a{turn}@client.example>")
            for n in range(turn % 5):
                client.command(f"RCPT TO:<nobody{n}@{'elsewhere.example' if turn % 3 else 'example.net'}>")
            if turn % 7 == 0:
                client.command("NONSENSE")
            if turn % 11 == 0:
                client.command("MAIL FROM:<again@client.example>")
            if turn % 4 == 0:
                client.command(f"RCPT TO:<a@{('away.example', 'slow.example', 'far.example')[turn // 4 % 3]}>")
                client.command("DATA")
                client.send(b"Subject: x\r\n\r\n" + b"x" * 60 + b"\r\n.\r\n")
                client.reply()
        time.sleep(0.15)


def waves(gateway, end):
    """Mail in clear and in TLS, more and less of it."""
    turn = 0
    while time.monotonic() < end - 3:
        seconds = min(9 + turn % 3 * 4, max(int(end - time.monotonic()) - 2, 1))
        rate = (250, 420, 340, 520, 300, 610, 380)[turn % 7]
        runs = [loader.start(gateway.address, "--rate", rate, "--seconds", seconds, "--connections", 30 + turn % 4 * 8,
                             "--size", "lognormal:9000:1.0:400000"),
                loader.start(gateway.address, "--rate", rate // 3, "--seconds", seconds, "--connections", 24,
                             "--messages-per-connection", 6, "--tls", "starttls", "--tls-resume")]
        for run in runs:
            run.communicate()
        turn += 1


def save(octets, path):
    """With its 256 most frequent colours as they are, which is a third of the size."""
    picture = Image.open(io.BytesIO(octets)).convert("RGB")
    found = sorted(picture.getcolors(1 << 24), reverse=True)[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in found for part in colour])
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 180
    folder = sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "docs", "pictures")
    domains = {"example.org": (["*"], "discard:"), "example.net": (["alice"], "maildir:{mail}/%d/%u")}
    domains.update({name: (["*"], f"smtp:127.0.0.1:{port}") for name, port in
                    (("away.example", 1), ("slow.example", 2), ("far.example", 3))})
    gateway = Gateway(settings={**ADMIN, "queue.schedule": '{"20s", "1m"}'}, domains=domains,
                      certificates={"mx.example.org": "chain = \"self.pem\" key = \"self.key\" self_signed = true"})
    gateway.start()
    try:
        base = "http://%s:%d/" % admin_addresses(gateway)["http"]
        end = time.monotonic() + seconds
        for work in (strangers, waves):
            threading.Thread(target=work, args=(gateway, end), daemon=True).start()
        time.sleep(seconds - 24)
        with Browser() as browser:
            browser.open(base)
            time.sleep(2)
            for name, width, height, dark, phone in (("light", 1280, 0, False, False), ("dark", 1280, 0, True, False),
                                                     ("phone", 390, 1560, False, True)):
                browser.prefer(dark)
                browser.size(width, height or 2000, 1, phone)
                time.sleep(1.3)
                whole = browser.run("return document.documentElement.getBoundingClientRect().height")
                browser.size(width, height or int(whole) + 1, 1, phone)
                time.sleep(1.3)
                save(browser.picture(), os.path.join(folder, f"status-{name}.png"))
    finally:
        gateway.close()


if __name__ == "__main__":
    main()
