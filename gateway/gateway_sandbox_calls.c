/* The system calls of a gateway that runs (seccomp): see gateway_sandbox.h. The list is what traces
 * of all that it does have shown, and what the libraries may do besides; docs/threat-model.md.
 * Rings have their own restrictions (io/uring.c), since requests on them do not pass here. */
#include "gateway/gateway_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

/* A sanitizer's own thread makes calls of all kinds, and ends with ptrace and execve. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { UNDER_SANITIZER = true };
#else
enum { UNDER_SANITIZER = false };
#endif

enum newer_than_headers {
    REGISTER_SEND_MSG_RING = 31, /* 6.13: wakes a worker */
};

enum modes {
    SPECIAL = 07000,                                /* set-uid, set-gid, sticky */
    MAKES = O_CREAT | (O_TMPFILE & ~(O_DIRECTORY)), /* else an opening has no mode */
};

/* For any arguments. Names that a machine does not have (open on aarch64) are passed over. */
static const char *const allowed[] = {
    /* descriptors */
    "close", "close_range", "dup", "dup2", "dup3", "fcntl", "lseek", "pread64", "preadv", "preadv2",
    "pwrite64", "pwritev", "pwritev2", "read", "readv", "sendfile", "write", "writev",
    /* files */
    "access", "faccessat", "faccessat2", "fallocate", "fdatasync", "flock", "fstat", "fstatfs",
    "fsync", "ftruncate", "getcwd", "getdents64", "link", "linkat", "lstat", "mkdir", "mkdirat",
    "newfstatat", "readlink", "readlinkat", "rename", "renameat", "renameat2", "sync_file_range",
    "rmdir", "stat", "statfs", "statx", "umask", "unlink", "unlinkat", "utimensat",
    /* waiting */
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait",
    "eventfd2", "signalfd4", "pipe", "pipe2", "poll", "ppoll", "pselect6", "select",
    "timerfd_create", "timerfd_gettime", "timerfd_settime",
    /* network; no new listener: listen is missing */
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "recvfrom",
    "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    "io_uring_enter",
    /* memory */
    "brk", "madvise", "membarrier", "mincore", "mremap", "munmap",
    /* threads and signals */
    "exit", "exit_group", "futex", "get_robust_list", "getcpu", "gettid", "restart_syscall", "rseq",
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
    "sched_getparam", "sched_getscheduler", "sched_setaffinity", "sched_setscheduler",
    "sched_yield", "set_robust_list", "set_tid_address", "sigaltstack",
    /* time, and who and where we are */
    "clock_getres", "clock_gettime", "clock_nanosleep", "getegid", "geteuid", "getgid", "getgroups",
    "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresuid", "getrlimit",
    "getrusage", "gettimeofday", "getuid", "nanosleep", "setpriority", "sysinfo", "time", "times",
    "uname"};

/* Nobody but an intruder would try these: the process ends. */
static const char *const deadly[] = {"acct",
                                     "add_key",
                                     "bpf",
                                     "chroot",
                                     "delete_module",
                                     "execve",
                                     "execveat",
                                     "finit_module",
                                     "fsconfig",
                                     "fsmount",
                                     "fsopen",
                                     "init_module",
                                     "io_uring_setup",
                                     "kcmp",
                                     "kexec_file_load",
                                     "kexec_load",
                                     "keyctl",
                                     "mount",
                                     "mount_setattr",
                                     "move_mount",
                                     "open_by_handle_at",
                                     "open_tree",
                                     "perf_event_open",
                                     "personality",
                                     "pidfd_getfd",
                                     "pivot_root",
                                     "process_vm_readv",
                                     "process_vm_writev",
                                     "ptrace",
                                     "reboot",
                                     "request_key",
                                     "setns",
                                     "swapon",
                                     "umount2",
                                     "unshare",
                                     "userfaultfd"};

/* add makes a rule for a call; a name that this machine does not have needs none. */
static int add(scmp_filter_ctx filter, uint32_t action, const char *name,
               const struct scmp_arg_cmp *argument)
{
    int call = seccomp_syscall_resolve_name(name);
    if (call < 0)
        return 0;
    return seccomp_rule_add_array(filter, action, call, argument == NULL ? 0 : 1, argument);
}

static int add_all(scmp_filter_ctx filter, uint32_t action, const char *const *names, size_t count)
{
    int error = 0;
    for (size_t i = 0; i < count && error == 0; i++)
        error = add(filter, action, names[i], NULL);
    return error;
}

/* A call that is allowed when one argument has one of a few values, or some of its bits have one
 * value. */
struct partly {
    const char *name;
    unsigned argument;
    uint64_t mask, value;
};

static int add_partly(scmp_filter_ctx filter)
{
    const uint64_t whole = UINT64_MAX, word = UINT32_MAX;
    const uint64_t self = (uint64_t)getpid();
    const uint64_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    const struct partly calls[] = {
  /* threads, but no processes and no namespaces */
        {"clone",             0, CLONE_THREAD | CLONE_VM | namespaces, CLONE_THREAD | CLONE_VM    },
        {"chmod",             1, SPECIAL,                              0                          },
        {"fchmod",            1, SPECIAL,                              0                          },
        {"fchmodat",          2, SPECIAL,                              0                          },
        {"open",              1, MAKES,                                0                          },
        {"open",              2, SPECIAL,                              0                          },
        {"openat",            2, MAKES,                                0                          },
        {"openat",            3, SPECIAL,                              0                          },
        {"mmap",              2, PROT_EXEC,                            0                          },
        {"mprotect",          2, PROT_EXEC,                            0                          },
        {"socket",            0, whole,                                AF_UNIX                    },
        {"socket",            0, whole,                                AF_INET                    },
        {"socket",            0, whole,                                AF_INET6                   },
        {"socketpair",        0, whole,                                AF_UNIX                    },
        {"prctl",             0, word,                                 PR_SET_NAME                },
        {"prctl",             0, word,                                 PR_GET_NAME                },
        {"prctl",             0, word,                                 PR_SET_VMA                 },
        {"tgkill",            0, word,                                 self                       },
        {"kill",              0, word,                                 self                       },
        {"prlimit64",         0, word,                                 0                          },
        {"ioctl",             1, word,                                 FIONBIO                    },
        {"ioctl",             1, word,                                 FIONREAD                   },
        {"ioctl",             1, word,                                 TCGETS                     },
        {"io_uring_register", 1, word,                                 REGISTER_SEND_MSG_RING     },
        {"io_uring_register", 1, word,                                 IORING_UNREGISTER_BUFFERS  },
        {"io_uring_register", 1, word,                                 IORING_UNREGISTER_PBUF_RING},
        {"io_uring_register", 1, word,                                 IORING_UNREGISTER_RING_FDS },
    };
    int error = 0;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]) && error == 0; i++) {
        const struct scmp_arg_cmp argument = {calls[i].argument, SCMP_CMP_MASKED_EQ, calls[i].mask,
                                              calls[i].value};
        error = add(filter, SCMP_ACT_ALLOW, calls[i].name, &argument);
    }
    return error;
}

static int fill(scmp_filter_ctx filter)
{
    int error = add_all(filter, SCMP_ACT_ALLOW, allowed, sizeof(allowed) / sizeof(allowed[0]));
    if (error == 0)
        error = add_all(filter, SCMP_ACT_KILL_PROCESS, deadly, sizeof(deadly) / sizeof(deadly[0]));
    if (error == 0)
        error = add_partly(filter);
    /* Its flags lie in memory, where no filter can look; without it libraries use clone. */
    if (error == 0)
        error = add(filter, SCMP_ACT_ERRNO(ENOSYS), "clone3", NULL);
    return error;
}

static int load(scmp_filter_ctx filter)
{
    int error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1); /* the kernel's own errno */
    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    /* The kernel's audit log names what was refused; not every kernel can. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
    if (error == 0)
        error = fill(filter);
    return error == 0 ? seccomp_load(filter) : error;
}

bool sandbox_calls(const struct config *config, char *error, size_t error_size)
{
    *error = '\0';
    if (!config->seccomp)
        return true;
    if (UNDER_SANITIZER) {
        snprintf(error, error_size, "seccomp is off in a build with a sanitizer");
        return true;
    }
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int result = filter == NULL ? -ENOMEM : load(filter);
    seccomp_release(filter);
    /* EPERM: a container's own filter does not let us. */
    if (result == -EINVAL || result == -ENOSYS || result == -EOPNOTSUPP || result == -EPERM) {
        snprintf(error, error_size,
                 "there are no seccomp filters here (%s): all system calls are open",
                 strerror(-result));
        return true;
    }
    if (result != 0)
        snprintf(error, error_size, "seccomp: %s", strerror(result < 0 ? -result : EBUSY));
    return result == 0;
}
