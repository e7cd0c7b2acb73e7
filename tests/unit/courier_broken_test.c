/* The courier's ring breaks while it works: io_uring_enter is forbidden to its thread. Whoever asks
 * for something is told so at once, the stop does not hang, and the mail is there at the next
 * start. */
#include "gateway/deliver/courier.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "gateway/deliver/courier_inside.h"
#include "gateway/deliver/courier_queue.h"
#include "tests/support/house.h"

/* What a broken courier owns is left: nobody knows what the kernel has of it. */
static struct courier *left[2];

static const char *const dead[] = {"example.org", "smtp:127.0.0.1:1", NULL};

static void forbid_the_ring(struct courier *courier, struct errand *errand)
{
    (void)courier;
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_enter, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof steps / sizeof steps[0], .filter = steps};
    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    bell_ring(&errand->done);
}

struct asking {
    struct house *house;
    _Atomic uint32_t refused;
    bool configures;
};

/* Asks until it is refused, as the control thread or a reload does. */
static void *ask(void *user)
{
    struct asking *asking = user;
    struct courier_row rows[4];
    int result = 0;

    if (asking->configures) {
        const struct routes *made = house_routes(dead);
        struct courier_options options = {
            .rules = {.routes = made, .lifetime_s = 3600}
        };
        while (!courier_broken(asking->house->courier))
            courier_configure(asking->house->courier, &options);
        courier_configure(asking->house->courier, &options);
        courier_stop(asking->house->courier); /* the thread is over: the routes are free */
        routes_free((struct routes *)(uintptr_t)made);
        atomic_fetch_add(&asking->refused, 1);
        return NULL;
    }
    while (result != -ESHUTDOWN) {
        uint64_t cursor = 0;
        result = courier_list(asking->house->courier, &cursor, rows, 4);
    }
    atomic_fetch_add(&asking->refused, 1);
    return NULL;
}

static void breaks(bool configures)
{
    enum { ASKERS = 4 };
    struct house_plan plan = {.path = configures ? "spool2" : "spool1",
                              .retry_min_s = 600,
                              .retry_max_s = 600,
                              .lifetime_s = 3600};
    struct routes *routes = house_routes(dead);
    struct house house;
    house_open(&house, &plan, routes);
    house_stage(&house, "a@example.org", BYTES("x\r\n"));
    house_commit(&house);
    WAIT_FOR(&house, deferred, 1);
    assert_false(courier_broken(house.courier));

    struct asking asking = {.house = &house, .configures = configures};
    pthread_t threads[ASKERS];
    uint32_t count = configures ? 1 : ASKERS;
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &asking), 0);
    usleep(20000);
    struct errand errand = {.run = forbid_the_ring};
    assert_true(courier_errand(house.courier, &errand));
    for (uint32_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&asking.refused), count);
    assert_true(courier_broken(house.courier));
    uint64_t cursor = 0;
    struct courier_row row;
    assert_int_equal(courier_list(house.courier, &cursor, &row, 1), -ESHUTDOWN);
    left[configures] = house.courier;
    house_close(&house);

    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 1);
    house_close(&house);
    assert_true(house_logged(&plan, "event=courier.ring"));
    routes_free(routes);
}

static void errands_come_back(void **state)
{
    (void)state;
    breaks(false);
}

static void a_reload_comes_back(void **state)
{
    (void)state;
    breaks(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errands_come_back),
        cmocka_unit_test(a_reload_comes_back),
    };
    return cmocka_run_group_tests(tests, house_set_up, house_tear_down);
}
