/* CPU clocks of threads: see threads.h. */
#include "gateway/admin/threads.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first that a name begins with says where it stands. */
static const char *const order[] = {"worker", "writer", "preparer", "courier", "helper", "store"};
enum { ORDER_COUNT = sizeof(order) / sizeof(order[0]) };

static size_t rank_of(const char *name)
{
    for (size_t i = 0; i < ORDER_COUNT; i++)
        if (strncmp(name, order[i], strlen(order[i])) == 0)
            return i;
    return ORDER_COUNT;
}

static int compare(const void *a, const void *b)
{
    const struct threads_one *x = a, *y = b;
    size_t x_rank = rank_of(x->name), y_rank = rank_of(y->name);
    if (x_rank != y_rank)
        return x_rank < y_rank ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* clock_of is the CPU clock of a thread: clockid_t holds ~id above three bits that say "of a
 * thread, as scheduled" (pthread_getcpuclockid makes the same). */
static clockid_t clock_of(int id)
{
    return (clockid_t)((~(unsigned)id << 3) | 6);
}

static bool clock_us(clockid_t clock, uint64_t *us)
{
    struct timespec used;
    if (clock_gettime(clock, &used) != 0)
        return false;
    *us = (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
    return true;
}

static bool read_name(int folder, const char *id, char *name)
{
    char path[32];
    snprintf(path, sizeof(path), "%.20s/comm", id);
    int file = openat(folder, path, O_RDONLY | O_CLOEXEC);
    ssize_t len = file < 0 ? -1 : read(file, name, THREADS_NAME_SIZE - 1);
    if (file >= 0)
        close(file);
    if (len <= 0)
        return false;
    name[len] = '\0';
    name[strcspn(name, "\n")] = '\0';
    return true;
}

/* What `known` tells of a thread goes on. */
static void adopt(struct threads_one *one, const struct threads *known)
{
    for (uint32_t i = 0; i < known->count; i++)
        if (known->all[i].id == one->id) {
            one->used_us = known->all[i].used_us;
            one->load = known->all[i].load;
            return;
        }
    (void)clock_us(one->clock, &one->used_us);
}

void threads_find(struct threads *threads)
{
    struct threads found = {
        .used_us = threads->used_us, .looked_us = threads->looked_us, .load = threads->load};
    DIR *folder = opendir("/proc/self/task");
    if (folder == NULL)
        return;
    const struct dirent *entry;
    while (found.count < THREADS_MAX && (entry = readdir(folder)) != NULL) {
        struct threads_one *one = &found.all[found.count];
        one->id = (int)strtol(entry->d_name, NULL, 10);
        /* The kernel's own threads for io_uring are shown by it among ours. */
        if (one->id <= 0 || !read_name(dirfd(folder), entry->d_name, one->name) ||
            strncmp(one->name, "iou-", 4) == 0)
            continue;
        if (one->id == getpid())
            snprintf(one->name, sizeof(one->name), "main");
        if (strcmp(one->name, "ringmx-helper") == 0)
            snprintf(one->name, sizeof(one->name), "helper");
        one->clock = clock_of(one->id);
        adopt(one, threads);
        found.count++;
    }
    closedir(folder);
    qsort(found.all, found.count, sizeof(found.all[0]), compare);
    *threads = found;
}

static uint32_t share(uint64_t before_us, uint64_t used_us, uint64_t passed_us)
{
    uint64_t more_us = used_us > before_us ? used_us - before_us : 0;
    return passed_us == 0 ? 0 : (uint32_t)((more_us * 100 + passed_us / 2) / passed_us);
}

void threads_look(struct threads *threads, uint64_t now_us)
{
    uint64_t passed_us = threads->looked_us == 0 ? 0 : now_us - threads->looked_us;
    uint64_t used_us = 0;
    for (uint32_t i = 0; i < threads->count; i++) {
        struct threads_one *one = &threads->all[i];
        if (!clock_us(one->clock, &used_us)) {
            one->load = 0; /* it has ended */
            continue;
        }
        uint32_t load = share(one->used_us, used_us, passed_us);
        one->load = (uint8_t)(load < 100 ? load : 100);
        one->used_us = used_us;
    }
    if (clock_us(CLOCK_PROCESS_CPUTIME_ID, &used_us)) {
        threads->load = share(threads->used_us, used_us, passed_us);
        threads->used_us = used_us;
    }
    threads->looked_us = now_us;
}
