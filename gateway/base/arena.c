/* Bump allocator over 4 KiB blocks: see arena.h. */
#include "gateway/base/arena.h"

#include "gateway/base/check.h"

#include <string.h>

void *arena_take(struct arena *arena, struct blocks *pool, size_t size)
{
    CHECK(size <= ARENA_TAKE_MAX);
    size = (size + 7) & ~(size_t)7;
    if (arena->newest == NULL || arena->used + size > BLOCK_SIZE) {
        void *block = blocks_take(pool);
        if (block == NULL)
            return NULL;
        memcpy(block, &arena->newest, sizeof(void *));
        arena->newest = block;
        arena->used = sizeof(void *);
    }
    void *out = (uint8_t *)arena->newest + arena->used;
    arena->used += (uint32_t)size;
    return out;
}

void *arena_copy(struct arena *arena, struct blocks *pool, const void *data, size_t len)
{
    void *out = arena_take(arena, pool, len);
    if (out != NULL && len > 0)
        memcpy(out, data, len);
    return out;
}

void arena_rewind(struct arena *arena, struct blocks *pool, const struct arena *mark)
{
    while (arena->newest != mark->newest) { /* as many as were taken since */
        void *block = arena->newest;
        CHECK(block != NULL);
        memcpy(&arena->newest, block, sizeof(void *));
        blocks_give(pool, block);
    }
    arena->used = mark->used;
}

void arena_empty(struct arena *arena, struct blocks *pool)
{
    const struct arena nothing = {0};
    arena_rewind(arena, pool, &nothing);
}
