/* The writer thread: takes what the staging rings show, makes a batch of it, writes and syncs it,
 * and tells everybody. One for each spool. docs/spool.md, "Batch" and "Failure while running". */
#ifndef GATEWAY_SPOOL_WRITER_H
#define GATEWAY_SPOOL_WRITER_H

#include "gateway/base/bell.h"
#include "gateway/base/histogram.h"
#include "gateway/base/log.h"
#include "gateway/spool/arrivals.h"
#include "gateway/spool/batch.h"
#include "gateway/spool/pool.h"

/* Counters that any thread may read; the writer alone writes them. */
struct writer_counters {
    _Atomic uint64_t batches, octets, commits, sync_us_total, sync_us_max, write_errors;
    struct histogram sync; /* of the same times as sync_us_total */
};

struct writer {
    struct volume *volume;
    struct pool *pool;
    struct arrivals *arrivals;
    struct log_port *log;
    struct staging *rings[LIMIT_PORTS];
    uint32_t ring_count; /* constant while the thread runs */
    int cpu;             /* -1: not pinned */
    uint64_t sequence;   /* of the last batch */

    struct bell bell;
    _Atomic bool stopping;
    struct writer_counters counters;
    pthread_t thread;
    bool running;

    /* The thread's own. */
    struct batch batch;
    struct segment *active;    /* NULL: none yet, or it was poisoned */
    struct segment *candidate; /* while broken: where writing is tried again */
    uint8_t *pad;              /* one block: what is tried */
    bool broken;
    uint64_t first_seen_us; /* when what waits was first seen; 0: nothing waits */
    uint64_t retry_us;      /* while broken: when to try again */
};

/* writer_init prepares a writer; the pointers in it are the caller's to set after it. False: no
 * memory. */
bool writer_init(struct writer *writer) __attribute__((warn_unused_result));
void writer_free(struct writer *writer);

/* writer_start starts the thread: 0 or -errno. writer_stop lets it write what was published, and
 * ends it. */
int writer_start(struct writer *writer) __attribute__((warn_unused_result));
void writer_stop(struct writer *writer);

#endif
