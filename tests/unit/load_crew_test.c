/* load/crew: the threads' shares, the common start, the marks, errors and signals. The client is
 * one of this test's own: it does what `play` says, and notes what it was told. */
#include "bench/load/crew.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/load/client.h"
#include "gateway/base/clock.h"

enum { THREADS_MAX = 8, ANY = 1000 };

struct client {
    struct client_task task;
    struct client_state state;
    struct tally tally;
    int acked_flags;
    _Atomic bool stopped;
    uint64_t arrived_us, told_us; /* when it arrived, and when it was told to begin */
};

/* What the clients do, each after what it waits for. */
static struct {
    uint32_t fails;           /* index of the one that returns an error, */
    uint64_t fail_us;         /* this long after its beginning; ANY: none */
    bool fails_early;         /* before it can be told anything */
    uint64_t prepare_us;      /* of thread 0; the others at once */
    uint64_t arrive_us;       /* of the last thread; the others earlier */
    uint64_t messages_end_us; /* all messages are sent this long after the start; 0: by time */
    uint64_t drain_us;        /* after the end */
    bool no_client;           /* there is no memory for the second one */
    bool deaf;                /* does not end when it is told to */
} play;

/* What became of them. */
static struct client *clients[THREADS_MAX];
static uint32_t count;
static struct client kept[THREADS_MAX]; /* as they were when they were freed */
static _Atomic uint32_t running;
static uint64_t *start_us; /* the common start; in memory that children share */

struct client *client_new(const struct client_task *task)
{
    struct client *client = calloc(1, sizeof *client);
    assert_non_null(client);
    assert_true(count < THREADS_MAX);
    if (play.no_client && count == 1) {
        free(client);
        return NULL;
    }
    client->task = *task;
    client->acked_flags = fcntl(task->acked, F_GETFL);
    clients[count++] = client;
    return client;
}

void client_free(struct client *client)
{
    for (uint32_t i = 0; i < count; i++)
        if (clients[i] == client)
            kept[i] = *client;
    free(client);
}

struct client_state *client_state(struct client *client)
{
    return &client->state;
}

const struct tally *client_tally(const struct client *client)
{
    return &client->tally;
}

void client_begin(struct client *client, uint64_t start_ns)
{
    assert_true(client->state.prepared);
    client->told_us = clock_monotonic_us();
    *start_us = start_ns / 1000;
    client->state.start_ns = start_ns;
}

void client_stop(struct client *client)
{
    assert_true(client->state.prepared);
    client->stopped = true;
}

/* False: it was stopped before. */
static bool wait_until_us(struct client *client, uint64_t until_us)
{
    while (clock_monotonic_us() < until_us) {
        if (client->stopped && !play.deaf)
            return false;
        usleep(200);
    }
    return true;
}

static bool wait_for_start(struct client *client)
{
    while (client->state.start_ns == 0) {
        if (client->stopped && !play.deaf)
            return false;
        usleep(200);
    }
    return true;
}

static void run(struct client *client)
{
    const struct client_task *task = &client->task;
    const struct load_options *options = task->options;
    uint64_t now_us = clock_monotonic_us();
    uint32_t from_last = task->threads - 1 - task->index;
    (void)wait_until_us(client, now_us + (task->index == 0 ? play.prepare_us : 0));
    client->state.prepared = true;
    if (!wait_until_us(client, now_us + play.arrive_us / (from_last + 1)))
        return;
    client->arrived_us = clock_monotonic_us();
    client->state.arrived = true;
    if (!wait_for_start(client))
        return;
    uint64_t from_us = client->state.start_ns / 1000;
    uint64_t time_us = (uint64_t)((options->warm_up_seconds + options->seconds) * 1e6);
    if (!wait_until_us(client,
                       from_us + (play.messages_end_us > 0 ? play.messages_end_us / (from_last + 1)
                                                           : time_us)))
        return;
    client->state.measured = true;
    (void)wait_until_us(client, clock_monotonic_us() + play.drain_us);
}

int client_run(struct client *client)
{
    bool fails = client->task.index == play.fails;
    running++;
    if (fails && play.fails_early)
        usleep((useconds_t)play.fail_us);
    else if (fails && play.fail_us != ANY) {
        client->state.prepared = client->state.arrived = true;
        if (wait_for_start(client))
            usleep((useconds_t)play.fail_us);
    } else
        run(client);
    client->tally.acked = client->task.index + 1;
    client->tally.threads = 1;
    client->tally.seconds = 1;
    histogram_add(&client->tally.times[TALLY_DOT], 1000 * (client->task.index + 1));
    running--;
    client->state.finished = true;
    return fails && (play.fails_early || play.fail_us != ANY) ? -EIO : 0;
}

/* ---- runs ---- */

static const struct load_options some = {
    .connections = 10, .threads = 4, .cpu = -1, .seconds = 0.3, .quiet = true};

static struct tally *tally;

static int set_up(void **state)
{
    (void)state;
    memset(&play, 0, sizeof play);
    play.fails = ANY;
    play.fail_us = ANY;
    play.drain_us = 20000;
    count = 0;
    tally = calloc(1, sizeof *tally);
    return tally == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    free(tally);
    return 0;
}

static bool crew(const struct load_options *options)
{
    struct series *series;
    bool result = crew_run(options, NULL, tally, &series);
    assert_int_equal(running, 0);
    series_free(series);
    return result;
}

/* What was written to standard error meanwhile, each octet with its time. */
struct heard {
    size_t len;
    char text[4096];
    uint64_t at_us[4096];
};

/* Runs in a child, with its standard error being `theirs`; sends it SIGINT at the times given in us
 * after the first line was heard. Returns what waitpid says. */
static int crew_in_child(const struct load_options *options, int ours, int theirs,
                         struct heard *heard, const uint64_t *interrupts_us)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(theirs, STDERR_FILENO);
        close(ours);
        close(theirs);
        bool well = crew(options);
        _exit(crew_interrupted() ? 130 : !well);
    }
    close(theirs);
    heard->len = 0;
    for (;;) {
        uint64_t now_us = clock_monotonic_us(), due_us = UINT64_MAX;
        if (interrupts_us != NULL && heard->len > 0 && *interrupts_us > 0)
            due_us = heard->at_us[0] + *interrupts_us;
        if (now_us >= due_us) {
            kill(child, SIGINT);
            interrupts_us++;
            continue;
        }
        struct pollfd event = {.fd = ours, .events = POLLIN};
        int ready = poll(&event, 1, due_us == UINT64_MAX ? 10000 : (int)((due_us - now_us) / 1000));
        if (ready == 0 && due_us != UINT64_MAX)
            continue;
        assert_int_equal(ready, 1);
        ssize_t len = read(ours, heard->text + heard->len, sizeof heard->text - heard->len - 1);
        if (len <= 0) /* the end; EIO of a terminal */
            break;
        for (ssize_t i = 0; i < len; i++)
            heard->at_us[heard->len++] = clock_monotonic_us();
    }
    heard->text[heard->len] = '\0';
    close(ours);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static int crew_heard(const struct load_options *options, struct heard *heard,
                      const uint64_t *interrupts_us)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    return crew_in_child(options, ends[0], ends[1], heard, interrupts_us);
}

/* ---- shares ---- */

static void check_shares(const struct load_options *options, uint32_t threads)
{
    uint64_t sums[4] = {0};
    count = 0;
    assert_true(crew(options));
    assert_int_equal(count, threads);
    for (uint32_t i = 0; i < threads; i++) {
        const struct client_task *task = &kept[i].task;
        const uint64_t parts[] = {task->connections, task->idle, task->slow, task->messages};
        const uint64_t wholes[] = {options->connections, options->idle, options->slow,
                                   options->messages};
        for (unsigned k = 0; k < 4; k++) {
            sums[k] += parts[k];
            assert_in_range(parts[k], wholes[k] / threads, (wholes[k] + threads - 1) / threads);
        }
        assert_int_equal(task->index, i);
        assert_int_equal(task->threads, threads);
        assert_int_equal(task->cpu, options->cpu < 0 ? -1 : options->cpu + (int)i);
        assert_int_equal(task->acked, -1);
        assert_ptr_equal(task->options, options);
        assert_non_null(task->series);
        assert_false(kept[i].stopped);
    }
    assert_int_equal(sums[0], options->connections);
    assert_int_equal(sums[1], options->idle);
    assert_int_equal(sums[2], options->slow);
    assert_int_equal(sums[3], options->messages);
    assert_int_equal(tally->threads, threads);
    assert_int_equal(tally->acked, threads * (threads + 1) / 2);
    assert_int_equal(tally->times[TALLY_DOT].count, threads);
    assert_int_equal(tally->times[TALLY_DOT].max_ns, threads * 1000);
}

static void test_shares(void **state)
{
    (void)state;
    struct load_options options = some;
    options.seconds = 0.01;
    check_shares(&options, 4);
    options.idle = 7;
    options.slow = 5;
    options.messages = 1000003;
    check_shares(&options, 4);
    options.threads = 1;
    check_shares(&options, 1);
    options.threads = 3;
    options.messages = 2; /* no thread without one */
    check_shares(&options, 2);
    options.messages = 0;
    options.connections = 2; /* nor without a connection */
    check_shares(&options, 2);
    options.connections = 0;
    check_shares(&options, 3);
}

static void test_pinned(void **state)
{
    (void)state;
    struct load_options options = some;
    cpu_set_t before, after;
    options.seconds = 0.01;
    options.threads = options.connections = 1;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &before))
            continue;
        options.cpu = cpu;
        check_shares(&options, 1);
        assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
        assert_int_equal(CPU_COUNT(&after), 1);
        assert_true(CPU_ISSET(cpu, &after));
        break;
    }
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

/* ---- start and marks ---- */

/* All begin at one time, which is still to come when they hear of it, and when all have arrived. */
static bool starts_well(void)
{
    struct load_options options = some;
    options.seconds = 0.05;
    count = 0;
    play.arrive_us = 100000;
    play.prepare_us = 20000;
    uint64_t begun_us = clock_monotonic_us();
    assert_true(crew(&options));
    uint64_t lasted_us = clock_monotonic_us() - begun_us;
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(kept[i].state.start_ns, kept[0].state.start_ns);
        for (uint32_t k = 0; k < 4; k++)
            assert_true(kept[i].told_us >= kept[k].arrived_us);
        assert_true(kept[i].state.start_ns / 1000 > kept[3].arrived_us);
        assert_true(kept[i].state.start_ns / 1000 <= kept[i].told_us + 1000);
    }
    return lasted_us < 490000; /* nobody waits for the next look at the time, after 500 ms */
}

/* A mark is never early; returns whether it was not much later either: who waits for the next look
 * at the time is 300 ms late or more. */
static bool in_time(const struct heard *heard, const char *line, uint64_t early_us)
{
    const char *found = strstr(heard->text, line);
    assert_non_null(found);
    uint64_t at_us = heard->at_us[found - heard->text];
    assert_true(at_us >= early_us);
    return at_us <= early_us + 250000;
}

static bool marks_well(void)
{
    struct load_options options = some;
    struct heard heard;
    options.marks = true;
    options.warm_up_seconds = 0.1;
    options.seconds = 0.4;
    play.drain_us = 600000; /* the end is not told by threads that end */
    assert_int_equal(crew_heard(&options, &heard, NULL), 0);
    assert_string_equal(heard.text, "start\nend\n");
    bool well = in_time(&heard, "start\n", *start_us + 100000);
    return in_time(&heard, "end\n", *start_us + 500000) && well;
}

/* The end is when the last thread has sent its messages, long before the time is over. */
static bool marks_messages_well(void)
{
    struct load_options options = some;
    struct heard heard;
    bool well = true;
    options.marks = true;
    options.seconds = 0;
    options.messages = 100;
    play.messages_end_us = 200000;
    play.drain_us = 500000; /* it is not part of the measured time */
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(crew_heard(&options, &heard, NULL), 0);
        assert_string_equal(heard.text, "start\nend\n");
        well = in_time(&heard, "start\n", *start_us) && well;
        well = in_time(&heard, "end\n", *start_us + 200000) && well;
        options.seconds = 60;
    }
    return well;
}

/* Where others have the CPU, one of some tries has to be in time. */
static void test_in_time(void **state)
{
    (void)state;
    bool (*const runs[])(void) = {starts_well, marks_well, marks_messages_well};
    for (unsigned i = 0; i < 3; i++) {
        bool well = false;
        for (unsigned tries = 0; tries < 8 && !well; tries++) {
            free(tally);
            set_up(NULL);
            well = runs[i]();
        }
        assert_true(well);
    }
}

static void test_no_marks(void **state)
{
    (void)state;
    struct heard heard;
    assert_int_equal(crew_heard(&some, &heard, NULL), 0);
    assert_string_equal(heard.text, "");
}

/* ---- what goes wrong ---- */

/* One that fails ends the others, which would run for a minute, at whatever time. */
static void test_error(void **state)
{
    (void)state;
    struct load_options options = some;
    options.seconds = 60;
    for (unsigned k = 0; k < 4; k++) {
        free(tally);
        set_up(NULL);
        play.fails = k;
        play.fail_us = 30000;
        play.fails_early = k >= 2;
        play.prepare_us = k == 3 ? 100000 : 0; /* thread 0 can't be told before */
        play.arrive_us = k == 2 ? 60000000 : 0;
        uint64_t begun_us = clock_monotonic_us();
        assert_false(crew(&options));
        assert_in_range(clock_monotonic_us() - begun_us, 30000, 10000000);
        for (uint32_t i = 0; i < 4; i++)
            assert_int_equal(kept[i].stopped, i != k);
    }
}

static void test_no_client(void **state)
{
    (void)state;
    play.no_client = true;
    assert_false(crew(&some));
    assert_int_equal(count, 1);
    assert_false(kept[0].state.prepared);
}

static void test_acked(void **state)
{
    (void)state;
    char path[] = "/tmp/crew-XXXXXX";
    struct load_options options = some;
    options.seconds = 0.3;
    options.acked = path;
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, "older\n", 6), 6);
    play.arrive_us = 50000;
    assert_true(crew(&options));
    assert_int_equal(kept[0].acked_flags & (O_APPEND | O_ACCMODE), O_APPEND | O_WRONLY);
    assert_int_equal(kept[3].task.acked, kept[0].task.acked);
    assert_int_equal(fcntl(kept[0].task.acked, F_GETFL), -1); /* closed again */
    assert_int_equal(lseek(file, 0, SEEK_END), 6);
    close(file);
    unlink(path);
    options.acked = "/nonexistent/acked";
    count = 0;
    struct heard heard;
    assert_int_equal(crew_heard(&options, &heard, NULL), 1 << 8);
    assert_non_null(strstr(heard.text, "/nonexistent/acked: No such file"));
}

/* ---- signals ---- */

static void test_interrupted(void **state)
{
    (void)state;
    struct load_options options = some;
    struct heard heard;
    const uint64_t interrupts_us[] = {100000, 0};
    options.marks = true;
    options.seconds = 60;
    uint64_t begun_us = clock_monotonic_us();
    assert_int_equal(crew_heard(&options, &heard, interrupts_us), 130 << 8);
    assert_true(clock_monotonic_us() - begun_us < 10000000);
    assert_string_equal(heard.text, "start\nend\n");
    assert_in_range(heard.at_us[6] - heard.at_us[0], 100000, 5000000);
}

/* Who does not want to wait for the drain, or for a thread that hangs, sends it twice. */
static void test_killed(void **state)
{
    (void)state;
    struct load_options options = some;
    struct heard heard;
    const uint64_t interrupts_us[] = {50000, 700000, 0};
    options.marks = true;
    options.seconds = 60;
    play.deaf = true;
    uint64_t begun_us = clock_monotonic_us();
    int status = crew_heard(&options, &heard, interrupts_us);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGINT);
    assert_in_range(clock_monotonic_us() - begun_us, 700000, 10000000);
}

/* ---- the terminal ---- */

/* What is seen in the end, of lines and carriage returns. */
static void screen(const struct heard *heard, char *seen, size_t size)
{
    size_t line = 0, column = 0;
    memset(seen, 0, size);
    for (size_t i = 0; i < heard->len; i++) {
        if (heard->text[i] == '\r') {
            column = 0;
        } else if (heard->text[i] == '\n') {
            line = strlen(seen) + 1;
            seen[line - 1] = '\n';
            column = 0;
        } else {
            seen[line + column++] = heard->text[i];
        }
        assert_true(column < 80);
    }
}

static void test_terminal(void **state)
{
    (void)state;
    struct load_options options = some;
    struct heard heard;
    char seen[4096];
    int ours, theirs;
    options.marks = true;
    options.quiet = false;
    options.warm_up_seconds = 0.7;
    options.seconds = 0.7;
    assert_int_equal(openpty(&ours, &theirs, NULL, NULL, NULL), 0);
    assert_int_equal(crew_in_child(&options, ours, theirs, &heard, NULL), 0);
    assert_non_null(strstr(heard.text, "connecting"));
    assert_non_null(strstr(heard.text, "warming up"));
    assert_non_null(strstr(heard.text, "measuring"));
    screen(&heard, seen, sizeof seen);
    /* Nothing but the marks and blanks is left. */
    char left[64] = "";
    for (const char *at = seen; *at != '\0' && strlen(left) < sizeof left - 1; at++)
        if (*at != ' ')
            left[strlen(left)] = *at;
    assert_string_equal(left, "start\nend\n");
    options.quiet = true;
    assert_int_equal(openpty(&ours, &theirs, NULL, NULL, NULL), 0);
    assert_int_equal(crew_in_child(&options, ours, theirs, &heard, NULL), 0);
    assert_null(strstr(heard.text, "measuring"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shares, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pinned, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_in_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_marks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_client, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_acked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interrupted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_terminal, set_up, tear_down),
    };
    start_us =
        mmap(NULL, sizeof *start_us, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (start_us == MAP_FAILED)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
