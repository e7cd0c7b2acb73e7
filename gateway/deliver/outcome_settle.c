/* Where consignments go: out of the queue, back into it, or on hold; and the notes of that. */
#include "gateway/deliver/outcome.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/deliver/outcome_inside.h"
#include "gateway/deliver/outcome_log.h"

enum { NOTE_SPARE = 8192 /* room in the ledger that is left to the last words on messages */ };

static void note_deferred(struct outcome *outcome, const struct consignment *consignment);

bool outcome_sole(const struct consignment *consignment)
{
    return consignment->message->consignments == consignment && consignment->sibling == NULL;
}

void outcome_interrupt(struct outcome *outcome)
{
    outcome->interrupted = true;
}

bool outcome_overdue(const struct outcome *outcome, const struct consignment *consignment)
{
    uint64_t now_s = outcome->options.worker->now_wall_us / 1000000;
    const struct spool_message *message = &consignment->message->spool;
    return now_s >= spool_message_start_s(message) + outcome->options.rules->lifetime_s;
}

/* Counts the attempt, and says what happens now that it has failed. An attempt that would lie
 * behind the end of the lifetime is made at its end. */
struct outcome_plan outcome_plan(struct outcome *outcome, struct consignment *consignment,
                                 enum outcome_way way)
{
    const struct outcome_options *options = &outcome->options;
    struct spool_message *message = &consignment->message->spool;
    uint64_t now_s = options->worker->now_wall_us / 1000000;
    uint64_t end_s = spool_message_start_s(message) + options->rules->lifetime_s;
    uint64_t by_s = consignment->message->by_s;
    struct outcome_plan plan = {.noted = true};

    if (outcome->interrupted)
        return (struct outcome_plan){0};
    if (consignment->attempts < UINT16_MAX)
        consignment->attempts++;
    if (message->attempts < consignment->attempts)
        message->attempts = consignment->attempts;
    if (now_s >= end_s) {
        plan.last = true;
        plan.hold = way == OUTCOME_HOMELESS;
        return plan;
    }
    plan.delay_us = queue_delay_us(options->queue, consignment->attempts);
    /* What is returned then is not tried again; what is told of then is tried just before. */
    if (by_s > now_s && by_s < end_s)
        end_s = by_s;
    if (plan.delay_us > (end_s - now_s) * 1000000)
        plan.delay_us = (end_s - now_s) * 1000000;
    return plan;
}

static void note(struct outcome *outcome, const struct record_done *done)
{
    struct ledger *ledger = outcome->options.ledger;
    /* What is left unsaid here is done again after a crash; the room left is for the last words. */
    if (ledger_room(ledger) > NOTE_SPARE)
        ledger_note(ledger, done, outcome->options.worker->now_us);
}

void outcome_finish(struct outcome *outcome, struct consignment *consignment, uint32_t recipient,
                    enum record_outcome what)
{
    struct queue_message *message = consignment->message;

    if (queue_finished(message, recipient))
        return;
    queue_finish(message, recipient);
    if (consignment->recipient_count > 0)
        consignment->recipient_count--;
    /* The last recipient is noted by the end of the message. */
    if (message->open_count > 0)
        note(outcome, &(struct record_done){.message_id = message->spool.message_id,
                                            .recipient = recipient,
                                            .attempts = consignment->attempts,
                                            .outcome = (uint8_t)what});
}

static void drop(struct outcome *outcome, struct consignment *consignment)
{
    struct queue_message *message = consignment->message;

    outcome_set_reason(outcome, consignment, NULL);
    if (outcome_sole(consignment))
        ledger_finish(outcome->options.ledger, &message->spool, outcome->options.worker->now_us);
    (void)consignment_drop(outcome->options.queue, consignment);
}

/* Decides where a TAKEN consignment goes from here. */
void outcome_settle(struct outcome *outcome, struct consignment *consignment,
                    const struct outcome_plan *plan)
{
    struct queue_message *message = consignment->message;
    bool sorted = consignment->destination != QUEUE_UNSORTED;

    if (message->open_count == 0 ||
        (sorted && consignment->recipient_count == 0 && !outcome_sole(consignment))) {
        drop(outcome, consignment);
        return;
    }
    uint64_t delay_us = plan->delay_us;
    /* Without memory for the marks something is open that was finished: it is done again. */
    if (sorted && consignment->recipient_count == 0 && delay_us < OUTCOME_LATER_US)
        delay_us = OUTCOME_LATER_US;
    if (sorted &&
        (consignment->recipient_count == 0 || (consignment->resort && outcome_sole(consignment))))
        outcome_unsort(outcome, consignment);
    if (plan->hold)
        consignment_hold(outcome->options.queue, consignment);
    else
        outcome_put_off(outcome, consignment, delay_us);
    if (plan->noted)
        note_deferred(outcome, consignment);
}

void outcome_unsort(struct outcome *outcome, struct consignment *consignment)
{
    (void)outcome;
    CHECK(outcome_sole(consignment));
    consignment->destination = QUEUE_UNSORTED;
    consignment->first = consignment->recipient_count = 0;
    consignment->resort = false;
}

void outcome_forget(struct outcome *outcome, struct consignment *consignment)
{
    CHECK(!outcome_sole(consignment));
    outcome_set_reason(outcome, consignment, NULL);
    (void)consignment_drop(outcome->options.queue, consignment);
}

uint64_t outcome_next_s(const struct outcome *outcome, const struct queue_message *message)
{
    const struct worker *worker = outcome->options.worker;
    uint64_t next_s = UINT64_MAX;

    for (const struct consignment *one = message->consignments; one != NULL; one = one->sibling) {
        uint64_t wait_us = 0;
        if (outcome_held_by_operator(outcome, one))
            return LEDGER_HELD_S;
        if (one->state == CONSIGNMENT_WAITING && one->due_us > worker->now_us)
            wait_us = one->due_us - worker->now_us;
        uint64_t due_s = (worker->now_wall_us + wait_us + 999999) / 1000000;
        next_s = due_s < next_s ? due_s : next_s;
    }
    return next_s;
}

static void note_deferred(struct outcome *outcome, const struct consignment *consignment)
{
    const struct queue_message *message = consignment->message;
    uint32_t open = consignment->first;

    while (open + 1 < message->spool.recipient_count && queue_finished(message, open))
        open++;
    note(outcome, &(struct record_done){.message_id = message->spool.message_id,
                                        .recipient = open,
                                        .attempts = message->spool.attempts,
                                        .outcome = RECORD_DEFERRED,
                                        .next_attempt_s = outcome_next_s(outcome, message)});
}

/* NULL: none any more. */
void outcome_set_reason(struct outcome *outcome, struct consignment *consignment, const char *text)
{
    uint16_t old = consignment->reason;
    consignment->reason = text == NULL ? REASON_NONE : reasons_note(outcome->options.reasons, text);
    if (old != REASON_NONE)
        reasons_drop(outcome->options.reasons, old);
}

void outcome_put_off(struct outcome *outcome, struct consignment *consignment, uint64_t delay_us)
{
    consignment_wait(outcome->options.queue, consignment,
                     outcome->options.worker->now_us + delay_us);
}

/* --- the operator --- */

void outcome_hold(struct outcome *outcome, struct consignment *consignment)
{
    outcome_set_reason(outcome, consignment,
                       reasons_text(outcome->options.reasons, outcome->options.operator_reason));
    consignment_hold(outcome->options.queue, consignment);
    note_deferred(outcome, consignment);
    ledger_hurry(outcome->options.ledger);
}

void outcome_release(struct outcome *outcome, struct consignment *consignment)
{
    outcome_set_reason(outcome, consignment, NULL);
    consignment_ready(outcome->options.queue, consignment);
    note_deferred(outcome, consignment);
    ledger_hurry(outcome->options.ledger);
}

bool outcome_held_by_operator(const struct outcome *outcome, const struct consignment *consignment)
{
    return consignment->state == CONSIGNMENT_HELD &&
           consignment->reason == outcome->options.operator_reason;
}

static int compare_indexes(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static bool named(uint32_t recipient, const uint32_t *recipients, uint32_t count)
{
    return recipients == NULL ||
           bsearch(&recipient, recipients, count, sizeof recipient, compare_indexes) != NULL;
}

int outcome_remove(struct outcome *outcome, struct consignment *consignment,
                   const uint32_t *recipients, uint32_t recipient_count,
                   enum consignment_state state)
{
    struct queue_message *message = consignment->message;
    uint64_t id = message->spool.message_id;
    struct consign *consign;
    int removed = 0;
    int error = consign_open(outcome->options.consigns, consignment, outcome->options.rules->routes,
                             NULL, 0, &consign);
    if (error == 0) {
        for (uint32_t i = 0; i < consign->delivery.recipient_count; i++) {
            const struct delivery_recipient *recipient = &consign->delivery.recipients[i];
            if (!named(recipient->index, recipients, recipient_count))
                continue;
            outcome_log_removed(outcome->options.log, id, recipient->forward_path);
            outcome_finish(outcome, consignment, recipient->index, RECORD_REFUSED);
            removed++;
        }
        consign_close(consign);
    } else if (recipients == NULL && outcome_sole(consignment)) {
        /* A message that can't be read any more can still be removed. */
        outcome_log_removed(outcome->options.log, id, BYTES(""));
        removed = (int)message->open_count;
        for (uint32_t i = 0; i < message->spool.recipient_count; i++)
            if (!queue_finished(message, i))
                outcome_finish(outcome, consignment, i, RECORD_REFUSED);
        error = 0;
    }
    ledger_hurry(outcome->options.ledger);
    bool over = message->open_count == 0 ||
                (consignment->destination != QUEUE_UNSORTED && consignment->recipient_count == 0);
    if (over)
        outcome_settle(outcome, consignment, &(struct outcome_plan){.delay_us = OUTCOME_LATER_US});
    else if (state == CONSIGNMENT_HELD)
        consignment_hold(outcome->options.queue, consignment);
    else if (state == CONSIGNMENT_WAITING)
        consignment_wait(outcome->options.queue, consignment, consignment->due_us);
    else
        consignment_ready(outcome->options.queue, consignment);
    return error == 0 ? removed : error;
}
