/* What stands in for deliver/exchange, with the next hops of fake_hop.h: the functions here are
 * those of exchange.h. */
#ifndef TESTS_SUPPORT_FAKE_EXCHANGE_H
#define TESTS_SUPPORT_FAKE_EXCHANGE_H

#include "tests/support/fake_hop.h"

#include <stdlib.h>
#include <string.h>

struct exchange {
    struct hop *hop;
    bool forgotten; /* until it is asked for again */
    void (*found)(void *user, const struct verdict *why);
    void *user;
    struct exchange_host hosts[HOP_HOSTS_MAX];
};

/* "hop7.example" is fake_hops[7]. */
struct exchange *exchange_new(const struct exchange_setup *setup, const struct route *route,
                              struct bytes domain)
{
    (void)setup;
    const char *name = route->kind == ROUTE_MX ? (const char *)domain.data : route->text + 5;
    struct exchange *exchange = calloc(1, sizeof *exchange);
    unsigned long index = strtoul(name + 3, NULL, 10);
    if (exchange == NULL || index >= HOPS_MAX)
        abort();
    exchange->hop = &fake_hops[index];
    for (uint32_t i = 0; i < exchange->hop->host_count; i++) {
        struct exchange_host *host = &exchange->hosts[i];
        host->weight = exchange->hop->weights[i] == 0 ? 1 : exchange->hop->weights[i];
        memcpy(&host->peer.address, &(uint32_t[]){(uint32_t)index + 1, i}, 8);
        host->peer.address_len = 8;
        host->peer.tls = route->options.tls;
    }
    return exchange;
}

void exchange_free(struct exchange *exchange)
{
    free(exchange);
}

static void fake_answer(struct hop *hop)
{
    struct exchange *exchange = hop->open;
    if (exchange == NULL)
        return;
    hop->open = NULL;
    void (*found)(void *, const struct verdict *) = exchange->found;
    const struct verdict why = {
        .kind = exchange->hop->dns,
        .code = exchange->hop->dns == VERDICT_REFUSED ? 556 : 0,
        .status = {exchange->hop->dns == VERDICT_REFUSED ? 5 : 4, 1, 10},
        .text = "the DNS says no",
    };
    exchange->found = NULL;
    exchange->forgotten = exchange->forgotten && why.kind != VERDICT_OPEN;
    found(exchange->user, why.kind == VERDICT_OPEN ? NULL : &why);
}

void exchange_ask(struct exchange *exchange, uint64_t now_us,
                  void (*found)(void *user, const struct verdict *why), void *user)
{
    (void)now_us;
    if (exchange->found != NULL)
        abort(); /* twice at a time */
    exchange->found = found;
    exchange->user = user;
    exchange->hop->asked++;
    exchange->hop->open = exchange;
    if (!exchange->hop->dns_slow)
        fake_answer(exchange->hop);
}

/* The hosts of a hop stay, but count as known only when they were asked for. */
void exchange_forget(struct exchange *exchange)
{
    exchange->hop->forgotten++;
    exchange->forgotten = true;
}

struct exchange_host *exchange_pick(struct exchange *exchange, uint64_t now_us, uint32_t tried,
                                    uint32_t *index)
{
    struct exchange_host *best = NULL;
    for (uint32_t i = 0; i < exchange->hop->host_count; i++) {
        struct exchange_host *host = &exchange->hosts[i];
        if ((tried >> i & 1) != 0 || host->dead_us > now_us)
            continue;
        if (best != NULL && (uint64_t)(host->served + host->picked) * best->weight >=
                                (uint64_t)(best->served + best->picked) * host->weight)
            continue;
        best = host;
        *index = i;
    }
    if (best == NULL)
        return NULL;
    best->picked++;
    if (best->failures > 0 && now_us != UINT64_MAX)
        best->dead_us = now_us + 30000000; /* one connection tries it */
    return best;
}

void exchange_failed(struct exchange *exchange, uint32_t index, uint64_t now_us)
{
    struct exchange_host *host = &exchange->hosts[index];
    if (now_us != fake_now_us)
        abort(); /* a stale clock */
    uint64_t delay_us = 30000000ull << (host->failures < 5 ? host->failures : 5);
    host->dead_us = now_us + (delay_us < 900000000 ? delay_us : 900000000);
    host->failures++;
}

void exchange_worked(struct exchange *exchange, uint32_t index)
{
    exchange->hosts[index].failures = 0;
    exchange->hosts[index].dead_us = 0;
}

uint32_t exchange_count(const struct exchange *exchange)
{
    return exchange->forgotten ? 0 : exchange->hop->host_count;
}

struct exchange_host *exchange_at(struct exchange *exchange, uint32_t index)
{
    return &exchange->hosts[index];
}

#endif
