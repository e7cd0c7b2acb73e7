/* Times that messages bring with them: not before (RFC 4865), and by when (RFC 2852). */
#include "gateway/deliver/courier_inside.h"

enum {
    DEADLINES_A_TURN = 64,
    NOTICES_SPARE = 64, /* room for notifications that is kept for what next hops refuse */
    AGAIN_S = 1,        /* what is under way, or can't be told of now, is looked at again */
};

/* One consignment of a message whose time is over. True: it is to be looked at again. */
static bool meet(struct courier *courier, struct consignment *consignment)
{
    bool returned = consignment->message->by_mode & ENVELOPE_BY_RETURN;
    uint64_t now_us = courier->worker.now_us, delay_us = 0;

    if (consignment->state == CONSIGNMENT_TAKEN)
        return true; /* it may come through; else its outcome says the same */
    if (consignment->state == CONSIGNMENT_HELD || (!returned && consignment->late))
        return false;
    if (consignment->state == CONSIGNMENT_WAITING && consignment->due_us > now_us)
        delay_us = consignment->due_us - now_us;
    sorter_leave(courier->sorter, consignment);
    if (!returned) {
        outcome_late(courier->outcome, consignment, delay_us);
        return !consignment->late;
    }
    if (!outcome_returned(courier->outcome, consignment, OUTCOME_REMOTE))
        outcome_put_off(courier->outcome, consignment, 0);
    return false;
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

static bool meet_all(struct courier *courier, const struct deadline *deadline)
{
    struct queue_message *message = message_of(courier, deadline);
    bool again = false;

    if (message == NULL)
        return false;
    if (message->moving)
        return true;
    for (struct consignment *one = message->consignments, *next; one != NULL; one = next) {
        next = one->sibling; /* the last one may take its message along */
        again = meet(courier, one) || again;
    }
    return again;
}

void courier_meet_deadlines(struct courier *courier)
{
    uint64_t now_s = courier->worker.now_wall_us / 1000000;
    struct deadline deadline;

    for (int i = 0; i < DEADLINES_A_TURN && outcome_room(courier->outcome) &&
                    notify_room(courier->notify) > NOTICES_SPARE;
         i++) {
        if (!deadlines_take(&courier->deadlines, now_s, &deadline))
            return;
        if (!meet_all(courier, &deadline))
            continue;
        deadline.at_s = (uint32_t)now_s + AGAIN_S;
        (void)deadlines_add(&courier->deadlines, &deadline);
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
