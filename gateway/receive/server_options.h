/* What the configuration says about receiving. Immutable; a reload makes a new one, and the old one
 * must stay until every server has let go of it (server_configure). */
#ifndef GATEWAY_RECEIVE_SERVER_OPTIONS_H
#define GATEWAY_RECEIVE_SERVER_OPTIONS_H

#include "gateway/policy/attempts.h"
#include "gateway/policy/directory.h"
#include "gateway/policy/greylist.h"
#include "gateway/policy/networks.h"
#include "gateway/policy/rates.h"

struct authenticator_rules;
struct submission_rules;
struct tls_context;

/* How a listener deals with TLS. */
enum server_tls {
    SERVER_TLS_NONE = 0,
    SERVER_TLS_STARTTLS = 1, /* offered (RFC 3207) */
    SERVER_TLS_REQUIRED = 2, /* offered, and no MAIL without it (530 5.7.0) */
    SERVER_TLS_IMPLICIT = 3, /* from the first octet (RFC 8314) */
};

struct server_listener {
    enum server_tls tls;
    bool submission;                /* role = submission: RFC 6409 */
    bool auth_clear;                /* AUTH may be said outside of TLS, to a loopback address */
    struct tls_context **contexts;  /* one for each worker; NULL without TLS */
    const struct networks *proxy;   /* from there a PROXY header is required; NULL: nowhere */
    const struct networks *xclient; /* from there XCLIENT is offered */
};

struct server_options {
    const char *hostname; /* in the greeting, EHLO and Received */
    const struct directory *directory;
    const struct server_listener *listeners; /* by worker->accepted_listener */
    uint32_t listener_count;
    uint32_t connections_max;             /* of all workers together */
    uint32_t connections_per_ip_max;      /* of an IPv4 address or an IPv6 /64; 0: no bound */
    uint32_t connections_per_network_max; /* of an IPv4 /24 or an IPv6 /48; 0: no bound */
    struct rate_limits rates;
    const struct networks *exempt; /* to whom bounds, rates, pauses and the greylist do not apply */
    uint32_t greet_delay_s; /* the client must be silent for so long before the greeting; 0: none */
    uint32_t tarpit_after;  /* refused commands of a session that are answered at once */
    uint32_t tarpit_s;      /* how late the others are; 0: never */
    uint32_t handshakes_max; /* TLS handshakes under way at a time, of all workers; 0: no bound */
    struct greylist_rules greylist;
    uint64_t greylist_secret;   /* that all gateways have in common; 0: none */
    uint64_t message_size_max;  /* octets; announced as SIZE */
    uint32_t recipients_max;    /* a transaction; announced as LIMITS RCPTMAX */
    uint32_t bad_commands_max;  /* then 421 */
    uint32_t command_timeout_s; /* waiting for a command (RFC 5321 4.5.3.2.7: 5 minutes) */
    uint32_t data_timeout_s;    /* no octet of a message for this long */
    uint32_t data_rate_min;     /* octets a second, averaged since the text began, after a grace of
                                   SERVER_RATE_GRACE_S; 0: none */
    const struct authenticator_rules *authentication; /* NULL: nobody can log in */
    struct attempt_limits attempts;
    uint32_t auth_delay_ms; /* so late comes the reply to a login that is refused */
    const struct submission_rules *submission; /* NULL: no listener has that role */
    uint32_t through_patience_ms; /* an answer of the next hop may take so long (docs/through.md) */
};

#endif
