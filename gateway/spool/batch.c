/* Gathering and sealing. Sealing reads every record header once and writes it once: it is the only
 * work that the writer does for each record. */
#include "gateway/spool/batch.h"

#include "gateway/spool/envelope.h"

#include <stdlib.h>

enum {
    /* The smallest COMMIT record bounds how many can be in a batch, or in a group that exceeds it.
     */
    BATCH_COMMIT_MIN = RECORD_HEADER + sizeof(struct envelope_head),
    BATCH_ARRIVALS = (BATCH_MAX + LIMIT_GROUP) / BATCH_COMMIT_MIN + 2,
};

bool batch_init(struct batch *batch)
{
    *batch = (struct batch){0};
    /* Untouched pages cost nothing. */
    batch->arrivals = calloc(BATCH_ARRIVALS, sizeof *batch->arrivals);
    batch->orphans = calloc(BATCH_ARRIVALS, sizeof *batch->orphans);
    return pending_init(&batch->pending) && batch->arrivals != NULL && batch->orphans != NULL;
}

void batch_free(struct batch *batch)
{
    pending_free(&batch->pending);
    free(batch->arrivals);
    free(batch->orphans);
}

static struct record *record_at(const struct staging *staging, uint64_t position)
{
    struct record *record = (struct record *)staging_at(staging, position);
    CHECK(record->magic == RECORD_MAGIC);
    return record;
}

/* Returns the last place in (begin, end] where the stretch can be cut with at most `room` octets
 * before it, or `begin`; with `first`, the first such place whatever the room. */
static uint64_t find_cut(const struct staging *staging, uint64_t begin, uint64_t end, uint64_t room,
                         bool first)
{
    uint64_t cut = begin;
    for (uint64_t at = begin; at < end;) {
        at += record_size(record_at(staging, at)->payload_len);
        if (at - begin > room && !(first && cut == begin))
            break;
        if (at % LIMIT_BLOCK == 0)
            cut = at;
        if (first && cut != begin)
            break;
    }
    return cut;
}

static void take(struct batch *batch, struct staging *staging, uint32_t port, uint64_t begin,
                 uint64_t end)
{
    batch->stretches[batch->stretch_count++] = (struct batch_stretch){staging, port, begin, end};
    batch->octets += end - begin;
    /* Sequentially consistent: staging_publish depends on it. */
    atomic_store(&staging->taken, end);
}

uint64_t batch_gather(struct batch *batch, struct staging *const *rings, uint32_t count,
                      uint64_t room, bool at_least_one)
{
    batch->stretch_count = 0;
    batch->octets = 0;
    if (room > BATCH_MAX)
        room = BATCH_MAX;
    struct staging *oversized = NULL;
    uint32_t oversized_port = 0;
    for (uint32_t i = 0; i < count && (batch->octets < room || batch->octets == 0); i++) {
        uint32_t port = (batch->first_port + i) % count;
        struct staging *staging = rings[port];
        struct staging_stretch shown = staging_shown(staging);
        uint64_t begin = shown.begin, end = shown.end;
        uint64_t left = room - batch->octets;
        uint64_t cut = end - begin <= left ? end : find_cut(staging, begin, end, left, false);
        if (cut != begin) {
            take(batch, staging, port, begin, cut);
        } else if (begin != end && oversized == NULL) {
            oversized = staging;
            oversized_port = port;
        }
    }
    if (batch->octets == 0 && oversized != NULL && at_least_one) {
        struct staging_stretch shown = staging_shown(oversized);
        take(batch, oversized, oversized_port, shown.begin,
             find_cut(oversized, shown.begin, shown.end, 0, true));
    }
    batch->first_port++;
    return batch->octets;
}

/* A record in the middle of being sealed. */
struct sealing {
    struct batch *batch;
    uint32_t stretch;
    uint64_t position;
    uint32_t offset; /* in the segment */
    struct record *record;
};

/* Turns a record into nothing: its message has lost records and will not live. */
static void orphan(const struct sealing *at)
{
    struct batch *batch = at->batch;
    struct record *record = at->record;
    if (record->kind == RECORD_COMMIT) {
        CHECK(batch->orphan_count < BATCH_ARRIVALS);
        uint64_t end = at->position + record_size(record->payload_len);
        batch->orphans[batch->orphan_count++] =
            (struct batch_orphan){at->stretch, at->position, end};
    }
    record->kind = RECORD_PAD;
    record->message_id = 0;
    record->part = 0;
}

static void seal_body(const struct sealing *at)
{
    struct batch *batch = at->batch;
    struct record *record = at->record;
    uint32_t port = batch->stretches[at->stretch].port;
    bool begins = record->part == 0;
    struct pending *pending = begins ? pending_begin(&batch->pending, port, record->message_id)
                                     : pending_find(&batch->pending, port, record->message_id);
    if (pending == NULL) {
        orphan(at);
        return;
    }
    CHECK(pending->parts == record->part);
    record->previous_generation = pending->last_generation;
    record->previous_offset = pending->last_offset;
    if (begins) {
        pending->first_generation = batch->generation;
        pending->first_offset = at->offset;
        batch->opened++;
    }
    pending->last_generation = batch->generation;
    pending->last_offset = at->offset;
    pending->parts++;
    pending->text_len += record->payload_len;
}

static_assert((int)LIMIT_PORTS <= (int)SPOOL_PORT_NONE, "a message has an octet for its port");

static void seal_commit(const struct sealing *at)
{
    struct batch *batch = at->batch;
    struct record *record = at->record;
    const struct batch_stretch *stretch = &batch->stretches[at->stretch];
    struct envelope_head head;
    CHECK(record->payload_len >= sizeof head && batch->arrival_count < BATCH_ARRIVALS);
    memcpy(&head, record + 1, sizeof head);
    struct envelope_terms terms = envelope_terms_of(bytes_make(record + 1, record->payload_len));
    struct spool_message message = {.message_id = record->message_id,
                                    .first_generation = batch->generation,
                                    .first_offset = at->offset,
                                    .generation = batch->generation,
                                    .offset = at->offset,
                                    .text_len = head.text_len,
                                    .arrival_s = (uint32_t)(head.arrival_us / 1000000),
                                    .release_s = terms.release_s,
                                    .recipient_count = head.recipient_count,
                                    .port = (uint8_t)stretch->port,
                                    .priority = terms.priority,
                                    .position = at->position};
    CHECK(head.message_id == record->message_id && record->message_id != 0);
    if (record->part == 0) {
        CHECK(head.text_len == 0);
        batch->opened++;
    } else {
        struct pending *pending = pending_find(&batch->pending, stretch->port, record->message_id);
        if (pending == NULL) {
            orphan(at);
            return;
        }
        CHECK(pending->parts == record->part && pending->text_len == head.text_len);
        record->previous_generation = pending->last_generation;
        record->previous_offset = pending->last_offset;
        message.first_generation = pending->first_generation;
        message.first_offset = pending->first_offset;
        pending_remove(&batch->pending, pending);
    }
    batch->arrivals[batch->arrival_count++] = message;
}

/* Ends an open message without COMMIT. */
static void drop(struct batch *batch, struct pending *pending)
{
    if (batch_contains(batch, pending->first_generation, pending->first_offset))
        batch->opened--;
    else
        batch->dropped(batch->user, pending->first_generation);
    pending_remove(&batch->pending, pending);
}

static void seal_abort(const struct sealing *at)
{
    struct batch *batch = at->batch;
    uint32_t port = batch->stretches[at->stretch].port;
    struct pending *pending = pending_find(&batch->pending, port, at->record->message_id);
    if (pending == NULL) {
        orphan(at);
        return;
    }
    at->record->previous_generation = pending->last_generation;
    at->record->previous_offset = pending->last_offset;
    drop(batch, pending);
}

/* The place of a record is known: its header is finished. */
static void seal_header(const struct batch *batch, struct record *record, uint32_t offset)
{
    record->generation = batch->generation;
    record->sequence = batch->sequence;
    record->batch_end = (uint32_t)(batch->offset + batch->octets);
    record->header_crc = record_header_crc(record, batch->salt, offset);
}

static void seal_record(const struct sealing *at)
{
    switch ((enum record_kind)at->record->kind) {
    case RECORD_BODY: seal_body(at); break;
    case RECORD_COMMIT: seal_commit(at); break;
    case RECORD_ABORT: seal_abort(at); break;
    case RECORD_DONE:
    case RECORD_PAD: break;
    }
    seal_header(at->batch, at->record, at->offset);
}

void batch_seal(struct batch *batch, uint64_t generation, uint64_t offset, uint64_t sequence)
{
    CHECK(offset + batch->octets <= UINT32_MAX);
    batch->generation = generation;
    batch->offset = offset;
    batch->sequence = sequence;
    batch->opened = 0;
    batch->opened_octets = 0;
    batch->arrival_count = 0;
    batch->orphan_count = 0;
    struct sealing at = {.batch = batch, .offset = (uint32_t)offset};
    for (at.stretch = 0; at.stretch < batch->stretch_count; at.stretch++) {
        const struct batch_stretch *stretch = &batch->stretches[at.stretch];
        for (at.position = stretch->begin; at.position < stretch->end;) {
            at.record = record_at(stretch->staging, at.position);
            size_t size = record_size(at.record->payload_len);
            seal_record(&at);
            at.position += size;
            at.offset += (uint32_t)size;
        }
        CHECK(at.position == stretch->end);
    }
    for (size_t i = 0; i < batch->arrival_count; i++) {
        const struct spool_message *message = &batch->arrivals[i];
        if (batch_contains(batch, message->first_generation, message->first_offset))
            batch->opened_octets += spool_message_octets(message);
    }
}

/* Moves a place along if it lies in the batch's old place. */
static void move_place(const struct batch *old, const struct batch *new, uint64_t *generation,
                       uint32_t *offset)
{
    if (batch_contains(old, *generation, *offset)) {
        *generation = new->generation;
        *offset = (uint32_t)(*offset - old->offset + new->offset);
    }
}

void batch_move(struct batch *batch, uint64_t generation, uint64_t offset, uint64_t sequence)
{
    const struct batch old = {
        .generation = batch->generation, .offset = batch->offset, .octets = batch->octets};
    CHECK(offset + batch->octets <= UINT32_MAX);
    batch->generation = generation;
    batch->offset = offset;
    batch->sequence = sequence;
    for (uint32_t i = 0; i < batch->stretch_count; i++) {
        const struct batch_stretch *stretch = &batch->stretches[i];
        for (uint64_t position = stretch->begin; position < stretch->end;) {
            struct record *record = record_at(stretch->staging, position);
            move_place(&old, batch, &record->previous_generation, &record->previous_offset);
            seal_header(batch, record, (uint32_t)offset);
            size_t size = record_size(record->payload_len);
            position += size;
            offset += size;
        }
    }
    uint32_t cursor = 0;
    for (struct pending *pending = pending_next(&batch->pending, &cursor); pending != NULL;
         pending = pending_next(&batch->pending, &cursor)) {
        move_place(&old, batch, &pending->first_generation, &pending->first_offset);
        move_place(&old, batch, &pending->last_generation, &pending->last_offset);
    }
    for (size_t i = 0; i < batch->arrival_count; i++) {
        struct spool_message *message = &batch->arrivals[i];
        move_place(&old, batch, &message->first_generation, &message->first_offset);
        move_place(&old, batch, &message->generation, &message->offset);
    }
}

bool batch_contains(const struct batch *batch, uint64_t generation, uint32_t offset)
{
    return generation == batch->generation && offset >= batch->offset &&
           offset - batch->offset < batch->octets;
}

int batch_parts(const struct batch *batch, struct iovec parts[LIMIT_PORTS])
{
    for (uint32_t i = 0; i < batch->stretch_count; i++) {
        const struct batch_stretch *stretch = &batch->stretches[i];
        parts[i] = (struct iovec){.iov_base = staging_at(stretch->staging, stretch->begin),
                                  .iov_len = stretch->end - stretch->begin};
    }
    return (int)batch->stretch_count;
}

void batch_settle(struct batch *batch)
{
    for (size_t i = 0; i < batch->orphan_count; i++) {
        const struct batch_orphan *at = &batch->orphans[i];
        staging_mark(batch->stretches[at->stretch].staging, at->begin, at->end, STAGING_FAILED);
    }
    for (uint32_t i = 0; i < batch->stretch_count; i++)
        staging_settle(batch->stretches[i].staging, batch->stretches[i].end);
}

void batch_fail(struct batch *batch, enum staging_outcome outcome)
{
    uint32_t cursor = 0;
    uint32_t before = 0;
    for (struct pending *pending = pending_next(&batch->pending, &cursor); pending != NULL;
         pending = pending_next(&batch->pending, &cursor)) {
        if (batch_contains(batch, pending->last_generation, pending->last_offset)) {
            drop(batch, pending);
            cursor = before;
        }
        before = cursor;
    }
    for (size_t i = 0; i < batch->arrival_count; i++) {
        const struct spool_message *message = &batch->arrivals[i];
        if (!batch_contains(batch, message->first_generation, message->first_offset))
            batch->dropped(batch->user, message->first_generation);
    }
    batch->arrival_count = 0;
    batch->opened = 0;
    for (uint32_t i = 0; i < batch->stretch_count; i++) {
        const struct batch_stretch *stretch = &batch->stretches[i];
        staging_mark(stretch->staging, stretch->begin, stretch->end, outcome);
        staging_settle(stretch->staging, stretch->end);
    }
}
