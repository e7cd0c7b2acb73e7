/* Object pool: see slots.h. Memory comes from mmap, so that slots that were never used cost
 * nothing. */
#include "gateway/base/slots.h"

#include "gateway/base/check.h"
#include "gateway/base/pages.h"

#include <string.h>

bool slots_init(struct slots *slots, size_t size, uint32_t count)
{
    memset(slots, 0, sizeof(*slots));
    slots->size = (size + 63) & ~(size_t)63;
    slots->count = count;
    slots->memory = pages_map(slots->size * count);
    slots->generations = pages_map(sizeof(uint32_t) * count);
    slots->free_stack = pages_map(sizeof(uint32_t) * count);
    if (slots->memory != NULL && slots->generations != NULL && slots->free_stack != NULL)
        return true;
    slots_cleanup(slots);
    return false;
}

void slots_cleanup(struct slots *slots)
{
    pages_unmap(slots->memory, slots->size * slots->count);
    pages_unmap(slots->generations, sizeof(uint32_t) * slots->count);
    pages_unmap(slots->free_stack, sizeof(uint32_t) * slots->count);
    memset(slots, 0, sizeof(*slots));
}

void *slots_take(struct slots *slots, uint32_t *slot)
{
    if (slots->used == slots->count)
        return NULL;
    *slot = slots->free_top > 0 ? slots->free_stack[--slots->free_top] : slots->reached++;
    slots->used++;
    slots->generations[*slot]++;
    CHECK(slots->generations[*slot] & 1);
    void *object = slots_at(slots, *slot);
    memset(object, 0, slots->size);
    return object;
}

void slots_give(struct slots *slots, uint32_t slot)
{
    CHECK(slot < slots->reached && (slots->generations[slot] & 1));
    slots->generations[slot]++;
    slots->free_stack[slots->free_top++] = slot;
    slots->used--;
}
