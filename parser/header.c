/* Header fields by RFC 5322 2.2 and 3.6.8, with the obsolete white space before the colon (4.5).
 * header_next reads a section that is complete, header_watch_text one that passes by in pieces;
 * both draw the same line between header section and body, which the tests and the fuzzer hold
 * against each other. */
#include "parser/header.h"

#include "parser/octet.h"

static const char received[] = "received:";
enum { RECEIVED_NAME_LEN = sizeof(received) - 2, NEVER_MATCHES = 255 };

/* header_watch.line_state: what the watch has seen of the present line. */
enum line_state {
    LINE_FIRST = 0, /* nothing of the very first line, which can't be a continuation */
    LINE_START,     /* nothing yet: field, continuation or the empty line */
    LINE_START_CR,  /* a CR: the empty line, if LF follows */
    LINE_NAME,
    LINE_NAME_SPACE, /* white space behind the name: the colon must follow */
    LINE_VALUE,
    LINE_VALUE_CR, /* a CR that ends the line if LF follows */
};

static size_t watch_line(struct header_watch *watch, struct bytes text);
static size_t watch_line_start(struct header_watch *watch, uint8_t c);
static size_t watch_name(struct header_watch *watch, struct bytes text);
static size_t watch_value(struct header_watch *watch, struct bytes text);

/* Returns the index of the first CR LF at `start` or after it, or in.len. */
static size_t find_line_end(struct bytes in, size_t start)
{
    for (size_t at = start; at < in.len; at++) {
        at += bytes_find(bytes_slice(in, at, in.len), '\n');
        if (at < in.len && at > start && in.data[at - 1] == '\r')
            return at - 1;
    }
    return in.len;
}

enum header_result header_next(struct bytes in, struct header_field *field, size_t *used)
{
    *field = (struct header_field){0};
    *used = 0;
    if (in.len == 0)
        return HEADER_END;
    if (in.len >= 2 && in.data[0] == '\r' && in.data[1] == '\n') {
        *used = 2;
        return HEADER_END;
    }
    size_t name_len = 0;
    while (name_len < in.len && octet_is(in.data[name_len], OCTET_FTEXT))
        name_len++;
    size_t colon = name_len;
    while (colon < in.len && octet_is_space(in.data[colon]))
        colon++;
    if (name_len == 0 || colon == in.len || in.data[colon] != ':')
        return HEADER_BAD;
    size_t end = find_line_end(in, colon + 1);
    while (end + 2 < in.len && octet_is_space(in.data[end + 2]))
        end = find_line_end(in, end + 2);
    *used = end < in.len ? end + 2 : in.len;
    field->name = bytes_slice(in, 0, name_len);
    field->value = bytes_slice(in, colon + 1, end);
    field->whole = bytes_slice(in, 0, *used);
    return HEADER_FIELD;
}

void header_watch_text(struct header_watch *watch, struct bytes text)
{
    size_t at = 0;
    while (at < text.len && !watch->ended) {
        struct bytes rest = bytes_slice(text, at, text.len);
        size_t line_len = watch->line_state == LINE_START ? watch_line(watch, rest) : 0;
        if (line_len > 0) {
            at += line_len;
            continue;
        }
        switch ((enum line_state)watch->line_state) {
        case LINE_FIRST:
        case LINE_START:
        case LINE_START_CR: at += watch_line_start(watch, rest.data[0]); break;
        case LINE_NAME:
        case LINE_NAME_SPACE: at += watch_name(watch, rest); break;
        case LINE_VALUE:
        case LINE_VALUE_CR: at += watch_value(watch, rest); break;
        }
    }
}

/* watch_line takes the line of a field, or its continuation, that is all there, as most are: step
 * by step it would cost twice as much. Returns its length, CR LF included; 0: it is none of these,
 * or goes on, and nothing was taken. */
static size_t watch_line(struct header_watch *watch, struct bytes text)
{
    size_t newline = bytes_find(text, '\n');
    if (newline == text.len || newline == 0 || text.data[newline - 1] != '\r')
        return 0;
    if (!octet_is_space(text.data[0])) {
        size_t name_len = 0; /* below newline: CR and LF are no ftext */
        while (octet_is(text.data[name_len], OCTET_FTEXT))
            name_len++;
        if (name_len == 0 || text.data[name_len] != ':')
            return 0;
        if (bytes_equal_nocase(bytes_slice(text, 0, name_len), BYTES("received")))
            watch->received_count++;
    }
    watch->len += newline + 1;
    return newline + 1;
}

/* The present line is no field, so it is the first of the body. */
static void end_before_line(struct header_watch *watch)
{
    watch->ended = true;
    watch->len -= watch->line_len;
}

/* Takes nothing when a name begins: that is watch_name's to judge. */
static size_t watch_line_start(struct header_watch *watch, uint8_t c)
{
    if (watch->line_state == LINE_START_CR) {
        watch->len++;
        watch->line_len++;
        if (c == '\n')
            watch->ended = true;
        else
            end_before_line(watch);
        return 1;
    }
    if (watch->line_state == LINE_START && octet_is_space(c)) {
        watch->line_state = LINE_VALUE;
        watch->len++;
        return 1;
    }
    watch->matched = 0;
    watch->line_len = c == '\r';
    watch->len += watch->line_len;
    watch->line_state = c == '\r' ? LINE_START_CR : LINE_NAME;
    return watch->line_len;
}

static void match_received(struct header_watch *watch, uint8_t c)
{
    if (watch->matched == NEVER_MATCHES)
        return;
    if (watch->matched < RECEIVED_NAME_LEN && byte_lower(c) == (uint8_t)received[watch->matched])
        watch->matched++;
    else
        watch->matched = NEVER_MATCHES;
}

static size_t watch_name(struct header_watch *watch, struct bytes text)
{
    size_t at = 0;
    while (at < text.len && watch->line_state == LINE_NAME && octet_is(text.data[at], OCTET_FTEXT))
        match_received(watch, text.data[at++]);
    watch->len += at;
    watch->line_len += (uint32_t)at;
    if (at == text.len)
        return at;
    uint8_t c = text.data[at];
    if (watch->line_len == 0 || (c != ':' && !octet_is_space(c))) {
        end_before_line(watch);
        return at;
    }
    watch->len++;
    watch->line_len++;
    watch->line_state = c == ':' ? LINE_VALUE : LINE_NAME_SPACE;
    if (c == ':' && watch->matched == RECEIVED_NAME_LEN)
        watch->received_count++;
    return at + 1;
}

static size_t watch_value(struct header_watch *watch, struct bytes text)
{
    size_t at = bytes_find(text, '\n');
    bool after_cr = at == 0 ? watch->line_state == LINE_VALUE_CR : text.data[at - 1] == '\r';
    if (at == text.len) {
        watch->line_state = after_cr ? LINE_VALUE_CR : LINE_VALUE;
        watch->len += at;
        return at;
    }
    watch->line_state = after_cr ? LINE_START : LINE_VALUE;
    watch->len += at + 1;
    return at + 1;
}
