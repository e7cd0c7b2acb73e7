/* The SMTP server of one worker: its sessions, the messages that wait for the writer, and what they
 * need from the rest of the house. */
#ifndef GATEWAY_RECEIVE_SERVER_H
#define GATEWAY_RECEIVE_SERVER_H

#include "gateway/base/log.h"
#include "gateway/io/worker.h"
#include "gateway/policy/authenticator.h"
#include "gateway/policy/hop.h"
#include "gateway/policy/quotas.h"
#include "gateway/policy/shared.h"
#include "gateway/receive/admission.h"
#include "gateway/receive/authenticating.h"
#include "gateway/receive/counters.h"
#include "gateway/receive/fixups.h"
#include "gateway/receive/server_options.h"
#include "gateway/receive/session.h"
#include "gateway/receive/trace.h"
#include "gateway/spool/spool.h"
#include "tls/tls.h"

#include <stdatomic.h>

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
    SERVER_NOTE_NOTICE = 1 << 3, /* who comes from now on is greeted with 421 */
    SERVER_NOTE_RESUME = 1 << 4, /* NOTICE and YIELD are over: accept as ever */
    SERVER_NOTE_HURRY = 1 << 5,  /* that has lasted long enough: 421 to all, then ABORT follows */
    SERVER_NOTE_TRACE = 1 << 6,  /* other sessions are watched (receive/trace.h) */
    SERVER_NOTE_YIELD = 1 << 7,  /* as DRAIN, but the worker stays when the last session is gone:
                                    RESUME or DRAIN follows */
};

struct server {
    struct worker *worker;
    const struct server_options *options;
    _Atomic(const struct server_options *) options_next; /* given by server_configure */
    _Atomic(const struct server_options *) options_seen; /* what the worker uses now */
    struct spool *spool;
    struct staging *staging;
    struct admission *admission;
    struct rates *rates;
    struct greylist *greylist; /* NULL: none */
    struct shared *shared;     /* NULL: with nobody */
    struct attempts *attempts; /* NULL: nobody can log in; as the next two */
    struct quotas *quotas;
    struct authenticator *authenticator; /* this worker's */
    struct helpers *signers;             /* for RSA signatures; NULL: the worker makes them */
    struct log_port *log;
    struct trace_port trace;
    struct transaction_context context;
    const struct hop *hop;      /* NULL: next hops are not asked */
    struct blocks chunks;       /* of COLLECTION_CHUNK octets: text that a next hop may take */
    struct fixups_pool headers; /* large header sections of submitted mail */
    struct directory_expansion expansion; /* of the RCPT at hand */
    struct blocks lines;      /* of LIMIT_LINE octets: unfinished commands, one for each session */
    struct blocks names;      /* of long HELO names, one for each session at most */
    struct blocks identities; /* of those who log in, one for each session at most */
    struct list waiting;      /* transactions, in the order of their commit_position */
    struct list aborting;     /* transactions without a session, waiting for room for their ABORT */
    struct list stalled;      /* sessions that wait for room in the staging ring */
    struct list handshakes;   /* sessions in SESSION_HANDSHAKE, the oldest first */
    uint64_t settled_seen;
    uint64_t id_last;
    uint64_t release_us; /* not before then the tarpit is looked through again */
    uint32_t index;
    uint32_t connections_max;               /* what there is room for: a reload can't raise it */
    bool urgent;                            /* a COMMIT was staged in this turn */
    bool draining;                          /* sessions end when what is in flight is done */
    bool unwelcome;                         /* and who comes now is told at once to go elsewhere */
    bool arriving_proxied, arriving_exempt; /* from gate_arrive to gate_enter, as the next */
    bool arriving_counted;
    uint32_t drain_ms; /* since when `draining`; monotonic, cut to 32 bits */
    uint16_t greeting_len;
    uint16_t ehlo_len[2][SERVER_EHLO_COUNT]; /* [true]: of a submission listener; as the next */
    char greeting[SERVER_GREETING_LEN_MAX];  /* these two are made once for each configuration */
    char ehlo[2][SERVER_EHLO_COUNT][SERVER_EHLO_LEN_MAX];
    struct server_counters counters;
};

struct server_setup {
    const struct server_options *options;
    struct worker_options worker; /* callbacks, hooks, user and owner_size are filled in here */
    struct spool *spool;
    struct staging *staging; /* this worker's port */
    struct admission *admission;
    struct rates *rates;                  /* borrowed, as the next two */
    struct greylist *greylist;            /* NULL: none */
    const struct shared_options *sharing; /* NULL: with nobody */
    struct attempts *attempts;            /* borrowed, as the next three; NULL: nobody can log in */
    struct quotas *quotas;
    const struct authenticator_options *authentication;
    struct helpers *signers;
    struct log *log;
    struct trace *trace;     /* borrowed; NULL: nobody will watch */
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

/* server_unready tells why no new client can be served now, so that it tries the next host:
 * REPLY_SHUTTING_DOWN (a drain, or its notice) or REPLY_NOT_READY (the spool takes no mail).
 * REPLY_NONE: it can. */
enum reply server_unready(const struct server *server);

/* server_listener is the listener of this index, as the options are now; NULL: a reload has taken
 * it away. server_tls_of tells how it deals with TLS. */
const struct server_listener *server_listener(const struct server *server, uint32_t index);
enum server_tls server_tls_of(const struct server *server, uint32_t listener);

/* server_ehlo is the reply to EHLO, but for what depends on the session (verbs.c). */
struct bytes server_ehlo(const struct server *server, bool submission, enum server_ehlo which);

/* server_secured counts and logs a handshake that succeeded, server_insecure one that did not, or a
 * connection that TLS has ended; `tls` NULL: left unfinished. */
void server_secured(struct server *server, const struct session *session,
                    const struct tls_info *info);
void server_insecure(struct server *server, const struct session *session, const struct tls *tls);

/* server_count_closed counts the end of a session; `error` < 0: the connection broke.
 * server_count_message counts a message that was accepted. */
void server_count_closed(struct server *server, const struct session *session, int error);
void server_count_message(struct server *server, const struct transaction *transaction);

/* server_forget takes a transaction whose session has let go of it: freed now, or when the writer
 * has settled it, a question about it has come back, or there is room for its ABORT record. */
void server_forget(struct server *server, struct transaction *transaction);

#endif
