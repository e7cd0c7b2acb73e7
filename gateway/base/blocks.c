/* Pool of blocks: see blocks.h. */
#include "gateway/base/blocks.h"

#include "gateway/base/check.h"
#include "gateway/base/pages.h"

#include <string.h>

bool blocks_init(struct blocks *blocks, uint32_t count)
{
    return blocks_init_sized(blocks, count, BLOCK_SIZE);
}

bool blocks_init_sized(struct blocks *blocks, uint32_t count, size_t size)
{
    memset(blocks, 0, sizeof(*blocks));
    blocks->stride = size + 64;
    blocks->memory = pages_map((size_t)count * blocks->stride);
    if (blocks->memory == NULL)
        return false;
    blocks->count = count;
    return true;
}

void blocks_cleanup(struct blocks *blocks)
{
    pages_unmap(blocks->memory, (size_t)blocks->count * blocks->stride);
    memset(blocks, 0, sizeof(*blocks));
}

void *blocks_take(struct blocks *blocks)
{
    void *block = blocks->free_list;
    if (block != NULL)
        memcpy(&blocks->free_list, block, sizeof(void *));
    else if (blocks->reached < blocks->count)
        block = blocks->memory + (size_t)blocks->reached++ * blocks->stride;
    else
        return NULL;
    blocks->used++;
    return block;
}

void blocks_give(struct blocks *blocks, void *block)
{
    if (block == NULL)
        return;
    CHECK((uint8_t *)block >= blocks->memory &&
          (uint8_t *)block < blocks->memory + (size_t)blocks->reached * blocks->stride);
    memcpy(block, &blocks->free_list, sizeof(void *));
    blocks->free_list = block;
    blocks->used--;
}
