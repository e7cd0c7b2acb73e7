#!/usr/bin/python3
"""Checks the house style of docs/style.md: sizes, include law, banned calls, dead files, missing tests, format.

Each check prints one line; below a failed one, each place as file:line. The last line is N passed, N failed.
"""

import os
import re
import subprocess
import sys

# A header should fit 120 lines; one that is all contract may have a few more.
COLUMNS, FUNCTION_LINES, FILE_LINES, HEADER_LINES = 100, 70, 600, 160

# File -> its own limit in lines, with the reason. Meant to stay (nearly) empty.
SIZE_EXCEPTIONS = {
    "parser/scan_generic.h": 250,  # code, included once by each instruction set
    "tests/support/fake_client.h": 200,  # code, included once by each test that has no real clients
}

TOP_LEVEL = {"gateway", "parser", "tls", "bench", "tests", "docs", "Makefile", "README.md", "CHANGES.md",
             "CONTRIBUTING.md", "LICENSE", ".clang-format", ".gitignore", ".ci"}
NOT_OURS = {".git", "build", "var", "__pycache__"}

# Folder -> what its files may include of ours, as prefixes. The longest folder that fits counts.
INCLUDE_LAW = {
    "parser": ["parser/"],
    "tls": ["tls/"],
    "gateway/base": ["gateway/base/"],
    "gateway/io": ["gateway/base/", "gateway/io/", "tls/"],
    "gateway/spool": ["gateway/base/", "gateway/io/", "gateway/spool/", "parser/bytes.h"],
    "gateway/policy": ["gateway/base/", "gateway/io/dns.h", "gateway/io/dovecot.h", "gateway/io/helpers.h",
                       "gateway/io/listener.h", "gateway/io/post.h", "gateway/io/redis.h", "gateway/io/worker.h",
                       "gateway/policy/", "parser/", "tls/crypto.h", "tls/signature.h"],
    "gateway/receive": ["gateway/base/", "gateway/io/", "gateway/spool/", "gateway/policy/", "gateway/receive/",
                        "parser/", "tls/crypto.h", "tls/tls.h"],
    "gateway/deliver": ["gateway/base/", "gateway/io/", "gateway/spool/", "gateway/deliver/",
                        "gateway/policy/directory.h", "gateway/policy/hop.h", "gateway/policy/srs.h", "parser/",
                        "tls/context.h", "tls/crypto.h", "tls/tls.h"],
    "gateway/admin": ["gateway/base/", "gateway/io/", "gateway/spool/", "gateway/deliver/", "gateway/admin/",
                      "gateway/policy/", "gateway/receive/admission.h", "gateway/receive/counters.h",
                      "gateway/receive/trace.h", "parser/", "tls/crypto.h", "tls/signature.h", "tls/tls.h"],
    "gateway": ["gateway/", "parser/", "tls/"],
    "bench": ["bench/", "gateway/base/", "gateway/io/", "gateway/spool/", "parser/", "tls/"],
    "tests": ["tests/", "gateway/", "parser/", "tls/", "bench/"],
}

# Library header -> the only places that may include it.
LIBRARY_LAW = {
    "liburing.h": ("gateway/io/uring.c", "bench/"),
    "confuse.h": ("gateway/config",),
    "idn2.h": ("gateway/deliver/exchange.c",),
    "ares.h": ("gateway/io/dns_channel.c",),
    "microhttpd.h": ("gateway/admin/http.c",),
    "hiredis/": ("gateway/io/redis.c",),
    "crypt.h": ("gateway/policy/password.c",),
    "argon2.h": ("gateway/policy/password.c",),
    "seccomp.h": ("gateway/gateway_sandbox", "tests/"),
    "jansson.h": ("gateway/admin/", "tests/", "bench/"),
    "openssl/": ("tls/", "tests/", "bench/"),
    "boringssl_build.h": ("tls/",),
}

BANNED = "strcpy strncpy stpcpy strcat strncat sprintf vsprintf strtok strtok_r atoi atol atoll gets alloca setjmp " \
         "longjmp system popen rand srand".split()
# parser/ is pure: no allocation, no I/O, no clock.
BANNED_IN_PARSER = "malloc calloc realloc free printf fprintf puts fopen open read write close time clock_gettime " \
                   "getenv abort exit pthread_create".split()

# Modules of these folders must be reached by a unit test.
TESTED = ("parser/", "gateway/base/", "gateway/spool/")


def project_files():
    found = []
    for folder, folders, names in os.walk("."):
        folders[:] = sorted(name for name in folders if name not in NOT_OURS)
        found += [os.path.join(folder, name)[2:] for name in names]
    return sorted(found)


FILES = []
TEXT = {}
C_FILES = []


def load():
    FILES.extend(project_files())
    for path in FILES:
        try:
            with open(path, encoding="utf-8") as file:
                TEXT[path] = file.read()
        except UnicodeDecodeError:
            continue  # a fuzzer's seed, a picture
    C_FILES.extend(path for path in TEXT if path.endswith((".c", ".h")))


def written_by_us():
    return [path for path in TEXT if path.endswith((".c", ".h", ".py", ".sh", ".md", ".conf"))
            or path in ("Makefile", ".ci/run", ".gitignore", "LICENSE")]


def code_only(text):
    """The text with comments and string literals blanked, line by line the same."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def functions(path):
    """(name, first line, lines, body) of each function: what lies between braces in column 0."""
    text = code_only(TEXT[path])
    for match in re.finditer(r"^\{\n(.*?)^\}", text, re.S | re.M):
        before = text[:match.start()].rstrip()
        head = before[max(before.rfind(";"), before.rfind("}"), before.rfind("\n\n")) + 1:]
        name = re.search(r"(\w+)\s*\(", head)
        first = line_of(text, match.start())
        yield name.group(1) if name else "?", first, match.group(0).count("\n") + 1, match.group(1)


def includes(path):
    for match in re.finditer(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', TEXT[path], re.M):
        yield line_of(TEXT[path], match.start()), match.group(1) == '"', match.group(2)


# --- The checks: each yields the places that break it. ---


def lines_fit_100_columns():
    for path in written_by_us():
        if not path.endswith((".c", ".h", ".sh", ".conf", "Makefile")):
            continue
        for number, line in enumerate(TEXT[path].splitlines(), 1):
            # What clang-format pads to align the columns of a table does not count.
            width = len(re.sub(r"(?<=\S)  +", " ", line.expandtabs(8)))
            if width > COLUMNS and "://" not in line:
                yield f"{path}:{number}: {width} columns"


def functions_fit_70_lines():
    for path in C_FILES:
        for name, first, lines, _body in functions(path):
            if lines > FUNCTION_LINES:
                yield f"{path}:{first}: {name} has {lines} lines"


def files_fit_their_limit():
    for path in TEXT:
        if path.endswith((".c", ".h", ".py", ".sh", "Makefile")):
            limit = SIZE_EXCEPTIONS.get(path, HEADER_LINES if path.endswith(".h") else FILE_LINES)
            lines = TEXT[path].count("\n")
            if lines > limit:
                yield f"{path}:1: {lines} lines, limit {limit}"
    for path in SIZE_EXCEPTIONS:
        if path not in TEXT:
            yield f"{path}: has a size exception but is not there"


def includes_follow_the_law():
    for path in C_FILES:
        folder = max((f for f in INCLUDE_LAW if path.startswith(f + "/")), key=len, default=None)
        for number, quoted, header in includes(path):
            if not quoted:
                continue
            if folder is None or not header.startswith(tuple(INCLUDE_LAW[folder])):
                yield f"{path}:{number}: {folder} may not include {header}"
            elif header == "gateway/config.h" and not re.match(r"gateway/[^/]+$|tests/", path):
                yield f"{path}:{number}: only main and config may include {header}"
            elif header not in TEXT:
                yield f"{path}:{number}: {header} is no path from the root of the project"


def libraries_have_one_door():
    for path in C_FILES:
        for number, _quoted, header in includes(path):
            for library, places in LIBRARY_LAW.items():
                if header.startswith(library) and not path.startswith(places):
                    yield f"{path}:{number}: {header} belongs to {' and '.join(places)}"


def no_banned_calls():
    for path in C_FILES:
        text = code_only(TEXT[path])
        banned = BANNED + (BANNED_IN_PARSER if path.startswith("parser/") else [])
        banned = [name for name in banned if name != "system" or not path.startswith("tests/")]
        for match in re.finditer(r"(?<![\w.>])(" + "|".join(banned) + r")\s*\(", text):
            yield f"{path}:{line_of(text, match.start())}: {match.group(1)}"


def no_ifdef_in_functions():
    for path in C_FILES:
        for name, first, _lines, body in functions(path):
            for match in re.finditer(r"^\s*#\s*(if|ifdef|ifndef|else|elif)\b", body, re.M):
                yield f"{path}:{first + line_of(body, match.start())}: #{match.group(1)} in {name}"


def no_recursion():
    for path in C_FILES:
        for name, first, _lines, body in functions(path):
            if re.search(rf"(?<![\w.>]){name}\s*\(", body):
                yield f"{path}:{first}: {name} calls itself"


def no_typedef_of_structs():
    for path in C_FILES:
        text = code_only(TEXT[path])
        for match in re.finditer(r"\btypedef\s+(struct|union|enum)\b[^(;]*[{;]", text):
            yield f"{path}:{line_of(text, match.start())}: typedef {match.group(1)}"


def files_open_with_prose():
    for path in C_FILES:
        if not TEXT[path].startswith("/* "):
            yield f"{path}:1: does not say what it owns"


def headers_have_guards():
    for path in C_FILES:
        guard = re.sub(r"[^A-Z0-9]", "_", path.upper().removeprefix("GATEWAY/"))
        if path.endswith(".h") and not re.search(rf"^#ifndef (GATEWAY_)?{guard}$", TEXT[path], re.M):
            yield f"{path}:1: no #ifndef {guard}"


def own_header_comes_first():
    for path in C_FILES:
        own = path[:-2] + ".h"
        first = next((header for _number, _quoted, header in includes(path)), None)
        if path.endswith(".c") and own in TEXT and not (first or "").startswith(path[:-2]):
            yield f"{path}:1: includes {first} before {own}"


def no_dead_headers():
    used = {header for path in C_FILES for _number, _quoted, header in includes(path)}
    for path in C_FILES:
        if path.endswith(".h") and path not in used:
            yield f"{path}:1: nobody includes it"


def tested_headers():
    """What unit tests include, themselves or through tests/support/; and what those modules include of their own
    folder: their parts are tested through them."""
    tested, waiting = set(), [path for path in C_FILES if path.startswith(("tests/unit/", "tests/support/"))]
    while waiting:
        path = waiting.pop()
        for _number, _quoted, header in includes(path):
            inside = path.startswith("tests/") or os.path.dirname(path) == os.path.dirname(header)
            if inside and header in TEXT and header not in tested:
                tested.add(header)
                waiting += [part for part in (header, header[:-2] + ".c") if part in TEXT]
    return tested


def modules_have_unit_tests():
    tested = tested_headers()
    for path in C_FILES:
        header = path[:-2] + ".h"
        if path.startswith(TESTED) and path.endswith(".c") and header in TEXT and header not in tested:
            yield f"{path}:1: no test in tests/unit/ reaches {header}"


def no_trailing_space():
    for path in written_by_us():
        for number, line in enumerate(TEXT[path].split("\n"), 1):
            if line != line.rstrip():
                yield f"{path}:{number}: space at the end"
            if "\t" in line and path.endswith((".c", ".h", ".py")):
                yield f"{path}:{number}: tab"
        if TEXT[path] and not TEXT[path].endswith("\n"):
            yield f"{path}: no newline at the end"


def no_paths_of_one_machine():
    for path in written_by_us():
        for match in re.finditer(r"(?<![\w.])/(work|root|home/\w+)/", TEXT[path]):
            yield f"{path}:{line_of(TEXT[path], match.start())}: {match.group(0)}"


def top_level_is_fixed():
    for name in sorted(set(os.listdir(".")) - NOT_OURS - TOP_LEVEL):
        yield f"{name}: does not belong to the top level"
    for name in sorted(TOP_LEVEL - set(os.listdir("."))):
        yield f"{name}: is missing"


def code_is_formatted():
    command = ["clang-format-14", "--dry-run", "--Werror", "--ferror-limit=1"] + C_FILES
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        yield "clang-format-14 is not installed: make deps-test"
        return
    for line in result.stderr.splitlines():
        if ": error:" in line:
            yield line.split(": error:")[0] + ": make format"


CHECKS = [lines_fit_100_columns, functions_fit_70_lines, files_fit_their_limit, includes_follow_the_law,
          libraries_have_one_door, no_banned_calls, no_ifdef_in_functions, no_recursion, no_typedef_of_structs,
          files_open_with_prose, headers_have_guards, own_header_comes_first, no_dead_headers,
          modules_have_unit_tests, no_trailing_space, no_paths_of_one_machine, top_level_is_fixed,
          code_is_formatted]


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    load()
    failed = 0
    for check in CHECKS:
        places = list(check())
        failed += bool(places)
        print(("FAIL  " if places else "ok    ") + check.__name__.replace("_", " "))
        for place in places:
            print("      " + place)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
