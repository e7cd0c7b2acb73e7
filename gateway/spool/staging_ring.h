/* The inside of a staging ring, for its two ends only: staging.c (the producer) and the writer.
 * Each word has one thread that writes it; words of different threads lie on different cache lines.
 */
#ifndef GATEWAY_SPOOL_STAGING_RING_H
#define GATEWAY_SPOOL_STAGING_RING_H

#include "gateway/base/bell.h"
#include "gateway/base/check.h"
#include "gateway/spool/staging.h"

#include <stdalign.h>
#include <stdatomic.h>

/* Records that end in (begin, end] failed. */
struct staging_mark {
    uint64_t begin, end;
    enum staging_outcome outcome;
};

struct staging {
    /* Constant. */
    uint8_t *memory; /* the ring, and a block behind it that only readers of what is gone touch */
    uint64_t size;   /* a power of two */
    struct bell *bell;
    void (*wake)(void *user);
    void *wake_user;
    struct staging_mark *marks; /* mark_count of them, a power of two */
    uint32_t mark_count;

    /* The producer's own. */
    alignas(64) uint64_t head; /* end of the last record */
    uint64_t boundary;         /* last place where the stretch may be cut; on a block */
    uint64_t jumped_to;        /* end of the last jump */
    uint64_t shown;            /* what `published` was set to */
    uint64_t room_end;         /* settled + size, as last seen */
    uint64_t overwriting;      /* what `overwritten` was set to */
    size_t reserved;           /* payload room given out, or SIZE_MAX: none */
    uint32_t mark_asked;       /* marks before this one were asked past */
    bool eager;                /* a DONE waits to be shown */

    /* Written by the producer, read by the writer and readers. */
    alignas(64) _Atomic uint64_t published; /* the writer may take up to here; on a block */
    _Atomic uint64_t urgent;                /* somebody waits for what lies before this */
    _Atomic uint64_t overwritten;           /* the ring's memory is valid from here - size on */
    _Atomic uint64_t jump_from; /* positions from here up to jump_to do not exist: the */
    _Atomic uint64_t jump_to;   /* ring begins again there; UINT64_MAX: no jump yet */
    _Atomic uint32_t mark_tail; /* marks before this one may be reused */

    /* Written by the writer, read by the producer. */
    alignas(64) _Atomic uint64_t settled; /* durable or marked up to here */
    _Atomic uint64_t taken;               /* in a batch up to here */
    _Atomic uint32_t mark_head;

    /* Written by both. */
    alignas(64) _Atomic bool sleeping;
};

/* staging_new makes a ring of `size` octets (a power of two, a multiple of the page), returned
 * owned; NULL: no memory. */
struct staging *staging_new(uint64_t size, struct bell *bell, void (*wake)(void *user), void *user);
void staging_free(struct staging *staging);

/* staging_at returns the memory of a position. A record is contiguous from there. */
static inline uint8_t *staging_at(const struct staging *staging, uint64_t position)
{
    return staging->memory + (position & (staging->size - 1));
}

/* staging_after_jump returns `position`, or where it goes on if the last jump begins there. */
static inline uint64_t staging_after_jump(const struct staging *staging, uint64_t position)
{
    /* Who sees where a jump begins sees where it ends. */
    if (position != atomic_load_explicit(&staging->jump_from, memory_order_acquire))
        return position;
    return atomic_load_explicit(&staging->jump_to, memory_order_relaxed);
}

/* A stretch of positions without a jump inside. */
struct staging_stretch {
    uint64_t begin, end;
};

/* staging_shown returns the next stretch that is shown and not taken; empty when there is none. The
 * writer's. */
struct staging_stretch staging_shown(const struct staging *staging);

/* staging_mark says that the records that end in (begin, end] failed. The writer's, before
 * staging_settle. */
void staging_mark(struct staging *staging, uint64_t begin, uint64_t end,
                  enum staging_outcome outcome);

/* staging_settle publishes that the writer is done up to `position`, and wakes the producer if it
 * sleeps. The writer's. */
void staging_settle(struct staging *staging, uint64_t position);

#endif
