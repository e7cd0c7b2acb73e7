/* Every reply is one well-formed line (RFC 5321 4.2), its enhanced status (RFC 3463) agrees with
 * its code, and each is what the documents say. */
#include "gateway/receive/reply.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void well_formed(void **state)
{
    (void)state;
    for (enum reply reply = REPLY_NONE + 1; reply < REPLY_COUNT; reply++) {
        struct bytes line = reply_line(reply);
        if (line.len == 0)
            fail_msg("reply %d has no text", reply);
        assert_in_range(line.len, 6, 512); /* RFC 5321 4.5.3.1.5 */
        assert_memory_equal(line.data + line.len - 2, "\r\n", 2);
        for (size_t i = 0; i < line.len - 2; i++)
            assert_in_range(line.data[i], ' ', '~');
        assert_in_range(line.data[0], '2', '5');
        assert_in_range(line.data[1], '0', '5'); /* RFC 5321 4.2: second digit */
        assert_true(isdigit(line.data[2]));
        assert_int_equal(line.data[3], ' ');
        unsigned code = 0;
        char text[512];
        memcpy(text, line.data, line.len - 2);
        text[line.len - 2] = '\0';
        assert_int_equal(sscanf(text, "%3u", &code), 1);
        assert_int_equal(reply_code(reply), code);
    }
}

static void enhanced_status_agrees(void **state)
{
    (void)state;
    for (enum reply reply = REPLY_NONE + 1; reply < REPLY_COUNT; reply++) {
        if (reply == REPLY_START_DATA)
            continue; /* a 3xx has none (RFC 2034 4) */
        char text[512] = "";
        struct bytes line = reply_line(reply);
        memcpy(text, line.data, line.len);
        unsigned code;
        unsigned class;
        unsigned subject;
        unsigned detail;
        int used = 0;
        int got = sscanf(text, "%3u %u.%u.%u %n", &code, &class, &subject, &detail, &used);
        assert_int_equal(got, 4);
        assert_int_equal(class, code / 100);
        assert_in_range(subject, 0, 7); /* RFC 3463 3 */
        assert_in_range(detail, 0, 999);
        assert_in_range(used, 10, 20);
        assert_true(isalnum((unsigned char)text[used])); /* and a text for people */
    }
}

static void nothing_says_nothing(void **state)
{
    (void)state;
    assert_int_equal(reply_line(REPLY_NONE).len, 0);
    assert_int_equal(reply_code(REPLY_NONE), 0);
}

/* The table of docs/smtp.md. */
static void as_documented(void **state)
{
    (void)state;
    static const struct {
        enum reply reply;
        const char *start;
    } cases[] = {
        {REPLY_START_TLS,                      "220 2.0.0 "                                       },
        {REPLY_OK,                             "250 2.0.0 "                                       },
        {REPLY_SENDER_OK,                      "250 2.1.0 "                                       },
        {REPLY_RECIPIENT_OK,                   "250 2.1.5 "                                       },
        {REPLY_START_DATA,                     "354 "                                             },
        {REPLY_BYE,                            "221 2.0.0 "                                       },
        {REPLY_HELP,                           "214 2.0.0 "                                       },
        {REPLY_CANNOT_VERIFY,                  "252 2.5.0 "                                       },
        {REPLY_SHUTTING_DOWN,                  "421 4.3.2 "                                       },
        {REPLY_NOT_READY,                      "421 4.3.2 "                                       },
        {REPLY_TOO_MANY_FROM_NETWORK,          "421 4.7.0 "                                       },
        {REPLY_CONNECTS_TOO_OFTEN,             "421 4.7.0 "                                       },
        {REPLY_NETWORK_CONNECTS_TOO_OFTEN,     "421 4.7.0 "                                       },
        {REPLY_QUEUE_FULL,                     "452 4.3.1 "                                       },
        {REPLY_TOO_MANY_MESSAGES,              "450 4.7.1 "                                       },
        {REPLY_TOO_MANY_MESSAGES_FROM_NETWORK, "450 4.7.1 "                                       },
        {REPLY_GREYLISTED,                     "451 4.7.1 "                                       },
        {REPLY_TOO_MANY_HANDSHAKES,            "454 4.7.0 "                                       },
        {REPLY_FOREIGN_PROXY,                  "554 5.5.0 "                                       },
        {REPLY_EARLY_TALKER,                   "554 5.5.1 "                                       },
        {REPLY_TOO_MANY_CONNECTIONS,           "421 4.3.2 "                                       },
        {REPLY_TOO_MANY_FROM_ADDRESS,          "421 4.7.0 "                                       },
        {REPLY_TOO_MANY_ERRORS,                "421 4.7.0 "                                       },
        {REPLY_TIMED_OUT,                      "421 4.4.2 "                                       },
        {REPLY_TOO_SLOW,                       "421 4.4.2 "                                       },
        {REPLY_SPOOL_BROKEN,                   "451 4.3.0 "                                       },
        {REPLY_SPOOL_FULL,                     "452 4.3.1 "                                       },
        {REPLY_TOO_MANY_RECIPIENTS,            "452 4.5.3 "                                       },
        {REPLY_TLS_UNAVAILABLE,                "454 4.7.0 "                                       },
        {REPLY_UNKNOWN_COMMAND,                "500 5.5.2 "                                       },
        {REPLY_BAD_REVERSE_PATH,               "501 5.1.7 "                                       },
        {REPLY_BAD_FORWARD_PATH,               "501 5.1.3 "                                       },
        {REPLY_BAD_ARGUMENT,                   "501 5.5.4 "                                       },
        {REPLY_NOT_OFFERED,                    "502 5.5.1 "                                       },
        {REPLY_NEED_MAIL,                      "503 5.5.1 "                                       },
        {REPLY_TLS_ACTIVE,                     "503 5.5.1 "                                       },
        {REPLY_BAD_SEQUENCE,                   "503 5.5.1 "                                       },
        {REPLY_TLS_FIRST,                      "530 5.7.0 Must issue a STARTTLS command first\r\n"},
        {REPLY_REQUIRETLS_IN_CLEAR,            "530 5.7.0 "                                       },
        {REPLY_NO_SUCH_USER,                   "550 5.1.1 "                                       },
        {REPLY_RELAY_DENIED,                   "550 5.7.1 "                                       },
        {REPLY_HOLD_TOO_LONG,                  "501 5.5.4 "                                       },
        {REPLY_BY_BEFORE_HOLD,                 "501 5.5.4 "                                       },
        {REPLY_DELIVER_BY,                     "555 5.5.4 "                                       },
        {REPLY_PRIORITY,                       "550 5.7.1 "                                       },
        {REPLY_BARE_NEWLINE,                   "550 5.6.11 "                                      },
        {REPLY_MESSAGE_TOO_BIG,                "552 5.3.4 "                                       },
        {REPLY_UTF8_ADDRESS,                   "553 5.6.7 "                                       },
        {REPLY_NO_VALID_RECIPIENTS,            "554 5.5.1 "                                       },
        {REPLY_EARLY_INPUT,                    "554 5.5.0 "                                       },
        {REPLY_CLEAR_BEHIND_STARTTLS,          "554 5.5.1 "                                       },
        {REPLY_FOREIGN_PROTOCOL,               "554 5.7.0 "                                       },
        {REPLY_LOOP,                           "554 5.4.6 "                                       },
        {REPLY_UNKNOWN_PARAMETER,              "555 5.5.4 "                                       },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_memory_equal(reply_line(cases[i].reply).data, cases[i].start,
                            strlen(cases[i].start));
}

/* Names are what metrics and log lines are found by: one for each, in small letters. */
static void named(void **state)
{
    (void)state;
    for (enum reply reply = REPLY_NONE; reply < REPLY_COUNT; reply++) {
        if (reply_name(reply) == NULL)
            fail_msg("reply %d has no name", reply);
        assert_in_range(strlen(reply_name(reply)), 2, 40);
        for (const char *at = reply_name(reply); *at != '\0'; at++)
            assert_true((*at >= 'a' && *at <= 'z') || *at == '_' || *at == '8');
        for (enum reply other = REPLY_NONE; other < reply; other++)
            assert_string_not_equal(reply_name(reply), reply_name(other));
    }
    assert_string_equal(reply_name(REPLY_TOO_MANY_CONNECTIONS), "too_many_connections");
    assert_string_equal(reply_name(REPLY_NONE), "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed),
        cmocka_unit_test(enhanced_status_agrees),
        cmocka_unit_test(nothing_says_nothing),
        cmocka_unit_test(as_documented),
        cmocka_unit_test(named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
