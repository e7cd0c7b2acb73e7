/* Answers to agent-checks: see agent.h. HAProxy may say something first (agent-send), which is not
 * looked at; but it is waited for, since to close a socket with unread octets is a reset, and that
 * may overtake our line. */
#include "gateway/admin/agent.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/clock.h"

enum {
    LINGER_US = 1000 * 1000,
    TAKEN_MAX = 16, /* in a turn */
};

void agent_init(struct agent *agent, int listener, const struct health *health)
{
    *agent = (struct agent){.listener = listener, .health = health};
    for (size_t i = 0; i < AGENT_CLIENTS_MAX; i++)
        agent->clients[i].descriptor = -1;
}

static void hang_up(struct agent_client *client)
{
    if (client->descriptor >= 0)
        close(client->descriptor);
    client->descriptor = -1;
}

void agent_close(struct agent *agent)
{
    for (size_t i = 0; i < AGENT_CLIENTS_MAX; i++)
        hang_up(&agent->clients[i]);
    if (agent->listener >= 0)
        close(agent->listener);
    agent->listener = -1;
}

size_t agent_line(const struct health *health, char *out)
{
    enum health_trouble trouble = health_trouble(health);
    bool notice = trouble == HEALTH_DRAIN &&
                  atomic_load_explicit(&health->phase, memory_order_relaxed) == (int)HEALTH_NOTICE;
    int len;
    if (trouble == HEALTH_READY)
        /* "ready" takes back a "drain" of before, which "up" alone does not. */
        len = snprintf(out, AGENT_LINE_MAX, "ready up\n");
    else if (notice)
        len = snprintf(out, AGENT_LINE_MAX, "drain\n");
    else
        len = snprintf(out, AGENT_LINE_MAX, "down #%s\n", health_word(trouble));
    return (size_t)len;
}

/* take answers one who waits. False: nobody does. */
static bool take(struct agent *agent, uint64_t now_us)
{
    char line[AGENT_LINE_MAX];
    int descriptor = accept4(agent->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (descriptor < 0)
        return false;
    size_t len = agent_line(agent->health, line);
    (void)!send(descriptor, line, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(descriptor, SHUT_WR);
    struct agent_client *client = &agent->clients[agent->next++ % AGENT_CLIENTS_MAX];
    hang_up(client);
    *client = (struct agent_client){descriptor, now_us + LINGER_US};
    return true;
}

void agent_prepare(const struct agent *agent, struct pollfd *polled)
{
    polled[0] = (struct pollfd){.fd = agent->listener, .events = POLLIN};
    for (size_t i = 0; i < AGENT_CLIENTS_MAX; i++)
        polled[1 + i] = (struct pollfd){.fd = agent->clients[i].descriptor, .events = POLLIN};
}

/* has_gone takes what the client says, a piece at a time. */
static bool has_gone(const struct agent_client *client)
{
    char octets[512];
    return recv(client->descriptor, octets, sizeof(octets), MSG_DONTWAIT) <= 0;
}

void agent_serve(struct agent *agent, const struct pollfd *polled, uint64_t now_us)
{
    for (size_t i = 0; i < AGENT_CLIENTS_MAX; i++) {
        struct agent_client *client = &agent->clients[i];
        bool told = polled[1 + i].revents != 0 && polled[1 + i].fd == client->descriptor;
        if (client->descriptor >= 0 &&
            (now_us >= client->deadline_us || (told && has_gone(client))))
            hang_up(client);
    }
    for (int i = 0; i < TAKEN_MAX && polled[0].revents != 0; i++)
        if (!take(agent, now_us))
            return;
}
