/* What the two files of outcome share: outcome.c says what became of recipients, outcome_settle.c
 * does something about it. */
#ifndef GATEWAY_DELIVER_OUTCOME_INSIDE_H
#define GATEWAY_DELIVER_OUTCOME_INSIDE_H

#include "gateway/deliver/outcome.h"

enum { OUTCOME_LATER_US = 5 * 1000 * 1000 /* when something is short that can't be helped now */ };

/* What happens to what is left of a consignment. */
struct outcome_plan {
    uint64_t delay_us; /* until the next attempt */
    bool last;         /* the lifetime is over: there is none */
    bool hold;         /* what is left is put on hold */
    bool noted;        /* an attempt failed: to be noted in the spool */
};

struct outcome {
    struct outcome_options options;
    struct outcome_counters counters;
    struct list rounds;
    bool interrupted;
};

/* outcome_plan counts an attempt, and says what happens now that it has failed. */
struct outcome_plan outcome_plan(struct outcome *outcome, struct consignment *consignment,
                                 enum outcome_way way);

/* outcome_open opens a TAKEN consignment and gives all its recipients this verdict. NULL: the spool
 * can't give the message, and that was seen to. */
struct consign *outcome_open(struct outcome *outcome, struct consignment *consignment,
                             const struct verdict *verdict) __attribute__((warn_unused_result));

/* outcome_finish marks and notes a recipient (again: no change). */
void outcome_finish(struct outcome *outcome, struct consignment *consignment, uint32_t recipient,
                    enum record_outcome what);

/* outcome_settle decides where a TAKEN consignment goes from here. */
void outcome_settle(struct outcome *outcome, struct consignment *consignment,
                    const struct outcome_plan *plan);

/* outcome_tell_late tells of the recipients of an opened consignment, all DEFERRED, that they are
 * late, closes it, and settles it. */
void outcome_tell_late(struct outcome *outcome, struct consign *consign,
                       const struct outcome_plan *plan);

/* outcome_set_reason says why it waits; NULL: for nothing. */
void outcome_set_reason(struct outcome *outcome, struct consignment *consignment, const char *text);

#endif
