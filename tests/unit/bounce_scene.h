/* A notification to be composed and looked at: what differs from the usual is set by its test. For
 * the tests of deliver/bounce. */
#ifndef TESTS_UNIT_BOUNCE_SCENE_H
#define TESTS_UNIT_BOUNCE_SCENE_H

#include "gateway/deliver/bounce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/report.h"

static const struct verdict no_user = {
    .kind = VERDICT_REFUSED, .code = 550, .status = {5, 1, 1},
            .text = "No such user here"
};

static const struct bytes added = {(const uint8_t *)"Received: from a by b; now\r\n", 28};

struct scene {
    struct bounce bounce;
    struct envelope envelope;
    struct bounce_recipient recipient;
    struct verdict verdict;
    struct report_source source;
    struct delivery_text text;
    struct bytes out;
    struct report report;
};

static inline void scene_new(struct scene *scene, struct bytes original)
{
    memset(scene, 0, sizeof *scene);
    scene->verdict = no_user;
    scene->recipient = (struct bounce_recipient){.forward_path = BYTES("bob@example.net"),
                                                 .verdict = &scene->verdict,
                                                 .peer = "mx.example.net [192.0.2.1]:25"};
    scene->envelope = (struct envelope){.message_id = 7,
                                        .arrival_us = 1795000000ull * 1000000,
                                        .text_len = original.len,
                                        .recipient_count = 1,
                                        .reverse_path = BYTES("alice@example.org"),
                                        .added = added};
    scene->bounce = (struct bounce){.action = BOUNCE_FAILED,
                                    .envelope = &scene->envelope,
                                    .recipients = &scene->recipient,
                                    .recipient_count = 1,
                                    .hostname = "mx.example.org",
                                    .id = "aerukz4jvpg66",
                                    .now_us = 1795000100ull * 1000000,
                                    .retry_until_us = 1795432000ull * 1000000,
                                    .original_max = 50000};
    scene->source = (struct report_source){.text = original, .fail_at = SIZE_MAX};
    scene->text = report_text(&scene->source);
}

static inline void scene_write(struct scene *scene)
{
    free((void *)(uintptr_t)scene->out.data);
    assert_int_equal(report_write(&scene->bounce, &scene->text, &scene->out), 0);
    report_read(&scene->report, scene->out);
    assert_int_equal(scene->report.recipient_count, scene->bounce.recipient_count);
}

static inline void scene_free(struct scene *scene)
{
    free((void *)(uintptr_t)scene->out.data);
}

static inline bool is(struct bytes text, const char *wanted)
{
    if (bytes_equal(text, bytes_of_string(wanted)))
        return true;
    print_message("\"%.*s\" is not \"%s\"\n", (int)text.len, (const char *)text.data, wanted);
    return false;
}

#define FIELD(header, name, wanted) assert_true(is(report_field(header, name), wanted))

#define ORIGINAL "From: alice@example.org\r\nSubject: hello\r\n\r\nHello, Bob.\r\n"

#endif
