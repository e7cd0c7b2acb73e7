/* Sets of IP networks: see networks.h. The lists that people write are short, so a walk will do. */
#include "gateway/policy/networks.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

enum { V4_BITS = 32, V6_BITS = 128, V4_IN_V6 = 96 };

/* All are IPv6: IPv4 lies in ::ffff:0:0/96. */
struct network {
    uint8_t octets[16];
    uint8_t bits;
};

struct networks {
    struct network *all;
    size_t count;
};

struct networks *networks_new(void)
{
    return calloc(1, sizeof(struct networks));
}

void networks_free(struct networks *networks)
{
    if (networks == NULL)
        return;
    free(networks->all);
    free(networks);
}

struct networks *networks_copy(const struct networks *networks)
{
    struct networks *copy = networks_new();
    size_t size = networks->count * sizeof(*networks->all);
    if (copy == NULL || size == 0)
        return copy;
    copy->all = malloc(size);
    if (copy->all == NULL) {
        free(copy);
        return NULL;
    }
    memcpy(copy->all, networks->all, size);
    copy->count = networks->count;
    return copy;
}

static void map_v4(const void *address, uint8_t *octets)
{
    memset(octets, 0, 10);
    memset(octets + 10, 0xff, 2);
    memcpy(octets + 12, address, 4);
}

/* parse_bits reads the decimal number behind the slash. */
static bool parse_bits(const char *text, unsigned max, unsigned *bits)
{
    char *end;
    if (text[0] < '0' || text[0] > '9' || strlen(text) > 3)
        return false;
    *bits = (unsigned)strtoul(text, &end, 10);
    return *end == '\0' && *bits <= max;
}

static bool parse(const char *text, struct network *out)
{
    char host[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t len = slash == NULL ? strlen(text) : (size_t)(slash - text);
    struct in_addr v4;
    if (len >= sizeof(host))
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    bool is_v4 = inet_pton(AF_INET, host, &v4) == 1;
    if (is_v4)
        map_v4(&v4, out->octets);
    else if (inet_pton(AF_INET6, host, out->octets) != 1)
        return false;
    unsigned bits = is_v4 ? V4_BITS : V6_BITS;
    if (slash != NULL && !parse_bits(slash + 1, bits, &bits))
        return false;
    out->bits = (uint8_t)(is_v4 ? bits + V4_IN_V6 : bits);
    return true;
}

/* same_prefix compares the first `bits` bits. */
static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned rest = bits % 8;
    return memcmp(a, b, bits / 8) == 0 &&
           (rest == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - rest) == 0);
}

static bool has_host_bits(const struct network *network)
{
    static const uint8_t zeros[16];
    unsigned whole = network->bits / 8, rest = network->bits % 8;
    if (rest != 0 && (network->octets[whole] & (0xffu >> rest)) != 0)
        return true;
    whole += rest != 0;
    return memcmp(network->octets + whole, zeros, sizeof(zeros) - whole) != 0;
}

enum networks_result networks_add(struct networks *networks, const char *text)
{
    struct network network;
    if (!parse(text, &network))
        return NETWORKS_NO_NETWORK;
    if (has_host_bits(&network))
        return NETWORKS_HOST_BITS;
    struct network *larger = realloc(networks->all, (networks->count + 1) * sizeof(*networks->all));
    if (larger == NULL)
        return NETWORKS_NO_MEMORY;
    networks->all = larger;
    networks->all[networks->count++] = network;
    return NETWORKS_ADDED;
}

static void octets_of(const union address_any *address, uint8_t *octets)
{
    if (address->any.sa_family == AF_INET6)
        memcpy(octets, &address->v6.sin6_addr, 16);
    else
        map_v4(&address->v4.sin_addr, octets);
}

bool networks_contain(const struct networks *networks, const union address_any *address)
{
    uint8_t octets[16];
    if (networks == NULL)
        return false;
    octets_of(address, octets);
    for (size_t i = 0; i < networks->count; i++)
        if (same_prefix(networks->all[i].octets, octets, networks->all[i].bits))
            return true;
    return false;
}

bool networks_contain_all(const struct networks *networks)
{
    for (size_t i = 0; networks != NULL && i < networks->count; i++) {
        const struct network *network = &networks->all[i];
        bool is_v4 = network->octets[10] == 0xff && network->octets[11] == 0xff;
        if (network->bits == 0 || (network->bits == V4_IN_V6 && is_v4))
            return true;
    }
    return false;
}

bool networks_mask(const union address_any *address, unsigned v4_bits, unsigned v6_bits,
                   uint8_t out[16])
{
    static const uint8_t prefix_v4[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    octets_of(address, out);
    bool is_v4 = memcmp(out, prefix_v4, sizeof(prefix_v4)) == 0;
    unsigned bits = is_v4 ? v4_bits + V4_IN_V6 : v6_bits;
    unsigned whole = bits / 8;
    if (bits % 8 != 0)
        out[whole++] &= (uint8_t)(0xffu << (8 - bits % 8));
    memset(out + whole, 0, 16 - whole);
    return is_v4;
}
