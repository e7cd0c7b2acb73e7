/* The per-core turn: see worker.h. */
#include "gateway/io/worker.h"

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/io/stream_inside.h"
#include "tls/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    RECORD_SIZE = (TLS_RECORD_MAX + 63) / 64 * 64,
    COMPLETIONS_A_TURN = 256,
    ACCEPT_RETRY_US = 250 * 1000, /* after descriptors ran out */
    SUBMISSION_ENTRIES = 1024,
    COMPLETION_ENTRIES =
        16384, /* several times what one turn can bring: an overflow slows everything */
};

/* --- accepting --- */

static bool is_armed(const struct worker *worker, uint32_t socket)
{
    return (worker->accepts_armed[socket / 64] & 1ull << socket % 64) != 0;
}

static void arm_accept(struct worker *worker, uint32_t socket)
{
    if (!worker->accepting || is_armed(worker, socket))
        return;
    worker->accepts_armed[socket / 64] |= 1ull << socket % 64;
    worker->accepts_armed_count++;
    uring_accept_multishot(worker->ring, tag_make(REQUEST_ACCEPT, 0, socket),
                           worker->options.listeners[socket]);
}

static void disarmed(struct worker *worker, uint32_t socket)
{
    CHECK(is_armed(worker, socket));
    worker->accepts_armed[socket / 64] &= ~(1ull << socket % 64);
    worker->accepts_armed_count--;
}

/* tell_listening: who waits for it may close the sockets when the last request is back. */
static void tell_listening(struct worker *worker)
{
    bool listening = worker->accepting || worker->accepts_armed_count > 0;
    atomic_store_explicit(&worker->listening, listening, memory_order_release);
}

static uint32_t listener_of(const struct worker *worker, uint32_t socket)
{
    return worker->options.listener_of == NULL ? socket : worker->options.listener_of[socket];
}

static void arm_accepts(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->options.listener_count; i++)
        arm_accept(worker, i);
}

static void open_stream(struct worker *worker, uint32_t socket, int descriptor)
{
    socklen_t len = sizeof(worker->accepted_address);
    worker->accepted_listener = listener_of(worker, socket);
    /* A multishot accept has one address for all connections, so each is asked for its own. */
    if (getpeername(descriptor, &worker->accepted_address.any, &len) != 0 ||
        !worker->options.hooks.accepted(worker->options.user, descriptor,
                                        &worker->accepted_address)) {
        close(descriptor);
        return;
    }
    uint32_t slot;
    struct stream *stream = slots_take(&worker->slots, &slot);
    CHECK(stream != NULL); /* the hook counts connections, and slots are as many */
    stream->slot = slot;
    stream->descriptor = descriptor;
    stream_start(worker, stream);
}

/* out_of_descriptors gives the reserve up for a moment, so that the client hears 421 instead of
 * silence. */
static void out_of_descriptors(struct worker *worker, uint32_t socket)
{
    static const char busy[] = "421 4.3.2 Too many connections, try again later\r\n";
    counter_add(&worker->shortages, 1);
    if (worker->reserve_descriptor >= 0) {
        close(worker->reserve_descriptor);
        int descriptor =
            accept4(worker->options.listeners[socket], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        bool silent = worker->options.silent_listeners & 1u << listener_of(worker, socket);
        if (descriptor >= 0 && !silent)
            (void)!send(descriptor, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (descriptor >= 0)
            close(descriptor);
    }
    worker->reserve_descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
    timer_start(&worker->timers, &worker->accept_timer, worker->now_us + ACCEPT_RETRY_US);
}

static void accept_done(struct worker *worker, uint32_t socket, int result, bool more)
{
    if (!more)
        disarmed(worker, socket);
    if (result >= 0) { /* although accepting may have ended since: the client knows nothing of it */
        open_stream(worker, socket, result);
    } else if (worker->accepting && result != -ECONNABORTED && result != -ECANCELED) {
        out_of_descriptors(worker, socket); /* or another error that lasts */
        return;                             /* the timer arms it again: at once would spin */
    }
    if (!more)
        arm_accept(worker, socket);
    tell_listening(worker);
}

/* --- dispatch --- */

/* Who posted a wake-up: the eventfd's poll, which must be armed again when it ends, or a message.
 */
enum wake_source { WAKE_POLL = 0, WAKE_MESSAGE = 1 };

static void arm_wake(struct worker *worker)
{
    uring_poll_multishot(worker->ring, tag_make(REQUEST_WAKE, 0, WAKE_POLL),
                         worker->wake_descriptor);
}

static struct stream *find_stream(struct worker *worker, uint64_t tag)
{
    return slots_find(&worker->slots, tag_slot(tag), tag_generation(tag));
}

static void dispatch(struct worker *worker, const struct completion *completion)
{
    uint64_t tag = completion->tag;
    bool more = completion->flags & COMPLETION_MORE;
    struct stream *stream;
    switch (tag_kind(tag)) {
    case REQUEST_ACCEPT: accept_done(worker, tag_slot(tag), completion->result, more); return;
    case REQUEST_RECEIVE:
        if (completion->flags & COMPLETION_BUFFER)
            buffers_taken(&worker->buffers);
        stream = find_stream(worker, tag);
        CHECK(stream != NULL);
        stream_receive_done(worker, stream, completion->result, completion->buffer,
                            completion->flags & COMPLETION_BUFFER, more);
        return;
    case REQUEST_SEND:
        stream = find_stream(worker, tag);
        CHECK(stream != NULL);
        stream_send_done(worker, stream, completion->result);
        return;
    case REQUEST_LEND:
        stream = find_stream(worker, tag);
        CHECK(stream != NULL);
        loan_send_done(worker, stream, completion->result);
        return;
    case REQUEST_CONNECT:
        stream = find_stream(worker, tag);
        CHECK(stream != NULL);
        stream_connect_done(worker, stream, completion->result);
        return;
    case REQUEST_CANCEL:
        if (tag_generation(tag) == 0)
            return; /* of an accept, or of a poll */
        stream = find_stream(worker, tag);
        CHECK(stream != NULL);
        stream_cancel_done(worker, stream);
        return;
    case REQUEST_CLOSE: return;
    case REQUEST_WAKE:
        if (!more && tag_slot(tag) == WAKE_POLL)
            arm_wake(worker);
        return;
    case REQUEST_POLL:
        watch_ready(worker, tag_slot(tag), tag_generation(tag), completion->result);
        return;
    case REQUEST_NONE: break;
    }
    CHECK(false);
}

static void fire_timers(struct worker *worker)
{
    struct timer *timer;
    while ((timer = timer_wheel_expired(&worker->timers, worker->now_us)) != NULL) {
        if (timer == &worker->accept_timer)
            arm_accepts(worker);
        else if (timer != &worker->starved_timer) /* that one only makes a turn */
            stream_timer_fired(worker, timer);
    }
}

/* flush walks the streams that were touched; those that are touched meanwhile come at the end of
 * the same walk. */
static void flush(struct worker *worker)
{
    struct list_node *node;
    while ((node = list_pop(&worker->dirty)) != NULL)
        stream_flush(worker, list_entry(node, struct stream, dirty));
}

static bool finished(const struct worker *worker)
{
    /* Closes and cancels count, too: what is only queued would never reach the kernel. And a helper
     * gives a job back even when its stream is gone. */
    return worker->stopping && list_empty(&worker->streams) &&
           (worker->expected == 0 || worker->leaving) && uring_in_kernel(worker->ring) == 0 &&
           atomic_load(&worker->posts) == NULL;
}

static void hear_notes(struct worker *worker)
{
    if (atomic_load_explicit(&worker->notes, memory_order_relaxed) == 0)
        return;
    uint32_t notes = atomic_exchange(&worker->notes, 0);
    if (notes != 0)
        worker->options.hooks.noted(worker->options.user, notes);
}

/* sleep_us tells how long the worker may sleep at most. */
static uint64_t sleep_us(const struct worker *worker)
{
    const struct worker_hooks *hooks = &worker->options.hooks;
    uint64_t timeout_us = timer_wheel_next(&worker->timers, worker->now_us);
    if (hooks->next_us == NULL)
        return timeout_us;
    uint64_t next_us = hooks->next_us(worker->options.user);
    if (next_us == UINT64_MAX)
        return timeout_us;
    uint64_t now_us = clock_monotonic_us(); /* the turn may have been long */
    uint64_t left_us = next_us > now_us ? next_us - now_us : 0;
    return left_us < timeout_us ? left_us : timeout_us;
}

/* publish shows other threads what a turn has come to. */
static void publish(struct worker *worker, uint64_t completions)
{
    counter_add(&worker->turns, 1);
    counter_add(&worker->completions, completions);
    atomic_store_explicit(&worker->overflows, uring_overflows(worker->ring), memory_order_relaxed);
    atomic_store_explicit(&worker->slots_used, worker->slots.used, memory_order_relaxed);
    atomic_store_explicit(&worker->blocks_used, worker->blocks.used, memory_order_relaxed);
    atomic_store_explicit(&worker->buffers_given, worker->buffers.given, memory_order_relaxed);
}

int worker_run(struct worker *worker)
{
    struct completion completions[COMPLETIONS_A_TURN];
    const struct worker_hooks *hooks = &worker->options.hooks;
    void *user = worker->options.user;
    bool full = false; /* the last look filled the array: there may be more */
    arm_accepts(worker);
    arm_wake(worker);
    while (!finished(worker)) {
        uint64_t timeout_us = full || worker->options.spin ? 0 : sleep_us(worker);
        bool asleep = timeout_us > 0 && hooks->falling_asleep(user);
        int count =
            uring_wait(worker->ring, asleep ? timeout_us : 0, completions, COMPLETIONS_A_TURN);
        if (asleep)
            hooks->awake(user);
        if (count < 0) {
            post_await(worker);
            return count;
        }
        full = count == COMPLETIONS_A_TURN;
        worker->now_us = clock_monotonic_us();
        worker->now_wall_us = clock_wall_us();
        for (int i = 0; i < count; i++)
            dispatch(worker, &completions[i]);
        post_hear(worker);
        hear_notes(worker);
        fire_timers(worker);
        hooks->turn_end(user);
        flush(worker);
        buffers_lend(&worker->buffers);
        stream_feed_starved(worker);
        publish(worker, (uint64_t)count);
    }
    return 0;
}

/* --- life --- */

static int make_parts(struct worker *worker, const char **what)
{
    const struct worker_options *options = &worker->options;
    int error;
    *what = "io_uring";
    struct uring_options ring_options = {
        .entries = SUBMISSION_ENTRIES,
        .cq_entries = COMPLETION_ENTRIES,
        .baseline = options->baseline,
    };
    worker->ring = uring_new(&ring_options, &error);
    if (worker->ring == NULL)
        return error;
    *what = "receive buffers";
    error =
        buffers_init(&worker->buffers, worker->ring, options->buffer_count, options->buffer_size);
    if (error < 0)
        return error;
    *what = "memory for connections";
    if (!slots_init(&worker->slots, sizeof(struct stream) + options->owner_size,
                    options->streams_max) ||
        !blocks_init(&worker->blocks, options->blocks_max))
        return -ENOMEM;
    if (options->records_max > 0 &&
        !blocks_init_sized(&worker->records, options->records_max, RECORD_SIZE))
        return -ENOMEM;
    *what = "descriptors";
    worker->wake_descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->reserve_descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return worker->wake_descriptor < 0 || worker->reserve_descriptor < 0 ? -errno : 0;
}

uint64_t worker_locked_octets(void)
{
    struct uring_options options = {.entries = SUBMISSION_ENTRIES,
                                    .cq_entries = COMPLETION_ENTRIES};
    return uring_octets(&options);
}

int worker_init(struct worker *worker, const struct worker_options *options, const char **what)
{
    CHECK(options->listener_count <= WORKER_SOCKETS_MAX);
    memset(worker, 0, sizeof(*worker));
    worker->options = *options;
    worker->wake_descriptor = worker->reserve_descriptor = -1;
    if (options->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)options->cpu, &set);
        (void)sched_setaffinity(0, sizeof(set), &set); /* a container may forbid it: only slower */
    }
    list_init(&worker->dirty);
    list_init(&worker->starved);
    list_init(&worker->streams);
    worker->now_us = clock_monotonic_us();
    worker->now_wall_us = clock_wall_us();
    timer_wheel_init(&worker->timers, worker->now_us);
    worker->accepting = true;
    tell_listening(worker);
    int error = make_parts(worker, what);
    if (error < 0) {
        worker_cleanup(worker);
        return error;
    }
    bool message = uring_features(worker->ring)->message_register;
    atomic_store(&worker->ring_descriptor, message ? uring_descriptor(worker->ring) : -1);
    CHECK(pthread_getcpuclockid(pthread_self(), &worker->cpu_clock) == 0);
    atomic_store(&worker->wakeable, true);
    return 0;
}

bool worker_listening(const struct worker *worker)
{
    return atomic_load_explicit(&worker->listening, memory_order_acquire);
}

void worker_cleanup(struct worker *worker)
{
    CHECK(worker->expected == 0);
    /* A thread that rings just now may not meet a descriptor that has become another file. */
    atomic_store(&worker->wakeable, false);
    while (atomic_load(&worker->waking) > 0)
        sched_yield();
    uring_free(worker->ring); /* first: the kernel may not write into what is freed next */
    worker->ring = NULL;
    atomic_store(&worker->listening, false);
    buffers_cleanup(&worker->buffers);
    slots_cleanup(&worker->slots);
    blocks_cleanup(&worker->blocks);
    blocks_cleanup(&worker->records);
    if (worker->reserve_descriptor >= 0)
        close(worker->reserve_descriptor);
    if (worker->wake_descriptor >= 0)
        close(worker->wake_descriptor);
    worker->reserve_descriptor = worker->wake_descriptor = -1;
}

void worker_stop_accepting(struct worker *worker)
{
    if (!worker->accepting)
        return;
    worker->accepting = false;
    timer_stop(&worker->timers, &worker->accept_timer);
    for (uint32_t i = 0; i < worker->options.listener_count; i++)
        if (is_armed(worker, i))
            uring_cancel(worker->ring, tag_make(REQUEST_CANCEL, 0, i),
                         tag_make(REQUEST_ACCEPT, 0, i));
    tell_listening(worker);
}

void worker_accept_again(struct worker *worker)
{
    CHECK(!worker->stopping);
    worker->accepting = true;
    tell_listening(worker);
    arm_accepts(worker); /* those whose cancel is under way are armed when it is done */
}

void worker_stop(struct worker *worker)
{
    worker_stop_accepting(worker);
    worker->stopping = true;
}

void worker_leave(struct worker *worker)
{
    worker_stop(worker);
    worker->leaving = true;
}

void *worker_connect(struct worker *worker, int descriptor, const struct sockaddr *address,
                     socklen_t address_len)
{
    uint32_t slot;
    struct stream *stream = slots_take(&worker->slots, &slot);
    if (stream == NULL)
        return NULL;
    stream->slot = slot;
    stream->descriptor = descriptor;
    stream_connect(worker, stream, address, address_len);
    return stream_owner(stream);
}

void worker_each_stream(struct worker *worker,
                        void (*act)(struct worker *worker, struct stream *stream))
{
    struct list_node *node = worker->streams.head.next;
    while (node != &worker->streams.head) {
        struct stream *stream = list_entry(node, struct stream, all);
        node = node->next;
        act(worker, stream);
    }
}

static void ring_bell(struct worker *worker)
{
    int descriptor = atomic_load_explicit(&worker->ring_descriptor, memory_order_relaxed);
    if (descriptor >= 0 && uring_message(descriptor, tag_make(REQUEST_WAKE, 0, WAKE_MESSAGE)) == 0)
        return;
    uint64_t one = 1;
    (void)!write(worker->wake_descriptor, &one, sizeof(one)); /* a full counter is awake already */
}

uint64_t worker_cpu_us(const struct worker *worker)
{
    struct timespec time;
    if (!atomic_load(&worker->wakeable) || clock_gettime(worker->cpu_clock, &time) != 0)
        return 0;
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

void worker_wake(struct worker *worker)
{
    atomic_fetch_add(&worker->waking, 1);
    if (atomic_load(&worker->wakeable))
        ring_bell(worker);
    atomic_fetch_sub(&worker->waking, 1);
}

void worker_note(struct worker *worker, uint32_t bits)
{
    atomic_fetch_or(&worker->notes, bits);
    worker_wake(worker);
}

void worker_unnote(struct worker *worker, uint32_t bits)
{
    atomic_fetch_and(&worker->notes, ~bits);
}
