/* The listening sockets: those that are inherited, and our own, spread over the workers. Several
 * sockets of one address (SO_REUSEPORT) have each a queue of their own in the kernel, and who waits
 * in one is lost when it is closed; so each that is inherited is taken by some worker. */
#include "gateway/gateway_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"

enum { WAITING_MAX = 65536 /* the longest queue that the kernel may keep */ };

static struct gateway_socket *add(struct gateway *gateway, int descriptor, uint8_t listener)
{
    CHECK(gateway->socket_count < HANDOVER_SOCKETS_MAX);
    struct gateway_socket *socket = &gateway->sockets[gateway->socket_count++];
    *socket = (struct gateway_socket){.descriptor = descriptor, .listener = listener};
    return socket;
}

/* adopt takes all inherited sockets of an address. Returns how many; *systemd: one outlives us. */
static size_t adopt(struct gateway *gateway, const union address_any *address, uint8_t listener,
                    bool *systemd)
{
    size_t count = 0;
    bool lasts;
    int descriptor;
    *systemd = false;
    while ((descriptor = inherit_take(&gateway->inherited, address, &lasts)) >= 0) {
        add(gateway, descriptor, listener)->systemd = lasts;
        *systemd = *systemd || lasts;
        count++;
    }
    return count;
}

static bool open_admin(struct gateway *gateway, union address_any *address, uint8_t listener)
{
    char text[64];
    bool systemd;
    if (address->any.sa_family == AF_UNSPEC || adopt(gateway, address, listener, &systemd) > 0)
        return true;
    int descriptor = listener_open_alone(address);
    if (descriptor >= 0)
        add(gateway, descriptor, listener);
    else
        log_message(gateway->log_port, LOG_ERROR, "start_failed", "can't listen on %s: %s",
                    listener_format(address, text), strerror(-descriptor));
    return descriptor >= 0;
}

/* open_listener gets the sockets of an address: one for each worker, unless it is systemd's: then
 * all share what there is, because what waits in a socket of ours would be lost with us. When the
 * kernel chooses a port, the first choice is everybody's. */
static bool open_listener(struct gateway *gateway, uint8_t index)
{
    char text[64];
    bool systemd;
    union address_any *address = &gateway->initial->listeners[index].address;
    size_t count = adopt(gateway, address, index, &systemd);
    while (count < gateway->hand_count && !systemd) {
        int descriptor = listener_bind(address);
        if (descriptor < 0 && count > 0)
            return true; /* the port is privileged, or another user's: they are shared */
        if (descriptor < 0) {
            log_message(gateway->log_port, LOG_ERROR, "start_failed", "can't listen on %s: %s",
                        listener_format(address, text), strerror(-descriptor));
            return false;
        }
        add(gateway, descriptor, index)->silent = true;
        count++;
    }
    return true;
}

/* give lets a worker accept from a socket. */
static bool give(struct hand *hand, const struct gateway_socket *socket)
{
    uint32_t count = hand->socket_count + 1;
    int *sockets = realloc(hand->sockets, count * sizeof(*sockets));
    hand->sockets = sockets == NULL ? hand->sockets : sockets;
    uint8_t *listener_of = realloc(hand->listener_of, count);
    hand->listener_of = listener_of == NULL ? hand->listener_of : listener_of;
    if (sockets == NULL || listener_of == NULL)
        return false;
    hand->sockets[hand->socket_count] = socket->descriptor;
    hand->listener_of[hand->socket_count] = socket->listener;
    hand->socket_count = count;
    return true;
}

/* spread gives the sockets of an address to the workers, and none of both goes without. */
static bool spread(struct gateway *gateway, uint8_t listener)
{
    const struct gateway_socket *own[HANDOVER_SOCKETS_MAX];
    size_t count = 0;
    bool systemd = false, good = true;
    for (uint32_t i = 0; i < gateway->socket_count; i++)
        if (gateway->sockets[i].listener == listener) {
            systemd = systemd || gateway->sockets[i].systemd;
            own[count++] = &gateway->sockets[i];
        }
    CHECK(count > 0);
    for (size_t i = 0; i < count && good; i++)
        for (size_t n = 0; n < gateway->hand_count && good; n++)
            if (systemd || n % count == i % gateway->hand_count)
                good = give(&gateway->hands[n], own[i]);
    return good;
}

bool gateway_sockets_open(struct gateway *gateway)
{
    struct config *config = gateway->initial;
    gateway->sockets = calloc(HANDOVER_SOCKETS_MAX, sizeof(*gateway->sockets));
    bool good = gateway->sockets != NULL;
    for (uint8_t i = 0; i < config->listener_count && good; i++)
        good = open_listener(gateway, i);
    good = good && open_admin(gateway, &config->http, SOCKET_HTTP) &&
           open_admin(gateway, &config->agent, SOCKET_AGENT);
    for (uint8_t i = 0; i < config->listener_count && good; i++)
        good = spread(gateway, i);
    return good;
}

bool gateway_sockets_listen(struct gateway *gateway)
{
    for (uint32_t i = 0; i < gateway->socket_count; i++) {
        struct gateway_socket *socket = &gateway->sockets[i];
        int error = socket->silent ? listener_begin(socket->descriptor) : 0;
        socket->silent = false;
        if (error == 0)
            continue;
        log_message(gateway->log_port, LOG_ERROR, "start_failed", "can't listen: %s",
                    strerror(-error));
        return false;
    }
    return true;
}

int gateway_sockets_copy(const struct gateway *gateway, uint8_t listener)
{
    for (uint32_t i = 0; i < gateway->socket_count; i++)
        if (gateway->sockets[i].listener == listener)
            return fcntl(gateway->sockets[i].descriptor, F_DUPFD_CLOEXEC, 0);
    return -1;
}

/* refuse_one accepts a client, and sends it elsewhere. False: nobody waits. */
static bool refuse_one(const struct gateway_socket *socket, const char *line, size_t len)
{
    char early[4096];
    int descriptor = accept4(socket->descriptor, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (descriptor < 0)
        return errno == EINTR || errno == ECONNABORTED;
    if (len > 0)
        (void)!send(descriptor, line, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    /* What is unread (a PROXY header) would reset the connection, and the line with it. */
    (void)shutdown(descriptor, SHUT_WR);
    (void)!recv(descriptor, early, sizeof(early), MSG_DONTWAIT);
    close(descriptor);
    return true;
}

void gateway_sockets_refuse(struct gateway *gateway)
{
    char line[512];
    int len = snprintf(line, sizeof(line), "421 4.3.2 %s Shutting down, try again later\r\n",
                       gateway->current->server.hostname);
    for (uint32_t i = 0; i < gateway->socket_count && gateway->contexts != NULL; i++) {
        const struct gateway_socket *socket = &gateway->sockets[i];
        if (socket->listener >= LIMIT_LISTENERS || socket->systemd || socket->silent)
            continue;
        /* Where TLS comes first nothing can be said in clear. */
        bool secret = gateway->contexts->listeners[socket->listener].tls == SERVER_TLS_IMPLICIT;
        for (int left = WAITING_MAX; left > 0; left--)
            if (!refuse_one(socket, line, secret ? 0 : (size_t)len))
                break;
    }
}

void gateway_sockets_close(struct gateway *gateway, bool admin)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < gateway->socket_count; i++) {
        struct gateway_socket socket = gateway->sockets[i];
        if (socket.listener >= LIMIT_LISTENERS && !admin)
            gateway->sockets[kept++] = socket;
        else
            close(socket.descriptor);
    }
    gateway->socket_count = kept;
}
