/* From messages to consignments: what is due is looked at, its recipients are told apart by where
 * they go, and each part is put where it waits for its turn: in the line of its destination, or in
 * that of the store. The courier's thread.
 *
 * A message that came while all routes were discards is not read at all, unless it is `unseen`: the
 * one that recovery found may have been accepted under other routes. */
#ifndef GATEWAY_DELIVER_SORTER_H
#define GATEWAY_DELIVER_SORTER_H

#include "gateway/deliver/deadlines.h"
#include "gateway/deliver/destination.h"
#include "gateway/deliver/outcome.h"

enum { SORTER_STORE = UINT32_MAX /* the `destination` of what goes to Maildirs */ };

/* All borrowed. */
struct sorter_options {
    const struct worker *worker; /* the clock */
    struct spool *spool;
    struct queue *queue;
    struct destinations *destinations;
    struct outcome *outcome;
    const struct courier_rules *rules; /* what it points to may change: sorter_reload */
    struct deadlines *deadlines;       /* where it notes the times of DELIVERBY that it reads */
    struct line *stores;               /* where it puts what goes to Maildirs */
};

struct sorter;

struct sorter *sorter_new(const struct sorter_options *options) __attribute__((warn_unused_result));
void sorter_free(struct sorter *sorter);

/* sorter_run takes what is due from the queue, a bounded part, and returns how many it took. */
uint32_t sorter_run(struct sorter *sorter, bool discard_only);

/* sorter_again: the routes are as they were: what waits, and what is held for want of a route, is
 * due at once, to be tried; what stands in a line stays there. */
void sorter_again(struct sorter *sorter);

/* sorter_reload: the routes are others now. Everything that stands in a line or waits, and what is
 * held for want of a route, is due at once, to be sorted again; what is under way ends as it began
 * and is sorted again if it comes back. A message of which the operator holds a part is held whole.
 */
void sorter_reload(struct sorter *sorter);

/* sorter_leave takes a consignment out from wherever it stands: it is TAKEN then. */
void sorter_leave(struct sorter *sorter, struct consignment *consignment);

#endif
