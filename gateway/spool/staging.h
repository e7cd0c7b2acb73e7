/* Where one thread lays down records for the writer: a ring of memory shared by exactly one
 * producer (a worker or a courier) and the writer. The producer copies message text from its
 * receive buffers straight into it, while the bytes are still in its cache: that is the one copy.
 * The writer writes from it to disk as it stands.
 *
 * Positions only grow; a position's place in the ring is its remainder. A record is contiguous:
 * where it has no room before the end, positions jump to the next round. They also jump early when
 * the beginning is free again, so that little of a large ring is used while little is needed.
 *
 * Records become visible to the writer with staging_publish, which fills up to the next block
 * boundary with a PAD record, so that every published stretch begins and ends on one. The writer
 * publishes one word back: everything up to `settled` is durable, or failed (see staging_outcome).
 */
#ifndef GATEWAY_SPOOL_STAGING_H
#define GATEWAY_SPOOL_STAGING_H

#include "gateway/spool/record.h"
#include "parser/bytes.h"

#include <stdbool.h>
#include <stdint.h>

struct staging;

/* staging_room returns how many octets of record (header included) can be reserved now. */
size_t staging_room(const struct staging *staging);

/* staging_reserve returns room for a record with up to `payload_max` octets of payload, or NULL
 * when the ring is full (nothing has changed then; publish what is staged and wait for it to be
 * settled). The pointer is borrowed until staging_append or the next reserve; header space lies
 * before it. `payload_max` <= LIMIT_RECORD - RECORD_HEADER; for BODY, <= LIMIT_PIECE. */
uint8_t *staging_reserve(struct staging *staging, size_t payload_max);

/* staging_append makes the reserved room a record of `payload_len` octets (<= what was reserved),
 * computes its checksum and returns the position of its end. `part`: BODY records of a message
 * count from 0; a COMMIT carries the number of BODY records before it (0: no text); else 0. The
 * records of one message all go through one ring. A COMMIT's payload is what envelope_write made,
 * and its text_len the sum of the BODY payloads: the writer checks both. */
uint64_t staging_append(struct staging *staging, enum record_kind kind, uint64_t message_id,
                        uint32_t part, size_t payload_len);

/* staging_publish shows appended records to the writer and rings it. Call at the end of a turn.
 * With `urgent` somebody waits for an answer: all is shown, and the writer begins at once. Without,
 * all is shown when there is a DONE among it, and the writer waits up to 20 ms for company;
 * anything else is shown when LIMIT_GROUP octets have come together (a COMMIT so waits for the next
 * urgent call). Each showing costs padding up to a block. */
void staging_publish(struct staging *staging, bool urgent);

/* staging_unpublished tells whether records were appended that the writer has not been shown. */
bool staging_unpublished(const struct staging *staging);

/* staging_settled returns the position up to which the writer has finished. Records up to there are
 * durable, but for those that staging_outcome calls failed. */
uint64_t staging_settled(const struct staging *staging);

enum staging_outcome {
    STAGING_WAITING,   /* not yet */
    STAGING_DURABLE,   /* on disk, synced: answer 250 */
    STAGING_FAILED,    /* write or sync error, and again in a fresh segment: answer 451 4.3.0 */
    STAGING_DISK_FULL, /* no segment to be had: answer 452 4.3.1 */
};

/* staging_outcome tells what became of the record that ended at `position`. Ask in the order of
 * positions, at least about each COMMIT and DONE (a COMMIT whose BODY failed has failed, too). Once
 * every one up to staging_settled has been asked, call staging_acknowledge with that position, each
 * turn in which it grew: it lets the writer reuse its failure marks. */
enum staging_outcome staging_outcome(struct staging *staging, uint64_t position);
void staging_acknowledge(struct staging *staging, uint64_t settled);

/* staging_set_sleeping: the producer says that it is about to sleep (true), or has woken. After
 * true it must ask staging_settled once more before it really sleeps. The writer calls the wake
 * function given to spool_port only between the two, and once at most. */
void staging_set_sleeping(struct staging *staging, bool sleeping);

#endif
