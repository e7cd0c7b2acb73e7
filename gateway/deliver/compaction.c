/* A message that is being moved is not delivered meanwhile (who takes a consignment of it puts it
 * back), and one of which a consignment is under way is not moved. A copy
 * that could not be written never arrives; that is known when the writer is done with a record that
 * was staged after the copies, and then with one staged after that: the writer settles a ring
 * before it hands over the arrivals, but is through with one batch before the next. */
#include "gateway/deliver/compaction.h"

#include <errno.h>
#include <inttypes.h>

#include "gateway/base/check.h"

enum {
    ASK_US = 1000 * 1000,
    ASK_US_MAX = 16 * 1000 * 1000, /* when there was nothing that could be moved */
    NO_ROOM_US = 10 * 1000,        /* when the ring is full, it is tried again after this */
    SLOTS_A_STEP = 16384,          /* looked at in one step */
    OCTETS_A_STEP = 1024 * 1024,   /* copied in one step */
};

static void check_copies(struct compaction *compaction, uint64_t settled);
static void look_for_more(struct compaction *compaction, uint64_t now_us);
static bool go_on(struct compaction *compaction, uint64_t end, uint64_t now_us);
static bool wants_move(const struct compaction *compaction, const struct queue_message *message);
static void forget(struct compaction *compaction, struct queue_message *message);
static void give_up(struct compaction *compaction);
static void end_round(struct compaction *compaction);

void compaction_step(struct compaction *compaction, uint64_t settled, uint64_t now_us)
{
    if (compaction->copying == NULL && compaction->count > 0) {
        check_copies(compaction, settled);
        return;
    }
    if (compaction->generation == 0) {
        if (now_us - compaction->asked_us < compaction->pause_us)
            return;
        compaction->asked_us = now_us;
        compaction->generation = spool_pinned(compaction->spool);
        compaction->next_slot = 0;
        compaction->moved = 0;
        if (compaction->generation == 0)
            compaction->pause_us = ASK_US;
    }
    bool room = now_us >= compaction->not_before_us || settled != compaction->settled;
    compaction->settled = settled;
    if (compaction->generation != 0 && room)
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
    CHECK(waiting != compaction->copying);
    CHECK(old.recipient_count == message->recipient_count);
    waiting->spool = *message;
    waiting->spool.attempts = old.attempts;
    waiting->moving = false;
    compaction->moves[i] = compaction->moves[--compaction->count];
    compaction->moved++;
    spool_release(compaction->spool, &old);
    return true;
}

bool compaction_busy(const struct compaction *compaction)
{
    return (compaction->count == 0 || compaction->copying != NULL) && compaction->generation != 0 &&
           compaction->not_before_us == 0;
}

void compaction_free(struct compaction *compaction)
{
    relocation_close(&compaction->relocation);
}

/* Notices copies that will not come. */
static void check_copies(struct compaction *compaction, uint64_t settled)
{
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
}

static void look_for_more(struct compaction *compaction, uint64_t now_us)
{
    size_t slots = queue_slots(compaction->queue);
    size_t slot_end =
        slots - compaction->next_slot > SLOTS_A_STEP ? compaction->next_slot + SLOTS_A_STEP : slots;
    uint64_t octets_end = compaction->relocation.octets + OCTETS_A_STEP;

    compaction->marker = 0;
    compaction->marked_twice = false;
    compaction->not_before_us = 0;
    /* A DONE record about a message must not come between its copy and the arrival of that. */
    ledger_write(compaction->ledger, now_us, true);
    bool more = go_on(compaction, octets_end, now_us);
    while (more && compaction->next_slot < slot_end && compaction->count < COMPACTION_MOVES) {
        struct queue_message *waiting = queue_at(compaction->queue, compaction->next_slot++);
        if (waiting == NULL || !wants_move(compaction, waiting))
            continue;
        if (relocation_begin(&compaction->relocation, compaction->spool, compaction->staging,
                             &waiting->spool) != 0)
            continue; /* damaged: the spool has said so */
        waiting->moving = true;
        compaction->moves[compaction->count++] = waiting;
        compaction->copying = waiting;
        more = go_on(compaction, octets_end, now_us);
    }
    staging_publish(compaction->staging, false);
    if (compaction->next_slot == slots && compaction->count == 0)
        end_round(compaction);
}

/* Goes on with the copy that is in the making, if any. False: that is all for this step. */
static bool go_on(struct compaction *compaction, uint64_t end, uint64_t now_us)
{
    struct queue_message *message = compaction->copying;
    int error = 0;

    while (message != NULL) {
        error =
            relocation_step(&compaction->relocation, queue_finished_map(message),
                            outcome_next_s(compaction->outcome, message), message->spool.attempts);
        if (error != -EINPROGRESS || compaction->relocation.octets >= end)
            break;
    }
    if (error == -EAGAIN)
        compaction->not_before_us = now_us + NO_ROOM_US;
    if (error == -EAGAIN || error == -EINPROGRESS)
        return false;
    compaction->copying = NULL;
    if (error != 0) /* damaged: the spool has said so */
        forget(compaction, message);
    return true;
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

/* The message stays where it is. */
static void forget(struct compaction *compaction, struct queue_message *message)
{
    uint32_t i = 0;
    while (compaction->moves[i] != message)
        i++;
    message->moving = false;
    compaction->moves[i] = compaction->moves[--compaction->count];
}

/* The copies that have not come did not reach the disk. */
static void give_up(struct compaction *compaction)
{
    while (compaction->count > 0)
        forget(compaction, compaction->moves[0]);
    compaction->generation = 0;
    relocation_close(&compaction->relocation);
}

/* All were looked at. When none could be moved, it is tried again later and later. */
static void end_round(struct compaction *compaction)
{
    uint64_t pause_us = compaction->moved > 0 ? ASK_US : compaction->pause_us * 2;

    if (compaction->moved > 0)
        log_message(compaction->log, LOG_INFO, "compaction",
                    "copied %" PRIu64 " messages of the segments below %016" PRIx64
                    " to the end of the log, %" PRIu64 " octets",
                    compaction->moved, compaction->generation, compaction->relocation.octets);
    compaction->pause_us = pause_us < ASK_US ? ASK_US : pause_us;
    if (compaction->pause_us > ASK_US_MAX)
        compaction->pause_us = ASK_US_MAX;
    compaction->generation = 0;
    relocation_close(&compaction->relocation);
}
