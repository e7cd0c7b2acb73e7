/* What all connections of a listener (or of a client) have in common: certificates, versions,
 * tickets, whom to trust. Immutable: a reload makes a new one, and the old one lives on until its
 * last handshake is over. Each worker has its own, so that nothing is shared between threads but
 * the certificates' counters. */
#ifndef TLS_CONTEXT_H
#define TLS_CONTEXT_H

#include "tls/certificate.h"
#include "tls/ticket.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tls_version { TLS_1_2 = 0, TLS_1_3 = 1 };

struct tls_context;

struct tls_server_options {
    struct certificate *const *certificates; /* borrowed during the call; each is kept. The first is
                                                for clients without SNI and for unknown names */
    size_t certificate_count;                /* at least one */
    enum tls_version version_min;
    const char *client_ca; /* file with the CAs of client certificates, which are then asked for,
                              not demanded; NULL: not asked for. With it there are no tickets: a
                              resumed session would have no certificate to look at */
    const struct ticket_secret *tickets; /* copied; NULL: no tickets */
    bool offload;                        /* RSA operations end in TLS_KEY; false: done at once */
    bool exporter;                       /* connections have a tls_exporter */
};

struct tls_client_options {
    enum tls_version version_min, version_max;
    const char *ca;      /* file with the CAs to trust; NULL: the peer is not verified */
    const char *groups;  /* as "X25519:P-256"; NULL: ours */
    const char *ciphers; /* TLS 1.2 cipher list; NULL: ours */
    struct certificate *certificate; /* to show when asked; NULL: none. Kept */
    const char *alpn;                /* one protocol to offer, as "smtp"; NULL: none */
    bool exporter;                   /* connections have a tls_exporter */
};

/* tls_context_server and tls_context_client make a context with one reference. NULL: the reason is
 * in `error` (a sentence that names the file). */
struct tls_context *tls_context_server(const struct tls_server_options *options, char *error,
                                       size_t error_size) __attribute__((warn_unused_result));
struct tls_context *tls_context_client(const struct tls_client_options *options, char *error,
                                       size_t error_size) __attribute__((warn_unused_result));

/* tls_context_keep adds a reference and returns the context; tls_context_drop takes one away (NULL
 * is allowed). Any thread. */
struct tls_context *tls_context_keep(struct tls_context *context);
void tls_context_drop(struct tls_context *context);

#endif
