/* One thread of the load program: a worker of gateway/io, places for connections that are opened
 * again and again, the schedule of an open loop and what waits for a connection, a tally. What is
 * said on a connection is dialogue's. */
#ifndef BENCH_LOAD_CLIENT_H
#define BENCH_LOAD_CLIENT_H

#include "bench/load/schedule.h"
#include "bench/load/series.h"
#include "bench/load/tally.h"
#include "gateway/io/worker.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A thread's part of the run. */
struct client_task {
    const struct load_options *options;
    const struct mail *mail;
    struct series *series;
    uint32_t index, threads;
    int cpu;                          /* -1: not pinned */
    uint32_t connections, idle, slow; /* of this thread */
    uint64_t messages;                /* of this thread, when options->messages > 0 */
    int acked;                        /* descriptor of --acked, opened with O_APPEND, or -1 */
};

/* What other threads see of a client; zero at first. */
struct client_state {
    _Atomic uint64_t start_ns; /* set by client_begin: monotonic; 0: not yet */
    _Atomic bool prepared;     /* the worker can be woken */
    _Atomic bool arrived;      /* all connections that should be there at the start have come, or
                                  failed; or patience has ended */
    _Atomic bool measured;     /* the measured time is over: the drain has begun */
    _Atomic bool finished;     /* client_run is about to return */
    _Atomic int error;         /* -errno: it could not run */
};

struct client; /* made by client_new, freed by client_free, in any thread, around client_run */

struct client *client_new(const struct client_task *task) __attribute__((warn_unused_result));
void client_free(struct client *client);

/* client_run opens the connections, waits for client_begin, sends, measures, drains. Returns 0, or
 * -errno (then a message is on stderr). */
int client_run(struct client *client);

struct client_state *client_state(struct client *client);

/* client_begin lets all connections go at `start_ns`; the measured time begins warm_up_seconds
 * later. client_stop ends the run early (SIGINT): what is under way is finished. Any thread, while
 * the client is prepared and not finished. */
void client_begin(struct client *client, uint64_t start_ns);
void client_stop(struct client *client);

/* client_tally is the client's own; to be read when client_run has returned. */
const struct tally *client_tally(const struct client *client);

#endif
