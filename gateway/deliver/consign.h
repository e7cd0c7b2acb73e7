/* From a consignment to a delivery: reads the message, finds the recipients that belong to it, says
 * under which reverse-path it goes (SRS), and gives its text piece by piece. Whoever reads a
 * message again uses the same walk, so all agree on who belongs to a consignment. The courier's
 * thread, but for the walk, which is anybody's. */
#ifndef GATEWAY_DELIVER_CONSIGN_H
#define GATEWAY_DELIVER_CONSIGN_H

#include "gateway/deliver/delivery.h"
#include "gateway/deliver/queue.h"
#include "gateway/deliver/route.h"
#include "gateway/policy/srs.h"
#include "gateway/spool/spool.h"

enum { CONSIGN_RECIPIENTS = 100 /* of one transaction (RFC 5321 4.5.3.1.8) */ };

/* A walk through the recipients of a consignment that are not finished: those from `first` on that
 * go where the first one goes, `count` of them; all, when it is not sorted. Private but for the
 * first three, which walk_next sets. */
struct consign_walk {
    uint32_t index;                      /* in the envelope */
    struct envelope_recipient recipient; /* borrows from the form */
    const struct route *route;           /* NULL: none any more */
    struct bytes form;
    size_t cursor;
    const struct routes *routes;
    const uint8_t *done;  /* bitmap, borrowed; NULL: nobody is finished */
    uint32_t next, total; /* recipients of the envelope */
    uint32_t first, left; /* to be found */
    bool sorted;
    bool key_forwarded;
    const struct route *key_route; /* of the first one */
    struct bytes key_domain;
};

/* consign_walk_begin prepares a walk for a consignment with these `first` and `count` (0: not
 * sorted). `form` and `total` are what spool_read gave. */
void consign_walk_begin(struct consign_walk *walk, const struct routes *routes, struct bytes form,
                        uint32_t total, const uint8_t *done, uint32_t first, uint32_t count);
bool consign_walk_next(struct consign_walk *walk);

/* A consignment that was opened. Owned by the pool. */
struct consign {
    struct delivery delivery; /* `delivered` and `user` are the caller's to set */
    struct consignment *consignment;
    struct envelope envelope; /* as the spool has it */
    /* Private. */
    struct consigns *pool;
    struct list_node node; /* of the open ones, or of the idle ones */
    struct spool_reader reader;
    uint32_t capacity; /* of delivery.recipients */
    uint8_t *own; /* what is needed of a large envelope, which is not kept: own_capacity octets */
    size_t own_capacity;
    size_t idle_octets; /* of memory, while it is idle */
    char reverse_path[SRS_LEN_MAX];
};

struct consigns;

/* consigns_new makes a pool; consigns_free: all are closed. */
struct consigns *consigns_new(struct spool *spool) __attribute__((warn_unused_result));
void consigns_free(struct consigns *consigns);

/* consign_open opens a TAKEN consignment: its delivery has the open recipients, perhaps none, each
 * VERDICT_OPEN. `srs` may be NULL. 0, or -errno: -ENOMEM, or what spool_read says. */
int consign_open(struct consigns *consigns, struct consignment *consignment,
                 const struct routes *routes, const struct srs *srs, uint64_t now_s,
                 struct consign **out) __attribute__((warn_unused_result));

/* consign_open_these opens it with these recipients of the envelope (`count` indexes, ascending),
 * whatever the routes are now. */
int consign_open_these(struct consigns *consigns, struct consignment *consignment,
                       const uint32_t *recipients, uint32_t count, struct consign **out)
    __attribute__((warn_unused_result));
void consign_close(struct consign *consign);

/* consigns_open returns how many are open, consigns_in_doubt how many of them have sent their text
 * and have no reply yet. */
uint32_t consigns_open(const struct consigns *consigns);
uint32_t consigns_in_doubt(const struct consigns *consigns);

/* consigns_idle_octets returns the memory that is kept for reuse. */
size_t consigns_idle_octets(const struct consigns *consigns);

#endif
