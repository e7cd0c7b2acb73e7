/* The courier with a real spool and real Maildirs: what arrives, what is put off and comes back,
 * what survives a restart and a kill, and what a discarded message costs. */
#include "gateway/deliver/courier.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/bell.h"
#include "gateway/base/clock.h"
#include "gateway/base/id.h"

static char root[] = "/tmp/ringmx-courier-XXXXXX";

/* A gateway without its front: a spool, a courier, and a port to put messages into. */
struct house {
    struct log *log;
    struct spool *spool;
    struct staging *staging;
    struct courier *courier;
    struct bell bell;
    uint64_t next_id;
    uint64_t last; /* end of the last record staged */
    uint32_t recovered;
};

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(root) == NULL || chdir(root) != 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return chdir("/") + system(command);
}

static struct routes *routes_of(const char *const *pairs)
{
    struct routes *routes = routes_new();
    const char *error;
    for (; pairs[0] != NULL; pairs += 2)
        assert_true(routes_add(routes, bytes_of_string(pairs[0]), pairs[1], &error));
    return routes;
}

static void ring(void *user)
{
    struct house *house = user;
    bell_ring(&house->bell);
}

static void recovered(void *user, const struct spool_recovered *found)
{
    struct house *house = user;
    house->recovered++;
    courier_recovered(house->courier, found);
}

static atomic_bool disk_fails;

static ssize_t failing_write(int descriptor, const struct iovec *parts, int parts_count,
                             off_t offset, int flags)
{
    if (!atomic_load(&disk_fails))
        return segment_io_kernel.write(descriptor, parts, parts_count, offset, flags);
    errno = EIO;
    return -1;
}

struct plan {
    const char *path; /* of the spool */
    uint32_t retry_min_s, retry_max_s, lifetime_s;
    uint64_t segment_size;
};

static void house_open(struct house *house, const struct plan *plan, const struct routes *routes)
{
    char path[64], error[256] = "";
    static const uint8_t uuid[16] = {1, 2, 3};
    static struct segment_io failing;
    failing = segment_io_kernel;
    failing.write = failing_write;

    memset(house, 0, sizeof *house);
    snprintf(path, sizeof path, "%s.log", plan->path);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    house->log = log_new(
        &(struct log_options){.descriptor = descriptor, .level = LOG_INFO, .format = LOG_LOGFMT});
    assert_non_null(house->log);
    house->courier = courier_new(&(struct courier_options){
        .log = house->log,
        .routes = routes,
        .hostname = "mx.example.org",
        .retry_min_s = plan->retry_min_s,
        .retry_max_s = plan->retry_max_s,
        .lifetime_s = plan->lifetime_s,
        .cpu = -1,
    });
    assert_non_null(house->courier);
    house->spool = spool_open(&(struct spool_options){.path = plan->path,
                                                      .segment_size = plan->segment_size != 0
                                                                          ? plan->segment_size
                                                                          : 48 << 20,
                                                      .sync = SPOOL_SYNC_FDATASYNC,
                                                      .writer_cpu = -1,
                                                      .uuid = uuid,
                                                      .io = &failing,
                                                      .log = house->log},
                              recovered, house, error, sizeof error);
    if (house->spool == NULL)
        fail_msg("%s", error);
    house->staging = spool_port(house->spool, ring, house);
    assert_non_null(house->staging);
    assert_true(courier_attach(house->courier, house->spool));
    assert_int_equal(spool_start(house->spool), 0);
    assert_int_equal(courier_start(house->courier), 0);
    house->next_id = spool_message_id_min(house->spool);
}

static void house_close(struct house *house)
{
    courier_stop(house->courier);
    spool_stop(house->spool);
    spool_close(house->spool);
    courier_free(house->courier);
    log_free(house->log);
}

/* Stages a message; recipients are separated by blanks. Returns its id. */
static uint64_t stage(struct house *house, const char *recipients, struct bytes text)
{
    static struct envelope_recipient list[1000];
    uint64_t id = house->next_id++;
    uint32_t count = 0, part = 0;

    for (struct bytes rest = bytes_of_string(recipients); rest.len > 0; count++) {
        list[count] = (struct envelope_recipient){.forward_path =
                                                      bytes_slice(rest, 0, bytes_find(rest, ' '))};
        rest = bytes_skip(rest, list[count].forward_path.len + 1);
    }
    for (struct bytes rest = text; rest.len > 0; part++) {
        size_t len = rest.len < LIMIT_PIECE ? rest.len : LIMIT_PIECE;
        uint8_t *out;
        while ((out = staging_reserve(house->staging, len)) == NULL) {
            staging_publish(house->staging, true);
            usleep(1000);
        }
        memcpy(out, rest.data, len);
        staging_append(house->staging, RECORD_BODY, id, part, len);
        rest = bytes_skip(rest, len);
    }
    struct envelope envelope = {.message_id = id,
                                .arrival_us = clock_wall_us(),
                                .text_len = text.len,
                                .recipient_count = count,
                                .reverse_path = BYTES("sender@example.com"),
                                .added = BYTES("Received: by mx.example.org\r\n")};
    size_t size = envelope_size(&envelope, list);
    uint8_t *out;
    while ((out = staging_reserve(house->staging, size)) == NULL) {
        staging_publish(house->staging, true);
        usleep(1000);
    }
    assert_int_equal(envelope_write(&envelope, list, out), size);
    house->last = staging_append(house->staging, RECORD_COMMIT, id, part, size);
    return id;
}

/* Waits until all that was staged is durable. */
static void commit(struct house *house)
{
    enum staging_outcome outcome;
    staging_publish(house->staging, true);
    while ((outcome = staging_outcome(house->staging, house->last)) == STAGING_WAITING) {
        staging_set_sleeping(house->staging, true);
        bell_wait(&house->bell, 1000);
    }
    assert_int_equal(outcome, STAGING_DURABLE);
    staging_acknowledge(house->staging, house->last);
}

/* The processor time of the courier's thread so far, in nanoseconds. */
static uint64_t courier_cpu_ns(void)
{
    char path[600], name[32] = "";
    unsigned long long ns = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; (task = readdir(tasks)) != NULL && strcmp(name, "courier\n") != 0;) {
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL || fgets(name, sizeof name, file) == NULL)
            name[0] = '\0';
        if (file != NULL)
            fclose(file);
        snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", task->d_name);
        file = fopen(path, "r");
        if (file == NULL || fscanf(file, "%llu", &ns) != 1)
            ns = 0;
        if (file != NULL)
            fclose(file);
    }
    closedir(tasks);
    return ns;
}

static struct courier_snapshot look(struct house *house)
{
    struct courier_snapshot snapshot;
    courier_snapshot(house->courier, &snapshot);
    return snapshot;
}

/* Waits for a counter to reach a value, 20 seconds at most. */
#define WAIT_FOR(house, field, value)                                                              \
    do {                                                                                           \
        for (int wait_ms = 0; look(house).field != (value) && wait_ms < 20000; wait_ms++)          \
            usleep(1000);                                                                          \
        assert_int_equal(look(house).field, value);                                                \
    } while (0)

static int count(const char *path, char *name)
{
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -1;
    int entries = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        entries++;
        if (name != NULL)
            snprintf(name, 512, "%s/%s", path, entry->d_name);
    }
    closedir(directory);
    return entries;
}

static void assert_file(const char *path, struct bytes text)
{
    static const char head[] =
        "Return-Path: <sender@example.com>\r\nReceived: by mx.example.org\r\n";
    size_t size = sizeof head - 1 + text.len;
    char *content = malloc(size + 1);
    int file = open(path, O_RDONLY);
    assert_true(file >= 0);
    assert_int_equal(read(file, content, size + 1), size);
    close(file);
    assert_memory_equal(content, head, sizeof head - 1);
    assert_memory_equal(content + sizeof head - 1, text.data, text.len);
    free(content);
}

static bool logged(const struct plan *plan, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "%s.log", plan->path);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    static char line[4096];
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL)
        found = strstr(line, text) != NULL;
    fclose(file);
    return found;
}

static const char *const mixed[] = {"example.org", "maildir:mail/%d/%u", "example.net",
                                    "discard:", NULL};

static void delivers(void **state)
{
    (void)state;
    struct plan plan = {.path = "spool1", .retry_min_s = 1, .retry_max_s = 2, .lifetime_s = 3600};
    struct routes *routes = routes_of(mixed);
    struct house house;
    house_open(&house, &plan, routes);

    struct bytes text = BYTES("Subject: x\r\n\r\nbody\0with NUL\r\n.\r\n");
    uint64_t id = stage(&house, "Alice+x@example.org x@example.net bob@Example.ORG", text);
    commit(&house);
    WAIT_FOR(&house, delivered, 3);
    char name[512], id_text[ID_TEXT_LEN + 1];
    assert_int_equal(count("mail/example.org/alice/new", name), 1);
    assert_file(name, text);
    id_format(id, id_text);
    assert_non_null(strstr(name, id_text));
    assert_int_equal(count("mail/example.org/bob/new", name), 1);
    assert_file(name, text);

    /* A text of many pieces, and none at all. */
    size_t len = 3000000;
    uint8_t *big = malloc(len);
    for (size_t i = 0; i < len; i++)
        big[i] = (uint8_t)(i * i >> 7);
    stage(&house, "big@example.org", bytes_make(big, len));
    stage(&house, "empty@example.org", BYTES(""));
    commit(&house);
    WAIT_FOR(&house, delivered, 5);
    assert_int_equal(count("mail/example.org/big/new", name), 1);
    assert_file(name, bytes_make(big, len));
    assert_int_equal(count("mail/example.org/empty/new", name), 1);
    assert_file(name, BYTES(""));
    free(big);

    /* More recipients than a batch of files takes, and than the bitmap in the queue. */
    static char many[20000];
    size_t at = 0;
    for (int i = 0; i < 200; i++)
        at += (size_t)snprintf(many + at, sizeof many - at, "%su%d@example.org", i == 0 ? "" : " ",
                               i);
    stage(&house, many, text);
    stage(&house, "after@example.org", text);
    commit(&house);
    WAIT_FOR(&house, delivered, 206);
    for (int i = 0; i < 200; i++) {
        char path[64];
        snprintf(path, sizeof path, "mail/example.org/u%d/new", i);
        assert_int_equal(count(path, name), 1);
        assert_file(name, text);
    }
    assert_int_equal(look(&house).queued, 0);
    assert_int_equal(look(&house).deferred, 0);
    house_close(&house);
    char line[128];
    snprintf(line, sizeof line,
             "event=delivered id=%s to=Alice+x@example.org target=maildir ms=", id_text);
    assert_true(logged(&plan, line));

    /* All of it is written down: nothing comes again. */
    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(routes);
}

/* One recipient's Maildir is in the way; the others do not wait for it, and it is delivered once
 * the way is free. */
static void puts_off_and_retries(void **state)
{
    (void)state;
    struct plan plan = {.path = "spool2", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    struct routes *routes = routes_of(mixed);
    struct house house;
    house_open(&house, &plan, routes);
    assert_int_equal(mkdir("mail", 0700) == 0 || errno == EEXIST, 1);
    assert_int_equal(mkdir("mail/example.org", 0700) == 0 || errno == EEXIST, 1);
    int file = open("mail/example.org/blocked", O_WRONLY | O_CREAT, 0600);
    close(file);
    stage(&house, "one@example.org blocked@example.org two@example.org", BYTES("x\r\n"));
    stage(&house, "three@example.org", BYTES("y\r\n"));
    commit(&house);
    WAIT_FOR(&house, delivered, 3);
    WAIT_FOR(&house, deferred, 1);
    assert_int_equal(look(&house).queued, 1);
    WAIT_FOR(&house, deferred, 2);
    assert_int_equal(unlink("mail/example.org/blocked"), 0);
    WAIT_FOR(&house, delivered, 4);
    assert_int_equal(look(&house).queued, 0);
    assert_int_equal(count("mail/example.org/blocked/new", NULL), 1);
    assert_int_equal(count("mail/example.org/one/new", NULL), 1);
    assert_int_equal(count("mail/example.org/two/new", NULL), 1);
    assert_int_equal(count("mail/example.org/three/new", NULL), 1);
    house_close(&house);
    assert_true(logged(&plan, "to=blocked@example.org target=maildir attempt=1 next_s=1"));
    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(routes);
}

/* What is put off, what is finished of it, and the number of attempts survive a restart. */
static void survives_restart(void **state)
{
    (void)state;
    struct plan plan = {
        .path = "spool3", .retry_min_s = 600, .retry_max_s = 600, .lifetime_s = 3600};
    static const char *const unknown[] = {"example.net", "discard:", NULL};
    struct routes *few = routes_of(unknown), *all = routes_of(mixed);
    struct house house;

    /* 100 recipients: the even ones can be delivered, the odd ones have no route. */
    static char many[8000];
    size_t at = 0;
    for (int i = 0; i < 100; i++)
        at += (size_t)snprintf(many + at, sizeof many - at, "%sr%d@example.%s", i == 0 ? "" : " ",
                               i, i % 2 == 0 ? "net" : "org");
    static const char *const first[] = {"example.com", "maildir:mail/x", "example.net",
                                        "discard:", NULL};
    struct routes *start = routes_of(first);
    house_open(&house, &plan, start);
    stage(&house, many, BYTES("x\r\n"));
    commit(&house);
    WAIT_FOR(&house, delivered, 50);
    WAIT_FOR(&house, deferred, 50);
    assert_int_equal(look(&house).queued, 1);
    house_close(&house);

    /* Only discards now; but the message was accepted for another domain, and must not be thrown
     * away. */
    house_open(&house, &plan, few);
    assert_int_equal(house.recovered, 1);
    usleep(100000);
    assert_int_equal(look(&house).deferred, 0); /* not due for ten minutes */
    courier_configure(house.courier, few);
    WAIT_FOR(&house, deferred, 50);
    assert_int_equal(look(&house).delivered, 0);
    house_close(&house);
    assert_true(logged(&plan, "attempt=2 next_s=6"));

    house_open(&house, &plan, few);
    assert_int_equal(house.recovered, 1);
    courier_configure(house.courier, all);
    WAIT_FOR(&house, delivered, 50);
    assert_int_equal(look(&house).queued, 0);
    house_close(&house);
    for (int i = 0; i < 100; i++) {
        char path[64];
        snprintf(path, sizeof path, "mail/example.org/r%d/new", i);
        assert_int_equal(count(path, NULL), i % 2 == 0 ? -1 : 1);
    }
    house_open(&house, &plan, all);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(start);
    routes_free(few);
    routes_free(all);
}

/* After its lifetime a message is held, not lost; a start and a reload give it another attempt. */
static void holds(void **state)
{
    (void)state;
    struct plan plan = {.path = "spool4", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 1};
    struct routes *all = routes_of(mixed);
    struct house house;
    house_open(&house, &plan, all);
    stage(&house, "a@nowhere.example held@example.org", BYTES("x\r\n"));
    commit(&house);
    WAIT_FOR(&house, delivered, 1);
    WAIT_FOR(&house, expired, 1);
    WAIT_FOR(&house, held, 1);
    assert_int_equal(look(&house).queued, 1);
    courier_configure(house.courier, all);
    WAIT_FOR(&house, expired, 2);
    house_close(&house);
    assert_true(logged(&plan, "event=held"));

    house_open(&house, &plan, all);
    assert_int_equal(house.recovered, 1);
    WAIT_FOR(&house, expired, 1);
    static const char *const fixed[] = {"nowhere.example", "maildir:mail/%d/%u", NULL};
    struct routes *more = routes_of(fixed);
    courier_configure(house.courier, more);
    WAIT_FOR(&house, delivered, 1);
    assert_int_equal(look(&house).held, 0);
    house_close(&house);
    assert_int_equal(count("mail/nowhere.example/a/new", NULL), 1);
    assert_int_equal(count("mail/example.org/held/new", NULL), 1);
    house_open(&house, &plan, all);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(all);
    routes_free(more);
}

/* Reloads while mail flows: every message is delivered exactly once. */
static void reloads_under_load(void **state)
{
    (void)state;
    enum { MESSAGES = 2000 };
    struct plan plan = {.path = "spool5", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    static const char *const here[] = {"example.org", "maildir:here/%u", NULL};
    static const char *const there[] = {"example.org", "maildir:there/%u", NULL};
    struct routes *routes = routes_of(here);
    struct house house;
    house_open(&house, &plan, routes);
    for (int i = 0; i < MESSAGES; i++) {
        char mailbox[64];
        snprintf(mailbox, sizeof mailbox, "u%d@example.org", i % 10);
        stage(&house, mailbox, BYTES("x\r\n"));
        if (i % 100 != 99)
            continue;
        staging_publish(house.staging, true);
        struct routes *next = routes_of(i % 200 == 99 ? there : here);
        courier_configure(house.courier, next);
        routes_free(routes);
        routes = next;
    }
    commit(&house);
    WAIT_FOR(&house, delivered, MESSAGES);
    house_close(&house);
    int files = 0;
    for (int i = 0; i < 20; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/u%d/new", i < 10 ? "here" : "there", i % 10);
        int found = count(path, NULL);
        files += found > 0 ? found : 0;
    }
    assert_int_equal(files, MESSAGES);
    routes_free(routes);
}

/* Stages messages, says so when they are durable, and goes on delivering until it is killed. */
static void deliver_until_killed(const struct plan *plan, const struct routes *routes,
                                 uint64_t first_id, int messages, int descriptor)
{
    struct house house;
    house_open(&house, plan, routes);
    house.next_id = first_id;
    for (int i = 0; i < messages; i++) {
        char mailbox[64];
        snprintf(mailbox, sizeof mailbox, "u%d@example.org", i % 10);
        stage(&house, mailbox, BYTES("x\r\n"));
    }
    commit(&house);
    if (write(descriptor, "!", 1) != 1)
        _exit(1);
    pause();
}

/* Counts the files below killed/, and how many different message ids they have. */
static void count_ids(int *files, int *ids)
{
    static uint64_t seen[100000];
    *files = *ids = 0;
    for (int user = 0; user < 10; user++) {
        char path[64];
        snprintf(path, sizeof path, "killed/u%d/new", user);
        DIR *directory = opendir(path);
        assert_non_null(directory);
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
            const char *host = strstr(entry->d_name, ".mx.example.org");
            uint64_t id;
            if (host == NULL)
                continue;
            assert_true(id_parse(host - ID_TEXT_LEN, ID_TEXT_LEN, &id));
            int i = 0;
            while (i < *ids && seen[i] != id)
                i++;
            if (i == *ids)
                seen[(*ids)++] = id;
            (*files)++;
        }
        closedir(directory);
    }
}

/* A process that is killed while it delivers; the next one finishes. Each message is there once or
 * more. */
static void killed(void **state)
{
    (void)state;
    enum { MESSAGES = 300, ROUNDS = 8 };
    struct plan plan = {.path = "spool6", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    static const char *const pairs[] = {"example.org", "maildir:killed/%u", NULL};
    struct routes *routes = routes_of(pairs);
    struct house house;

    for (int round = 0; round < ROUNDS; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        if (child == 0)
            deliver_until_killed(&plan, routes, (uint64_t)(round + 1) << 32, MESSAGES, pipes[1]);
        char durable;
        close(pipes[1]);
        assert_int_equal(read(pipes[0], &durable, 1), 1);
        usleep((useconds_t)round * 60000);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(pipes[0]);
    }
    house_open(&house, &plan, routes);
    WAIT_FOR(&house, delivered, house.recovered);
    WAIT_FOR(&house, queued, 0);
    house_close(&house);
    int files, ids;
    count_ids(&files, &ids);
    assert_int_equal(ids, ROUNDS * MESSAGES);
    printf("%d kills: %d messages, %u left for the last start, %d files too many\n", ROUNDS, ids,
           house.recovered, files - ids);
    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(routes);
}

/* The disk refuses writes just when the outcome should go there. It is written when that is over;
 * the mail does not come twice. */
static void outlives_disk_errors(void **state)
{
    (void)state;
    struct plan plan = {.path = "spool8", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    struct routes *routes = routes_of(mixed);
    struct house house;
    house_open(&house, &plan, routes);
    stage(&house, "error1@example.org error2@example.org c@example.net", BYTES("x\r\n"));
    commit(&house);
    atomic_store(&disk_fails, true);
    WAIT_FOR(&house, delivered, 3);
    usleep(500000);
    assert_true(look(&house).duplicates_possible > 0);
    assert_int_equal(look(&house).queued, 0);
    atomic_store(&disk_fails, false);
    WAIT_FOR(&house, duplicates_possible, 0);
    house_close(&house);
    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    assert_int_equal(count("mail/example.org/error1/new", NULL), 1);
    assert_int_equal(count("mail/example.org/error2/new", NULL), 1);
    routes_free(routes);
}

/* One message that waits must not keep a hundred dead segments: it moves, with what is known of it,
 * and is delivered from its new place. */
static void moves_out_of_old_segments(void **state)
{
    (void)state;
    struct plan plan = {.path = "spool9",
                        .retry_min_s = 600,
                        .retry_max_s = 600,
                        .lifetime_s = 3600,
                        .segment_size = 1 << 20};
    static const char *const pairs[] = {"example.net", "discard:", "example.com", "maildir:mail/x",
                                        NULL};
    struct routes *few = routes_of(pairs), *all = routes_of(mixed);
    struct house house;
    static char text[200000]; /* less than a quarter of a segment */
    memset(text, 't', sizeof text);

    house_open(&house, &plan, few);
    stage(&house, "moved@example.org x@example.net", bytes_make(text, sizeof text));
    commit(&house);
    WAIT_FOR(&house, deferred, 1);
    WAIT_FOR(&house, delivered, 1);
    for (int i = 0; i < 4000; i++) {
        stage(&house, "x@example.net", bytes_make(text, 5000));
        if (i % 40 == 39)
            commit(&house);
    }
    WAIT_FOR(&house, delivered, 4001);
    const char *first = "spool9/0000000000000001.segment";
    for (int i = 0; i < 10000 && access(first, F_OK) == 0; i++)
        usleep(1000);
    assert_int_not_equal(access(first, F_OK), 0);
    assert_int_equal(look(&house).queued, 1);
    house_close(&house);

    house_open(&house, &plan, few);
    assert_int_equal(house.recovered, 1);
    courier_configure(house.courier, all);
    WAIT_FOR(&house, delivered, 1);
    assert_int_equal(look(&house).queued, 0);
    house_close(&house);
    char name[512];
    assert_int_equal(count("mail/example.org/moved/new", name), 1);
    assert_file(name, bytes_make(text, sizeof text));
    house_open(&house, &plan, few);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(few);
    routes_free(all);
}

static void discards(void **state)
{
    (void)state;
    enum { MESSAGES = 200000 };
    struct plan plan = {.path = "spool7", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    static const char *const pairs[] = {"example.net", "discard:", NULL};
    struct routes *routes = routes_of(pairs);
    struct house house;
    house_open(&house, &plan, routes);
    log_configure(house.log, LOG_WARN, LOG_LOGFMT);
    for (int i = 0; i < MESSAGES; i++) {
        stage(&house, i % 10 == 0 ? "a@example.net b@example.net" : "c@example.net",
              BYTES("x\r\n"));
        if (i % 100 == 99)
            staging_publish(house.staging, true);
    }
    commit(&house);
    WAIT_FOR(&house, delivered, MESSAGES + MESSAGES / 10);
    WAIT_FOR(&house, duplicates_possible, 0);
    printf("a discarded message costs the courier %llu ns\n",
           (unsigned long long)courier_cpu_ns() / MESSAGES);
    house_close(&house);
    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(routes);
}

int main(void)
{
    /* Forking comes before any thread is made. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed),
        cmocka_unit_test(delivers),
        cmocka_unit_test(puts_off_and_retries),
        cmocka_unit_test(survives_restart),
        cmocka_unit_test(holds),
        cmocka_unit_test(reloads_under_load),
        cmocka_unit_test(outlives_disk_errors),
        cmocka_unit_test(moves_out_of_old_segments),
        cmocka_unit_test(discards),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
