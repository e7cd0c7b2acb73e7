/* One connection of the load program: it lives behind its stream, in the worker's slot. Here are
 * the stream's callbacks and all that is sent; what is said is dialogue's, how often connections
 * are opened is place's. */
#ifndef BENCH_LOAD_CONNECTION_H
#define BENCH_LOAD_CONNECTION_H

#include "bench/load/mail.h"
#include "bench/load/options.h"
#include "bench/load/tally.h"
#include "gateway/base/list.h"
#include "gateway/io/loan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;
struct place;

enum connection_phase {
    CONNECTION_CONNECT = 0,
    CONNECTION_BANNER,
    CONNECTION_EHLO,
    CONNECTION_STARTTLS,
    CONNECTION_HANDSHAKE,
    CONNECTION_AUTH,
    CONNECTION_READY,    /* waits for a message, or only holds */
    CONNECTION_ENVELOPE, /* replies to MAIL, RCPT, DATA are to come */
    CONNECTION_CONTENT,  /* replies to BDAT or to the whole message are to come */
    CONNECTION_RESET,
    CONNECTION_QUIT,
    CONNECTION_LEAVING, /* nothing more to say: waits for the end of the stream */
};

enum {
    CONNECTION_CHUNKS_TIMED = 16, /* of those that wait for a reply, the newest */
    CONNECTION_LINE_KEPT = 16,    /* "250 PIPELINING\r\n" */
};

struct connection {
    struct client *client;
    struct place *place;
    uint64_t number;        /* in the run, of all threads */
    struct list_node ready; /* in client->ready or client->holding */
    uint8_t phase;          /* enum connection_phase */
    uint8_t login_line;     /* of its login, the one that was said last */
    bool sends;             /* its times count: neither slow nor idle */
    bool slow;
    bool opening;     /* counts as one that the server may not have accepted yet */
    bool lent;        /* something of ours has not left yet: nothing else can be sent */
    bool held;        /* and what the phase begins with waits for that */
    bool awaits;      /* a reply to the one command of the phase */
    bool closed;      /* the stream's last call has come, but for `returned` */
    bool refused;     /* this transaction got a reply that it did not want */
    bool large;       /* the last octets have left when the loan comes back, not when it is given */
    uint8_t aborting; /* enum load_phase + 1: to be broken off when what is lent has left */
    uint8_t aborted;  /* enum load_phase + 1: was broken off */
    bool pipelining, chunking; /* EHLO offered it */
    bool helo;                 /* and was refused: HELO offers nothing (RFC 5321 3.2) */
    uint8_t line_len;
    char line[CONNECTION_LINE_KEPT]; /* the first octets of the line under way */
    uint32_t commands_sent, replies;
    uint32_t chunks_sent, chunks_due, chunk_replies;
    uint32_t accepted;        /* recipients */
    uint32_t finals, stored;  /* final replies, and those that were 250 */
    uint64_t begun_ns;        /* connect(2), then the greeting is awaited, then ClientHello, AUTH */
    uint64_t sent_ns;         /* the newest command, or group of commands */
    uint64_t intended_ns;     /* open loops: when this message should have started */
    uint64_t mail_ns, dot_ns; /* of this message */
    uint64_t chunk_ns[CONNECTION_CHUNKS_TIMED];
    struct mail_draft draft;
    struct stream_loan loan;
    struct iovec rest[STREAM_LOAN_PIECES]; /* slow: what has not been lent yet */
    uint32_t rest_count;
    uint64_t slow_us; /* the rate is used up to here */
};

extern const struct stream_callbacks connection_callbacks;

/* connection_say prepares a loan of constant text; connection_send lends the first `count` of
 * loan.pieces to the stream, slowly if it is a slow connection. Nothing may be lent already. */
void connection_say(struct connection *connection, const char *text);
void connection_send(struct connection *connection, uint32_t count);

/* connection_leave says no more, and lets the server read to the end. connection_break_off ends
 * it at once, on purpose. */
void connection_leave(struct connection *connection);
void connection_break_off(struct connection *connection, enum load_phase phase);

/* connection_chance says whether the connection is to be broken off in this phase, this time. */
bool connection_chance(struct connection *connection, enum load_phase phase);

/* connection_time adds a time that ends now to the tally; connection_opening_time one of what opens
 * a connection, before the run begins, too, unless it has a warm-up. */
void connection_opening_time(struct connection *connection, enum tally_time time, uint64_t from_ns,
                             uint64_t now_ns);
void connection_time(struct connection *connection, enum tally_time time, uint64_t from_ns,
                     uint64_t now_ns);

/* connection_refuse_tls notes why the handshake can't begin, and ends the connection. */
void connection_refuse_tls(struct connection *connection, enum tally_tls_reason reason);

/* connection_hello begins the handshake. */
void connection_hello(struct connection *connection);

/* connection_unfinished accounts for a connection that the end of the run finds open. */
void connection_unfinished(struct connection *connection, uint64_t now_ns);

#endif
