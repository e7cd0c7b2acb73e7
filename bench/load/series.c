/* See series.h. A second that some threads have still to hand in has a histogram; there are as many
 * of these as the slowest thread is seconds behind the fastest. */
#include "bench/load/series.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A second under way or complete. */
struct entry {
    struct series_second second;
    struct histogram *histogram; /* while parts are missing; NULL without memory */
    uint32_t parts;
};

struct series {
    pthread_mutex_t mutex; /* for all below */
    uint32_t threads;
    uint32_t left;     /* threads that hand in nothing more */
    uint32_t complete; /* all before this one are */
    uint32_t count, room;
    struct entry *entries;
    struct histogram *spare; /* or NULL */
};

struct series *series_new(uint32_t threads)
{
    struct series *series = calloc(1, sizeof *series);
    if (series == NULL)
        return NULL;
    series->threads = threads;
    pthread_mutex_init(&series->mutex, NULL);
    return series;
}

void series_free(struct series *series)
{
    if (series == NULL)
        return;
    for (uint32_t i = series->complete; i < series->count; i++)
        free(series->entries[i].histogram);
    free(series->entries);
    free(series->spare);
    pthread_mutex_destroy(&series->mutex);
    free(series);
}

static bool reserve(struct series *series)
{
    if (series->count < series->room)
        return true;
    uint32_t room = series->room == 0 ? 64 : series->room * 2;
    struct entry *entries = realloc(series->entries, room * sizeof *entries);
    if (entries == NULL)
        return false;
    series->entries = entries;
    series->room = room;
    return true;
}

/* The entry of a second, which may be the one behind the last. NULL: forgotten, as all after it. */
static struct entry *entry_of(struct series *series, uint32_t second)
{
    if (second < series->count)
        return &series->entries[second];
    if (second > series->count || !reserve(series))
        return NULL;
    struct entry *entry = &series->entries[series->count++];
    *entry = (struct entry){.histogram = series->spare, .parts = series->left};
    series->spare = NULL;
    if (entry->histogram == NULL)
        entry->histogram = calloc(1, sizeof *entry->histogram);
    return entry;
}

static void reduce(struct series *series, struct entry *entry)
{
    struct histogram *histogram = entry->histogram;
    entry->histogram = NULL;
    series->complete++;
    if (histogram == NULL)
        return;
    entry->second.p50_ns = histogram_quantile_ns(histogram, 0.5);
    entry->second.p99_ns = histogram_quantile_ns(histogram, 0.99);
    if (series->spare == NULL) {
        memset(histogram, 0, sizeof *histogram);
        series->spare = histogram;
    } else {
        free(histogram);
    }
}

void series_hand_in(struct series *series, uint32_t second, uint64_t answered, uint64_t failed,
                    uint64_t opened, const struct histogram *message)
{
    pthread_mutex_lock(&series->mutex);
    struct entry *entry = entry_of(series, second);
    if (entry != NULL) {
        entry->second.answered += answered;
        entry->second.failed += failed;
        entry->second.opened += opened;
        if (message->max_ns > entry->second.max_ns)
            entry->second.max_ns = message->max_ns;
        if (entry->histogram != NULL)
            histogram_merge(entry->histogram, message);
        /* Each thread hands in in order, so seconds become complete in order, too. */
        if (++entry->parts == series->threads)
            reduce(series, entry);
    }
    pthread_mutex_unlock(&series->mutex);
}

/* What it has handed in lies before, and what others begin from now on lies behind. */
void series_leave(struct series *series, uint32_t second)
{
    pthread_mutex_lock(&series->mutex);
    series->left++;
    for (uint32_t i = second; i < series->count; i++)
        if (++series->entries[i].parts == series->threads)
            reduce(series, &series->entries[i]);
    pthread_mutex_unlock(&series->mutex);
}

uint32_t series_complete(struct series *series)
{
    pthread_mutex_lock(&series->mutex);
    uint32_t complete = series->complete;
    pthread_mutex_unlock(&series->mutex);
    return complete;
}

struct series_second series_second(struct series *series, uint32_t second)
{
    struct series_second copy = {0};
    pthread_mutex_lock(&series->mutex);
    if (second < series->complete)
        copy = series->entries[second].second;
    pthread_mutex_unlock(&series->mutex);
    return copy;
}
