/* The echo server: see echo.h. */
#include "tests/support/echo.h"

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum echo_note {
    ECHO_RESUME = 1 << 0,
    ECHO_ABORT = 1 << 1,
    ECHO_STOP_ACCEPTING = 1 << 2,
    ECHO_LOOK = 1 << 3,
    ECHO_PING = 1 << 4,
    ECHO_STOP = 1 << 5,
    ECHO_ACCEPT_AGAIN = 1 << 6,
};

enum { ECHO_WAIT_MS = 5000 };

/* The owner of a stream. */
struct guest {
    struct echo *echo;
    bool parked;
    bool flooding;
    bool shy;     /* paused until some turn's end */
    bool secured; /* the handshake is done */
    bool gone;    /* closed was called: nothing may be called afterwards */
    uint64_t marker;
};

static void check_alive(struct guest *guest)
{
    if (guest->gone || guest->marker != 0x6775657374)
        atomic_fetch_add(&guest->echo->counts.late_callbacks, 1);
}

static void begin_tls(struct stream *stream, struct guest *guest, const char *last)
{
    struct worker *worker = &guest->echo->worker;
    const struct echo_options *options = &guest->echo->options;
    if (!stream_secure(worker, stream, options->tls, last, strlen(last))) {
        stream_abort(worker, stream);
        return;
    }
    CHECK(stream_room(worker, stream) == 0 && !stream_write(worker, stream, "x", 1));
    CHECK(stream_write(worker, stream, "", 0)); /* which is no record */
    if (options->shake_ms_max > 0)
        stream_set_deadline(worker, stream, worker->now_us + options->shake_ms_max * 1000);
}

static void opened(struct worker *worker, struct stream *stream, void *owner)
{
    struct guest *guest = owner;
    CHECK(guest->echo == NULL && guest->marker == 0); /* zeroed */
    guest->echo = worker->options.user;
    guest->marker = 0x6775657374;
    atomic_fetch_add(&guest->echo->counts.opened, 1);
    if (guest->echo->options.tls_first)
        begin_tls(stream, guest, "");
}

static size_t flood(struct worker *worker, struct stream *stream)
{
    char noise[512];
    memset(noise, 'n', sizeof(noise));
    while (stream_room(worker, stream) >= sizeof(noise))
        CHECK(stream_write(worker, stream, noise, sizeof(noise)));
    return 0; /* paused; writable comes when these have left */
}

/* obey carries out one command octet. False: it is none, and wants an echo. */
static bool obey(struct guest *guest, struct stream *stream, uint8_t command)
{
    struct worker *worker = &guest->echo->worker;
    switch (command) {
    case 'q':
        (void)stream_write(worker, stream, "bye\n", 4);
        stream_end(worker, stream);
        return true;
    case 'a': stream_abort(worker, stream); return true;
    case 'p':
        guest->parked = true;
        stream_pause(stream);
        atomic_fetch_add(&guest->echo->counts.paused, 1);
        return true;
    case 'd':
        stream_set_deadline(worker, stream, worker->now_us + ECHO_DEADLINE_MS * 1000);
        return true;
    case 'f': guest->flooding = true; return true;
    case 's':
        if (guest->echo->options.tls == NULL || stream_tls(stream) != NULL)
            return false;
        begin_tls(stream, guest, "go\n");
        return true;
    default: return false;
    }
}

static uint32_t draw(struct echo *echo)
{
    echo->options.shy = echo->options.shy * 1664525 + 1013904223;
    return echo->options.shy >> 16;
}

/* be_shy decides how many of `len` octets are taken before the next pause. */
static size_t be_shy(struct guest *guest, size_t len)
{
    struct echo *echo = guest->echo;
    if (draw(echo) % 2 == 0)
        return len;
    echo->shy_count += !guest->shy;
    guest->shy = true;
    return draw(echo) % (len + 1);
}

static size_t received(struct stream *stream, void *owner, const uint8_t *data, size_t len)
{
    struct guest *guest = owner;
    struct worker *worker = &guest->echo->worker;
    check_alive(guest);
    if (stream_tls(stream) != NULL && !guest->secured)
        atomic_fetch_add(&guest->echo->counts.late_callbacks, 1);
    size_t taken = 0;
    if (guest->echo->options.shy != 0)
        len = be_shy(guest, len);
    while (taken < len && stream->state == STREAM_OPEN && !stream->paused) {
        if (guest->flooding)
            return flood(worker, stream);
        if (!guest->echo->options.plain && obey(guest, stream, data[taken])) {
            taken++;
            continue;
        }
        if (stream_room(worker, stream) < 8) {
            if (!stream_sending(stream)) /* no memory, and nothing that would end */
                stream_abort(worker, stream);
            return taken; /* paused; writable comes */
        }
        CHECK(stream_write(worker, stream, data + taken, 1));
        taken++;
    }
    if (guest->shy && stream->state == STREAM_OPEN)
        stream_pause(stream);
    return taken;
}

static void writable(struct stream *stream, void *owner)
{
    struct guest *guest = owner;
    check_alive(guest);
    if (!guest->parked && !guest->shy)
        stream_resume(&guest->echo->worker, stream);
}

static void secured(struct stream *stream, void *owner)
{
    struct guest *guest = owner;
    check_alive(guest);
    if (guest->secured || !stream_is_secure(stream))
        atomic_fetch_add(&guest->echo->counts.late_callbacks, 1);
    guest->secured = true;
    atomic_fetch_add(&guest->echo->counts.secured, 1);
    stream_set_deadline(&guest->echo->worker, stream, 0);
    if (guest->echo->options.when_secured != 0)
        (void)obey(guest, stream, (uint8_t)guest->echo->options.when_secured);
}

static void timed_out(struct stream *stream, void *owner)
{
    struct guest *guest = owner;
    check_alive(guest);
    atomic_fetch_add(&guest->echo->counts.timed_out, 1);
    (void)stream_write(&guest->echo->worker, stream, "late\n", 5);
    stream_end(&guest->echo->worker, stream);
}

static void closed(struct stream *stream, void *owner, int error)
{
    struct guest *guest = owner;
    (void)stream;
    check_alive(guest);
    guest->gone = true;
    guest->echo->shy_count -= guest->shy;
    guest->shy = false;
    if (error == -EPROTO)
        atomic_fetch_add(&guest->echo->counts.insecure, 1);
    if (guest->parked)
        atomic_fetch_sub(&guest->echo->counts.paused, 1);
    atomic_store(&guest->echo->counts.last_error, error);
    atomic_fetch_add(&guest->echo->counts.closed, 1);
}

static bool accepted(void *user, int descriptor, const union address_any *peer)
{
    struct echo *echo = user;
    CHECK(peer->any.sa_family == AF_INET);
    if (echo->worker.slots.used < echo->worker.slots.count)
        return true;
    (void)!send(descriptor, "full\n", 5, MSG_NOSIGNAL | MSG_DONTWAIT);
    atomic_fetch_add(&echo->counts.refused, 1);
    return false;
}

static void look(struct echo *echo)
{
    uint32_t held = 0;
    uint32_t unreceived = 0;
    const struct list_node *head = &echo->worker.streams.head;
    for (struct list_node *node = head->next; node != head; node = node->next) {
        const struct stream *stream = list_entry(node, struct stream, all);
        held += stream->held_count;
        unreceived += !stream->receive_armed;
    }
    atomic_store(&echo->counts.held, held);
    atomic_store(&echo->counts.unreceived, unreceived);
    const struct buffers *buffers = &echo->worker.buffers;
    atomic_store(&echo->counts.given, buffers->given + buffers->home_count);
    atomic_store(&echo->counts.starvations, echo->worker.starvations);
    atomic_store(&echo->counts.turns, echo->worker.turns);
    atomic_store(&echo->counts.slots, echo->worker.slots.used);
    atomic_store(&echo->counts.jobs, echo->worker.expected);
}

static void for_each_stream(struct echo *echo, void (*act)(struct echo *, struct stream *))
{
    struct list_node *head = &echo->worker.streams.head;
    struct list_node *next;
    for (struct list_node *node = head->next; node != head; node = next) {
        next = node->next;
        act(echo, list_entry(node, struct stream, all));
    }
}

static void resume_one(struct echo *echo, struct stream *stream)
{
    struct guest *guest = stream_owner(stream);
    if (!guest->parked || guest->gone)
        return;
    guest->parked = false;
    atomic_fetch_sub(&echo->counts.paused, 1);
    if (!guest->shy)
        stream_resume(&echo->worker, stream);
}

static void abort_one(struct echo *echo, struct stream *stream)
{
    stream_abort(&echo->worker, stream);
}

static void noted(void *user, uint32_t notes)
{
    struct echo *echo = user;
    atomic_fetch_add(&echo->counts.notes, 1);
    if (notes & ECHO_RESUME)
        for_each_stream(echo, resume_one);
    if (notes & ECHO_ABORT)
        for_each_stream(echo, abort_one);
    if (notes & ECHO_STOP_ACCEPTING)
        worker_stop_accepting(&echo->worker);
    if (notes & ECHO_ACCEPT_AGAIN)
        worker_accept_again(&echo->worker);
    if (notes & ECHO_STOP)
        worker_stop(&echo->worker);
    if (notes & ECHO_LOOK)
        look(echo);
    if (notes & (ECHO_PING | ECHO_LOOK))
        atomic_store(&echo->ponged, atomic_load(&echo->pinged));
}

static void nothing(void *user)
{
    (void)user;
}

static void encourage(struct echo *echo, struct stream *stream)
{
    struct guest *guest = stream_owner(stream);
    if (!guest->shy || draw(echo) % 2 == 0)
        return;
    guest->shy = false;
    echo->shy_count--;
    if (!guest->parked)
        stream_resume(&echo->worker, stream);
}

static void turn_end(void *user)
{
    struct echo *echo = user;
    if (echo->shy_count > 0)
        for_each_stream(echo, encourage);
}

static bool may_sleep(void *user)
{
    struct echo *echo = user;
    return echo->shy_count == 0;
}

/* A job that keeps a helper busy: one for each thread that helpers_new(1) makes. */
struct busy_job {
    struct helper_job job;
    const _Atomic bool *busy;
};

static void stay_busy(struct helper_job *job)
{
    const struct busy_job *busy_job = list_entry(job, struct busy_job, job);
    while (atomic_load(busy_job->busy))
        usleep(500);
}

static void free_busy(struct helper_job *job)
{
    free(list_entry(job, struct busy_job, job));
}

static void keep_busy(struct echo *echo)
{
    for (int i = 0; i < 2 && echo->options.busy != NULL; i++) {
        struct busy_job *busy_job = malloc(sizeof(*busy_job));
        CHECK(busy_job != NULL);
        *busy_job = (struct busy_job){
            {.run = stay_busy, .done = free_busy, .worker = &echo->worker},
            echo->options.busy
        };
        helpers_submit(echo->options.helpers, &busy_job->job);
    }
}

static void count_leaks(struct echo *echo)
{
    const struct worker *worker = &echo->worker;
    const struct echo_counts *counts = &echo->counts;
    bool home = uring_in_kernel(worker->ring) == 0 && worker->slots.used == 0 &&
                worker->blocks.used == 0 && worker->records.used == 0 && worker->expected == 0 &&
                echo->shy_count == 0 &&
                worker->buffers.given + worker->buffers.home_count == worker->buffers.count &&
                list_empty(&worker->streams) && list_empty(&worker->dirty) &&
                list_empty(&worker->starved) && counts->opened == counts->closed &&
                counts->late_callbacks == 0 && echo->result == 0;
    if (!home)
        snprintf(echo->leaks, sizeof(echo->leaks),
                 "result %d, in kernel %u, slots %u, blocks %u, records %u, jobs %u, buffers %u of "
                 "%u, opened %u, "
                 "closed %u, late callbacks %u, starved %d",
                 echo->result, uring_in_kernel(worker->ring), worker->slots.used,
                 worker->blocks.used, worker->records.used, worker->expected,
                 worker->buffers.given + worker->buffers.home_count, worker->buffers.count,
                 counts->opened, counts->closed, counts->late_callbacks,
                 !list_empty(&worker->starved));
}

static void *serve(void *argument)
{
    struct echo *echo = argument;
    const char *what;
    struct worker_options options = {
        .cpu = -1,
        .streams_max = echo->options.streams_max != 0 ? echo->options.streams_max : 2048,
        .buffer_count = echo->options.buffer_count != 0 ? echo->options.buffer_count : 64,
        .buffer_size = echo->options.buffer_size != 0 ? echo->options.buffer_size : 4096,
        .owner_size = sizeof(struct guest),
        .baseline = echo->options.baseline,
        .listeners = &echo->listener,
        .listener_count = 1,
        .callbacks = {.opened = opened,
                      .received = received,
                      .writable = writable,
                      .secured = secured,
                      .timed_out = timed_out,
                      .closed = closed},
        .hooks = {.accepted = accepted,
                      .turn_end = turn_end,
                      .falling_asleep = may_sleep,
                      .awake = nothing,
                      .noted = noted      },
        .user = echo,
        .helpers = echo->options.helpers,
    };
    options.blocks_max =
        echo->options.blocks_max != 0 ? echo->options.blocks_max : options.streams_max * 2;
    options.records_max = echo->options.tls != NULL ? options.streams_max : 0;
    int error = worker_init(&echo->worker, &options, &what);
    atomic_store(&echo->ready, error < 0 ? error : 1);
    if (error < 0)
        return NULL;
    keep_busy(echo);
    echo->result = worker_run(&echo->worker);
    count_leaks(echo);
    worker_cleanup(&echo->worker);
    return NULL;
}

struct echo *echo_start(const struct echo_options *options)
{
    struct echo *echo = calloc(1, sizeof(*echo));
    CHECK(echo != NULL && listener_parse("127.0.0.1:0", &echo->address));
    echo->options = *options;
    echo->listener = listener_open(&echo->address);
    CHECK(echo->listener >= 0);
    CHECK(pthread_create(&echo->thread, NULL, serve, echo) == 0);
    while (atomic_load(&echo->ready) == 0)
        usleep(100);
    CHECK(atomic_load(&echo->ready) == 1);
    return echo;
}

const char *echo_stop(struct echo *echo)
{
    static char leaks[sizeof(echo->leaks)];
    worker_note(&echo->worker, ECHO_STOP);
    pthread_join(echo->thread, NULL);
    close(echo->listener);
    memcpy(leaks, echo->leaks, sizeof(leaks));
    free(echo);
    return leaks;
}

void echo_resume(struct echo *echo)
{
    worker_note(&echo->worker, ECHO_RESUME);
}

void echo_abort(struct echo *echo)
{
    worker_note(&echo->worker, ECHO_ABORT);
}

void echo_stop_accepting(struct echo *echo)
{
    worker_note(&echo->worker, ECHO_STOP_ACCEPTING);
    CHECK(echo_ping(echo));
    for (int i = 0; worker_listening(&echo->worker); i++) {
        CHECK(i < ECHO_WAIT_MS);
        usleep(1000);
    }
}

void echo_accept_again(struct echo *echo)
{
    worker_note(&echo->worker, ECHO_ACCEPT_AGAIN);
    CHECK(echo_ping(echo));
}

static bool ask(struct echo *echo, enum echo_note note)
{
    uint64_t number = atomic_fetch_add(&echo->pinged, 1) + 1;
    uint64_t end_us = clock_monotonic_us() + ECHO_WAIT_MS * 1000;
    worker_note(&echo->worker, note);
    while (atomic_load(&echo->ponged) < number)
        if (clock_monotonic_us() > end_us)
            return false;
        else
            usleep(20);
    return true;
}

void echo_look(struct echo *echo)
{
    CHECK(ask(echo, ECHO_LOOK));
}

bool echo_ping(struct echo *echo)
{
    return ask(echo, ECHO_PING);
}

bool echo_wait(const _Atomic uint32_t *count, uint32_t wanted)
{
    for (int i = 0; i < ECHO_WAIT_MS && atomic_load(count) < wanted; i++)
        usleep(1000);
    return atomic_load(count) >= wanted;
}

/* --- the client's end --- */

int echo_connect(const struct echo *echo)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = ECHO_WAIT_MS / 1000};
    CHECK(descriptor >= 0);
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    CHECK(connect(descriptor, &echo->address.any, sizeof(echo->address.v4)) == 0);
    return descriptor;
}

void echo_send(int descriptor, const void *data, size_t len)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t sent = send(descriptor, at, len, MSG_NOSIGNAL);
        CHECK(sent > 0);
        at += sent;
        len -= (size_t)sent;
    }
}
