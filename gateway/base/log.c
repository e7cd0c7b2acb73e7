/* Ports, and the thread that empties them: one batch of all rings, in full, then the next, so that
 * a line is never mixed with another. See log.h. */
#include "gateway/base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "gateway/base/check.h"
#include "gateway/base/counter.h"
#include "gateway/base/log_port.h"

enum {
    PAUSE_US = 50000,   /* between two looks at the rings */
    BLOCKED_MS = 100,   /* between two looks at a descriptor that takes nothing */
    FAREWELL_MS = 2000, /* after which log_free leaves such a descriptor alone */
};

static void *log_thread(void *argument);

struct log *log_new(const struct log_options *options)
{
    struct log *log = aligned_alloc(alignof(struct log), sizeof(*log));
    if (log == NULL)
        return NULL;
    memset(log, 0, sizeof(*log));
    pthread_mutex_init(&log->mutex, NULL);
    pthread_mutex_init(&log->recent_mutex, NULL);
    log->used = options->descriptor;
    log_configure(log, options);

    if (log_port_new(log, "log") != NULL && (options->later || log_start(log)))
        return log;
    if (log->ports[0] != NULL)
        free(log->ports[0]->ring);
    free(log->ports[0]);
    free(log);
    return NULL;
}

bool log_start(struct log *log)
{
    /* Signals are for main. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    log->started = pthread_create(&log->thread, NULL, log_thread, log) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return log->started;
}

/* join ends the thread; one that was never started does its work here. False: it sits in a write
 * that does not return. */
static bool join(struct log *log)
{
    struct timespec until;
    atomic_store_explicit(&log->stopping, true, memory_order_release);
    if (!log->started) {
        log_thread(log);
        return true;
    }
    bell_ring(&log->bell);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += FAREWELL_MS / 1000 + 1;
    return pthread_timedjoin_np(log->thread, NULL, &until) == 0;
}

void log_free(struct log *log)
{
    if (log == NULL)
        return;
    if (!join(log)) {
        pthread_detach(log->thread); /* it keeps its memory, and ends with the process */
        return;
    }
    uint32_t count = atomic_load_explicit(&log->port_count, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        free(log->ports[i]->ring);
        free(log->ports[i]);
    }
    pthread_mutex_destroy(&log->mutex);
    pthread_mutex_destroy(&log->recent_mutex);
    free(log);
}

void log_configure(struct log *log, const struct log_options *options)
{
    atomic_store_explicit(&log->repeats, options->repeats, memory_order_relaxed);
    atomic_store_explicit(&log->descriptor, options->descriptor, memory_order_relaxed);
    atomic_store_explicit(&log->mode, log_mode(options), memory_order_relaxed);
}

struct log_port *log_port_new(struct log *log, const char *name)
{
    struct log_port *port = aligned_alloc(alignof(struct log_port), sizeof(*port));
    if (port == NULL)
        return NULL;
    memset(port, 0, sizeof(*port));
    port->log = log;
    port->name = name;
    port->time_ms = -1;
    port->time_s = -1;
    port->ring = malloc(LOG_RING_SIZE + LOG_LINE_MAX);

    pthread_mutex_lock(&log->mutex);
    uint32_t count = atomic_load_explicit(&log->port_count, memory_order_relaxed);
    bool room = port->ring != NULL && count < LOG_PORTS_MAX;
    if (room) {
        log->ports[count] = port;
        atomic_store_explicit(&log->port_count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&log->mutex);
    if (room)
        return port;
    free(port->ring);
    free(port);
    return NULL;
}

uint64_t log_dropped(const struct log *log)
{
    uint64_t sum = atomic_load_explicit(&log->lost, memory_order_relaxed);
    uint32_t count = atomic_load_explicit(&log->port_count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++)
        sum += atomic_load_explicit(&log->ports[i]->dropped, memory_order_relaxed);
    return sum;
}

void log_snapshot(const struct log *log, struct log_snapshot *snapshot)
{
    *snapshot = (struct log_snapshot){.dropped = log_dropped(log)};
    uint32_t count = atomic_load_explicit(&log->port_count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) {
        for (enum log_level level = LOG_ERROR; level <= LOG_DEBUG; level++)
            snapshot->lines[level] += counter_read(&log->ports[i]->lines[level]);
        snapshot->suppressed += log_repeats_count(log->ports[i]);
    }
}

/* What one turn of the log thread writes. */
struct batch {
    struct iovec parts[2 * LOG_PORTS_MAX + 1]; /* a ring is in two parts; one line end */
    unsigned count;
    unsigned own_end; /* the parts before it are of the log thread itself */
};

static void gather(struct batch *batch, struct log_port *port)
{
    uint64_t tail = atomic_load_explicit(&port->tail, memory_order_relaxed);
    port->taken = atomic_load_explicit(&port->head, memory_order_acquire);
    while (tail < port->taken) {
        size_t at = tail % LOG_RING_SIZE;
        size_t len = (size_t)(port->taken - tail);
        if (len > LOG_RING_SIZE - at)
            len = LOG_RING_SIZE - at;
        batch->parts[batch->count++] = (struct iovec){port->ring + at, len};
        tail += len;
    }
}

static bool is_line_end(const struct iovec *part, size_t len)
{
    return len > 0 && ((const char *)part->iov_base)[len - 1] == '\n';
}

/* Takes `len` written octets off the front of the batch. Returns true when they end with a line. */
static bool advance(struct batch *batch, unsigned *first, size_t len)
{
    bool line_end = false;
    while (len > 0) {
        struct iovec *part = &batch->parts[*first];
        size_t taken = len < part->iov_len ? len : part->iov_len;
        line_end = is_line_end(part, taken);
        part->iov_base = (char *)part->iov_base + taken;
        part->iov_len -= taken;
        len -= taken;
        *first += part->iov_len == 0;
    }
    return line_end;
}

static uint64_t count_lines(const struct batch *batch, unsigned first)
{
    uint64_t count = 0;
    for (unsigned i = first; i < batch->count; i++) {
        const char *at = batch->parts[i].iov_base;
        const char *end = at + batch->parts[i].iov_len;
        while (at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
            count++;
            at++;
        }
    }
    return count;
}

/* Waits until the descriptor may take more. False: we are to stop, and it has had its time. */
static bool wait_for_room(struct log *log, unsigned *waited_ms)
{
    struct pollfd poll_for = {.fd = log->used, .events = POLLOUT};
    poll(&poll_for, 1, BLOCKED_MS);
    /* Only the time after the order to stop counts. */
    if (atomic_load_explicit(&log->stopping, memory_order_acquire))
        *waited_ms += BLOCKED_MS;
    return *waited_ms < FAREWELL_MS;
}

/* Writes the batch. False: the descriptor takes it no more; what was left is counted as lost. */
static bool write_batch(struct log *log, struct batch *batch)
{
    unsigned first = 0;
    unsigned waited_ms = 0;
    while (first < batch->count) {
        ssize_t written = writev(log->used, batch->parts + first, (int)(batch->count - first));
        if (written > 0)
            log->torn = !advance(batch, &first, (size_t)written);
        else if (written < 0 && errno == EINTR)
            continue;
        else if (written < 0 && errno == EAGAIN && wait_for_room(log, &waited_ms))
            continue;
        else
            break;
    }
    if (first == batch->count)
        return true;
    unsigned foreign = first > batch->own_end ? first : batch->own_end;
    atomic_fetch_add_explicit(&log->lost, count_lines(batch, foreign), memory_order_relaxed);
    return false;
}

/* A line about lines that are missing. Not while the descriptor takes nothing: it would be lost,
 * too. */
static void report_dropped(struct log *log)
{
    uint64_t dropped = log_dropped(log);
    if (dropped == log->reported || log->failing)
        return;
    struct log_line line = log_begin_audit(log->ports[0], LOG_WARN, "log_dropped");
    log_number(&line, "count", dropped - log->reported);
    log_end(&line);
    log->reported = dropped;
}

/* A line for each event that was left out, once a second and at the end. */
static void report_repeats(struct log *log, bool at_once)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (log->failing || (now.tv_sec == log->repeats_s && !at_once))
        return;
    log->repeats_s = now.tv_sec;
    log_repeats_tell(log);
}

/* A line that was torn stays so where it is. */
static void use_descriptor(struct log *log)
{
    int descriptor = atomic_load_explicit(&log->descriptor, memory_order_relaxed);
    if (descriptor == log->used)
        return;
    log->used = descriptor;
    log->torn = log->failing = false;
}

/* One turn: everything that was handed over before it. */
static void turn(struct log *log, bool last)
{
    static const char line_end[] = {'\n'};
    struct batch batch = {0};
    uint32_t port_count = atomic_load_explicit(&log->port_count, memory_order_acquire);
    uint64_t reported = log->reported;
    use_descriptor(log);
    report_dropped(log);
    report_repeats(log, last);
    if (log->torn)
        batch.parts[batch.count++] = (struct iovec){(void *)(uintptr_t)line_end, 1};
    for (uint32_t i = 0; i < port_count; i++) {
        gather(&batch, log->ports[i]);
        log_recent_gather(log, log->ports[i]);
        if (i == 0)
            batch.own_end = batch.count;
    }
    /* A lone line end would be tried again and again while nobody has anything to say. */
    if (batch.count == (log->torn ? 1u : 0u))
        return;
    log->failing = !write_batch(log, &batch);
    if (log->failing)
        log->reported = reported;
    log_repeats_told(log, !log->failing);
    for (uint32_t i = 0; i < port_count; i++)
        atomic_store_explicit(&log->ports[i]->tail, log->ports[i]->taken, memory_order_release);
}

static void *log_thread(void *argument)
{
    struct log *log = argument;
    pthread_setname_np(pthread_self(), "log");
    bool stopping = false;
    while (!stopping) {
        bell_wait(&log->bell, PAUSE_US);
        stopping = atomic_load_explicit(&log->stopping, memory_order_acquire);
        turn(log, stopping);
    }
    /* A loss that the last turn found out about. */
    if (log_dropped(log) != log->reported)
        turn(log, true);
    return NULL;
}
