/* Times that messages bring with them: not before (RFC 4865), and by when (RFC 2852). */
#include "gateway/deliver/courier_inside.h"

#include "gateway/base/clock.h"

enum {
    DEADLINES_A_TURN = 64,
    TURN_US = 3000,     /* likewise, so that nothing else waits long */
    NOTICES_SPARE = 64, /* room for notifications that is kept for what next hops refuse */
    AGAIN_S = 1,        /* what is under way, or can't be told of now, is looked at again */
};

/* What has become of a consignment, or a message, whose time is over. */
enum met {
    MET_BEFORE, /* nothing was to be done */
    MET_NOW,
    MET_TAKEN,   /* it is under way: to be looked at again */
    MET_IN_VAIN, /* nobody can be told now: likewise */
    MET_IN_PART, /* the turn is over */
};

static enum met meet(struct courier *courier, struct consignment *consignment)
{
    bool returned = consignment->message->by_mode & ENVELOPE_BY_RETURN;
    uint64_t now_us = courier->worker.now_us, delay_us = 0;

    if (consignment->state == CONSIGNMENT_HELD || consignment->late)
        return MET_BEFORE;
    if (consignment->state == CONSIGNMENT_TAKEN)
        return MET_TAKEN; /* it may come through; else its outcome says the same */
    if (consignment->state == CONSIGNMENT_WAITING && consignment->due_us > now_us)
        delay_us = consignment->due_us - now_us;
    sorter_leave(courier->sorter, consignment);
    if (!returned) {
        outcome_late(courier->outcome, consignment, delay_us);
        return consignment->late ? MET_NOW : MET_IN_VAIN;
    }
    consignment->late = true; /* it may be gone in a moment; what is put off is returned later */
    if (!outcome_returned(courier->outcome, consignment, OUTCOME_REMOTE))
        outcome_put_off(courier->outcome, consignment, 0);
    return MET_NOW;
}

/* The message that a deadline is of; NULL: it is gone. */
static struct queue_message *message_of(const struct courier *courier,
                                        const struct deadline *deadline)
{
    if (deadline->place >= queue_slots(courier->queue))
        return NULL;
    struct queue_message *message = queue_at(courier->queue, deadline->place);
    return message == NULL || message->spool.message_id != deadline->message_id ? NULL : message;
}

bool courier_deadline_lives(void *courier, const struct deadline *deadline)
{
    return message_of(courier, deadline) != NULL;
}

static bool room(const struct courier *courier)
{
    return outcome_room(courier->outcome) && notify_room(courier->notify) > NOTICES_SPARE;
}

/* A message may have a thousand consignments, and each costs a look at all its recipients: those
 * that are left have their turn later. Each turn gets on, however long those are that were met. */
static enum met meet_all(struct courier *courier, const struct deadline *deadline)
{
    struct queue_message *message = message_of(courier, deadline);
    enum met result = MET_BEFORE;
    uint64_t end_us = 0;

    if (message == NULL)
        return MET_BEFORE;
    if (message->moving)
        return MET_TAKEN;
    for (struct consignment *one = message->consignments, *next; one != NULL; one = next) {
        if (!room(courier) || (end_us != 0 && clock_monotonic_us() > end_us))
            return MET_IN_PART;
        next = one->sibling; /* the last one may take its message along */
        enum met met = meet(courier, one);
        if (met == MET_IN_VAIN)
            return met;
        if (met == MET_TAKEN)
            result = met;
        if (met == MET_NOW && end_us == 0)
            end_us = clock_monotonic_us() + TURN_US;
    }
    return result;
}

void courier_meet_deadlines(struct courier *courier)
{
    uint64_t now_s = courier->worker.now_wall_us / 1000000;
    uint64_t end_us = clock_monotonic_us() + TURN_US;
    struct deadline deadline;

    for (int i = 0; i < DEADLINES_A_TURN && room(courier); i++) {
        if (i > 0 && clock_monotonic_us() > end_us)
            return;
        if (!deadlines_take(&courier->deadlines, now_s, &deadline))
            return;
        enum met met = meet_all(courier, &deadline);
        if (met == MET_BEFORE)
            continue;
        deadline.at_s = (uint32_t)now_s + (met == MET_IN_PART ? 0 : AGAIN_S);
        (void)deadlines_add(&courier->deadlines, &deadline);
        if (met == MET_IN_PART)
            return;
    }
}

uint64_t courier_deadline_us(const struct courier *courier)
{
    uint64_t next_s = deadlines_next_s(&courier->deadlines);
    uint64_t now_us = courier->worker.now_us, wall_us = courier->worker.now_wall_us;

    if (next_s == UINT64_MAX || notify_room(courier->notify) <= NOTICES_SPARE)
        return UINT64_MAX;
    return next_s * 1000000 > wall_us ? now_us + (next_s * 1000000 - wall_us) : now_us;
}
