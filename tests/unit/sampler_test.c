/* admin/sampler and admin/threads: rows of a second, their rates and percentiles, the ring when it
 * is full, the mark of a minute ago; and the load of a thread that is known to work. */
#include "gateway/admin/sampler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "gateway/base/clock.h"

enum { SECOND = 1000 * 1000, START_S = 1000 };

struct scene {
    struct server_counters counters[2];
    struct metrics_sources sources;
    struct sampler *sampler;
    uint64_t now_us;
};

static int set_up(void **state)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    scene->sources.worker_count = 2;
    for (int i = 0; i < 2; i++)
        scene->sources.workers[i].counters = &scene->counters[i];
    scene->sources.admission = admission_new(10);
    scene->sampler = sampler_new();
    assert_non_null(scene->sources.admission);
    assert_non_null(scene->sampler);
    scene->now_us = (uint64_t)START_S * SECOND;
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    admission_free((struct admission *)(uintptr_t)scene->sources.admission);
    sampler_free(scene->sampler);
    free(scene);
    return 0;
}

static void take(struct scene *scene, uint64_t passed_us)
{
    scene->now_us += passed_us;
    sampler_take(scene->sampler, &scene->sources, scene->now_us, scene->now_us / SECOND);
}

static const struct sampler_row *last(const struct scene *scene)
{
    assert_true(scene->sampler->sequence > 0);
    return sampler_row(scene->sampler, scene->sampler->sequence - 1);
}

static void the_first_look_makes_no_row(void **state)
{
    struct scene *scene = *state;
    counter_add(&scene->counters[0].messages, 1000);
    take(scene, SECOND);
    assert_int_equal(scene->sampler->sequence, 0);
    take(scene, SECOND);
    assert_int_equal(scene->sampler->sequence, 1);
    assert_int_equal(last(scene)->values[SAMPLER_MESSAGES], 0); /* those before do not count */
    assert_int_equal(last(scene)->time_s, START_S + 2);
}

static void rates_are_per_second_over_all_workers(void **state)
{
    struct scene *scene = *state;
    take(scene, SECOND);
    counter_add(&scene->counters[0].messages, 100);
    counter_add(&scene->counters[1].messages, 50);
    counter_add(&scene->counters[1].octets, 3000);
    counter_add(&scene->counters[0].connections, 7);
    counter_add(&scene->counters[0].tls.versions[0], 1);
    counter_add(&scene->counters[1].tls.versions[1], 2);
    assert_true(admission_enter((struct admission *)(uintptr_t)scene->sources.admission, 10));
    take(scene, SECOND);
    const uint32_t *values = last(scene)->values;
    assert_int_equal(values[SAMPLER_MESSAGES], 150);
    assert_int_equal(values[SAMPLER_OCTETS], 3000);
    assert_int_equal(values[SAMPLER_ACCEPTED], 7);
    assert_int_equal(values[SAMPLER_HANDSHAKES], 3);
    assert_int_equal(values[SAMPLER_CONNECTIONS], 1);
    counter_add(&scene->counters[0].messages, 100);
    take(scene, 2 * SECOND); /* a row that came late */
    assert_int_equal(last(scene)->values[SAMPLER_MESSAGES], 50);
    take(scene, SECOND);
    assert_int_equal(last(scene)->values[SAMPLER_MESSAGES], 0);
}

static void refusals_are_replies_of_4_and_5(void **state)
{
    struct scene *scene = *state;
    take(scene, SECOND);
    counter_add(&scene->counters[0].replies[REPLY_OK], 100);
    counter_add(&scene->counters[0].replies[REPLY_NO_SUCH_USER], 3);
    counter_add(&scene->counters[1].replies[REPLY_SPOOL_FULL], 2);
    counter_add(&scene->counters[1].passed[2], 9);
    counter_add(&scene->counters[1].passed[5], 4);
    take(scene, SECOND);
    assert_int_equal(last(scene)->values[SAMPLER_REFUSALS], 9);
    assert_int_equal(scene->sampler->totals.replies[REPLY_NO_SUCH_USER], 3);
}

static void percentiles_are_of_one_second_only(void **state)
{
    struct scene *scene = *state;
    take(scene, SECOND);
    for (int i = 0; i < 100; i++)
        histogram_add(&scene->counters[i % 2].phases[SERVER_PHASE_COMMIT], 1000);
    take(scene, SECOND);
    const uint32_t *values = last(scene)->values;
    assert_in_range(values[SAMPLER_COMMIT_P50], 700, 1500);
    assert_in_range(values[SAMPLER_COMMIT_P99], values[SAMPLER_COMMIT_P50], 1600);
    assert_int_equal(values[SAMPLER_WHOLE_P50], SAMPLER_NONE);
    histogram_add(&scene->counters[0].phases[SERVER_PHASE_COMMIT], 1000 * 1000);
    histogram_add(&scene->counters[0].phases[SERVER_PHASE_MESSAGE], 2000 * 1000);
    take(scene, SECOND);
    values = last(scene)->values;
    assert_in_range(values[SAMPLER_COMMIT_P50], 700 * 1000, 1500 * 1000);
    assert_in_range(values[SAMPLER_WHOLE_P99], 1400 * 1000, 3000 * 1000);
    take(scene, SECOND);
    assert_int_equal(last(scene)->values[SAMPLER_COMMIT_P99], SAMPLER_NONE);
}

static void the_ring_keeps_the_last_ten_minutes(void **state)
{
    struct scene *scene = *state;
    take(scene, SECOND);
    for (uint32_t i = 1; i <= SAMPLER_ROWS + 50; i++) {
        counter_add(&scene->counters[0].messages, i);
        take(scene, SECOND);
    }
    const struct sampler *sampler = scene->sampler;
    assert_int_equal(sampler->sequence, SAMPLER_ROWS + 50);
    assert_int_equal(sampler_first(sampler, 0), 50);
    assert_int_equal(sampler_first(sampler, 50), 50);
    assert_int_equal(sampler_first(sampler, 649), 649);
    assert_int_equal(sampler_first(sampler, 650), 650);
    assert_int_equal(sampler_first(sampler, 651), 50); /* another process was meant */
    for (uint64_t row = 50; row < sampler->sequence; row++)
        assert_int_equal(sampler_row(sampler, row)->values[SAMPLER_MESSAGES], row + 1);
}

static void a_minute_is_a_minute(void **state)
{
    struct scene *scene = *state;
    assert_null(sampler_minute(scene->sampler));
    take(scene, SECOND);
    for (int i = 0; i < 300; i++) {
        counter_add(&scene->counters[0].replies[REPLY_NO_SUCH_USER], 1);
        histogram_add(&scene->counters[0].phases[SERVER_PHASE_TEXT], 100);
        take(scene, SECOND);
    }
    const struct sampler_mark *mark = sampler_minute(scene->sampler);
    uint64_t passed_s = (scene->now_us - mark->time_us) / SECOND;
    assert_in_range(passed_s, 50, 70);
    assert_int_equal(scene->sampler->totals.replies[REPLY_NO_SUCH_USER] -
                         mark->totals.replies[REPLY_NO_SUCH_USER],
                     passed_s);
    struct histogram_snapshot phase;
    sampler_phase(scene->sampler, mark, SERVER_PHASE_TEXT, &phase);
    assert_int_equal(phase.count, passed_s);
    assert_int_equal(phase.sum_us, passed_s * 100);
    sampler_phase(scene->sampler, NULL, SERVER_PHASE_TEXT, &phase);
    assert_int_equal(phase.count, 300);
}

/* --- threads --- */

struct mill {
    pthread_t thread;
    _Atomic bool ready, stop;
};

static void *grind(void *argument)
{
    struct mill *mill = argument;
    pthread_setname_np(pthread_self(), "worker 7");
    atomic_store(&mill->ready, true);
    while (!atomic_load(&mill->stop))
        continue;
    return NULL;
}

static const struct threads_one *find(const struct threads *threads, const char *name)
{
    for (uint32_t i = 0; i < threads->count; i++)
        if (strcmp(threads->all[i].name, name) == 0)
            return &threads->all[i];
    return NULL;
}

static void a_thread_that_works_is_seen(void **state)
{
    (void)state;
    struct threads threads = {0};
    struct mill mill = {0};
    assert_int_equal(pthread_create(&mill.thread, NULL, grind, &mill), 0);
    while (!atomic_load(&mill.ready))
        usleep(1000);
    threads_find(&threads);
    assert_int_equal(threads.count, 2);
    assert_ptr_equal(find(&threads, "worker 7"), &threads.all[0]); /* workers first */
    assert_non_null(find(&threads, "main"));
    threads_look(&threads, clock_monotonic_us());
    uint64_t used_us = threads.all[0].used_us;
    usleep(200 * 1000);
    threads_look(&threads, clock_monotonic_us());
    assert_true(threads.all[0].used_us > used_us);
    assert_in_range(threads.all[0].load, 5, 100); /* others use this machine, too */
    assert_true(find(&threads, "main")->load <= 50);
    assert_true(threads.load >= threads.all[0].load / 2);
    atomic_store(&mill.stop, true);
    pthread_join(mill.thread, NULL);
    threads_look(&threads, clock_monotonic_us());
    threads_look(&threads, clock_monotonic_us() + SECOND);
    assert_int_equal(threads.all[0].load, 0);
    threads_find(&threads);
    assert_null(find(&threads, "worker 7"));
}

static void loads_move_with_their_thread(void **state)
{
    struct scene *scene = *state;
    struct mill mill = {0};
    take(scene, SECOND);
    take(scene, SECOND);
    assert_int_equal(scene->sampler->threads.count, 1);
    scene->sampler->rows[0].loads[0] = 42; /* of main */
    assert_int_equal(pthread_create(&mill.thread, NULL, grind, &mill), 0);
    while (!atomic_load(&mill.ready))
        usleep(1000);
    take(scene, 60 * SECOND); /* looked for again by then */
    assert_int_equal(scene->sampler->threads.count, 2);
    assert_string_equal(scene->sampler->threads.all[1].name, "main");
    assert_int_equal(scene->sampler->rows[0].loads[1], 42);
    assert_int_equal(scene->sampler->rows[0].loads[0], 0);
    atomic_store(&mill.stop, true);
    pthread_join(mill.thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_look_makes_no_row, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rates_are_per_second_over_all_workers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refusals_are_replies_of_4_and_5, set_up, tear_down),
        cmocka_unit_test_setup_teardown(percentiles_are_of_one_second_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_ring_keeps_the_last_ten_minutes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_minute_is_a_minute, set_up, tear_down),
        cmocka_unit_test(a_thread_that_works_is_seen),
        cmocka_unit_test_setup_teardown(loads_move_with_their_thread, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
