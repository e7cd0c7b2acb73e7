/* The writer's end of a staging ring, for tests, without a disk: reads what the producer has shown,
 * checks every record, puts the messages together again, and settles. All calls from the
 * producer's thread. */
#ifndef TESTS_SUPPORT_TAPE_H
#define TESTS_SUPPORT_TAPE_H

#include "gateway/spool/envelope.h"
#include "gateway/spool/staging_ring.h"

enum { TAPE_OPEN_MAX = 64, TAPE_FAULT_LEN = 96 };

struct tape_message {
    uint64_t id; /* 0: free */
    uint32_t parts;
    uint8_t *text;
    size_t len;
};

/* The zero value with `staging` set is an empty tape. */
struct tape {
    struct staging *staging; /* borrowed */
    uint64_t at;             /* read up to here */
    struct tape_message open[TAPE_OPEN_MAX];
    struct tape_message last; /* the last that was committed */
    uint8_t *commit;          /* its COMMIT payload, which `envelope` points into */
    size_t commit_len;
    struct envelope envelope;
    uint32_t commits, aborts, bodies;
    char fault[TAPE_FAULT_LEN]; /* the first thing that was wrong; empty: nothing */
};

/* tape_read takes in what was published and settles it with `outcome` (STAGING_DURABLE, or a
 * failure: then nothing is kept). tape_open_count returns how many messages have text but neither
 * COMMIT nor ABORT. tape_free gives all back. */
void tape_read(struct tape *tape, enum staging_outcome outcome);
uint32_t tape_open_count(const struct tape *tape);
void tape_free(struct tape *tape);

#endif
