/* What a reload can't change: the words whose values threads, rings and files are made of. The room
 * for connections is made once, so their number can be lowered and raised again, but not above
 * where it began. */
#include "gateway/config.h"

#include <string.h>

/* Port 0 stands for whatever port the kernel chose at the start. */
static bool same_address(const union address_any *running, union address_any loaded)
{
    bool v6 = running->any.sa_family == AF_INET6;
    if (loaded.any.sa_family == running->any.sa_family) {
        if (v6 && loaded.v6.sin6_port == 0)
            loaded.v6.sin6_port = running->v6.sin6_port;
        if (!v6 && loaded.v4.sin_port == 0)
            loaded.v4.sin_port = running->v4.sin_port;
    }
    return memcmp(running, &loaded, sizeof(loaded)) == 0;
}

static bool listeners_differ(const struct config *a, const struct config *b)
{
    if (a->listener_count != b->listener_count)
        return true;
    for (size_t i = 0; i < a->listener_count; i++)
        if (a->listeners[i].role != b->listeners[i].role ||
            !same_address(&a->listeners[i].address, b->listeners[i].address))
            return true;
    return false;
}

static size_t tell(FILE *out, const char *word, bool differs)
{
    if (differs)
        fprintf(out, "%s is new in the configuration, but only a restart can change it\n", word);
    return differs;
}

size_t config_restart_needed(const struct config *a, const struct config *b, FILE *out)
{
    const struct courier_options *x = &a->courier;
    const struct courier_options *y = &b->courier;
    size_t count = 0;
    count += tell(out, "hostname", strcmp(a->hostname, b->hostname) != 0);
    count += tell(out, "workers", a->worker_count != b->worker_count);
    count += tell(out, "listener", listeners_differ(a, b));
    count += tell(out, "limits.connections", b->server.connections_max > a->server.connections_max);
    count += tell(out, "spool.path", strcmp(a->spool_path, b->spool_path) != 0);
    count += tell(out, "spool.segment_size", a->spool.segment_size != b->spool.segment_size);
    count += tell(out, "spool.sync", a->spool.sync != b->spool.sync);
    count += tell(out, "spool.staging_size", a->spool.staging_size != b->spool.staging_size);
    count += tell(out, "queue.retry_min", x->retry_min_s != y->retry_min_s);
    count += tell(out, "queue.retry_max", x->retry_max_s != y->retry_max_s);
    count += tell(out, "queue.lifetime", x->lifetime_s != y->lifetime_s);
    count += tell(out, "io.features", a->io_baseline != b->io_baseline);
    count += tell(out, "io.buffers", a->io_buffer_count != b->io_buffer_count);
    count += tell(out, "io.buffer_size", a->io_buffer_size != b->io_buffer_size);
    return count;
}
