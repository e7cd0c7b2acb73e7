/* The connection to a server that the gateway asks: see upstream.h. */
#include "gateway/io/upstream.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/counter.h"
#include "gateway/io/worker.h"

enum {
    READ_MAX = 16 * 1024,
    READS_A_TURN = 8,
    PAUSE_US_MIN = 100 * 1000,
    PAUSE_US_MAX = 5 * 1000 * 1000,
    STEADY_US = 10 * 1000 * 1000, /* a connection that lasted so long was a good one */
};

/* --- the end of a connection --- */

static void let_go(struct upstream *upstream)
{
    if (upstream->descriptor < 0)
        return;
    (void)!watch_set(upstream->worker, &upstream->watch, upstream->descriptor, 0);
    close(upstream->descriptor);
    upstream->descriptor = -1;
}

void upstream_close(struct upstream *upstream)
{
    let_go(upstream);
    upstream->state = UPSTREAM_AWAY;
    explicit_bzero(upstream->out + upstream->out_at, upstream->out_len - upstream->out_at);
    upstream->out_at = upstream->out_len = 0;
    upstream->blocked = false;
    atomic_store_explicit(&upstream->connected, false, memory_order_relaxed);
    upstream->hooks->lost(upstream);
}

void upstream_put_off(struct upstream *upstream, const char *format, const char *detail)
{
    uint64_t now_us = upstream->worker->now_us;
    if (upstream->state == UPSTREAM_READY && now_us - upstream->ready_us > STEADY_US)
        upstream->pause_us = PAUSE_US_MIN;
    snprintf(upstream->why, sizeof(upstream->why), format, detail);
    upstream->pause_end_us = now_us + upstream->pause_us;
    upstream->pause_us =
        upstream->pause_us * 2 < PAUSE_US_MAX ? upstream->pause_us * 2 : PAUSE_US_MAX;
    counter_add(&upstream->failures, 1);
    upstream_close(upstream);
}

/* --- octets --- */

bool upstream_room(struct upstream *upstream, size_t size)
{
    size_t left = upstream->out_len - upstream->out_at;
    if (upstream->options.out_size - upstream->out_len >= size)
        return true;
    if (upstream->options.out_size - left < size)
        return false;
    memmove(upstream->out, upstream->out + upstream->out_at, left);
    explicit_bzero(upstream->out + left, upstream->out_len - left);
    upstream->out_len = left;
    upstream->out_at = 0;
    return true;
}

void upstream_put(struct upstream *upstream, const void *data, size_t len)
{
    CHECK(upstream->options.out_size - upstream->out_len >= len);
    memcpy(upstream->out + upstream->out_len, data, len);
    upstream->out_len += len;
}

void upstream_flush(struct upstream *upstream)
{
    uint32_t wanted = POLLIN;
    while (upstream->out_at < upstream->out_len) {
        ssize_t sent = send(upstream->descriptor, upstream->out + upstream->out_at,
                            upstream->out_len - upstream->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            upstream_put_off(upstream, "sending: %s", strerror(errno));
            return;
        }
        if (sent < 0) {
            wanted |= POLLOUT;
            break;
        }
        explicit_bzero(upstream->out + upstream->out_at, (size_t)sent);
        upstream->out_at += (size_t)sent;
    }
    if (upstream->out_at == upstream->out_len)
        upstream->out_at = upstream->out_len = 0;
    upstream->blocked = upstream->out_len > 0;
    if (!watch_set(upstream->worker, &upstream->watch, upstream->descriptor, wanted))
        upstream_put_off(upstream, "%s", "the worker watches too much");
}

static void hear(struct upstream *upstream)
{
    char in[READ_MAX];
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t len = recv(upstream->descriptor, in, sizeof(in), MSG_DONTWAIT);
        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (len <= 0) {
            upstream_put_off(upstream, "%s",
                             len == 0 ? "it closed the connection" : strerror(errno));
            return;
        }
        bool goes_on = upstream->hooks->heard(upstream, in, (size_t)len);
        explicit_bzero(in, (size_t)len);
        if (!goes_on || (size_t)len < sizeof(in))
            return;
    }
}

/* --- connecting --- */

/* begin: the connection is there. */
static void begin(struct upstream *upstream)
{
    upstream->state = UPSTREAM_GREETING;
    if (upstream->hooks->connected(upstream))
        upstream_flush(upstream);
}

static void watched(struct watch *watch, uint32_t events)
{
    struct upstream *upstream = (struct upstream *)(void *)watch;
    if (upstream->state == UPSTREAM_CONNECTING) {
        int error = 0;
        socklen_t len = sizeof(error);
        (void)getsockopt(upstream->descriptor, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error != 0)
            upstream_put_off(upstream, "connecting: %s", strerror(error));
        else
            begin(upstream);
        return;
    }
    if (events & POLLOUT)
        upstream_flush(upstream);
    if (upstream->state >= UPSTREAM_GREETING && events & ~(uint32_t)POLLOUT)
        hear(upstream);
}

/* start_connecting returns what connect(2) does, on a new socket. */
static int start_connecting(struct upstream *upstream)
{
    const union address_any *address = upstream->options.address;
    struct sockaddr_un unix_address = {.sun_family = AF_UNIX};
    const char *path = upstream->options.path;
    int one = 1;
    if (path != NULL) {
        size_t len = strlen(path);
        CHECK(len < sizeof(unix_address.sun_path));
        memcpy(unix_address.sun_path, path, len + 1);
    }
    int family = path != NULL ? AF_UNIX : address->any.sa_family;
    upstream->descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (upstream->descriptor < 0)
        return -1;
    if (family == AF_UNIX)
        return connect(upstream->descriptor, (struct sockaddr *)&unix_address,
                       sizeof(unix_address));
    (void)setsockopt(upstream->descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    socklen_t len = family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
    return connect(upstream->descriptor, &address->any, len);
}

static void try_again(struct upstream *upstream)
{
    upstream->deadline_us =
        upstream->worker->now_us + (uint64_t)upstream->options.timeout_ms * 1000;
    if (start_connecting(upstream) == 0) {
        begin(upstream);
        return;
    }
    upstream->state = UPSTREAM_CONNECTING;
    if (errno != EINPROGRESS)
        upstream_put_off(upstream, "connecting: %s", strerror(errno));
    else if (!watch_set(upstream->worker, &upstream->watch, upstream->descriptor, POLLOUT))
        upstream_put_off(upstream, "%s", "the worker watches too much");
}

void upstream_begin(struct upstream *upstream)
{
    CHECK(upstream->state == UPSTREAM_AWAY);
    upstream->pause_us = PAUSE_US_MIN;
    try_again(upstream);
}

void upstream_ready(struct upstream *upstream)
{
    upstream->state = UPSTREAM_READY;
    upstream->ready_us = upstream->worker->now_us;
    upstream->why[0] = '\0';
    counter_add(&upstream->connects, 1);
    atomic_store_explicit(&upstream->connected, true, memory_order_relaxed);
}

/* --- life --- */

bool upstream_init(struct upstream *upstream, struct worker *worker,
                   const struct upstream_hooks *hooks, const struct upstream_options *options)
{
    *upstream = (struct upstream){
        .worker = worker,
        .hooks = hooks,
        .options = *options,
        .descriptor = -1,
        .pause_us = PAUSE_US_MIN,
    };
    upstream->watch.ready = watched;
    upstream->out = malloc(options->out_size);
    return upstream->out != NULL;
}

void upstream_cleanup(struct upstream *upstream)
{
    let_go(upstream);
    if (upstream->out != NULL)
        explicit_bzero(upstream->out, upstream->out_len);
    free(upstream->out);
    upstream->out = NULL;
}

void upstream_turn(struct upstream *upstream)
{
    uint64_t now_us = upstream->worker->now_us;
    if (upstream->state == UPSTREAM_AWAY && now_us >= upstream->pause_end_us)
        try_again(upstream);
    else if (upstream->state == UPSTREAM_CONNECTING && now_us >= upstream->deadline_us)
        upstream_put_off(upstream, "%s", "no connection in time");
}

void upstream_flush_rest(struct upstream *upstream)
{
    if (upstream->state >= UPSTREAM_GREETING && upstream->out_len > 0 && !upstream->blocked)
        upstream_flush(upstream);
}

uint64_t upstream_next_us(const struct upstream *upstream)
{
    if (upstream->state == UPSTREAM_AWAY)
        return upstream->pause_end_us;
    if (upstream->state == UPSTREAM_CONNECTING)
        return upstream->deadline_us;
    return upstream->out_len > 0 && !upstream->blocked ? 0 : UINT64_MAX;
}
