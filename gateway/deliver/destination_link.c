/* One link: an attempt to connect, which tries one host after another, and the connection that it
 * becomes. Which host it is to be, which link gets the next delivery, and what that tells. */
#include "gateway/deliver/destination_link.h"

#include <errno.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/deliver/destination_inside.h"
#include "gateway/deliver/verdict.h"

enum {
    PAUSE_US = 1000000, /* after descriptors, slots or memory ran out */
    SURPLUS_MIN = 16,   /* deliveries that a host may be ahead of its share */
    PROMPT_US = 50000,  /* an end so soon has to do with the number of deliveries, not with time */
    FRESH_US = 1000000, /* for so long the end of an unused connection is the host's failure */
    PROBE_ENDS = 16,    /* of so many connections one goes on, to see whether the limit holds */
};

/* --- links and their numbers --- */

void link_set_state(struct link *link, enum link_state state)
{
    struct destinations *home = link->destination->home;

    list_remove(&link->idle);
    list_remove(&link->idle_all);
    home->ending_links += state == LINK_ENDING;
    home->ending_links -= link->state == LINK_ENDING;
    if (link->state != LINK_FREE)
        link->destination->counts[link->state]--;
    link->state = (uint8_t)state;
    if (state != LINK_FREE)
        link->destination->counts[state]++;
    if (state == LINK_IDLE) {
        list_append(&link->destination->idle, &link->idle);
        list_append(&home->idle, &link->idle_all);
        link->idle_us = home->now_us;
    }
}

struct link *link_new(struct destination *destination)
{
    struct destinations *home = destination->home;
    uint32_t slot;
    struct link *link = slots_take(&home->links, &slot);

    CHECK(link != NULL);
    *link = (struct link){.destination = destination, .slot = slot};
    home->linked_count += list_empty(&destination->links);
    home->unproven_links += !destination->proven;
    list_append(&destination->links, &link->node);
    link_set_state(link, LINK_CONNECTING);
    return link;
}

void link_free(struct link *link)
{
    struct destination *destination = link->destination;
    struct destinations *home = destination->home;

    CHECK(link->delivery == NULL);
    link_set_state(link, LINK_FREE);
    list_remove(&link->event);
    list_remove(&link->node);
    home->linked_count -= list_empty(&destination->links);
    home->unproven_links -= !destination->proven;
    slots_give(&home->links, link->slot);
    destination_activate(destination);
}

/* Gives a connection up; `closed` follows. */
void link_end(struct link *link)
{
    link_set_state(link, LINK_ENDING);
    client_quit(link->client);
}

/* --- connecting --- */

/* The host of a link, unless the DNS has moved it meanwhile. */
static struct exchange_host *host_of(const struct link *link)
{
    struct exchange *exchange = link->destination->exchange;

    for (uint32_t i = 0; i < exchange_count(exchange); i++) {
        uint32_t index = (link->host + i) % exchange_count(exchange);
        struct exchange_host *host = exchange_at(exchange, index);
        if (memcmp(&host->peer.address, &link->address, sizeof link->address) == 0)
            return host;
    }
    return NULL;
}

/* Several attempts under way at once tell of one failure. */
void link_blame(struct link *link)
{
    struct destination *destination = link->destination;
    struct exchange_host *host = host_of(link);

    if (host == NULL)
        return;
    for (uint32_t i = 0; i < exchange_count(destination->exchange); i++)
        if (exchange_at(destination->exchange, i) == host && host->failures == link->host_failures)
            exchange_failed(destination->exchange, i, destination->home->now_us);
}

void link_praise(struct link *link)
{
    struct destination *destination = link->destination;
    struct exchange_host *host = host_of(link);

    for (uint32_t i = 0; host != NULL && i < exchange_count(destination->exchange); i++)
        if (exchange_at(destination->exchange, i) == host)
            exchange_worked(destination->exchange, i);
    link->host_failures = 0;
}

/* How many of a destination's links lead to `host`. */
static uint32_t links_to(const struct destination *destination, const struct exchange_host *host)
{
    uint32_t count = 0;

    for (struct list_node *node = destination->links.head.next; node != &destination->links.head;
         node = node->next)
        count += host_of(list_entry(node, struct link, node)) == host;
    return count;
}

/* The hosts, a bit for each, that have their share of the connections by weight. */
static uint32_t sated(const struct destination *destination)
{
    uint32_t count = exchange_count(destination->exchange), hosts = 0;
    uint64_t weight = 0, allowed = links_allowed(destination);

    if (!destination->spreads)
        return 0;
    for (uint32_t i = 0; i < count; i++)
        weight += exchange_at(destination->exchange, i)->weight;
    for (uint32_t i = 0; i < count; i++) {
        const struct exchange_host *host = exchange_at(destination->exchange, i);
        if (links_to(destination, host) * weight >= allowed * host->weight)
            hosts |= 1u << i;
    }
    return hosts;
}

/* The host to try next; of several with weights, one that lacks connections if there is any. When
 * all that have not been tried are said to be dead, and none was tried, one of them is tried all
 * the same. */
static struct exchange_host *pick(struct link *link)
{
    struct destination *destination = link->destination;
    uint64_t now_us = destination->home->now_us;
    struct exchange_host *host;

    if (link->picked) {
        link->picked = false;
        return exchange_at(destination->exchange, link->host);
    }
    if (link->clear && (host = host_of(link)) != NULL)
        return host;
    link->clear = false;
    uint32_t also = link->anyway ? UINT32_MAX : sated(destination);
    host = exchange_pick(destination->exchange, now_us, link->tried | also, &link->host);
    if (host == NULL && also != 0 && !link->anyway)
        host = exchange_pick(destination->exchange, now_us, link->tried, &link->host);
    if (host == NULL && (link->tried == 0 || link->anyway)) {
        link->anyway = true;
        host = exchange_pick(destination->exchange, UINT64_MAX, link->tried, &link->host);
    }
    return host;
}

static bool is_shortage(int error)
{
    return error == 0 || error == EMFILE || error == ENFILE || error == ENOMEM ||
           error == ENOBUFS || error == EAGAIN;
}

void link_set_why(struct link *link, const char *text)
{
    verdict_own(&link->why, VERDICT_DEFERRED, 0, (struct reply_status){4, 4, 1}, "%s", text);
    link->has_why = true;
}

/* Begins to connect to the next host. */
enum connected link_connect(struct link *link)
{
    struct destinations *home = link->destination->home;

    for (uint32_t i = 0; i <= EXCHANGE_HOSTS_MAX; i++) {
        struct exchange_host *host = pick(link);
        if (host == NULL)
            break;
        struct client_peer peer = host->peer;
        if (link->clear)
            peer.tls = ROUTE_TLS_NONE;
        link->host_failures = host->failures;
        link->address = host->peer.address;
        errno = 0;
        link->client = client_open(&home->setup, &peer, link);
        if (link->client != NULL) {
            home->counters.begun++;
            return CONNECTED_BEGUN;
        }
        if (is_shortage(errno)) {
            home->pause_us = home->now_us + PAUSE_US;
            return CONNECTED_SHORT;
        }
        link_set_why(link, strerror(errno));
        link_blame(link);
        link->tried |= 1u << link->host;
        link->clear = false;
    }
    if (!link->has_why)
        link_set_why(link, "no host can be tried now");
    return CONNECTED_NO_HOST;
}

static bool has_host(const struct destination *destination)
{
    for (uint32_t i = 0; i < exchange_count(destination->exchange); i++)
        if (exchange_at(destination->exchange, i)->dead_us <= destination->home->now_us)
            return true;
    return false;
}

/* The attempt with one host has failed: TLS once more without it, else the next host. */
void link_try_next(struct link *link)
{
    struct destination *destination = link->destination;

    destination->home->counters.failed++;
    if (link->tls_failed && destination->clear_allowed && !link->clear && !link->stalled) {
        link->clear = true;
    } else {
        link->clear = false;
        link_blame(link);
        link->tried |= 1u << link->host;
    }
    link->client = NULL;
    if (!link->has_why)
        link_set_why(link, "the server closed the connection before its greeting");
    enum connected connected;
    if (link->stalled) /* its place is another's; it comes again in its turn, if there is a host */
        connected = has_host(destination) ? CONNECTED_SHORT : CONNECTED_NO_HOST;
    else if (destination->home->stopping || (link->spread && !link->clear))
        connected = CONNECTED_SHORT;
    else
        connected = link_connect(link);
    if (connected == CONNECTED_BEGUN)
        return;
    const struct verdict why = link->why;
    link_free(link);
    if (connected == CONNECTED_NO_HOST)
        destination_failed(destination, &why, true);
}

/* --- work --- */

/* Has `a` had less of the work, for its weight? */
static bool is_before(const struct exchange_host *a, const struct exchange_host *b)
{
    uint64_t a_work = (uint64_t)a->served + a->picked, b_work = (uint64_t)b->served + b->picked;
    return a_work * b->weight < b_work * a->weight;
}

/* An idle one that has made no delivery, when one waits that wants such; NULL: none. */
static struct link *choose_fresh(struct destination *destination)
{
    struct list_node *first = list_first(&destination->waiting);

    if (first == NULL || !list_entry(first, struct delivery, node)->fresh)
        return NULL;
    for (struct list_node *node = destination->idle.head.previous; node != &destination->idle.head;
         node = node->previous)
        if (list_entry(node, struct link, idle)->used == 0)
            return list_entry(node, struct link, idle);
    return NULL;
}

static struct link *choose(struct destination *destination)
{
    struct list *idle = &destination->idle;
    struct link *best = choose_fresh(destination);
    const struct exchange_host *best_host = NULL;

    if (best != NULL || list_empty(idle))
        return best;
    if (!destination->spreads)
        return list_entry(idle->head.previous, struct link, idle); /* the others may time out */
    uint32_t looked = 0;
    for (struct list_node *node = idle->head.previous;
         node != &idle->head && looked < EXCHANGE_HOSTS_MAX; node = node->previous, looked++) {
        struct link *link = list_entry(node, struct link, idle);
        const struct exchange_host *host = host_of(link);
        if (best != NULL && (host == NULL || (best_host != NULL && !is_before(host, best_host))))
            continue;
        best = link;
        best_host = host;
    }
    return best;
}

struct link *link_choose(struct destination *destination)
{
    struct link *link;

    while ((link = choose(destination)) != NULL) {
        uint64_t rest_us = destination->home->now_us - link->idle_us;
        /* A server that closes right after its greeting is to be found out by links_events. */
        if ((link->used == 0 && rest_us < FRESH_US) || client_alive(link->client))
            break;
        link_set_state(link, LINK_ENDING);
    }
    return link;
}

/* --- how often a connection is used again --- */

bool link_has_rested(const struct link *link)
{
    return link->destination->home->now_us - link->idle_us >= PROMPT_US;
}

void link_learn(struct link *link, uint32_t used)
{
    if (used > 0)
        link->destination->reuse_limit = used;
}

bool link_is_worn(struct link *link)
{
    struct destination *destination = link->destination;

    if (link->used >= destination->home->options.reuse_max)
        return true;
    if (destination->reuse_limit == 0 || link->used < destination->reuse_limit)
        return false;
    if (link->used > destination->reuse_limit) {
        destination->reuse_limit = link->used; /* so it was not the limit, or is no more */
        return false;
    }
    return ++destination->reuse_ends % PROBE_ENDS != 0;
}

/* --- what becomes of work --- */

/* The server has ended the connection before it took anything of the delivery: a fresh one has it,
 * and its owner never knows. */
static bool goes_on(struct link *link, struct delivery *delivery)
{
    if (!client_stale(link->client) || link->destination->home->stopping)
        return false;
    if (link->prompt)
        link_learn(link, link->used - 1);
    delivery_again(link->destination, delivery);
    return true;
}

/* What a delivery tells when it is over, on its way to the owner. */
static void delivered(struct delivery *delivery)
{
    struct link *link = client_user(delivery->client);
    struct destination *destination = link->destination;

    CHECK(link->delivery == delivery);
    link->good = false;
    destination->steps -= delivery->stepwise;
    if (goes_on(link, delivery)) {
        link->delivery = NULL;
        delivery->delivered = link->delivered;
        return;
    }
    for (uint32_t i = 0; i < delivery->recipient_count; i++) {
        uint8_t kind = delivery->recipients[i].verdict.kind;
        destination->delivered += kind == VERDICT_DELIVERED;
        destination->refusals += kind == VERDICT_REFUSED;
        destination->deferred += kind != VERDICT_DELIVERED && kind != VERDICT_REFUSED;
        link->good = link->good || kind == VERDICT_DELIVERED || kind == VERDICT_REFUSED;
    }
    link->delivery = NULL;
    delivery->delivered = link->delivered;
    delivery->client = NULL;
    delivery->delivered(delivery);
}

void link_give(struct link *link, struct delivery *delivery)
{
    CHECK(link->state == LINK_IDLE && link->delivery == NULL);
    struct exchange_host *host = link->destination->spreads ? host_of(link) : NULL;
    if (host != NULL)
        host->served++;
    if (link->destination->counts[LINK_BUSY] == 0)
        link->destination->done_us = link->destination->home->now_us;
    link->used++;
    link->prompt = !link_has_rested(link);
    delivery->fresh = false;
    link->delivery = delivery;
    link->destination->steps += delivery->stepwise;
    link->delivered = delivery->delivered;
    delivery->delivered = delivered;
    delivery->client = link->client;
    link_set_state(link, LINK_BUSY);
    client_deliver(link->client, delivery);
}

/* Connects to the host that has had the least for its weight, when no connection to it is free,
 * beside those there are. */
void link_spread(struct destination *destination)
{
    struct destinations *home = destination->home;
    struct exchange *exchange = destination->exchange;
    uint32_t index = 0;
    bool useful = destination->spreads && destination->counts[LINK_BUSY] > 0 &&
                  destination->counts[LINK_CONNECTING] == 0 && links_may_grow(destination);
    const struct exchange_host *least = NULL;
    uint32_t full;

    if (!useful || home->stopping || links_waiting(home) > 0 || home->pause_us > home->now_us ||
        !links_has_room(home, destination->proven))
        return;
    full = sated(destination);
    for (uint32_t i = 0; i < exchange_count(exchange); i++) {
        const struct exchange_host *host = exchange_at(exchange, i);
        if ((full >> i & 1) != 0 || host->dead_us > home->now_us ||
            (least != NULL && !is_before(host, least)))
            continue;
        least = host;
        index = i;
    }
    for (struct list_node *node = destination->idle.head.next; node != &destination->idle.head;
         node = node->next)
        if (host_of(list_entry(node, struct link, idle)) == least)
            return;
    if (least == NULL || exchange_pick(exchange, home->now_us, ~(1u << index), &index) == NULL)
        return;
    struct link *link = link_new(destination);
    link->spread = link->picked = true;
    link->host = index;
    link->tried = ~(1u << index);
    if (link_connect(link) != CONNECTED_BEGUN)
        link_free(link);
}

/* Its host has had more than its share of the work, and has more than its share of the connections,
 * and there is no room for more: then another host's can take its place. A slow host never gets
 * more connections than its share, so it does not hold back the others. */
bool link_is_surplus(const struct link *link)
{
    struct destination *destination = link->destination;
    const uint32_t *counts = destination->counts;
    uint64_t work = 0, weight = 0;
    const struct exchange_host *own = destination->spreads ? host_of(link) : NULL;

    if (own == NULL || destination_links(destination) < links_allowed(destination) ||
        counts[LINK_CONNECTING] + counts[LINK_ENDING] > 0 || !destination_has_work(destination))
        return false;
    for (uint32_t i = 0; i < exchange_count(destination->exchange); i++) {
        const struct exchange_host *host = exchange_at(destination->exchange, i);
        if (host->dead_us > destination->home->now_us)
            continue;
        work += (uint64_t)host->served + host->picked;
        weight += host->weight;
    }
    /* A twentieth and a few more are no reason to connect anew. */
    uint64_t own_work = (uint64_t)own->served + own->picked;
    uint64_t share = own->weight == 0 || weight == 0 ? 0 : work * own->weight / weight;
    if (own_work <= share + share / 20 + SURPLUS_MIN)
        return false;
    return links_to(destination, own) * weight >
           (uint64_t)destination_links(destination) * own->weight;
}

void link_renew(struct destination *destination)
{
    for (struct list_node *node = destination->idle.head.next; node != &destination->idle.head;
         node = node->next) {
        struct link *link = list_entry(node, struct link, idle);
        if (link->used == 0)
            continue;
        link_end(link);
        return;
    }
}

void link_prune(struct destination *destination)
{
    struct destinations *home = destination->home;
    uint64_t kept_us = home->options.idle_s * 1000000ull;
    struct list_node *node;

    while ((node = list_first(&destination->idle)) != NULL) {
        struct link *link = list_entry(node, struct link, idle);
        if (home->now_us < link->idle_us + kept_us) {
            destination_wake_at(destination, link->idle_us + kept_us);
            return;
        }
        destination->failures = 0; /* it has held out for so long */
        link_end(link);
    }
}
