/* Outcomes on disk: what a kill, a failing disk and the recycling of segments make of them. The
 * forking test comes first, before any thread is made. */
#include "gateway/deliver/ledger.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "gateway/base/id.h"
#include "tests/support/house.h"

static const char *const mixed[] = {"example.org", "maildir:mail/%d/%u", "example.net",
                                    "discard:", NULL};

/* Stages messages, says so when they are durable, and goes on delivering until it is killed. */
static void deliver_until_killed(const struct house_plan *plan, const struct routes *routes,
                                 uint64_t first_id, int messages, int descriptor)
{
    struct house house;
    house_open(&house, plan, routes);
    house.next_id = first_id;
    for (int i = 0; i < messages; i++) {
        char mailbox[64];
        snprintf(mailbox, sizeof mailbox, "u%d@example.org", i % 10);
        house_stage(&house, mailbox, BYTES("x\r\n"));
    }
    house_commit(&house);
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
    enum { MESSAGES = 400, ROUNDS = 6 };
    struct house_plan plan = {
        .path = "spool6", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    static const char *const pairs[] = {"example.org", "maildir:killed/%u", NULL};
    struct routes *routes = house_routes(pairs);
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
        usleep((useconds_t)round * 30000);
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
    struct house_plan plan = {
        .path = "spool8", .retry_min_s = 1, .retry_max_s = 1, .lifetime_s = 3600};
    struct routes *routes = house_routes(mixed);
    struct house house;
    house_open(&house, &plan, routes);
    house_stage(&house, "error1@example.org error2@example.org c@example.net", BYTES("x\r\n"));
    house_commit(&house);
    atomic_store(&house_disk_fails, true);
    WAIT_FOR(&house, delivered, 3);
    usleep(500000);
    assert_true(house_look(&house).duplicates_possible > 0);
    assert_int_equal(house_look(&house).queued, 0);
    atomic_store(&house_disk_fails, false);
    WAIT_FOR(&house, duplicates_possible, 0);
    house_close(&house);
    house_open(&house, &plan, routes);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    assert_int_equal(house_count_files("mail/example.org/error1/new", NULL), 1);
    assert_int_equal(house_count_files("mail/example.org/error2/new", NULL), 1);
    routes_free(routes);
}

static const char *const gone[] = {"example.net", "discard:", "example.com", "maildir:mail/x",
                                   NULL};
static const char *const dead[] = {"example.net", "discard:", "example.org", "smtp:127.0.0.1:1",
                                   NULL};

/* One message that waits must not keep a hundred dead segments: it moves, with what is known of it,
 * and is delivered from its new place. `pairs`: why it waits. */
static void moves(const char *path, const char *user, const char *const *pairs)
{
    struct house_plan plan = {.path = path,
                              .retry_min_s = 600,
                              .retry_max_s = 600,
                              .lifetime_s = 3600,
                              .segment_size = 1 << 20};
    struct routes *few = house_routes(pairs), *all = house_routes(mixed);
    struct house house;
    static char text[100000]; /* two are less than a quarter of a segment */
    char recipients[64], first[64], name[512];
    memset(text, 't', sizeof text);

    house_open(&house, &plan, few);
    /* For a dead destination the first is the attempt, the second stands in line. */
    snprintf(recipients, sizeof recipients, "%s@example.org x@example.net", user);
    house_stage(&house, recipients, bytes_make(text, sizeof text));
    house_stage(&house, recipients, bytes_make(text, sizeof text));
    house_commit(&house);
    WAIT_FOR(&house, delivered, 2);
    for (int i = 0; i < 4000; i++) {
        house_stage(&house, "x@example.net", bytes_make(text, 5000));
        if (i % 40 == 39)
            house_commit(&house);
    }
    WAIT_FOR(&house, delivered, 4002);
    snprintf(first, sizeof first, "%s/0000000000000001.segment", path);
    for (int i = 0; i < 10000 && access(first, F_OK) == 0; i++)
        usleep(1000);
    assert_int_not_equal(access(first, F_OK), 0);
    assert_int_equal(house_look(&house).queued, 2);
    house_close(&house);

    house_open(&house, &plan, few);
    assert_int_equal(house.recovered, 2);
    house_configure(&house, all);
    WAIT_FOR(&house, delivered, 2);
    assert_int_equal(house_look(&house).queued, 0);
    house_close(&house);
    snprintf(recipients, sizeof recipients, "mail/example.org/%s/new", user);
    assert_int_equal(house_count_files(recipients, name), 2);
    assert_true(house_file_is(name, bytes_make(text, sizeof text)));
    house_open(&house, &plan, few);
    assert_int_equal(house.recovered, 0);
    house_close(&house);
    routes_free(few);
    routes_free(all);
}

static void moves_out_of_old_segments(void **state)
{
    (void)state;
    moves("spool9", "moved", gone);
}

static void moves_what_stands_in_line(void **state)
{
    (void)state;
    moves("spool10", "lined", dead);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed),
        cmocka_unit_test(outlives_disk_errors),
        cmocka_unit_test(moves_out_of_old_segments),
        cmocka_unit_test(moves_what_stands_in_line),
    };
    return cmocka_run_group_tests(tests, house_set_up, house_tear_down);
}
