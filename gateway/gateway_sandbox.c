/* From root to a user of its own, and no way back: see gateway_sandbox.h. The kernel is asked
 * afterwards whether it is so: a gateway that only believes to have no privileges must not start.
 */
#include "gateway/gateway_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/refuse.h"

/* Who to become. */
struct identity {
    uid_t user;
    gid_t group;
};

enum { CAPABILITIES_MAX = 64 };

static bool look_up(const struct config *config, struct identity *identity, char *error,
                    size_t error_size)
{
    const struct passwd *user = getpwnam(config->user);
    if (user == NULL)
        return refuse(error, error_size, "sandbox.user: there is no user \"%s\"", config->user);
    identity->user = user->pw_uid;
    identity->group = user->pw_gid;
    const struct group *group = config->group == NULL ? NULL : getgrnam(config->group);
    if (config->group != NULL && group == NULL)
        return refuse(error, error_size, "sandbox.group: there is no group \"%s\"", config->group);
    if (group != NULL)
        identity->group = group->gr_gid;
    if (identity->user == 0)
        return refuse(error, error_size, "sandbox.user: %s is root itself", config->user);
    return true;
}

/* give_folder makes a folder that is missing, for the user that we are about to be. One that was
 * there stays its owner's: what is in it may be anybody's. */
static bool give_folder(const char *path, mode_t mode, const struct identity *identity, char *error,
                        size_t error_size)
{
    if (mkdir(path, mode) != 0)
        return true; /* who needs it will say why it can't be used */
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool given = folder >= 0 && fchown(folder, identity->user, identity->group) == 0;
    int reason = errno;
    if (folder >= 0)
        close(folder);
    return given || refuse(error, error_size, "%s can't be given to the user of sandbox.user: %s",
                           path, strerror(reason));
}

static bool give_folders(const struct config *config, const struct identity *identity, char *error,
                         size_t error_size)
{
    bool given = give_folder(config->spool_path, 0700, identity, error, error_size);
    const char *slash = config->control_path == NULL ? NULL : strrchr(config->control_path, '/');
    if (!given || slash == NULL || slash == config->control_path)
        return given;
    char *folder = strndup(config->control_path, (size_t)(slash - config->control_path));
    if (folder == NULL)
        return refuse(error, error_size, "out of memory");
    given = give_folder(folder, 0755, identity, error, error_size);
    free(folder);
    return given;
}

/* No program that is started after this could have more than we, not even a set-uid one. */
static void drop_bounds(void)
{
    for (unsigned long capability = 0; capability < CAPABILITIES_MAX; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0)
            break; /* there are no more of them, or we may not: what matters is checked below */
}

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    (void)syscall(SYS_capset, &header, none);
}

static bool has_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capget, &header, sets) != 0)
        return true;
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        if ((sets[i].effective | sets[i].permitted | sets[i].inheritable) != 0)
            return true;
    return false;
}

static bool is_for_good(const struct identity *identity)
{
    uid_t real, effective, saved;
    gid_t real_group, effective_group, saved_group;
    if (getresuid(&real, &effective, &saved) != 0 ||
        getresgid(&real_group, &effective_group, &saved_group) != 0)
        return false;
    bool same = real == identity->user && effective == real && saved == real &&
                real_group == identity->group && effective_group == real_group &&
                saved_group == real_group;
    bool back = setuid(0) == 0 || seteuid(0) == 0;
    back |= identity->group != 0 && (setgid(0) == 0 || setegid(0) == 0);
    return same && !back;
}

static bool become(const struct config *config, const struct identity *identity, char *error,
                   size_t error_size)
{
    if (geteuid() == identity->user && getuid() == identity->user)
        return true; /* as systemd starts us with User= */
    if (geteuid() != 0)
        return refuse(error, error_size, "sandbox.user: only root can become %s", config->user);
    if (!give_folders(config, identity, error, error_size))
        return false;
    drop_bounds();
    if (initgroups(config->user, identity->group) != 0 ||
        setresgid(identity->group, identity->group, identity->group) != 0 ||
        setresuid(identity->user, identity->user, identity->user) != 0)
        return refuse(error, error_size, "sandbox.user: can't become %s: %s", config->user,
                      strerror(errno));
    if (!is_for_good(identity))
        return refuse(error, error_size, "sandbox.user: became %s, but there is a way back",
                      config->user);
    return true;
}

bool sandbox_drop(const struct config *config, char *error, size_t error_size)
{
    struct identity identity = {0};
    if (config->user != NULL && (!look_up(config, &identity, error, error_size) ||
                                 !become(config, &identity, error, error_size)))
        return false;
    /* A port below 1024 is bound by now: whoever is not root needs nothing more. */
    if (geteuid() != 0) {
        drop_capabilities();
        if (has_capabilities())
            return refuse(error, error_size, "capabilities can't be dropped");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return refuse(error, error_size, "PR_SET_NO_NEW_PRIVS: %s", strerror(errno));
    /* A core file would hold mail and private keys, and a debugger of the same user sees them, too.
     * Who looks for a mistake in ringmx turns seccomp off. */
    if (config->seccomp)
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (config->user != NULL && access(config->spool_path, R_OK | W_OK | X_OK) != 0 &&
        errno == EACCES)
        return refuse(error, error_size,
                      "spool.path: %s may not use %s, which others have made: chown -R %s %s",
                      config->user, config->spool_path, config->user, config->spool_path);
    return true;
}

static size_t tell_unreadable(const char *path, FILE *out)
{
    if (access(path, R_OK) == 0 || errno != EACCES)
        return 0;
    fprintf(out, "%s can't be read any more by whom we have become: a reload would be refused\n",
            path);
    return 1;
}

size_t sandbox_unreadable(const struct config *config, const char *config_path, FILE *out)
{
    size_t count = tell_unreadable(config_path, out);
    for (size_t i = 0; i < config->paths.count; i++)
        count += tell_unreadable(config->paths.all[i], out);
    return count;
}

/* may_write asks as somebody else: a child becomes him. */
static bool may_write(const struct config *config, const struct identity *identity,
                      const char *folder)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        if (initgroups(config->user, identity->group) != 0 ||
            setresgid(identity->group, identity->group, identity->group) != 0 ||
            setresuid(identity->user, identity->user, identity->user) != 0)
            _exit(0); /* not known: nothing is said */
        _exit(access(folder, W_OK | X_OK) != 0 && errno == EACCES);
    }
    return child < 0 || waitpid(child, &status, 0) != child || status == 0;
}

static size_t tell_unwritable(const struct config *config, const char *path, FILE *out)
{
    struct identity identity = {0};
    char error[256];
    char *copy = strdup(path);
    if (copy == NULL)
        return 0;
    const char *folder = dirname(copy);
    bool others = config->user != NULL && geteuid() == 0;
    bool good = others ? !look_up(config, &identity, error, sizeof(error)) ||
                             may_write(config, &identity, folder)
                       : access(folder, W_OK | X_OK) == 0 || errno != EACCES;
    if (!good)
        fprintf(out,
                "warning: %s is to be made (self_signed), and %s may not write to its folder\n",
                path, others ? config->user : "this user");
    free(copy);
    return !good;
}

size_t sandbox_unwritable(const struct config *config, FILE *out)
{
    size_t count = 0;
    fflush(out); /* what is written is written once */
    for (size_t i = 0; i < config->certificate_count; i++)
        if (config->certificates[i].self_signed && config->certificates[i].certificate == NULL) {
            count += tell_unwritable(config, config->certificates[i].chain, out);
            count += tell_unwritable(config, config->certificates[i].key, out);
        }
    return count;
}
