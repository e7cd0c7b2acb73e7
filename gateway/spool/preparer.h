/* The preparer: a background thread that keeps fresh segments at hand, out of dead ones where it
 * can, and does the renaming and deleting that the writer must not wait for. */
#ifndef GATEWAY_SPOOL_PREPARER_H
#define GATEWAY_SPOOL_PREPARER_H

#include "gateway/base/bell.h"
#include "gateway/base/log.h"
#include "gateway/spool/pool.h"

struct preparer {
    const struct volume *volume;
    struct pool *pool;
    struct log_port *log;
    struct bell bell;
    _Atomic bool stopping;
    pthread_t thread;
    bool running;
};

/* preparer_work does what there is to do: names poisoned segments, recycles or deletes dead ones,
 * makes new ones until enough are ready or one can't be made. Returns 0, or the errno of that. */
int preparer_work(struct preparer *preparer);

/* preparer_start starts the thread: 0 or -errno; preparer_stop ends it. */
int preparer_start(struct preparer *preparer) __attribute__((warn_unused_result));
void preparer_stop(struct preparer *preparer);

#endif
