/* A pool of blocks of one size, 4 KiB unless said otherwise: reply buffers and transactions are
 * made of them. Reserved at start, touched on first use; the block given back last is taken first.
 * One thread only. */
#ifndef GATEWAY_BASE_BLOCKS_H
#define GATEWAY_BASE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BLOCK_SIZE = 4096 };

struct blocks {
    uint8_t *memory;
    void *free_list; /* each free block begins with the next one's address */
    size_t stride;   /* from one to the next: more than a power of two, or all would begin in the
                        same few lines of the cache */
    uint32_t count;
    uint32_t used;
    uint32_t reached;
};

/* blocks_init reserves `count` blocks of BLOCK_SIZE octets, blocks_init_sized of `size`, a multiple
 * of 64. False: no memory. blocks_cleanup gives all back; legal on the zero value. */
bool blocks_init(struct blocks *blocks, uint32_t count) __attribute__((warn_unused_result));
bool blocks_init_sized(struct blocks *blocks, uint32_t count, size_t size)
    __attribute__((warn_unused_result));
void blocks_cleanup(struct blocks *blocks);

/* blocks_take returns a block with arbitrary contents, or NULL when all are in use. */
void *blocks_take(struct blocks *blocks);

/* blocks_give takes a block back; NULL is allowed and does nothing. */
void blocks_give(struct blocks *blocks, void *block);

#endif
