/* A message that is being moved is not delivered meanwhile (who takes a consignment of it puts it
 * back), and one of which a consignment is under way is not moved. A copy
 * that could not be written never arrives; that is known when the writer is done with a record that
 * was staged after the copies, and then with one staged after that: the writer settles a ring
 * before it hands over the arrivals, but is through with one batch before the next. */
#include "gateway/deliver/compaction.h"

#include <errno.h>

#include "gateway/base/check.h"

enum {
    ASK_US = 1000 * 1000,
    NO_ROOM_US = 10 * 1000, /* when the ring is full, the next one is tried after this */
    SLOTS_A_STEP = 16384,   /* looked at in one step */
};

static void look_for_more(struct compaction *compaction, uint64_t now_us);
static bool wants_move(const struct compaction *compaction, const struct queue_message *message);
static int copy(struct compaction *compaction, const struct queue_message *message);
static void give_up(struct compaction *compaction);

void compaction_step(struct compaction *compaction, uint64_t settled, uint64_t now_us)
{
    if (compaction->count > 0) {
        if (compaction->marker == 0)
            compaction->marker = ledger_marker(compaction->ledger);
        if (compaction->marker == 0 || settled < compaction->marker)
            return;
        if (compaction->marked_twice) {
            give_up(compaction);
        } else {
            compaction->marker = ledger_marker(compaction->ledger);
            compaction->marked_twice = compaction->marker != 0;
        }
        return;
    }
    if (compaction->generation == 0) {
        if (now_us - compaction->asked_us < ASK_US)
            return;
        compaction->asked_us = now_us;
        compaction->generation = spool_pinned(compaction->spool);
        compaction->next_slot = 0;
    }
    if (compaction->generation != 0 && now_us >= compaction->not_before_us)
        look_for_more(compaction, now_us);
}

bool compaction_arrived(struct compaction *compaction, const struct spool_message *message)
{
    uint32_t i = 0;
    while (i < compaction->count && compaction->moves[i]->spool.message_id != message->message_id)
        i++;
    if (i == compaction->count)
        return false;
    struct queue_message *waiting = compaction->moves[i];
    struct spool_message old = waiting->spool;
    CHECK(old.recipient_count == message->recipient_count);
    waiting->spool = *message;
    waiting->spool.attempts = old.attempts;
    waiting->moving = false;
    compaction->moves[i] = compaction->moves[--compaction->count];
    spool_release(compaction->spool, &old);
    return true;
}

bool compaction_busy(const struct compaction *compaction)
{
    return compaction->count == 0 && compaction->generation != 0 && compaction->not_before_us == 0;
}

static void look_for_more(struct compaction *compaction, uint64_t now_us)
{
    size_t slots = queue_slots(compaction->queue);
    size_t end =
        slots - compaction->next_slot > SLOTS_A_STEP ? compaction->next_slot + SLOTS_A_STEP : slots;

    compaction->marker = 0;
    compaction->marked_twice = false;
    compaction->not_before_us = 0;
    /* A DONE record about a message must not come between its copy and the arrival of that. */
    ledger_write(compaction->ledger, now_us, true);
    while (compaction->next_slot < end && compaction->count < COMPACTION_MOVES) {
        struct queue_message *waiting = queue_at(compaction->queue, compaction->next_slot++);
        if (waiting == NULL || !wants_move(compaction, waiting))
            continue;
        int error = copy(compaction, waiting);
        if (error == -EAGAIN) {
            compaction->not_before_us = now_us + NO_ROOM_US;
            break;
        }
        if (error != 0) /* damaged: the spool has said so */
            continue;
        waiting->moving = true;
        compaction->moves[compaction->count++] = waiting;
    }
    if (compaction->next_slot == slots)
        compaction->generation = 0;
}

static bool wants_move(const struct compaction *compaction, const struct queue_message *message)
{
    if (message->spool.first_generation >= compaction->generation)
        return false;
    for (const struct consignment *one = message->consignments; one != NULL; one = one->sibling)
        if (one->state == CONSIGNMENT_TAKEN)
            return false;
    return true;
}

static int copy(struct compaction *compaction, const struct queue_message *message)
{
    return spool_relocate(compaction->spool, compaction->staging, &message->spool,
                          queue_finished_map(message),
                          outcome_next_s(compaction->outcome, message));
}

/* The copies that have not come did not reach the disk. The messages stay where they are. */
static void give_up(struct compaction *compaction)
{
    for (uint32_t i = 0; i < compaction->count; i++)
        compaction->moves[i]->moving = false;
    compaction->count = 0;
    compaction->generation = 0;
}
