"""What the project wants to reach, and whether it has: ratios between figures of one run, mostly. Also the one check of
the quick benchmark, which is meant to fail only when something is broken."""

# Title, scenario, figure of ringmx, compared with what (another server, ringmx in another scenario, or nothing), limit.
GOALS = [
    ("messages a CPU-second against null direct", "c100", "per_cpu", "null direct", ">=", 0.85),
    ("p50 against null direct, 10 connections", "c10", "p50_us", "null direct", "<=", 1.05),
    ("p50 against null direct, 100 connections", "c100", "p50_us", "null direct", "<=", 1.05),
    ("messages a second against Postfix", "c100", "per_second", "postfix", ">=", 60.0),
    ("messages a second against smtp-sink", "c100", "per_second", "smtp-sink", ">=", 2.0),
    ("one message a connection against null direct", "once", "per_cpu", "null direct", ">=", 0.8),
    ("10 MB messages, GB/s", "m10", "gigabytes", None, ">=", 1.0),
    ("messages a CPU-second, 10,000 connections against 10", "c10000", "per_cpu", "c10", ">=", 1 / 1.15),
]
ABSURD = 0.3  # of null direct's messages a CPU-second
CPU_SECONDS_LEAST = 0.05  # which null direct must have used: the kernel counts in hundredths

# Names of ringmx-bench-tls for what was agreed.
HANDSHAKES = {"X25519": "tls13_ecdsa", "P-256": "tls13_ecdsa_p256", "X25519MLKEM768": "tls13_ecdsa_mlkem"}
CIPHERS = {"TLS_AES_128_GCM_SHA256": "aes128gcm_tls13", "TLS_AES_256_GCM_SHA384": "aes256gcm",
           "TLS_CHACHA20_POLY1305_SHA256": "chacha20"}
ECDSA = "ringmx tls"


def middle(results, scenario, server, figure):
    return results.get(scenario, {}).get(server, {}).get(figure, {}).get("median")


def compared(results, scenario, figure, against):
    mine = middle(results, scenario, "ringmx", figure)
    if mine is None or against is None:
        return mine
    if against in results:
        other = middle(results, against, "ringmx", figure)
    else:
        other = middle(results, scenario, against, figure)
    return mine / other if other else None


def agreed(results, scenario, what):
    """The name of the group or cipher that the connections of a scenario have, or None."""
    return results.get(scenario, {}).get(ECDSA, {}).get("agreed", {}).get(what)


def handshake_goals(results, figures):
    yardstick = middle(results, "once", "null direct", "per_cpu")
    full = middle(results, "tls-once", ECDSA, "per_cpu")
    for scenario, title in (("tls-once", "TLS 1.3 and one message"), ("tls-starttls", "the same by STARTTLS")):
        rate = middle(results, scenario, ECDSA, "per_cpu")
        name = HANDSHAKES.get(agreed(results, scenario, "group"))
        if figures and yardstick and rate and name in figures["handshake_us"]:
            seconds = figures["handshake_us"][name]["boringssl"] / 1e6 + 1 / yardstick
            yield f"{title}, against BoringSSL's handshake and null direct's message", rate * seconds, ">=", 0.7
    for scenario, base, title in (("tls-resumed", "tls-once", "TLS 1.3 resumed against full"),
                                  ("tls-old-resumed", "tls-old", "TLS 1.2 resumed against full")):
        resumed, full = (middle(results, name, ECDSA, "per_cpu") for name in (scenario, base))
        if resumed and full:
            yield title, resumed / full, ">=", 2.0


def bulk_goals(results, figures):
    speed = {}
    for scenario, server in (("tls-m10", ECDSA), ("m10", "ringmx")):
        rate, cpu = (middle(results, scenario, server, figure) for figure in ("gigabytes", "server_cpu"))
        speed[scenario] = rate / cpu if rate and cpu else None
    name = CIPHERS.get(agreed(results, "tls-m10", "cipher"))
    if figures and name and all(speed.values()):
        cipher = figures["gigabytes_per_second"][name]["open"]["aead"]
        yield ("10 MB over TLS, GB a CPU-second, against the lesser of cipher and clear path",
               speed["tls-m10"] / min(cipher, speed["m10"]), ">=", 0.6)


def wanted(content):
    """Title, value (None: not measured), how, limit."""
    results, idle, alone, beside = (content[key] for key in ("scenarios", "idle_bytes", "tls_alone", "tls_beside"))
    yield "octets for an idle connection", idle.get("ringmx"), "<=", 512
    for title, scenario, figure, against, how, limit in GOALS:
        yield title, compared(results, scenario, figure, against), how, limit
    yield "octets for an idle TLS connection", idle.get(ECDSA), "<=", 8192
    yield from handshake_goals(results, alone)
    yield from bulk_goals(results, alone)
    if beside:
        p99 = beside["p99_us"]
        yield ("p99 of plain clients, with RSA clients beside, against without",
               p99["beside"]["median"] / p99["alone"]["median"], "<=", 2.0)


def judged(content):
    """The goals for which there are figures."""
    found = []
    for title, value, how, limit in wanted(content):
        if value is not None:
            reached = value >= limit if how == ">=" else value <= limit
            digits = 0 if limit >= 100 else 2
            found.append({"goal": title, "value": value, "limit": f"{how} {limit:.{digits}f}", "reached": reached})
    return found


def absurd(content):
    """What no noise explains, as sentences; none: all is well."""
    yield from content["missing"]
    for failure in filter(lambda one: not one["invalid"], content["failures"]):
        yield f"{failure['server']}, {failure['in']}: {failure['reason']}"
    pairs = [(name, results["ringmx"], results["null direct"]) for name, results in content["scenarios"].items()
             if {"ringmx", "null direct"} <= set(results)]
    if not pairs:
        yield "ringmx and null direct were not measured"
    for name, ringmx, yardstick in pairs:
        own, base = ringmx["per_cpu"]["median"], yardstick["per_cpu"]["median"]
        told = yardstick["server_cpu"]["median"] * content["seconds"] > CPU_SECONDS_LEAST
        if told and own < ABSURD * base:
            yield (f"{content['titles'][name]}: {own:,.0f} messages a CPU-second are less than {ABSURD} of "
                   f"null direct's {base:,.0f}")
