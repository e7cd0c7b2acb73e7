/* See endpoint.h. */
#include "bench/load/endpoint.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    V4_BITS = 32,
    V6_BITS = 128,
    COUNTED_BITS = 62, /* of a longer host part the upper bits stay zero */
    PORT_FIRST = 1024, /* of invented sources */
    PORT_COUNT = 64512,
};

/* --- addresses under a prefix --- */

/* The octets of an address, and how many there are. */
static uint8_t *octets_of(union endpoint *address, size_t *len)
{
    bool v4 = address->any.sa_family == AF_INET;
    *len = v4 ? sizeof(address->v4.sin_addr) : sizeof(address->v6.sin6_addr);
    return v4 ? (uint8_t *)&address->v4.sin_addr : (uint8_t *)&address->v6.sin6_addr;
}

/* Where `peer` stands in the host part; `total` when it is not under the prefix, or so far behind
 * that it is never counted to. */
static uint64_t host_of(const struct load_prefix *prefix, const struct sockaddr *peer,
                        uint64_t total)
{
    union endpoint address = {0};
    if (peer == NULL || peer->sa_family != prefix->family)
        return total;
    memcpy(&address, peer, peer->sa_family == AF_INET ? sizeof(address.v4) : sizeof(address.v6));
    size_t len;
    const uint8_t *octets = octets_of(&address, &len);
    uint64_t host = 0;
    for (unsigned i = 0; i < len; i++) {
        unsigned kept = prefix->length < 8 * i ? 0 : prefix->length - 8 * i;
        uint8_t mask = (uint8_t)(kept >= 8 ? 0xff : 0xff00 >> kept);
        if ((octets[i] & mask) != (prefix->address[i] & mask) || host >> (COUNTED_BITS - 8) != 0)
            return total;
        host = host << 8 | (octets[i] & (uint8_t)~mask);
    }
    return host < total ? host : total;
}

void endpoint_address(const struct load_prefix *prefix, uint64_t number,
                      const struct sockaddr *peer, union endpoint *address)
{
    bool v4 = prefix->family == AF_INET;
    unsigned bits = (v4 ? V4_BITS : V6_BITS) - prefix->length;
    uint64_t total = (uint64_t)1 << (bits < COUNTED_BITS ? bits : COUNTED_BITS);
    uint64_t first = total > 2 ? 1 : 0;
    uint64_t last = v4 && total > 2 ? total - 2 : total - 1;
    uint64_t own = host_of(prefix, peer, total);
    bool skips = own >= first && own <= last && first < last;
    uint64_t count = last - first + 1 - skips;
    uint64_t host = first + number % count;
    host += skips && host >= own;
    *address = (union endpoint){0};
    address->any.sa_family = prefix->family;
    size_t len;
    uint8_t *octets = octets_of(address, &len);
    memcpy(octets, prefix->address, len);
    for (size_t i = len; i-- > 0 && host > 0; host >>= 8)
        octets[i] |= (uint8_t)host;
}

/* --- sockets --- */

static void address_text(const union endpoint *address, char text[INET6_ADDRSTRLEN])
{
    bool v4 = address->any.sa_family == AF_INET;
    const void *octets = v4 ? (const void *)&address->v4.sin_addr : &address->v6.sin6_addr;
    if (inet_ntop(address->any.sa_family, octets, text, INET6_ADDRSTRLEN) == NULL)
        text[0] = '\0';
}

static socklen_t length_of(const union endpoint *address)
{
    return address->any.sa_family == AF_INET ? sizeof(address->v4) : sizeof(address->v6);
}

/* Without a port of its own: the kernel chooses one when both ends are known, so that each address
 * has all ports for each target. */
static int bind_source(const struct load_options *options, uint64_t number, int descriptor,
                       char *message, size_t size)
{
    const int one = 1;
    union endpoint address;
    char text[INET6_ADDRSTRLEN];
    endpoint_address(&options->sources, number, (const struct sockaddr *)&options->peer, &address);
    (void)setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    if (bind(descriptor, &address.any, length_of(&address)) == 0)
        return 0;
    int error = errno;
    address_text(&address, text);
    snprintf(message, size, "--sources: can't send from %s: %s%s", text, strerror(error),
             error == EADDRNOTAVAIL ? " (it is not an address of this machine)" : "");
    return -error;
}

int endpoint_open(const struct load_options *options, uint64_t number, char *message, size_t size)
{
    const int one = 1;
    int descriptor = socket(options->peer.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    if (descriptor < 0) {
        int error = errno;
        snprintf(message, size, "socket: %s", strerror(error));
        return -error;
    }
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    int error = options->sources.family == AF_UNSPEC
                    ? 0
                    : bind_source(options, number, descriptor, message, size);
    if (error == 0)
        return descriptor;
    close(descriptor);
    return error;
}

/* --- the PROXY header --- */

static uint16_t port_of(const union endpoint *address)
{
    bool v4 = address->any.sa_family == AF_INET;
    return ntohs(v4 ? address->v4.sin_port : address->v6.sin6_port);
}

static size_t header_text(const union endpoint *source, const union endpoint *target,
                          char header[ENDPOINT_HEADER_MAX])
{
    char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN], line[ENDPOINT_HEADER_MAX + 1];
    address_text(source, from);
    address_text(target, to);
    int len = snprintf(line, sizeof(line), "PROXY %s %s %s %u %u\r\n",
                       source->any.sa_family == AF_INET ? "TCP4" : "TCP6", from, to,
                       port_of(source), port_of(target));
    memcpy(header, line, (size_t)len);
    return (size_t)len;
}

/* Version 2, section 2.2: signature, version and command, family and protocol, the length of what
 * follows; source address, target address, source port, target port. */
static size_t header_octets(const union endpoint *source, const union endpoint *target,
                            char header[ENDPOINT_HEADER_MAX])
{
    static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";
    enum { SIGNATURE_LEN = sizeof(signature) - 1, PROXY = 0x21, TCP_V4 = 0x11, TCP_V6 = 0x21 };
    static_assert(SIGNATURE_LEN == 12, "as the protocol says");
    union endpoint ends[2] = {*source, *target};
    size_t at = SIGNATURE_LEN + 4, len;
    memcpy(header, signature, SIGNATURE_LEN);
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *octets = octets_of(&ends[i], &len);
        memcpy(header + at, octets, len);
        at += len;
    }
    for (unsigned i = 0; i < 2; i++) {
        uint16_t port = htons(port_of(&ends[i]));
        memcpy(header + at, &port, sizeof(port));
        at += sizeof(port);
    }
    header[SIGNATURE_LEN] = PROXY;
    header[SIGNATURE_LEN + 1] = source->any.sa_family == AF_INET ? TCP_V4 : TCP_V6;
    header[SIGNATURE_LEN + 2] = 0;
    header[SIGNATURE_LEN + 3] = (char)(at - SIGNATURE_LEN - 4);
    return at;
}

size_t endpoint_header(enum load_proxy version, const union endpoint *source,
                       const union endpoint *target, char header[ENDPOINT_HEADER_MAX])
{
    return version == LOAD_PROXY_V1 ? header_text(source, target, header)
                                    : header_octets(source, target, header);
}

/* Makes the target's family that of an invented source: IPv4 as ::ffff:a.b.c.d, and IPv6 as
 * 127.0.0.1, since it has no such form. */
static void target_convert(union endpoint *target, sa_family_t family)
{
    union endpoint other = {0};
    other.any.sa_family = family;
    if (family == target->any.sa_family)
        return;
    if (family == AF_INET) {
        other.v4.sin_port = target->v6.sin6_port;
        other.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        other.v6.sin6_port = target->v4.sin_port;
        memset(other.v6.sin6_addr.s6_addr + 10, 0xff, 2);
        memcpy(other.v6.sin6_addr.s6_addr + 12, &target->v4.sin_addr, 4);
    }
    *target = other;
}

size_t endpoint_proxy(const struct load_options *options, uint64_t number, int descriptor,
                      char header[ENDPOINT_HEADER_MAX])
{
    union endpoint source, target = {0};
    socklen_t len = sizeof(source);
    memcpy(&target, &options->peer, sizeof(target));
    if (options->proxy_sources.family == AF_UNSPEC) {
        if (getsockname(descriptor, &source.any, &len) != 0)
            return 0;
        return endpoint_header(options->proxy, &source, &target, header);
    }
    endpoint_address(&options->proxy_sources, number, NULL, &source);
    uint16_t port = htons((uint16_t)(PORT_FIRST + number % PORT_COUNT));
    if (source.any.sa_family == AF_INET)
        source.v4.sin_port = port;
    else
        source.v6.sin6_port = port;
    target_convert(&target, source.any.sa_family);
    return endpoint_header(options->proxy, &source, &target, header);
}
