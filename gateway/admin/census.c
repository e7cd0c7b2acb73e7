/* Groups in an array, found by a hash table of their indexes: see census.h. */
#include "gateway/admin/census.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 65536 /* a power of two, above 3 * CENSUS_GROUPS_MAX */ };
static_assert(SLOTS > 3 * CENSUS_GROUPS_MAX, "short ways to a free slot");

struct census {
    struct census_group *groups;
    size_t count, capacity;
    uint32_t slots[SLOTS]; /* index + 1; 0: free */
};

struct census *census_new(void)
{
    return calloc(1, sizeof(struct census));
}

void census_free(struct census *census)
{
    if (census == NULL)
        return;
    free(census->groups);
    free(census);
}

static uint64_t mix(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++)
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3; /* FNV-1a */
    return (hash ^ 0xff) * 0x100000001b3;
}

static struct census_group *add_group(struct census *census)
{
    if (census->count == census->capacity) {
        size_t capacity = census->capacity == 0 ? 64 : census->capacity * 2;
        struct census_group *larger = realloc(census->groups, capacity * sizeof(*larger));
        if (larger == NULL)
            return NULL;
        census->groups = larger;
        census->capacity = capacity;
    }
    struct census_group *group = &census->groups[census->count++];
    *group = (struct census_group){.oldest_s = UINT64_MAX};
    return group;
}

/* find returns the group with this name, made when it is new. When there are too many, all new ones
 * are one without a name. NULL: no memory. */
static struct census_group *find(struct census *census, const char *destination, const char *reason,
                                 uint8_t state)
{
    uint64_t hash = mix(mix(0xcbf29ce484222325 + state, destination), reason);
    size_t slot = (hash ^ hash >> 32) % SLOTS;
    for (; census->slots[slot] != 0; slot = (slot + 1) % SLOTS) {
        struct census_group *group = &census->groups[census->slots[slot] - 1];
        if (group->state == state && strcmp(group->destination, destination) == 0 &&
            strcmp(group->reason, reason) == 0)
            return group;
    }
    if (census->count == CENSUS_GROUPS_MAX + 1)
        return &census->groups[CENSUS_GROUPS_MAX];
    struct census_group *group = add_group(census);
    if (group == NULL || census->count == CENSUS_GROUPS_MAX + 1)
        return group;
    census->slots[slot] = (uint32_t)census->count;
    memcpy(group->destination, destination, strlen(destination) + 1);
    memcpy(group->reason, reason, strlen(reason) + 1);
    group->state = state;
    return group;
}

bool census_add(struct census *census, const struct courier_row *row, uint64_t recipients)
{
    struct census_group *group = find(census, row->destination, row->reason, row->state);
    if (group == NULL)
        return false;
    group->rows++;
    group->recipients += recipients;
    group->octets += row->message.text_len;
    if (row->message.arrival_s < group->oldest_s)
        group->oldest_s = row->message.arrival_s;
    return true;
}

static int compare(const void *a, const void *b)
{
    const struct census_group *x = a, *y = b;
    if (x->recipients != y->recipients)
        return x->recipients < y->recipients ? 1 : -1;
    int order = strcmp(x->destination, y->destination);
    return order != 0 ? order : strcmp(x->reason, y->reason);
}

void census_sort(struct census *census)
{
    if (census->count > 1)
        qsort(census->groups, census->count, sizeof(*census->groups), compare);
    memset(census->slots, 0, sizeof(census->slots));
}

const struct census_group *census_at(const struct census *census, size_t index)
{
    return index < census->count ? &census->groups[index] : NULL;
}
