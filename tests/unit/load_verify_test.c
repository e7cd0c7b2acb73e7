/* ringmx-load verify: one message, the account of what is lost, torn, doubled and strange, and what
 * the program says and exits with. Its places have a test of their own. */
#include "bench/load/verify_table.h"
#include "gateway/spool/crc.h"
#include "tests/support/exits.h"
#include "tests/support/tree.h"
#include "tests/unit/load_verify.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* --- one message --- */

static void check_read(const char *message, size_t len, const char *id, bool whole)
{
    /* In memory of exactly this size, so that the sanitizer sees a step too far. */
    uint8_t *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, message, len);
    struct verify_found found;
    verify_read(copy, len, &found);
    if (id == NULL)
        assert_null(found.id);
    else if (found.id == NULL || found.id_len != strlen(id) ||
             memcmp(found.id, id, found.id_len) != 0)
        fail_msg("%s: \"%.*s\"", message, (int)found.id_len, found.id != NULL ? found.id : "");
    if (found.whole != whole)
        fail_msg("%s: whole %d", message, found.whole);
    free(copy);
}

#define READ(message, id, whole) check_read(message, strlen(message), id, whole)

/* "hello\r\n" has the sum 0b6de5d5, "a\r\n\r\nb\r\n" e9b8e0b3, and nothing 00000000. */
static void messages_are_read(void **state)
{
    (void)state;
    char hello[16], lines[16], text[512];
    snprintf(hello, sizeof hello, "%08x", crc32(0, "hello\r\n", 7));
    snprintf(lines, sizeof lines, "%08x", crc32(0, "a\r\n\r\nb\r\n", 8));
    static const struct {
        const char *format; /* with the sum of "hello" or "lines" */
        const char *id;
        bool of_lines, whole;
    } cases[] = {
        {"X-Load-Sum: %s\r\nX-Load-Id: one-1\r\n\r\nhello\r\n",                              "one-1", false, true },
        {"X-Load-Id: one-1\nX-Load-Sum: %s\n\nhello\n",                                      "one-1", false, true },
        {"x-load-ID:one-1\r\nX-LOAD-sum:%s\r\n\r\nhello\r\n",                                "one-1", false, true },
        {"X-Load-Id:\t one-1 \t\r\nX-Load-Sum:  %s \r\n\r\nhello\r\n",                       "one-1", false, true },
        {"Received: x\r\n\ty\r\nX-Load-Id: a\r\nX-Load-Sum: %s\r\nTo: b\r\n\r\nhello\r\n",   "a",
         false,                                                                                              true },
        {"X-Load-Id: a\nX-Load-Sum: %s\n\na\n\r\nb\n",                                       "a",     true,  true },
        {"X-Load-Id: a\nX-Load-Sum: %s\n\na\r\n\nb\r\n",                                     "a",     true,  true },
 /* The first counts: a message of a corpus may have been one of ours before. */
        {"X-Load-Id: a\r\nX-Load-Sum: %s\r\nX-Load-Id: b\r\nX-Load-Sum: 0\r\n\r\nhello\r\n", "a",
         false,                                                                                              true },
        {"X-Load-Id: a\r\nX-Load-Sum: %s\r\n\r\nhello\r",                                    "a",     false, false},
        {"X-Load-Id: a\r\nX-Load-Sum: %s\r\n\r\nhello",                                      "a",     false, false},
        {"X-Load-Id: a\r\nX-Load-Sum: %s\r\n\r\nhellp\r\n",                                  "a",     false, false},
        {"X-Load-Id: a\r\nX-Load-Sum: %s\r\n\r\nhello\r\n\r\n",                              "a",     false, false},
        {"X-Load-Id: a\r\nX-Load-Sum: %s0\r\n\r\nhello\r\n",                                 "a",     false, false},
        {"X-Load-Id: a\r\nX-Load-Sum: %sg\r\n\r\nhello\r\n",                                 "a",     false, false},
        {"X-Load-Id: a\r\nNo-Load-Sum: %s\r\n\r\nhello\r\n",                                 "a",     false, false},
        {"X-Load-Id: a\r\n\r\nX-Load-Sum: %s\r\n\r\nhello\r\n",                              "a",     false, false},
        {"X-Load-Idea: a\r\nX-Load-Sum: %s\r\n\r\nhello\r\n",                                NULL,    false, true },
        {"X-Load-Id:  \r\nX-Load-Sum: %s\r\n\r\nhello\r\n",                                  NULL,    false, true },
        {"\r\nX-Load-Id: a\r\nX-Load-Sum: %s\r\n\r\nhello\r\n",                              NULL,    false, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(text, sizeof text, cases[i].format, cases[i].of_lines ? lines : hello);
        READ(text, cases[i].id, cases[i].whole);
    }
    READ("X-Load-Id: a\r\nX-Load-Sum: 00000000\r\n\r\n", "a", true);
    READ("X-Load-Id: a\r\nX-Load-Sum: 00000000\r\n", "a", true);
    READ("X-Load-Sum: 00000000\nX-Load-Id: a", "a", true);
    READ("", NULL, false);
    READ("\r\n", NULL, false);
    READ("\r", NULL, false);
}

static void long_ids_are_none(void **state)
{
    (void)state;
    char text[128], id[80];
    for (int len = 60; len < 70; len++) {
        snprintf(id, sizeof id, "%0*d", len, 7);
        snprintf(text, sizeof text, "X-Load-Sum: 00000000\nX-Load-Id: %s\n\n", id);
        READ(text, len <= VERIFY_ID_MAX ? id : NULL, true);
    }
}

/* The sum is that of the text with CRLF, whatever its line ends are. */
static void sums_of_any_line_ends(void **state)
{
    (void)state;
    static const char alphabet[] = "\n\n\r\ra\0.";
    uint32_t random = 1;
    for (unsigned round = 0; round < 20000; round++) {
        char text[64] = "X-Load-Id: a\n\n", crlf[128];
        size_t front = strlen(text), len = front, crlf_len = 0;
        for (unsigned i = round % 24; i > 0; i--) {
            random = random * 1664525 + 1013904223;
            char octet = alphabet[(random >> 16) % (sizeof alphabet - 1)];
            if (octet == '\n' && (len == front || text[len - 1] != '\r'))
                crlf[crlf_len++] = '\r';
            crlf[crlf_len++] = text[len++] = octet;
        }
        struct verify_found found;
        verify_read((const uint8_t *)text, len, &found);
        assert_int_equal(found.sum, crc32(0, crlf, crlf_len));
    }
}

/* --- the account --- */

static void find(struct verify *verify, const char *id, uint32_t sum, bool whole, bool for_all)
{
    struct verify_found found = {.id = id,
                                 .id_len = id != NULL ? strlen(id) : 0,
                                 .sum = sum,
                                 .whole = whole,
                                 .maildir = for_all ? 0 : 1,
                                 .place = "somewhere"};
    verify_found(verify, &found);
}

static void findings(void **state)
{
    (void)state;
    struct verify verify = {0};
    tree_put("acked", "here 00000001 1\nthrice 00000002 3\nlost 00000003 1\nfew 00000004 3\n"
                      "often 00000005 2\ntwice 00000006 9\ntorn 00000007 1\nother 00000008 1\n");
    verify_table_read(&verify, tree_path("acked"));
    verify_table_index(&verify);
    assert_int_equal(verify.count, 8);
    find(&verify, "here", 1, true, false);
    for (unsigned i = 0; i < 3; i++) {
        find(&verify, "thrice", 2, true, false);
        find(&verify, "often", 5, true, false);
    }
    find(&verify, "few", 4, true, false);
    find(&verify, "few", 4, true, false);
    find(&verify, "twice", 6, true, true);
    find(&verify, "twice", 6, true, true);
    find(&verify, "torn", 7, false, false);
    find(&verify, "other", 0x80000008, true, true); /* whole, but another body */
    find(&verify, "unknown", 1, true, false);
    find(&verify, "unknown", 1, true, false);
    find(&verify, "unknown", 1, false, false);
    find(&verify, NULL, 1, true, false);
    assert_int_equal(verify.messages, 17);
    verify_table_judge(&verify, 0);
    FINDINGS(&verify, 2, 3, 2, 2, 1);
    assert_string_equal(verify.lists[VERIFY_LOST].first[0].id, "lost");
    assert_string_equal(verify.lists[VERIFY_LOST].first[1].id, "few");
    assert_string_equal(verify.lists[VERIFY_LOST].first[1].place,
                        "found 2 times, for 3 recipients");
    assert_string_equal(verify.lists[VERIFY_DOUBLED].first[0].id, "often");
    assert_string_equal(verify.lists[VERIFY_DOUBLED].first[1].id, "twice");
    assert_string_equal(verify.lists[VERIFY_TORN].first[1].id, "other");
    assert_string_equal(verify.lists[VERIFY_TORN].first[1].place, "somewhere");
    verify_table_free(&verify);
}

/* A message that waits in a spool is there for all, also if some have it already. */
static void spool_and_maildir_together(void **state)
{
    (void)state;
    struct verify verify = {0};
    tree_put("acked", "a 00000001 3\nb 00000001 3\nc 00000001 3\n");
    verify_table_read(&verify, tree_path("acked"));
    verify_table_index(&verify);
    find(&verify, "a", 1, true, true);
    for (unsigned i = 0; i < 3; i++) {
        find(&verify, "a", 1, true, false);
        find(&verify, "b", 1, true, false);
    }
    find(&verify, "c", 1, true, false);
    find(&verify, "c", 1, true, true);
    verify_table_judge(&verify, 0);
    FINDINGS(&verify, 0, 0, 0, 0, 0);
    verify_table_free(&verify);
}

static void copies(void **state)
{
    (void)state;
    tree_put("acked", "a 00000001 5\nb 00000001 5\nc 00000001 5\n");
    for (uint32_t wanted = 1; wanted <= 3; wanted++) {
        struct verify verify = {0};
        verify_table_read(&verify, tree_path("acked"));
        verify_table_index(&verify);
        find(&verify, "a", 1, true, false);
        find(&verify, "b", 1, true, true);
        find(&verify, "b", 1, true, false);
        for (unsigned i = 0; i < 3; i++)
            find(&verify, "c", 1, true, false);
        verify_table_judge(&verify, wanted);
        assert_int_equal(verify.lists[VERIFY_LOST].count, wanted - 1);
        assert_int_equal(verify.lists[VERIFY_DOUBLED].count, 3 - wanted);
        verify_table_free(&verify);
    }
}

/* Many, from several files; every hundredth is missing. Ten are listed. */
static void many_messages(void **state)
{
    (void)state;
    enum { COUNT = 300000 };
    struct verify verify = {0};
    FILE *files[2] = {fopen(tree_path("1"), "we"), fopen(tree_path("2"), "we")};
    for (unsigned i = 0; i < COUNT; i++)
        fprintf(files[i % 2], "0123abcd-%010u %08x 1\n", i, i);
    fclose(files[0]);
    fclose(files[1]);
    verify_table_read(&verify, tree_path("1"));
    verify_table_read(&verify, tree_path("2"));
    verify_table_index(&verify);
    assert_int_equal(verify.count, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        char id[32];
        snprintf(id, sizeof id, "0123abcd-%010u", i);
        if (i % 100 != 42)
            find(&verify, id, i, true, i % 3 == 0);
    }
    verify_table_judge(&verify, 0);
    FINDINGS(&verify, 3000, 0, 0, 0, 0);
    assert_string_equal(verify.lists[VERIFY_LOST].first[0].id, "0123abcd-0000000042");
    assert_string_equal(verify.lists[VERIFY_LOST].first[9].id, "0123abcd-0000000942");
    verify_table_free(&verify);
}

/* --- the program --- */

#define SINK_FRONT "time=2026-11-22T00:00:00.000Z event=message number=1 session=2"
#define SINK_BACK  " size=5 from=\"<a@b>\" to=\"<c@d>,<e@f>\"\n"

/* Words are separated by blanks; "@" stands for the folder. */
static void run_main(const void *data)
{
    static char words[16][128];
    char *list[17] = {words[0]};
    int count = 1;
    snprintf(words[0], sizeof words[0], "verify");
    for (const char *at = data; *at != '\0' && count < 16; count++) {
        size_t len = strcspn(at, " ");
        snprintf(words[count], sizeof words[0], "%s%.*s", *at == '@' ? tree_path("") : "",
                 (int)(len - (*at == '@')), at + (*at == '@'));
        list[count] = words[count];
        at += len + (at[len] == ' ');
    }
    list[count] = NULL;
    int code = verify_main(count, list);
    fflush(NULL);
    if (code != 0)
        _exit(code + 100); /* not to be taken for words_die */
}

static void exits_with(const char *words, int code, const char *said_part)
{
    char said[8192];
    int got = exits_run(run_main, words, said, sizeof said);
    if (got != code || strstr(said, said_part) == NULL)
        fail_msg("%s: %d, %s", words, got, said);
}

static void program(void **state)
{
    (void)state;
    struct verify verify;
    acked_abc(&verify);
    verify_table_free(&verify);
    tree_make_maildir("mail");
    tree_put("mail/new/1", message_of("a", "hello\r\n"));
    tree_put("mail/new/2", message_of("b", ""));
    tree_put("mail/new/3", message_of("c", "hello\r\n"));
    exits_with("--acked @/acked @/mail", 101, "lost c found 1 times, for 2 recipients\n");
    exits_with("--acked @/acked @/mail --copies 1", 0, "lost                     0\n");
    tree_put("mail/new/4", message_of("c", "hello\r\n"));
    exits_with("--acked @/acked @/mail", 0, "acknowledged             3\n");
    exits_with("--acked @/acked --strict @/mail", 0, "doubled                  0\n");
    tree_put("mail/cur/5", message_of("c", "hello\r\n"));
    tree_put("mail/cur/6", message_of("x", "hello\r\n"));
    exits_with("--acked @/acked @/mail", 0, "doubled c found 3 times, for 2 recipients\n");
    exits_with("--acked @/acked @/mail", 0, "strange x ");
    exits_with("--acked @/acked @/mail --strict", 101, "doubled                  1\n");
    tree_put("log", SINK_FRONT " load_id=a load_sum=00000000 sum=00000000" SINK_BACK);
    exits_with("--acked @/acked @/mail @/log", 101, "torn                     1\n");
    exits_with("--acked @/acked", 2, "no place to look at");
    exits_with("@/mail", 2, "--acked is missing");
    exits_with("--acked @/none @/mail", 2, "No such file");
    exits_with("--acked @/acked @/none", 2, "No such file");
    exits_with("--acked @/acked @/acked", 2, "is not of the log of ringmx-sink");
    exits_with("--acked @/acked --acked @/acked @/mail", 2, "a stands twice");
    exits_with("--acked @/acked --copies 0 @/mail", 2, "--copies: \"0\" is not a number");
    exits_with("--acked", 2, "--acked: the value is missing");
    exits_with("--fast", 2, "unknown option --fast");
    exits_with("--help", 0, "usage: ringmx-load verify");
}

/* Two copies in one Maildir serve one recipient, where each has a Maildir. */
static void program_counts_maildirs(void **state)
{
    (void)state;
    struct verify verify;
    acked_abc(&verify);
    verify_table_free(&verify);
    tree_make_maildir("one");
    tree_make_maildir("two");
    tree_put("one/new/1", message_of("a", "hello\r\n"));
    tree_put("one/new/2", message_of("b", ""));
    tree_put("one/new/3", message_of("c", "hello\r\n"));
    tree_put("one/cur/4", message_of("c", "hello\r\n"));
    exits_with("--acked @/acked @/one", 0, "lost                     0\n");
    exits_with("--acked @/acked @/one @/two", 101,
               "lost c found 2 times in 1 Maildir, for 2 recipients\n");
    exits_with("--acked @/acked @/one @/two --copies 1", 0,
               "doubled c found 2 times in 1 Maildir, for 2 recipients\n");
    tree_put("two/cur/1", message_of("c", "hello\r\n"));
    exits_with("--acked @/acked @/one @/two", 0,
               "doubled c found 3 times in 2 Maildirs, for 2 recipients\n");
}

static void acked_files(void **state)
{
    (void)state;
    tree_make_maildir("mail");
    static const char *const wrong[] = {
        "a 00000000\n",
        "a 0000000 1\n",
        "a 00000000 1 \n",
        "a 00000000 1 2\n",
        " 00000000 1\n",
        "\n",
        "a 00000000 0\n",
        "a 00000000 x\n",
        "a 0000000g 1\n",
        "a 00000000 -1\n",
        "a 00000000 4294967296\n",
        "a 00000000 99999999999\n",
        "a  00000000 1\n",
        "a\n",
        "a 00000000 1\r\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 00000000 1\n",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char text[256];
        snprintf(text, sizeof text, "z 00000000 1\n%s", wrong[i]);
        tree_put("acked", text);
        exits_with("--acked @/acked @/mail", 2, "line 2 is not \"ID SUM RECIPIENTS\"");
    }
    tree_put("acked", "a 00000000 1\nb 0000");
    exits_with("--acked @/acked @/mail", 101, "the last line is not whole; it is left out");
    exits_with("--acked @/acked @/mail", 101, "acknowledged             1\n");
    tree_put("acked", "");
    exits_with("--acked @/acked @/mail", 2, "nothing was acknowledged: nothing to verify");
    tree_put("more", "a 0000");
    exits_with("--acked @/acked --acked @/more @/mail", 2, "nothing was acknowledged");
    tree_put("more", "a 00000000 1\n");
    exits_with("--acked @/acked --acked @/more @/mail", 101, "acknowledged             1\n");
    tree_put("acked", "a ffffffff 4294967295\n");
    exits_with("--acked @/acked @/mail", 101, "acknowledged             1\n");
}

static void json(void **state)
{
    (void)state;
    struct verify verify;
    char said[8192];
    acked_abc(&verify);
    verify_table_free(&verify);
    tree_make_maildir("mail");
    tree_put("mail/new/1", message_of("a", "hello\r\n"));
    tree_put("mail/new/2", message_of("b", "torn"));
    tree_put("mail/new/\xff\"3", message_of("\xe4\"x", ""));
    for (unsigned i = 0; i < 12; i++) {
        char name[32];
        snprintf(name, sizeof name, "mail/cur/%u", i);
        tree_put(name, "no id\n\n");
    }
    int code = exits_run(run_main, "--json --acked @/acked @/mail", said, sizeof said);
    assert_int_equal(code, 101);
    json_error_t error;
    json_t *object = json_loads(said, 0, &error);
    assert_non_null(object);
    static const struct {
        const char *key;
        int count;
    } counts[] = {
        {"acknowledged", 3 },
        {"messages",     15},
        {"lost",         1 },
        {"torn",         1 },
        {"doubled",      0 },
        {"strange",      1 },
        {"other",        12},
    };
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        assert_int_equal(json_integer_value(json_object_get(object, counts[i].key)),
                         counts[i].count);
    assert_true(json_is_false(json_object_get(object, "good")));
    json_t *first = json_object_get(object, "first");
    assert_int_equal(json_array_size(json_object_get(first, "other")), 10);
    json_t *torn = json_array_get(json_object_get(first, "torn"), 0);
    assert_string_equal(json_string_value(json_object_get(torn, "id")), "b");
    assert_string_equal(json_string_value(json_object_get(torn, "place")), tree_path("mail/new/2"));
    json_t *strange = json_array_get(json_object_get(first, "strange"), 0);
    assert_string_equal(json_string_value(json_object_get(strange, "id")), "?\"x");
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_read),
        cmocka_unit_test(long_ids_are_none),
        cmocka_unit_test(sums_of_any_line_ends),
        TREE_TEST(findings),
        TREE_TEST(spool_and_maildir_together),
        TREE_TEST(copies),
        TREE_TEST(many_messages),
        TREE_TEST(program),
        TREE_TEST(program_counts_maildirs),
        TREE_TEST(acked_files),
        TREE_TEST(json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
