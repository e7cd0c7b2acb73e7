"""What is printed: tables on the terminal while the benchmark runs, and the same in Markdown, from a results file, for
docs/benchmarks.md."""

import scenarios


def spread(figure):
    """Half the distance between most and least, in percent of the median."""
    if len(figure["runs"]) < 2 or not figure["median"]:
        return ""
    return f"{(figure['max'] - figure['min']) / 2 / figure['median'] * 100:.0f}%"


def named(server, result, scenario=""):
    """The server, and what it did otherwise than the scenario wants."""
    agreed = result.get("agreed", {})
    notes = ["lock-step"] if agreed.get("lock_step") else []
    if scenario.endswith("resumed") and agreed["resumed"] < 0.01:
        notes.append("resumes none")
    return server + (f" ({', '.join(notes)})" if notes else "")


def at_least(knee):
    return "at least " if knee["at_least"] else ""


def medians(result):
    return {name: figure["median"] for name, figure in result.items() if name not in ("agreed", "curve")}


# --- The terminal. ---

# Head, width, what stands there: of medians (m) and whole figures (f) of a server.
COLUMNS = [
    ("msg/s", 9, lambda m, f: f"{m['per_second']:,.0f}"),
    ("+-", 4, lambda m, f: spread(f["per_second"])),
    ("msg/CPU-s", 10, lambda m, f: f"{m['per_cpu']:,.0f}"),
    ("+-", 4, lambda m, f: spread(f["per_cpu"])),
    ("p50 ms", 9, lambda m, f: f"{m['p50_us'] / 1e3:.3f}"),
    ("p99 ms", 9, lambda m, f: f"{m['p99_us'] / 1e3:.3f}"),
    ("p99.9 ms", 9, lambda m, f: f"{m['p999_us'] / 1e3:.3f}"),
    ("MB/s", 6, lambda m, f: f"{m['gigabytes'] * 1e3:.0f}"),
    ("MiB", 6, lambda m, f: f"{m['memory'] / 2**20:.0f}"),
    ("CPU", 5, lambda m, f: f"{m['server_cpu']:.0%}"),
    ("load", 5, lambda m, f: f"{m['load_cpu']:.0%}"),
]


def print_scenario(results, durable, clear):
    """`durable`: names of servers; `clear`: figures of ringmx to compare with, of another scenario, or None."""
    first = "ringmx" if "ringmx" in results else next(iter(results))
    base = medians(clear or results[first])
    head = " ".join(f"{text:>{width}}" for text, width, _ in COLUMNS)
    print(f"  {'':<21} disk {head}   {'ringmx in clear' if clear else first}: msg/s, msg/CPU-s")
    for name, result in results.items():
        row, ratio = medians(result), ""
        if clear or name != first:
            ratio = (f"{base['per_second'] / row['per_second']:>7.2f} x "
                     f"{base['per_cpu'] / max(row['per_cpu'], 1e-9):>7.2f} x")
        words = " ".join(f"{word(row, result):>{width}}" for _, width, word in COLUMNS)
        print(f"  {named(name, result):<21} {'yes' if name in durable else 'no':>4} {words}   {ratio}", flush=True)


def print_goals(goals):
    if goals:
        print("\nGoals of ringmx")
    for goal in goals:
        print(f"  {'reached' if goal['reached'] else 'MISSED ':<8} {goal['value']:>8.2f}  {goal['limit']:>8}  "
              f"{goal['goal']}")


# --- Markdown. ---

def number(value):
    """Three digits, or all that stand before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}" if value >= 1 else f"{value:.3f}"


def between(figure, scale=1.0):
    """The median; least and most behind it, when there was more than one run."""
    middle = number(figure["median"] * scale)
    if len(figure["runs"]) < 2:
        return middle
    return f"{middle} ({number(figure['min'] * scale)}–{number(figure['max'] * scale)})"


def table(head, rows):
    """Rows of words; all columns but the first two are aligned to the right. Nothing without rows."""
    rows = list(rows)
    if not rows:
        return
    yield "| " + " | ".join(head) + " |"
    yield "|---|---|" + "---:|" * (len(head) - 2)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def environment_lines(content):
    sheet = content["environment"]
    disk, smt = sheet["file_system"], {"on": ", SMT on", "off": ", SMT off"}.get(sheet["smt"], "")
    writes = "".join(f"; durable write of 4 KiB, {name}: {us:.0f} microseconds"
                     for name, us in disk["write_us"].items())
    yield (f"- {sheet['date'][:10]}: {sheet['cpu']}, {sheet['cpus']} CPUs{smt}, virtual: {sheet['virtual']}; "
           f"{sheet['memory']} memory")
    yield (f"- Linux {sheet['kernel']}; governor {sheet['governor']}, transparent huge pages "
           f"{sheet['transparent_huge_pages']}, loopback MTU {sheet['loopback_mtu']}, {sheet['congestion_control']}")
    yield "- mitigations: " + "; ".join(f"{name}: {text.removeprefix('Mitigation: ')}"
                                        for name, text in sheet["mitigations"].items())
    yield f"- {disk['type']} on {disk['device']}, write cache: {disk['write_cache']}, FUA: {disk['fua']}{writes}"
    yield "- " + "; ".join(f"{name}: {version}" for name, version in sheet["versions"].items())
    yield (f"- rounds: {content['rounds']}, of {content['seconds']:g} s; {content['minutes']:.0f} minutes in all; "
           f"load average at the start {sheet['load_average_at_start'][0]:.2f}, stolen from the CPUs "
           f"{sheet['stolen']:.1%}")
    yield ""


def closed_rows(content):
    for name, results in content["scenarios"].items():
        title = content["titles"][name]
        if name.startswith("open-"):
            continue
        for server, result in results.items():
            row = medians(result)
            yield [title, named(server, result, name), on_disk(content, server), between(result["per_second"]),
                   between(result["per_cpu"]), number(row["p50_us"] / 1e3), number(row["p99_us"] / 1e3),
                   number(row["p999_us"] / 1e3), number(row["memory"] / 2**20)]
            title = ""


def open_rows(content):
    for name, results in content["scenarios"].items():
        title = content["titles"][name]
        for server, result in results.items() if name.startswith("open-") else ():
            yield [title, server, number(result["offered"]["median"])] + [
                between(result[f"{key}_us"], 1e-3) for key in ("p50", "p99", "p999")]
            title = ""


def on_disk(content, server):
    return "yes" if content["servers"].get(server, {}).get("durable") else "no"


def growth_rows(content):
    for server in content["servers"]:
        found = [content["scenarios"].get(name, {}).get(server, {}).get("per_cpu") for name in scenarios.GROWTH]
        if any(found):
            yield [server, ""] + [number(1e6 / figure["median"]) if figure else "" for figure in found]


def markdown(content):
    """Everything in a results file, line by line."""
    yield from environment_lines(content)
    yield from table(["scenario", "server", "on disk", "messages/s", "a CPU-second", "p50 ms", "p99 ms", "p99.9 ms",
                      "MiB"], closed_rows(content))
    yield from table(["open loop", "server", "offered/s", "p50 ms", "p99 ms", "p99.9 ms"], open_rows(content))
    yield from table([scenarios.KNEE.title, "", "messages/s"],
                     ([name, "", at_least(figure) + between(figure)] for name, figure in content["knee"].items()))
    yield from table(["CPU microseconds a message", "connections:", *(name[1:] for name in scenarios.GROWTH)],
                     growth_rows(content))
    yield from table(["an idle connection", "", "octets"],
                     ([name, "", number(octets)] for name, octets in content["idle_bytes"].items()))
    yield from table(["goal of ringmx", "", "limit", "measured"],
                     ([goal["goal"], "reached" if goal["reached"] else "missed", goal["limit"], number(goal["value"])]
                      for goal in content["goals"]))
    for failure in content["failures"]:
        yield f"- {failure['server']}, {failure['in']}: {failure['reason']}"
