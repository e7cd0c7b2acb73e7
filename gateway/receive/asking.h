/* Asking the next hop before the client is answered (policy/hop.h): recipients of domains with
 * `verify = callahead`, and whole transactions of domains with `mode = through`. docs/through.md
 * has states and rules.
 *
 * A question is out at most once at a time for a transaction, and its memory is the transaction's:
 * so a transaction outlives its session until the question has come back, and the passage that it
 * opened is ended. */
#ifndef GATEWAY_RECEIVE_ASKING_H
#define GATEWAY_RECEIVE_ASKING_H

#include "gateway/policy/hop.h"
#include "gateway/receive/collection.h"
#include "gateway/receive/session.h"

/* Which way a transaction goes. */
enum asking_way {
    ASKING_OPEN = 0,     /* no recipient was accepted yet */
    ASKING_THROUGH = 1,  /* its recipients were accepted by a next hop, which shall have the text */
    ASKING_ORDINARY = 2, /* its recipients are spooled ones */
    ASKING_SPOOLED = 3,  /* it was THROUGH, or should have been: the spool has taken over, nobody is
                            asked any more */
};

/* In the transaction's arena, from its first recipient on that must be asked about. */
struct asking {
    struct server *server;
    struct transaction *transaction;
    struct hop_passage *passage; /* not over: must be ended */
    struct arena mark;           /* of the transaction's arena, before the recipient asked about */
    uint8_t way;                 /* enum asking_way */
    bool out;                    /* the question is on its way */
    bool silent;                 /* HOP_CALLAHEAD has been UNREACHABLE: no more of them */
    uint32_t passed_count;
    struct transaction_recipient *passed[HOP_RECIPIENTS_MAX]; /* those that the hop has accepted */
    struct collection collection;
    struct hop_question question;
};

/* asking_recipient looks at a RCPT that our own rules accept, of a domain with these flags (enum
 * directory_flags). False: it is to be added as ever. True: *reply is the answer; REPLY_NONE: the
 * next hop is asked, and the session waits (SESSION_ASK). */
bool asking_recipient(struct session *session, const struct command *rcpt, uint32_t flags,
                      enum reply *reply) __attribute__((warn_unused_result));

/* asking_stamp returns what our Received field says of a session, now. Borrowed. */
struct stamp asking_stamp(struct session *session);

/* asking_text_begins: the first octets of the text are to come. asking_text_came: some have been
 * taken. */
void asking_text_begins(struct session *session);
void asking_text_came(struct session *session);

/* asking_text_ended sends the complete text to the next hop. False: it is not to go there; the
 * message is committed as ever. True: the session waits (SESSION_ASK) and hears
 * session_message_passed or session_commit. */
bool asking_text_ended(struct session *session, struct stamp *stamp)
    __attribute__((warn_unused_result));

/* asking_over tells whether the transaction, which its session has let go of, may be freed. False:
 * what is out is told to hurry, a passage is ended; server_forget is called again then. */
bool asking_over(struct transaction *transaction) __attribute__((warn_unused_result));

/* asking_way_name returns "through", "spooled", ... for the log; NULL: nobody was asked. */
const char *asking_way_name(const struct transaction *transaction);

#endif
