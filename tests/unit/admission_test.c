/* Connection counts: each bound, addresses and networks that count together, handshakes, and many
 * threads at once. */
#include "gateway/receive/admission.h"
#include "tests/support/clients.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void the_total_is_bounded(void **state)
{
    (void)state;
    struct admission *admission = admission_new(10);
    for (uint32_t i = 0; i < 10; i++)
        assert_true(admission_enter(admission, 10));
    assert_false(admission_enter(admission, 10));
    assert_int_equal(admission_count(admission), 10);
    admission_leave(admission);
    assert_int_equal(admission_count(admission), 9);
    assert_true(admission_enter(admission, 10));
    assert_false(admission_enter(admission, 10));
    assert_false(admission_enter(admission, 3)); /* a reload has lowered it */
    assert_int_equal(admission_count(admission), 10);
    admission_free(admission);
}

static void each_address_is_bounded(void **state)
{
    (void)state;
    struct admission *admission = admission_new(1000);
    union address_any one = client_v4(0x0a000001);
    union address_any other = client_v4(0x0a000002);
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 3; i++)
            assert_int_equal(admission_enter_peer(admission, &one, 3, 0), ADMISSION_OK);
        one.v4.sin_port++; /* another port is the same address */
        assert_int_equal(admission_enter_peer(admission, &one, 3, 0), ADMISSION_ADDRESS_FULL);
        assert_int_equal(admission_enter_peer(admission, &other, 3, 0), ADMISSION_OK);
        admission_leave_peer(admission, &one);
        assert_int_equal(admission_enter_peer(admission, &one, 3, 0), ADMISSION_OK);
        assert_int_equal(admission_enter_peer(admission, &one, 3, 0), ADMISSION_ADDRESS_FULL);
        for (int i = 0; i < 3; i++)
            admission_leave_peer(admission, &one);
        admission_leave_peer(admission, &other);
    }
    admission_free(admission);
}

static void each_network_is_bounded(void **state)
{
    (void)state;
    struct admission *admission = admission_new(1000);
    union address_any stranger = client_v4(0x0a000201);
    for (int round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < 5; i++) {
            union address_any peer = client_v4(0x0a000100 + i * 50);
            assert_int_equal(admission_enter_peer(admission, &peer, 2, 5), ADMISSION_OK);
        }
        union address_any another = client_v4(0x0a0001ff);
        assert_int_equal(admission_enter_peer(admission, &another, 2, 5), ADMISSION_NETWORK_FULL);
        assert_int_equal(admission_enter_peer(admission, &stranger, 2, 5), ADMISSION_OK);
        /* A refusal by the network counts nothing for the address. */
        union address_any first = client_v4(0x0a000100);
        admission_leave_peer(admission, &first);
        for (int i = 0; i < 10; i++)
            assert_int_equal(admission_enter_peer(admission, &another, 2, 4),
                             ADMISSION_NETWORK_FULL);
        assert_int_equal(admission_enter_peer(admission, &another, 1, 5), ADMISSION_OK);
        assert_int_equal(admission_enter_peer(admission, &another, 1, 9), ADMISSION_ADDRESS_FULL);
        admission_leave_peer(admission, &another);
        for (uint32_t i = 1; i < 5; i++) {
            union address_any peer = client_v4(0x0a000100 + i * 50);
            admission_leave_peer(admission, &peer);
        }
        admission_leave_peer(admission, &stranger);
    }
    admission_free(admission);
}

static void ipv6_counts_by_its_64_and_48(void **state)
{
    (void)state;
    struct admission *admission = admission_new(1000);
    union address_any one = client_at("[2001:db8:1:2::1]:1");
    union address_any neighbour = client_at("[2001:db8:1:2:ffff:eeee:dddd:cccc]:1");
    union address_any other = client_at("[2001:db8:1:3::1]:1");
    union address_any third = client_at("[2001:db8:1:4::1]:1");
    union address_any stranger = client_at("[2001:db8:2:2::1]:1");
    assert_int_equal(admission_enter_peer(admission, &one, 1, 2), ADMISSION_OK);
    assert_int_equal(admission_enter_peer(admission, &neighbour, 1, 2), ADMISSION_ADDRESS_FULL);
    assert_int_equal(admission_enter_peer(admission, &other, 1, 2), ADMISSION_OK);
    assert_int_equal(admission_enter_peer(admission, &third, 1, 2), ADMISSION_NETWORK_FULL);
    assert_int_equal(admission_enter_peer(admission, &stranger, 1, 2), ADMISSION_OK);
    admission_leave_peer(admission, &neighbour); /* any of the /64 leaves for all */
    assert_int_equal(admission_enter_peer(admission, &third, 1, 2), ADMISSION_OK);
    assert_int_equal(admission_enter_peer(admission, &one, 1, 3), ADMISSION_OK);
    admission_free(admission);
}

/* 192.0.2.1 is the same client, by whichever socket it comes. */
static void ipv4_in_ipv6_is_ipv4(void **state)
{
    (void)state;
    struct admission *admission = admission_new(1000);
    union address_any one = client_v4(0xc0000201);
    union address_any mapped = client_at("[::ffff:192.0.2.1]:1");
    union address_any neighbour = client_at("[::ffff:192.0.2.2]:1");
    union address_any stranger = client_at("[::ffff:192.0.3.1]:1");
    assert_int_equal(admission_enter_peer(admission, &one, 1, 2), ADMISSION_OK);
    assert_int_equal(admission_enter_peer(admission, &mapped, 1, 2), ADMISSION_ADDRESS_FULL);
    assert_int_equal(admission_enter_peer(admission, &neighbour, 1, 2), ADMISSION_OK);
    assert_int_equal(admission_enter_peer(admission, &mapped, 2, 2), ADMISSION_NETWORK_FULL);
    assert_int_equal(admission_enter_peer(admission, &stranger, 1, 2), ADMISSION_OK);
    admission_leave_peer(admission, &mapped);
    assert_int_equal(admission_enter_peer(admission, &one, 1, 2), ADMISSION_OK);
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
        union address_any peer = client_v4(i * 2654435761u);
        assert_int_equal(admission_enter_peer(admission, &peer, 1, 0), ADMISSION_OK);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        union address_any peer = client_v4(i * 2654435761u);
        bool full = admission_enter_peer(admission, &peer, 1, 0) == ADMISSION_ADDRESS_FULL;
        unlimited += !full;
        if (!full)
            admission_leave_peer(admission, &peer);
    }
    assert_in_range(unlimited, 0, COUNT / 200); /* a full neighbourhood is the rare exception */
    for (uint32_t i = 0; i < COUNT; i++) {
        union address_any peer = client_v4(i * 2654435761u);
        admission_leave_peer(admission, &peer);
    }
    for (uint32_t i = 0; i < COUNT; i++) { /* and all may come again */
        union address_any peer = client_v4(i * 2654435761u);
        assert_int_equal(admission_enter_peer(admission, &peer, 1, 0), ADMISSION_OK);
    }
    admission_free(admission);
}

static void handshakes_are_bounded(void **state)
{
    (void)state;
    struct admission *admission = admission_new(10);
    for (int i = 0; i < 3; i++)
        assert_true(admission_handshake_begin(admission, 3));
    assert_false(admission_handshake_begin(admission, 3));
    assert_int_equal(admission_handshakes(admission), 3);
    admission_handshake_end(admission);
    assert_true(admission_handshake_begin(admission, 3));
    for (int i = 0; i < 1000; i++)
        assert_true(admission_handshake_begin(admission, 0)); /* no bound */
    assert_int_equal(admission_handshakes(admission), 1003);
    assert_int_equal(admission_count(admission), 0);
    admission_free(admission);
}

/* --- many threads --- */

enum { THREADS = 4, ROUNDS = 20000, ADDRESSES = 6, ADDRESS_MAX = 5, TOTAL_MAX = 24, MINE = 16 };

static struct admission *common;
static _Atomic uint32_t inside;
static _Atomic uint32_t worst;
static _Atomic uint32_t entered;
static _Atomic uint32_t refused;

static bool come(const union address_any *peer)
{
    if (!admission_enter(common, TOTAL_MAX)) {
        atomic_fetch_add(&refused, 1);
        return false;
    }
    if (admission_enter_peer(common, peer, ADDRESS_MAX, 0) == ADMISSION_OK)
        return true;
    atomic_fetch_add(&refused, 1);
    admission_leave(common);
    return false;
}

static void go(const union address_any *peer)
{
    admission_leave_peer(common, peer);
    admission_leave(common);
}

static void *come_and_go(void *argument)
{
    uint32_t random = (uint32_t)(uintptr_t)argument;
    union address_any mine[MINE];
    uint32_t count = 0;
    for (int i = 0; i < ROUNDS; i++) {
        random = random * 1664525 + 1013904223;
        if (random >> 31 && count < MINE) {
            mine[count] = client_v4((random >> 16) % ADDRESSES);
            if (!come(&mine[count]))
                continue;
            count++;
            uint32_t now = atomic_fetch_add(&inside, 1) + 1;
            atomic_fetch_add(&entered, 1);
            uint32_t seen = atomic_load(&worst);
            while (now > seen && !atomic_compare_exchange_weak(&worst, &seen, now))
                ;
        } else if (count > 0) {
            atomic_fetch_sub(&inside, 1);
            go(&mine[--count]);
        }
    }
    while (count > 0) {
        atomic_fetch_sub(&inside, 1);
        go(&mine[--count]);
    }
    return NULL;
}

static void many_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    common = admission_new(TOTAL_MAX);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&entered) > ROUNDS / 10);
    assert_true(atomic_load(&refused) > 0);
    assert_in_range(atomic_load(&worst), 2, TOTAL_MAX);
    assert_int_equal(admission_count(common), 0);
    /* Every count is back at nothing: each address may be there in full again, and no more; and so
     * may the network, which is that of all of them. */
    for (uint32_t address = 0; address < ADDRESSES; address++) {
        union address_any peer = client_v4(address);
        for (int i = 0; i < ADDRESS_MAX; i++)
            assert_int_equal(
                admission_enter_peer(common, &peer, ADDRESS_MAX, ADDRESSES * ADDRESS_MAX),
                ADMISSION_OK);
        assert_int_equal(admission_enter_peer(common, &peer, ADDRESS_MAX, 0),
                         ADMISSION_ADDRESS_FULL);
    }
    union address_any last = client_v4(ADDRESSES);
    assert_int_equal(admission_enter_peer(common, &last, 0, ADDRESSES * ADDRESS_MAX),
                     ADMISSION_NETWORK_FULL);
    admission_free(common);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_total_is_bounded),    cmocka_unit_test(each_address_is_bounded),
        cmocka_unit_test(each_network_is_bounded), cmocka_unit_test(ipv6_counts_by_its_64_and_48),
        cmocka_unit_test(ipv4_in_ipv6_is_ipv4),    cmocka_unit_test(many_addresses),
        cmocka_unit_test(handshakes_are_bounded),  cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
