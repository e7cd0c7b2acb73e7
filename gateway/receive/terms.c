/* Only what the queue will do is offered; what is offered is taken as the RFCs say. */
#include "gateway/receive/terms.h"

#include "gateway/base/check.h"
#include "gateway/receive/server.h"

#include <stdio.h>
#include <time.h>

const struct submission_rules *terms_rules(const struct session *session)
{
    return submission_is(session) ? session->server->options->submission : NULL;
}

/* The extensions that are offered: enum command_asks. */
static unsigned offers(const struct submission_rules *rules)
{
    unsigned bits = 0;
    if (rules == NULL)
        return 0;
    if (rules->hold_max_s > 0)
        bits |= COMMAND_ASKS_HOLD;
    if (rules->deliver_by_s > 0)
        bits |= COMMAND_ASKS_BY;
    if (rules->priority_max >= -ENVELOPE_PRIORITY_MAX)
        bits |= COMMAND_ASKS_PRIORITY;
    return bits;
}

size_t terms_ehlo(const struct submission_rules *rules, uint64_t wall_us, char *out)
{
    unsigned offered = offers(rules);
    size_t len = 0;
    char date[32] = "";
    struct tm utc;
    if (offered & COMMAND_ASKS_HOLD) {
        time_t latest = (time_t)(wall_us / 1000000 + rules->hold_max_s);
        CHECK(gmtime_r(&latest, &utc) != NULL);
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
        len += (size_t)snprintf(out, TERMS_EHLO_MAX, "250-FUTURERELEASE %u %s\r\n",
                                rules->hold_max_s, date);
    }
    if (offered & COMMAND_ASKS_BY)
        len += (size_t)snprintf(out + len, TERMS_EHLO_MAX - len, "250-DELIVERBY %u\r\n",
                                rules->deliver_by_s);
    if (offered & COMMAND_ASKS_PRIORITY)
        len += (size_t)snprintf(out + len, TERMS_EHLO_MAX - len, "250-MT-PRIORITY\r\n");
    CHECK(len < TERMS_EHLO_MAX);
    return len;
}

bool terms_offered(const struct submission_rules *rules, const struct command *mail)
{
    return (mail->asks & ~offers(rules)) == 0;
}

/* HOLDFOR and BY begin within the second that is under way: nothing is released before its time,
 * nor given up (RFC 4865 4.2). */
static enum reply judge_hold(const struct submission_rules *rules, const struct command *mail,
                             uint64_t wall_us, struct envelope_terms *out)
{
    if (mail->hold_s > rules->hold_max_s ||
        mail->hold_until_s > wall_us / 1000000 + rules->hold_max_s)
        return REPLY_HOLD_TOO_LONG;
    uint64_t from_s = (wall_us + 999999) / 1000000;
    out->release_s = (uint32_t)(mail->hold_s > 0 ? from_s + mail->hold_s : mail->hold_until_s);
    out->hold_s = mail->hold_s;
    return REPLY_NONE;
}

static enum reply judge_by(const struct submission_rules *rules, const struct command *mail,
                           uint64_t wall_us, struct envelope_terms *out)
{
    int64_t by_s = (int64_t)((wall_us + 999999) / 1000000) + mail->by_s;
    /* The least is for "R" only; "N" may even be over (RFC 2852 4). */
    if (mail->by_return && mail->by_s < (int64_t)rules->deliver_by_s)
        return REPLY_DELIVER_BY;
    if (by_s <= (int64_t)out->release_s)
        return REPLY_BY_BEFORE_HOLD;
    out->by_s = by_s < 1 ? 1 : by_s > UINT32_MAX ? UINT32_MAX : (uint32_t)by_s;
    out->by_mode = (uint8_t)((mail->by_return ? ENVELOPE_BY_RETURN : 0) |
                             (mail->by_trace ? ENVELOPE_BY_TRACE : 0) |
                             (mail->by_s <= 0 ? ENVELOPE_BY_TOLD : 0));
    return REPLY_NONE;
}

enum reply terms_judge(const struct submission_rules *rules, const struct command *mail,
                       uint64_t wall_us, struct envelope_terms *out)
{
    enum reply refusal = REPLY_NONE;
    int highest = offers(rules) & COMMAND_ASKS_PRIORITY ? rules->priority_max : 0;
    *out = (struct envelope_terms){0};
    if (mail->asks & COMMAND_ASKS_HOLD)
        refusal = judge_hold(rules, mail, wall_us, out);
    if (refusal == REPLY_NONE && (mail->asks & COMMAND_ASKS_BY))
        refusal = judge_by(rules, mail, wall_us, out);
    if (refusal != REPLY_NONE)
        return refusal;
    if (mail->asks & COMMAND_ASKS_PRIORITY) {
        if (mail->priority > highest)
            return REPLY_PRIORITY;
        out->priority = mail->priority;
    } else if (highest < 0)
        out->priority = (int8_t)highest;
    return REPLY_NONE;
}
