/* The record: what a segment is made of. docs/spool.md has the format and every state that a
 * segment and a message can be in. All integers little-endian. A record lies at a multiple of 8 and
 * is followed by up to 7 zero octets. */
#ifndef GATEWAY_SPOOL_RECORD_H
#define GATEWAY_SPOOL_RECORD_H

#include "gateway/spool/crc.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_kind {
    RECORD_PAD = 1,    /* fills a stretch up to the next block; payload means nothing */
    RECORD_BODY = 2,   /* a piece of message text */
    RECORD_COMMIT = 3, /* the envelope (spool/envelope.h): the message lives */
    RECORD_ABORT = 4,  /* the message was given up before its COMMIT; no payload */
    RECORD_DONE = 5,   /* what became of recipients: an array of struct record_done */
};

enum record_flags {
    RECORD_CUT = 1 << 0, /* PAD only: recovery cut a torn batch here */
};

enum { RECORD_MAGIC = 0x31524d52 /* "RMR1" */, RECORD_ALIGN = 8, RECORD_HEADER = 64 };

struct record {
    uint32_t magic;
    uint8_t kind;  /* enum record_kind */
    uint8_t flags; /* enum record_flags */
    uint16_t reserved;
    uint32_t payload_len;
    uint32_t payload_crc; /* CRC32C of the payload; not used in PAD */
    uint64_t generation;  /* of the segment; set by the writer */
    uint64_t sequence;    /* of the batch that wrote it; set by the writer */
    uint64_t message_id;  /* 0 for PAD and DONE */
    uint64_t
        previous_generation;  /* where the message's record before this one lies; 0: none. Set */
    uint32_t previous_offset; /* by the writer */
    uint32_t part;       /* BODY: counts from 0; COMMIT: how many BODY records the message has */
    uint32_t batch_end;  /* offset where the batch ends; set by the writer */
    uint32_t header_crc; /* record_header_crc of all above; set by the writer */
};
static_assert(sizeof(struct record) == RECORD_HEADER, "a record header is one cache line");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are written as they stand");

enum record_outcome {
    RECORD_DELIVERED = 1,
    RECORD_DEFERRED = 2, /* not yet: attempts and next_attempt_s say when */
    RECORD_EXPIRED = 3,  /* given up after the queue's lifetime */
    RECORD_REFUSED = 4,  /* permanent failure */
};

enum { RECORD_ALL_RECIPIENTS = 0xffffffff };

struct record_done {
    uint64_t message_id;
    uint32_t recipient; /* index in the envelope, or RECORD_ALL_RECIPIENTS */
    uint16_t attempts;
    uint8_t outcome; /* enum record_outcome */
    uint8_t reserved;
    uint64_t next_attempt_s; /* seconds since 1970, RECORD_DEFERRED only */
};
static_assert(sizeof(struct record_done) == 24, "no padding on disk");

/* record_size returns the octets that a record with this payload takes, header and tail included.
 */
static inline size_t record_size(size_t payload_len)
{
    return RECORD_HEADER + ((payload_len + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1));
}

/* record_salt turns a spool's uuid into the start value of its header checksums. Nobody outside
 * knows it, so that message text cannot be made to look like a record. */
static inline uint32_t record_salt(const uint8_t uuid[16])
{
    return crc32c(0, uuid, 16);
}

/* record_header_crc computes the checksum of a header that lies at `offset` in its segment. Each
 * offset gives a different value: a record in the wrong place is none. */
static inline uint32_t record_header_crc(const struct record *record, uint32_t salt,
                                         uint64_t offset)
{
    return crc32c(salt ^ (uint32_t)offset, record, offsetof(struct record, header_crc));
}

#endif
