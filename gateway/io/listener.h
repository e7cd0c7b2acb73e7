/* Listening sockets. Each worker has its own socket for each configured address (SO_REUSEPORT), so
 * the kernel spreads connections and no thread passes a connection to another. */
#ifndef GATEWAY_IO_LISTENER_H
#define GATEWAY_IO_LISTENER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* An IPv4 or IPv6 socket address in the least room. */
union address_any {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* listener_parse reads "127.0.0.1:25", "[::1]:25", "0.0.0.0:25" or "[::]:0" (port 0: the kernel
 * chooses). False when it is none of these. */
bool listener_parse(const char *text, union address_any *out) __attribute__((warn_unused_result));

/* listener_format writes the text form ("[::1]:25") to `out` of 64 octets and returns it. */
char *listener_format(const union address_any *address, char *out);

/* listener_is_loopback: 127.0.0.0/8 (also inside of IPv6) and ::1. listener_is_any: 0.0.0.0 and ::,
 * all addresses of this machine. */
bool listener_is_loopback(const union address_any *address);
bool listener_is_any(const union address_any *address);

/* listener_bind makes a socket bound to *address (SO_REUSEPORT, SO_REUSEADDR, IPV6_V6ONLY,
 * TCP_NODELAY, non-blocking, close-on-exec) and puts the address it really got there; clients are
 * refused until listener_begin, which returns 0 or -errno. listener_open does both. Returns the
 * descriptor, owned, or -errno. */
int listener_bind(union address_any *address);
int listener_begin(int descriptor);
int listener_open(union address_any *address);

/* listener_open_alone is listener_open without SO_REUSEPORT: a second one on the same address is
 * refused. */
int listener_open_alone(union address_any *address);

/* listener_adopt makes a socket from elsewhere like one of listener_bind and tells its address.
 * False: it is no TCP socket that listens, or takes IPv4 and IPv6 together (`what`, a constant,
 * says which). */
bool listener_adopt(int descriptor, union address_any *address, const char **what);

#endif
