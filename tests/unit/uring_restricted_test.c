/* What a ring may be asked for, and what not: a process that was taken over could do by requests
 * what the filter of system calls forbids. Here stands all of uring.c, to ask for what it never
 * does. */
#include "gateway/io/uring.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct uring *ring;

static int begin(void **state)
{
    int error;
    struct uring_options options = {.entries = 8, .cq_entries = 64};
    (void)state;
    ring = uring_new(&options, &error);
    return ring == NULL ? -1 : 0;
}

static int end(void **state)
{
    (void)state;
    uring_free(ring);
    return 0;
}

/* The result of a request that was put together by hand. */
static int result_of(struct io_uring_sqe *sqe)
{
    struct completion completion = {0};
    io_uring_sqe_set_data64(sqe, tag_make(REQUEST_SEND, 0, 0));
    assert_int_equal(uring_wait(ring, 1000000, &completion, 1), 1);
    return completion.result;
}

static void forbidden_requests(void **state)
{
    static const uint8_t requests[] = {
        IORING_OP_OPENAT,       IORING_OP_OPENAT2,         IORING_OP_READ,
        IORING_OP_WRITE,        IORING_OP_READV,           IORING_OP_WRITEV,
        IORING_OP_RENAMEAT,     IORING_OP_UNLINKAT,        IORING_OP_MKDIRAT,
        IORING_OP_SYMLINKAT,    IORING_OP_LINKAT,          IORING_OP_STATX,
        IORING_OP_SPLICE,       IORING_OP_SOCKET,          IORING_OP_MSG_RING,
        IORING_OP_URING_CMD,    IORING_OP_EPOLL_CTL,       IORING_OP_FALLOCATE,
        IORING_OP_FILES_UPDATE, IORING_OP_SETXATTR,        IORING_OP_NOP,
        IORING_OP_RECVMSG,      IORING_OP_PROVIDE_BUFFERS,
    };
    (void)state;
    for (size_t i = 0; i < sizeof(requests); i++) {
        struct io_uring_sqe *sqe = take_sqe(ring);
        memset(sqe, 0, sizeof(*sqe));
        sqe->opcode = requests[i];
        if (result_of(sqe) != -EACCES)
            fail_msg("request %u is not forbidden", requests[i]);
    }
}

static void forbidden_flags(void **state)
{
    static const uint8_t flags[] = {IOSQE_FIXED_FILE, IOSQE_IO_LINK, IOSQE_ASYNC, IOSQE_IO_DRAIN};
    (void)state;
    for (size_t i = 0; i < sizeof(flags); i++) {
        struct io_uring_sqe *sqe = take_sqe(ring);
        io_uring_prep_poll_add(sqe, 0, POLLIN);
        sqe->flags = flags[i];
        if (result_of(sqe) != -EACCES)
            fail_msg("flags %u are not forbidden", flags[i]);
    }
}

static void forbidden_changes(void **state)
{
    static const unsigned changes[] = {IORING_REGISTER_BUFFERS,     IORING_REGISTER_FILES,
                                       IORING_REGISTER_EVENTFD,     IORING_REGISTER_PERSONALITY,
                                       IORING_REGISTER_IOWQ_AFF,    IORING_REGISTER_PROBE,
                                       IORING_REGISTER_FILES_UPDATE};
    (void)state;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        errno = 0;
        long result = syscall(__NR_io_uring_register, uring_descriptor(ring), changes[i], NULL, 0);
        if (result != -1 || errno != EACCES)
            fail_msg("change %u: %s", changes[i], strerror(errno));
    }
}

/* They were set before the ring was enabled, and can't be set anew. */
static void restrictions_stay(void **state)
{
    (void)state;
    assert_true(restrict_ring(uring_descriptor(ring)) < 0);
}

static void allowed_requests(void **state)
{
    static const uint8_t requests[] = {IORING_OP_ACCEPT,       IORING_OP_CLOSE,   IORING_OP_CONNECT,
                                       IORING_OP_RECV,         IORING_OP_SEND,    IORING_OP_SENDMSG,
                                       IORING_OP_ASYNC_CANCEL, IORING_OP_POLL_ADD};
    (void)state;
    for (size_t i = 0; i < sizeof(requests); i++) {
        struct io_uring_sqe *sqe = take_sqe(ring);
        memset(sqe, 0, sizeof(*sqe));
        sqe->opcode = requests[i];
        sqe->fd = -1;
        int result = result_of(sqe);
        if (result == -EACCES)
            fail_msg("request %u is forbidden", requests[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forbidden_requests), cmocka_unit_test(forbidden_flags),
        cmocka_unit_test(forbidden_changes),  cmocka_unit_test(restrictions_stay),
        cmocka_unit_test(allowed_requests),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
