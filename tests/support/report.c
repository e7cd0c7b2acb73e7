/* See report.h. */
#include "tests/support/report.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "parser/header.h"
#include "parser/octet.h"

enum { LINE_MAX_LEN = 998 };

static const char *const message_fields[] = {"From",         "To",          "Subject",
                                             "Date",         "Message-ID",  "Auto-Submitted",
                                             "MIME-Version", "Content-Type"};
static const char *const group_fields[] = {
    "Original-Recipient", "Final-Recipient",   "Action",           "Status", "Remote-MTA",
    "Diagnostic-Code",    "Last-Attempt-Date", "Will-Retry-Until",
};

static bool is(struct bytes text, const char *wanted)
{
    return bytes_equal(text, bytes_of_string(wanted));
}

static bool begins(struct bytes text, struct bytes with)
{
    return text.len >= with.len && bytes_equal(bytes_slice(text, 0, with.len), with);
}

bool report_contains(struct bytes text, const char *wanted)
{
    return memmem(text.data, text.len, wanted, strlen(wanted)) != NULL;
}

static struct bytes trim(struct bytes value)
{
    while (value.len > 0 && (octet_is_space(value.data[0])))
        value = bytes_skip(value, 1);
    while (value.len > 0 && octet_is_space(value.data[value.len - 1]))
        value.len--;
    return value;
}

struct bytes report_field(struct bytes header, const char *name)
{
    struct header_field field;
    size_t used;
    while (header_next(header, &field, &used) == HEADER_FIELD) {
        if (header_is(&field, bytes_of_string(name)))
            return trim(field.value);
        header = bytes_skip(header, used);
    }
    return bytes_make(header.data, 0);
}

/* Lines end in CR LF and nowhere else, none is too long, and what is in them may be there. */
static void check_lines(struct bytes text)
{
    size_t line_len = 0;
    CHECK(text.len >= 2 && text.data[text.len - 2] == '\r' && text.data[text.len - 1] == '\n');
    for (size_t i = 0; i < text.len; i++) {
        CHECK(text.data[i] != '\0');
        CHECK((text.data[i] == '\n') == (i > 0 && text.data[i - 1] == '\r'));
        line_len++;
        if (text.data[i] == '\n') {
            CHECK(line_len <= LINE_MAX_LEN + 2);
            line_len = 0;
        }
    }
}

static bool is_seven_bit(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] > 127)
            return false;
    return true;
}

/* What is ours has no control octets, and only whole characters. */
static void check_clean(struct bytes text)
{
    for (size_t i = 0; i < text.len;) {
        uint8_t c = text.data[i];
        size_t len = c < 128 ? 1 : octet_utf8_len(bytes_skip(text, i));
        CHECK(len > 0 && ((c >= ' ' && c != 127) || c == '\r' || c == '\n'));
        i += len;
    }
}

/* Splits at the empty line. */
static void split_header(struct bytes text, struct bytes *header, struct bytes *content)
{
    const uint8_t *end = memmem(text.data, text.len, "\r\n\r\n", 4);
    CHECK(end != NULL);
    *header = bytes_make(text.data, (size_t)(end - text.data) + 2);
    *content = bytes_skip(text, header->len + 2);
}

/* Each field of `header` is one of `names`, in that order, each once at most; returns how many. */
static uint32_t check_fields(struct bytes header, const char *const *names, size_t name_count)
{
    struct header_field field;
    size_t used, name = 0;
    uint32_t count = 0;
    for (; header.len > 0; header = bytes_skip(header, used)) {
        CHECK(header_next(header, &field, &used) == HEADER_FIELD);
        while (name < name_count && !is(field.name, names[name]))
            name++;
        CHECK(name++ < name_count);
        CHECK(trim(field.value).len > 0);
        count++;
    }
    return count;
}

static void check_message_header(struct report *report)
{
    static const char *const names[] = {
        "From",         "To",           "Subject",
        "Date",         "Message-ID",   "Auto-Submitted",
        "MIME-Version", "Content-Type", "Content-Transfer-Encoding"};
    CHECK(check_fields(report->header, names, 9) >= 8);
    for (size_t i = 0; i < sizeof message_fields / sizeof *message_fields; i++)
        CHECK(report_field(report->header, message_fields[i]).len > 0);
    CHECK(is(report_field(report->header, "Auto-Submitted"), "auto-replied"));
    CHECK(is(report_field(report->header, "MIME-Version"), "1.0"));
}

/* The parts between the boundaries; a boundary stands where it must, and nowhere else. */
static void split_parts(struct report *report, struct bytes body)
{
    char delimiter[100];
    struct bytes type = report_field(report->header, "Content-Type");
    const uint8_t *at = memmem(type.data, type.len, "boundary=\"", 10);
    CHECK(begins(type, BYTES("multipart/report; report-type=delivery-status;")) && at != NULL);
    struct bytes boundary = bytes_skip(type, (size_t)(at - type.data) + 10);
    boundary.len = bytes_find(boundary, '"');
    CHECK(boundary.len > 0 && boundary.len <= 70);
    size_t len = boundary.len + 4;
    memcpy(delimiter, "\r\n--", 4);
    memcpy(delimiter + 4, boundary.data, boundary.len);
    const uint8_t *begin = memmem(body.data, body.len, delimiter, len);
    CHECK(begin != NULL);
    for (bool last = false; !last;) {
        struct bytes rest = bytes_skip(body, (size_t)(begin - body.data) + len);
        CHECK(begins(rest, BYTES("\r\n")) && report->part_count < REPORT_PARTS_MAX);
        const uint8_t *end = memmem(rest.data, rest.len, delimiter, len);
        CHECK(end != NULL);
        struct report_part *part = &report->parts[report->part_count++];
        split_header(bytes_slice(rest, 2, (size_t)(end - rest.data) + 2), &part->header,
                     &part->content);
        CHECK(part->content.len >= 2);
        part->content.len -= 2;
        struct bytes behind = bytes_skip(rest, (size_t)(end - rest.data) + len);
        last = begins(behind, BYTES("--"));
        CHECK(!last || is(behind, "--\r\n"));
        begin = end;
    }
    CHECK(report->part_count >= 2);
}

static void check_part(const struct report *report, const struct report_part *part)
{
    static const char *const names[] = {"Content-Description", "Content-Type",
                                        "Content-Transfer-Encoding"};
    CHECK(check_fields(part->header, names, 3) >= 2 && is_seven_bit(part->header));
    struct bytes encoding = report_field(part->header, "Content-Transfer-Encoding");
    struct bytes outer = report_field(report->header, "Content-Transfer-Encoding");
    CHECK(is_seven_bit(part->content) || (is(encoding, "8bit") && is(outer, "8bit")));
    if (is(encoding, "quoted-printable"))
        for (struct bytes rest = part->content; rest.len > 0;) {
            size_t line = bytes_find(rest, '\n');
            CHECK(line <= 77);
            rest = bytes_skip(rest, line + 1);
        }
}

/* The groups of fields of the part for programs (RFC 3464 2.1). */
static void check_groups(struct report *report)
{
    static const char *const names[] = {"Original-Envelope-Id", "Reporting-MTA", "Arrival-Date",
                                        "Deliver-By-Date", "Future-Release-Request"};
    struct bytes rest = report->parts[1].content;
    for (bool first = true; rest.len > 0; first = false) {
        const uint8_t *end = memmem(rest.data, rest.len, "\r\n\r\n", 4);
        size_t len = end == NULL ? rest.len : (size_t)(end - rest.data) + 2;
        struct bytes group = bytes_slice(rest, 0, len);
        if (first) {
            CHECK(check_fields(group, names, 5) >= 2);
            CHECK(begins(report_field(group, "Reporting-MTA"), BYTES("dns; ")));
        } else {
            CHECK(check_fields(group, group_fields, 8) >= 4);
            CHECK(report_field(group, "Final-Recipient").len > 0 &&
                  report_field(group, "Action").len > 0 && report_field(group, "Status").len > 0);
            report->recipient_count++;
        }
        rest = bytes_skip(rest, end == NULL ? len : len + 2);
    }
}

void report_read(struct report *report, struct bytes text)
{
    struct bytes body;
    *report = (struct report){.text = text};
    check_lines(text);
    split_header(text, &report->header, &body);
    check_clean(report->header);
    check_message_header(report);
    split_parts(report, body);
    for (uint32_t i = 0; i < report->part_count; i++)
        check_part(report, &report->parts[i]);
    check_clean(report->parts[0].content);
    check_clean(report->parts[1].content);
    check_groups(report);
}

struct bytes report_group(const struct report *report, uint32_t index)
{
    struct bytes rest = report->parts[1].content;
    for (uint32_t i = 0; i <= index; i++) {
        const uint8_t *end = memmem(rest.data, rest.len, "\r\n\r\n", 4);
        CHECK(end != NULL);
        rest = bytes_skip(rest, (size_t)(end - rest.data) + 4);
    }
    const uint8_t *end = memmem(rest.data, rest.len, "\r\n\r\n", 4);
    return end == NULL ? rest : bytes_slice(rest, 0, (size_t)(end - rest.data) + 2);
}

size_t report_unquote(struct bytes in, uint8_t *out)
{
    size_t len = 0;
    for (size_t i = 0; i < in.len; i++) {
        if (in.data[i] != '=') {
            out[len++] = in.data[i];
            continue;
        }
        CHECK(in.len - i >= 3);
        unsigned high = octet_hex_value(in.data[i + 1]), low = octet_hex_value(in.data[i + 2]);
        if (in.data[i + 1] != '\r') {
            CHECK(high < 16 && low < 16);
            out[len++] = (uint8_t)(high * 16 + low);
        }
        i += 2;
    }
    return len;
}

/* --- what goes in --- */

static int next(void *user, struct bytes *piece)
{
    struct report_source *source = user;
    size_t left = source->text.len - source->at;
    size_t len = left < source->piece ? left : source->piece;
    if (source->fail_at < source->at + len || (len == 0 && source->fail_at <= source->at))
        return -EBADMSG;
    *piece = bytes_make(source->text.data + source->at, len);
    source->at += len;
    return 0;
}

static int start_again(void *user)
{
    struct report_source *source = user;
    source->at = 0;
    source->passes++;
    return 0;
}

struct delivery_text report_text(struct report_source *source)
{
    if (source->piece == 0)
        source->piece = 1000;
    return (struct delivery_text){next, start_again, source};
}

/* --- what comes out --- */

struct sink {
    uint8_t *data;
    size_t len, capacity;
};

static int append(void *user, struct bytes piece)
{
    struct sink *sink = user;
    CHECK(piece.len > 0);
    if (sink->len + piece.len > sink->capacity) {
        sink->capacity = 2 * (sink->len + piece.len);
        sink->data = realloc(sink->data, sink->capacity);
        CHECK(sink->data != NULL);
    }
    memcpy(sink->data + sink->len, piece.data, piece.len);
    sink->len += piece.len;
    return 0;
}

int report_write(const struct bounce *bounce, const struct delivery_text *text, struct bytes *out)
{
    struct sink sink = {0};
    int error = bounce_write(bounce, text, append, &sink);
    *out = bytes_make(sink.data, sink.len);
    return error;
}
