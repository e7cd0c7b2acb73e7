/* A write to a Maildir that hangs, as on a file server that is gone: other mail goes on, a reload
 * takes effect at once, and a stop does not wait for ever. What hung is delivered again. */
#include "gateway/deliver/courier.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "tests/support/house.h"

static const char *const before[] = {"a.example", "maildir:before/%u", NULL};
static const char *const after[] = {"a.example", "maildir:after/%u", NULL};
static atomic_bool hangs; /* the next rename does, until this is false again */
static atomic_bool hung;

/* Stands in for the C library's. */
int renameat2(int from, const char *from_name, int to, const char *to_name, unsigned int flags)
{
    bool first = false;
    if (atomic_load(&hangs) && atomic_compare_exchange_strong(&hung, &first, true)) {
        while (atomic_load(&hangs))
            usleep(1000);
        atomic_store(&hung, false);
    }
    return (int)syscall(SYS_renameat2, from, from_name, to, to_name, flags);
}

static void wait_until_hung(void)
{
    for (int ms = 0; !atomic_load(&hung) && ms < 20000; ms++)
        usleep(1000);
    assert_true(atomic_load(&hung));
}

/* The old table is freed while the batch that hangs was sorted by it. */
static void reload_goes_on(void **state)
{
    (void)state;
    static const char *const without[] = {"b.example", "maildir:after/%u", NULL};
    struct house_plan plan = {
        .path = "spool1", .retry_min_s = 3600, .retry_max_s = 3600, .lifetime_s = 86400};
    struct routes *old = house_routes(before), *new = house_routes(without);
    struct house house;

    house_open(&house, &plan, old);
    atomic_store(&hangs, true);
    house_stage(&house, "hung@a.example", BYTES("x\r\n"));
    house_commit(&house);
    wait_until_hung();
    uint64_t from_us = clock_monotonic_us();
    house_configure(&house, new);
    assert_true(clock_monotonic_us() - from_us < 2000000);
    routes_free(old);
    for (int i = 0; i < 20; i++)
        house_stage(&house, "other@b.example", BYTES("x\r\n"));
    house_commit(&house);
    WAIT_FOR(&house, delivered, 20);
    assert_true(atomic_load(&hung));
    assert_int_equal(house_count_files("after/other/new", NULL), 20);
    atomic_store(&hangs, false);
    WAIT_FOR(&house, delivered, 21);
    WAIT_FOR(&house, queued, 0);
    assert_int_equal(house_count_files("before/hung/new", NULL), 1);
    house_close(&house);
    routes_free(new);
}

/* What was stored is settled by who it was for, not by what the routes say by then. */
static void settles_by_recipient(void **state)
{
    (void)state;
    static const char *const split[] = {"a.example", "maildir:after/%u", "b.example",
                                        "discard:", NULL};
    static const char *const both[] = {"a.example", "maildir:both/%u", "b.example",
                                       "maildir:/proc/no/%u", NULL};
    struct house_plan plan = {
        .path = "spool2", .retry_min_s = 3600, .retry_max_s = 3600, .lifetime_s = 86400};
    struct routes *old = house_routes(both), *new = house_routes(split);
    struct house house;

    house_open(&house, &plan, old);
    atomic_store(&hangs, true);
    house_stage(&house, "one@a.example two@b.example three@a.example", BYTES("x\r\n"));
    house_commit(&house);
    wait_until_hung();
    house_configure(&house, new);
    routes_free(old);
    atomic_store(&hangs, false);
    WAIT_FOR(&house, delivered, 2); /* and the second could not be */
    assert_int_equal(house_look(&house).deferred, 1);
    assert_int_equal(house_look(&house).queued, 1);
    assert_int_equal(house_count_files("both/one/new", NULL), 1);
    assert_int_equal(house_count_files("both/three/new", NULL), 1);
    house_close(&house);
    routes_free(new);
}

/* The process would end now; here the thread that hung is let go at last, and finds all that it
 * needs. The next start delivers the message again. */
static void stop_does_not_wait(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "spool3", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    struct routes *routes = house_routes(after);
    struct house house, next;

    house_open(&house, &plan, routes);
    atomic_store(&hangs, true);
    house_stage(&house, "hung@a.example", BYTES("x\r\n"));
    house_commit(&house);
    wait_until_hung();
    house_stage(&house, "other@a.example", BYTES("x\r\n"));
    house_commit(&house);
    WAIT_FOR(&house, delivered, 1);
    uint64_t from_us = clock_monotonic_us();
    assert_false(courier_stop(house.courier));
    assert_in_range(clock_monotonic_us() - from_us, 9000000, 15000000);
    for (int ms = 0; !house_logged(&plan, "writing to a Maildir hangs") && ms < 5000; ms++)
        usleep(1000);
    assert_true(house_logged(&plan, "writing to a Maildir hangs"));
    spool_stop(house.spool);
    courier_free(house.courier); /* does nothing */
    atomic_store(&hangs, false);
    for (int ms = 0; house_count_files("after/hung/new", NULL) != 1 && ms < 20000; ms++)
        usleep(1000);
    usleep(100 * 1000);
    spool_close(house.spool); /* its lock goes; nobody uses it any more */
    log_free(house.log);
    close(house.log_descriptor);
    house_open(&next, &plan, routes);
    assert_int_equal(next.recovered, 1);
    WAIT_FOR(&next, delivered, 1);
    assert_int_equal(house_count_files("after/hung/new", NULL), 2);
    house_close(&next);
    routes_free(routes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reload_goes_on),
        cmocka_unit_test(settles_by_recipient),
        cmocka_unit_test(stop_does_not_wait),
    };
    return cmocka_run_group_tests(tests, house_set_up, house_tear_down);
}
