/* Pool of 4 KiB blocks: see blocks.h. */
#include "gateway/base/blocks.h"

#include "gateway/base/check.h"

#include <string.h>
#include <sys/mman.h>

bool blocks_init(struct blocks *blocks, uint32_t count)
{
    memset(blocks, 0, sizeof(*blocks));
    void *memory = mmap(NULL, (size_t)count * BLOCK_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    blocks->memory = memory;
    blocks->count = count;
    return true;
}

void blocks_cleanup(struct blocks *blocks)
{
    if (blocks->memory != NULL)
        munmap(blocks->memory, (size_t)blocks->count * BLOCK_SIZE);
    memset(blocks, 0, sizeof(*blocks));
}

void *blocks_take(struct blocks *blocks)
{
    void *block = blocks->free_list;
    if (block != NULL)
        memcpy(&blocks->free_list, block, sizeof(void *));
    else if (blocks->reached < blocks->count)
        block = blocks->memory + (size_t)blocks->reached++ * BLOCK_SIZE;
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
          (uint8_t *)block < blocks->memory + (size_t)blocks->reached * BLOCK_SIZE);
    memcpy(block, &blocks->free_list, sizeof(void *));
    blocks->free_list = block;
    blocks->used--;
}
