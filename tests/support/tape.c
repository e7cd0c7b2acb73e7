/* The writer's end of a staging ring: see tape.h. */
#include "tests/support/tape.h"

#include <stdio.h>
#include <stdlib.h>

static void fault(struct tape *tape, const char *what, uint64_t number)
{
    if (tape->fault[0] == '\0')
        snprintf(tape->fault, sizeof(tape->fault), "%s (%llu)", what, (unsigned long long)number);
}

static struct tape_message *find(struct tape *tape, uint64_t id)
{
    for (int i = 0; i < TAPE_OPEN_MAX; i++)
        if (tape->open[i].id == id)
            return &tape->open[i];
    return NULL;
}

static void forget(struct tape_message *message)
{
    free(message->text);
    *message = (struct tape_message){0};
}

static void take_body(struct tape *tape, const struct record *record, const uint8_t *payload)
{
    struct tape_message *message = find(tape, record->message_id);
    if (message == NULL) {
        message = find(tape, 0);
        CHECK(message != NULL);
        message->id = record->message_id;
    }
    if (record->part != message->parts || record->payload_len == 0)
        fault(tape, "BODY out of order, or empty", record->part);
    message->parts++;
    message->text = realloc(message->text, message->len + record->payload_len);
    CHECK(message->text != NULL || record->payload_len == 0);
    memcpy(message->text + message->len, payload, record->payload_len);
    message->len += record->payload_len;
    tape->bodies++;
}

static void take_commit(struct tape *tape, const struct record *record, const uint8_t *payload)
{
    struct tape_message *message = find(tape, record->message_id);
    struct tape_message empty = {.id = record->message_id};
    struct tape_message taken = message != NULL ? *message : empty;
    if (message != NULL)
        *message = (struct tape_message){0};
    forget(&tape->last);
    tape->last = taken;
    free(tape->commit);
    tape->commit = malloc(record->payload_len);
    tape->commit_len = record->payload_len;
    CHECK(tape->commit != NULL);
    memcpy(tape->commit, payload, record->payload_len);
    if (!envelope_read(bytes_make(tape->commit, tape->commit_len), &tape->envelope))
        fault(tape, "malformed COMMIT", record->message_id);
    else if (tape->envelope.text_len != taken.len || tape->envelope.message_id != taken.id ||
             record->part != taken.parts)
        fault(tape, "COMMIT does not fit its text", tape->envelope.text_len);
    tape->commits++;
}

static void take_abort(struct tape *tape, const struct record *record)
{
    struct tape_message *message = find(tape, record->message_id);
    if (message == NULL || record->payload_len != 0)
        fault(tape, "ABORT of nothing", record->message_id);
    else
        forget(message);
    tape->aborts++;
}

static void take_record(struct tape *tape, const struct record *record, const uint8_t *payload)
{
    if (record->kind != RECORD_PAD &&
        record->payload_crc != crc32c(0, payload, record->payload_len))
        fault(tape, "wrong checksum", record->kind);
    if (record->kind != RECORD_PAD && record->message_id == 0)
        fault(tape, "no message id", record->kind);
    switch ((enum record_kind)record->kind) {
    case RECORD_PAD: return;
    case RECORD_BODY: take_body(tape, record, payload); return;
    case RECORD_COMMIT: take_commit(tape, record, payload); return;
    case RECORD_ABORT: take_abort(tape, record); return;
    case RECORD_DONE: break;
    }
    fault(tape, "unknown kind", record->kind);
}

/* Reads one stretch, which lies in one piece. */
static void read_stretch(struct tape *tape, uint64_t end)
{
    while (tape->at < end) {
        const struct record *record = (const void *)staging_at(tape->staging, tape->at);
        size_t size = record_size(record->payload_len);
        if (record->magic != RECORD_MAGIC || size > end - tape->at) {
            fault(tape, "no record", tape->at);
            tape->at = end;
            return;
        }
        take_record(tape, record, staging_at(tape->staging, tape->at + RECORD_HEADER));
        tape->at += size;
    }
}

void tape_read(struct tape *tape, enum staging_outcome outcome)
{
    struct staging *staging = tape->staging;
    for (;;) {
        struct staging_stretch shown = staging_shown(staging);
        if (shown.begin == shown.end)
            return;
        if (outcome != STAGING_DURABLE)
            staging_mark(staging, shown.begin, shown.end, outcome);
        tape->at = shown.begin;
        read_stretch(tape, shown.end);
        atomic_store(&staging->taken, shown.end);
        staging_settle(staging, shown.end);
    }
}

uint32_t tape_open_count(const struct tape *tape)
{
    uint32_t count = 0;
    for (int i = 0; i < TAPE_OPEN_MAX; i++)
        count += tape->open[i].id != 0;
    return count;
}

void tape_free(struct tape *tape)
{
    for (int i = 0; i < TAPE_OPEN_MAX; i++)
        forget(&tape->open[i]);
    forget(&tape->last);
    free(tape->commit);
    tape->commit = NULL;
}
