/* A worker without streams, for tests of what lives in its turn: it runs in the test's own thread
 * until something has come about, and can be run again. */
#ifndef TESTS_SUPPORT_TURNER_H
#define TESTS_SUPPORT_TURNER_H

#include "gateway/io/worker.h"

struct turner {
    struct worker worker;                       /* first */
    void (*on_turn)(struct turner *turner);     /* at the end of each turn; may be NULL */
    uint64_t (*next_us)(struct turner *turner); /* as the hook of the worker; may be NULL */
    void *user;                                 /* of the test */
    bool (*reached)(struct turner *turner);     /* of the run */
    uint64_t late_us;                           /* when the run ends otherwise */
    uint32_t sleeps;
};

/* turner_new makes one in the calling thread; owned, freed by turner_free. */
struct turner *turner_new(bool baseline);
void turner_free(struct turner *turner);

/* turner_run turns until `reached` (NULL: never) is true, `ms` at most; what `reached` was last. */
bool turner_run(struct turner *turner, bool (*reached)(struct turner *turner), uint32_t ms);

#endif
