/* Threads that do the slow work: see helpers.h. Jobs come over a list that workers only push to, so
 * that no worker ever waits for a lock that a thread of low priority holds; the helpers sort it
 * into a queue of their own. They go back to their worker one by one. */
#include "gateway/io/helpers.h"

#include "gateway/base/bell.h"
#include "gateway/base/check.h"
#include "gateway/io/worker.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* How low a priority? Measured on Linux 6.18, roughly: a thread that works 0.11 ms of each 0.17 ms
 * has an RSA-2048 helper on its CPU. The thread's p99 in ms; then signatures a second when it is
 * busy all the time:
 *
 *     no helper   nice 0   nice 10   SCHED_BATCH, nice 10   nice 19   SCHED_IDLE
 *        0.3        34       3.5              3.7              0.6        0.3
 *                  450        80               80               15          3
 *
 * Only SCHED_IDLE is interrupted whenever a worker wakes, but on a full machine it starves. So the
 * helpers have that, and there are two threads more. The relief has nice 10, and only takes jobs
 * when no helper has taken any for a while. The reserve has the workers' own priority, and only
 * takes what is above a backlog: a machine that is full of clients with RSA serves them, too.
 *
 * Jobs of LEAST are a thousand times as long, and nobody but their client waits for them. What is
 * begun nobody can take over, and a thread may not raise its own priority: with SCHED_IDLE it would
 * stand still for seconds where other programs want all of the CPU. So they have nice 19, no
 * reserve, and a relief that is slower to help and has less to say. */
enum {
    HELPERS_MAX = 64,
    OTHERS = 2, /* relief and reserve */
    RELIEF_NICE = 10,
    RELIEF_NICE_LEAST = 15,
    LEAST_NICE = 19,
    RELIEF_US = 50 * 1000, /* a handshake may well wait so long */
    RELIEF_LEAST_US = 1000 * 1000,
    BACKLOG = 64, /* jobs: about as long */
    RESERVE_US = 10 * 1000,
};

struct helpers {
    _Atomic(struct helper_job *) submitted; /* newest first */
    _Atomic uint32_t waiting;
    _Atomic uint64_t taken; /* jobs so far */
    _Atomic bool stopping;
    struct bell bell;      /* for the relief: there is something to watch */
    struct bell backlog;   /* for the reserve: there is too much */
    sem_t posts;           /* one for each job, and one for each helper when it is to end */
    pthread_mutex_t mutex; /* of the queue */
    struct helper_job *first;
    uint32_t count;  /* of threads, the others included */
    uint32_t others; /* LOW: relief and reserve; LEAST: relief; else 0 */
    enum helpers_priority priority;
    pthread_t threads[HELPERS_MAX + OTHERS]; /* relief and reserve are the first */
};

static void *relieve(void *argument);
static void *reserve(void *argument);
static void *help(void *argument);

struct helpers *helpers_new(uint32_t count, enum helpers_priority priority)
{
    CHECK(count >= 1 && count <= HELPERS_MAX);
    struct helpers *helpers = calloc(1, sizeof(*helpers));
    if (helpers == NULL)
        return NULL;
    CHECK(sem_init(&helpers->posts, 0, 0) == 0);
    pthread_mutex_init(&helpers->mutex, NULL);
    helpers->priority = priority;
    helpers->others = priority == HELPERS_LOW ? OTHERS : priority == HELPERS_LEAST ? 1 : 0;
    sigset_t all, before;
    sigfillset(&all); /* signals are for main */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (error == 0 && helpers->count < count + helpers->others) {
        error = pthread_create(&helpers->threads[helpers->count], NULL,
                               helpers->count >= helpers->others ? help
                               : helpers->count == 0             ? relieve
                                                                 : reserve,
                               helpers);
        helpers->count += error == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        helpers_free(helpers);
        errno = error;
        return NULL;
    }
    return helpers;
}

void helpers_free(struct helpers *helpers)
{
    if (helpers == NULL)
        return;
    CHECK(helpers_waiting(helpers) == 0);
    /* The others first: they could take a post that is to end a helper. */
    atomic_store(&helpers->stopping, true);
    bell_ring(&helpers->bell);
    bell_ring(&helpers->backlog);
    for (uint32_t i = 0; i < helpers->count; i++) {
        if (i >= helpers->others)
            CHECK(sem_post(&helpers->posts) == 0);
        else
            pthread_join(helpers->threads[i], NULL);
    }
    for (uint32_t i = helpers->others; i < helpers->count; i++)
        pthread_join(helpers->threads[i], NULL);
    pthread_mutex_destroy(&helpers->mutex);
    sem_destroy(&helpers->posts);
    free(helpers);
}

static void come_back(struct post *post, struct worker *worker)
{
    struct helper_job *job = (struct helper_job *)(void *)post;
    worker_received(worker);
    job->done(job);
}

void helpers_submit(struct helpers *helpers, struct helper_job *job)
{
    worker_expect(job->worker);
    job->post.arrived = come_back;
    uint32_t before = atomic_fetch_add(&helpers->waiting, 1);
    struct helper_job *newest = atomic_load_explicit(&helpers->submitted, memory_order_relaxed);
    do
        job->next = newest;
    while (!atomic_compare_exchange_weak_explicit(&helpers->submitted, &newest, job,
                                                  memory_order_release, memory_order_relaxed));
    CHECK(sem_post(&helpers->posts) == 0); /* it fails after 2^31 jobs, more than fit in memory */
    if (before == 0)
        bell_ring(&helpers->bell);
    if (before == BACKLOG)
        bell_ring(&helpers->backlog);
}

uint32_t helpers_waiting(const struct helpers *helpers)
{
    return atomic_load_explicit(&helpers->waiting, memory_order_relaxed);
}

uint64_t helpers_taken(const struct helpers *helpers)
{
    return atomic_load_explicit(&helpers->taken, memory_order_relaxed);
}

/* --- the threads --- */

/* sort_in makes a queue, oldest first, of what was submitted. */
static struct helper_job *sort_in(struct helpers *helpers)
{
    struct helper_job *newest =
        atomic_exchange_explicit(&helpers->submitted, NULL, memory_order_acquire);
    struct helper_job *oldest = NULL;
    while (newest != NULL) { /* as many as were submitted */
        struct helper_job *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

/* take returns the oldest job. NULL: there is none; then the post was one to end. */
static struct helper_job *take(struct helpers *helpers)
{
    pthread_mutex_lock(&helpers->mutex);
    if (helpers->first == NULL)
        helpers->first = sort_in(helpers);
    struct helper_job *job = helpers->first;
    if (job != NULL)
        helpers->first = job->next;
    pthread_mutex_unlock(&helpers->mutex);
    atomic_fetch_add(&helpers->taken, job != NULL);
    return job;
}

static void run(struct helpers *helpers, struct helper_job *job)
{
    job->run(job);
    atomic_fetch_sub(&helpers->waiting, 1);
    post_send(job->worker, &job->post);
}

static void *help(void *argument)
{
    struct helpers *helpers = argument;
    struct sched_param none = {0};
    pthread_setname_np(pthread_self(), "ringmx-helper");
    if (helpers->priority == HELPERS_LEAST) /* of this thread; a sandbox may forbid it */
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), LEAST_NICE);
    else if (helpers->priority == HELPERS_LOW)
        (void)sched_setscheduler(0, SCHED_IDLE, &none);
    for (;;) {
        while (sem_wait(&helpers->posts) != 0)
            CHECK(errno == EINTR);
        struct helper_job *job = take(helpers);
        if (job == NULL)
            return NULL;
        run(helpers, job);
    }
}

/* relieve watches, while there are jobs, whether they are taken. If not, the helpers get no CPU or
 * each has a job that takes very long: it takes some, until a helper has come back. */
static void *relieve(void *argument)
{
    struct helpers *helpers = argument;
    bool least = helpers->priority == HELPERS_LEAST;
    pthread_setname_np(pthread_self(), "ringmx-helper");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), least ? RELIEF_NICE_LEAST : RELIEF_NICE);
    while (!atomic_load(&helpers->stopping)) {
        if (atomic_load(&helpers->waiting) == 0) {
            bell_wait(&helpers->bell, UINT64_MAX);
            continue;
        }
        uint64_t taken = atomic_load(&helpers->taken);
        usleep(least ? RELIEF_LEAST_US : RELIEF_US);
        /* A post is a job: nobody is told to end before us. */
        for (; atomic_load(&helpers->taken) == taken && sem_trywait(&helpers->posts) == 0; taken++)
            run(helpers, take(helpers));
    }
    return NULL;
}

/* reserve takes jobs as long as there are too many. */
static void *reserve(void *argument)
{
    struct helpers *helpers = argument;
    pthread_setname_np(pthread_self(), "ringmx-helper");
    while (!atomic_load(&helpers->stopping)) {
        bool much = helpers_waiting(helpers) > BACKLOG;
        if (much && sem_trywait(&helpers->posts) == 0)
            run(helpers, take(helpers));
        else /* those that wait are running, if there are so many helpers */
            bell_wait(&helpers->backlog, much ? RESERVE_US : UINT64_MAX);
    }
    return NULL;
}
