/* What the parts of a client share: client.c (life, replies, end), client_greet.c (from connect to
 * IDLE), client_mail.c (a transaction), client_again.c (the next one). Private to them. */
#ifndef GATEWAY_DELIVER_CLIENT_INSIDE_H
#define GATEWAY_DELIVER_CLIENT_INSIDE_H

#include "gateway/deliver/client.h"
#include "gateway/deliver/client_offers.h"
#include "gateway/deliver/client_text.h"
#include "gateway/deliver/verdict.h"
#include "gateway/io/loan.h"

/* Where the dialogue stands; each phase but MAIL has one command and one reply. */
enum client_phase {
    CLIENT_PHASE_CONNECT = 0,
    CLIENT_PHASE_HANDSHAKE,
    CLIENT_PHASE_GREETING,
    CLIENT_PHASE_EHLO,
    CLIENT_PHASE_HELO,
    CLIENT_PHASE_STARTTLS,
    CLIENT_PHASE_IDLE,
    CLIENT_PHASE_MAIL,  /* there is a delivery */
    CLIENT_PHASE_RESET, /* there was one; the server is to forget it */
    CLIENT_PHASE_QUIT,
    CLIENT_PHASE_GONE, /* the stream ends, or has ended */
};

enum client_asked { CLIENT_ASKED_NOTHING = 0, CLIENT_ASKED_DATA = 1, CLIENT_ASKED_BDAT = 2 };
enum { CLIENT_PEER_TEXT = 80 };
enum client_sent { CLIENT_TEXT_NOT_YET = 0, CLIENT_TEXT_GOING = 1, CLIENT_TEXT_GONE = 2 };

/* Replies come in the order of the commands: counters say which is which. */
struct client_mail {
    uint32_t said, heard;     /* MAIL, and RCPTs */
    uint32_t say_at, hear_at; /* recipients that the next RCPT, the next reply are for */
    uint32_t told_at;         /* stepwise: the next one to be `answered` */
    uint32_t accepted;        /* recipients */
    uint32_t ended, end_at;   /* final replies; the recipient of the last (LMTP) */
    uint8_t asked;            /* enum client_asked */
    uint8_t sent;             /* enum client_sent: the text */
    bool answered;            /* DATA was */
    bool refused;             /* MAIL was, and all recipients have the verdict */
    bool undone;              /* the server may not have forgotten it: RSET */
    bool settled;             /* ours to end: refused without a word, or cancelled */
    bool utf8, wary;          /* is said with SMTPUTF8; its text waits for the reply to MAIL */
};

struct client {
    const struct client_setup *setup;
    void *user;
    struct delivery *delivery;        /* NULL: none */
    struct sockaddr_storage *address; /* a block: what connect(2) reads; NULL: no more */
    uint8_t phase;                    /* enum client_phase */
    bool due;                         /* the phase's command is to be said; IDLE: to be told */
    bool awaits;                      /* the reply to it */
    bool turning;                     /* in a callback of the stream: what is settled is told */
    bool early;                       /* the reply being read began before its question */
    bool lent;                        /* `loan` is the stream's */
    bool over;                        /* the stream has said so; only the loan is still to come */
    bool told;                        /* and the owner knows */
    bool greeted;                     /* was IDLE once */
    bool stale;                       /* see client_stale */
    bool tls_failed;
    uint16_t offers; /* enum client_offer */
    uint32_t used;
    uint64_t size_max;                    /* SIZE= of EHLO; 0: no limit */
    uint64_t by_min_s;                    /* DELIVERBY of EHLO: the least for "R" */
    uint64_t idle_us, begun_us, watch_us; /* IDLE since; the delivery began; client_watch */
    uint64_t acked; /* octets of ours that the peer's kernel had at the last look */
    struct client_mail mail;
    struct client_text text;
    struct client_peer peer;
    char peer_text[CLIENT_PEER_TEXT];
    struct verdict why; /* OPEN: an orderly end */
    struct stream_loan loan;
    struct reply_read reply;
};

/* --- client.c --- */

static inline bool client_offers(const struct client *client, unsigned offers)
{
    return (client->offers & offers) == offers;
}

/* client_secure: what is said now is encrypted. */
bool client_secure(const struct client *client);
/* client_peer_text writes "mx.example.net [192.0.2.1]:25", "unix:PATH", the name cut if need be. */
char *client_peer_text(const struct client_peer *peer, char *out);

/* client_say writes a command. False: there is no room now, and client_go_on comes again when there
 * is; or never, and the connection is over. */
bool client_say(struct client *client, const void *text, size_t len)
    __attribute__((warn_unused_result));

/* client_lend lends `count` pieces of the loan; 0: only `returned` is wanted, soon. */
void client_lend(struct client *client, uint32_t count);

/* client_break ends the connection at once for a reason of ours (DEFERRED, 4.SUBJECT.DETAIL);
 * client_break_reply because of the reply just heard, after QUIT if `politely`; client_drop without
 * a reason. Only the first reason counts. */
void client_break(struct client *client, unsigned subject, unsigned detail, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void client_break_reply(struct client *client, bool politely);
void client_drop(struct client *client);

/* --- client_greet.c --- */

void client_greet_opened(struct client *client);
void client_greet_secured(struct client *client);
void client_greet_say(struct client *client);
void client_greet_line(struct client *client, struct bytes line);
void client_greet_replied(struct client *client);

/* --- client_mail.c --- */

/* client_mail_begin begins with client->delivery. client_mail_say says what may be said now;
 * client_mail_advance tells the owner what has come about, true: something. */
void client_mail_begin(struct client *client);
void client_mail_say(struct client *client);
bool client_mail_advance(struct client *client);

/* client_mail_told: advance has nothing to tell; client_mail_awaits: a reply is to come. */
bool client_mail_told(const struct client *client);
bool client_mail_awaits(const struct client *client);
void client_mail_replied(struct client *client);
void client_mail_returned(struct client *client);
void client_mail_cancel(struct client *client);
/* client_mail_patience_s: how long what is going on now may take; 0: for ever.
 * client_mail_waits_for says what that is; constant. */
uint32_t client_mail_patience_s(const struct client *client);
const char *client_mail_waits_for(const struct client *client);

/* client_mail_settle gives all that are open this verdict, and ends the delivery without the
 * server. */
void client_mail_settle(struct client *client, enum verdict_kind kind, uint16_t code,
                        struct reply_status status, const char *text);

/* client_mail_over gives all that are open `why`, and the delivery back: the stream is over. */
void client_mail_over(struct client *client, const struct verdict *why);

/* --- client_say.c --- */

/* client_by_left_s: seconds until the time of DELIVERBY; below 0: it is over. client_say_mail says
 * MAIL, or refuses the delivery. client_say_recipient says RCPT for the next recipient, or refuses
 * it; false: not now. */
int64_t client_by_left_s(const struct client *client);
bool client_is_ascii(struct bytes text);
void client_say_mail(struct client *client);
bool client_say_recipient(struct client *client);

#endif
