/* One io_uring: set-up, requests, completions. The only user of liburing. A ring belongs to the
 * thread that made it (SINGLE_ISSUER). Requests are queued and go to the kernel with the next
 * uring_wait, or earlier when the queue is full; handlers may queue requests, never dispatch
 * completions.
 *
 * A request that the kernel holds is a debt: what it points to must stay until its completion has
 * come. */
#ifndef GATEWAY_IO_URING_H
#define GATEWAY_IO_URING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum request {
    REQUEST_NONE = 0,
    REQUEST_ACCEPT = 1,
    REQUEST_RECEIVE = 2,
    REQUEST_SEND = 3,
    REQUEST_CANCEL = 4,
    REQUEST_CLOSE = 5,
    REQUEST_WAKE = 6, /* another thread rang: through MSG_RING, or the eventfd became readable */
    REQUEST_CONNECT = 7,
    REQUEST_LEND = 8, /* a send of what a stream has on loan */
    REQUEST_POLL = 9, /* of a watch */
};

/* A request's name in the kernel: kind(8) | generation(24) | slot(32). A completion comes back with
 * this word and nothing else. The generation tells a late answer from a current one. */
static inline uint64_t tag_make(enum request kind, uint32_t generation, uint32_t slot)
{
    return (uint64_t)kind << 56 | (uint64_t)(generation & 0xffffff) << 32 | slot;
}

static inline enum request tag_kind(uint64_t tag)
{
    return (enum request)(tag >> 56);
}

static inline uint32_t tag_generation(uint64_t tag)
{
    return (uint32_t)(tag >> 32) & 0xffffff;
}

static inline uint32_t tag_slot(uint64_t tag)
{
    return (uint32_t)tag;
}

enum completion_flags {
    COMPLETION_MORE = 1 << 0,   /* the multishot request goes on */
    COMPLETION_BUFFER = 1 << 1, /* `buffer` is set */
};

struct completion {
    uint64_t tag;
    int32_t result; /* >= 0, or -errno */
    uint16_t flags; /* enum completion_flags */
    uint16_t buffer;
};

struct uring;

struct uring_options {
    uint32_t entries;    /* submission queue */
    uint32_t cq_entries; /* completion queue: more than can complete in one turn, an overflow slows
                            everything */
    bool baseline;       /* use nothing newer than Linux 6.1 */
};

/* What the kernel can do beyond 6.1, as found by probing. */
struct uring_features {
    bool message_register; /* wake a ring from a thread without a ring (6.13); else eventfd */
};

/* uring_new makes a ring for the calling thread; one that was freed just now may still count as
 * locked memory, so it is tried for a second. NULL: *error is the -errno of the step that failed.
 * uring_octets tells the locked memory of such a ring. uring_free ends it: every request must have
 * completed before. */
struct uring *uring_new(const struct uring_options *options, int *error);
uint64_t uring_octets(const struct uring_options *options);
void uring_free(struct uring *ring);

/* uring_check tries to make a ring and writes one exact sentence with the remedy to `message` when
 * that fails. False: it failed. */
bool uring_check(char *message, size_t size);

const struct uring_features *uring_features(const struct uring *ring);

/* uring_descriptor returns the ring's file descriptor, borrowed, for uring_message. */
int uring_descriptor(const struct uring *ring);

/* uring_in_kernel returns how many requests but polls have been made and not yet completed
 * for good. */
uint32_t uring_in_kernel(const struct uring *ring);

/* uring_overflows returns how many completions did not fit into the queue so far. */
uint32_t uring_overflows(const struct uring *ring);

/* uring_register_buffers gives the kernel a ring of provided buffers as group 0. `ring_memory` is
 * page-aligned and holds `count` (a power of two) entries of 16 octets. 0, or -errno. */
int uring_register_buffers(struct uring *ring, void *ring_memory, uint32_t count);

/* Requests. The *_multishot ones complete again and again until a completion lacks COMPLETION_MORE.
 * Receiving takes buffers of group 0; the multishot poll is edge-triggered, for POLLIN. Polls are
 * not counted by uring_in_kernel: they end with the ring. */
void uring_accept_multishot(struct uring *ring, uint64_t tag, int descriptor);
void uring_receive_multishot(struct uring *ring, uint64_t tag, int descriptor);
void uring_receive_once(struct uring *ring, uint64_t tag, int descriptor);
void uring_poll_multishot(struct uring *ring, uint64_t tag, int descriptor);
void uring_poll_once(struct uring *ring, uint64_t tag, int descriptor, uint32_t events);
void uring_send(struct uring *ring, uint64_t tag, int descriptor, const void *data, size_t len);
void uring_connect(struct uring *ring, uint64_t tag, int descriptor, const struct sockaddr *address,
                   socklen_t address_len);
void uring_cancel(struct uring *ring, uint64_t tag, uint64_t target);
void uring_close(struct uring *ring, uint64_t tag, int descriptor);

/* These two complete when all has gone, or when it can't; short all the same after an error or a
 * cancel, and above 2 GiB. `message` and its pieces stay until then. */
void uring_send_all(struct uring *ring, uint64_t tag, int descriptor, const void *data, size_t len);
void uring_send_message(struct uring *ring, uint64_t tag, int descriptor,
                        const struct msghdr *message);

/* uring_message posts a completion with `tag` to the ring behind `descriptor`; any thread, no ring
 * of its own needed. Only where features.message_register. 0, or -errno. */
int uring_message(int descriptor, uint64_t tag);

/* uring_wait submits what is queued, waits for a completion at most `timeout_us` (0: not at all;
 * UINT64_MAX: for ever) and copies up to `count` completions to `out`. Returns how many, 0 for
 * time-out or a signal, -errno for anything else. When all of `count` were filled there may be
 * more: call again with 0. */
int uring_wait(struct uring *ring, uint64_t timeout_us, struct completion *out, uint32_t count);

#endif
