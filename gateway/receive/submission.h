/* Submitted mail (RFC 6409): what a user who has logged in may do that nobody else may, and what is
 * mended in a message. A listener with role = submission; every other listener knows nothing of it.
 *
 * The one way by which mail leaves for foreign domains leads through submission_recipient, which
 * needs a session with an identity; the message carries ENVELOPE_SUBMITTED from its MAIL on, and
 * deliver/ sends nothing abroad that neither has that mark nor was forwarded by an alias. */
#ifndef GATEWAY_RECEIVE_SUBMISSION_H
#define GATEWAY_RECEIVE_SUBMISSION_H

#include "gateway/policy/dkim.h"
#include "gateway/policy/quotas.h"
#include "gateway/policy/senders.h"
#include "gateway/receive/session.h"

/* What the configuration says. */
struct submission_rules {
    const struct senders *senders;
    const struct dkim_keys *dkim; /* NULL: nothing is signed */
    uint64_t message_size_max;    /* instead of those of server_options */
    uint32_t recipients_max;
    uint32_t messages_per_hour, recipients_per_hour; /* of a user; 0: no limit */
    uint32_t hold_max_s;                             /* FUTURERELEASE; 0: not offered */
    uint32_t deliver_by_s; /* DELIVERBY: the least that is taken; 0: not offered */
    int8_t priority_max;   /* MT-PRIORITY: the highest that is taken; below -9: not offered */
    uint8_t sender;        /* enum submission_sender */
    bool from_any;         /* the From field may have addresses that are not the user's */
    bool results;          /* Authentication-Results is added */
};

enum submission_sender {
    SUBMISSION_SENDER_KEEP = 0, /* Sender is left as it is */
    SUBMISSION_SENDER_ADD =
        1, /* the user's main address, when From is not the user's, or several */
    SUBMISSION_SENDER_FORCE = 2, /* ... and a Sender that is there is replaced */
};

/* submission_is: its listener has role = submission (its EHLO, its rules). submission_has_user: and
 * a user has logged in. */
bool submission_is(const struct session *session);
bool submission_has_user(const struct session *session);

/* submission_mail judges a MAIL command at such a listener: 530 5.7.0 without login, 553 5.7.1 for
 * a reverse-path that is not the user's, 552 5.3.4, 450 4.7.1 over the limit. REPLY_NONE: it is
 * counted, and may proceed as submitted mail: submission_begin makes the session's new transaction
 * one. False: no memory. */
enum reply submission_mail(struct session *session, const struct command *mail);
bool submission_begin(struct session *session) __attribute__((warn_unused_result));

/* submission_ended: the session lets go of a transaction of submitted mail, or there was no memory
 * for one behind submission_mail (it has none then). What came to nothing does not count. */
void submission_ended(struct session *session);

/* submission_recipient judges a RCPT that the directory does not take: in a transaction of
 * submitted mail a mailbox of a domain that is not ours becomes a recipient abroad. Else 550 5.7.1.
 * submission_recipient_here adds what the directory has taken. Both count it; 450 4.7.1: one too
 * many. */
enum reply submission_recipient(struct session *session, const struct command *rcpt);
enum reply submission_recipient_here(struct session *session, const struct command *rcpt,
                                     const struct directory_expansion *expansion);

/* submission_header judges and mends the header section of a transaction of submitted mail
 * (fixups_mend), once it is whole, or the text is over. */
enum reply submission_header(struct transaction *transaction);

#endif
