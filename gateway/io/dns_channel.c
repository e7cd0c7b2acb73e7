/* c-ares and its sockets: see dns_channel.h. */
#include "gateway/io/dns_channel.h"

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/io/worker.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    CHANNELS = 2,
    CHANNEL_QUESTIONS = 200, /* then the other one's turn */
};

struct dns_channel {
    struct dns_channels *all;
    ares_channel handle;
    uint32_t open;  /* questions that it has */
    uint32_t asked; /* since it last had none */
    bool outdated;  /* to be made anew: the configuration may have changed */
};

struct dns_socket {
    struct watch watch; /* first: what `ready` is given */
    struct dns_channel *channel;
};

struct dns_channels {
    struct worker *worker;
    const struct dns_options *options;
    struct dns_channel channels[CHANNELS];
    uint32_t current; /* index of a channel */
    struct dns_socket sockets[WATCH_MAX];
    bool ending;
};

/* --- sockets of c-ares --- */

static void socket_ready(struct watch *watch, uint32_t events)
{
    const struct dns_channel *channel = ((struct dns_socket *)(void *)watch)->channel;
    int descriptor = watch->descriptor;
    bool broken = events & (POLLERR | POLLHUP | POLLNVAL);
    ares_process_fd(channel->handle, events & POLLIN || broken ? descriptor : ARES_SOCKET_BAD,
                    events & POLLOUT ? descriptor : ARES_SOCKET_BAD);
}

/* socket_wants is told by c-ares what a socket is to be watched for; nothing: it is about to be
 * closed. One that finds no place is not watched, and its questions time out. */
static void socket_wants(void *user, ares_socket_t descriptor, int readable, int writable)
{
    struct dns_channel *channel = user;
    struct dns_socket *free_one = NULL;
    struct dns_socket *found = NULL;
    for (uint32_t i = 0; i < WATCH_MAX && found == NULL; i++) {
        struct dns_socket *at = &channel->all->sockets[i];
        if (at->watch.wanted == 0)
            free_one = at;
        else if (at->watch.descriptor == descriptor)
            found = at;
    }
    if (found == NULL)
        found = free_one;
    if (found == NULL)
        return;
    found->channel = channel;
    found->watch.ready = socket_ready;
    (void)!watch_set(channel->all->worker, &found->watch, descriptor,
                     (readable ? POLLIN : 0u) | (writable ? POLLOUT : 0u));
}

/* --- channels --- */

static bool use_servers(ares_channel handle, const struct dns_options *options)
{
    struct ares_addr_port_node nodes[DNS_SERVERS_MAX];
    memset(nodes, 0, sizeof(nodes));
    for (uint32_t i = 0; i < options->server_count; i++) {
        const union address_any *server = &options->servers[i];
        struct ares_addr_port_node *node = &nodes[i];
        node->next = i + 1 < options->server_count ? node + 1 : NULL;
        node->family = server->any.sa_family;
        if (node->family == AF_INET6)
            memcpy(&node->addr.addr6, &server->v6.sin6_addr, sizeof(node->addr.addr6));
        else
            node->addr.addr4 = server->v4.sin_addr;
        node->udp_port = node->tcp_port =
            ntohs(node->family == AF_INET6 ? server->v6.sin6_port : server->v4.sin_port);
    }
    return ares_set_servers_ports(handle, nodes) == ARES_SUCCESS;
}

/* c-ares takes a file that it can't read for an empty one, and asks this machine. */
static bool may_read_servers(void)
{
    int descriptor = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    close(descriptor);
    return true;
}

/* open_channel makes the handle of c-ares; false: the one that there was stays. With a single
 * server its failures are answers (else c-ares would ask it the same again at once); with several
 * the next one is asked. */
static bool open_channel(struct dns_channel *channel)
{
    const struct dns_options *options = channel->all->options;
    char nowhere[] = "/dev/null";
    struct ares_options ares = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
        .timeout = (int)options->timeout_ms,
        .tries = (int)options->tries,
        .sock_state_cb = socket_wants,
        .sock_state_cb_data = channel,
        .resolvconf_path = options->server_count > 0 ? nowhere : NULL,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    if (options->server_count > 0)
        mask |= ARES_OPT_RESOLVCONF;
    if (options->server_count == 1)
        ares.flags |= ARES_FLAG_NOCHECKRESP;
    if (channel->handle != NULL && options->server_count == 0 && !may_read_servers())
        return false;
    ares_channel handle;
    if (ares_init_options(&handle, &ares, mask) != ARES_SUCCESS)
        return false;
    if (options->server_count > 0 && !use_servers(handle, options)) {
        ares_destroy(handle);
        return false;
    }
    if (channel->handle != NULL)
        ares_destroy(channel->handle);
    channel->handle = handle;
    return true;
}

/* choose returns the one to ask next. Who rests begins anew: with fresh sockets, and as
 * /etc/resolv.conf is now; if that is broken or out of reach, as before. */
static struct dns_channel *choose(struct dns_channels *all)
{
    struct dns_channel *channel = &all->channels[all->current];
    struct dns_channel *other = &all->channels[1 - all->current];
    bool tired = channel->outdated || channel->asked >= CHANNEL_QUESTIONS;
    if (channel->open > 0 && tired && other->open == 0) {
        all->current = 1 - all->current;
        channel = other;
    }
    if (channel->open > 0)
        return channel;
    channel->asked = 0;
    if (channel->outdated)
        (void)!open_channel(channel);
    channel->outdated = false;
    return channel;
}

/* --- life --- */

static void init_library(void)
{
    (void)ares_library_init(ARES_LIB_INIT_ALL); /* on Linux there is nothing that could fail */
}

struct dns_channels *dns_channels_new(struct worker *worker, const struct dns_options *options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_library);
    struct dns_channels *all = calloc(1, sizeof(*all));
    if (all == NULL)
        return NULL;
    all->worker = worker;
    all->options = options;
    for (uint32_t i = 0; i < CHANNELS; i++) {
        all->channels[i].all = all;
        if (!open_channel(&all->channels[i])) {
            dns_channels_free(all);
            return NULL;
        }
    }
    return all;
}

void dns_channels_free(struct dns_channels *channels)
{
    if (channels == NULL)
        return;
    channels->ending = true;
    for (uint32_t i = 0; i < CHANNELS; i++)
        if (channels->channels[i].handle != NULL)
            ares_destroy(channels->channels[i].handle); /* its sockets are closed */
    for (uint32_t i = 0; i < WATCH_MAX; i++)
        CHECK(channels->sockets[i].watch.wanted == 0);
    free(channels);
}

/* --- asking --- */

/* why_not is for what ended without a message. */
static enum dns_status why_not(const struct dns_options *options, int status)
{
    switch (status) {
    case ARES_ENOTFOUND: /* c-ares does not ask for names below .onion (RFC 7686) */
    case ARES_EBADNAME: return DNS_NO_NAME;
    case ARES_ETIMEOUT: return DNS_TIMED_OUT;
    case ARES_ECONNREFUSED: /* nobody there; or one of several servers has said SERVFAIL */
        return options->server_count == 1 ? DNS_TIMED_OUT : DNS_FAILED;
    default: return DNS_FAILED;
    }
}

static void heard(void *user, int status, int timeouts, unsigned char *message, int len)
{
    struct dns_request *request = user;
    struct dns_channel *channel = request->channel;
    (void)timeouts;
    if (channel->all->ending)
        return;
    CHECK(channel->open > 0);
    channel->open--;
    if (message != NULL && len > 0)
        request->heard(request, message, (size_t)len, DNS_FAILED);
    else
        request->heard(request, NULL, 0, why_not(channel->all->options, status));
}

void dns_channels_ask(struct dns_channels *channels, struct dns_request *request, const char *name,
                      enum dns_type type)
{
    request->channel = choose(channels);
    request->channel->open++;
    request->channel->asked++;
    ares_query(request->channel->handle, name, ns_c_in, type, heard, request);
}

/* --- time --- */

void dns_channels_turn(struct dns_channels *channels)
{
    for (uint32_t i = 0; i < CHANNELS; i++)
        if (channels->channels[i].open > 0)
            ares_process_fd(channels->channels[i].handle, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

uint64_t dns_channels_next_us(const struct dns_channels *channels)
{
    uint64_t next_us = UINT64_MAX;
    for (uint32_t i = 0; i < CHANNELS; i++) {
        struct timeval left;
        const struct dns_channel *channel = &channels->channels[i];
        if (channel->open == 0 || ares_timeout(channel->handle, NULL, &left) == NULL)
            continue;
        /* c-ares counts whole milliseconds: without one more we should spin through the last. */
        uint64_t left_us = (uint64_t)left.tv_sec * 1000000 + (uint64_t)left.tv_usec + 1000;
        uint64_t due_us = clock_monotonic_us() + left_us;
        next_us = due_us < next_us ? due_us : next_us;
    }
    return next_us;
}

void dns_channels_reload(struct dns_channels *channels)
{
    for (uint32_t i = 0; i < CHANNELS; i++)
        channels->channels[i].outdated = channels->options->server_count == 0;
}
