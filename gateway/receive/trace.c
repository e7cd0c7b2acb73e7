/* Who watches, and how the workers learn of it: see trace.h. The filters are immutable; a change
 * makes new ones, and each worker says when it has turned to them. Until all have, the old ones are
 * kept; so many, and no more. */
#include "gateway/receive/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/receive/trace_filters.h"

enum {
    RETIRED_MAX = 64,         /* changes that a worker may be behind */
    PIPE_OCTETS = 256 * 1024, /* what the kernel keeps for the thread that watches */
};

struct trace *trace_new(uint32_t worker_count)
{
    struct trace *trace = calloc(1, sizeof(*trace));
    struct trace_filters *none = calloc(1, sizeof(*none));
    CHECK(worker_count <= LIMIT_WORKERS);
    if (trace == NULL || none == NULL) {
        free(trace);
        free(none);
        return NULL;
    }
    none->generation = 1;
    atomic_init(&trace->current, none);
    trace->worker_count = worker_count;
    trace->ends[0] = trace->ends[1] = -1;
    return trace;
}

void trace_wish_free(struct trace_wish *wish)
{
    networks_free(wish->networks);
    free(wish->mailbox);
    *wish = (struct trace_wish){0};
}

static void free_filters(struct trace_filters *filters)
{
    trace_wish_free(&filters->orphan);
    free(filters);
}

/* --- the pipe: a log of its own --- */

static void close_pipe(struct trace *trace)
{
    /* Its reader first: then the log's thread can't be stuck in a write. */
    if (trace->ends[0] >= 0)
        close(trace->ends[0]);
    log_free(trace->log);
    if (trace->ends[1] >= 0)
        close(trace->ends[1]);
    trace->log = NULL;
    trace->ends[0] = trace->ends[1] = -1;
}

/* open_pipe makes a port for each worker, so that none of them has to. */
static bool open_pipe(struct trace *trace)
{
    if (trace->log != NULL)
        return true;
    if (pipe2(trace->ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    (void)fcntl(trace->ends[1], F_SETPIPE_SZ, PIPE_OCTETS);
    trace->log = log_new(
        &(struct log_options){.descriptor = trace->ends[1], .level = LOG_INFO, .format = LOG_JSON});
    bool made = trace->log != NULL;
    for (uint32_t i = 0; i < trace->worker_count && made; i++) {
        trace->ports[i] = log_port_new(trace->log, "trace");
        made = trace->ports[i] != NULL;
    }
    if (!made)
        close_pipe(trace);
    return made;
}

int trace_descriptor(const struct trace *trace)
{
    return trace->ends[0];
}

/* --- changes --- */

static struct trace_filters *current(struct trace *trace)
{
    return atomic_load_explicit(&trace->current, memory_order_relaxed);
}

/* publish makes `next` the filters of all workers, and retires those before. */
static void publish(struct trace *trace, struct trace_filters *next)
{
    struct trace_filters *old = current(trace);
    next->generation = old->generation + 1;
    old->retired = trace->retired;
    trace->retired = old;
    trace->retired_count++;
    atomic_store(&trace->current, next);
    for (uint32_t i = 0; i < trace->worker_count; i++)
        if (atomic_load(&trace->places[i].joined))
            trace->places[i].wake(trace->places[i].user);
}

static struct trace_filters *copy_current(struct trace *trace)
{
    struct trace_filters *next = malloc(sizeof(*next));
    if (next == NULL)
        return NULL;
    *next = *current(trace);
    next->orphan = (struct trace_wish){0};
    next->retired = NULL;
    return next;
}

int trace_watch(struct trace *trace, struct trace_wish *wish, uint64_t *since)
{
    trace_settle(trace);
    int number = 0;
    while (number < TRACE_WATCHERS_MAX && (current(trace)->mask & 1u << number) != 0)
        number++;
    if (number == TRACE_WATCHERS_MAX)
        return -EBUSY;
    if (trace->retired_count >= RETIRED_MAX)
        return -EAGAIN;
    struct trace_filters *next = open_pipe(trace) ? copy_current(trace) : NULL;
    if (next == NULL)
        return -ENOMEM;
    next->mask = (uint8_t)(next->mask | 1u << number);
    next->wishes[number] = *wish;
    *since = next->since[number] = current(trace)->generation + 1;
    *wish = (struct trace_wish){0};
    publish(trace, next);
    return number;
}

void trace_unwatch(struct trace *trace, int number)
{
    struct trace_filters *old = current(trace);
    struct trace_filters *next = copy_current(trace);
    CHECK(number >= 0 && number < TRACE_WATCHERS_MAX && (old->mask & 1u << number) != 0);
    if (next == NULL)
        return; /* it goes on being watched for nobody, which harms nobody */
    next->mask = (uint8_t)(next->mask & ~(1u << number));
    old->orphan = next->wishes[number];
    next->wishes[number] = (struct trace_wish){0};
    publish(trace, next);
    trace_settle(trace);
}

/* seen is the generation that all workers have turned to. */
static uint64_t seen(struct trace *trace)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < trace->worker_count; i++) {
        uint64_t generation = atomic_load(&trace->places[i].seen);
        if (atomic_load(&trace->places[i].joined) && generation < least)
            least = generation;
    }
    return least;
}

void trace_settle(struct trace *trace)
{
    uint64_t least = trace->retired == NULL ? 0 : seen(trace);
    struct trace_filters **link = &trace->retired;
    while (*link != NULL) { /* at most RETIRED_MAX and those of the watchers that left */
        struct trace_filters *filters = *link;
        if (filters->generation >= least) {
            link = &filters->retired;
            continue;
        }
        *link = filters->retired;
        trace->retired_count--;
        free_filters(filters);
    }
    if (trace->log != NULL && current(trace)->mask == 0 && trace->retired == NULL)
        close_pipe(trace); /* no worker writes to it any more */
}

void trace_free(struct trace *trace)
{
    if (trace == NULL)
        return;
    struct trace_filters *last = current(trace);
    for (int i = 0; i < TRACE_WATCHERS_MAX; i++)
        trace_wish_free(&last->wishes[i]);
    while (trace->retired != NULL) {
        struct trace_filters *filters = trace->retired;
        trace->retired = filters->retired;
        free_filters(filters);
    }
    free(last);
    close_pipe(trace);
    free(trace);
}
