"""Runs a program under a container's seccomp profile (the JSON of Docker and Kubernetes), loaded by libseccomp as a
container runtime does: confined.py PROFILE PROGRAM [ARGUMENTS]."""
import ctypes
import json
import os
import sys

ALLOW = 0x7FFF0000


def refuse(errno):
    return 0x00050000 | errno


def load(path):
    with open(path, encoding="utf-8") as file:
        profile = json.load(file)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO", profile["defaultAction"]
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(refuse(profile["defaultErrnoRet"])))
    for rule in profile["syscalls"]:
        assert rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule, rule
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number >= 0 and library.seccomp_rule_add(context, ALLOW, number, 0) != 0:
                sys.exit(f"{path}: {name} can't be allowed")
    if library.seccomp_load(context) != 0:
        sys.exit(f"{path}: the kernel did not take it")


if __name__ == "__main__":
    load(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
