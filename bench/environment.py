"""The environment sheet: what a reader has to know of the machine to judge the figures."""

import datetime
import glob
import mmap
import os
import platform
import re
import time

import measure
import peers

WRITES = 300  # single writes, to see what the disk takes for one
QUIET_LOAD = 0.5  # above this load average, or
QUIET_STOLEN = 0.02  # this share of stolen CPU time, a machine is not at rest


def first_line(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip()
    except OSError:
        return ""


def value_of(path, name):
    """What stands behind `name:` in a file as /proc/cpuinfo."""
    with open(path, encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith(name)), "")


def processor():
    text = " ".join(open("/proc/cpuinfo", encoding="utf-8"))
    vulnerabilities = {os.path.basename(path): first_line(path)
                       for path in sorted(glob.glob("/sys/devices/system/cpu/vulnerabilities/*"))}
    return {
        "cpu": value_of("/proc/cpuinfo", "model name") or platform.machine(),
        "cpus": os.cpu_count(),
        "smt": {"0": "off", "1": "on"}.get(first_line("/sys/devices/system/cpu/smt/active"), "unknown"),
        "virtual": peers.output(["systemd-detect-virt", "--vm"]) or ("yes" if " hypervisor" in text else "no"),
        "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "none",
        "mitigations": {name: text for name, text in vulnerabilities.items() if not text.startswith("Not affected")},
    }


def chosen(path):
    """Of "always [madvise] never" what is in brackets."""
    found = re.search(r"\[(\w+)\]", first_line(path))
    return found[1] if found else first_line(path)


def file_system(directory):
    best = ("", "", "", "")
    with open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            device, point, kind, options = line.split()[:4]
            inside = point == "/" or directory == point or directory.startswith(point + "/")
            if inside and len(point) >= len(best[1]):
                best = (device, point, kind, options)
    disk = os.path.basename(os.path.realpath(best[0]))
    queue = next((path for path in (f"/sys/block/{disk}/queue", f"/sys/block/{disk.rstrip('0123456789')}/queue")
                  if os.path.isdir(path)), "")
    return {"device": best[0], "type": best[2], "options": best[3], "write_cache": first_line(f"{queue}/write_cache"),
            "fua": first_line(f"{queue}/fua"), "scheduler": chosen(f"{queue}/scheduler"),
            "write_us": write_times(directory)}


def write_times(directory):
    """Microseconds for one durable write of 4 KiB to a file that was written before, alone on the disk."""
    path, page = os.path.join(directory, "writes"), mmap.mmap(-1, 4096)
    times = []
    try:
        with open(path, "wb") as file:
            file.write(bytes(4096 * WRITES))
            os.fsync(file.fileno())
        file = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
        try:
            for number in range(WRITES):
                begin = time.perf_counter()
                os.pwrite(file, page, number * 4096)
                times.append((time.perf_counter() - begin) * 1e6)
        finally:
            os.close(file)
            os.unlink(path)
    except OSError:  # a file system without O_DIRECT
        return {}
    times.sort()
    return {"p50": round(times[WRITES // 2], 1), "p99": round(times[WRITES * 99 // 100], 1)}


def sheet(directory, servers):
    """Before anything is measured."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        **processor(),
        "server_cpu": measure.SERVER_CPU,
        "load_cpu": measure.LOAD_CPU,
        "memory": value_of("/proc/meminfo", "MemTotal"),
        "transparent_huge_pages": chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "file_system": file_system(directory),
        "loopback_mtu": first_line("/sys/class/net/lo/mtu"),
        "congestion_control": first_line("/proc/sys/net/ipv4/tcp_congestion_control"),
        "somaxconn": first_line("/proc/sys/net/core/somaxconn"),
        "load_average_at_start": list(os.getloadavg()),
        "compiler": peers.output(["gcc", "--version"]).split("\n")[0],
        "liburing": peers.output(["dpkg-query", "-W", "-f", "${Version}", "liburing2"]),
        "versions": {server.name: server.version() for server in servers if server.version()},
    }


class Noise:
    """What others took of the two CPUs while the benchmark ran."""

    def __init__(self):
        self.begun, self.stolen = time.monotonic(), measure.stolen_seconds()

    def share(self):
        return (measure.stolen_seconds() - self.stolen) / max(time.monotonic() - self.begun, 1) / 2


def warnings(load_average, stolen):
    if load_average > QUIET_LOAD:
        yield f"This machine was not at rest (load average {load_average:.1f}): figures are rough."
    if stolen > QUIET_STOLEN:
        yield f"Other guests of the host took {stolen:.0%} of the CPUs' time: figures are rough."
