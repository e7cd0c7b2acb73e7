#!/usr/bin/python3
"""Runs every test of ringmx, some jobs at a time, and ends with one line: N passed, N failed.

A job is one process: a unit test of one flavour, a fuzzer, an end-to-end module, the tidy check. It is
seen as one line when it ends; what it printed is in build/test-logs/, and shown only when it failed.

    tests/run.py                  everything (make test)
    tests/run.py fuzz             the jobs with "fuzz" in their name
    tests/run.py unit/asan e2e/release/test_corpus
    tests/run.py --list

The line of a job says how long it took and how much of a CPU it had. Most jobs wait for time-outs, disks and processes
of others: LANES of them run at a time, beside the BUSY ones, which the tests that wait come before on a CPU.
"""

import concurrent.futures
import glob
import os
import re
import signal
import subprocess
import sys
import threading
import time

PYTHON = "/usr/bin/python3"  # Debian's; another one in PATH need not have what the tests want
LOGS = "build/test-logs"
LANES = 8  # jobs that mostly wait
BUSY_LANES = 2  # jobs that mostly compute
AGAIN_MAX = 10  # so many of some 600 jobs may have failed for want of time; more of them are no accident
NEVER_AGAIN = ["test_crash", "test_relay_crash", "test_faults"]  # what is lost once is lost
FUZZ_SECONDS = int(os.environ.get("SECONDS_PER_FUZZER", "6"))

# Unit tests that start threads also run under ThreadSanitizer.
TSAN_UNITS = ["admission", "attempts", "authenticator", "bell", "contexts", "courier", "courier_times", "dns_askers",
              "greylist", "greylisting", "helpers", "load_crew", "load_series", "log", "login_cache", "offload", "outgoing", "outgoing_secure",
              "outgoing_unix", "post", "rates", "secure", "secure_crowd", "secure_records", "signature", "spool",
              "spool_bound", "spool_threads", "staging", "uring", "worker", "writer"]

# The tree of another BoringSSL, as for make: then what has to do with TLS also runs with that one, under
# AddressSanitizer. Everything else is tested with Debian's all the same.
UPSTREAM = os.environ.pop("BORINGSSL_SRC", "")
UPSTREAM_E2E = ["test_tls_certificates", "test_tls_handshake", "test_tls_law", "test_tls_records", "test_tls_stress",
                "test_tls_tickets"]

# Every end-to-end module runs with E2E_ALWAYS, except as E2E_ONLY says; further runs stand in E2E_MORE.
#   flavour: which build (RINGMX_BIN, RINGMX_FLAVOUR); profile61 is release with every io_uring feature newer than
#   Linux 6.1 forced off. The environment is what the modules read; two workers are the default.
E2E_ALWAYS = ["release", "asan"]
E2E_ONLY = {
    "test_slow": ["release"],  # it waits for time-outs: a sanitizer finds nothing more there
    # What foreign programs say is judged once; the same records and handshakes are made by hand under sanitizers.
    "test_tls_openssl": ["release"],
    "test_tls_clients": ["release"],
    "test_tls_postfix": ["release"],
    "test_tls_testssl": ["release"],
    "test_auth_clients": ["release"],
    "test_load_agree": ["release"],  # figures of others
    "test_guessing": ["release"],  # hydra
    "test_secrets": ["release"],  # sanitizers keep copies
    "test_dovecot_auth": ["release"],  # it waits for Dovecot; unit tests have a hostile one under sanitizers
    "test_dkim_verifiers": ["release"],
    "test_deliver_by": ["release"],  # Postfix and Exim; the courier's part is unit/courier_times
    # What these wait for is the clock; the same code is under sanitizers in unit tests and in shorter modules.
    "test_load_open": ["release"],
    "test_again": ["release"],
    "test_consignments": ["release"],
    "test_haproxy": ["release"],
    "test_health_checks": ["release"],
    "test_balanced": ["release"],
    "test_page": ["release"],  # the browser's view; test_admin sees the same answers in all
    "test_srs": ["release"],  # postsrsd's judgement; unit tests and fuzzers see the same code
}
# These begin first, so that none of them ends alone.
LONG = ["test_crash", "test_upgrade", "test_through", "test_drain", "test_bounds", "test_limits", "test_load_open",
        "test_bounces",
        "test_tarpit", "test_relay_crash", "test_faults", "test_trace", "test_shared", "test_dovecot_auth",
        "test_again", "unit/release/exchange",
        "test_deploy", "test_tls_testssl", "test_metrics", "test_queue_tool", "test_page", "test_proxy", "test_slow"]
# These use a CPU most of the time that they take: two at a time. All others mostly wait.
BUSY = ["tidy", "test_corpus", "test_tls_corpus", "test_tls_testssl", "test_tls_stress",
        "e2e/asan/test_crowd", "test_aliases", "test_deploy",
        "/secure_crowd", "/scan", "/directory", "/directory_million", "/destination_share", "/load_mail",
        "/outgoing_secure"]
BUSY_KINDS = ("fuzz/", "unit/tsan/")
LAST = ("bench/", "e2e/release/test_crowd")  # these measure: one at a time, when all others have ended
E2E_MORE = [
    # module         flavour      environment
    ("test_dialogs", "profile61", {}),
    ("test_corpus", "profile61", {}),
    ("test_operate", "profile61", {}),
    ("test_corpus", "release", {"RINGMX_WORKERS": "1"}),
    ("test_corpus", "release", {"RINGMX_WORKERS": "8"}),
    ("test_dialogs", "tsan", {}),
    ("test_trace", "tsan", {}),
    ("test_corpus", "tsan", {}),
    ("test_tls_stress", "tsan", {}),
    ("test_tls_stress", "profile61", {}),
    ("test_through", "tsan", {}),
    ("test_shared", "tsan", {}),
    ("test_metrics", "tsan", {}),
    ("test_queue_tool", "tsan", {}),
    ("test_upgrade", "tsan", {}),
    ("test_drain", "tsan", {}),
    ("test_drain", "profile61", {}),
    ("test_bounds", "tsan", {}),
    ("test_handshake_bound", "tsan", {}),
    ("test_sink", "tsan", {}),
    ("test_sink_faults", "tsan", {}),
    ("test_admin", "tsan", {}),
    ("test_submission_reload", "tsan", {}),
]

BUILD_OF = {"release": "release", "asan": "asan", "tsan": "tsan", "profile61": "release"}
PROGRAMS_OF = {"release": "build", "asan": "build/asan", "tsan": "build/tsan", "upstream": "build/upstream"}

SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1" + (
        ":suppressions=tests/tsan.supp" if os.path.exists("tests/tsan.supp") else ""),
}


class Job:
    """One process to run: its name, its command, how to count its cases, and what must be built."""

    def __init__(self, name, command, count, build=None, env=None, timeout=120, shown=False):
        self.name, self.command, self.count = name, command, count
        self.busy = name.startswith(BUSY_KINDS) or name.endswith(tuple(BUSY))
        self.polite = self.busy or name.startswith("build/")
        self.build, self.env, self.timeout, self.shown = build, env or {}, timeout, shown
        self.passed = self.failed = self.skipped = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0  # of it and of what it started and waited for
        self.output = ""
        self.first_output = None  # of a job that failed beside others and was run again

    def excusable(self):
        """Whether a machine under load can be the reason for a failure: never of a crash, a sanitizer's report, or
        what takes no time."""
        if self.name.endswith(tuple(NEVER_AGAIN)):
            return False
        signs = ("Sanitizer", "runtime error:", "ringmx: bug", "core dumped", "Segmentation", "Aborted")
        # A case that an assertion has ended leaks what it held: that says nothing more.
        output = re.sub(r"==\d+==ERROR: LeakSanitizer.*?byte\(s\) leaked in .*?\n", "", self.output, flags=re.S) \
            if re.search(r"^not ok", self.output, re.M) else self.output
        return self.name.startswith(("unit/", "e2e/", "bench/")) and not any(sign in output for sign in signs)

    def run_again(self):
        self.first_output = self.output
        return self.run()

    def run(self):
        start = time.monotonic()
        command = [*POLITELY, *self.command] if self.polite else self.command
        code, self.output, self.cpu_seconds = run_bounded(command, self.env, self.timeout)
        self.seconds = time.monotonic() - start
        self.passed, self.failed, self.skipped = self.count(self.output, code)
        if code != 0 and self.failed == 0:
            self.failed = 1  # it died before it could say what failed
        if code == 0 and self.passed + self.failed + self.skipped == 0:
            self.failed = 1
            self.output += "\n(it ended well but ran nothing)\n"
        log = os.path.join(LOGS, re.sub(r"[^\w.-]+", "-", self.name) + ".log")
        with open(log, "w", encoding="utf-8") as file:
            file.write(f"$ {' '.join(self.command)}\n{self.output}\nexit {code}\n")
        return self


# What has a deadline comes first, also where Linux shares the CPU among sessions rather than processes.
POLITELY = ["/bin/sh", "-c", 'echo 3 2>/dev/null >/proc/self/autogroup; exec nice -n 3 "$0" "$@"']


def run_bounded(command, extra_env, timeout):
    """Runs in a session of its own, so that nothing it started outlives it. Returns (code, output, CPU seconds)."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    env.update(CMOCKA_MESSAGE_OUTPUT="TAP", PYTHONDONTWRITEBYTECODE="1", LC_ALL="C.UTF-8")
    env.update(extra_env)
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    late = threading.Event()

    def expire():
        late.set()
        end_session(process.pid)

    timer = threading.Timer(timeout, expire)
    timer.start()
    try:
        output = process.stdout.read().decode("utf-8", "replace")
        _pid, status, usage = os.wait4(process.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        timer.cancel()
        end_session(process.pid)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    if late.is_set():
        return 124, output + f"\n(ended after its {timeout} s)\n", cpu_seconds
    return code, output, cpu_seconds


def end_session(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


# --- How each kind of job is counted: (output, exit code) -> passed, failed, skipped. ---


def count_tap(output, _code):
    skipped = len(re.findall(r"^(?:not )?ok \d+ (?:- )?.*# SKIP", output, re.M))
    passed = len(re.findall(r"^ok \d+", output, re.M))
    failed = len(re.findall(r"^not ok \d+(?!.*# SKIP)", output, re.M))
    passed -= len(re.findall(r"^ok \d+.*# SKIP", output, re.M))
    return passed, failed, skipped


def count_unittest(output, code):
    ran = re.findall(r"^Ran (\d+) tests? in", output, re.M)
    if not ran:
        return 0, 1, 0
    end = re.findall(r"^(?:OK|FAILED)(?: \((.*)\))?$", output, re.M)
    number = dict(re.findall(r"([\w ]+)=(\d+)", end[-1])) if end else {}
    number = {key.strip(): int(value) for key, value in number.items()}
    failed = number.get("failures", 0) + number.get("errors", 0)
    failed += number.get("unexpected successes", 0)
    skipped = number.get("skipped", 0)
    return max(0, int(ran[-1]) - failed - skipped), failed, skipped


def count_last_line(output, _code):
    found = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", output, re.M)
    return tuple(int(n or 0) for n in found[-1]) if found else (0, 1, 0)


def count_exit(_output, code):
    return (1, 0, 0) if code == 0 else (0, 1, 0)


# --- The jobs. ---


def stems(pattern):
    return sorted(os.path.basename(path).rsplit(".", 1)[0] for path in glob.glob(pattern))


def unit_jobs():
    for build in ("release", "asan", "tsan"):
        for stem in stems("tests/unit/*_test.c"):
            name = stem.removesuffix("_test")
            if build != "tsan" or name in TSAN_UNITS:
                yield Job(f"unit/{build}/{name}", [f"build/{build}/tests/unit/{stem}"], count_tap, build,
                          {"RINGMX_FLAVOUR": build, **SANITIZERS}, timeout=180)


def uses_tls(stem):
    with open(f"tests/unit/{stem}.c", encoding="utf-8") as file:
        return re.search(r'^#include ("tls/|<openssl/)', file.read(), re.M)


def upstream_jobs():
    if not UPSTREAM:
        yield Job("upstream", ["echo", "BORINGSSL_SRC names no tree"], lambda _output, code: (0, code, 1 - code))
        return
    for stem in filter(uses_tls, stems("tests/unit/*_test.c")):
        yield Job(f"unit/upstream/{stem.removesuffix('_test')}", [f"build/upstream/tests/unit/{stem}"], count_tap,
                  "upstream", {"RINGMX_FLAVOUR": "asan", **SANITIZERS}, timeout=180)
    for module in sorted(set(UPSTREAM_E2E) & set(stems("tests/e2e/test_*.py"))):
        yield e2e_job(f"e2e/upstream/{module}", module, "upstream", "asan", {})


def fuzz_jobs():
    for name in stems("tests/fuzz/*.c"):
        grown, kept = f"build/fuzz/corpus/{name}", f"tests/fuzz/corpus/{name}"
        os.makedirs(grown, exist_ok=True)
        command = [f"build/fuzz/tests/fuzz/{name}", f"-max_total_time={FUZZ_SECONDS}", "-timeout=5",
                   "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={LOGS}/{name}-", grown]
        if os.path.isdir(kept):
            command.append(kept)
        yield Job(f"fuzz/{name}", command, count_exit, "fuzz", SANITIZERS, FUZZ_SECONDS + 120)


def e2e_jobs():
    present = stems("tests/e2e/test_*.py")
    plan = [(module, flavour, {}) for flavour in E2E_ALWAYS for module in present
            if flavour in E2E_ONLY.get(module, E2E_ALWAYS)]
    plan += [row for row in E2E_MORE if row[0] in present]
    for module, flavour, extra in plan:
        note = "".join(f",{key.removeprefix('RINGMX_').lower()}={value}" for key, value in extra.items())
        yield e2e_job(f"e2e/{flavour}{note}/{module}", module, BUILD_OF[flavour], flavour, extra)


def e2e_job(name, module, build, flavour, extra):
    env = {"RINGMX_BIN": os.path.abspath(PROGRAMS_OF[build] + "/ringmx"), "RINGMX_FLAVOUR": flavour,
           "PYTHONPATH": "tests/e2e:.", **extra}
    return Job(name, [PYTHON, "-m", "unittest", "-v", module], count_unittest, build, env, timeout=600)


def bench_jobs():
    """The quick benchmarks: they fail only when something is broken (docs/benchmarks.md); figures are for information."""
    yield Job("bench/quick", [PYTHON, "bench/bench.py", "--quick"], count_last_line, "release", timeout=240, shown=True)
    yield Job("bench/submission", [PYTHON, "bench/submission.py", "--quick"], count_last_line, "release", timeout=240)


def build_jobs(jobs):
    """What the jobs need: release first, so that its jobs can begin while the others are built."""
    names = {job.build for job in jobs if job.build}
    for build in sorted(names, key=("release", "asan", "tsan", "upstream", "fuzz").index):
        flags = [f"BUILD={build}"]
        if build == "upstream":
            flags = ["BUILD=asan", "OUT=build/upstream", f"BORINGSSL_SRC={UPSTREAM}"]
        units = [job.command[0] for job in jobs if job.build == build and job.name.startswith("unit/")]
        targets = ["fuzzers"] if build == "fuzz" else ["programs", *units]
        command = ["make", *flags, *targets]
        yield Job(f"build/{build}", command, count_exit, timeout=1200)
    if "release" in names:
        yield Job("build/neon", ["make", "check-neon"], count_neon, timeout=120)


def count_neon(output, code):
    return (0, 0, 1) if "no cross compiler" in output else count_exit(output, code)


def all_jobs():
    return [Job("tidy", [PYTHON, "tests/tidy.py"], count_last_line), *unit_jobs(), *upstream_jobs(), *e2e_jobs(),
            *fuzz_jobs(), *bench_jobs()]


# --- Running them. ---


class Progress:
    """Prints one line for each job that ends, and keeps the sums."""

    def __init__(self, total):
        self.total, self.done = total, []
        self.lock = threading.Lock()

    def ended(self, job):
        with self.lock:
            if job not in self.done:
                self.done.append(job)
            word = "FAIL" if job.failed else "ok" if job.passed else "skip"
            counts = f"{job.passed} passed"
            counts += f", {job.failed} failed" if job.failed else ""
            counts += f", {job.skipped} skipped" if job.skipped else ""
            print(f"[{len(self.done):3}/{self.total}] {word:4} {job.name:48} {counts:24} {job.seconds:6.1f} s {job.cpu_seconds:6.1f} s CPU", flush=True)
            if job.failed or job.shown:
                print(indent(job.output), flush=True)

    def end(self, start):
        passed = sum(job.passed for job in self.done)
        failed = sum(job.failed for job in self.done)
        skipped = sum(job.skipped for job in self.done)
        for job in self.done:  # once more, for who sees only the end of a long report
            if job.failed:
                print(f"FAIL {job.name}:\n{indent(job.output, 14)}")
            elif job.first_output:
                print(f"passed alone, after it had failed beside others: {job.name}:\n{indent(job.first_output, 14)}")
        self.tell_of_time(time.monotonic() - start)
        print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""), flush=True)
        return 1 if failed or not passed else 0


    def tell_of_time(self, seconds):
        kinds = {}
        for job in self.done:
            kind = "/".join(job.name.split("/")[:-1]) or job.name
            spent, used = kinds.get(kind, (0, 0))
            kinds[kind] = spent + job.seconds, used + job.cpu_seconds
        for kind, (spent, used) in sorted(kinds.items(), key=lambda item: -item[1][1]):
            print(f"      {kind:24} {spent:6.0f} s {used:6.0f} s CPU")
        longest = sorted(self.done, key=lambda job: -job.seconds)[:10]
        print("the longest:", ", ".join(f"{job.name} {job.seconds:.0f} s" for job in longest))
        used = sum(job.cpu_seconds for job in self.done)
        print(f"{seconds:.0f} s, {used:.0f} s CPU; what each job printed is in {LOGS}/")


class Plan:
    """The jobs that have not begun. A lane takes the first of its kind whose build is there, and waits for builds."""

    def __init__(self, jobs):
        def place(job):
            return next((number for number, name in enumerate(LONG) if job.name.endswith(name)), len(LONG))
        self.jobs = sorted(jobs, key=place)
        self.ready = {None}
        self.changed = threading.Condition()

    def built(self, build, good):
        with self.changed:
            self.ready.add(build)
            if not good:
                lost = [job for job in self.jobs if job.build == build]
                self.jobs = [job for job in self.jobs if job.build != build]
                print(f"not run, for want of build/{build}: {len(lost)} jobs")
            self.changed.notify_all()

    def take(self, busy):
        with self.changed:
            while mine := [job for job in self.jobs if job.busy == busy]:
                for job in mine:
                    if job.build in self.ready:
                        self.jobs.remove(job)
                        return job
                self.changed.wait()
            return None

    def lane(self, busy, progress):
        while job := self.take(busy):
            progress.ended(job.run())


def indent(text, most=120):
    lines = text.rstrip().splitlines()
    if len(lines) > most:
        lines = [f"({len(lines) - most} lines before)"] + lines[-most:]
    return "\n".join("      | " + line for line in lines)


def main(arguments):
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    os.makedirs(LOGS, exist_ok=True)
    jobs = [job for job in all_jobs() if not arguments or any(word in job.name for word in arguments)]
    if arguments == ["--list"]:
        print("\n".join(job.name for job in all_jobs()))
        return 0
    start = time.monotonic()
    builds = list(build_jobs(jobs))
    progress = Progress(len(jobs) + len(builds))
    plan = Plan(job for job in jobs if not job.name.startswith(LAST))
    broken = set()
    with concurrent.futures.ThreadPoolExecutor(LANES + BUSY_LANES) as pool:
        lanes = [pool.submit(plan.lane, False, progress) for _ in range(LANES)]
        for job in builds:  # one after the other: each uses every CPU
            progress.ended(job.run())
            build = job.name.removeprefix("build/")
            broken |= {build} if job.failed else set()
            plan.built(build, not job.failed)
        lanes += [pool.submit(plan.lane, True, progress) for _ in range(BUSY_LANES)]
        for lane in lanes:
            lane.result()
    jobs = [job for job in jobs if job.build not in broken]
    for job in jobs:
        if job.name.startswith(LAST):
            progress.ended(job.run())
    late = [job for job in progress.done if job.failed and job.excusable()]
    for job in late if len(late) <= AGAIN_MAX else []:
        progress.ended(job.run_again())
    return progress.end(start)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
