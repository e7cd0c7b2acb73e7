/* Copying a living message that pins an old segment to the end of the log, piece by piece, so that
 * a long one neither fills the ring nor keeps its thread (docs/spool.md, "Recycling"). The
 * consumer's thread. */
#ifndef GATEWAY_SPOOL_RELOCATE_H
#define GATEWAY_SPOOL_RELOCATE_H

#include "gateway/spool/reader.h"

/* A copy in the making. The zero value is at rest. Using the same one again reuses its memory.
 * Private. */
struct relocation {
    struct spool *spool;
    struct staging *staging;
    struct spool_message message;
    struct spool_reader reader;
    struct bytes piece; /* read, and not staged for want of room */
    bool piece_read;
    bool text_staged;
    bool done_staged;
    uint32_t parts;  /* staged */
    int error;       /* it fails as soon as an ABORT has room */
    uint64_t octets; /* of records staged since the zero value: not private */
};

/* relocation_begin opens a living message that is to be copied through the consumer's ring
 * `staging`. The message must not be released until the copy has ended. 0; or -errno as spool_read,
 * and then there is nothing to end. */
int relocation_begin(struct relocation *relocation, struct spool *spool, struct staging *staging,
                     const struct spool_message *message) __attribute__((warn_unused_result));

/* relocation_step stages the next record of the copy; the caller publishes. `done`: bitmap of the
 * recipients that are finished (NULL: none), which the copy carries with it; next_attempt_s: the
 * time of the next attempt (0: none); attempts: of those that failed, the highest number. The three
 * are used in the last steps. 0: all is staged; the message arrives again through spool_arrivals,
 * with the same id, when the copy is durable, and the consumer then releases the old struct; an
 * outcome STAGING_FAILED means that nothing has changed. Between the first step and that arrival
 * no recipient of the message may be finished. -EINPROGRESS: call again; -EAGAIN: no room in the
 * ring now, call again later; others, as spool_read: it can't be copied, and nothing has changed.
 */
int relocation_step(struct relocation *relocation, const uint8_t *done, uint64_t next_attempt_s,
                    uint16_t attempts) __attribute__((warn_unused_result));

/* relocation_close frees what it holds. A copy that was not finished comes to nothing when the
 * process ends. Legal on the zero value, and twice. */
void relocation_close(struct relocation *relocation);

#endif
