/* Whom a notification goes to: the sender as the directory knows him, or as he is when foreign. */
#include "tests/support/office.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "gateway/base/limits.h"

/* Adds an event of a sender, and returns the recipients of its notification as one text:
 * "a@x b@y(forwarded)"; NULL: nobody was told, and a line at level error says why. */
static const char *told_at(struct office *office, const struct spool_message *original,
                           const char *sender, uint32_t *flags)
{
    static char text[1000];
    struct office_failure failure;
    struct envelope envelope;
    struct spool_reader reader = {0};
    size_t cursor = 0, len = 0;
    uint32_t told_before = office->told;
    office_failure(&failure, office, original, 1);
    failure.envelope.reverse_path = bytes_of_string(sender);
    enum notify_result result = notify_add(office->notify, &failure.event);
    if (result == NOTIFY_NOBODY)
        return NULL;
    assert_int_equal(result, NOTIFY_TAKEN);
    office_until_told(office, told_before + 1);
    assert_int_equal(spool_read(office->help.spool, &office->arrival, &reader, &envelope), 0);
    for (uint32_t i = 0; i < envelope.recipient_count; i++) {
        struct envelope_recipient one = envelope_recipient_next(spool_read_form(&reader), &cursor);
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%.*s%s", i == 0 ? "" : " ",
                                (int)one.forward_path.len, (const char *)one.forward_path.data,
                                one.forwarded ? "(forwarded)" : "");
        assert_true(len < sizeof text);
    }
    assert_int_equal(envelope.reverse_path.len, 0);
    *flags = envelope.flags;
    spool_read_close(&reader);
    return text;
}

/* A sender of ours is who the directory says; a foreign one is as he is. */
static void asks_the_directory(void **state)
{
    (void)state;
    struct office *office = office_new();
    struct spool_message original = office_put(office, "x@example.org", BYTES(OFFICE_TEXT));
    char srs[SRS_LEN_MAX + 1];
    size_t len;
    uint32_t flags;

    assert_string_equal(told_at(office, &original, "x@example.org", &flags), "x@example.org");
    assert_string_equal(told_at(office, &original, "Sales@Example.org", &flags), "x@example.org");
    assert_int_equal(flags, 0);
    assert_string_equal(told_at(office, &original, "all@example.org", &flags),
                        "y@foreign.example(forwarded) \xc3\xa9@foreign.example(forwarded) "
                        "x@example.org");
    assert_int_equal(flags, ENVELOPE_SMTPUTF8);
    assert_string_equal(told_at(office, &original, "POSTMASTER@example.org", &flags),
                        "POSTMASTER@example.org");

    /* Nobody. */
    assert_null(told_at(office, &original, "ghost@example.org", &flags));
    assert_null(told_at(office, &original, "circle@example.org", &flags));
    assert_null(
        told_at(office, &original, "SRS0=abcd=AB=foreign.example=u@srs.example.org", &flags));
    assert_null(told_at(office, &original, "no mailbox", &flags));
    assert_int_equal(notify_open(office->notify), 0);

    /* Our own SRS address, and what is foreign whatever it looks like. */
    assert_int_equal(
        srs_forward(office->srs, BYTES("u@foreign.example"), clock_wall_us() / 1000000, srs, &len),
        SRS_OK);
    srs[len] = '\0';
    assert_string_equal(told_at(office, &original, srs, &flags), "u@foreign.example(forwarded)");
    const char *const foreign[] = {
        "ghost@foreign.example", "u@[192.0.2.1]", "SRS0=abcd=AB=a.example=u@foreign.example",
        "bounces+0123456789012345678901234567890123456789012345678901234567890123456789@a.example"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        char wanted[200];
        snprintf(wanted, sizeof wanted, "%s(forwarded)", foreign[i]);
        assert_string_equal(told_at(office, &original, foreign[i], &flags), wanted);
    }
    const char *too_long =
        "bounces+0123456789012345678901234567890123456789012345678901234567890123456789@example."
        "org";
    assert_null(told_at(office, &original, too_long, &flags));
    office_free(office);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(asks_the_directory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
