/* Rates: see rates.h. A cell is one word: 26 bits of a keyed hash of whom it counts, 38 bits of the
 * moment at which all that was taken is paid back (GCRA's theoretical arrival time), in ticks of 4
 * us. Someone looks for his cell among the eight of one cache line, which the hash chooses; where
 * all belong to others, the one that is paid back first goes to him: who is near his limit is
 * remembered longest.
 *
 * A cell means something only while its moment is at most AHEAD_MAX ahead. Ticks wrap around after
 * 12.7 days, and a moment of then would be ahead again; so a sweep, which whoever comes does a part
 * of, visits each line every five days and empties what is paid back. */
#include "gateway/policy/rates.h"

#include "gateway/base/hash.h"
#include "gateway/policy/networks.h"
#include "tls/crypto.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PROBES = 8, /* cells of a cache line */
    CELLS_MIN = 1024,
    CELLS_MAX = 1 << 24, /* 128 MiB */
    TICK_US = 4,
    TICK_BITS = 38,
    MINUTE = 60 * 1000000 / TICK_US,
    AHEAD_MAX = 10 * MINUTE, /* no cell is paid back later than that */
    ATTEMPTS = 64,           /* when other threads are quicker; then it is let through */
};

static const uint64_t ticks_mask = ((uint64_t)1 << TICK_BITS) - 1;
static const uint64_t round_us = (uint64_t)5 * 24 * 3600 * 1000000; /* of the sweep */

struct rates {
    uint64_t seed[2];
    uint32_t line_mask;
    uint64_t step_us;        /* the sweep takes for a line */
    _Atomic uint64_t steps;  /* it has done, since the beginning of the clock */
    _Atomic uint64_t *cells; /* lines of PROBES */
};

struct rates *rates_new(uint32_t cells)
{
    uint32_t count = CELLS_MIN;
    while (count < cells && count < CELLS_MAX)
        count *= 2;
    struct rates *rates = calloc(1, sizeof(*rates));
    if (rates == NULL)
        return NULL;
    rates->cells = aligned_alloc(PROBES * sizeof(uint64_t), count * sizeof(uint64_t));
    if (rates->cells == NULL) {
        free(rates);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++)
        atomic_init(&rates->cells[i], 0);
    rates->line_mask = count / PROBES - 1;
    rates->step_us = round_us / (count / PROBES);
    atomic_init(&rates->steps, 0);
    crypto_random(rates->seed, sizeof(rates->seed));
    return rates;
}

void rates_free(struct rates *rates)
{
    if (rates == NULL)
        return;
    free(rates->cells);
    free(rates);
}

/* --- cells --- */

/* Who is counted: his line of cells, and what marks his cell there; never 0. */
struct place {
    _Atomic uint64_t *line;
    uint64_t mark;
};

static struct place find_place(const struct rates *rates, enum rate_kind kind,
                               enum rate_scope scope, const union address_any *peer)
{
    uint8_t octets[16];
    if (scope == RATE_ADDRESS)
        (void)networks_mask(peer, 32, 64, octets);
    else
        (void)networks_mask(peer, 24, 48, octets);
    uint64_t hash =
        hash_keyed(rates->seed, (uint64_t)kind * RATE_SCOPES + scope, octets, sizeof(octets));
    uint64_t mark = hash & ~ticks_mask;
    return (struct place){
        .line = &rates->cells[((uint32_t)hash & rates->line_mask) * PROBES],
        .mark = mark != 0 ? mark : ticks_mask + 1,
    };
}

/* ahead returns in how many ticks a cell is paid back; 0: it is. */
static uint64_t ahead(uint64_t value, uint64_t now)
{
    uint64_t ticks = (value - now) & ticks_mask;
    return ticks <= AHEAD_MAX ? ticks : 0;
}

/* sweep empties the cells that are paid back in the lines that are due: mostly none. When nobody
 * came for a whole round, all are. */
static void sweep(struct rates *rates, uint64_t now_us)
{
    uint64_t lines = (uint64_t)rates->line_mask + 1;
    uint64_t steps = now_us / rates->step_us;
    uint64_t done = atomic_load_explicit(&rates->steps, memory_order_relaxed);
    if (steps <= done ||
        !atomic_compare_exchange_strong_explicit(&rates->steps, &done, steps, memory_order_relaxed,
                                                 memory_order_relaxed))
        return;
    bool all = steps - done >= lines;
    uint64_t due = all ? lines : steps - done;
    for (uint64_t i = 0; i < due * PROBES; i++) {
        _Atomic uint64_t *cell =
            &rates->cells[((done & rates->line_mask) * PROBES + i) & (lines * PROBES - 1)];
        uint64_t here = atomic_load_explicit(cell, memory_order_relaxed);
        if (here != 0 && (all || ahead(here, now_us / TICK_US) == 0))
            (void)atomic_compare_exchange_strong_explicit(cell, &here, 0, memory_order_relaxed,
                                                          memory_order_relaxed);
    }
}

/* find returns the cell of a place and its value; where it has none, one that may become it, and 0.
 */
static _Atomic uint64_t *find(struct place place, uint64_t now, uint64_t *value, uint64_t *found)
{
    _Atomic uint64_t *best = NULL;
    uint64_t best_ahead = UINT64_MAX;
    for (uint32_t i = 0; i < PROBES; i++) {
        uint64_t here = atomic_load_explicit(&place.line[i], memory_order_relaxed);
        if ((here & ~ticks_mask) == place.mark) {
            *value = *found = here;
            return &place.line[i];
        }
        if (ahead(here, now) < best_ahead) {
            best_ahead = ahead(here, now);
            best = &place.line[i];
            *found = here;
        }
    }
    *value = 0;
    return best;
}

static bool swap(_Atomic uint64_t *cell, uint64_t old, struct place place, uint64_t tick)
{
    return atomic_compare_exchange_strong_explicit(cell, &old, place.mark | (tick & ticks_mask),
                                                   memory_order_relaxed, memory_order_relaxed);
}

/* A limit of N a minute: one costs a Nth of a minute. */
static uint64_t cost_of(uint32_t per_minute)
{
    return per_minute < MINUTE ? MINUTE / per_minute : 1;
}

/* take counts one; false: it would be more than a minute ahead. */
static bool take(struct place place, uint32_t per_minute, uint64_t now)
{
    uint64_t cost = cost_of(per_minute);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t value, old;
        _Atomic uint64_t *cell = find(place, now, &value, &old);
        uint64_t next = (value == 0 ? 0 : ahead(value, now)) + cost;
        if (next > MINUTE)
            return false;
        if (swap(cell, old, place, now + next))
            return true;
    }
    return true;
}

/* give_back takes back what `take` has counted, unless it was forgotten meanwhile. */
static void give_back(struct place place, uint32_t per_minute, uint64_t now)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t value, old;
        _Atomic uint64_t *cell = find(place, now, &value, &old);
        uint64_t rest = value == 0 ? 0 : ahead(value, now);
        uint64_t cost = cost_of(per_minute);
        if (rest == 0 || swap(cell, old, place, now + (rest > cost ? rest - cost : 0)))
            return;
    }
}

enum rate_verdict rates_take(struct rates *rates, const struct rate_limits *limits,
                             enum rate_kind kind, const union address_any *peer, uint64_t now_us)
{
    const uint32_t *per_minute = limits->per_minute[kind];
    uint64_t now = now_us / TICK_US;
    struct place address = {0};
    sweep(rates, now_us);
    if (per_minute[RATE_ADDRESS] != 0) {
        address = find_place(rates, kind, RATE_ADDRESS, peer);
        if (!take(address, per_minute[RATE_ADDRESS], now))
            return RATE_ADDRESS_OVER;
    }
    if (per_minute[RATE_NETWORK] == 0 ||
        take(find_place(rates, kind, RATE_NETWORK, peer), per_minute[RATE_NETWORK], now))
        return RATE_OK;
    if (per_minute[RATE_ADDRESS] != 0)
        give_back(address, per_minute[RATE_ADDRESS], now);
    return RATE_NETWORK_OVER;
}

void rates_close(struct rates *rates, enum rate_kind kind, enum rate_scope scope,
                 const union address_any *peer, uint64_t now_us, uint64_t until_us)
{
    struct place place = find_place(rates, kind, scope, peer);
    uint64_t now = now_us / TICK_US;
    uint64_t closed = (until_us > now_us ? until_us - now_us : 0) / TICK_US;
    /* A full bucket is a minute ahead. */
    uint64_t wanted = closed < AHEAD_MAX - MINUTE ? closed + MINUTE : AHEAD_MAX;
    for (int attempt = 0; closed != 0 && attempt < ATTEMPTS; attempt++) {
        uint64_t value, old;
        _Atomic uint64_t *cell = find(place, now, &value, &old);
        if ((value != 0 && ahead(value, now) >= wanted) || swap(cell, old, place, now + wanted))
            return;
    }
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
