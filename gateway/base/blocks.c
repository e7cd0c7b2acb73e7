/* Pool of 4 KiB blocks: see blocks.h. */
#include "gateway/base/blocks.h"

#include "gateway/base/check.h"
#include "gateway/base/pages.h"

#include <string.h>

bool blocks_init(struct blocks *blocks, uint32_t count)
{
    memset(blocks, 0, sizeof(*blocks));
    blocks->memory = pages_map((size_t)count * BLOCK_STRIDE);
    if (blocks->memory == NULL)
        return false;
    blocks->count = count;
    return true;
}

void blocks_cleanup(struct blocks *blocks)
{
    pages_unmap(blocks->memory, (size_t)blocks->count * BLOCK_STRIDE);
    memset(blocks, 0, sizeof(*blocks));
}

void *blocks_take(struct blocks *blocks)
{
    void *block = blocks->free_list;
    if (block != NULL)
        memcpy(&blocks->free_list, block, sizeof(void *));
    else if (blocks->reached < blocks->count)
        block = blocks->memory + (size_t)blocks->reached++ * BLOCK_STRIDE;
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
          (uint8_t *)block < blocks->memory + (size_t)blocks->reached * BLOCK_STRIDE);
    memcpy(block, &blocks->free_list, sizeof(void *));
    blocks->free_list = block;
    blocks->used--;
}
