/* Limits of the system: see gateway_limits.h. */
#include "gateway/gateway_limits.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gateway/gateway_memory.h"

enum {
    DESCRIPTORS_BESIDE = 512, /* for everything that is no connection */
};

/* --- raising --- */

static void raise_descriptors(struct gateway *gateway)
{
    struct rlimit limit;
    const struct config *config = gateway->initial;
    rlim_t wanted = (rlim_t)config->server.connections_max + config->courier.connections_max +
                    DESCRIPTORS_BESIDE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    struct rlimit raised = {wanted, limit.rlim_max > wanted ? limit.rlim_max : wanted};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    log_message(gateway->log_port, LOG_WARN, "limit",
                "only %llu file descriptors are allowed, %llu are needed for limits.connections "
                "and deliver.connections: raise RLIMIT_NOFILE (ulimit -n)",
                (unsigned long long)limit.rlim_cur, (unsigned long long)wanted);
}

void gateway_limits_raise(struct gateway *gateway)
{
    struct rlimit locked = {RLIM_INFINITY, RLIM_INFINITY};
    raise_descriptors(gateway);
    if (setrlimit(RLIMIT_MEMLOCK, &locked) == 0 || getrlimit(RLIMIT_MEMLOCK, &locked) != 0)
        return;
    locked.rlim_cur = locked.rlim_max;
    (void)setrlimit(RLIMIT_MEMLOCK, &locked);
}

/* locked_needed: of all workers and the courier. */
static uint64_t locked_needed(const struct gateway *gateway)
{
    return (gateway->initial->worker_count + 1ull) * worker_locked_octets();
}

void gateway_limits_hint(const struct gateway *gateway, int error, char *out, size_t out_size)
{
    struct rlimit limit;
    out[0] = '\0';
    if (error == -EMFILE || error == -ENFILE)
        snprintf(out, out_size, " (raise RLIMIT_NOFILE: ulimit -n)");
    if (error != -ENOMEM || getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
        limit.rlim_cur == RLIM_INFINITY)
        return;
    snprintf(out, out_size,
             " (the rings of %u workers need %llu KiB of locked memory, and RLIMIT_MEMLOCK allows "
             "this user %llu: raise it (ulimit -l, LimitMEMLOCK=), or take fewer workers)",
             (unsigned)gateway->initial->worker_count,
             (unsigned long long)locked_needed(gateway) / 1024,
             (unsigned long long)limit.rlim_cur / 1024);
}

/* --- rehearsal --- */

/* fits_alone: rings of the process before count as well, and go with it. */
static bool fits_alone(const struct gateway *gateway, int error)
{
    struct rlimit limit;
    return error == -ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
           limit.rlim_cur != RLIM_INFINITY && locked_needed(gateway) <= limit.rlim_cur;
}

static int make_workers(struct gateway *gateway, const char **what)
{
    const struct config *config = gateway->initial;
    struct worker_options options = {
        .cpu = -1,
        .streams_max = memory_pools(config).streams,
        .blocks_max = memory_pools(config).blocks,
        .buffer_count = config->io_buffer_count,
        .buffer_size = config->io_buffer_size,
        .owner_size = sizeof(struct session),
        .baseline = config->io_baseline,
        .records_max = config_has_tls(config) ? memory_pools(config).streams : 0,
    };
    size_t count = config->worker_count + 1, made = 0; /* the courier has one, too */
    struct worker *workers = calloc(count, sizeof(*workers));
    int error = workers == NULL ? -ENOMEM : 0;
    for (; error == 0 && made < count; made += error == 0)
        error = worker_init(&workers[made], &options, what);
    for (size_t i = 0; i < made; i++)
        worker_cleanup(&workers[i]);
    free(workers);
    return error;
}

/* try_segment opens one, which stands for all: 0, or an errno and its name in `path`. */
static int try_segment(const char *spool, char *path, size_t path_size)
{
    static const char suffix[] = ".segment";
    const struct dirent *entry;
    int error = 0;
    DIR *directory = opendir(spool);
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        size_t len = strlen(entry->d_name);
        if (len < sizeof(suffix) || strcmp(entry->d_name + len - sizeof(suffix) + 1, suffix) != 0)
            continue;
        snprintf(path, path_size, "%s/%s", spool, entry->d_name);
        int descriptor = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        error = descriptor < 0 ? errno : 0;
        if (error == ENOENT) /* the process before goes on meanwhile */
            error = 0;
        else if (descriptor < 0 || close(descriptor) == 0)
            break;
    }
    if (directory != NULL)
        closedir(directory);
    return error;
}

static bool refuse(struct gateway *gateway, const char *what, int error, const char *hint)
{
    log_message(gateway->log_port, LOG_ERROR, "start_failed",
                "%s: %s%s; the process before goes on", what, strerror(error), hint);
    return false;
}

bool gateway_limits_rehearse(struct gateway *gateway)
{
    char path[4096], hint[256];
    const char *what = "memory for workers";
    const struct config *config = gateway->initial;
    int error = make_workers(gateway, &what);
    if (error < 0 && !fits_alone(gateway, error)) {
        gateway_limits_hint(gateway, error, hint, sizeof(hint));
        return refuse(gateway, what, -error, hint);
    }
    error = try_segment(config->spool_path, path, sizeof(path));
    if (error != 0)
        return refuse(gateway, path, error, "");
    snprintf(path, sizeof(path), "%s", config->control_path);
    if (access(dirname(path), W_OK | X_OK) != 0)
        return refuse(gateway, "the folder of admin.control", errno, "");
    return true;
}
