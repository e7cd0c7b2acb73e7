/* Connection counts: see admission.h. Cells of 64 bits: 44 bits of a keyed hash of the address, 20
 * bits of count, changed by compare-and-swap. An address looks for its cell among PROBES
 * neighbours; a cell whose count is 0 is free. In the unlikely case that all are taken by others
 * the address is not limited, rather than refused. */
#include "gateway/receive/admission.h"

#include "gateway/base/hash.h"
#include "gateway/policy/networks.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>

enum { PROBES = 16, COUNT_BITS = 20, COUNT_MASK = (1 << COUNT_BITS) - 1 };

struct admission {
    uint64_t seed[2]; /* keeps outsiders from choosing addresses that fall together */
    uint32_t mask;
    _Atomic uint32_t total, handshakes;
    _Atomic uint64_t cells[];
};

struct admission *admission_new(uint32_t connections_max)
{
    uint32_t count = 1024;
    while (count < connections_max * 4) /* an address and a network for each, half empty */
        count *= 2;
    struct admission *admission = calloc(1, sizeof(*admission) + count * sizeof(uint64_t));
    if (admission == NULL)
        return NULL;
    if (getrandom(admission->seed, sizeof(admission->seed), 0) != sizeof(admission->seed)) {
        free(admission);
        return NULL;
    }
    admission->mask = count - 1;
    return admission;
}

void admission_free(struct admission *admission)
{
    free(admission);
}

/* Which part of an address is counted: all of an IPv4 address or the /64 of IPv6; or the /24, /48.
 */
enum scope { SCOPE_ADDRESS, SCOPE_NETWORK };

static uint64_t hash(const struct admission *admission, const union address_any *peer,
                     enum scope scope)
{
    uint8_t octets[16];
    if (scope == SCOPE_ADDRESS)
        (void)networks_mask(peer, 32, 64, octets);
    else
        (void)networks_mask(peer, 24, 48, octets);
    return hash_keyed(admission->seed, scope, octets, sizeof(octets));
}

/* change adds `delta` (1 or -1) to the count of one address. False: the count is at `max` already.
 */
static bool change(struct admission *admission, uint64_t hashed, int delta, uint32_t max)
{
    uint64_t name = hashed & ~(uint64_t)COUNT_MASK;
    for (int attempt = 0; attempt < 64; attempt++) { /* again when another worker was quicker */
        _Atomic uint64_t *free_cell = NULL;
        _Atomic uint64_t *cell = NULL;
        for (uint32_t i = 0; i < PROBES && cell == NULL; i++) {
            _Atomic uint64_t *at = &admission->cells[(hashed + i) & admission->mask];
            uint64_t value = atomic_load(at);
            if ((value & COUNT_MASK) == 0)
                free_cell = free_cell == NULL ? at : free_cell;
            else if ((value & ~(uint64_t)COUNT_MASK) == name)
                cell = at;
        }
        uint64_t old = cell != NULL ? atomic_load(cell) : 0;
        if (cell != NULL && ((old & COUNT_MASK) == 0 || (old & ~(uint64_t)COUNT_MASK) != name))
            continue;
        if (delta > 0 && (old & COUNT_MASK) >= max)
            return false;
        if (cell == NULL && (delta < 0 || free_cell == NULL))
            return true;
        if (cell == NULL) {
            cell = free_cell;
            old = atomic_load(cell);
            if ((old & COUNT_MASK) != 0)
                continue;
        }
        uint64_t base = (old & COUNT_MASK) == 0 ? name : old;
        if (atomic_compare_exchange_strong(cell, &old, base + (uint64_t)(int64_t)delta))
            return true;
    }
    return true;
}

bool admission_enter(struct admission *admission, uint32_t max)
{
    if (atomic_fetch_add(&admission->total, 1) < max)
        return true;
    atomic_fetch_sub(&admission->total, 1);
    return false;
}

void admission_leave(struct admission *admission)
{
    atomic_fetch_sub(&admission->total, 1);
}

static uint32_t bound(uint32_t max)
{
    return max == 0 ? COUNT_MASK : max;
}

enum admission_verdict admission_enter_peer(struct admission *admission,
                                            const union address_any *peer, uint32_t address_max,
                                            uint32_t network_max)
{
    uint64_t address = hash(admission, peer, SCOPE_ADDRESS);
    if (!change(admission, address, 1, bound(address_max)))
        return ADMISSION_ADDRESS_FULL;
    if (change(admission, hash(admission, peer, SCOPE_NETWORK), 1, bound(network_max)))
        return ADMISSION_OK;
    change(admission, address, -1, 0);
    return ADMISSION_NETWORK_FULL;
}

void admission_leave_peer(struct admission *admission, const union address_any *peer)
{
    change(admission, hash(admission, peer, SCOPE_ADDRESS), -1, 0);
    change(admission, hash(admission, peer, SCOPE_NETWORK), -1, 0);
}

bool admission_handshake_begin(struct admission *admission, uint32_t max)
{
    if (atomic_fetch_add(&admission->handshakes, 1) < bound(max))
        return true;
    atomic_fetch_sub(&admission->handshakes, 1);
    return false;
}

void admission_handshake_end(struct admission *admission)
{
    atomic_fetch_sub(&admission->handshakes, 1);
}

uint32_t admission_count(const struct admission *admission)
{
    return atomic_load(&admission->total);
}

uint32_t admission_handshakes(const struct admission *admission)
{
    return atomic_load(&admission->handshakes);
}
