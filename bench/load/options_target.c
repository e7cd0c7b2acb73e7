/* Names, addresses and prefixes: see options_target.h. */
#include "bench/load/options_target.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

void target_split(const char *text, char host[TARGET_HOST_MAX], char port[TARGET_PORT_MAX])
{
    const char *first = text;
    size_t host_len;
    const char *behind;
    if (*text == '[') {
        first++;
        host_len = strcspn(first, "]");
        behind = first[host_len] == ']' ? first + host_len + 1 : NULL;
    } else {
        const char *colon = strchr(text, ':');
        bool bare = colon != NULL && strchr(colon + 1, ':') != NULL; /* an IPv6 address alone */
        host_len = colon == NULL || bare ? strlen(text) : (size_t)(colon - text);
        behind = text + host_len;
    }
    bool good = behind != NULL && host_len > 0 && host_len < TARGET_HOST_MAX &&
                strchr(text, '/') == NULL && (*behind == '\0' || *behind == ':');
    const char *number = good && *behind == ':' ? behind + 1 : "25";
    if (!good || *number == '\0' || strlen(number) >= TARGET_PORT_MAX)
        words_die("%s: the target is not HOST:PORT, as 127.0.0.1:2525, [::1]:2525 or "
                  "mx.example.org",
                  text);
    memcpy(host, first, host_len);
    host[host_len] = '\0';
    snprintf(port, TARGET_PORT_MAX, "%s", number);
}

/* The first from `found` on that is of `family`; NULL: none is. */
static const struct addrinfo *next_of(const struct addrinfo *found, sa_family_t family)
{
    while (found != NULL && family != AF_UNSPEC && found->ai_family != family)
        found = found->ai_next;
    return found;
}

static bool accepts(const struct addrinfo *address)
{
    const struct timeval patience = {.tv_sec = 3};
    int descriptor = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return false;
    (void)setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    bool connected = connect(descriptor, address->ai_addr, address->ai_addrlen) == 0;
    close(descriptor);
    return connected;
}

void target_find(const char *host, const char *port, int family, sa_family_t preferred,
                 struct sockaddr_storage *peer, socklen_t *peer_len)
{
    /* getaddrinfo would take 65537 for 1. */
    if (strspn(port, "0123456789") == strlen(port))
        words_count("port", port, 1, 65535);
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0)
        words_die("%s port %s: %s", host, port, gai_strerror(error));
    const struct addrinfo *taken = next_of(found, preferred);
    if (taken == NULL) {
        taken = found;
        preferred = AF_UNSPEC;
    }
    const struct addrinfo *other = taken;
    if (next_of(taken->ai_next, preferred) != NULL)
        while (other != NULL && !accepts(other))
            other = next_of(other->ai_next, preferred);
    if (other != NULL)
        taken = other;
    memcpy(peer, taken->ai_addr, taken->ai_addrlen);
    *peer_len = taken->ai_addrlen;
    freeaddrinfo(found);
}

struct load_prefix target_prefix(const char *name, const char *text)
{
    char address[INET6_ADDRSTRLEN];
    size_t len = strcspn(text, "/");
    struct load_prefix prefix = {.family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET};
    unsigned bits = prefix.family == AF_INET6 ? 128 : 32;
    bool good = len < sizeof address;
    if (good) {
        memcpy(address, text, len);
        address[len] = '\0';
        good = inet_pton(prefix.family, address, prefix.address) == 1;
    }
    if (!good)
        words_die("--%s: \"%s\" is not an address or a prefix, as 127.0.0.0/8 or fd00::/64", name,
                  text);
    prefix.length = (uint8_t)bits;
    if (text[len] == '/')
        prefix.length = (uint8_t)words_count(name, text + len + 1, 0, bits);
    for (unsigned bit = prefix.length; bit < bits; bit++)
        prefix.address[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
    return prefix;
}
