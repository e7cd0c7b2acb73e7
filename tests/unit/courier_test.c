/* The courier with a real spool and real Maildirs: what arrives, what is put off and comes back,
 * what is held, what a reload does, and what a discarded message costs. */
#include "gateway/deliver/courier.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "gateway/base/id.h"
#include "tests/support/house.h"

static const char *const mixed[] = {"example.org", "maildir:mail/%d/%u", "example.net",
                                    "discard:", NULL};

static void delivers(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "spool1", .retry_min_s = 1, .retry_max_s = 2, .lifetime_s = 3600};
    struct routes *routes = house_routes(mixed);
    struct house house;
    house_open(&house, &plan, routes);

    struct bytes text = BYTES("Subject: x\r\n\r\nbody\0with NUL\r\n.\r\n");
    uint64_t id = house_stage(&house, "Alice+x@example.org x@example.net bob@Example.ORG", text);
    house_commit(&house);
    WAIT_FOR(&house, delivered, 3);
    char name[512], id_text[ID_TEXT_LEN + 1];
    assert_int_equal(house_count_files("mail/example.org/alice/new", name), 1);
    assert_true(house_file_is(name, text));
    id_format(id, id_text);
    assert_non_null(strstr(name, id_text));
    assert_int_equal(house_count_files("mail/example.org/bob/new", name), 1);
    assert_true(house_file_is(name, text));

    /* A text of many pieces, and none at all. */
    size_t len = 3000000;
    uint8_t *big = malloc(len);
    for (size_t i = 0; i < len; i++)
        big[i] = (uint8_t)(i * i >> 7);
    house_stage(&house, "big@example.org", bytes_make(big, len));
    house_stage(&house, "empty@example.org", BYTES(""));
    house_commit(&house);
    WAIT_FOR(&house, delivered, 5);
    assert_int_equal(house_count_files("mail/example.org/big/new", name), 1);
    assert_true(house_file_is(name, bytes_make(big, len)));
    assert_int_equal(house_count_files("mail/example.org/empty/new", name), 1);
    assert_true(house_file_is(name, BYTES("")));
    free(big);

    /* More recipients than a batch of files takes, and than the bitmap in the queue. */
    static char many[20000];
    size_t at = 0;
    for (int i = 0; i < 200; i++)
        at += (size_t)snprintf(many + at, sizeof many - at, "%su%d@example.org", i == 0 ? "" : " ",
                               i);
    house_stage(&house, many, text);
    house_stage(&house, "after@example.org", text);
    house_commit(&house);
    WAIT_FOR(&house, delivered, 206);
    for (int i = 0; i < 200; i++) {
        char path[64];
        snprintf(path, sizeof path, "mail/example.org/u%d/new", i);
        assert_int_equal(house_count_files(path, name), 1);
        assert_true(house_file_is(name, text));
    }
    assert_int_equal(house_look(&house).queued, 0);
    assert_int_equal(house_look(&house).deferred, 0);
    house_close(&house);
    char line[128];
    snprintf(line, sizeof line,
             "event=delivered id=%s to=Alice+x@example.org target=maildir ms=", id_text);
    assert_true(house_logged(&plan, line));

    /* All of it is written down: nothing comes again. */
    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(routes);
}

/* One recipient's Maildir is in the way; the others do not wait for it, and it is delivered once
 * the way is free. */
static void puts_off_and_retries(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "spool2", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    struct routes *routes = house_routes(mixed);
    struct house house;
    house_open(&house, &plan, routes);
    assert_int_equal(mkdir("mail", 0700) == 0 || errno == EEXIST, 1);
    assert_int_equal(mkdir("mail/example.org", 0700) == 0 || errno == EEXIST, 1);
    int file = open("mail/example.org/blocked", O_WRONLY | O_CREAT, 0600);
    close(file);
    house_stage(&house, "one@example.org blocked@example.org two@example.org", BYTES("x\r\n"));
    house_stage(&house, "three@example.org", BYTES("y\r\n"));
    house_commit(&house);
    WAIT_FOR(&house, delivered, 3);
    WAIT_FOR(&house, deferred, 1);
    assert_int_equal(house_look(&house).queued, 1);
    WAIT_FOR(&house, deferred, 2);
    assert_int_equal(unlink("mail/example.org/blocked"), 0);
    WAIT_FOR(&house, delivered, 4);
    assert_int_equal(house_look(&house).queued, 0);
    assert_int_equal(house_count_files("mail/example.org/blocked/new", NULL), 1);
    assert_int_equal(house_count_files("mail/example.org/one/new", NULL), 1);
    assert_int_equal(house_count_files("mail/example.org/two/new", NULL), 1);
    assert_int_equal(house_count_files("mail/example.org/three/new", NULL), 1);
    house_close(&house);
    assert_true(house_logged(&plan, "to=blocked@example.org target=maildir attempt=1 next_s=1"));
    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(routes);
}

/* What is put off, what is finished of it, and the number of attempts survive a restart. */
static void survives_restart(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "spool3", .retry_min_s = 600, .retry_max_s = 600, .lifetime_s = 3600};
    static const char *const unknown[] = {"example.net", "discard:", NULL};
    struct routes *few = house_routes(unknown), *all = house_routes(mixed);
    struct house house;

    /* 100 recipients: the even ones can be delivered, the odd ones have no route. */
    static char many[8000];
    size_t at = 0;
    for (int i = 0; i < 100; i++)
        at += (size_t)snprintf(many + at, sizeof many - at, "%sr%d@example.%s", i == 0 ? "" : " ",
                               i, i % 2 == 0 ? "net" : "org");
    static const char *const first[] = {"example.com", "maildir:mail/x", "example.net",
                                        "discard:", NULL};
    struct routes *start = house_routes(first);
    house_open(&house, &plan, start);
    house_stage(&house, many, BYTES("x\r\n"));
    house_commit(&house);
    WAIT_FOR(&house, delivered, 50);
    WAIT_FOR(&house, deferred, 50);
    assert_int_equal(house_look(&house).queued, 1);
    house_close(&house);

    /* Only discards now; but the message was accepted for another domain, and must not be thrown
     * away. */
    house_open(&house, &plan, few);
    assert_int_equal(house.recovered, 1);
    usleep(100000);
    assert_int_equal(house_look(&house).deferred, 0); /* not due for ten minutes */
    house_configure(&house, few);
    WAIT_FOR(&house, deferred, 50);
    assert_int_equal(house_look(&house).delivered, 0);
    house_close(&house);
    assert_true(house_logged(&plan, "attempt=2 next_s="));

    house_open(&house, &plan, few);
    assert_int_equal(house.recovered, 1);
    house_configure(&house, all);
    WAIT_FOR(&house, delivered, 50);
    assert_int_equal(house_look(&house).queued, 0);
    house_close(&house);
    for (int i = 0; i < 100; i++) {
        char path[64];
        snprintf(path, sizeof path, "mail/example.org/r%d/new", i);
        assert_int_equal(house_count_files(path, NULL), i % 2 == 0 ? -1 : 1);
    }
    house_open(&house, &plan, all);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(start);
    routes_free(few);
    routes_free(all);
}

/* After its lifetime what has no route is held, not lost; a start and a reload give it another
 * attempt. */
static void holds(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "spool4", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 1};
    struct routes *all = house_routes(mixed);
    struct house house;
    house_open(&house, &plan, all);
    house_stage(&house, "a@nowhere.example held@example.org", BYTES("x\r\n"));
    house_commit(&house);
    WAIT_FOR(&house, delivered, 1);
    WAIT_FOR(&house, held, 1);
    assert_int_equal(house_look(&house).queued, 1);
    uint64_t before = house_look(&house).deferred;
    house_configure(&house, all);
    WAIT_FOR(&house, deferred, before + 1);
    WAIT_FOR(&house, held, 1);
    house_close(&house);
    assert_true(house_logged(&plan, "event=held"));

    house_open(&house, &plan, all);
    assert_int_equal(house.recovered, 1);
    WAIT_FOR(&house, deferred, 1);
    WAIT_FOR(&house, held, 1);
    static const char *const fixed[] = {"nowhere.example", "maildir:mail/%d/%u", NULL};
    struct routes *more = house_routes(fixed);
    house_configure(&house, more);
    WAIT_FOR(&house, delivered, 1);
    assert_int_equal(house_look(&house).held, 0);
    assert_int_equal(house_look(&house).bounces, 0);
    house_close(&house);
    assert_int_equal(house_count_files("mail/nowhere.example/a/new", NULL), 1);
    assert_int_equal(house_count_files("mail/example.org/held/new", NULL), 1);
    house_open(&house, &plan, all);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(all);
    routes_free(more);
}

/* Reloads while mail flows: every message is delivered exactly once. */
static void reloads_under_load(void **state)
{
    (void)state;
    enum { MESSAGES = 600 };
    struct house_plan plan = {
        .path = "spool5", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    static const char *const here[] = {"example.org", "maildir:here/%u", NULL};
    static const char *const there[] = {"example.org", "maildir:there/%u", NULL};
    struct routes *routes = house_routes(here);
    struct house house;
    house_open(&house, &plan, routes);
    for (int i = 0; i < MESSAGES; i++) {
        char mailbox[64];
        snprintf(mailbox, sizeof mailbox, "u%d@example.org", i % 10);
        house_stage(&house, mailbox, BYTES("x\r\n"));
        if (i % 100 != 99)
            continue;
        staging_publish(house.staging, true);
        struct routes *next = house_routes(i % 200 == 99 ? there : here);
        house_configure(&house, next);
        routes_free(routes);
        routes = next;
    }
    house_commit(&house);
    WAIT_FOR(&house, delivered, MESSAGES);
    house_close(&house);
    int files = 0;
    for (int i = 0; i < 20; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/u%d/new", i < 10 ? "here" : "there", i % 10);
        int found = house_count_files(path, NULL);
        files += found > 0 ? found : 0;
    }
    assert_int_equal(files, MESSAGES);
    routes_free(routes);
}

static void discards(void **state)
{
    (void)state;
    enum { MESSAGES = 200000 };
    struct house_plan plan = {
        .path = "spool7", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    static const char *const pairs[] = {"example.net", "discard:", NULL};
    struct routes *routes = house_routes(pairs);
    struct house house;
    house_open(&house, &plan, routes);
    log_configure(house.log, &(const struct log_options){.descriptor = house.log_descriptor,
                                                         .level = LOG_WARN});
    for (int i = 0; i < MESSAGES; i++) {
        house_stage(&house, i % 10 == 0 ? "a@example.net b@example.net" : "c@example.net",
                    BYTES("x\r\n"));
        if (i % 100 == 99)
            staging_publish(house.staging, true);
    }
    house_commit(&house);
    WAIT_FOR(&house, delivered, MESSAGES + MESSAGES / 10);
    WAIT_FOR(&house, duplicates_possible, 0);
    printf("a discarded message costs the courier %llu ns\n",
           (unsigned long long)house_courier_cpu_ns() / MESSAGES);
    house_close(&house);
    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(routes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivers),           cmocka_unit_test(puts_off_and_retries),
        cmocka_unit_test(survives_restart),   cmocka_unit_test(holds),
        cmocka_unit_test(reloads_under_load), cmocka_unit_test(discards),
    };
    return cmocka_run_group_tests(tests, house_set_up, house_tear_down);
}
