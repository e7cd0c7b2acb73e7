/* Maildirs on a real file system: what is written where, what a failure leaves behind, attacks by
 * symbolic link, and a full disk. */
#include "gateway/deliver/maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/ringmx-maildir-XXXXXX";
static struct maildir *maildir;
static struct folder folder;

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(root) == NULL || chdir(root) != 0)
        return -1;
    maildir = maildir_new("mx.example.org");
    return maildir == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    maildir_free(maildir);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return chdir("/") + system(command);
}

static uint32_t add(const char *template, const char *mailbox, uint64_t id)
{
    int error = folder_make(&folder, template, BYTES("example.org"), bytes_of_string(mailbox));
    assert_int_equal(error, 0);
    return maildir_add(maildir, &folder, id);
}

/* Counts the entries of a directory; the name of the last goes to `name`. -1: there is no such
 * directory. */
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
            snprintf(name, 256, "%s", entry->d_name);
    }
    closedir(directory);
    return entries;
}

static void assert_content(const char *directory, const char *name, struct bytes expected)
{
    char path[1024];
    static char text[1 << 20];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = open(path, O_RDONLY);
    assert_true(file >= 0);
    ssize_t len = read(file, text, sizeof text);
    close(file);
    assert_true(len >= 0 && bytes_equal(bytes_make(text, (size_t)len), expected));
}

static void one_file(void **state)
{
    (void)state;
    uint32_t index = add("one/%d/%u", "Alice+x@example.org", 0x0123456789abcdef);
    assert_int_equal(index, 0);
    struct bytes texts[] = {BYTES("Return-Path: <>\r\n"), BYTES("Subject: \0x\r\n\r\nHi\r\n")};
    assert_true(maildir_write(maildir, index, texts, 2));
    assert_true(maildir_write(maildir, index, &BYTES(""), 1));
    assert_true(maildir_write(maildir, index, &BYTES("more\r\n"), 1));
    /* Nothing to be seen before it is durable. */
    assert_int_equal(count("one/example.org/alice/new", NULL), 0);
    assert_int_equal(count("one/example.org/alice/tmp", NULL), 1);
    maildir_commit(maildir);
    assert_int_equal(maildir_result(maildir, 0).error, 0);

    char name[256];
    assert_int_equal(count("one/example.org/alice/new", name), 1);
    assert_int_equal(count("one/example.org/alice/tmp", NULL), 0);
    assert_int_equal(count("one/example.org/alice/cur", NULL), 0);
    assert_content("one/example.org/alice/new", name,
                   BYTES("Return-Path: <>\r\nSubject: \0x\r\n\r\nHi\r\nmore\r\n"));
    unsigned long long seconds, micros, sequence;
    int process;
    char rest[256];
    int fields =
        sscanf(name, "%llu.M%lluP%dQ%llu.%255s", &seconds, &micros, &process, &sequence, rest);
    assert_int_equal(fields, 5);
    assert_true(seconds > 1700000000 && micros < 1000000 && process == getpid());
    assert_string_equal(rest, "aerukz4jvpg66.mx.example.org");
    struct stat status;
    assert_int_equal(stat("one/example.org/alice/new", &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(stat("one/example.org", &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
}

static void host_names(void **state)
{
    (void)state;
    static const struct {
        const char *hostname, *in_name;
    } cases[] = {
        {"a/b:c", "a\\057b\\072c"},
        {"a b\n", "a_b_"         },
        {"",      "_"            }
    };
    char long_name[300], name[256];
    for (size_t i = 0; i < 4; i++) {
        memset(long_name, ':', sizeof long_name);
        long_name[sizeof long_name - 1] = '\0';
        struct maildir *other = maildir_new(i < 3 ? cases[i].hostname : long_name);
        assert_int_equal(folder_make(&folder, "host%u", BYTES("d"), bytes_make(&"0123"[i], 1)), 0);
        maildir_add(other, &folder, i);
        assert_true(maildir_write(other, 0, &BYTES("x"), 1));
        maildir_commit(other);
        assert_int_equal(maildir_result(other, 0).error, 0);
        char directory[32];
        snprintf(directory, sizeof directory, "host%zu/new", i);
        assert_int_equal(count(directory, name), 1);
        if (i < 3)
            assert_string_equal(strchr(strchr(name, '.') + 1, '.') + 1 + 14, cases[i].in_name);
        maildir_free(other);
    }
}

/* A full batch, into a few Maildirs and many times over: all there, all names different, no
 * descriptor left open. */
static void batches(void **state)
{
    (void)state;
    int open_before = count("/proc/self/fd", NULL);
    for (int round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < MAILDIR_FILES; i++) {
            assert_int_equal(maildir_room(maildir), MAILDIR_FILES - i);
            static const char *const users[] = {"u0", "u1", "u2"};
            assert_int_equal(add("batch/%u", users[i % 3], i), i);
        }
        assert_int_equal(maildir_room(maildir), 0);
        assert_true(maildir_write(maildir, 0, &BYTES("to all"), 1));
        assert_true(maildir_write(maildir, 32, &BYTES(" and more"), 1));
        assert_int_equal(maildir_octets(maildir), 64 * 6 + 32 * 9);
        maildir_commit(maildir);
        for (uint32_t i = 0; i < MAILDIR_FILES; i++)
            assert_int_equal(maildir_result(maildir, i).error, 0);
        assert_int_equal(maildir_octets(maildir), 0);
    }
    assert_int_equal(count("batch/u0/new", NULL) + count("batch/u1/new", NULL) +
                         count("batch/u2/new", NULL),
                     5 * MAILDIR_FILES);
    assert_int_equal(count("batch/u0/tmp", NULL), 0);
    struct maildir *empty = maildir_new("x");
    maildir_commit(empty);
    maildir_free(empty);
    assert_int_equal(count("/proc/self/fd", NULL), open_before);
}

static void touch(const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(file >= 0);
    close(file);
}

/* Everything that can be in the way, in one batch, with two good ones among it. */
static void obstacles(void **state)
{
    (void)state;
    static const char *const users[] = {"good1",   "file", "nocur", "link",
                                        "linknew", "loop", "good2"};
    int open_before = count("/proc/self/fd", NULL);
    assert_int_equal(mkdir("way", 0700) | mkdir("outside", 0700) | mkdir("outside/new", 0700) |
                         mkdir("outside/tmp", 0700) | mkdir("outside/cur", 0700),
                     0);
    touch("way/file");
    assert_int_equal(mkdir("way/nocur", 0700), 0);
    touch("way/nocur/cur");
    assert_int_equal(symlink("../outside", "way/link"), 0);
    assert_int_equal(mkdir("way/linknew", 0700), 0);
    assert_int_equal(symlink("../../outside/new", "way/linknew/new"), 0);
    assert_int_equal(symlink("loop", "way/loop"), 0);
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(add("way/%u", users[i], i), i);
    assert_true(maildir_write(maildir, 0, &BYTES("text"), 1));
    maildir_commit(maildir);
    for (uint32_t i = 0; i < 7; i++) {
        struct maildir_result result = maildir_result(maildir, i);
        bool good = i == 0 || i == 6;
        if (good != (result.error == 0))
            fail_msg("%s: %s: %s", users[i], result.step, strerror(-result.error));
        assert_true(good || strncmp(result.step, "open ", 5) == 0);
    }
    assert_int_equal(count("way/good1/new", NULL), 1);
    assert_int_equal(count("way/good2/new", NULL), 1);
    assert_int_equal(count("outside", NULL), 3);
    assert_int_equal(count("outside/new", NULL), 0);
    assert_int_equal(count("outside/tmp", NULL), 0);
    assert_int_equal(count("/proc/self/fd", NULL), open_before);

    /* In the prefix, which is the administrator's, a link is followed. */
    assert_int_equal(symlink("outside", "prefix"), 0);
    add("prefix/%u", "bob", 1);
    assert_true(maildir_write(maildir, 0, &BYTES("text"), 1));
    maildir_commit(maildir);
    assert_int_equal(maildir_result(maildir, 0).error, 0);
    assert_int_equal(count("outside/bob/new", NULL), 1);
}

static void hostile_users(void **state)
{
    (void)state;
    static const char *const users[] = {"../../escape", "..", ".", "/etc", "a/../../b", "\"\""};
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(add("jail/in/%u", users[i], i), i);
    assert_true(maildir_write(maildir, 0, &BYTES("text"), 1));
    maildir_commit(maildir);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(maildir_result(maildir, i).error, 0);
    assert_int_equal(count("jail/in", NULL), 6); /* and none of them is hidden */
    assert_int_equal(count("jail", NULL), 1);
}

static void withdrawn(void **state)
{
    (void)state;
    add("gone/%u", "a", 1);
    add("gone/%u", "b", 2);
    add("gone/%u", "c", 3);
    assert_true(maildir_write(maildir, 0, &BYTES("text"), 1));
    maildir_fail(maildir, 1, -EBADMSG, "read");
    maildir_fail(maildir, 1, -EIO, "again");
    assert_true(maildir_write(maildir, 1, &BYTES("text"), 1));
    char name[256], path[512];
    assert_int_equal(count("gone/c/tmp", name), 1);
    snprintf(path, sizeof path, "gone/c/tmp/%s", name);
    assert_int_equal(unlink(path), 0); /* somebody cleans up under our hands */
    maildir_commit(maildir);
    assert_int_equal(maildir_result(maildir, 0).error, 0);
    assert_int_equal(maildir_result(maildir, 1).error, -EBADMSG);
    assert_string_equal(maildir_result(maildir, 1).step, "read");
    assert_int_equal(maildir_result(maildir, 2).error, -ENOENT);
    assert_int_equal(count("gone/a/new", NULL), 1);
    assert_int_equal(count("gone/b/new", NULL), 0);
    assert_int_equal(count("gone/b/tmp", NULL), 0);
}

/* A small file system that fills up: the file that does not fit fails alone and leaves nothing;
 * once there is room again all is well. */
static void full_disk(void **state)
{
    (void)state;
    static char text[200 * 1024];
    assert_int_equal(mkdir("small", 0700), 0);
    if (mount("ringmx-test", "small", "tmpfs", 0, "size=256k,mode=700") != 0) {
        printf("skipped: no right to mount a small file system\n");
        skip();
    }
    memset(text, 'x', sizeof text);
    uint32_t big = add("small/%u", "a", 1);
    uint32_t too_big = add("small/%u", "b", 2);
    struct bytes whole = bytes_make(text, sizeof text);
    bool alive = maildir_write(maildir, 0, &whole, 1);
    bool still = maildir_write(maildir, 1, &BYTES("tail"), 1);
    maildir_commit(maildir);
    int errors[] = {maildir_result(maildir, big).error, maildir_result(maildir, too_big).error};
    int left_tmp = count("small/b/tmp", NULL), left_new = count("small/b/new", NULL);
    int delivered = count("small/a/new", NULL);

    char command[64];
    snprintf(command, sizeof command, "rm -rf small/a/new/*");
    int removed = system(command);
    add("small/%u", "b", 2);
    bool again = maildir_write(maildir, 0, &whole, 1);
    maildir_commit(maildir);
    int error_again = maildir_result(maildir, 0).error;
    umount2("small", MNT_DETACH);

    assert_true(alive && !still);
    assert_int_equal(errors[0], 0);
    assert_int_equal(errors[1], -ENOSPC);
    assert_int_equal(left_tmp, 0);
    assert_int_equal(left_new, 0);
    assert_int_equal(delivered, 1);
    assert_int_equal(removed, 0);
    assert_true(again);
    assert_int_equal(error_again, 0);
}

static void read_only_disk(void **state)
{
    (void)state;
    assert_int_equal(mkdir("frozen", 0700), 0);
    if (mount("ringmx-test", "frozen", "tmpfs", MS_RDONLY, "size=256k,mode=700") != 0) {
        printf("skipped: no right to mount a read-only file system\n");
        skip();
    }
    add("frozen/%u", "a", 1);
    add("thawed/%u", "a", 1);
    bool alive = maildir_write(maildir, 0, &BYTES("text"), 1);
    maildir_commit(maildir);
    int frozen = maildir_result(maildir, 0).error, thawed = maildir_result(maildir, 1).error;
    umount2("frozen", MNT_DETACH);
    assert_true(alive);
    assert_int_equal(frozen, -EROFS);
    assert_int_equal(thawed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_file),  cmocka_unit_test(host_names),     cmocka_unit_test(batches),
        cmocka_unit_test(obstacles), cmocka_unit_test(hostile_users),  cmocka_unit_test(withdrawn),
        cmocka_unit_test(full_disk), cmocka_unit_test(read_only_disk),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
