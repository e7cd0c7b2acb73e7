/* Addresses on the command line: the server, and prefixes of source addresses. */
#ifndef BENCH_LOAD_OPTIONS_TARGET_H
#define BENCH_LOAD_OPTIONS_TARGET_H

#include "bench/load/options.h"

enum { TARGET_HOST_MAX = 256, TARGET_PORT_MAX = 32 };

/* target_split takes "HOST:PORT", "[::1]:2525", "::1" or "HOST" apart; the port is "25" where there
 * is none. Exits through words_die when it is none of these. */
void target_split(const char *text, char host[TARGET_HOST_MAX], char port[TARGET_PORT_MAX]);

/* target_find resolves name and port (a number or the name of a service) to an address of `family`
 * (AF_UNSPEC: any), and of `preferred` if there is one (AF_UNSPEC: none is). Of several the first
 * is taken that accepts a connection (which is closed again), or else the first. Exits through
 * words_die. */
void target_find(const char *host, const char *port, int family, sa_family_t preferred,
                 struct sockaddr_storage *peer, socklen_t *peer_len);

/* target_prefix reads "127.0.0.0/8", "fd00::/64", or one address, the value of --`name`; bits
 * behind the prefix are cleared. Exits through words_die. */
struct load_prefix target_prefix(const char *name, const char *text);

#endif
