/* See null_store.h. A failing disk ends the program: a yardstick has nobody to protect. */
#include "bench/null_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    BATCH_SIZE = 8 << 20,
    BATCH_WAITERS = 65536,
    /* What one receive can at most bring: 16 KiB in messages of one octet, "BDAT 1 LAST" each. */
    BATCH_MARGIN = 64 << 10,
    BATCH_WAITERS_MARGIN = 2048,
    ALIGNMENT = 4096,
    SEGMENT_SIZE = 64 << 20,
};

static int segment_open(const struct store *store, unsigned index, int flags)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/null-segment-%u", store->dir, index);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
    if (fd < 0)
        die("%s: %s", path, strerror(errno));
    return fd;
}

static void write_all(int fd, const uint8_t *bytes, size_t len, off_t offset)
{
    while (len > 0) {
        ssize_t wrote = pwrite(fd, bytes, len, offset);
        if (wrote <= 0)
            die("write: %s", strerror(errno));
        bytes += wrote;
        len -= (size_t)wrote;
        offset += wrote;
    }
}

/* The blocks must have been written once: only then is an overwrite free of the journal. */
static void segment_prepare(struct store *store, unsigned index)
{
    int fd = segment_open(store, index, O_TRUNC);
    uint8_t *zeros = map(BATCH_SIZE);
    for (off_t offset = 0; offset < SEGMENT_SIZE; offset += BATCH_SIZE)
        write_all(fd, zeros, BATCH_SIZE, offset);
    if (fsync(fd) < 0)
        die("fsync: %s", strerror(errno));
    munmap(zeros, BATCH_SIZE);
    close(fd);
    store->segments[index] = segment_open(store, index, O_DIRECT | O_DSYNC);
}

static void write_direct(struct store *store, struct batch *batch)
{
    size_t len = (batch->len + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    memset(batch->bytes + batch->len, 0, len - batch->len);
    if (store->offset + (off_t)len > SEGMENT_SIZE) {
        store->segment = (store->segment + 1) % STORE_SEGMENT_COUNT;
        store->offset = 0;
    }
    write_all(store->segments[store->segment], batch->bytes, len, store->offset);
    store->offset += (off_t)len;
}

static void write_fdatasync(struct store *store, const struct batch *batch)
{
    int *fd = &store->segments[store->segment];
    if (store->offset + (off_t)batch->len > SEGMENT_SIZE) {
        close(*fd);
        store->segment = (store->segment + 1) % STORE_SEGMENT_COUNT;
        fd = &store->segments[store->segment];
        *fd = segment_open(store, store->segment, O_TRUNC);
        store->offset = 0;
    }
    write_all(*fd, batch->bytes, batch->len, store->offset);
    if (fdatasync(*fd) < 0)
        die("fdatasync: %s", strerror(errno));
    store->offset += (off_t)batch->len;
}

static void *writer_run(void *argument)
{
    struct store *store = argument;
    const uint64_t one = 1;
    for (;;) {
        pthread_mutex_lock(&store->lock);
        while (store->handed == NULL)
            pthread_cond_wait(&store->wake, &store->lock);
        struct batch *batch = store->handed;
        store->handed = NULL;
        pthread_mutex_unlock(&store->lock);
        if (store->durability == DURABLE_DIRECT)
            write_direct(store, batch);
        else
            write_fdatasync(store, batch);
        atomic_store_explicit(&store->durable, true, memory_order_release);
        if (write(store->bell, &one, sizeof one) != sizeof one)
            die("eventfd: %s", strerror(errno));
    }
    return NULL;
}

void store_start(struct store *store)
{
    if (store->durability == DURABLE_NOT)
        return;
    for (unsigned i = 0; i < 2; i++) {
        store->batches[i].bytes = map(BATCH_SIZE + ALIGNMENT);
        madvise(store->batches[i].bytes, BATCH_SIZE, MADV_HUGEPAGE);
        store->batches[i].waiters = map(BATCH_WAITERS * sizeof(struct waiter));
    }
    store->gather = &store->batches[0];
    if (store->durability == DURABLE_DIRECT)
        for (unsigned i = 0; i < STORE_SEGMENT_COUNT; i++)
            segment_prepare(store, i);
    else
        store->segments[0] = segment_open(store, 0, O_TRUNC);
    store->bell = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->wake, NULL);
    pthread_t thread;
    if (store->bell < 0 || pthread_create(&thread, NULL, writer_run, store) != 0)
        die("the writer cannot start");
}

bool store_has_room(const struct store *store)
{
    return store->durability == DURABLE_NOT ||
           (store->gather->len + BATCH_MARGIN <= BATCH_SIZE &&
            store->gather->waiter_count < BATCH_WAITERS - BATCH_WAITERS_MARGIN);
}

/* The one copy. The 16 bytes in front stand for a record header. */
void store_add(struct store *store, uint32_t slot, const uint8_t *bytes, size_t len)
{
    if (store->durability == DURABLE_NOT)
        return;
    struct batch *batch = store->gather;
    uint64_t header[2] = {slot, len};
    memcpy(batch->bytes + batch->len, header, sizeof header);
    memcpy(batch->bytes + batch->len + sizeof header, bytes, len);
    batch->len += sizeof header + len;
}

/* Natural group commit: what gathered while the last batch was written is the next one. */
void store_hand_over(struct store *store)
{
    if (store->durability == DURABLE_NOT || store->in_flight != NULL)
        return;
    if (store->gather->waiter_count == 0 && store->gather->len < BATCH_SIZE / 2)
        return;
    store->in_flight = store->gather;
    store->gather = &store->batches[store->gather == &store->batches[0]];
    pthread_mutex_lock(&store->lock);
    store->handed = store->in_flight;
    pthread_cond_signal(&store->wake);
    pthread_mutex_unlock(&store->lock);
}

void store_wait(struct store *store, uint32_t slot, uint32_t generation)
{
    struct batch *batch = store->gather;
    batch->waiters[batch->waiter_count++] = (struct waiter){slot, generation};
}

struct batch *store_durable(struct store *store)
{
    return atomic_load_explicit(&store->durable, memory_order_acquire) ? store->in_flight : NULL;
}

void store_done(struct store *store)
{
    store->in_flight->len = 0;
    store->in_flight->waiter_count = 0;
    store->in_flight = NULL;
    atomic_store_explicit(&store->durable, false, memory_order_relaxed);
}
