/* Places for connections: each is opened again and again, one connection at a time; what outlives a
 * connection is here. */
#ifndef BENCH_LOAD_PLACE_H
#define BENCH_LOAD_PLACE_H

#include "gateway/base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct client;

enum place_kind { PLACE_SENDS = 0, PLACE_HOLDS = 1, PLACE_SLOW = 2 };

struct place {
    struct list_node node; /* in client->waiting, ->retrying or ->spare */
    uint64_t retry_ns;
    uint64_t
        intended_ns;     /* of its connection, in an open loop of connections; 0: counted already */
    uint64_t message_ns; /* intended start of its next message, if that is past; 0: it is not */
    uint32_t messages;   /* begun on this connection, or those of its arrival, without lost ones */
    uint32_t messages_limit; /* then QUIT; 0: no end */
    uint8_t kind;            /* enum place_kind */
    bool arrived;            /* was counted for the common start */
};

/* How a connection has ended, for its place. */
enum place_end {
    PLACE_DONE = 0,   /* in good order, or broken off on purpose */
    PLACE_FAILED = 1, /* tried again with --reconnect only, unless it has done all it should */
};

/* place_start makes the places and has them opened. False: no memory. */
bool place_start(struct client *client) __attribute__((warn_unused_result));

/* place_arrived counts a place for the common start, once. */
void place_arrived(struct client *client, struct place *place);

/* place_settle adds what an arrival, or a message that is not sent again, has waited until now. */
void place_settle(struct client *client, struct place *place, uint64_t now_ns);

/* place_has_more says whether its connection may begin one more message. */
static inline bool place_has_more(const struct place *place)
{
    return place->messages_limit == 0 || place->messages < place->messages_limit;
}

/* place_closed decides what becomes of a place whose connection has ended. */
void place_closed(struct client *client, struct place *place, enum place_end end, uint64_t now_ns);

/* place_take lets an arrival have a spare place, which is opened for it. False: none is spare. */
bool place_take(struct client *client, uint64_t intended_ns);

/* place_open_waiting opens connections, as many at a time as a server can be asked to accept.
 * place_next_ns is when it should be called next; UINT64_MAX: any time. */
void place_open_waiting(struct client *client, uint64_t now_ns);
uint64_t place_next_ns(const struct client *client);

/* place_forget gives up all that wait to be opened; `forgotten` (may be NULL) hears of those that
 * an arrival had taken. */
void place_forget(struct client *client,
                  void (*forgotten)(struct client *client, const struct place *place));

#endif
