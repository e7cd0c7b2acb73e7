/* From root to a user of its own. Only root can try it: others are told that they can't. */
#include "gateway/gateway_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/inmate.h"
#include "tests/support/tree.h"

static struct config config;
static const struct passwd *nobody;

static void skip_without_root(void)
{
    nobody = getpwnam("nobody");
    if (geteuid() != 0 || nobody == NULL)
        skip();
}

static int begin(void **state)
{
    static char spool[192], control[192];
    if (tree_begin(state) != 0 || chmod(tree_path(""), 0755) != 0)
        return -1;
    snprintf(spool, sizeof(spool), "%s", tree_path("spool"));
    snprintf(control, sizeof(control), "%s", tree_path("run/control"));
    config = (struct config){.spool_path = spool,
                             .control_path = control,
                             .user = (char *)(uintptr_t) "nobody",
                             .seccomp = true};
    return 0;
}

static int drop(void)
{
    char error[256] = "";
    bool done = sandbox_drop(&config, error, sizeof(error));
    if (!done)
        fprintf(stderr, "# %s\n", error);
    return done ? 0 : -1;
}

static int is_somebody_else(void)
{
    uid_t users[3];
    gid_t groups[3], more[64];
    getresuid(&users[0], &users[1], &users[2]);
    getresgid(&groups[0], &groups[1], &groups[2]);
    for (size_t i = 0; i < 3; i++)
        if (users[i] != nobody->pw_uid || groups[i] != nobody->pw_gid)
            return EINVAL;
    int count = getgroups(64, more);
    for (int i = 0; i < count; i++)
        if (more[i] == 0)
            return EEXIST;
    return 0;
}

static int comes_back(void)
{
    if (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0 || setgroups(0, NULL) == 0)
        return 0;
    return errno;
}

static bool status_says(const char *wanted)
{
    char line[256];
    bool found = false;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
        found = strcmp(line, wanted) == 0;
    if (file != NULL)
        fclose(file);
    return found;
}

static int has_nothing_left(void)
{
    return status_says("CapInh:\t0000000000000000\n") &&
                   status_says("CapPrm:\t0000000000000000\n") &&
                   status_says("CapEff:\t0000000000000000\n") &&
                   status_says("CapBnd:\t0000000000000000\n") &&
                   status_says("CapAmb:\t0000000000000000\n") && status_says("NoNewPrivs:\t1\n") &&
                   prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0
               ? 0
               : EINVAL;
}

static int reads_shadow(void)
{
    return inmate_errno(open("/etc/shadow", O_RDONLY | O_CLOEXEC));
}

static void becomes_the_user(void **state)
{
    (void)state;
    skip_without_root();
    assert_int_equal(inmate_try(drop, is_somebody_else), 0);
    assert_int_equal(inmate_try(drop, comes_back), EPERM);
    assert_int_equal(inmate_try(drop, has_nothing_left), 0);
    assert_int_equal(inmate_try(drop, reads_shadow), EACCES);
}

static void becomes_the_group(void **state)
{
    (void)state;
    skip_without_root();
    const struct group *group = getgrnam("mail");
    if (group == NULL)
        skip();
    struct passwd wanted = *nobody;
    wanted.pw_gid = group->gr_gid;
    nobody = &wanted;
    config.group = (char *)(uintptr_t) "mail";
    assert_int_equal(inmate_try(drop, is_somebody_else), 0);
}

static int uses_folders(void)
{
    struct stat spool, run;
    if (stat(config.spool_path, &spool) != 0 || stat(tree_path("run"), &run) != 0)
        return errno;
    if (spool.st_uid != geteuid() || spool.st_gid != getegid() || run.st_uid != geteuid() ||
        (spool.st_mode & 07777) != 0700)
        return EINVAL;
    return inmate_errno(mkdir(tree_path("spool/x"), 0700));
}

static void gives_folders_that_were_missing(void **state)
{
    (void)state;
    skip_without_root();
    assert_int_equal(inmate_try(drop, uses_folders), 0);
    assert_int_equal(inmate_try(drop, uses_folders), EEXIST); /* once more, with what is there */
}

static int confine_with_roots_spool(void)
{
    char error[256] = "";
    if (sandbox_drop(&config, error, sizeof(error)))
        return -1;
    return strstr(error, "chown -R nobody") != NULL ? 0 : -1;
}

static int nothing(void)
{
    return 0;
}

static void does_not_take_what_is_roots(void **state)
{
    struct stat status;
    (void)state;
    skip_without_root();
    tree_make("spool");
    assert_int_equal(inmate_try(confine_with_roots_spool, nothing), 0);
    assert_int_equal(stat(config.spool_path, &status), 0);
    assert_int_equal(status.st_uid, 0);
}

static void refuses_root_and_strangers(void **state)
{
    char error[256] = "";
    (void)state;
    config.user = (char *)(uintptr_t) "root";
    assert_false(sandbox_drop(&config, error, sizeof(error)));
    assert_string_equal(error, "sandbox.user: root is root itself");
    config.user = (char *)(uintptr_t) "no such user";
    assert_false(sandbox_drop(&config, error, sizeof(error)));
    assert_string_equal(error, "sandbox.user: there is no user \"no such user\"");
}

static int drop_twice(void)
{
    char error[256] = "";
    if (drop() != 0)
        return -1;
    config.user = (char *)(uintptr_t) "daemon";
    return !sandbox_drop(&config, error, sizeof(error)) &&
                   strcmp(error, "sandbox.user: only root can become daemon") == 0
               ? 0
               : -1;
}

static void only_root_can(void **state)
{
    (void)state;
    skip_without_root();
    assert_int_equal(inmate_try(drop_twice, nothing), 0);
}

static int drop_again(void)
{
    return drop() == 0 && drop() == 0 ? 0 : -1;
}

static void is_content_with_what_is(void **state)
{
    (void)state;
    skip_without_root();
    assert_int_equal(inmate_try(drop_again, is_somebody_else), 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, begin, tree_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(becomes_the_user),
        TEST(becomes_the_group),
        TEST(gives_folders_that_were_missing),
        TEST(does_not_take_what_is_roots),
        TEST(refuses_root_and_strangers),
        TEST(only_root_can),
        TEST(is_content_with_what_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
