/* What submitted mail may ask for: the lines of EHLO, what is unknown, and the bounds of what is
 * taken. */
#include "gateway/receive/terms.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t now_us = 1795352400ull * 1000000 + 999999; /* 2026-11-22T13:00:00Z */
static const struct submission_rules all = {
    .hold_max_s = 3600, .deliver_by_s = 60, .priority_max = 4};

static enum reply judge(const struct submission_rules *rules, const char *parameters,
                        struct envelope_terms *terms)
{
    char line[256];
    struct command command;
    int len = snprintf(line, sizeof line, "MAIL FROM:<a@b.example> %s", parameters);
    assert_int_equal(command_parse(bytes_make(line, (size_t)len), false, true, &command),
                     COMMAND_OK);
    if (!terms_offered(rules, &command))
        return REPLY_UNKNOWN_PARAMETER;
    return terms_judge(rules, &command, now_us, terms);
}

static void offered(void **state)
{
    char out[TERMS_EHLO_MAX];
    size_t len = terms_ehlo(&all, now_us, out);
    const char expected[] = "250-FUTURERELEASE 3600 2026-11-22T14:00:00Z\r\n"
                            "250-DELIVERBY 60\r\n250-MT-PRIORITY\r\n";
    assert_int_equal(len, sizeof expected - 1);
    assert_memory_equal(out, expected, len);
    assert_int_equal(terms_ehlo(NULL, now_us, out), 0);
    struct submission_rules rules = {.priority_max = -10};
    assert_int_equal(terms_ehlo(&rules, now_us, out), 0);
    rules.priority_max = -9;
    assert_int_equal(terms_ehlo(&rules, now_us, out), strlen("250-MT-PRIORITY\r\n"));
    /* The longest there is. */
    rules = (struct submission_rules){.hold_max_s = UINT32_MAX, .deliver_by_s = UINT32_MAX};
    assert_in_range(terms_ehlo(&rules, now_us, out), 1, TERMS_EHLO_MAX - 1);
    (void)state;
}

static void unknown(void **state)
{
    struct envelope_terms terms;
    struct submission_rules rules = all;
    assert_int_equal(judge(NULL, "HOLDFOR=1", &terms), REPLY_UNKNOWN_PARAMETER);
    assert_int_equal(judge(NULL, "MT-PRIORITY=0", &terms), REPLY_UNKNOWN_PARAMETER);
    rules.hold_max_s = 0;
    assert_int_equal(judge(&rules, "HOLDFOR=1", &terms), REPLY_UNKNOWN_PARAMETER);
    assert_int_equal(judge(&rules, "BY=60;R", &terms), REPLY_NONE);
    rules.deliver_by_s = 0;
    assert_int_equal(judge(&rules, "BY=60;N MT-PRIORITY=1", &terms), REPLY_UNKNOWN_PARAMETER);
    rules.priority_max = -10;
    assert_int_equal(judge(&rules, "MT-PRIORITY=-9", &terms), REPLY_UNKNOWN_PARAMETER);
    assert_int_equal(judge(&rules, "SIZE=1", &terms), REPLY_NONE);
    (void)state;
}

static void bounds(void **state)
{
    const uint32_t now_s = (uint32_t)(now_us / 1000000);
    const uint32_t from_s = now_s + 1; /* no second is cut short */
    struct envelope_terms terms;
    assert_int_equal(judge(&all, "HOLDFOR=3600", &terms), REPLY_NONE);
    assert_int_equal(terms.release_s, from_s + 3600);
    assert_int_equal(terms.hold_s, 3600);
    assert_int_equal(judge(&all, "HOLDFOR=3601", &terms), REPLY_HOLD_TOO_LONG);
    assert_int_equal(judge(&all, "HOLDUNTIL=2026-11-22T14:00:00Z", &terms), REPLY_NONE);
    assert_int_equal(terms.release_s, now_s + 3600);
    assert_int_equal(terms.hold_s, 0);
    assert_int_equal(judge(&all, "HOLDUNTIL=2026-11-22T14:00:01Z", &terms), REPLY_HOLD_TOO_LONG);
    assert_int_equal(judge(&all, "HOLDUNTIL=9999-12-31T23:59:59Z", &terms), REPLY_HOLD_TOO_LONG);
    assert_int_equal(judge(&all, "HOLDUNTIL=1999-12-31T23:59:59Z", &terms), REPLY_NONE);

    assert_int_equal(judge(&all, "BY=60;RT", &terms), REPLY_NONE);
    assert_int_equal(terms.by_s, from_s + 60);
    assert_int_equal(terms.by_mode, ENVELOPE_BY_RETURN | ENVELOPE_BY_TRACE);
    assert_int_equal(judge(&all, "BY=59;R", &terms), REPLY_DELIVER_BY);
    assert_int_equal(judge(&all, "BY=-999999999;N", &terms), REPLY_NONE);
    assert_int_equal(terms.by_s, from_s - 999999999);
    assert_int_equal(terms.by_mode, ENVELOPE_BY_TOLD);
    assert_int_equal(judge(&all, "BY=0;NT", &terms), REPLY_NONE);
    assert_int_equal(terms.by_mode, ENVELOPE_BY_TOLD | ENVELOPE_BY_TRACE);
    assert_int_equal(judge(&all, "BY=1;N", &terms), REPLY_NONE);
    assert_int_equal(terms.by_mode, 0);
    assert_int_equal(judge(&all, "BY=999999999;N", &terms), REPLY_NONE);
    assert_int_equal(judge(&all, "BY=100;R HOLDFOR=100", &terms), REPLY_BY_BEFORE_HOLD);
    assert_int_equal(judge(&all, "BY=100;N HOLDFOR=101", &terms), REPLY_BY_BEFORE_HOLD);
    assert_int_equal(judge(&all, "BY=101;R HOLDFOR=100", &terms), REPLY_NONE);

    assert_int_equal(judge(&all, "MT-PRIORITY=4", &terms), REPLY_NONE);
    assert_int_equal(terms.priority, 4);
    assert_int_equal(judge(&all, "MT-PRIORITY=5", &terms), REPLY_PRIORITY);
    assert_int_equal(judge(&all, "MT-PRIORITY=-9", &terms), REPLY_NONE);
    assert_int_equal(terms.priority, -9);
    assert_int_equal(judge(&all, "HOLDFOR=1", &terms), REPLY_NONE);
    assert_int_equal(terms.priority, 0);
    struct submission_rules low = {.priority_max = -3};
    assert_int_equal(judge(&low, "SIZE=1", &terms), REPLY_NONE); /* no way around it */
    assert_int_equal(terms.priority, -3);
    assert_int_equal(judge(&low, "MT-PRIORITY=0", &terms), REPLY_PRIORITY);
    low.priority_max = -10;
    assert_int_equal(judge(&low, "SIZE=1", &terms), REPLY_NONE);
    assert_int_equal(terms.priority, 0);
    assert_false(envelope_has_terms(&(struct envelope_terms){.hold_s = 1}));
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offered),
        cmocka_unit_test(unknown),
        cmocka_unit_test(bounds),
    };
    return cmocka_run_group_tests_name("terms", tests, NULL, NULL);
}
