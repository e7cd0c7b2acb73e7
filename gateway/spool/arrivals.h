/* The messages that became durable and that the consumer has not fetched: a queue between the
 * writer and one consumer thread, under a short mutex once for each batch. It grows with what the
 * consumer leaves lying. */
#ifndef GATEWAY_SPOOL_ARRIVALS_H
#define GATEWAY_SPOOL_ARRIVALS_H

#include "gateway/spool/message.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct arrivals {
    pthread_mutex_t mutex;
    struct spool_message *ring;
    size_t capacity; /* a power of two */
    size_t head, tail;
    void (*wake)(void *user);
    void *wake_user;
};

/* arrivals_init and arrivals_free begin and end a queue. False: no memory. */
bool arrivals_init(struct arrivals *arrivals) __attribute__((warn_unused_result));
void arrivals_free(struct arrivals *arrivals);

/* arrivals_on sets what arrivals_put calls afterwards. */
void arrivals_on(struct arrivals *arrivals, void (*wake)(void *user), void *user);

/* arrivals_reserve makes sure that `count` more fit. False: no memory, nothing has changed. */
bool arrivals_reserve(struct arrivals *arrivals, size_t count) __attribute__((warn_unused_result));

/* arrivals_put adds messages that fit, and wakes the consumer. */
void arrivals_put(struct arrivals *arrivals, const struct spool_message *messages, size_t count);

/* arrivals_take moves up to `count` messages to `out`, oldest first, and returns how many. */
size_t arrivals_take(struct arrivals *arrivals, struct spool_message *out, size_t count);

#endif
