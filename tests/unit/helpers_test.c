/* Helpers and the worker that they help: every job is run once, in a helper's thread, and done
 * once, in its worker's, which turns on meanwhile, wakes for it and does not end before it. Also
 * what else a worker has for TLS: room for records, and which listener a client came to. Each test
 * runs twice, with what this kernel can do and with what Linux 6.1 can. */
#include "gateway/io/helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/io/worker.h"
#include "tests/support/descriptors.h"
#include "tests/support/twice.h"
#include "tls/tls.h"

enum { SUBMIT = 1 << 0, STOP = 1 << 1, PING = 1 << 2 };
enum { JOBS_MAX = 5000, LISTENERS = 3, SILENT = 1 };

struct task {
    struct helper_job job; /* first: what the callbacks are given */
    struct place *place;
    uint32_t work_us;
    uint32_t again; /* how often `done` submits it once more */
    _Atomic uint32_t runs, dones;
    uint32_t run_number, done_number;
    char thread_name[16];
    enum runner { HELPER, RELIEF, RESERVE } runner; /* whose thread it was */
    int nice;
    bool deaf; /* all signals are blocked in the helper's thread */
};

/* A worker in a thread of its own, and its jobs. */
struct place {
    struct worker *worker; /* of malloc, freed as soon as it has ended */
    pthread_t thread;
    _Atomic int ready;
    _Atomic uint32_t pings, dones, opened;
    uint32_t listeners_of_opened[LISTENERS];
    uint32_t listeners_of_accepted[LISTENERS];
    uint32_t submitted; /* of tasks; worker's thread */
    struct worker_options options;
    int listeners[LISTENERS];
    union address_any addresses[LISTENERS];
    struct helpers *helpers;
    uint32_t count; /* tasks to be submitted at SUBMIT */
    struct task tasks[JOBS_MAX];
};

static _Atomic uint32_t runs_of_all;
static int usual_nice; /* of this process, which may have been started with little priority */

/* Threads are told apart by their priority, which the relief can't lower to where all are. */
static void needs_priorities(void)
{
    if (usual_nice < 10)
        return;
    print_message("skipped: this process has nice %d, and may not change it\n", usual_nice);
    skip();
}

static void run(struct helper_job *job)
{
    struct task *task = (struct task *)(void *)job;
    CHECK(!pthread_equal(pthread_self(), task->place->thread));
    pthread_getname_np(pthread_self(), task->thread_name, sizeof(task->thread_name));
    task->nice = getpriority(PRIO_PROCESS, (id_t)gettid());
    task->runner = sched_getscheduler(0) == SCHED_IDLE ? HELPER
                   : task->nice > usual_nice           ? RELIEF
                                                       : RESERVE;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    task->deaf = sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGHUP) == 1;
    uint64_t end_us = clock_monotonic_us() + task->work_us;
    if (task->work_us >= 1000)
        usleep(task->work_us);
    while (clock_monotonic_us() < end_us)
        ;
    task->run_number = atomic_fetch_add(&runs_of_all, 1);
    atomic_fetch_add(&task->runs, 1);
}

static void done(struct helper_job *job)
{
    struct task *task = (struct task *)(void *)job;
    struct place *place = task->place;
    CHECK(pthread_equal(pthread_self(), place->thread));
    CHECK(atomic_load(&task->runs) == atomic_fetch_add(&task->dones, 1) + 1);
    task->done_number = atomic_fetch_add(&place->dones, 1);
    if (task->again > 0) {
        task->again--;
        helpers_submit(place->helpers, job);
    }
}

static void noted(void *user, uint32_t notes)
{
    struct place *place = user;
    if (notes & SUBMIT)
        for (uint32_t i = 0; i < place->count; i++) {
            struct task *task = &place->tasks[place->submitted++];
            task->place = place;
            task->job.run = run;
            task->job.done = done;
            task->job.worker = place->worker;
            helpers_submit(place->helpers, &task->job);
        }
    if (notes & PING)
        atomic_fetch_add(&place->pings, 1);
    if (notes & STOP)
        worker_stop(place->worker);
}

static bool accepted(void *user, int descriptor, const union address_any *peer)
{
    struct place *place = user;
    (void)descriptor;
    (void)peer;
    CHECK(place->worker->accepted_listener < LISTENERS);
    place->listeners_of_accepted[place->worker->accepted_listener]++;
    return true;
}

static void opened(struct worker *worker, struct stream *stream, void *owner)
{
    struct place *place = worker->options.user;
    (void)owner;
    place->listeners_of_opened[worker->accepted_listener]++;
    atomic_fetch_add(&place->opened, 1);
    stream_end(worker, stream);
}

static size_t received(struct stream *stream, void *owner, const uint8_t *data, size_t len)
{
    (void)stream;
    (void)owner;
    (void)data;
    return len;
}

static void about_stream(struct stream *stream, void *owner)
{
    (void)stream;
    (void)owner;
}

static void closed(struct stream *stream, void *owner, int error)
{
    (void)stream;
    (void)owner;
    (void)error;
}

static void nothing(void *user)
{
    (void)user;
}

static bool may_sleep(void *user)
{
    (void)user;
    return true;
}

static void *work(void *argument)
{
    struct place *place = argument;
    const char *what;
    place->options.user = place;
    place->thread = pthread_self();
    CHECK(worker_init(place->worker, &place->options, &what) == 0);
    atomic_store(&place->ready, 1);
    CHECK(worker_run(place->worker) == 0);
    CHECK(place->worker->expected == 0);
    worker_cleanup(place->worker);
    free(place->worker);
    return NULL;
}

static struct place *place_start(void *const *state, struct helpers *helpers)
{
    struct place *place = calloc(1, sizeof(*place));
    assert_non_null(place);
    place->worker = malloc(sizeof(*place->worker));
    assert_non_null(place->worker);
    place->helpers = helpers;
    for (uint32_t i = 0; i < LISTENERS; i++) {
        CHECK(listener_parse("127.0.0.1:0", &place->addresses[i]));
        place->listeners[i] = listener_open(&place->addresses[i]);
        CHECK(place->listeners[i] >= 0);
    }
    place->options = (struct worker_options){
        .cpu = -1,
        .streams_max = 16,
        .blocks_max = 16,
        .buffer_count = 16,
        .buffer_size = 512,
        .baseline = *state != NULL,
        .listeners = place->listeners,
        .listener_count = LISTENERS,
        .helpers = helpers,
        .records_max = 3,
        .silent_listeners = 1u << SILENT,
        .callbacks = {.opened = opened,
                      .received = received,
                      .writable = about_stream,
                      .secured = about_stream,
                      .timed_out = about_stream,
                      .closed = closed},
        .hooks = {.accepted = accepted,
                      .turn_end = nothing,
                      .falling_asleep = may_sleep,
                      .awake = nothing,
                      .noted = noted         },
    };
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, work, place), 0);
    while (atomic_load(&place->ready) == 0)
        usleep(100);
    return place;
}

/* place_join waits until a worker that was told to stop has ended. */
static void place_join(struct place *place)
{
    assert_int_equal(pthread_join(place->thread, NULL), 0);
    for (uint32_t i = 0; i < LISTENERS; i++)
        close(place->listeners[i]);
}

static bool reached(const _Atomic uint32_t *count, uint32_t wanted)
{
    for (int i = 0; i < 20000 && atomic_load(count) < wanted; i++)
        usleep(500);
    return atomic_load(count) >= wanted;
}

static void submit(struct place *place, uint32_t count)
{
    place->count = count;
    worker_note(place->worker, SUBMIT);
}

static void each_job_once(void **state)
{
    enum { COUNT = 4000 };
    struct helpers *helpers = helpers_new(4, HELPERS_LOW);
    assert_non_null(helpers);
    struct place *place = place_start(state, helpers);
    for (uint32_t i = 0; i < COUNT; i++)
        place->tasks[i].again = i % 3 == 0;
    submit(place, COUNT);
    assert_true(reached(&place->dones, COUNT + (COUNT + 2) / 3));
    worker_note(place->worker, STOP);
    place_join(place);
    assert_int_equal(helpers_waiting(helpers), 0);
    helpers_free(helpers);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(place->tasks[i].runs, i % 3 == 0 ? 2 : 1);
        assert_int_equal(place->tasks[i].dones, i % 3 == 0 ? 2 : 1);
    }
    free(place);
}

/* One helper (and the relief, when that gets no CPU): each thread runs its jobs in the order of
 * submission, and they are done in that order, also when they come faster than they can be run. */
static void order_is_kept(void **state)
{
    enum { COUNT = 1000 };
    struct helpers *helpers = helpers_new(1, HELPERS_LOW);
    assert_non_null(helpers);
    struct place *place = place_start(state, helpers);
    for (uint32_t i = 0; i < COUNT; i++)
        place->tasks[i].work_us = i % 100 == 0 ? 2000 : i % 7 == 0 ? 50 : 0;
    for (uint32_t i = 1; i <= 10; i++) {
        submit(place, COUNT / 10);
        uint32_t wanted = i * (COUNT / 10) - (i % 2 > 0 ? COUNT / 20 : 0);
        assert_true(reached(&place->dones, wanted));
    }
    assert_true(reached(&place->dones, COUNT));
    worker_note(place->worker, STOP);
    place_join(place);
    helpers_free(helpers);
    const struct task *last[3] = {NULL, NULL, NULL};
    for (uint32_t i = 0; i < COUNT; i++) {
        const struct task *task = &place->tasks[i];
        const struct task *before = last[task->runner];
        assert_true(before == NULL || (before->run_number < task->run_number &&
                                       before->done_number < task->done_number));
        last[task->runner] = task;
    }
    free(place);
}

/* The only helper is held up: another thread, of more weight, takes what comes after. */
static void relief_comes(void **state)
{
    struct helpers *helpers = helpers_new(1, HELPERS_LOW);
    assert_non_null(helpers);
    struct place *place = place_start(state, helpers);
    place->tasks[0].work_us = 1000000;
    submit(place, 4);
    assert_true(reached(&place->dones, 3));
    assert_int_equal(atomic_load(&place->tasks[0].dones), 0);
    assert_true(reached(&place->dones, 4));
    worker_note(place->worker, STOP);
    place_join(place);
    helpers_free(helpers);
    for (uint32_t i = 1; i < 4; i++)
        assert_true(place->tasks[i].runner == RELIEF);
    free(place);
}

static uint32_t reserved_of(void *const *state, enum helpers_priority priority)
{
    enum { COUNT = 200 };
    uint32_t reserved = 0;
    struct helpers *helpers = helpers_new(1, priority);
    assert_non_null(helpers);
    struct place *place = place_start(state, helpers);
    for (uint32_t i = 0; i < COUNT; i++)
        place->tasks[i].work_us = 1000;
    submit(place, COUNT);
    assert_true(reached(&place->dones, COUNT));
    worker_note(place->worker, STOP);
    place_join(place);
    helpers_free(helpers);
    for (uint32_t i = 0; i < COUNT; i++)
        reserved += place->tasks[i].runner == RESERVE;
    free(place);
    return reserved;
}

/* More is waiting than may wait: a thread of the workers' own priority takes the rest, but none of
 * long jobs. */
static void reserve_comes(void **state)
{
    needs_priorities();
    assert_true(reserved_of(state, HELPERS_LOW) > 0);
    assert_int_equal(reserved_of(state, HELPERS_LEAST), 0);
}

/* Nothing else would wake this worker. */
static void sleeper_wakes(void **state)
{
    struct helpers *helpers = helpers_new(1, HELPERS_LOW);
    assert_non_null(helpers);
    struct place *place = place_start(state, helpers);
    for (uint32_t i = 0; i < 200; i++) {
        place->tasks[i].work_us = i % 4 * 400; /* it sleeps already, or is about to */
        submit(place, 1);
        assert_true(reached(&place->dones, i + 1));
    }
    worker_note(place->worker, STOP);
    place_join(place);
    helpers_free(helpers);
    free(place);
}

static void worker_turns_on(void **state)
{
    struct helpers *helpers = helpers_new(1, HELPERS_LOW);
    assert_non_null(helpers);
    struct place *place = place_start(state, helpers);
    place->tasks[0].work_us = 300000;
    submit(place, 1);
    while (helpers_waiting(helpers) == 0)
        usleep(100);
    for (uint32_t i = 0; i < 20; i++) {
        worker_note(place->worker, PING);
        assert_true(reached(&place->pings, i + 1));
    }
    assert_int_equal(atomic_load(&place->dones), 0);
    assert_int_equal(helpers_waiting(helpers), 1);
    assert_true(reached(&place->dones, 1));
    worker_note(place->worker, STOP);
    place_join(place);
    helpers_free(helpers);
    free(place);
}

/* A stopping worker waits for its jobs; and a helper that has given the last one back touches
 * nothing of it any more (it is freed at once: the sanitizers look). */
static void end_waits_for_jobs(void **state)
{
    struct helpers *helpers = helpers_new(3, HELPERS_LOW);
    assert_non_null(helpers);
    for (uint32_t round = 0; round < 150; round++) {
        struct place *place = place_start(state, helpers);
        uint32_t count = 1 + round % 5;
        for (uint32_t i = 0; i < count; i++)
            place->tasks[i].work_us = round * i % 11 * 100;
        place->count = count;
        worker_note(place->worker, SUBMIT | STOP);
        place_join(place);
        assert_int_equal(atomic_load(&place->dones), count);
        free(place);
    }
    assert_int_equal(helpers_waiting(helpers), 0);
    helpers_free(helpers);
}

static void two_workers(void **state)
{
    enum { COUNT = 2000 };
    struct helpers *helpers = helpers_new(2, HELPERS_LOW);
    assert_non_null(helpers);
    struct place *first = place_start(state, helpers);
    struct place *second = place_start(state, helpers);
    submit(first, COUNT); /* `done` checks that it is in the thread of its own worker */
    submit(second, COUNT);
    assert_true(reached(&first->dones, COUNT) && reached(&second->dones, COUNT));
    worker_note(first->worker, STOP);
    worker_note(second->worker, STOP);
    place_join(first);
    place_join(second);
    helpers_free(helpers);
    free(first);
    free(second);
}

static void threads_are_modest(void **state)
{
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    struct helpers *helpers = helpers_new(1, HELPERS_LOW);
    assert_non_null(helpers);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
    struct place *place = place_start(state, helpers);
    submit(place, 1);
    assert_true(reached(&place->dones, 1));
    assert_string_equal(place->tasks[0].thread_name, "ringmx-helper");
    assert_true(place->tasks[0].runner != RELIEF || place->tasks[0].nice == 10);
    assert_true(place->tasks[0].deaf);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    worker_note(place->worker, STOP);
    place_join(place);
    helpers_free(helpers);
    free(place);
}

static void none_and_many(void **state)
{
    (void)state;
    helpers_free(NULL);
    struct helpers *helpers = helpers_new(64, HELPERS_LOW);
    assert_non_null(helpers);
    helpers_free(helpers);
}

/* No memory for a thread's stack: those that began end again. */
static void no_threads(void **state)
{
    const char *flavour = getenv("RINGMX_FLAVOUR");
    (void)state;
    if (flavour == NULL || strcmp(flavour, "release") != 0)
        skip(); /* a sanitizer reserves more address space than any limit lets it have */
    struct rlimit before;
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld", &pages), 1);
    fclose(file);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    struct rlimit tight = {(rlim_t)pages * (rlim_t)getpagesize() + (20u << 20), before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
    struct helpers *helpers = helpers_new(64, HELPERS_LOW);
    int error = errno;
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_null(helpers);
    assert_true(error == EAGAIN || error == ENOMEM);
}

static void which_listener(void **state)
{
    static const uint32_t visits[] = {2, 0, 1, 1, 2, 2, 0, 2};
    struct place *place = place_start(state, NULL);
    for (uint32_t i = 0; i < 8; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const union address_any *address = &place->addresses[visits[i]];
        assert_int_equal(connect(client, &address->any, sizeof(address->v4)), 0);
        assert_true(reached(&place->opened, i + 1));
        close(client);
    }
    worker_note(place->worker, STOP);
    place_join(place);
    static const uint32_t want[LISTENERS] = {2, 2, 4};
    assert_memory_equal(place->listeners_of_accepted, want, sizeof(want));
    assert_memory_equal(place->listeners_of_opened, want, sizeof(want));
    free(place);
}

/* Without descriptors clients of a clear listener hear 421, those of implicit TLS nothing. */
static void silence_where_it_is_due(void **state)
{
    enum { LIMIT = 100 };
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    for (uint32_t listener = 0; listener < LISTENERS; listener++) {
        /* The kernel notes the limit when accept is armed: it must be low already. */
        struct rlimit tight = {LIMIT, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
        struct place *place = place_start(state, NULL);
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct timeval patience = {.tv_sec = 5};
        setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        worker_note(place->worker, PING);
        assert_true(reached(&place->pings, 1)); /* it has all it needs */
        int others[LIMIT];
        size_t used = descriptors_use_up(others, LIMIT);
        const union address_any *address = &place->addresses[listener];
        int connected = connect(client, &address->any, sizeof(address->v4));
        char line[80] = "";
        ssize_t len = recv(client, line, sizeof(line) - 1, 0);
        while (used > 0)
            close(others[--used]);
        assert_int_equal(connected, 0);
        if (listener == SILENT)
            assert_int_equal(len, 0);
        else
            assert_memory_equal(line, "421 4.3.2 ", 10);
        close(client);
        worker_note(place->worker, STOP);
        place_join(place);
        free(place);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void room_for_records(void **state)
{
    const char *what;
    struct worker worker;
    struct worker_options options = {.cpu = -1,
                                     .streams_max = 1,
                                     .blocks_max = 1,
                                     .buffer_count = 1,
                                     .buffer_size = 512,
                                     .baseline = *state != NULL,
                                     .records_max = 3};
    assert_int_equal(worker_init(&worker, &options, &what), 0);
    uint8_t *records[3];
    for (uint32_t i = 0; i < 3; i++) {
        records[i] = blocks_take(&worker.records);
        assert_non_null(records[i]);
        memset(records[i], (int)i, TLS_RECORD_MAX);
    }
    assert_null(blocks_take(&worker.records));
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal((uintptr_t)records[i] % 64, 0);
        assert_int_equal(records[i][0], i);
        assert_int_equal(records[i][TLS_RECORD_MAX - 1], i);
        blocks_give(&worker.records, records[i]);
    }
    worker_cleanup(&worker);
    options.records_max = 0;
    assert_int_equal(worker_init(&worker, &options, &what), 0);
    assert_null(worker.records.memory);
    worker_cleanup(&worker);
}

int main(void)
{
    (void)setpriority(PRIO_PROCESS, 0, 0);
    usual_nice = getpriority(PRIO_PROCESS, 0);
    const struct CMUnitTest tests[] = {
        TWICE(each_job_once),
        TWICE(order_is_kept),
        TWICE(relief_comes),
        TWICE(reserve_comes),
        TWICE(sleeper_wakes),
        TWICE(worker_turns_on),
        TWICE(two_workers),
        TWICE(end_waits_for_jobs),
        TWICE(threads_are_modest),
        TWICE(which_listener),
        TWICE(silence_where_it_is_due),
        TWICE(room_for_records),
        cmocka_unit_test(none_and_many),
        cmocka_unit_test(no_threads),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
