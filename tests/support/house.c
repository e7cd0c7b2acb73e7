/* Builds the courier's surroundings from the real parts; only the disk can be told to fail. */
#include "tests/support/house.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

atomic_bool house_disk_fails;
struct envelope_terms house_terms;

static char root[] = "/tmp/ringmx-courier-XXXXXX";

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

static ssize_t failing_write(int descriptor, const struct iovec *parts, int parts_count,
                             off_t offset, int flags)
{
    if (!atomic_load(&house_disk_fails))
        return segment_io_kernel.write(descriptor, parts, parts_count, offset, flags);
    errno = EIO;
    return -1;
}

int house_set_up(void **state)
{
    (void)state;
    return mkdtemp(root) == NULL || chdir(root) != 0;
}

int house_tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return chdir("/") + system(command);
}

struct routes *house_routes(const char *const *pairs)
{
    struct routes *routes = routes_new();
    const char *error;
    for (; pairs[0] != NULL; pairs += 2)
        CHECK(routes_add(routes, bytes_of_string(pairs[0]), &pairs[1], 1, NULL, &error));
    return routes;
}

/* A resolver at port 9 of the loopback answers nobody: nothing leaves the machine. */
static struct courier_rules house_rules(const struct house *house, const struct house_plan *plan,
                                        const struct routes *routes)
{
    return (struct courier_rules){.routes = routes,
                                  .directory = house->directory,
                                  .lifetime_s = plan->lifetime_s,
                                  .warn_after_s = plan->warn_after_s,
                                  .bounce_original_max = 50000};
}

void house_configure(struct house *house, const struct routes *routes)
{
    struct courier_options options = {.rules = house_rules(house, house->plan, routes)};
    courier_configure(house->courier, &options);
}

void house_open(struct house *house, const struct house_plan *plan, const struct routes *routes)
{
    char path[64], error[256] = "";
    static const uint8_t uuid[16] = {1, 2, 3};
    static struct segment_io failing;
    failing = segment_io_kernel;
    failing.write = failing_write;

    memset(house, 0, sizeof *house);
    snprintf(path, sizeof path, "%s.log", plan->path);
    house->log_descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    house->log = log_new(&(struct log_options){
        .descriptor = house->log_descriptor, .level = LOG_INFO, .format = LOG_LOGFMT});
    house->directory = directory_new();
    CHECK(house->log != NULL && house->directory != NULL);
    house->courier = courier_new(&(struct courier_options){
        .log = house->log,
        .hostname = "mx.example.org",
        .rules = house_rules(house, plan, routes),
        .schedule_s = {plan->retry_min_s,                                                  plan->retry_max_s},
        .schedule_count = 2,
        .connections_max = 50,
        .dns = {.servers = {{.v4 = {.sin_family = AF_INET, .sin_port = htons(9)}}},
                       .server_count = 1                                                                    },
        .cpu = -1,
    });
    house->plan = plan;
    CHECK(house->courier != NULL);
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
        fprintf(stderr, "%s\n", error);
    CHECK(house->spool != NULL);
    house->staging = spool_port(house->spool, ring, house);
    CHECK(house->staging != NULL);
    CHECK(courier_attach(house->courier, house->spool));
    CHECK(spool_start(house->spool) == 0);
    const char *what = NULL;
    CHECK(courier_start(house->courier, &what) == 0);
    house->next_id = spool_message_id_min(house->spool);
}

void house_close(struct house *house)
{
    courier_stop(house->courier);
    spool_stop(house->spool);
    spool_close(house->spool);
    courier_free(house->courier);
    directory_free(house->directory);
    log_free(house->log);
    close(house->log_descriptor);
}

/* Stages a message; recipients are separated by blanks. Returns its id. */
uint64_t house_stage(struct house *house, const char *recipients, struct bytes text)
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
                                .terms = house_terms,
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
    CHECK(envelope_write(&envelope, list, out) == size);
    house->last = staging_append(house->staging, RECORD_COMMIT, id, part, size);
    return id;
}

/* Waits until all that was staged is durable. */
void house_commit(struct house *house)
{
    enum staging_outcome outcome;
    staging_publish(house->staging, true);
    while ((outcome = staging_outcome(house->staging, house->last)) == STAGING_WAITING) {
        staging_set_sleeping(house->staging, true);
        bell_wait(&house->bell, 1000);
    }
    CHECK(outcome == STAGING_DURABLE);
    staging_acknowledge(house->staging, house->last);
}

struct courier_snapshot house_look(const struct house *house)
{
    struct courier_snapshot snapshot;
    courier_snapshot(house->courier, &snapshot);
    return snapshot;
}

int house_count_files(const char *path, char *name)
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

bool house_file_is(const char *path, struct bytes text)
{
    static const char head[] =
        "Return-Path: <sender@example.com>\r\nReceived: by mx.example.org\r\n";
    struct bytes before = bytes_make(head, sizeof head - 1);
    size_t size = before.len + text.len;
    uint8_t *content = malloc(size + 1);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(content != NULL && file >= 0);
    ssize_t len = read(file, content, size + 1);
    close(file);
    bool same = len == (ssize_t)size && bytes_equal(bytes_make(content, before.len), before) &&
                bytes_equal(bytes_make(content + before.len, text.len), text);
    free(content);
    return same;
}

bool house_logged(const struct house_plan *plan, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "%s.log", plan->path);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    static char line[4096];
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL)
        found = strstr(line, text) != NULL;
    fclose(file);
    return found;
}

/* The processor time of the courier's thread so far, in nanoseconds. */
uint64_t house_courier_cpu_ns(void)
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
