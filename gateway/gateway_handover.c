/* Sockets from systemd and from the process before, and word to systemd: see gateway_handover.h.
 * Both follow what is documented (sd_listen_fds(3), sd_notify(3)); a library is not needed. */
#include "gateway/gateway_handover.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/refuse.h"

enum {
    FIRST_DESCRIPTOR = 3, /* SD_LISTEN_FDS_START */
    STATE_SIZE = 512,
    LINE_SIZE = 512,
    END_S = 60, /* what the process before may need when its clients are gone */
};

static bool make_room(struct inherited *inherited)
{
    if (inherited->sockets == NULL)
        inherited->sockets = calloc(HANDOVER_SOCKETS_MAX, sizeof(*inherited->sockets));
    return inherited->sockets != NULL && inherited->count < HANDOVER_SOCKETS_MAX;
}

/* add takes a descriptor; one that leads to a socket that is known already is closed. */
static bool add(struct inherited *inherited, int descriptor, bool systemd, const char **what)
{
    struct inherited_socket socket = {.descriptor = descriptor, .systemd = systemd};
    socklen_t len = sizeof(socket.cookie);
    *what = "there are too many, or there is no memory";
    if (!make_room(inherited) || !listener_adopt(descriptor, &socket.address, what) ||
        getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &socket.cookie, &len) != 0) {
        close(descriptor);
        return false;
    }
    for (uint32_t i = 0; i < inherited->count; i++)
        if (inherited->sockets[i].cookie == socket.cookie) {
            close(descriptor);
            return true;
        }
    inherited->sockets[inherited->count++] = socket;
    return true;
}

/* --- systemd --- */

/* number_of reads a variable of digits; 0: it is not there, or something else. */
static unsigned long number_of(const char *variable)
{
    char *end;
    const char *text = getenv(variable);
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return 0;
    unsigned long value = strtoul(text, &end, 10);
    return *end == '\0' ? value : 0;
}

/* name_at finds the name of a descriptor in LISTEN_FDNAMES, for people. */
static void name_at(const char *names, unsigned long index, char *out, size_t out_size)
{
    for (; names != NULL && index > 0; index--) {
        names = strchr(names, ':');
        names = names == NULL ? NULL : names + 1;
    }
    snprintf(out, out_size, "%.*s", names == NULL ? 0 : (int)strcspn(names, ":"),
             names == NULL ? "" : names);
}

bool inherit_from_systemd(struct inherited *inherited, char *error, size_t error_size)
{
    const char *what;
    char name[64], names[1024];
    unsigned long pid = number_of("LISTEN_PID"), count = number_of("LISTEN_FDS");
    const char *given = getenv("LISTEN_FDNAMES");
    snprintf(names, sizeof(names), "%s", given == NULL ? "" : given);
    unsetenv("LISTEN_PID"); /* they are for us alone */
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (pid != (unsigned long)getpid())
        return true;
    if (count > HANDOVER_SOCKETS_MAX)
        return refuse(error, error_size, "systemd gives %lu sockets: too many", count);
    for (unsigned long i = 0; i < count; i++) {
        name_at(names, i, name, sizeof(name));
        if (!add(inherited, FIRST_DESCRIPTOR + (int)i, true, &what))
            return refuse(error, error_size, "the socket \"%s\" that systemd gives: %s", name,
                          what);
    }
    return true;
}

void handover_notify(const char *format, ...)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    char state[STATE_SIZE];
    va_list arguments;
    const char *path = getenv("NOTIFY_SOCKET");
    size_t len = path == NULL ? 0 : strlen(path);
    if (len < 2 || len >= sizeof(place.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(place.sun_path, path, len);
    if (path[0] == '@')
        place.sun_path[0] = '\0'; /* an abstract name */
    va_start(arguments, format);
    int state_len = vsnprintf(state, sizeof(state), format, arguments);
    va_end(arguments);
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0 || state_len <= 0 || (size_t)state_len >= sizeof(state)) {
        close(descriptor);
        return;
    }
    (void)!sendto(descriptor, state, (size_t)state_len, MSG_NOSIGNAL,
                  (const struct sockaddr *)&place,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(descriptor);
}

/* --- the process before --- */

static int dial(const char *path)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    struct timeval patience = {HANDOVER_PATIENCE_S, 0};
    size_t len = strlen(path);
    errno = ENAMETOOLONG;
    if (len == 0 || len >= sizeof(place.sun_path))
        return -1;
    memcpy(place.sun_path, path, len);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), result;
    if (descriptor < 0)
        return -1;
    (void)setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    do
        result = connect(descriptor, (const struct sockaddr *)&place, sizeof(place));
    while (result != 0 && errno == EINTR);
    if (result == 0 &&
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0)
        return descriptor;
    int error = errno;
    close(descriptor);
    errno = error;
    return -1;
}

/* A ring that was probed before may interrupt whatever waits, without any signal. */
static bool say(int descriptor, const char *line)
{
    ssize_t len = (ssize_t)strlen(line), sent;
    do
        sent = send(descriptor, line, (size_t)len, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == len;
}

/* told_to_stop reads a signal, and remembers SIGHUP. */
static bool told_to_stop(struct inherited *inherited, int signals)
{
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof(info)) != sizeof(info))
        return false;
    inherited->reload = inherited->reload || info.ssi_signo == SIGHUP;
    return info.ssi_signo != SIGHUP;
}

/* await_old waits for what the process before says next. */
static bool await_old(struct inherited *inherited, int signals)
{
    uint64_t end_us = clock_monotonic_us() + HANDOVER_PATIENCE_S * 1000000ull;
    struct pollfd polled[] = {
        {.fd = inherited->old, .events = POLLIN},
        {.fd = signals,        .events = POLLIN}
    };
    while (clock_monotonic_us() < end_us) {
        int count = poll(polled, 2, 100);
        if (count > 0 && polled[1].revents != 0 && told_to_stop(inherited, signals))
            return false;
        if (count > 0 && polled[0].revents != 0)
            return true;
    }
    return false;
}

/* read_line reads octet by octet: those behind the line come with descriptors. */
static bool read_line(struct inherited *inherited, int signals, char *out, size_t out_size)
{
    for (size_t len = 0; len + 1 < out_size; len++) {
        ssize_t got;
        if (!await_old(inherited, signals))
            return false;
        do
            got = recv(inherited->old, out + len, 1, 0);
        while (got < 0 && errno == EINTR);
        if (got != 1)
            return false;
        if (out[len] == '\n') {
            out[len] = '\0';
            return true;
        }
    }
    return false;
}

/* take_socket receives a descriptor and the letter that it comes with ('s': of systemd). */
static int take_socket(int from, char *letter)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec octet = {letter, 1};
    struct msghdr message = {.msg_iov = &octet,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof(control.room)};
    int descriptor = -1;
    ssize_t got;
    do
        got = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got != 1)
        return -1;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
        header->cmsg_len != CMSG_LEN(sizeof(int)))
        return -1;
    memcpy(&descriptor, CMSG_DATA(header), sizeof(int));
    return descriptor;
}

/* read_offer reads the first line, and checks that both mean the same spool. */
static bool read_offer(struct inherited *inherited, const char *spool_path, int signals,
                       unsigned *sockets, char *error, size_t error_size)
{
    char line[LINE_SIZE];
    unsigned version = 0;
    unsigned long long device, inode;
    struct stat status;
    inherited->temporary = true;
    if (!read_line(inherited, signals, line, sizeof(line)))
        return refuse(error, error_size, "the running process does not answer");
    if (line[0] == '{')
        return refuse(error, error_size, "the running process refuses: %s", line);
    inherited->temporary = false;
    if (sscanf(line, "handover %u pid %d spool %llu:%llu timeout %u sockets %u", &version,
               &inherited->old_pid, &device, &inode, &inherited->old_timeout_s, sockets) != 6 ||
        version != HANDOVER_VERSION || *sockets > HANDOVER_SOCKETS_MAX)
        return refuse(error, error_size, "the running process speaks otherwise: %s", line);
    if (stat(spool_path, &status) != 0)
        return refuse(error, error_size, "%s: %s", spool_path, strerror(errno));
    if (status.st_dev != device || status.st_ino != inode)
        return refuse(error, error_size,
                      "the running process has another spool than %s: its mail would stay there",
                      spool_path);
    return true;
}

bool inherit_from_old(struct inherited *inherited, const char *control_path, const char *spool_path,
                      int signals, char *error, size_t error_size)
{
    unsigned sockets = 0;
    const char *what;
    error[0] = '\0';
    int descriptor = dial(control_path);
    if (descriptor < 0 && (errno == ENOENT || errno == ECONNREFUSED))
        return false;
    if (descriptor < 0)
        return refuse(error, error_size, "%s: %s", control_path, strerror(errno));
    inherited->old = descriptor;
    if (!say(descriptor, "{\"do\":\"handover\"}\n"))
        return refuse(error, error_size, "%s: %s", control_path, strerror(errno));
    if (!read_offer(inherited, spool_path, signals, &sockets, error, error_size))
        return false;
    for (unsigned i = 0; i < sockets; i++) {
        char letter = 0;
        int given = await_old(inherited, signals) ? take_socket(descriptor, &letter) : -1;
        inherited->temporary = given < 0;
        if (given < 0)
            return refuse(error, error_size, "the running process broke off");
        if (!add(inherited, given, letter == 's', &what))
            return refuse(error, error_size, "a socket of the running process: %s", what);
    }
    return true;
}

/* await_end waits for a process that has closed its connection without a word: it is ending, and
 * its files are closed one by one. */
static void await_end(int pid)
{
    int descriptor = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd polled = {.fd = descriptor, .events = POLLIN};
    if (descriptor < 0)
        return;
    while (poll(&polled, 1, HANDOVER_PATIENCE_S * 1000) < 0 && errno == EINTR)
        continue;
    close(descriptor);
}

bool inherit_commit(struct inherited *inherited, int signals, char *error, size_t error_size)
{
    static const char gone[] = "gone\n";
    char word[sizeof(gone)] = "";
    if (inherited->old == 0)
        return true;
    uint64_t patience_us = (uint64_t)(inherited->old_timeout_s + END_S) * 1000000;
    uint64_t end_us = clock_monotonic_us() + patience_us;
    /* When it can't be said, the other has just died; its end is read below. */
    inherited->committed = say(inherited->old, "commit\n");
    struct pollfd polled[] = {
        {.fd = inherited->old, .events = POLLIN},
        {.fd = signals,        .events = POLLIN}
    };
    while (clock_monotonic_us() < end_us) {
        int count = poll(polled, 2, 1000);
        if (count > 0 && polled[1].revents != 0 && told_to_stop(inherited, signals))
            return refuse(error, error_size, "stopped while waiting for the process before");
        if (count <= 0 || polled[0].revents == 0)
            continue;
        ssize_t got;
        do
            got = recv(inherited->old, word, sizeof(gone) - 1, MSG_WAITALL);
        while (got < 0 && errno == EINTR);
        if (got != sizeof(gone) - 1)
            await_end(inherited->old_pid);
        close(inherited->old);
        inherited->old = 0;
        return true;
    }
    return refuse(error, error_size, "the process before (%d) does not end", inherited->old_pid);
}

/* --- use --- */

int inherit_take(struct inherited *inherited, const union address_any *address, bool *systemd)
{
    for (uint32_t i = 0; i < inherited->count; i++) {
        struct inherited_socket *socket = &inherited->sockets[i];
        if (socket->descriptor < 0 || memcmp(&socket->address, address, sizeof(*address)) != 0)
            continue;
        int descriptor = socket->descriptor;
        *systemd = socket->systemd;
        socket->descriptor = -1;
        return descriptor;
    }
    return -1;
}

void inherit_unused(const struct inherited *inherited, FILE *out)
{
    char text[64];
    for (uint32_t i = 0; i < inherited->count; i++)
        if (inherited->sockets[i].descriptor >= 0)
            fprintf(out, "a socket at %s that %s gave is closed: no listener has this address\n",
                    listener_format(&inherited->sockets[i].address, text),
                    inherited->sockets[i].systemd ? "systemd" : "the process before");
}

void inherit_close(struct inherited *inherited)
{
    for (uint32_t i = 0; i < inherited->count; i++)
        if (inherited->sockets[i].descriptor >= 0)
            close(inherited->sockets[i].descriptor);
    if (inherited->old > 0)
        close(inherited->old);
    free(inherited->sockets);
    *inherited = (struct inherited){0};
}
