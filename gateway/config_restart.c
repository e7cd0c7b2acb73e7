/* What a reload can't change: the words whose values threads, rings and files are made of. The room
 * for connections is made once, so their number can be lowered and raised again, but not above
 * where it began. */
#include "gateway/config.h"

#include <string.h>

static in_port_t *port_of(union address_any *address)
{
    return address->any.sa_family == AF_INET6 ? &address->v6.sin6_port : &address->v4.sin_port;
}

/* Port 0 stands for whatever port the kernel chose at the start. */
static bool same_address(union address_any running, union address_any loaded)
{
    if (*port_of(&loaded) == 0)
        *port_of(&running) = 0;
    return memcmp(&running, &loaded, sizeof(loaded)) == 0;
}

const struct config_listener *config_listener_find(const struct config *config,
                                                   const struct config_listener *running)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *loaded = &config->listeners[i];
        union address_any address = loaded->address;
        bool same_name = strcmp(loaded->name, running->name) == 0;
        if ((same_name || *port_of(&address) != 0) && same_address(running->address, address))
            return loaded;
    }
    return NULL;
}

static bool listeners_differ(const struct config *a, const struct config *b)
{
    if (a->listener_count != b->listener_count)
        return true;
    for (size_t i = 0; i < a->listener_count; i++)
        if (a->listeners[i].role != b->listeners[i].role ||
            !same_address(a->listeners[i].address, b->listeners[i].address))
            return true;
    return false;
}

static bool resolvers_differ(const struct dns_options *a, const struct dns_options *b)
{
    return a->server_count != b->server_count || a->timeout_ms != b->timeout_ms ||
           a->tries != b->tries || a->cache_max != b->cache_max ||
           memcmp(a->servers, b->servers, a->server_count * sizeof(a->servers[0])) != 0;
}

static bool texts_differ(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a != b : strcmp(a, b) != 0;
}

static bool deliveries_differ(const struct courier_options *a, const struct courier_options *b)
{
    return a->connections_max != b->connections_max || a->store_threads != b->store_threads ||
           a->smtp_port != b->smtp_port || a->ipv6 != b->ipv6 || texts_differ(a->ca, b->ca);
}

static bool redis_differs(const struct config *a, const struct config *b)
{
    const struct redis_options *x = &a->sharing.redis, *y = &b->sharing.redis;
    return a->has_redis != b->has_redis || texts_differ(a->redis_path, b->redis_path) ||
           texts_differ(a->redis_user, b->redis_user) ||
           texts_differ(a->redis_password, b->redis_password) ||
           texts_differ(a->redis_prefix, b->redis_prefix) ||
           memcmp(&x->address, &y->address, sizeof(x->address)) != 0 ||
           x->database != y->database || x->timeout_ms != y->timeout_ms;
}

/* Each worker has one connection to Dovecot, or none for as long as it lives. */
static bool dovecot_differs(const struct config *a, const struct config *b)
{
    const struct dovecot_options *x = &a->dovecot, *y = &b->dovecot;
    return a->has_dovecot != b->has_dovecot || texts_differ(a->dovecot_path, b->dovecot_path) ||
           memcmp(&x->address, &y->address, sizeof(x->address)) != 0 ||
           (a->has_dovecot && x->timeout_ms != y->timeout_ms);
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
    /* Without any TLS at the start there is no room for its records. */
    count += tell(out, "listener.tls", !config_has_tls(a) && config_has_tls(b));
    count += tell(out, "tls.helpers", a->tls_helpers != b->tls_helpers);
    count += tell(out, "limits.connections", b->server.connections_max > a->server.connections_max);
    count += tell(out, "spool.path", strcmp(a->spool_path, b->spool_path) != 0);
    count += tell(out, "spool.segment_size", a->spool.segment_size != b->spool.segment_size);
    count += tell(out, "spool.sync", a->spool.sync != b->spool.sync);
    count += tell(out, "spool.staging_size", a->spool.staging_size != b->spool.staging_size);
    count += tell(out, "resolver", resolvers_differ(&x->dns, &y->dns));
    count += tell(out, "deliver.connections, ipv6, smtp_port, ca or store_threads",
                  deliveries_differ(x, y));
    count += tell(out, "through.memory", a->through_memory != b->through_memory);
    count += tell(out, "redis", redis_differs(a, b));
    count += tell(out, "auth.dovecot or timeout_ms", dovecot_differs(a, b));
    count += tell(out, "auth.helpers", a->auth_helpers != b->auth_helpers);
    count += tell(out, "sandbox",
                  texts_differ(a->user, b->user) || texts_differ(a->group, b->group) ||
                      a->seccomp != b->seccomp || a->landlock != b->landlock);
    count += tell(out, "admin.control", texts_differ(a->control_path, b->control_path));
    count += tell(out, "admin.http", !same_address(a->http, b->http));
    count += tell(out, "admin.agent", !same_address(a->agent, b->agent));
    count += tell(out, "io.features", a->io_baseline != b->io_baseline);
    count += tell(out, "io.buffers", a->io_buffer_count != b->io_buffer_count);
    count += tell(out, "io.buffer_size", a->io_buffer_size != b->io_buffer_size);
    return count;
}
