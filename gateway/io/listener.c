/* Listening sockets: see listener.h. */
#include "gateway/io/listener.h"

#include <arpa/inet.h>
#include <errno.h>
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

static bool set_options(int descriptor, int family)
{
    /* What is set here is inherited by every accepted connection. Not TCP_DEFER_ACCEPT: the server
     * speaks first. */
    int on = 1;
    return setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
           setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0 &&
           setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
           setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0 &&
           (family != AF_INET6 ||
            setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0);
}

int listener_open(union address_any *address)
{
    int family = address->any.sa_family;
    socklen_t len = family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
    int descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -errno;
    if (!set_options(descriptor, family) || bind(descriptor, &address->any, len) != 0 ||
        listen(descriptor, SOMAXCONN) != 0 || getsockname(descriptor, &address->any, &len) != 0) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    return descriptor;
}
