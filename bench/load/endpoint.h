/* The near end of a connection: its socket, the address that it comes from, and the PROXY header
 * that announces another one (HAProxy's proxy-protocol.txt). */
#ifndef BENCH_LOAD_ENDPOINT_H
#define BENCH_LOAD_ENDPOINT_H

#include "bench/load/options.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { ENDPOINT_HEADER_MAX = 107 }; /* of version 1, the longer one */

/* An IPv4 or IPv6 address with its port. */
union endpoint {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* endpoint_address writes address `number` under a prefix, port 0. Numbers below the count of
 * addresses give different ones, larger ones begin again. Left out are what can't be a host's own
 * (the first of the prefix, and with IPv4 the last, unless there are no more than two) and `peer`
 * (NULL: nothing), unless it is the only one. */
void endpoint_address(const struct load_prefix *prefix, uint64_t number,
                      const struct sockaddr *peer, union endpoint *address);

/* endpoint_open makes the socket of connection `number`, bound to an address of its own if the
 * options have `sources`. -errno: it could not; `message` says what. */
int endpoint_open(const struct load_options *options, uint64_t number, char *message, size_t size);

/* endpoint_header writes the PROXY header for a connection from `source` to `target`, which are of
 * one family. Returns its length, at most ENDPOINT_HEADER_MAX. */
size_t endpoint_header(enum load_proxy version, const union endpoint *source,
                       const union endpoint *target, char header[ENDPOINT_HEADER_MAX]);

/* endpoint_proxy writes the PROXY header of connection `number`, whose socket is connected: with
 * its own addresses, or with an invented source. Returns its length; 0: the connection is gone. */
size_t endpoint_proxy(const struct load_options *options, uint64_t number, int descriptor,
                      char header[ENDPOINT_HEADER_MAX]);

#endif
