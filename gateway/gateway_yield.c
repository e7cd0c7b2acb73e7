/* The old side of a hand-over: a process that wants to take over (gateway_handover.h) gets copies
 * of all listening sockets, and may then say that we shall go. docs/control.md has the words. */
#include "gateway/gateway_life.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/clock.h"

/* wait_room waits until the other has taken some of what was sent. */
static bool wait_room(int descriptor, uint64_t end_us)
{
    struct pollfd polled = {.fd = descriptor, .events = POLLOUT};
    uint64_t now_us = clock_monotonic_us();
    int count = -1;
    errno = EINTR;
    for (; count < 0 && errno == EINTR && now_us < end_us; now_us = clock_monotonic_us())
        count = poll(&polled, 1, (int)((end_us - now_us) / 1000) + 1);
    return count > 0;
}

/* send_with sends octets, with a descriptor unless it is -1. */
static bool send_with(int to, const char *data, size_t len, int descriptor, uint64_t end_us)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec octets = {(void *)(uintptr_t)data, len};
    struct msghdr message = {.msg_iov = &octets, .msg_iovlen = 1};
    if (descriptor >= 0) {
        memset(&control, 0, sizeof(control));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &descriptor, sizeof(int));
        message.msg_control = control.room;
        message.msg_controllen = sizeof(control.room);
    }
    for (;;) {
        ssize_t sent = sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent == (ssize_t)len)
            return true;
        /* Too many descriptors may be on their way, too (ETOOMANYREFS). */
        bool later = sent < 0 && (errno == EAGAIN || errno == EINTR);
        if (!later || !wait_room(to, end_us))
            return false;
    }
}

static void refuse(int descriptor, const char *why)
{
    char line[256];
    int len = snprintf(line, sizeof(line), "{\"error\":\"%s\"}\n", why);
    (void)!send(descriptor, line, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(descriptor);
}

/* offer sends what we are, and the sockets. */
static bool offer(const struct gateway *gateway, int descriptor)
{
    char line[256];
    struct stat status;
    uint64_t end_us = clock_monotonic_us() + HANDOVER_PATIENCE_S * 1000000ull;
    if (stat(gateway->initial->spool_path, &status) != 0)
        return false;
    int len =
        snprintf(line, sizeof(line), "handover %d pid %d spool %llu:%llu timeout %u sockets %u\n",
                 HANDOVER_VERSION, (int)getpid(), (unsigned long long)status.st_dev,
                 (unsigned long long)status.st_ino, gateway->current->handover_timeout_s,
                 gateway->socket_count);
    if (!send_with(descriptor, line, (size_t)len, -1, end_us))
        return false;
    for (uint32_t i = 0; i < gateway->socket_count; i++) {
        const struct gateway_socket *socket = &gateway->sockets[i];
        if (!send_with(descriptor, socket->systemd ? "s" : "o", 1, socket->descriptor, end_us))
            return false;
    }
    return true;
}

void gateway_yield_offer(struct gateway *gateway, int descriptor, pid_t pid)
{
    struct yield *yield = &gateway->yield;
    if (gateway->stopping || yield->descriptor >= 0) {
        refuse(descriptor,
               gateway->stopping ? "the gateway is stopping" : "another hand-over is under way");
        return;
    }
    if (!offer(gateway, descriptor)) {
        log_message(gateway->log_port, LOG_WARN, "handover", "process %d did not take the sockets",
                    (int)pid);
        close(descriptor);
        return;
    }
    *yield = (struct yield){.descriptor = descriptor, .pid = pid};
    log_message(gateway->log_port, LOG_INFO, "handover", "process %d has the sockets", (int)pid);
}

enum yield_word gateway_yield_hear(struct gateway *gateway)
{
    static const char commit[] = "commit\n";
    struct yield *yield = &gateway->yield;
    ssize_t got = recv(yield->descriptor, yield->line + yield->line_len,
                       sizeof(yield->line) - yield->line_len, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return YIELD_NOTHING;
    if (got > 0 && !yield->committed) {
        yield->line_len += (size_t)got;
        if (yield->line_len < sizeof(commit) - 1)
            return YIELD_NOTHING;
        yield->committed = memcmp(yield->line, commit, sizeof(commit) - 1) == 0;
        if (yield->committed)
            return YIELD_COMMIT;
    }
    log_message(gateway->log_port, LOG_WARN, "handover", "process %d has given up",
                (int)yield->pid);
    gateway_yield_close(gateway);
    return YIELD_LOST;
}

bool gateway_yield_gone(struct gateway *gateway)
{
    struct yield *yield = &gateway->yield;
    int pid = (int)yield->pid;
    bool there = yield->descriptor >= 0 &&
                 send(yield->descriptor, "gone\n", 5, MSG_NOSIGNAL | MSG_DONTWAIT) == 5;
    /* From the main process alone systemd takes this, and we are that up to here. */
    if (there && gateway->yielding)
        handover_notify("MAINPID=%d\nSTATUS=Process %d takes over", pid, pid);
    gateway_yield_close(gateway);
    return there;
}

void gateway_yield_close(struct gateway *gateway)
{
    if (gateway->yield.descriptor >= 0)
        close(gateway->yield.descriptor);
    gateway->yield = (struct yield){.descriptor = -1};
}
