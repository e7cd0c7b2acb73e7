/* From a target to addresses: MX, then A and AAAA of every host (RFC 5321 5.1), then the order in
 * which they are tried. Answers that are hostile or absurd can only make a search find little: so
 * many hosts, so many addresses of each are looked at, and no more. */
#include "gateway/base/check.h"
#include "gateway/deliver/exchange_inside.h"
#include "gateway/deliver/verdict.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

enum { NAMES_MAX = 16, ADDRESSES_MAX = 16 /* of one host and family */ };

_Static_assert((int)NAMES_MAX >= (int)ROUTE_HOSTS_MAX, "every host of a route has its place");

enum family { V4 = 0, V6 = 1 };

/* A host, and what is known of it. */
struct name {
    struct exchange_search *search;
    struct dns_question questions[2]; /* enum family */
    union address_any addresses[2][ADDRESSES_MAX];
    uint32_t counts[2];
    const char *path;    /* of a unix socket; NULL: none */
    uint32_t preference; /* lower first */
    uint32_t weight;
    uint64_t order; /* by chance: of those of one preference */
    uint16_t port;
    bool unsure; /* the DNS did not say */
    char text[DNS_NAME_SIZE];
};

struct exchange_search {
    struct exchange *exchange;
    struct dns_question question; /* for MX */
    uint32_t open;                /* questions that are not answered */
    uint32_t ttl_s;               /* the least of what was found */
    uint64_t now_us;
    uint32_t own_preference; /* of an MX that is us; above all others: none is */
    bool implicit;           /* the domain has no MX: its own addresses */
    bool no_domain;          /* it is none */
    bool own_host;           /* a host of the configuration is us */
    uint32_t name_count;
    struct name names[NAMES_MAX];
};

_Static_assert(sizeof(struct exchange_search) <= EXCHANGE_SEARCH_OCTETS, "the memory contract");

static void conclude(struct exchange_search *search);

static uint64_t chance(const struct exchange_search *search)
{
    const struct exchange_setup *setup = search->exchange->setup;
    return setup->random(setup->random_user);
}

/* --- why there are none --- */

/* give_up ends the search. What is for good is only for good when strangers have brought it about:
 * the administrator can correct what stands in the configuration. Who sends to itself would go on
 * for days, or round and round when the way is opened: that is for good. */
static void give_up(struct exchange_search *search, struct verdict *why)
{
    struct exchange *exchange = search->exchange;
    if (why->kind == VERDICT_REFUSED && exchange->configured && !search->own_host) {
        why->kind = VERDICT_DEFERRED;
        why->code = 0;
        why->status.class = 4;
    }
    exchange_search_drop(exchange);
    exchange_search_done(exchange, NULL, 0, 0, why);
}

static void no_answer(struct exchange_search *search, const char *what, const char *name)
{
    struct verdict why;
    verdict_own(&why, VERDICT_DEFERRED, 0, (struct reply_status){4, 4, 3},
                "the DNS does not tell the %s of %s", what, name);
    give_up(search, &why);
}

static void no_domain(struct exchange_search *search, const char *name)
{
    struct verdict why;
    verdict_own(&why, VERDICT_REFUSED, 0, (struct reply_status){5, 1, 2}, "no such domain: %s",
                name);
    give_up(search, &why);
}

/* --- questions --- */

static void mx_answered(struct dns_question *question, const struct dns_answer *answer);
static void address_answered(struct dns_question *question, const struct dns_answer *answer);

static struct name *add_name(struct exchange_search *search, const char *text)
{
    CHECK(search->name_count < NAMES_MAX && strlen(text) < DNS_NAME_SIZE);
    struct name *name = &search->names[search->name_count++];
    name->search = search;
    name->weight = 1;
    name->port = search->exchange->setup->smtp_port;
    memcpy(name->text, text, strlen(text) + 1);
    return name;
}

/* as_v4 makes an IPv4 address of one that stands in IPv6's clothes: ::ffff:192.0.2.1. */
static union address_any as_v4(const union address_any *address)
{
    union address_any out;
    if (address->any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr))
        return *address;
    memset(&out, 0, sizeof(out));
    out.v4.sin_family = AF_INET;
    memcpy(&out.v4.sin_addr, address->v6.sin6_addr.s6_addr + 12, sizeof(out.v4.sin_addr));
    return out;
}

/* is_of_many: multicast, or broadcast: no host has it. */
static bool is_of_many(const union address_any *address)
{
    if (address->any.sa_family == AF_INET6)
        return IN6_IS_ADDR_MULTICAST(&address->v6.sin6_addr);
    uint32_t v4 = ntohl(address->v4.sin_addr.s_addr);
    return IN_MULTICAST(v4) || v4 == INADDR_BROADCAST;
}

static void add_address(struct name *name, const union address_any *given)
{
    const union address_any real = as_v4(given), *address = &real;
    enum family family = address->any.sa_family == AF_INET6 ? V6 : V4;
    if (name->counts[family] == ADDRESSES_MAX || is_of_many(address))
        return;
    union address_any *out = &name->addresses[family][name->counts[family]++];
    *out = *address;
    if (family == V6)
        out->v6.sin6_port = htons(name->port);
    else
        out->v4.sin_port = htons(name->port);
}

/* take_literal takes an address in text form. False: it is none. */
static bool take_literal(struct name *name, const char *text)
{
    union address_any address;
    memset(&address, 0, sizeof(address));
    if (inet_pton(AF_INET, text, &address.v4.sin_addr) == 1)
        address.any.sa_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &address.v6.sin6_addr) == 1)
        address.any.sa_family = AF_INET6;
    else
        return false;
    add_address(name, &address);
    name->text[0] = '\0'; /* no certificate is for it */
    return true;
}

static void ask(struct name *name, enum family family)
{
    struct exchange_search *search = name->search;
    name->questions[family] = (struct dns_question){.answered = address_answered, .user = name};
    search->open++;
    dns_ask(search->exchange->setup->dns, name->text, family == V6 ? DNS_AAAA : DNS_A,
            &name->questions[family]);
}

static void ask_addresses(struct name *name)
{
    ask(name, V4);
    if (name->search->exchange->setup->ipv6)
        ask(name, V6);
}

/* find_places begins with what the configuration names. */
static void find_places(struct exchange_search *search)
{
    const struct exchange *exchange = search->exchange;
    for (uint32_t i = 0; i < exchange->place_count; i++) {
        const struct exchange_place *place = &exchange->places[i];
        struct name *name = add_name(search, place->port == 0 ? "" : place->name);
        name->port = place->port;
        name->weight = place->weight;
        if (place->port == 0)
            name->path = place->name;
        else if (strcasecmp(place->name, "localhost") == 0) { /* RFC 6761 6.3 */
            if (exchange->setup->ipv6)
                (void)take_literal(name, "::1");
            (void)take_literal(name, "127.0.0.1");
        } else if (!take_literal(name, place->name))
            ask_addresses(name);
    }
}

/* find_domain begins with the MX of a domain, or has the address that stands in its place. */
static void find_domain(struct exchange_search *search)
{
    const char *domain = search->exchange->domain;
    size_t len = domain == NULL ? 0 : strlen(domain);
    if (len > 0 && domain[0] == '[' && domain[len - 1] == ']' && len < DNS_NAME_SIZE) {
        char literal[DNS_NAME_SIZE] = "";
        size_t skip = strncasecmp(domain, "[ipv6:", 6) == 0 ? 6 : 1;
        memcpy(literal, domain + skip, len - skip - 1);
        if (!take_literal(add_name(search, ""), literal))
            search->no_domain = true;
        return;
    }
    if (len == 0 || len >= DNS_NAME_SIZE) {
        search->no_domain = true;
        return;
    }
    search->question = (struct dns_question){.answered = mx_answered, .user = search};
    search->open++;
    dns_ask(search->exchange->setup->dns, domain, DNS_MX, &search->question);
}

void exchange_search(struct exchange *exchange, uint64_t now_us)
{
    struct exchange_search *search = calloc(1, sizeof(*search));
    if (search == NULL) {
        struct verdict why;
        verdict_own(&why, VERDICT_DEFERRED, 0, (struct reply_status){4, 3, 0}, "out of memory");
        exchange_search_done(exchange, NULL, 0, 0, &why);
        return;
    }
    exchange->search = search;
    search->exchange = exchange;
    search->now_us = now_us;
    search->ttl_s = UINT32_MAX;
    search->own_preference = UINT32_MAX;
    if (exchange->mx)
        find_domain(search);
    else
        find_places(search);
    if (search->open == 0)
        conclude(search);
}

void exchange_search_drop(struct exchange *exchange)
{
    struct exchange_search *search = exchange->search;
    if (search == NULL)
        return;
    dns_cancel(exchange->setup->dns, &search->question);
    for (uint32_t i = 0; i < search->name_count; i++) {
        dns_cancel(exchange->setup->dns, &search->names[i].questions[V4]);
        dns_cancel(exchange->setup->dns, &search->names[i].questions[V6]);
    }
    exchange->search = NULL;
    free(search);
}

/* --- answers --- */

static void shorten(struct exchange_search *search, const struct dns_answer *answer)
{
    if (answer->ttl_s < search->ttl_s)
        search->ttl_s = answer->ttl_s;
}

static bool is_named(const struct exchange_search *search, const char *name)
{
    for (uint32_t i = 0; i < search->name_count; i++)
        if (strcmp(search->names[i].text, name) == 0)
            return true;
    return false;
}

/* An MX record on its way into order. */
struct candidate {
    const struct dns_record *record;
    uint64_t order;
};

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    if (left->record->preference != right->record->preference)
        return left->record->preference < right->record->preference ? -1 : 1;
    return left->order < right->order ? -1 : left->order > right->order;
}

/* take_exchanges makes names of the MX records before the one that is us, the best NAMES_MAX. */
static void take_exchanges(struct exchange_search *search, const struct dns_answer *answer)
{
    struct candidate candidates[DNS_RECORDS_MAX];
    for (uint32_t i = 0; i < answer->count; i++)
        candidates[i] = (struct candidate){&answer->records[i], chance(search)};
    qsort(candidates, answer->count, sizeof(candidates[0]), compare_candidates);
    for (uint32_t i = 0; i < answer->count; i++) {
        const struct dns_record *record = candidates[i].record;
        bool own = strcasecmp(record->name, search->exchange->setup->hostname) == 0;
        if (own && record->preference < search->own_preference)
            search->own_preference = record->preference;
        bool known = record->name[0] == '\0' || is_named(search, record->name);
        if (own || known || search->name_count == NAMES_MAX ||
            record->preference >= search->own_preference)
            continue;
        struct name *name = add_name(search, record->name);
        name->preference = record->preference;
        name->order = candidates[i].order;
    }
    /* Equal preferences may stand before our own name: they are left out, too. */
    while (search->name_count > 0 &&
           search->names[search->name_count - 1].preference >= search->own_preference)
        search->name_count--;
    for (uint32_t i = 0; i < search->name_count; i++)
        ask_addresses(&search->names[i]);
}

static bool is_null(const struct dns_answer *answer)
{
    for (uint32_t i = 0; i < answer->count; i++)
        if (answer->records[i].name[0] != '\0')
            return false;
    return true;
}

static void mx_answered(struct dns_question *question, const struct dns_answer *answer)
{
    struct exchange_search *search = question->user;
    const char *domain = search->exchange->domain;
    struct verdict why;
    search->open--;
    switch (answer->status) {
    case DNS_FAILED:
    case DNS_TIMED_OUT: no_answer(search, "MX", domain); return;
    case DNS_NO_NAME: no_domain(search, domain); return;
    case DNS_NO_DATA:
        search->implicit = true;
        shorten(search, answer);
        ask_addresses(add_name(search, domain));
        return;
    case DNS_FOUND: break;
    }
    if (is_null(answer)) {
        verdict_own(&why, VERDICT_REFUSED, 556, (struct reply_status){5, 1, 10},
                    "%s takes no mail (null MX)", domain);
        give_up(search, &why);
        return;
    }
    shorten(search, answer);
    take_exchanges(search, answer);
    if (search->open == 0)
        conclude(search);
}

static void address_answered(struct dns_question *question, const struct dns_answer *answer)
{
    struct name *name = question->user;
    struct exchange_search *search = name->search;
    search->open--;
    if (answer->status == DNS_FOUND)
        shorten(search, answer);
    for (uint32_t i = 0; i < answer->count; i++)
        add_address(name, &answer->records[i].address);
    name->unsure |= answer->status == DNS_FAILED || answer->status == DNS_TIMED_OUT;
    if (search->open == 0)
        conclude(search);
}

/* --- the end --- */

/* reaches tells whether a connection to `address` is one to the listener at `ours`. Linux connects
 * the unspecified address to the loopback; a listener there has all of 127.0.0.0/8, too. */
static bool reaches(const union address_any *address, const union address_any *ours)
{
    if (ours->any.sa_family != address->any.sa_family)
        return false;
    if (address->any.sa_family == AF_INET6) {
        const struct in6_addr *to = &address->v6.sin6_addr, *at = &ours->v6.sin6_addr;
        if (IN6_IS_ADDR_UNSPECIFIED(to))
            to = &in6addr_loopback;
        return ours->v6.sin6_port == address->v6.sin6_port &&
               (IN6_ARE_ADDR_EQUAL(to, at) ||
                (IN6_IS_ADDR_UNSPECIFIED(at) && IN6_IS_ADDR_LOOPBACK(to)));
    }
    uint32_t to = ntohl(address->v4.sin_addr.s_addr), at = ntohl(ours->v4.sin_addr.s_addr);
    if (to == INADDR_ANY)
        to = INADDR_LOOPBACK;
    return ours->v4.sin_port == address->v4.sin_port &&
           (to == at || (at == INADDR_ANY && to >> 24 == IN_LOOPBACKNET));
}

static bool is_ours(const struct exchange_setup *setup, const union address_any *address)
{
    for (uint32_t i = 0; i < setup->our_count; i++)
        if (reaches(address, &setup->ours[i]))
            return true;
    return false;
}

/* find_ourselves looks for our own addresses among those that were found. */
static void find_ourselves(struct exchange_search *search)
{
    for (uint32_t i = 0; i < search->name_count; i++) {
        const struct name *name = &search->names[i];
        for (int family = V4; family <= V6; family++)
            for (uint32_t j = 0; j < name->counts[family]; j++)
                if (is_ours(search->exchange->setup, &name->addresses[family][j]) &&
                    name->preference < search->own_preference)
                    search->own_preference = name->preference;
    }
}

/* leave_ourselves_out takes our own addresses from those of configured hosts: the others go on. */
static void leave_ourselves_out(struct exchange_search *search)
{
    for (uint32_t i = 0; i < search->name_count; i++) {
        struct name *name = &search->names[i];
        for (int family = V4; family <= V6; family++) {
            uint32_t kept = 0;
            for (uint32_t j = 0; j < name->counts[family]; j++) {
                if (is_ours(search->exchange->setup, &name->addresses[family][j]))
                    search->own_host = true;
                else
                    name->addresses[family][kept++] = name->addresses[family][j];
            }
            name->counts[family] = kept;
        }
    }
}

static void shuffle(struct exchange_search *search, union address_any *addresses, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = (uint32_t)(chance(search) % i);
        union address_any kept = addresses[i - 1];
        addresses[i - 1] = addresses[other];
        addresses[other] = kept;
    }
}

static struct exchange_host *add_host(const struct exchange_search *search, const struct name *name,
                                      struct exchange_host *hosts, uint32_t *count)
{
    const struct exchange *exchange = search->exchange;
    struct exchange_host *host = &hosts[(*count)++];
    memcpy(host->peer.name, name->text, sizeof(name->text));
    host->peer.lmtp = exchange->lmtp;
    host->peer.tls = exchange->tls;
    host->peer.tls_verify = exchange->tls_verify;
    host->preference = name->preference;
    host->weight = name->weight * EXCHANGE_WEIGHT_UNIT;
    return host;
}

static void add_socket(const struct exchange_search *search, const struct name *name,
                       struct exchange_host *hosts, uint32_t *count)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(name->path);
    if (len >= sizeof(address.sun_path) || *count == EXCHANGE_HOSTS_MAX)
        return; /* the configuration was checked for that */
    memcpy(address.sun_path, name->path, len + 1);
    struct exchange_host *host = add_host(search, name, hosts, count);
    memcpy(&host->peer.address, &address, sizeof(address));
    host->peer.address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
}

/* add_addresses adds `most` of a name's addresses: both families by turns, from a random start.
 * They share the weight of the name. */
static void add_addresses(struct exchange_search *search, struct name *name, uint32_t most,
                          struct exchange_host *hosts, uint32_t *count)
{
    uint32_t taken[2] = {0, 0};
    uint32_t all = name->counts[V4] + name->counts[V6];
    uint32_t wanted = all < most ? all : most;
    shuffle(search, name->addresses[V4], name->counts[V4]);
    shuffle(search, name->addresses[V6], name->counts[V6]);
    uint32_t family = (uint32_t)(chance(search) & 1);
    for (uint32_t i = 0; i < wanted && *count < EXCHANGE_HOSTS_MAX; i++, family = 1 - family) {
        if (taken[family] == name->counts[family])
            family = 1 - family;
        const union address_any *address = &name->addresses[family][taken[family]++];
        struct exchange_host *host = add_host(search, name, hosts, count);
        host->peer.address_len =
            family == V6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
        memcpy(&host->peer.address, address, host->peer.address_len);
        host->weight /= wanted;
    }
}

/* say_why tells why a search has come to nothing. */
static void say_why(struct exchange_search *search, uint32_t usable)
{
    const char *target =
        search->exchange->mx ? search->exchange->domain : search->exchange->places[0].name;
    struct verdict why;
    for (uint32_t i = 0; i < usable; i++)
        if (search->names[i].unsure) {
            no_answer(search, "address", search->names[i].text);
            return;
        }
    if (search->own_preference != UINT32_MAX || search->own_host) {
        verdict_own(&why, VERDICT_REFUSED, 0, (struct reply_status){5, 4, 6},
                    "mail for %s leads back to ourselves", target);
    } else if (search->exchange->mx && !search->implicit && !search->no_domain) {
        verdict_own(&why, VERDICT_REFUSED, 0, (struct reply_status){5, 4, 4},
                    "no MX of %s has an address", target);
    } else if (search->exchange->mx) {
        no_domain(search, target == NULL ? "(not a domain name)" : target);
        return;
    } else {
        verdict_own(&why, VERDICT_REFUSED, 0, (struct reply_status){5, 4, 4}, "%s has no address",
                    target);
    }
    give_up(search, &why);
}

/* conclude makes hosts of what was found. The names are in order. */
static void conclude(struct exchange_search *search)
{
    struct exchange *exchange = search->exchange;
    if (exchange->mx)
        find_ourselves(search);
    else
        leave_ourselves_out(search);
    uint32_t usable = 0; /* names before ourselves */
    while (usable < search->name_count && search->names[usable].preference < search->own_preference)
        usable++;
    struct exchange_host *hosts = calloc(EXCHANGE_HOSTS_MAX, sizeof(*hosts));
    uint32_t count = 0;
    for (uint32_t i = 0; hosts != NULL && i < usable; i++) {
        if (search->names[i].path != NULL)
            add_socket(search, &search->names[i], hosts, &count);
        else
            add_addresses(search, &search->names[i], EXCHANGE_HOSTS_MAX / usable, hosts, &count);
    }
    if (hosts == NULL) {
        struct verdict why;
        verdict_own(&why, VERDICT_DEFERRED, 0, (struct reply_status){4, 3, 0}, "out of memory");
        give_up(search, &why);
    } else if (count == 0) {
        say_why(search, usable);
    } else {
        uint64_t fresh_us = search->ttl_s == UINT32_MAX
                                ? UINT64_MAX
                                : search->now_us + (uint64_t)search->ttl_s * 1000000;
        exchange_search_drop(exchange);
        exchange_search_done(exchange, hosts, count, fresh_us, NULL);
    }
    free(hosts);
}
