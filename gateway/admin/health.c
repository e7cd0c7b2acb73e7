/* What makes the gateway not ready, the worst first: see health.h. */
#include "gateway/admin/health.h"

#include <stddef.h>

static const struct {
    const char *word, *text;
} troubles[HEALTH_TROUBLES] = {
    [HEALTH_READY] = {"ready",          "Mail is taken."                                             },
    [HEALTH_NOT_YET] = {"starting",       "The gateway starts: the spool is being read."               },
    [HEALTH_DRAIN] = {"draining",       "The gateway is about to end: what is under way is finished."},
    [HEALTH_DISK_FULL] = {"disk_full",      "The spool's disk is full: mail is refused for now."         },
    [HEALTH_SYNC_ERRORS] = {"sync_errors",
                      "The spool's disk does not keep what is written: mail is refused."             },
    [HEALTH_QUEUE_FULL] = {"queue_full",     "The queue is full (queue.messages): mail is refused."       },
    [HEALTH_COURIER_BROKEN] = {"courier_broken", "The courier's ring broke: the process ends."                },
};

static enum health_trouble trouble_of_spool(const struct spool *spool)
{
    switch (spool == NULL ? SPOOL_OPEN : spool_state(spool)) {
    case SPOOL_FULL: return HEALTH_DISK_FULL;
    case SPOOL_QUEUE_FULL: return HEALTH_QUEUE_FULL;
    case SPOOL_BROKEN: return HEALTH_SYNC_ERRORS;
    case SPOOL_OPEN: break;
    }
    return HEALTH_READY;
}

enum health_trouble health_trouble(const struct health *health)
{
    if (atomic_load_explicit(&health->courier_broken, memory_order_relaxed))
        return HEALTH_COURIER_BROKEN;
    switch ((enum health_phase)atomic_load_explicit(&health->phase, memory_order_relaxed)) {
    case HEALTH_STARTING: return HEALTH_NOT_YET;
    case HEALTH_NOTICE:
    case HEALTH_DRAINING: return HEALTH_DRAIN;
    case HEALTH_SERVING: break;
    }
    return trouble_of_spool(atomic_load_explicit(&health->spool, memory_order_acquire));
}

const char *health_text(enum health_trouble trouble)
{
    return troubles[trouble].text;
}

const char *health_word(enum health_trouble trouble)
{
    return troubles[trouble].word;
}
