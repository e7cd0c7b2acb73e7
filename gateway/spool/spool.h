/* The spool: mail on disk, owner of every octet that was answered 250. A directory of segment
 * files, one writer thread (group commit), recovery at start, and reading (reader.h) for those who
 * deliver. docs/spool.md has every on-disk state. */
#ifndef GATEWAY_SPOOL_SPOOL_H
#define GATEWAY_SPOOL_SPOOL_H

#include "gateway/base/histogram.h"
#include "gateway/base/log.h"
#include "gateway/spool/envelope.h"
#include "gateway/spool/message.h"
#include "gateway/spool/pool.h"
#include "gateway/spool/reader.h"
#include "gateway/spool/record.h"
#include "gateway/spool/segment.h"
#include "gateway/spool/staging.h"

struct spool_options {
    const char *path;      /* directory; made (0700) when missing */
    uint64_t segment_size; /* octets, a multiple of LIMIT_BLOCK; at least 4 * LIMIT_RECORD, or a
                              record may find no place (tests with small mail take less) */
    enum spool_sync sync;
    size_t staging_size;  /* octets of ring for each port, a power of two; 0: the default of 16 MiB,
                             the least that holds any record */
    uint32_t ready_count; /* prepared segments to keep at hand; 0: the default of 2 */
    int writer_cpu;       /* pin the writer there; -1: no */
    const uint8_t *uuid;  /* 16 random octets for a new spool */
    uint64_t messages_max; /* living messages, then the state is SPOOL_QUEUE_FULL; 0: no bound */
    uint32_t patience_ms;  /* how long the lock of another process is waited for */
    bool *in_use;          /* set when that was in vain; NULL: nobody asks */
    struct log *log;       /* borrowed */
    const struct segment_io *io; /* NULL: the kernel; tests inject errors here */
};

struct spool;

/* What recovery found. `done` borrows for the call: bit i is set when recipient i is finished. */
struct spool_recovered {
    const struct spool_message *message;
    const uint8_t *done;     /* bitmap of recipient_count bits; NULL: none is finished */
    uint64_t next_attempt_s; /* 0: at once */
};
typedef void spool_recovered_callback(void *user, const struct spool_recovered *recovered);

/* spool_open locks the directory (a second process is refused), scans all segments and calls
 * `recovered` for each living message, oldest first; then probes the device (sync = auto) and
 * prepares segments. NULL on failure, with one exact sentence in `error`. A full disk is no
 * failure: the state says it. The writer does not run yet. */
struct spool *spool_open(const struct spool_options *options, spool_recovered_callback *recovered,
                         void *user, char *error, size_t error_size);

/* spool_port makes a staging ring for one thread. `wake` is called by the writer when the producer
 * sleeps and something was settled; it must be quick and thread-safe. Before spool_start,
 * LIMIT_PORTS times at most. The spool owns it. NULL: no memory. */
struct staging *spool_port(struct spool *spool, void (*wake)(void *user), void *user);

/* spool_start starts the writer and the preparer: 0, or -errno. spool_stop writes and syncs what
 * was published, then stops them; reading and fetching arrivals stay legal. spool_close stops and
 * frees all. */
int spool_start(struct spool *spool) __attribute__((warn_unused_result));
void spool_stop(struct spool *spool);
void spool_close(struct spool *spool);

/* spool_message_id_min returns an id above every one that recovery saw. */
uint64_t spool_message_id_min(const struct spool *spool);

/* spool_bound sets how many messages may live (0: any number), as messages_max does at the start.
 * Any thread. */
void spool_bound(struct spool *spool, uint64_t messages_max);

/* spool_state is cheap: one relaxed load. */
enum spool_state spool_state(const struct spool *spool);

/* spool_half_full tells whether half as many messages live as may: what could wait elsewhere, until
 * its time, is to wait there. Cheap. */
bool spool_half_full(const struct spool *spool);

/* spool_sync_used returns "dsync", "fdatasync" or "none", as configured or as the probe decided. */
const char *spool_sync_used(const struct spool *spool);

/* spool_arrivals moves the messages that became durable since the last call into `out` (up to
 * `count`), in order of commit, and returns how many. One consumer thread. spool_on_arrival sets
 * what the writer calls after each batch that had commits: quick and thread-safe (bell_ring). */
size_t spool_arrivals(struct spool *spool, struct spool_message *out, size_t count);
void spool_on_arrival(struct spool *spool, void (*wake)(void *user), void *user);

/* spool_release: every recipient of the message is finished and its DONE record is durable. Its
 * segments may go; the message must not be read any more. Any thread, once for each message. */
void spool_release(struct spool *spool, const struct spool_message *message);

/* spool_pinned returns the generation below which messages (by first_generation) should be
 * relocated, because they are few and pin many octets that are dead; 0: none. Ask once a second
 * or so, and again when they have moved. */
uint64_t spool_pinned(struct spool *spool);

struct spool_snapshot {
    uint64_t batches, octets, commits, sync_us_total, sync_us_max, write_errors;
    uint32_t segments_total, segments_ready, segments_live, segments_poisoned;
    uint64_t records_damaged, octets_damaged, octets_relocated;
    uint64_t messages, messages_max; /* that live, and that may (0: any number) */
};

/* spool_snapshot reads the counters; any thread, any time. */
void spool_snapshot(struct spool *spool, struct spool_snapshot *out);

/* spool_sync_times adds to `out` how long each batch took to be written and synced; any thread, any
 * time. */
void spool_sync_times(const struct spool *spool, struct histogram_snapshot *out);

/* spool_space tells what the file system of the spool has, and has free for us, in octets. Any
 * thread. False: it does not say. */
bool spool_space(const struct spool *spool, uint64_t *size, uint64_t *available)
    __attribute__((warn_unused_result));

#endif
