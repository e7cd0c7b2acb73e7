/* The text of a message that is kept in memory while a next hop may still take it: chunks from a
 * pool of the worker's, so their total is bounded, and so is each text. */
#ifndef GATEWAY_RECEIVE_COLLECTION_H
#define GATEWAY_RECEIVE_COLLECTION_H

#include "gateway/base/blocks.h"
#include "gateway/base/limits.h"
#include "parser/bytes.h"

enum {
    COLLECTION_CHUNK = 64 * 1024,
    COLLECTION_CHUNKS_MAX = 128,
    COLLECTION_LEN_MAX = COLLECTION_CHUNKS_MAX * COLLECTION_CHUNK,
};
static_assert((int)COLLECTION_CHUNK <= (int)LIMIT_PIECE, "a chunk is a BODY record");

/* The zero value is empty. */
struct collection {
    uint32_t count;
    uint32_t staged; /* pieces that are in the staging ring already: the spool takes over */
    uint8_t *newest; /* chunk of the last piece */
    struct bytes pieces[COLLECTION_CHUNKS_MAX]; /* all but the last are full */
};

/* collection_fits tells whether `more` octets can be added now. `pool` has blocks of
 * COLLECTION_CHUNK octets. */
bool collection_fits(const struct collection *collection, const struct blocks *pool, size_t more);

/* collection_add copies octets, which fit. */
void collection_add(struct collection *collection, struct blocks *pool, struct bytes text);

/* collection_len returns the octets of all pieces. */
size_t collection_len(const struct collection *collection);

/* collection_empty gives all chunks back. */
void collection_empty(struct collection *collection, struct blocks *pool);

#endif
