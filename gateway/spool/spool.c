/* Putting the spool together: directory, lock, recovery, probe, threads. */
#include "gateway/spool/spool_inside.h"

#include "gateway/base/check.h"
#include "gateway/base/refuse.h"
#include "gateway/spool/probe.h"
#include "gateway/spool/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    SPOOL_STAGING_SIZE = 16 * 1024 * 1024, /* the power of two above LIMIT_RECORD */
    SPOOL_READY = 2,
    LOCK_PAUSE_MS = 20,
    SPOOL_COPY_SHARE = 3, /* a copy for so many octets of log at most */
};
static_assert((int)SPOOL_STAGING_SIZE > (int)LIMIT_RECORD + 4 * (int)LIMIT_BLOCK,
              "any record fits in a ring");

/* The lock file also keeps the uuid, in case that header blocks are damaged. */
struct lock_content {
    uint8_t uuid[16];
    uint32_t crc; /* CRC32C of the uuid */
};

static void read_lock(struct spool *spool)
{
    struct lock_content content;
    if (pread(spool->lock, &content, sizeof content, 0) != (ssize_t)sizeof content ||
        content.crc != crc32c(0, content.uuid, sizeof content.uuid))
        return;
    memcpy(spool->volume.uuid, content.uuid, sizeof content.uuid);
    spool->uuid_known = true;
}

static bool write_lock(const struct spool *spool)
{
    struct lock_content content = {.crc = crc32c(0, spool->volume.uuid, 16)};
    memcpy(content.uuid, spool->volume.uuid, sizeof content.uuid);
    return pwrite(spool->lock, &content, sizeof content, 0) == (ssize_t)sizeof content &&
           fdatasync(spool->lock) == 0;
}

/* take_lock: the kernel drops the lock of a process that dies a moment after its sockets. */
static bool take_lock(const struct spool *spool, uint32_t patience_ms)
{
    while (flock(spool->lock, LOCK_EX | LOCK_NB) != 0) {
        if (patience_ms == 0)
            return false;
        uint32_t pause_ms = patience_ms < LOCK_PAUSE_MS ? patience_ms : LOCK_PAUSE_MS;
        usleep(pause_ms * 1000);
        patience_ms -= pause_ms;
    }
    return true;
}

/* Opens and locks the directory. */
static bool open_directory(struct spool *spool, const struct spool_options *options, char *error,
                           size_t error_size)
{
    const char *path = options->path;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return refuse(error, error_size, "spool: can't make %s: %s", path, strerror(errno));
    spool->volume.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->volume.directory < 0)
        return refuse(error, error_size, "spool: can't open %s: %s", path, strerror(errno));
    spool->lock =
        openat(spool->volume.directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (spool->lock < 0)
        return refuse(error, error_size, "spool: can't open %s/lock: %s", path, strerror(errno));
    if (!take_lock(spool, options->patience_ms)) {
        if (options->in_use != NULL)
            *options->in_use = true;
        return refuse(error, error_size, "spool: %s is in use by another process", path);
    }
    read_lock(spool);
    return true;
}

/* Direct I/O is a property of the file system: tried once. */
static bool has_direct(int directory)
{
    int descriptor = openat(directory, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_DIRECT);
    if (descriptor >= 0)
        close(descriptor);
    return descriptor >= 0;
}

static struct spool *spool_new(const struct spool_options *options)
{
    struct spool *spool = aligned_alloc(alignof(struct spool), sizeof *spool);
    if (spool == NULL)
        return NULL;
    *spool = (struct spool){.lock = -1, .log = options->log, .message_id_min = 1};
    spool->staging_size = options->staging_size != 0 ? options->staging_size : SPOOL_STAGING_SIZE;
    spool->volume = (struct volume){.directory = -1,
                                    .io = options->io != NULL ? options->io : &segment_io_kernel,
                                    .segment_size = options->segment_size,
                                    .sync = options->sync};
    memcpy(spool->volume.uuid, options->uuid, sizeof spool->volume.uuid);
    pthread_mutex_init(&spool->log_mutex, NULL);
    spool->shared_log = log_port_new(options->log, "spool");
    uint32_t ready_count = options->ready_count != 0 ? options->ready_count : SPOOL_READY;
    bool made = writer_init(&spool->writer);
    made &= arrivals_init(&spool->arrivals);
    made &= pool_init(&spool->pool, options->segment_size, ready_count, &spool->preparer.bell);
    pool_messages_bound(&spool->pool, options->messages_max);
    if (!made) {
        spool_close(spool);
        return NULL;
    }
    spool->writer.volume = &spool->volume;
    spool->writer.pool = &spool->pool;
    spool->writer.arrivals = &spool->arrivals;
    spool->writer.cpu = options->writer_cpu;
    spool->writer.log = log_port_new(options->log, "writer");
    spool->preparer.volume = &spool->volume;
    spool->preparer.pool = &spool->pool;
    spool->preparer.log = log_port_new(options->log, "preparer");
    return spool;
}

static enum spool_sync choose_sync(struct spool *spool, enum spool_sync wanted)
{
    if (wanted == SPOOL_SYNC_NONE)
        return SPOOL_SYNC_NONE;
    /* Without direct I/O a write goes through the page cache, and a sync of the file is what it
     * takes. */
    if (!spool->volume.direct)
        return SPOOL_SYNC_FDATASYNC;
    if (wanted != SPOOL_SYNC_AUTO)
        return wanted;
    return probe_sync(&spool->volume, pool_peek_ready(&spool->pool), spool->shared_log);
}

/* On a full disk there may be no fresh segment, and without one no DONE record could be written, so
 * that nothing would ever be recycled: then the log goes on in its last segment. */
static void resume(struct spool *spool)
{
    uint64_t room = 0;
    if (pool_peek_ready(&spool->pool) == NULL && spool->last != NULL) {
        atomic_store(&spool->last->closed, false);
        spool->writer.active = spool->last;
        room = spool->last->size - spool->last->end;
    }
    pool_report(&spool->pool, room, false);
    spool->octets_found = spool->pool.used_count * spool->pool.segment_size;
}

struct spool *spool_open(const struct spool_options *options, spool_recovered_callback *recovered,
                         void *user, char *error, size_t error_size)
{
    CHECK(options->segment_size % LIMIT_BLOCK == 0 && options->segment_size >= 4 * LIMIT_BLOCK &&
          options->segment_size <= UINT32_MAX);
    struct spool *spool = spool_new(options);
    if (spool == NULL) {
        refuse(error, error_size, "spool: no memory");
        return NULL;
    }
    if (!open_directory(spool, options, error, error_size)) {
        spool_close(spool);
        return NULL;
    }
    spool->volume.direct = has_direct(spool->volume.directory);
    if (!spool->volume.direct)
        log_message(spool->shared_log, LOG_WARN, "spool.buffered",
                    "%s has no direct I/O; writes go through the page cache", options->path);
    /* Until the probe has decided, the way that works everywhere. */
    spool->volume.sync = SPOOL_SYNC_FDATASYNC;
    if (!recovery_run(spool, recovered, user, error, error_size)) {
        spool_close(spool);
        return NULL;
    }
    if (!spool->uuid_known && !write_lock(spool))
        log_message(spool->shared_log, LOG_WARN, "spool.lock", "%s/lock can't be written: %s",
                    options->path, strerror(errno));
    spool->writer.batch.salt = spool->volume.salt;
    preparer_work(&spool->preparer);
    spool->volume.sync = choose_sync(spool, options->sync);
    resume(spool);
    return spool;
}

struct staging *spool_port(struct spool *spool, void (*wake)(void *user), void *user)
{
    struct writer *writer = &spool->writer;
    CHECK(writer->ring_count < LIMIT_PORTS && !writer->running);
    struct staging *staging = staging_new(spool->staging_size, &writer->bell, wake, user);
    if (staging != NULL)
        writer->rings[writer->ring_count++] = staging;
    return staging;
}

int spool_start(struct spool *spool)
{
    sigset_t all;
    sigset_t before;
    /* Signals are the main thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = preparer_start(&spool->preparer);
    if (error == 0)
        error = writer_start(&spool->writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        spool_stop(spool);
    return error;
}

void spool_stop(struct spool *spool)
{
    /* The writer first: it may wait for the preparer. */
    writer_stop(&spool->writer);
    preparer_stop(&spool->preparer);
}

void spool_close(struct spool *spool)
{
    spool_stop(spool);
    for (uint32_t i = 0; i < spool->writer.ring_count; i++)
        staging_free(spool->writer.rings[i]);
    writer_free(&spool->writer);
    arrivals_free(&spool->arrivals);
    pool_free(&spool->pool);
    if (spool->volume.directory >= 0)
        close(spool->volume.directory);
    if (spool->lock >= 0)
        close(spool->lock);
    pthread_mutex_destroy(&spool->log_mutex);
    free(spool);
}

uint64_t spool_message_id_min(const struct spool *spool)
{
    return spool->message_id_min;
}

void spool_bound(struct spool *spool, uint64_t messages_max)
{
    pool_messages_bound(&spool->pool, messages_max);
}

enum spool_state spool_state(const struct spool *spool)
{
    return atomic_load_explicit(&spool->pool.state, memory_order_relaxed);
}

bool spool_half_full(const struct spool *spool)
{
    uint64_t max = atomic_load_explicit(&spool->pool.messages_max, memory_order_relaxed);
    uint64_t count = atomic_load_explicit(&spool->pool.messages, memory_order_relaxed);
    return max != 0 && count >= max / 2;
}

const char *spool_sync_used(const struct spool *spool)
{
    switch (spool->volume.sync) {
    case SPOOL_SYNC_DSYNC: return "dsync";
    case SPOOL_SYNC_FDATASYNC: return "fdatasync";
    case SPOOL_SYNC_NONE: return "none";
    case SPOOL_SYNC_AUTO: break;
    }
    CHECK(false);
}

size_t spool_arrivals(struct spool *spool, struct spool_message *out, size_t count)
{
    return arrivals_take(&spool->arrivals, out, count);
}

void spool_on_arrival(struct spool *spool, void (*wake)(void *user), void *user)
{
    arrivals_on(&spool->arrivals, wake, user);
}

void spool_release(struct spool *spool, const struct spool_message *message)
{
    pool_release(&spool->pool, message->first_generation, spool_message_octets(message));
    pool_messages_remove(&spool->pool);
}

uint64_t spool_pinned(struct spool *spool)
{
    /* What the pool reckons with is an estimate. This is what makes an end of copying the same
     * messages again and again, whatever they are. */
    uint64_t written = atomic_load_explicit(&spool->writer.counters.octets, memory_order_relaxed);
    uint64_t copied = atomic_load_explicit(&spool->octets_relocated, memory_order_relaxed);
    if (copied > (spool->octets_found + written) / SPOOL_COPY_SHARE)
        return 0;
    return pool_pinned(&spool->pool);
}

void spool_snapshot(struct spool *spool, struct spool_snapshot *out)
{
    const struct writer_counters *counters = &spool->writer.counters;
    *out = (struct spool_snapshot){
        .batches = atomic_load_explicit(&counters->batches, memory_order_relaxed),
        .octets = atomic_load_explicit(&counters->octets, memory_order_relaxed),
        .commits = atomic_load_explicit(&counters->commits, memory_order_relaxed),
        .sync_us_total = atomic_load_explicit(&counters->sync_us_total, memory_order_relaxed),
        .sync_us_max = atomic_load_explicit(&counters->sync_us_max, memory_order_relaxed),
        .write_errors = atomic_load_explicit(&counters->write_errors, memory_order_relaxed),
        .records_damaged = atomic_load_explicit(&spool->records_damaged, memory_order_relaxed),
        .octets_damaged = atomic_load_explicit(&spool->octets_damaged, memory_order_relaxed),
        .octets_relocated = atomic_load_explicit(&spool->octets_relocated, memory_order_relaxed),
        .messages = atomic_load_explicit(&spool->pool.messages, memory_order_relaxed),
        .messages_max = atomic_load_explicit(&spool->pool.messages_max, memory_order_relaxed),
    };
    pthread_mutex_lock(&spool->pool.mutex);
    out->segments_ready = spool->pool.ready_count;
    out->segments_live = spool->pool.used_count;
    out->segments_total = out->segments_ready + out->segments_live;
    out->segments_poisoned = spool->pool.poisoned_count;
    pthread_mutex_unlock(&spool->pool.mutex);
}

void spool_sync_times(const struct spool *spool, struct histogram_snapshot *out)
{
    histogram_collect(&spool->writer.counters.sync, out);
}

bool spool_space(const struct spool *spool, uint64_t *size, uint64_t *available)
{
    struct statvfs found;
    if (fstatvfs(spool->volume.directory, &found) != 0)
        return false;
    *size = (uint64_t)found.f_frsize * found.f_blocks;
    *available = (uint64_t)found.f_frsize * found.f_bavail;
    return true;
}
