/* MAIL and RCPT as a client says them: RFC 5321 4.1.1.2 and 4.1.1.3, with the parameters of RFC
 * 1870, 2852, 3030, 3461, 6152, 6531, 6710, 8689 that the server has offered. */
#include "gateway/base/check.h"
#include "gateway/deliver/client_inside.h"
#include "gateway/spool/envelope.h"
#include "parser/command.h"

#include <stdio.h>
#include <string.h>

/* --- lines --- */

/* A command being put together. What does not fit, or has octets that no command may have, is not
 * `good`, and is not said. */
struct line {
    bool good;
    size_t len;
    char text[2048];
};

static void line_bytes(struct line *line, struct bytes part)
{
    line->good = line->good && part.len <= sizeof(line->text) - line->len;
    for (size_t i = 0; i < part.len && line->good; i++) {
        line->good = part.data[i] >= ' ' && part.data[i] != 0x7f;
        line->text[line->len + i] = (char)part.data[i];
    }
    line->len += line->good ? part.len : 0;
}

static void line_string(struct line *line, const char *part)
{
    line_bytes(line, bytes_of_string(part));
}

static void line_number(struct line *line, const char *before, uint64_t number)
{
    char text[48];
    snprintf(text, sizeof(text), "%s%llu", before, (unsigned long long)number);
    line_string(line, text);
}

/* line_say ends the line and says it; false: not now. */
static bool line_say(struct client *client, struct line *line)
{
    CHECK(line->good && line->len + 2 <= sizeof(line->text));
    memcpy(line->text + line->len, "\r\n", 2);
    return client_say(client, line->text, line->len + 2);
}

/* line_fits: it can be said. */
static bool line_fits(const struct line *line)
{
    return line->good && line->len + 2 <= sizeof(line->text);
}

bool client_is_ascii(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] > 127)
            return false;
    return true;
}

/* --- MAIL and RCPT --- */

/* Whole seconds: never more than there were (RFC 2852 4). */
int64_t client_by_left_s(const struct client *client)
{
    return (int64_t)client->delivery->terms.by_s -
           (int64_t)((client->setup->worker->now_wall_us + 999999) / 1000000);
}

/* BY says how much time is left (RFC 2852); what is over for longer than it can say, less so. */
static void add_terms(struct client *client, struct line *line)
{
    const struct envelope_terms *terms = &client->delivery->terms;
    const int64_t most_s = 999999999;
    char text[32];
    if (terms->by_s != 0 && client_offers(client, CLIENT_OFFER_DELIVERBY)) {
        int64_t left_s = client_by_left_s(client);
        left_s = left_s < -most_s ? -most_s : left_s > most_s ? most_s : left_s;
        snprintf(text, sizeof(text), " BY=%lld;%s%s", (long long)left_s,
                 terms->by_mode & ENVELOPE_BY_RETURN ? "R" : "N",
                 terms->by_mode & ENVELOPE_BY_TRACE ? "T" : "");
        line_string(line, text);
    }
    if (terms->priority != 0 && client_offers(client, CLIENT_OFFER_PRIORITY)) {
        snprintf(text, sizeof(text), " MT-PRIORITY=%d", terms->priority);
        line_string(line, text);
    }
}

void client_say_mail(struct client *client)
{
    const struct delivery *delivery = client->delivery;
    unsigned flags = delivery->flags;
    struct line line = {.good = true};
    line_string(&line, "MAIL FROM:<");
    line_bytes(&line, delivery->reverse_path);
    line_string(&line, ">");
    if (client_offers(client, CLIENT_OFFER_SIZE) && delivery->size > 0)
        line_number(&line, " SIZE=", delivery->size);
    if (flags & ENVELOPE_BINARYMIME)
        line_string(&line, " BODY=BINARYMIME");
    else if ((flags & ENVELOPE_8BITMIME) && client_offers(client, CLIENT_OFFER_8BITMIME))
        line_string(&line, " BODY=8BITMIME");
    if (client->mail.utf8)
        line_string(&line, " SMTPUTF8");
    if (flags & ENVELOPE_REQUIRETLS)
        line_string(&line, " REQUIRETLS");
    if (client_offers(client, CLIENT_OFFER_DSN)) {
        if (flags & (ENVELOPE_RET_FULL | ENVELOPE_RET_HDRS))
            line_string(&line, flags & ENVELOPE_RET_FULL ? " RET=FULL" : " RET=HDRS");
        if (delivery->envid.len > 0)
            line_string(&line, " ENVID=");
        line_bytes(&line, delivery->envid);
    }
    add_terms(client, &line);
    if (!line_fits(&line))
        client_mail_settle(client, VERDICT_REFUSED, 0, (struct reply_status){5, 1, 7},
                           "the sender's address can't be said");
    else if (line_say(client, &line))
        client->mail.said = 1;
}

/* notify_for is what is said to the next hop: of "N" nobody tells behind one that has DSN and no
 * DELIVERBY, so it is to tell of a delay (RFC 2852 4). */
static uint8_t notify_for(const struct client *client, uint8_t notify)
{
    const struct envelope_terms *terms = &client->delivery->terms;
    if (terms->by_s == 0 || (terms->by_mode & ENVELOPE_BY_RETURN) || client->peer.lmtp ||
        client_offers(client, CLIENT_OFFER_DELIVERBY) || (notify & COMMAND_NOTIFY_NEVER))
        return notify;
    uint8_t asked = notify == 0 ? COMMAND_NOTIFY_FAILURE : notify;
    return asked | COMMAND_NOTIFY_DELAY;
}

static void add_notify(struct line *line, uint8_t notify)
{
    static const struct {
        uint8_t bit;
        const char *word;
    } words[] = {
        {COMMAND_NOTIFY_NEVER,   "NEVER"  },
        {COMMAND_NOTIFY_SUCCESS, "SUCCESS"},
        {COMMAND_NOTIFY_FAILURE, "FAILURE"},
        {COMMAND_NOTIFY_DELAY,   "DELAY"  }
    };
    const char *before = " NOTIFY=";
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (!(notify & words[i].bit))
            continue;
        line_string(line, before);
        line_string(line, words[i].word);
        before = ",";
    }
}

bool client_say_recipient(struct client *client)
{
    struct client_mail *mail = &client->mail;
    struct delivery_recipient *recipient = &client->delivery->recipients[mail->say_at];
    struct line line = {.good = true};
    line_string(&line, "RCPT TO:<");
    line_bytes(&line, recipient->forward_path);
    line_string(&line, ">");
    if (client_offers(client, CLIENT_OFFER_DSN)) {
        add_notify(&line, notify_for(client, recipient->notify));
        if (recipient->orcpt.len > 0 && (mail->utf8 || client_is_ascii(recipient->orcpt))) {
            line_string(&line, " ORCPT=");
            line_bytes(&line, recipient->orcpt);
        }
    }
    if (!mail->utf8 && !client_is_ascii(recipient->forward_path))
        verdict_own(&recipient->verdict, VERDICT_REFUSED, 550, (struct reply_status){5, 6, 7},
                    "the next hop does not support SMTPUTF8");
    else if (!line_fits(&line))
        verdict_own(&recipient->verdict, VERDICT_REFUSED, 0, (struct reply_status){5, 1, 3},
                    "the address can't be said");
    else if (line_say(client, &line))
        mail->said++;
    else
        return false;
    mail->say_at++;
    return true;
}
