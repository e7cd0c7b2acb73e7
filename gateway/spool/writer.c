/* The turn of the writer: wait, gather, seal, write and sync, settle. While one batch is on its way
 * to the disk the rings collect the next. */
#include "gateway/spool/writer.h"

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum {
    WRITER_COMPANY_US = 20000, /* how long records that nobody waits for wait for others */
    WRITER_RETRY_US = 1000000, /* between two attempts while broken */
};

static void count(_Atomic uint64_t *counter, uint64_t more)
{
    /* One thread writes: a load and a store do, and cost no locked instruction. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

static void message_dropped(void *user, uint64_t first_generation)
{
    struct writer *writer = user;
    pool_release(writer->pool, first_generation, 0);
}

bool writer_init(struct writer *writer)
{
    *writer = (struct writer){.cpu = -1};
    if (!batch_init(&writer->batch))
        return false;
    writer->batch.dropped = message_dropped;
    writer->batch.user = writer;
    writer->pad = aligned_alloc(LIMIT_BLOCK, LIMIT_BLOCK);
    return writer->pad != NULL;
}

void writer_free(struct writer *writer)
{
    batch_free(&writer->batch);
    free(writer->pad);
}

/* Returns the octets that the rings show and nobody took; sets *urgent when somebody waits for some
 * of them. */
static uint64_t shown(const struct writer *writer, bool *urgent)
{
    uint64_t octets = 0;
    for (uint32_t i = 0; i < writer->ring_count; i++) {
        const struct staging *ring = writer->rings[i];
        struct staging_stretch stretch = staging_shown(ring);
        octets += stretch.end - stretch.begin;
        *urgent |= atomic_load_explicit(&ring->urgent, memory_order_relaxed) > stretch.begin;
    }
    return octets;
}

/* Returns how long to wait for more before the next batch: 0 to begin now. */
static uint64_t due_us(struct writer *writer)
{
    bool urgent = atomic_load(&writer->stopping);
    uint64_t waiting = shown(writer, &urgent);
    if (waiting != 0 && (urgent || waiting >= LIMIT_GROUP)) {
        writer->first_seen_us = 0;
        return 0;
    }
    uint64_t now_us = clock_monotonic_us();
    uint64_t until_us = UINT64_MAX;
    if (waiting != 0) {
        if (writer->first_seen_us == 0)
            writer->first_seen_us = now_us;
        until_us = writer->first_seen_us + WRITER_COMPANY_US;
    }
    if (writer->broken && writer->retry_us < until_us)
        until_us = writer->retry_us;
    if (until_us == UINT64_MAX)
        return UINT64_MAX;
    if (until_us > now_us)
        return until_us - now_us;
    writer->first_seen_us = 0;
    return 0;
}

static uint64_t room_of(const struct segment *segment)
{
    return segment == NULL ? 0 : segment->size - segment->end;
}

/* Fills the batch with as much as fits in the active segment, going on to a fresh one when nothing
 * does. Returns false when there is nothing to write. A batch that came out larger than the room
 * can't be placed. */
static bool gather(struct writer *writer)
{
    struct batch *batch = &writer->batch;
    struct staging *const *rings = writer->rings;
    if (writer->broken)
        return batch_gather(batch, rings, writer->ring_count, BATCH_MAX, true) != 0;
    if (batch_gather(batch, rings, writer->ring_count, room_of(writer->active), false) != 0)
        return true;
    bool urgent = false;
    if (shown(writer, &urgent) == 0)
        return false;
    if (writer->active == NULL || writer->active->end != SEGMENT_START) {
        struct segment *fresh = pool_take(writer->pool, true);
        if (fresh != NULL) {
            if (writer->active != NULL)
                pool_close(writer->pool, writer->active);
            writer->active = fresh;
        }
    }
    return batch_gather(batch, rings, writer->ring_count, room_of(writer->active), true) != 0;
}

static int write_batch(struct writer *writer, const struct segment *segment)
{
    struct iovec parts[LIMIT_PORTS];
    uint64_t start_us = clock_monotonic_us();
    int part_count = batch_parts(&writer->batch, parts);
    int error = segment_write(writer->volume, segment, parts, part_count, segment->end);
    uint64_t took_us = clock_monotonic_us() - start_us;
    struct writer_counters *counters = &writer->counters;
    count(&counters->sync_us_total, took_us);
    histogram_add(&counters->sync, took_us);
    if (took_us > atomic_load_explicit(&counters->sync_us_max, memory_order_relaxed))
        atomic_store_explicit(&counters->sync_us_max, took_us, memory_order_relaxed);
    if (error != 0) {
        count(&counters->write_errors, 1);
        log_message(writer->log, LOG_ERROR, "spool.write",
                    "segment %016" PRIx64 " at %" PRIu64 ": %s", segment->generation, segment->end,
                    strerror(-error));
    }
    return error;
}

/* The second failure in a row: nothing is taken until a fresh segment can be written. `candidate`
 * may be NULL. */
static void become_broken(struct writer *writer, struct segment *candidate)
{
    writer->active = NULL;
    writer->candidate = candidate;
    writer->broken = true;
    writer->retry_us = clock_monotonic_us() + WRITER_RETRY_US;
    /* The state first: nobody who learns of the failure shall still find the spool open. */
    pool_report(writer->pool, 0, true);
    log_message(writer->log, LOG_ERROR, "spool.broken",
                "no segment can be written; mail is refused and writing tried again every second");
}

/* The active segment failed. Writes the sealed batch to a fresh one; false when that fails, too. */
static bool write_again(struct writer *writer)
{
    pool_poison(writer->pool, writer->active, writer->active->end);
    struct segment *fresh = pool_take(writer->pool, true);
    if (fresh != NULL && writer->batch.octets <= room_of(fresh)) {
        batch_move(&writer->batch, fresh->generation, fresh->end, ++writer->sequence);
        if (write_batch(writer, fresh) == 0) {
            writer->active = fresh;
            return true;
        }
    }
    become_broken(writer, fresh);
    return false;
}

/* The batch is durable. */
static void batch_done(struct writer *writer)
{
    struct batch *batch = &writer->batch;
    struct segment *active = writer->active;
    active->end += batch->octets;
    if (batch->opened != 0)
        pool_hold(writer->pool, active->generation, batch->opened, batch->opened_octets);
    for (size_t i = 0; i < batch->arrival_count; i++) {
        const struct spool_message *message = &batch->arrivals[i];
        if (!batch_contains(batch, message->first_generation, message->first_offset))
            pool_hold(writer->pool, message->first_generation, 0, spool_message_octets(message));
    }
    count(&writer->counters.batches, 1);
    count(&writer->counters.octets, batch->octets);
    count(&writer->counters.commits, batch->arrival_count);
    batch_settle(batch);
    if (batch->arrival_count == 0)
        return;
    pool_messages_add(writer->pool, batch->arrival_count); /* before anybody can release them */
    arrivals_put(writer->arrivals, batch->arrivals, batch->arrival_count);
}

/* Gives a gathered batch a place that does not exist, so that its messages are known, and fails it.
 */
static void refuse_batch(struct writer *writer, enum staging_outcome outcome)
{
    batch_seal(&writer->batch, UINT64_MAX, 0, writer->sequence);
    batch_fail(&writer->batch, outcome);
}

static void write_gathered(struct writer *writer)
{
    struct batch *batch = &writer->batch;
    struct segment *active = writer->active;
    if (writer->broken) {
        refuse_batch(writer, STAGING_FAILED);
        return;
    }
    if (batch->octets > room_of(active)) {
        refuse_batch(writer, STAGING_DISK_FULL);
        return;
    }
    batch_seal(batch, active->generation, active->end, ++writer->sequence);
    if (!arrivals_reserve(writer->arrivals, batch->arrival_count)) {
        log_message(writer->log, LOG_ERROR, "spool.memory", "no memory for %zu arrivals",
                    batch->arrival_count);
        batch_fail(batch, STAGING_FAILED);
        return;
    }
    if (write_batch(writer, active) == 0 || write_again(writer))
        batch_done(writer);
    else
        batch_fail(batch, STAGING_FAILED);
}

/* While broken: writes one block of PAD to the start of a fresh segment. When that is durable,
 * writing goes on behind it. What may lie behind it from a failed batch is older, and nothing to
 * recovery. */
static void try_again(struct writer *writer)
{
    if (writer->candidate == NULL)
        writer->candidate = pool_take(writer->pool, false);
    struct segment *segment = writer->candidate;
    writer->retry_us = clock_monotonic_us() + WRITER_RETRY_US;
    if (segment == NULL)
        return;
    struct record *pad = (struct record *)writer->pad;
    memset(writer->pad, 0, LIMIT_BLOCK);
    *pad = (struct record){.magic = RECORD_MAGIC,
                           .kind = RECORD_PAD,
                           .payload_len = LIMIT_BLOCK - RECORD_HEADER,
                           .generation = segment->generation,
                           .sequence = writer->sequence + 1,
                           .batch_end = SEGMENT_START + LIMIT_BLOCK};
    pad->header_crc = record_header_crc(pad, writer->volume->salt, SEGMENT_START);
    struct iovec part = {.iov_base = writer->pad, .iov_len = LIMIT_BLOCK};
    if (segment_write(writer->volume, segment, &part, 1, SEGMENT_START) != 0)
        return;
    segment->end = SEGMENT_START + LIMIT_BLOCK;
    writer->sequence++;
    writer->active = segment;
    writer->candidate = NULL;
    writer->broken = false;
    log_message(writer->log, LOG_WARN, "spool.mended", "segments can be written again");
}

static void turn(struct writer *writer)
{
    if (writer->broken && clock_monotonic_us() >= writer->retry_us)
        try_again(writer);
    if (gather(writer))
        write_gathered(writer);
    pool_report(writer->pool, room_of(writer->active), writer->broken);
}

static void *run(void *argument)
{
    struct writer *writer = argument;
    pthread_setname_np(pthread_self(), "writer");
    if (writer->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(writer->cpu, &set);
        if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0)
            log_message(writer->log, LOG_WARN, "spool.cpu", "can't pin the writer to CPU %d",
                        writer->cpu);
    }
    for (;;) {
        bool stopping = atomic_load(&writer->stopping);
        uint64_t wait_us = due_us(writer);
        if (wait_us == 0)
            turn(writer);
        else if (stopping)
            break;
        else
            bell_wait(&writer->bell, wait_us);
    }
    return NULL;
}

int writer_start(struct writer *writer)
{
    int error = pthread_create(&writer->thread, NULL, run, writer);
    writer->running = error == 0;
    return -error;
}

void writer_stop(struct writer *writer)
{
    if (!writer->running)
        return;
    atomic_store(&writer->stopping, true);
    bell_ring(&writer->bell);
    pthread_join(writer->thread, NULL);
    writer->running = false;
}
