/* The courier: the thread that takes durable messages from the spool, delivers them, and writes
 * down what became of them. docs/delivery.md says what a delivery goes through and what a crash at
 * any point means. */
#ifndef GATEWAY_DELIVER_COURIER_H
#define GATEWAY_DELIVER_COURIER_H

#include "gateway/base/log.h"
#include "gateway/deliver/route.h"
#include "gateway/spool/spool.h"

struct courier_options {
    struct log *log;             /* borrowed */
    const struct routes *routes; /* borrowed until courier_configure gives another and returns */
    const char *hostname;        /* for Maildir file names; copied */
    uint32_t retry_min_s;        /* first retry; doubles up to */
    uint32_t retry_max_s;
    uint32_t lifetime_s; /* then an undeliverable message is reported and kept on hold (no bounces
                            yet) */
    int cpu;             /* pin the thread there; -1: no */
};

struct courier;

/* courier_new makes the courier; before spool_open, which calls courier_recovered. NULL: no memory.
 */
struct courier *courier_new(const struct courier_options *options);

/* courier_recovered queues what recovery found; its signature is spool_recovered_callback with the
 * courier as user. Before courier_start. */
void courier_recovered(void *courier, const struct spool_recovered *recovered);

/* courier_attach gives the courier its spool, which is borrowed, and makes its port; between
 * spool_open and spool_start. False: no memory. */
bool courier_attach(struct courier *courier, struct spool *spool)
    __attribute__((warn_unused_result));

/* courier_start starts the thread; after spool_start. 0, or -errno. */
int courier_start(struct courier *courier) __attribute__((warn_unused_result));

/* courier_configure swaps the routes; returns when the courier no longer uses the old ones.
 * Everything that waits for a retry, and what is on hold, gets one attempt with the new ones. One
 * thread at a time. */
void courier_configure(struct courier *courier, const struct routes *routes);

/* courier_stop finishes the batch in hand, makes its DONE records durable (waits up to 10 seconds
 * for a spool that cannot write), and ends the thread; what is still queued stays in the spool.
 * Before spool_stop. */
void courier_stop(struct courier *courier);
void courier_free(struct courier *courier);

struct courier_snapshot {
    uint64_t queued;    /* messages now, held ones included */
    uint64_t held;      /* messages now */
    uint64_t delivered; /* recipients */
    uint64_t deferred;  /* recipients, once for each attempt that failed */
    uint64_t expired;   /* messages put on hold */
    uint64_t
        duplicates_possible; /* outcomes that are not durable yet: a crash now would repeat them */
};

/* courier_snapshot reads the counters; any thread, any time. */
void courier_snapshot(const struct courier *courier, struct courier_snapshot *out);

#endif
