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

enum attempt_verdict attempt_begin(struct attempt *attempt, const struct session *session)
{
    const struct server *server = session->server;
    struct attempt_limits limits = limits_of(session);
    if (server->attempts == NULL)
        return ATTEMPT_OK;
    enum attempt_verdict verdict =
        attempts_begin(server->attempts, &limits, &session->peer, server->worker->now_us);
    attempt->counted = verdict == ATTEMPT_OK;
    return verdict;
}

enum attempt_verdict attempt_name(struct attempt *attempt, const struct session *session,
                                  struct bytes user)
{
    const struct server *server = session->server;
    struct attempt_limits limits = limits_of(session);
    if (!attempt->counted || user.len == 0)
        return ATTEMPT_OK;
    enum attempt_verdict verdict =
        attempts_user(server->attempts, &limits, &session->peer, user, server->worker->now_us);
    attempt->counted = attempt->named = verdict == ATTEMPT_OK; /* else it has given all back */
    return verdict;
}

void attempt_passed(struct attempt *attempt, const struct session *session, struct bytes user)
{
    const struct server *server = session->server;
    struct attempt_limits limits = limits_of(session);
    if (attempt->named)
        attempts_passed(server->attempts, &limits, &session->peer, user, server->worker->now_us);
    else /* a token, and no name with it */
        attempt_withdraw(attempt, session, user);
    *attempt = (struct attempt){0};
}

void attempt_withdraw(struct attempt *attempt, const struct session *session, struct bytes user)
{
    const struct server *server = session->server;
    struct attempt_limits limits = limits_of(session);
    if (attempt->counted)
        attempts_withdrawn(server->attempts, &limits, &session->peer,
                           bytes_slice(user, 0, attempt->named ? user.len : 0),
                           server->worker->now_us);
    *attempt = (struct attempt){0};
}
