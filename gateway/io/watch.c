/* Descriptors that are polled for others: see watch.h. Each watch has a place in its worker, and
 * one poll request there at a time: it answers once, and is made anew after `ready`, so it is
 * level-triggered. A generation tells the answer of a watch that is over from a current one. */
#include "gateway/io/watch.h"

#include "gateway/base/check.h"
#include "gateway/io/worker.h"

#include <errno.h>
#include <poll.h>

enum { GENERATION_MAX = 0xffffff /* what a tag has room for */ };

static uint64_t tag_of(const struct watch_place *places, uint32_t place)
{
    return tag_make(REQUEST_POLL, places[place].generation, place);
}

static void arm(struct worker *worker, uint32_t place)
{
    struct watch_place *at = &worker->watches[place];
    CHECK(!at->armed);
    at->armed = true;
    uring_poll_once(worker->ring, tag_of(worker->watches, place), at->watch->descriptor,
                    at->watch->wanted);
}

/* disarm lets the kernel's answer, which may be on its way already, mean nothing. */
static void disarm(struct worker *worker, uint32_t place)
{
    struct watch_place *at = &worker->watches[place];
    if (at->armed)
        uring_cancel(worker->ring, tag_make(REQUEST_CANCEL, 0, place),
                     tag_of(worker->watches, place));
    at->armed = false;
    at->generation = (at->generation + 1) & GENERATION_MAX;
}

static bool find_place(struct worker *worker, struct watch *watch)
{
    for (uint32_t place = 0; place < WATCH_MAX; place++)
        if (worker->watches[place].watch == NULL) {
            worker->watches[place].watch = watch;
            watch->place = place;
            return true;
        }
    return false;
}

bool watch_set(struct worker *worker, struct watch *watch, int descriptor, uint32_t wanted)
{
    CHECK((wanted & ~(uint32_t)(POLLIN | POLLOUT)) == 0);
    if (watch->wanted == wanted && (wanted == 0 || watch->descriptor == descriptor))
        return true;
    if (watch->wanted == 0 && !find_place(worker, watch))
        return false;
    CHECK(watch->place < WATCH_MAX && worker->watches[watch->place].watch == watch);
    disarm(worker, watch->place);
    watch->descriptor = descriptor;
    watch->wanted = wanted;
    if (wanted == 0)
        worker->watches[watch->place].watch = NULL;
    else
        arm(worker, watch->place);
    return true;
}

void watch_ready(struct worker *worker, uint32_t place, uint32_t generation, int result)
{
    CHECK(place < WATCH_MAX);
    struct watch_place *at = &worker->watches[place];
    if (generation != at->generation)
        return; /* of a watch that is over */
    CHECK(at->watch != NULL && at->armed);
    at->armed = false;
    struct watch *watch = at->watch;
    watch->ready(watch, result >= 0 ? (uint32_t)result : (uint32_t)(POLLERR | POLLNVAL));
    if (generation == at->generation)
        arm(worker, place);
}
