/* How many links there may be, of one destination and of all; who gets the next one; and what
 * becomes of a link that has heard something. */
#include "gateway/deliver/destination_inside.h"

#include "gateway/base/check.h"

enum {
    TURN_OPENS = 128,     /* connections begun in one turn */
    BREAKS_MAX = 5,       /* connections in a row that broke in a delivery: it is dead */
    WINDOW_FIRST = 5,     /* connections of a destination as soon as it is proven */
    PROVEN_US = 60000000, /* without a completed delivery, while links are busy */
    STALL_US = 30000000,  /* so long for one reply, and others may have the place */
    LOOK_US = 1000000,    /* such are looked for so often, */
    TURN_BREAKS = 32,     /* and so many broken off at a time */
    HOG_USES = 20,        /* deliveries of a connection when others wait for one */
    AT_ONCE_US = 1000000, /* a server that closes sooner after its greeting has not worked */
};

void links_proven(struct destination *destination, bool proven)
{
    struct destinations *home = destination->home;
    uint32_t links = destination_links(destination) + destination->counts[LINK_ENDING];

    if (destination->proven == proven)
        return;
    bool waits = list_linked(&destination->opener);
    links_leave(destination);
    home->unproven_links = proven ? home->unproven_links - links : home->unproven_links + links;
    destination->proven = proven;
    if (waits)
        links_join(destination);
}

/* Its servers take a delivery and hang, for all that is known. The window stays as it is. */
void links_doubt(struct destination *destination)
{
    if (!destination->proven || destination->counts[LINK_BUSY] == 0)
        return;
    if (destination->home->now_us >= destination->done_us + PROVEN_US)
        links_proven(destination, false);
    else
        destination_wake_at(destination, destination->done_us + PROVEN_US);
}

/* A delivery has been completed over `link`: what the server says to it does not matter. */
static void succeeded(struct link *link)
{
    struct destination *destination = link->destination;

    destination->done_us = destination->home->now_us;
    if (destination->proven)
        return;
    links_proven(destination, true);
    if (destination->window < WINDOW_FIRST)
        destination->window = WINDOW_FIRST < destination->limit ? WINDOW_FIRST : destination->limit;
}

/* --- how many --- */

/* Where somebody waits for his delivery, and may himself be slow, one connection is too few to find
 * out with what a destination is like. */
static uint32_t window_of(const struct destination *destination)
{
    bool tried = destination->proven || destination->failures > 0 || destination->breaks > 0;
    bool more = !tried && !list_empty(&destination->waiting) && destination->window < WINDOW_FIRST;

    if (!more)
        return destination->window;
    return WINDOW_FIRST < destination->limit ? WINDOW_FIRST : destination->limit;
}

/* Of so many connections, those that stepwise deliveries leave to the line. */
static uint32_t kept_back(uint32_t count)
{
    return count < 2 ? 0 : count < 8 ? 1 : count / 4;
}

/* One in which a client makes its steps rests for most of the time: it does not take the line's
 * last place in the window. */
uint32_t links_working(const struct destination *destination)
{
    uint32_t window = window_of(destination), steps = destination->steps;
    uint32_t least = steps == 0 ? 0 : steps + (window < 8 ? 1 : window / 4);

    return least > window ? least : window;
}

uint32_t links_steps(const struct destination *destination)
{
    uint32_t most = destination->limit;

    if (destination->home->now_us < destination->ceiling_us && most > destination->ceiling)
        most = destination->ceiling;
    most -= kept_back(most);
    uint32_t window = window_of(destination);
    return most < window ? most : window;
}

uint32_t links_allowed(const struct destination *destination)
{
    uint32_t allowed = links_working(destination);

    if (destination->dead)
        return 1;
    if (destination->home->now_us < destination->ceiling_us && allowed > destination->ceiling)
        allowed = destination->ceiling;
    return allowed;
}

bool links_may_grow(const struct destination *destination)
{
    uint32_t links = destination_links(destination);

    /* Those that are about to end count with the server, too. */
    return links < links_allowed(destination) &&
           links + destination->counts[LINK_ENDING] < destination->limit;
}

/* Deliveries wait for a fresh connection, and none is on its way. */
static bool lacks_fresh(const struct destination *destination)
{
    uint32_t fresh = destination->counts[LINK_CONNECTING];
    struct list_node *node = destination->waiting.head.next;

    /* Those that want one stand first. */
    if (node == &destination->waiting.head || !list_entry(node, struct delivery, node)->fresh)
        return false;
    for (struct list_node *at = destination->idle.head.next; at != &destination->idle.head;
         at = at->next)
        fresh += list_entry(at, struct link, idle)->used == 0;
    for (; node != &destination->waiting.head; node = node->next) {
        if (!list_entry(node, struct delivery, node)->fresh)
            return false;
        if (fresh-- == 0)
            return true;
    }
    return false;
}

/* A fresh one is lacked, and there is room only when another ends. */
bool links_must_renew(const struct destination *destination)
{
    return lacks_fresh(destination) && destination->counts[LINK_ENDING] == 0 &&
           !(links_may_grow(destination) && links_has_room(destination->home, destination->proven));
}

bool links_wants(const struct destination *destination)
{
    const struct destinations *home = destination->home;
    uint32_t links = destination_links(destination);

    if (home->stopping || destination->refused || destination_dead_now(destination))
        return false;
    if (!destination_has_work(destination) || !links_may_grow(destination))
        return false;
    if (lacks_fresh(destination))
        return true;
    uint64_t unused = destination->counts[LINK_IDLE] + destination->counts[LINK_CONNECTING];
    if (destination->interval_us > 0) /* one after another, and when there is something to send */
        return unused == 0 && (links == 0 || destination->send_us <= home->now_us);
    uint64_t work = destination->line.count;
    uint32_t steps = destination->steps, steps_max = links_steps(destination);
    struct list_node *node = destination->waiting.head.next;
    for (; work <= unused && node != &destination->waiting.head; node = node->next) {
        bool stepwise = list_entry(node, struct delivery, node)->stepwise;
        if (stepwise && steps >= steps_max)
            break;
        steps += stepwise;
        work++;
    }
    return work > unused;
}

/* Room for one more of a class? Those that are not proven leave a quarter to the others. */
bool links_has_room(const struct destinations *home, bool proven)
{
    uint32_t max = home->options.connections_max;
    uint32_t unproven_max = max - max / 4;

    return home->links.used < max && (proven || home->unproven_links < unproven_max);
}

uint32_t links_waiting(const struct destinations *home)
{
    uint32_t max = home->options.connections_max;
    bool unproven = home->unproven_links < max - max / 4;

    return home->opener_counts[1] + (unproven ? home->opener_counts[0] : 0);
}

/* Others wait, and there is no room: does this link take more than its share, or has it had it? */
static bool is_hog(const struct link *link)
{
    const struct destinations *home = link->destination->home;
    uint32_t others = links_waiting(home);

    others -= others > 0 && list_linked(&link->destination->opener);
    if (others == 0 || home->ending_links >= others ||
        home->links.used < home->options.connections_max)
        return false;
    uint32_t share = home->options.connections_max / (home->linked_count + others);
    return destination_links(link->destination) > (share > 0 ? share : 1) || link->used >= HOG_USES;
}

/* --- who is next --- */

void links_join(struct destination *destination)
{
    struct destinations *home = destination->home;

    if (list_linked(&destination->opener))
        return;
    list_append(&home->openers[destination->proven], &destination->opener);
    home->opener_counts[destination->proven]++;
}

void links_leave(struct destination *destination)
{
    if (!list_linked(&destination->opener))
        return;
    list_remove(&destination->opener);
    destination->home->opener_counts[destination->proven]--;
}

/* The next in turn of those for whom there is room; NULL: none. */
static struct destination *next_opener(struct destinations *home)
{
    for (uint32_t i = 0; i < 2; i++) {
        home->opener_turn ^= 1;
        struct list_node *node = list_first(&home->openers[home->opener_turn]);
        if (node == NULL || !links_has_room(home, home->opener_turn == 1))
            continue;
        struct destination *destination = list_entry(node, struct destination, opener);
        links_leave(destination);
        return destination;
    }
    return NULL;
}

/* --- who may ask --- */

/* A search takes memory, and the DNS its time: so many at once. Whom strangers may have made up
 * leaves a quarter of them, and of the hosts, to the others. */
static bool may_search(const struct destinations *home, bool class)
{
    uint32_t max = home->options.searches_max, hosts_max = home->options.hosts_max;
    uint32_t all = home->search_counts[0] + home->search_counts[1];
    uint64_t hosts = home->host_count + (uint64_t)all * EXCHANGE_HOSTS_MAX;

    if (!class)
        hosts_max -= hosts_max / 4;
    return all < max && hosts < hosts_max && (class || home->search_counts[0] < max - max / 4);
}

bool links_may_search(const struct destinations *home)
{
    for (uint32_t class = 0; class < 2 && !home->stopping; class ++)
        if (!list_empty(&home->searchers[class]) && may_search(home, class))
            return true;
    return false;
}

static void begin_search(struct destination *destination)
{
    struct destinations *home = destination->home;

    home->search_counts[destination->search_class]++;
    exchange_ask(destination->exchange, home->now_us, destination_found, destination);
}

/* Asks for the hosts, as soon as it is its turn. */
static void ask(struct destination *destination)
{
    struct destinations *home = destination->home;
    bool class = destination->proven || destination->configured;

    destination->asking = true;
    destination->search_class = class;
    if (list_empty(&home->searchers[class]) && may_search(home, class))
        begin_search(destination);
    else
        list_append(&home->searchers[class], &destination->searcher);
}

/* Lets those begin that have waited longest, of the two classes by turns. */
static void search_next(struct destinations *home)
{
    for (uint32_t i = 0; i < TURN_OPENS && links_may_search(home); i++) {
        home->searcher_turn ^= 1;
        if (!may_search(home, home->searcher_turn))
            continue;
        struct list_node *node = list_pop(&home->searchers[home->searcher_turn]);
        if (node == NULL)
            continue;
        struct destination *destination = list_entry(node, struct destination, searcher);
        if (links_wants(destination)) {
            begin_search(destination);
        } else { /* whom it wanted them for has gone meanwhile, or it is dead */
            destination->asking = false;
            destination_activate(destination);
        }
    }
}

/* Begins one connection, or asks for the hosts first. */
static void open_one(struct destination *destination)
{
    struct destinations *home = destination->home;

    if (!links_wants(destination)) {
        destination_rest(destination);
        return;
    }
    if (destination->fresh_us <= home->now_us) {
        if (destination->asking)
            return; /* the answer brings it back */
        ask(destination);
        if (!destination->answered)
            return;
        destination_heard(destination);
        if (!links_wants(destination))
            return;
    }
    struct link *link = link_new(destination);
    enum connected connected = link_connect(link);
    if (connected == CONNECTED_BEGUN) {
        if (links_wants(destination))
            links_join(destination);
        return;
    }
    const struct verdict why = link->why;
    link_free(link);
    if (connected == CONNECTED_NO_HOST)
        destination_failed(destination, &why, true);
}

/* Ends idle connections of others in favour of those who wait. */
static void make_room(struct destinations *home)
{
    while (home->ending_links < links_waiting(home) &&
           home->links.used == home->options.connections_max) {
        struct list_node *node = list_first(&home->idle);
        if (node == NULL)
            return;
        link_end(list_entry(node, struct link, idle_all));
    }
}

/* Some want a connection, and there is no room for them. */
static uint32_t lack_room(const struct destinations *home)
{
    uint32_t max = home->options.connections_max, share = max - max / 4, count = 0;

    if (home->opener_counts[0] > 0 && home->unproven_links > share)
        count += home->unproven_links - share; /* some were proven when they began */
    for (uint32_t i = 0; i < 2; i++)
        if (!links_has_room(home, i == 1))
            count += home->opener_counts[i];
    return count;
}

/* The link that has waited longest for its server, and too long, where none is known to work. */
static struct link *most_stalled(struct destinations *home)
{
    struct link *most = NULL;
    uint64_t most_us = STALL_US;

    for (uint32_t slot = 0; slot < home->links.reached; slot++) {
        struct link *link = slots_at(&home->links, slot);
        bool works = link->state == LINK_CONNECTING || link->state == LINK_BUSY;
        if (!works || link->client == NULL || link->stalled || link->destination->proven)
            continue;
        uint64_t stall_us = client_stall_us(link->client);
        if (stall_us <= most_us)
            continue;
        most_us = stall_us;
        most = link;
    }
    return most;
}

/* Servers that greet and hang, or do not even greet, would keep all connections for minutes. */
static void break_stalled(struct destinations *home)
{
    uint32_t lacking = lack_room(home);

    if (lacking == 0) {
        home->break_us = 0;
        return;
    }
    if (home->break_us > home->now_us)
        return;
    home->break_us = home->now_us + LOOK_US;
    for (uint32_t i = home->ending_links; i < lacking && i < TURN_BREAKS; i++) {
        struct link *link = most_stalled(home);
        if (link == NULL)
            return;
        link->stalled = true;
        client_break_off(link->client);
    }
}

void links_open(struct destinations *home)
{
    home->more_opens = false;
    if (!home->stopping)
        search_next(home);
    if (home->stopping || home->pause_us > home->now_us)
        return;
    home->pause_us = 0;
    for (uint32_t i = 0; i < TURN_OPENS && home->pause_us == 0; i++) {
        struct destination *destination = next_opener(home);
        if (destination == NULL)
            break;
        open_one(destination);
        home->more_opens = i + 1 == TURN_OPENS;
    }
    if (list_empty(&home->active))
        make_room(home);
    break_stalled(home);
}

/* --- what clients tell --- */

void links_idle(void *user, struct client *client)
{
    struct link *link = user;

    CHECK(link->client == client && link->delivery == NULL);
    link->heard |= HEARD_IDLE;
    list_remove(&link->event);
    list_append(&link->destination->home->events, &link->event);
}

void links_closed(void *user, struct client *client, const struct verdict *why)
{
    struct link *link = user;

    CHECK(link->client == client);
    link->client = NULL;
    link->heard |= HEARD_CLOSED;
    link->tls_failed = client_tls_failed(client);
    link->has_why = why != NULL;
    if (why != NULL)
        link->why = *why;
    list_remove(&link->event);
    list_append(&link->destination->home->events, &link->event);
}

static void heard_idle(struct link *link)
{
    struct destination *destination = link->destination;
    struct destinations *home = destination->home;

    if (link->state == LINK_ENDING || link->state == LINK_IDLE)
        return;
    if (link->state == LINK_CONNECTING) {
        home->counters.greeted++;
        link_praise(link);
        destination_alive(destination);
    } else {
        destination->breaks = 0;
        destination->failures = 0;
        succeeded(link);
        if (link->good && destination->window < destination->limit)
            destination->window++;
    }
    link_set_state(link, LINK_IDLE);
    destination_activate(destination);
    bool gone = (link->heard & HEARD_CLOSED) != 0;
    bool spent = link_is_worn(link) || is_hog(link) || link_is_surplus(link) ||
                 (link->used > 0 && links_must_renew(destination));
    if (!gone && (home->stopping || spent))
        link_end(link);
}

/* A connection that had been greeted is gone. When a server has taken nothing of a delivery since
 * it had enough of the connection, there is no why, and a fresh one has it already. */
static void lost(struct link *link)
{
    struct destination *destination = link->destination;
    struct destinations *home = destination->home;
    bool unused = link->state == LINK_IDLE && link->used == 0 &&
                  home->now_us - link->idle_us < AT_ONCE_US && destination_has_work(destination);
    bool broke = link->state == LINK_BUSY && link->has_why;

    if (link->state == LINK_BUSY && link->good)
        succeeded(link);
    if (link->state == LINK_IDLE && !link_has_rested(link))
        link_learn(link, link->used); /* a server may close in place of saying 421 */

    /* A host that has taken some and then no more (421: so many for a connection) is not down. */
    if ((broke && link->used <= 1) || unused)
        link_blame(link);
    if (!link->has_why)
        link_set_why(link, "the server closed the connection after its greeting");
    const struct verdict why = link->why;
    bool stalled = link->stalled;
    link_free(link);
    if (unused)
        destination_failed(destination, &why, true);
    if (!broke)
        return;
    destination_note(destination, &why);
    destination->window = 1;
    destination->breaks++;
    /* Each of these deliveries has counted as an attempt already. */
    if ((stalled || destination->breaks >= BREAKS_MAX) && destination_links(destination) == 0)
        destination_failed(destination, &why, false);
}

void links_events(struct destinations *home)
{
    struct list_node *node;

    while ((node = list_pop(&home->events)) != NULL) {
        struct link *link = list_entry(node, struct link, event);
        if (link->heard & HEARD_IDLE)
            heard_idle(link);
        bool closed = (link->heard & HEARD_CLOSED) != 0;
        link->heard = 0;
        if (!closed)
            continue;
        if (link->state == LINK_CONNECTING)
            link_try_next(link);
        else if (link->state == LINK_ENDING)
            link_free(link);
        else
            lost(link);
    }
}

void links_stop(struct destinations *home, bool now)
{
    for (uint32_t slot = 0; slot < home->links.reached; slot++) {
        struct link *link = slots_at(&home->links, slot);
        bool ends = link->state == LINK_IDLE || link->state == LINK_CONNECTING ||
                    (now && link->state == LINK_BUSY);
        if (ends && link->client != NULL)
            link_end(link);
    }
}
