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

/* session_is_submission: its listener has role = submission (its EHLO, its rules). */
bool submission_is(const struct session *session);

/* submission_mail judges a MAIL command: 530 5.7.0 without login, 553 5.7.1 for a reverse-path that
 * is not the user's, 450 4.7.1 over the limit. REPLY_NONE: it may proceed, as submitted mail. */
enum reply submission_mail(struct session *session, const struct command *mail);

/* submission_recipient judges a RCPT that the directory calls RELAY_DENIED or ROUTED: in a
 * transaction of submitted mail its mailbox becomes a foreign recipient. */
enum reply submission_recipient(struct session *session, const struct command *rcpt);

/* submission_counted counts an accepted recipient against the user's limit; 450 4.7.1: one too
 * many.
 */
enum reply submission_count_recipient(struct session *session);

#endif
