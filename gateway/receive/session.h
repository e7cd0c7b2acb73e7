/* One SMTP session: the state table of RFC 5321 4.1.4, and the reading of commands and text.
 * docs/smtp.md shows the table for people. */
#ifndef GATEWAY_RECEIVE_SESSION_H
#define GATEWAY_RECEIVE_SESSION_H

#include "gateway/io/listener.h"
#include "gateway/io/stream.h"
#include "gateway/receive/transaction.h"

struct identity;
struct server;

/* How far the conversation has come. */
enum session_state {
    SESSION_CONNECTED = 0, /* greeting sent; no HELO or EHLO yet */
    SESSION_READY = 1,     /* no transaction */
    SESSION_MAIL = 2,      /* reverse-path given */
    SESSION_RCPT = 3,      /* at least one forward-path accepted */
    SESSION_CHUNKS = 4,    /* at least one BDAT chunk taken, the last one not */
};

/* What the next octets from the client are. */
enum session_mode {
    SESSION_COMMAND = 0,
    SESSION_SKIP_LINE = 1, /* the rest of a line that was too long */
    SESSION_DATA = 2,
    SESSION_CHUNK = 3,     /* inside a BDAT chunk */
    SESSION_COMMIT = 4,    /* none: the message is complete, its COMMIT waits for room */
    SESSION_WAIT = 5,      /* none: the COMMIT waits to be durable */
    SESSION_HANDSHAKE = 6, /* those of the TLS handshake, which are not for us */
    SESSION_ASK = 7,       /* none: a next hop, or other gateways, are asked; or a
                              signature is made */
    SESSION_PROXY = 8,     /* the PROXY header (receive/gate.h) */
    SESSION_DELAY = 9,     /* none should come: the pause before the greeting */
    SESSION_TARPIT = 10,   /* none: the reply to a refused command is held back */
    SESSION_AUTH = 11,     /* a response to our challenge (receive/authenticating.h) */
    SESSION_AUTHING = 12,  /* none: a backend is asked, or the reply of a refusal is held back */
};

enum {
    SESSION_HELO_MAX = 255,
    SESSION_HELO_SHORT = 46, /* few names are longer, and each octet here is there 10,000 times */
};

struct session {
    struct server *server;
    struct transaction *transaction; /* from MAIL on; NULL: none */
    struct list_node stalled;        /* in server->stalled: waits for room in the staging ring; in
                                        server->handshakes: SESSION_HANDSHAKE */
    struct identity *identity;       /* who has logged in, or tries to; NULL: nobody */
    uint8_t *line;                   /* block with an unfinished command line, or NULL */
    uint8_t *helo_long; /* block with a name that helo_short has no room for, or NULL */
    uint64_t id;
    union {
        uint64_t chunk_left;   /* octets of the present chunk still to come */
        uint64_t handshake_us; /* SESSION_HANDSHAKE: when it began */
    };
    union address_any peer;
    uint32_t opened_ms;     /* monotonic, cut to 32 bits, as is stalled_ms */
    uint32_t stalled_ms;    /* since when it waits for room */
    uint32_t message_count; /* accepted */
    uint16_t line_len;
    uint16_t bad_commands;
    uint16_t refused;  /* commands, with recipients that do not exist (receive/tarpit.h) */
    uint16_t forgiven; /* so many commands without MAIL are no mistakes: pipelined behind a refused
                          one */
    uint8_t state;     /* enum session_state */
    uint8_t mode;      /* enum session_mode */
    union {
        uint8_t chunk_refusal; /* enum reply for the end of a chunk that is only skipped;
                                  REPLY_NONE: it counts */
        uint8_t held;          /* SESSION_TARPIT: enum reply; REPLY_NONE: what `line` holds */
    };
    uint8_t tls;      /* enum server_tls, of the listener when the client came */
    uint8_t listener; /* its index */
    bool chunk_last : 1;
    bool extended : 1;      /* EHLO */
    bool skip_after_cr : 1; /* SESSION_SKIP_LINE: the last octet was a CR */
    bool skip_told : 1;     /* and the line was answered when it began to be skipped */
    bool held_skips : 1;    /* SESSION_TARPIT: SESSION_SKIP_LINE follows */
    bool early : 1;         /* the client talked before our greeting had left */
    bool known : 1;         /* who the client is (receive/gate.h); else its balancer's address */
    bool local : 1;         /* it is a balancer for itself, with a health check */
    bool exempt : 1;        /* bounds, rates, pauses and the greylist do not apply to it */
    bool counted : 1;       /* in server->admission, by its address */
    bool trusted : 1;       /* it may say XCLIENT */
    bool left : 1;          /* the last word was said */
    bool discreet : 1;      /* AUTH was said: what stands behind it may be a secret */
    bool doubtful : 1;      /* DATA was refused: what comes may be the text all the same */
    bool asked_text : 1;    /* DATA or BDAT was the last command, and beyond doubt */
    bool submission : 1;    /* role of the listener when the client came */
    uint8_t traced;         /* a bit for each watcher of it (receive/trace.h) */
    uint8_t helo_len;
    uint8_t helo_short[SESSION_HELO_SHORT]; /* its name, unless it is longer */
};

/* The stream's callbacks for a session (gateway/io/stream.h). */
void session_opened(struct worker *worker, struct stream *stream, void *owner);
size_t session_received(struct stream *stream, void *owner, const uint8_t *data, size_t len);
void session_writable(struct stream *stream, void *owner);
void session_secured(struct stream *stream, void *owner);
void session_timed_out(struct stream *stream, void *owner);
void session_closed(struct stream *stream, void *owner, int error);

/* For verbs.c. session_say sends a line of ours; session_leave says the last word and ends the
 * connection in order; session_reset forgets the transaction under way (RFC 5321 4.1.4);
 * session_deadline gives the client so many seconds. */
void session_say(struct session *session, struct bytes line);
void session_reply(struct session *session, enum reply reply);
void session_refuse(struct session *session, enum reply reply); /* counts it; too many: 421 */
void session_leave(struct session *session, enum reply reply);
void session_drop_transaction(struct session *session);
void session_reset(struct session *session);
void session_deadline(struct session *session, uint32_t seconds);

/* session_set_helo keeps the name that the client gave (at most SESSION_HELO_MAX octets; empty:
 * none any more). */
void session_set_helo(struct session *session, struct bytes name);

/* session_is_secure is true once TLS is active. session_start_tls answers STARTTLS with 220 and
 * begins the handshake (RFC 3207 4); REPLY_NONE. Or it gives the reply that says why it can't now;
 * nothing was said and nothing has changed. */
bool session_is_secure(struct session *session);
enum reply session_start_tls(struct session *session) __attribute__((warn_unused_result));

/* For gate.c. session_start_implicit_tls begins the handshake that comes before everything else;
 * false as above. session_greet says the greeting; no pause, nothing that stands against it. */
bool session_start_implicit_tls(struct session *session) __attribute__((warn_unused_result));
void session_greet(struct session *session);

/* For asking.c, and signing.c. session_ask lets the session wait for a next hop; what the client
 * sends meanwhile waits, too. session_asked says the next hop's reply to RCPT and goes on,
 * session_asked_reply one of ours. session_message_passed says the next hop's reply to the text,
 * with this code, and ends the transaction; session_commit gives the text to the spool. */
void session_ask(struct session *session);
void session_asked(struct session *session, struct bytes line);
void session_asked_reply(struct session *session, enum reply reply);
void session_message_passed(struct session *session, struct bytes line, unsigned code);
void session_commit(struct session *session);

/* session_room_again lets a stalled session go on: the staging ring has room. */
void session_room_again(struct session *session);

/* session_settled gives the client the answer to its message, frees the transaction and goes on
 * with what the client has sent meanwhile. */
void session_settled(struct session *session, enum staging_outcome outcome);

/* session_drain ends a session between two transactions with 421 (in a handshake, and before a
 * PROXY header, without a word). One in a transaction goes on, and so does one that came less than
 * two seconds before the drain and has not sent a message yet; they end after their message.
 * session_hurry ends all, wherever they are, but those whose message waits for its answer. */
void session_drain(struct session *session);
void session_hurry(struct session *session);

#endif
