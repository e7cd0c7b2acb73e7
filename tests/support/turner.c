/* The turner: see turner.h. */
#include "tests/support/turner.h"

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

#include <stdlib.h>

static bool over(struct turner *turner)
{
    return (turner->reached != NULL && turner->reached(turner)) ||
           clock_monotonic_us() >= turner->late_us;
}

static void turn_end(void *user)
{
    struct turner *turner = user;
    if (turner->on_turn != NULL)
        turner->on_turn(turner);
    if (over(turner))
        worker_stop(&turner->worker);
}

static bool falling_asleep(void *user)
{
    struct turner *turner = user;
    turner->sleeps++;
    return true;
}

static void awake(void *user)
{
    (void)user;
}

static void noted(void *user, uint32_t notes)
{
    (void)user;
    (void)notes;
}

static uint64_t next_us(void *user)
{
    struct turner *turner = user;
    uint64_t next = turner->next_us == NULL ? UINT64_MAX : turner->next_us(turner);
    return next < turner->late_us ? next : turner->late_us;
}

struct turner *turner_new(bool baseline)
{
    struct turner *turner = calloc(1, sizeof(*turner));
    const char *what;
    CHECK(turner != NULL);
    struct worker_options options = {
        .cpu = -1,
        .streams_max = 1,
        .blocks_max = 1,
        .buffer_count = 1,
        .buffer_size = 512,
        .baseline = baseline,
        .hooks = {.turn_end = turn_end,
                  .falling_asleep = falling_asleep,
                  .awake = awake,
                  .noted = noted,
                  .next_us = next_us},
        .user = turner,
    };
    CHECK(worker_init(&turner->worker, &options, &what) == 0);
    return turner;
}

void turner_free(struct turner *turner)
{
    worker_cleanup(&turner->worker);
    free(turner);
}

bool turner_run(struct turner *turner, bool (*reached)(struct turner *turner), uint32_t ms)
{
    turner->reached = reached;
    turner->late_us = clock_monotonic_us() + (uint64_t)ms * 1000;
    turner->worker.stopping = false;
    CHECK(worker_run(&turner->worker) == 0);
    return reached != NULL && reached(turner);
}
