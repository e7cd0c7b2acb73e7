/* Storing into Maildirs, without a halt of the courier's turn: batches of files are written and
 * synced by threads of their own (io/helpers), so a slow disk delays what goes there and nothing
 * else. The courier's thread but for what runs in a helper. */
#ifndef GATEWAY_DELIVER_STORE_H
#define GATEWAY_DELIVER_STORE_H

#include "gateway/deliver/queue.h"
#include "gateway/deliver/route.h"
#include "gateway/io/helpers.h"
#include "gateway/spool/spool.h"

/* What became of a recipient. */
struct store_result {
    uint8_t notify;       /* bits of NOTIFY=, 0: none given */
    struct bytes mailbox; /* cut, for the log */
    int error;            /* 0: delivered and durable; else -errno */
    const char *step;     /* that failed; a constant */
};

/* What became of a consignment; borrowed during the call. */
struct store_report {
    struct consignment *consignment;
    int error; /* not 0: its envelope could not be read, and there are no results; -errno */
    uint64_t arrival_us;        /* wall, of the message */
    const uint32_t *recipients; /* indexes in the envelope, ascending */
    const struct store_result *results;
    uint32_t count; /* of both */
};

struct store_options {
    struct spool *spool;     /* borrowed, as all here */
    struct worker *worker;   /* hears when a batch is done */
    struct helpers *helpers; /* who write */
    const char *hostname;
    uint32_t batches_max;                                          /* at a time; 0: 4 */
    void (*stored)(void *user, const struct store_report *report); /* once for each consignment */
    void *user;
};

struct store;

/* store_new makes a store at rest. NULL: no memory. store_free: it is at rest again. */
struct store *store_new(const struct store_options *options) __attribute__((warn_unused_result));
void store_free(struct store *store);

/* store_room tells whether a consignment would be taken now. store_add takes one (TAKEN, and
 * sorted: its open recipients go to Maildirs; deliver/consign.h has the walk). The store keeps a
 * claim to `routes` until it has reported. Results come in a later turn. False: no memory, and it
 * is the caller's still. store_flush starts what was added: at the end of a turn, and before
 * others `routes`. store_at_rest: nothing is under way. A write that hangs in the kernel can't be
 * broken off: who can't wait leaves the store, its helpers, spool and worker alone for ever. */
bool store_room(const struct store *store);
bool store_add(struct store *store, struct consignment *consignment, const struct routes *routes)
    __attribute__((warn_unused_result));
void store_flush(struct store *store);
bool store_at_rest(const struct store *store);

#endif
