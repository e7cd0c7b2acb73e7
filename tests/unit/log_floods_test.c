/* gateway/base/log: what becomes of lines when there are too many of them, or when the descriptor
 * is slow, full, or gone; where they go; and what can be asked about them later. */
#include "gateway/base/log.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "tests/unit/log_listener.h"

/* The descriptor does not block: somebody has to wait. */
static bool read_when_there(struct listener *listener)
{
    struct pollfd poll_for = {.fd = listener->ends[0], .events = POLLIN};
    return poll(&poll_for, 1, 60000) == 1 && read_some(listener);
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
    while (count_of(listener.text == NULL ? "" : listener.text, "event=test number=") <
           LINES - dropped)
        assert_true(read_when_there(&listener)); /* however slow the log thread is */
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

/* --- repeats --- */

static void flood(struct log_port *port, enum log_level level, const char *event, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        log_message(port, level, event, "%u", i);
}

/* What repeated lines tell of an event, in sum. */
static unsigned long told_of(const char *text, const char *event)
{
    char want[64];
    unsigned long sum = 0;
    snprintf(want, sizeof(want), " event=repeated of=%.30s count=", event);
    for (const char *at = text; (at = strstr(at, want)) != NULL; at++)
        sum += strtoul(at + strlen(want), NULL, 10);
    return sum;
}

/* Each event by itself; the sum of what was written and what was told is all there was. */
static void floods_are_summarised(void **state)
{
    (void)state;
    enum { FLOOD = 2000, BOUND = 5 };
    struct listener listener;
    struct log_snapshot snapshot;
    listen_with(&listener, (struct log_options){.level = LOG_INFO, .repeats = BOUND});
    struct log_port *other = log_port_new(listener.log, "other");
    time_t start = time(NULL);
    flood(listener.port, LOG_WARN, "storm", FLOOD);
    flood(other, LOG_WARN, "storm", 3);
    flood(listener.port, LOG_ERROR, "rare", BOUND);
    for (unsigned i = 0; i < 100; i++) {
        struct log_line line = log_begin_often(listener.port, LOG_INFO, "knock");
        log_end(&line);
        line = log_begin_audit(listener.port, LOG_WARN, "deed");
        log_end(&line);
        line = log_begin(listener.port, LOG_INFO, "usual");
        log_end(&line);
    }
    unsigned seconds = (unsigned)(time(NULL) - start) + 1;
    log_snapshot(listener.log, &snapshot);
    finish(&listener);
    size_t written = count_of(listener.text, " event=storm ");
    assert_in_range(written, BOUND + 3, (seconds + 1) * BOUND + 3);
    assert_int_equal(written + told_of(listener.text, "storm"), FLOOD + 3);
    assert_int_equal(count_of(listener.text, " event=rare "), BOUND);
    assert_int_equal(count_of(listener.text, " event=deed\n"), 100);
    assert_int_equal(count_of(listener.text, " event=usual\n"), 100);
    size_t knocks = count_of(listener.text, " event=knock\n");
    assert_in_range(knocks, BOUND, (seconds + 1) * BOUND);
    assert_int_equal(knocks + told_of(listener.text, "knock"), 100);
    assert_non_null(strstr(listener.text, " level=warn event=repeated of=storm count="));
    assert_non_null(strstr(listener.text, " level=info event=repeated of=knock count="));
    assert_int_equal(snapshot.suppressed, FLOOD + 3 - written + 100 - knocks);
    assert_int_equal(snapshot.dropped, 0);
    assert_int_equal(snapshot.lines[LOG_ERROR], BOUND);
    assert_int_equal(snapshot.lines[LOG_WARN], written + 100);
    forget(&listener);
}

/* The next second begins anew, and within about a second of a flood it is told. */
static void each_second_begins_anew(void **state)
{
    (void)state;
    struct listener listener;
    listen_with(&listener, (struct log_options){.level = LOG_INFO, .repeats = 1});
    for (unsigned i = 0; i < 3; i++) {
        flood(listener.port, LOG_ERROR, "gust", 10);
        usleep(1100 * 1000);
    }
    read_what_waits(&listener);
    assert_in_range(count_of(listener.text, " event=gust "), 3, 6);
    assert_true(count_of(listener.text, " event=repeated of=gust ") >= 2); /* before the end */
    finish(&listener);
    assert_int_equal(count_of(listener.text, " event=gust ") + told_of(listener.text, "gust"), 30);
    forget(&listener);
}

/* More events than a port keeps: what there is no place for is written. */
static void many_events_are_not_mixed_up(void **state)
{
    (void)state;
    enum { EVENTS = 100 };
    static char names[EVENTS][16];
    struct listener listener;
    listen_with(&listener, (struct log_options){.level = LOG_INFO, .repeats = 1});
    for (unsigned i = 0; i < EVENTS; i++)
        snprintf(names[i], sizeof(names[i]), "event_%u_", i);
    for (unsigned round = 0; round < 4; round++)
        for (unsigned i = 0; i < EVENTS; i++)
            flood(listener.port, LOG_WARN, names[i], 1);
    finish(&listener);
    for (unsigned i = 0; i < EVENTS; i++) {
        char want[32];
        snprintf(want, sizeof(want), " event=%.15s ", names[i]);
        size_t written = count_of(listener.text, want);
        assert_true(written >= 1);
        assert_int_equal(written + told_of(listener.text, names[i]), 4);
    }
    forget(&listener);
}

/* --- where lines go --- */

static void journal_has_priorities(void **state)
{
    (void)state;
    static const char *const want[] = {"<3>", "<4>", "<6>", "<7>"};
    for (enum log_format format = LOG_LOGFMT; format <= LOG_JSON; format++) {
        struct listener listener;
        listen_with(&listener, (struct log_options){
                                   .level = LOG_DEBUG, .format = format, .output = LOG_JOURNAL});
        for (enum log_level level = LOG_ERROR; level <= LOG_DEBUG; level++)
            log_message(listener.port, level, "some", "text");
        finish(&listener);
        const char *at = listener.text;
        for (enum log_level level = LOG_ERROR; level <= LOG_DEBUG; level++) {
            assert_memory_equal(at, want[level], 3);
            assert_memory_equal(at + 3, format == LOG_JSON ? "{\"time\":\"" : "time=", 5);
            at = strchr(at, '\n');
            assert_non_null(at);
            at++;
        }
        assert_int_equal(*at, '\0');
        forget(&listener);
    }
}

/* A reload: everything may be another from the next line on. */
static void output_can_change(void **state)
{
    (void)state;
    struct listener listener;
    int ends[2];
    char text[4096] = "";
    listen_to_log(&listener, LOG_INFO, LOG_LOGFMT);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    log_message(listener.port, LOG_INFO, "first", "here");
    read_until(&listener, "event=first");
    log_configure(listener.log, &(const struct log_options){.descriptor = ends[1],
                                                            .level = LOG_INFO,
                                                            .output = LOG_JOURNAL});
    log_message(listener.port, LOG_INFO, "second", "there");
    finish(&listener);
    assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
    assert_non_null(strstr(text, "<6>time="));
    assert_non_null(strstr(text, "event=second"));
    assert_null(strstr(listener.text, "event=second"));
    close(ends[0]);
    close(ends[1]);
    forget(&listener);
}

/* Lines of before the thread's start are not lost, nor if it never comes. */
static void threads_may_come_later(void **state)
{
    (void)state;
    for (unsigned start = 0; start < 2; start++) {
        struct listener listener;
        listen_with(&listener, (struct log_options){.level = LOG_INFO, .later = true});
        log_message(listener.port, LOG_WARN, "early", "line");
        if (start)
            assert_true(log_start(listener.log));
        log_message(listener.port, LOG_INFO, "late", "line");
        finish(&listener);
        assert_int_equal(count_of(listener.text, "event=early msg=line\n"), 1);
        assert_int_equal(count_of(listener.text, "event=late msg=line\n"), 1);
        forget(&listener);
    }
}

/* --- what was, lately --- */

static void recent_troubles_are_kept(void **state)
{
    (void)state;
    enum { LINES = 70 };
    static struct log_recent recent[LOG_RECENT_MAX];
    struct listener listener;
    uint64_t sequence = 7;
    char text[400];
    listen_with(&listener, (struct log_options){.level = LOG_INFO, .output = LOG_JOURNAL});
    assert_int_equal(log_recent(listener.log, recent, LOG_RECENT_MAX, &sequence), 0);
    assert_int_equal(sequence, 0);
    for (unsigned i = 0; i < LINES; i++) {
        log_message(listener.port, LOG_INFO, "chatter", "%u", i);
        log_message(listener.port, i % 2 == 0 ? LOG_WARN : LOG_ERROR, "trouble", "%u", i);
        if (i % 20 == 19)
            read_what_waits(&listener);
    }
    read_what_waits(&listener);
    assert_int_equal(log_recent(listener.log, recent, LOG_RECENT_MAX, &sequence), LOG_RECENT_MAX);
    assert_int_equal(sequence, LINES);
    for (unsigned i = 0; i < LOG_RECENT_MAX; i++) {
        char want[64];
        unsigned number = LINES - LOG_RECENT_MAX + i;
        snprintf(want, sizeof(want), " level=%s event=trouble msg=%u",
                 number % 2 == 0 ? "warn" : "error", number);
        assert_memory_equal(recent[i].text, "time=", 5);
        assert_string_equal(recent[i].text + 5 + TIME_LEN, want);
    }
    assert_int_equal(log_recent(listener.log, recent, 2, &sequence), 2);
    assert_non_null(strstr(recent[1].text, "msg=69"));

    /* A long one is cut, and not inside of a character. */
    for (size_t i = 0; i + 2 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xbc", 3);
    for (unsigned shift = 0; shift < 2; shift++) {
        log_message(listener.port, LOG_WARN, "long", "%.*s%s", (int)shift, "x", text);
        read_what_waits(&listener);
        assert_int_equal(log_recent(listener.log, recent, 1, &sequence), 1);
        size_t len = strlen(recent[0].text);
        assert_in_range(len, LOG_RECENT_TEXT_MAX - 3, LOG_RECENT_TEXT_MAX - 1);
        assert_memory_equal(recent[0].text + len - 2, "\xc3\xbc", 2);
    }
    finish(&listener);
    forget(&listener);
}

/* What strangers can cause is not kept, and no flood of warnings, nor of lines about single
 * mails, pushes out an error. */
static void floods_push_out_no_errors(void **state)
{
    (void)state;
    static struct log_recent recent[LOG_RECENT_MAX];
    struct listener listener;
    uint64_t sequence = 0;
    listen_with(&listener, (struct log_options){.level = LOG_INFO, .repeats = 10});
    log_message(listener.port, LOG_ERROR, "real", "1");
    log_message(listener.port, LOG_WARN, "odd", "1");
    for (unsigned i = 0; i < 200; i++) {
        struct log_line line = log_begin_often(listener.port, LOG_WARN, "stranger");
        log_end(&line);
    }
    read_until(&listener, "event=repeated of=stranger count=");
    uint32_t count = log_recent(listener.log, recent, LOG_RECENT_MAX, &sequence);
    assert_int_equal(count, 2);
    assert_non_null(strstr(recent[0].text, " event=real "));
    assert_non_null(strstr(recent[1].text, " event=odd "));
    for (unsigned i = 0; i < 200; i++) {
        struct log_line line = log_begin_audit(listener.port, LOG_ERROR, "mail");
        log_end(&line);
        if (i % 20 == 19)
            read_what_waits(&listener);
    }
    read_what_waits(&listener);
    count = log_recent(listener.log, recent, LOG_RECENT_MAX, &sequence);
    assert_int_equal(count, 1 + LOG_RECENT_EACH);
    assert_non_null(strstr(recent[0].text, " event=real "));
    finish(&listener);
    forget(&listener);
}

struct watch {
    struct log *log;
    _Atomic bool stop;
    unsigned long rounds;
};

static void *look_all_the_time(void *argument)
{
    struct watch *watch = argument;
    static struct log_recent recent[LOG_RECENT_MAX];
    uint64_t sequence, last = 0;
    struct log_snapshot snapshot;
    while (!atomic_load(&watch->stop)) {
        uint32_t count = log_recent(watch->log, recent, LOG_RECENT_MAX, &sequence);
        log_snapshot(watch->log, &snapshot);
        assert_true(sequence >= last && count <= LOG_RECENT_MAX);
        for (uint32_t i = 0; i < count; i++)
            assert_non_null(strstr(recent[i].text, " event=many "));
        last = sequence;
        watch->rounds++;
        usleep(500);
    }
    return NULL;
}

/* Floods round the ring while others look: for ThreadSanitizer, and for marks that run over. */
static void others_look_while_lines_come(void **state)
{
    (void)state;
    struct listener listener;
    struct watch watch = {0};
    pthread_t reader, looker;
    listen_to_log(&listener, LOG_INFO, LOG_LOGFMT);
    watch.log = listener.log;
    assert_int_equal(pthread_create(&reader, NULL, read_lines, &listener), 0);
    assert_int_equal(pthread_create(&looker, NULL, look_all_the_time, &watch), 0);
    for (unsigned i = 0; i < 60000; i++) {
        struct log_line line = log_begin_audit(listener.port, LOG_WARN, "many");
        log_number(&line, "number", i);
        log_string(&line, "pad", "0123456789012345678901234567890123456789");
        log_end(&line);
        if (i % 1024 == 0)
            usleep(1000);
    }
    atomic_store(&watch.stop, true);
    pthread_join(looker, NULL);
    assert_true(watch.rounds > 0);
    log_free(listener.log);
    close(listener.ends[1]);
    pthread_join(reader, NULL);
    close(listener.ends[0]);
    forget(&listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_rings_drop_and_tell),
        cmocka_unit_test(lost_descriptors_harm_nobody),
        cmocka_unit_test(short_writes_lose_nothing),
        cmocka_unit_test(many_threads_write_whole_lines),
        cmocka_unit_test(floods_are_summarised),
        cmocka_unit_test(each_second_begins_anew),
        cmocka_unit_test(many_events_are_not_mixed_up),
        cmocka_unit_test(journal_has_priorities),
        cmocka_unit_test(output_can_change),
        cmocka_unit_test(threads_may_come_later),
        cmocka_unit_test(recent_troubles_are_kept),
        cmocka_unit_test(floods_push_out_no_errors),
        cmocka_unit_test(others_look_while_lines_come),
        cmocka_unit_test(log_free_leaves_a_stuck_descriptor), /* last: its thread stays */
    };
    return cmocka_run_group_tests_name("log_floods", tests, NULL, NULL);
}
