/* One connection to a next hop: SMTP (RFC 5321) or LMTP (RFC 2033) as the client, the same shape as
 * receive/session. It greets, begins TLS, and makes one transaction after another, each in as few
 * round trips as the server allows: PIPELINING (RFC 2920), CHUNKING (RFC 3030). Octets of the text
 * are lent to the kernel (io/loan), a window at a time, never a whole message.
 *
 * Lives behind its stream, in the courier's worker. docs/delivery.md has its states, what is done
 * about servers that lack an extension, its time-outs (RFC 5321 4.5.3.2), and what hostile servers
 * can make of it (nothing). */
#ifndef GATEWAY_DELIVER_CLIENT_H
#define GATEWAY_DELIVER_CLIENT_H

#include "gateway/base/log.h"
#include "gateway/deliver/delivery.h"
#include "gateway/deliver/route.h"
#include "gateway/io/worker.h"

enum client_limits {
    CLIENT_RECIPIENTS_MAX = 100,    /* in one transaction (RFC 5321 4.5.3.1.8) */
    CLIENT_FLIGHT_MAX = 256 * 1024, /* octets of text that go before the RCPTs are answered */
    CLIENT_BLOCKS = 3,              /* of worker->blocks that one may hold at a time */
};

enum client_state {
    CLIENT_CONNECTING = 0, /* TCP, then the greeting, EHLO, STARTTLS, EHLO */
    CLIENT_IDLE = 1,       /* may be given a delivery */
    CLIENT_BUSY = 2,       /* has one */
    CLIENT_ENDING = 3,     /* QUIT, or gone; takes nothing any more */
};

/* What to connect to. Copied by client_open. */
struct client_peer {
    struct sockaddr_storage address;
    socklen_t address_len;
    char name[256]; /* of the host, for SNI and verification; "": none known */
    bool lmtp;
    enum route_tls tls;
    bool tls_verify;
};

struct client;

/* What the owner of clients hears; each is called from the worker's turn, never from within a
 * client_* function. `user` is what client_open was given. */
struct client_callbacks {
    /* It is IDLE: greeted for the first time, or done with its delivery (whose
     * `delivered` was called before). */
    void (*idle)(void *user, struct client *client);
    /* The connection is over and `client` goes. `why` says why when it never became IDLE, or broke
     * in a delivery (which was `delivered` before, DEFERRED): kind DEFERRED or REFUSED (554 at the
     * greeting: RFC 5321 3.1); NULL: an orderly end, or the server closed an idle connection. */
    void (*closed)(void *user, struct client *client, const struct verdict *why);
};

/* For all clients of a worker. Borrowed. */
struct client_setup {
    struct worker *worker;
    struct log_port *log;
    const char *hostname;              /* for EHLO (LHLO) */
    struct tls_context *tls;           /* without verification */
    struct tls_context *tls_verifying; /* with the system's CAs or the configured file; NULL: none:
                                          tls_verify then defers */
    const struct client_callbacks *callbacks;
    struct client_timeouts {
        uint32_t connect_s;  /* 30 */
        uint32_t greeting_s; /* 300 (RFC 5321 4.5.3.2.1) */
        uint32_t command_s;  /* 300 (4.5.3.2.2, .3): EHLO, MAIL, RCPT; STARTTLS and the handshake */
        uint32_t data_s;     /* 120 (4.5.3.2.4): for 354 */
        uint32_t block_s;    /* 180 (4.5.3.2.5): no octet of the text was taken for so long */
        uint32_t end_s;      /* 600 (4.5.3.2.6): the reply to the end of the text */
        uint32_t quit_s;     /* 5 */
        uint32_t total_s;    /* 0: 3600: a whole delivery, and 1 s more for each 1000 octets */
    } timeouts;
};

/* client_owner_size is what worker_options.owner_size must be; client_stream_callbacks what
 * worker_options.callbacks must be. */
size_t client_owner_size(void);
extern const struct stream_callbacks client_stream_callbacks;

/* client_open begins a connection. `setup` is borrowed for the client's life. NULL: no slot, no
 * memory, or no descriptor (errno says). */
struct client *client_open(const struct client_setup *setup, const struct client_peer *peer,
                           void *user) __attribute__((warn_unused_result));

enum client_state client_state(const struct client *client);
void *client_user(const struct client *client);
const struct client_peer *client_peer(const struct client *client);

/* client_deliver gives an IDLE client a delivery, which is the client's until `delivered`; its
 * recipients (at least one, more than CLIENT_RECIPIENTS_MAX are not sensible) must be
 * VERDICT_OPEN. Refused without a word to the server, with verdicts: SIZE announced and smaller
 * (552 5.3.4), SMTPUTF8 or BINARYMIME or REQUIRETLS needed and not offered. 8-bit text for a server
 * without 8BITMIME is sent as it is when the setup says so, see docs/delivery.md. */
void client_deliver(struct client *client, struct delivery *delivery);

/* A stepwise delivery says MAIL and the RCPTs that are there, and calls `answered` for each. Then
 * its owner may append recipients, or set text_ready, and call client_continue. client_cancel gives
 * a delivery up: before the text by RSET, and the client is IDLE again; in the midst of it by
 * closing. `delivered` follows in both cases, with verdict DEFERRED for what was open. */
void client_continue(struct client *client);
void client_cancel(struct client *client);

/* client_quit ends an IDLE client with QUIT, any other at once; `closed` follows. */
void client_quit(struct client *client);

/* client_tls_failed is for `closed`: opportunistic TLS could not be begun; the same host may be
 * tried once more in clear (peer.tls = ROUTE_TLS_NONE). Never true with tls_verify. */
bool client_tls_failed(const struct client *client);

/* client_alive looks whether the server has left an IDLE client, or has said something (421), since
 * the worker looked last. False: it is given up, `closed` follows; or it was not IDLE. */
bool client_alive(struct client *client);

/* client_stale is for `delivered`: the connection had made deliveries before, and the server ended
 * it and has taken nothing of this one: it closed before any reply, and the end of the text had not
 * left; or it said 421 to MAIL. Another connection may be tried at once, and nobody is to blame:
 * `closed` has no `why`. */
bool client_stale(const struct client *client);

/* client_stall_us tells for how long the server has kept us waiting for a connection, one reply, or
 * to take a part of the text; 0: it does not. client_break_off ends the connection for that, as its
 * time-out would. */
uint64_t client_stall_us(const struct client *client);
void client_break_off(struct client *client);

/* client_used returns how many deliveries it has made; client_idle_us since when it is IDLE. */
uint32_t client_used(const struct client *client);
uint64_t client_idle_us(const struct client *client);

#endif
