/* The agent-check of HAProxy: who connects is told one line, and the connection ends. Lives in the
 * thread of admin/http, which polls for it. docs/operation.md has the words. */
#ifndef GATEWAY_ADMIN_AGENT_H
#define GATEWAY_ADMIN_AGENT_H

#include <poll.h>

#include "gateway/admin/health.h"

enum {
    AGENT_CLIENTS_MAX = 32, /* the one that came first makes room for the next */
    AGENT_POLLS = 1 + AGENT_CLIENTS_MAX,
    AGENT_LINE_MAX = 64,
};

/* Told, and not yet gone. */
struct agent_client {
    int descriptor; /* -1: nobody */
    uint64_t deadline_us;
};

struct agent {
    int listener; /* -1: none; owned */
    const struct health *health;
    uint32_t next; /* client whose place is taken next */
    struct agent_client clients[AGENT_CLIENTS_MAX];
};

/* agent_init begins with a socket that listens (owned; -1: none). */
void agent_init(struct agent *agent, int listener, const struct health *health);
void agent_close(struct agent *agent);

/* agent_prepare says in AGENT_POLLS places what to wait for; agent_serve does what they brought. */
void agent_prepare(const struct agent *agent, struct pollfd *polled);
void agent_serve(struct agent *agent, const struct pollfd *polled, uint64_t now_us);

/* agent_line writes what is said now to `out` of AGENT_LINE_MAX octets, and returns its length. */
size_t agent_line(const struct health *health, char *out);

#endif
