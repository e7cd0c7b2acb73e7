/* The ring against the real kernel: every request, the ways multishots end, and wake-ups from other
 * threads. Each test runs with all that this kernel can do, and as on Linux 6.1. */
#include "gateway/io/uring.h"

#include "gateway/base/clock.h"
#include "gateway/io/buffers.h"
#include "gateway/io/listener.h"
#include "tests/support/twice.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_US = 5000000, BUFFERS = 8, BUFFER_SIZE = 256 };

static struct uring *make(void **state)
{
    struct uring_options options = {.entries = 64, .cq_entries = 256, .baseline = *state != NULL};
    int error = 0;
    struct uring *ring = uring_new(&options, &error);
    assert_int_equal(error, 0);
    assert_non_null(ring);
    assert_int_equal(uring_in_kernel(ring), 0);
    if (options.baseline) {
        assert_false(uring_features(ring)->message_register);
    }
    return ring;
}

/* done ends a test: the kernel owes nothing, and nothing has overflowed. */
static void done(struct uring *ring)
{
    assert_int_equal(uring_in_kernel(ring), 0);
    assert_int_equal(uring_overflows(ring), 0);
    uring_free(ring);
}

/* next waits for one completion. */
static struct completion next(struct uring *ring)
{
    struct completion completion;
    uint64_t end_us = clock_monotonic_us() + PATIENCE_US;
    int count;
    while ((count = uring_wait(ring, PATIENCE_US, &completion, 1)) == 0)
        assert_true(clock_monotonic_us() < end_us);
    assert_int_equal(count, 1);
    return completion;
}

static void expect(struct uring *ring, uint64_t tag, int result, bool more)
{
    struct completion completion = next(ring);
    assert_int_equal(completion.tag, tag);
    assert_int_equal(completion.result, result);
    assert_int_equal((completion.flags & COMPLETION_MORE) != 0, more);
}

static void pair(int ends[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
}

static void tags(void **state)
{
    (void)state;
    for (enum request kind = REQUEST_ACCEPT; kind <= REQUEST_WAKE; kind++) {
        uint64_t tag = tag_make(kind, 0xabcdef, 0x12345678);
        assert_int_equal(tag_kind(tag), kind);
        assert_int_equal(tag_generation(tag), 0xabcdef);
        assert_int_equal(tag_slot(tag), 0x12345678);
    }
    assert_int_equal(tag_generation(tag_make(REQUEST_SEND, 0xff000001, 0)), 1); /* 24 bits */
    assert_int_equal(tag_slot(tag_make(REQUEST_SEND, 0xffffffff, 0xffffffff)), 0xffffffff);
}

static void available(void **state)
{
    (void)state;
    char message[512] = "untouched";
    assert_true(uring_check(message, sizeof(message)));
    assert_string_equal(message, "untouched");
}

static void waiting_ends(void **state)
{
    struct uring *ring = make(state);
    struct completion completion;
    uint64_t start_us = clock_monotonic_us();
    assert_int_equal(uring_wait(ring, 0, &completion, 1), 0);
    assert_in_range(clock_monotonic_us() - start_us, 0, 50000);
    start_us = clock_monotonic_us();
    assert_int_equal(uring_wait(ring, 60000, &completion, 1), 0);
    assert_in_range(clock_monotonic_us() - start_us, 59000, 500000);
    done(ring);
}

static void sends_and_closes(void **state)
{
    struct uring *ring = make(state);
    int ends[2];
    char got[16] = "";
    pair(ends);
    uint64_t send = tag_make(REQUEST_SEND, 1, 0);
    uring_send(ring, send, ends[0], "hello", 5);
    assert_int_equal(uring_in_kernel(ring), 1);
    expect(ring, send, 5, false);
    assert_int_equal(read(ends[1], got, sizeof(got)), 5);
    assert_string_equal(got, "hello");
    close(ends[1]);
    uring_send(ring, send, ends[0], "nobody", 6);
    expect(ring, send, -EPIPE, false); /* and no signal */
    uint64_t close_tag = tag_make(REQUEST_CLOSE, 0, 0);
    uring_close(ring, close_tag, ends[0]);
    expect(ring, close_tag, 0, false);
    assert_int_equal(close(ends[0]), -1);
    uring_close(ring, close_tag, ends[0]);
    expect(ring, close_tag, -EBADF, false);
    done(ring);
}

/* More requests than the queue holds: they go to the kernel in between, none is lost. */
static void more_than_the_queue(void **state)
{
    enum { COUNT = 200 };
    struct uring *ring = make(state);
    int ends[2];
    pair(ends);
    for (uint32_t i = 0; i < COUNT; i++)
        uring_send(ring, tag_make(REQUEST_SEND, 1, i), ends[0], "x", 1);
    assert_int_equal(uring_in_kernel(ring), COUNT);
    bool seen[COUNT] = {false};
    for (uint32_t i = 0; i < COUNT; i++) {
        struct completion completion = next(ring);
        assert_int_equal(completion.result, 1);
        assert_false(seen[tag_slot(completion.tag)]);
        seen[tag_slot(completion.tag)] = true;
    }
    char got[COUNT + 1];
    assert_int_equal(read(ends[1], got, sizeof(got)), COUNT);
    close(ends[0]);
    close(ends[1]);
    done(ring);
}

static void receives(void **state)
{
    struct uring *ring = make(state);
    struct buffers buffers;
    int ends[2];
    pair(ends);
    assert_int_equal(buffers_init(&buffers, ring, BUFFERS, BUFFER_SIZE), 0);
    assert_int_equal(buffers.given, BUFFERS);
    uint64_t tag = tag_make(REQUEST_RECEIVE, 1, 7);
    uring_receive_multishot(ring, tag, ends[0]);
    for (int i = 0; i < 100; i++) { /* many times round the ring of buffers */
        char text[16];
        int len = snprintf(text, sizeof(text), "text %d", i);
        assert_int_equal(write(ends[1], text, (size_t)len), len);
        struct completion completion = next(ring);
        assert_int_equal(completion.tag, tag);
        assert_int_equal(completion.result, len);
        assert_int_equal(completion.flags, COMPLETION_MORE | COMPLETION_BUFFER);
        buffers_taken(&buffers);
        assert_memory_equal(buffers_data(&buffers, completion.buffer), text, (size_t)len);
        buffers_give(&buffers, completion.buffer);
        buffers_lend(&buffers);
        assert_int_equal(uring_in_kernel(ring), 1);
    }
    close(ends[1]);
    struct completion completion = next(ring); /* the farewell ends the multishot */
    assert_int_equal(completion.result, 0);
    assert_int_equal(completion.flags & COMPLETION_MORE, 0);
    if (completion.flags & COMPLETION_BUFFER) {
        buffers_taken(&buffers);
        buffers_give(&buffers, completion.buffer);
        buffers_lend(&buffers);
    }
    close(ends[0]);
    assert_int_equal(buffers.given, BUFFERS);
    assert_int_equal(uring_in_kernel(ring), 0);
    uring_free(ring);
    buffers_cleanup(&buffers);
}

static void out_of_buffers(void **state)
{
    struct uring *ring = make(state);
    struct buffers buffers;
    int ends[2];
    char text[BUFFER_SIZE * (BUFFERS + 2)];
    uint16_t held[BUFFERS];
    pair(ends);
    memset(text, 'x', sizeof(text));
    assert_int_equal(buffers_init(&buffers, ring, BUFFERS, BUFFER_SIZE), 0);
    uint64_t tag = tag_make(REQUEST_RECEIVE, 1, 7);
    uring_receive_multishot(ring, tag, ends[0]);
    assert_int_equal(write(ends[1], text, sizeof(text)), sizeof(text));
    uint32_t count = 0;
    struct completion completion;
    while ((completion = next(ring)).flags & COMPLETION_BUFFER) {
        assert_in_range(count, 0, BUFFERS - 1);
        buffers_taken(&buffers);
        held[count++] = completion.buffer;
        if (!(completion.flags & COMPLETION_MORE))
            uring_receive_multishot(ring, tag, ends[0]);
    }
    assert_int_equal(completion.result, -ENOBUFS);
    assert_int_equal(completion.flags & COMPLETION_MORE, 0);
    assert_int_equal(count, BUFFERS);
    assert_int_equal(buffers.given, 0);
    buffers_give(&buffers, held[--count]);
    buffers_lend(&buffers);
    uring_receive_multishot(ring, tag, ends[0]); /* it goes on where it stopped */
    completion = next(ring);
    assert_int_equal(completion.result, BUFFER_SIZE);
    assert_true(completion.flags & COMPLETION_BUFFER);
    close(ends[1]);
    while (uring_in_kernel(ring) > 0)
        (void)next(ring);
    close(ends[0]);
    uring_free(ring);
    buffers_cleanup(&buffers);
}

/* Few buffers are lent, the one that came home last first; more when they did not suffice. */
static void lends_few(void **state)
{
    struct uring *ring = make(state);
    struct buffers buffers;
    assert_int_equal(buffers_init(&buffers, ring, 256, BUFFER_SIZE), 0);
    uint32_t few = buffers.given;
    assert_in_range(few, 1, 128);
    assert_int_equal(few + buffers.home_count, 256);
    int ends[2];
    pair(ends);
    uring_receive_multishot(ring, tag_make(REQUEST_RECEIVE, 1, 7), ends[0]);
    for (uint32_t i = 0; i < 10 * few; i++) {
        assert_int_equal(write(ends[1], "x", 1), 1);
        struct completion completion = next(ring);
        assert_true(completion.flags & COMPLETION_BUFFER);
        assert_true(completion.buffer >= 256 - few); /* the others are never touched */
        buffers_taken(&buffers);
        buffers_give(&buffers, completion.buffer);
        buffers_lend(&buffers);
        assert_int_equal(buffers.given, few);
    }
    for (uint32_t lent = few; lent < 256; lent *= 2) {
        buffers_starved(&buffers);
        buffers_lend(&buffers);
        assert_int_equal(buffers.given, 2 * lent);
    }
    buffers_starved(&buffers);
    buffers_lend(&buffers);
    assert_int_equal(buffers.given, 256);
    close(ends[1]);
    while (uring_in_kernel(ring) > 0)
        (void)next(ring);
    close(ends[0]);
    uring_free(ring);
    buffers_cleanup(&buffers);
}

static void cancels(void **state)
{
    struct uring *ring = make(state);
    struct buffers buffers;
    int ends[2];
    pair(ends);
    assert_int_equal(buffers_init(&buffers, ring, BUFFERS, BUFFER_SIZE), 0);
    uint64_t receive = tag_make(REQUEST_RECEIVE, 3, 7);
    uint64_t cancel = tag_make(REQUEST_CANCEL, 3, 7);
    uring_receive_multishot(ring, receive, ends[0]);
    struct completion completion;
    assert_int_equal(uring_wait(ring, 1000, &completion, 1), 0);
    uring_cancel(ring, cancel, receive);
    for (int i = 0; i < 2; i++) { /* two answers, in any order */
        completion = next(ring);
        if (completion.tag == receive)
            assert_int_equal(completion.result, -ECANCELED);
        else
            assert_int_equal(completion.tag, cancel);
    }
    assert_int_equal(uring_in_kernel(ring), 0);
    uring_cancel(ring, cancel, receive); /* of something that is not there */
    expect(ring, cancel, -ENOENT, false);
    uring_receive_multishot(ring, receive, ends[0]);
    uring_cancel(ring, cancel, tag_make(REQUEST_RECEIVE, 5, 7)); /* another generation */
    expect(ring, cancel, -ENOENT, false);
    assert_int_equal(write(ends[1], "still", 5), 5);
    completion = next(ring);
    assert_int_equal(completion.result, 5);
    close(ends[1]);
    while (uring_in_kernel(ring) > 0)
        (void)next(ring);
    close(ends[0]);
    uring_free(ring);
    buffers_cleanup(&buffers);
}

/* A send that the peer does not read is held by the kernel until it is cancelled. */
static void cancels_a_send(void **state)
{
    enum { LEN = 4 << 20 };
    struct uring *ring = make(state);
    int ends[2];
    char *text = calloc(1, LEN);
    pair(ends);
    uint64_t send = tag_make(REQUEST_SEND, 1, 1);
    struct completion completion;
    uint32_t short_sends = 0;
    do { /* what fits goes first */
        uring_send(ring, send, ends[0], text, LEN);
        int count = uring_wait(ring, 50000, &completion, 1);
        assert_in_range(count, 0, 1);
        if (count == 0)
            break;
        assert_in_range(completion.result, 1, LEN - 1);
    } while (++short_sends < 100);
    assert_int_equal(uring_in_kernel(ring), 1);
    uint64_t cancel = tag_make(REQUEST_CANCEL, 1, 1);
    uring_cancel(ring, cancel, send);
    bool cancelled = false;
    for (int i = 0; i < 2; i++) {
        completion = next(ring);
        if (completion.tag == send)
            cancelled = completion.result == -ECANCELED;
    }
    assert_true(cancelled);
    close(ends[0]);
    close(ends[1]);
    free(text);
    done(ring);
}

static void accepts(void **state)
{
    struct uring *ring = make(state);
    union address_any address;
    assert_true(listener_parse("127.0.0.1:0", &address));
    int listener = listener_open(&address);
    uint64_t tag = tag_make(REQUEST_ACCEPT, 0, 0);
    uring_accept_multishot(ring, tag, listener);
    for (int i = 0; i < 20; i++) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        struct completion completion;
        assert_int_equal(uring_wait(ring, 0, &completion, 1), 0);
        assert_int_equal(connect(client, &address.any, sizeof(address.v4)), 0);
        completion = next(ring);
        assert_int_equal(completion.tag, tag);
        assert_true(completion.result >= 0);
        assert_int_equal(completion.flags, COMPLETION_MORE);
        assert_int_equal(send(completion.result, "hi", 2, 0), 2);
        char got[2];
        assert_int_equal(recv(client, got, 2, MSG_WAITALL), 2);
        close(completion.result);
        close(client);
    }
    uring_cancel(ring, tag_make(REQUEST_CANCEL, 0, 0), tag);
    (void)next(ring);
    (void)next(ring);
    close(listener);
    done(ring);
}

/* --- wake-ups --- */

struct waker {
    int descriptor;
    bool message; /* else an eventfd */
};

static void wake(const struct waker *waker)
{
    uint64_t one = 1;
    if (waker->message)
        assert_int_equal(uring_message(waker->descriptor, tag_make(REQUEST_WAKE, 0, 1)), 0);
    else
        assert_int_equal(write(waker->descriptor, &one, sizeof(one)), sizeof(one));
}

static void *wake_later(void *argument)
{
    usleep(50000);
    wake(argument);
    return NULL;
}

static void wakes(void **state)
{
    struct uring *ring = make(state);
    struct waker waker = {.message = uring_features(ring)->message_register};
    int event = eventfd(0, EFD_NONBLOCK);
    uring_poll_multishot(ring, tag_make(REQUEST_WAKE, 0, 0), event);
    waker.descriptor = waker.message ? uring_descriptor(ring) : event;
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        uint64_t start_us = clock_monotonic_us();
        pthread_create(&thread, NULL, wake_later, &waker);
        struct completion completion = next(ring);
        assert_in_range(clock_monotonic_us() - start_us, 49000, 1000000);
        assert_int_equal(completion.tag, tag_make(REQUEST_WAKE, 0, waker.message));
        pthread_join(thread, NULL);
        if (!waker.message && !(completion.flags & COMPLETION_MORE))
            uring_poll_multishot(ring, tag_make(REQUEST_WAKE, 0, 0), event);
        wake(&waker); /* one that comes while nobody waits is there at the next look */
        completion = next(ring);
        assert_int_equal(tag_kind(completion.tag), REQUEST_WAKE);
    }
    assert_int_equal(uring_in_kernel(ring), 0); /* wake-ups are nobody's debt */
    uring_free(ring);
    close(event);
}

static void message_to_nobody(void **state)
{
    (void)state;
    assert_true(uring_message(-1, 1) < 0);
    assert_true(uring_message(STDERR_FILENO, 1) < 0); /* not a ring */
}

/* Completions beyond the array are there at the next call. */
static void array_is_filled(void **state)
{
    struct uring *ring = make(state);
    int ends[2];
    struct completion completions[10];
    pair(ends);
    for (uint32_t i = 0; i < 25; i++)
        uring_send(ring, tag_make(REQUEST_SEND, 1, i), ends[0], "x", 1);
    assert_int_equal(uring_wait(ring, PATIENCE_US, completions, 10), 10);
    assert_int_equal(uring_in_kernel(ring), 15);
    assert_int_equal(uring_wait(ring, 0, completions, 10), 10);
    assert_int_equal(uring_wait(ring, 0, completions, 10), 5);
    close(ends[0]);
    close(ends[1]);
    done(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags),
        cmocka_unit_test(available),
        TWICE(waiting_ends),
        TWICE(sends_and_closes),
        TWICE(more_than_the_queue),
        TWICE(receives),
        TWICE(out_of_buffers),
        TWICE(lends_few),
        TWICE(cancels),
        TWICE(cancels_a_send),
        TWICE(accepts),
        TWICE(wakes),
        TWICE(message_to_nobody),
        TWICE(array_is_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
