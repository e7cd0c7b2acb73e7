/* What a worker counts about the clients that it serves: written by its thread, read by any
 * (gateway/base/counter.h). docs/metrics.md names what comes of each. */
#ifndef GATEWAY_RECEIVE_COUNTERS_H
#define GATEWAY_RECEIVE_COUNTERS_H

#include "gateway/base/counter.h"
#include "gateway/base/histogram.h"
#include "gateway/io/redis.h"
#include "gateway/policy/authenticator.h"
#include "gateway/receive/reply.h"
#include "tls/tls.h"

/* What takes time. */
enum server_phase {
    SERVER_PHASE_HANDSHAKE = 0, /* of TLS: from 220 to STARTTLS, or the connection, to its end */
    SERVER_PHASE_ENVELOPE = 1,  /* MAIL to DATA, or to the first BDAT */
    SERVER_PHASE_TEXT = 2,      /* from there to the last octet */
    SERVER_PHASE_COMMIT = 3,    /* from there to the reply: the disk, or the next hop */
    SERVER_PHASE_MESSAGE = 4,   /* these three together */
    SERVER_PHASE_SESSION = 5,   /* connect to disconnect, in whole milliseconds */
    SERVER_PHASE_LOGIN = 6,     /* a response to AUTH to what the backend says of it */
    SERVER_PHASE_COUNT,
};

/* What became of TLS handshakes. failures[TLS_FAILURE_NONE]: it was left unfinished (the client
 * went away, or its time ran out). */
struct server_tls_counters {
    _Atomic uint64_t versions[2]; /* by tls_info.version_index */
    _Atomic uint64_t ciphers[TLS_CIPHER_COUNT];
    _Atomic uint64_t resumed;
    _Atomic uint64_t failures[TLS_FAILURE_COUNT];
    _Atomic uint64_t silent; /* not even begun by the client: a probe of the port, mostly */
};

/* What became of an AUTH (docs/submission.md). */
enum server_login {
    SERVER_LOGIN_PASSED = 0,
    SERVER_LOGIN_REFUSED = 1,
    SERVER_LOGIN_ADDRESS_OVER = 2, /* too many have failed: of this address, ... */
    SERVER_LOGIN_NETWORK_OVER = 3,
    SERVER_LOGIN_USER_OVER = 4,
    SERVER_LOGIN_UNAVAILABLE = 5, /* the backend can't tell */
    SERVER_LOGIN_MALFORMED = 6,
    SERVER_LOGIN_CANCELLED = 7,
    SERVER_LOGIN_COUNT,
};

/* server_login_name is its name in log and metrics ("passed"); constant. */
const char *server_login_name(enum server_login result);

struct server_counters {
    _Atomic uint64_t connections;                   /* accepted */
    _Atomic uint64_t closed;                        /* and ended again */
    _Atomic uint64_t proxied;                       /* with a PROXY header that told of a client */
    _Atomic uint64_t checks;                        /* with one that said LOCAL */
    _Atomic uint64_t proxy_bad;                     /* closed: without the one they had to have */
    _Atomic uint64_t messages, octets, recipients;  /* accepted */
    _Atomic uint64_t signed_messages;               /* with DKIM */
    _Atomic uint64_t replies[REPLY_COUNT];          /* ours, by what they say */
    _Atomic uint64_t greetings, hellos, challenges; /* and those that are no enum reply */
    _Atomic uint64_t logins[SASL_MECHANISM_COUNT][SERVER_LOGIN_COUNT];
    _Atomic uint64_t passed[6]; /* replies of next hops given on, by first digit */
    _Atomic uint64_t early_talkers;
    _Atomic uint64_t tarpitted; /* replies that were delayed */
    _Atomic uint64_t resets;    /* connections that broke */
    _Atomic bool has_redis;     /* then, as counter_publish shows it: struct redis_snapshot */
    _Atomic uint64_t redis[sizeof(struct redis_snapshot) / sizeof(uint64_t)];
    _Atomic bool has_authenticator; /* then, as above: struct authenticator_snapshot */
    _Atomic uint64_t authenticator[sizeof(struct authenticator_snapshot) / sizeof(uint64_t)];
    struct server_tls_counters tls;
    struct histogram phases[SERVER_PHASE_COUNT];
};

#endif
