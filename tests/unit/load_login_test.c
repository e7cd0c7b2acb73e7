/* What connections say to log in, and what a command line or a file of users may be. */
#include "bench/load/login.h"
#include "tests/support/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct logins read_copy(const char *text, enum login_mechanism mechanism)
{
    char copy[2048];
    struct logins logins;
    snprintf(copy, sizeof copy, "%s", text);
    logins_read(&logins, copy, mechanism);
    if (text[0] != '@')
        assert_null(strstr(copy, strchr(text, ':') + 1)); /* nothing of it stays */
    return logins;
}

static void plain(void **state)
{
    (void)state;
    struct logins logins = read_copy("tim:tanstaaftanstaaf", LOGIN_PLAIN);
    assert_int_equal(logins.count, 1);
    assert_int_equal(logins.list[0].count, 1);
    assert_string_equal(logins.list[0].lines[0],
                        "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n"); /* RFC 4616 4 */
    logins_free(&logins);
    assert_int_equal(logins.count, 0);
}

static void login(void **state)
{
    (void)state;
    struct logins logins = read_copy("user@example.org:pass:word ", LOGIN_LOGIN);
    const struct login *one = &logins.list[0];
    assert_int_equal(one->count, 3);
    assert_string_equal(one->lines[0], "AUTH LOGIN\r\n");
    assert_string_equal(one->lines[1], "dXNlckBleGFtcGxlLm9yZw==\r\n");
    assert_string_equal(one->lines[2], "cGFzczp3b3JkIA==\r\n");
    logins_free(&logins);
}

static void longest(void **state)
{
    char text[1024];
    (void)state;
    int len = snprintf(text, sizeof text, "%0255d:%0511d", 0, 1);
    struct logins logins = read_copy(text, LOGIN_PLAIN);
    assert_int_equal(strlen(logins.list[0].lines[0]), 11 + (len + 1 + 2) / 3 * 4 + 2);
    logins_free(&logins);
}

/* A file with these lines; returns its name. */
static const char *write_file(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "@/tmp/ringmx-login-XXXXXX");
    int descriptor = mkstemp(path + 1);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, text, strlen(text)), strlen(text));
    close(descriptor);
    return path;
}

static void file(void **state)
{
    (void)state;
    const char *path = write_file("a:b\r\n\nc:d\ne:f");
    struct logins logins = read_copy(path, LOGIN_PLAIN);
    assert_int_equal(logins.count, 3);
    assert_string_equal(logins.list[0].lines[0], "AUTH PLAIN AGEAYg==\r\n");
    assert_string_equal(logins.list[2].lines[0], "AUTH PLAIN AGUAZg==\r\n");
    logins_free(&logins);
    unlink(path + 1);
}

static void read_plain(const void *text)
{
    struct logins logins = read_copy(text, LOGIN_PLAIN);
    logins_free(&logins);
}

static void refused(const char *text, const char *words)
{
    char said[2048];
    assert_int_equal(exits_run(read_plain, text, said, sizeof said), 2);
    if (strstr(said, words) == NULL || strstr(said, "geheim") != NULL)
        fail_msg("%s: %s", text, said);
}

/* No message says a password, nor what might be one. */
static void wrong(void **state)
{
    static const char *const none[] = {"geheim", ":geheim", "geheim:"};
    char text[1024];
    (void)state;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        const char *path = write_file(none[i]);
        refused(path, "--auth: line 1 of the file is not USER:PASSWORD");
        unlink(path + 1);
    }
    refused(":geheim", "--auth: the value is not USER:PASSWORD");
    refused("@/nowhere/users", "--auth: /nowhere/users: No such file or directory");
    const char *path = write_file("\n\n");
    refused(path, "nobody in it");
    unlink(path + 1);
    snprintf(text, sizeof text, "%0256d:geheim", 0);
    refused(text, "a name has at most 255 octets, a password 511");
    snprintf(text, sizeof text, "a:geheim%0506d", 0);
    refused(text, "a name has at most 255 octets, a password 511");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain), cmocka_unit_test(login), cmocka_unit_test(longest),
        cmocka_unit_test(file),  cmocka_unit_test(wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
