/* The threads that receive, each for itself: their rings, buffers, CPU time, and their connections
 * to Redis. */
#include <stdio.h>

#include "gateway/admin/metrics_inside.h"

enum { NUMBER_LEN = 16 };

/* What is shown of one worker. */
typedef uint64_t worker_figure(const struct metrics_worker *worker);

static uint64_t turns(const struct metrics_worker *worker)
{
    return counter_read(&worker->worker->turns);
}

static uint64_t completions(const struct metrics_worker *worker)
{
    return counter_read(&worker->worker->completions);
}

static uint64_t starvations(const struct metrics_worker *worker)
{
    return counter_read(&worker->worker->starvations);
}

static uint64_t overflows(const struct metrics_worker *worker)
{
    return counter_read(&worker->worker->overflows);
}

static uint64_t shortages(const struct metrics_worker *worker)
{
    return counter_read(&worker->worker->shortages);
}

static uint64_t blocks_used(const struct metrics_worker *worker)
{
    return atomic_load_explicit(&worker->worker->blocks_used, memory_order_relaxed);
}

static uint64_t blocks_max(const struct metrics_worker *worker)
{
    return worker->worker->options.blocks_max;
}

static uint64_t buffers_given(const struct metrics_worker *worker)
{
    return atomic_load_explicit(&worker->worker->buffers_given, memory_order_relaxed);
}

static uint64_t buffers_max(const struct metrics_worker *worker)
{
    return worker->worker->options.buffer_count;
}

static uint64_t slots_used(const struct metrics_worker *worker)
{
    return atomic_load_explicit(&worker->worker->slots_used, memory_order_relaxed);
}

static const struct {
    const char *name, *help;
    enum exposition_type type;
    worker_figure *figure;
} figures[] = {
    {"ringmx_worker_turns_total",                "Turns of a worker's loop.",                                  EXPOSITION_COUNTER, turns        },
    {"ringmx_worker_completions_total",          "Completions that io_uring has brought.",
     EXPOSITION_COUNTER,                                                                                                           completions  },
    {"ringmx_worker_starvations_total",          "Times that a connection found no receive buffer.",
     EXPOSITION_COUNTER,                                                                                                           starvations  },
    {"ringmx_worker_ring_overflows_total",       "Completions that did not fit into the ring's queue.",
     EXPOSITION_COUNTER,                                                                                                           overflows    },
    {"ringmx_worker_descriptor_shortages_total", "Times that accept found no file descriptor.",
     EXPOSITION_COUNTER,                                                                                                           shortages    },
    {"ringmx_worker_slots_used",                 "Slots for connections in use, those about to end included.",
     EXPOSITION_GAUGE,                                                                                                             slots_used   },
    {"ringmx_worker_blocks_used",                "Blocks of 4096 octets in use: replies, envelopes, text.",
     EXPOSITION_GAUGE,                                                                                                             blocks_used  },
    {"ringmx_worker_blocks_limit",               "How many of these blocks there are.",                        EXPOSITION_GAUGE,
     blocks_max                                                                                                                                 },
    {"ringmx_worker_buffers_given",              "Receive buffers that the kernel has, to fill.",
     EXPOSITION_GAUGE,                                                                                                             buffers_given},
    {"ringmx_worker_buffers_limit",              "How many receive buffers there are (io.buffers).",
     EXPOSITION_GAUGE,                                                                                                             buffers_max  },
};

void metrics_workers(struct exposition *out, const struct metrics_sources *sources)
{
    char number[NUMBER_LEN];
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        exposition_family(out, figures[i].name, figures[i].type, figures[i].help);
        for (uint32_t n = 0; n < sources->worker_count; n++) {
            snprintf(number, sizeof(number), "%u", n);
            exposition_count(out, figures[i].figure(&sources->workers[n]), "worker", number, NULL);
        }
    }
    exposition_family(out, "ringmx_worker_cpu_seconds_total", EXPOSITION_COUNTER,
                      "CPU time of a worker's thread.");
    for (uint32_t n = 0; n < sources->worker_count; n++) {
        uint64_t used_us = worker_cpu_us(sources->workers[n].worker);
        snprintf(number, sizeof(number), "%u", n);
        if (used_us > 0) /* else it has ended */
            exposition_seconds(out, used_us, "worker", number, NULL);
    }
}

void metrics_redis(struct exposition *out, const struct metrics_sources *sources)
{
    struct redis_snapshot sum = {0};
    uint64_t connected = 0, count = 0;
    for (uint32_t i = 0; i < sources->worker_count; i++) {
        const struct server_counters *counters = sources->workers[i].counters;
        struct redis_snapshot one;
        if (!atomic_load_explicit(&counters->has_redis, memory_order_relaxed))
            continue;
        counter_collect(counters->redis, &one, sizeof(one));
        sum.asked += one.asked;
        sum.answered += one.answered;
        sum.errors += one.errors;
        sum.away += one.away;
        sum.connects += one.connects;
        sum.failures += one.failures;
        connected += one.connected;
        count++;
    }
    if (count == 0)
        return;
    exposition_single(out, "ringmx_redis_connections", EXPOSITION_GAUGE,
                      "Workers that are connected to Redis, now.", connected);
    exposition_single(out, "ringmx_redis_connections_wanted", EXPOSITION_GAUGE,
                      "Workers that want to be.", count);
    exposition_single(out, "ringmx_redis_commands_total", EXPOSITION_COUNTER,
                      "Commands that were to be sent to Redis.", sum.asked);
    exposition_family(out, "ringmx_redis_results_total", EXPOSITION_COUNTER,
                      "What became of them: answered, refused by it, or it was away or too slow.");
    exposition_count(out, sum.answered, "result", "answered", NULL);
    exposition_count(out, sum.errors, "result", "error", NULL);
    exposition_count(out, sum.away, "result", "away", NULL);
    exposition_single(out, "ringmx_redis_connects_total", EXPOSITION_COUNTER,
                      "Connections to Redis that came to be.", sum.connects);
    exposition_single(out, "ringmx_redis_connect_failures_total", EXPOSITION_COUNTER,
                      "Connections to Redis that did not, or that broke.", sum.failures);
}
