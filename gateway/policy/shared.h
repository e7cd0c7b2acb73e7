/* What several gateways know together, through Redis (gateway/io/redis.h): rates, and the greylist.
 * One for each worker. Counting never waits: what was counted here is told some times a second, and
 * what comes back closes the local bucket (rates_close) until the minute is over. Only the first
 * sight of a greylist triplet is a question that a client waits for, for some milliseconds. With
 * Redis away everything is as without it. docs/scaling.md has the keys. */
#ifndef GATEWAY_POLICY_SHARED_H
#define GATEWAY_POLICY_SHARED_H

#include "gateway/base/log.h"
#include "gateway/io/redis.h"
#include "gateway/policy/greylist.h"
#include "gateway/policy/rates.h"

struct shared;

struct shared_options {
    struct redis_options redis;
    const char *prefix; /* of all keys */
    struct rates *rates;
    struct greylist *greylist; /* NULL: none */
};

/* A question about a triplet; the asker's memory, at rest when zero but for the first two. */
struct shared_question {
    void (*answered)(struct shared_question *question, enum greylist_verdict verdict);
    void *user;
    uint64_t triplet, network; /* of the question */
    uint64_t token;            /* the module's; 0: at rest */
};

/* shared_new: in the worker's thread, after worker_init. The options are borrowed, as is `log`
 * (NULL: none), which hears of Redis coming and going. NULL: no memory. shared_free drops what is
 * open. */
struct shared *shared_new(struct worker *worker, const struct shared_options *options,
                          struct log_port *log) __attribute__((warn_unused_result));
void shared_free(struct shared *shared);

/* shared_count tells the others of one that rates_take has let through. */
void shared_count(struct shared *shared, const struct rate_limits *limits, enum rate_kind kind,
                  const union address_any *peer);

/* shared_ask asks whether the others know a triplet that greylist_ask has called FIRST. False: they
 * can't be asked now (Redis is away, or too many ask), so the local verdict counts. True:
 * `answered` follows exactly once, at the latest when redis.timeout_ms is over; with FIRST when
 * nobody knew, or there was no answer. shared_cancel takes a question back, asked or not. */
bool shared_ask(struct shared *shared, const struct greylist_rules *rules,
                struct shared_question *question, uint64_t triplet, uint64_t network)
    __attribute__((warn_unused_result));
void shared_cancel(struct shared *shared, struct shared_question *question);

/* shared_passed tells the others that a network has come again. */
void shared_passed(struct shared *shared, const struct greylist_rules *rules, uint64_t network);

void shared_turn(struct shared *shared);
uint64_t shared_next_us(const struct shared *shared);
const struct redis *shared_redis(const struct shared *shared);

#endif
