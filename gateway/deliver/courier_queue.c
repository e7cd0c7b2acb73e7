/* What ringmxctl asks for: the queue as rows, the destinations, and acting on them. Each call is an
 * errand to the courier's thread and does a bounded amount there. */
#include "gateway/deliver/courier_queue.h"

#include <errno.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/deliver/courier_inside.h"

enum {
    LOOKED_AT = 16384, /* messages, or destinations, in one call */
    ORDINAL_BITS = 24, /* of a cursor: which consignment of the message */
};

/* One call. */
struct inquiry {
    struct errand errand; /* first */
    uint64_t *cursor;
    struct courier_row *rows;
    struct courier_destination *destinations;
    struct courier_order *orders;
    struct courier_row *row;
    uint8_t *marks;
    struct courier_mark *mark;
    uint32_t count;
    enum courier_action action;
    uint64_t message_id;
    const uint32_t *recipients;
    int result;
};

static void copy_text(char *out, size_t size, const char *text)
{
    size_t len = strnlen(text, size - 1);
    memcpy(out, text, len);
    out[len] = '\0';
}

/* --- rows --- */

static uint64_t wall_s(const struct courier *courier, uint64_t monotonic_us)
{
    uint64_t now_us = courier->worker.now_us;
    uint64_t wait_us = monotonic_us > now_us ? monotonic_us - now_us : 0;
    return monotonic_us == 0 || monotonic_us == UINT64_MAX
               ? 0
               : (courier->worker.now_wall_us + wait_us) / 1000000;
}

/* Fills in where a consignment goes, and why it waits there. */
static void fill_destination(const struct courier *courier, const struct consignment *consignment,
                             struct courier_row *row)
{
    struct destination_snapshot snapshot;

    copy_text(row->reason, sizeof row->reason, reasons_text(courier->reasons, consignment->reason));
    if (consignment->destination == QUEUE_UNSORTED || consignment->destination == SORTER_STORE) {
        copy_text(row->destination, sizeof row->destination,
                  consignment->destination == SORTER_STORE ? "maildir" : "");
        return;
    }
    if (!destinations_snapshot(courier->destinations, consignment->destination, &snapshot)) {
        copy_text(row->destination, sizeof row->destination, "none");
        return;
    }
    copy_text(row->destination, sizeof row->destination, snapshot.name);
    if (consignment->state == CONSIGNMENT_LINED && snapshot.state == DESTINATION_DEAD) {
        copy_text(row->reason, sizeof row->reason, snapshot.reason);
        row->next_s = wall_s(courier, snapshot.retry_us);
    }
}

static void fill_row(const struct courier *courier, uint64_t place,
                     const struct consignment *consignment, struct courier_row *row)
{
    const struct queue_message *message = consignment->message;

    *row = (struct courier_row){.message = message->spool,
                                .place = place,
                                .first = consignment->first,
                                .recipient_count = consignment->recipient_count,
                                .open_count = message->open_count,
                                .state = consignment->state,
                                .attempts = consignment->attempts};
    /* What recovery knows of a message counts until it is sorted. */
    if (consignment->destination == QUEUE_UNSORTED && row->attempts < message->spool.attempts)
        row->attempts = message->spool.attempts;
    if (message->spool.recipient_count <= 64)
        row->finished = message->done.few;
    if (consignment->state == CONSIGNMENT_WAITING)
        row->next_s = wall_s(courier, consignment->due_us);
    if (row->next_s > 0 && row->next_s < message->spool.release_s)
        row->next_s = message->spool.release_s;
    fill_destination(courier, consignment, row);
}

static void run_list(struct courier *courier, struct errand *errand)
{
    struct inquiry *inquiry = (struct inquiry *)(void *)errand;
    uint64_t place = *inquiry->cursor >> ORDINAL_BITS;
    uint64_t skip = *inquiry->cursor & ((1u << ORDINAL_BITS) - 1);
    uint64_t slots = queue_slots(courier->queue);
    uint32_t filled = 0;

    for (uint32_t looked = 0; place < slots && looked < LOOKED_AT && filled < inquiry->count;
         looked++) {
        const struct queue_message *message = queue_at(courier->queue, place);
        const struct consignment *one = message == NULL ? NULL : message->consignments;
        uint64_t ordinal = 0;
        for (; one != NULL && filled < inquiry->count; one = one->sibling, ordinal++)
            if (ordinal >= skip)
                fill_row(courier, place, one, &inquiry->rows[filled++]);
        skip = one != NULL ? ordinal : 0;
        place += one == NULL;
    }
    *inquiry->cursor = place >= slots ? UINT64_MAX : place << ORDINAL_BITS | skip;
    inquiry->result = (int)filled;
    bell_ring(&errand->done);
}

int courier_list(struct courier *courier, uint64_t *cursor, struct courier_row *rows,
                 uint32_t count)
{
    struct inquiry inquiry = {
        .errand = {.run = run_list}, .cursor = cursor, .rows = rows, .count = count};
    if (*cursor == UINT64_MAX)
        return 0;
    return courier_errand(courier, &inquiry.errand) ? inquiry.result : -ESHUTDOWN;
}

/* The consignment that a row or an order named; NULL: it is gone. */
static struct consignment *find(const struct courier *courier, uint64_t message_id, uint64_t place,
                                uint32_t first)
{
    const struct queue_message *message =
        place < queue_slots(courier->queue) ? queue_at(courier->queue, place) : NULL;
    if (message == NULL || message->spool.message_id != message_id)
        return NULL;
    struct consignment *one = message->consignments;
    while (one != NULL && one->first != first)
        one = one->sibling;
    return one;
}

static void run_marks(struct courier *courier, struct errand *errand)
{
    struct inquiry *inquiry = (struct inquiry *)(void *)errand;
    struct courier_row *row = inquiry->row;
    const struct consignment *one = find(courier, row->message.message_id, row->place, row->first);
    size_t size = ((size_t)row->message.recipient_count + 63) / 64 * 8;

    inquiry->result = one == NULL || size > COURIER_MARKS_SIZE ? -ENOENT : 0;
    if (inquiry->result == 0) {
        const uint8_t *marks = queue_finished_map(one->message);
        if (marks != NULL)
            memcpy(inquiry->marks, marks, size);
        else
            memset(inquiry->marks, 0, size);
        row->recipient_count = one->recipient_count;
        row->open_count = one->message->open_count;
    }
    bell_ring(&errand->done);
}

int courier_marks(struct courier *courier, struct courier_row *row,
                  uint8_t marks[COURIER_MARKS_SIZE])
{
    struct inquiry inquiry = {.errand = {.run = run_marks}, .row = row, .marks = marks};
    CHECK(row->message.recipient_count > 64);
    return courier_errand(courier, &inquiry.errand) ? inquiry.result : -ESHUTDOWN;
}

static void run_destinations(struct courier *courier, struct errand *errand)
{
    struct inquiry *inquiry = (struct inquiry *)(void *)errand;
    uint64_t index = *inquiry->cursor == 0 ? 1 : *inquiry->cursor;
    uint64_t count = destinations_count(courier->destinations);
    uint32_t filled = 0;

    for (uint32_t looked = 0; index <= count && looked < LOOKED_AT && filled < inquiry->count;
         looked++, index++) {
        struct destination_snapshot snapshot;
        if (!destinations_snapshot(courier->destinations, (uint32_t)index, &snapshot))
            continue;
        struct courier_destination *row = &inquiry->destinations[filled++];
        *row = (struct courier_destination){.state = (uint8_t)snapshot.state,
                                            .queued = snapshot.lined,
                                            .connections = snapshot.connections,
                                            .busy = snapshot.busy,
                                            .delivered = snapshot.delivered,
                                            .deferred = snapshot.deferred,
                                            .refused = snapshot.refused,
                                            .retry_s = wall_s(courier, snapshot.retry_us)};
        copy_text(row->name, sizeof row->name, snapshot.name);
        copy_text(row->reason, sizeof row->reason, snapshot.reason);
    }
    *inquiry->cursor = index > count ? UINT64_MAX : index;
    inquiry->result = (int)filled;
    bell_ring(&errand->done);
}

int courier_destinations(struct courier *courier, uint64_t *cursor,
                         struct courier_destination *rows, uint32_t count)
{
    struct inquiry inquiry = {.errand = {.run = run_destinations},
                              .cursor = cursor,
                              .destinations = rows,
                              .count = count};
    if (*cursor == UINT64_MAX)
        return 0;
    return courier_errand(courier, &inquiry.errand) ? inquiry.result : -ESHUTDOWN;
}

/* --- acting --- */

/* Is there room for the notes of acting on a message? Its recipients may each be one, and what the
 * ledger keeps for last words stays free. */
static bool has_room(const struct courier *courier, enum courier_action action,
                     const struct queue_message *message)
{
    return action == COURIER_RETRY ||
           (outcome_room(courier->outcome) &&
            ledger_room(courier->ledger) > LEDGER_ITEMS / 4 + message->open_count);
}

/* Acts on one consignment, which is not TAKEN. Returns how many recipients it concerned. */
static int act(struct courier *courier, enum courier_action action, struct consignment *consignment,
               const uint32_t *recipients, uint32_t recipient_count)
{
    enum consignment_state state = consignment->state;
    bool held = state == CONSIGNMENT_HELD;
    int count = (int)(consignment->recipient_count != 0 ? consignment->recipient_count
                                                        : consignment->message->open_count);

    switch (action) {
    case COURIER_RETRY:
        if (consignment->state == CONSIGNMENT_LINED && consignment->destination != SORTER_STORE)
            destinations_retry(courier->destinations, consignment->destination,
                               courier->worker.now_us);
        if (consignment->message->spool.release_s > courier->worker.now_wall_us / 1000000)
            return 0; /* its sender's wish (RFC 4865) */
        if (consignment->state != CONSIGNMENT_WAITING)
            return held ? 0 : count;
        sorter_leave(courier->sorter, consignment);
        consignment_ready(courier->queue, consignment);
        return count;
    case COURIER_HOLD:
        if (outcome_held_by_operator(courier->outcome, consignment))
            return 0;
        sorter_leave(courier->sorter, consignment);
        outcome_hold(courier->outcome, consignment);
        return count;
    case COURIER_RELEASE:
        if (!held)
            return 0;
        sorter_leave(courier->sorter, consignment);
        outcome_release(courier->outcome, consignment);
        return count;
    case COURIER_REMOVE:
        sorter_leave(courier->sorter, consignment);
        return outcome_remove(courier->outcome, consignment, recipients, recipient_count,
                              state == CONSIGNMENT_LINED ? CONSIGNMENT_READY : state);
    }
    CHECK(false);
}

/* Does a consignment have one of these open recipients? Without reading it: all of the message's,
 * when it is the only one. */
static bool concerns(struct courier *courier, struct consignment *consignment,
                     const uint32_t *recipients, uint32_t count)
{
    struct consign *consign;
    bool found = false;

    if (recipients == NULL)
        return true;
    if (consign_open(courier->consigns, consignment, courier->rules.routes, NULL, 0, &consign) != 0)
        return false;
    for (uint32_t i = 0; i < consign->delivery.recipient_count && !found; i++)
        for (uint32_t n = 0; n < count && !found; n++)
            found = consign->delivery.recipients[i].index == recipients[n];
    consign_close(consign);
    return found;
}

static void run_act(struct courier *courier, struct errand *errand)
{
    struct inquiry *inquiry = (struct inquiry *)(void *)errand;
    struct queue_message *message = queue_find(courier->queue, inquiry->message_id);
    struct consignment *one = message == NULL ? NULL : message->consignments;
    bool busy = message != NULL && message->moving;
    int concerned = 0, error = 0;

    bool room = message == NULL || has_room(courier, inquiry->action, message);
    inquiry->result = message == NULL ? -ENOENT : room ? -EBUSY : -EAGAIN;
    if (message == NULL || message->moving || !room)
        one = NULL;
    while (one != NULL) { /* the last one may take its message along */
        struct consignment *next = one->sibling;
        if (one->state == CONSIGNMENT_TAKEN) {
            busy = true;
        } else if (concerns(courier, one, inquiry->recipients, inquiry->count)) {
            int count = act(courier, inquiry->action, one, inquiry->recipients, inquiry->count);
            concerned += count > 0 ? count : 0;
            error = count < 0 ? count : error;
        }
        one = next;
    }
    if (message != NULL && room && (concerned > 0 || !busy))
        inquiry->result = concerned > 0 ? concerned : error;
    bell_ring(&errand->done);
}

int courier_act(struct courier *courier, enum courier_action action, uint64_t message_id,
                const uint32_t *recipients, uint32_t recipient_count)
{
    struct inquiry inquiry = {.errand = {.run = run_act},
                              .action = action,
                              .message_id = message_id,
                              .recipients = recipients,
                              .count = recipient_count};
    return courier_errand(courier, &inquiry.errand) ? inquiry.result : -ESHUTDOWN;
}

static int carry_out(struct courier *courier, enum courier_action action,
                     const struct courier_order *order)
{
    struct consignment *one = find(courier, order->message_id, order->place, order->first);
    if (one == NULL)
        return -ENOENT;
    if (one->message->moving || one->state == CONSIGNMENT_TAKEN)
        return -EBUSY;
    if (!has_room(courier, action, one->message))
        return -EAGAIN;
    return act(courier, action, one, order->recipients, order->recipient_count);
}

static void run_orders(struct courier *courier, struct errand *errand)
{
    struct inquiry *inquiry = (struct inquiry *)(void *)errand;
    for (uint32_t i = 0; i < inquiry->count; i++)
        inquiry->orders[i].result = carry_out(courier, inquiry->action, &inquiry->orders[i]);
    bell_ring(&errand->done);
}

int courier_act_many(struct courier *courier, enum courier_action action,
                     struct courier_order *orders, uint32_t count)
{
    struct inquiry inquiry = {
        .errand = {.run = run_orders}, .action = action, .orders = orders, .count = count};
    CHECK(count <= COURIER_ORDERS_MAX);
    return courier_errand(courier, &inquiry.errand) ? 0 : -ESHUTDOWN;
}

static void run_written(struct courier *courier, struct errand *errand)
{
    struct inquiry *inquiry = (struct inquiry *)(void *)errand;
    struct courier_mark *mark = inquiry->mark;
    if (!mark->set)
        *mark = (struct courier_mark){ledger_mark(courier->ledger), true};
    inquiry->result = ledger_durable(courier->ledger, &mark->ledger);
    bell_ring(&errand->done);
}

int courier_written(struct courier *courier, struct courier_mark *mark)
{
    struct inquiry inquiry = {.errand = {.run = run_written}, .mark = mark};
    return courier_errand(courier, &inquiry.errand) ? inquiry.result : -ESHUTDOWN;
}
