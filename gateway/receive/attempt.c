/* Attempts of sessions: see attempt.h. */
#include "gateway/receive/attempt.h"

#include "gateway/receive/server.h"

/* limits_of: clients that are exempt speak for many users, each of whom has a limit of his own. */
static struct attempt_limits limits_of(const struct session *session)
{
    struct attempt_limits limits = session->server->options->attempts;
    if (session->exempt)
        limits.per_address = limits.per_network = 0;
    return limits;
}

enum attempt_verdict attempt_look(const struct session *session, struct bytes user)
{
    const struct server *server = session->server;
    struct attempt_limits limits = limits_of(session);
    if (server->attempts == NULL)
        return ATTEMPT_OK;
    return attempts_look(server->attempts, &limits, &session->peer, user, server->worker->now_us);
}

enum attempt_verdict attempt_begin(struct attempt *attempt, const struct session *session,
                                   struct bytes user, bool *undecided)
{
    const struct server *server = session->server;
    struct attempt_limits limits = limits_of(session);
    *undecided = false;
    if (server->attempts == NULL)
        return ATTEMPT_OK;
    return attempts_begin(server->attempts, &limits, &session->peer, user, server->worker->now_us,
                          &attempt->room, undecided);
}

enum attempt_verdict attempt_judged(struct attempt *attempt, const struct session *session,
                                    struct bytes user, struct bytes other, bool right)
{
    const struct server *server = session->server;
    struct attempt_limits limits = limits_of(session);
    limits.per_address = limits.per_network = 0;
    if (server->attempts == NULL || other.len == 0 || bytes_equal_nocase(user, other))
        return ATTEMPT_OK;
    enum attempt_verdict verdict =
        attempts_look(server->attempts, &limits, &session->peer, other, server->worker->now_us);
    if (verdict != ATTEMPT_OK)
        attempt_withdraw(attempt, session);
    else if (!right)
        attempts_also_failed(server->attempts, &limits, &session->peer, other,
                             server->worker->now_us);
    return verdict;
}

void attempt_passed(struct attempt *attempt, const struct session *session, struct bytes user,
                    struct bytes other)
{
    const struct server *server = session->server;
    if (server->attempts == NULL)
        return;
    attempts_passed(server->attempts, &attempt->room, &session->peer, user, server->worker->now_us);
    if (!bytes_equal_nocase(user, other))
        attempts_passed(server->attempts, &attempt->room, &session->peer, other,
                        server->worker->now_us);
}

void attempt_failed(struct attempt *attempt, const struct session *session)
{
    const struct server *server = session->server;
    if (server->attempts != NULL)
        attempts_failed(server->attempts, &attempt->room, server->worker->now_us);
}

void attempt_withdraw(struct attempt *attempt, const struct session *session)
{
    const struct server *server = session->server;
    if (server->attempts != NULL)
        attempts_withdrawn(server->attempts, &attempt->room, server->worker->now_us);
}
