/* Object pool: see slots.h. Memory comes from mmap, so that slots that were never used cost
 * nothing. */
#include "gateway/base/slots.h"

#include "gateway/base/check.h"

#include <string.h>
#include <sys/mman.h>

static void *reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

bool slots_init(struct slots *slots, size_t size, uint32_t count)
{
    memset(slots, 0, sizeof(*slots));
    slots->size = (size + 63) & ~(size_t)63;
    slots->count = count;
    slots->memory = reserve(slots->size * count);
    slots->generations = reserve(sizeof(uint32_t) * count);
    slots->free_stack = reserve(sizeof(uint32_t) * count);
    if (slots->memory != NULL && slots->generations != NULL && slots->free_stack != NULL)
        return true;
    slots_cleanup(slots);
    return false;
}

void slots_cleanup(struct slots *slots)
{
    if (slots->memory != NULL)
        munmap(slots->memory, slots->size * slots->count);
    if (slots->generations != NULL)
        munmap(slots->generations, sizeof(uint32_t) * slots->count);
    if (slots->free_stack != NULL)
        munmap(slots->free_stack, sizeof(uint32_t) * slots->count);
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
