/* Somebody who has taken a gateway over, for end-to-end tests: loaded into it with LD_PRELOAD, it
 * tries on SIGUSR1 what the file RINGMX_ATTEMPT names, from inside of whatever thread the signal
 * meets, and says on standard error what came of it: `attempt NAME ERRNO` (0: it worked).
 *
 *   gcc -shared -fPIC -O1 -D_GNU_SOURCE -o inside.so tests/e2e/inside_preload.c
 *
 * A line of the file: NAME [PATH]. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static char attempt_path[512];

static long try_execve(const char *path)
{
    char *arguments[] = {(char *)"/bin/true", NULL};
    (void)path;
    return execve(arguments[0], arguments, NULL);
}

static long try_ring(const char *path)
{
    char params[256] = {0};
    (void)path;
    return syscall(SYS_io_uring_setup, 8, params);
}

static long try_trace(const char *path)
{
    (void)path;
    return ptrace(PTRACE_SEIZE, getppid(), 0, 0);
}

static long try_namespace(const char *path)
{
    (void)path;
    return unshare(CLONE_NEWUSER);
}

static long try_packet(const char *path)
{
    (void)path;
    return socket(AF_PACKET, SOCK_RAW, 0);
}

static long try_listen(const char *path)
{
    (void)path;
    return listen(socket(AF_INET, SOCK_STREAM, 0), 1);
}

static long try_fork(const char *path)
{
    (void)path;
    long child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0)
        _exit(0);
    return child;
}

static long try_code(const char *path)
{
    (void)path;
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? -1 : 0;
}

static long try_root(const char *path)
{
    (void)path;
    return syscall(SYS_setuid, 0);
}

static long try_read(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC);
}

static long try_write(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static const struct {
    const char *name;
    long (*run)(const char *path);
} attempts[] = {
    {"execve",    try_execve   },
    {"ring",      try_ring     },
    {"trace",     try_trace    },
    {"namespace", try_namespace},
    {"packet",    try_packet   },
    {"listen",    try_listen   },
    {"fork",      try_fork     },
    {"code",      try_code     },
    {"root",      try_root     },
    {"read",      try_read     },
    {"write",     try_write    },
};

static void try_it(int number)
{
    char line[512] = "", name[32] = "", path[448] = "", said[96];
    int before = errno;
    int file = open(attempt_path, O_RDONLY | O_CLOEXEC);
    (void)number;
    if (file < 0 || read(file, line, sizeof(line) - 1) < 0 ||
        sscanf(line, "%31s %447s", name, path) < 1)
        abort();
    close(file);
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        if (strcmp(attempts[i].name, name) != 0)
            continue;
        errno = 0;
        long result = attempts[i].run(path);
        int len = snprintf(said, sizeof(said), "attempt %s %d\n", name, result < 0 ? errno : 0);
        if (write(STDERR_FILENO, said, (size_t)len) < 0)
            abort();
    }
    errno = before;
}

__attribute__((constructor)) static void begin(void)
{
    const struct sigaction action = {.sa_handler = try_it, .sa_flags = SA_RESTART};
    const char *path = getenv("RINGMX_ATTEMPT");
    snprintf(attempt_path, sizeof(attempt_path), "%s", path == NULL ? "" : path);
    sigaction(SIGUSR1, &action, NULL);
}
