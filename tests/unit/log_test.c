/* gateway/base/log: the text of lines in both formats, and what strangers may put into values.
 * Lines are read back through pipes, the way a journal would. */
#include "gateway/base/log.h"

#include <stdio.h>
#include <time.h>

#include "tests/unit/log_listener.h"

/* One line with one value, without its time. */
static void value_is(enum log_format format, const char *value, size_t len, const char *want)
{
    struct listener listener;
    listen_to_log(&listener, LOG_INFO, format);
    struct log_line line = log_begin(listener.port, LOG_INFO, "test");
    log_bytes(&line, "v", value, len);
    log_number(&line, "n", 1);
    log_end(&line);
    finish(&listener);
    const char *from = strstr(listener.text, format == LOG_JSON ? "\"v\":" : "v=");
    assert_non_null(from);
    from += format == LOG_JSON ? 4 : 2;
    const char *to = strstr(from, format == LOG_JSON ? ",\"n\":1}\n" : " n=1\n");
    assert_non_null(to);
    char *got = strndup(from, (size_t)(to - from));
    assert_string_equal(got, want);
    free(got);
    forget(&listener);
}

static void lines_have_their_form(void **state)
{
    (void)state;
    static const char *const want[] = {
        [LOG_LOGFMT] = " level=warn event=message id=abc from=alice@example.org to=\"\" size=0 "
                       "max=18446744073709551615\n",
        [LOG_JSON] = "\",\"level\":\"warn\",\"event\":\"message\",\"id\":\"abc\",\"from\":"
                     "\"alice@example.org\",\"to\":\"\",\"size\":0,\"max\":18446744073709551615}\n",
    };
    static const char *const start[] = {[LOG_LOGFMT] = "time=", [LOG_JSON] = "{\"time\":\""};
    for (enum log_format format = LOG_LOGFMT; format <= LOG_JSON; format++) {
        struct listener listener;
        listen_to_log(&listener, LOG_INFO, format);
        time_t before = time(NULL) - 1;
        struct log_line line = log_begin(listener.port, LOG_WARN, "message");
        log_string(&line, "id", "abc");
        log_string(&line, "from", "alice@example.org");
        log_bytes(&line, "to", NULL, 0);
        log_number(&line, "size", 0);
        log_number(&line, "max", UINT64_MAX);
        log_end(&line);
        finish(&listener);

        size_t start_len = strlen(start[format]);
        assert_true(listener.len > start_len + TIME_LEN);
        assert_memory_equal(listener.text, start[format], start_len);
        assert_string_equal(listener.text + start_len + TIME_LEN, want[format]);
        struct tm parts = {0};
        const char *rest = strptime(listener.text + start_len, "%Y-%m-%dT%H:%M:%S", &parts);
        assert_non_null(rest);
        assert_int_equal(rest[0], '.');
        assert_int_equal(rest[4], 'Z');
        time_t told = timegm(&parts);
        assert_true(told >= before && told <= time(NULL));
        forget(&listener);
    }
}

static void values_are_quoted_and_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        size_t len;
        const char *logfmt, *json;
    } cases[] = {
#define VALUE(text) text, sizeof(text) - 1
        {VALUE("plain"),                         "plain",                              "\"plain\""                       },
        {VALUE("eight888"),                      "eight888",                           "\"eight888\""                    },
        {VALUE("<a+b@[192.0.2.1]>"),             "<a+b@[192.0.2.1]>",                  "\"<a+b@[192.0.2.1]>\""           },
        {VALUE(""),                              "\"\"",                               "\"\""                            },
        {VALUE(" "),                             "\" \"",                              "\" \""                           },
        {VALUE("two words"),                     "\"two words\"",                      "\"two words\""                   },
        {VALUE("srs0=x=y@z"),                    "\"srs0=x=y@z\"",                     "\"srs0=x=y@z\""                  },
        {VALUE("0123456789=x"),                  "\"0123456789=x\"",                   "\"0123456789=x\""                },
        {VALUE("\"q\\"),                         "\"\\\"q\\\\\"",                      "\"\\\"q\\\\\""                   },
        {VALUE("long enough \"q\\"),             "\"long enough \\\"q\\\\\"",          "\"long enough \\\"q\\\\\""       },
        {VALUE("a\r\nlevel=x\t"),                "\"a\\r\\nlevel=x\\t\"",              "\"a\\r\\nlevel=x\\t\""           },
        {VALUE("\0\x01\x1f\x7f"),                "\"\\x00\\x01\\x1f\\x7f\"",           "\"\\u0000\\u0001\\u001f\\u007f\""},
        {VALUE("12345678\x7f"),                  "\"12345678\\x7f\"",                  "\"12345678\\u007f\""             },
        {VALUE("\x1b[31mred"),                   "\"\\x1b[31mred\"",                   "\"\\u001b[31mred\""              },
        {VALUE("gr\xc3\xbc\xc3\x9f"),            "\"gr\xc3\xbc\xc3\x9f\"",             "\"gr\xc3\xbc\xc3\x9f\""          },
        {VALUE("\xe2\x82\xac \xf0\x9f\x93\xa7"), "\"\xe2\x82\xac \xf0\x9f\x93\xa7\"",
                                                  "\"\xe2\x82\xac \xf0\x9f\x93\xa7\""                                                                             },
 /* C1 controls, over-long forms, surrogates, above U+10FFFF, cut off, stray. */
        {VALUE("\xc2\x9b"),                      "\"\\xc2\\x9b\"",                     "\"\\u00c2\\u009b\""              },
        {VALUE("\xc0\xaf"),                      "\"\\xc0\\xaf\"",                     "\"\\u00c0\\u00af\""              },
        {VALUE("\xe0\x80\xaf"),                  "\"\\xe0\\x80\\xaf\"",                "\"\\u00e0\\u0080\\u00af\""       },
        {VALUE("\xed\xa0\x80"),                  "\"\\xed\\xa0\\x80\"",                "\"\\u00ed\\u00a0\\u0080\""       },
        {VALUE("\xf4\x90\x80\x80"),              "\"\\xf4\\x90\\x80\\x80\"",           "\"\\u00f4\\u0090\\u0080\\u0080\""},
        {VALUE("\xe2\x82"),                      "\"\\xe2\\x82\"",                     "\"\\u00e2\\u0082\""              },
        {VALUE("\xff"),                          "\"\\xff\"",                          "\"\\u00ff\""                     },
 /* Characters that end or turn a line, or are not seen; and their neighbours. */
        {VALUE("a\xe2\x80\xa8z"),                "\"a\\xe2\\x80\\xa8z\"",              "\"a\\u2028z\""                   },
        {VALUE("\xe2\x80\xa9\xe2\x80\xae"),      "\"\\xe2\\x80\\xa9\\xe2\\x80\\xae\"",
                                                  "\"\\u2029\\u202e\""                                                                                            },
        {VALUE("\xe2\x80\xaf\xe2\x80\xa7"),      "\"\xe2\x80\xaf\xe2\x80\xa7\"",
                                                  "\"\xe2\x80\xaf\xe2\x80\xa7\""                                                                                  },
        {VALUE("\xe2\x81\xa6\xd8\x9c"),          "\"\\xe2\\x81\\xa6\\xd8\\x9c\"",      "\"\\u2066\\u061c\""              },
        {VALUE("\xef\xbb\xbf"),                  "\"\\xef\\xbb\\xbf\"",                "\"\\ufeff\""                     },
#undef VALUE
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        value_is(LOG_LOGFMT, cases[i].value, cases[i].len, cases[i].logfmt);
        value_is(LOG_JSON, cases[i].value, cases[i].len, cases[i].json);
    }
}

/* Each octet at each place of a value that is copied by words: quoted exactly when it must be. */
static void every_octet_is_seen_at_every_place(void **state)
{
    (void)state;
    enum { LEN = 19 };
    struct listener listener;
    listen_to_log(&listener, LOG_INFO, LOG_LOGFMT);
    for (unsigned octet = 0; octet < 256; octet++) {
        for (unsigned place = 0; place < LEN; place++) {
            char value[LEN];
            memset(value, 'a', LEN);
            value[place] = (char)octet;
            struct log_line line = log_begin(listener.port, LOG_INFO, "o");
            log_bytes(&line, "v", value, LEN);
            log_end(&line);
        }
        if (octet % 32 == 31) /* the pipe holds 64 KiB */
            read_what_waits(&listener);
    }
    finish(&listener);
    const char *at = listener.text;
    for (unsigned octet = 0; octet < 256; octet++) {
        bool plain = octet > ' ' && octet < 127 && octet != '"' && octet != '=' && octet != '\\';
        for (unsigned place = 0; place < LEN; place++) {
            at = strstr(at, "v=");
            assert_non_null(at);
            assert_int_equal(at[2] == '"', !plain);
            const char *end = strchr(at, '\n');
            assert_non_null(end);
            if (plain)
                assert_int_equal(end - at, 2 + LEN);
            at = end;
        }
    }
    forget(&listener);
}

static void long_values_are_cut(void **state)
{
    (void)state;
    char value[600], want[520];
    memset(value, 'v', sizeof(value));
    memset(want, 'v', sizeof(want));
    want[512] = '\0';
    value_is(LOG_LOGFMT, value, 512, want);
    snprintf(want + 512, 4, "...");
    value_is(LOG_LOGFMT, value, 513, want);
    value_is(LOG_LOGFMT, value, 600, want);
}

static void full_lines_leave_keys_out(void **state)
{
    (void)state;
    char value[512];
    struct listener listener;
    memset(value, '\x01', sizeof(value));
    listen_to_log(&listener, LOG_INFO, LOG_JSON);
    for (unsigned lines = 0; lines < 2; lines++) {
        struct log_line line = log_begin(listener.port, LOG_INFO, "test");
        for (unsigned i = 0; i < 100; i++)
            log_bytes(&line, "v", value, sizeof(value));
        log_number(&line, "last", 7);
        log_end(&line);
    }
    finish(&listener);
    char *second = strstr(listener.text, "}\n{\"time\":\"");
    assert_non_null(second);
    assert_true(second - listener.text < 16384);
    assert_true(second - listener.text > 12000);
    assert_string_equal(listener.text + listener.len - 2, "}\n");
    forget(&listener);
}

static void levels_and_formats_can_change(void **state)
{
    (void)state;
    struct listener listener;
    listen_to_log(&listener, LOG_WARN, LOG_LOGFMT);
    assert_false(log_wanted(listener.port, LOG_INFO));
    assert_true(log_wanted(listener.port, LOG_WARN));
    assert_false(log_wanted(NULL, LOG_ERROR));
    log_message(listener.port, LOG_INFO, "unwanted", "%d", 1);
    log_message(NULL, LOG_ERROR, "nowhere", "%d", 1);
    struct log_line line = log_begin(listener.port, LOG_ERROR, "mixed");
    log_configure(listener.log, &(const struct log_options){.descriptor = listener.ends[1],
                                                            .level = LOG_DEBUG,
                                                            .format = LOG_JSON});
    log_number(&line, "still", 1);
    log_end(&line);
    log_message(listener.port, LOG_DEBUG, "second", "%s of %d", "one", 2);
    finish(&listener);
    assert_null(strstr(listener.text, "unwanted"));
    assert_non_null(strstr(listener.text, "level=error event=mixed still=1\n{\"time\":\""));
    assert_non_null(strstr(listener.text, "\"level\":\"debug\",\"event\":\"second\",\"thread\":"
                                          "\"tester\",\"msg\":\"one of 2\"}\n"));
    forget(&listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_have_their_form),
        cmocka_unit_test(values_are_quoted_and_escaped),
        cmocka_unit_test(every_octet_is_seen_at_every_place),
        cmocka_unit_test(long_values_are_cut),
        cmocka_unit_test(full_lines_leave_keys_out),
        cmocka_unit_test(levels_and_formats_can_change),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
