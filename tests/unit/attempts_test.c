/* Attempts: addresses, networks and users; who is known; what is given back. */
#include "gateway/policy/attempts.h"
#include "tests/support/clients.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static const uint64_t second = 1000000, hour = 3600 * (uint64_t)1000000;
static const struct attempt_limits limits = {.per_address = 5, .per_network = 12, .per_user = 8};
static const struct attempt_limits users_only = {.per_user = 8};

static struct bytes alice(void)
{
    return BYTES("alice");
}

static enum attempt_verdict begin(struct attempts *attempts, const struct attempt_limits *in_force,
                                  const union address_any *peer, struct bytes user, uint64_t now,
                                  struct attempt_room *room)
{
    bool undecided;
    enum attempt_verdict verdict =
        attempts_begin(attempts, in_force, peer, user, now, room, &undecided);
    if (verdict != ATTEMPT_OK)
        assert_int_equal(room->limits[0] + room->limits[1] + room->limits[2], 0);
    return verdict;
}

/* guess is a whole attempt that fails. */
static enum attempt_verdict guess(struct attempts *attempts, const struct attempt_limits *in_force,
                                  const union address_any *peer, struct bytes user, uint64_t now)
{
    struct attempt_room room;
    enum attempt_verdict verdict = begin(attempts, in_force, peer, user, now, &room);
    attempts_failed(attempts, &room, now);
    return verdict;
}

/* login is one that passes, unless it may not even begin. */
static bool login(struct attempts *attempts, const struct attempt_limits *in_force,
                  const union address_any *peer, struct bytes user, uint64_t now)
{
    struct attempt_room room;
    if (begin(attempts, in_force, peer, user, now, &room) != ATTEMPT_OK)
        return false;
    attempts_passed(attempts, &room, peer, user, now);
    return true;
}

/* guesses returns how many of `count` guesses are looked at. */
static uint32_t guesses(struct attempts *attempts, const struct attempt_limits *in_force,
                        const union address_any *peer, struct bytes user, uint64_t now,
                        uint32_t count)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < count; i++)
        seen += guess(attempts, in_force, peer, user, now) == ATTEMPT_OK;
    return seen;
}

static void addresses_and_networks(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(0);
    union address_any a = client_at("192.0.2.1:1"), b = client_at("192.0.2.2:2"),
                      c = client_at("192.0.2.3:3"), stranger = client_at("192.0.3.1:4");
    for (uint32_t i = 0; i < 5; i++) { /* other names do not help */
        char name[8];
        snprintf(name, sizeof(name), "user%u", i);
        assert_int_equal(guess(attempts, &limits, &a, bytes_of_string(name), hour), ATTEMPT_OK);
    }
    a.v4.sin_port++;
    assert_int_equal(guess(attempts, &limits, &a, alice(), hour), ATTEMPT_ADDRESS_OVER);
    assert_int_equal(guesses(attempts, &limits, &b, BYTES("bob"), hour, 9), 5);
    assert_int_equal(guesses(attempts, &limits, &c, BYTES("carol"), hour, 9), 2);
    assert_int_equal(guess(attempts, &limits, &c, alice(), hour), ATTEMPT_NETWORK_OVER);
    assert_int_equal(guesses(attempts, &limits, &stranger, BYTES("dave"), hour, 9), 5);
    /* One each twelfth of an hour. */
    assert_int_equal(guesses(attempts, &limits, &a, BYTES("erin"), hour + 721 * second, 9), 1);
    attempts_free(attempts);
    attempts_free(NULL);
}

static void ipv6_counts_by_its_64_and_48(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(0);
    union address_any one = client_at("[2001:db8:1:2::1]:1");
    union address_any same = client_at("[2001:db8:1:2:ffff:eeee:dddd:cccc]:1");
    union address_any near = client_at("[2001:db8:1:3::1]:1");
    union address_any third = client_at("[2001:db8:1:4::1]:1");
    union address_any far = client_at("[2001:db8:2:2::1]:1");
    union address_any mapped = client_at("[::ffff:192.0.2.1]:1"), plain = client_v4(0xc0000201);
    const struct attempt_limits places = {.per_address = 5, .per_network = 12};
    assert_int_equal(guesses(attempts, &places, &one, alice(), hour, 3), 3);
    assert_int_equal(guesses(attempts, &places, &same, alice(), hour, 9), 2);
    assert_int_equal(guesses(attempts, &places, &near, alice(), hour, 9), 5);
    assert_int_equal(guesses(attempts, &places, &third, alice(), hour, 9), 2);
    assert_int_equal(guesses(attempts, &places, &far, alice(), hour, 9), 5);
    assert_int_equal(guesses(attempts, &places, &mapped, alice(), hour, 9), 5);
    assert_int_equal(guesses(attempts, &places, &plain, alice(), hour, 9), 0);
    attempts_free(attempts);
}

/* From everywhere against one user: the name is what is counted, however it is written. */
static void a_user_from_everywhere(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(0);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        union address_any peer = client_v4(0x0a000000 + i * 256);
        seen += guesses(attempts, &limits, &peer, i % 2 ? BYTES("Alice") : BYTES("aLICE"), hour, 1);
    }
    assert_int_equal(seen, 8);
    union address_any peer = client_v4(0x0b000000);
    assert_int_equal(guess(attempts, &limits, &peer, alice(), hour), ATTEMPT_USER_OVER);
    assert_int_equal(guess(attempts, &limits, &peer, BYTES("alice2"), hour), ATTEMPT_OK);
    /* Nobody looked at a password: the address has used up one attempt, not two. */
    assert_int_equal(guesses(attempts, &limits, &peer, BYTES("bob"), hour, 9), 4);
    attempts_free(attempts);
}

static void who_logs_in_is_never_limited(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(0);
    union address_any peer = client_at("192.0.2.1:1");
    for (uint32_t i = 0; i < 1000; i++)
        assert_true(login(attempts, &limits, &peer, alice(), hour));
    /* One slip each ten minutes, many logins: all is well. */
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t now = 2 * hour + i * 12 * 60 * second;
        assert_int_equal(guess(attempts, &limits, &peer, alice(), now), ATTEMPT_OK);
        assert_true(login(attempts, &limits, &peer, alice(), now));
    }
    /* But they pay for nobody's guesses. */
    uint32_t seen = 0;
    for (uint32_t i = 0; i < 100; i++) {
        seen += guesses(attempts, &limits, &peer, alice(), 100 * hour, 1);
        (void)login(attempts, &limits, &peer, alice(), 100 * hour);
    }
    assert_int_equal(seen, 8); /* the user's limit: he is known there */
    attempts_free(attempts);
}

static void many_at_once_guess_no_more(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(0);
    union address_any peer = client_at("192.0.2.1:1");
    struct attempt_room rooms[5], none;
    bool undecided = true;
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(
            attempts_begin(attempts, &limits, &peer, alice(), hour, &rooms[i], &undecided),
            ATTEMPT_OK);
        assert_false(undecided);
    }
    /* The others may come to nothing: that is no reason to refuse this one for good. */
    assert_int_equal(attempts_begin(attempts, &limits, &peer, alice(), hour, &none, &undecided),
                     ATTEMPT_ADDRESS_OVER);
    assert_true(undecided);
    assert_int_equal(attempts_look(attempts, &limits, &peer, alice(), hour), ATTEMPT_OK);
    attempts_failed(attempts, &none, hour); /* there is nothing of it */
    for (uint32_t i = 0; i < 5; i++)
        attempts_withdrawn(attempts, &rooms[i], hour);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(begin(attempts, &limits, &peer, alice(), hour, &none), ATTEMPT_OK);
        attempts_withdrawn(attempts, &none, hour);
    }
    assert_int_equal(guesses(attempts, &limits, &peer, alice(), hour, 9), 5);
    assert_int_equal(attempts_begin(attempts, &limits, &peer, alice(), hour, &none, &undecided),
                     ATTEMPT_ADDRESS_OVER);
    assert_false(undecided);
    assert_int_equal(attempts_look(attempts, &limits, &peer, alice(), hour), ATTEMPT_ADDRESS_OVER);
    attempts_free(attempts);
}

/* Where room was taken it is given back, although the user is known by then, or limits differ. */
static void given_back_where_it_was_taken(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(0);
    union address_any home = client_at("192.0.2.1:1"), evil = client_at("203.0.113.1:1");
    struct attempt_room rooms[6];
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(begin(attempts, &users_only, &home, alice(), hour, &rooms[i]), ATTEMPT_OK);
    for (uint32_t i = 0; i < 6; i++)
        attempts_passed(attempts, &rooms[i], &home, alice(), hour);
    assert_int_equal(guesses(attempts, &users_only, &evil, alice(), hour, 99), 8);
    assert_int_equal(guesses(attempts, &users_only, &home, alice(), hour, 99), 8);
    static const struct attempt_limits one = {.per_address = 1}, four = {.per_address = 4};
    union address_any other = client_at("198.51.100.1:1");
    bool undecided;
    assert_int_equal(attempts_begin(attempts, &one, &other, alice(), hour, &rooms[0], &undecided),
                     ATTEMPT_OK);
    assert_int_equal(attempts_begin(attempts, &four, &other, alice(), hour, &rooms[1], &undecided),
                     ATTEMPT_ADDRESS_OVER);
    attempts_withdrawn(attempts, &rooms[0], hour);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(
            attempts_begin(attempts, &four, &other, alice(), hour, &rooms[i], &undecided),
            ATTEMPT_OK);
    attempts_free(attempts);
}

/* A backend may call many names the same user. */
static void another_name(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(0);
    union address_any evil = client_at("203.0.113.1:1");
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(attempts_look(attempts, &users_only, &evil, alice(), hour), ATTEMPT_OK);
        attempts_also_failed(attempts, &limits, &evil, alice(), hour);
    }
    assert_int_equal(attempts_look(attempts, &users_only, &evil, alice(), hour), ATTEMPT_USER_OVER);
    assert_int_equal(guess(attempts, &users_only, &evil, alice(), hour), ATTEMPT_USER_OVER);
    assert_int_equal(guesses(attempts, &limits, &evil, BYTES("bob"), hour, 9), 5);
    attempts_free(attempts);
}

/* The user's own limit is used up by others: who has logged in from a network goes on there. */
static void known_networks(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(0);
    union address_any home = client_at("192.0.2.1:1"), neighbour = client_at("192.0.2.77:1");
    union address_any cafe = client_at("198.51.100.1:1"), evil = client_at("203.0.113.1:1");
    assert_true(login(attempts, &users_only, &home, alice(), hour));
    assert_int_equal(guesses(attempts, &users_only, &evil, alice(), hour, 99), 8);
    assert_false(login(attempts, &users_only, &cafe, alice(), hour));
    assert_true(login(attempts, &users_only, &home, alice(), hour));
    assert_true(login(attempts, &users_only, &neighbour, BYTES("ALICE"), hour));
    assert_true(login(attempts, &users_only, &cafe, BYTES("bob"), hour)); /* of alice alone */
    /* Inside it is no way to guess without end, and what is used up there is not used up elsewhere.
     */
    assert_int_equal(guesses(attempts, &users_only, &neighbour, alice(), hour, 99), 8);
    assert_false(login(attempts, &users_only, &home, alice(), hour));
    uint64_t later = hour + 460 * second; /* an eighth of an hour */
    assert_true(login(attempts, &users_only, &cafe, alice(), later));
    assert_int_equal(guesses(attempts, &users_only, &evil, alice(), later, 99), 1);
    assert_true(login(attempts, &users_only, &cafe, alice(), later)); /* is known there now */
    attempts_free(attempts);
}

static void known_for_thirty_days(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(0);
    const uint64_t day = 24 * hour;
    union address_any home = client_at("[2001:db8:1:2::1]:1"), evil = client_at("203.0.113.1:1");
    union address_any next_door = client_at("[2001:db8:1:ffff::1]:1");
    assert_true(login(attempts, &users_only, &home, alice(), day));
    for (uint64_t now = 2 * day; now < 200 * day; now += 29 * day) {
        assert_int_equal(guesses(attempts, &users_only, &evil, alice(), now, 99), 8);
        assert_true(login(attempts, &users_only, &next_door, alice(), now)); /* the same /48 */
    }
    assert_int_equal(guesses(attempts, &users_only, &evil, alice(), 300 * day, 99), 8);
    assert_false(login(attempts, &users_only, &home, alice(), 300 * day));
    attempts_free(attempts);
}

static void no_limits(void **state)
{
    (void)state;
    static const struct attempt_limits none = {0};
    struct attempts *attempts = attempts_new(0);
    union address_any peer = client_at("192.0.2.1:1");
    assert_int_equal(guesses(attempts, &none, &peer, alice(), hour, 10000), 10000);
    assert_true(login(attempts, &none, &peer, alice(), hour));
    /* Limits that a reload brings begin then. */
    assert_int_equal(guesses(attempts, &limits, &peer, BYTES("bob"), hour, 99), 5);
    attempts_free(attempts);
}

/* Names of any length and with any octets. */
static void names(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(0);
    union address_any peer = client_at("192.0.2.1:1");
    static uint8_t name[5000];
    uint8_t fill = 0;
    for (size_t len = 1; len < sizeof(name); len = len * 2 + 1) {
        memset(name, fill++, sizeof(name));
        assert_int_equal(guesses(attempts, &users_only, &peer, bytes_make(name, len), hour, 99), 8);
    }
    attempts_free(attempts);
}

/* More names than cells, invented by a guesser: whom he really attacks stays limited. */
static void invented_names(void **state)
{
    (void)state;
    struct attempts *attempts = attempts_new(1024);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        union address_any peer = client_v4(0x0a000000 + i * 256);
        char name[16];
        int len = snprintf(name, sizeof(name), "nobody%u", i);
        seen += guesses(attempts, &users_only, &peer, alice(), hour, 1);
        (void)!guess(attempts, &users_only, &peer, bytes_make(name, (size_t)len), hour);
    }
    assert_in_range(seen, 8, 16);
    attempts_free(attempts);
}

/* --- many threads --- */

enum { THREADS = 4, TIMES = 20000 };

static struct attempts *common;
static _Atomic uint32_t looked_at;

static void *come(void *argument)
{
    static const struct attempt_limits wide = {.per_address = 1000, .per_user = 500};
    uint32_t number = (uint32_t)(uintptr_t)argument;
    union address_any mine = client_v4(0x0a000000 + number * 256), evil = client_v4(0x0b000000);
    for (uint32_t i = 0; i < TIMES; i++) {
        if (guess(common, &wide, &evil, alice(), hour) == ATTEMPT_OK)
            atomic_fetch_add(&looked_at, 1);
        assert_true(login(common, &wide, &mine, BYTES("bob"), hour));
    }
    return NULL;
}

static void many_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    common = attempts_new(0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_in_range(atomic_load(&looked_at), 500, 505);
    attempts_free(common);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_and_networks),
        cmocka_unit_test(ipv6_counts_by_its_64_and_48),
        cmocka_unit_test(a_user_from_everywhere),
        cmocka_unit_test(who_logs_in_is_never_limited),
        cmocka_unit_test(many_at_once_guess_no_more),
        cmocka_unit_test(given_back_where_it_was_taken),
        cmocka_unit_test(another_name),
        cmocka_unit_test(known_networks),
        cmocka_unit_test(known_for_thirty_days),
        cmocka_unit_test(no_limits),
        cmocka_unit_test(names),
        cmocka_unit_test(invented_names),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
