/* Where a message lies on disk and in memory: what the spool hands to those who deliver. */
#ifndef GATEWAY_SPOOL_MESSAGE_H
#define GATEWAY_SPOOL_MESSAGE_H

#include <assert.h>
#include <stdint.h>

/* Where a message lies, and enough to count it. Owned by whoever got it. */
struct spool_message {
    uint64_t message_id;
    uint64_t first_generation; /* the segment of its first record: the one that it keeps */
    uint64_t generation;       /* of its COMMIT */
    uint32_t first_offset;
    uint32_t offset; /* of its COMMIT */
    uint64_t text_len;
    uint32_t arrival_s; /* wall, as the next one */
    uint32_t release_s; /* not to be delivered before then (RFC 4865); 0: at once */
    uint32_t recipient_count;
    uint8_t port;      /* hot cache: which staging ring (SPOOL_PORT_NONE: none), and */
    int8_t priority;   /* RFC 6710: -9..9 */
    uint16_t attempts; /* from recovery: highest number of attempts seen in DONE records */
    uint64_t position; /* where in it the COMMIT record began */
};
static_assert(sizeof(struct spool_message) == 64, "one cache line each");

enum {
    SPOOL_PORT_NONE = 0xff,
    SPOOL_MESSAGE_EACH = 1024, /* about what a message takes beside text and recipients, */
    SPOOL_RECIPIENT_EACH = 64, /* and what each recipient does */
};

/* spool_message_start_s returns since when it has been waiting for its delivery. */
static inline uint64_t spool_message_start_s(const struct spool_message *message)
{
    return message->release_s > message->arrival_s ? message->release_s : message->arrival_s;
}

/* spool_message_hold_us returns for how long it is still to be held; 0: it may go. An hour at most:
 * then it is asked again, since the wall clock may have jumped, or the machine slept. */
static inline uint64_t spool_message_hold_us(const struct spool_message *message, uint64_t now_s)
{
    uint64_t hold_s = message->release_s > now_s ? message->release_s - now_s : 0;
    return (hold_s > 3600 ? 3600 : hold_s) * 1000000;
}

/* spool_message_octets is about what a message takes on disk. */
static inline uint64_t spool_message_octets(const struct spool_message *message)
{
    return message->text_len + SPOOL_MESSAGE_EACH +
           (uint64_t)message->recipient_count * SPOOL_RECIPIENT_EACH;
}

#endif
