/* Replies of servers, whole, in parts, and broken (parser/reply). */
#include "parser/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct reply_read reply;
static char lines[4096];

static void note(void *user, uint32_t index, struct bytes text)
{
    size_t len = strlen(lines);
    assert_ptr_equal(user, lines);
    snprintf(lines + len, sizeof(lines) - len, "%u:%.*s|", index, (int)text.len,
             (const char *)text.data);
}

/* read_parts reads `in` in parts of `part` octets; *taken: of all. */
static enum reply_result read_parts(struct bytes in, size_t part, size_t *taken)
{
    enum reply_result result = REPLY_MORE;
    reply_read_begin(&reply);
    lines[0] = '\0';
    *taken = 0;
    while (result == REPLY_MORE && *taken < in.len) {
        size_t len = part < in.len - *taken ? part : in.len - *taken, once;
        uint8_t *copy = malloc(len); /* of its own size, for the address sanitizer */
        assert_non_null(copy);
        memcpy(copy, in.data + *taken, len);
        result = reply_read(&reply, bytes_make(copy, len), &once, note, lines);
        assert_in_range(once, 1, len);
        assert_true(result != REPLY_MORE || once == len);
        *taken += once;
        free(copy);
    }
    return result;
}

static void whole(const char *in, uint16_t code, const char *text, const char *wanted_lines)
{
    for (size_t part = 1; part <= strlen(in); part++) {
        size_t taken;
        assert_int_equal(read_parts(bytes_of_string(in), part, &taken), REPLY_WHOLE);
        assert_int_equal(taken, strlen(in));
        assert_int_equal(reply.code, code);
        assert_string_equal(reply.text, text);
        assert_int_equal(reply.text_len, strlen(text));
        if (wanted_lines != NULL)
            assert_string_equal(lines, wanted_lines);
    }
}

static void status_is(uint8_t class, uint16_t subject, uint16_t detail)
{
    assert_int_equal(reply.status.class, class);
    assert_int_equal(reply.status.subject, subject);
    assert_int_equal(reply.status.detail, detail);
}

static void good(void **state)
{
    (void)state;
    whole("220 mx.test ESMTP\r\n", 220, "mx.test ESMTP", "0:mx.test ESMTP|");
    whole("250\r\n", 250, "", "0:|");
    whole("250 \r\n", 250, "", "0:|");
    whole("250 ok\n", 250, "ok", "0:ok|"); /* some servers */
    whole("250-mx\r\n250-SIZE 100\n250 DSN\r\n", 250, "mx SIZE 100 DSN", "0:mx|1:SIZE 100|2:DSN|");
    whole("250-\r\n250-\r\n250 a\r\n", 250, "a", "0:|1:|2:a|");
    whole("250-a\r\n250\r\n", 250, "a", "0:a|1:|");
    whole("599 x\r\n", 599, "x", NULL);
    whole("250 a\rb\r\r\n", 250, "a?b?", NULL);
    whole("250-a\r\n251 b\r\n", 251, "a b", "0:a|1:b|"); /* bad style: the last code counts */
    whole("550-5.1.1 no\r\n552-x\r\n554 y\r\n", 554, "no x y", NULL);
}

static void statuses(void **state)
{
    (void)state;
    whole("250 2.1.5 ok\r\n", 250, "ok", "0:2.1.5 ok|");
    status_is(2, 1, 5);
    whole("550-5.1.1 no\r\n550 5.1.1 such\r\n", 550, "no such", NULL);
    status_is(5, 1, 1);
    whole("550-5.123.456  a\r\n550 5.9.9 b\r\n", 550, "a b", NULL);
    status_is(5, 123, 456);
    whole("550 no\r\n", 550, "no", NULL);
    status_is(0, 0, 0);
    whole("452-hello\r\n452 4.2.2 full\r\n", 452, "hello full", NULL);
    status_is(4, 2, 2);
    whole("550 5.7.1\r\n", 550, "", NULL);
    status_is(5, 7, 1);
    /* Text: the class is not the code's, or it is no status. */
    static const char *const texts[] = {
        "4.1.1 no",   "5.1 no", "5.1.1no", "5..1 no",  "5.1. no",     "5.1.",      "5.1.1.1 no",
        "5.1234.1 a", "5.",     "5.1.1-x", "5 1 1 no", "5.1.12345 a", "55.1.1 no", "2.0.0 a"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        char in[64];
        snprintf(in, sizeof(in), "550 %s\r\n", texts[i]);
        whole(in, 550, texts[i], NULL);
        status_is(0, 0, 0);
    }
    whole("354 3.0.0 go\r\n", 354, "3.0.0 go", NULL);
    status_is(0, 0, 0);
}

static void cleaned(void **state)
{
    (void)state;
    whole("250 \xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\r\n", 250,
          "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", NULL);
    whole("250 \xff\xc3(\xed\xa0\x80\x1b[0m\x7f\tx\r\n", 250,
          "?"
          "?(?"
          "?"
          "?"
          "?[0m? x",
          NULL);
    whole("250 a\xc2\x85"
          "b\r\n",
          250,
          "a?"
          "?b",
          NULL); /* NEL, a control of C1 */
    struct bytes nul = BYTES("250 a\0b\r\n");
    size_t taken;
    assert_int_equal(read_parts(nul, 3, &taken), REPLY_WHOLE);
    assert_string_equal(reply.text, "a?b");
}

static void behind(void **state)
{
    (void)state;
    struct bytes in = BYTES("250-a\r\n250 b\r\n354 c\r\n");
    size_t taken;
    assert_int_equal(read_parts(in, in.len, &taken), REPLY_WHOLE);
    assert_int_equal(taken, 14);
    in = bytes_skip(in, taken);
    assert_int_equal(read_parts(in, in.len, &taken), REPLY_WHOLE);
    assert_int_equal(reply.code, 354);
    assert_string_equal(reply.text, "c");
    assert_int_equal(reply_read(&reply, BYTES(""), &taken, NULL, NULL), REPLY_MORE);
    assert_int_equal(taken, 0);
}

static void broken(void **state)
{
    static const char *const cases[] = {
        "\r\n",           "\n",          "25\r\n",           "25x ok\r\n", "199 no\r\n",
        "600 no\r\n",     "000 no\r\n",  "250x\r\n",         "2500\r\n",   "250-a\r\n450 b\r\n",
        " 250 ok\r\n",    "\t250 a\r\n", "-250 a\r\n",       "2 50 a\r\n", "HTTP/1.1 200 OK\r\n",
        "250-a\r\nb\r\n", "250\tok\r\n", "\x16\x03\x01\r\n", "250.ok\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        for (size_t part = 1; part < 8; part++) {
            size_t taken;
            assert_int_equal(read_parts(bytes_of_string(cases[i]), part, &taken), REPLY_BROKEN);
        }
    }
}

static void bounds(void **state)
{
    static char room[2 * REPLY_LINE_MAX + REPLY_LINES_MAX * 10];
    size_t taken, len = 0;
    (void)state;
    for (int i = 0; i < REPLY_LINES_MAX - 1; i++, len += 7)
        memcpy(room + len, "250-x\r\n", 7);
    memcpy(room + len, "250 y\r\n", 7);
    for (size_t part = 1; part < 3000; part += 499) {
        assert_int_equal(read_parts(bytes_make(room, len + 7), part, &taken), REPLY_WHOLE);
        assert_int_equal(reply.line_count, REPLY_LINES_MAX);
    }
    memcpy(room + len, "250-x\r\n250 y\r\n", 14);
    for (size_t part = 1; part < 3000; part += 499)
        assert_int_equal(read_parts(bytes_make(room, len + 14), part, &taken), REPLY_BROKEN);
    memset(room, 'x', sizeof(room)); /* one line */
    memcpy(room, "250 ", 4);
    memcpy(room + REPLY_LINE_MAX - 1, "\r\n", 2);
    for (size_t part = 1; part < 4000; part += 499) {
        assert_int_equal(read_parts(bytes_make(room, REPLY_LINE_MAX + 1), part, &taken),
                         REPLY_WHOLE);
        assert_int_equal(reply.text_len, REPLY_TEXT_MAX);
        assert_int_equal(strlen(reply.text), REPLY_TEXT_MAX);
    }
    memset(room + 4, 'x', sizeof(room) - 4);
    for (size_t part = 1; part < 4000; part += 499) {
        assert_int_equal(read_parts(bytes_make(room, sizeof(room)), part, &taken), REPLY_BROKEN);
        assert_in_range(taken, REPLY_LINE_MAX, REPLY_LINE_MAX + part);
    }
}

/* The text is cut between characters. */
static void cut(void **state)
{
    char in[700] = "250 x";
    size_t taken, len = 5;
    (void)state;
    for (; len < 600; len += 3)
        memcpy(in + len, "\xe2\x82\xac", 3);
    memcpy(in + len, "\r\n", 3);
    assert_int_equal(read_parts(bytes_of_string(in), 700, &taken), REPLY_WHOLE);
    assert_int_equal(reply.text_len, 478);
    assert_memory_equal(reply.text + 475, "\xe2\x82\xac", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),   cmocka_unit_test(statuses), cmocka_unit_test(cleaned),
        cmocka_unit_test(behind), cmocka_unit_test(broken),   cmocka_unit_test(bounds),
        cmocka_unit_test(cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
