/* io_uring through liburing: see uring.h. Debian's liburing 2.3 knows Linux 6.1; what is newer is
 * defined here under own names and probed before use. */
#include "gateway/io/uring.h"

#include "gateway/base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum newer_than_liburing_2_3 {
    REGISTER_SEND_MSG_RING = 31, /* 6.13 */
};

enum {
    MEMORY_TRIES = 100,
    MEMORY_TRY_US = 10 * 1000,
};

struct uring {
    struct io_uring ring;
    struct uring_features features;
    uint32_t in_kernel;
};

static bool probe_message_register(void)
{
    /* On a bad descriptor a kernel that knows the call answers EBADFD or EBADF, an older one
     * EINVAL. */
    struct io_uring_sqe sqe;
    memset(&sqe, 0, sizeof(sqe));
    sqe.opcode = IORING_OP_MSG_RING;
    sqe.fd = -1;
    long result = syscall(__NR_io_uring_register, -1, REGISTER_SEND_MSG_RING, &sqe, 1);
    return result == 0 || (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP);
}

/* restrict_ring lets a ring make these requests, for ever, and change only what stands here:
 * whoever takes the process over could otherwise do by requests (open, rename, ...) what seccomp
 * forbids, as they are no system calls. In force when the ring is enabled. */
static int restrict_ring(int descriptor)
{
    static const uint8_t requests[] = {
        IORING_OP_ACCEPT,   IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE, IORING_OP_CONNECT,
        IORING_OP_POLL_ADD, IORING_OP_RECV,         IORING_OP_SEND,  IORING_OP_SENDMSG,
    };
    static const uint8_t changes[] = {
        IORING_REGISTER_PBUF_RING,
        IORING_UNREGISTER_PBUF_RING,
        IORING_REGISTER_RING_FDS,
        IORING_UNREGISTER_RING_FDS,
    };
    enum { REQUESTS = sizeof(requests), CHANGES = sizeof(changes) };
    struct io_uring_restriction rules[REQUESTS + CHANGES + 1];
    memset(rules, 0, sizeof(rules));
    for (size_t i = 0; i < REQUESTS; i++) {
        rules[i].opcode = IORING_RESTRICTION_SQE_OP;
        rules[i].sqe_op = requests[i];
    }
    for (size_t i = 0; i < CHANGES; i++) {
        rules[REQUESTS + i].opcode = IORING_RESTRICTION_REGISTER_OP;
        rules[REQUESTS + i].register_op = changes[i];
    }
    rules[REQUESTS + CHANGES].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[REQUESTS + CHANGES].sqe_flags = IOSQE_BUFFER_SELECT;
    long result = syscall(__NR_io_uring_register, descriptor, IORING_REGISTER_RESTRICTIONS, rules,
                          REQUESTS + CHANGES + 1);
    return result < 0 ? -errno : 0;
}

static int ring_init(struct io_uring *ring, uint32_t entries, uint32_t cq_entries)
{
    /* Never NO_SQARRAY here: liburing 2.3 would write over the ring's header. R_DISABLED lets
     * restrictions be set before the first request, and ties SINGLE_ISSUER to the thread that
     * enables. */
    struct io_uring_params params = {
        .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                 IORING_SETUP_CLAMP,
        .cq_entries = cq_entries,
    };
    int result = io_uring_queue_init_params(entries, ring, &params);
    if (result < 0)
        return result;
    result = restrict_ring(ring->ring_fd);
    /* liburing 2.3 declares io_uring_enable_rings but its shared library does not have it. */
    if (result == 0 &&
        syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
        result = -errno;
    if (result < 0)
        io_uring_queue_exit(ring);
    return result;
}

struct uring *uring_new(const struct uring_options *options, int *error)
{
    struct uring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL) {
        *error = -ENOMEM;
        return NULL;
    }
    for (int tries = MEMORY_TRIES; tries > 0; tries--) {
        *error = ring_init(&ring->ring, options->entries, options->cq_entries);
        if (*error != -ENOMEM || tries == 1)
            break;
        usleep(MEMORY_TRY_US);
    }
    if (*error < 0) {
        free(ring);
        return NULL;
    }
    (void)io_uring_register_ring_fd(&ring->ring); /* saves a descriptor look-up; optional */
    if (!options->baseline)
        ring->features.message_register = probe_message_register();
    return ring;
}

uint64_t uring_octets(const struct uring_options *options)
{
    size_t page = 4096, head = 512; /* or more: a larger page makes it an estimate */
    uint64_t requests = options->entries * sizeof(struct io_uring_sqe);
    uint64_t rings = head + options->entries * sizeof(uint32_t) +
                     options->cq_entries * sizeof(struct io_uring_cqe);
    return (requests + page - 1) / page * page + (rings + page - 1) / page * page;
}

void uring_free(struct uring *ring)
{
    if (ring == NULL)
        return;
    io_uring_queue_exit(&ring->ring);
    free(ring);
}

/* sysctl_disabled reads kernel.io_uring_disabled: 0, 1 or 2; 0 when there is no such setting. */
static int sysctl_disabled(void)
{
    int value = 0;
    FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%d", &value) != 1)
        value = 0;
    fclose(file);
    return value;
}

static const char *remedy(int error)
{
    switch (error) {
    case -ENOSYS:
        return "the kernel has no io_uring, or a seccomp profile hides it: run Linux 6.1 or newer, "
               "and "
               "in a container allow io_uring_setup, io_uring_enter and io_uring_register";
    case -EPERM:
        if (sysctl_disabled() != 0)
            return "kernel.io_uring_disabled forbids it: sysctl -w kernel.io_uring_disabled=0";
        return "a seccomp profile forbids it: in a container allow io_uring_setup, io_uring_enter "
               "and io_uring_register";
    case -EACCES:
        return "a security module (SELinux, AppArmor) forbids it: allow io_uring for ringmx";
    case -EOPNOTSUPP:
        return "the sandbox (gVisor or the like) has no io_uring: use another runtime";
    case -EINVAL: return "this kernel lacks DEFER_TASKRUN: run Linux 6.1 or newer";
    case -ENOMEM: return "not enough (locked) memory: raise RLIMIT_MEMLOCK (ulimit -l)";
    case -EMFILE:
    case -ENFILE: return "no file descriptors left: raise RLIMIT_NOFILE (ulimit -n)";
    default: return "see errno";
    }
}

bool uring_check(char *message, size_t size)
{
    struct io_uring ring;
    int result = ring_init(&ring, 8, 16);
    if (result == 0) {
        io_uring_queue_exit(&ring);
        return true;
    }
    snprintf(message, size, "io_uring is not available (%s): %s", strerror(-result),
             remedy(result));
    return false;
}

const struct uring_features *uring_features(const struct uring *ring)
{
    return &ring->features;
}

int uring_descriptor(const struct uring *ring)
{
    return ring->ring.ring_fd;
}

uint32_t uring_in_kernel(const struct uring *ring)
{
    return ring->in_kernel;
}

uint32_t uring_overflows(const struct uring *ring)
{
    return *ring->ring.cq.koverflow;
}

int uring_register_buffers(struct uring *ring, void *ring_memory, uint32_t count)
{
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)ring_memory,
        .ring_entries = count,
        .bgid = 0,
    };
    return io_uring_register_buf_ring(&ring->ring, &registration, 0);
}

/* take_sqe may submit to make room, and never looks at completions: dispatching from here would
 * re-enter the caller. */
static struct io_uring_sqe *take_sqe(struct uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    for (int attempt = 0; sqe == NULL; attempt++) {
        if (attempt > 0)
            usleep(100); /* the kernel is short of memory: nothing can go on before it has some */
        (void)io_uring_submit(&ring->ring);
        sqe = io_uring_get_sqe(&ring->ring);
    }
    ring->in_kernel++;
    return sqe;
}

void uring_accept_multishot(struct uring *ring, uint64_t tag, int descriptor)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_multishot_accept(sqe, descriptor, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    io_uring_sqe_set_data64(sqe, tag);
}

/* into_provided_buffer lets the kernel choose a buffer of group 0 when data is there. */
static void into_provided_buffer(struct io_uring_sqe *sqe, uint64_t tag)
{
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    io_uring_sqe_set_data64(sqe, tag);
}

void uring_receive_multishot(struct uring *ring, uint64_t tag, int descriptor)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_recv_multishot(sqe, descriptor, NULL, 0, 0);
    into_provided_buffer(sqe, tag);
}

void uring_receive_once(struct uring *ring, uint64_t tag, int descriptor)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_recv(sqe, descriptor, NULL, 0, 0);
    into_provided_buffer(sqe, tag);
}

void uring_poll_multishot(struct uring *ring, uint64_t tag, int descriptor)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_poll_multishot(sqe, descriptor, POLLIN); /* multishot is edge-triggered */
    io_uring_sqe_set_data64(sqe, tag);
    ring->in_kernel--; /* not counted: see copy_completions */
}

void uring_poll_once(struct uring *ring, uint64_t tag, int descriptor, uint32_t events)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_poll_add(sqe, descriptor, events);
    io_uring_sqe_set_data64(sqe, tag);
    ring->in_kernel--;
}

void uring_send(struct uring *ring, uint64_t tag, int descriptor, const void *data, size_t len)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_send(sqe, descriptor, data, len, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, tag);
}

void uring_connect(struct uring *ring, uint64_t tag, int descriptor, const struct sockaddr *address,
                   socklen_t address_len)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_connect(sqe, descriptor, address, address_len);
    io_uring_sqe_set_data64(sqe, tag);
}

void uring_send_all(struct uring *ring, uint64_t tag, int descriptor, const void *data, size_t len)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_send(sqe, descriptor, data, len, MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data64(sqe, tag);
}

void uring_send_message(struct uring *ring, uint64_t tag, int descriptor,
                        const struct msghdr *message)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_sendmsg(sqe, descriptor, message, MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data64(sqe, tag);
}

void uring_cancel(struct uring *ring, uint64_t tag, uint64_t target)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_cancel64(sqe, target, 0);
    io_uring_sqe_set_data64(sqe, tag);
}

void uring_close(struct uring *ring, uint64_t tag, int descriptor)
{
    struct io_uring_sqe *sqe = take_sqe(ring);
    io_uring_prep_close(sqe, descriptor);
    io_uring_sqe_set_data64(sqe, tag);
}

int uring_message(int descriptor, uint64_t tag)
{
    struct io_uring_sqe sqe;
    memset(&sqe, 0, sizeof(sqe));
    sqe.opcode = IORING_OP_MSG_RING;
    sqe.fd = descriptor;
    sqe.off = tag;
    return syscall(__NR_io_uring_register, -1, REGISTER_SEND_MSG_RING, &sqe, 1) < 0 ? -errno : 0;
}

/* copy_completions advances the queue once for all. */
static int copy_completions(struct uring *ring, struct completion *out, uint32_t count)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    uint32_t taken = 0;
    io_uring_for_each_cqe(&ring->ring, head, cqe)
    {
        if (taken == count)
            break;
        struct completion *completion = &out[taken++];
        completion->tag = cqe->user_data;
        completion->result = cqe->res;
        completion->flags = 0;
        completion->buffer = 0;
        if (cqe->flags & IORING_CQE_F_BUFFER) {
            completion->flags = COMPLETION_BUFFER;
            completion->buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        }
        if (cqe->flags & IORING_CQE_F_MORE)
            completion->flags |= COMPLETION_MORE;
        else if (tag_kind(cqe->user_data) != REQUEST_WAKE &&
                 tag_kind(cqe->user_data) != REQUEST_POLL)
            ring->in_kernel--; /* a wake-up may be a message, which was never a request of ours */
    }
    io_uring_cq_advance(&ring->ring, taken);
    return (int)taken;
}

int uring_wait(struct uring *ring, uint64_t timeout_us, struct completion *out, uint32_t count)
{
    /* One call does it all: with DEFER_TASKRUN completions are only made while the thread asks for
     * events, so even a turn that must not sleep asks, with a time-out of nothing. */
    struct __kernel_timespec timeout = {
        .tv_sec = (long long)(timeout_us / 1000000),
        .tv_nsec = (long long)(timeout_us % 1000000) * 1000,
    };
    struct io_uring_cqe *first;
    int result;
    if (timeout_us == 0 && io_uring_cq_ready(&ring->ring) > 0)
        result =
            io_uring_submit(&ring->ring); /* first what is here: asking for more fills buffers */
    else if (timeout_us == 0)
        result = io_uring_submit_and_get_events(&ring->ring);
    else
        result = io_uring_submit_and_wait_timeout(&ring->ring, &first, 1,
                                                  timeout_us == UINT64_MAX ? NULL : &timeout, NULL);
    if (result < 0 && result != -ETIME && result != -EINTR && result != -EBUSY && result != -EAGAIN)
        return result;
    return copy_completions(ring, out, count);
}
