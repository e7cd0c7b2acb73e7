/* The files of a gateway that runs (Landlock): see gateway_sandbox.h. A rule is tied to the folder
 * that stood at a path when we started, with all below it; so files are named by their folder,
 * which goes on holding those that renewals put there. What a link leads to is named, too. */
#include "gateway/gateway_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/deliver/folder.h"

/* The report of a sanitizer reads programs and starts a symbolizer; it writes nowhere else. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { UNDER_SANITIZER = true };
#else
enum { UNDER_SANITIZER = false };
#endif

enum {
    ABI_MIN = 2,         /* Linux 5.19: files may be moved between folders */
    ABI_TRUNCATE = 3,    /* 6.2 */
    ABI_NET = 4,         /* 6.7 */
    ABI_IOCTL = 5,       /* 6.10 */
    ABI_SCOPE = 6,       /* 6.12 */
    PREFIXES_MAX = 1024, /* folders of Maildirs: with more, their parents are meant */
};

/* What is newer than the headers of Linux 6.1. */
static const uint64_t ACCESS_TRUNCATE = 1 << 14;
static const uint64_t ACCESS_IOCTL_DEVICE = 1 << 15;
static const uint64_t SCOPE_ABSTRACT_SOCKET = 1 << 0;
static const uint64_t SCOPE_SIGNAL = 1 << 1;

struct ruleset {
    uint64_t files, net, scoped;
};

static const uint64_t OF_FILES = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                 LANDLOCK_ACCESS_FS_READ_FILE | (1 << 14) | (1 << 15);
static const uint64_t TO_READ = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
static const uint64_t TO_WRITE = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
                                 LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                 LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                                 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REFER | (1 << 14);
static const uint64_t TO_LISTEN =
    LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE;

/* A folder (or file) and what may be done there. */
struct place {
    char *path; /* owned, without links */
    uint64_t rights;
};

struct places {
    struct place *all;
    size_t count;
    bool failed; /* no memory */
};

/* What is in force in this process, for ever. */
static struct places in_force;
static bool confined;

/* --- places --- */

static void free_places(struct places *places)
{
    for (size_t i = 0; i < places->count; i++)
        free(places->all[i].path);
    free(places->all);
    *places = (struct places){0};
}

/* keep adds a path, which is the list's from here on. */
static void keep(struct places *places, char *path, uint64_t rights)
{
    struct place *all = path == NULL ? NULL : places->all;
    if (path != NULL && (places->count & (places->count - 1)) == 0)
        all = realloc(all, (places->count == 0 ? 1 : places->count * 2) * sizeof(*all));
    if (all == NULL) {
        places->failed = true;
        free(path);
        return;
    }
    places->all = all;
    all[places->count++] = (struct place){path, rights};
}

/* add_place adds what stands at `path`; nothing: then there is nothing to reach. */
static void add_place(struct places *places, const char *path, uint64_t rights)
{
    char *real = realpath(path, NULL);
    if (real != NULL)
        keep(places, real, rights);
    else if (errno == ENOMEM)
        places->failed = true;
}

static void add_folder_of(struct places *places, const char *path, uint64_t rights)
{
    char *copy = strdup(path);
    if (copy == NULL)
        places->failed = true;
    else
        add_place(places, dirname(copy), rights);
    free(copy);
}

/* add_file adds the folder of a file, and that of the file which a link there leads to. */
static void add_file(struct places *places, const char *path, uint64_t rights)
{
    char *real = realpath(path, NULL);
    add_folder_of(places, path, rights);
    if (real != NULL)
        add_folder_of(places, real, rights);
    free(real);
}

static bool lies_in(const char *path, const char *folder)
{
    size_t len = strlen(folder);
    if (strcmp(folder, "/") == 0)
        return true;
    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(((const struct place *)a)->path, ((const struct place *)b)->path);
}

/* unite leaves out each place that lies in the one before it. All have the same rights. */
static void unite(struct places *places)
{
    size_t kept = 0;
    if (places->count == 0)
        return;
    qsort(places->all, places->count, sizeof(places->all[0]), compare_paths);
    for (size_t i = 0; i < places->count; i++)
        if (kept > 0 && lies_in(places->all[i].path, places->all[kept - 1].path))
            free(places->all[i].path);
        else
            places->all[kept++] = places->all[i];
    places->count = kept;
}

/* --- Maildirs --- */

static void add_prefix(void *user, const struct route *route)
{
    struct places *places = user;
    struct folder folder;
    if (route->kind != ROUTE_MAILDIR ||
        folder_make(&folder, route->maildir, BYTES("d"), BYTES("u@d")) != 0)
        return;
    folder.path[folder.prefix_len] = '\0';
    const char *path = folder.prefix_len > 0 ? folder.path : route->maildir[0] == '/' ? "/" : ".";
    /* A million domains mostly have the same template. */
    if (places->count == 0 || strcmp(places->all[places->count - 1].path, path) != 0)
        keep(places, strdup(path), TO_WRITE);
}

/* prefixes_of returns the fixed parts of all Maildirs, as written. */
static struct places prefixes_of(const struct config *config)
{
    struct places found = {0};
    routes_each(config->routes, add_prefix, &found);
    unite(&found);
    while (found.count > PREFIXES_MAX) {
        for (size_t i = 0; i < found.count; i++) {
            char *parent = strdup(dirname(found.all[i].path));
            found.failed |= parent == NULL;
            if (parent != NULL) {
                free(found.all[i].path);
                found.all[i].path = parent;
            }
        }
        unite(&found); /* paths grow shorter each time, down to one "/" or "." */
    }
    return found;
}

/* make_folder makes the folders on the way to `path` that are missing, each durable: deliveries
 * take what is there for durable, and could not make them any more. */
static void make_folder(const char *path)
{
    char part[FOLDER_PATH_MAX];
    for (size_t i = 1; i < sizeof(part); i++) {
        if (path[i - 1] == '\0')
            return;
        part[i - 1] = path[i - 1];
        part[i] = '\0';
        if ((path[i] != '/' && path[i] != '\0') || mkdir(part, 0700) != 0)
            continue;
        int above = open(dirname(part), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        memcpy(part, path, i); /* dirname has cut it */
        if (above >= 0) {
            (void)fsync(above);
            close(above);
        }
    }
}

static void add_maildirs(struct places *places, const struct config *config)
{
    struct places prefixes = prefixes_of(config);
    places->failed |= prefixes.failed;
    for (size_t i = 0; i < prefixes.count; i++) {
        make_folder(prefixes.all[i].path);
        add_place(places, prefixes.all[i].path, TO_WRITE);
    }
    free_places(&prefixes);
}

/* --- everything --- */

/* The system's settings: names of users, name servers, authorities, time zones. Who is not root may
 * read all of /etc that everybody may; from root, secrets there must be kept. */
static void add_system(struct places *places)
{
    static const char *const folders[] = {"/etc/ssl",
                                          "/etc/ca-certificates",
                                          "/etc/pki",
                                          "/usr/share/ca-certificates",
                                          "/usr/local/share/ca-certificates",
                                          "/usr/share/zoneinfo",
                                          "/usr/share/publicsuffix",
                                          "/usr/lib/ssl",
                                          "/run/systemd/userdb",
                                          "/var/lib/sss",
                                          "/run/nscd",
                                          "/sys/devices/system/cpu",
                                          "/proc/self"};
    static const char *const files[] = {"/etc/passwd",   "/etc/group",       "/etc/nsswitch.conf",
                                        "/etc/hosts",    "/etc/resolv.conf", "/etc/host.conf",
                                        "/etc/services", "/etc/localtime",   "/etc/gai.conf",
                                        "/dev/urandom"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        add_place(places, folders[i], TO_READ);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        add_place(places, files[i], TO_READ);
    add_place(places, "/dev/null",
              LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE);
    if (geteuid() != 0)
        add_place(places, "/etc", TO_READ);
    /* It mostly is a link to where a service writes it anew. */
    char *real = realpath("/etc/resolv.conf", NULL);
    if (real != NULL && strncmp(real, "/etc/", 5) != 0)
        add_folder_of(places, real, TO_READ);
    free(real);
    if (UNDER_SANITIZER)
        add_place(places, "/", TO_READ | LANDLOCK_ACCESS_FS_EXECUTE);
}

static void add_all(struct places *places, const struct config *config, const char *config_path)
{
    add_system(places);
    add_place(places, config->spool_path, TO_WRITE);
    add_maildirs(places, config);
    add_file(places, config_path, TO_READ);
    for (size_t i = 0; i < config->paths.count; i++)
        add_file(places, config->paths.all[i], TO_READ);
    for (size_t i = 0; i < config->certificate_count; i++)
        if (config->certificates[i].self_signed) {
            add_file(places, config->certificates[i].chain, TO_WRITE);
            add_file(places, config->certificates[i].key, TO_WRITE);
        }
    if (config->control_path != NULL)
        add_folder_of(places, config->control_path, TO_LISTEN);
}

/* make_folders makes those that their users would make later. */
static void make_folders(const struct config *config)
{
    char *copy = config->control_path == NULL ? NULL : strdup(config->control_path);
    (void)mkdir(config->spool_path, 0700);
    if (copy != NULL)
        (void)mkdir(dirname(copy), 0755);
    free(copy);
}

/* --- the kernel --- */

static int add_rule(int ruleset, const struct place *place, uint64_t handled)
{
    struct stat status;
    int descriptor = open(place->path, O_PATH | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status) != 0) {
        int error = -errno;
        if (descriptor >= 0)
            close(descriptor);
        return error == -ENOENT || error == -EACCES ? 0 : error; /* nobody can go there anyway */
    }
    struct landlock_path_beneath_attr rule = {
        .allowed_access = place->rights & handled,
        .parent_fd = descriptor,
    };
    if (!S_ISDIR(status.st_mode))
        rule.allowed_access &= OF_FILES;
    int error = 0;
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
        error = -errno;
    /* What stands for a process in /proc is made anew when nobody holds it, and the rule would be
     * gone: this descriptor stays open as long as the process lives. */
    if (strncmp(place->path, "/proc/", 6) != 0)
        close(descriptor);
    return error;
}

static uint64_t handled_by(long abi)
{
    uint64_t handled = (LANDLOCK_ACCESS_FS_REFER << 1) - 1; /* all of ABI 2 */
    if (abi >= ABI_TRUNCATE)
        handled |= ACCESS_TRUNCATE;
    if (abi >= ABI_IOCTL)
        handled |= ACCESS_IOCTL_DEVICE;
    return handled;
}

/* Signals and abstract sockets do not leave us, but for the one by which systemd is told. */
static uint64_t scope_of(long abi)
{
    const char *notify = getenv("NOTIFY_SOCKET");
    if (abi < ABI_SCOPE)
        return 0;
    return notify != NULL && notify[0] == '@' ? SCOPE_SIGNAL : SCOPE_SIGNAL | SCOPE_ABSTRACT_SOCKET;
}

static int enforce(const struct places *places, long abi)
{
    struct ruleset rules = {.files = handled_by(abi), .scoped = scope_of(abi)};
    size_t size = abi >= ABI_SCOPE ? sizeof(rules) : abi >= ABI_NET ? 16 : 8;
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    int error = ruleset < 0 ? -errno : 0;
    for (size_t i = 0; i < places->count && error == 0; i++)
        error = add_rule(ruleset, &places->all[i], rules.files);
    if (error == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        error = -errno;
    if (ruleset >= 0)
        close(ruleset);
    return error;
}

bool sandbox_files(const struct config *config, const char *config_path, char *error,
                   size_t error_size)
{
    *error = '\0';
    if (!config->landlock || confined)
        return true;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < ABI_MIN) {
        snprintf(error, error_size,
                 "this kernel has no Landlock: all files are open that %s may use",
                 config->user != NULL ? config->user : "the user");
        return true;
    }
    struct places places = {0};
    make_folders(config);
    add_all(&places, config, config_path);
    int result = places.failed ? -ENOMEM : enforce(&places, abi);
    if (result != 0) {
        free_places(&places);
        snprintf(error, error_size, "Landlock: %s", strerror(-result));
        return false;
    }
    in_force = places;
    confined = true;
    return true;
}

/* --- reload --- */

bool sandbox_confines(void)
{
    return confined;
}

static bool is_covered(const char *path, uint64_t rights)
{
    for (size_t i = 0; i < in_force.count; i++)
        if ((in_force.all[i].rights & rights) == rights && lies_in(path, in_force.all[i].path))
            return true;
    return false;
}

/* tell says that a path is out of reach: what it leads to, or where it is to be made. */
static size_t tell(const char *path, uint64_t rights, FILE *out)
{
    char *copy = strdup(path);
    char *real = realpath(path, NULL);
    for (int depth = 0; real == NULL && copy != NULL && depth < FOLDER_PATH_MAX; depth++)
        real = realpath(dirname(copy), NULL);
    bool covered = real != NULL && is_covered(real, rights);
    if (!covered)
        fprintf(out,
                "%s is out of reach since the start (sandbox.landlock), and only a restart can "
                "change it\n",
                path);
    free(real);
    free(copy);
    return !covered;
}

/* As root we have the file that stood there at the start, not /etc with all its secrets; what was
 * moved to its place since is another one. The resolver keeps its servers (io/dns_channel.c). */
static size_t tell_name_servers(const struct config *loaded, FILE *out)
{
    if (loaded->courier.dns.server_count > 0)
        return 0;
    int descriptor = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
    bool out_of_reach = descriptor < 0 && errno == EACCES;
    if (descriptor >= 0)
        close(descriptor);
    if (out_of_reach)
        fputs("/etc/resolv.conf is another file since the start, and out of reach of root "
              "(sandbox.landlock): the name servers stay, and only a restart can change them\n",
              out);
    return out_of_reach;
}

size_t sandbox_covers(const struct config *loaded, FILE *out)
{
    size_t count = 0;
    if (!confined)
        return 0;
    struct places prefixes = prefixes_of(loaded);
    for (size_t i = 0; i < prefixes.count; i++)
        count += tell(prefixes.all[i].path, TO_WRITE, out);
    for (size_t i = 0; i < loaded->paths.count; i++)
        count += tell(loaded->paths.all[i], LANDLOCK_ACCESS_FS_READ_FILE, out);
    count += tell_name_servers(loaded, out);
    free_places(&prefixes);
    return count;
}
