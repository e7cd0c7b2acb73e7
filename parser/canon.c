/* Relaxed canonicalization: see canon.h. What is canonical as it stands is given out in runs as
 * long as the input allows: words with one space between them, lines that end in CR LF. */
#include "parser/canon.h"

#include "parser/octet.h"

static const struct bytes line_end = BYTES("\r\n");
static const struct bytes one_space = BYTES(" ");

enum { NAME_PIECE = 64 };

/* --- bodies --- */

/* give_held gives out what was held back, now that something follows in the same line: empty lines,
 * and white space as one space. */
static void give_held(struct canon_body *body, canon_take *take, void *user)
{
    for (; body->lines_empty > 0; body->lines_empty--)
        take(user, line_end);
    if (body->space)
        take(user, one_space);
    body->space = false;
    body->in_line = true;
}

/* end_line: white space at its end is nothing, and a line of nothing waits. */
static void end_line(struct canon_body *body, canon_take *take, void *user)
{
    body->space = false;
    if (body->in_line)
        take(user, line_end);
    else
        body->lines_empty++;
    body->in_line = false;
}

static bool is_plain(uint8_t c)
{
    return c > ' ' || (c != ' ' && c != '\t' && c != '\r');
}

/* Octets that are looked at together, where the compiler has vectors of them: nearly everywhere. */
typedef uint8_t octets __attribute__((vector_size(16)));
enum { BLOCK = sizeof(octets) };

/* block_is_canonical looks at BLOCK octets and the one behind them: no run ends here. White space
 * is one space, CR LF ends a line, and behind both comes what is neither white space nor CR. */
static bool block_is_canonical(const uint8_t *at)
{
    octets c, next;
    uint64_t words[BLOCK / sizeof(uint64_t)];
    memcpy(&c, at, BLOCK);
    memcpy(&next, at + 1, BLOCK);
    octets before = (octets)(c == ' ') | (octets)(c == '\n');
    octets behind = (octets)(next == ' ') | (octets)(next == '\t') | (octets)(next == '\r');
    octets ends =
        (octets)(c == '\t') | (before & behind) | ((octets)(c == '\r') & (octets)(next != '\n'));
    memcpy(words, &ends, BLOCK);
    return (words[0] | words[1]) == 0;
}

/* skip_blocks returns where the run that has come to `at` surely has come to. */
static size_t skip_blocks(struct bytes text, size_t at)
{
    while (text.len - at > BLOCK && block_is_canonical(text.data + at)) {
        at += BLOCK;
        at -= text.data[at - 1] == '\r'; /* what is behind its LF has not been looked at */
    }
    return at;
}

/* run_end returns where the canonical text ends that begins at `at` with a plain octet: before
 * white space that is not one space within a line, before a CR that is not that of CR LF, after a
 * CR LF behind which the next line does not begin with a plain octet. */
static size_t run_end(struct bytes text, size_t at, bool *in_line)
{
    size_t looked = at; /* before this no block is worth another look */
    *in_line = true;
    for (;;) {
        if (at >= looked) {
            at = skip_blocks(text, at);
            looked = at + BLOCK;
        }
        while (at < text.len && is_plain(text.data[at]))
            at++;
        size_t left = text.len - at;
        bool space = left >= 2 && text.data[at] == ' ' && is_plain(text.data[at + 1]);
        bool ends = left >= 2 && text.data[at] == '\r' && text.data[at + 1] == '\n';
        if (!space && !ends)
            return at;
        at += space ? 1 : 2;
        if (ends && (at == text.len || !is_plain(text.data[at]))) {
            *in_line = false;
            return at;
        }
    }
}

void canon_body_text(struct canon_body *body, struct bytes text, canon_take *take, void *user)
{
    size_t at = 0;
    while (at < text.len) {
        uint8_t c = text.data[at];
        if (body->after_cr) {
            body->after_cr = false;
            if (c == '\n') {
                end_line(body, take, user);
                at++;
                continue;
            }
            give_held(body, take, user); /* a CR of its own is text */
            take(user, BYTES("\r"));
        }
        if (is_plain(c)) {
            size_t start = at;
            bool in_line;
            give_held(body, take, user);
            at = run_end(text, at, &in_line);
            take(user, bytes_slice(text, start, at));
            body->in_line = in_line;
            continue;
        }
        body->space = body->space || c != '\r';
        body->after_cr = c == '\r';
        at++;
    }
}

void canon_body_end(struct canon_body *body, canon_take *take, void *user)
{
    if (body->after_cr) {
        give_held(body, take, user);
        take(user, BYTES("\r"));
    }
    if (body->in_line) /* the last line gets an end if it has none (RFC 6376 3.4.4) */
        take(user, line_end);
    *body = (struct canon_body){0};
}

/* --- header fields --- */

static bool is_folding(uint8_t c)
{
    return octet_is_space(c) || c == '\r' || c == '\n';
}

static void give_name(struct bytes name, canon_take *take, void *user)
{
    uint8_t lower[NAME_PIECE];
    for (size_t at = 0; at < name.len; at += NAME_PIECE) {
        size_t len = name.len - at < NAME_PIECE ? name.len - at : NAME_PIECE;
        for (size_t i = 0; i < len; i++)
            lower[i] = byte_lower(name.data[at + i]);
        take(user, bytes_make(lower, len));
    }
}

void canon_field(struct bytes name, struct bytes value, bool ended, canon_take *take, void *user)
{
    size_t at = 0;
    bool begun = false;
    give_name(name, take, user);
    take(user, BYTES(":"));
    while (at < value.len) {
        while (at < value.len && is_folding(value.data[at]))
            at++;
        size_t start = at;
        while (at < value.len && !is_folding(value.data[at]))
            at++;
        if (at > start && begun)
            take(user, one_space);
        if (at > start)
            take(user, bytes_slice(value, start, at));
        begun = true;
    }
    if (ended)
        take(user, line_end);
}
