/* The files that a gateway may reach, tried in a process that has confined itself; and what a
 * configuration would need that it may not reach. */
#include "gateway/gateway_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/inmate.h"
#include "tests/support/tree.h"

static struct config *config; /* of a gateway whose folders stand in the tree */

static struct config *load(const char *text)
{
    tree_put("etc/ringmx.conf", text);
    struct config *loaded = config_load(tree_path("etc/ringmx.conf"), stderr);
    assert_non_null(loaded);
    return loaded;
}

static int begin(void **state)
{
    static const char *const folders[] = {"etc", "lists", "archive", "spool", "outside"};
    char text[2048];
    if (tree_begin(state) != 0)
        return -1;
    char root[192];
    snprintf(root, sizeof(root), "%s", tree_path(""));
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        tree_make(folders[i]);
    tree_put("outside/secret", "secret\n");
    tree_put("archive/secret", "0123456789abcdef0123456789abcdef\n");
    tree_put("lists/users", "alice\n");
    assert_int_equal(symlink(tree_path("archive/secret"), tree_path("etc/srs")), 0);
    snprintf(text, sizeof(text),
             "hostname = \"mx.example.org\"\n"
             "listener \"mx\" { address = \"127.0.0.1:25\" }\n"
             "spool { path = \"%s/spool\" }\n"
             "admin { control = \"%s/run/control\" }\n"
             "srs { domain = \"srs.example.org\" secret = \"srs\" }\n"
             "domain \"example.org\" { recipients = {\"@%s/lists/users\"}\n"
             "    deliver = \"maildir:%s/mail/deep/%%d/%%u\" }\n",
             root, root, root, root);
    config = load(text);
    return 0;
}

static int end(void **state)
{
    config_free(config);
    return tree_end(state);
}

static int confine(void)
{
    char error[512];
    bool done = sandbox_drop(config, error, sizeof(error)) &&
                sandbox_files(config, tree_path("etc/ringmx.conf"), error, sizeof(error));
    if (!done || error[0] != '\0')
        fprintf(stderr, "# %s\n", error);
    return done ? 0 : -1;
}

static int look_for_rules(void)
{
    return sandbox_confines() ? 0 : ENOSYS;
}

static void skip_without_rules(void)
{
    if (inmate_try(confine, look_for_rules) != 0)
        skip();
}

static int opens(const char *path, int flags)
{
    return inmate_errno(open(path, flags | O_CLOEXEC, 0600));
}

/* --- out of reach --- */

static int write_outside(void)
{
    return opens(tree_path("outside/secret"), O_WRONLY);
}

static int make_outside(void)
{
    return opens(tree_path("outside/new"), O_WRONLY | O_CREAT);
}

static int cut_outside(void)
{
    return inmate_errno(truncate(tree_path("outside/secret"), 0));
}

static int remove_outside(void)
{
    return inmate_errno(unlink(tree_path("outside/secret")));
}

static int move_out(void)
{
    return inmate_errno(rename(tree_path("spool"), tree_path("outside/spool")));
}

static int write_configuration(void)
{
    return opens(tree_path("etc/ringmx.conf"), O_WRONLY);
}

static int make_configuration(void)
{
    return opens(tree_path("etc/new"), O_WRONLY | O_CREAT);
}

static int make_folder_outside(void)
{
    return inmate_errno(mkdir(tree_path("outside/folder"), 0700));
}

static int bind_at(const char *path)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    snprintf(place.sun_path, sizeof(place.sun_path), "%s", path);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return inmate_errno(bind(descriptor, (struct sockaddr *)&place, sizeof(place)));
}

static int bind_outside(void)
{
    return bind_at(tree_path("outside/socket"));
}

static int bind_in_spool(void)
{
    return bind_at(tree_path("spool/socket"));
}

static void out_of_reach(void **state)
{
    static int (*const attempts[])(void) = {
        write_outside,      make_outside,        cut_outside,  remove_outside, write_configuration,
        make_configuration, make_folder_outside, bind_outside, bind_in_spool,
    };
    (void)state;
    skip_without_rules();
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        int result = inmate_try(confine, attempts[i]);
        if (result != EACCES)
            fail_msg("attempt %zu: %d", i, result);
    }
    int result = inmate_try(confine, move_out);
    assert_true(result == EACCES || result == EXDEV);
}

/* Sanitizers must be able to read programs for their reports. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MAY_READ = true };
#else
enum { MAY_READ = false };
#endif

static int read_outside(void)
{
    return opens(tree_path("outside/secret"), O_RDONLY);
}

static int read_shadow(void)
{
    return opens("/etc/shadow", O_RDONLY);
}

static int read_home(void)
{
    return opens("/root", O_RDONLY | O_DIRECTORY);
}

static int read_root(void)
{
    return opens("/", O_RDONLY | O_DIRECTORY);
}

static int read_disk(void)
{
    return opens("/dev/mem", O_RDONLY);
}

static int read_parent(void)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/environ", (int)getppid());
    return opens(path, O_RDONLY);
}

static int run_program(void)
{
    char *arguments[] = {(char *)(uintptr_t) "/bin/true", NULL};
    return inmate_errno(execve(arguments[0], arguments, NULL));
}

static void not_to_be_read(void **state)
{
    static int (*const attempts[])(void) = {read_outside, read_shadow, read_home,
                                            read_root,    read_parent, run_program};
    (void)state;
    skip_without_rules();
    if (MAY_READ)
        skip();
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        int result = inmate_try(confine, attempts[i]);
        if (result != EACCES)
            fail_msg("attempt %zu: %d", i, result);
    }
    int result = inmate_try(confine, read_disk);
    assert_true(result == EACCES || result == ENOENT);
}

static int signal_parent(void)
{
    return inmate_errno(kill(getppid(), 0));
}

static void signals_stay_inside(void **state)
{
    (void)state;
    skip_without_rules();
    int result = inmate_try(confine, signal_parent);
    assert_true(result == EPERM || result == 0); /* before Linux 6.12 they do not */
}

/* --- what works --- */

static int use_spool(void)
{
    int descriptor = open(tree_path("spool/segment"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return descriptor >= 0 && ftruncate(descriptor, 4096) == 0 &&
                   rename(tree_path("spool/segment"), tree_path("spool/other")) == 0 &&
                   unlink(tree_path("spool/other")) == 0
               ? 0
               : errno;
}

/* The folders above did not exist; a file goes from one folder to another. */
static int use_maildir(void)
{
    if (mkdir(tree_path("mail/deep/d"), 0700) != 0 ||
        mkdir(tree_path("mail/deep/d/tmp"), 0700) != 0 ||
        mkdir(tree_path("mail/deep/d/new"), 0700) != 0)
        return errno;
    int error = opens(tree_path("mail/deep/d/tmp/1"), O_WRONLY | O_CREAT);
    if (error == 0)
        error =
            inmate_errno(rename(tree_path("mail/deep/d/tmp/1"), tree_path("mail/deep/d/new/1")));
    if (error == 0)
        error = inmate_errno(unlink(tree_path("mail/deep/d/new/1")));
    return error == 0 && rmdir(tree_path("mail/deep/d/tmp")) == 0 &&
                   rmdir(tree_path("mail/deep/d/new")) == 0 && rmdir(tree_path("mail/deep/d")) == 0
               ? 0
               : errno;
}

static int read_everything(void)
{
    static const char *const files[] = {"etc/ringmx.conf", "lists/users", "etc/srs"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (opens(tree_path(files[i]), O_RDONLY) != 0)
            return errno;
    for (const char *const *file = (const char *const[]){"/etc/passwd", "/dev/null", "/dev/urandom",
                                                         "/proc/self/status", NULL};
         *file != NULL; file++)
        if (opens(*file, O_RDONLY) != 0)
            return errno;
    return 0;
}

static int use_control(void)
{
    int error = bind_at(tree_path("run/control"));
    return error != 0 ? error : inmate_errno(unlink(tree_path("run/control")));
}

static int load_again(void)
{
    struct config *loaded = config_load(tree_path("etc/ringmx.conf"), stderr);
    if (loaded == NULL)
        return EINVAL;
    size_t count = sandbox_covers(loaded, stderr);
    config_free(loaded);
    return count == 0 ? 0 : EXDEV;
}

static void within_reach(void **state)
{
    (void)state;
    skip_without_rules();
    assert_int_equal(inmate_try(confine, use_spool), 0);
    assert_int_equal(inmate_try(confine, use_maildir), 0);
    assert_int_equal(inmate_try(confine, read_everything), 0);
    assert_int_equal(inmate_try(confine, use_control), 0);
    assert_int_equal(inmate_try(confine, load_again), 0);
}

/* A renewed certificate is another file in the same folder, by another link. */
static int renew(void)
{
    return opens(tree_path("archive/renewed"), O_RDONLY);
}

static void renewed_files_are_within_reach(void **state)
{
    (void)state;
    skip_without_rules();
    tree_put("archive/renewed", "renewed\n");
    assert_int_equal(inmate_try(confine, renew), 0);
}

/* --- a configuration that wants more --- */

static int load_more(void)
{
    char *said = NULL;
    size_t len;
    char wanted[512];
    FILE *out = open_memstream(&said, &len);
    struct config *loaded = config_load(tree_path("etc/more.conf"), stderr);
    if (out == NULL || loaded == NULL)
        return EINVAL;
    size_t count = sandbox_covers(loaded, out);
    fclose(out);
    snprintf(wanted, sizeof(wanted),
             "%s/elsewhere is out of reach since the start (sandbox.landlock), and only a restart "
             "can change it\n",
             tree_path(""));
    bool same = count == 1 && strcmp(said, wanted) == 0;
    if (!same)
        fprintf(stderr, "# %zu: %s", count, said);
    free(said);
    config_free(loaded);
    return same ? 0 : EXDEV;
}

static void more_is_told(void **state)
{
    char text[1024];
    char root[192];
    snprintf(root, sizeof(root), "%s", tree_path(""));
    (void)state;
    skip_without_rules();
    snprintf(
        text, sizeof(text),
        "hostname = \"mx.example.org\"\n"
        "listener \"mx\" { address = \"127.0.0.1:25\" }\n"
        "spool { path = \"%s/spool\" }\n"
        "domain \"a.example\" { recipients = {\"*\"}  deliver = \"maildir:%s/mail/deep/%%d\" }\n"
        "domain \"b.example\" { recipients = {\"*\"}  deliver = \"maildir:%s/elsewhere/%%u\" }\n",
        root, root, root);
    tree_put("etc/more.conf", text);
    assert_int_equal(inmate_try(confine, load_more), 0);
}

static int confine_not(void)
{
    char error[512];
    config->landlock = false;
    bool done = sandbox_drop(config, error, sizeof(error)) &&
                sandbox_files(config, tree_path("etc/ringmx.conf"), error, sizeof(error));
    return done ? 0 : -1;
}

static void turned_off(void **state)
{
    (void)state;
    assert_int_equal(inmate_try(confine_not, look_for_rules), ENOSYS);
    assert_int_equal(inmate_try(confine_not, write_outside), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(out_of_reach),
        cmocka_unit_test(not_to_be_read),
        cmocka_unit_test(signals_stay_inside),
        cmocka_unit_test(within_reach),
        cmocka_unit_test(renewed_files_are_within_reach),
        cmocka_unit_test(more_is_told),
        cmocka_unit_test(turned_off),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
