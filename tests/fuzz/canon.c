/* Fuzzes DKIM's relaxed canonicalization: the first two octets say where the text is cut, the rest
 * is a body, and a header section. Cut anywhere, it comes to the same as at once, and as the model
 * says; and what is canonical stays as it is. */
#include "parser/canon.h"

#include "gateway/base/check.h"
#include "parser/header.h"
#include "tests/support/canonical.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void canonicalize(struct bytes text, size_t first, size_t step, struct canonical *out)
{
    struct canon_body body = {0};
    for (size_t start = 0, end = first; start < text.len; start = end, end += step) {
        end = end < text.len ? end : text.len;
        canon_body_text(&body, bytes_slice(text, start, end), canonical_take, out);
    }
    canon_body_end(&body, canonical_take, out);
}

static void check_same(const struct canonical *a, const struct canonical *b)
{
    CHECK(bytes_equal(bytes_make(a->text, a->len), bytes_make(b->text, b->len)));
}

static void check_fields(struct bytes header)
{
    struct header_field field;
    size_t used;
    for (; header_next(header, &field, &used) == HEADER_FIELD; header = bytes_skip(header, used)) {
        struct canonical once = {0}, twice = {0};
        struct header_field again;
        canon_field(field.name, field.value, true, canonical_take, &once);
        CHECK(header_next(bytes_make(once.text, once.len), &again, &used) == HEADER_FIELD);
        CHECK(header_is(&again, field.name) && used == once.len);
        CHECK(again.value.len == 0 || again.value.data[0] != ' ');
        canon_field(again.name, again.value, true, canonical_take, &twice);
        check_same(&once, &twice);
        canonical_free(&once);
        canonical_free(&twice);
        CHECK(header_next(header, &field, &used) == HEADER_FIELD);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct bytes text = bytes_make(data + 2, size - 2);
    struct canonical whole = {0}, pieces = {0}, model = {0}, again = {0};
    canonicalize(text, text.len, 1, &whole);
    canonicalize(text, data[1], 1 + data[0] % 32u, &pieces);
    canonical_body(text, &model);
    canonicalize(bytes_make(whole.text, whole.len), whole.len, 1, &again);
    check_same(&whole, &pieces);
    check_same(&whole, &model);
    check_same(&whole, &again);
    canonical_free(&whole);
    canonical_free(&pieces);
    canonical_free(&model);
    canonical_free(&again);
    check_fields(text);
    return 0;
}
