/* Attempts to log in: see attempts.h. Three kinds of buckets of an hour (policy/meter.h), for an
 * address, a network and a user, twice: with the attempts under way and without; and a meter of its
 * own whose full buckets are pairs of user and network: logged in from there not long ago. A known
 * pair has a bucket of its own instead of the three, with the user's limit: nobody else can fill
 * it, and nobody inside guesses without end. */
#include "gateway/policy/attempts.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/policy/meter.h"
#include "gateway/policy/networks.h"

enum {
    HOUR_S = 3600,
    KNOWN_S = 30 * 24 * HOUR_S,
    PREFIX_LEN = 16, /* of a network, as networks_mask writes it */
    NAME_LEN = 256,  /* of longer names the first octets tell them apart */
};

enum scope { SCOPE_ADDRESS = 0, SCOPE_NETWORK = 1, SCOPE_USER = 2, SCOPE_PAIR = 3 };

static const struct meter_limit known_limit = {.count = 1, .interval_s = KNOWN_S};

/* A key is the same in `taken` and `failures`. */
struct attempts {
    struct meter *taken;    /* by failures, and by attempts under way */
    struct meter *failures; /* alone */
    struct meter *known;
};

struct attempts *attempts_new(uint32_t cells)
{
    struct attempts *attempts = calloc(1, sizeof(*attempts));
    if (attempts == NULL)
        return NULL;
    attempts->taken = meter_new(cells, HOUR_S);
    attempts->failures = meter_new(cells, HOUR_S);
    attempts->known = meter_new(cells, KNOWN_S);
    if (attempts->taken != NULL && attempts->failures != NULL && attempts->known != NULL)
        return attempts;
    attempts_free(attempts);
    return NULL;
}

void attempts_free(struct attempts *attempts)
{
    if (attempts == NULL)
        return;
    meter_free(attempts->taken);
    meter_free(attempts->failures);
    meter_free(attempts->known);
    free(attempts);
}

uint64_t attempts_octets(uint32_t cells)
{
    return 3 * meter_octets(cells);
}

/* --- who --- */

static struct meter_limit hourly(uint32_t count)
{
    return (struct meter_limit){.count = count, .interval_s = HOUR_S};
}

static uint64_t address_key(const struct attempts *attempts, const union address_any *peer)
{
    uint8_t prefix[PREFIX_LEN];
    (void)networks_mask(peer, 32, 64, prefix);
    return meter_key(attempts->taken, SCOPE_ADDRESS, prefix, sizeof(prefix));
}

static uint64_t network_key(const struct attempts *attempts, const union address_any *peer)
{
    uint8_t prefix[PREFIX_LEN];
    (void)networks_mask(peer, 24, 48, prefix);
    return meter_key(attempts->taken, SCOPE_NETWORK, prefix, sizeof(prefix));
}

/* A user, and the user in the network of `peer`, in one and the other meter. */
struct claim {
    uint64_t user, pair, known;
};

static struct claim claim_of(const struct attempts *attempts, const union address_any *peer,
                             struct bytes user)
{
    uint8_t octets[PREFIX_LEN + NAME_LEN];
    const size_t len = user.len < NAME_LEN ? user.len : NAME_LEN;
    (void)networks_mask(peer, 24, 48, octets);
    for (size_t i = 0; i < len; i++)
        octets[PREFIX_LEN + i] = byte_lower(user.data[i]);
    return (struct claim){
        .user = meter_key(attempts->taken, SCOPE_USER, octets + PREFIX_LEN, len),
        .pair = meter_key(attempts->taken, SCOPE_PAIR, octets, PREFIX_LEN + len),
        .known = meter_key(attempts->known, SCOPE_PAIR, octets, PREFIX_LEN + len),
    };
}

static bool is_known(const struct attempts *attempts, const struct claim *claim, uint64_t now_us)
{
    return !meter_has_room(attempts->known, claim->known, &known_limit, 1, now_us);
}

/* places_of writes what an attempt counts against to `out`. */
static void places_of(const struct attempts *attempts, const struct attempt_limits *limits,
                      const union address_any *peer, struct bytes user, uint64_t now_us,
                      struct attempt_room *out)
{
    bool named = user.len > 0 && limits->per_user > 0;
    const struct claim claim = claim_of(attempts, peer, user);
    bool known = named && is_known(attempts, &claim, now_us);
    *out = (struct attempt_room){
        .keys = {address_key(attempts,            peer), network_key(attempts,      peer),
                 known ? claim.pair : claim.user},
        .limits = {known ? 0 : limits->per_address, known ? 0 : limits->per_network,
                 named ? limits->per_user : 0},
    };
}

/* --- counting --- */

enum { PLACES = 3 };

static const enum attempt_verdict verdicts[PLACES] = {ATTEMPT_ADDRESS_OVER, ATTEMPT_NETWORK_OVER,
                                                      ATTEMPT_USER_OVER};

static enum attempt_verdict over(const struct attempts *attempts, const struct attempt_room *places,
                                 uint64_t now_us)
{
    for (int i = 0; i < PLACES; i++) {
        const struct meter_limit limit = hourly(places->limits[i]);
        if (!meter_has_room(attempts->failures, places->keys[i], &limit, 1, now_us))
            return verdicts[i];
    }
    return ATTEMPT_OK;
}

static void give(struct attempts *attempts, const struct attempt_room *places, int count,
                 uint64_t now_us)
{
    for (int i = 0; i < count; i++) {
        const struct meter_limit limit = hourly(places->limits[i]);
        meter_give(attempts->taken, places->keys[i], &limit, 1, now_us);
    }
}

enum attempt_verdict attempts_begin(struct attempts *attempts, const struct attempt_limits *limits,
                                    const union address_any *peer, struct bytes user,
                                    uint64_t now_us, struct attempt_room *room, bool *undecided)
{
    struct attempt_room places;
    places_of(attempts, limits, peer, user, now_us, &places);
    *room = (struct attempt_room){0};
    *undecided = false;
    for (int i = 0; i < PLACES; i++) {
        const struct meter_limit limit = hourly(places.limits[i]);
        if (meter_take(attempts->taken, places.keys[i], &limit, 1, now_us))
            continue;
        give(attempts, &places, i, now_us);
        const enum attempt_verdict verdict = over(attempts, &places, now_us);
        *undecided = verdict == ATTEMPT_OK;
        return *undecided ? verdicts[i] : verdict;
    }
    *room = places;
    return ATTEMPT_OK;
}

enum attempt_verdict attempts_look(struct attempts *attempts, const struct attempt_limits *limits,
                                   const union address_any *peer, struct bytes user,
                                   uint64_t now_us)
{
    struct attempt_room places;
    places_of(attempts, limits, peer, user, now_us, &places);
    return over(attempts, &places, now_us);
}

/* fail counts failures that have room already. */
static void fail(struct attempts *attempts, const struct attempt_room *places, uint64_t now_us)
{
    for (int i = 0; i < PLACES; i++) {
        const struct meter_limit limit = hourly(places->limits[i]);
        (void)!meter_take(attempts->failures, places->keys[i], &limit, 1, now_us);
    }
}

void attempts_failed(struct attempts *attempts, struct attempt_room *room, uint64_t now_us)
{
    fail(attempts, room, now_us);
    *room = (struct attempt_room){0};
}

void attempts_withdrawn(struct attempts *attempts, struct attempt_room *room, uint64_t now_us)
{
    give(attempts, room, PLACES, now_us);
    *room = (struct attempt_room){0};
}

void attempts_passed(struct attempts *attempts, struct attempt_room *room,
                     const union address_any *peer, struct bytes user, uint64_t now_us)
{
    attempts_withdrawn(attempts, room, now_us);
    if (user.len == 0)
        return;
    const struct claim claim = claim_of(attempts, peer, user);
    meter_close(attempts->known, claim.known, &known_limit, now_us, now_us);
}

void attempts_also_failed(struct attempts *attempts, const struct attempt_limits *limits,
                          const union address_any *peer, struct bytes user, uint64_t now_us)
{
    const struct attempt_limits name_only = {.per_user = limits->per_user};
    struct attempt_room places;
    places_of(attempts, &name_only, peer, user, now_us, &places);
    const struct meter_limit limit = hourly(places.limits[SCOPE_USER]);
    (void)!meter_take(attempts->taken, places.keys[SCOPE_USER], &limit, 1, now_us);
    fail(attempts, &places, now_us);
}
