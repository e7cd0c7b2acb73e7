/* Post between workers and other threads: everything arrives once, in the order of each sender, in
 * the worker's thread, which wakes for it, and does not end while it expects any. Each runs with
 * what this kernel can do and with what Linux 6.1 can. */
#include "gateway/io/post.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "tests/support/turner.h"
#include "tests/support/twice.h"

enum { PATIENCE_MS = 20000 };

/* A worker in a thread of its own. */
struct office {
    struct turner *turner; /* made and freed by the thread */
    bool baseline;
    pthread_t thread;
    _Atomic bool ready;
    struct post stop;
    bool stopping;
    void (*begin)(struct office *office); /* in the thread, before the first turn; may be NULL */
    void *user;
};

static bool told_to_stop(struct turner *turner)
{
    struct office *office = turner->user;
    return office->stopping;
}

static void stop(struct post *post, struct worker *worker)
{
    struct turner *turner = (struct turner *)(void *)worker; /* its first member */
    struct office *office = turner->user;
    CHECK(post == &office->stop);
    office->stopping = true;
}

static void *work(void *argument)
{
    struct office *office = argument;
    office->turner = turner_new(office->baseline);
    office->turner->user = office;
    if (office->begin != NULL)
        office->begin(office);
    atomic_store(&office->ready, true);
    CHECK(turner_run(office->turner, told_to_stop, PATIENCE_MS));
    turner_free(office->turner);
    return NULL;
}

static void office_open(struct office *office, void *const *state)
{
    office->baseline = *state != NULL;
    CHECK(pthread_create(&office->thread, NULL, work, office) == 0);
    while (!atomic_load(&office->ready))
        usleep(100);
}

/* office_close tells it to stop, and waits until the worker has ended. */
static void office_close(struct office *office)
{
    office->stop.arrived = stop;
    post_send(&office->turner->worker, &office->stop);
    pthread_join(office->thread, NULL);
}

/* --- many senders, one worker --- */

enum { SENDERS = 4, LETTERS = 5000 };

struct letter {
    struct post post; /* first: what `arrived` is given */
    struct office *to;
    uint32_t sender, number;
};

static uint32_t next_number[SENDERS]; /* of the receiving thread */
static _Atomic uint32_t arrived_count;

static void note_letter(struct post *post, struct worker *worker)
{
    struct letter *letter = (struct letter *)(void *)post;
    CHECK(worker == &letter->to->turner->worker);
    CHECK(pthread_equal(pthread_self(), letter->to->thread));
    CHECK(letter->number == next_number[letter->sender]++);
    free(letter); /* it is ours again */
    atomic_fetch_add(&arrived_count, 1);
}

struct sender {
    pthread_t thread;
    struct office *to;
    uint32_t index;
};

static void *send_letters(void *argument)
{
    const struct sender *sender = argument;
    for (uint32_t i = 0; i < LETTERS; i++) {
        struct letter *letter = calloc(1, sizeof(*letter));
        CHECK(letter != NULL);
        letter->post.arrived = note_letter;
        letter->to = sender->to;
        letter->sender = sender->index;
        letter->number = i;
        post_send(&sender->to->turner->worker, &letter->post);
        if (i % 1000 == 0)
            usleep(1000); /* so that the worker falls asleep now and then */
    }
    return NULL;
}

static void each_once_in_order(void **state)
{
    struct office office = {0};
    struct sender senders[SENDERS];
    memset(next_number, 0, sizeof(next_number));
    atomic_store(&arrived_count, 0);
    office_open(&office, state);
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i].to = &office;
        senders[i].index = i;
        CHECK(pthread_create(&senders[i].thread, NULL, send_letters, &senders[i]) == 0);
    }
    for (uint32_t i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    /* The worker is told to stop while letters wait: those that were sent arrive first. */
    office_close(&office);
    assert_int_equal(atomic_load(&arrived_count), SENDERS * LETTERS);
}

/* --- a worker asleep --- */

static _Atomic uint64_t arrived_us;

static void note_time(struct post *post, struct worker *worker)
{
    (void)post;
    (void)worker;
    atomic_store(&arrived_us, clock_monotonic_us());
}

static void wakes(void **state)
{
    struct office office = {0};
    office_open(&office, state);
    uint64_t least_us = UINT64_MAX;
    for (int i = 0; i < 10; i++) {
        struct post post = {.arrived = note_time};
        usleep(5000); /* it sleeps, for 20 s if nobody wakes it */
        atomic_store(&arrived_us, 0);
        uint64_t sent_us = clock_monotonic_us();
        post_send(&office.turner->worker, &post);
        while (atomic_load(&arrived_us) == 0 && clock_monotonic_us() < sent_us + 10 * 1000000)
            usleep(100);
        uint64_t took_us = atomic_load(&arrived_us) - sent_us;
        least_us = took_us < least_us ? took_us : least_us;
    }
    assert_true(least_us < 1000 * 1000);
    office_close(&office);
}

/* --- its own post --- */

struct echo_post {
    struct post post; /* first */
    struct office *office;
    uint64_t turn; /* when it was sent last */
    uint32_t rounds;
    bool within;
};

static void send_again(struct post *post, struct worker *worker)
{
    struct echo_post *own = (struct echo_post *)(void *)post;
    CHECK(!own->within && worker->turns > own->turn);
    worker_received(worker);
    if (own->rounds-- == 0)
        return;
    own->within = true;
    own->turn = worker->turns;
    worker_expect(worker);
    post_send(worker, post);
    own->within = false;
}

static void send_to_itself(struct office *office)
{
    struct echo_post *own = office->user;
    worker_expect(&office->turner->worker);
    own->rounds = 100;
    office->turner->worker.turns = 1; /* later than the turn when it was sent: 0 */
    post_send(&office->turner->worker, &own->post);
}

static void to_itself(void **state)
{
    struct echo_post own = {.post = {.arrived = send_again}};
    struct office office = {.begin = send_to_itself, .user = &own};
    own.office = &office;
    office_open(&office, state);
    office_close(&office); /* which waits for all rounds */
    assert_int_equal(own.rounds, UINT32_MAX);
}

/* --- there and back --- */

enum { QUESTIONS = 2000 };

struct question {
    struct post post; /* first */
    struct office *asker, *server;
    struct office *other; /* where it goes on from the server, before it goes back; or NULL */
    uint32_t stops;
};

static _Atomic uint32_t answers;

static void answer(struct post *post, struct worker *worker)
{
    struct question *question = (struct question *)(void *)post;
    CHECK(worker == &question->asker->turner->worker);
    CHECK(question->stops == (question->other == NULL ? 1 : 2));
    worker_received(worker);
    atomic_fetch_add(&answers, 1);
}

static void serve(struct post *post, struct worker *worker)
{
    struct question *question = (struct question *)(void *)post;
    CHECK(worker != &question->asker->turner->worker);
    bool on = question->stops++ == 0 && question->other != NULL;
    if (!on)
        post->arrived = answer;
    post_send(on ? &question->other->turner->worker : &question->asker->turner->worker, post);
}

static struct question questions[QUESTIONS];

static void ask_all(struct post *post, struct worker *worker)
{
    (void)post;
    for (uint32_t i = 0; i < QUESTIONS; i++) {
        worker_expect(worker);
        post_send(&questions[i].server->turner->worker, &questions[i].post);
    }
}

static void there_and_back(void **state)
{
    struct office asker = {0};
    struct office servers[2] = {{0}, {0}};
    office_open(&asker, state);
    office_open(&servers[0], state);
    office_open(&servers[1], state);
    atomic_store(&answers, 0);
    for (uint32_t i = 0; i < QUESTIONS; i++)
        questions[i] = (struct question){
            .post = {.arrived = serve},
            .asker = &asker,
            .server = &servers[i % 2],
            .other = i % 3 == 0 ? &servers[1 - i % 2] : NULL,
        };
    struct post begin = {.arrived = ask_all};
    post_send(&asker.turner->worker, &begin);
    office_close(&asker); /* whose memory is gone as soon as it has the last answer */
    assert_int_equal(atomic_load(&answers), QUESTIONS);
    office_close(&servers[0]);
    office_close(&servers[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(each_once_in_order),
        TWICE(wakes),
        TWICE(to_itself),
        TWICE(there_and_back),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
