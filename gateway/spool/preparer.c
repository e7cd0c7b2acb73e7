/* What the preparer does in one go, and its thread: woken by the pool's bell, and once a second. */
#include "gateway/spool/preparer.h"

#include "gateway/base/check.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { PREPARER_RETRY_US = 1000000 };

static void name_poisoned(struct preparer *preparer)
{
    struct segment *segment = pool_next_poisoned(preparer->pool);
    if (segment == NULL)
        return;
    int error = segment_mark_poisoned(preparer->volume, segment);
    if (error != 0)
        log_message(preparer->log, LOG_ERROR, "spool.poisoned",
                    "segment %016" PRIx64 " can't be renamed: %s", segment->generation,
                    strerror(-error));
    else
        log_message(preparer->log, LOG_WARN, "spool.poisoned",
                    "segment %016" PRIx64 " is not trusted from %" PRIu64 " on",
                    segment->generation, segment->trusted_end);
}

/* Makes a dead segment ready again, or deletes it when it is not wanted. */
static int recycle(struct preparer *preparer, struct segment *dead)
{
    const struct volume *volume = preparer->volume;
    if (dead->damaged) {
        segment_retire(volume, dead);
        return 0;
    }
    if (atomic_load(&dead->poisoned) || dead->size != volume->segment_size ||
        !pool_keeps(preparer->pool)) {
        segment_delete(volume, dead);
        return 0;
    }
    int error = segment_recycle(volume, dead, pool_generation(preparer->pool));
    if (error != 0 || !pool_add_ready(preparer->pool, dead))
        segment_delete(volume, dead);
    return -error;
}

static int create(struct preparer *preparer)
{
    struct segment *segment = segment_create(preparer->volume, pool_generation(preparer->pool));
    if (segment == NULL)
        return errno;
    if (!pool_add_ready(preparer->pool, segment))
        segment_delete(preparer->volume, segment);
    return 0;
}

static void report(struct preparer *preparer, int error)
{
    int before = pool_prepared(preparer->pool, error);
    if (error != 0 && error != before)
        log_message(preparer->log, LOG_ERROR, "spool.prepare", "no segment can be prepared: %s",
                    strerror(error));
    else if (error == 0 && before != 0)
        log_message(preparer->log, LOG_INFO, "spool.prepare", "segments can be prepared again");
}

static void recycle_dead(struct preparer *preparer)
{
    /* Bounded by the segments that are dead at once. */
    for (struct segment *dead = pool_take_dead(preparer->pool); dead != NULL;
         dead = pool_take_dead(preparer->pool)) {
        bool wanted = pool_wanting(preparer->pool);
        int error = recycle(preparer, dead);
        if (wanted)
            report(preparer, error);
    }
}

int preparer_work(struct preparer *preparer)
{
    int error = 0;
    name_poisoned(preparer);
    recycle_dead(preparer);
    /* A busy writer may take them as fast as they are made: each time, what died meanwhile goes
     * first. */
    while (error == 0 && pool_wanting(preparer->pool)) {
        error = create(preparer);
        report(preparer, error);
        recycle_dead(preparer);
    }
    return error;
}

static void *run(void *argument)
{
    struct preparer *preparer = argument;
    pthread_setname_np(pthread_self(), "preparer");
    while (!atomic_load(&preparer->stopping)) {
        preparer_work(preparer);
        bell_wait(&preparer->bell, PREPARER_RETRY_US);
    }
    /* What the next start must know. */
    name_poisoned(preparer);
    return NULL;
}

int preparer_start(struct preparer *preparer)
{
    int error = pthread_create(&preparer->thread, NULL, run, preparer);
    preparer->running = error == 0;
    return -error;
}

void preparer_stop(struct preparer *preparer)
{
    if (!preparer->running)
        return;
    atomic_store(&preparer->stopping, true);
    pool_stop(preparer->pool);
    bell_ring(&preparer->bell);
    pthread_join(preparer->thread, NULL);
    preparer->running = false;
}
