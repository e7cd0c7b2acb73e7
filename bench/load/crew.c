/* See crew.h. The thread that calls crew_run sends nothing: it sleeps until the next instant that
 * it has to look at, and is woken early by a thread that ends or by a signal. */
#include "bench/load/crew.h"

#include "bench/load/client.h"
#include "bench/load/progress.h"
#include "gateway/base/check.h"
#include "gateway/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    AHEAD_US = 1000,      /* so that the last thread hears of the start before it comes */
    LOOK_US = 1000,       /* how often to look for what no thread tells of */
    PROGRESS_US = 500000, /* how often the line on the terminal changes */
};

enum crew_state {
    CREW_GATHERING = 0, /* connections are being opened */
    CREW_WARMING_UP,
    CREW_MEASURING,
    CREW_DRAINING,
};

struct crew_thread {
    struct client *client;
    struct client_state *state; /* of the client */
    pthread_t thread;
    bool started, stopped;
    atomic_bool over; /* nothing more is to be heard of it */
    atomic_int error;
};

struct crew {
    const struct load_options *options;
    struct series *series;
    struct crew_thread *threads;
    uint32_t count;
    int acked;
    enum crew_state state;
    bool stopping, failed;
    uint64_t measured_us; /* when the measured time begins */
    uint64_t end_us;      /* when it ends; UINT64_MAX: after so many messages */
    uint64_t progress_us; /* when the line is drawn next */
};

static atomic_bool interrupted;
static sem_t bell; /* rung when a thread ends, and by signals */

/* ---- signals ---- */

static void on_signal(int number)
{
    (void)number;
    int error = errno;
    interrupted = true;
    sem_post(&bell);
    errno = error;
}

bool crew_interrupted(void)
{
    return interrupted;
}

/* Once for all runs of the process. A second signal finds the default action: it kills. */
static void signals_listen(void)
{
    static bool listening;
    if (listening)
        return;
    listening = true;
    CHECK(sem_init(&bell, 0, 0) == 0);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---- the threads ---- */

static uint32_t share_of(uint64_t whole, uint32_t index, uint32_t count)
{
    return (uint32_t)(whole / count + (index < whole % count));
}

/* A thread without connections or without messages would only be in the way. */
static uint32_t threads_wanted(const struct load_options *options)
{
    uint64_t most =
        options->connections > 0 ? options->connections : (uint64_t)options->idle + options->slow;
    if (options->connections > 0 && options->messages > 0 && options->messages < most)
        most = options->messages;
    uint64_t count = options->threads < most ? options->threads : most;
    return count > 0 ? (uint32_t)count : 1;
}

static struct client_task task_of(const struct crew *crew, const struct mail *mail, uint32_t index)
{
    const struct load_options *options = crew->options;
    return (struct client_task){
        .options = options,
        .mail = mail,
        .series = crew->series,
        .index = index,
        .threads = crew->count,
        .cpu = options->cpu < 0 ? -1 : options->cpu + (int)index,
        .connections = share_of(options->connections, index, crew->count),
        .idle = share_of(options->idle, index, crew->count),
        .slow = share_of(options->slow, index, crew->count),
        .messages = options->messages / crew->count + (index < options->messages % crew->count),
        .acked = crew->acked,
    };
}

static void *thread_main(void *argument)
{
    struct crew_thread *thread = argument;
    thread->error = client_run(thread->client);
    thread->over = true;
    sem_post(&bell);
    return NULL;
}

/* This thread stays where the others are: elsewhere it could disturb the server. */
static void pin(int first, uint32_t count)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (uint32_t i = 0; i < count; i++)
        CPU_SET((size_t)first + i, &cpus);
    if (first >= 0 && sched_setaffinity(0, sizeof cpus, &cpus) < 0)
        fprintf(stderr, "ringmx-load: not pinned to CPU %d: %s\n", first, strerror(errno));
}

static bool prepare(struct crew *crew, const struct mail *mail)
{
    const struct load_options *options = crew->options;
    crew->count = threads_wanted(options);
    crew->threads = calloc(crew->count, sizeof *crew->threads);
    crew->series = series_new(crew->count);
    if (crew->threads == NULL || crew->series == NULL) {
        fputs("ringmx-load: no memory\n", stderr);
        return false;
    }
    if (options->acked != NULL) {
        crew->acked = open(options->acked, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (crew->acked < 0) {
            fprintf(stderr, "ringmx-load: %s: %s\n", options->acked, strerror(errno));
            return false;
        }
    }
    for (uint32_t i = 0; i < crew->count; i++) {
        struct client_task task = task_of(crew, mail, i);
        crew->threads[i].client = client_new(&task);
        if (crew->threads[i].client == NULL) {
            fputs("ringmx-load: no memory\n", stderr);
            return false;
        }
        crew->threads[i].state = client_state(crew->threads[i].client);
    }
    return true;
}

/* Signals are for the calling thread only. */
static void threads_start(struct crew *crew)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (uint32_t i = 0; i < crew->count && !crew->failed; i++) {
        struct crew_thread *thread = &crew->threads[i];
        int error = pthread_create(&thread->thread, NULL, thread_main, thread);
        thread->started = error == 0;
        if (error != 0) {
            fprintf(stderr, "ringmx-load: thread %u: %s\n", i, strerror(error));
            crew->failed = crew->stopping = true;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void threads_join(struct crew *crew)
{
    for (uint32_t i = 0; i < crew->count; i++) {
        struct crew_thread *thread = &crew->threads[i];
        if (thread->started)
            pthread_join(thread->thread, NULL);
        crew->failed =
            crew->failed || thread->error != 0 || (thread->started && thread->state->error != 0);
    }
}

/* ---- what can be seen of them ---- */

static bool over(const struct crew_thread *thread)
{
    return !thread->started || thread->over;
}

static bool all_over(const struct crew *crew)
{
    bool all = true;
    for (uint32_t i = 0; i < crew->count; i++)
        all = all && over(&crew->threads[i]);
    return all;
}

static bool all_arrived(const struct crew *crew)
{
    bool all = true;
    for (uint32_t i = 0; i < crew->count; i++)
        all = all && (over(&crew->threads[i]) || crew->threads[i].state->arrived);
    return all;
}

static bool all_measured(const struct crew *crew)
{
    bool all = true;
    for (uint32_t i = 0; i < crew->count; i++)
        all = all && (over(&crew->threads[i]) || crew->threads[i].state->measured);
    return all;
}

static bool any_error(const struct crew *crew)
{
    bool any = crew->failed;
    for (uint32_t i = 0; i < crew->count; i++)
        any = any || crew->threads[i].error != 0;
    return any;
}

/* ---- the run ---- */

static void mark(const struct crew *crew, const char *what)
{
    if (!crew->options->marks)
        return;
    progress_clear();
    fprintf(stderr, "%s\n", what);
    fflush(stderr);
}

/* Ends all that can be told already; the others are tried again in the next look. */
static void threads_stop(struct crew *crew)
{
    for (uint32_t i = 0; i < crew->count; i++) {
        struct crew_thread *thread = &crew->threads[i];
        if (thread->stopped || over(thread) || !thread->state->prepared)
            continue;
        thread->stopped = true;
        if (!thread->state->finished)
            client_stop(thread->client);
    }
}

static void begin(struct crew *crew)
{
    const struct load_options *options = crew->options;
    uint64_t start_us = clock_monotonic_us() + AHEAD_US;
    for (uint32_t i = 0; i < crew->count; i++)
        if (!over(&crew->threads[i]) && !crew->threads[i].state->finished)
            client_begin(crew->threads[i].client, start_us * 1000);
    crew->measured_us = start_us + (uint64_t)(options->warm_up_seconds * 1e6);
    crew->end_us =
        options->seconds > 0 ? crew->measured_us + (uint64_t)(options->seconds * 1e6) : UINT64_MAX;
    crew->state = CREW_WARMING_UP;
}

/* Looks at the time and the threads and does what is due; more than one thing may be. */
static void look(struct crew *crew, uint64_t now_us)
{
    crew->stopping = crew->stopping || interrupted || any_error(crew);
    if (crew->stopping) {
        threads_stop(crew);
        if (crew->state < CREW_MEASURING)
            crew->state = CREW_DRAINING;
    } else if (crew->state == CREW_GATHERING && all_arrived(crew)) {
        begin(crew);
    }
    if (crew->state == CREW_WARMING_UP && now_us >= crew->measured_us) {
        crew->state = CREW_MEASURING;
        mark(crew, "start");
    }
    if (crew->state == CREW_MEASURING &&
        (crew->stopping || now_us >= crew->end_us || all_measured(crew))) {
        crew->state = CREW_DRAINING;
        mark(crew, "end");
    }
}

/* When to look next, unless the bell is rung. */
static uint64_t next_look_us(const struct crew *crew, uint64_t now_us)
{
    uint64_t next_us = crew->progress_us;
    bool untold = crew->state == CREW_GATHERING || crew->stopping ||
                  (crew->state == CREW_MEASURING && crew->options->messages > 0);
    if (untold && now_us + LOOK_US < next_us)
        next_us = now_us + LOOK_US;
    if (crew->state == CREW_WARMING_UP && crew->measured_us < next_us)
        next_us = crew->measured_us;
    if (crew->state == CREW_MEASURING && crew->end_us < next_us)
        next_us = crew->end_us;
    return next_us;
}

static void show(struct crew *crew, uint64_t now_us)
{
    if (now_us < crew->progress_us)
        return;
    crew->progress_us = now_us + PROGRESS_US;
    double gone =
        crew->state == CREW_GATHERING
            ? -1
            : crew->options->warm_up_seconds + ((double)now_us - (double)crew->measured_us) / 1e6;
    progress_show(crew->options, crew->series, gone);
}

static void watch(struct crew *crew)
{
    while (!all_over(crew)) {
        uint64_t now_us = clock_monotonic_us();
        look(crew, now_us);
        show(crew, now_us);
        uint64_t next_us = next_look_us(crew, now_us);
        struct timespec until = {.tv_sec = (time_t)(next_us / 1000000),
                                 .tv_nsec = (long)(next_us % 1000000) * 1000};
        (void)sem_clockwait(&bell, CLOCK_MONOTONIC, &until);
    }
    look(crew, clock_monotonic_us());
    progress_clear();
}

/* Gives back all but the series. */
static void disband(struct crew *crew)
{
    for (uint32_t i = 0; crew->threads != NULL && i < crew->count; i++)
        if (crew->threads[i].client != NULL)
            client_free(crew->threads[i].client);
    free(crew->threads);
    if (crew->acked >= 0)
        close(crew->acked);
}

bool crew_run(const struct load_options *options, const struct mail *mail, struct tally *tally,
              struct series **series)
{
    struct crew crew = {.options = options, .acked = -1};
    memset(tally, 0, sizeof *tally);
    signals_listen();
    bool prepared = prepare(&crew, mail);
    *series = crew.series;
    if (prepared) {
        prctl(PR_SET_TIMERSLACK, 1); /* ns; threads inherit it */
        pin(options->cpu, crew.count);
        threads_start(&crew);
        watch(&crew);
        threads_join(&crew);
        for (uint32_t i = 0; i < crew.count; i++)
            if (crew.threads[i].started)
                tally_add(tally, client_tally(crew.threads[i].client));
    }
    disband(&crew);
    return prepared && !crew.failed;
}
