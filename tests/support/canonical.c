/* The model of relaxed canonicalization: see canonical.h. */
#include "tests/support/canonical.h"

#include <stdlib.h>

#include "gateway/base/check.h"

void canonical_take(void *user, struct bytes piece)
{
    struct canonical *canonical = user;
    if (canonical->len + piece.len > canonical->room) {
        canonical->room = 2 * (canonical->len + piece.len);
        canonical->text = realloc(canonical->text, canonical->room);
        CHECK(canonical->text != NULL);
    }
    if (piece.len > 0)
        memcpy(canonical->text + canonical->len, piece.data, piece.len);
    canonical->len += piece.len;
}

void canonical_free(struct canonical *canonical)
{
    free(canonical->text);
    *canonical = (struct canonical){0};
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* a: white space at the end of a line goes, other white space becomes one space. */
static void add_line(struct bytes line, struct canonical *out)
{
    while (line.len > 0 && is_space(line.data[line.len - 1]))
        line.len--;
    for (size_t i = 0; i < line.len; i++)
        if (!is_space(line.data[i]))
            canonical_take(out, bytes_slice(line, i, i + 1));
        else if (!is_space(line.data[i + 1]))
            canonical_take(out, BYTES(" "));
    canonical_take(out, BYTES("\r\n"));
}

void canonical_body(struct bytes body, struct canonical *out)
{
    size_t begun = out->len, start = 0;
    for (size_t at = 0; at + 1 < body.len; at++)
        if (body.data[at] == '\r' && body.data[at + 1] == '\n') {
            add_line(bytes_slice(body, start, at), out);
            start = at + 2;
        }
    if (start < body.len)
        add_line(bytes_slice(body, start, body.len), out);
    /* b: empty lines at the end go. */
    while (out->len - begun >= 2 && memcmp(out->text + out->len - 2, "\r\n", 2) == 0 &&
           (out->len - begun == 2 ||
            (out->len - begun >= 4 && memcmp(out->text + out->len - 4, "\r\n", 2) == 0)))
        out->len -= 2;
}
