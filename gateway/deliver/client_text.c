/* Text as pieces of loans: see client_text.h. The text has canonical lines (the spool takes no
 * others), so a dot is stuffed exactly where it follows CR LF, or stands first. */
#include "gateway/deliver/client_text.h"

#include "gateway/base/check.h"

#include <errno.h>

enum { LINE_START = 0, LINE_IN = 1, LINE_AFTER_CR = 2 };

enum {
    DENSE_LEN = 1024, /* so much text with more than DENSE_DOTS stuffed dots is copied */
    DENSE_DOTS = 3,
    HEADER_MAX = 256 * 1024,
};

static const char stuffed_dot[] = ".";
static const char end_after_line[] = ".\r\n";
static const char end_in_line[] = "\r\n.\r\n";

int client_text_begin(struct client_text *text, const struct delivery *delivery, bool dots,
                      struct blocks *blocks)
{
    client_text_end(text);
    text->delivery = delivery;
    text->blocks = blocks;
    text->dots = dots;
    text->line = LINE_START;
    text->ended = false;
    text->rest = delivery->head;
    text->left = delivery->size - delivery->head.len;
    if (delivery->size < delivery->head.len)
        return -EBADMSG;
    return delivery->text.rewind(delivery->text.user);
}

void client_text_end(struct client_text *text)
{
    if (text->blocks != NULL)
        blocks_give(text->blocks, text->block);
    text->block = NULL;
}

/* fetch gets the next piece of the source. */
static int fetch(struct client_text *text)
{
    struct bytes piece = {NULL, 0};
    int error = text->delivery->text.next(text->delivery->text.user, &piece);
    if (error != 0)
        return error;
    if (piece.len == 0 || piece.len > text->left)
        return -EBADMSG;
    text->left -= piece.len;
    text->rest = piece;
    return 0;
}

/* line_after tells where a line stands after `part`. */
static uint8_t line_after(uint8_t line, struct bytes part)
{
    if (part.len == 0)
        return line;
    uint8_t last = part.data[part.len - 1];
    if (last == '\r')
        return LINE_AFTER_CR;
    if (last != '\n')
        return LINE_IN;
    bool after_cr = part.len > 1 ? part.data[part.len - 2] == '\r' : line == LINE_AFTER_CR;
    return after_cr ? LINE_START : LINE_IN;
}

/* next_dot finds the first dot of `in` at the start of a line; in.len: there is none. */
static size_t next_dot(uint8_t line, struct bytes in)
{
    if (in.len == 0 || (line == LINE_START && in.data[0] == '.'))
        return 0;
    if (line == LINE_AFTER_CR && in.len > 1 && in.data[0] == '\n' && in.data[1] == '.')
        return 1;
    const uint8_t *at = memmem(in.data, in.len, "\r\n.", 3);
    return at == NULL ? in.len : (size_t)(at - in.data) + 2;
}

static struct iovec piece_of(const void *data, size_t len)
{
    return (struct iovec){(void *)(uintptr_t)data, len};
}

/* take moves `len` octets from the front of the piece in hand to a piece of the window. */
static struct iovec take(struct client_text *text, size_t len)
{
    struct bytes part = bytes_slice(text->rest, 0, len);
    text->line = line_after(text->line, part);
    text->rest = bytes_skip(text->rest, len);
    return piece_of(part.data, len);
}

/* --- many dots --- */

/* dense: the piece in hand begins with many stuffed dots. */
static bool dense(const struct client_text *text)
{
    struct bytes rest = text->rest;
    rest.len = rest.len < DENSE_LEN ? rest.len : DENSE_LEN;
    uint8_t line = text->line;
    for (int dots = 0; dots <= DENSE_DOTS; dots++) {
        size_t at = next_dot(line, rest);
        if (at == rest.len)
            return false;
        rest = bytes_skip(rest, at + 1);
        line = LINE_IN;
    }
    return true;
}

/* copy_stuffed fills the block from the piece in hand. */
static struct iovec copy_stuffed(struct client_text *text)
{
    size_t len = 0;
    while (text->rest.len > 0 && len + 2 <= BLOCK_SIZE) {
        if (text->line == LINE_START && text->rest.data[0] == '.') {
            text->block[len++] = '.';
            text->line = LINE_IN; /* its own dot follows as text */
            continue;
        }
        struct bytes rest = text->rest;
        rest.len = rest.len < BLOCK_SIZE - len ? rest.len : BLOCK_SIZE - len;
        size_t part = next_dot(text->line, rest);
        struct iovec piece = take(text, part);
        memcpy(text->block + len, piece.iov_base, part);
        len += part;
    }
    return piece_of(text->block, len);
}

/* --- windows --- */

/* add_end puts what ends the text behind the pieces. */
static void add_end(struct client_text *text, struct iovec *pieces, uint32_t *count)
{
    text->ended = true;
    if (!text->dots)
        return;
    if (text->line == LINE_START)
        pieces[(*count)++] = piece_of(end_after_line, sizeof(end_after_line) - 1);
    else
        pieces[(*count)++] = piece_of(end_in_line, sizeof(end_in_line) - 1);
}

/* add_text adds the next part of the piece in hand, or a dot to be stuffed before it; returns its
 * length. */
static size_t add_text(struct client_text *text, size_t room, struct iovec *piece)
{
    if (text->dots && text->line == LINE_START && text->rest.data[0] == '.') {
        *piece = piece_of(stuffed_dot, 1);
        text->line = LINE_IN;
        return 1;
    }
    size_t len = text->rest.len < room ? text->rest.len : room;
    if (text->dots)
        len = next_dot(text->line, bytes_slice(text->rest, 0, len));
    *piece = take(text, len);
    return len;
}

int client_text_next(struct client_text *text, struct iovec *pieces, uint32_t *count)
{
    bool source_used =
        text->rest.len > 0 && text->left + text->delivery->head.len < text->delivery->size;
    size_t len = 0;
    CHECK(!text->ended);
    *count = 0;
    if (text->dots && dense(text) && text->block == NULL)
        text->block = blocks_take(text->blocks);
    while (*count < CLIENT_TEXT_PIECES - 1 && len < CLIENT_TEXT_WINDOW) {
        if (text->rest.len == 0) {
            if (text->left == 0 || source_used)
                break; /* another piece would make the one in the window invalid */
            int error = fetch(text);
            if (error != 0)
                return error;
            source_used = true;
        }
        if (text->dots && text->block != NULL && *count == 0 && dense(text)) {
            pieces[(*count)++] = copy_stuffed(text);
            break;
        }
        len += add_text(text, CLIENT_TEXT_WINDOW - len, &pieces[*count]);
        (*count)++;
    }
    if (text->rest.len == 0 && text->left == 0)
        add_end(text, pieces, count);
    return 0;
}

/* --- SMTPUTF8 --- */

/* What a header section is looked through with. */
struct header_look {
    uint8_t line;
    bool ended, foreign;
};

static void look_at(struct header_look *look, struct bytes part)
{
    for (size_t i = 0; i < part.len && !look->ended && !look->foreign; i++) {
        uint8_t octet = part.data[i];
        look->foreign = octet > 127;
        /* An empty line: CR LF where a line starts. A CR keeps the place, as the lines are
         * canonical. */
        look->ended = octet == '\n' && look->line == LINE_START;
        if (octet == '\n')
            look->line = LINE_START;
        else if (octet != '\r')
            look->line = LINE_IN;
    }
}

int client_text_header_ascii(const struct delivery *delivery, bool *ascii)
{
    struct header_look look = {.line = LINE_IN};
    struct bytes piece = delivery->head;
    size_t seen = 0;
    *ascii = false;
    look_at(&look, piece);
    look.line = LINE_START;
    int error = delivery->text.rewind(delivery->text.user);
    while (error == 0 && !look.ended && !look.foreign && seen <= HEADER_MAX) {
        error = delivery->text.next(delivery->text.user, &piece);
        if (error != 0 || piece.len == 0)
            break;
        look_at(&look, piece);
        seen += piece.len;
    }
    *ascii = error == 0 && !look.foreign && (look.ended || seen <= HEADER_MAX);
    return error;
}
