/* TLS on the connections of the load program: the handshake, text sealed into records a window at a
 * time, and records put together from what came. The cryptography is tls/; nothing here knows the
 * ring. A connection without `tls` never comes here. */
#ifndef BENCH_LOAD_TLS_H
#define BENCH_LOAD_TLS_H

#include "bench/load_histogram.h"
#include "tls/tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct client;
struct connection;

enum load_tls_mode {
    LOAD_TLS_NONE = 0,
    LOAD_TLS_STARTTLS = 1, /* RFC 3207 */
    LOAD_TLS_IMPLICIT = 2, /* RFC 8314 */
};

struct load_tls_options {
    enum load_tls_mode mode;
    bool resume; /* each new connection tries the newest ticket of this run */
    enum tls_version version_min, version_max;
    const char *ciphers, *groups; /* of tls_client_options; NULL: those of tls/ */
    const char *ca;               /* file; NULL: the server is not verified */
    const char *name;             /* SNI, and verified if there is a ca; NULL: neither */
};

/* Why a handshake failed: an enum tls_failure, or one of these. */
enum load_tls_reason {
    LOAD_TLS_REFUSED = TLS_FAILURE_COUNT, /* another reply to STARTTLS than 220 */
    LOAD_TLS_INJECTED,                    /* octets in clear behind the 220 */
    LOAD_TLS_LOST,                        /* the connection ended */
    LOAD_TLS_REASON_COUNT,
};

enum { LOAD_TLS_GROUPS_MAX = 8 };

struct load_tls_report {
    uint64_t handshakes;      /* done */
    uint64_t counted;         /* those within the measured time */
    uint64_t resumed;         /* of all */
    uint64_t resumed_counted; /* of the counted */
    uint64_t failed;          /* handshakes */
    uint64_t broken;          /* connections that tls/ ended after the handshake */
    uint64_t reasons[LOAD_TLS_REASON_COUNT];
    uint64_t versions[TLS_1_3 + 1];
    uint64_t ciphers[TLS_CIPHER_COUNT];
    struct load_tls_group {
        const char *name; /* NULL: this and the rest are free */
        uint64_t count;
    } groups[LOAD_TLS_GROUPS_MAX];
    struct histogram latency; /* ClientHello handed to the kernel, to handshake done: all */
    struct histogram latency_counted;
};

/* load_tls_start prepares what all connections share; exits if the options are wrong. Does nothing
 * without TLS. load_tls_finish frees it. */
void load_tls_start(struct client *client);
void load_tls_finish(struct client *client);

/* load_tls_hello gives the connection its TLS and sends the ClientHello. load_tls_end wipes and
 * frees it; the kernel must hold none of its sends. */
void load_tls_hello(struct client *client, struct connection *connection);
void load_tls_end(struct connection *connection);

/* load_tls_receive takes what the server sent, and decrypts it where it lies. Text goes to
 * dialogue_receive; dialogue_secured hears of the end of the handshake. */
void load_tls_receive(struct client *client, struct connection *connection, uint8_t *bytes,
                      size_t len);

/* load_tls_fill returns what goes to the kernel next: the rest of the sealed window, or a new one
 * of as much of connection->message as fits. It is the connection's, and stays until load_tls_sent
 * has heard of all of it. Length 0: the keys are used up, and the connection is dropped. */
struct iovec load_tls_fill(struct connection *connection) __attribute__((warn_unused_result));

/* load_tls_sent says whether there is more to send, now that `len` more octets are sent. */
bool load_tls_sent(struct connection *connection, size_t len);

/* load_tls_part says our last word, once: the alert for what was broken, else close_notify (RFC
 * 8446 6.1). In the midst of a record that is being sent it says nothing. */
void load_tls_part(struct connection *connection);

/* load_tls_failed counts the handshake of a connection that ended in the midst of it. */
void load_tls_failed(struct client *client, const struct connection *connection);

#endif
