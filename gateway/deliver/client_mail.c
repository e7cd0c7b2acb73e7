/* One transaction: MAIL, RCPTs, the text, in as few round trips as the server allows, and which
 * reply is the answer to what (RFC 5321 3.3, RFC 2033 4.2, RFC 2920, RFC 3030).
 *
 *   PIPELINING and CHUNKING, little text   MAIL RCPT... BDAT LAST and the text, in one flight
 *   PIPELINING                             MAIL RCPT... DATA in one flight, then the text
 *   neither, or stepwise                   one after another; BDAT or DATA after the last RCPT */
#include "gateway/base/check.h"
#include "gateway/deliver/client_again.h"
#include "gateway/deliver/client_inside.h"
#include "gateway/spool/envelope.h"
#include "tls/tls.h"

#include <stdio.h>
#include <string.h>

static_assert((int)CLIENT_TEXT_PIECES <= (int)STREAM_LOAN_PIECES, "a window is one loan");

/* --- verdicts for many --- */

static bool is_open(const struct delivery_recipient *recipient)
{
    return recipient->verdict.kind == VERDICT_OPEN || recipient->verdict.kind == VERDICT_ACCEPTED;
}

static void decide_all(struct delivery *delivery, const struct verdict *verdict)
{
    for (uint32_t i = 0; i < delivery->recipient_count; i++)
        if (is_open(&delivery->recipients[i]))
            delivery->recipients[i].verdict = *verdict;
}

void client_mail_settle(struct client *client, enum verdict_kind kind, uint16_t code,
                        struct reply_status status, const char *text)
{
    struct verdict verdict;
    verdict_own(&verdict, kind, code, status, "%s", text);
    decide_all(client->delivery, &verdict);
    client->mail.settled = true;
}

static void refuse(struct client *client, uint16_t code, uint16_t subject, uint16_t detail,
                   const char *text)
{
    client_mail_settle(client, VERDICT_REFUSED, code, (struct reply_status){5, subject, detail},
                       text);
}

/* --- the beginning --- */

static bool too_big(const struct client *client)
{
    return client->size_max > 0 && client->delivery->size > client->size_max;
}

static void refuse_size(struct client *client)
{
    refuse(client, 552, 3, 4, "the message is larger than the next hop takes");
}

/* decide_utf8 finds out whether the message is to be said with SMTPUTF8: who asked for it and needs
 * it not is spared (RFC 6531 3.6). False: it is needed, and not offered. */
static bool decide_utf8(struct client *client)
{
    const struct delivery *delivery = client->delivery;
    bool asked = (delivery->flags & ENVELOPE_SMTPUTF8) != 0;
    bool offered = client_offers(client, CLIENT_OFFER_SMTPUTF8);
    bool path = !client_is_ascii(delivery->reverse_path);
    client->mail.utf8 = offered && (asked || path);
    if (offered || path)
        return offered;
    if (!asked)
        return true;
    bool ascii;
    int error = client_text_header_ascii(delivery, &ascii);
    if (error != 0)
        client_mail_settle(client, VERDICT_DEFERRED, 0, (struct reply_status){4, 3, 0},
                           "the message could not be read");
    return error != 0 || ascii;
}

/* check_by refuses what must come back rather than go where nobody minds the time (RFC 2852). What
 * LMTP takes is delivered. */
static void check_by(struct client *client)
{
    const struct envelope_terms *terms = &client->delivery->terms;
    int64_t left_s = client_by_left_s(client);
    if (terms->by_s == 0 || !(terms->by_mode & ENVELOPE_BY_RETURN))
        return;
    bool known = client_offers(client, CLIENT_OFFER_DELIVERBY);
    if (left_s <= 0 || (known && left_s < (int64_t)client->by_min_s))
        refuse(client, 0, 4, 7, "too little time is left for delivery by the time asked for");
    else if (!known && !client->peer.lmtp)
        refuse(client, 550, 3, 3, "the next hop does not support DELIVERBY");
}

/* check refuses what this server can't take. */
static void check(struct client *client)
{
    unsigned flags = client->delivery->flags;
    const unsigned binary = CLIENT_OFFER_BINARYMIME | CLIENT_OFFER_CHUNKING;
    bool protected = client_offers(client, CLIENT_OFFER_REQUIRETLS) && client_secure(client) &&
                     client->peer.tls_verify;
    if (too_big(client))
        refuse_size(client);
    else if ((flags & ENVELOPE_BINARYMIME) && !client_offers(client, binary))
        refuse(client, 554, 6, 1, "the next hop takes no binary text");
    else if ((flags & ENVELOPE_REQUIRETLS) && !protected)
        refuse(client, 550, 7, 30, "the next hop does not support REQUIRETLS");
    else if (!decide_utf8(client))
        refuse(client, 550, 6, 7, "the next hop does not support SMTPUTF8");
    else
        check_by(client);
}

/* by_relayed: the sender is to hear that the message went on (RFC 2852 4). */
static bool by_relayed(const struct client *client)
{
    const struct envelope_terms *terms = &client->delivery->terms;
    if (terms->by_s == 0 || client->peer.lmtp)
        return false;
    return !client_offers(client, CLIENT_OFFER_DELIVERBY) ||
           (terms->by_mode & ENVELOPE_BY_TRACE) != 0;
}

void client_mail_begin(struct client *client)
{
    struct delivery *delivery = client->delivery;
    client->mail = (struct client_mail){0};
    delivery->client = client;
    delivery->dsn_passed = client_offers(client, CLIENT_OFFER_DSN);
    delivery->by_relayed = by_relayed(client);
    delivery->data_sent = false;
    memcpy(delivery->peer, client->peer_text, sizeof(delivery->peer));
    delivery->tls_version = 0;
    if (client_secure(client))
        delivery->tls_version = 12u + tls_info(stream_tls(stream_of(client)))->version_index;
    check(client);
    client_again_begin(client);
}

/* --- the text --- */

/* pump lends the next window. */
static void pump(struct client *client)
{
    struct client_mail *mail = &client->mail;
    uint32_t count;
    if (mail->sent != CLIENT_TEXT_GOING || client->lent || stream_of(client)->state != STREAM_OPEN)
        return;
    int error = client_text_next(&client->text, client->loan.pieces, &count);
    if (error != 0) { /* the server sees no end of the text */
        client_break(client, 3, 0, "the message could not be read");
        return;
    }
    client->delivery->data_sent = client->text.ended;
    client_lend(client, count);
}

static void start_text(struct client *client)
{
    bool dots = client->mail.asked == CLIENT_ASKED_DATA;
    client->mail.sent = CLIENT_TEXT_GOING;
    if (client_text_begin(&client->text, client->delivery, dots, &client->setup->worker->blocks) ==
        0)
        pump(client);
    else
        client_break(client, 3, 0, "the message could not be read");
}

/* ask_text says DATA, or BDAT with the text, when it is time. */
static void ask_text(struct client *client)
{
    struct client_mail *mail = &client->mail;
    const struct delivery *delivery = client->delivery;
    bool binary = delivery->flags & ENVELOPE_BINARYMIME;
    bool little = delivery->size <= CLIENT_FLIGHT_MAX;
    bool chunk = client_offers(client, CLIENT_OFFER_CHUNKING) && (little || binary);
    bool flight =
        client_offers(client, CLIENT_OFFER_PIPELINING) && !delivery->stepwise && (little || !chunk);
    bool wary = chunk && mail->wary && mail->heard == 0;
    bool heard = mail->heard == mail->said;
    unsigned long long size = delivery->size;
    char line[48];
    if (mail->asked != CLIENT_ASKED_NOTHING || mail->say_at < delivery->recipient_count ||
        mail->refused || (delivery->stepwise && !delivery->text_ready) || mail->said < 2 || wary ||
        (heard ? mail->accepted == 0 : !flight))
        return;
    if (too_big(client)) { /* which was not known at MAIL */
        refuse_size(client);
        return;
    }
    int len = chunk ? snprintf(line, sizeof(line), "BDAT %llu LAST\r\n", size)
                    : snprintf(line, sizeof(line), "DATA\r\n");
    if (!client_say(client, line, (size_t)len))
        return;
    mail->asked = chunk ? CLIENT_ASKED_BDAT : CLIENT_ASKED_DATA;
    if (chunk)
        start_text(client);
}

void client_mail_say(struct client *client)
{
    struct client_mail *mail = &client->mail;
    const struct delivery *delivery = client->delivery;
    bool pipelined = client_offers(client, CLIENT_OFFER_PIPELINING);
    if (client->lent || mail->settled)
        return;
    if (mail->said == 0)
        client_say_mail(client);
    while (mail->said > 0 && !mail->refused && mail->say_at < delivery->recipient_count &&
           (pipelined || mail->heard == mail->said))
        if (!client_say_recipient(client))
            return;
    if (mail->said > 0)
        ask_text(client);
}

void client_mail_returned(struct client *client)
{
    struct client_mail *mail = &client->mail;
    if (mail->sent != CLIENT_TEXT_GOING)
        return;
    if (!client->text.ended) {
        pump(client);
        return;
    }
    mail->sent = CLIENT_TEXT_GONE;
    client_text_end(&client->text);
}

/* --- replies --- */

/* ends_left returns how many final replies are still to come. */
static uint32_t ends_left(const struct client *client)
{
    const struct client_mail *mail = &client->mail;
    bool chunk = mail->asked == CLIENT_ASKED_BDAT;
    if (!chunk && mail->sent != CLIENT_TEXT_GONE)
        return 0; /* of the text; it may not have begun */
    uint32_t ends = client->peer.lmtp ? mail->accepted : 1;
    return ends - mail->ended;
}

static bool data_unanswered(const struct client_mail *mail)
{
    return mail->asked == CLIENT_ASKED_DATA && !mail->answered;
}

bool client_mail_awaits(const struct client *client)
{
    const struct client_mail *mail = &client->mail;
    return mail->heard < mail->said || data_unanswered(mail) || ends_left(client) > 0;
}

/* spoke_early: the server has not waited for the end of the text, or for anything. What it refuses
 * is refused; but nobody knows what it will make of the rest of the text. */
static void spoke_early(struct client *client)
{
    const struct client_mail *mail = &client->mail;
    struct verdict verdict;
    bool text = mail->sent == CLIENT_TEXT_GOING && mail->heard == mail->said;
    if (client->reply.code < 400 || !text || client->peer.lmtp) {
        client_break(client, 5, 0, "the server spoke before it was asked: %u %s",
                     client->reply.code, client->reply.text);
        return;
    }
    verdict_reply(&verdict, &client->reply);
    client->delivery->data_sent = false;
    decide_all(client->delivery, &verdict);
    client_drop(client);
}

static void mail_replied(struct client *client)
{
    struct verdict verdict;
    if (client->reply.code / 100 == 2)
        return;
    verdict_reply(&verdict, &client->reply);
    decide_all(client->delivery, &verdict);
    client->mail.refused = true;
}

/* too_many: RFC 5321 4.5.3.1.10: servers have said 552 where they meant that it is enough for one
 * transaction. */
static bool too_many(const struct client *client)
{
    const struct reply_status *status = &client->reply.status;
    return client->reply.code == 552 && client->mail.accepted > 0 &&
           (status->class == 0 || (status->subject == 5 && status->detail == 3));
}

static void recipient_replied(struct client *client)
{
    struct client_mail *mail = &client->mail;
    struct delivery_recipient *recipients = client->delivery->recipients;
    if (mail->refused)
        return;
    while (mail->hear_at < mail->say_at && recipients[mail->hear_at].verdict.kind != VERDICT_OPEN)
        mail->hear_at++; /* those that we have refused ourselves */
    CHECK(mail->hear_at < mail->say_at);
    struct verdict *verdict = &recipients[mail->hear_at++].verdict;
    verdict_reply(verdict, &client->reply);
    if (verdict->kind == VERDICT_DELIVERED) {
        verdict->kind = VERDICT_ACCEPTED;
        mail->accepted++;
    }
    if (too_many(client)) {
        verdict->kind = VERDICT_DEFERRED;
        verdict->status = (struct reply_status){4, 5, 3};
    }
}

/* data_replied: with 354 the text is wanted, even if there is nobody to have it. */
static void data_replied(struct client *client)
{
    struct client_mail *mail = &client->mail;
    struct verdict verdict;
    unsigned class = client->reply.code / 100;
    mail->answered = true;
    if (class == 2) {
        client_break(client, 5, 0, "DATA was answered %u %s", client->reply.code,
                     client->reply.text);
    } else if (class > 3) {
        verdict_reply(&verdict, &client->reply);
        decide_all(client->delivery, &verdict);
        mail->undone = !mail->refused;
    } else if (mail->accepted > 0) {
        start_text(client);
    } else if (!client->peer.lmtp && client_say(client, ".\r\n", 3)) {
        mail->sent = CLIENT_TEXT_GONE;
    } else if (stream_of(client)->state == STREAM_OPEN) {
        client_drop(client); /* LMTP has no reply for nobody */
    }
}

/* final_replied: a reply to the end of the text: SMTP's for all, LMTP's for one. */
static void final_replied(struct client *client)
{
    struct client_mail *mail = &client->mail;
    struct delivery *delivery = client->delivery;
    struct verdict verdict;
    mail->ended++;
    verdict_reply(&verdict, &client->reply);
    mail->undone |= mail->asked == CLIENT_ASKED_BDAT && verdict.kind != VERDICT_DELIVERED;
    delivery->data_sent = ends_left(client) > 0;
    if (!client->peer.lmtp) {
        decide_all(delivery, &verdict);
        return;
    }
    while (mail->end_at < delivery->recipient_count &&
           delivery->recipients[mail->end_at].verdict.kind != VERDICT_ACCEPTED)
        mail->end_at++;
    CHECK(mail->end_at < delivery->recipient_count);
    delivery->recipients[mail->end_at++].verdict = verdict;
}

void client_mail_replied(struct client *client)
{
    struct client_mail *mail = &client->mail;
    unsigned code = client->reply.code;
    bool envelope = mail->heard < mail->said;
    bool final = !envelope && !data_unanswered(mail);
    if (code == 421) {
        client->delivery->data_sent &= !(final && mail->sent == CLIENT_TEXT_GONE);
        if (mail->heard == 0)
            client_again_refused(client);
        client_break_reply(client, false);
    } else if (client->early || (final && mail->sent != CLIENT_TEXT_GONE)) {
        spoke_early(client);
    } else if (code / 100 == 3 && (envelope || final)) {
        client_break(client, 5, 0, "an answer that fits no question: %u %s", code,
                     client->reply.text);
    } else if (envelope && mail->heard++ == 0) {
        mail_replied(client);
    } else if (envelope) {
        recipient_replied(client);
    } else if (final) {
        final_replied(client);
    } else {
        data_replied(client);
    }
}

/* --- what the owner is told --- */

/* done: every recipient has its verdict, and nothing is to come but what may be swallowed. */
static bool done(const struct client *client)
{
    const struct client_mail *mail = &client->mail;
    const struct delivery *delivery = client->delivery;
    bool waits = delivery->stepwise && !delivery->text_ready && !mail->refused;
    bool all_said = mail->refused || mail->say_at == delivery->recipient_count;
    if (mail->settled)
        return true;
    if (client_mail_awaits(client) || mail->sent == CLIENT_TEXT_GOING)
        return false;
    if (mail->asked != CLIENT_ASKED_NOTHING)
        return true;
    return mail->said > 0 && all_said && !waits && mail->accepted == 0;
}

/* news: a recipient that the owner of a stepwise delivery was not told about. */
static bool news(const struct client *client)
{
    const struct client_mail *mail = &client->mail;
    const struct delivery *delivery = client->delivery;
    return delivery->stepwise && !mail->settled && mail->told_at < delivery->recipient_count &&
           (mail->refused || (mail->told_at < mail->say_at &&
                              delivery->recipients[mail->told_at].verdict.kind != VERDICT_OPEN));
}

bool client_mail_told(const struct client *client)
{
    return !done(client) && !news(client);
}

/* finish gives the delivery back, and lets the server forget it if need be. */
static void finish(struct client *client)
{
    struct client_mail *mail = &client->mail;
    struct delivery *delivery = client->delivery;
    struct verdict late;
    bool begun = mail->said > 0 && !mail->refused && mail->asked == CLIENT_ASKED_NOTHING;
    bool nobody = client->peer.lmtp && mail->asked == CLIENT_ASKED_BDAT && mail->accepted == 0;
    client->phase = CLIENT_PHASE_IDLE;
    if (begun || mail->undone)
        client->phase = CLIENT_PHASE_RESET;
    if (nobody) /* servers differ in whether they say anything to that */
        client->phase = CLIENT_PHASE_QUIT;
    client->due = true;
    client->used++;
    client->delivery = NULL;
    if (delivery->stepwise) { /* some may have been appended when the text was under way */
        verdict_own(&late, VERDICT_DEFERRED, 0, (struct reply_status){4, 5, 0}, "came too late");
        decide_all(delivery, &late);
    }
    delivery->delivered(delivery);
}

bool client_mail_advance(struct client *client)
{
    struct client_mail *mail = &client->mail;
    struct delivery *delivery = client->delivery;
    if (stream_of(client)->state != STREAM_OPEN)
        return false;
    if (news(client)) {
        uint32_t index = mail->refused ? UINT32_MAX : mail->told_at;
        mail->told_at = mail->refused ? UINT32_MAX : mail->told_at + 1;
        delivery->answered(delivery, index);
        return true;
    }
    if (!done(client))
        return false;
    finish(client);
    return true;
}

void client_mail_over(struct client *client, const struct verdict *why)
{
    struct delivery *delivery = client->delivery;
    struct verdict verdict = *why;
    if (why->kind == VERDICT_OPEN)
        verdict_own(&verdict, VERDICT_DEFERRED, 0, (struct reply_status){4, 4, 2}, "given up");
    decide_all(delivery, &verdict);
    client->delivery = NULL;
    client->used++;
    delivery->delivered(delivery);
}

void client_mail_cancel(struct client *client)
{
    const struct client_mail *mail = &client->mail;
    if (mail->asked != CLIENT_ASKED_NOTHING || mail->heard < mail->said) {
        client_drop(client); /* a server that stalls must not hold the owner up */
        return;
    }
    client_mail_settle(client, VERDICT_DEFERRED, 0, (struct reply_status){4, 4, 2}, "given up");
}

/* --- time --- */

uint32_t client_mail_patience_s(const struct client *client)
{
    const struct client_timeouts *timeouts = &client->setup->timeouts;
    const struct client_mail *mail = &client->mail;
    bool envelope = mail->heard < mail->said;
    if (mail->sent == CLIENT_TEXT_GOING && envelope)
        return timeouts->block_s > timeouts->command_s ? timeouts->block_s : timeouts->command_s;
    if (mail->sent == CLIENT_TEXT_GOING)
        return timeouts->block_s;
    if (envelope)
        return timeouts->command_s;
    if (data_unanswered(mail))
        return timeouts->data_s;
    if (ends_left(client) > 0)
        return timeouts->end_s;
    return 0; /* a stepwise delivery waits for its owner */
}

const char *client_mail_waits_for(const struct client *client)
{
    const struct client_mail *mail = &client->mail;
    if (mail->sent == CLIENT_TEXT_GOING)
        return "the server takes no more of the text";
    if (mail->heard < mail->said)
        return mail->heard == 0 ? "no reply to MAIL" : "no reply to RCPT";
    return data_unanswered(mail) ? "no reply to DATA" : "no reply to the end of the text";
}
