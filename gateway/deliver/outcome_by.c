/* When the time is over by which a message was to be delivered (RFC 2852): it is returned, or its
 * sender is told. */
#include "gateway/deliver/outcome.h"

#include "gateway/deliver/outcome_inside.h"

#define TEXT "not delivered by the time that was asked for"

static const struct verdict over = {
    .kind = VERDICT_REFUSED, .status = {5, 4, 7},
         .text = TEXT
};
static const struct verdict late = {
    .kind = VERDICT_DEFERRED, .status = {4, 4, 7},
         .text = TEXT
};

bool outcome_returned(struct outcome *outcome, struct consignment *consignment,
                      enum outcome_way way)
{
    const struct queue_message *message = consignment->message;
    uint64_t now_s = outcome->options.worker->now_wall_us / 1000000;

    if (message->by_s == 0 || now_s < message->by_s || !(message->by_mode & ENVELOPE_BY_RETURN))
        return false;
    outcome_failed(outcome, consignment, way, way == OUTCOME_STORED ? "maildir" : "queue", &over);
    return true;
}

void outcome_late(struct outcome *outcome, struct consignment *consignment, uint64_t delay_us)
{
    struct outcome_plan plan = {.delay_us = delay_us};
    struct consign *consign = outcome_open(outcome, consignment, &late);
    if (consign != NULL)
        outcome_tell_late(outcome, consign, &plan);
}
