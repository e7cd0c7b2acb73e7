"""One benchmark: its servers, whose turn it is, how much time is left, and everything that was found. A server that
fails is named with its reason, started again, and the others go on."""

import json
import os
import sys
import time

import encrypted
import measure
import peers
import report
import scenarios


FAILED, INVALID = object(), object()


class Clock:
    """How long what is left will take: learns for each server what a run costs beyond its measured time."""

    def __init__(self, minutes):
        self.begun = time.monotonic()
        self.limit = minutes * 60 if minutes else None
        self.beyond = {}

    def learn(self, name, seconds):
        self.beyond[name] = 0.6 * self.beyond.get(name, seconds) + 0.4 * seconds

    def cost(self, steps):
        """Seconds for one round of each of these steps."""
        return sum(seconds + self.beyond.get(name, 1.0) for step in steps for name, seconds in step.runs)

    def rounds(self, wanted, steps):
        """How many rounds of the first step there is time for, so that the others have theirs; at least one."""
        if self.limit is None:
            return wanted
        left, needed = self.limit - (time.monotonic() - self.begun), self.cost(steps) * wanted
        return wanted if needed <= left else max(1, int(wanted * left / needed))


class Step:
    """A part of the plan: what it is, which servers have a run of how many seconds in each round of it, and what is
    called with the number of rounds."""

    def __init__(self, title, runs, action):
        self.title, self.runs, self.action = title, runs, action


class Session:
    def __init__(self, servers, options):
        self.servers, self.options = servers, options
        self.clock = Clock(options.minutes)
        self.results, self.idle, self.knees = {}, {}, {}
        self.alone, self.beside = [], None
        self.failures, self.left_out = [], []

    # --- The plan. ---

    def plan(self, chosen):
        """Steps for the scenarios of these names that any server takes part in."""
        steps = []
        if scenarios.IDLE in chosen:  # first, while no server has touched its memory
            steps.append(self.step("memory of an idle connection", self.idle_servers(), 2, self.measure_idle))
        for scenario in scenarios.CLOSED + scenarios.TLS:
            steps.append(self.scenario_step(scenario, chosen, self.measure_closed))
        for scenario in scenarios.OPEN if self.with_peers() else scenarios.OPEN[1:]:
            steps.append(self.scenario_step(scenario, chosen, self.measure_open))
        steps.append(self.scenario_step(scenarios.KNEE, chosen, self.measure_knee, 12))
        rsa = [server for server in self.servers if server.name == "ringmx rsa"]
        if scenarios.BESIDE_RSA in chosen:
            steps.append(self.step("RSA handshakes beside clients in clear", rsa * 2, self.options.seconds + 2,
                                   lambda rounds: self.measure_beside(rsa[0], rounds)))
        return [step for step in steps if step.runs]

    def with_peers(self):
        """Without, the slowest durable server is ringmx or its yardstick, and both open loops would be the same."""
        return not all(isinstance(server, (peers.Ringmx, peers.Null)) for server in self.servers)

    def step(self, title, servers, seconds, action):
        return Step(title, [(server.name, seconds) for server in servers], action)

    def scenario_step(self, scenario, chosen, action, seconds=0):
        servers = [server for server in self.servers if scenario.takes(server)] if scenario.name in chosen else []
        seconds = seconds or self.seconds(scenario) + self.warm_up()
        return self.step(scenario.title, servers, seconds, lambda rounds: action(scenario, servers, rounds))

    def seconds(self, scenario):
        return self.options.seconds * scenario.longer

    def warm_up(self):
        return min(1.0, self.options.seconds / 3)

    def run(self, chosen):
        steps = self.plan(chosen)
        for number, step in enumerate(steps):
            rounds = self.clock.rounds(self.options.rounds, steps[number:])
            left = self.clock.cost(steps[number:]) * rounds / 60
            few = "" if rounds == self.options.rounds else f"; time for {rounds} of {self.options.rounds} rounds"
            print(f"\n[{number + 1} of {len(steps)}, about {left:.0f} min left{few}] {step.title}", flush=True)
            step.action(rounds)
            self.keep()

    # --- Taking turns. ---

    def turn(self, server, title, seconds, action):
        """One run against one server, and a rest until it has nothing left to do. FAILED or INVALID without figures."""
        begin = time.monotonic()
        try:
            if not server.alive():
                self.again(server)
            return action(server)
        except (measure.Failed, peers.Unavailable, OSError, LookupError, ValueError) as reason:
            invalid = isinstance(reason, measure.Invalid)
            self.failures.append({"server": server.name, "in": title, "reason": str(reason) or repr(reason),
                                  "invalid": invalid})
            print(f"  {server.name}: {'invalid' if invalid else 'failed'}: {reason}", flush=True)
            return INVALID if invalid else FAILED
        finally:
            if server.alive():
                server.settle()
            self.clock.learn(server.name, time.monotonic() - begin - seconds)

    def again(self, server):
        log = server.log_tail()
        server.stop()
        server.port = server.implicit_port = None
        server.start()
        self.failures.append({"server": server.name, "in": "between runs", "reason": f"had died: {log}",
                              "invalid": False})
        print(f"  {server.name} had died and was started again: {log}", flush=True)

    def rounds(self, title, servers, seconds, rounds, action):
        """{name of a server: what its runs gave}. The order alternates. A server of which a run fails is left out; a
        run that says nothing about the server is only missing."""
        found = {server.name: [] for server in servers}
        for turn in range(rounds):
            for server in servers if turn % 2 == 0 else servers[::-1]:
                if found[server.name] is None:
                    continue
                self.show(f"{title}: {server.name}, round {turn + 1} of {rounds}")
                one = self.turn(server, title, seconds, action)
                if one is FAILED:
                    found[server.name] = None
                elif one is not INVALID:
                    found[server.name].append(one)
        self.show("")
        return {name: runs for name, runs in found.items() if runs}

    def show(self, text):
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    # --- The kinds of steps. ---

    def idle_servers(self):
        """Those in clear, and ringmx with TLS. The null servers give each connection memory pages of its own: no
        yardstick for this."""
        return [server for server in self.servers if not isinstance(server, (peers.Null, peers.RingmxRsa)) and
                (server.key_kind is None or isinstance(server, peers.Ringmx))]

    def measure_idle(self, _rounds):
        for server in self.idle_servers():
            octets = self.turn(server, "idle connections", 2, measure.idle_bytes)
            if octets is not FAILED:
                few, many = measure.idle_counts(server)
                self.idle[server.name] = octets
                print(f"  {server.name:<21} {octets:>9,.0f} octets, between {few:,} and {many:,} connections",
                      flush=True)

    def measure_closed(self, scenario, servers, rounds):
        if scenario.alone:
            self.alone.append(encrypted.alone(measure.SERVER_CPU, self.options.quick))
        seconds = self.seconds(scenario)
        servers = [server for server in servers if self.fast_enough(server, scenario, seconds)]
        found = self.rounds(scenario.title, servers, seconds + self.warm_up(), rounds,
                            lambda server: measure.closed(server, scenario, seconds, self.warm_up()))
        results = {}
        for name, runs in found.items():
            results[name] = measure.summary([figures for figures, _ in runs])
            if runs[-1][1]:
                results[name]["agreed"] = runs[-1][1]
        self.add(scenario, results)

    def fast_enough(self, server, scenario, seconds):
        """Whether each connection gets a turn in the time of a run, as far as is known."""
        known = self.results.get(scenarios.RATED_BY, {}).get(server.name)
        if known is None or scenario.connections <= known["per_second"]["median"] * (seconds + self.warm_up()):
            return True
        reason = f"at {known['per_second']['median']:,.0f} messages a second not each connection would have a turn"
        self.left_out.append({"server": server.name, "in": scenario.name, "reason": reason})
        print(f"  {server.name} is left out: {reason}", flush=True)
        return False

    def add(self, scenario, results):
        self.results[scenario.name] = results
        if results:
            durable = {server.name for server in self.servers if server.durable}
            report.print_scenario(results, durable, self.results.get(scenario.against, {}).get("ringmx"))

    def closed_rates(self, servers):
        """What each takes in a closed loop; measured now when the scenario was not wanted."""
        base = next(one for one in scenarios.CLOSED if one.name == scenarios.RATED_BY)
        known = self.results.get(base.name, {})
        missing = [server for server in servers if server.name not in known and base.takes(server)]
        if missing:
            found = self.rounds(base.title, missing, self.seconds(base), 1,
                                lambda server: measure.closed(server, base, self.seconds(base), self.warm_up()))
            known = known | {name: measure.summary([runs[0][0]]) for name, runs in found.items()}
        return {name: known[name]["per_second"]["median"] for name in known}

    def measure_open(self, scenario, servers, rounds):
        rates = self.closed_rates(servers)
        limits = [rates[server.name] for server in servers if server.name in rates]
        if scenario.group == "own":
            limits = [rates["ringmx"]] if "ringmx" in rates else []
        if not limits:
            return
        rate, seconds = round(min(limits) * scenarios.RATED_SHARE, 1), self.seconds(scenario)
        found = self.rounds(scenario.title, servers, seconds + self.warm_up(), rounds,
                            lambda server: measure.opened(server, scenario, rate, seconds, self.warm_up()))
        self.add(scenario, {name: measure.summary([figures for figures, _ in runs]) | {
            "curve": measure.curve([histogram for _, histogram in runs])} for name, runs in found.items()})

    def measure_knee(self, scenario, servers, rounds):
        rates = self.closed_rates(servers)
        servers = [server for server in servers if server.name in rates]
        seconds = min(1.0, self.options.seconds)
        found = self.rounds(scenario.title, servers, 12, rounds, lambda server: measure.knee(
            server, scenario, round(rates[server.name] * scenarios.RATED_SHARE, 1), seconds))
        for name, runs in found.items():
            figure = measure.middle([rate for rate, _ in runs])
            self.knees[name] = figure | {"at_least": any(at_least for _, at_least in runs)}
            print(f"  {name:<15} {report.at_least(self.knees[name])}{figure['median']:>9,.0f} messages a second "
                  f"{report.spread(figure):>4}", flush=True)

    def measure_beside(self, server, rounds):
        seconds = rounds * 2 * (self.options.seconds + 2)
        found = self.turn(server, "RSA handshakes beside clients in clear", seconds,
                          lambda one: encrypted.run_beside(one, rounds, self.options.seconds))
        if found is not FAILED:
            self.beside = found
            encrypted.print_beside(found)

    # --- What was found. ---

    def content(self):
        """All results, as they are written to a file."""
        alone = encrypted.middle_of(self.alone) if self.alone and all(self.alone) else None
        return {"rounds": self.options.rounds, "seconds": self.options.seconds,
                "minutes": round((time.monotonic() - self.clock.begun) / 60, 1),
                "titles": {name: scenarios.title_of(name) for name in self.results},
                "servers": {server.name: {"durable": server.durable, "durability": server.durability}
                            for server in self.servers},
                "scenarios": self.results, "idle_bytes": self.idle, "knee": self.knees, "tls_alone": alone,
                "tls_beside": self.beside, "failures": self.failures,
                "left_out": self.left_out}

    def keep(self):
        """What there is so far, in case that the rest never comes."""
        write_json(os.path.join(peers.BUILD, "bench-so-far.json"), self.content())


def conclude(content, goals, options, path):
    """Tells of the goals, the last thing of a benchmark; a whole run is kept at `path`."""
    content["goals"] = list(goals)
    for goal in content["goals"]:
        print(f"{'reached' if goal['reached'] else 'MISSED '}  {goal['goal']}: {goal['value']:.2f} "
              f"({goal['sense']} {goal['limit']:g})")
    if options.quick:
        print("1 passed, 0 failed")
    elif options.only is None:
        write_json(path, content)


def write_json(path, content):
    """The file is the old or the new one, never half of it."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    os.replace(path + ".new", path)
