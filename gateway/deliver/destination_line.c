/* A destination's step: work for connections that are free, or, while it is dead or refused as a
 * whole, what becomes of those that wait. And the turns of its fate: found dead, alive again. */
#include "gateway/deliver/destination_inside.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"

enum {
    STEP_LOADS = 8,        /* consignments handed out in one step */
    PEEK_US = 2000000,     /* a dead one looks for old ones at the head of its line so often, */
    PEEK_COUNT = 8,        /* and so far, or further while it finds some */
    STEP_FAILS = 64,       /* refused, failed or asked for their age in one step */
    ANSWER_US = 1000000,   /* hosts are asked for again after so long */
    RATE_SLACK_US = 10000, /* what a turn that came late may make up for */
};

static struct consignment *line_first(struct destination *destination);

bool destination_dead_now(const struct destination *destination)
{
    return destination->dead && destination->home->now_us < destination->retry_us;
}

bool destination_has_work(const struct destination *destination)
{
    return destination->line.count > 0 || !list_empty(&destination->waiting);
}

/* Each consignment or delivery that is handed on in a turn counts. */
static bool spend(struct destination *destination)
{
    if (destination->home->calls_left == 0)
        return false;
    destination->home->calls_left--;
    return true;
}

/* --- deliveries that fail without a connection --- */

void delivery_fail(struct destination *destination, struct delivery *delivery,
                   const struct verdict *why)
{
    for (uint32_t i = 0; i < delivery->recipient_count; i++)
        delivery->recipients[i].verdict = *why;
    if (destination != NULL && why->kind == VERDICT_REFUSED)
        destination->refusals += delivery->recipient_count;
    else if (destination != NULL)
        destination->deferred += delivery->recipient_count;
    delivery->client = NULL;
    delivery->delivered(delivery);
}

/* Another connection shall have it, a fresh one, before all others. */
void delivery_again(struct destination *destination, struct delivery *delivery)
{
    struct list others;

    for (uint32_t i = 0; i < delivery->recipient_count; i++)
        delivery->recipients[i].verdict = (struct verdict){.kind = VERDICT_OPEN};
    delivery->client = NULL;
    delivery->fresh = true;
    delivery->dsn_passed = delivery->data_sent = false;
    delivery->peer[0] = '\0';
    delivery->tls_version = 0;
    list_init(&others);
    list_move_all(&others, &destination->waiting);
    list_append(&destination->waiting, &delivery->node);
    list_move_all(&destination->waiting, &others);
    destination->home->waiting_count++;
    destination_activate(destination);
}

/* Fails some of the deliveries that wait; true: there are more. */
static bool fail_waiting(struct destination *destination, const struct verdict *why)
{
    for (uint32_t i = 0; i < STEP_FAILS && !list_empty(&destination->waiting); i++) {
        if (!spend(destination))
            return true;
        struct list_node *node = list_pop(&destination->waiting);
        destination->home->waiting_count--;
        delivery_fail(destination, list_entry(node, struct delivery, node), why);
    }
    return !list_empty(&destination->waiting);
}

/* --- why --- */

/* The verdict of one that is dead or refused; a plain one when there was no memory to keep it. */
static const struct verdict *why_of(const struct destination *destination)
{
    static const struct verdict deferred = {
        .kind = VERDICT_DEFERRED, .status = {4, 4, 1},
             .text = "the destination can't be reached"
    };
    static const struct verdict refused = {
        .kind = VERDICT_REFUSED, .status = {5, 4, 4},
             .text = "there is no way to the destination"
    };
    if (destination->why != NULL)
        return destination->why;
    return destination->refused ? &refused : &deferred;
}

static void keep_why(struct destination *destination, const struct verdict *why)
{
    if (why == destination->why)
        return;
    if (destination->why == NULL)
        destination->why = malloc(sizeof *destination->why);
    if (destination->why != NULL)
        *destination->why = *why;
}

static void drop_why(struct destination *destination)
{
    free(destination->why);
    destination->why = NULL;
}

void destination_note(struct destination *destination, const struct verdict *why)
{
    struct reasons *reasons = destination->home->options.reasons;
    uint16_t reason = reasons_note(reasons, why->text);
    reasons_drop(reasons, destination->reason);
    destination->reason = reason;
}

/* --- dead and alive --- */

/* A host's 5xx in its greeting is no verdict on the mail: it waits (RFC 5321 5.1 has the next host
 * tried; there was none left). */
static struct verdict softened(const struct verdict *why)
{
    struct verdict soft = *why;
    soft.kind = VERDICT_DEFERRED;
    if (soft.status.class == 5)
        soft.status.class = 4;
    return soft;
}

/* All dead ones at the same time, so that one turn does. */
static uint64_t next_peek_us(const struct destinations *home)
{
    return (home->now_us / PEEK_US + 1) * PEEK_US;
}

void destination_failed(struct destination *destination, const struct verdict *why, bool charge)
{
    struct destinations *home = destination->home;
    struct verdict soft = softened(why);

    destination_note(destination, &soft);
    destination->window = 1;
    if (destination->counts[LINK_CONNECTING] > 0)
        return; /* the last one decides */
    uint32_t living = destination->counts[LINK_IDLE] + destination->counts[LINK_BUSY];
    if (living > 0) {
        /* It has no more than these for us. */
        destination->ceiling = living;
        destination->ceiling_us = home->now_us + home->options.retry_min_s * 1000000ull;
        destination_activate(destination);
        return;
    }
    uint64_t delay_s = home->options.retry_min_s;
    for (uint32_t i = 0; i < destination->failures && delay_s < home->options.retry_max_s; i++)
        delay_s *= 2;
    if (delay_s > home->options.retry_max_s)
        delay_s = home->options.retry_max_s;
    destination->failures++;
    destination->breaks = 0;
    destination->dead = true;
    destination->retry_us = home->now_us + delay_s * 1000000;
    links_proven(destination, false);
    links_leave(destination);
    keep_why(destination, &soft);
    destination_lighten(destination);
    destination_activate(destination);
    if (home->stopping)
        return;
    struct consignment *first = charge ? line_first(destination) : NULL;
    if (first != NULL) {
        destination->deferred += first->recipient_count;
        home->options.callbacks.unreachable(home->options.user, first, &soft);
    }
    destination->walk = destination->line.first;
    destination->walk_left = destination->line.count;
    destination->peek_us = next_peek_us(home);
}

void destination_alive(struct destination *destination)
{
    if (!destination->dead)
        return;
    destination->dead = false;
    destination->walk = NULL;
    if (!destination->refused)
        drop_why(destination);
}

/* --- what the exchange has to say --- */

void destination_found(void *user, const struct verdict *why)
{
    struct destination *destination = user;

    CHECK(destination->asking);
    destination->asking = false;
    destination->answered = true;
    destination->home->search_counts[destination->search_class]--;
    destination_count_hosts(destination);
    if (why != NULL)
        keep_why(destination, why);
    else if (!destination->dead && !destination->refused)
        drop_why(destination);
    destination->denied = why == NULL ? VERDICT_OPEN : why->kind;
    destination_activate(destination);
}

void destination_heard(struct destination *destination)
{
    destination->answered = false;
    if (destination->denied == VERDICT_OPEN) {
        destination->fresh_us = destination->home->now_us + ANSWER_US;
    } else if (destination->denied == VERDICT_REFUSED) {
        destination->refused = true;
        destination_note(destination, why_of(destination));
    } else {
        destination_failed(destination, why_of(destination), true);
    }
}

/* --- the line --- */

/* Takes the one out whose turn it is; NULL: there is none. */
static struct consignment *line_first(struct destination *destination)
{
    struct consignment *first = line_next(&destination->line);
    if (first == NULL)
        return NULL;
    if (destination->walk == first)
        destination->walk = first->next;
    destination->home->lined_count--;
    return line_take(&destination->line);
}

/* Refuses some of all that waits; true: there is more. Who comes meanwhile is refused, too; the
 * next one after the last has the DNS asked again. */
static bool refuse(struct destination *destination)
{
    struct destinations *home = destination->home;
    const struct verdict why = *why_of(destination);

    if (fail_waiting(destination, &why))
        return true;
    for (uint32_t i = 0; i < STEP_FAILS && destination->line.count > 0; i++) {
        if (!spend(destination))
            return true;
        struct consignment *first = line_first(destination);
        destination->refusals += first->recipient_count;
        home->options.callbacks.unreachable(home->options.user, first, &why);
    }
    if (destination_has_work(destination))
        return true;
    destination->refused = false;
    if (!destination->dead)
        drop_why(destination);
    return false;
}

/* Looks for those who are too old to go on waiting; true: there are more to be asked. */
static bool walk(struct destination *destination, const struct verdict *why)
{
    struct destinations *home = destination->home;

    for (uint32_t i = 0; i < STEP_FAILS && destination->walk_left > 0; i++) {
        struct consignment *at = destination->walk;
        if (at == NULL || (i == 0 && !spend(destination)))
            break;
        destination->walk_left--;
        destination->walk = at->next;
        if (!home->options.callbacks.overdue(home->options.user, at, why))
            continue;
        destination->walk_left++; /* while there are old ones it goes on */
        destination->deferred += at->recipient_count;
        line_remove(&destination->line, at);
        home->lined_count--;
        home->options.callbacks.unreachable(home->options.user, at, why);
    }
    if (destination->walk_left == 0)
        destination->walk = NULL;
    return destination->walk != NULL;
}

/* While it is dead nothing happens but this. */
static bool bide(struct destination *destination)
{
    const struct verdict why = *why_of(destination);
    bool more = fail_waiting(destination, &why);

    if (destination->walk == NULL && destination->peek_us <= destination->home->now_us) {
        destination->peek_us = next_peek_us(destination->home);
        destination->walk = destination->line.first;
        destination->walk_left = PEEK_COUNT;
    }
    more = walk(destination, &why) || more;
    if (destination->line.count > 0) {
        destination_wake_at(destination, destination->retry_us);
        destination_wake_at(destination, destination->peek_us);
    }
    return more;
}

/* --- work for free connections --- */

/* May a message be sent now, as far as the rate is concerned? */
static bool in_time(const struct destination *destination)
{
    return destination->interval_us == 0 || destination->send_us <= destination->home->now_us;
}

static void count_rate(struct destination *destination)
{
    uint64_t now_us = destination->home->now_us;
    uint64_t from_us = now_us < RATE_SLACK_US ? 0 : now_us - RATE_SLACK_US;

    if (destination->interval_us == 0)
        return;
    if (destination->send_us < from_us)
        destination->send_us = from_us;
    destination->send_us += destination->interval_us;
}

/* The first of those that somebody waits for, but for those that want a fresh connection when this
 * is none; NULL: there is none. */
static struct delivery *first_waiting(const struct destination *destination,
                                      const struct link *link)
{
    for (struct list_node *node = destination->waiting.head.next;
         node != &destination->waiting.head; node = node->next) {
        struct delivery *delivery = list_entry(node, struct delivery, node);
        if (link->used == 0 || !delivery->fresh)
            return delivery;
    }
    return NULL;
}

/* What goes first: somebody who waits. But stepwise deliveries, which rest between two steps of a
 * client, leave some connections to the line, and take turns with it. NULL: the line. */
static struct delivery *whose_turn(struct destination *destination, const struct link *link)
{
    struct delivery *waiting = first_waiting(destination, link);

    if (waiting == NULL || !waiting->stepwise)
        return waiting;
    if (destination->steps >= links_steps(destination))
        return NULL;
    bool line = destination->line_next && destination->line.count > 0;
    destination->line_next = !line;
    return line ? NULL : waiting;
}

/* The next delivery, of one that waits or of the line. NULL: the courier made none of the
 * consignment. */
static struct delivery *next_delivery(struct destination *destination, struct delivery *waiting)
{
    struct destinations *home = destination->home;

    if (waiting == NULL)
        return home->options.callbacks.load(home->options.user, line_first(destination));
    list_remove(&waiting->node);
    home->waiting_count--;
    return waiting;
}

/* Gives work to idle connections; true: there is more for them. */
static bool serve(struct destination *destination)
{
    for (uint32_t i = 0; i < STEP_LOADS; i++) {
        bool full = destination->counts[LINK_BUSY] >= links_working(destination);
        if (full || !destination_has_work(destination) || list_empty(&destination->idle) ||
            !in_time(destination))
            return false;
        struct link *link = link_choose(destination);
        struct delivery *waiting = link == NULL ? NULL : whose_turn(destination, link);
        if (link == NULL || (waiting == NULL && destination->line.count == 0))
            return false;
        struct delivery *delivery = spend(destination) ? next_delivery(destination, waiting) : NULL;
        if (delivery == NULL)
            continue;
        count_rate(destination);
        link_give(link, delivery);
    }
    return true;
}

/* When the next step is due, if nothing happens meanwhile. */
static void set_wake(struct destination *destination)
{
    if (!destination_has_work(destination))
        return;
    if (!in_time(destination))
        destination_wake_at(destination, destination->send_us);
    if (destination->ceiling_us > destination->home->now_us)
        destination_wake_at(destination, destination->ceiling_us);
}

void destination_step(struct destination *destination)
{
    static const struct verdict stopping = {
        .kind = VERDICT_DEFERRED, .status = {4, 3, 2},
             .text = "the server is about to stop"
    };
    bool more = false;

    if (destination->answered)
        destination_heard(destination);
    if (destination->home->stopping)
        more = fail_waiting(destination, &stopping);
    else if (destination->refused)
        more = refuse(destination);
    else if (destination_dead_now(destination))
        more = bide(destination);
    else
        more = serve(destination);
    links_doubt(destination);
    if (more) {
        destination_activate(destination);
        return;
    }
    if (destination->home->stopping)
        return;
    set_wake(destination);
    if (links_must_renew(destination))
        link_renew(destination);
    link_prune(destination);
    link_spread(destination);
    if (links_wants(destination))
        links_join(destination);
    destination_rest(destination);
}
