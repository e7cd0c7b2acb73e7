/* What waits, by destination and by age: looked at a piece at a time by a thread of the admin side,
 * so that neither the courier nor a scrape waits for a walk over a million messages. */
#ifndef GATEWAY_ADMIN_QUEUE_CENSUS_H
#define GATEWAY_ADMIN_QUEUE_CENSUS_H

#include "gateway/deliver/courier_queue.h"

enum { QUEUE_CENSUS_AGES = 8, QUEUE_CENSUS_DESTINATIONS = 32, QUEUE_CENSUS_NAME = 128 };

struct queue_census_row {
    char destination[QUEUE_CENSUS_NAME]; /* "other": all that are not among the largest */
    uint64_t recipients, consignments, octets;
    uint64_t oldest_s; /* age */
    bool dead;         /* nothing gets through to it */
};

/* The figures of the last whole walk. */
struct queue_census_result {
    uint64_t taken_us;                  /* monotonic: when it ended; 0: none has yet */
    uint64_t by_age[QUEUE_CENSUS_AGES]; /* recipients; queue_census_ages_s bounds the ages */
    uint64_t oldest_s;
    uint32_t destinations[DESTINATION_DEAD + 1]; /* in memory, by enum destination_state */
    uint32_t row_count;
    struct queue_census_row rows[QUEUE_CENSUS_DESTINATIONS + 1]; /* the largest first */
};

extern const uint64_t queue_census_ages_s[QUEUE_CENSUS_AGES]; /* the last one: UINT64_MAX */

struct queue_census;

struct queue_census *queue_census_new(struct courier *courier) __attribute__((warn_unused_result));
void queue_census_free(struct queue_census *census);

/* queue_census_step looks at a bounded part of the queue, when it is time for it (the more there
 * is, the less often: at most 1% of the courier's time). Returns milliseconds until the next step.
 * One thread. */
uint32_t queue_census_step(struct queue_census *census);

/* queue_census_read copies the last result. Any thread. */
void queue_census_read(struct queue_census *census, struct queue_census_result *out);

#endif
