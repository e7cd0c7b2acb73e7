/* Messages between their first record and their COMMIT, as the writer knows them: where the chain
 * of each begins and ends. Most messages come and go within one stretch; these live in one place
 * for each ring and never touch the table. The writer's own, without locks. */
#ifndef GATEWAY_SPOOL_PENDING_H
#define GATEWAY_SPOOL_PENDING_H

#include "gateway/base/limits.h"

#include <stdbool.h>
#include <stdint.h>

struct pending {
    uint64_t message_id; /* 0: nothing here */
    uint64_t first_generation, last_generation;
    uint64_t text_len; /* so far */
    uint32_t first_offset, last_offset;
    uint32_t parts; /* BODY records so far */
    uint32_t reserved;
};

struct pending_table {
    struct pending current[LIMIT_PORTS]; /* the last message that each ring began */
    struct pending *entries;             /* open addressing; capacity is a power of two */
    uint32_t capacity;
    uint32_t used;
};

/* pending_init and pending_free begin and end a table. False: no memory. */
bool pending_init(struct pending_table *table) __attribute__((warn_unused_result));
void pending_free(struct pending_table *table);

/* pending_begin makes a place for a message, which must not be there yet; NULL: no memory. The
 * pointer is good until the next pending_begin or pending_remove. */
struct pending *pending_begin(struct pending_table *table, uint32_t port, uint64_t message_id);

/* pending_find returns the message, or NULL. */
struct pending *pending_find(struct pending_table *table, uint32_t port, uint64_t message_id);

/* pending_remove forgets what pending_begin or pending_find returned. */
void pending_remove(struct pending_table *table, struct pending *pending);

/* pending_next walks all messages: *cursor is 0 at first; NULL at the end. To remove the one just
 * returned leave the cursor where it was before. */
struct pending *pending_next(struct pending_table *table, uint32_t *cursor);

#endif
