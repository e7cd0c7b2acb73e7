/* Real messages from folders and mbox files: which there are, in which order, and what becomes of
 * their lines. */
#include "bench/load/corpus.h"
#include "tests/support/exits.h"
#include "tests/support/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Reads, and compares all messages with a list that NULL ends. */
static void corpus_is(const char *path, const char *const expected[], uint64_t left_out)
{
    struct corpus corpus;
    corpus_read(&corpus, path);
    assert_int_equal(corpus.left_out, left_out);
    for (size_t i = 0; i < corpus.count; i++) {
        assert_non_null(expected[i]);
        if (corpus.messages[i].len != strlen(expected[i]) ||
            memcmp(corpus.messages[i].text, expected[i], corpus.messages[i].len) != 0)
            fail_msg("message %zu: \"%.*s\" and not \"%s\"", i, (int)corpus.messages[i].len,
                     (const char *)corpus.messages[i].text, expected[i]);
    }
    assert_null(expected[corpus.count]);
    corpus_free(&corpus);
}

#define CORPUS_IS(path, left_out, ...)                                                             \
    corpus_is(path, (const char *const[]){__VA_ARGS__, NULL}, left_out)

static void folders_are_searched_in_order(void **state)
{
    (void)state;
    tree_make("b");
    tree_make("b/new");
    tree_make("empty");
    tree_put("c", "Subject: c\n\nc\n");
    tree_put("a.eml", "Subject: a\n\na\n");
    tree_put("b/2", "Subject: b2\n\n");
    tree_put("b/10", "Subject: b10\n\n");
    tree_put("b/new/x:2,S", "X: bx\n\n");
    tree_put("README", "This is no message.\n");
    tree_put("b/code.c", "/* nor: this */\n");
    tree_put("noise", ": nothing\n");
    tree_put("indented", " A: b\n");
    tree_put("z.EML", "what it is called makes it one\n");
    tree_put("zero", "");
    assert_int_equal(symlink("c", tree_path("link")), 0);
    CORPUS_IS(tree_path(""), 0, "Subject: a\r\n\r\na\r\n", "Subject: b10\r\n\r\n",
              "Subject: b2\r\n\r\n", "X: bx\r\n\r\n", "Subject: c\r\n\r\nc\r\n",
              "Subject: c\r\n\r\nc\r\n", "what it is called makes it one\r\n");
    CORPUS_IS(tree_path("b/new"), 0, "X: bx\r\n\r\n");
}

static void one_file_is_one_message(void **state)
{
    (void)state;
    tree_put("any", "not even a field\n");
    CORPUS_IS(tree_path("any"), 0, "not even a field\r\n");
}

static void line_ends_become_right(void **state)
{
    (void)state;
    tree_put("mixed.eml", "A: b\r\nC: d\n\r\n\nlast\r\n.\n..");
    CORPUS_IS(tree_path("mixed.eml"), 0, "A: b\r\nC: d\r\n\r\n\r\nlast\r\n.\r\n..\r\n");
    tree_put("ends.eml", "A: b\n\nx\r");
    CORPUS_IS(tree_path("ends.eml"), 0, "A: b\r\n\r\nx\r\n");
    tree_put("empty.eml", "");
    CORPUS_IS(tree_path("empty.eml"), 0, "");
}

static void what_cannot_be_sent_is_left_out(void **state)
{
    (void)state;
    static char longest[1200], longer[1200];
    snprintf(longest, sizeof longest, "A: %0995d\n\n", 0);
    snprintf(longer, sizeof longer, "A: %0996d\r\n\n", 0);
    tree_put("1.eml", longest);
    tree_put("2.eml", longer);
    tree_put("3.eml", "A: b\n\nbare\rreturn\n");
    tree_put("4.eml", "A: b\n\ntwo\r\r\n");
    tree_put_octets("5.eml", "A: b\n\nn\0l\n", 10);
    tree_put("6.eml", "A: b\n\n");
    char expected[1200];
    snprintf(expected, sizeof expected, "A: %0995d\r\n\r\n", 0);
    CORPUS_IS(tree_path(""), 4, expected, "A: b\r\n\r\n");
}

static void octets_above_127_are_noted(void **state)
{
    (void)state;
    tree_put("1.eml", "A: \x7f\n\nplain\n");
    tree_put("2.eml", "A: b\n\n\x80\n");
    tree_put("3.eml", "A: \xff\n\n\n");
    struct corpus corpus;
    corpus_read(&corpus, tree_path(""));
    assert_int_equal(corpus.count, 3);
    assert_false(corpus.messages[0].eight_bit);
    assert_true(corpus.messages[1].eight_bit);
    assert_true(corpus.messages[2].eight_bit);
    corpus_free(&corpus);
}

static void an_mbox_is_taken_apart(void **state)
{
    (void)state;
    tree_put("mbox", "From a@b Mon Jan  1 00:00:00 2026\n"
                     "Subject: one\n"
                     "Content-Length: 9999\n"
                     "\n"
                     ">From the start\n"
                     ">>From twice\n"
                     ">not From\n"
                     "> From\n"
                     "aFrom here\n"
                     "From here no message begins: there is no empty line before it\n"
                     "\n"
                     "From c@d Mon Jan  1 00:00:00 2026\n"
                     "Subject: two\r\n"
                     "\r\n"
                     "ends with two empty lines\r\n"
                     "\r\n"
                     "\r\n"
                     "From e@f Mon Jan  1 00:00:00 2026\n"
                     "Subject: three\n"
                     "\n"
                     "From\n"
                     "the end");
    static const char one[] =
        "Subject: one\r\nContent-Length: 9999\r\n\r\nFrom the start\r\n"
        ">From twice\r\n>not From\r\n> From\r\naFrom here\r\nFrom here no message begins: "
        "there is no empty line before it\r\n";
    static const char two[] = "Subject: two\r\n\r\nends with two empty lines\r\n\r\n";
    static const char three[] = "Subject: three\r\n\r\nFrom\r\nthe end\r\n";
    CORPUS_IS(tree_path("mbox"), 0, one, two, three);
    CORPUS_IS(tree_path(""), 0, one, two, three);
    tree_put("plain.eml", "A: b\n\n>From is nothing\n\nFrom here, too\n");
    CORPUS_IS(tree_path("plain.eml"), 0, "A: b\r\n\r\n>From is nothing\r\n\r\nFrom here, too\r\n");
}

static void an_mbox_may_be_odd(void **state)
{
    (void)state;
    tree_put("1", "From a\n");
    CORPUS_IS(tree_path("1"), 0, "");
    tree_put("2", "From a\nFrom b\n\nFrom c\nX: y\n\n");
    CORPUS_IS(tree_path("2"), 0, "", "", "X: y\r\n");
    tree_put("4", "From a\nX: y\n\nz\n\n\n");
    CORPUS_IS(tree_path("4"), 0, "X: y\r\n\r\nz\r\n\r\n");
    tree_put_octets("3", "From a\nA: b\n\n\0\n\nFrom b\nA: c\n\n", 29);
    CORPUS_IS(tree_path("3"), 1, "A: c\r\n");
}

static void read_one(const void *path)
{
    struct corpus corpus;
    corpus_read(&corpus, path);
    corpus_free(&corpus);
}

static void nothing_to_send_is_refused(void **state)
{
    (void)state;
    char said[512];
    assert_int_equal(exits_run(read_one, tree_path(""), said, sizeof said), 2);
    assert_non_null(strstr(said, "there is no message that could be sent (0 were left out)"));
    tree_put("1.eml", "\r\r\n");
    assert_int_equal(exits_run(read_one, tree_path(""), said, sizeof said), 2);
    assert_non_null(strstr(said, "(1 were left out)"));
    assert_int_equal(exits_run(read_one, tree_path("none"), said, sizeof said), 2);
    assert_non_null(strstr(said, "No such file or directory"));
    assert_int_equal(exits_run(read_one, "/dev/null", said, sizeof said), 2);
    assert_non_null(strstr(said, "/dev/null: neither a folder nor a file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(folders_are_searched_in_order),
        TREE_TEST(one_file_is_one_message),
        TREE_TEST(line_ends_become_right),
        TREE_TEST(what_cannot_be_sent_is_left_out),
        TREE_TEST(octets_above_127_are_noted),
        TREE_TEST(an_mbox_is_taken_apart),
        TREE_TEST(an_mbox_may_be_odd),
        TREE_TEST(nothing_to_send_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
