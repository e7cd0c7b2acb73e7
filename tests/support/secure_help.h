/* For tests of TLS on streams: contexts, the echo server with TLS, and what a well-behaved caller
 * does. What a test did not expect fails it. */
#ifndef TESTS_SUPPORT_SECURE_HELP_H
#define TESTS_SUPPORT_SECURE_HELP_H

#include "tests/support/caller.h"
#include "tests/support/twice.h"
#include "tls/context.h"

/* Made by secure_set_up, for one server at a time; RSA operations are for helpers. The
 * last has a chain of certificates that fills more than a block. */
extern struct tls_context *secure_ecdsa, *secure_rsa, *secure_both, *secure_long;

/* Clients of TLS 1.2 and of TLS 1.3 only. */
extern const struct peer_options secure_old, secure_modern;

int secure_set_up(void **state);
int secure_tear_down(void **state);

/* secure_start starts a server, with the ECDSA context if there is no other in `options`; *state
 * not NULL: as on Linux 6.1. secure_stop asks whether all came home. */
struct echo *secure_start(void **state, struct echo_options options);
void secure_stop(struct echo *echo);

/* meet connects and finishes the handshake; part checks what was on the wire. */
void meet(struct caller *caller, const struct echo *echo, const struct peer_options *options);
void part(struct caller *caller);

/* expect: this text comes, and none before it; expect_end: close_notify, then the end of file, both
 * in order. */
void expect(struct caller *caller, const void *text, size_t len);
void expect_end(struct caller *caller);

#endif
