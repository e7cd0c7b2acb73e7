"""What stays of secrets in the memory of a process: all that is there is looked through."""
import os

from logins import b64


def shapes(secret):
    """A secret, and what base64 makes of its inner part wherever it begins in a group of three."""
    yield secret.encode()
    for shift in range(3):
        coded = b64("\0" * shift + secret)
        yield coded[4:len(secret) // 3 * 4 - 4].encode()


def found_in(pid, wanted):
    """Which of these octets stand in the memory of a process."""
    found = set()
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            if "r" not in line.split()[1] or "[v" in line:
                continue
            for at, octets in resident(pid, memory, begin, end):
                found |= {one for one in wanted if one in octets}
                del at
    return found


def resident(pid, memory, begin, end, page=os.sysconf("SC_PAGE_SIZE")):
    """The runs of pages that are there (most of what is reserved never is): address and octets."""
    with open(f"/proc/{pid}/pagemap", "rb", 0) as table:
        table.seek(begin // page * 8)
        entries = table.read((end - begin) // page * 8)
    start = None
    for number in range(len(entries) // 8 + 1):
        there = number < len(entries) // 8 and entries[number * 8 + 7] & 0xC0
        if there and start is None:
            start = number
        elif not there and start is not None:
            memory.seek(begin + start * page)
            try:
                yield begin + start * page, memory.read((number - start) * page)
            except OSError:  # what the kernel keeps for itself
                pass
            start = None
