/* One batch: stretches of staging rings that are written together. Knows how to gather and to seal
 * them, and what a batch means for the messages in it; nothing of disks or threads. The writer's
 * own. */
#ifndef GATEWAY_SPOOL_BATCH_H
#define GATEWAY_SPOOL_BATCH_H

#include "gateway/spool/message.h"
#include "gateway/spool/pending.h"
#include "gateway/spool/staging_ring.h"

#include <sys/uio.h>

enum {
    BATCH_MAX = 4 * 1024 * 1024, /* octets after which a batch takes no more */
};

/* What one ring gives to the batch. */
struct batch_stretch {
    struct staging *staging;
    uint32_t port;
    uint64_t begin, end; /* positions */
};

/* A COMMIT whose message had lost records before: it fails whatever becomes of the batch. */
struct batch_orphan {
    uint32_t stretch;
    uint64_t begin, end;
};

struct batch {
    struct batch_stretch stretches[LIMIT_PORTS];
    uint32_t stretch_count;
    uint64_t octets;

    /* Set by sealing: the place, and what the batch does to messages. */
    uint64_t generation, offset, sequence;
    uint32_t salt;
    uint64_t opened;        /* messages whose first record is here and that have not ended */
    uint64_t opened_octets; /* what those of them that arrived take */
    struct spool_message *arrivals;
    size_t arrival_count;
    struct batch_orphan *orphans;
    size_t orphan_count;

    struct pending_table pending; /* lives longer than one batch */
    uint32_t first_port;          /* where gathering begins: turns, for fairness */
    /* Called when an open message that began in an earlier batch has ended without COMMIT. */
    void (*dropped)(void *user, uint64_t first_generation);
    void *user;
};

/* batch_init and batch_free begin and end a batch, which is used again and again. False: no memory.
 */
bool batch_init(struct batch *batch) __attribute__((warn_unused_result));
void batch_free(struct batch *batch);

/* batch_gather takes published stretches of the `count` rings, whole records up to block
 * boundaries, until `room` or BATCH_MAX is reached. With `at_least_one`, and if not even the first
 * group fits, that group is taken although it exceeds the room. Returns the octets. */
uint64_t batch_gather(struct batch *batch, struct staging *const *rings, uint32_t count,
                      uint64_t room, bool at_least_one);

/* batch_seal fills in the headers of all records for a place on disk, keeps the table of pending
 * messages, and collects the arrivals. Once for each gathering. */
void batch_seal(struct batch *batch, uint64_t generation, uint64_t offset, uint64_t sequence);

/* batch_move seals the batch again for another place. */
void batch_move(struct batch *batch, uint64_t generation, uint64_t offset, uint64_t sequence);

/* batch_contains is true when a place lies in the sealed batch. */
bool batch_contains(const struct batch *batch, uint64_t generation, uint32_t offset);

/* batch_parts fills `parts` with the memory to be written and returns how many there are. */
int batch_parts(const struct batch *batch, struct iovec parts[LIMIT_PORTS]);

/* batch_settle tells all rings that the batch is durable; batch_fail that it failed, which drops
 * every message that has a record in it. The arrivals stay to be read after batch_settle. */
void batch_settle(struct batch *batch);
void batch_fail(struct batch *batch, enum staging_outcome outcome);

#endif
