/* Fixed-size objects in one stretch of memory, reserved at start and touched on first use. An
 * object's name is slot and generation: slots are used again, names are not (until 2^24 uses of a
 * slot have passed), so a late answer from the kernel is recognised instead of followed. One thread
 * only. */
#ifndef GATEWAY_BASE_SLOTS_H
#define GATEWAY_BASE_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SLOTS_GENERATION_MASK = 0xffffff };

struct slots {
    uint8_t *memory;
    uint32_t *generations; /* odd: in use */
    uint32_t *free_stack;
    size_t size;
    uint32_t count;
    uint32_t used;     /* objects in use */
    uint32_t reached;  /* slots below have been used at least once */
    uint32_t free_top; /* entries of free_stack */
};

/* slots_init reserves `count` objects of `size` octets (rounded up to 64). False: no memory.
 * slots_cleanup gives all back; legal on the zero value. */
bool slots_init(struct slots *slots, size_t size, uint32_t count)
    __attribute__((warn_unused_result));
void slots_cleanup(struct slots *slots);

/* slots_take returns a zeroed object and its slot, or NULL when all are in use. The one used last
 * comes first: it is warm. */
void *slots_take(struct slots *slots, uint32_t *slot);

/* slots_give takes an object back. */
void slots_give(struct slots *slots, uint32_t slot);

/* slots_at returns the object in a slot, in use or not. */
static inline void *slots_at(const struct slots *slots, uint32_t slot)
{
    return slots->memory + (size_t)slot * slots->size;
}

/* slots_generation returns the present generation of a slot, 24 bits. */
static inline uint32_t slots_generation(const struct slots *slots, uint32_t slot)
{
    return slots->generations[slot] & SLOTS_GENERATION_MASK;
}

/* slots_find returns the object that (slot, generation) names, or NULL when it is gone. */
static inline void *slots_find(const struct slots *slots, uint32_t slot, uint32_t generation)
{
    if (slot >= slots->reached || slots_generation(slots, slot) != generation)
        return NULL;
    return slots_at(slots, slot);
}

#endif
