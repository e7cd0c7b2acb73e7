/* The messages that recovery believes to be alive, by id: what their COMMIT said and what DONE
 * records took from it. Memory in proportion to what lives. Recovery's own. */
#ifndef GATEWAY_SPOOL_LIVING_H
#define GATEWAY_SPOOL_LIVING_H

#include "gateway/spool/message.h"
#include "gateway/spool/record.h"

struct living {
    struct spool_message message; /* message_id 0: nothing here */
    bool committed;               /* else only DONE records of a relocated copy were seen so far */
    bool damaged;                 /* its COMMIT was seen, but not every part */
    bool finished;                /* a DONE for all recipients */
    uint64_t next_attempt_s;
    uint8_t *done; /* bitmap, done_len octets; NULL: none */
    size_t done_len;
    uint32_t done_count; /* bits set in it */
};

struct living_table {
    struct living *entries; /* open addressing; capacity is a power of two */
    size_t capacity, used;
};

bool living_init(struct living_table *table) __attribute__((warn_unused_result));
void living_free(struct living_table *table);

/* living_find returns the message or NULL; living_add also makes it when it is not there (NULL: no
 * memory). The pointer is good until the next living_add or living_remove. */
struct living *living_find(const struct living_table *table, uint64_t message_id);
struct living *living_add(struct living_table *table, uint64_t message_id);
void living_remove(struct living_table *table, struct living *living);

/* living_commit fills in what a COMMIT says, and keeps what DONE records said before. False: no
 * memory. */
bool living_commit(struct living *living, const struct spool_message *message, bool damaged)
    __attribute__((warn_unused_result));

/* living_done applies one DONE. False: no memory. living_over is true when it was committed and
 * every recipient is finished. */
bool living_done(struct living *living, const struct record_done *done)
    __attribute__((warn_unused_result));
bool living_over(const struct living *living);

/* living_sort makes the table a plain array, table->used entries, in order of their COMMIT. Only
 * living_free is legal after it. */
void living_sort(struct living_table *table);

#endif
