/* Sorting is one look at the envelope. Recipients are ordered by destination, and each run of equal
 * ones becomes a consignment; the one that was taken becomes the first of them. */
#include "gateway/deliver/sorter.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

enum {
    TURN_MESSAGES = 1024,     /* in one turn, so that nothing else waits long */
    TURN_US = 3000,           /* likewise */
    LOOK_AT_CLOCK = 16,       /* messages between two looks */
    MOVING_US = 1000 * 1000,  /* what is being moved, or waits for a sibling, is looked at again */
    PRESSED_US = 1000 * 1000, /* without memory */
    CROWDED_US = 30 * 1000 * 1000, /* when mail waits for too many destinations */
};

/* What is no destination. */
enum { SORTER_DISCARD = UINT32_MAX - 1, SORTER_HOMELESS = UINT32_MAX - 2 };

/* Where a recipient goes. */
struct part {
    uint32_t destination;
    bool forwarded;
    uint32_t recipient;
};

/* Each goes through the spool in an order of its own. */
struct source {
    struct spool_reader reader;
    struct spool_ahead ahead;
};

struct sorter {
    struct sorter_options options;
    struct source sources[2]; /* [1]: of what has just arrived; [0]: of a backlog on disk */
    struct part *parts;
    uint32_t part_max;
};

static void sort(struct sorter *sorter, struct consignment *consignment);
static void line_again(struct sorter *sorter, struct consignment *consignment);
static bool merge(struct sorter *sorter, struct queue_message *message);

struct sorter *sorter_new(const struct sorter_options *options)
{
    struct sorter *sorter = calloc(1, sizeof *sorter);
    if (sorter == NULL)
        return NULL;
    sorter->options = *options;
    for (int i = 0; i < 2; i++)
        spool_read_ahead(&sorter->sources[i].reader, &sorter->sources[i].ahead);
    return sorter;
}

void sorter_free(struct sorter *sorter)
{
    if (sorter == NULL)
        return;
    for (int i = 0; i < 2; i++) {
        spool_read_close(&sorter->sources[i].reader);
        spool_ahead_free(&sorter->sources[i].ahead);
    }
    free(sorter->parts);
    free(sorter);
}

uint32_t sorter_run(struct sorter *sorter, bool discard_only)
{
    const struct sorter_options *options = &sorter->options;
    uint64_t now_us = options->worker->now_us, now_s = options->worker->now_wall_us / 1000000;
    uint32_t taken = 0;

    while (taken < TURN_MESSAGES && outcome_room(options->outcome)) {
        if (taken % LOOK_AT_CLOCK == LOOK_AT_CLOCK - 1 && clock_monotonic_us() - now_us > TURN_US)
            break;
        struct consignment *consignment = queue_take(options->queue, now_us);
        if (consignment == NULL)
            break;
        taken++;
        struct queue_message *message = consignment->message;
        if (message->moving)
            outcome_put_off(options->outcome, consignment, MOVING_US);
        else if (message->spool.release_s > now_s)
            outcome_put_off(options->outcome, consignment,
                            spool_message_hold_us(&message->spool, now_s));
        else if (discard_only && !message->unseen && outcome_sole(consignment))
            outcome_discard(options->outcome, consignment);
        else if (consignment->resort && !outcome_sole(consignment)) {
            consignment_ready(options->queue, consignment);
            if (!merge(sorter, message)) {
                consignment_grab(options->queue, consignment);
                outcome_put_off(options->outcome, consignment, MOVING_US);
            }
        } else if (consignment->destination == QUEUE_UNSORTED || consignment->resort)
            sort(sorter, consignment);
        else
            line_again(sorter, consignment);
    }
    return taken;
}

/* --- one message --- */

static int compare_parts(const void *left, const void *right)
{
    const struct part *a = left, *b = right;
    if (a->destination != b->destination)
        return a->destination < b->destination ? -1 : 1;
    if (a->forwarded != b->forwarded)
        return a->forwarded ? 1 : -1;
    return a->recipient < b->recipient ? -1 : a->recipient > b->recipient;
}

static bool same_part(const struct part *a, const struct part *b)
{
    return a->destination == b->destination && a->forwarded == b->forwarded;
}

static uint32_t destination_of(struct sorter *sorter, const struct route *route,
                               struct bytes mailbox)
{
    if (route == NULL)
        return SORTER_HOMELESS;
    if (route->kind == ROUTE_DISCARD)
        return SORTER_DISCARD;
    if (route->kind == ROUTE_MAILDIR)
        return SORTER_STORE;
    return destinations_find(sorter->options.destinations, route, route_mailbox_domain(mailbox));
}

/* Notes the time by which a message is to be delivered. Of one that was over before MAIL somebody
 * before us has told the sender (RFC 2852). */
static void note_terms(struct sorter *sorter, struct queue_message *message,
                       const struct envelope_terms *terms)
{
    if (terms->by_s == 0 || (terms->by_mode & ENVELOPE_BY_TOLD) || message->by_s != 0)
        return;
    message->by_s = terms->by_s;
    message->by_mode = terms->by_mode;
    (void)deadlines_add(sorter->options.deadlines,
                        &(struct deadline){.message_id = message->spool.message_id,
                                           .at_s = terms->by_s,
                                           .place = message->index});
}

/* Finds out where each open recipient goes. 0, or -errno. */
static int find_parts(struct sorter *sorter, const struct consignment *consignment, uint32_t *count)
{
    struct queue_message *message = consignment->message;
    struct spool_reader *reader = &sorter->sources[consignment->fresh].reader;
    struct envelope envelope;
    struct consign_walk walk;
    uint32_t total = message->spool.recipient_count;

    *count = 0;
    int error = spool_read(sorter->options.spool, &message->spool, reader, &envelope);
    if (error == 0 && envelope.recipient_count != total)
        error = -EBADMSG;
    if (error != 0)
        return error;
    note_terms(sorter, message, &envelope.terms);
    if (total > sorter->part_max) {
        struct part *parts = realloc(sorter->parts, total * sizeof *parts);
        if (parts == NULL)
            return -ENOMEM;
        sorter->parts = parts;
        sorter->part_max = total;
    }
    consign_walk_begin(&walk, sorter->options.rules->routes, spool_read_form(reader), total,
                       queue_finished_map(message), 0, 0);
    while (consign_walk_next(&walk)) {
        uint32_t destination = destination_of(sorter, walk.route, walk.recipient.forward_path);
        if (destination == 0)
            return -ENOBUFS;
        sorter->parts[(*count)++] =
            (struct part){destination, walk.recipient.forwarded, walk.index};
    }
    return 0;
}

/* How many of the parts from `start` on are one consignment. */
static uint32_t run_len(const struct part *parts, uint32_t start, uint32_t count)
{
    bool local = parts[start].destination >= SORTER_HOMELESS;
    uint32_t max = local ? UINT32_MAX : CONSIGN_RECIPIENTS;
    uint32_t end = start + 1;
    while (end < count && end - start < max && same_part(&parts[start], &parts[end]))
        end++;
    return end - start;
}

/* Throws a sorted consignment away, with a log line for each recipient. */
static void discard(struct sorter *sorter, struct consignment *consignment)
{
    outcome_failed(sorter->options.outcome, consignment, OUTCOME_DISCARD, "discard",
                   &(struct verdict){.kind = VERDICT_DELIVERED});
}

static void put(struct sorter *sorter, struct consignment *consignment)
{
    static const struct verdict homeless = {.kind = VERDICT_DEFERRED,
                                            .text = "the domain is not configured"};
    switch (consignment->destination) {
    case SORTER_STORE: line_append(sorter->options.stores, consignment); return;
    case SORTER_DISCARD: discard(sorter, consignment); return;
    case SORTER_HOMELESS:
        outcome_failed(sorter->options.outcome, consignment, OUTCOME_HOMELESS, "none", &homeless);
        return;
    default: destinations_line(sorter->options.destinations, consignment);
    }
}

static void give(struct consignment *consignment, const struct part *part, uint32_t count)
{
    consignment->destination = part->destination;
    consignment->first = part->recipient;
    consignment->recipient_count = count;
    consignment->resort = false;
}

/* The whole message, of which this is the only consignment. */
static void sort(struct sorter *sorter, struct consignment *consignment)
{
    struct queue *queue = sorter->options.queue;
    const struct part *parts;
    uint32_t count, runs = 0;

    CHECK(outcome_sole(consignment));
    outcome_unsort(sorter->options.outcome, consignment);
    int error = find_parts(sorter, consignment, &count);
    if (error == -ENOMEM || error == -ENOBUFS) {
        uint64_t delay_us = error == -ENOMEM ? PRESSED_US : CROWDED_US;
        outcome_put_off(sorter->options.outcome, consignment, delay_us);
        return;
    }
    if (error != 0 || count == 0) {
        outcome_unreadable(sorter->options.outcome, consignment, error != 0 ? error : -EBADMSG);
        return;
    }
    parts = sorter->parts;
    qsort(sorter->parts, count, sizeof *parts, compare_parts);
    for (uint32_t i = 0; i < count; i += run_len(parts, i, count))
        runs++;
    if (outcome_returned(sorter->options.outcome, consignment, OUTCOME_REMOTE))
        return;
    if (!queue_reserve_consignments(queue, runs - 1)) {
        outcome_put_off(sorter->options.outcome, consignment, PRESSED_US);
        return;
    }
    if (consignment->attempts < consignment->message->spool.attempts)
        consignment->attempts = consignment->message->spool.attempts;
    uint16_t attempts = consignment->attempts;
    /* The others first: none of them can be the last of its message while this one is TAKEN. */
    uint32_t first_len = run_len(parts, 0, count);
    give(consignment, &parts[0], first_len);
    for (uint32_t i = first_len, len; i < count; i += len) {
        struct consignment *other = queue_split(queue, consignment);
        len = run_len(parts, i, count);
        give(other, &parts[i], len);
        other->attempts = attempts;
        other->late = consignment->late;
        put(sorter, other);
    }
    put(sorter, consignment);
}

/* One that was sorted before, and comes back: the index of its destination may be another one by
 * now. */
static void line_again(struct sorter *sorter, struct consignment *consignment)
{
    const struct spool_message *message = &consignment->message->spool;
    struct spool_reader *reader = &sorter->sources[consignment->fresh].reader;
    struct envelope envelope;
    struct consign_walk walk;

    int error = spool_read(sorter->options.spool, message, reader, &envelope);
    if (error == 0 && envelope.recipient_count != message->recipient_count)
        error = -EBADMSG;
    if (error != 0) {
        outcome_unreadable(sorter->options.outcome, consignment, error);
        return;
    }
    consign_walk_begin(&walk, sorter->options.rules->routes, spool_read_form(reader),
                       envelope.recipient_count, queue_finished_map(consignment->message),
                       consignment->first, consignment->recipient_count);
    uint32_t destination = QUEUE_UNSORTED;
    if (outcome_returned(sorter->options.outcome, consignment, OUTCOME_REMOTE))
        return;
    if (consign_walk_next(&walk))
        destination = destination_of(sorter, walk.route, walk.recipient.forward_path);
    if (destination == 0) {
        outcome_put_off(sorter->options.outcome, consignment, CROWDED_US);
        return;
    }
    consignment->destination = destination;
    put(sorter, consignment);
}

/* --- reload --- */

void sorter_leave(struct sorter *sorter, struct consignment *consignment)
{
    if (consignment->state != CONSIGNMENT_LINED)
        consignment_grab(sorter->options.queue, consignment);
    else if (consignment->destination == SORTER_STORE)
        line_remove(sorter->options.stores, consignment);
    else
        destinations_leave(sorter->options.destinations, consignment);
}

/* Makes one unsorted consignment of all that a message has: due when the first of them was, or held
 * if the operator held one. False: one is under way. */
static bool merge(struct sorter *sorter, struct queue_message *message)
{
    const struct sorter_options *options = &sorter->options;
    struct consignment *kept = message->consignments;
    uint64_t due_us = UINT64_MAX;
    bool held = false;

    for (const struct consignment *one = kept; one != NULL; one = one->sibling) {
        if (one->state == CONSIGNMENT_TAKEN)
            return false;
        held = held || outcome_held_by_operator(options->outcome, one);
        uint64_t one_us = one->state == CONSIGNMENT_WAITING ? one->due_us : 0;
        due_us = one_us < due_us ? one_us : due_us;
    }
    sorter_leave(sorter, kept);
    uint16_t attempts = kept->attempts;
    while (kept->sibling != NULL || message->consignments != kept) { /* at most all of them */
        struct consignment *other =
            message->consignments != kept ? message->consignments : kept->sibling;
        sorter_leave(sorter, other);
        attempts = other->attempts > attempts ? other->attempts : attempts;
        outcome_forget(options->outcome, other);
    }
    kept->attempts = attempts;
    outcome_unsort(options->outcome, kept);
    if (held)
        outcome_hold(options->outcome, kept);
    else if (due_us > options->worker->now_us)
        consignment_wait(options->queue, kept, due_us);
    else
        consignment_ready(options->queue, kept);
    return true;
}

/* What is held for want of a route is due: there may be one now. */
static void free_homeless(struct sorter *sorter, struct consignment *consignment)
{
    const struct sorter_options *options = &sorter->options;

    if (consignment->state != CONSIGNMENT_HELD ||
        outcome_held_by_operator(options->outcome, consignment))
        return;
    consignment_grab(options->queue, consignment);
    consignment_ready(options->queue, consignment);
}

/* What one message has after a reload. */
static void reload_message(struct sorter *sorter, struct queue_message *message)
{
    const struct sorter_options *options = &sorter->options;
    struct consignment *first = message->consignments;

    for (struct consignment *one = first; one != NULL; one = one->sibling) {
        one->resort = true;
        free_homeless(sorter, one);
    }
    if (first->sibling == NULL && first->state != CONSIGNMENT_TAKEN)
        outcome_unsort(options->outcome, first);
    else if (first->sibling != NULL)
        (void)merge(sorter, message);
}

void sorter_again(struct sorter *sorter)
{
    const struct sorter_options *options = &sorter->options;

    queue_flush(options->queue, options->worker->now_us, false);
    for (size_t i = 0; i < queue_slots(options->queue); i++) {
        const struct queue_message *message = queue_at(options->queue, i);
        struct consignment *one = message == NULL ? NULL : message->consignments;
        for (; one != NULL; one = one->sibling)
            free_homeless(sorter, one);
    }
}

void sorter_reload(struct sorter *sorter)
{
    const struct sorter_options *options = &sorter->options;
    struct consignment *lined;

    while ((lined = destinations_empty(options->destinations)) != NULL ||
           (lined = line_take(options->stores)) != NULL)
        consignment_ready(options->queue, lined);
    queue_flush(options->queue, options->worker->now_us, false);
    for (size_t i = 0; i < queue_slots(options->queue); i++) {
        struct queue_message *message = queue_at(options->queue, i);
        if (message != NULL)
            reload_message(sorter, message);
    }
}
