/* Helpers for the tests of the spool. */
#include "tests/support/spool_help.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct help_disk help_disk;

static const uint8_t help_uuid[16] = "0123456789abcde";

/* Counts down `good`, then `bad`; true when this one fails. */
static bool fails(_Atomic int *good, _Atomic int *bad)
{
    if (good != NULL && atomic_load(good) > 0) {
        atomic_fetch_sub(good, 1);
        return false;
    }
    if (atomic_load(bad) <= 0)
        return false;
    atomic_fetch_sub(bad, 1);
    errno = atomic_load(&help_disk.error);
    return true;
}

static ssize_t help_write(int descriptor, const struct iovec *parts, int count, off_t offset,
                          int flags)
{
    atomic_fetch_add(&help_disk.writes, 1);
    if (fails(&help_disk.good_writes, &help_disk.bad_writes))
        return -1;
    struct iovec first = parts[0];
    if (!atomic_load(&help_disk.short_writes))
        return segment_io_kernel.write(descriptor, parts, count, offset, flags);
    if (first.iov_len > LIMIT_BLOCK)
        first.iov_len = LIMIT_BLOCK;
    return segment_io_kernel.write(descriptor, &first, 1, offset, flags);
}

static int help_sync(int descriptor)
{
    atomic_fetch_add(&help_disk.syncs, 1);
    return fails(&help_disk.good_syncs, &help_disk.bad_syncs) ? -1
                                                              : segment_io_kernel.sync(descriptor);
}

static int help_allocate(int descriptor, off_t size)
{
    if (fails(NULL, &help_disk.bad_allocations))
        return -1;
    return segment_io_kernel.allocate(descriptor, size);
}

const struct segment_io help_io = {
    .write = help_write, .sync = help_sync, .allocate = help_allocate};

static void make_directory(struct help *help)
{
    const char *base = getenv("TMPDIR");
    snprintf(help->path, sizeof help->path, "%s/ringmx-test-XXXXXX", base != NULL ? base : "/tmp");
    CHECK(mkdtemp(help->path) != NULL);
}

static void remove_directory(const char *path)
{
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    rmdir(path);
}

void help_new(struct help *help)
{
    *help = (struct help){0};
    make_directory(help);
    memset(&help_disk, 0, sizeof help_disk);
    help->log_descriptor = memfd_create("log", MFD_CLOEXEC);
    help->log =
        log_new(&(struct log_options){.descriptor = help->log_descriptor, .level = LOG_INFO});
    CHECK(help->log_descriptor >= 0 && help->log != NULL);
    help->options = (struct spool_options){.path = help->path,
                                           .segment_size = 1024 * 1024,
                                           .sync = SPOOL_SYNC_FDATASYNC,
                                           .staging_size = 512 * 1024,
                                           .ready_count = 2,
                                           .writer_cpu = -1,
                                           .uuid = help_uuid,
                                           .log = help->log};
}

static void forget_recovered(struct help *help)
{
    free(help->recovered);
    free(help->recovered_next);
    free(help->recovered_done);
    help->recovered = NULL;
    help->recovered_next = NULL;
    help->recovered_done = NULL;
    help->recovered_count = 0;
}

void help_free(struct help *help)
{
    if (help->spool != NULL)
        help_close(help);
    if (help->log != NULL)
        log_free(help->log);
    forget_recovered(help);
    close(help->log_descriptor);
    remove_directory(help->path);
}

static void keep(void *user, const struct spool_recovered *recovered)
{
    struct help *help = user;
    size_t count = help->recovered_count + 1;
    help->recovered = realloc(help->recovered, count * sizeof *help->recovered);
    help->recovered_next = realloc(help->recovered_next, count * sizeof *help->recovered_next);
    help->recovered_done = realloc(help->recovered_done, count);
    CHECK(help->recovered != NULL && help->recovered_next != NULL && help->recovered_done != NULL);
    help->recovered[count - 1] = *recovered->message;
    help->recovered_next[count - 1] = recovered->next_attempt_s;
    help->recovered_done[count - 1] = recovered->done != NULL ? recovered->done[0] : 0;
    help->recovered_count = count;
}

static void wake(void *user)
{
    bell_ring(user);
}

bool help_try_open(struct help *help)
{
    forget_recovered(help);
    if (help->log == NULL)
        help->log =
            log_new(&(struct log_options){.descriptor = help->log_descriptor, .level = LOG_INFO});
    help->options.log = help->log;
    help->spool = spool_open(&help->options, keep, help, help->error, sizeof help->error);
    if (help->spool == NULL)
        return false;
    help->ring = spool_port(help->spool, wake, &help->bell);
    spool_on_arrival(help->spool, wake, &help->bell);
    CHECK(help->ring != NULL);
    return true;
}

void help_open(struct help *help)
{
    if (!help_try_open(help))
        fprintf(stderr, "%s\n", help->error);
    CHECK(help->spool != NULL);
    CHECK(spool_start(help->spool) == 0);
}

void help_close(struct help *help)
{
    spool_close(help->spool);
    help->spool = NULL;
}

/* False: the file is not there any more under that name. */
static bool copy_file(const char *from, const char *to)
{
    static char block[256 * 1024];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return false;
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(out >= 0);
    for (ssize_t len = read(in, block, sizeof block); len > 0; len = read(in, block, sizeof block))
        CHECK(write(out, block, (size_t)len) == len);
    close(in);
    close(out);
    return true;
}

/* A number that changes with the names in a directory, whatever their order. */
static uint64_t hash_names(const char *path)
{
    uint64_t sum = 0;
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        uint64_t hash = 0xcbf29ce484222325u;
        for (const char *at = entry->d_name; *at != '\0'; at++)
            hash = (hash ^ (uint8_t)*at) * 0x100000001b3u;
        sum += hash;
    }
    closedir(directory);
    return sum;
}

/* False when a file changed its name meanwhile: a crash would have found it under one of them. */
static bool copy_directory(const char *from_path, const char *to_path)
{
    bool whole = true;
    uint64_t before = hash_names(from_path);
    DIR *directory = opendir(from_path);
    CHECK(directory != NULL);
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char from[512];
        char to[512];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(from, sizeof from, "%s/%s", from_path, entry->d_name);
        snprintf(to, sizeof to, "%s/%s", to_path, entry->d_name);
        whole &= copy_file(from, to);
    }
    closedir(directory);
    return whole && hash_names(from_path) == before;
}

void help_crash(struct help *help)
{
    char old[sizeof help->path];
    memcpy(old, help->path, sizeof old);
    make_directory(help);
    while (!copy_directory(old, help->path)) {
        remove_directory(help->path);
        make_directory(help);
    }
    help_close(help);
    remove_directory(old);
}

int help_logged(struct help *help, const char *text)
{
    CHECK(help->spool == NULL);
    if (help->log != NULL)
        log_free(help->log);
    help->log = NULL;
    struct stat status;
    CHECK(fstat(help->log_descriptor, &status) == 0);
    char *all = calloc(1, (size_t)status.st_size + 1);
    CHECK(all != NULL &&
          pread(help->log_descriptor, all, (size_t)status.st_size, 0) == (ssize_t)status.st_size);
    int count = 0;
    for (char *at = strstr(all, text); at != NULL; at = strstr(at + 1, text))
        count++;
    free(all);
    return count;
}

void help_text(uint64_t message_id, size_t from, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        size_t at = from + i;
        out[i] = (uint8_t)((message_id * 31 + at * 7 + (at >> 9)) ^ 0x55);
    }
}

/* Waits for room in a ring. */
static uint8_t *reserve(struct help *help, struct staging *ring, size_t len)
{
    uint8_t *out = staging_reserve(ring, len);
    while (out == NULL) {
        staging_publish(ring, true);
        bell_wait(&help->bell, 1000);
        staging_acknowledge(ring, staging_settled(ring));
        out = staging_reserve(ring, len);
    }
    return out;
}

void help_body(struct help *help, struct staging *ring, uint64_t id, uint32_t part, size_t from,
               size_t len)
{
    help_text(id, from, reserve(help, ring, len), len);
    staging_append(ring, RECORD_BODY, id, part, len);
}

/* Every other message asks for something, so its envelope is of version 2. */
static struct envelope_terms terms_of(uint64_t id)
{
    if (id % 2 != 0)
        return (struct envelope_terms){0};
    return (struct envelope_terms){.release_s = (uint32_t)id + 7,
                                   .hold_s = 7,
                                   .by_s = (uint32_t)id + 9,
                                   .by_mode = (uint8_t)(id / 2 % 4),
                                   .priority = (int8_t)(id / 2 % 19) - 9};
}

uint64_t help_commit(struct help *help, struct staging *ring, uint64_t id, uint32_t parts,
                     size_t text_len, uint32_t recipients)
{
    struct envelope_recipient *list = calloc(recipients, sizeof *list);
    CHECK(list != NULL);
    for (uint32_t i = 0; i < recipients; i++)
        list[i] = (struct envelope_recipient){.forward_path = BYTES("alice@example.org"),
                                              .orcpt = BYTES("rfc822;alice@example.org"),
                                              .notify = (uint8_t)(i % 8)};
    struct envelope envelope = {.message_id = id,
                                .arrival_us = id * 1000000 + 5,
                                .text_len = text_len,
                                .flags = ENVELOPE_8BITMIME,
                                .recipient_count = recipients,
                                .terms = terms_of(id),
                                .reverse_path = BYTES("bob@example.com"),
                                .envid = BYTES("QQ314159"),
                                .added = BYTES("Received: from there by here\r\n")};
    size_t len =
        envelope_write(&envelope, list, reserve(help, ring, envelope_size(&envelope, list)));
    free(list);
    return staging_append(ring, RECORD_COMMIT, id, parts, len);
}

uint64_t help_message(struct help *help, struct staging *ring, uint64_t id, size_t text_len,
                      size_t piece, uint32_t recipients)
{
    uint32_t parts = 0;
    for (size_t at = 0; at < text_len; at += piece)
        help_body(help, ring, id, parts++, at, text_len - at < piece ? text_len - at : piece);
    return help_commit(help, ring, id, parts, text_len, recipients);
}

uint64_t help_done(struct help *help, struct staging *ring, uint64_t id, uint32_t recipient,
                   enum record_outcome outcome, uint64_t next_attempt_s)
{
    struct record_done done = {.message_id = id,
                               .recipient = recipient,
                               .attempts = 3,
                               .outcome = (uint8_t)outcome,
                               .next_attempt_s = next_attempt_s};
    memcpy(reserve(help, ring, sizeof done), &done, sizeof done);
    return staging_append(ring, RECORD_DONE, 0, 0, sizeof done);
}

enum staging_outcome help_wait(struct help *help, struct staging *ring, uint64_t end)
{
    staging_publish(ring, true);
    while (staging_settled(ring) < end) {
        staging_set_sleeping(ring, true);
        if (staging_settled(ring) < end)
            bell_wait(&help->bell, 100000);
        staging_set_sleeping(ring, false);
    }
    return staging_outcome(ring, end);
}

struct spool_message *help_arrivals(struct help *help, size_t count)
{
    struct spool_message *messages = calloc(count, sizeof *messages);
    CHECK(messages != NULL);
    for (size_t got = 0; got < count;) {
        size_t more = spool_arrivals(help->spool, messages + got, count - got);
        got += more;
        if (more == 0)
            bell_wait(&help->bell, 1000);
    }
    return messages;
}

struct comparison {
    uint64_t message_id;
    size_t at;
    bool equal;
};

static int compare_text(void *user, struct bytes text)
{
    struct comparison *comparison = user;
    uint8_t *expected = malloc(text.len);
    CHECK(expected != NULL);
    help_text(comparison->message_id, comparison->at, expected, text.len);
    comparison->equal &= memcmp(expected, text.data, text.len) == 0;
    comparison->at += text.len;
    free(expected);
    return 0;
}

int help_check(struct help *help, const struct spool_message *message)
{
    struct spool_reader reader = {0};
    struct envelope envelope;
    int error = spool_read(help->spool, message, &reader, &envelope);
    if (error == 0) {
        CHECK(envelope.message_id == message->message_id &&
              envelope.arrival_us == message->message_id * 1000000 + 5);
        struct envelope_terms terms = terms_of(message->message_id);
        CHECK(memcmp(&envelope.terms, &terms, sizeof terms) == 0 &&
              message->release_s == terms.release_s && message->priority == terms.priority);
        CHECK(bytes_equal(envelope.reverse_path, BYTES("bob@example.com")));
        CHECK(bytes_equal(envelope.added, BYTES("Received: from there by here\r\n")));
        size_t cursor = 0;
        for (uint32_t i = 0; i < envelope.recipient_count; i++) {
            struct envelope_recipient recipient =
                envelope_recipient_next(spool_read_form(&reader), &cursor);
            CHECK(bytes_equal(recipient.forward_path, BYTES("alice@example.org")) &&
                  recipient.notify == i % 8);
        }
        struct comparison comparison = {.message_id = message->message_id, .equal = true};
        error = spool_read_text(&reader, compare_text, &comparison);
        CHECK(error != 0 || (comparison.equal && comparison.at == message->text_len));
    }
    spool_read_close(&reader);
    return error;
}

const struct spool_message *help_recovered(const struct help *help, uint64_t id)
{
    for (size_t i = 0; i < help->recovered_count; i++)
        if (help->recovered[i].message_id == id)
            return &help->recovered[i];
    return NULL;
}

/* Walks the directory; returns how many names contain `part`, and the first of them by order in
 * `name`. */
static int find_files(const struct help *help, const char *part, char *name, size_t name_size)
{
    DIR *directory = opendir(help->path);
    CHECK(directory != NULL);
    int count = 0;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (strstr(entry->d_name, part) == NULL)
            continue;
        if (name != NULL && (count == 0 || strcmp(entry->d_name, name) < 0))
            snprintf(name, name_size, "%s", entry->d_name);
        count++;
    }
    closedir(directory);
    return count;
}

int help_files(const struct help *help, const char *part)
{
    return find_files(help, part, NULL, 0);
}

int help_file(const struct help *help, const char *part, char *name, size_t name_size)
{
    char path[512];
    CHECK(find_files(help, part, name, name_size) != 0);
    snprintf(path, sizeof path, "%s/%s", help->path, name);
    return open(path, O_RDWR | O_CLOEXEC);
}
