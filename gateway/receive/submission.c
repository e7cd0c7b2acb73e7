/* Submitted mail: see submission.h. All rules are looked up when they are needed: a reload may have
 * changed them since. */
#include "gateway/receive/submission.h"

#include "gateway/base/check.h"
#include "gateway/io/listener.h"
#include "gateway/receive/authenticating.h"
#include "gateway/receive/fixups.h"
#include "gateway/receive/server.h"
#include "gateway/receive/server_log.h"
#include "gateway/receive/signing.h"
#include "parser/ip.h"

#include <string.h>

static const struct submission_rules *rules_of(const struct session *session)
{
    return session->server->options->submission;
}

bool submission_is(const struct session *session)
{
    const struct server_options *options = session->server->options;
    return session->listener < options->listener_count &&
           options->listeners[session->listener].submission;
}

bool submission_has_user(const struct session *session)
{
    return session->identity != NULL && authenticating_user(session).len > 0;
}

/* --- MAIL --- */

enum reply submission_mail(struct session *session, const struct command *mail)
{
    struct server *server = session->server;
    const struct submission_rules *rules = rules_of(session);
    struct bytes sender = mail->address.text;
    if (!submission_has_user(session))
        return REPLY_AUTH_FIRST;
    if (rules == NULL) /* a reload has ended submission, and the socket is still there */
        return REPLY_AUTH_UNAVAILABLE;
    struct bytes user = authenticating_user(session);
    /* Notifications and automatic answers come from <> (RFC 3834 3.3, 8098 3): the From rule holds
     * for them, too. */
    if (sender.len > 0 && !senders_owns(rules->senders, user, sender)) {
        server_log_refused(server, session, REPLY_NOT_YOUR_SENDER);
        return REPLY_NOT_YOUR_SENDER;
    }
    if (mail->has_size && mail->size > rules->message_size_max)
        return REPLY_MESSAGE_TOO_BIG;
    if (server->quotas == NULL ||
        quotas_take(server->quotas, QUOTA_MESSAGES, rules->messages_per_hour, user,
                    server->worker->now_us))
        return REPLY_NONE;
    server_log_refused(server, session, REPLY_USER_MESSAGES);
    return REPLY_USER_MESSAGES;
}

bool submission_begin(struct session *session)
{
    struct server *server = session->server;
    struct transaction *transaction = session->transaction;
    const struct submission_rules *rules = rules_of(session);
    CHECK(submission_has_user(session));
    transaction->envelope.flags |= ENVELOPE_SUBMITTED;
    transaction->message_size_max = rules->message_size_max;
    transaction->recipients_max = rules->recipients_max;
    transaction->fixups = fixups_new(&transaction->arena, server->context.blocks,
                                     server->context.headers, authenticating_user(session));
    transaction->holding = true;
    return transaction->fixups != NULL;
}

void submission_ended(struct session *session)
{
    struct server *server = session->server;
    const struct transaction *transaction = session->transaction;
    const struct submission_rules *rules = rules_of(session);
    bool kept = transaction != NULL && transaction->committed && !transaction->lost;
    if (kept || server->quotas == NULL || rules == NULL)
        return;
    struct bytes user = authenticating_user(session);
    uint64_t now_us = server->worker->now_us;
    quotas_give(server->quotas, QUOTA_MESSAGES, rules->messages_per_hour, user, now_us);
    for (uint32_t i = 0; transaction != NULL && i < transaction->rcpt_count; i++)
        quotas_give(server->quotas, QUOTA_RECIPIENTS, rules->recipients_per_hour, user, now_us);
}

/* --- RCPT --- */

/* is_this_machine: an address literal that leads to what listens here for nobody else, an LMTP
 * server, say: 127.0.0.0/8, ::1, 0.0.0.0 and ::, also IPv4 in the clothes of IPv6. */
static bool is_this_machine(const struct address *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool v6 = address->domain_kind == ADDRESS_IPV6;
    size_t skip = v6 ? sizeof "[IPv6:" - 1 : 1;
    uint8_t octets[16];
    union address_any where = {.any.sa_family = v6 ? AF_INET6 : AF_INET};
    if (address->domain_kind != ADDRESS_IPV4 && !v6)
        return false;
    struct bytes text = bytes_slice(address->domain, skip, address->domain.len - 1);
    if (v6 ? !ip_parse_v6(text, octets) : !ip_parse_v4(text, octets))
        return true; /* nowhere else, at least */
    if (v6 && memcmp(octets, mapped, sizeof mapped) == 0) {
        where.any.sa_family = AF_INET;
        memcpy(&where.v4.sin_addr, octets + sizeof mapped, 4);
    } else if (v6)
        memcpy(&where.v6.sin6_addr, octets, 16);
    else
        memcpy(&where.v4.sin_addr, octets, 4);
    return listener_is_loopback(&where) || listener_is_any(&where);
}

/* is_foreign: the domain is not ours, nor this machine, and the directory has refused the mailbox
 * for no other reason. Elsewhere a local part may be longer than any of ours. */
static bool is_foreign(const struct session *session, const struct command *rcpt)
{
    return rcpt->address.domain.len > 0 && !is_this_machine(&rcpt->address) &&
           directory_check(session->server->options->directory, &rcpt->address) ==
               DIRECTORY_RELAY_DENIED;
}

static enum reply add_counted(struct session *session, const struct command *rcpt,
                              const struct directory_target *targets, uint32_t count, bool aliased)
{
    struct server *server = session->server;
    const struct submission_rules *rules = rules_of(session);
    struct bytes user = authenticating_user(session);
    uint32_t limit = rules == NULL ? 0 : rules->recipients_per_hour;
    uint64_t now_us = server->worker->now_us;
    if (server->quotas != NULL &&
        !quotas_take(server->quotas, QUOTA_RECIPIENTS, limit, user, now_us)) {
        server_log_refused(server, session, REPLY_USER_RECIPIENTS);
        return REPLY_USER_RECIPIENTS;
    }
    enum reply reply = transaction_recipients_add(&server->context, session->transaction, rcpt,
                                                  targets, count, aliased);
    if (reply != REPLY_RECIPIENT_OK && server->quotas != NULL)
        quotas_give(server->quotas, QUOTA_RECIPIENTS, limit, user, now_us);
    return reply;
}

enum reply submission_recipient(struct session *session, const struct command *rcpt)
{
    const struct directory_target abroad = {.mailbox = rcpt->address.text, .forwarded = true};
    bool submitted = (session->transaction->envelope.flags & ENVELOPE_SUBMITTED) != 0;
    if (!submitted || !submission_has_user(session) || !is_foreign(session, rcpt))
        return REPLY_RELAY_DENIED;
    return add_counted(session, rcpt, &abroad, 1, false);
}

enum reply submission_recipient_here(struct session *session, const struct command *rcpt,
                                     const struct directory_expansion *expansion)
{
    return add_counted(session, rcpt, expansion->targets, expansion->target_count,
                       expansion->aliased);
}

/* --- text --- */

enum reply submission_header(struct transaction *transaction)
{
    const struct session *session = transaction->session;
    CHECK(session != NULL);
    const struct server *server = session->server;
    const struct fixups_facts facts = {
        .rules = rules_of(session),
        .user = authenticating_user(session),
        .hostname = server->context.hostname,
        .message_id = transaction->envelope.message_id,
        .wall_us = server->worker->now_wall_us,
        .utf8 = transaction->envelope.flags & ENVELOPE_SMTPUTF8,
    };
    if (facts.rules == NULL) /* as at MAIL: nobody knows any more */
        return REPLY_AUTH_UNAVAILABLE;
    enum reply refusal = fixups_mend(transaction->fixups, &facts);
    if (refusal != REPLY_NONE || facts.rules->dkim == NULL)
        return refusal;
    transaction->signing = signing_new(transaction->session, transaction->fixups, &refusal);
    if (transaction->signing != NULL)
        signing_body(transaction->signing, fixups_body(transaction->fixups));
    return refusal;
}
