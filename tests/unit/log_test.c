/* gateway/base/log: the text of lines in both formats, what strangers may put into values, and what
 * becomes of lines when the descriptor is slow, full, or gone. Lines are read back through pipes,
 * the way a journal would. */
#include "gateway/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { TIME_LEN = 24 };

/* A log that writes into a pipe, and all that came out of it. */
struct listener {
    int ends[2];
    struct log *log;
    struct log_port *port;
    char *text;
    size_t len;
};

static void listen_to_log(struct listener *listener, enum log_level level, enum log_format format)
{
    *listener = (struct listener){0};
    assert_int_equal(pipe2(listener->ends, O_CLOEXEC), 0);
    const struct log_options options = {listener->ends[1], level, format};
    listener->log = log_new(&options);
    assert_non_null(listener->log);
    listener->port = log_port_new(listener->log, "tester");
    assert_non_null(listener->port);
}

static bool read_some(struct listener *listener)
{
    listener->text = realloc(listener->text, listener->len + 65537);
    assert_non_null(listener->text);
    ssize_t got = read(listener->ends[0], listener->text + listener->len, 65536);
    assert_true(got >= 0);
    listener->len += (size_t)got;
    listener->text[listener->len] = '\0';
    return got > 0;
}

/* Reads until the log thread, which looks every 50 ms, has had nothing to say for a while. */
static void read_what_waits(struct listener *listener)
{
    struct pollfd poll_for = {.fd = listener->ends[0], .events = POLLIN};
    while (poll(&poll_for, 1, 300) == 1)
        read_some(listener);
}

/* Looks only at the end of the text: what is waited for is the newest. */
static void read_until(struct listener *listener, const char *wanted)
{
    const char *end = "";
    while (strstr(end, wanted) == NULL) {
        size_t before = listener->len;
        assert_true(read_some(listener));
        end = listener->text + (before < 4096 ? 0 : before - 4096);
    }
}

/* Ends the log and reads the rest. What waits must fit in the pipe: log_free comes first. */
static void finish(struct listener *listener)
{
    log_free(listener->log);
    close(listener->ends[1]);
    while (read_some(listener))
        ;
    close(listener->ends[0]);
}

static void forget(struct listener *listener)
{
    free(listener->text);
}

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
        {VALUE("plain"),                         "plain",                             "\"plain\""                       },
        {VALUE("eight888"),                      "eight888",                          "\"eight888\""                    },
        {VALUE("<a+b@[192.0.2.1]>"),             "<a+b@[192.0.2.1]>",                 "\"<a+b@[192.0.2.1]>\""           },
        {VALUE(""),                              "\"\"",                              "\"\""                            },
        {VALUE(" "),                             "\" \"",                             "\" \""                           },
        {VALUE("two words"),                     "\"two words\"",                     "\"two words\""                   },
        {VALUE("srs0=x=y@z"),                    "\"srs0=x=y@z\"",                    "\"srs0=x=y@z\""                  },
        {VALUE("0123456789=x"),                  "\"0123456789=x\"",                  "\"0123456789=x\""                },
        {VALUE("\"q\\"),                         "\"\\\"q\\\\\"",                     "\"\\\"q\\\\\""                   },
        {VALUE("long enough \"q\\"),             "\"long enough \\\"q\\\\\"",         "\"long enough \\\"q\\\\\""       },
        {VALUE("a\r\nlevel=x\t"),                "\"a\\r\\nlevel=x\\t\"",             "\"a\\r\\nlevel=x\\t\""           },
        {VALUE("\0\x01\x1f\x7f"),                "\"\\x00\\x01\\x1f\\x7f\"",          "\"\\u0000\\u0001\\u001f\\u007f\""},
        {VALUE("12345678\x7f"),                  "\"12345678\\x7f\"",                 "\"12345678\\u007f\""             },
        {VALUE("\x1b[31mred"),                   "\"\\x1b[31mred\"",                  "\"\\u001b[31mred\""              },
        {VALUE("gr\xc3\xbc\xc3\x9f"),            "\"gr\xc3\xbc\xc3\x9f\"",            "\"gr\xc3\xbc\xc3\x9f\""          },
        {VALUE("\xe2\x82\xac \xf0\x9f\x93\xa7"), "\"\xe2\x82\xac \xf0\x9f\x93\xa7\"",
                                                  "\"\xe2\x82\xac \xf0\x9f\x93\xa7\""                                                                            },
 /* C1 controls, over-long forms, surrogates, above U+10FFFF, cut off, stray. */
        {VALUE("\xc2\x9b"),                      "\"\\xc2\\x9b\"",                    "\"\\u00c2\\u009b\""              },
        {VALUE("\xc0\xaf"),                      "\"\\xc0\\xaf\"",                    "\"\\u00c0\\u00af\""              },
        {VALUE("\xe0\x80\xaf"),                  "\"\\xe0\\x80\\xaf\"",               "\"\\u00e0\\u0080\\u00af\""       },
        {VALUE("\xed\xa0\x80"),                  "\"\\xed\\xa0\\x80\"",               "\"\\u00ed\\u00a0\\u0080\""       },
        {VALUE("\xf4\x90\x80\x80"),              "\"\\xf4\\x90\\x80\\x80\"",          "\"\\u00f4\\u0090\\u0080\\u0080\""},
        {VALUE("\xe2\x82"),                      "\"\\xe2\\x82\"",                    "\"\\u00e2\\u0082\""              },
        {VALUE("\xff"),                          "\"\\xff\"",                         "\"\\u00ff\""                     },
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
    log_configure(listener.log, LOG_DEBUG, LOG_JSON);
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

static size_t count_of(const char *text, const char *wanted)
{
    size_t count = 0;
    size_t wanted_len = strlen(wanted);
    const char *end = text + strlen(text);
    for (const char *at = text; (at = memmem(at, (size_t)(end - at), wanted, wanted_len)) != NULL;
         at++)
        count++;
    return count;
}

/* Nobody reads: lines are dropped and counted, the writer of lines never waits. Then somebody does,
 * and learns of it. */
static void full_rings_drop_and_tell(void **state)
{
    (void)state;
    enum { LINES = 40000 };
    struct listener listener;
    listen_to_log(&listener, LOG_INFO, LOG_LOGFMT);
    assert_int_equal(fcntl(listener.ends[1], F_SETFL, O_NONBLOCK), 0);
    for (unsigned i = 0; i < LINES; i++) {
        struct log_line line = log_begin(listener.port, LOG_INFO, "test");
        log_number(&line, "number", i);
        log_end(&line);
    }
    uint64_t dropped = log_dropped(listener.log);
    assert_true(dropped > 0 && dropped < LINES);
    read_what_waits(&listener);
    log_message(listener.port, LOG_INFO, "after", "the flood");
    read_until(&listener, "event=after");
    finish(&listener);
    char want[64];
    snprintf(want, sizeof(want), " level=warn event=log_dropped count=%llu\n",
             (unsigned long long)dropped);
    assert_non_null(strstr(listener.text, want));
    assert_int_equal(count_of(listener.text, "event=test number="), LINES - dropped);
    assert_non_null(strstr(listener.text, "event=after msg=\"the flood\"\n"));
    forget(&listener);
}

static void lost_descriptors_harm_nobody(void **state)
{
    (void)state;
    struct listener listener;
    signal(SIGPIPE, SIG_IGN);
    listen_to_log(&listener, LOG_INFO, LOG_LOGFMT);
    close(listener.ends[0]);
    for (unsigned i = 0; i < 10; i++)
        log_message(listener.port, LOG_INFO, "lost", "%u", i);
    for (unsigned i = 0; i < 200 && log_dropped(listener.log) < 10; i++)
        usleep(10000);
    assert_int_equal(log_dropped(listener.log), 10);

    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(dup2(ends[1], listener.ends[1]), listener.ends[1]);
    close(ends[1]);
    listener.ends[0] = ends[0];
    log_message(listener.port, LOG_INFO, "found", "again");
    finish(&listener);
    assert_int_equal(count_of(listener.text, "event=lost"), 0);
    assert_int_equal(count_of(listener.text, "event=found msg=again\n"), 1);
    assert_int_equal(count_of(listener.text, "event=log_dropped count=10\n"), 1);
    forget(&listener);
}

/* Each write is cut short by a pipe of one page that is read in small pieces. */
static void short_writes_lose_nothing(void **state)
{
    (void)state;
    enum { LINES = 2000 };
    struct listener listener;
    listen_to_log(&listener, LOG_INFO, LOG_LOGFMT);
    fcntl(listener.ends[1], F_SETPIPE_SZ, 4096);
    fcntl(listener.ends[1], F_SETFL, O_NONBLOCK);
    for (unsigned i = 0; i < LINES; i++)
        log_message(listener.port, LOG_INFO, "test", "number %u", i);
    char tail[64];
    snprintf(tail, sizeof(tail), "msg=\"number %u\"\n", LINES - 1);
    do {
        listener.text = realloc(listener.text, listener.len + 1000);
        ssize_t got = read(listener.ends[0], listener.text + listener.len, 999);
        assert_true(got > 0);
        listener.len += (size_t)got;
        listener.text[listener.len] = '\0';
    } while (strstr(listener.text + (listener.len < 2000 ? 0 : listener.len - 2000), tail) == NULL);
    finish(&listener);
    const char *at = listener.text;
    for (unsigned i = 0; i < LINES; i++) {
        char want[64];
        int len = snprintf(want, sizeof(want), " level=info event=test msg=\"number %u\"\n", i);
        assert_memory_equal(at, "time=", 5);
        assert_memory_equal(at + 5 + TIME_LEN, want, (size_t)len);
        at += 5 + TIME_LEN + len;
    }
    assert_int_equal(*at, '\0');
    forget(&listener);
}

enum { THREADS = 4, THREAD_LINES = 30000 };

struct writer {
    struct log *log;
    struct log_port *port; /* NULL: it makes one */
    unsigned number;
    pthread_t thread;
};

static void *write_lines(void *argument)
{
    struct writer *writer = argument;
    if (writer->port == NULL)
        writer->port = log_port_new(writer->log, "late");
    for (unsigned i = 0; i < THREAD_LINES; i++) {
        struct log_line line = log_begin(writer->port, LOG_INFO, "many");
        log_number(&line, "thread", writer->number);
        log_number(&line, "line", i);
        log_string(&line, "pad", "0123456789");
        log_end(&line);
        if (i % 64 == 63)
            sched_yield();
    }
    return NULL;
}

static void *read_lines(void *argument)
{
    while (read_some(argument))
        ;
    return NULL;
}

/* Ports from before and after the start of their threads, more text than rings hold: lines come
 * whole and in order. */
static void many_threads_write_whole_lines(void **state)
{
    (void)state;
    struct listener listener;
    struct writer writers[THREADS];
    pthread_t reader;
    listen_to_log(&listener, LOG_INFO, LOG_LOGFMT);
    assert_int_equal(pthread_create(&reader, NULL, read_lines, &listener), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){.log = listener.log, .number = i};
        if (i % 2 == 0)
            writers[i].port = log_port_new(listener.log, "early");
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_lines, &writers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(writers[i].thread, NULL);
    uint64_t dropped = log_dropped(listener.log);
    log_free(listener.log);
    close(listener.ends[1]);
    pthread_join(reader, NULL);
    close(listener.ends[0]);

    unsigned next[THREADS] = {0};
    unsigned long long told = 0;
    size_t lines = 0;
    char *end;
    /* Not strchr: with strict checks AddressSanitizer looks at all of the text for each. */
    const char *text_end = listener.text + strlen(listener.text);
    for (char *at = listener.text; at < text_end; at = end + 1) {
        unsigned thread, line, count;
        int len = 0;
        end = memchr(at, '\n', (size_t)(text_end - at));
        assert_non_null(end);
        *end = '\0';
        assert_memory_equal(at, "time=", 5);
        char *rest = at + 5 + TIME_LEN;
        if (sscanf(rest, " level=warn event=log_dropped count=%u%n", &count, &len) == 1) {
            told += count;
        } else {
            assert_int_equal(sscanf(rest,
                                    " level=info event=many thread=%u line=%u pad=0123456789%n",
                                    &thread, &line, &len),
                             2);
            assert_true(thread < THREADS && line >= next[thread]);
            next[thread] = line + 1;
            lines++;
        }
        assert_int_equal(rest[len], '\0');
    }
    assert_int_equal(lines + dropped, THREADS * THREAD_LINES);
    assert_int_equal(told, dropped);
    forget(&listener);
}

/* A full pipe that blocks and that nobody ever reads must not keep the program from ending. */
static void log_free_leaves_a_stuck_descriptor(void **state)
{
    (void)state;
    struct listener listener;
    listen_to_log(&listener, LOG_INFO, LOG_LOGFMT);
    for (unsigned i = 0; i < 5000; i++)
        log_message(listener.port, LOG_INFO, "stuck", "%u", i);
    time_t start = time(NULL);
    log_free(listener.log);
    assert_true(time(NULL) - start <= 5);
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
        cmocka_unit_test(full_rings_drop_and_tell),
        cmocka_unit_test(lost_descriptors_harm_nobody),
        cmocka_unit_test(short_writes_lose_nothing),
        cmocka_unit_test(many_threads_write_whole_lines),
        cmocka_unit_test(log_free_leaves_a_stuck_descriptor),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
