/* The SMTP server of one worker: its sessions, the messages that wait for the writer, and what they
 * need from the rest of the house. */
#ifndef GATEWAY_RECEIVE_SERVER_H
#define GATEWAY_RECEIVE_SERVER_H

#include "gateway/base/log.h"
#include "gateway/io/worker.h"
#include "gateway/policy/directory.h"
#include "gateway/policy/hop.h"
#include "gateway/receive/admission.h"
#include "gateway/receive/session.h"
#include "gateway/spool/spool.h"
#include "tls/tls.h"

#include <stdatomic.h>

/* How a listener deals with TLS. */
enum server_tls {
    SERVER_TLS_NONE = 0,
    SERVER_TLS_STARTTLS = 1, /* offered (RFC 3207) */
    SERVER_TLS_REQUIRED = 2, /* offered, and no MAIL without it (530 5.7.0) */
    SERVER_TLS_IMPLICIT = 3, /* from the first octet (RFC 8314) */
};

struct server_listener {
    enum server_tls tls;
    struct tls_context **contexts; /* one for each worker; NULL without TLS */
};

/* What the configuration says about receiving. Immutable; a reload makes a new one, and the old one
 * must stay until every server has let go of it (server_configure). */
struct server_options {
    const char *hostname; /* in the greeting, EHLO and Received */
    const struct directory *directory;
    const struct server_listener *listeners; /* by worker->accepted_listener */
    uint32_t listener_count;
    uint32_t connections_max; /* of all workers together */
    uint32_t connections_per_ip_max;
    uint64_t message_size_max;  /* octets; announced as SIZE */
    uint32_t recipients_max;    /* a transaction; announced as LIMITS RCPTMAX */
    uint32_t bad_commands_max;  /* then 421 */
    uint32_t command_timeout_s; /* waiting for a command (RFC 5321 4.5.3.2.7: 5 minutes) */
    uint32_t data_timeout_s;    /* no octet of a message for this long */
    uint32_t data_rate_min;     /* octets a second, averaged since the text began, after a grace of
                                   SERVER_RATE_GRACE_S; 0: none */
    uint32_t through_patience_ms; /* an answer of the next hop may take so long (docs/through.md) */
};

enum {
    SERVER_RATE_GRACE_S = 10,
    SERVER_GREETING_LEN_MAX = 300,
    SERVER_EHLO_LEN_MAX = 600,
};

/* What EHLO offers depends on TLS. */
enum server_ehlo {
    SERVER_EHLO_CLEAR = 0,    /* no TLS to be had */
    SERVER_EHLO_STARTTLS = 1, /* in clear, STARTTLS offered */
    SERVER_EHLO_SECURE = 2,   /* inside TLS */
    SERVER_EHLO_COUNT,
};

/* Notes from other threads (worker_note). */
enum server_note {
    SERVER_NOTE_DRAIN = 1 << 0, /* stop accepting, end what is idle, finish what is in flight */
    SERVER_NOTE_ABORT = 1 << 1, /* end everything now */
    SERVER_NOTE_CONFIGURE = 1 << 2,
};

/* What became of TLS handshakes; read by snapshots. failures[TLS_FAILURE_NONE]: it was left
 * unfinished (the client went away, or its time ran out). */
struct server_tls_counters {
    _Atomic uint64_t versions[2]; /* by tls_info.version_index */
    _Atomic uint64_t ciphers[TLS_CIPHER_COUNT];
    _Atomic uint64_t resumed;
    _Atomic uint64_t failures[TLS_FAILURE_COUNT];
};

struct server {
    struct worker *worker;
    const struct server_options *options;
    _Atomic(const struct server_options *) options_next; /* given by server_configure */
    _Atomic(const struct server_options *) options_seen; /* what the worker uses now */
    struct spool *spool;
    struct staging *staging;
    struct admission *admission;
    struct log_port *log;
    struct transaction_context context;
    const struct hop *hop; /* NULL: next hops are not asked */
    struct blocks chunks;  /* of COLLECTION_CHUNK octets: text that a next hop may take */
    struct directory_expansion expansion; /* of the RCPT at hand */
    struct blocks
        lines; /* of LIMIT_LINE octets: unfinished command lines, one for each session at most */
    struct blocks names;  /* of long HELO names, one for each session at most */
    struct list waiting;  /* transactions, in the order of their commit_position */
    struct list aborting; /* transactions without a session, waiting for room for their ABORT */
    struct list stalled;  /* sessions that wait for room in the staging ring */
    uint64_t settled_seen;
    uint64_t id_last;
    uint32_t index;
    bool urgent; /* a COMMIT was staged in this turn */
    bool draining;
    uint16_t greeting_len;
    uint16_t ehlo_len[SERVER_EHLO_COUNT];
    char greeting[SERVER_GREETING_LEN_MAX]; /* these two are made once for each configuration */
    char ehlo[SERVER_EHLO_COUNT][SERVER_EHLO_LEN_MAX];
    /* counters, read by snapshots */
    _Atomic uint64_t connections, messages, refused, octets;
    struct server_tls_counters tls;
};

struct server_setup {
    const struct server_options *options;
    struct worker_options worker; /* callbacks, hooks, user and owner_size are filled in here */
    struct spool *spool;
    struct staging *staging; /* this worker's port */
    struct admission *admission;
    struct log *log;
    const struct hop *hop;   /* borrowed; NULL: the flags of domains are ignored */
    uint64_t through_memory; /* octets for text that a next hop may take */
};

/* server_run makes worker and server in the calling thread and serves until drained. `worker` and
 * `server` are the caller's zeroed memory; they stay readable for other threads afterwards. *ready
 * is set to 1 when it accepts connections, or to -errno (with *what, a constant, naming the step).
 * Returns 0, or -errno. */
int server_run(struct server *server, struct worker *worker, const struct server_setup *setup,
               _Atomic int *ready, const char **what);

/* server_configure gives new options; returns true once the worker uses them, so that the old may
 * go. Call until true. Any one thread. */
void server_configure(struct server *server, const struct server_options *options);
bool server_configured(const struct server *server, const struct server_options *options);

/* server_id_next returns an id for a message or a session: unique over threads and restarts. */
uint64_t server_id_next(struct server *server);

/* server_tls_of tells how the listener of this index deals with TLS. */
enum server_tls server_tls_of(const struct server *server, uint32_t listener);

/* server_ehlo is the reply to EHLO. */
struct bytes server_ehlo(const struct server *server, enum server_ehlo which);

/* server_secured counts and logs a handshake that succeeded, server_insecure one that did not, or a
 * connection that TLS has ended; `tls` NULL: left unfinished. */
void server_secured(struct server *server, const struct session *session,
                    const struct tls_info *info);
void server_insecure(struct server *server, const struct session *session, const struct tls *tls);

/* server_count_message counts a message that was accepted. */
void server_count_message(struct server *server, const struct transaction *transaction);

/* server_forget takes a transaction whose session has let go of it: freed now, or when the writer
 * has settled it, a question about it has come back, or there is room for its ABORT record. */
void server_forget(struct server *server, struct transaction *transaction);

#endif
