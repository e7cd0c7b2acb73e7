/* One round of delivery: takes what is due from the queue, tries each recipient that is not
 * finished, and notes what became of it. Maildir files of many messages share one batch, so one
 * wait for the disk; a recipient that fails is put off alone. */
#ifndef GATEWAY_DELIVER_ATTEMPTS_H
#define GATEWAY_DELIVER_ATTEMPTS_H

#include "gateway/base/log.h"
#include "gateway/deliver/ledger.h"
#include "gateway/deliver/queue.h"
#include "gateway/deliver/route.h"

struct attempts_options {
    struct spool *spool; /* these four are borrowed */
    struct queue *queue;
    struct ledger *ledger;
    struct log_port *log;
    const char *hostname; /* for file names */
    uint32_t lifetime_s;
};

/* Plain counts since the start, of the thread that calls attempts_make. */
struct attempts_counts {
    uint64_t delivered; /* recipients */
    uint64_t deferred;  /* recipients, once for each attempt that failed */
    uint64_t expired;   /* messages put on hold */
};

struct attempts;

/* attempts_new returns an owned maker of attempts; NULL: no memory. */
struct attempts *attempts_new(const struct attempts_options *options);
void attempts_free(struct attempts *attempts);

/* attempts_make delivers a bounded number of due messages and returns how many it took from the
 * queue. With `discard_only`, messages that are not marked `unseen` are discarded without a look at
 * their recipients. Blocks while a disk is slow. */
uint32_t attempts_make(struct attempts *attempts, const struct routes *routes, bool discard_only,
                       uint64_t now_us);

struct attempts_counts attempts_counts(const struct attempts *attempts);

#endif
