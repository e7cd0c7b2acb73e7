/* What ringmxctl asks the courier for: rows of the queue, destinations, and acting on them; and
 * what a restart and a reload make of what the operator said. */
#include "gateway/deliver/courier_queue.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/house.h"

enum { ROWS = 1024 };

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

/* Of several consignments, what is left of one that loses a recipient waits on as it did; an order
 * may name recipients. What was done is written when the disk takes it, not before. */
static void waits_on(void **state)
{
    (void)state;
    struct house_plan here = plan("waits");
    struct routes *routes = house_routes(pairs);
    struct house house;
    house_open(&house, &here, routes);
    uint64_t id =
        house_stage(&house, "a@example.org b@example.org c@example.org d@two.example e@example.com",
                    BYTES("x"));
    house_commit(&house);
    const struct courier_row *row = NULL;
    for (int ms = 0; ms < 5000 && (row == NULL || row->state != CONSIGNMENT_WAITING); ms++) {
        usleep(1000);
        row = find(&house, id, "smtp:127.0.0.1:1");
    }
    assert_non_null(row);
    assert_int_equal(row->state, CONSIGNMENT_WAITING);
    uint64_t next_s = row->next_s;
    assert_true(next_s >= row->message.arrival_s + 500);
    static const uint32_t named[] = {1, 3};
    struct courier_order order = {.message_id = id,
                                  .place = row->place,
                                  .first = row->first,
                                  .recipients = named,
                                  .recipient_count = 2};
    assert_int_equal(courier_act_many(house.courier, COURIER_REMOVE, &order, 1), 0);
    assert_int_equal(order.result, 1);
    row = find(&house, id, "smtp:127.0.0.1:1");
    assert_int_equal(row->state, CONSIGNMENT_WAITING);
    assert_in_range(row->next_s, next_s - 1, next_s + 1);
    assert_int_equal(row->attempts, 1);
    assert_int_equal(row->recipient_count, 2);
    assert_int_equal(row->finished, 1 << 1);
    WAIT_FOR(&house, duplicates_possible, 0);

    atomic_store(&house_disk_fails, true);
    struct courier_mark mark = {.set = false};
    assert_int_equal(courier_act(house.courier, COURIER_HOLD, id, NULL, 0), 4);
    for (int ms = 0; ms < 300; ms++) {
        assert_int_equal(courier_written(house.courier, &mark), 0);
        usleep(1000);
    }
    atomic_store(&house_disk_fails, false);
    int written = 0;
    for (int ms = 0; ms < 10000 && written == 0; ms++) {
        usleep(1000);
        written = courier_written(house.courier, &mark);
    }
    assert_int_equal(written, 1);
    house_close(&house);
    routes_free(routes);
}

/* The marks of a message with many recipients. */
static void marks_of_many(void **state)
{
    (void)state;
    enum { MANY = 200 };
    struct house_plan here = plan("many");
    struct routes *routes = house_routes(pairs);
    struct house house;
    static char list_of[MANY * 24];
    static uint8_t marks[COURIER_MARKS_SIZE];
    size_t len = 0;
    for (int i = 0; i < MANY; i++)
        len += (size_t)snprintf(list_of + len, sizeof list_of - len, "%su%d@%s", i == 0 ? "" : " ",
                                i, i % 2 == 0 ? "box.example" : "example.org");
    house_open(&house, &here, routes);
    uint64_t id = house_stage(&house, list_of, BYTES("x"));
    house_commit(&house);
    WAIT_FOR(&house, delivered, MANY / 2);
    struct courier_row *row = find(&house, id, "smtp:127.0.0.1:1");
    assert_non_null(row);
    row->recipient_count = row->open_count = 0;
    assert_int_equal(courier_marks(house.courier, row, marks), 0);
    assert_int_equal(row->recipient_count, MANY / 2);
    assert_int_equal(row->open_count, MANY / 2);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(marks[i / 8] >> i % 8 & 1, i % 2 == 0);
    row->message.message_id++;
    assert_int_equal(courier_marks(house.courier, row, marks), -ENOENT);
    house_close(&house);
    routes_free(routes);
}

/* While the disk takes nothing, so much is done as can be kept; the rest is told to come again, and
 * nothing is half done. */
static void waits_for_room(void **state)
{
    (void)state;
    enum { MESSAGES = 60, MANY = 1000 };
    struct house_plan here = plan("room");
    struct routes *routes = house_routes(pairs);
    struct house house;
    static char list_of[MANY * 20];
    size_t len = 0;
    for (int i = 0; i < MANY; i++)
        len += (size_t)snprintf(list_of + len, sizeof list_of - len, "%su%d@example.org",
                                i == 0 ? "" : " ", i);
    house_open(&house, &here, routes);
    uint64_t ids[MESSAGES];
    for (int i = 0; i < MESSAGES; i++)
        ids[i] = house_stage(&house, list_of, BYTES("x"));
    house_commit(&house);
    for (int ms = 0; ms < 10000 && find(&house, ids[0], "smtp:127.0.0.1:1") == NULL; ms++)
        usleep(1000);
    WAIT_FOR(&house, queued, MESSAGES);
    WAIT_FOR(&house, duplicates_possible, 0);
    atomic_store(&house_disk_fails, true);
    int removed = 0, refused = 0;
    for (int i = 0; i < MESSAGES; i++) {
        int result = -EBUSY;
        for (int ms = 0; ms < 10000 && result == -EBUSY; ms++) {
            usleep(1000);
            result = courier_act(house.courier, COURIER_REMOVE, ids[i], NULL, 0);
        }
        assert_true(result == MANY || result == -EAGAIN);
        removed += result == MANY;
        refused += result == -EAGAIN;
    }
    assert_in_range(removed, 48, 49);
    assert_int_equal(refused, MESSAGES - removed);
    int count = list(&house);
    uint64_t left = 0;
    for (int i = 0; i < count; i++) {
        assert_int_equal(rows[i].open_count, MANY);
        left += rows[i].recipient_count != 0 ? rows[i].recipient_count : MANY;
        struct courier_order order = {.message_id = rows[i].message.message_id,
                                      .place = rows[i].place,
                                      .first = rows[i].first};
        assert_int_equal(courier_act_many(house.courier, COURIER_REMOVE, &order, 1), 0);
        assert_int_equal(order.result, -EAGAIN);
    }
    assert_int_equal(left, refused * MANY);
    atomic_store(&house_disk_fails, false);
    for (int ms = 0; ms < 10000 && house_look(&house).queued > 0; ms++) {
        for (int i = 0; i < MESSAGES; i++)
            (void)courier_act(house.courier, COURIER_REMOVE, ids[i], NULL, 0);
        usleep(1000);
    }
    WAIT_FOR(&house, queued, 0);
    house_close(&house);
    house_open(&house, &here, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(routes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists),
        cmocka_unit_test(holds_and_releases),
        cmocka_unit_test(removes),
        cmocka_unit_test(waits_on),
        cmocka_unit_test(marks_of_many),
        cmocka_unit_test(waits_for_room),
        cmocka_unit_test(reload_sorts_anew),
    };
    return cmocka_run_group_tests(tests, house_set_up, house_tear_down);
}
