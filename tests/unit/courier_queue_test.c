/* What ringmxctl asks the courier for: rows of the queue, destinations, and acting on them; and
 * what a restart and a reload make of what the operator said. */
#include "gateway/deliver/courier.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/house.h"

enum { ROWS = 64 };

/* Nobody listens on port 1; nobody has a route to example.com. */
static const char *const pairs[] = {
    "example.org", "smtp:127.0.0.1:1", "two.example", "smtp:127.0.0.1:1 weight=2",
    "box.example", "maildir:mail/%u",  NULL};

static struct house_plan plan(const char *path)
{
    return (struct house_plan){
        .path = path, .retry_min_s = 600, .retry_max_s = 600, .lifetime_s = 100000};
}

static struct courier_row rows[ROWS];

static int list(struct house *house)
{
    uint64_t cursor = 0;
    int count = 0;
    while (cursor != UINT64_MAX) {
        int more = courier_list(house->courier, &cursor, rows + count, (uint32_t)(ROWS - count));
        assert_true(more >= 0);
        count += more;
        assert_true(count < ROWS);
    }
    return count;
}

/* The row of a message's consignment that goes to this destination. */
static struct courier_row *find(struct house *house, uint64_t id, const char *destination)
{
    int count = list(house);
    for (int i = 0; i < count; i++)
        if (rows[i].message.message_id == id && strcmp(rows[i].destination, destination) == 0)
            return &rows[i];
    return NULL;
}

/* A message with parts everywhere. */
static uint64_t stage(struct house *house)
{
    uint64_t id = house_stage(
        house, "a@example.org b@two.example c@example.org d@box.example e@example.com", BYTES("x"));
    house_commit(house);
    for (int ms = 0; ms < 5000 && (find(house, id, "none") == NULL || list(house) < 3); ms++)
        usleep(1000);
    return id;
}

static void lists(void **state)
{
    (void)state;
    struct house_plan here = plan("list");
    struct routes *routes = house_routes(pairs);
    struct house house;
    house_open(&house, &here, routes);
    uint64_t id = stage(&house);
    WAIT_FOR(&house, delivered, 1);
    assert_int_equal(list(&house), 3);
    const struct courier_row *row = find(&house, id, "smtp:127.0.0.1:1");
    assert_non_null(row);
    assert_int_equal(row->first, 0);
    assert_int_equal(row->recipient_count, 2);
    assert_int_equal(row->open_count, 4);
    assert_int_equal(row->finished, 1 << 3);
    row = find(&house, id, "none");
    assert_int_equal(row->first, 4);
    assert_int_equal(row->state, CONSIGNMENT_WAITING);
    assert_int_equal(row->attempts, 1);
    assert_string_equal(row->reason, "the domain is not configured");
    assert_true(row->next_s > row->message.arrival_s);

    uint64_t cursor = 0;
    struct courier_destination hops[8];
    int count = courier_destinations(house.courier, &cursor, hops, 8);
    assert_int_equal(count, 2);
    assert_true(cursor == UINT64_MAX);
    house_close(&house);
    routes_free(routes);
}

/* Holding one part leaves the others alone; a restart and a reload keep the hold. */
static void holds_and_releases(void **state)
{
    (void)state;
    struct house_plan here = plan("hold");
    struct routes *routes = house_routes(pairs);
    struct house house;
    house_open(&house, &here, routes);
    uint64_t id = stage(&house);
    WAIT_FOR(&house, delivered, 1);
    static const uint32_t second = 1, everybody[] = {0, 1, 2, 4};
    assert_int_equal(courier_act(house.courier, COURIER_HOLD, id + 1, NULL, 0), -ENOENT);
    assert_int_equal(courier_act(house.courier, COURIER_HOLD, id, &second, 1), 1);
    assert_int_equal(find(&house, id, "smtp:127.0.0.1:1 weight=2")->state, CONSIGNMENT_HELD);
    assert_int_not_equal(find(&house, id, "smtp:127.0.0.1:1")->state, CONSIGNMENT_HELD);
    assert_int_equal(house_look(&house).held, 1);
    house_configure(&house, routes);
    WAIT_FOR(&house, held, 1);
    house_close(&house);

    house_open(&house, &here, routes);
    assert_int_equal(house.recovered, 1);
    usleep(100000);
    assert_int_equal(list(&house), 1);
    assert_int_equal(rows[0].state, CONSIGNMENT_HELD);
    assert_string_equal(rows[0].reason, "held by the operator");
    assert_int_equal(house_look(&house).deferred, 0);
    assert_int_equal(courier_act(house.courier, COURIER_RETRY, id, NULL, 0), 0);
    assert_int_equal(courier_act(house.courier, COURIER_RELEASE, id, everybody, 4), 4);
    WAIT_FOR(&house, held, 0);
    for (int ms = 0; ms < 5000 && list(&house) < 3; ms++)
        usleep(1000);
    assert_int_equal(list(&house), 3);
    house_close(&house);

    house_open(&house, &here, routes);
    usleep(100000);
    assert_int_equal(house_look(&house).held, 0);
    house_close(&house);
    routes_free(routes);
}

/* Who is removed is gone, also after a restart; his neighbours stay. */
static void removes(void **state)
{
    (void)state;
    struct house_plan here = plan("remove");
    struct routes *routes = house_routes(pairs);
    struct house house;
    house_open(&house, &here, routes);
    uint64_t id = stage(&house);
    WAIT_FOR(&house, delivered, 1);
    static const uint32_t third = 2;
    assert_int_equal(courier_act(house.courier, COURIER_REMOVE, id, &third, 1), 1);
    for (int ms = 0; ms < 5000 && find(&house, id, "smtp:127.0.0.1:1") == NULL; ms++)
        usleep(1000);
    const struct courier_row *row = find(&house, id, "smtp:127.0.0.1:1");
    assert_int_equal(row->recipient_count, 1);
    assert_int_equal(row->finished, 1 << 2 | 1 << 3);
    WAIT_FOR(&house, duplicates_possible, 0);
    house_close(&house);

    house_open(&house, &here, routes);
    for (int ms = 0; ms < 5000 && list(&house) < 1; ms++)
        usleep(1000);
    assert_int_equal(rows[0].open_count, 3);
    assert_int_equal(rows[0].finished, 1 << 2 | 1 << 3);
    struct courier_order orders[2] = {
        {.message_id = id, .place = rows[0].place,     .first = rows[0].first},
        {.message_id = id, .place = rows[0].place + 1, .first = 0            },
    };
    assert_int_equal(courier_act_many(house.courier, COURIER_HOLD, orders, 2), 0);
    assert_true(orders[0].result >= 1);
    assert_int_equal(orders[1].result, -ENOENT);
    int removed = 0;
    for (int ms = 0; ms < 5000 && house_look(&house).queued > 0; ms++) {
        int result = courier_act(house.courier, COURIER_REMOVE, id, NULL, 0);
        removed += result > 0 ? result : 0;
        usleep(1000);
    }
    assert_int_equal(removed, 3);
    WAIT_FOR(&house, queued, 0);
    assert_int_equal(house_look(&house).bounces, 0);
    house_close(&house);
    house_open(&house, &here, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(routes);
}

/* A reload sorts anew: what had no route, and what stood in the line of a dead destination. */
static void reload_sorts_anew(void **state)
{
    (void)state;
    static const char *const fixed[] = {"example.org", "maildir:new/%d/%u", "two.example",
                                        "discard:",    "example.com",       "maildir:new/%d/%u",
                                        NULL};
    struct house_plan here = plan("anew");
    struct routes *routes = house_routes(pairs), *better = house_routes(fixed);
    struct house house;
    house_open(&house, &here, routes);
    for (int i = 0; i < 20; i++)
        stage(&house);
    WAIT_FOR(&house, delivered, 20);
    house_configure(&house, better);
    WAIT_FOR(&house, delivered, 100);
    WAIT_FOR(&house, queued, 0);
    house_close(&house);
    assert_int_equal(house_count_files("new/example.org/a/new", NULL), 20);
    assert_int_equal(house_count_files("new/example.org/c/new", NULL), 20);
    assert_int_equal(house_count_files("new/example.com/e/new", NULL), 20);
    assert_int_equal(house_count_files("new/two.example/b/new", NULL), -1);
    house_open(&house, &here, better);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(routes);
    routes_free(better);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists),
        cmocka_unit_test(holds_and_releases),
        cmocka_unit_test(removes),
        cmocka_unit_test(reload_sorts_anew),
    };
    return cmocka_run_group_tests(tests, house_set_up, house_tear_down);
}
