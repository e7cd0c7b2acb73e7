#!/usr/bin/python3
"""Draws the pictures of docs/benchmarks.md from a results file, as SVG that reads well on light and dark pages.

    pictures.py [bench/results/results.json [docs/pictures]]

The same results make the same files, byte for byte. Colours are classes: a style sheet inside each picture follows the
reader's preference for light or dark. Text is text, in the reader's own font.
"""

import io
import json
import math
import os
import re
import sys

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

import scenarios

matplotlib.use("svg")

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "results", "results.json")
PICTURES = os.path.join(os.path.dirname(HERE), "docs", "pictures")

WIDTH = 880  # of a picture, in the units that font sizes have
# Part -> colour on a light page, on a dark one. The colour-blind can tell them apart, too (after Okabe and Ito).
COLOURS = {
    "text": ("#24292f", "#d5dce4"),
    "quiet": ("#656d76", "#8d96a0"),
    "grid": ("#d8dee4", "#30363d"),
    "ringmx": ("#0969da", "#58a6ff"),
    "yardstick": ("#7d8590", "#848d97"),
    "postfix": ("#c2410c", "#ff9156"),
    "exim": ("#0f7b5f", "#3fc9a0"),
    "opensmtpd": ("#a33a8b", "#e58fd0"),
    "haraka": ("#8a6a00", "#e0b13a"),
    "smtp-sink": ("#57606a", "#a4adb8"),
}
SHOWN = {"postfix": "Postfix", "exim": "Exim", "opensmtpd": "OpenSMTPD", "haraka": "Haraka"}
FONT = "system-ui,-apple-system,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif"


# --- Colours: the drawing has a stand-in for each, which becomes a class. ---

STAND_INS = {part: f"#0{number:x}0b0c" for number, part in enumerate(COLOURS)}


def colour(part):
    """The stand-in of a part or of a server."""
    part = part.removesuffix(" tls")
    return STAND_INS["yardstick" if part.startswith("null ") else part if part in STAND_INS else "quiet"]


def style_sheet():
    def rules(which):
        return "".join(f".f-{part}{{fill:{pair[which]}}}.s-{part}{{stroke:{pair[which]}}}"
                       for part, pair in COLOURS.items())
    return (f"<style>text{{font-family:{FONT}}}{rules(0)}@media(prefers-color-scheme:dark){{{rules(1)}}}</style>")


def classes(match):
    """A style attribute without its stand-ins, and a class attribute in their place."""
    kept, found = [], []
    for declaration in match[1].split(";"):
        name, _, value = (word.strip() for word in declaration.partition(":"))
        part = next((part for part, stand_in in STAND_INS.items() if value == stand_in), None)
        if part:
            found.append(f"{name[0]}-{part}")
        elif name == "font":
            size = re.search(r"([\d.]+)px", value)[1]
            kept.append(f"font-size:{size}px" + (";font-weight:600" if re.match(r"(bold|[67]00) ", value) else ""))
        elif name:
            kept.append(f"{name}:{value}")
    return (f' class="{" ".join(found)}"' if found else "") + (f' style="{";".join(kept)}"' if kept else "")


def finished(figure, title):
    """The drawing as SVG text."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None,
                                                                   "Type": None})
    plt.close(figure)
    text = file.getvalue()
    text = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>|<style [^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' style="([^"]*)"', classes, text)
    text = re.sub(r'(<svg [^>]*?)width="(\d+)pt"( [^>]*?)height="(\d+)pt"', r'\1width="\2"\3height="\4"', text, count=1)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r"(<svg [^>]*)>", rf'\1 role="img"><title>{title}</title>{style_sheet()}', text, count=1)
    return re.sub(r"\n\s*", "\n", text)


# --- What all pictures have in common. ---

def prepare():
    plt.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "ringmx", "font.size": 13, "font.family": "DejaVu Sans",
        "text.color": colour("text"), "axes.labelcolor": colour("quiet"), "axes.edgecolor": colour("grid"),
        "xtick.color": colour("quiet"), "ytick.color": colour("quiet"), "axes.titlesize": 14, "axes.titlepad": 12,
        "axes.labelsize": 12.5, "xtick.labelsize": 12.5, "ytick.labelsize": 12.5, "path.simplify": True})


def canvas(height, columns, **more):
    """A figure of that height with so many axes beside each other, from which all is taken away."""
    prepare()
    figure, axes = plt.subplots(1, columns, figsize=(WIDTH / 72, height / 72), squeeze=False, **more)
    for one in axes[0]:
        one.patch.set_visible(False)
        one.tick_params(length=0)
        for side in one.spines.values():
            side.set_visible(False)
    return figure, axes[0]


def headings(figure, height, title, below):
    """The title of the whole picture, and a quiet line below it."""
    figure.text(0.012, 1 - 8 / height, title, va="top", fontsize=16, fontweight="bold", color=colour("text"))
    figure.text(0.012, 1 - 34 / height, below, va="top", fontsize=12.5, color=colour("quiet"))


def shown(server):
    return SHOWN.get(server.removesuffix(" tls"), server.removesuffix(" tls"))


def thousands(value, _position=None):
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def apart(values, least):
    """The same values, moved as little as may be so that neighbours are `least` apart: places for labels."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    placed = [values[index] for index in order]
    for _ in range(200):
        for low, high in zip(range(len(placed)), range(1, len(placed))):
            gap = placed[high] - placed[low]
            if gap < least - 1e-9:
                placed[low] -= (least - gap) / 2
                placed[high] += (least - gap) / 2
    return [placed[order.index(index)] for index in range(len(values))]


def label_ends(axes, lines):
    """Names each line at its right end: (server, x, y), on a logarithmic y axis."""
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    unit = axes.get_window_extent().height / (high - low)
    heights = [math.log10(y) * unit for _server, _x, y in lines]
    for (server, x, y), height, place in zip(lines, heights, apart(heights, 16)):
        axes.annotate(shown(server), (x, y), xytext=(9, place - height), textcoords="offset points", va="center",
                      color=colour(server), fontweight="bold" if server == "ringmx" else "normal",
                      annotation_clip=False)


def line(axes, server, xs, ys, **more):
    axes.plot(xs, ys, color=colour(server), linewidth=3 if server == "ringmx" else 1.8, solid_capstyle="round",
              linestyle=(0, (4, 2.5)) if server.startswith("null ") else "-", zorder=3 if server == "ringmx" else 2,
              clip_on=False, **more)


# --- Throughput: bars. ---

PANELS = [("c100", "100 connections"), ("once", "one message a connection"),
          ("tls-starttls", "the same, with STARTTLS")]
NOT_SHOWN = "null fdatasync"
GROUP_GAP = 1.25  # rows between those that are durable and those that are not


def bars_of(content, scenario):
    """{server without " tls": figure} of a scenario."""
    return {server.removesuffix(" tls"): result["per_second"]
            for server, result in content["scenarios"].get(scenario, {}).items() if server != NOT_SHOWN}


def rows_of(content, panels):
    """The servers from top to bottom: durable ones first, each group from fast to slow; and how many are durable."""
    figures = {name: figure for panel in reversed(panels) for name, figure in panel.items()}
    names = sorted(figures, key=lambda name: -figures[name]["median"])
    durable = [name for name in names if content["servers"][name]["durable"]]
    return durable + [name for name in names if name not in durable], len(durable)


def emphasis(server):
    return {"color": colour("text" if server == "ringmx" else "quiet"),
            "fontweight": "bold" if server == "ringmx" else "normal"}


def draw_bars(axes, places, figures, solid):
    most = max(figure["max"] for figure in figures.values())
    for name, place in places.items():
        if name not in figures:
            continue
        figure = figures[name]
        axes.barh(place, figure["median"], height=0.62, edgecolor=colour(name), linewidth=1.4,
                  facecolor=colour(name) if name in solid else "none")
        axes.plot([figure["min"], figure["max"]], [place, place], color=colour("text"), linewidth=1.2)
        axes.annotate(thousands(figure["median"]), (figure["max"], place), xytext=(7, 0), textcoords="offset points",
                      va="center", **emphasis(name))
    axes.set_xlim(0, most * 1.3)
    axes.set_ylim(min(places.values()) - 0.5, 0.5)
    axes.xaxis.set_major_locator(NullLocator())
    axes.yaxis.set_major_locator(NullLocator())


def throughput(content):
    panels = [(bars_of(content, scenario), text) for scenario, text in PANELS]
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        return None
    rows, durable = rows_of(content, [figures for figures, _ in panels])
    places = {name: -row - (GROUP_GAP if row >= durable else 0) for row, name in enumerate(rows)}
    top, bottom = 128, 10
    height = top + bottom + 29 * (1 - min(places.values()))
    figure, axes = canvas(height, len(panels), sharey=True)
    figure.subplots_adjust(left=0.115, right=0.995, top=1 - top / height, bottom=bottom / height, wspace=0.06)
    headings(figure, height, "Messages a second, each server on one CPU",
             "4 KiB each. Filled: on disk before the 250. Outlined: not, or not yet. Grey: do-nothing yardsticks. "
             "Each column has its own scale.")
    for one, (figures, text) in zip(axes, panels):
        draw_bars(one, places, figures, rows[:durable])
        one.annotate(text, (0, 0.5), xytext=(0, 32), textcoords="offset points", fontweight="bold",
                     color=colour("text"))
    groups = [(0, "on disk")] + ([(durable, "not on disk")] if durable < len(rows) else [])
    for row, text in groups:
        axes[0].annotate(text, (0, places[rows[row]] + 0.5), xytext=(0, 7), textcoords="offset points", fontsize=12,
                         color=colour("quiet"))
    for name, place in places.items():
        axes[0].annotate(shown(name), (0, place), xytext=(-10, 0), textcoords="offset points", ha="right", va="center",
                         **emphasis(name))
    return finished(figure, "Messages a second")


# --- Latency: percentiles of the open loops. ---

NINES = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")]
TIMES = {1e-2: "10 µs", 1e-1: "100 µs", 1: "1 ms", 10: "10 ms", 100: "100 ms", 1e3: "1 s", 1e4: "10 s"}


def nines(share):
    return -math.log10(1 - share)


def drawn(result):
    """The part of a curve that is shown: x, milliseconds."""
    return [(nines(share), us / 1e3) for share, us in result["curve"] if 0.49 < share < 0.99991]


def draw_percentiles(axes, results):
    for server, result in results.items():
        if drawn(result):
            line(axes, server, *zip(*drawn(result)))
    axes.set_yscale("log")
    axes.set_xlim(nines(0.5), nines(0.9999))
    axes.xaxis.set_major_locator(FixedLocator([nines(share) for share, _ in NINES]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda _x, position: NINES[position][1]))
    axes.yaxis.set_major_locator(FixedLocator(list(TIMES)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: TIMES.get(y, "")))
    axes.grid(color=colour("grid"), linewidth=1)


def latency(content):
    panels = [(content["scenarios"].get(name), text) for name, text in (
        ("open-slowest", "half of what the slowest takes"), ("open-own", "half of what ringmx takes"))]
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        return None
    height = 430
    figure, axes = canvas(height, len(panels), sharey=True)
    figure.subplots_adjust(left=0.075, right=0.885, top=1 - 112 / height, bottom=34 / height, wspace=0.32)
    headings(figure, height, "Time to the 250, for servers that keep mail on disk",
             "From the moment at which a message was meant to start: an open loop, which waits for no stalled server.")
    values = [y for results, _ in panels for result in results.values() for _x, y in drawn(result)]
    for one, (results, text) in zip(axes, panels):
        draw_percentiles(one, results)
        one.set_ylim(min(values) / 1.6, max(values) * 1.6)
        offered = next(iter(results.values()))["offered"]["median"]
        one.annotate(f"{thousands(offered)} messages a second", (0, 1), xycoords="axes fraction", xytext=(0, 28),
                     textcoords="offset points", fontweight="bold", color=colour("text"))
        one.annotate(text, (0, 1), xycoords="axes fraction", xytext=(0, 10), textcoords="offset points",
                     fontsize=12.5, color=colour("quiet"))
        label_ends(one, [(server, *drawn(result)[-1]) for server, result in results.items() if drawn(result)])
    return finished(figure, "Percentiles of the time to the 250, open loop")


# --- Cost: CPU time of a message over the number of connections. ---

def costs(content, server):
    """(connections, microseconds of CPU time for a message) of a server."""
    found = [(int(name[1:]), content["scenarios"].get(name, {}).get(server)) for name in scenarios.GROWTH]
    return [(connections, 1e6 / result["per_cpu"]["median"]) for connections, result in found if result]


def cost(content):
    lines = {server: costs(content, server) for server in content["servers"] if server != NOT_SHOWN}
    lines = {server: points for server, points in lines.items() if points}
    if not lines:
        return None
    height = 420
    figure, (axes,) = canvas(height, 1)
    figure.subplots_adjust(left=0.08, right=0.885, top=1 - 72 / height, bottom=52 / height)
    headings(figure, height, "What one message costs, as connections grow",
             "CPU time of the server for 4 KiB, all its threads and processes.")
    for server, points in lines.items():
        line(axes, server, *zip(*points), marker="o", markersize=6 if server == "ringmx" else 4, markeredgewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator([10, 100, 1000, 10_000]))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.yaxis.set_major_locator(FixedLocator([1, 3, 10, 30, 100, 300, 1000, 3000, 10_000]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f} µs"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    values = [y for points in lines.values() for _x, y in points]
    axes.set_ylim(min(values) / 1.5, max(values) * 1.5)
    axes.set_xlim(9, 10_000)
    axes.set_xlabel("connections")
    axes.grid(color=colour("grid"), linewidth=1)
    label_ends(axes, [(server, *points[-1]) for server, points in lines.items()])
    return finished(figure, "CPU time of the server for a message, over the number of connections")


def main():
    source = sys.argv[1] if len(sys.argv) > 1 else RESULTS
    folder = sys.argv[2] if len(sys.argv) > 2 else PICTURES
    with open(source, encoding="utf-8") as file:
        content = json.load(file)
    os.makedirs(folder, exist_ok=True)
    for name, draw in (("throughput", throughput), ("latency", latency), ("cost", cost)):
        path = os.path.join(folder, name + ".svg")
        text = draw(content)
        if text is None:
            print(f"{name}: there are no figures for it")
            continue
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        print(f"{os.path.relpath(path)}: {len(text.encode()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
