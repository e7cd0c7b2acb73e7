/* One transaction that we make as a client: the envelope of a message for one next hop, where its
 * text comes from, and what became of each recipient. The common ground of those who want something
 * delivered (the courier from the spool, the passage for a client that waits) and the client that
 * does it. */
#ifndef GATEWAY_DELIVER_DELIVERY_H
#define GATEWAY_DELIVER_DELIVERY_H

#include "gateway/base/list.h"
#include "gateway/spool/envelope.h"
#include "parser/reply.h"

#include <stdbool.h>
#include <stdint.h>

struct client;

enum verdict_kind {
    VERDICT_OPEN = 0,      /* not tried, or no reply has come */
    VERDICT_ACCEPTED = 1,  /* RCPT was answered 250; the message is not through yet */
    VERDICT_DELIVERED = 2, /* the next hop has taken responsibility */
    VERDICT_DEFERRED = 3,  /* 4xx, or something that may pass */
    VERDICT_REFUSED = 4,   /* 5xx, or something that will not */
};

enum { VERDICT_TEXT_MAX = 200 };

/* What became of a recipient, or of a whole connection. */
struct verdict {
    uint8_t kind;                /* enum verdict_kind */
    uint16_t code;               /* the reply's; 0: ours, there was no reply */
    struct reply_status status;  /* as the next hop gave it, or of our own (RFC 3463) */
    char text[VERDICT_TEXT_MAX]; /* for people: the reply's text, or what failed; NUL-terminated */
};

struct delivery_recipient {
    uint32_t index;            /* in the envelope of the spool */
    struct bytes forward_path; /* without brackets; borrowed */
    struct bytes orcpt;        /* as written; empty: none */
    uint8_t notify;            /* bits of NOTIFY=; 0: none given */
    struct verdict verdict;    /* the client's to set */
};

/* How the client comes by the text, piece by piece. Both return 0 or -errno. `next` gives an empty
 * piece at the end; a piece stays valid until the next call. `rewind` starts again. */
struct delivery_text {
    int (*next)(void *user, struct bytes *piece);
    int (*rewind)(void *user);
    void *user;
};

struct delivery {
    /* Set by the owner, borrowed. */
    uint64_t message_id;       /* for the log */
    struct bytes reverse_path; /* as it is to be said: SRS is done */
    struct bytes envid;
    uint32_t flags; /* enum envelope_flags */
    struct envelope_terms terms;
    uint64_t size;     /* octets of header and text that will be sent */
    struct bytes head; /* header fields that go before the text (what was added) */
    struct delivery_text text;
    struct delivery_recipient *recipients;
    uint32_t recipient_count;
    bool stepwise;   /* see client_continue */
    bool text_ready; /* stepwise: no more recipients will come, the text may go */
    void *user;
    /* stepwise: recipient number `index` was answered (its verdict is set: ACCEPTED, DEFERRED,
     * REFUSED); UINT32_MAX: MAIL was refused, and all have its verdict. NULL unless stepwise. */
    void (*answered)(struct delivery *delivery, uint32_t index);
    /* It is over: every recipient has a verdict other than OPEN and ACCEPTED. Exactly once, never
     * from within the call that gave the delivery away. The owner may reuse or free it at once. */
    void (*delivered)(struct delivery *delivery);

    /* Set by the client, and by those who find it one. */
    struct client *client; /* that has it; NULL: none yet */
    struct list_node node; /* of the list where it waits for one */
    bool dsn_passed; /* the next hop speaks DSN (RFC 3461): what becomes of the message now is its
                        to report */
    bool by_relayed; /* terms.by_s, and the next hop does not know of it, or "T": when it takes the
                        message, its sender is to hear that it was relayed (RFC 2852) */
    bool data_sent;  /* the end of the text has left, and no reply has come: RFC 1047's window */
    bool fresh;      /* goes over a connection that has made none yet: the last one was ended by the
                        server before it had taken anything of this */
    char peer[80];   /* "mx.example.net [192.0.2.1]:25", for the log and Remote-MTA */
    uint32_t tls_version; /* 0: in clear; else 12 or 13, for the log */
};

#endif
