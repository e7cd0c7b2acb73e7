/* Three parts between boundaries: what people read, what programs read, and the original. What came
 * from outside (addresses, identifiers, the words of next hops) goes through draft_clean or
 * draft_words, so it stays on the line, or in the field, where it is put. */
#include "gateway/deliver/bounce.h"

#include <stdio.h>
#include <time.h>

#include "gateway/base/check.h"
#include "gateway/deliver/advice.h"
#include "gateway/deliver/original.h"
#include "parser/command.h"
#include "parser/octet.h"

enum {
    PEOPLE_RECIPIENTS = 100, /* told of in the part for people; the next part has all */
    PEOPLE_INDENT = 6,
    DECODED_MAX = DRAFT_WORD_MAX,
    TYPE_MAX = 40, /* octets of the type of an address */
};

/* What is said of each action. */
static const struct wording {
    const char *action, *subject, *what, *why;
} wordings[] = {
    [BOUNCE_FAILED] = {"failed",    "Your message could not be delivered",
                       "could not be delivered to:",                                             NULL},
    [BOUNCE_DELAYED] = {"delayed",   "Your message is delayed",
                       "has not been delivered yet to:",                                         NULL},
    [BOUNCE_RELAYED] = {"relayed",   "Your message was passed on",          "was passed on for:",
                       "That mail system does not send confirmations, so you may hear no more "
                        "of it unless it fails."                                                     },
    [BOUNCE_DELIVERED] = {"delivered", "Your message was delivered",          "was delivered to:",
                       "It lies in the mailbox. That does not mean that it has been read."           },
    [BOUNCE_RELAYED_BY] = {"relayed",   "Your message was passed on",          "was passed on for:",
                       "You have asked for delivery by a certain time. What becomes of it "
                           "from here on is for the next mail system to say."                        },
};

/* A notification being composed. */
struct composer {
    struct draft draft;
    const struct bounce *bounce;
    const struct wording *wording;
    struct original original;
};

static bool is_ascii(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] > 127)
            return false;
    return true;
}

bool bounce_wanted(enum bounce_action action, uint8_t notify, struct bytes reverse_path)
{
    if (reverse_path.len == 0 || (notify & COMMAND_NOTIFY_NEVER) != 0)
        return false;
    switch (action) {
    case BOUNCE_FAILED: return notify == 0 || (notify & COMMAND_NOTIFY_FAILURE) != 0;
    case BOUNCE_RELAYED_BY: return true;
    case BOUNCE_DELAYED: return notify == 0 || (notify & COMMAND_NOTIFY_DELAY) != 0;
    case BOUNCE_RELAYED:
    case BOUNCE_DELIVERED: break;
    }
    return (notify & COMMAND_NOTIFY_SUCCESS) != 0;
}

/* --- ORCPT and ENVID --- */

static size_t put_utf8(uint8_t *out, uint32_t code)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xc0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

/* Reads "\x{...}" (RFC 6533 3) from the front of `in`; 0: there is none. */
static size_t embedded(struct bytes in, uint32_t *code)
{
    const struct bytes opening = BYTES("\\x{");
    size_t at = opening.len;
    *code = 0;
    if (in.len <= at || !bytes_equal(bytes_slice(in, 0, at), opening))
        return 0;
    for (; at < in.len && at < opening.len + 6 && octet_hex_value(in.data[at]) < 16; at++)
        *code = *code * 16 + octet_hex_value(in.data[at]);
    bool closed = at > opening.len && at < in.len && in.data[at] == '}';
    return closed && *code <= 0x10ffff ? at + 1 : 0;
}

/* Undoes xtext (RFC 3461 4), or with `unicode` the form of RFC 6533 3, into `out` of DECODED_MAX
 * octets; what is no such thing stays as it is. What comes out is as dangerous as what went in. */
static struct bytes decode(struct bytes in, bool unicode, uint8_t *out)
{
    size_t len = 0;
    while (in.len > 0 && len + 4 <= DECODED_MAX) {
        size_t used = 1;
        uint32_t code = 0;
        if (unicode && (used = embedded(in, &code)) > 0) {
            len += put_utf8(out + len, code);
        } else if (!unicode && in.len >= 3 && in.data[0] == '+' &&
                   octet_hex_value(in.data[1]) < 16 && octet_hex_value(in.data[2]) < 16) {
            used = 3;
            out[len++] = (uint8_t)(octet_hex_value(in.data[1]) * 16 + octet_hex_value(in.data[2]));
        } else {
            used = 1;
            out[len++] = in.data[0];
        }
        in = bytes_skip(in, used);
    }
    return bytes_make(out, len);
}

static bool is_blank(struct bytes text)
{
    size_t at = 0;
    while (at < text.len && octet_is_space(text.data[at]))
        at++;
    return at == text.len;
}

static bool is_utf8_type(struct bytes orcpt)
{
    const struct bytes type = BYTES("utf-8;");
    return orcpt.len >= type.len && bytes_equal_nocase(bytes_slice(orcpt, 0, type.len), type);
}

/* The address in an ORCPT, decoded into `out` of DECODED_MAX octets; empty: there is none. */
static struct bytes original_recipient(struct bytes orcpt, uint8_t *out)
{
    size_t semicolon = bytes_find(orcpt, ';');
    if (semicolon == 0 || semicolon >= orcpt.len || semicolon > TYPE_MAX)
        return bytes_make(out, 0);
    struct bytes address = decode(bytes_skip(orcpt, semicolon + 1), is_utf8_type(orcpt), out);
    return is_blank(address) ? bytes_make(out, 0) : address;
}

/* --- pieces --- */

/* The name of the host that was asked, out of "mx.example.net [192.0.2.1]:25". */
static void put_remote(struct draft *draft, const char *peer)
{
    struct bytes name = bytes_of_string(peer);
    bool socket = name.data[0] == '/' || strncmp(peer, "unix:", 5) == 0;
    if (!socket)
        name.len = bytes_find(name, ' ');
    size_t close = bytes_find(name, ']');
    if (name.len > 0 && name.data[0] == '[' && close < name.len)
        name.len = close + 1;
    if (name.len == 0)
        return;
    draft_string(draft, socket ? "Remote-MTA: x-local-socket; " : "Remote-MTA: dns; ");
    draft_clean(draft, name);
    draft_string(draft, "\r\n");
}

static void put_code(struct draft *draft, const struct verdict *verdict)
{
    draft_number(draft, verdict->code);
    draft_string(draft, " ");
    if (verdict->status.class == 0)
        return;
    draft_number(draft, verdict->status.class);
    draft_string(draft, ".");
    draft_number(draft, verdict->status.subject);
    draft_string(draft, ".");
    draft_number(draft, verdict->status.detail);
    draft_string(draft, " ");
}

/* status_of: a failure has class 4 (given up for its age) or 5, a delay 4, a success 2 (RFC 3464
 * 2.3.4). */
static struct reply_status status_of(enum bounce_action action, const struct verdict *verdict)
{
    struct reply_status status = verdict->status;
    bool temporary =
        verdict->code / 100 == 4 || (verdict->code == 0 && verdict->kind == VERDICT_DEFERRED);
    uint8_t class = 2;
    if (action == BOUNCE_DELAYED)
        class = 4;
    else if (action == BOUNCE_FAILED)
        class = temporary ? 4 : 5;
    if (status.class == class && status.subject <= 999 && status.detail <= 999)
        return status;
    return (struct reply_status){.class = class};
}

bool bounce_same_verdict(const struct verdict *a, const struct verdict *b)
{
    return a == b ||
           (a->kind == b->kind && a->code == b->code && a->status.class == b->status.class &&
            a->status.subject == b->status.subject && a->status.detail == b->status.detail &&
            strncmp(a->text, b->text, VERDICT_TEXT_MAX) == 0);
}

/* --- for people --- */

static void put_paragraph(struct composer *composer, const char *text, uint32_t indent)
{
    static const char blanks[] = "      ";
    draft_put(&composer->draft, bytes_make(blanks, indent));
    draft_words(&composer->draft, bytes_of_string(text), indent, indent);
    draft_string(&composer->draft, "\r\n");
}

/* Why it failed, in the words of who said so, and what can be done. */
static void put_reason(struct composer *composer, const struct bounce_recipient *recipient)
{
    struct draft *draft = &composer->draft;
    const struct verdict *verdict = recipient->verdict;
    enum bounce_action action = composer->bounce->action;

    if (verdict->code != 0 && recipient->peer[0] != '\0') {
        draft_string(draft, "      ");
        draft_words(draft, bytes_of_string(recipient->peer), PEOPLE_INDENT, PEOPLE_INDENT);
        draft_string(draft, " said:\r\n");
    }
    if (verdict->code != 0 || verdict->text[0] != '\0') {
        draft_string(draft, "      ");
        if (verdict->code != 0)
            put_code(draft, verdict);
        draft_words(draft, bytes_of_string(verdict->text), PEOPLE_INDENT + 10, PEOPLE_INDENT);
        draft_string(draft, "\r\n");
    }
    if (action == BOUNCE_FAILED) {
        draft_string(draft, "\r\n");
        if (verdict->kind == VERDICT_DEFERRED)
            put_paragraph(composer,
                          "It was tried again and again, until the time for that was over.",
                          PEOPLE_INDENT);
        put_paragraph(composer, advice_for(status_of(action, verdict)), PEOPLE_INDENT);
    }
}

/* The address, and the one that the sender wrote if an alias or another system made this of it. */
static void put_recipient_for_people(struct draft *draft, const struct bounce_recipient *recipient)
{
    uint8_t decoded[DECODED_MAX];
    struct bytes wrote = original_recipient(recipient->orcpt, decoded);
    draft_string(draft, "  <");
    draft_clean(draft, recipient->forward_path);
    draft_string(draft, ">\r\n");
    if (wrote.len == 0 || bytes_equal_nocase(wrote, recipient->forward_path))
        return;
    draft_string(draft, "      for <");
    draft_clean(draft, wrote);
    draft_string(draft, ">\r\n");
}

static void put_recipients_for_people(struct composer *composer)
{
    const struct bounce *bounce = composer->bounce;
    struct draft *draft = &composer->draft;
    uint32_t count = bounce->recipient_count;
    if (count > PEOPLE_RECIPIENTS)
        count = PEOPLE_RECIPIENTS;
    for (uint32_t i = 0; i < count; i++) {
        const struct bounce_recipient *recipient = &bounce->recipients[i];
        put_recipient_for_people(draft, recipient);
        if (i + 1 < count && bounce_same_verdict(recipient->verdict, recipient[1].verdict) &&
            strcmp(recipient->peer, recipient[1].peer) == 0)
            continue;
        put_reason(composer, recipient);
        draft_string(draft, "\r\n");
    }
    if (count == bounce->recipient_count)
        return;
    draft_string(draft, "and ");
    draft_number(draft, bounce->recipient_count - count);
    draft_string(draft, " more; the delivery report below has them all.\r\n\r\n");
}

static const char *about_original(const struct composer *composer)
{
    if (composer->original.form == ORIGINAL_WHOLE)
        return "Your message is attached.";
    if (composer->original.form == ORIGINAL_HEADER)
        return "The header of your message is attached.";
    if ((composer->bounce->envelope->flags & ENVELOPE_REQUIRETLS) != 0)
        return "Your message asked to travel over secure connections only. This report may have "
               "to do without them, so nothing of your message is in it.";
    return "Your message could not be read any more, so nothing of it is attached.";
}

static void put_part_for_people(struct composer *composer)
{
    const struct bounce *bounce = composer->bounce;
    struct draft *draft = &composer->draft;
    draft_string(draft, "Content-Description: Notification\r\n");
    draft_string(draft, draft->utf8 ? "Content-Type: text/plain; charset=utf-8\r\n"
                                      "Content-Transfer-Encoding: 8bit\r\n\r\n"
                                    : "Content-Type: text/plain; charset=us-ascii\r\n\r\n");
    draft_string(draft, "This is the mail system at ");
    draft_clean(draft, bytes_of_string(bounce->hostname));
    draft_string(draft, ".\r\n\r\nYour message of ");
    draft_date(draft, bounce->envelope->arrival_us);
    draft_string(draft, "\r\n");
    draft_string(draft, composer->wording->what);
    draft_string(draft, "\r\n\r\n");
    put_recipients_for_people(composer);
    if (bounce->action == BOUNCE_DELAYED) {
        draft_string(draft, "You need not do anything. It will be tried again until\r\n");
        draft_date(draft, bounce->retry_until_us);
        draft_string(draft, ". If it can't be delivered by then, you\r\nwill be told.\r\n\r\n");
    }
    if (composer->wording->why != NULL) {
        put_paragraph(composer, composer->wording->why, 0);
        draft_string(draft, "\r\n");
    }
    put_paragraph(composer, about_original(composer), 0);
}

/* --- for programs --- */

/* "addr-type; address" of an ORCPT (RFC 3461 4.2). */
static void put_original_recipient(struct draft *draft, struct bytes orcpt)
{
    uint8_t decoded[DECODED_MAX];
    size_t semicolon = bytes_find(orcpt, ';');
    struct bytes address = original_recipient(orcpt, decoded);
    if (address.len == 0)
        return;
    draft_string(draft, "Original-Recipient: ");
    draft_clean(draft, bytes_slice(orcpt, 0, semicolon));
    draft_string(draft, "; ");
    draft_clean(draft, address);
    draft_string(draft, "\r\n");
}

/* The fields about one recipient (RFC 3464 2.3). */
static void put_recipient(struct composer *composer, const struct bounce_recipient *recipient)
{
    const struct bounce *bounce = composer->bounce;
    const struct verdict *verdict = recipient->verdict;
    struct reply_status status = status_of(bounce->action, verdict);
    struct draft *draft = &composer->draft;

    draft_string(draft, "\r\n");
    put_original_recipient(draft, recipient->orcpt);
    draft_string(draft, is_ascii(recipient->forward_path) ? "Final-Recipient: rfc822; "
                                                          : "Final-Recipient: utf-8; ");
    draft_clean(draft, recipient->forward_path);
    draft_string(draft, "\r\nAction: ");
    draft_string(draft, composer->wording->action);
    draft_string(draft, "\r\nStatus: ");
    draft_number(draft, status.class);
    draft_string(draft, ".");
    draft_number(draft, status.subject);
    draft_string(draft, ".");
    draft_number(draft, status.detail);
    draft_string(draft, "\r\n");
    if (recipient->peer[0] != '\0')
        put_remote(draft, recipient->peer);
    if (verdict->code != 0) {
        draft_string(draft, "Diagnostic-Code: smtp; ");
        put_code(draft, verdict);
        draft_words(draft, bytes_of_string(verdict->text), 33, 1);
        draft_string(draft, "\r\n");
    } else if (verdict->text[0] != '\0') {
        draft_string(draft, "Diagnostic-Code: x-ringmx; ");
        draft_words(draft, bytes_of_string(verdict->text), 27, 1);
        draft_string(draft, "\r\n");
    }
    draft_string(draft, "Last-Attempt-Date: ");
    draft_date(draft, bounce->now_us);
    draft_string(draft, "\r\n");
    if (bounce->action == BOUNCE_DELAYED) {
        draft_string(draft, "Will-Retry-Until: ");
        draft_date(draft, bounce->retry_until_us);
        draft_string(draft, "\r\n");
    }
}

/* What was asked for (RFC 2852, RFC 4865). */
static void put_terms(struct draft *draft, const struct envelope_terms *terms)
{
    char text[32] = "";
    time_t release = (time_t)terms->release_s;
    struct tm utc;
    if (terms->by_s != 0) {
        draft_string(draft, "Deliver-By-Date: ");
        draft_date(draft, (uint64_t)terms->by_s * 1000000);
        draft_string(draft, "\r\n");
    }
    if (terms->release_s == 0 || gmtime_r(&release, &utc) == NULL)
        return;
    draft_string(draft, "Future-Release-Request: ");
    if (terms->hold_s != 0)
        snprintf(text, sizeof text, "for;%u", terms->hold_s);
    else
        strftime(text, sizeof text, "until;%Y-%m-%dT%H:%M:%SZ", &utc);
    draft_string(draft, text);
    draft_string(draft, "\r\n");
}

static void put_part_for_programs(struct composer *composer)
{
    const struct bounce *bounce = composer->bounce;
    struct draft *draft = &composer->draft;
    uint8_t decoded[DECODED_MAX];
    draft_string(draft, "Content-Description: Delivery report\r\n");
    draft_string(draft, draft->utf8 ? "Content-Type: message/global-delivery-status\r\n"
                                      "Content-Transfer-Encoding: 8bit\r\n\r\n"
                                    : "Content-Type: message/delivery-status\r\n\r\n");
    /* Of the message (RFC 3464 2.2). */
    struct bytes envid = decode(bounce->envelope->envid, false, decoded);
    if (!is_blank(envid)) {
        draft_string(draft, "Original-Envelope-Id: ");
        draft_clean(draft, envid);
        draft_string(draft, "\r\n");
    }
    draft_string(draft, "Reporting-MTA: dns; ");
    draft_clean(draft, bytes_of_string(bounce->hostname));
    draft_string(draft, "\r\nArrival-Date: ");
    draft_date(draft, bounce->envelope->arrival_us);
    draft_string(draft, "\r\n");
    put_terms(draft, &bounce->envelope->terms);
    for (uint32_t i = 0; i < bounce->recipient_count && draft->error == 0; i++)
        put_recipient(composer, &bounce->recipients[i]);
}

/* --- the original --- */

static int put_part_of_original(struct composer *composer, const struct delivery_text *text)
{
    const struct original *original = &composer->original;
    const struct envelope *envelope = composer->bounce->envelope;
    struct draft *draft = &composer->draft;
    /* Fields in UTF-8 are lawful only in a message that came with SMTPUTF8 (RFC 6532 3.7). */
    bool global = (envelope->flags & ENVELOPE_SMTPUTF8) != 0 && original->header_eight_bit;

    if (original->form == ORIGINAL_WHOLE) {
        draft_string(draft, "Content-Description: Undelivered message\r\n");
        draft_string(draft, global ? "Content-Type: message/global\r\n"
                                   : "Content-Type: message/rfc822\r\n");
        if (original->eight_bit)
            draft_string(draft, "Content-Transfer-Encoding: 8bit\r\n");
    } else {
        draft_string(draft, "Content-Description: Header of the message\r\n");
        draft_string(draft, global ? "Content-Type: message/global-headers\r\n"
                                   : "Content-Type: text/rfc822-headers\r\n");
        if (original->quoted)
            draft_string(draft, "Content-Transfer-Encoding: quoted-printable\r\n");
    }
    draft_string(draft, "\r\n");
    return original_write(original, envelope->added, text, draft);
}

/* --- all of it --- */

static void put_boundary(struct composer *composer, const char *end)
{
    draft_string(&composer->draft, "\r\n--");
    draft_string(&composer->draft, composer->original.boundary);
    draft_string(&composer->draft, end);
}

static void put_header(struct composer *composer)
{
    const struct bounce *bounce = composer->bounce;
    struct draft *draft = &composer->draft;
    struct bytes hostname = bytes_of_string(bounce->hostname);
    draft_string(draft, "From: Mail Delivery System <MAILER-DAEMON@");
    draft_clean(draft, hostname);
    draft_string(draft, ">\r\nTo: <");
    draft_clean(draft, bounce->envelope->reverse_path);
    draft_string(draft, ">\r\nSubject: ");
    draft_string(draft, composer->wording->subject);
    draft_string(draft, "\r\nDate: ");
    draft_date(draft, bounce->now_us);
    draft_string(draft, "\r\nMessage-ID: <");
    draft_clean(draft, bytes_of_string(bounce->id));
    draft_string(draft, "@");
    draft_clean(draft, hostname);
    draft_string(draft, ">\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
                        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                        " boundary=\"");
    draft_string(draft, composer->original.boundary);
    draft_string(draft, "\"\r\n");
    if (draft->utf8 || composer->original.eight_bit)
        draft_string(draft, "Content-Transfer-Encoding: 8bit\r\n");
    draft_string(draft, "\r\nThis is a delivery report in MIME format.\r\n");
}

/* needs_utf8: is there an address that is not ASCII (RFC 6533)? */
static bool needs_utf8(const struct bounce *bounce)
{
    bool needed = !is_ascii(bounce->envelope->reverse_path);
    for (uint32_t i = 0; i < bounce->recipient_count && !needed; i++)
        needed = !is_ascii(bounce->recipients[i].forward_path) ||
                 is_utf8_type(bounce->recipients[i].orcpt);
    return needed;
}

int bounce_write(const struct bounce *bounce, const struct delivery_text *text,
                 int (*out)(void *user, struct bytes piece), void *user)
{
    const struct envelope *envelope = bounce->envelope;
    struct composer composer = {
        .draft = {.out = out, .user = user, .utf8 = needs_utf8(bounce)},
        .bounce = bounce,
        .wording = &wordings[bounce->action]
    };
    /* RET speaks of failures only (RFC 3461 4.3). A report that may travel in clear has nothing of
     * a message that may not (RFC 8689 5). */
    bool whole = bounce->action == BOUNCE_FAILED && (envelope->flags & ENVELOPE_RET_HDRS) == 0 &&
                 envelope->text_len + envelope->added.len <= bounce->original_max;
    if ((envelope->flags & ENVELOPE_REQUIRETLS) != 0)
        text = NULL;
    int error = original_survey(&composer.original, envelope->added, text, whole, bounce->id);
    if (error != 0)
        return error;
    put_header(&composer);
    put_boundary(&composer, "\r\n");
    put_part_for_people(&composer);
    put_boundary(&composer, "\r\n");
    put_part_for_programs(&composer);
    if (composer.original.form != ORIGINAL_NONE) {
        put_boundary(&composer, "\r\n");
        error = put_part_of_original(&composer, text);
    }
    put_boundary(&composer, "--\r\n");
    int out_error = draft_end(&composer.draft);
    return error != 0 ? error : out_error;
}
