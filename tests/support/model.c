/* The yardstick: see model.h. */
#include "tests/support/model.h"

size_t model_data(struct bytes in, uint8_t *text, size_t *text_len)
{
    size_t at = 0;
    *text_len = 0;
    while (at < in.len) {
        size_t next = at; /* behind the CR LF of this line */
        while (next < in.len && !(in.data[next] == '\n' && next > at && in.data[next - 1] == '\r'))
            next++;
        if (next == in.len)
            return 0;
        next++;
        if (next - at == 3 && in.data[at] == '.')
            return next;
        size_t skip = in.data[at] == '.' ? 1 : 0;
        memcpy(text + *text_len, in.data + at + skip, next - at - skip);
        *text_len += next - at - skip;
        at = next;
    }
    return 0;
}

bool model_has_bare(const uint8_t *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((text[i] == '\r' && (i + 1 == len || text[i + 1] != '\n')) ||
            (text[i] == '\n' && (i == 0 || text[i - 1] != '\r')))
            return true;
    return false;
}

static uint32_t below(uint32_t *random, uint32_t limit)
{
    *random = *random * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)*random * limit >> 32);
}

size_t model_random_data(uint32_t *random, uint8_t *out, size_t len_max, bool bare)
{
    static const char *const pieces[] = {"\r\n", ".", "\r\n.", "\r\n..", "a", "\r\n.a\r\n", ".."};
    static const char *const bad[] = {"\r", "\n", "\r\r\n", "\n.\n", "\r\n.\r", "\r.\r", "\n.\r\n"};
    size_t len = 0;
    size_t wanted = below(random, (uint32_t)len_max);
    while (len < wanted) {
        if (below(random, 3) == 0) {
            size_t run = below(random, below(random, 10) == 0 ? 5000 : 80);
            memset(out + len, 'x', run);
            len += run;
        }
        const char *piece = pieces[below(random, 7)];
        if (bare && below(random, 30) == 0)
            piece = bad[below(random, 7)];
        memcpy(out + len, piece, strlen(piece));
        len += strlen(piece);
    }
    memcpy(out + len, "\r\n.\r\nQUIT\r\n", 11);
    return len + 11;
}
