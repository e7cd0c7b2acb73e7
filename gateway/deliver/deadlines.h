/* When the times are over by which messages were to be delivered (RFC 2852): a heap beside the
 * queue, since what stands in a line waits for no time there. An entry may outlive its message;
 * those are left out when room is short. A pure data structure, like the queue. */
#ifndef GATEWAY_DELIVER_DEADLINES_H
#define GATEWAY_DELIVER_DEADLINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct deadline {
    uint64_t message_id;
    uint32_t at_s;  /* wall */
    uint32_t place; /* of the message in the queue */
};

/* The zero value is empty. */
struct deadlines {
    struct deadline *heap; /* children of i: 2i + 1 and 2i + 2 */
    size_t count, capacity;
    bool (*lives)(void *user, const struct deadline *deadline); /* is its message still there? */
    void *user;
};

void deadlines_free(struct deadlines *deadlines);

/* deadlines_add adds one. False: no memory; the time is then looked at only when the message is. */
bool deadlines_add(struct deadlines *deadlines, const struct deadline *deadline);

/* deadlines_take takes out the earliest, if its time has come. */
bool deadlines_take(struct deadlines *deadlines, uint64_t now_s, struct deadline *out);

/* deadlines_next_s: when the earliest comes; UINT64_MAX: there is none. */
uint64_t deadlines_next_s(const struct deadlines *deadlines);

#endif
