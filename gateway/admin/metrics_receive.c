/* What comes in: connections, messages, replies, phases, TLS. Of the workers, what tells whether
 * they share the load is shown for each; the rest is added up. */
#include <stdio.h>

#include "gateway/admin/metrics_inside.h"

enum { NUMBER_LEN = 16 };

static const char *number(uint32_t value, char out[NUMBER_LEN])
{
    snprintf(out, NUMBER_LEN, "%u", value);
    return out;
}

/* A counter of struct server_counters. */
struct field {
    const char *name, *help;
    size_t offset;
};

#define FIELD(member) offsetof(struct server_counters, member)

static const struct field by_worker[] = {
    {"ringmx_connections_total",   "Connections accepted.",                               FIELD(connections)},
    {"ringmx_messages_total",      "Messages answered with 250.",                         FIELD(messages)   },
    {"ringmx_message_bytes_total", "Octets of the text of these messages, as received.",
     FIELD(octets)                                                                                          },
    {"ringmx_recipients_total",    "Recipients of these messages, as clients gave them.",
     FIELD(recipients)                                                                                      },
};

static const struct field added_up[] = {
    {"ringmx_connections_broken_total", "Connections that ended in an error, as a reset.",
     FIELD(resets)                                                                                               },
    {"ringmx_early_talkers_total",      "Clients that talked before they were greeted.",
     FIELD(early_talkers)                                                                                        },
    {"ringmx_tarpitted_replies_total",  "Replies that were held back (limits.tarpit).",
     FIELD(tarpitted)                                                                                            },
    {"ringmx_dkim_signed_total",        "Messages that were signed with DKIM.",            FIELD(signed_messages)},
};

static const _Atomic uint64_t *at(const struct server_counters *counters, size_t offset)
{
    return (const _Atomic uint64_t *)(const void *)((const char *)counters + offset);
}

static uint64_t total(const struct metrics_sources *sources, size_t offset)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < sources->worker_count; i++)
        sum += counter_read(at(sources->workers[i].counters, offset));
    return sum;
}

static void fields(struct exposition *out, const struct metrics_sources *sources)
{
    char text[NUMBER_LEN];
    for (size_t i = 0; i < sizeof(by_worker) / sizeof(by_worker[0]); i++) {
        exposition_family(out, by_worker[i].name, EXPOSITION_COUNTER, by_worker[i].help);
        for (uint32_t n = 0; n < sources->worker_count; n++)
            exposition_count(out,
                             counter_read(at(sources->workers[n].counters, by_worker[i].offset)),
                             "worker", number(n, text), NULL);
    }
    for (size_t i = 0; i < sizeof(added_up) / sizeof(added_up[0]); i++)
        exposition_single(out, added_up[i].name, EXPOSITION_COUNTER, added_up[i].help,
                          total(sources, added_up[i].offset));
}

static void sessions(struct exposition *out, const struct metrics_sources *sources)
{
    char text[NUMBER_LEN];
    exposition_family(out, "ringmx_sessions", EXPOSITION_GAUGE, "Connections of clients, now.");
    for (uint32_t i = 0; i < sources->worker_count; i++) {
        const struct server_counters *counters = sources->workers[i].counters;
        uint64_t closed = counter_read(&counters->closed); /* first: it is never the larger one */
        uint64_t opened = counter_read(&counters->connections);
        exposition_count(out, opened > closed ? opened - closed : 0, "worker", number(i, text),
                         NULL);
    }
    exposition_single(out, "ringmx_sessions_limit", EXPOSITION_GAUGE,
                      "How many there may be (limits.connections).", sources->connections_max);
    exposition_family(out, "ringmx_proxy_connections_total", EXPOSITION_COUNTER,
                      "Connections with a PROXY header: for a client, LOCAL (a health check), or "
                      "bad.");
    exposition_count(out, total(sources, FIELD(proxied)), "kind", "client", NULL);
    exposition_count(out, total(sources, FIELD(checks)), "kind", "check", NULL);
    exposition_count(out, total(sources, FIELD(proxy_bad)), "kind", "bad", NULL);
}

static void replies(struct exposition *out, const struct metrics_sources *sources)
{
    char text[NUMBER_LEN];
    exposition_family(out, "ringmx_replies_total", EXPOSITION_COUNTER,
                      "Replies of ours, by code and by what they say.");
    exposition_count(out, total(sources, FIELD(greetings)), "code", "220", "reason", "greeting",
                     NULL);
    exposition_count(out, total(sources, FIELD(hellos)), "code", "250", "reason", "hello", NULL);
    exposition_count(out, total(sources, FIELD(challenges)), "code", "334", "reason", "challenge",
                     NULL);
    for (int i = REPLY_NONE + 1; i < REPLY_COUNT; i++)
        exposition_count(out, total(sources, FIELD(replies) + (size_t)i * sizeof(uint64_t)), "code",
                         number(reply_code((enum reply)i), text), "reason",
                         reply_name((enum reply)i), NULL);
    exposition_family(out, "ringmx_passed_replies_total", EXPOSITION_COUNTER,
                      "Replies of next hops that were given on to clients, by first digit.");
    for (unsigned class = 2; class <= 5; class ++)
        exposition_count(out, total(sources, FIELD(passed) + class * sizeof(uint64_t)), "class",
                         class == 2   ? "2xx"
                         : class == 3 ? "3xx"
                         : class == 4 ? "4xx"
                                      : "5xx",
                         NULL);
}

static void logins(struct exposition *out, const struct metrics_sources *sources)
{
    exposition_family(out, "ringmx_logins_total", EXPOSITION_COUNTER,
                      "Attempts to log in, by mechanism and by what became of them.");
    for (int mechanism = SASL_UNKNOWN + 1; mechanism < SASL_MECHANISM_COUNT; mechanism++)
        for (int result = 0; result < SERVER_LOGIN_COUNT; result++)
            exposition_count(
                out,
                total(sources,
                      FIELD(logins) +
                          sizeof(uint64_t) * (size_t)(mechanism * SERVER_LOGIN_COUNT + result)),
                "mechanism", sasl_mechanism_name((enum sasl_mechanism)mechanism), "result",
                server_login_name((enum server_login)result), NULL);
}

static void phases(struct exposition *out, const struct metrics_sources *sources)
{
    static const char *const names[SERVER_PHASE_COUNT] = {
        [SERVER_PHASE_HANDSHAKE] = "handshake", [SERVER_PHASE_ENVELOPE] = "envelope",
        [SERVER_PHASE_TEXT] = "text",           [SERVER_PHASE_COMMIT] = "commit",
        [SERVER_PHASE_MESSAGE] = "message",     [SERVER_PHASE_SESSION] = "session",
        [SERVER_PHASE_LOGIN] = "login",
    };
    exposition_family(out, "ringmx_phase_duration_seconds", EXPOSITION_HISTOGRAM,
                      "How long the phases of receiving take.");
    for (int phase = 0; phase < SERVER_PHASE_COUNT; phase++) {
        struct histogram_snapshot sum = {0};
        for (uint32_t i = 0; i < sources->worker_count; i++)
            histogram_collect(&sources->workers[i].counters->phases[phase], &sum);
        exposition_histogram(out, &sum, "phase", names[phase]);
    }
}

void metrics_receive(struct exposition *out, const struct metrics_sources *sources)
{
    fields(out, sources);
    sessions(out, sources);
    replies(out, sources);
    logins(out, sources);
    phases(out, sources);
}

void metrics_tls(struct exposition *out, const struct metrics_sources *sources)
{
    exposition_family(out, "ringmx_tls_handshakes_total", EXPOSITION_COUNTER,
                      "TLS handshakes that succeeded, by version.");
    exposition_count(out, total(sources, FIELD(tls.versions[0])), "version", "TLSv1.2", NULL);
    exposition_count(out, total(sources, FIELD(tls.versions[1])), "version", "TLSv1.3", NULL);
    exposition_family(out, "ringmx_tls_ciphers_total", EXPOSITION_COUNTER,
                      "TLS handshakes that succeeded, by cipher.");
    for (size_t i = 0; i < TLS_CIPHER_COUNT; i++)
        exposition_count(out, total(sources, FIELD(tls.ciphers) + i * sizeof(uint64_t)), "cipher",
                         tls_cipher_names[i], NULL);
    exposition_single(out, "ringmx_tls_resumed_total", EXPOSITION_COUNTER,
                      "TLS handshakes that resumed a session.", total(sources, FIELD(tls.resumed)));
    exposition_family(out, "ringmx_tls_failures_total", EXPOSITION_COUNTER,
                      "TLS handshakes and connections that failed, by reason.");
    for (size_t i = 0; i < TLS_FAILURE_COUNT; i++)
        exposition_count(
            out, total(sources, FIELD(tls.failures) + i * sizeof(uint64_t)), "reason",
            i == TLS_FAILURE_NONE ? "unfinished" : tls_failure_name((enum tls_failure)i), NULL);
    exposition_count(out, total(sources, FIELD(tls.silent)), "reason", "silent", NULL);
    if (sources->admission != NULL)
        exposition_single(out, "ringmx_tls_handshakes_running", EXPOSITION_GAUGE,
                          "TLS handshakes under way, now.",
                          admission_handshakes(sources->admission));
}
