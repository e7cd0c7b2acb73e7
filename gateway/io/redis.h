/* Questions to a Redis server, asked without waiting. hiredis reads the answers, on a socket that
 * the worker's ring watches; this module is its only user. One connection of each worker. A server
 * that is away is tried again by itself, after pauses that grow; meanwhile every question is
 * answered at once with REDIS_AWAY. Nothing here blocks, and nothing is shared between threads. The
 * server is believed, but not trusted: what it sends can end its connection, and no more. */
#ifndef GATEWAY_IO_REDIS_H
#define GATEWAY_IO_REDIS_H

#include "gateway/io/listener.h"

struct redis;
struct worker;

enum redis_status {
    REDIS_OK = 0,
    REDIS_NIL = 1,   /* no such key */
    REDIS_ERROR = 2, /* the server refused it */
    REDIS_AWAY = 3,  /* no connection, no answer in time, or too many questions under way */
};

struct redis_options {
    union address_any address; /* family AF_UNSPEC: `path` */
    const char *path;          /* of a unix socket; borrowed, as the others */
    const char *password;      /* NULL: none is asked for */
    const char *user;          /* NULL: the default user */
    uint32_t database;
    uint32_t timeout_ms;  /* for an answer, and for connecting */
    uint32_t pending_max; /* questions under way; more are REDIS_AWAY */
};

enum { REDIS_TEXT_MAX = 128 /* octets of an answer; a longer one is REDIS_ERROR */ };

/* An integer or a short text, borrowed during the call. */
struct redis_answer {
    enum redis_status status;
    int64_t number;
    const char *text; /* NULL: a number, or none */
    size_t len;
};

typedef void redis_answered(void *user, uint64_t token, const struct redis_answer *answer);

/* redis_new makes a client for `worker`, in its thread, after worker_init; both are borrowed, as
 * the options. It connects by itself. NULL: no memory. redis_free ends it: open questions are
 * dropped without an answer. */
struct redis *redis_new(struct worker *worker, const struct redis_options *options)
    __attribute__((warn_unused_result));
void redis_free(struct redis *redis);

/* redis_ask sends a command, whose words may hold any octets. `answered` (NULL: nobody cares) is
 * called with `user` and `token` exactly once, perhaps from within redis_ask when the server is
 * away. What is asked in one turn leaves together at its end. */
void redis_ask(struct redis *redis, const char *const *words, const size_t *lens, size_t count,
               redis_answered *answered, void *user, uint64_t token);

/* redis_turn lets time-outs and reconnections happen; in every turn_end. redis_next_us: when it
 * wants the next turn (monotonic; UINT64_MAX: no hurry). */
void redis_turn(struct redis *redis);
uint64_t redis_next_us(const struct redis *redis);

bool redis_is_connected(const struct redis *redis);

/* redis_why tells why the server is away, or which error it answered last ("NOPERM"); "": it never
 * was, or did. Borrowed until the next turn. */
const char *redis_why(const struct redis *redis);

/* Counters; any thread. */
struct redis_snapshot {
    uint64_t asked;    /* commands sent */
    uint64_t answered; /* with anything but an error */
    uint64_t errors;   /* REDIS_ERROR */
    uint64_t away;     /* REDIS_AWAY */
    uint64_t connects; /* connections that were of use */
    uint64_t failures; /* connections that broke, or never were */
    bool connected;
};

void redis_snapshot(const struct redis *redis, struct redis_snapshot *out);

#endif
