/* Fuzzes the header functions: the first two octets say where the text is cut, the rest is a
 * message. The watch must come to the same by pieces as at once, and both to what header_next finds
 * in the whole. */
#include "parser/header.h"

#include "gateway/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool ends_line(struct bytes whole)
{
    return whole.len >= 2 && memcmp(whole.data + whole.len - 2, "\r\n", 2) == 0;
}

static void check_field(const struct header_field *field, struct bytes rest, size_t used)
{
    CHECK(field->whole.data == rest.data && field->whole.len == used);
    CHECK(used > 0 && used <= rest.len);
    CHECK(field->name.data == rest.data && field->name.len > 0);
    for (size_t i = 0; i < field->name.len; i++)
        CHECK(field->name.data[i] > ' ' && field->name.data[i] < 127 && field->name.data[i] != ':');
    CHECK(field->value.data[-1] == ':' && field->value.data > field->name.data + field->name.len);
    size_t tail = ends_line(field->whole) ? 2 : 0;
    CHECK(field->value.data + field->value.len + tail == field->whole.data + field->whole.len);
    CHECK(tail == 2 || used == rest.len);
    /* Inside the value every CR LF folds. */
    for (size_t i = 0; i + 1 < field->value.len; i++)
        if (field->value.data[i] == '\r' && field->value.data[i + 1] == '\n')
            CHECK(i + 2 < field->value.len &&
                  (field->value.data[i + 2] == ' ' || field->value.data[i + 2] == '\t'));
    struct header_field again;
    size_t used_again;
    CHECK(header_next(field->whole, &again, &used_again) == HEADER_FIELD && used_again == used);
    CHECK(bytes_equal(again.name, field->name) && bytes_equal(again.value, field->value));
}

/* At the end of text that the watch has not seen the end of, part of a line may still be unjudged.
 */
static void check_watch(const struct header_watch *watch, enum header_result result, bool ended,
                        size_t len, size_t received_count, size_t text_len)
{
    CHECK(watch->received_count == received_count);
    if (watch->ended) {
        CHECK(watch->len == len && (result == HEADER_BAD || ended));
        return;
    }
    CHECK(!ended && watch->len == text_len);
    if (result == HEADER_BAD)
        CHECK(watch->line_len == text_len - len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t step = 1 + data[0] % 32u;
    size_t first = data[1];
    struct bytes text = bytes_make(data + 2, size - 2);

    struct header_field field;
    size_t at = 0;
    size_t used;
    size_t received_count = 0;
    enum header_result result;
    while ((result = header_next(bytes_skip(text, at), &field, &used)) == HEADER_FIELD) {
        check_field(&field, bytes_skip(text, at), used);
        received_count += header_is(&field, BYTES("Received"));
        at += used;
    }
    CHECK(used == (result == HEADER_END && at < text.len ? 2 : 0));
    bool ended = used == 2;
    at += used;

    struct header_watch whole = {0};
    header_watch_text(&whole, text);
    check_watch(&whole, result, ended, at, received_count, text.len);

    struct header_watch pieces = {0};
    for (size_t start = 0, end = first; start < text.len; start = end, end += step) {
        end = end < text.len ? end : text.len;
        header_watch_text(&pieces, bytes_slice(text, start, end));
    }
    CHECK(pieces.ended == whole.ended && pieces.received_count == whole.received_count);
    CHECK(pieces.len == whole.len);
    return 0;
}
