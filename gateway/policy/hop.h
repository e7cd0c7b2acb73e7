/* Asking the next hop while the client waits: `mode = through` and `verify = callahead`. The
 * question goes from the worker that receives (receive/) to the courier, which has the connections
 * (deliver/), as post between threads (io/post.h), and comes back the same way. receive and deliver
 * know only this page of each other. docs/through.md has the rules.
 *
 * Every question comes back exactly once. The worker that asks keeps itself running meanwhile
 * (worker_expect), and may give up waiting (`abandoned`), but the memory stays until it has come
 * back. */
#ifndef GATEWAY_POLICY_HOP_H
#define GATEWAY_POLICY_HOP_H

#include "gateway/base/list.h"
#include "gateway/io/post.h"
#include "parser/bytes.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum hop_ask {
    HOP_CALLAHEAD = 0, /* would this mailbox be taken? No passage comes of it */
    HOP_RECIPIENT = 1, /* one more recipient of a passage; the first one opens it */
    HOP_TEXT = 2,      /* the message: deliver it and say what the next hop said */
    HOP_END = 3,       /* the passage is given up (RSET, the client left, the spool took over) */
};

enum hop_answer {
    HOP_ACCEPTED = 0,    /* 2xx: code, status and text are the next hop's */
    HOP_DEFERRED = 1,    /* 4xx from it */
    HOP_REFUSED = 2,     /* 5xx from it */
    HOP_UNREACHABLE = 3, /* no answer to be had: the caller decides (the spool takes over) */
};

enum {
    HOP_TEXT_LEN_MAX = 480,
    HOP_RECIPIENTS_MAX = 100, /* accepted ones of one passage; another one gets 452 4.5.3 */
};

/* A conversation with a next hop on behalf of one transaction; the courier's. NULL before the first
 * HOP_RECIPIENT was answered, and when it is over: after HOP_TEXT, HOP_END and HOP_UNREACHABLE. One
 * that is not over must be ended with HOP_END. */
struct hop_passage;

struct hop_question {
    struct post post;                                /* first */
    struct worker *asker;                            /* to whom it returns */
    void (*answered)(struct hop_question *question); /* in the asker's thread */
    void *user;                                      /* the asker's */
    _Atomic bool abandoned; /* set by the asker at any time: answer soon, whatever */

    /* The question; borrowed until it has come back. */
    enum hop_ask ask;
    struct hop_passage *passage; /* as the last answer gave it */
    struct bytes reverse_path, forward_path, orcpt, envid;
    uint8_t notify;
    uint32_t flags; /* enum envelope_flags of the MAIL command */
    uint64_t size;  /* with what we add; 0: not known yet */
    uint64_t message_id;
    uint64_t session_id;        /* for the log */
    uint64_t patience_us;       /* how long an answer may take; then HOP_UNREACHABLE */
    struct bytes head;          /* HOP_TEXT: header fields that we add */
    const struct bytes *pieces; /* HOP_TEXT: the text */
    uint32_t piece_count;

    /* Of whoever has to answer, until it has come back. */
    struct list_node node;
    uint64_t due_us; /* monotonic */
    void *answerer;
    struct hop_question *alike; /* the next one that waits for the same */

    /* The answer. */
    enum hop_answer answer;
    bool passed; /* HOP_TEXT, UNREACHABLE for some or all: the text had left: it may arrive all
                    the same (RFC 1047) */
    bool cached; /* HOP_CALLAHEAD: nobody was asked */
    bool dsn;    /* HOP_RECIPIENT, ACCEPTED: the next hop speaks DSN (RFC 3461) */
    bool mixed;  /* HOP_TEXT, ACCEPTED: not for all recipients (LMTP): see `outcomes` */
    uint16_t code;
    uint8_t status_class; /* enhanced status; class 0: none */
    uint16_t status_subject, status_detail;
    char text[HOP_TEXT_LEN_MAX];          /* one line, printable, NUL-terminated */
    uint8_t outcomes[HOP_RECIPIENTS_MAX]; /* HOP_TEXT: enum hop_answer for each recipient that was
                                             accepted, in that order */
};

/* Where questions go: `send` puts one on its way; any worker's thread. Given to the server at its
 * creation. The asker has called worker_expect before, and calls worker_received in `answered`. */
struct hop {
    void (*send)(void *user, struct hop_question *question);
    void *user;
};

/* hop_return sends a question back with its answer: the memory is the asker's again. Any thread. */
void hop_return(struct hop_question *question);

#endif
