/* Attempts to log in: see attempts.h. Three kinds of buckets of an hour (policy/meter.h), for an
 * address, a network and a user; and a meter of its own whose full buckets are pairs of user and
 * network: logged in from there not long ago. Failures of a known pair count in a bucket of that
 * pair, with the user's limit: nobody outside can fill it, and nobody inside guesses without end.
 */
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

struct attempts {
    struct meter *failures, *known;
};

struct attempts *attempts_new(uint32_t cells)
{
    struct attempts *attempts = calloc(1, sizeof(*attempts));
    if (attempts == NULL)
        return NULL;
    attempts->failures = meter_new(cells, HOUR_S);
    attempts->known = meter_new(cells, KNOWN_S);
    if (attempts->failures != NULL && attempts->known != NULL)
        return attempts;
    attempts_free(attempts);
    return NULL;
}

void attempts_free(struct attempts *attempts)
{
    if (attempts == NULL)
        return;
    meter_free(attempts->failures);
    meter_free(attempts->known);
    free(attempts);
}

uint64_t attempts_octets(uint32_t cells)
{
    return 2 * meter_octets(cells);
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
    return meter_key(attempts->failures, SCOPE_ADDRESS, prefix, sizeof(prefix));
}

static uint64_t network_key(const struct attempts *attempts, const union address_any *peer)
{
    uint8_t prefix[PREFIX_LEN];
    (void)networks_mask(peer, 24, 48, prefix);
    return meter_key(attempts->failures, SCOPE_NETWORK, prefix, sizeof(prefix));
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
        .user = meter_key(attempts->failures, SCOPE_USER, octets + PREFIX_LEN, len),
        .pair = meter_key(attempts->failures, SCOPE_PAIR, octets, PREFIX_LEN + len),
        .known = meter_key(attempts->known, SCOPE_PAIR, octets, PREFIX_LEN + len),
    };
}

static bool is_known(const struct attempts *attempts, const struct claim *claim, uint64_t now_us)
{
    return !meter_has_room(attempts->known, claim->known, &known_limit, 1, now_us);
}

/* --- counting --- */

enum attempt_verdict attempts_begin(struct attempts *attempts, const struct attempt_limits *limits,
                                    const union address_any *peer, uint64_t now_us)
{
    const struct meter_limit address = hourly(limits->per_address);
    const struct meter_limit network = hourly(limits->per_network);
    const uint64_t key = address_key(attempts, peer);
    if (!meter_take(attempts->failures, key, &address, 1, now_us))
        return ATTEMPT_ADDRESS_OVER;
    if (meter_take(attempts->failures, network_key(attempts, peer), &network, 1, now_us))
        return ATTEMPT_OK;
    meter_give(attempts->failures, key, &address, 1, now_us);
    return ATTEMPT_NETWORK_OVER;
}

static void give_place(struct attempts *attempts, const struct attempt_limits *limits,
                       const union address_any *peer, uint64_t now_us)
{
    const struct meter_limit address = hourly(limits->per_address);
    const struct meter_limit network = hourly(limits->per_network);
    meter_give(attempts->failures, address_key(attempts, peer), &address, 1, now_us);
    meter_give(attempts->failures, network_key(attempts, peer), &network, 1, now_us);
}

enum attempt_verdict attempts_user(struct attempts *attempts, const struct attempt_limits *limits,
                                   const union address_any *peer, struct bytes user,
                                   uint64_t now_us)
{
    const struct meter_limit limit = hourly(limits->per_user);
    if (limit.count == 0)
        return ATTEMPT_OK;
    const struct claim claim = claim_of(attempts, peer, user);
    const uint64_t key = is_known(attempts, &claim, now_us) ? claim.pair : claim.user;
    if (meter_take(attempts->failures, key, &limit, 1, now_us))
        return ATTEMPT_OK;
    give_place(attempts, limits, peer, now_us);
    return ATTEMPT_USER_OVER;
}

static void give_user(struct attempts *attempts, const struct attempt_limits *limits,
                      const struct claim *claim, uint64_t now_us)
{
    const struct meter_limit limit = hourly(limits->per_user);
    const uint64_t key = is_known(attempts, claim, now_us) ? claim->pair : claim->user;
    meter_give(attempts->failures, key, &limit, 1, now_us);
}

void attempts_passed(struct attempts *attempts, const struct attempt_limits *limits,
                     const union address_any *peer, struct bytes user, uint64_t now_us)
{
    const struct claim claim = claim_of(attempts, peer, user);
    give_place(attempts, limits, peer, now_us);
    give_user(attempts, limits, &claim, now_us);
    meter_close(attempts->known, claim.known, &known_limit, now_us, now_us);
}

void attempts_withdrawn(struct attempts *attempts, const struct attempt_limits *limits,
                        const union address_any *peer, struct bytes user, uint64_t now_us)
{
    give_place(attempts, limits, peer, now_us);
    if (user.len == 0)
        return;
    const struct claim claim = claim_of(attempts, peer, user);
    give_user(attempts, limits, &claim, now_us);
}
