/* What the spool costs by itself: one producer lays down messages of a size, so many waiting at a
 * time, and counts each as done when it is durable. Prints messages a second, a CPU-second (all
 * threads), and the wait.
 *
 *     ringmx-bench-spool PATH [--messages N] [--size OCTETS] [--window N] [--turn N] [--null]
 *         [--read] [--sync MODE]
 *
 * --window: messages without an answer at most; --turn: messages laid down between two publishes at
 * most; --null: writes go nowhere, which leaves what the spool itself does; --read: each message is
 * read back (envelope and text), as a courier does, out of the ring as long as it is there. */
#include "gateway/spool/spool.h"
#include "bench/words.h"
#include "gateway/base/bell.h"
#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/log.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct bench_options {
    const char *path;
    uint64_t messages;
    size_t size;
    uint32_t window, turn;
    bool null, read;
    enum spool_sync sync;
};

struct bench {
    const struct bench_options *options;
    struct spool *spool;
    struct staging *staging;
    struct bell bell;
    uint8_t *text;
    uint64_t sent, done, released, failed;
    uint64_t *ends;      /* position of each waiting COMMIT, by number modulo window */
    uint64_t *starts_us; /* and when it was begun */
    uint64_t wait_us_total, wait_us_max;
    struct spool_reader reader;
    uint64_t octets_read;
};

static ssize_t null_write(int descriptor, const struct iovec *parts, int count, off_t offset,
                          int flags)
{
    (void)descriptor, (void)offset, (void)flags;
    ssize_t total = 0;
    for (int i = 0; i < count; i++)
        total += (ssize_t)parts[i].iov_len;
    return total;
}

static int null_sync(int descriptor)
{
    (void)descriptor;
    return 0;
}

static int null_allocate(int descriptor, off_t size)
{
    (void)descriptor, (void)size;
    return 0;
}

static const struct segment_io null_io = {
    .write = null_write, .sync = null_sync, .allocate = null_allocate};

static void wake(void *user)
{
    bell_ring(user);
}

/* Sleeps until the writer has settled more than `settled`. */
static void sleep_past(struct bench *bench, uint64_t settled)
{
    staging_set_sleeping(bench->staging, true);
    if (staging_settled(bench->staging) == settled)
        bell_wait(&bench->bell, UINT64_MAX);
    staging_set_sleeping(bench->staging, false);
}

/* Reserves room, waiting for it. */
static uint8_t *reserve(struct bench *bench, size_t len)
{
    for (;;) {
        uint64_t settled = staging_settled(bench->staging);
        uint8_t *out = staging_reserve(bench->staging, len);
        if (out != NULL)
            return out;
        staging_publish(bench->staging, true);
        sleep_past(bench, settled);
    }
}

static void lay_down(struct bench *bench, uint64_t now_us)
{
    size_t size = bench->options->size;
    uint64_t id = bench->sent + 1;
    uint32_t part = 0;
    for (size_t at = 0; at < size; part++) {
        size_t piece = size - at < 16384 ? size - at : 16384;
        uint8_t *out = reserve(bench, piece);
        memcpy(out, bench->text + at, piece);
        staging_append(bench->staging, RECORD_BODY, id, part, piece);
        at += piece;
        staging_publish(bench->staging, false);
    }
    struct envelope_recipient recipient = {.forward_path = BYTES("alice@example.org")};
    struct envelope envelope = {.message_id = id,
                                .arrival_us = now_us,
                                .text_len = size,
                                .recipient_count = 1,
                                .reverse_path = BYTES("bob@example.com"),
                                .added = BYTES("Received: from x by y; some date\r\n")};
    uint8_t *out = reserve(bench, envelope_size(&envelope, &recipient));
    size_t len = envelope_write(&envelope, &recipient, out);
    uint32_t slot = (uint32_t)(bench->sent % bench->options->window);
    bench->ends[slot] = staging_append(bench->staging, RECORD_COMMIT, id, part, len);
    bench->starts_us[slot] = now_us;
    bench->sent++;
}

static int count_text(void *user, struct bytes text)
{
    *(uint64_t *)user += text.len;
    return 0;
}

static void read_back(struct bench *bench, const struct spool_message *message)
{
    struct envelope envelope;
    CHECK(spool_read(bench->spool, message, &bench->reader, &envelope) == 0);
    CHECK(spool_read_text(&bench->reader, count_text, &bench->octets_read) == 0);
}

static void collect(struct bench *bench)
{
    uint64_t now_us = clock_monotonic_us();
    uint64_t settled = staging_settled(bench->staging);
    for (; bench->done < bench->sent; bench->done++) {
        uint32_t slot = (uint32_t)(bench->done % bench->options->window);
        if (bench->ends[slot] > settled)
            break;
        bench->failed += staging_outcome(bench->staging, bench->ends[slot]) != STAGING_DURABLE;
        uint64_t wait_us = now_us - bench->starts_us[slot];
        bench->wait_us_total += wait_us;
        if (wait_us > bench->wait_us_max)
            bench->wait_us_max = wait_us;
    }
    staging_acknowledge(bench->staging, settled);
    struct spool_message arrived[256];
    for (size_t count = 1; count != 0;) {
        count = spool_arrivals(bench->spool, arrived, 256);
        for (size_t i = 0; i < count; i++) {
            if (bench->options->read)
                read_back(bench, &arrived[i]);
            spool_release(bench->spool, &arrived[i]);
        }
        bench->released += count;
    }
}

static void run(struct bench *bench)
{
    const struct bench_options *options = bench->options;
    while (bench->done < options->messages) {
        uint64_t now_us = clock_monotonic_us();
        uint64_t settled = staging_settled(bench->staging);
        uint32_t turn = 0;
        for (; bench->sent < options->messages && bench->sent - bench->done < options->window &&
               turn < options->turn;
             turn++)
            lay_down(bench, now_us);
        staging_publish(bench->staging, true);
        uint64_t done = bench->done;
        collect(bench);
        if (turn == 0 && bench->done == done)
            sleep_past(bench, settled);
    }
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

static void print(const struct bench *bench, double seconds, double cpu)
{
    struct spool_snapshot snapshot;
    spool_snapshot(bench->spool, &snapshot);
    double messages = (double)bench->done;
    printf("messages=%.0f size=%zu window=%u sync=%s failed=%llu\n", messages, bench->options->size,
           bench->options->window, spool_sync_used(bench->spool),
           (unsigned long long)bench->failed);
    printf("per_second=%.0f per_cpu_second=%.0f cpu_us_each=%.2f MB_per_second=%.0f\n",
           messages / seconds, messages / cpu, cpu / messages * 1e6,
           messages * (double)bench->options->size / seconds / 1e6);
    printf("wait_us_mean=%.0f wait_us_max=%llu batches=%llu messages_per_batch=%.1f "
           "octets_per_message=%.0f segments=%u\n",
           (double)bench->wait_us_total / messages, (unsigned long long)bench->wait_us_max,
           (unsigned long long)snapshot.batches, messages / (double)snapshot.batches,
           (double)snapshot.octets / messages, snapshot.segments_total);
}

static void usage_print(FILE *out)
{
    fputs("usage: ringmx-bench-spool PATH [--messages N] [--size OCTETS] [--window N] [--turn N]\n"
          "           [--null] [--read] [--sync dsync|fdatasync|none]\n",
          out);
}

static enum spool_sync sync_read(const char *text)
{
    static const char *const names[] = {"dsync", "fdatasync", "none", NULL};
    static const enum spool_sync ways[] = {SPOOL_SYNC_DSYNC, SPOOL_SYNC_FDATASYNC, SPOOL_SYNC_NONE};
    return ways[words_choice("sync", text, names)];
}

static struct bench_options parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"messages", required_argument, NULL, 'm'},
        {"size",     required_argument, NULL, 'z'},
        {"window",   required_argument, NULL, 'w'},
        {"turn",     required_argument, NULL, 't'},
        {"null",     no_argument,       NULL, 'n'},
        {"read",     no_argument,       NULL, 'r'},
        {"sync",     required_argument, NULL, 's'},
        {"help",     no_argument,       NULL, 'h'},
        {NULL,       0,                 NULL, 0  },
    };
    struct bench_options options = {
        .messages = 200000, .size = 4096, .window = 100, .turn = 64, .sync = SPOOL_SYNC_AUTO};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (option) {
        case 'm': options.messages = words_count("messages", optarg, 1, UINT64_MAX / 2); break;
        case 'z': options.size = words_size("size", optarg, 1, 1000000000); break;
        case 'w': options.window = (uint32_t)words_count("window", optarg, 1, 10000000); break;
        case 't': options.turn = (uint32_t)words_count("turn", optarg, 1, 10000000); break;
        case 'n': options.null = true; break;
        case 'r': options.read = true; break;
        case 's': options.sync = sync_read(optarg); break;
        case 'h': usage_print(stdout); exit(0);
        default: usage_print(stderr); exit(2);
        }
    }
    if (optind + 1 != argc) {
        usage_print(stderr);
        exit(2);
    }
    options.path = argv[optind];
    return options;
}

int main(int argc, char **argv)
{
    words_program("ringmx-bench-spool");
    struct bench_options options = parse(argc, argv);
    struct log *log = log_new(&(struct log_options){.descriptor = 2, .level = LOG_INFO});
    struct bench bench = {.options = &options};
    bench.ends = calloc(options.window, sizeof *bench.ends);
    bench.starts_us = calloc(options.window, sizeof *bench.starts_us);
    bench.text = calloc(1, options.size);
    CHECK(log != NULL && bench.ends != NULL && bench.starts_us != NULL && bench.text != NULL);
    char error[256];
    struct spool_options spool_options = {.path = options.path,
                                          .segment_size = 64 * 1024 * 1024,
                                          .sync = options.sync,
                                          .writer_cpu = -1,
                                          .uuid = (const uint8_t *)"0123456789abcdef",
                                          .log = log,
                                          .io = options.null ? &null_io : NULL};
    bench.spool = spool_open(&spool_options, NULL, NULL, error, sizeof error);
    if (bench.spool == NULL) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    bench.staging = spool_port(bench.spool, wake, &bench.bell);
    CHECK(bench.staging != NULL && spool_start(bench.spool) == 0);
    double cpu = cpu_seconds();
    uint64_t start_us = clock_monotonic_us();
    run(&bench);
    print(&bench, (double)(clock_monotonic_us() - start_us) / 1e6, cpu_seconds() - cpu);
    spool_read_close(&bench.reader);
    spool_close(bench.spool);
    log_free(log);
    return bench.failed == 0 ? 0 : 1;
}
