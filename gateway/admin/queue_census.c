/* Walks over the queue and over the destinations, one after the other, with a rest between: see
 * queue_census.h. What is found is counted by admin/census, as for `ringmxctl queue summary`. */
#include "gateway/admin/queue_census.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/admin/census.h"
#include "gateway/base/check.h"
#include "gateway/base/clock.h"

enum {
    ROWS = 512,                 /* in one step */
    SHARE = 100,                /* one part of so many of the courier's time is ours */
    PAUSE_US_MAX = 2000 * 1000, /* between two steps */
    REST_US = 2 * 1000 * 1000,  /* between two walks */
};

const uint64_t queue_census_ages_s[QUEUE_CENSUS_AGES] = {60,        600,   3600,      4 * 3600,
                                                         12 * 3600, 86400, 3 * 86400, UINT64_MAX};

struct queue_census {
    struct courier *courier;
    struct census *groups; /* NULL: no walk is under way */
    bool counted;          /* the queue is; now come the destinations */
    uint64_t cursor;
    uint64_t due_us;
    struct queue_census_result next;
    struct courier_row rows[ROWS];
    struct courier_destination destinations[ROWS];

    pthread_mutex_t mutex; /* of: */
    struct queue_census_result last;
};

struct queue_census *queue_census_new(struct courier *courier)
{
    struct queue_census *census = calloc(1, sizeof(*census));
    if (census == NULL)
        return NULL;
    census->courier = courier;
    pthread_mutex_init(&census->mutex, NULL);
    return census;
}

void queue_census_free(struct queue_census *census)
{
    if (census == NULL)
        return;
    census_free(census->groups);
    pthread_mutex_destroy(&census->mutex);
    free(census);
}

void queue_census_read(struct queue_census *census, struct queue_census_result *out)
{
    pthread_mutex_lock(&census->mutex);
    *out = census->last;
    pthread_mutex_unlock(&census->mutex);
}

/* A name becomes a label: two that are cut to the same one must be one, or nobody could read the
 * page. */
static void make_label(char *name)
{
    name[strnlen(name, QUEUE_CENSUS_NAME - 1)] = '\0';
}

static uint64_t age_of(uint64_t arrival_s, uint64_t now_s)
{
    return now_s > arrival_s ? now_s - arrival_s : 0;
}

/* Counts one row. False: no memory. */
static bool count_row(struct queue_census *census, struct courier_row *row, uint64_t now_s)
{
    static const char unsorted[] = "unsorted";
    uint64_t recipients = row->recipient_count > 0 ? row->recipient_count : row->open_count;
    uint64_t age_s = age_of(spool_message_start_s(&row->message), now_s);
    uint32_t age = 0;
    while (age_s > queue_census_ages_s[age])
        age++;
    census->next.by_age[age] += recipients;
    if (age_s > census->next.oldest_s)
        census->next.oldest_s = age_s;
    if (row->destination[0] == '\0')
        memcpy(row->destination, unsorted, sizeof(unsorted));
    make_label(row->destination);
    row->reason[0] = '\0';
    row->state = 1; /* any, and the same for all */
    return census_add(census->groups, row, recipients);
}

static struct queue_census_row *new_row(struct queue_census_result *result, const char *name)
{
    CHECK(result->row_count <= QUEUE_CENSUS_DESTINATIONS);
    struct queue_census_row *row = &result->rows[result->row_count++];
    memcpy(row->destination, name, strlen(name) + 1);
    return row;
}

/* sum_up makes the rows of the result: the largest groups, and one for all others. */
static void sum_up(struct queue_census *census, uint64_t now_s)
{
    const struct census_group *group;
    struct queue_census_row *others = NULL;
    uint32_t named = 0;
    census_sort(census->groups);
    for (size_t i = 0; (group = census_at(census->groups, i)) != NULL; i++) {
        struct queue_census_row *row;
        if (named < QUEUE_CENSUS_DESTINATIONS && group->destination[0] != '\0') {
            row = new_row(&census->next, group->destination);
            named++;
        } else {
            if (others == NULL)
                others = new_row(&census->next, "other");
            row = others;
        }
        row->recipients += group->recipients;
        row->consignments += group->rows;
        row->octets += group->octets;
        uint64_t oldest_s = age_of(group->oldest_s, now_s);
        row->oldest_s = oldest_s > row->oldest_s ? oldest_s : row->oldest_s;
    }
}

/* step_queue counts some rows. Returns 0, or -errno. */
static int step_queue(struct queue_census *census)
{
    uint64_t now_s = clock_wall_us() / 1000000;
    int count = courier_list(census->courier, &census->cursor, census->rows, ROWS);
    for (int i = 0; i < count; i++)
        if (!count_row(census, &census->rows[i], now_s))
            return -ENOMEM;
    if (count >= 0 && census->cursor == UINT64_MAX) {
        sum_up(census, now_s);
        census->counted = true;
        census->cursor = 0;
    }
    return count < 0 ? count : 0;
}

static void mark_dead(struct queue_census_result *result, const char *name)
{
    for (uint32_t i = 0; i < result->row_count; i++)
        if (strcmp(result->rows[i].destination, name) == 0)
            result->rows[i].dead = true;
}

/* step_destinations counts some destinations; with the last one the walk is over. Returns 0 or
 * -errno. */
static int step_destinations(struct queue_census *census)
{
    int count = courier_destinations(census->courier, &census->cursor, census->destinations, ROWS);
    for (int i = 0; i < count; i++) {
        struct courier_destination *one = &census->destinations[i];
        if (one->state <= DESTINATION_DEAD)
            census->next.destinations[one->state]++;
        make_label(one->name);
        if (one->state == DESTINATION_DEAD)
            mark_dead(&census->next, one->name);
    }
    return count < 0 ? count : 0;
}

static void publish(struct queue_census *census)
{
    census->next.taken_us = clock_monotonic_us();
    pthread_mutex_lock(&census->mutex);
    census->last = census->next;
    pthread_mutex_unlock(&census->mutex);
}

static void end_walk(struct queue_census *census)
{
    census_free(census->groups);
    census->groups = NULL;
}

/* step goes on with the walk, or begins one. Returns how long to wait then. */
static uint64_t step(struct queue_census *census)
{
    uint64_t begun_us = clock_monotonic_us();
    if (census->groups == NULL) {
        census->groups = census_new();
        census->next = (struct queue_census_result){0};
        census->counted = false;
        census->cursor = 0;
    }
    if (census->groups == NULL)
        return REST_US;
    int error = census->counted ? step_destinations(census) : step_queue(census);
    if (error == 0 && census->counted && census->cursor == UINT64_MAX)
        publish(census);
    if (error != 0 || census->cursor == UINT64_MAX) {
        end_walk(census);
        return REST_US;
    }
    /* That the courier had other things to do meanwhile only makes us more modest. */
    uint64_t pause_us = (clock_monotonic_us() - begun_us) * (SHARE - 1);
    return pause_us < PAUSE_US_MAX ? pause_us : PAUSE_US_MAX;
}

uint32_t queue_census_step(struct queue_census *census)
{
    uint64_t now_us = clock_monotonic_us();
    if (now_us >= census->due_us)
        census->due_us = now_us + step(census);
    now_us = clock_monotonic_us();
    return census->due_us > now_us ? (uint32_t)((census->due_us - now_us) / 1000) + 1 : 0;
}
