/* Intended starts that have come and wait for a free connection, oldest first. */
#ifndef BENCH_LOAD_BACKLOG_H
#define BENCH_LOAD_BACKLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BACKLOG_MAX = 10 * 1000 * 1000 };

/* Zeroed memory is an empty queue. */
struct backlog {
    uint64_t *times_ns; /* a ring of `room` places, a power of two */
    size_t room, first, count;
};

/* backlog_add puts one at the end. False: BACKLOG_MAX wait already, or there is no memory. */
bool backlog_add(struct backlog *backlog, uint64_t intended_ns) __attribute__((warn_unused_result));

/* backlog_return puts one back in front: it was taken, and is wanted again. False: as above. */
bool backlog_return(struct backlog *backlog, uint64_t intended_ns)
    __attribute__((warn_unused_result));

/* backlog_take returns the oldest, which must be there. */
uint64_t backlog_take(struct backlog *backlog);

void backlog_free(struct backlog *backlog);

#endif
