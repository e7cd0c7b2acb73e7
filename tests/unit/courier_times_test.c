/* Times that messages bring with them (RFC 4865, RFC 2852), with a real spool: what is held comes
 * neither sooner for a reload nor for a restart; what is late is returned, or told of. */
#include "gateway/deliver/courier.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "tests/support/house.h"

static const char *const mixed[] = {"example.org", "maildir:mail/%d/%u", "example.net",
                                    "smtp:127.0.0.1:1", NULL};
static const struct bytes text = BYTES("Subject: x\r\n\r\nbody\r\n");

static uint32_t now_s(void)
{
    return (uint32_t)(clock_wall_us() / 1000000);
}

static void wait_until(uint32_t time_s)
{
    while (now_s() < time_s)
        usleep(10000);
}

/* open_behind_another: what is for example.net comes to a line that waits already. */
static void open_behind_another(struct house *house, const struct house_plan *plan,
                                struct routes *routes)
{
    house_open(house, plan, routes);
    house_stage(house, "first@example.net", text);
    house_commit(house);
    WAIT_FOR(house, deferred, 1);
}

static void held(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "held", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    struct routes *routes = house_routes(mixed);
    struct house house;
    house_open(&house, &plan, routes);
    uint32_t release_s = now_s() + 6;
    house_terms = (struct envelope_terms){.release_s = release_s, .hold_s = 6};
    house_stage(&house, "later@example.org", text);
    house_terms = (struct envelope_terms){.release_s = now_s() - 5};
    house_stage(&house, "now@example.org", text);
    house_commit(&house);
    WAIT_FOR(&house, delivered, 1);
    house_configure(&house, routes); /* what waits gets an attempt; but not this */
    usleep(300000);
    assert_int_equal(house_look(&house).delivered, 1);
    house_close(&house);
    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 1);
    usleep(300000);
    bool waits = house_look(&house).delivered == 0 && house_look(&house).queued == 1;
    assert_true(waits || now_s() >= release_s);
    WAIT_FOR(&house, delivered, 1);
    assert_true(now_s() >= release_s);
    assert_int_equal(house_count_files("mail/example.org/later/new", NULL), 1);
    house_close(&house);
    house_terms = (struct envelope_terms){0};
    routes_free(routes);
}

/* The lifetime begins with the release. */
static void lives_from_its_release(void **state)
{
    (void)state;
    struct house_plan plan = {.path = "lives", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 2};
    struct routes *routes = house_routes(mixed);
    struct house house;
    house_open(&house, &plan, routes);
    uint32_t release_s = now_s() + 3;
    house_terms = (struct envelope_terms){.release_s = release_s};
    house_stage(&house, "gone@example.net", text);
    house_commit(&house);
    WAIT_FOR(&house, deferred, 1); /* it was tried, and is not too old at once */
    assert_true(now_s() >= release_s);
    bool tried = house_look(&house).refused == 0;
    assert_true(tried || now_s() >= release_s + 2);
    WAIT_FOR(&house, refused, 1);
    assert_true(now_s() >= release_s + 2);
    house_close(&house);
    house_terms = (struct envelope_terms){0};
    routes_free(routes);
}

/* "R" in the line of a destination that is dead: returned when the time is over, and not before;
 * what has no time waits on. */
static void returned(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "returned", .retry_min_s = 60, .retry_max_s = 60, .lifetime_s = 3600};
    struct routes *routes = house_routes(mixed);
    struct house house;
    open_behind_another(&house, &plan, routes);
    uint32_t by_s = now_s() + 2;
    house_terms = (struct envelope_terms){.by_s = by_s, .by_mode = ENVELOPE_BY_RETURN};
    house_stage(&house, "late@example.net", text);
    house_stage(&house, "intime@example.org", text);
    house_commit(&house);
    WAIT_FOR(&house, delivered, 1);
    WAIT_FOR(&house, refused, 1);
    assert_true(now_s() >= by_s);
    WAIT_FOR(&house, bounces, 1);
    WAIT_FOR(&house, queued, 2); /* the first, and the notification */
    house_close(&house);
    assert_true(house_logged(&plan, "event=refused"));
    assert_true(house_logged(&plan, "error=\"not delivered by the time that was asked for\" "
                                    "status=5.4.7"));
    assert_true(house_logged(&plan, "action=failed"));
    house_terms = (struct envelope_terms){0};
    routes_free(routes);
}

/* The time was over while the gateway was down, even for what could be delivered now. */
static void returned_after_a_restart(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "restart", .retry_min_s = 60, .retry_max_s = 60, .lifetime_s = 3600};
    struct routes *routes =
        house_routes((const char *const[]){"example.org", "smtp:127.0.0.1:1", NULL});
    struct routes *good = house_routes(mixed);
    struct house house;
    house_open(&house, &plan, routes);
    uint32_t by_s = now_s() + 2;
    house_terms = (struct envelope_terms){.by_s = by_s, .by_mode = ENVELOPE_BY_RETURN};
    house_stage(&house, "a@example.org", text);
    house_commit(&house);
    WAIT_FOR(&house, deferred, 1);
    house_close(&house);
    wait_until(by_s);
    house_open(&house, &plan, good);
    assert_int_equal(house.recovered, 1);
    WAIT_FOR(&house, refused, 1);
    assert_int_equal(house_look(&house).delivered, 0);
    WAIT_FOR(&house, bounces, 1);
    house_close(&house);
    house_terms = (struct envelope_terms){0};
    routes_free(good);
    routes_free(routes);
}

/* "N": told of once, and it waits on. */
static void told_of(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "told", .retry_min_s = 60, .retry_max_s = 60, .lifetime_s = 3600};
    struct routes *routes = house_routes(mixed);
    struct house house;
    open_behind_another(&house, &plan, routes);
    uint32_t by_s = now_s() + 2;
    house_terms = (struct envelope_terms){.by_s = by_s};
    house_stage(&house, "late@example.net", text);
    house_commit(&house);
    WAIT_FOR(&house, bounces, 1);
    assert_true(now_s() >= by_s);
    usleep(1500000);
    assert_int_equal(house_look(&house).bounces, 1);
    assert_int_equal(house_look(&house).refused, 0);
    assert_int_equal(house_look(&house).queued, 3);
    house_close(&house);
    assert_true(house_logged(&plan, "action=delayed"));
    house_terms = (struct envelope_terms){0};
    routes_free(routes);
}

/* The time ran out while the text came: "R" is returned, "N" told of; but not if it was over before
 * MAIL. */
static void over_at_once(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "over", .retry_min_s = 60, .retry_max_s = 60, .lifetime_s = 3600};
    struct routes *routes = house_routes(mixed);
    struct house house;
    house_open(&house, &plan, routes);
    house_terms = (struct envelope_terms){.by_s = now_s() - 1, .by_mode = ENVELOPE_BY_RETURN};
    house_stage(&house, "back@example.org", text);
    house_commit(&house);
    WAIT_FOR(&house, refused, 1);
    WAIT_FOR(&house, bounces, 1);
    house_terms = (struct envelope_terms){.by_s = now_s() - 1, .by_mode = ENVELOPE_BY_TOLD};
    house_stage(&house, "told@example.net", text);
    house_commit(&house);
    WAIT_FOR(&house, deferred, 2); /* the notification is the other */
    house_terms = (struct envelope_terms){.by_s = now_s() - 1};
    house_stage(&house, "late@example.net", text);
    house_commit(&house);
    WAIT_FOR(&house, bounces, 2);
    usleep(300000);
    assert_int_equal(house_look(&house).bounces, 2);
    assert_int_equal(house_look(&house).delivered, 0);
    house_close(&house);
    house_terms = (struct envelope_terms){0};
    routes_free(routes);
}

enum { MANY = 400 };

/* A message for many destinations is dealt with to the last of them, over several turns. */
static void to_many(void **state)
{
    (void)state;
    struct house_plan plan = {
        .path = "many", .retry_min_s = 60, .retry_max_s = 60, .lifetime_s = 3600};
    static char domains[MANY][16], targets[MANY][24], recipients[MANY * 16];
    static const char *pairs[2 * MANY + 1];
    size_t len = 0;
    for (size_t i = 0; i < MANY; i++) {
        snprintf(domains[i], sizeof domains[i], "d%zu.example", i);
        snprintf(targets[i], sizeof targets[i], "smtp:127.0.0.1:%zu", i + 1);
        pairs[2 * i] = domains[i];
        pairs[2 * i + 1] = targets[i];
        len += (size_t)snprintf(recipients + len, sizeof recipients - len, "%su@d%zu.example",
                                i == 0 ? "" : " ", i);
    }
    for (int mode = 0; mode < 2; mode++) {
        struct routes *routes = house_routes(pairs);
        struct house house;
        plan.path = mode == 0 ? "many-told" : "many-back";
        house_open(&house, &plan, routes);
        house_terms = (struct envelope_terms){.by_s = now_s() + 2,
                                              .by_mode = mode == 0 ? 0 : ENVELOPE_BY_RETURN};
        house_stage(&house, recipients, text);
        house_commit(&house);
        WAIT_FOR(&house, bounces, MANY);
        assert_int_equal(house_look(&house).refused, mode == 0 ? 0 : MANY);
        house_close(&house);
        routes_free(routes);
    }
    house_terms = (struct envelope_terms){0};
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(held),     cmocka_unit_test(lives_from_its_release),
        cmocka_unit_test(returned), cmocka_unit_test(returned_after_a_restart),
        cmocka_unit_test(told_of),  cmocka_unit_test(over_at_once),
        cmocka_unit_test(to_many),
    };
    return cmocka_run_group_tests_name("courier_times", tests, house_set_up, house_tear_down);
}
