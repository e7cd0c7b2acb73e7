"""All processes of one server: what they cost together, and the end of them.

With root it is a control group (version 2): no child can leave it, not by a session of its own nor by losing its
parent, and what a child has used stays counted when nobody waits for it. Without, it is the tree of processes,
where such a child is lost; that is enough for servers of one process, as are all that do not need root.
"""

import os
import signal
import time

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
END_SECONDS = 5


def own_folder():
    """Where this process stands in the hierarchy of control groups, as a folder, or None."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            place = next(line[3:].strip() for line in file if line.startswith("0::"))
        with open("/proc/self/mounts", encoding="utf-8") as file:
            point = next(line.split()[1] for line in file if line.split()[2] == "cgroup2")
    except (OSError, StopIteration):
        return None
    folder = point + place
    return folder if os.path.isdir(folder) else point


def stat_fields(pid):
    """The fields of /proc/PID/stat after the command's name: [0] is field 3, the state."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def process_tree(root):
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(stat_fields(entry)[1]), []).append(int(entry))
            except (OSError, IndexError):
                continue
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left += children.get(pid, [])
    return found


def session_of(pid):
    try:
        return os.getsid(pid)
    except OSError:
        return None


def memory_of(pid):
    """Proportional set size: a page that n processes share counts 1/n for each; where that may not be read,
    resident set size."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * PAGE


class Group:
    """The processes of one server; `leader` is the first of them."""

    count = 0

    def __init__(self):
        self.leader = None
        self.folder = None
        parent = own_folder()
        if parent is None:
            return
        Group.count += 1
        folder = os.path.join(parent, f"ringmx-bench-{os.getpid()}-{Group.count}")
        try:
            os.mkdir(folder)
            self.folder = folder
        except OSError:
            pass

    def join(self):
        """Called by the first process, before it becomes the server."""
        if self.folder is not None:
            with open(os.path.join(self.folder, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write("0")

    def pids(self):
        if self.folder is None:
            return process_tree(self.leader)
        with open(os.path.join(self.folder, "cgroup.procs"), encoding="ascii") as file:
            return [int(line) for line in file]

    def cpu_seconds(self):
        if self.folder is None:
            return self.cpu_seconds_of_tree()
        with open(os.path.join(self.folder, "cpu.stat"), encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("usage_usec ")) / 1e6

    def cpu_seconds_of_tree(self):
        ticks = 0
        for pid in self.pids():
            try:
                fields = stat_fields(pid)
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
            if pid == self.leader:
                ticks += int(fields[13]) + int(fields[14])
        return ticks / TICK

    def resident_bytes(self):
        total = 0
        for pid in self.pids():
            try:
                total += memory_of(pid)
            except OSError:  # it has just ended
                continue
        return total

    def end(self, before):
        """What has outlived the first process is asked to end, then made to; `before` are pids() of when it lived."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + END_SECONDS
            left = self.left_over(before)
            while left and time.monotonic() < deadline:
                for pid in left:
                    try:
                        os.kill(pid, number)
                    except OSError:
                        continue
                time.sleep(0.1)
                left = self.left_over(before)
        self.remove()

    def remove(self):
        """The kernel needs a moment until a group whose last process has ended is empty."""
        for _ in range(100 if self.folder else 0):
            try:
                os.rmdir(self.folder)
                return
            except OSError:
                time.sleep(0.05)

    def left_over(self, before):
        if self.folder is not None:
            return self.pids()
        return [pid for pid in before[1:] if session_of(pid) == self.leader]
