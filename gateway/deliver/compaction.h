/* Moving messages that wait long out of old segments. A few of them can keep a long tail of dead
 * segments on the disk: the spool says which generations it wants empty, and each message there is
 * copied to the end of the log. It comes in again under the same id; then its old place is
 * released. Part of the courier's thread. */
#ifndef GATEWAY_DELIVER_COMPACTION_H
#define GATEWAY_DELIVER_COMPACTION_H

#include "gateway/deliver/ledger.h"
#include "gateway/deliver/outcome.h"
#include "gateway/spool/relocate.h"

enum { COMPACTION_MOVES = 32 /* under way at a time */ };

/* Zero but for the first six, which are borrowed, it is at rest. */
struct compaction {
    struct spool *spool;
    struct staging *staging;
    struct queue *queue;
    struct ledger *ledger;
    const struct outcome *outcome;
    struct log_port *log;
    struct queue_message *moves[COMPACTION_MOVES];
    uint32_t count;
    struct queue_message *copying; /* one of `moves`, not yet staged to its end; NULL: none */
    struct relocation relocation;  /* of that */
    bool marked_twice;
    uint64_t marker;        /* when this position of the ring is settled, so are the copies */
    uint64_t asked_us;      /* when the spool was last asked, */
    uint64_t pause_us;      /* and how much later it will be again */
    uint64_t not_before_us; /* the ring was full: later, or when `settled` has grown */
    uint64_t settled;
    uint64_t generation; /* messages below it are to move; 0: none */
    size_t next_slot;    /* of the queue, to look at */
    uint64_t moved;      /* messages of this round */
};

/* compaction_step starts moves when the spool asks for them, and notices those that failed. Call
 * after all arrivals were taken; `settled` is what staging_settled was before that. */
void compaction_step(struct compaction *compaction, uint64_t settled, uint64_t now_us);

/* compaction_arrived is asked about every arrival while `count` is not 0. True when it is a copy:
 * it has taken the place of the old one, and is not to be queued. */
bool compaction_arrived(struct compaction *compaction, const struct spool_message *message);

/* compaction_busy is true while it has more to do at once. */
bool compaction_busy(const struct compaction *compaction);

/* compaction_free frees what it holds, at the end of the courier. */
void compaction_free(struct compaction *compaction);

#endif
