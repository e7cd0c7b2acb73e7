/* The hosts of a destination, and the choice among them: see exchange.h. */
#include "gateway/deliver/exchange.h"

#include "gateway/base/check.h"
#include "gateway/deliver/exchange_inside.h"

#include <idn2.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEAD_MIN_S = 30,
    DEAD_MAX_S = 15 * 60,
    COUNT_MAX = 1 << 30, /* then all counts are halved: proportions stay */
};

/* --- life --- */

static char *copy_text(struct bytes text)
{
    char *copy = malloc(text.len + 1);
    if (copy == NULL)
        return NULL;
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return copy;
}

static bool is_ascii(const char *text)
{
    for (; *text != '\0'; text++)
        if ((uint8_t)*text >= 128)
            return false;
    return true;
}

/* set_domain keeps the domain whose MX is meant, in A-labels (RFC 5891 4.4). One that has none is
 * no domain. False: no memory. */
static bool set_domain(struct exchange *exchange, struct bytes domain)
{
    char *text = copy_text(domain);
    if (text == NULL)
        return false;
    for (size_t i = 0; i < domain.len; i++)
        text[i] = (char)byte_lower((uint8_t)text[i]);
    exchange->domain = text;
    if (memchr(text, '\0', domain.len) == NULL && is_ascii(text))
        return true;
    exchange->domain = NULL;
    char *encoded = NULL;
    int result = strlen(text) < domain.len
                     ? IDN2_DISALLOWED
                     : idn2_to_ascii_8z(text, &encoded, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    free(text);
    if (result == IDN2_OK)
        exchange->domain = copy_text(bytes_of_string(encoded));
    idn2_free(encoded);
    return result == IDN2_OK ? exchange->domain != NULL : result != IDN2_MALLOC;
}

static bool set_places(struct exchange *exchange, const struct route *route)
{
    exchange->places = calloc(route->host_count, sizeof(*exchange->places));
    if (exchange->places == NULL)
        return false;
    exchange->place_count = route->host_count;
    bool copied = true;
    for (uint32_t i = 0; i < route->host_count; i++) {
        const struct route_host *host = &route->hosts[i];
        exchange->places[i] = (struct exchange_place){
            .name = copy_text(bytes_of_string(host->name)),
            .port = host->port,
            .weight = host->weight,
        };
        copied = copied && exchange->places[i].name != NULL;
    }
    return copied;
}

struct exchange *exchange_new(const struct exchange_setup *setup, const struct route *route,
                              struct bytes domain)
{
    CHECK(route->kind == ROUTE_MX || route->kind == ROUTE_SMTP || route->kind == ROUTE_LMTP);
    CHECK(route->kind == ROUTE_MX ||
          (route->host_count > 0 && route->host_count <= ROUTE_HOSTS_MAX));
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    if (exchange == NULL)
        return NULL;
    exchange->setup = setup;
    exchange->mx = route->kind == ROUTE_MX;
    exchange->lmtp = route->kind == ROUTE_LMTP;
    exchange->configured = !exchange->mx || route->exchange != NULL;
    exchange->tls = route->options.tls;
    exchange->tls_verify = route->options.tls_verify;
    if (exchange->mx && route->exchange != NULL)
        domain = bytes_of_string(route->exchange);
    if (exchange->mx ? set_domain(exchange, domain) : set_places(exchange, route))
        return exchange;
    exchange_free(exchange);
    return NULL;
}

void exchange_free(struct exchange *exchange)
{
    if (exchange == NULL)
        return;
    exchange_search_drop(exchange);
    for (uint32_t i = 0; i < exchange->place_count; i++)
        free(exchange->places[i].name);
    free(exchange->places);
    free(exchange->domain);
    free(exchange->hosts);
    free(exchange);
}

/* --- finding out --- */

static struct exchange_host *find_same(const struct exchange *exchange,
                                       const struct exchange_host *host)
{
    for (uint32_t i = 0; i < exchange->host_count; i++) {
        struct exchange_host *at = &exchange->hosts[i];
        if (at->peer.address_len == host->peer.address_len &&
            memcmp(&at->peer.address, &host->peer.address, at->peer.address_len) == 0 &&
            strcmp(at->peer.name, host->peer.name) == 0)
            return at;
    }
    return NULL;
}

/* is_known tells whether the hosts are those that we have. Then they keep their places, too. */
static bool is_known(const struct exchange *exchange, const struct exchange_host *hosts,
                     uint32_t count)
{
    bool known = count == exchange->host_count;
    for (uint32_t i = 0; i < count && known; i++) {
        const struct exchange_host *same = find_same(exchange, &hosts[i]);
        known = same != NULL && same->preference == hosts[i].preference;
    }
    return known;
}

static bool replace_hosts(struct exchange *exchange, const struct exchange_host *hosts,
                          uint32_t count)
{
    struct exchange_host *copy = calloc(count, sizeof(*copy));
    if (copy == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct exchange_host *before = find_same(exchange, &hosts[i]);
        copy[i] = hosts[i];
        if (before == NULL)
            continue;
        copy[i].dead_us = before->dead_us; /* a new answer does not bring it to life */
        copy[i].failures = before->failures;
    }
    free(exchange->hosts);
    exchange->hosts = copy;
    exchange->host_count = count;
    return true;
}

void exchange_search_done(struct exchange *exchange, const struct exchange_host *hosts,
                          uint32_t count, uint64_t fresh_us, const struct verdict *why)
{
    static const struct verdict no_memory = {
        .kind = VERDICT_DEFERRED, .status = {4, 3, 0},
             .text = "out of memory"
    };
    if (why == NULL && !is_known(exchange, hosts, count) && !replace_hosts(exchange, hosts, count))
        why = &no_memory;
    exchange->fresh_us = why == NULL ? fresh_us : 0;
    void (*found)(void *user, const struct verdict *reason) = exchange->found;
    exchange->found = NULL;
    found(exchange->user, why); /* which may free the exchange */
}

void exchange_ask(struct exchange *exchange, uint64_t now_us,
                  void (*found)(void *user, const struct verdict *why), void *user)
{
    CHECK(exchange->found == NULL);
    if (exchange->host_count > 0 && now_us < exchange->fresh_us) {
        found(user, NULL);
        return;
    }
    exchange->found = found;
    exchange->user = user;
    exchange_search(exchange, now_us);
}

void exchange_forget(struct exchange *exchange)
{
    free(exchange->hosts);
    exchange->hosts = NULL;
    exchange->host_count = 0;
    exchange->fresh_us = 0;
}

/* --- choosing --- */

/* is_before tells whether `a` has had less of the work, for its weight, than `b`. */
static bool is_before(const struct exchange_host *a, const struct exchange_host *b)
{
    if (a->preference != b->preference)
        return a->preference < b->preference;
    uint64_t a_work = (uint64_t)a->served + a->picked;
    uint64_t b_work = (uint64_t)b->served + b->picked;
    return a_work * b->weight < b_work * a->weight;
}

static void keep_dead(struct exchange_host *host, uint64_t now_us)
{
    uint32_t doublings = host->failures > 0 ? host->failures - 1 : 0;
    uint64_t dead_s = doublings < 6 ? (uint64_t)DEAD_MIN_S << doublings : DEAD_MAX_S;
    host->dead_us = now_us + (dead_s < DEAD_MAX_S ? dead_s : DEAD_MAX_S) * 1000000;
}

static void bound_counts(struct exchange *exchange)
{
    bool high = false;
    for (uint32_t i = 0; i < exchange->host_count; i++)
        high |= exchange->hosts[i].served > COUNT_MAX || exchange->hosts[i].picked > COUNT_MAX;
    for (uint32_t i = 0; i < exchange->host_count && high; i++) {
        exchange->hosts[i].served /= 2;
        exchange->hosts[i].picked /= 2;
    }
}

struct exchange_host *exchange_pick(struct exchange *exchange, uint64_t now_us, uint32_t tried,
                                    uint32_t *index)
{
    struct exchange_host *best = NULL;
    for (uint32_t i = 0; i < exchange->host_count; i++) {
        struct exchange_host *host = &exchange->hosts[i];
        if (tried & 1u << i || (host->dead_us > now_us && now_us != UINT64_MAX))
            continue;
        if (best != NULL && !is_before(host, best))
            continue;
        best = host;
        *index = i;
    }
    if (best == NULL)
        return NULL;
    bound_counts(exchange);
    best->picked++;
    if (best->failures > 0 && now_us != UINT64_MAX)
        keep_dead(best, now_us); /* one connection tries it; the others wait what comes of that */
    return best;
}

void exchange_failed(struct exchange *exchange, uint32_t index, uint64_t now_us)
{
    if (index >= exchange->host_count)
        return; /* the hosts are others by now */
    struct exchange_host *host = &exchange->hosts[index];
    host->failures += host->failures < UINT32_MAX;
    keep_dead(host, now_us);
}

void exchange_worked(struct exchange *exchange, uint32_t index)
{
    if (index >= exchange->host_count)
        return;
    struct exchange_host *host = &exchange->hosts[index];
    bool risen = host->failures > 0;
    host->failures = 0;
    host->dead_us = 0;
    for (uint32_t i = 0; i < exchange->host_count && risen; i++) {
        exchange->hosts[i].served = 0; /* it need not make up for what it has missed */
        exchange->hosts[i].picked = 0;
    }
}

uint32_t exchange_count(const struct exchange *exchange)
{
    return exchange->host_count;
}

struct exchange_host *exchange_at(struct exchange *exchange, uint32_t index)
{
    CHECK(index < exchange->host_count);
    return &exchange->hosts[index];
}
