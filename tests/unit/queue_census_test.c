/* admin/queue_census: what it counts of a queue with consignments everywhere, how many names it
 * shows, what it does while the courier stops, and how modest it is. */
#include "gateway/admin/queue_census.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "gateway/base/clock.h"
#include "tests/support/house.h"

/* Nobody listens on port 1; nobody has a route to example.com. */
static const char *const pairs[] = {"example.org", "smtp:127.0.0.1:1", "box.example",
                                    "maildir:mail/%u", NULL};

static struct house_plan plan(const char *path)
{
    return (struct house_plan){
        .path = path, .retry_min_s = 600, .retry_max_s = 600, .lifetime_s = 100000};
}

/* walk steps until a walk that began after this call is over. */
static void walk(struct queue_census *census, struct queue_census_result *out)
{
    uint64_t begun_us = clock_monotonic_us(), first_us = 0;
    for (int i = 0; i < 10000; i++) {
        usleep(queue_census_step(census) * 1000);
        queue_census_read(census, out);
        if (out->taken_us > begun_us && first_us == 0)
            first_us = out->taken_us;
        if (first_us != 0 && out->taken_us > first_us)
            return;
    }
    fail_msg("no walk has ended");
}

static const struct queue_census_row *find(const struct queue_census_result *result,
                                           const char *name)
{
    const struct queue_census_row *found = NULL;
    for (uint32_t i = 0; i < result->row_count; i++)
        if (strcmp(result->rows[i].destination, name) == 0) {
            assert_null(found); /* no name comes twice */
            found = &result->rows[i];
        }
    return found;
}

static struct queue_census_result result;

static void counts_what_waits(void **state)
{
    (void)state;
    struct house_plan here = plan("counts");
    struct routes *routes = house_routes(pairs);
    struct house house;
    house_open(&house, &here, routes);
    struct queue_census *census = queue_census_new(house.courier);
    queue_census_read(census, &result);
    assert_int_equal(result.taken_us, 0);
    walk(census, &result);
    assert_int_equal(result.row_count, 0);

    house_stage(&house, "a@example.org b@example.org c@box.example", BYTES("12345"));
    house_stage(&house, "a@example.com", BYTES("x"));
    house_commit(&house);
    WAIT_FOR(&house, delivered, 1);
    WAIT_FOR(&house, queued, 2);
    for (int i = 0; i < 10 && (find(&result, "smtp:127.0.0.1:1") == NULL ||
                               !find(&result, "smtp:127.0.0.1:1")->dead);
         i++)
        walk(census, &result);
    assert_int_equal(result.row_count, 2);
    const struct queue_census_row *row = &result.rows[0];
    assert_string_equal(row->destination, "smtp:127.0.0.1:1");
    assert_int_equal(row->recipients, 2);
    assert_int_equal(row->consignments, 1);
    assert_int_equal(row->octets, 5);
    assert_true(row->dead);
    row = find(&result, "none");
    assert_non_null(row);
    assert_int_equal(row->recipients, 1);
    assert_false(row->dead);
    assert_int_equal(result.by_age[0], 3);
    assert_true(result.oldest_s < 60);
    assert_int_equal(result.destinations[DESTINATION_DEAD], 1);
    queue_census_free(census);
    house_close(&house);
    routes_free(routes);
}

static void shows_the_largest(void **state)
{
    (void)state;
    enum { DOMAINS = QUEUE_CENSUS_DESTINATIONS + 8 };
    static char names[DOMAINS][32], targets[DOMAINS][32];
    const char *list[2 * DOMAINS + 1];
    struct house_plan here = plan("largest");
    struct house house;
    for (int i = 0; i < DOMAINS; i++) {
        snprintf(names[i], sizeof(names[i]), "d%d.example", i);
        snprintf(targets[i], sizeof(targets[i]), "smtp:127.0.0.1:%d", i + 1);
        list[2 * i] = names[i];
        list[2 * i + 1] = targets[i];
    }
    list[2 * DOMAINS] = NULL;
    struct routes *routes = house_routes(list);
    house_open(&house, &here, routes);
    for (int i = 0; i < DOMAINS; i++) {
        char recipients[128];
        snprintf(recipients, sizeof(recipients), "a@d%d.example%s%.0d%s", i,
                 i < QUEUE_CENSUS_DESTINATIONS ? " b@d" : "",
                 i < QUEUE_CENSUS_DESTINATIONS && i > 0 ? i : 0,
                 i >= QUEUE_CENSUS_DESTINATIONS ? ""
                 : i == 0                       ? "0.example"
                                                : ".example");
        house_stage(&house, recipients, BYTES("x"));
    }
    house_commit(&house);
    WAIT_FOR(&house, queued, DOMAINS);
    struct queue_census *census = queue_census_new(house.courier);
    for (int i = 0; i < 10 && result.row_count < QUEUE_CENSUS_DESTINATIONS + 1; i++)
        walk(census, &result);
    assert_int_equal(result.row_count, QUEUE_CENSUS_DESTINATIONS + 1);
    const struct queue_census_row *others = find(&result, "other");
    assert_non_null(others);
    assert_ptr_equal(others, &result.rows[QUEUE_CENSUS_DESTINATIONS]);
    assert_int_equal(others->recipients, DOMAINS - QUEUE_CENSUS_DESTINATIONS);
    assert_int_equal(others->consignments, DOMAINS - QUEUE_CENSUS_DESTINATIONS);
    for (int i = 0; i < QUEUE_CENSUS_DESTINATIONS; i++) {
        assert_int_equal(result.rows[i].recipients, 2);
        assert_ptr_equal(find(&result, result.rows[i].destination), &result.rows[i]);
    }
    queue_census_free(census);
    house_close(&house);
    routes_free(routes);
}

struct reader {
    struct queue_census *census;
    atomic_bool stopping;
};

static void *read_on(void *argument)
{
    struct reader *reader = argument;
    struct queue_census_result seen;
    while (!atomic_load(&reader->stopping)) {
        queue_census_read(reader->census, &seen);
        usleep(100);
    }
    return NULL;
}

/* Others read meanwhile; the courier's time is hardly used; after its end steps do nothing. */
static void steps_are_modest(void **state)
{
    (void)state;
    struct house_plan here = plan("modest");
    struct routes *routes = house_routes(pairs);
    struct house house;
    pthread_t thread;
    house_open(&house, &here, routes);
    for (int i = 0; i < 3000; i++)
        house_stage(&house, "a@example.com", BYTES("x"));
    house_commit(&house);
    WAIT_FOR(&house, queued, 3000);
    struct reader reader = {.census = queue_census_new(house.courier)};
    assert_int_equal(pthread_create(&thread, NULL, read_on, &reader), 0);
    for (int i = 0; i < 5 && (find(&result, "none") == NULL || result.row_count > 1); i++)
        walk(reader.census, &result);
    uint64_t begun_us = clock_monotonic_us(), before_ns = house_courier_cpu_ns();
    walk(reader.census, &result);
    uint64_t took_us = clock_monotonic_us() - begun_us;
    uint64_t used_us = (house_courier_cpu_ns() - before_ns) / 1000;
    assert_int_equal(find(&result, "none")->recipients, 3000);
    print_message("walks: %lu us of the courier's in %lu us\n", used_us, took_us);
    assert_true(used_us < took_us / 10); /* its own turns included; on a busy machine */
    atomic_store(&reader.stopping, true);
    pthread_join(thread, NULL);
    queue_census_free(reader.census);
    house_close(&house);
    routes_free(routes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_what_waits),
        cmocka_unit_test(shows_the_largest),
        cmocka_unit_test(steps_are_modest),
    };
    return cmocka_run_group_tests(tests, house_set_up, house_tear_down);
}
