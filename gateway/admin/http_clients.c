/* Clients of the admin address: see http_clients.h. */
#include "gateway/admin/http_clients.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "gateway/base/clock.h"

enum {
    REQUEST_US = 10 * 1000 * 1000, /* from the end of a request to the end of the next one */
};

void http_clients_init(struct http_clients *clients)
{
    for (size_t i = 0; i < HTTP_CLIENTS_MAX; i++)
        clients->all[i].descriptor = -1;
}

struct http_client *http_clients_add(struct http_clients *clients, int descriptor)
{
    for (size_t i = 0; i < HTTP_CLIENTS_MAX; i++)
        if (clients->all[i].descriptor < 0) {
            clients->all[i] = (struct http_client){.descriptor = descriptor,
                                                   .progress = HTTP_ASKING,
                                                   .since_us = clock_monotonic_us()};
            return &clients->all[i];
        }
    return NULL;
}

void http_client_progress(struct http_client *client, enum http_progress progress)
{
    if (client == NULL || client->progress == HTTP_ENDED)
        return;
    client->progress = progress;
    if (progress == HTTP_IDLE)
        client->since_us = clock_monotonic_us();
}

void http_client_gone(struct http_client *client)
{
    if (client != NULL)
        client->descriptor = -1;
}

static bool is_here(const struct http_client *client)
{
    return client->descriptor >= 0 && client->progress != HTTP_ENDED;
}

static void hang_up(struct http_client *client)
{
    shutdown(client->descriptor, SHUT_RDWR); /* which wakes libmicrohttpd */
    client->progress = HTTP_ENDED;
}

/* has_gone: it has closed its side, and nothing of what it said waits to be read. Looked at twice,
 * with a turn in between: libmicrohttpd may have a whole request in hand. */
static bool has_gone(struct http_client *client, short events)
{
    int waiting = 0;
    if ((events & (POLLHUP | POLLERR)) != 0)
        return true;
    if (events == 0 || ioctl(client->descriptor, FIONREAD, &waiting) != 0 || waiting > 0) {
        client->leaving = false;
        return false;
    }
    bool again = client->leaving;
    client->leaving = true;
    return again;
}

/* end_gone: libmicrohttpd does not notice one that came with a part of a request and left at once.
 * Who has asked may have closed its side, and waits for the answer. */
static void end_gone(struct http_clients *clients)
{
    struct pollfd polled[HTTP_CLIENTS_MAX];
    bool used = false;
    for (size_t i = 0; i < HTTP_CLIENTS_MAX; i++) {
        const struct http_client *client = &clients->all[i];
        polled[i].fd = is_here(client) ? client->descriptor : -1;
        polled[i].events = client->progress == HTTP_ANSWERING ? 0 : POLLRDHUP;
        polled[i].revents = 0;
        used |= is_here(client);
    }
    if (!used || poll(polled, HTTP_CLIENTS_MAX, 0) <= 0)
        return;
    for (size_t i = 0; i < HTTP_CLIENTS_MAX; i++)
        if (polled[i].fd >= 0 && has_gone(&clients->all[i], polled[i].revents))
            hang_up(&clients->all[i]);
}

static struct http_client *oldest(struct http_clients *clients)
{
    struct http_client *found = NULL;
    for (size_t i = 0; i < HTTP_CLIENTS_MAX; i++) {
        struct http_client *client = &clients->all[i];
        if (is_here(client) && (found == NULL || client->since_us < found->since_us))
            found = client;
    }
    return found;
}

void http_clients_tidy(struct http_clients *clients)
{
    size_t count = 0;
    end_gone(clients);
    for (size_t i = 0; i < HTTP_CLIENTS_MAX; i++)
        count += is_here(&clients->all[i]);
    for (; count > HTTP_CLIENTS_FULL; count--)
        hang_up(oldest(clients));
}

void http_clients_end_slow(struct http_clients *clients)
{
    uint64_t now_us = clock_monotonic_us();
    for (size_t i = 0; i < HTTP_CLIENTS_MAX; i++) {
        struct http_client *client = &clients->all[i];
        if (is_here(client) && now_us - client->since_us > REQUEST_US)
            hang_up(client);
    }
}

bool http_clients_answered(const struct http_clients *clients)
{
    for (size_t i = 0; i < HTTP_CLIENTS_MAX; i++)
        if (clients->all[i].descriptor >= 0 && clients->all[i].progress < HTTP_IDLE)
            return false;
    return true;
}
