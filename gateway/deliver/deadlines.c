/* A binary heap. When it is full, the entries of messages that are gone are thrown out, and it
 * grows by half unless those were a quarter of it; so it is at most twice what lives, and the cost
 * of throwing out is a constant for each entry. */
#include "gateway/deliver/deadlines.h"

#include <stdlib.h>

enum { DEADLINES_FIRST = 256 };

void deadlines_free(struct deadlines *deadlines)
{
    free(deadlines->heap);
    deadlines->heap = NULL;
    deadlines->count = deadlines->capacity = 0;
}

static void rise(struct deadlines *deadlines, size_t place, struct deadline deadline)
{
    struct deadline *heap = deadlines->heap;
    while (place > 0 && heap[(place - 1) / 2].at_s > deadline.at_s) {
        heap[place] = heap[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    heap[place] = deadline;
}

static void sink(struct deadlines *deadlines, size_t place, struct deadline deadline)
{
    struct deadline *heap = deadlines->heap;
    for (size_t child; (child = 2 * place + 1) < deadlines->count; place = child) {
        if (child + 1 < deadlines->count && heap[child + 1].at_s < heap[child].at_s)
            child++;
        if (heap[child].at_s >= deadline.at_s)
            break;
        heap[place] = heap[child];
    }
    heap[place] = deadline;
}

static void purge(struct deadlines *deadlines)
{
    size_t kept = 0;
    for (size_t i = 0; i < deadlines->count; i++)
        if (deadlines->lives(deadlines->user, &deadlines->heap[i]))
            deadlines->heap[kept++] = deadlines->heap[i];
    deadlines->count = kept;
    for (size_t i = kept / 2; i > 0; i--)
        sink(deadlines, i - 1, deadlines->heap[i - 1]);
}

static bool grow(struct deadlines *deadlines)
{
    size_t capacity =
        deadlines->capacity == 0 ? DEADLINES_FIRST : deadlines->capacity + deadlines->capacity / 2;
    struct deadline *heap = realloc(deadlines->heap, capacity * sizeof *heap);
    if (heap == NULL)
        return false;
    deadlines->heap = heap;
    deadlines->capacity = capacity;
    return true;
}

bool deadlines_add(struct deadlines *deadlines, const struct deadline *deadline)
{
    if (deadlines->count == deadlines->capacity) {
        purge(deadlines);
        bool full = deadlines->count >= deadlines->capacity - deadlines->capacity / 4;
        if (full && !grow(deadlines) && deadlines->count == deadlines->capacity)
            return false;
    }
    rise(deadlines, deadlines->count++, *deadline);
    return true;
}

bool deadlines_take(struct deadlines *deadlines, uint64_t now_s, struct deadline *out)
{
    if (deadlines->count == 0 || deadlines->heap[0].at_s > now_s)
        return false;
    *out = deadlines->heap[0];
    struct deadline last = deadlines->heap[--deadlines->count];
    if (deadlines->count > 0)
        sink(deadlines, 0, last);
    return true;
}

uint64_t deadlines_next_s(const struct deadlines *deadlines)
{
    return deadlines->count == 0 ? UINT64_MAX : deadlines->heap[0].at_s;
}
