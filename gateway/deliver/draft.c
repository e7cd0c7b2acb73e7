/* A small buffer before `out`, and the ways of putting something into it. What came from outside
 * passes draft_clean, draft_words or draft_quoted, and none of them lets a line end through that
 * its caller does not expect. */
#include "gateway/deliver/draft.h"

#include <stdio.h>
#include <time.h>

#include "parser/octet.h"

enum { QUOTED_COLUMNS = 75 /* and the "=" of a soft line break (RFC 2045 6.7, rule 5) */ };

static const char blanks[] = "                ";

static void hand_out(struct draft *draft)
{
    if (draft->len > 0 && draft->error == 0)
        draft->error = draft->out(draft->user, bytes_make(draft->buffer, draft->len));
    draft->len = 0;
}

void draft_put(struct draft *draft, struct bytes text)
{
    while (text.len > 0 && draft->error == 0) {
        size_t room = DRAFT_SIZE - draft->len;
        size_t len = text.len < room ? text.len : room;
        memcpy(draft->buffer + draft->len, text.data, len);
        draft->len += (uint32_t)len;
        text = bytes_skip(text, len);
        if (draft->len == DRAFT_SIZE)
            hand_out(draft);
    }
}

void draft_string(struct draft *draft, const char *text)
{
    draft_put(draft, bytes_of_string(text));
}

void draft_number(struct draft *draft, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    draft_string(draft, text);
}

void draft_date(struct draft *draft, uint64_t wall_us)
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm tm;
    char text[64];
    if (gmtime_r(&seconds, &tm) == NULL || tm.tm_year + 1900 > 9999) {
        seconds = 0;
        gmtime_r(&seconds, &tm);
    }
    /* The program never leaves the C locale. */
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S +0000", &tm);
    draft_string(draft, text);
}

/* clean_next takes one character from the front of `text`, not empty, and sets *out to how it is to
 * be shown. */
static size_t clean_next(bool utf8, struct bytes text, struct bytes *out)
{
    uint8_t c = text.data[0];
    size_t len = c < 128 ? 1 : octet_utf8_len(text);
    /* C1 controls (U+0080..U+009F) are no text either. */
    bool printable =
        c < 128 ? c >= ' ' && c != 127 : utf8 && len > 0 && !(c == 0xc2 && text.data[1] < 0xa0);
    if (len == 0 || !utf8)
        len = 1;
    *out = printable ? bytes_slice(text, 0, len) : BYTES("?");
    return len;
}

void draft_clean(struct draft *draft, struct bytes text)
{
    size_t written = 0;
    while (text.len > 0) {
        struct bytes character;
        size_t taken = clean_next(draft->utf8, text, &character);
        written += character.len;
        if (written > DRAFT_WORD_MAX)
            return;
        draft_put(draft, character);
        text = bytes_skip(text, taken);
    }
}

void draft_words(struct draft *draft, struct bytes text, uint32_t column, uint32_t indent)
{
    bool first = true;
    while (text.len > 0) {
        size_t len = 0;
        while (len < text.len && !octet_is_space(text.data[len]))
            len++;
        struct bytes word = bytes_slice(text, 0, len);
        text = bytes_skip(text, len + 1);
        if (word.len == 0)
            continue;
        if (!first && column + 1 + word.len > DRAFT_COLUMNS) {
            draft_string(draft, "\r\n");
            draft_put(draft, bytes_make(blanks, indent < sizeof blanks ? indent : 1));
            column = indent;
        } else if (!first) {
            draft_string(draft, " ");
            column++;
        }
        draft_clean(draft, word);
        column += (uint32_t)word.len;
        first = false;
    }
}

static void soft_break(struct draft *draft, uint32_t needed)
{
    if (draft->column + needed <= QUOTED_COLUMNS)
        return;
    draft_string(draft, "=\r\n");
    draft->column = 0;
}

static void quote_literal(struct draft *draft, uint8_t c)
{
    soft_break(draft, 1);
    draft_put(draft, bytes_make(&c, 1));
    draft->column++;
}

static void quote_encoded(struct draft *draft, uint8_t c)
{
    static const char digits[] = "0123456789ABCDEF";
    char text[3] = {'=', digits[c >> 4], digits[c & 15]};
    soft_break(draft, sizeof text);
    draft_put(draft, bytes_make(text, sizeof text));
    draft->column += (uint32_t)sizeof text;
}

/* A blank may stand as it is unless a line could end behind it; a CR, when a LF follows. */
static void quote_held(struct draft *draft, uint8_t next)
{
    uint8_t held = draft->held;
    draft->held = 0;
    if (held != '\r' && next != '\r' && next != '\n')
        quote_literal(draft, held);
    else
        quote_encoded(draft, held);
}

void draft_quoted(struct draft *draft, struct bytes text)
{
    for (size_t i = 0; i < text.len && draft->error == 0; i++) {
        uint8_t c = text.data[i];
        if (draft->held == '\r' && c == '\n') {
            draft_string(draft, "\r\n");
            draft->held = 0;
            draft->column = 0;
            continue;
        }
        if (draft->held != 0)
            quote_held(draft, c);
        if (octet_is_space(c) || c == '\r')
            draft->held = c;
        else if (c > ' ' && c < 127 && c != '=')
            quote_literal(draft, c);
        else
            quote_encoded(draft, c);
    }
}

void draft_quoted_end(struct draft *draft)
{
    if (draft->held != 0)
        quote_held(draft, '\n');
    draft->column = 0;
}

int draft_end(struct draft *draft)
{
    hand_out(draft);
    return draft->error;
}
