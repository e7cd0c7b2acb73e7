/* The places where ringmx-load verify looks: Maildirs and logs of the sink. The spool has a test of
 * its own. */
#include "bench/load/verify_table.h"
#include "gateway/spool/crc.h"
#include "tests/support/tree.h"
#include "tests/unit/load_verify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void maildirs(void **state)
{
    (void)state;
    struct verify verify;
    char error[256];
    acked_abc(&verify);
    tree_make("mail");
    tree_make("mail/example.org");
    tree_make_maildir("mail/one");
    tree_make_maildir("mail/example.org/two");
    tree_put("mail/one/new/1", message_of("a", "hello\r\n"));
    tree_put("mail/one/cur/2:2,S", message_of("b", ""));
    tree_put("mail/one/tmp/3", message_of("c", "hello\r\n"));
    tree_put("mail/one/4", message_of("c", "hello\r\n"));
    tree_put("mail/example.org/two/new/1", message_of("c", "hello\r\n"));
    tree_put("mail/example.org/two/new/2", "Subject: another\n\n");
    tree_put("mail/example.org/two/new/3", "");
    tree_put("mail/example.org/two/cur/4", message_of("d", "hello\r\n"));
    assert_true(verify_maildir(&verify, tree_path("mail"), error, sizeof error));
    verify_table_judge(&verify, 0);
    FINDINGS(&verify, 1, 0, 0, 1, 2);
    assert_string_equal(verify.lists[VERIFY_LOST].first[0].id, "c");
    assert_string_equal(verify.lists[VERIFY_STRANGE].first[0].place,
                        tree_path("mail/example.org/two/cur/4"));
    verify_table_free(&verify);
}

static void maildirs_by_any_name(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t messages;
    } names[] = {
        {"mail",       2},
        {"mail/",      2},
        {"mail/new",   1},
        {"mail/new//", 1},
        {"mail/cur",   1},
        {"mail/tmp",   0},
        {"brandnew",   0},
        {"empty",      0},
    };
    tree_make_maildir("mail");
    tree_make("empty");
    tree_make("brandnew");
    tree_make("mail/renew");
    tree_put("mail/new/1", message_of("a", "hello\r\n"));
    tree_put("mail/cur/2", message_of("a", "hello\r\n"));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct verify verify;
        char error[256];
        acked_abc(&verify);
        assert_true(verify_maildir(&verify, tree_path(names[i].name), error, sizeof error));
        assert_int_equal(verify.messages, names[i].messages);
        verify_table_free(&verify);
    }
    struct verify verify;
    char error[256];
    acked_abc(&verify);
    tree_put("empty/file", "no mail");
    assert_false(verify_maildir(&verify, tree_path("empty"), error, sizeof error));
    assert_non_null(strstr(error, "neither a Maildir nor a spool"));
    assert_false(verify_maildir(&verify, tree_path("none"), error, sizeof error));
    assert_non_null(strstr(error, "No such file"));
    verify_table_free(&verify);
}

/* What is gone when it is to be read (here: a link to nowhere) is only not there. */
static void files_that_vanish(void **state)
{
    (void)state;
    struct verify verify;
    char error[256];
    acked_abc(&verify);
    tree_make_maildir("mail");
    tree_put("mail/new/1", message_of("a", "hello\r\n"));
    assert_int_equal(symlink("nowhere", tree_path("mail/new/2")), 0);
    assert_int_equal(symlink("nowhere", tree_path("mail/tmp/3")), 0);
    assert_int_equal(symlink("nowhere", tree_path("gone")), 0);
    assert_true(verify_maildir(&verify, tree_path("mail"), error, sizeof error));
    assert_int_equal(verify.messages, 1);
    assert_false(verify_maildir(&verify, tree_path("gone"), error, sizeof error));
    verify_table_free(&verify);
}

/* Places in the order in which they are given, up to the first NULL, and what is found there. */
struct view {
    const char *places[4];
    uint64_t messages, lost, doubled;
};

static void look(const struct view *views, size_t count, uint32_t copies)
{
    for (size_t i = 0; i < count; i++) {
        const struct view *view = &views[i];
        struct verify verify;
        char error[256];
        acked_abc(&verify);
        for (unsigned j = 0; j < 4 && view->places[j] != NULL; j++)
            assert_true(verify_maildir(&verify, tree_path(view->places[j]), error, sizeof error));
        verify_table_judge(&verify, copies);
        uint64_t lost = verify.lists[VERIFY_LOST].count;
        uint64_t doubled = verify.lists[VERIFY_DOUBLED].count;
        if (verify.messages != view->messages || lost != view->lost || doubled != view->doubled)
            fail_msg("view %zu: messages %llu, lost %llu, doubled %llu", i,
                     (unsigned long long)verify.messages, (unsigned long long)lost,
                     (unsigned long long)doubled);
        verify_table_free(&verify);
    }
}

/* "c" has two recipients, "a" and "b" have one. */
static void make_two_users(void)
{
    tree_make("mail");
    tree_make_maildir("mail/one");
    tree_make_maildir("mail/two");
    tree_put("mail/one/new/1", message_of("a", "hello\r\n"));
    tree_put("mail/two/new/1", message_of("b", ""));
    tree_put("mail/one/new/2", message_of("c", "hello\r\n"));
}

/* A second copy for one recipient is none for the other. */
static void copies_in_one_maildir(void **state)
{
    (void)state;
    make_two_users();
    tree_put("mail/one/cur/3", message_of("c", "hello\r\n"));
    static const struct view one_twice[] = {
        {{"mail"},                                     4, 1, 0},
        {{"mail/one", "mail/two"},                     4, 1, 0},
        {{"mail/one/new", "mail/two", "mail/one/cur"}, 4, 1, 0},
        {{"mail/one"},                                 3, 1, 0}, /* "b": they share it */
    };
    look(one_twice, 4, 0);
    static const struct view copies[] = {
        {{"mail"}, 4, 2, 0}
    };
    look(copies, 1, 2);
    tree_put("mail/two/cur/4", message_of("c", "hello\r\n"));
    static const struct view both[] = {
        {{"mail"},                                     5, 0, 1},
        {{"mail/one/new", "mail/two", "mail/one/cur"}, 5, 0, 1},
        {{"mail/two/cur", "mail/one/cur"},             2, 2, 0},
    };
    look(both, 3, 0);
}

/* Each file counts once, by whatever ways it is reached. */
static void places_that_overlap(void **state)
{
    (void)state;
    make_two_users();
    static const struct view views[] = {
        {{"mail", "mail"},                         4, 0, 0},
        {{"mail/one", "mail/one/new", "mail/two"}, 4, 0, 0},
        {{"mail/two/new", "mail", "mail/one/new"}, 4, 0, 0},
    };
    tree_put("mail/two/new/2", message_of("c", "hello\r\n"));
    look(views, 3, 0);
    assert_int_equal(symlink("one", tree_path("mail/three")), 0);
    look(views, 3, 0);
    assert_int_equal(remove(tree_path("mail/two/new/2")), 0);
    static const struct view linked[] = {
        {{"mail"},                   3, 1, 0},
        {{"mail/one", "mail/three"}, 2, 2, 0},
    };
    look(linked, 2, 0);
    assert_int_equal(symlink("../../one/new/2", tree_path("mail/two/new/2")), 0);
    look(linked, 1, 0);
}

/* A server may link the one file into the Maildir of each recipient; a reader that moves a file by
 * a link makes no second copy. */
static void files_with_several_names(void **state)
{
    (void)state;
    make_two_users();
    static const struct view one[] = {
        {{"mail"},                     3, 1, 0},
        {{"mail/one/cur", "mail/one"}, 2, 2, 0},
    };
    assert_int_equal(link(tree_path("mail/one/new/2"), tree_path("mail/one/cur/2")), 0);
    look(one, 2, 0);
    static const struct view both[] = {
        {{"mail"}, 4, 0, 0}
    };
    assert_int_equal(link(tree_path("mail/one/new/2"), tree_path("mail/two/new/2")), 0);
    look(both, 1, 0);
}

/* Each of many in two Maildirs, but number 7 twice in one. */
static void many_in_several_maildirs(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    char text[COUNT * 32], error[256], name[32];
    size_t len = 0;
    tree_make("mail");
    tree_make_maildir("mail/0");
    tree_make_maildir("mail/1");
    for (unsigned i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", i);
        len += (size_t)snprintf(text + len, sizeof text - len, "%s %08x 2\n", id, crc32(0, "", 0));
        for (unsigned copy = 0; copy < 2; copy++) {
            snprintf(name, sizeof name, "mail/%u/%s/%u", i == 7 ? 0 : copy,
                     copy == 0 ? "new" : "cur", i);
            tree_put(name, message_of(id, ""));
        }
    }
    tree_put("acked", text);
    struct verify verify = {0};
    verify_table_read(&verify, tree_path("acked"));
    verify_table_index(&verify);
    assert_true(verify_maildir(&verify, tree_path("mail"), error, sizeof error));
    verify_table_judge(&verify, 0);
    FINDINGS(&verify, 1, 0, 0, 0, 0);
    assert_string_equal(verify.lists[VERIFY_LOST].first[0].id, "7");
    verify_table_free(&verify);
}

static void many_files(void **state)
{
    (void)state;
    enum { COUNT = 50000 };
    struct verify_seen seen = {0};
    for (unsigned turn = 0; turn < 2; turn++)
        for (unsigned i = 0; i < COUNT; i++) {
            struct stat status = {.st_dev = i % 3, .st_ino = i / 3};
            assert_int_equal(verify_seen_add(&seen, &status, 0), i + 1);
        }
    assert_int_equal(seen.count, COUNT);
    struct stat status = {.st_dev = 0, .st_ino = 7};
    assert_int_equal(verify_seen_add(&seen, &status, 5), COUNT + 1);
    assert_int_equal(verify_seen_add(&seen, &status, 5), COUNT + 1);
    verify_seen_free(&seen);
}

static void large_messages(void **state)
{
    (void)state;
    enum { SIZE = 3000000 };
    struct verify verify = {0};
    char error[256], *body = malloc(SIZE + 1);
    assert_non_null(body);
    for (size_t i = 0; i < SIZE; i++)
        body[i] = i % 72 == 70 ? '\r' : i % 72 == 71 ? '\n' : (char)('a' + i * 7 % 26);
    body[SIZE] = '\0';
    tree_make_maildir("mail");
    FILE *acked = fopen(tree_path("acked"), "we");
    for (unsigned i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "mail/new/%u", i);
        FILE *file = fopen(tree_path(name), "we");
        fprintf(file, "X-Load-Id: %u\r\nX-Load-Sum: %08x\r\n\r\n", i, crc32(0, body, SIZE));
        fprintf(acked, "%u %08x 1\n", i, crc32(0, body, SIZE));
        body[SIZE / 2] ^= i == 1; /* of the second one octet, of the third the end */
        fwrite(body, 1, i == 2 ? SIZE - 1 : SIZE, file);
        body[SIZE / 2] ^= i == 1;
        fclose(file);
    }
    fclose(acked);
    verify_table_read(&verify, tree_path("acked"));
    verify_table_index(&verify);
    assert_true(verify_maildir(&verify, tree_path("mail"), error, sizeof error));
    verify_table_judge(&verify, 0);
    FINDINGS(&verify, 0, 2, 0, 0, 0);
    verify_table_free(&verify);
    free(body);
}

#define SINK_FRONT "time=2026-11-22T00:00:00.000Z event=message number=1 session=2"
#define SINK_BACK  " size=5 from=\"<a@b>\" to=\"<c@d>,<e@f>\"\n"

static void sink_logs(void **state)
{
    (void)state;
    struct verify verify;
    char error[256], text[2048];
    acked_abc(&verify);
    uint32_t sum = crc32(0, "hello\r\n", 7);
    snprintf(text, sizeof text,
             SINK_FRONT
             " load_id=a load_sum=%08x sum=%08x" SINK_BACK SINK_FRONT
             " load_id=b load_sum=00000000 sum=00000000" SINK_BACK SINK_FRONT
             " load_id=c load_sum=%08x sum=%08x chunked=true 8bit=true" SINK_BACK SINK_FRONT
             " load_id=d load_sum=%08x sum=%08x" SINK_BACK SINK_FRONT
             " load_id=e sum=%08x" SINK_BACK SINK_FRONT
             " sum=%08x size=5 from=\"< load_id=a sum=00000000>\" to=\"\"\n" SINK_FRONT
             " load_id=a load_sum=%08x sum=%08x size=7 from=\"<x",
             sum, sum, sum, sum ^ 1, sum, sum, sum, sum, sum, sum);
    tree_put("log", text);
    assert_true(verify_sink(&verify, tree_path("log"), error, sizeof error));
    verify_table_judge(&verify, 0);
    FINDINGS(&verify, 0, 2, 0, 1, 1);
    assert_string_equal(verify.lists[VERIFY_TORN].first[0].id, "c");
    snprintf(text, sizeof text, "%s:3", tree_path("log"));
    assert_string_equal(verify.lists[VERIFY_TORN].first[0].place, text);
    assert_string_equal(verify.lists[VERIFY_TORN].first[1].id, "e");
    tree_put("log", "");
    assert_true(verify_sink(&verify, tree_path("log"), error, sizeof error));
    static const char *const wrong[] = {
        "something else\n",
        "\n",
        SINK_FRONT " load_id=a load_sum=00000000" SINK_BACK,
        SINK_FRONT " load_id=a load_sum=00000000 sum=0000000" SINK_BACK,
        SINK_FRONT " load_id=a load_sum=00000000 sum=0000000x" SINK_BACK,
        "event=message number=1 sum=00000000" SINK_BACK,
        "number=1 event=message sum=00000000" SINK_BACK,
        "time=1 event=listen sum=00000000" SINK_BACK,
        SINK_FRONT " sum=00000000\n",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        tree_put("log", wrong[i]);
        assert_false(verify_sink(&verify, tree_path("log"), error, sizeof error));
        assert_non_null(strstr(error, "line 1 is not of the log of ringmx-sink"));
    }
    assert_false(verify_sink(&verify, tree_path("none"), error, sizeof error));
    verify_table_free(&verify);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(maildirs),
        TREE_TEST(maildirs_by_any_name),
        TREE_TEST(files_that_vanish),
        TREE_TEST(large_messages),
        TREE_TEST(sink_logs),
        TREE_TEST(copies_in_one_maildir),
        TREE_TEST(places_that_overlap),
        TREE_TEST(files_with_several_names),
        TREE_TEST(many_in_several_maildirs),
        cmocka_unit_test(many_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
