/* A list under a lock: see expiries.h. */
#include "gateway/admin/expiries.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct expiries {
    pthread_mutex_t mutex;
    uint32_t count;
    struct expiry list[EXPIRIES_MAX];
};

struct expiries *expiries_new(void)
{
    struct expiries *expiries = calloc(1, sizeof(*expiries));
    if (expiries != NULL)
        pthread_mutex_init(&expiries->mutex, NULL);
    return expiries;
}

void expiries_free(struct expiries *expiries)
{
    if (expiries == NULL)
        return;
    pthread_mutex_destroy(&expiries->mutex);
    free(expiries);
}

void expiries_set(struct expiries *expiries, const struct expiry *list, uint32_t count)
{
    pthread_mutex_lock(&expiries->mutex);
    expiries->count = count < EXPIRIES_MAX ? count : EXPIRIES_MAX;
    if (count > 0)
        memcpy(expiries->list, list, expiries->count * sizeof(*list));
    pthread_mutex_unlock(&expiries->mutex);
}

uint32_t expiries_read(struct expiries *expiries, struct expiry *out)
{
    pthread_mutex_lock(&expiries->mutex);
    uint32_t count = expiries->count;
    if (count > 0)
        memcpy(out, expiries->list, count * sizeof(*out));
    pthread_mutex_unlock(&expiries->mutex);
    return count;
}
