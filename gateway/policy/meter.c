/* Meters: see meter.h. A cell is one word: 26 bits of the key, and 38 bits of the moment at which
 * all that was taken is paid back (GCRA's theoretical arrival time), in ticks. A key looks for its
 * cell among the eight of one cache line, which its other bits choose; where all belong to others,
 * the one that is paid back first goes to it: who is near his limit is remembered longest.
 *
 * A cell means something only while its moment is at most `ahead_max` ahead. Ticks wrap around
 * (those of 4 us after 12.7 days), and a moment of then would be ahead again; so a sweep, which
 * whoever comes does a part of, visits each line every 0.39 of that time and empties what is paid
 * back. */
#include "gateway/policy/meter.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/hash.h"
#include "tls/crypto.h"

enum {
    PROBES = 8, /* cells of a cache line */
    CELLS_MIN = 1024,
    CELLS_MAX = 1 << 24, /* 128 MiB */
    SECOND_US = 1000000,
    TICK_US_MIN = 4,
    TICK_BITS = 38,
    ROUNDS = 16, /* so often the longest time fits into that after which ticks wrap around */
    AHEAD_S_MAX = 366 * 24 * 3600,
    ATTEMPTS = 64, /* when other threads are quicker; then it is let through */
};

static const uint64_t ticks_mask = ((uint64_t)1 << TICK_BITS) - 1;
static const uint64_t sweep_ticks = (uint64_t)5 * 24 * 3600 * SECOND_US / TICK_US_MIN;

struct meter {
    uint64_t seed[2];
    uint32_t line_mask;
    uint32_t tick_us;
    uint64_t ahead_max;      /* ticks */
    uint64_t step_us;        /* the sweep takes for a line */
    _Atomic uint64_t steps;  /* it has done, since the beginning of the clock */
    _Atomic uint64_t *cells; /* lines of PROBES */
};

static uint32_t cell_count(uint32_t wanted)
{
    uint32_t count = CELLS_MIN;
    while (count < wanted && count < CELLS_MAX)
        count *= 2;
    return count;
}

uint64_t meter_octets(uint32_t cells)
{
    return cell_count(cells) * sizeof(uint64_t);
}

struct meter *meter_new(uint32_t cells, uint32_t ahead_s_max)
{
    CHECK(ahead_s_max > 0 && ahead_s_max <= AHEAD_S_MAX);
    uint32_t count = cell_count(cells);
    struct meter *meter = calloc(1, sizeof(*meter));
    if (meter == NULL)
        return NULL;
    meter->cells = aligned_alloc(PROBES * sizeof(uint64_t), count * sizeof(uint64_t));
    if (meter->cells == NULL) {
        free(meter);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++)
        atomic_init(&meter->cells[i], 0);
    meter->tick_us = TICK_US_MIN;
    while ((uint64_t)ahead_s_max * SECOND_US / meter->tick_us * ROUNDS > ticks_mask)
        meter->tick_us *= 2;
    meter->ahead_max = (uint64_t)ahead_s_max * SECOND_US / meter->tick_us;
    meter->line_mask = count / PROBES - 1;
    meter->step_us = sweep_ticks * meter->tick_us / (count / PROBES);
    atomic_init(&meter->steps, 0);
    crypto_random(meter->seed, sizeof(meter->seed));
    return meter;
}

void meter_free(struct meter *meter)
{
    if (meter == NULL)
        return;
    free(meter->cells);
    free(meter);
}

uint64_t meter_key(const struct meter *meter, uint32_t scope, const void *octets, size_t len)
{
    return hash_keyed(meter->seed, scope, octets, len);
}

/* --- cells --- */

/* A key: its line of cells, and what marks its cell there; never 0. */
struct place {
    _Atomic uint64_t *line;
    uint64_t mark;
};

static struct place place_of(const struct meter *meter, uint64_t key)
{
    uint64_t mark = key & ~ticks_mask;
    return (struct place){
        .line = &meter->cells[((uint32_t)key & meter->line_mask) * PROBES],
        .mark = mark != 0 ? mark : ticks_mask + 1,
    };
}

/* ahead returns in how many ticks a cell is paid back; 0: it is. */
static uint64_t ahead(const struct meter *meter, uint64_t value, uint64_t now)
{
    uint64_t ticks = (value - now) & ticks_mask;
    return ticks <= meter->ahead_max ? ticks : 0;
}

/* sweep empties the cells that are paid back in the lines that are due: mostly none. When nobody
 * came for a whole round, all are. */
static void sweep(struct meter *meter, uint64_t now_us)
{
    uint64_t lines = (uint64_t)meter->line_mask + 1;
    uint64_t steps = now_us / meter->step_us;
    uint64_t done = atomic_load_explicit(&meter->steps, memory_order_relaxed);
    if (steps <= done ||
        !atomic_compare_exchange_strong_explicit(&meter->steps, &done, steps, memory_order_relaxed,
                                                 memory_order_relaxed))
        return;
    bool all = steps - done >= lines;
    uint64_t due = all ? lines : steps - done;
    for (uint64_t i = 0; i < due * PROBES; i++) {
        _Atomic uint64_t *cell =
            &meter->cells[((done & meter->line_mask) * PROBES + i) & (lines * PROBES - 1)];
        uint64_t here = atomic_load_explicit(cell, memory_order_relaxed);
        if (here != 0 && (all || ahead(meter, here, now_us / meter->tick_us) == 0))
            (void)atomic_compare_exchange_strong_explicit(cell, &here, 0, memory_order_relaxed,
                                                          memory_order_relaxed);
    }
}

/* find returns the cell of a place and in *rest when it is paid back; where it has none, one that
 * may become it. *found is what the cell holds. */
static _Atomic uint64_t *find(const struct meter *meter, struct place place, uint64_t now,
                              uint64_t *rest, uint64_t *found)
{
    _Atomic uint64_t *best = NULL;
    uint64_t best_ahead = UINT64_MAX;
    for (uint32_t i = 0; i < PROBES; i++) {
        uint64_t here = atomic_load_explicit(&place.line[i], memory_order_relaxed);
        uint64_t here_ahead = ahead(meter, here, now);
        if ((here & ~ticks_mask) == place.mark) {
            *found = here;
            *rest = here_ahead;
            return &place.line[i];
        }
        if (here_ahead < best_ahead) {
            best_ahead = here_ahead;
            best = &place.line[i];
            *found = here;
        }
    }
    *rest = 0;
    return best;
}

static bool swap(_Atomic uint64_t *cell, uint64_t old, struct place place, uint64_t tick)
{
    return atomic_compare_exchange_strong_explicit(cell, &old, place.mark | (tick & ticks_mask),
                                                   memory_order_relaxed, memory_order_relaxed);
}

/* --- buckets --- */

static uint64_t interval_of(const struct meter *meter, const struct meter_limit *limit)
{
    uint64_t interval = (uint64_t)limit->interval_s * SECOND_US / meter->tick_us;
    CHECK(interval > 0 && interval <= meter->ahead_max);
    return interval;
}

/* A limit of N an interval: one costs a Nth of it. */
static uint64_t cost_of(uint64_t interval, uint32_t count, uint32_t amount)
{
    return amount * (count < interval ? interval / count : 1);
}

bool meter_take(struct meter *meter, uint64_t key, const struct meter_limit *limit, uint32_t amount,
                uint64_t now_us)
{
    if (limit->count == 0)
        return true;
    sweep(meter, now_us);
    const struct place place = place_of(meter, key);
    const uint64_t now = now_us / meter->tick_us, interval = interval_of(meter, limit);
    const uint64_t cost = cost_of(interval, limit->count, amount);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t rest, old;
        _Atomic uint64_t *cell = find(meter, place, now, &rest, &old);
        if (amount > limit->count || rest + cost > interval)
            return false;
        if (swap(cell, old, place, now + rest + cost))
            return true;
    }
    return true;
}

void meter_give(struct meter *meter, uint64_t key, const struct meter_limit *limit, uint32_t amount,
                uint64_t now_us)
{
    if (limit->count == 0)
        return;
    const struct place place = place_of(meter, key);
    const uint64_t now = now_us / meter->tick_us;
    const uint64_t cost = cost_of(interval_of(meter, limit), limit->count, amount);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t rest, old;
        _Atomic uint64_t *cell = find(meter, place, now, &rest, &old);
        if (rest == 0 || swap(cell, old, place, now + (rest > cost ? rest - cost : 0)))
            return;
    }
}

bool meter_has_room(const struct meter *meter, uint64_t key, const struct meter_limit *limit,
                    uint32_t amount, uint64_t now_us)
{
    if (limit->count == 0)
        return true;
    uint64_t rest, old, interval = interval_of(meter, limit);
    (void)find(meter, place_of(meter, key), now_us / meter->tick_us, &rest, &old);
    return amount <= limit->count && rest + cost_of(interval, limit->count, amount) <= interval;
}

void meter_close(struct meter *meter, uint64_t key, const struct meter_limit *limit,
                 uint64_t now_us, uint64_t until_us)
{
    const struct place place = place_of(meter, key);
    const uint64_t now = now_us / meter->tick_us, interval = interval_of(meter, limit);
    const uint64_t closed = (until_us > now_us ? until_us - now_us : 0) / meter->tick_us;
    const uint64_t longest = meter->ahead_max - interval;
    /* A full bucket is an interval ahead. */
    const uint64_t wanted = (closed < longest ? closed : longest) + interval;
    sweep(meter, now_us);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        uint64_t rest, old;
        _Atomic uint64_t *cell = find(meter, place, now, &rest, &old);
        if (rest >= wanted || swap(cell, old, place, now + wanted))
            return;
    }
}
