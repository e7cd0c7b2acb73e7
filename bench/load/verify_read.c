/* One stored message: its id, and whether it is whole. Lines end as the store has them; the sum is
 * that of the body with CRLF, as it was sent. */
#include "bench/load/verify.h"
#include "gateway/spool/crc.h"

#include <string.h>
#include <strings.h>

static const char id_name[] = "X-Load-Id:", sum_name[] = "X-Load-Sum:";

/* A part of the message. */
struct span {
    const char *data;
    size_t len;
};

/* line_take takes the first line off `rest`; it comes without its end. */
static struct span line_take(struct span *rest)
{
    const char *newline = memchr(rest->data, '\n', rest->len);
    struct span line = {rest->data, newline != NULL ? (size_t)(newline - rest->data) : rest->len};
    size_t taken = line.len + (newline != NULL);
    rest->data += taken;
    rest->len -= taken;
    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    return line;
}

/* field_take sets the value when the line is this field, and none was before. */
static void field_take(struct span line, const char *name, struct span *value)
{
    size_t name_len = strlen(name);
    if (value->data != NULL || line.len < name_len || strncasecmp(line.data, name, name_len) != 0)
        return;
    *value = (struct span){line.data + name_len, line.len - name_len};
    for (; value->len > 0 && (*value->data == ' ' || *value->data == '\t'); value->len--)
        value->data++;
    while (value->len > 0 &&
           (value->data[value->len - 1] == ' ' || value->data[value->len - 1] == '\t'))
        value->len--;
}

/* sum_of is zlib's CRC-32 of the text, as if each line ended in CRLF. Stretches that already do are
 * taken as a whole. */
static uint32_t sum_of(struct span text)
{
    uint32_t sum = 0;
    size_t start = 0;
    for (size_t at = 0; at < text.len;) {
        const char *newline = memchr(text.data + at, '\n', text.len - at);
        if (newline == NULL)
            break;
        size_t end = (size_t)(newline - text.data);
        at = end + 1;
        if (end > 0 && text.data[end - 1] == '\r')
            continue;
        sum = crc32(crc32(sum, text.data + start, end - start), "\r\n", 2);
        start = at;
    }
    return crc32(sum, text.data + start, text.len - start);
}

/* sum_says tells whether the field's value is this sum, in eight hexadecimal digits. */
static bool sum_says(struct span value, uint32_t sum)
{
    static const char digits[] = "0123456789abcdef";
    uint32_t said = 0;
    for (size_t i = 0; i < value.len; i++) {
        const char *digit = memchr(digits, value.data[i], 16);
        if (digit == NULL)
            return false;
        said = said << 4 | (uint32_t)(digit - digits);
    }
    return value.len == 8 && said == sum;
}

void verify_read(const uint8_t *message, size_t len, struct verify_found *found)
{
    struct span rest = {(const char *)message, len};
    struct span id = {NULL, 0}, sum = {NULL, 0};
    while (rest.len > 0) {
        struct span line = line_take(&rest);
        if (line.len == 0)
            break;
        field_take(line, id_name, &id);
        field_take(line, sum_name, &sum);
    }
    found->id = id.len > 0 && id.len <= VERIFY_ID_MAX ? id.data : NULL;
    found->id_len = id.len;
    found->sum = sum_of(rest);
    found->whole = sum_says(sum, found->sum);
}
