/* Connections of our own to unix sockets (lmtp:unix:PATH): the same as over TCP, loans too, and
 * each way in which there is nobody. Each runs with what this kernel can do and with what Linux 6.1
 * can. */
#include "gateway/spool/crc.h"
#include "tests/support/host.h"
#include "tests/support/twice.h"
#include "tests/support/visitor.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/check.h"

enum { MUCH = 3 * 1000 * 1000 };

static struct sockaddr_un address;
static int listener;

static int open_socket(void)
{
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(descriptor >= 0);
    return descriptor;
}

static void listen_at(int backlog)
{
    address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/ringmx-unix-%d", getpid());
    unlink(address.sun_path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, backlog), 0);
}

static struct visitor *start(void **state)
{
    return visitor_new(&(struct visitor_options){.baseline = *state != NULL});
}

static struct visit *call(struct visitor *visitor)
{
    return visitor_call_at(visitor, open_socket(), (const struct sockaddr *)&address,
                           sizeof(address));
}

/* --- somebody is there --- */

/* What the other end heard, until the farewell. */
static struct {
    uint64_t count;
    uint32_t sum;
} heard;

static void *serve(void *argument)
{
    static uint8_t data[65536];
    (void)argument;
    int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(descriptor >= 0 && write(descriptor, "220 hello\r\n", 11) == 11);
    ssize_t len;
    while ((len = read(descriptor, data, sizeof(data))) > 0) {
        heard.sum = crc32c(heard.sum, data, (size_t)len);
        heard.count += (uint64_t)len;
    }
    CHECK(len == 0 && write(descriptor, "221 bye\r\n", 9) == 9);
    close(descriptor);
    return NULL;
}

static uint8_t *noise;

static size_t lend_all(struct visit *visit, const uint8_t *data, size_t len)
{
    (void)data;
    if (visit->got_len == 0) {
        visit_say(visit, "word");
        visit_lend(visit, noise, MUCH, 5);
        visit_end(visit);
    }
    return len;
}

static void talk_and_lend(void **state)
{
    pthread_t thread;
    memset(&heard, 0, sizeof(heard));
    noise = host_noise(MUCH);
    listen_at(4);
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    struct visitor *visitor = start(state);
    struct visit *visit = call(visitor);
    visit->on_received = lend_all;
    visitor_run(visitor);
    assert_int_equal(visit->opened, 1);
    assert_int_equal(visit->error, 0);
    assert_int_equal(visit->returned, 1);
    assert_memory_equal(visit->got, "220 hello\r\n", 11);
    pthread_join(thread, NULL);
    assert_int_equal(heard.count, 4 + MUCH);
    assert_int_equal(heard.sum, crc32c(crc32c(0, "word", 4), noise, MUCH));
    visitor_free(visitor);
    free(noise);
    close(listener);
    unlink(address.sun_path);
}

/* --- nobody is there --- */

static int error_of_call(void **state)
{
    struct visitor *visitor = start(state);
    struct visit *visit = call(visitor);
    visitor_run(visitor);
    assert_int_equal(visit->opened, 0);
    int error = visit->error;
    visitor_free(visitor);
    return error;
}

static void nobody(void **state)
{
    listen_at(4);
    close(listener);
    assert_int_equal(error_of_call(state), -ECONNREFUSED);
    unlink(address.sun_path);
    assert_int_equal(error_of_call(state), -ENOENT);
    close(open(address.sun_path, O_CREAT | O_CLOEXEC | O_WRONLY, 0600));
    assert_int_equal(error_of_call(state), -ECONNREFUSED); /* a file */
    unlink(address.sun_path);
}

/* Its queue is full: that is said at once, and no thread or turn waits for it. */
static void full(void **state)
{
    listen_at(0);
    int fillers[8];
    int count = 0;
    bool more = true;
    for (; more && count < 8; count += more) {
        fillers[count] = open_socket();
        more = connect(fillers[count], (const struct sockaddr *)&address, sizeof(address)) == 0;
        if (!more)
            close(fillers[count]);
    }
    assert_in_range(count, 1, 7);
    assert_int_equal(error_of_call(state), -EAGAIN);
    for (int i = 0; i < count; i++)
        close(fillers[i]);
    close(listener);
    unlink(address.sun_path);
}

static void given_up(struct visit *visit)
{
    visit_abort(visit);
}

/* The server accepts and says nothing; then it goes without reading. */
static void silent(void **state)
{
    listen_at(4);
    struct visitor *visitor = start(state);
    struct visit *visit = call(visitor);
    visit->on_timed_out = given_up;
    visit_deadline(visit, 50);
    visitor_run(visitor);
    assert_int_equal(visit->opened, 1);
    assert_int_equal(visit->timed_out, 1);
    visitor_free(visitor);
    close(listener);
    unlink(address.sun_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(talk_and_lend),
        TWICE(nobody),
        TWICE(full),
        TWICE(silent),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
