/* What a reload can't change: the words whose values threads, rings and files are made of. The room
 * for connections is made once, so their number can be lowered and raised again, but not above
 * where it began. */
#include <string.h>

#include "gateway/config.h"

static bool listeners_differ(const struct config *a, const struct config *b)
{
    if (a->listener_count != b->listener_count)
        return true;
    for (size_t i = 0; i < a->listener_count; i++)
        if (a->listeners[i].role != b->listeners[i].role ||
            memcmp(&a->listeners[i].address, &b->listeners[i].address,
                   sizeof(a->listeners[i].address)) != 0)
            return true;
    return false;
}

size_t config_restart_needed(const struct config *a, const struct config *b, FILE *out)
{
    const struct {
        const char *words;
        bool differ;
    } parts[] = {
        {"hostname",                                             strcmp(a->hostname,                                                                               b->hostname) != 0},
        {"workers",                                                      a->worker_count != b->worker_count                                                                                                                                             },
        {"listener",                                                      listeners_differ(a,b)},
        {"limits.connections",                                                    b->server.connections_max > a->server.connections_max                                                                                                                                                    },
        {"spool.path",strcmp(a->spool_path,b->spool_path) != 0},
        {"spool.segment_size",                                                                                     a->spool.segment_size != b->spool.segment_size                                                                                                                                                                                                                                                                        },
        {"spool.sync",                                   a->spool.sync != b->spool.sync},
        {"spool.staging_size",                                           a->spool.staging_size != b->spool.staging_size                                                                          },
        {"queue",                                   a->courier.retry_min_s != b->courier.retry_min_s ||
                      a->courier.retry_max_s != b->courier.retry_max_s ||
                      a->courier.lifetime_s != b->courier.lifetime_s                                          },
        {"io.features",                                                a->io_baseline != b->io_baseline                                                                            },
        {"io.buffers",                                          a->io_buffer_count != b->io_buffer_count                                                          },
        {"io.buffer_size",                                           a->io_buffer_size != b->io_buffer_size                                                         },
    };
    size_t count = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (!parts[i].differ)
            continue;
        fprintf(out, "%s is new in the configuration, but only a restart can change it\n",
                parts[i].words);
        count++;
    }
    return count;
}
