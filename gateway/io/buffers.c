/* Provided buffer ring: see buffers.h. The ring is memory of ours that the kernel reads (not the
 * PBUF_RING_MMAP kind). */
#include "gateway/io/buffers.h"

#include "gateway/base/check.h"
#include "gateway/base/pages.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>

enum {
    LENT_FIRST = 64,   /* buffers that the kernel gets at the start */
    STRIDE_MORE = 320, /* an odd number of cache lines */
};

int buffers_init(struct buffers *buffers, struct uring *ring, uint32_t count, uint32_t size)
{
    CHECK(count > 0 && count <= 32768 && (count & (count - 1)) == 0);
    memset(buffers, 0, sizeof(*buffers));
    buffers->count = count;
    buffers->size = size;
    buffers->stride = size + STRIDE_MORE;
    buffers->lent_max = count < LENT_FIRST ? count : LENT_FIRST;
    buffers->ring = pages_map(count * sizeof(struct io_uring_buf));
    buffers->memory = pages_map((size_t)count * buffers->stride);
    buffers->next = calloc(count, sizeof(*buffers->next));
    buffers->lens = calloc(count, sizeof(*buffers->lens));
    buffers->home = calloc(count, sizeof(*buffers->home));
    int result = -ENOMEM;
    if (buffers->ring != NULL && buffers->memory != NULL && buffers->next != NULL &&
        buffers->lens != NULL && buffers->home != NULL)
        result = uring_register_buffers(ring, buffers->ring, count);
    if (result < 0) {
        buffers_cleanup(buffers);
        return result;
    }
    for (uint32_t id = 0; id < count; id++)
        buffers_give(buffers, (uint16_t)id);
    buffers_lend(buffers);
    return 0;
}

void buffers_cleanup(struct buffers *buffers)
{
    pages_unmap(buffers->ring, buffers->count * sizeof(struct io_uring_buf));
    pages_unmap(buffers->memory, (size_t)buffers->count * buffers->stride);
    free(buffers->next);
    free(buffers->lens);
    free(buffers->home);
    memset(buffers, 0, sizeof(*buffers));
}

void buffers_give(struct buffers *buffers, uint16_t id)
{
    CHECK(id < buffers->count && buffers->home_count < buffers->count);
    buffers->home[buffers->home_count++] = id;
}

static void lend(struct buffers *buffers, uint16_t id)
{
    uint16_t tail = buffers->ring->tail;
    struct io_uring_buf *entry = &buffers->ring->bufs[tail & (buffers->count - 1)];
    entry->addr = (uint64_t)(uintptr_t)buffers_data(buffers, id);
    entry->len = buffers->size;
    entry->bid = id;
    /* The kernel reads the entry after it has seen the new tail. */
    __atomic_store_n(&buffers->ring->tail, (uint16_t)(tail + 1), __ATOMIC_RELEASE);
    buffers->given++;
}

void buffers_lend(struct buffers *buffers)
{
    while (buffers->given < buffers->lent_max && buffers->home_count > 0)
        lend(buffers, buffers->home[--buffers->home_count]);
}

void buffers_starved(struct buffers *buffers)
{
    if (buffers->lent_max < buffers->count)
        buffers->lent_max *= 2;
}
