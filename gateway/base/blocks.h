/* A pool of 4 KiB blocks: reply buffers, unfinished command lines and transactions are made of
 * them. Reserved at start, touched on first use; the block given back last is taken first. One
 * thread only. */
#ifndef GATEWAY_BASE_BLOCKS_H
#define GATEWAY_BASE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BLOCK_SIZE = 4096,
    BLOCK_STRIDE = BLOCK_SIZE + 64, /* or all would begin in the same few lines of the cache */
};

struct blocks {
    uint8_t *memory;
    void *free_list; /* each free block begins with the next one's address */
    uint32_t count;
    uint32_t used;
    uint32_t reached;
};

/* blocks_init reserves `count` blocks. False: no memory. blocks_cleanup gives all back; legal on
 * the zero value. */
bool blocks_init(struct blocks *blocks, uint32_t count) __attribute__((warn_unused_result));
void blocks_cleanup(struct blocks *blocks);

/* blocks_take returns a block with arbitrary contents, or NULL when all are in use. */
void *blocks_take(struct blocks *blocks);

/* blocks_give takes a block back; NULL is allowed and does nothing. */
void blocks_give(struct blocks *blocks, void *block);

#endif
