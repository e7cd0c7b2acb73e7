/* Recovery in three steps: list the files, walk the records in the order in which they were
 * written, hand over what lives. What is damaged is named in the log and stepped over; nothing is
 * guessed. */
#include "gateway/spool/recovery.h"

#include "gateway/base/check.h"
#include "gateway/base/id.h"
#include "gateway/spool/listing.h"
#include "gateway/spool/living.h"
#include "gateway/spool/scan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct recovery {
    struct spool *spool;
    struct log_port *log;
    struct listing listing;
    struct scan scan;
    struct living_table living;
    struct pending_table open; /* messages before their COMMIT */
    uint64_t highest;          /* sequence of the last batch of all */
    uint64_t previous_highest; /* of the segment before the one that is walked */
    uint64_t message_id_max;
    uint64_t log_end; /* where the log ends in the segment that was walked last; 0: damaged there */
    bool no_memory;
};

/* Where the walk stands. */
struct walk {
    struct recovery *recovery;
    struct segment *segment;
    const struct scan_item *item;
};

static void count_damage(struct recovery *recovery, struct segment *segment, uint64_t octets)
{
    segment->damaged = true;
    atomic_fetch_add(&recovery->spool->records_damaged, 1);
    atomic_fetch_add(&recovery->spool->octets_damaged, octets);
}

static void report_gap(const struct walk *walk, uint64_t end)
{
    uint64_t offset = walk->item->offset;
    count_damage(walk->recovery, walk->segment, end - offset);
    log_message(walk->recovery->log, LOG_ERROR, "spool.damaged",
                "segment %016" PRIx64 ": %" PRIu64 " octets at %" PRIu64
                " are damaged; messages may be lost",
                walk->segment->generation, end - offset, offset);
}

static void report_payload(const struct walk *walk)
{
    const struct scan_item *item = walk->item;
    char id[ID_TEXT_LEN + 1];
    id_format(item->header.message_id, id);
    count_damage(walk->recovery, walk->segment, record_size(item->header.payload_len));
    log_message(walk->recovery->log, LOG_ERROR, "spool.damaged",
                "segment %016" PRIx64 ": a record of %" PRIu32 " octets at %" PRIu64
                " is damaged; kind %d, message %s",
                walk->segment->generation, item->header.payload_len, item->offset,
                item->header.kind, item->header.message_id != 0 ? id : "none");
}

/* Puts a PAD over [from, to), which is in a batch that nobody got an answer for, so that the next
 * recovery does not take the tear for damage. The block that it begins in is written anew. */
static int write_cut(const struct walk *walk, uint64_t from, uint64_t to, uint64_t sequence)
{
    const struct volume *volume = &walk->recovery->spool->volume;
    uint64_t start = from & ~(uint64_t)(LIMIT_BLOCK - 1);
    /* The header may go over the end of its block. */
    size_t len = from + RECORD_HEADER > start + LIMIT_BLOCK ? 2 * LIMIT_BLOCK : LIMIT_BLOCK;
    uint8_t *blocks = aligned_alloc(LIMIT_BLOCK, 2 * LIMIT_BLOCK);
    int error = blocks == NULL ? -ENOMEM : segment_read(walk->segment, blocks, len, start);
    if (error == 0) {
        struct record pad = {.magic = RECORD_MAGIC,
                             .kind = RECORD_PAD,
                             .flags = RECORD_CUT,
                             .payload_len = (uint32_t)(to - from - RECORD_HEADER),
                             .generation = walk->segment->generation,
                             .sequence = sequence,
                             .batch_end = (uint32_t)to};
        pad.header_crc = record_header_crc(&pad, volume->salt, from);
        memcpy(blocks + (from - start), &pad, sizeof pad);
        struct iovec part = {.iov_base = blocks, .iov_len = len};
        error = segment_write(volume, walk->segment, &part, 1, start);
    }
    free(blocks);
    return error;
}

/* Cuts a torn batch. The walk of this segment ends here. */
static void cut(const struct walk *walk, uint64_t to, uint64_t sequence)
{
    uint64_t from = walk->item->offset;
    log_message(walk->recovery->log, LOG_INFO, "spool.torn",
                "segment %016" PRIx64 ": cut %" PRIu64 " octets at %" PRIu64
                " of a batch that was not finished",
                walk->segment->generation, to - from, from);
    if (to > walk->segment->size || to < from + RECORD_HEADER)
        return;
    int error = write_cut(walk, from, to, sequence);
    walk->recovery->log_end = error == 0 ? to : 0;
    if (error != 0)
        log_message(walk->recovery->log, LOG_WARN, "spool.torn",
                    "segment %016" PRIx64 " can't be written: %s", walk->segment->generation,
                    strerror(-error));
}

/* Tells tear from damage where no record begins. True when the segment is to be walked on. */
static bool judge_gap(const struct walk *walk)
{
    const struct recovery *recovery = walk->recovery;
    const struct scan_item *item = walk->item;
    if (item->offset != item->batch_end) {
        /* Inside a batch: torn only if it was the last of all. */
        if (item->sequence == recovery->highest) {
            cut(walk, item->batch_end, item->sequence);
            return false;
        }
        uint64_t limit = recovery->scan.limit;
        uint64_t end = item->batch_end < limit ? item->batch_end : limit;
        report_gap(walk, item->gap_end != 0 ? item->gap_end : end);
        return item->gap_end != 0;
    }
    /* Between batches, and something follows: torn only if that is the last of all, and no other
     * can have been before it. Between segments, a restart leaves out one number, a failed batch up
     * to two. */
    uint64_t next_max = item->sequence != 0 ? item->sequence + 1 : recovery->previous_highest + 3;
    if (item->gap_sequence == recovery->highest && item->gap_sequence <= next_max) {
        cut(walk, item->gap_batch_end, item->gap_sequence);
        return false;
    }
    report_gap(walk, item->gap_end);
    return true;
}

static void take_body(const struct walk *walk)
{
    struct recovery *recovery = walk->recovery;
    const struct record *record = &walk->item->header;
    uint32_t offset = (uint32_t)walk->item->offset;
    struct pending *open = pending_find(&recovery->open, 0, record->message_id);
    if (record->part == 0) {
        /* A copy begins: the chain before it is no longer of interest. */
        if (open != NULL)
            pending_remove(&recovery->open, open);
        open = pending_begin(&recovery->open, 0, record->message_id);
        recovery->no_memory |= open == NULL;
        if (open == NULL)
            return;
        open->first_generation = record->generation;
        open->first_offset = offset;
    }
    if (open == NULL)
        return;
    if (open->parts != record->part || open->last_generation != record->previous_generation ||
        open->last_offset != record->previous_offset) {
        pending_remove(&recovery->open, open);
        return;
    }
    open->last_generation = record->generation;
    open->last_offset = offset;
    open->parts++;
    open->text_len += record->payload_len;
}

/* True when all parts that the COMMIT speaks of were seen, in a chain. */
static bool parts_complete(const struct record *commit, const struct pending *open,
                           uint64_t text_len)
{
    if (commit->part == 0)
        return text_len == 0;
    return open != NULL && open->parts == commit->part && open->text_len == text_len &&
           open->last_generation == commit->previous_generation &&
           open->last_offset == commit->previous_offset;
}

static void take_commit(const struct walk *walk)
{
    struct recovery *recovery = walk->recovery;
    const struct record *record = &walk->item->header;
    struct pending *open = pending_find(&recovery->open, 0, record->message_id);
    struct envelope envelope;
    if (!envelope_read(bytes_make(walk->item->payload, record->payload_len), &envelope) ||
        envelope.message_id != record->message_id || record->message_id == 0) {
        report_payload(walk);
        return;
    }
    bool complete = parts_complete(record, open, envelope.text_len);
    struct spool_message message = {.message_id = record->message_id,
                                    .first_generation = record->generation,
                                    .generation = record->generation,
                                    .first_offset = (uint32_t)walk->item->offset,
                                    .offset = (uint32_t)walk->item->offset,
                                    .text_len = envelope.text_len,
                                    .arrival_s = (uint32_t)(envelope.arrival_us / 1000000),
                                    .release_s = envelope.terms.release_s,
                                    .recipient_count = envelope.recipient_count,
                                    .port = SPOOL_PORT_NONE,
                                    .priority = envelope.terms.priority};
    if (record->part != 0 && open != NULL) {
        message.first_generation = open->first_generation;
        message.first_offset = open->first_offset;
    }
    if (open != NULL)
        pending_remove(&recovery->open, open);
    struct living *living = living_add(&recovery->living, record->message_id);
    if (living == NULL || !living_commit(living, &message, !complete)) {
        recovery->no_memory = true;
        return;
    }
    if (living_over(living))
        living_remove(&recovery->living, living);
}

static void take_done(const struct walk *walk)
{
    struct recovery *recovery = walk->recovery;
    size_t count = walk->item->header.payload_len / sizeof(struct record_done);
    for (size_t i = 0; i < count; i++) {
        struct record_done done;
        memcpy(&done, walk->item->payload + i * sizeof done, sizeof done);
        struct living *living = living_find(&recovery->living, done.message_id);
        /* In front of the COMMIT of a relocated copy. */
        if (living == NULL && pending_find(&recovery->open, 0, done.message_id) != NULL)
            living = living_add(&recovery->living, done.message_id);
        if (living == NULL)
            continue;
        if (!living_done(living, &done))
            recovery->no_memory = true;
        if (living_over(living))
            living_remove(&recovery->living, living);
    }
}

static void take_record(const struct walk *walk)
{
    struct recovery *recovery = walk->recovery;
    const struct record *record = &walk->item->header;
    if (record->message_id > recovery->message_id_max)
        recovery->message_id_max = record->message_id;
    struct pending *open;
    switch ((enum record_kind)record->kind) {
    case RECORD_BODY: take_body(walk); break;
    case RECORD_COMMIT: take_commit(walk); break;
    case RECORD_ABORT:
        open = pending_find(&recovery->open, 0, record->message_id);
        if (open != NULL)
            pending_remove(&recovery->open, open);
        break;
    case RECORD_DONE: take_done(walk); break;
    case RECORD_PAD: break;
    }
}

/* A payload is not what its header says. True when the segment is to be walked on. */
static bool judge_payload(const struct walk *walk)
{
    struct recovery *recovery = walk->recovery;
    const struct record *record = &walk->item->header;
    if (record->sequence == recovery->highest) {
        cut(walk, record->batch_end, record->sequence);
        return false;
    }
    report_payload(walk);
    return true;
}

static void walk_segment(struct recovery *recovery, const struct listing_file *file)
{
    struct scan_item item;
    struct walk walk = {.recovery = recovery, .segment = file->segment, .item = &item};
    uint64_t unreadable = recovery->scan.unreadable;
    scan_begin(&recovery->scan, file->segment, file->limit);
    bool more = true;
    recovery->log_end = 0;
    while (more) {
        switch (scan_next(&recovery->scan, &item)) {
        case SCAN_RECORD: take_record(&walk); break;
        case SCAN_PAYLOAD_DAMAGED: more = judge_payload(&walk); break;
        case SCAN_GAP: more = judge_gap(&walk); break;
        case SCAN_END:
            recovery->log_end = item.offset;
            more = false;
            break;
        }
    }
    if (recovery->scan.unreadable != unreadable) {
        count_damage(recovery, file->segment, 0);
        log_message(recovery->log, LOG_ERROR, "spool.damaged",
                    "segment %016" PRIx64 ": %" PRIu64 " blocks can't be read",
                    file->segment->generation, recovery->scan.unreadable - unreadable);
    }
    if (recovery->scan.sequence > recovery->previous_highest)
        recovery->previous_highest = recovery->scan.sequence;
}

/* Finds the last batch of all. Segments behind the one that holds it were prepared and not written.
 * Returns how many were. */
static size_t find_highest(struct recovery *recovery)
{
    const struct listing *listing = &recovery->listing;
    for (size_t i = listing->count; i > 0; i--) {
        const struct listing_file *file = &listing->files[i - 1];
        recovery->highest = scan_highest(&recovery->scan, file->segment, file->limit);
        if (recovery->highest != 0)
            return i;
    }
    return 0;
}

/* Puts the segments into the pool: the first `written` as used, the rest as ready as far as they
 * are wanted. */
static bool fill_pool(struct recovery *recovery, size_t written)
{
    struct spool *spool = recovery->spool;
    struct listing *listing = &recovery->listing;
    for (size_t i = 0; i < written; i++) {
        struct segment *segment = listing->files[i].segment;
        segment->end = segment->size;
        if (!pool_add(&spool->pool, segment))
            return false;
        listing->files[i].segment = NULL;
        if (i + 1 == written && recovery->log_end != 0 && !segment->damaged &&
            !atomic_load(&segment->poisoned)) {
            segment->end = recovery->log_end;
            spool->last = segment;
        }
    }
    for (size_t i = written; i < listing->count; i++) {
        struct segment *segment = listing->files[i].segment;
        listing->files[i].segment = NULL;
        segment->end = SEGMENT_START;
        atomic_store(&segment->closed, false);
        if (segment->damaged)
            segment_retire(&spool->volume, segment);
        else if (atomic_load(&segment->poisoned) || segment->size != spool->volume.segment_size ||
                 !pool_wanting(&spool->pool) || !pool_add_ready(&spool->pool, segment))
            segment_delete(&spool->volume, segment);
    }
    pool_generations_from(&spool->pool, listing->generation_max + 1);
    return true;
}

/* Hands over one message, or says what is wrong with it. */
static void hand_over(struct recovery *recovery, const struct living *living,
                      spool_recovered_callback *recovered, void *user)
{
    if (!living->committed)
        return;
    if (living->damaged) {
        char id[ID_TEXT_LEN + 1];
        id_format(living->message.message_id, id);
        atomic_fetch_add(&recovery->spool->records_damaged, 1);
        log_message(
            recovery->log, LOG_ERROR, "spool.damaged",
            "message %s is damaged: parts of its text are missing; its envelope is in segment "
            "%016" PRIx64 " at %" PRIu32,
            id, living->message.generation, living->message.offset);
        return;
    }
    pool_hold(&recovery->spool->pool, living->message.first_generation, 1,
              spool_message_octets(&living->message));
    pool_messages_add(&recovery->spool->pool, 1);
    struct spool_recovered one = {.message = &living->message,
                                  .done = living->done,
                                  .next_attempt_s = living->next_attempt_s};
    if (recovered != NULL)
        recovered(user, &one);
}

static bool run(struct recovery *recovery, spool_recovered_callback *recovered, void *user,
                char *error, size_t error_size)
{
    struct spool *spool = recovery->spool;
    if (!listing_read(&recovery->listing, &spool->volume, spool->uuid_known, recovery->log, error,
                      error_size))
        return false;
    spool->volume.salt = record_salt(spool->volume.uuid);
    atomic_fetch_add(&spool->records_damaged, recovery->listing.damaged);
    size_t written = find_highest(recovery);
    for (size_t i = 0; i < written; i++)
        walk_segment(recovery, &recovery->listing.files[i]);
    if (recovery->no_memory || !fill_pool(recovery, written)) {
        snprintf(error, error_size, "spool: no memory for recovery, or too many segments");
        return false;
    }
    living_sort(&recovery->living);
    for (size_t i = 0; i < recovery->living.used; i++)
        hand_over(recovery, &recovery->living.entries[i], recovered, user);
    spool->message_id_min = recovery->message_id_max + 1;
    /* One number is left out, so that what comes is told from what a torn batch may have left. */
    spool->writer.sequence = recovery->highest + 1;
    return true;
}

bool recovery_run(struct spool *spool, spool_recovered_callback *recovered, void *user, char *error,
                  size_t error_size)
{
    struct recovery recovery = {.spool = spool, .log = spool->shared_log};
    bool good = false;
    bool memory = scan_init(&recovery.scan, &spool->volume);
    memory &= living_init(&recovery.living);
    memory &= pending_init(&recovery.open);
    if (memory)
        good = run(&recovery, recovered, user, error, error_size);
    else
        snprintf(error, error_size, "spool: no memory for recovery");
    pending_free(&recovery.open);
    living_free(&recovery.living);
    scan_free(&recovery.scan);
    listing_free(&recovery.listing);
    return good;
}
