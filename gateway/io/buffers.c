/* Provided buffer ring: see buffers.h. The ring is memory of ours that the kernel reads (not the
 * PBUF_RING_MMAP kind). */
#include "gateway/io/buffers.h"

#include "gateway/base/check.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int buffers_init(struct buffers *buffers, struct uring *ring, uint32_t count, uint32_t size)
{
    CHECK(count > 0 && count <= 32768 && (count & (count - 1)) == 0);
    memset(buffers, 0, sizeof(*buffers));
    buffers->count = count;
    buffers->size = size;
    buffers->ring = map(count * sizeof(struct io_uring_buf));
    buffers->memory = map((size_t)count * size);
    buffers->next = calloc(count, sizeof(*buffers->next));
    buffers->lens = calloc(count, sizeof(*buffers->lens));
    int result = -ENOMEM;
    if (buffers->ring != NULL && buffers->memory != NULL && buffers->next != NULL &&
        buffers->lens != NULL)
        result = uring_register_buffers(ring, buffers->ring, count);
    if (result < 0) {
        buffers_cleanup(buffers);
        return result;
    }
    for (uint32_t id = 0; id < count; id++)
        buffers_give(buffers, (uint16_t)id);
    return 0;
}

void buffers_cleanup(struct buffers *buffers)
{
    if (buffers->ring != NULL)
        munmap(buffers->ring, buffers->count * sizeof(struct io_uring_buf));
    if (buffers->memory != NULL)
        munmap(buffers->memory, (size_t)buffers->count * buffers->size);
    free(buffers->next);
    free(buffers->lens);
    memset(buffers, 0, sizeof(*buffers));
}

void buffers_give(struct buffers *buffers, uint16_t id)
{
    CHECK(id < buffers->count && buffers->given < buffers->count);
    uint16_t tail = buffers->ring->tail;
    struct io_uring_buf *entry = &buffers->ring->bufs[tail & (buffers->count - 1)];
    entry->addr = (uint64_t)(uintptr_t)buffers_data(buffers, id);
    entry->len = buffers->size;
    entry->bid = id;
    /* The kernel reads the entry after it has seen the new tail. */
    __atomic_store_n(&buffers->ring->tail, (uint16_t)(tail + 1), __ATOMIC_RELEASE);
    buffers->given++;
}
