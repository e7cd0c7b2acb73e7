/* The replies of a server, line by line: see reply.h. A line is put together in the struct, since
 * it may come in any number of parts; its text is cleaned as it is taken over. */
#include "parser/reply.h"

#include "parser/octet.h"

enum {
    CODE_LEN = 3,
    CODE_MIN = 200,
    CODE_MAX = 599,
    STATUS_NUMBER_MAX = 3, /* digits of subject and of detail (RFC 3463 2) */
};

void reply_read_begin(struct reply_read *reply)
{
    reply->code = 0;
    reply->status = (struct reply_status){0, 0, 0};
    reply->text_len = reply->line_len = 0;
    reply->line_count = 0;
    reply->last = false;
    reply->text[0] = '\0';
}

/* --- a line --- */

/* read_number takes 1..3 digits from the front of `in`; 0: there are none, or more. */
static size_t read_number(struct bytes in, uint16_t *number)
{
    size_t len = 0;
    *number = 0;
    while (len < in.len && octet_is_digit(in.data[len]) && len <= STATUS_NUMBER_MAX) {
        *number = (uint16_t)(*number * 10 + (in.data[len] - '0'));
        len++;
    }
    return len <= STATUS_NUMBER_MAX ? len : 0;
}

/* status_len tells how many octets an enhanced status and the space behind it have at the front of
 * a line's text (RFC 2034 4); 0: there is none that fits the code. */
static size_t status_len(struct bytes text, uint16_t code, struct reply_status *status)
{
    if (text.len < 5 || text.data[0] != '0' + code / 100 || text.data[1] != '.' || code / 100 == 3)
        return 0;
    size_t subject = read_number(bytes_skip(text, 2), &status->subject);
    size_t at = 2 + subject;
    if (subject == 0 || at >= text.len || text.data[at] != '.')
        return 0;
    size_t detail = read_number(bytes_skip(text, at + 1), &status->detail);
    at += 1 + detail;
    if (detail == 0 || (at < text.len && !octet_is_space(text.data[at])))
        return 0;
    status->class = (uint8_t)(code / 100);
    while (at < text.len && octet_is_space(text.data[at]))
        at++;
    return at;
}

/* printable_len returns the length of the character at the front of `in` if it may be shown as it
 * is, else 0: controls, those of U+0080 to U+009F, too, and what is neither ASCII nor UTF-8. */
static size_t printable_len(struct bytes in)
{
    if (in.data[0] >= ' ' && in.data[0] < 0x7f)
        return 1;
    size_t len = octet_utf8_len(in);
    return len == 2 && in.data[0] == 0xc2 && in.data[1] < 0xa0 ? 0 : len;
}

/* keep_text appends what of a line's text has room, cleaned, never a part of a character. */
static void keep_text(struct reply_read *reply, struct bytes text)
{
    size_t len = reply->text_len;
    if (len > 0 && text.len > 0 && len < REPLY_TEXT_MAX)
        reply->text[len++] = ' ';
    while (text.len > 0) {
        size_t taken = printable_len(text);
        size_t part = taken > 0 ? taken : 1;
        if (len + part > REPLY_TEXT_MAX)
            break;
        if (taken > 0)
            memcpy(reply->text + len, text.data, part);
        else
            reply->text[len] = text.data[0] == '\t' ? ' ' : '?';
        len += part;
        text = bytes_skip(text, part);
    }
    reply->text_len = (uint16_t)len;
    reply->text[len] = '\0';
}

/* read_code returns the code of a line, 0 if it has none. */
static uint16_t read_code(struct bytes line)
{
    unsigned code = 0;
    if (line.len < CODE_LEN)
        return 0;
    for (size_t i = 0; i < CODE_LEN; i++) {
        if (!octet_is_digit(line.data[i]))
            return 0;
        code = code * 10 + (unsigned)(line.data[i] - '0');
    }
    bool separated =
        line.len == CODE_LEN || line.data[CODE_LEN] == ' ' || line.data[CODE_LEN] == '-';
    return separated && code >= CODE_MIN && code <= CODE_MAX ? (uint16_t)code : 0;
}

/* line_done looks at a complete line. False: it is no line of this reply. */
static bool line_done(struct reply_read *reply,
                      void (*line)(void *user, uint32_t index, struct bytes text), void *user)
{
    size_t len = reply->line_len;
    len -= len > 0 && reply->line[len - 1] == '\r';
    struct bytes whole = bytes_make(reply->line, len);
    uint16_t code = read_code(whole);
    if (code == 0 || (reply->line_count > 0 && code / 100 != reply->code / 100))
        return false;
    struct bytes text = bytes_skip(whole, CODE_LEN + 1);
    struct reply_status status = {0, 0, 0};
    size_t skip = status_len(text, code, &status);
    reply->code = code;
    reply->last = len == CODE_LEN || whole.data[CODE_LEN] == ' ';
    if (skip > 0 && reply->status.class == 0)
        reply->status = status;
    if (line != NULL)
        line(user, reply->line_count, text);
    keep_text(reply, bytes_skip(text, skip));
    reply->line_count++;
    reply->line_len = 0;
    return true;
}

/* --- octets --- */

enum reply_result reply_read(struct reply_read *reply, struct bytes in, size_t *taken,
                             void (*line)(void *user, uint32_t index, struct bytes text),
                             void *user)
{
    *taken = 0;
    while (*taken < in.len) { /* each round takes an octet at least */
        struct bytes rest = bytes_skip(in, *taken);
        size_t part = bytes_find(rest, '\n');
        bool whole = part < rest.len;
        if (reply->line_count == REPLY_LINES_MAX || reply->line_len + part > REPLY_LINE_MAX) {
            *taken = in.len;
            return REPLY_BROKEN;
        }
        memcpy(reply->line + reply->line_len, rest.data, part);
        reply->line_len = (uint16_t)(reply->line_len + part);
        *taken += part + whole;
        if (!whole)
            return REPLY_MORE;
        if (!line_done(reply, line, user))
            return REPLY_BROKEN;
        if (reply->last)
            return REPLY_WHOLE;
    }
    return REPLY_MORE;
}
