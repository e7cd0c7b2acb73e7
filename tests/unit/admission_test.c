/* Connection counts: both bounds, addresses that count together, and many threads at once. */
#include "gateway/receive/admission.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static union address_any v4(uint32_t number)
{
    union address_any peer = {0};
    peer.v4.sin_family = AF_INET;
    peer.v4.sin_port = (in_port_t)(number * 7);
    peer.v4.sin_addr.s_addr = htonl(number);
    return peer;
}

static union address_any v6(const char *text)
{
    union address_any peer;
    assert_true(listener_parse(text, &peer));
    return peer;
}

static void the_total_is_bounded(void **state)
{
    (void)state;
    struct admission *admission = admission_new(10);
    for (uint32_t i = 0; i < 10; i++) {
        union address_any peer = v4(i);
        assert_int_equal(admission_enter(admission, &peer, 10, 5), ADMISSION_OK);
    }
    union address_any peer = v4(99);
    assert_int_equal(admission_enter(admission, &peer, 10, 5), ADMISSION_FULL);
    assert_int_equal(admission_count(admission), 10);
    union address_any first = v4(0);
    admission_leave(admission, &first);
    assert_int_equal(admission_count(admission), 9);
    assert_int_equal(admission_enter(admission, &peer, 10, 5), ADMISSION_OK);
    assert_int_equal(admission_enter(admission, &first, 10, 5), ADMISSION_FULL);
    admission_free(admission);
}

static void each_address_is_bounded(void **state)
{
    (void)state;
    struct admission *admission = admission_new(1000);
    union address_any one = v4(0x0a000001);
    union address_any other = v4(0x0a000002);
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 3; i++)
            assert_int_equal(admission_enter(admission, &one, 1000, 3), ADMISSION_OK);
        one.v4.sin_port++; /* another port is the same address */
        assert_int_equal(admission_enter(admission, &one, 1000, 3), ADMISSION_ADDRESS_FULL);
        assert_int_equal(admission_enter(admission, &other, 1000, 3), ADMISSION_OK);
        assert_int_equal(admission_count(admission), 4);
        admission_leave(admission, &one);
        assert_int_equal(admission_enter(admission, &one, 1000, 3), ADMISSION_OK);
        assert_int_equal(admission_enter(admission, &one, 1000, 3), ADMISSION_ADDRESS_FULL);
        for (int i = 0; i < 3; i++)
            admission_leave(admission, &one);
        admission_leave(admission, &other);
        assert_int_equal(admission_count(admission), 0);
    }
    admission_free(admission);
}

static void ipv6_counts_by_its_64(void **state)
{
    (void)state;
    struct admission *admission = admission_new(1000);
    union address_any one = v6("[2001:db8:1:2::1]:1");
    union address_any neighbour = v6("[2001:db8:1:2:ffff:eeee:dddd:cccc]:1");
    union address_any stranger = v6("[2001:db8:1:3::1]:1");
    assert_int_equal(admission_enter(admission, &one, 1000, 1), ADMISSION_OK);
    assert_int_equal(admission_enter(admission, &neighbour, 1000, 1), ADMISSION_ADDRESS_FULL);
    assert_int_equal(admission_enter(admission, &stranger, 1000, 1), ADMISSION_OK);
    admission_leave(admission, &neighbour); /* any of the /64 leaves for all */
    assert_int_equal(admission_enter(admission, &one, 1000, 1), ADMISSION_OK);
    admission_free(admission);
}

/* As many different addresses as there may be connections: none is forgotten. */
static void many_addresses(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    struct admission *admission = admission_new(COUNT);
    uint32_t unlimited = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        union address_any peer = v4(i * 2654435761u);
        assert_int_equal(admission_enter(admission, &peer, COUNT + 1, 1), ADMISSION_OK);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        union address_any peer = v4(i * 2654435761u);
        bool full = admission_enter(admission, &peer, COUNT + 1, 1) == ADMISSION_ADDRESS_FULL;
        unlimited += !full;
        if (!full)
            admission_leave(admission, &peer);
    }
    assert_in_range(unlimited, 0, COUNT / 200); /* a full neighbourhood is the rare exception */
    for (uint32_t i = 0; i < COUNT; i++) {
        union address_any peer = v4(i * 2654435761u);
        admission_leave(admission, &peer);
    }
    assert_int_equal(admission_count(admission), 0);
    admission_free(admission);
}

/* --- many threads --- */

enum { THREADS = 4, ROUNDS = 20000, ADDRESSES = 6, ADDRESS_MAX = 5, TOTAL_MAX = 24 };

static struct admission *shared;
static _Atomic int inside;
static _Atomic uint32_t worst;
static _Atomic uint32_t entered;

static void *come_and_go(void *argument)
{
    uint32_t random = (uint32_t)(uintptr_t)argument;
    union address_any mine[16];
    uint32_t count = 0;
    for (int i = 0; i < ROUNDS; i++) {
        random = random * 1664525 + 1013904223;
        if (random >> 31 && count < 16) {
            mine[count] = v4(random >> 8 & 0xffff ? (random >> 16) % ADDRESSES : 77);
            enum admission_verdict verdict =
                admission_enter(shared, &mine[count], TOTAL_MAX, ADDRESS_MAX);
            if (verdict != ADMISSION_OK)
                continue;
            count++;
            uint32_t now = (uint32_t)atomic_fetch_add(&inside, 1) + 1;
            atomic_fetch_add(&entered, 1);
            uint32_t seen = atomic_load(&worst);
            while (now > seen && !atomic_compare_exchange_weak(&worst, &seen, now))
                ;
        } else if (count > 0) {
            atomic_fetch_sub(&inside, 1);
            admission_leave(shared, &mine[--count]);
        }
    }
    while (count > 0) {
        atomic_fetch_sub(&inside, 1);
        admission_leave(shared, &mine[--count]);
    }
    return NULL;
}

static void many_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    shared = admission_new(TOTAL_MAX);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&entered) > ROUNDS / 10);
    assert_in_range(atomic_load(&worst), 2, TOTAL_MAX);
    assert_int_equal(admission_count(shared), 0);
    /* Every count is back at nothing: each address may be there in full again, and no more. */
    for (uint32_t address = 0; address < ADDRESSES; address++) {
        union address_any peer = v4(address);
        for (int i = 0; i < ADDRESS_MAX; i++)
            assert_int_equal(admission_enter(shared, &peer, 1000, ADDRESS_MAX), ADMISSION_OK);
        assert_int_equal(admission_enter(shared, &peer, 1000, ADDRESS_MAX), ADMISSION_ADDRESS_FULL);
    }
    admission_free(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_total_is_bounded),  cmocka_unit_test(each_address_is_bounded),
        cmocka_unit_test(ipv6_counts_by_its_64), cmocka_unit_test(many_addresses),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
