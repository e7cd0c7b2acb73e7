/* Listening sockets: see listener.h. */
#include "gateway/io/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool parse_port(const char *text, uint16_t *port)
{
    char *end;
    errno = 0;
    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || errno != 0 || value > 65535)
        return false;
    *port = htons((uint16_t)value);
    return true;
}

bool listener_parse(const char *text, union address_any *out)
{
    char host[INET6_ADDRSTRLEN];
    memset(out, 0, sizeof(*out));
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return false;
    bool v6 = text[0] == '[' && colon > text && colon[-1] == ']';
    const char *start = v6 ? text + 1 : text;
    size_t len = (size_t)((v6 ? colon - 1 : colon) - start);
    if (len == 0 || len >= sizeof(host))
        return false;
    memcpy(host, start, len);
    host[len] = '\0';
    if (v6) {
        out->v6.sin6_family = AF_INET6;
        return inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1 &&
               parse_port(colon + 1, &out->v6.sin6_port);
    }
    out->v4.sin_family = AF_INET;
    return inet_pton(AF_INET, host, &out->v4.sin_addr) == 1 &&
           parse_port(colon + 1, &out->v4.sin_port);
}

char *listener_format(const union address_any *address, char *out)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof(host));
        snprintf(out, 64, "[%s]:%u", host, ntohs(address->v6.sin6_port));
    } else {
        inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof(host));
        snprintf(out, 64, "%s:%u", host, ntohs(address->v4.sin_port));
    }
    return out;
}

bool listener_is_loopback(const union address_any *address)
{
    const struct in6_addr *v6 = &address->v6.sin6_addr;
    if (address->any.sa_family == AF_INET)
        return ntohl(address->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(v6) ||
           (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == IN_LOOPBACKNET);
}

bool listener_is_any(const union address_any *address)
{
    return address->any.sa_family == AF_INET ? address->v4.sin_addr.s_addr == INADDR_ANY
                                             : IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr);
}

static bool set_options(int descriptor, int family, bool shared)
{
    /* What is set here is inherited by every accepted connection. Not TCP_DEFER_ACCEPT: the server
     * speaks first. */
    int on = 1;
    return setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
           (!shared || setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0) &&
           setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
           setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0 &&
           (family != AF_INET6 ||
            setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0);
}

static int bind_socket(union address_any *address, bool shared)
{
    int family = address->any.sa_family;
    socklen_t len = family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
    int descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -errno;
    if (!set_options(descriptor, family, shared) || bind(descriptor, &address->any, len) != 0 ||
        getsockname(descriptor, &address->any, &len) != 0) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    return descriptor;
}

int listener_bind(union address_any *address)
{
    return bind_socket(address, true);
}

int listener_begin(int descriptor)
{
    return listen(descriptor, SOMAXCONN) == 0 ? 0 : -errno;
}

static int open_socket(union address_any *address, bool shared)
{
    int descriptor = bind_socket(address, shared);
    int error = descriptor < 0 ? descriptor : listener_begin(descriptor);
    if (descriptor >= 0 && error < 0)
        close(descriptor);
    return error < 0 ? error : descriptor;
}

int listener_open(union address_any *address)
{
    return open_socket(address, true);
}

int listener_open_alone(union address_any *address)
{
    return open_socket(address, false);
}

bool listener_adopt(int descriptor, union address_any *address, const char **what)
{
    int type = 0, listens = 0, alone = 1, on = 1;
    socklen_t len = sizeof(type), address_len = sizeof(*address);
    memset(address, 0, sizeof(*address));
    *what = "it is no TCP socket that listens";
    if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_STREAM ||
        getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) != 0 || !listens ||
        getsockname(descriptor, &address->any, &address_len) != 0 ||
        (address->any.sa_family != AF_INET && address->any.sa_family != AF_INET6))
        return false;
    *what = "it takes IPv4 and IPv6 together (BindIPv6Only=ipv6-only, or an address)";
    if (address->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr) &&
        (getsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &alone, &len) != 0 || !alone))
        return false;
    *what = "its options can't be set";
    int flags = fcntl(descriptor, F_GETFL);
    return flags >= 0 && fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0 &&
           fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0 &&
           setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
           setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0;
}
