/* See backlog.h. */
#include "bench/load/backlog.h"

#include "gateway/base/check.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM_FIRST = 1024 };

/* Doubles the room; what had gone round the end comes to lie behind it. */
static bool grow(struct backlog *backlog)
{
    size_t room = backlog->room == 0 ? ROOM_FIRST : 2 * backlog->room;
    uint64_t *times_ns = realloc(backlog->times_ns, room * sizeof(*times_ns));
    if (times_ns == NULL)
        return false;
    if (backlog->first > 0)
        memcpy(times_ns + backlog->room, times_ns, backlog->first * sizeof(*times_ns));
    backlog->times_ns = times_ns;
    backlog->room = room;
    return true;
}

/* Makes room for one more. */
static bool reserve(struct backlog *backlog)
{
    return backlog->count < BACKLOG_MAX && (backlog->count < backlog->room || grow(backlog));
}

bool backlog_add(struct backlog *backlog, uint64_t intended_ns)
{
    if (!reserve(backlog))
        return false;
    backlog->times_ns[(backlog->first + backlog->count++) & (backlog->room - 1)] = intended_ns;
    return true;
}

bool backlog_return(struct backlog *backlog, uint64_t intended_ns)
{
    if (!reserve(backlog))
        return false;
    backlog->first = (backlog->first - 1) & (backlog->room - 1);
    backlog->times_ns[backlog->first] = intended_ns;
    backlog->count++;
    return true;
}

uint64_t backlog_take(struct backlog *backlog)
{
    CHECK(backlog->count > 0);
    uint64_t intended_ns = backlog->times_ns[backlog->first];
    backlog->first = (backlog->first + 1) & (backlog->room - 1);
    backlog->count--;
    return intended_ns;
}

void backlog_free(struct backlog *backlog)
{
    free(backlog->times_ns);
    *backlog = (struct backlog){0};
}
