/* Notifications about those who write into them, next hops and senders: what they can't do. */
#include "tests/unit/bounce_scene.h"

/* Next hops and senders that want to write into the notification. */
static const char *const attacks[] = {
    "x\r\nAction: delivered",
    "x\r\n\r\nFinal-Recipient: rfc822; eve@example.com\r\nAction: delivered",
    "x\nAction: delivered",
    "x\rAction: delivered",
    "\r\n--=_ringmx-aerukz4jvpg66-1--\r\n",
    "\n--=_ringmx-aerukz4jvpg66-1\nContent-Type: text/html\n\n<b>",
    "--=_ringmx-aerukz4jvpg66-1",
    "\x1b[2J\x07\x08\x7f",
    "\xff\xfe\xc0\xaf\xed\xa0\x80",
    "\xc2\x85next line\xe2\x80\xa8separator",
    "   ",
    "\t",
    "\\x{d}\\x{a}Action:\\x{20}delivered",
    "+0D+0AAction:+20delivered",
    "utf-8;\\x{d}\\x{a}Action: x",
    "rfc822;+0D+0A+0D+0AFinal-Recipient: x",
    ";;",
    "rfc822;",
    "a>\r\nBcc: eve@example.com\r\nX: <b@example.org",
};

static void injections(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        struct bytes attack = bytes_of_string(attacks[i]);
        for (int where = 0; where < 6; where++) {
            struct scene scene;
            char peer[80];
            scene_new(&scene, BYTES(ORIGINAL));
            snprintf(peer, sizeof peer, "%s", attacks[i]);
            if (where == 0)
                snprintf(scene.verdict.text, VERDICT_TEXT_MAX, "%s", attacks[i]);
            else if (where == 1)
                scene.envelope.envid = attack;
            else if (where == 2)
                scene.recipient.orcpt = attack;
            else if (where == 3)
                scene.recipient.forward_path = attack;
            else if (where == 4)
                scene.envelope.reverse_path = attack;
            else
                scene.recipient.peer = peer;
            scene_write(&scene); /* checks that it is one group and three parts */
            assert_int_equal(scene.report.part_count, 3);
            FIELD(report_group(&scene.report, 0), "Action", "failed");
            FIELD(scene.report.header, "Bcc", "");
            assert_false(report_contains(scene.report.parts[0].content, "\x1b"));
            scene_free(&scene);
        }
    }
    /* An octet NUL ends the text of a verdict, and is none in an address. */
    struct scene scene;
    scene_new(&scene, BYTES(ORIGINAL));
    scene.recipient.forward_path = BYTES("a\0b@example.net");
    scene_write(&scene);
    FIELD(report_group(&scene.report, 0), "Final-Recipient", "rfc822; a?b@example.net");
    scene_free(&scene);
}

/* The boundary of a notification can't be in the original, even if that knows the id. */
static void boundaries(void **state)
{
    (void)state;
    static const char *const originals_of_it[] = {
        "A: b\r\n\r\n--=_ringmx-aerukz4jvpg66-1\r\n\r\n--=_ringmx-aerukz4jvpg66-1--\r\n",
        "--=_ringmx-aerukz4jvpg66-1--\r\n",
        "A: b\r\n\r\n--=_ringmx-aerukz4jvpg66-2\r\n--=_ringmx-aerukz4jvpg66-13\r\n",
        "A: b\r\n\r\n--=_ringmx-aerukz4jvpg66-999999999999999999999999\r\n",
        "A: b\r\n\r\n--=_ringmx-aerukz4jvpg66-007\r\n--=_ringmx-aerukz4jvpg66-\r\n",
        "A: b\r\n\r\n--=_ringmx-aerukz4jvpg66-18446744073709551615",
    };
    for (size_t i = 0; i < sizeof originals_of_it / sizeof *originals_of_it; i++) {
        for (size_t piece = 1; piece < 50; piece += 6) {
            struct scene scene;
            scene_new(&scene, bytes_of_string(originals_of_it[i]));
            scene.envelope.added = BYTES("");
            scene.source.piece = piece;
            scene_write(&scene);
            assert_int_equal(scene.report.part_count, 3);
            assert_true(is(scene.report.parts[2].content, originals_of_it[i]));
            scene_free(&scene);
        }
    }
}

static void utf8(void **state)
{
    (void)state;
    struct scene scene;
    scene_new(&scene, BYTES(ORIGINAL));
    scene.recipient.forward_path = BYTES("j\xc3\xb6rg@example.net");
    scene.recipient.orcpt = BYTES("utf-8;j\\x{F6}rg\\x{2B}a@example.net");
    scene_write(&scene);
    FIELD(scene.report.header, "Content-Transfer-Encoding", "8bit");
    struct report_part *status = &scene.report.parts[1];
    FIELD(status->header, "Content-Type", "message/global-delivery-status");
    FIELD(status->header, "Content-Transfer-Encoding", "8bit");
    FIELD(scene.report.parts[0].header, "Content-Type", "text/plain; charset=utf-8");
    assert_true(report_contains(scene.report.parts[0].content, "<j\xc3\xb6rg@example.net>"));
    struct bytes group = report_group(&scene.report, 0);
    FIELD(group, "Final-Recipient", "utf-8; j\xc3\xb6rg@example.net");
    FIELD(group, "Original-Recipient", "utf-8; j\xc3\xb6rg+a@example.net");

    /* All of ASCII, but for the words of the next hop: they lose it. */
    scene_free(&scene);
    scene_new(&scene, BYTES(ORIGINAL));
    snprintf(scene.verdict.text, VERDICT_TEXT_MAX, "Utilisateur inexistant, d\xc3\xa9sol\xc3\xa9");
    scene_write(&scene);
    FIELD(scene.report.parts[1].header, "Content-Type", "message/delivery-status");
    FIELD(report_group(&scene.report, 0), "Diagnostic-Code",
          "smtp; 550 5.1.1 Utilisateur inexistant, d??sol??");
    scene_free(&scene);

    scene_new(&scene, BYTES(ORIGINAL));
    scene.envelope.reverse_path = BYTES("\xe6\x9d\x8e@example.org");
    scene_write(&scene);
    FIELD(scene.report.header, "To", "<\xe6\x9d\x8e@example.org>");
    scene_free(&scene);

    /* Every kind of embedded character, good and bad. */
    static const struct {
        const char *orcpt, *field;
    } cases[] = {
        {"utf-8;\\x{1F600}@a",  "utf-8; \xf0\x9f\x98\x80@a"},
        {"utf-8;\\x{674E}@a",   "utf-8; \xe6\x9d\x8e@a"    },
        {"utf-8;\\x{D800}@a",   "utf-8; ???@a"             },
        {"utf-8;\\x{110000}@a", "utf-8; \\x{110000}@a"     },
        {"utf-8;\\x{}@a",       "utf-8; \\x{}@a"           },
        {"utf-8;\\x{41",        "utf-8; \\x{41"            },
        {"utf-8;\\x{",          "utf-8; \\x{"              },
        {"utf-8;+41",           "utf-8; +41"               },
        {"rfc822;+41+4",        "rfc822; A+4"              },
        {"rfc822;+",            "rfc822; +"                },
        {"rfc822;+00@a",        "rfc822; ?@a"              },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scene_new(&scene, BYTES(ORIGINAL));
        scene.recipient.orcpt = bytes_of_string(cases[i].orcpt);
        scene_write(&scene);
        FIELD(report_group(&scene.report, 0), "Original-Recipient", cases[i].field);
        scene_free(&scene);
    }
}

/* The words of a next hop are folded; an unfolded field has them all. */
static void long_words(void **state)
{
    (void)state;
    struct scene scene;
    scene_new(&scene, BYTES(ORIGINAL));
    memset(scene.verdict.text, 0, VERDICT_TEXT_MAX);
    for (size_t i = 0; i < VERDICT_TEXT_MAX - 1; i++)
        scene.verdict.text[i] = i % 7 == 6 ? ' ' : 'w';
    scene_write(&scene);
    struct bytes code = report_field(report_group(&scene.report, 0), "Diagnostic-Code");
    size_t words = 0;
    for (size_t i = 0; i < code.len; i++) {
        words += code.data[i] == 'w';
        if (code.data[i] == '\r')
            assert_true(code.data[i + 2] == ' ' && code.data[i + 3] == 'w');
    }
    assert_int_equal(words, VERDICT_TEXT_MAX - 1 - 28);
    /* One word without end, in a text and in an address. */
    memset(scene.verdict.text, 'w', VERDICT_TEXT_MAX - 1);
    static uint8_t address[65535];
    memset(address, 'a', sizeof address);
    scene.recipient.forward_path = scene.envelope.reverse_path = scene.envelope.envid =
        bytes_make(address, sizeof address);
    memcpy(address, "rfc822;", 7);
    scene.recipient.orcpt = scene.recipient.forward_path;
    scene_write(&scene);
    for (size_t i = 0; i < sizeof address - 1; i += 2)
        memcpy(address + i, "\xc3\xa9", 2);
    scene_write(&scene);
    scene_free(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(injections),
        cmocka_unit_test(boundaries),
        cmocka_unit_test(utf8),
        cmocka_unit_test(long_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
