/* One list, in which those of a rank stand together; where each rank ends is known, so none is ever
 * looked for. */
#include "gateway/deliver/line.h"

#include "gateway/base/check.h"
#include "gateway/deliver/queue.h"

/* The last of those whose rank is above this one; NULL: there is none. */
static struct consignment *end_above(const struct line *line, uint32_t rank)
{
    while (rank > 0)
        if (line->last[--rank] != NULL)
            return line->last[rank];
    return NULL;
}

/* Puts one behind `before`; NULL: to the front. */
static void insert(struct line *line, struct consignment *consignment, struct consignment *before)
{
    consignment->previous = before;
    consignment->next = before == NULL ? line->first : before->next;
    if (consignment->next != NULL)
        consignment->next->previous = consignment;
    if (before == NULL)
        line->first = consignment;
    else
        before->next = consignment;
    line->count++;
}

void line_join(struct line *line, struct consignment *consignment, uint8_t state)
{
    uint32_t rank = consignment->rank;
    consignment->state = state;
    insert(line, consignment, end_above(line, rank + 1));
    line->last[rank] = consignment;
}

struct consignment *line_next(const struct line *line)
{
    for (uint32_t rank = LINE_RANKS - 1; rank > 0; rank--) {
        if (line->last[rank] == NULL || line->passed[rank] < LINE_PASSED_MAX)
            continue;
        struct consignment *before = end_above(line, rank);
        return before == NULL ? line->first : before->next;
    }
    return line->first;
}

/* Before it leaves the line. */
void line_count_turn(struct line *line, const struct consignment *taken)
{
    line->passed[taken->rank] = 0;
    for (uint32_t rank = taken->rank + 1u; rank < LINE_RANKS; rank++)
        if (line->last[rank] != NULL && line->passed[rank] < LINE_PASSED_MAX)
            line->passed[rank]++;
}

void line_part(struct line *line, struct consignment *consignment)
{
    uint32_t rank = consignment->rank;
    CHECK(line->count > 0);
    if (line->last[rank] == consignment) {
        struct consignment *before = consignment->previous;
        line->last[rank] = before != NULL && before->rank == rank ? before : NULL;
    }
    if (consignment->previous != NULL)
        consignment->previous->next = consignment->next;
    else
        line->first = consignment->next;
    if (consignment->next != NULL)
        consignment->next->previous = consignment->previous;
    consignment->next = consignment->previous = NULL;
    line->count--;
}

void line_append(struct line *line, struct consignment *taken)
{
    CHECK(taken->state == CONSIGNMENT_TAKEN);
    line_join(line, taken, CONSIGNMENT_LINED);
}

void line_push(struct line *line, struct consignment *taken)
{
    CHECK(taken->state == CONSIGNMENT_TAKEN);
    taken->state = CONSIGNMENT_LINED;
    insert(line, taken, end_above(line, taken->rank));
    if (line->last[taken->rank] == NULL)
        line->last[taken->rank] = taken;
}

struct consignment *line_take(struct line *line)
{
    struct consignment *next = line_next(line);
    if (next == NULL)
        return NULL;
    line_count_turn(line, next);
    line_remove(line, next);
    return next;
}

void line_remove(struct line *line, struct consignment *lined)
{
    CHECK(lined->state == CONSIGNMENT_LINED);
    line_part(line, lined);
    lined->state = CONSIGNMENT_TAKEN;
}
