/* Trace fields: see stamp.h. */
#include "gateway/receive/stamp.h"

#include "gateway/base/check.h"
#include "parser/address.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLIENT_NAME_LEN_MAX = 255 };

/* A text under construction. Its room is computed from the limits of its parts, so running out is a
 * bug. */
struct text {
    char *out;
    size_t len;
};

static void add(struct text *text, struct bytes more)
{
    CHECK(text->len + more.len <= STAMP_LEN_MAX);
    if (more.len > 0)
        memcpy(text->out + text->len, more.data, more.len);
    text->len += more.len;
}

static void add_string(struct text *text, const char *more)
{
    add(text, bytes_of_string(more));
}

static void two_digits(char *out, int value)
{
    out[0] = (char)('0' + value / 10);
    out[1] = (char)('0' + value % 10);
}

/* The broken-down form is kept a second, as a busy worker stamps many messages in one. */
void stamp_date(uint64_t wall_us, char out[STAMP_DATE_LEN])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static _Thread_local time_t kept = -1;
    static _Thread_local char date[STAMP_DATE_LEN + 1];
    time_t seconds = (time_t)(wall_us / 1000000);
    if (seconds != kept) {
        struct tm tm;
        gmtime_r(&seconds, &tm);
        memcpy(date, "Ddd, 00 Mmm 0000 00:00:00 +0000", sizeof(date));
        memcpy(date, days + 3 * tm.tm_wday, 3);
        two_digits(date + 5, tm.tm_mday);
        memcpy(date + 8, months + 3 * tm.tm_mon, 3);
        two_digits(date + 12, (tm.tm_year + 1900) / 100);
        two_digits(date + 14, (tm.tm_year + 1900) % 100);
        two_digits(date + 17, tm.tm_hour);
        two_digits(date + 20, tm.tm_min);
        two_digits(date + 23, tm.tm_sec);
        kept = seconds;
    }
    memcpy(out, date, STAMP_DATE_LEN);
}

size_t stamp_peer(const union address_any *peer, char *out)
{
    size_t prefix = 0;
    if (peer->any.sa_family == AF_INET6) {
        memcpy(out, "IPv6:", 5);
        prefix = 5;
        if (inet_ntop(AF_INET6, &peer->v6.sin6_addr, out + 5, STAMP_PEER_LEN - 5) == NULL)
            out[5] = '\0';
    } else {
        const uint8_t *octets = (const uint8_t *)&peer->v4.sin_addr;
        char *at = out;
        for (int i = 0; i < 4; i++) {
            if (octets[i] >= 100)
                *at++ = (char)('0' + octets[i] / 100);
            if (octets[i] >= 10)
                *at++ = (char)('0' + octets[i] / 10 % 10);
            *at++ = (char)('0' + octets[i] % 10);
            *at++ = '.';
        }
        at[-1] = '\0';
        return (size_t)(at - 1 - out);
    }
    return prefix + strlen(out + prefix);
}

/* protocol: HELO inside TLS has no name of its own. */
static const char *protocol(const struct stamp *stamp)
{
    static const char *const names[2][2][2] = {
        [false] = {{"ESMTP", "ESMTPA"},       {"ESMTPS", "ESMTPSA"}      },
        [true] = {{"UTF8SMTP", "UTF8SMTPA"}, {"UTF8SMTPS", "UTF8SMTPSA"}},
    };
    if (!stamp->utf8 && !stamp->extended)
        return "SMTP";
    return names[stamp->utf8][stamp->tls != NULL][stamp->user.len > 0];
}

/* add_name puts what a certificate says into a comment (RFC 5322 3.2.2): only what can't end it, or
 * begin anything. */
static void add_name(struct text *text, const char *name)
{
    for (size_t i = 0; name[i] != '\0' && i < CLIENT_NAME_LEN_MAX; i++) {
        bool plain = name[i] >= ' ' && name[i] <= '~' && strchr("()\\\"", name[i]) == NULL;
        add(text, bytes_make(plain ? &name[i] : "?", 1));
    }
}

static void add_tls(struct text *text, const struct tls_info *tls)
{
    add_string(text, "\r\n\t(using ");
    add_string(text, tls->version);
    add_string(text, " with cipher ");
    add_string(text, tls->cipher);
    add_string(text, ")");
    if (tls->peer_name[0] == '\0')
        return;
    add_string(text, "\r\n\t(client certificate \"");
    add_name(text, tls->peer_name);
    add_string(text, "\" verified)");
}

size_t stamp_received(const struct stamp *stamp, char *out)
{
    struct text text = {out, 0};
    char peer[STAMP_PEER_LEN], date[STAMP_DATE_LEN];
    enum address_domain_kind kind;
    size_t peer_len = stamp_peer(stamp->peer, peer);
    add_string(&text, "Received: from ");
    /* What is no domain goes in nowhere: it could hold anything. UTF-8 only where the message asked
     * for it (RFC 6531 3.7.3). */
    if (address_domain(stamp->helo, stamp->utf8, &kind) == ADDRESS_OK)
        add(&text, stamp->helo);
    else
        add_string(&text, "unknown");
    add_string(&text, " ([");
    add(&text, bytes_make(peer, peer_len));
    add_string(&text, "])");
    if (stamp->tls != NULL)
        add_tls(&text, stamp->tls);
    add_string(&text, "\r\n\tby ");
    add(&text, stamp->hostname);
    add_string(&text, " with ");
    add_string(&text, protocol(stamp));
    add_string(&text, " id ");
    add_string(&text, stamp->id);
    if (stamp->recipient.len > 0) {
        add_string(&text, "\r\n\tfor <");
        add(&text, stamp->recipient);
        add_string(&text, ">");
    }
    if (stamp->priority != 0) { /* RFC 6710: an additional clause of RFC 5321 4.4 */
        char digit[2] = {(char)('0' + abs(stamp->priority)), '\0'};
        add_string(&text, stamp->priority < 0 ? "\r\n\tpriority -" : "\r\n\tpriority ");
        add_string(&text, digit);
    }
    add_string(&text, ";\r\n\t");
    stamp_date(stamp->wall_us, date);
    add(&text, bytes_make(date, sizeof(date)));
    add_string(&text, "\r\n");
    return text.len;
}

/* is_plain: a name that needs no quotes as a pvalue (RFC 8601 2.2): a token, or local-part and
 * domain. What else that could be is not tried. */
static bool is_plain(struct bytes name)
{
    size_t ats = 0;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        bool letter = (uint8_t)(byte_lower(c) - 'a') < 26 || (uint8_t)(c - '0') < 10;
        bool inner = i > 0 && i + 1 < name.len;
        ats += c == '@';
        if (!letter && c != '-' && c != '_' && c != '+' && !(inner && c == '@') &&
            !(inner && c == '.' && name.data[i - 1] != '.' && name.data[i - 1] != '@' &&
              name.data[i + 1] != '@'))
            return false;
    }
    return ats <= 1;
}

static bool is_ascii(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] >= 0x80)
            return false;
    return true;
}

static void add_quoted(struct text *text, struct bytes name)
{
    add_string(text, "\"");
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] == '"' || name.data[i] == '\\')
            add_string(text, "\\");
        add(text, bytes_slice(name, i, i + 1));
    }
    add_string(text, "\"");
}

size_t stamp_results(const struct stamp *stamp, char *out)
{
    struct text text = {out, 0};
    if (!stamp->results || stamp->user.len == 0)
        return 0;
    add_string(&text, "Authentication-Results: ");
    add(&text, stamp->hostname);
    add_string(&text, ";\r\n\tauth=pass (");
    add_string(&text, stamp->mechanism);
    add_string(&text, ")");
    /* A name in UTF-8 has no form in a header section that is none of RFC 6532. */
    if (stamp->utf8 || is_ascii(stamp->user)) {
        add_string(&text, "\r\n\tsmtp.auth=");
        if (is_plain(stamp->user))
            add(&text, stamp->user);
        else
            add_quoted(&text, stamp->user);
    }
    add_string(&text, "\r\n");
    CHECK(text.len <= STAMP_RESULTS_MAX);
    return text.len;
}
