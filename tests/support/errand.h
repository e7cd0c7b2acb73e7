/* What visits over TLS do in tests: a handshake, a loan, and its echo. */
#ifndef TESTS_SUPPORT_ERRAND_H
#define TESTS_SUPPORT_ERRAND_H

#include "tests/support/host.h"
#include "tests/support/visitor.h"

/* What a visit is to do. */
struct errand {
    struct tls_context *context;
    const char *name;
    const struct tls_session *ticket;
    const uint8_t *text; /* lent, when the handshake is done, and comes back */
    size_t len;
    uint32_t pieces;
    const char *before; /* written before it */
    size_t clear;       /* octets that came in clear */
};

/* Made by errand_set_up: contexts of clients of TLS 1.2 and of TLS 1.3 only. */
extern struct tls_context *errand_clients[2];

int errand_set_up(void **state);
int errand_tear_down(void **state);

/* Foreign servers with either version only. */
extern const struct peer_options errand_modern, errand_old;

/* errand_visitor makes a visitor; *state not NULL: as on Linux 6.1. errand_send calls with an
 * errand, which stays until the visit is over: handshake, words and loan, echo, end. errand_run
 * sends one out alone and checks that what it had came back; `out` is a copy of the visit, whose
 * ticket is the caller's. */
struct visitor *errand_visitor(void **state, struct visitor_options options);
struct visit *errand_send(struct visitor *visitor, const union address_any *address,
                          struct errand *errand);
void errand_run(void **state, const union address_any *address, struct errand *errand,
                struct visit *out);

/* The steps of errand_send, for visits that do something else in between. */
void errand_begin(struct visit *visit);
void errand_lend(struct visit *visit);
size_t errand_hear(struct visit *visit, const uint8_t *data, size_t len);

/* errand_serve is a host's: handshake, echo until the farewell, with KeyUpdates if host->user is
 * not NULL. errand_served tells of the last one whether all was in order, errand_updates how many
 * KeyUpdates the client sent (to BoringSSL only). */
void errand_serve(struct host *host, int descriptor);
extern bool errand_served;
extern uint32_t errand_updates;

#endif
