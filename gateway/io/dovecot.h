/* Dovecot's authentication, over its client socket (the protocol that Postfix and Exim use, version
 * 1.1 and above): asked without waiting, on the worker's ring. One connection for each worker,
 * renewed now and then, and tried again after pauses that grow; meanwhile all is DOVECOT_AWAY.
 * Dovecot is believed, but not trusted: what it sends can end its connection, and no more. */
#ifndef GATEWAY_IO_DOVECOT_H
#define GATEWAY_IO_DOVECOT_H

#include "gateway/io/listener.h"

struct dovecot;
struct worker;

struct dovecot_options {
    union address_any address; /* family AF_UNSPEC: `path` */
    const char *path;          /* of a unix socket; borrowed */
    uint32_t timeout_ms;       /* for an answer, and for connecting */
    uint32_t pending_max;      /* exchanges under way; more are DOVECOT_AWAY */
    uint32_t renew_ms;         /* a connection is used so long; 0: 10 seconds */
};

enum dovecot_status {
    DOVECOT_CONTINUE = 0,  /* a challenge */
    DOVECOT_OK = 1,        /* `user` is logged in */
    DOVECOT_FAIL = 2,      /* wrong */
    DOVECOT_TEMPORARY = 3, /* Dovecot can't tell now (`temp`) */
    DOVECOT_AWAY = 4,      /* no connection, no answer in time */
};

/* Borrowed during the call. */
struct dovecot_answer {
    enum dovecot_status status;
    const char *text; /* the challenge, or the last message of OK, in base64; NULL: none */
    size_t text_len;
    const char *user; /* OK: the name as Dovecot writes it; FAIL: if it says so; NULL */
    size_t user_len;
};

typedef void dovecot_answered(void *user, uint32_t request, const struct dovecot_answer *answer);

struct dovecot_request {
    const char *mechanism; /* as Dovecot announces it */
    bool secured;
    const union address_any *peer, *local;
    const char *response; /* base64; NULL: none */
    size_t response_len;
};

/* dovecot_new makes a client for `worker`, in its thread; all borrowed. It connects by itself.
 * NULL: no memory. dovecot_free drops open requests without an answer. */
struct dovecot *dovecot_new(struct worker *worker, const struct dovecot_options *options)
    __attribute__((warn_unused_result));
void dovecot_free(struct dovecot *dovecot);

/* dovecot_ask begins an exchange and returns its number, never 0; 0: it is away, and `answered` is
 * not called. dovecot_continue sends the client's next response. `answered` is called once for each
 * of both. dovecot_cancel lets go of an exchange: nothing more is heard of it. The octets are
 * wiped from the buffers as they leave. */
uint32_t dovecot_ask(struct dovecot *dovecot, const struct dovecot_request *request,
                     dovecot_answered *answered, void *user) __attribute__((warn_unused_result));
bool dovecot_continue(struct dovecot *dovecot, uint32_t request, const char *response,
                      size_t response_len) __attribute__((warn_unused_result));
void dovecot_cancel(struct dovecot *dovecot, uint32_t request);

/* dovecot_mechanism tells whether Dovecot announces a mechanism, by its name; while it is away,
 * whether it did. Before it was ever there it is PLAIN alone: clients take a server without AUTH as
 * one that will never have it. */
bool dovecot_mechanism(const struct dovecot *dovecot, const char *name);

bool dovecot_is_connected(const struct dovecot *dovecot);
const char *dovecot_why(
    const struct dovecot *dovecot); /* it is away; borrowed until the next turn */

void dovecot_turn(struct dovecot *dovecot);
uint64_t dovecot_next_us(const struct dovecot *dovecot);

struct dovecot_snapshot {
    uint64_t asked, passed, refused, away, connects, failures;
    bool connected;
};
void dovecot_snapshot(const struct dovecot *dovecot, struct dovecot_snapshot *out); /* any thread */

#endif
