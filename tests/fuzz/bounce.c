/* Fuzzes notifications: the input says what senders and next hops wrote, and the original. What is
 * composed must be one well-formed report (tests/support/report.c), with the recipients that were
 * given and no others, and the original in it octet for octet. */
#include "gateway/deliver/bounce.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "tests/support/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RECIPIENTS = 3 };

struct input {
    struct bytes rest;
};

static uint8_t take_octet(struct input *input)
{
    uint8_t octet = input->rest.len > 0 ? input->rest.data[0] : 0;
    input->rest = bytes_skip(input->rest, 1);
    return octet;
}

/* A length and as many octets. */
static struct bytes take_string(struct input *input)
{
    size_t len = take_octet(input) % 64;
    if (len > input->rest.len)
        len = input->rest.len;
    struct bytes string = bytes_make(input->rest.data, len);
    input->rest = bytes_skip(input->rest, len);
    return string;
}

static void take_text(struct input *input, char *out, size_t size)
{
    struct bytes string = take_string(input);
    size_t len = string.len < size - 1 ? string.len : size - 1;
    if (len > 0)
        memcpy(out, string.data, len);
    out[len] = '\0';
}

/* What goes back is what came, or its beginning. */
static void check_original(const struct report *report, const struct envelope *envelope,
                           struct bytes text)
{
    const struct report_part *part = &report->parts[2];
    uint8_t *unquoted = malloc(part->content.len + 1);
    uint8_t *all = malloc(envelope->added.len + text.len + 1);
    CHECK(unquoted != NULL && all != NULL);
    struct bytes content = part->content;
    struct bytes encoding = report_field(part->header, "Content-Transfer-Encoding");
    if (bytes_equal(encoding, BYTES("quoted-printable")))
        content = bytes_make(unquoted, report_unquote(content, unquoted));
    memcpy(all, envelope->added.data, envelope->added.len);
    if (text.len > 0)
        memcpy(all + envelope->added.len, text.data, text.len);
    struct bytes type = report_field(part->header, "Content-Type");
    bool whole =
        bytes_equal(type, BYTES("message/rfc822")) || bytes_equal(type, BYTES("message/global"));
    CHECK(content.len <= envelope->added.len + text.len);
    CHECK(!whole || content.len == envelope->added.len + text.len);
    CHECK(content.len == 0 || memcmp(content.data, all, content.len) == 0);
    free(unquoted);
    free(all);
}

static void check_report(const struct bounce *bounce, const struct report_source *source,
                         struct bytes out)
{
    static const char *const actions[] = {"failed", "delayed", "relayed", "delivered"};
    struct report report;
    report_read(&report, out);
    CHECK(report.recipient_count == bounce->recipient_count);
    for (uint32_t i = 0; i < bounce->recipient_count; i++)
        CHECK(bytes_equal(report_field(report_group(&report, i), "Action"),
                          bytes_of_string(actions[bounce->action])));
    bool nothing = (bounce->envelope->flags & ENVELOPE_REQUIRETLS) != 0;
    CHECK(report.part_count == (nothing ? 2 : 3));
    if (!nothing)
        check_original(&report, bounce->envelope, source->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {bytes_make(data, size)};
    struct verdict verdicts[RECIPIENTS] = {0};
    struct bounce_recipient recipients[RECIPIENTS];
    char peers[RECIPIENTS][80];
    struct report_source source = {.fail_at = SIZE_MAX};
    uint8_t choices = take_octet(&input), flags = take_octet(&input);
    source.piece = take_octet(&input) + 1u;
    struct envelope envelope = {.flags = flags, .added = BYTES("Received: x\r\n")};
    envelope.reverse_path = take_string(&input);
    envelope.envid = take_string(&input);
    struct bounce bounce = {.action = (enum bounce_action)(choices & 3),
                            .envelope = &envelope,
                            .recipients = recipients,
                            .recipient_count = (uint32_t)(choices >> 2) % RECIPIENTS + 1,
                            .hostname = "mx.example.org",
                            .id = "aerukz4jvpg66",
                            .original_max = (choices & 0x80) != 0 ? 40 : 50000};
    for (uint32_t i = 0; i < bounce.recipient_count; i++) {
        struct verdict *verdict = &verdicts[i];
        verdict->kind = (uint8_t)(VERDICT_DELIVERED + take_octet(&input) % 3);
        verdict->code = (uint16_t)(take_octet(&input) * 3);
        verdict->status.class = take_octet(&input);
        verdict->status.subject = (uint16_t)(take_octet(&input) * 257);
        recipients[i].forward_path = take_string(&input);
        recipients[i].orcpt = take_string(&input);
        take_text(&input, verdict->text, sizeof verdict->text);
        take_text(&input, peers[i], sizeof peers[i]);
        recipients[i].verdict = verdict;
        recipients[i].peer = peers[i];
    }
    source.text = input.rest;
    envelope.text_len = input.rest.len;
    struct delivery_text text = report_text(&source);
    struct bytes out;
    CHECK(report_write(&bounce, &text, &out) == 0);
    check_report(&bounce, &source, out);
    free((void *)(uintptr_t)out.data);
    return 0;
}
