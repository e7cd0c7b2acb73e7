/* Memory with the life of one transaction: taken piece by piece from 4 KiB blocks, given back
 * whole. */
#ifndef GATEWAY_BASE_ARENA_H
#define GATEWAY_BASE_ARENA_H

#include "gateway/base/blocks.h"

/* The zero value is empty, and cleanup of it is legal. */
struct arena {
    void *newest;  /* block; begins with the address of the one before */
    uint32_t used; /* octets of `newest` that are taken */
};

/* arena_take returns `size` octets (at most ARENA_TAKE_MAX), aligned to 8, arbitrary contents; NULL
 * when the pool is empty. */
enum { ARENA_TAKE_MAX = BLOCK_SIZE - 8 };
void *arena_take(struct arena *arena, struct blocks *pool, size_t size);

/* arena_copy returns a copy of `len` octets, or NULL. */
void *arena_copy(struct arena *arena, struct blocks *pool, const void *data, size_t len);

/* arena_rewind gives back all that was taken since `mark`, a copy of the arena at that time. */
void arena_rewind(struct arena *arena, struct blocks *pool, const struct arena *mark);

/* arena_empty gives every block back. */
void arena_empty(struct arena *arena, struct blocks *pool);

#endif
