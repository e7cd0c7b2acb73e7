/* One ring of outcomes in order: [head, staged) stand in records that the writer has, [staged,
 * tail) wait to be written. What failed moves from the front to the back, so the ring needs no room
 * for it. */
#include "gateway/deliver/ledger.h"

#include <stdlib.h>

#include "gateway/base/check.h"

enum {
    RECORDS = 1024,      /* DONE records on their way at most */
    RECORD_DONES = 4096, /* outcomes in one: 96 KiB */
    RETRY_US = 1000 * 1000,
    FULL_RING_US = 10 * 1000, /* look again after this, if nothing wakes us before */
    OWN_RECORDS = 64,         /* of RECORDS, what followers leave to the ledger */
};

struct item {
    union {
        struct spool_message message; /* if finished */
        struct record_done done;
    };
    bool finished;
};

/* A record that the writer has: of `count` outcomes, or another's (`settled` is set). */
struct sent {
    uint64_t position;
    uint32_t count;
    void (*settled)(void *user, enum staging_outcome outcome);
    void *user;
};

struct ledger {
    struct spool *spool;
    struct staging *staging;
    uint64_t head, staged, tail; /* of items; they only grow */
    uint64_t waiting_since_us;   /* [staged, tail) */
    uint64_t not_before_us;      /* after a failure */
    uint64_t failed;
    bool hurry;
    uint32_t sent_head, sent_tail;
    struct sent sent[RECORDS];
    struct item items[LEDGER_ITEMS];
};

static struct item *add(struct ledger *ledger, uint64_t now_us);
static bool write_record(struct ledger *ledger, uint32_t count);
static struct record_done done_of(const struct item *item);

struct ledger *ledger_new(struct spool *spool, struct staging *staging)
{
    struct ledger *ledger = calloc(1, sizeof *ledger);
    if (ledger != NULL) {
        ledger->spool = spool;
        ledger->staging = staging;
    }
    return ledger;
}

void ledger_free(struct ledger *ledger)
{
    free(ledger);
}

size_t ledger_room(const struct ledger *ledger)
{
    return LEDGER_ITEMS - (size_t)(ledger->tail - ledger->head);
}

void ledger_note(struct ledger *ledger, const struct record_done *done, uint64_t now_us)
{
    struct item *item = add(ledger, now_us);
    item->done = *done;
    item->finished = false;
}

void ledger_finish(struct ledger *ledger, const struct spool_message *message, uint64_t now_us)
{
    struct item *item = add(ledger, now_us);
    item->message = *message;
    item->finished = true;
}

void ledger_hurry(struct ledger *ledger)
{
    ledger->hurry = true;
}

/* release lets a finished message go. On a full disk that happens before its outcome is written:
 * only a segment that is given up makes room for that. The outcome itself is still owed; a crash
 * before it is durable means a second delivery, as at-least-once allows. */
static void release(struct ledger *ledger, struct item *item)
{
    struct record_done done = done_of(item);
    spool_release(ledger->spool, &item->message);
    item->done = done;
    item->finished = false;
}

bool ledger_settle(struct ledger *ledger, uint64_t now_us)
{
    uint64_t settled = staging_settled(ledger->staging);
    uint32_t first = ledger->sent_head;

    while (ledger->sent_head != ledger->sent_tail) {
        const struct sent *sent = &ledger->sent[ledger->sent_head % RECORDS];
        if (sent->position > settled)
            break;
        enum staging_outcome outcome = staging_outcome(ledger->staging, sent->position);
        CHECK(outcome != STAGING_WAITING);
        ledger->sent_head++;
        if (sent->settled != NULL) {
            sent->settled(sent->user, outcome);
            continue;
        }
        if (outcome != STAGING_DURABLE) {
            ledger->failed++;
            ledger->not_before_us = now_us + RETRY_US;
        }
        for (uint32_t i = 0; i < sent->count; i++) {
            struct item item = ledger->items[ledger->head++ % LEDGER_ITEMS];
            if (item.finished && outcome != STAGING_FAILED)
                release(ledger, &item);
            if (outcome != STAGING_DURABLE)
                ledger->items[ledger->tail++ % LEDGER_ITEMS] = item;
        }
    }
    staging_acknowledge(ledger->staging, settled);
    return ledger->sent_head != first;
}

void ledger_write(struct ledger *ledger, uint64_t now_us, bool all)
{
    if (ledger->staged == ledger->tail || now_us < ledger_next_us(ledger, all))
        return;
    ledger->hurry = false;
    while (ledger->staged != ledger->tail) {
        uint64_t waiting = ledger->tail - ledger->staged;
        uint32_t count = waiting < RECORD_DONES ? (uint32_t)waiting : RECORD_DONES;
        if (!write_record(ledger, count)) {
            ledger->not_before_us = now_us + FULL_RING_US;
            break;
        }
    }
    staging_publish(ledger->staging, all);
}

uint64_t ledger_marker(struct ledger *ledger)
{
    if (!write_record(ledger, 0))
        return 0;
    staging_publish(ledger->staging, false);
    return ledger->sent[(ledger->sent_tail - 1) % RECORDS].position;
}

bool ledger_can_follow(const struct ledger *ledger)
{
    return ledger->sent_tail - ledger->sent_head < RECORDS - OWN_RECORDS;
}

void ledger_follow(struct ledger *ledger, uint64_t position,
                   void (*settled)(void *user, enum staging_outcome outcome), void *user)
{
    CHECK(ledger->sent_tail - ledger->sent_head < RECORDS);
    ledger->sent[ledger->sent_tail++ % RECORDS] =
        (struct sent){.position = position, .settled = settled, .user = user};
}

uint64_t ledger_next_us(const struct ledger *ledger, bool all)
{
    uint64_t waiting = ledger->tail - ledger->staged;
    uint64_t due_us = ledger->waiting_since_us + LEDGER_DELAY_US;

    if (waiting == 0)
        return UINT64_MAX;
    if (all || ledger->hurry || waiting >= LEDGER_GROUP)
        due_us = 0;
    return due_us > ledger->not_before_us ? due_us : ledger->not_before_us;
}

struct ledger_mark ledger_mark(const struct ledger *ledger)
{
    return (struct ledger_mark){ledger->tail, ledger->failed};
}

bool ledger_durable(const struct ledger *ledger, struct ledger_mark *mark)
{
    if (mark->failed != ledger->failed)
        *mark = ledger_mark(ledger);
    return ledger->head >= mark->end;
}

size_t ledger_open(const struct ledger *ledger)
{
    return (size_t)(ledger->tail - ledger->head);
}

uint64_t ledger_failed(const struct ledger *ledger)
{
    return ledger->failed;
}

static struct item *add(struct ledger *ledger, uint64_t now_us)
{
    CHECK(ledger_room(ledger) > 0);
    if (ledger->staged == ledger->tail)
        ledger->waiting_since_us = now_us;
    return &ledger->items[ledger->tail++ % LEDGER_ITEMS];
}

/* Makes one DONE record of the next `count` outcomes. False: the ring or the list of records is
 * full. */
static bool write_record(struct ledger *ledger, uint32_t count)
{
    if (ledger->sent_tail - ledger->sent_head == RECORDS)
        return false;
    size_t len = count * sizeof(struct record_done);
    uint8_t *payload = staging_reserve(ledger->staging, len);
    if (payload == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct record_done done = done_of(&ledger->items[ledger->staged++ % LEDGER_ITEMS]);
        memcpy(payload + i * sizeof done, &done, sizeof done);
    }
    uint64_t position = staging_append(ledger->staging, RECORD_DONE, 0, 0, len);
    ledger->sent[ledger->sent_tail++ % RECORDS] =
        (struct sent){.position = position, .count = count};
    return true;
}

/* The last word on a message stands for all its recipients, whatever was noted before. */
static struct record_done done_of(const struct item *item)
{
    if (!item->finished)
        return item->done;
    return (struct record_done){.message_id = item->message.message_id,
                                .recipient = RECORD_ALL_RECIPIENTS,
                                .attempts = item->message.attempts,
                                .outcome = RECORD_DELIVERED};
}
