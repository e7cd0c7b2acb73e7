/* Notifications: whom they go to, and what is in them. tests/support/report.c checks the structure
 * of each. */
#include "tests/unit/bounce_scene.h"

#include <errno.h>

#include "parser/command.h"

static void whom_to_tell(void **state)
{
    (void)state;
    const struct bytes alice = BYTES("alice@example.org"), nobody = BYTES("");
    const uint8_t never = COMMAND_NOTIFY_NEVER, success = COMMAND_NOTIFY_SUCCESS,
                  failure = COMMAND_NOTIFY_FAILURE, delay = COMMAND_NOTIFY_DELAY;
    static const enum bounce_action actions[] = {BOUNCE_FAILED, BOUNCE_DELAYED, BOUNCE_RELAYED,
                                                 BOUNCE_DELIVERED};
    for (size_t i = 0; i < 4; i++) {
        for (unsigned notify = 0; notify < 256; notify++)
            assert_false(bounce_wanted(actions[i], (uint8_t)notify, nobody));
        assert_false(bounce_wanted(actions[i], never, alice));
        assert_true(bounce_wanted(actions[i], success | failure | delay, alice));
    }
    assert_true(bounce_wanted(BOUNCE_FAILED, 0, alice));
    assert_true(bounce_wanted(BOUNCE_FAILED, failure, alice));
    assert_false(bounce_wanted(BOUNCE_FAILED, success | delay, alice));
    assert_true(bounce_wanted(BOUNCE_DELAYED, 0, alice));
    assert_true(bounce_wanted(BOUNCE_DELAYED, delay, alice));
    assert_false(bounce_wanted(BOUNCE_DELAYED, success | failure, alice));
    assert_false(bounce_wanted(BOUNCE_RELAYED, 0, alice));
    assert_true(bounce_wanted(BOUNCE_RELAYED, success, alice));
    assert_false(bounce_wanted(BOUNCE_DELIVERED, failure | delay, alice));
    assert_true(bounce_wanted(BOUNCE_DELIVERED, success, alice));
}

static void a_failure(void **state)
{
    (void)state;
    struct scene scene;
    scene_new(&scene, BYTES(ORIGINAL));
    scene.envelope.envid = BYTES("QQ+2B314+3D159");
    scene.recipient.orcpt = BYTES("rfc822;bob+2Btag@example.net");
    scene_write(&scene);
    struct bytes header = scene.report.header;
    FIELD(header, "From", "Mail Delivery System <MAILER-DAEMON@mx.example.org>");
    FIELD(header, "To", "<alice@example.org>");
    FIELD(header, "Date", "Wed, 18 Nov 2026 11:08:20 +0000");
    FIELD(header, "Message-ID", "<aerukz4jvpg66@mx.example.org>");
    FIELD(header, "Subject", "Your message could not be delivered");
    FIELD(header, "Content-Transfer-Encoding", "");
    assert_int_equal(scene.report.part_count, 3);

    struct bytes words = scene.report.parts[0].content;
    FIELD(scene.report.parts[0].header, "Content-Type", "text/plain; charset=us-ascii");
    assert_true(report_contains(words, "Your message of Wed, 18 Nov 2026 11:06:40 +0000\r\n"
                                       "could not be delivered to:\r\n"));
    assert_true(report_contains(words, "  <bob@example.net>\r\n"
                                       "      for <bob+tag@example.net>\r\n"));
    assert_true(report_contains(words, "      mx.example.net [192.0.2.1]:25 said:\r\n"
                                       "      550 5.1.1 No such user here\r\n"));
    assert_true(report_contains(words, "There is no such mailbox"));
    assert_true(report_contains(words, "Your message is attached."));

    struct report_part *status = &scene.report.parts[1];
    FIELD(status->header, "Content-Type", "message/delivery-status");
    FIELD(status->content, "Original-Envelope-Id", "QQ+314=159");
    FIELD(status->content, "Reporting-MTA", "dns; mx.example.org");
    FIELD(status->content, "Arrival-Date", "Wed, 18 Nov 2026 11:06:40 +0000");
    struct bytes group = report_group(&scene.report, 0);
    FIELD(group, "Original-Recipient", "rfc822; bob+tag@example.net");
    FIELD(group, "Final-Recipient", "rfc822; bob@example.net");
    FIELD(group, "Action", "failed");
    FIELD(group, "Status", "5.1.1");
    FIELD(group, "Remote-MTA", "dns; mx.example.net");
    FIELD(group, "Diagnostic-Code", "smtp; 550 5.1.1 No such user here");
    FIELD(group, "Last-Attempt-Date", "Wed, 18 Nov 2026 11:08:20 +0000");
    FIELD(group, "Will-Retry-Until", "");

    FIELD(scene.report.parts[2].header, "Content-Type", "message/rfc822");
    assert_true(is(scene.report.parts[2].content, "Received: from a by b; now\r\n" ORIGINAL));
    scene_free(&scene);
}

static void other_actions(void **state)
{
    (void)state;
    struct scene scene;
    scene_new(&scene, BYTES(ORIGINAL));

    /* Too old: the last answer was 4xx. */
    scene.verdict = (struct verdict){
        .kind = VERDICT_DEFERRED, .code = 451, .status = {4, 3, 0},
                .text = "Later"
    };
    scene_write(&scene);
    FIELD(report_group(&scene.report, 0), "Action", "failed");
    FIELD(report_group(&scene.report, 0), "Status", "4.3.0");
    assert_true(report_contains(scene.report.parts[0].content, "tried again and again"));

    /* Nobody could be asked. */
    scene.verdict = (struct verdict){.kind = VERDICT_DEFERRED, .text = "connect: No route to host"};
    scene.recipient.peer = "";
    scene_write(&scene);
    FIELD(report_group(&scene.report, 0), "Status", "4.0.0");
    FIELD(report_group(&scene.report, 0), "Remote-MTA", "");
    FIELD(report_group(&scene.report, 0), "Diagnostic-Code", "x-ringmx; connect: No route to host");

    scene.bounce.action = BOUNCE_DELAYED;
    scene_write(&scene);
    FIELD(scene.report.header, "Subject", "Your message is delayed");
    FIELD(report_group(&scene.report, 0), "Action", "delayed");
    FIELD(report_group(&scene.report, 0), "Status", "4.0.0");
    FIELD(report_group(&scene.report, 0), "Will-Retry-Until", "Mon, 23 Nov 2026 11:06:40 +0000");
    assert_true(report_contains(scene.report.parts[0].content, "Mon, 23 Nov 2026 11:06:40 +0000"));
    /* Only of failures all goes back. */
    FIELD(scene.report.parts[2].header, "Content-Type", "text/rfc822-headers");
    assert_true(is(scene.report.parts[2].content, "Received: from a by b; now\r\n"
                                                  "From: alice@example.org\r\nSubject: hello\r\n"));

    /* A class that does not fit the action is not believed. */
    scene.verdict = (struct verdict){
        .kind = VERDICT_DELIVERED, .code = 250, .status = {5, 1, 1},
                .text = "Fine"
    };
    scene.bounce.action = BOUNCE_RELAYED;
    scene.recipient.peer = "[2001:db8::1]:25";
    scene_write(&scene);
    FIELD(report_group(&scene.report, 0), "Action", "relayed");
    FIELD(report_group(&scene.report, 0), "Status", "2.0.0");
    FIELD(report_group(&scene.report, 0), "Remote-MTA", "dns; [2001:db8::1]");
    scene.verdict.status = (struct reply_status){2, 1, 5};
    scene.recipient.peer = "unix:/run/lmtp";
    scene.bounce.action = BOUNCE_DELIVERED;
    scene_write(&scene);
    FIELD(report_group(&scene.report, 0), "Action", "delivered");
    FIELD(report_group(&scene.report, 0), "Status", "2.1.5");
    FIELD(report_group(&scene.report, 0), "Remote-MTA", "x-local-socket; unix:/run/lmtp");
    scene_free(&scene);
}

/* What was asked for besides delivery (RFC 2852, RFC 4865), and the news of a relay with a time. */
static void terms(void **state)
{
    (void)state;
    struct scene scene;
    scene_new(&scene, BYTES(ORIGINAL));
    scene_write(&scene);
    assert_false(report_contains(scene.out, "Deliver-By-Date"));
    assert_false(report_contains(scene.out, "Future-Release-Request"));
    scene.envelope.terms =
        (struct envelope_terms){.release_s = 1795000060, .by_s = 1795000100, .priority = 3};
    scene.bounce.action = BOUNCE_RELAYED_BY;
    scene.verdict = (struct verdict){.kind = VERDICT_DELIVERED, .code = 250, .text = "Fine"};
    scene_write(&scene);
    FIELD(report_group(&scene.report, 0), "Action", "relayed");
    assert_true(report_contains(scene.out,
                                "\r\nDeliver-By-Date: Wed, 18 Nov 2026 11:08:20 +0000\r\n"
                                "Future-Release-Request: until;2026-11-18T11:07:40Z\r\n"
                                "\r\n"));
    scene.envelope.terms.hold_s = 60;
    scene_write(&scene);
    assert_true(report_contains(scene.out, "\r\nFuture-Release-Request: for;60\r\n\r\n"));
    assert_true(bounce_wanted(BOUNCE_RELAYED_BY, 0, BYTES("a@b.example")));
    assert_true(bounce_wanted(BOUNCE_RELAYED_BY, COMMAND_NOTIFY_FAILURE, BYTES("a@b.example")));
    assert_false(bounce_wanted(BOUNCE_RELAYED_BY, COMMAND_NOTIFY_NEVER, BYTES("a@b.example")));
    assert_false(bounce_wanted(BOUNCE_RELAYED_BY, 0, BYTES("")));
    scene_free(&scene);
}

/* What goes back of the original, and how it is encoded. */
static void originals(void **state)
{
    (void)state;
    struct scene scene;
    uint8_t unquoted[4096];

    scene_new(&scene, BYTES(ORIGINAL "\xc3\xa9\r\n"));
    scene_write(&scene);
    FIELD(scene.report.header, "Content-Transfer-Encoding", "8bit");
    FIELD(scene.report.parts[2].header, "Content-Transfer-Encoding", "8bit");
    FIELD(scene.report.parts[2].header, "Content-Type", "message/rfc822");
    assert_true(is(scene.report.parts[2].content,
                   "Received: from a by b; now\r\n" ORIGINAL "\xc3\xa9\r\n"));

    /* RET=HDRS, and a body that is larger than is given back: its octets don't matter. */
    scene.envelope.flags = ENVELOPE_RET_HDRS;
    scene_write(&scene);
    FIELD(scene.report.parts[2].header, "Content-Type", "text/rfc822-headers");
    FIELD(scene.report.parts[2].header, "Content-Transfer-Encoding", "");
    FIELD(scene.report.header, "Content-Transfer-Encoding", "");
    assert_true(report_contains(scene.report.parts[0].content, "The header of your message is"));
    scene.envelope.flags = 0;
    scene.bounce.original_max = (uint32_t)(added.len + sizeof ORIGINAL + 2);
    scene_write(&scene);
    FIELD(scene.report.parts[2].header, "Content-Type", "text/rfc822-headers");
    scene.bounce.original_max++;
    scene_write(&scene);
    FIELD(scene.report.parts[2].header, "Content-Type", "message/rfc822");
    scene_free(&scene);

    /* UTF-8 in the header: lawful or not. */
    scene_new(&scene, BYTES("Subject: \xc3\xa9 = \r\n\r\nx\r\n"));
    scene.envelope.flags = ENVELOPE_RET_HDRS;
    scene_write(&scene);
    FIELD(scene.report.parts[2].header, "Content-Type", "text/rfc822-headers");
    FIELD(scene.report.parts[2].header, "Content-Transfer-Encoding", "quoted-printable");
    size_t len = report_unquote(scene.report.parts[2].content, unquoted);
    assert_true(
        is(bytes_make(unquoted, len), "Received: from a by b; now\r\nSubject: \xc3\xa9 = \r\n"));
    scene.envelope.flags |= ENVELOPE_SMTPUTF8;
    scene_write(&scene);
    FIELD(scene.report.parts[2].header, "Content-Type", "message/global-headers");
    scene.envelope.flags = ENVELOPE_SMTPUTF8;
    scene_write(&scene);
    FIELD(scene.report.parts[2].header, "Content-Type", "message/global");
    FIELD(scene.report.parts[2].header, "Content-Transfer-Encoding", "8bit");

    /* Nothing of a message that may travel over TLS only; nothing of one that can't be read. */
    scene.envelope.flags = ENVELOPE_REQUIRETLS;
    scene_write(&scene);
    assert_int_equal(scene.report.part_count, 2);
    assert_true(report_contains(scene.report.parts[0].content, "secure connections only"));
    scene.envelope.flags = 0;
    struct bytes out;
    assert_int_equal(report_write(&scene.bounce, NULL, &out), 0);
    report_read(&scene.report, out);
    assert_int_equal(scene.report.part_count, 2);
    assert_true(report_contains(scene.report.parts[0].content, "could not be read any more"));
    free((void *)(uintptr_t)out.data);
    scene_free(&scene);
}

/* What MIME has no way for goes back as a header only; the header is encoded when it must be. */
static void odd_originals(void **state)
{
    (void)state;
    static char long_line[2000];
    memset(long_line, 'x', 999);
    memcpy(long_line + 999, "\r\n", 2);
    static const struct bytes bodies[] = {
        BYTES("bare \r CR\r\n"),   BYTES("bare \n LF\r\n"), BYTES("a\r\r\n"),
        BYTES("NUL \0 octet\r\n"), BYTES("at the end\r"),   BYTES("\n"),
    };
    static uint8_t text[4096], unquoted[4096];
    const size_t header_len = 16;
    memcpy(text, "Subject: hello\r\n", header_len);
    for (size_t i = 0; i <= sizeof bodies / sizeof *bodies; i++) {
        struct bytes body = i < sizeof bodies / sizeof *bodies
                                ? bodies[i]
                                : bytes_make(long_line, strlen(long_line));
        memcpy(text + header_len, "\r\n", 2);
        memcpy(text + header_len + 2, body.data, body.len);
        for (size_t piece = 1; piece < 40; piece += 7) {
            struct scene scene;
            scene_new(&scene, bytes_make(text, header_len + 2 + body.len));
            scene.source.piece = piece;
            scene_write(&scene);
            FIELD(scene.report.parts[2].header, "Content-Type", "text/rfc822-headers");
            FIELD(scene.report.parts[2].header, "Content-Transfer-Encoding", "");
            assert_true(is(scene.report.parts[2].content,
                           "Received: from a by b; now\r\nSubject: hello\r\n"));
            /* The same within a header field. */
            memmove(text + header_len - 2, body.data, body.len);
            scene.source.text.len = scene.envelope.text_len = header_len - 2 + body.len;
            scene_write(&scene);
            FIELD(scene.report.parts[2].header, "Content-Transfer-Encoding", "quoted-printable");
            size_t len = report_unquote(scene.report.parts[2].content, unquoted);
            assert_int_equal(len, added.len + scene.source.text.len);
            assert_memory_equal(unquoted + added.len, text, scene.source.text.len);
            scene_free(&scene);
            memcpy(text, "Subject: hello\r\n\r\n", header_len + 2);
            memcpy(text + header_len + 2, body.data, body.len);
        }
    }
    /* The longest line that may be. */
    struct scene scene;
    memcpy(text + header_len + 2, long_line + 1, 1000);
    scene_new(&scene, bytes_make(text, header_len + 2 + 1000));
    scene_write(&scene);
    FIELD(scene.report.parts[2].header, "Content-Type", "message/rfc822");
    scene_free(&scene);
}

/* Messages without an empty line, without a header, without anything; and one of 100 MB. */
static void strange_headers(void **state)
{
    (void)state;
    static const struct {
        const char *text, *header;
    } cases[] = {
        {"",                          "Received: from a by b; now\r\n"        },
        {"\r\n",                      "Received: from a by b; now\r\n"        },
        {"\r\nbody\r\n",              "Received: from a by b; now\r\n"        },
        {"no field here\r\nbody\r\n", "Received: from a by b; now\r\n"        },
        {"A: b\r\nno field here\r\n", "Received: from a by b; now\r\nA: b\r\n"},
        {"A: b\r\n",                  "Received: from a by b; now\r\nA: b\r\n"},
        {"A: b",                      "Received: from a by b; now\r\nA: b"    },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene scene;
        scene_new(&scene, bytes_of_string(cases[i].text));
        scene.envelope.flags = ENVELOPE_RET_HDRS;
        scene_write(&scene);
        assert_true(is(scene.report.parts[2].content, cases[i].header));
        scene_free(&scene);
    }
    /* A header without end: whole lines of its beginning. */
    size_t len = 100 * 1000 * 1000;
    uint8_t *huge = malloc(len);
    for (size_t i = 0; i < len; i++)
        huge[i] = (uint8_t) "Field: value\r\n"[i % 14];
    struct scene scene;
    scene_new(&scene, bytes_make(huge, len));
    scene_write(&scene);
    assert_in_range(scene.out.len, 128 * 1024, 140 * 1024);
    assert_true(scene.source.at < 200 * 1024);
    size_t content_len = scene.report.parts[2].content.len;
    assert_memory_equal(scene.report.parts[2].content.data + content_len - 2, "\r\n", 2);
    /* A body without end: it is not even read. */
    memcpy(huge, "Subject: x\r\n\r\n", 14);
    scene_write(&scene);
    assert_true(scene.out.len < 5000 && scene.source.at < 5000);
    scene_free(&scene);
    free(huge);
}

/* Errors of the original and of the place where it goes come back as they are. */
static int full(void *user, struct bytes piece)
{
    (void)piece;
    int *left = user;
    return (*left)-- > 0 ? 0 : -ENOSPC;
}

static void errors(void **state)
{
    (void)state;
    struct scene scene;
    scene_new(&scene, BYTES(ORIGINAL));
    scene.source.piece = 10;
    for (size_t at = 0; at <= sizeof ORIGINAL - 1; at++) {
        struct bytes out;
        scene.source.fail_at = at;
        assert_int_equal(report_write(&scene.bounce, &scene.text, &out), -EBADMSG);
        free((void *)(uintptr_t)out.data);
    }
    scene.source.fail_at = SIZE_MAX;
    int left = 0;
    assert_int_equal(bounce_write(&scene.bounce, &scene.text, full, &left), -ENOSPC);
    assert_int_equal(left, -1); /* nothing was given after the refusal */
    scene_free(&scene);
}

static void many_recipients(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    struct scene scene;
    struct bounce_recipient *recipients = calloc(COUNT, sizeof *recipients);
    char *names = calloc(COUNT, 32);
    struct verdict other = {.kind = VERDICT_REFUSED, .code = 552, .text = "Full"};
    scene_new(&scene, BYTES(ORIGINAL));
    for (int i = 0; i < COUNT; i++) {
        snprintf(names + 32 * i, 32, "u%d@example.net", i);
        recipients[i] = scene.recipient;
        recipients[i].forward_path = bytes_of_string(names + 32 * i);
        if (i == 50)
            recipients[i].verdict = &other;
    }
    scene.bounce.recipients = recipients;
    scene.bounce.recipient_count = COUNT;
    scene_write(&scene);
    struct bytes words = scene.report.parts[0].content;
    assert_true(report_contains(words, "  <u99@example.net>\r\n"));
    assert_false(report_contains(words, "  <u100@example.net>\r\n"));
    assert_true(report_contains(words, "and 9900 more;"));
    /* One reason for many is said once: here before and behind another. */
    int said = 0;
    for (size_t i = 0; i + 9 < words.len; i++)
        said += memcmp(words.data + i, "550 5.1.1", 9) == 0;
    assert_int_equal(said, 2);
    FIELD(report_group(&scene.report, 50), "Diagnostic-Code", "smtp; 552 Full");
    FIELD(report_group(&scene.report, 50), "Status", "5.0.0");
    FIELD(report_group(&scene.report, COUNT - 1), "Final-Recipient", "rfc822; u9999@example.net");
    scene_free(&scene);
    free(names);
    free(recipients);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whom_to_tell),    cmocka_unit_test(a_failure),
        cmocka_unit_test(other_actions),   cmocka_unit_test(terms),
        cmocka_unit_test(originals),       cmocka_unit_test(odd_originals),
        cmocka_unit_test(strange_headers), cmocka_unit_test(errors),
        cmocka_unit_test(many_recipients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
