/* Receive buffers, provided to the kernel as one ring per worker: the kernel takes one when data
 * arrives, so an idle connection holds none. Buffers taken are given back as soon as their octets
 * have been read. */
#ifndef GATEWAY_IO_BUFFERS_H
#define GATEWAY_IO_BUFFERS_H

#include "gateway/io/uring.h"

struct io_uring_buf_ring;

enum { BUFFER_NONE = 0xffff };

struct buffers {
    struct io_uring_buf_ring *ring;
    uint8_t *memory;
    uint16_t *next; /* for lists of buffers that somebody holds: the one after, or BUFFER_NONE */
    uint32_t *lens; /* octets received in a held buffer */
    uint16_t *home; /* stack of buffers that are with nobody: the one used last is lent first */
    uint32_t home_count;
    uint32_t count;    /* a power of two, at most 32768 */
    uint32_t size;     /* octets of each */
    size_t stride;     /* from one to the next: a little more than a power of two, or all would
                          begin in the same few lines of the cache */
    uint32_t given;    /* with the kernel now */
    uint32_t lent_max; /* how many the kernel gets at most: few, so that they stay in the cache, and
                          more each time they did not suffice */
};

/* buffers_init makes `count` buffers of `size` octets and gives all to the kernel. 0, or -errno.
 * buffers_cleanup: after the ring is gone. */
int buffers_init(struct buffers *buffers, struct uring *ring, uint32_t count, uint32_t size);
void buffers_cleanup(struct buffers *buffers);

/* buffers_data returns the memory of buffer `id`. */
static inline uint8_t *buffers_data(const struct buffers *buffers, uint16_t id)
{
    return buffers->memory + (size_t)id * buffers->stride;
}

/* buffers_taken notes that a completion brought a buffer. */
static inline void buffers_taken(struct buffers *buffers)
{
    buffers->given--;
}

/* buffers_give takes buffer `id` home; the kernel gets it with the next buffers_lend. */
void buffers_give(struct buffers *buffers, uint16_t id);

/* buffers_lend lets the kernel have what is at home, up to lent_max. Once a turn. */
void buffers_lend(struct buffers *buffers);

/* buffers_starved says that somebody found none: the kernel gets more from now on. */
void buffers_starved(struct buffers *buffers);

#endif
