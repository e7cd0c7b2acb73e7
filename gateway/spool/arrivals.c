/* A growing ring under a mutex. */
#include "gateway/spool/arrivals.h"

#include "gateway/base/check.h"

#include <stdlib.h>
#include <string.h>

enum { ARRIVALS_START = 4096 };

bool arrivals_init(struct arrivals *arrivals)
{
    *arrivals = (struct arrivals){.capacity = ARRIVALS_START};
    pthread_mutex_init(&arrivals->mutex, NULL);
    arrivals->ring = malloc(arrivals->capacity * sizeof *arrivals->ring);
    return arrivals->ring != NULL;
}

void arrivals_free(struct arrivals *arrivals)
{
    free(arrivals->ring);
    arrivals->ring = NULL;
    pthread_mutex_destroy(&arrivals->mutex);
}

void arrivals_on(struct arrivals *arrivals, void (*wake)(void *user), void *user)
{
    pthread_mutex_lock(&arrivals->mutex);
    arrivals->wake = wake;
    arrivals->wake_user = user;
    pthread_mutex_unlock(&arrivals->mutex);
}

/* Copies messages out of the ring in at most two pieces. */
static void copy_out(const struct arrivals *arrivals, struct spool_message *out, size_t count)
{
    size_t start = arrivals->tail & (arrivals->capacity - 1);
    size_t first = arrivals->capacity - start < count ? arrivals->capacity - start : count;
    memcpy(out, arrivals->ring + start, first * sizeof *out);
    memcpy(out + first, arrivals->ring, (count - first) * sizeof *out);
}

bool arrivals_reserve(struct arrivals *arrivals, size_t count)
{
    bool fits = true;
    pthread_mutex_lock(&arrivals->mutex);
    size_t used = arrivals->head - arrivals->tail;
    size_t capacity = arrivals->capacity;
    while (capacity - used < count)
        capacity *= 2;
    if (capacity != arrivals->capacity) {
        struct spool_message *ring = malloc(capacity * sizeof *ring);
        fits = ring != NULL;
        if (fits) {
            copy_out(arrivals, ring, used);
            free(arrivals->ring);
            arrivals->ring = ring;
            arrivals->capacity = capacity;
            arrivals->tail = 0;
            arrivals->head = used;
        }
    }
    pthread_mutex_unlock(&arrivals->mutex);
    return fits;
}

void arrivals_put(struct arrivals *arrivals, const struct spool_message *messages, size_t count)
{
    pthread_mutex_lock(&arrivals->mutex);
    CHECK(arrivals->capacity - (arrivals->head - arrivals->tail) >= count);
    for (size_t i = 0; i < count; i++)
        arrivals->ring[arrivals->head++ & (arrivals->capacity - 1)] = messages[i];
    void (*wake)(void *user) = arrivals->wake;
    void *user = arrivals->wake_user;
    pthread_mutex_unlock(&arrivals->mutex);
    if (wake != NULL && count != 0)
        wake(user);
}

size_t arrivals_take(struct arrivals *arrivals, struct spool_message *out, size_t count)
{
    pthread_mutex_lock(&arrivals->mutex);
    size_t used = arrivals->head - arrivals->tail;
    if (count > used)
        count = used;
    copy_out(arrivals, out, count);
    arrivals->tail += count;
    pthread_mutex_unlock(&arrivals->mutex);
    return count;
}
