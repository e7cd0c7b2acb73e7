/* What MAIL may ask for in submitted mail: HOLDFOR, HOLDUNTIL (RFC 4865), BY (RFC 2852),
 * MT-PRIORITY (RFC 6710): the grammar of each, and that it is known that it was asked for even when
 * it is wrong.
 */
#include "parser/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static enum command_result parse(const char *parameters, struct command *command)
{
    char line[256];
    int len = snprintf(line, sizeof line, "MAIL FROM:<a@b.example> %s", parameters);
    return command_parse(bytes_make(line, (size_t)len), false, true, command);
}

static struct command good(const char *parameters)
{
    struct command command;
    if (parse(parameters, &command) != COMMAND_OK)
        fail_msg("%s", parameters);
    return command;
}

static void wrong(const char *parameters, unsigned asks)
{
    struct command command;
    enum command_result result = parse(parameters, &command);
    if (result != COMMAND_BAD_PARAMETER || command.asks != asks)
        fail_msg("%s: %d, asks %d", parameters, (int)result, command.asks);
}

static void nothing(void **state)
{
    struct command command = good("SIZE=5");
    assert_int_equal(command.asks, 0);
    assert_int_equal(command.priority, 0);
    (void)state;
}

static void hold(void **state)
{
    struct command command = good("HOLDFOR=1");
    assert_int_equal(command.asks, COMMAND_ASKS_HOLD);
    assert_int_equal(command.hold_s, 1);
    assert_int_equal(good("holdfor=999999999").hold_s, 999999999);
    command = good("HOLDUNTIL=2026-11-22T13:00:00Z");
    assert_int_equal(command.asks, COMMAND_ASKS_HOLD);
    assert_int_equal(command.hold_s, 0);
    assert_int_equal(command.hold_until_s, 1795352400);
    assert_int_equal(good("HOLDUNTIL=2026-11-22T14:00:00+01:00").hold_until_s, 1795352400);
    static const char *const none[] = {
        "HOLDFOR",
        "HOLDFOR=0",
        "HOLDFOR=01",
        "HOLDFOR=-1",
        "HOLDFOR=1000000000",
        "HOLDFOR=1s",
        "HOLDUNTIL",
        "HOLDUNTIL=tomorrow",
        "HOLDUNTIL=2026-11-22",
        "HOLDFOR=1 HOLDFOR=1",
        "HOLDFOR=1 HOLDUNTIL=2026-11-22T13:00:00Z",
        "HOLDUNTIL=2026-11-22T13:00:00Z HOLDFOR=1",
    };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        wrong(none[i], COMMAND_ASKS_HOLD);
    (void)state;
}

static void by(void **state)
{
    struct command command = good("BY=120;R");
    assert_int_equal(command.asks, COMMAND_ASKS_BY);
    assert_int_equal(command.by_s, 120);
    assert_true(command.by_return && !command.by_trace);
    command = good("by=+000000007;nt");
    assert_int_equal(command.by_s, 7);
    assert_true(!command.by_return && command.by_trace);
    assert_int_equal(good("BY=-999999999;N").by_s, -999999999);
    assert_int_equal(good("BY=0;N").by_s, 0);
    assert_true(good("BY=5;RT").by_trace);
    static const char *const none[] = {
        "BY",       "BY=120",  "BY=120;",       "BY=;R",    "BY=120;X",        "BY=120;T",
        "BY=0;R",   "BY=-1;R", "BY=120;RX",     "BY=12a;R", "BY=1234567890;R", "BY=120;RTT",
        "BY=+-1;N", "BY=-;N",  "BY=1;R BY=1;R",
    };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        wrong(none[i], COMMAND_ASKS_BY);
    (void)state;
}

static void priority(void **state)
{
    for (int value = -9; value <= 9; value++) {
        char text[32];
        snprintf(text, sizeof text, "MT-PRIORITY=%d", value);
        struct command command = good(text);
        assert_int_equal(command.asks, COMMAND_ASKS_PRIORITY);
        assert_int_equal(command.priority, value);
    }
    static const char *const none[] = {
        "MT-PRIORITY",    "MT-PRIORITY=10", "MT-PRIORITY=-10", "MT-PRIORITY=-0",
        "MT-PRIORITY=+1", "MT-PRIORITY=a",  "MT-PRIORITY=-",   "MT-PRIORITY=1 MT-PRIORITY=1"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        wrong(none[i], COMMAND_ASKS_PRIORITY);
    (void)state;
}

static void together(void **state)
{
    struct command command = good("MT-PRIORITY=4 BY=60;NT HOLDFOR=30 SIZE=9 BODY=8BITMIME");
    assert_int_equal(command.asks, COMMAND_ASKS_HOLD | COMMAND_ASKS_BY | COMMAND_ASKS_PRIORITY);
    wrong("MT-PRIORITY=4 BY=60", COMMAND_ASKS_BY | COMMAND_ASKS_PRIORITY);
    struct bytes rcpt = BYTES("RCPT TO:<a@b.example> BY=1;R");
    assert_int_equal(command_parse(rcpt, false, true, &command), COMMAND_UNKNOWN_PARAMETER);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing),  cmocka_unit_test(hold),     cmocka_unit_test(by),
        cmocka_unit_test(priority), cmocka_unit_test(together),
    };
    return cmocka_run_group_tests_name("command_terms", tests, NULL, NULL);
}
