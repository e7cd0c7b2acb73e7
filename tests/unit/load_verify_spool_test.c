/* ringmx-load verify on the spool: it sees what recovery would see, whatever has happened to the
 * files, and leaves them as they are. */
#include "bench/load/verify_table.h"
#include "gateway/spool/crc.h"
#include "tests/support/spool_help.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { MESSAGES_MAX = 4000 };

/* The id that message `number` has in its X-Load-Id. */
static const char *id_of(uint64_t number)
{
    static char id[32];
    snprintf(id, sizeof id, "run-%06llu", (unsigned long long)number);
    return id;
}

static uint32_t random_next(uint32_t *random)
{
    *random = *random * 1664525 + 1013904223;
    return *random >> 8;
}

/* message_make composes message `number`; owned. */
static char *message_make(uint64_t number, size_t body_len, size_t *len, uint32_t *sum)
{
    char *text = malloc(body_len + 128);
    assert_non_null(text);
    char *body = malloc(body_len + 1);
    assert_non_null(body);
    for (size_t i = 0; i < body_len; i++)
        body[i] = (char)(i % 50 == 48   ? '\r'
                         : i % 50 == 49 ? '\n'
                                        : 'a' + (int)((number * 31 + i * 7) % 26));
    *sum = crc32(0, body, body_len);
    int front =
        snprintf(text, 128, "X-Load-Id: %s\r\nX-Load-Sum: %08x\r\n\r\n", id_of(number), *sum);
    memcpy(text + front, body, body_len);
    free(body);
    *len = (size_t)front + body_len;
    return text;
}

static void reserve_and_copy(struct help *help, const char *text, size_t len)
{
    uint8_t *out;
    while ((out = staging_reserve(help->ring, len)) == NULL) {
        staging_publish(help->ring, true);
        bell_wait(&help->bell, 1000);
        staging_acknowledge(help->ring, staging_settled(help->ring));
    }
    memcpy(out, text, len);
}

/* A message that is being laid down. */
struct lay {
    char *text;
    size_t len, at;
    uint32_t sum, parts;
};

static void lay_begin(struct lay *lay, uint64_t number, size_t body_len)
{
    *lay = (struct lay){0};
    lay->text = message_make(number, body_len, &lay->len, &lay->sum);
}

/* lay_piece lays down a BODY record. True: it was the last. */
static bool lay_piece(struct help *help, struct lay *lay, uint64_t number, size_t piece)
{
    size_t len = lay->len - lay->at < piece ? lay->len - lay->at : piece;
    reserve_and_copy(help, lay->text + lay->at, len);
    staging_append(help->ring, RECORD_BODY, number, lay->parts++, len);
    lay->at += len;
    return lay->at == lay->len;
}

static uint64_t lay_commit(struct help *help, struct lay *lay, uint64_t number, uint32_t recipients)
{
    free(lay->text);
    return help_commit(help, help->ring, number, lay->parts, lay->len, recipients);
}

/* message_lay lays down a whole message; returns where it ends. */
static uint64_t message_lay(struct help *help, uint64_t number, size_t body_len, size_t piece,
                            uint32_t recipients, uint32_t *sum)
{
    struct lay lay;
    lay_begin(&lay, number, body_len);
    while (!lay_piece(help, &lay, number, piece)) {
    }
    *sum = lay.sum;
    return lay_commit(help, &lay, number, recipients);
}

/* --- what verify says --- */

static uint32_t sums[MESSAGES_MAX + 1];

/* account_make makes an account of messages 1 to `count`, with the sums above. */
static void account_make(struct verify *verify, uint64_t count)
{
    char path[] = "/tmp/ringmx-acked-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    FILE *file = fdopen(descriptor, "w");
    for (uint64_t number = 1; number <= count; number++)
        fprintf(file, "%s %08x 1\n", id_of(number), sums[number]);
    fclose(file);
    *verify = (struct verify){0};
    verify_table_read(verify, path);
    verify_table_index(verify);
    unlink(path);
}

static void look(struct verify *verify, const struct help *help, uint64_t count)
{
    char error[256] = "";
    account_make(verify, count);
    if (!verify_spool(verify, help->path, error, sizeof error))
        fail_msg("%s", error);
}

static uint32_t found(const struct verify *verify, uint64_t number)
{
    assert_int_equal(verify->entries[number - 1].found_one, 0);
    return verify->entries[number - 1].found_all;
}

/* --- files --- */

/* state_of is a checksum of all names, contents and times in the spool's folder. */
static uint32_t state_of(const struct help *help)
{
    uint32_t state = 0;
    DIR *directory = opendir(help->path);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char path[512];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", help->path, entry->d_name);
        assert_int_equal(stat(path, &status), 0);
        if (!S_ISREG(status.st_mode))
            continue;
        uint32_t one = crc32(0, entry->d_name, strlen(entry->d_name));
        one = crc32(one, &status.st_mtim, sizeof status.st_mtim);
        char *content = malloc((size_t)status.st_size + 1);
        assert_non_null(content);
        int descriptor = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(read(descriptor, content, (size_t)status.st_size), status.st_size);
        close(descriptor);
        state ^= crc32(one, content, (size_t)status.st_size); /* in any order */
        free(content);
    }
    closedir(directory);
    return state;
}

static void octet_change(const struct help *help, const char *part, uint64_t offset)
{
    char name[128];
    int descriptor = help_file(help, part, name, sizeof name);
    uint8_t octet;
    assert_true(descriptor >= 0);
    assert_int_equal(pread(descriptor, &octet, 1, (off_t)offset), 1);
    octet ^= 0x20;
    assert_int_equal(pwrite(descriptor, &octet, 1, (off_t)offset), 1);
    close(descriptor);
}

/* --- tests --- */

static void messages_of_all_states(void **state)
{
    (void)state;
    struct help help;
    struct verify verify;
    struct lay open, given_up;
    help_new(&help);
    help_open(&help);
    message_lay(&help, 1, 100, 4096, 1, &sums[1]);
    message_lay(&help, 2, 300000, 7000, 3, &sums[2]);
    message_lay(&help, 3, 0, 4096, 2, &sums[3]);
    message_lay(&help, 4, 5000, 1000, 1, &sums[4]);
    message_lay(&help, 5, 5000, 1000, 3, &sums[5]);
    message_lay(&help, 6, 5000, 1000, 2, &sums[6]);
    help_done(&help, help.ring, 4, RECORD_ALL_RECIPIENTS, RECORD_DELIVERED, 0);
    help_done(&help, help.ring, 5, 0, RECORD_DELIVERED, 0);
    help_done(&help, help.ring, 5, 2, RECORD_REFUSED, 0);
    help_done(&help, help.ring, 5, 1, RECORD_DEFERRED, 5);
    help_done(&help, help.ring, 6, 1, RECORD_DELIVERED, 0);
    help_done(&help, help.ring, 6, 0, RECORD_EXPIRED, 0);
    lay_begin(&given_up, 7, 3000);
    lay_piece(&help, &given_up, 7, 5000);
    staging_reserve(help.ring, 0);
    staging_append(help.ring, RECORD_ABORT, 7, given_up.parts, 0);
    lay_begin(&open, 8, 3000);
    lay_piece(&help, &open, 8, 1000);
    uint64_t end = help_message(&help, help.ring, 9, 3000, 1000, 1); /* without an id */
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    help_crash(&help);
    sums[7] = given_up.sum;
    sums[8] = open.sum;
    free(given_up.text);
    free(open.text);
    uint32_t before = state_of(&help);
    sums[1] ^= 1; /* so says the account */
    assert_true(verify_is_spool(help.path));
    look(&verify, &help, 8);
    assert_int_equal(state_of(&help), before);
    static const uint32_t expected[] = {1, 1, 1, 0, 1, 0, 0, 0};
    for (uint64_t number = 1; number <= 8; number++)
        assert_int_equal(found(&verify, number), expected[number - 1]);
    assert_int_equal(verify.lists[VERIFY_OTHER].count, 1);
    assert_int_equal(verify.lists[VERIFY_TORN].count, 1);
    assert_string_equal(verify.lists[VERIFY_TORN].first[0].id, id_of(1));
    assert_int_equal(verify.messages, 5);
    verify_table_free(&verify);
    help_free(&help);
}

/* Where a gateway is at work nothing is looked at. */
static void a_spool_in_use_is_refused(void **state)
{
    (void)state;
    struct help help;
    struct verify verify;
    char error[256];
    help_new(&help);
    help_open(&help);
    account_make(&verify, 0);
    assert_false(verify_spool(&verify, help.path, error, sizeof error));
    assert_non_null(strstr(error, "a gateway is at work here"));
    help_close(&help);
    assert_true(verify_spool(&verify, help.path, error, sizeof error));
    verify_table_free(&verify);
    help_free(&help);
}

static void folders_that_are_no_spool(void **state)
{
    (void)state;
    struct help help;
    struct verify verify;
    char error[256], path[256];
    account_make(&verify, 0);
    help_new(&help);
    assert_false(verify_is_spool(help.path));
    assert_false(verify_is_spool("/nonexistent"));
    static const char *const names[] = {
        "0000000000000000.segment",     "000000000000001.segment",    "0000000000000001.preparing",
        "0000000000000001.damaged",     "0000000000000001.poisoned.", "000000000000000A.segment",
        "0000000000000001.poisoned.1x",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof path, "%s/%s", help.path, names[i]);
        close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        assert_false(verify_is_spool(help.path));
    }
    snprintf(path, sizeof path, "%s/0000000000000001.poisoned.1000", help.path);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_true(verify_is_spool(help.path));
    assert_true(verify_spool(&verify, help.path, error, sizeof error)); /* nothing in it */
    assert_int_equal(verify.messages, 0);
    assert_false(verify_spool(&verify, "/nonexistent", error, sizeof error));
    assert_non_null(strstr(error, "No such file"));
    verify_table_free(&verify);
    help_free(&help);
}

/* Two spools in one folder, and a renamed segment: recovery would not start, and nor do we. */
static void mixed_up_segments_are_refused(void **state)
{
    (void)state;
    struct help help;
    struct verify verify;
    char error[256], from[256], to[256];
    account_make(&verify, 0);
    help_new(&help);
    help_open(&help);
    message_lay(&help, 1, 100, 4096, 1, &sums[1]);
    help_close(&help);
    snprintf(from, sizeof from, "%s/%016x.segment", help.path, 1);
    snprintf(to, sizeof to, "%s/%016x.segment", help.path, 0x77);
    assert_int_equal(rename(from, to), 0);
    assert_false(verify_spool(&verify, help.path, error, sizeof error));
    assert_non_null(strstr(error, "was renamed"));
    assert_int_equal(rename(to, from), 0);
    char name[128];
    int descriptor = help_file(&help, "lock", name, sizeof name);
    uint8_t lock[20];
    memset(lock, 7, sizeof lock);
    uint32_t crc = crc32c(0, lock, 16);
    memcpy(lock + 16, &crc, sizeof crc);
    assert_int_equal(pwrite(descriptor, lock, sizeof lock, 0), sizeof lock);
    close(descriptor);
    assert_false(verify_spool(&verify, help.path, error, sizeof error));
    assert_non_null(strstr(error, "belongs to another spool"));
    verify_table_free(&verify);
    help_free(&help);
}

/* fill lays down many messages, some of them at a time, and some DONE. Returns how many there are.
 */
static uint64_t fill(struct help *help, uint32_t *random)
{
    enum { AT_A_TIME = 4 };
    struct lay open[AT_A_TIME] = {0};
    uint64_t numbers[AT_A_TIME] = {0};
    uint64_t count = 0, end = 0;
    uint64_t wanted = 50 + random_next(random) % 100;
    while (count < wanted) {
        uint32_t i = random_next(random) % AT_A_TIME;
        if (open[i].text == NULL) {
            numbers[i] = ++count;
            lay_begin(&open[i], count, random_next(random) % 30000);
            sums[count] = open[i].sum;
        }
        if (!lay_piece(help, &open[i], numbers[i], 500 + random_next(random) % 9000))
            continue;
        end = lay_commit(help, &open[i], numbers[i], 2);
        open[i].text = NULL;
        if (random_next(random) % 3 == 0)
            end =
                help_done(help, help->ring, numbers[i],
                          random_next(random) % 2 ? RECORD_ALL_RECIPIENTS : 1, RECORD_DELIVERED, 0);
        if (random_next(random) % 5 == 0)
            help_wait(help, help->ring, end);
    }
    help_wait(help, help->ring, end);
    for (unsigned i = 0; i < AT_A_TIME; i++)
        free(open[i].text);
    return count;
}

/* damage changes octets, cuts a file or loses one. */
static void damage(const struct help *help, uint32_t *random)
{
    char name[128], path[256];
    unsigned kind = random_next(random) % 6;
    int segments = help_files(help, ".segment");
    char part[32];
    snprintf(part, sizeof part, "%016x.", 1 + random_next(random) % (unsigned)segments);
    if (help_files(help, part) != 1)
        return;
    if (kind >= 2) {
        for (unsigned i = random_next(random) % 4; i > 0; i--)
            octet_change(help, part, random_next(random) % (1024 * 1024));
        return;
    }
    int descriptor = help_file(help, part, name, sizeof name);
    if (kind == 0)
        assert_int_equal(ftruncate(descriptor, random_next(random) % (1024 * 1024)), 0);
    close(descriptor);
    if (kind == 1) {
        char poisoned[300];
        snprintf(path, sizeof path, "%s/%s", help->path, name);
        snprintf(poisoned, sizeof poisoned, "%s/%.16s.poisoned.%x", help->path, name,
                 4096 * (random_next(random) % 256));
        assert_int_equal(rename(path, poisoned), 0);
    }
}

/* What recovery hands over is what we find; what it calls damaged we call torn. */
static void the_same_as_recovery(void **state)
{
    (void)state;
    uint32_t random = 20261122;
    unsigned with_damage = 0, lost = 0;
    for (unsigned round = 0; round < 60; round++) {
        struct help help;
        struct verify verify;
        help_new(&help);
        help_open(&help);
        uint64_t count = fill(&help, &random);
        help_crash(&help);
        if (round % 4 != 0)
            damage(&help, &random);
        uint32_t before = state_of(&help);
        look(&verify, &help, count);
        assert_int_equal(state_of(&help), before);
        assert_true(help_try_open(&help));
        uint64_t torn = 0;
        for (uint64_t number = 1; number <= count; number++) {
            bool recovered = help_recovered(&help, number) != NULL;
            if (recovered && found(&verify, number) != 1)
                fail_msg("round %u: %s: found %u times", round, id_of(number),
                         found(&verify, number));
            torn += !recovered && found(&verify, number) == 1;
            lost += !recovered;
        }
        help_close(&help);
        uint64_t nameless = verify.lists[VERIFY_OTHER].count;
        assert_int_equal(verify.lists[VERIFY_TORN].count, torn);
        assert_int_equal(help_logged(&help, "parts of its text are missing"), torn + nameless);
        with_damage += torn + nameless > 0;
        verify_table_free(&verify);
        help_free(&help);
    }
    assert_true(with_damage > 5 && lost > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_all_states),
        cmocka_unit_test(a_spool_in_use_is_refused),
        cmocka_unit_test(folders_that_are_no_spool),
        cmocka_unit_test(mixed_up_segments_are_refused),
        cmocka_unit_test(the_same_as_recovery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
