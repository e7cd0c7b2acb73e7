/* The process as the kernel and the allocator see it, under the names that every exporter uses.
 * What can't be asked (a sandbox, another allocator) is left out. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gateway/admin/metrics_inside.h"

/* jemalloc's, where it is linked: a sanitizer brings an allocator of its own. */
extern int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
    __attribute__((weak));

static void memory(struct exposition *out)
{
    uint64_t pages, resident;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return;
    bool known = fscanf(file, "%" SCNu64 " %" SCNu64, &pages, &resident) == 2;
    fclose(file);
    if (!known)
        return;
    uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE);
    exposition_single(out, "process_virtual_memory_bytes", EXPOSITION_GAUGE,
                      "Virtual memory size in bytes.", pages * size);
    exposition_single(out, "process_resident_memory_bytes", EXPOSITION_GAUGE,
                      "Resident memory size in bytes.", resident * size);
}

static void descriptors(struct exposition *out)
{
    struct rlimit limit;
    uint64_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (folder != NULL) {
        for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
            count += entry->d_name[0] != '.';
        closedir(folder);
        exposition_single(out, "process_open_fds", EXPOSITION_GAUGE,
                          "Number of open file descriptors.", count > 0 ? count - 1 : 0);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        exposition_single(out, "process_max_fds", EXPOSITION_GAUGE,
                          "Maximum number of open file descriptors.", limit.rlim_cur);
}

static void allocator(struct exposition *out)
{
    static const struct {
        const char *statistic, *name, *help;
    } figures[] = {
        {"stats.allocated", "ringmx_malloc_allocated_bytes", "Octets that are allocated."        },
        {"stats.active",    "ringmx_malloc_active_bytes",    "Octets of pages with any of these."},
        {"stats.resident",  "ringmx_malloc_resident_bytes",  "Octets that the allocator keeps."  },
        {"stats.mapped",    "ringmx_malloc_mapped_bytes",    "Octets that it has mapped."        },
        {"stats.metadata",  "ringmx_malloc_metadata_bytes",  "Octets of its own bookkeeping."    },
    };
    uint64_t epoch = 1;
    size_t value, len = sizeof(epoch);
    if (mallctl == NULL || mallctl("epoch", &epoch, &len, &epoch, sizeof(epoch)) != 0)
        return;
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        len = sizeof(value);
        if (mallctl(figures[i].statistic, &value, &len, NULL, 0) == 0)
            exposition_single(out, figures[i].name, EXPOSITION_GAUGE, figures[i].help, value);
    }
}

static uint64_t microseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

void metrics_process(struct exposition *out, const struct metrics_sources *sources)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        exposition_family(out, "process_cpu_seconds_total", EXPOSITION_COUNTER,
                          "Total user and system CPU time spent in seconds.");
        exposition_seconds(out, microseconds(usage.ru_utime) + microseconds(usage.ru_stime), NULL);
    }
    memory(out);
    if (sources->memory_max != 0)
        exposition_single(out, "ringmx_memory_limit_bytes", EXPOSITION_GAUGE,
                          "The most that this configuration can need (ringmx --check).",
                          sources->memory_max);
    descriptors(out);
    exposition_single(out, "process_start_time_seconds", EXPOSITION_GAUGE,
                      "Start time of the process since unix epoch in seconds.", sources->started_s);
    allocator(out);
}
