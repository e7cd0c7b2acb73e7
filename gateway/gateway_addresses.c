/* Our own addresses, which an MX record that leads to us is known by (RFC 5321 5.1). */
#include "gateway/gateway_inside.h"

#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>

enum { ADDRESSES_MAX = 1024 };

struct list_of {
    union address_any *all;
    uint32_t count, max;
};

static void add(struct list_of *list, const union address_any *address)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (memcmp(&list->all[i], address, sizeof(*address)) == 0)
            return;
    if (list->count < list->max)
        list->all[list->count++] = *address;
}

static bool is_wildcard(const union address_any *address)
{
    if (address->any.sa_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr);
    return address->v4.sin_addr.s_addr == htonl(INADDR_ANY);
}

/* add_interfaces adds what a wildcard stands for: all addresses of its family, with its port. */
static void add_interfaces(struct list_of *list, const union address_any *wildcard,
                           const struct ifaddrs *interfaces)
{
    for (const struct ifaddrs *at = interfaces; at != NULL; at = at->ifa_next) {
        union address_any address = *wildcard;
        if (at->ifa_addr == NULL || at->ifa_addr->sa_family != wildcard->any.sa_family)
            continue;
        if (wildcard->any.sa_family == AF_INET6)
            address.v6.sin6_addr = ((const struct sockaddr_in6 *)(void *)at->ifa_addr)->sin6_addr;
        else
            address.v4.sin_addr = ((const struct sockaddr_in *)(void *)at->ifa_addr)->sin_addr;
        add(list, &address);
    }
}

union address_any *gateway_addresses(const struct config *config, uint32_t *count)
{
    struct ifaddrs *interfaces = NULL;
    struct list_of list = {.max = ADDRESSES_MAX};
    *count = 0;
    list.all = calloc(list.max, sizeof(*list.all));
    if (list.all == NULL)
        return NULL;
    if (getifaddrs(&interfaces) != 0)
        interfaces = NULL;
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if (listener->role != CONFIG_ROLE_MX)
            continue;
        add(&list, &listener->address); /* as a wildcard it stands for all of 127.0.0.0/8 */
        if (is_wildcard(&listener->address))
            add_interfaces(&list, &listener->address, interfaces);
    }
    freeifaddrs(interfaces);
    *count = list.count;
    return list.all;
}
