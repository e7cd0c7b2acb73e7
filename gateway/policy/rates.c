/* Rates: see rates.h. The buckets are those of policy/meter.h. */
#include "gateway/policy/rates.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/policy/meter.h"
#include "gateway/policy/networks.h"

enum {
    MINUTE_S = 60,
    AHEAD_S = 10 * MINUTE_S, /* what rates_close says, and the full bucket of a minute */
};

struct rates {
    struct meter *meter;
};

struct rates *rates_new(uint32_t cells)
{
    struct rates *rates = calloc(1, sizeof(*rates));
    if (rates == NULL)
        return NULL;
    rates->meter = meter_new(cells, AHEAD_S);
    if (rates->meter != NULL)
        return rates;
    free(rates);
    return NULL;
}

void rates_free(struct rates *rates)
{
    if (rates == NULL)
        return;
    meter_free(rates->meter);
    free(rates);
}

static uint64_t key_of(const struct rates *rates, enum rate_kind kind, enum rate_scope scope,
                       const union address_any *peer)
{
    uint8_t octets[16];
    if (scope == RATE_ADDRESS)
        (void)networks_mask(peer, 32, 64, octets);
    else
        (void)networks_mask(peer, 24, 48, octets);
    return meter_key(rates->meter, (uint32_t)kind * RATE_SCOPES + scope, octets, sizeof(octets));
}

static struct meter_limit limit_of(const struct rate_limits *limits, enum rate_kind kind,
                                   enum rate_scope scope)
{
    return (struct meter_limit){.count = limits->per_minute[kind][scope], .interval_s = MINUTE_S};
}

enum rate_verdict rates_take(struct rates *rates, const struct rate_limits *limits,
                             enum rate_kind kind, const union address_any *peer, uint64_t now_us)
{
    const struct meter_limit address = limit_of(limits, kind, RATE_ADDRESS);
    const struct meter_limit network = limit_of(limits, kind, RATE_NETWORK);
    uint64_t key = address.count == 0 ? 0 : key_of(rates, kind, RATE_ADDRESS, peer);
    if (!meter_take(rates->meter, key, &address, 1, now_us))
        return RATE_ADDRESS_OVER;
    if (network.count == 0 ||
        meter_take(rates->meter, key_of(rates, kind, RATE_NETWORK, peer), &network, 1, now_us))
        return RATE_OK;
    meter_give(rates->meter, key, &address, 1, now_us);
    return RATE_NETWORK_OVER;
}

void rates_close(struct rates *rates, enum rate_kind kind, enum rate_scope scope,
                 const union address_any *peer, uint64_t now_us, uint64_t until_us)
{
    const struct meter_limit limit = {.count = 1, .interval_s = MINUTE_S};
    if (until_us > now_us)
        meter_close(rates->meter, key_of(rates, kind, scope, peer), &limit, now_us, until_us);
}

size_t rates_network(const union address_any *peer, enum rate_scope scope, char *out)
{
    uint8_t octets[16];
    bool wide = scope == RATE_NETWORK;
    bool is_v4 = networks_mask(peer, wide ? 24 : 32, wide ? 48 : 64, octets);
    char text[INET6_ADDRSTRLEN];
    inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? octets + 12 : octets, text, sizeof(text));
    int bits = is_v4 ? (wide ? 24 : 32) : (wide ? 48 : 64);
    int len = is_v4 && !wide ? snprintf(out, RATES_TEXT, "%s", text)
                             : snprintf(out, RATES_TEXT, "%s/%d", text, bits);
    return (size_t)len;
}
