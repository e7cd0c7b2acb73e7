/* A disk that fails on command, for end-to-end tests: loaded into the gateway with LD_PRELOAD, it
 * makes file calls fail as a control file says. The file is read anew at each call, so a test can
 * change the weather while the gateway runs.
 *
 *   gcc -shared -fPIC -O1 -D_GNU_SOURCE -o fault.so tests/e2e/fault_preload.c -ldl
 *   RINGMX_FAULTS=/tmp/faults LD_PRELOAD=./fault.so build/ringmx ...
 *
 * RINGMX_FAULTS names the control file; when it is not there nothing fails. A line is
 *
 *   CALL ERROR [COUNT [MATCH]]
 *
 * CALL    write     write, writev, pwrite, pwritev, pwritev2 (and their 64-bit names)
 *         sync      fdatasync, fsync
 *         create    open and openat with O_CREAT
 *         allocate  fallocate, posix_fallocate
 * ERROR   EIO, ENOSPC, EDQUOT, EROFS, EMFILE, ENFILE, ENOMEM, EACCES, or a number; or `short`: a
 * write does only its first 4096 octets COUNT   how often the line fails (then it is spent until
 * the file's content changes); `always` or absent: for ever MATCH   only for files whose path
 * contains this
 *
 * The first line that fits decides. Empty lines and lines that begin with # are nothing. To change
 * the file, write another and rename it over the old one. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LINES_MAX = 32, CONTENT_MAX = 4096, FAULT_SHORT = -1, BLOCK = 4096 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char content[CONTENT_MAX];
static unsigned used[LINES_MAX]; /* how often each line of `content` has failed */

/* Reads the control file by bare system calls, which nobody intercepts. Held lock. */
static void refresh(void)
{
    char fresh[CONTENT_MAX] = "";
    const char *path = getenv("RINGMX_FAULTS");
    long file = path == NULL ? -1 : syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (file >= 0) {
        long len = syscall(SYS_read, file, fresh, sizeof fresh - 1);
        fresh[len > 0 ? len : 0] = '\0';
        syscall(SYS_close, file);
    }
    if (strcmp(fresh, content) == 0)
        return;
    memcpy(content, fresh, sizeof content);
    memset(used, 0, sizeof used);
}

static int error_of(const char *name)
{
    static const struct {
        const char *name;
        int error;
    } names[] = {
        {"EIO",    EIO        },
        {"ENOSPC", ENOSPC     },
        {"EDQUOT", EDQUOT     },
        {"EROFS",  EROFS      },
        {"EMFILE", EMFILE     },
        {"ENFILE", ENFILE     },
        {"ENOMEM", ENOMEM     },
        {"EACCES", EACCES     },
        {"short",  FAULT_SHORT}
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i].name) == 0)
            return names[i].error;
    return (int)strtol(name, NULL, 10);
}

/* Returns the error for one call, 0 for none. Held lock. */
static int judge(const char *call, const char *path)
{
    char line[CONTENT_MAX];
    const char *at = content;
    for (int number = 0; *at != '\0' && number < LINES_MAX; number++) {
        size_t len = strcspn(at, "\n");
        memcpy(line, at, len);
        line[len] = '\0';
        at += len + (at[len] == '\n');
        char name[16] = "";
        char error[16] = "";
        char count[16] = "always";
        char match[256] = "";
        if (line[0] == '#' || sscanf(line, "%15s %15s %15s %255s", name, error, count, match) < 2)
            continue;
        if (strcmp(name, call) != 0 || strstr(path, match) == NULL)
            continue;
        if (strcmp(count, "always") != 0 && used[number] >= strtoul(count, NULL, 10))
            continue;
        used[number]++;
        return error_of(error);
    }
    return 0;
}

static int fault(const char *call, const char *path)
{
    int before = errno;
    pthread_mutex_lock(&mutex);
    refresh();
    int error = content[0] == '\0' ? 0 : judge(call, path);
    pthread_mutex_unlock(&mutex);
    errno = before;
    return error;
}

static int fault_descriptor(const char *call, int descriptor)
{
    char link[64];
    char path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    long len = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    path[len > 0 ? len : 0] = '\0';
    return fault(call, path);
}

static void *original(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (function == NULL)
        abort();
    return function;
}

static ssize_t write_parts(int descriptor, const struct iovec *parts, int count, off_t offset,
                           int flags)
{
    int error = fault_descriptor("write", descriptor);
    struct iovec first;
    if (error == FAULT_SHORT && count > 0) {
        first = parts[0];
        if (first.iov_len > BLOCK)
            first.iov_len = BLOCK;
        parts = &first;
        count = 1;
    } else if (error != 0) {
        errno = error;
        return -1;
    }
    /* The offset goes in two halves; on 64 bits the second is not looked at. */
    return syscall(SYS_pwritev2, descriptor, parts, count, offset, (long)((uint64_t)offset >> 32),
                   flags);
}

ssize_t pwrite(int descriptor, const void *data, size_t len, off_t offset)
{
    union {
        const void *in;
        void *out;
    } pointer = {.in = data};
    struct iovec part = {.iov_base = pointer.out, .iov_len = len};
    return write_parts(descriptor, &part, 1, offset, 0);
}

ssize_t pwrite64(int descriptor, const void *data, size_t len, off64_t offset)
{
    return pwrite(descriptor, data, len, offset);
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset)
{
    return write_parts(descriptor, parts, count, offset, 0);
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset)
{
    return write_parts(descriptor, parts, count, offset, 0);
}

ssize_t pwritev2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags)
{
    return write_parts(descriptor, parts, count, offset, flags);
}

ssize_t pwritev64v2(int descriptor, const struct iovec *parts, int count, off64_t offset, int flags)
{
    return write_parts(descriptor, parts, count, offset, flags);
}

static ssize_t write_here(int descriptor, const struct iovec *parts, int count)
{
    int error = fault_descriptor("write", descriptor);
    struct iovec first;
    if (error == FAULT_SHORT && count > 0) {
        first = parts[0];
        if (first.iov_len > BLOCK)
            first.iov_len = BLOCK;
        parts = &first;
        count = 1;
    } else if (error != 0) {
        errno = error;
        return -1;
    }
    return syscall(SYS_writev, descriptor, parts, count);
}

ssize_t write(int descriptor, const void *data, size_t len)
{
    union {
        const void *in;
        void *out;
    } pointer = {.in = data};
    struct iovec part = {.iov_base = pointer.out, .iov_len = len};
    return write_here(descriptor, &part, 1);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    return write_here(descriptor, parts, count);
}

static int sync_faulty(int descriptor, long number)
{
    int error = fault_descriptor("sync", descriptor);
    if (error <= 0)
        return (int)syscall(number, descriptor);
    errno = error;
    return -1;
}

int fdatasync(int descriptor)
{
    return sync_faulty(descriptor, SYS_fdatasync);
}

int fsync(int descriptor)
{
    return sync_faulty(descriptor, SYS_fsync);
}

static int open_faulty(int directory, const char *path, int flags, mode_t mode)
{
    int error = 0;
    if ((flags & O_CREAT) != 0) {
        char link[64];
        char whole[8192] = "";
        long len = 0;
        if (path[0] != '/' && directory != AT_FDCWD) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
            len = syscall(SYS_readlinkat, AT_FDCWD, link, whole, sizeof whole / 2);
            len = len > 0 ? len : 0;
            whole[len++] = '/';
        }
        snprintf(whole + len, sizeof whole - (size_t)len, "%s", path);
        error = fault("create", whole);
    }
    if (error <= 0)
        return (int)syscall(SYS_openat, directory, path, flags, mode);
    errno = error;
    return -1;
}

/* Reads the mode that follows the flags, when there is one. */
#define MODE_AFTER(flags, mode)                                                                    \
    mode_t mode = 0;                                                                               \
    if (((flags) & (O_CREAT | O_TMPFILE)) != 0) {                                                  \
        va_list arguments;                                                                         \
        va_start(arguments, flags);                                                                \
        mode = va_arg(arguments, mode_t);                                                          \
        va_end(arguments);                                                                         \
    }

int open(const char *path, int flags, ...)
{
    MODE_AFTER(flags, mode)
    return open_faulty(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE_AFTER(flags, mode)
    return open_faulty(AT_FDCWD, path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...)
{
    MODE_AFTER(flags, mode)
    return open_faulty(directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...)
{
    MODE_AFTER(flags, mode)
    return open_faulty(directory, path, flags, mode);
}

int fallocate(int descriptor, int mode, off_t offset, off_t len)
{
    int error = fault_descriptor("allocate", descriptor);
    if (error <= 0)
        return (int)syscall(SYS_fallocate, descriptor, mode, offset, len);
    errno = error;
    return -1;
}

int fallocate64(int descriptor, int mode, off64_t offset, off64_t len)
{
    return fallocate(descriptor, mode, offset, len);
}

int posix_fallocate(int descriptor, off_t offset, off_t len)
{
    static int (*next)(int, off_t, off_t);
    int error = fault_descriptor("allocate", descriptor);
    if (error > 0)
        return error;
    if (next == NULL)
        *(void **)&next = original("posix_fallocate");
    return next(descriptor, offset, len);
}

int posix_fallocate64(int descriptor, off64_t offset, off64_t len)
{
    return posix_fallocate(descriptor, offset, len);
}
