/* The table of destinations: found by name through a keyed hash, since strangers choose the domains
 * of mx:; known by an index that is used again only when the destination has long been at rest. And
 * the heap of those who want to be woken at a time. */
#include "gateway/deliver/destination_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/hash.h"

enum {
    TABLE_FIRST = 64,
    NAME_SIZE = 10240, /* a route's text has less than 8,192 octets, a domain 255 */
    TURN_WAKES = 1024,
    TURN_FORGETS = 64,
    CONNECTIONS_USUAL = 20, /* route_options.connections when it is 0 */
    REST_US = 10000000,     /* a destination at rest is kept at least so long */
};

/* With its exchange, two names with a domain, why it is dead, and its places in the tables. */
_Static_assert(sizeof(struct destination) + 128 + 2 * 320 + sizeof(struct verdict) + 48 <=
                   DESTINATION_OCTETS,
               "the memory contract");

static void heap_put(struct destinations *home, uint32_t place, struct destination *destination);
static void heap_rise(struct destinations *home, uint32_t place, struct destination *destination);
static void heap_remove(struct destinations *home, uint32_t place);

/* --- names --- */

size_t destination_name(const struct route *route, struct bytes domain, char *out, size_t size)
{
    const char *text = route->text;
    size_t prefix_len = 0, domain_len = 0;

    if (route->kind == ROUTE_MX && route->exchange == NULL) {
        CHECK(strncmp(text, "mx:", 3) == 0);
        prefix_len = 3;
        domain_len = domain.len;
    }
    size_t rest_len = strlen(text + prefix_len), len = 0;
    for (size_t i = 0; i < prefix_len && len + 1 < size; i++)
        out[len++] = text[i];
    for (size_t i = 0; i < domain_len && len + 1 < size; i++)
        out[len++] = (char)byte_lower(domain.data[i]);
    for (size_t i = 0; i < rest_len && len + 1 < size; i++)
        out[len++] = text[prefix_len + i];
    if (size > 0)
        out[len] = '\0';
    return prefix_len + domain_len + rest_len;
}

/* --- the table --- */

struct destination *destination_at(const struct destinations *home, uint32_t index)
{
    return index == 0 || index >= home->table_count ? NULL : home->table[index];
}

/* Room for one more. False: no memory. */
static bool grow_table(struct destinations *home)
{
    if (home->free_count > 0 || home->table_count < home->table_capacity)
        return true;
    uint32_t capacity = home->table_capacity == 0 ? TABLE_FIRST : home->table_capacity * 2;
    struct destination **table = realloc(home->table, capacity * sizeof *table);
    if (table == NULL)
        return false;
    home->table = table;
    struct destination **wakes = realloc(home->wakes, capacity * sizeof *wakes);
    if (wakes == NULL)
        return false;
    home->wakes = wakes;
    uint32_t *indexes = realloc(home->free_indexes, capacity * sizeof *indexes);
    if (indexes == NULL)
        return false;
    home->free_indexes = indexes;
    home->table_capacity = capacity;
    if (home->table_count == 0)
        home->table[home->table_count++] = NULL;
    return true;
}

static bool grow_buckets(struct destinations *home)
{
    if (home->living_count < home->bucket_count)
        return true;
    uint32_t count = home->bucket_count == 0 ? TABLE_FIRST : home->bucket_count * 2;
    uint32_t *buckets = calloc(count, sizeof *buckets);
    if (buckets == NULL)
        return false;
    for (uint32_t i = 1; i < home->table_count; i++) {
        struct destination *destination = home->table[i];
        if (destination == NULL)
            continue;
        uint32_t *bucket = &buckets[destination->hash & (count - 1)];
        destination->chain = *bucket;
        *bucket = i;
    }
    free(home->buckets);
    home->buckets = buckets;
    home->bucket_count = count;
    return true;
}

static struct destination *make(struct destinations *home, const struct route *route,
                                struct bytes domain, const char *name, uint64_t hash)
{
    bool configured = route->kind != ROUTE_MX || route->exchange != NULL;
    if (!configured && home->living_count >= home->options.living_max)
        return NULL;
    if (!grow_table(home) || !grow_buckets(home))
        return NULL;
    struct destination *destination = calloc(1, sizeof *destination);
    if (destination == NULL)
        return NULL;
    destination->home = home;
    destination->name = strdup(name);
    destination->exchange = exchange_new(home->options.exchange, route, domain);
    if (destination->name == NULL || destination->exchange == NULL) {
        exchange_free(destination->exchange);
        free(destination->name);
        free(destination);
        return NULL;
    }
    const struct route_options *options = &route->options;
    destination->limit = options->connections == 0 ? CONNECTIONS_USUAL : options->connections;
    destination->interval_us = options->rate == 0 ? 0 : 1000000 / options->rate;
    destination->clear_allowed = options->tls == ROUTE_TLS_OPPORTUNISTIC && !options->tls_verify;
    destination->spreads = route->kind != ROUTE_MX && route->host_count > 1;
    destination->configured = configured;
    destination->window = 1; /* more when it is proven */
    destination->wake_place = PLACE_NONE;
    list_init(&destination->waiting);
    list_init(&destination->links);
    list_init(&destination->idle);
    destination->hash = hash;
    destination->index =
        home->free_count > 0 ? home->free_indexes[--home->free_count] : home->table_count++;
    home->table[destination->index] = destination;
    uint32_t *bucket = &home->buckets[hash & (home->bucket_count - 1)];
    destination->chain = *bucket;
    *bucket = destination->index;
    home->living_count++;
    return destination;
}

uint32_t destinations_find(struct destinations *home, const struct route *route,
                           struct bytes domain)
{
    char name[NAME_SIZE];
    size_t len = destination_name(route, domain, name, sizeof name);
    struct destination *destination = NULL;

    CHECK(len < sizeof name);
    uint64_t hash = hash_keyed(home->seed, 0, name, len);
    uint32_t index = home->bucket_count == 0 ? 0 : home->buckets[hash & (home->bucket_count - 1)];
    while (index != 0) {
        destination = home->table[index];
        if (destination->hash == hash && strcmp(destination->name, name) == 0)
            break;
        index = destination->chain;
    }
    if (index == 0) {
        destination = make(home, route, domain, name, hash);
        if (destination == NULL)
            return 0;
    }
    destination_rest(destination);
    if (destination->resting) {
        list_remove(&destination->node);
        list_append(&home->found, &destination->node);
    }
    return destination->index;
}

void destination_free(struct destination *destination)
{
    struct destinations *home = destination->home;
    uint32_t *link = &home->buckets[destination->hash & (home->bucket_count - 1)];

    while (*link != destination->index)
        link = &home->table[*link]->chain;
    *link = destination->chain;
    if (destination->wake_place != PLACE_NONE)
        heap_remove(home, destination->wake_place);
    if (destination->resting)
        home->resting_count--;
    list_remove(&destination->node);
    list_remove(&destination->searcher);
    home->host_count -= destination->host_count;
    home->table[destination->index] = NULL;
    home->free_indexes[home->free_count++] = destination->index;
    home->living_count--;
    exchange_free(destination->exchange);
    reasons_drop(home->options.reasons, destination->reason);
    free(destination->why);
    free(destination->name);
    free(destination);
}

void destination_activate(struct destination *destination)
{
    struct destinations *home = destination->home;

    if (destination->active)
        return;
    if (destination->resting)
        home->resting_count--;
    list_remove(&destination->node);
    destination->resting = false;
    destination->active = true;
    list_append(&home->active, &destination->node);
}

void destination_rest(struct destination *destination)
{
    struct destinations *home = destination->home;
    bool rests = !destination->active && destination->line.count == 0 &&
                 list_empty(&destination->waiting) && list_empty(&destination->links) &&
                 !destination->asking && !list_linked(&destination->opener);

    if (!rests)
        return;
    if (destination->resting)
        home->resting_count--;
    list_remove(&destination->node);
    list_append(&home->resting, &destination->node);
    destination->resting = true;
    destination->rest_us = home->now_us;
    home->resting_count++;
    destination_lighten(destination);
}

void destination_count_hosts(struct destination *destination)
{
    uint32_t count = exchange_count(destination->exchange);

    destination->home->host_count += count - destination->host_count;
    destination->host_count = count;
}

/* Who has no use for hosts now asks for them again when others need the memory: no more than half
 * of what there may be is with those. */
void destination_lighten(struct destination *destination)
{
    if (destination->home->host_count <= destination->home->options.hosts_max / 2)
        return;
    exchange_forget(destination->exchange);
    destination->fresh_us = 0;
    destination_count_hosts(destination);
}

void destinations_forget(struct destinations *home)
{
    /* The time of a find is not known before the turn that follows. */
    for (struct list_node *node = home->found.head.next; node != &home->found.head;
         node = node->next)
        list_entry(node, struct destination, node)->rest_us = home->now_us;
    list_move_all(&home->resting, &home->found);
    for (uint32_t i = 0; i < TURN_FORGETS; i++) {
        struct list_node *node = list_first(&home->resting);
        if (node == NULL || home->resting_count <= home->options.destinations_max)
            return;
        struct destination *destination = list_entry(node, struct destination, node);
        if (home->now_us - destination->rest_us < REST_US)
            return;
        destination_free(destination);
    }
}

bool destinations_snapshot(const struct destinations *home, uint32_t index,
                           struct destination_snapshot *out)
{
    const struct destination *destination = destination_at(home, index);
    if (destination == NULL)
        return false;
    bool works = !list_empty(&destination->links) || destination_has_work(destination);
    *out = (struct destination_snapshot){
        .name = destination->name,
        .state = works ? DESTINATION_BUSY : DESTINATION_IDLE,
        .lined = destination->line.count,
        .connections = destination_links(destination) + destination->counts[LINK_ENDING],
        .busy = destination->counts[LINK_BUSY],
        .delivered = destination->delivered,
        .deferred = destination->deferred,
        .refused = destination->refusals,
        .retry_us = destination->dead ? destination->retry_us : 0,
        .reason = reasons_text(home->options.reasons, destination->reason),
    };
    if (destination->dead)
        out->state = DESTINATION_DEAD;
    return true;
}

uint32_t destinations_count(const struct destinations *home)
{
    return home->table_count == 0 ? 0 : home->table_count - 1;
}

/* --- who wakes when --- */

void destination_wake_at(struct destination *destination, uint64_t when_us)
{
    struct destinations *home = destination->home;

    if (destination->wake_place == PLACE_NONE) {
        destination->wake_us = when_us;
        heap_rise(home, home->wake_count++, destination);
    } else if (when_us < destination->wake_us) {
        /* Earlier only: who is woken too soon says anew when. */
        destination->wake_us = when_us;
        heap_rise(home, destination->wake_place, destination);
    }
}

void destinations_wake(struct destinations *home)
{
    for (uint32_t i = 0; i < TURN_WAKES; i++) {
        if (home->wake_count == 0 || home->wakes[0]->wake_us > home->now_us)
            return;
        struct destination *destination = home->wakes[0];
        heap_remove(home, 0);
        destination_activate(destination);
    }
}

static void heap_put(struct destinations *home, uint32_t place, struct destination *destination)
{
    home->wakes[place] = destination;
    destination->wake_place = place;
}

static void heap_rise(struct destinations *home, uint32_t place, struct destination *destination)
{
    while (place > 0 && home->wakes[(place - 1) / 2]->wake_us > destination->wake_us) {
        heap_put(home, place, home->wakes[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    heap_put(home, place, destination);
}

static void heap_remove(struct destinations *home, uint32_t place)
{
    struct destination *last = home->wakes[--home->wake_count];

    home->wakes[place]->wake_place = PLACE_NONE;
    if (place == home->wake_count)
        return;
    for (;;) {
        uint32_t child = 2 * place + 1;
        if (child >= home->wake_count)
            break;
        if (child + 1 < home->wake_count &&
            home->wakes[child + 1]->wake_us < home->wakes[child]->wake_us)
            child++;
        if (home->wakes[child]->wake_us >= last->wake_us)
            break;
        heap_put(home, place, home->wakes[child]);
        place = child;
    }
    heap_rise(home, place, last);
}
