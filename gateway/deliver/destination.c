/* The interface of destinations, and the order of a turn: what clients have told, who wakes, a step
 * of each that has something to do, then connections for those who want them, in turns. All is
 * bounded; what is left over makes the next turn come at once. */
#include "gateway/deliver/destination_inside.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "tls/crypto.h"

enum {
    TURN_STEPS = 1024, /* destinations that are looked at in one turn */
    TURN_CALLS = 512,  /* consignments that are handed to the courier in one turn */
};

static uint32_t or_usual(uint32_t value, uint32_t usual)
{
    return value == 0 ? usual : value;
}

struct destinations *destinations_new(const struct destinations_options *options)
{
    struct destinations *home = calloc(1, sizeof *home);
    if (home == NULL)
        return NULL;
    home->options = *options;
    home->options.connections_max = or_usual(options->connections_max, 1000);
    home->options.destinations_max = or_usual(options->destinations_max, DESTINATIONS_REMEMBERED);
    home->options.living_max = or_usual(options->living_max, DESTINATIONS_MAX);
    home->options.searches_max = or_usual(options->searches_max, DESTINATIONS_SEARCHES);
    home->options.hosts_max = or_usual(options->hosts_max, DESTINATIONS_HOSTS);
    home->options.idle_s = or_usual(options->idle_s, 10);
    home->options.reuse_max = or_usual(options->reuse_max, 1000);
    home->options.retry_min_s = or_usual(options->retry_min_s, 60);
    home->options.retry_max_s = or_usual(options->retry_max_s, 3600);
    home->callbacks = (struct client_callbacks){.idle = links_idle, .closed = links_closed};
    home->setup = *options->client;
    home->setup.callbacks = &home->callbacks;
    crypto_random(home->seed, sizeof home->seed);
    list_init(&home->active);
    list_init(&home->resting);
    list_init(&home->found);
    list_init(&home->openers[0]);
    list_init(&home->openers[1]);
    list_init(&home->searchers[0]);
    list_init(&home->searchers[1]);
    list_init(&home->idle);
    list_init(&home->events);
    list_init(&home->cancelled);
    if (!slots_init(&home->links, sizeof(struct link), home->options.connections_max)) {
        free(home);
        return NULL;
    }
    return home;
}

void destinations_configure(struct destinations *home, uint32_t idle_s, uint32_t retry_max_s,
                            const struct client_timeouts *timeouts)
{
    home->options.idle_s = or_usual(idle_s, 10);
    home->options.retry_max_s = or_usual(retry_max_s, 3600);
    if (home->options.retry_min_s > home->options.retry_max_s)
        home->options.retry_min_s = home->options.retry_max_s;
    home->setup.timeouts = *timeouts;
}

void destinations_free(struct destinations *home)
{
    if (home == NULL)
        return;
    CHECK(home->links.used == 0);
    for (uint32_t i = 1; i < home->table_count; i++)
        if (home->table[i] != NULL)
            destination_free(home->table[i]);
    slots_cleanup(&home->links);
    free(home->table);
    free(home->free_indexes);
    free(home->wakes);
    free(home->buckets);
    free(home);
}

void destinations_line(struct destinations *home, struct consignment *consignment)
{
    struct destination *destination = destination_at(home, consignment->destination);
    CHECK(destination != NULL);
    line_append(&destination->line, consignment);
    home->lined_count++;
    if (destination->dead) {
        /* Who comes to a dead one is asked for its age at once. */
        destination->walk_left = destination->walk == NULL ? 1 : UINT32_MAX;
        if (destination->walk == NULL)
            destination->walk = consignment;
    }
    destination_activate(destination);
}

void destinations_leave(struct destinations *home, struct consignment *consignment)
{
    struct destination *destination = destination_at(home, consignment->destination);
    CHECK(destination != NULL);
    if (destination->walk == consignment)
        destination->walk = consignment->next;
    line_remove(&destination->line, consignment);
    home->lined_count--;
    /* It may be at rest now. */
    destination_activate(destination);
}

struct consignment *destinations_empty(struct destinations *home)
{
    for (uint32_t i = 0; i < home->table_count && home->lined_count > 0; i++) {
        struct destination *destination = destination_at(home, home->empty_at);
        if (destination != NULL && destination->line.count > 0) {
            struct consignment *first = destination->line.first;
            destinations_leave(home, first);
            return first;
        }
        home->empty_at = (home->empty_at + 1) % home->table_count;
    }
    return NULL;
}

void destinations_deliver(struct destinations *home, uint32_t index, struct delivery *delivery)
{
    struct destination *destination = destination_at(home, index);
    CHECK(destination != NULL && !list_linked(&delivery->node));
    delivery->client = NULL;
    delivery->fresh = false;
    list_append(&destination->waiting, &delivery->node);
    home->waiting_count++;
    destination_activate(destination);
}

void destinations_cancel(struct destinations *home, struct delivery *delivery)
{
    if (delivery->client != NULL) {
        const struct link *link = client_user(delivery->client);
        CHECK(link->delivery == delivery);
        client_cancel(delivery->client);
        return;
    }
    CHECK(list_linked(&delivery->node));
    list_remove(&delivery->node);
    list_append(&home->cancelled, &delivery->node);
}

static void finish_cancelled(struct destinations *home)
{
    static const struct verdict given_up = {
        .kind = VERDICT_DEFERRED, .status = {4, 4, 7},
             .text = "given up before it was begun"
    };
    struct list_node *node;

    while ((node = list_pop(&home->cancelled)) != NULL) {
        home->waiting_count--;
        delivery_fail(NULL, list_entry(node, struct delivery, node), &given_up);
    }
}

bool destinations_crowded(const struct destinations *destinations, uint32_t index)
{
    const struct destination *destination = destination_at(destinations, index);
    bool room = !list_empty(&destination->idle) ||
                (links_may_grow(destination) && links_has_room(destinations, destination->proven));
    bool steps_full = destination->steps >= links_steps(destination);

    return (destination->line.count > 0 && !room) ||
           (!list_empty(&destination->waiting) && (!room || steps_full));
}

void destinations_turn(struct destinations *home, uint64_t now_us)
{
    home->now_us = now_us;
    finish_cancelled(home);
    links_events(home);
    destinations_wake(home);
    home->calls_left = TURN_CALLS;
    for (uint32_t i = 0; i < TURN_STEPS && home->calls_left > 0; i++) {
        struct list_node *node = list_pop(&home->active);
        if (node == NULL)
            break;
        struct destination *destination = list_entry(node, struct destination, node);
        destination->active = false;
        destination_step(destination);
    }
    links_open(home);
    destinations_forget(home);
}

uint64_t destinations_next_us(const struct destinations *home)
{
    bool more = home->more_opens || !list_empty(&home->active) || !list_empty(&home->events) ||
                !list_empty(&home->cancelled) || links_may_search(home);
    if (more)
        return 0;
    uint64_t next_us = home->wake_count == 0 ? UINT64_MAX : home->wakes[0]->wake_us;
    if (home->break_us > 0 && home->break_us < next_us)
        next_us = home->break_us;
    bool paused = home->pause_us > 0 && home->opener_counts[0] + home->opener_counts[1] > 0;
    return paused && home->pause_us < next_us ? home->pause_us : next_us;
}

void destinations_retry(struct destinations *home, uint32_t index, uint64_t now_us)
{
    uint32_t first = index == 0 ? 1 : index, end = index == 0 ? home->table_count : index + 1;

    for (uint32_t i = first; i < end; i++) {
        struct destination *destination = destination_at(home, i);
        if (destination == NULL || !destination->dead || destination->retry_us <= now_us)
            continue;
        destination->retry_us = now_us;
        destination_activate(destination);
    }
}

void destinations_stop(struct destinations *home, bool now)
{
    home->stopping = true;
    for (uint32_t i = 1; i < home->table_count; i++)
        if (home->table[i] != NULL && !list_empty(&home->table[i]->waiting))
            destination_activate(home->table[i]);
    links_stop(home, now);
}

bool destinations_at_rest(const struct destinations *home)
{
    return home->links.used == 0 && home->waiting_count == 0;
}

const struct destinations_counters *destinations_counters(const struct destinations *home)
{
    return &home->counters;
}
