/* How users log in: hashes, what need not be hashed, and Dovecot. See metrics.h. */
#include "gateway/admin/metrics_inside.h"

/* collect sums up the workers that have an authenticator, and returns how many there are. */
static uint64_t collect(const struct metrics_sources *sources, struct authenticator_snapshot *sum,
                        uint64_t *connected)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < sources->worker_count; i++) {
        const struct server_counters *counters = sources->workers[i].counters;
        struct authenticator_snapshot one;
        if (!atomic_load_explicit(&counters->has_authenticator, memory_order_relaxed))
            continue;
        counter_collect(counters->authenticator, &one, sizeof(one));
        sum->asks_dovecot |= one.asks_dovecot;
        sum->hashed += one.hashed;
        sum->cached += one.cached;
        sum->dovecot.asked += one.dovecot.asked;
        sum->dovecot.passed += one.dovecot.passed;
        sum->dovecot.refused += one.dovecot.refused;
        sum->dovecot.away += one.dovecot.away;
        sum->dovecot.connects += one.dovecot.connects;
        sum->dovecot.failures += one.dovecot.failures;
        *connected += one.dovecot.connected;
        count++;
    }
    return count;
}

void metrics_logins(struct exposition *out, const struct metrics_sources *sources)
{
    struct authenticator_snapshot sum = {.asks_dovecot = 0};
    uint64_t connected = 0, count = collect(sources, &sum, &connected);
    if (count == 0)
        return;
    exposition_single(out, "ringmx_login_cache_hits_total", EXPOSITION_COUNTER,
                      "Passwords that had been right a short while ago.", sum.cached);
    if (!sum.asks_dovecot) {
        exposition_single(out, "ringmx_login_hashes_total", EXPOSITION_COUNTER,
                          "Passwords that were compared with a hash.", sum.hashed);
        return;
    }
    exposition_single(out, "ringmx_dovecot_connections", EXPOSITION_GAUGE,
                      "Workers that are connected to Dovecot, now.", connected);
    exposition_single(out, "ringmx_dovecot_connections_wanted", EXPOSITION_GAUGE,
                      "Workers that want to be.", count);
    exposition_single(out, "ringmx_dovecot_logins_total", EXPOSITION_COUNTER,
                      "Logins that Dovecot was asked about.", sum.dovecot.asked);
    exposition_family(out, "ringmx_dovecot_results_total", EXPOSITION_COUNTER,
                      "What became of them: passed, refused, or it was away, too slow, or could "
                      "not tell.");
    exposition_count(out, sum.dovecot.passed, "result", "passed", NULL);
    exposition_count(out, sum.dovecot.refused, "result", "refused", NULL);
    exposition_count(out, sum.dovecot.away, "result", "away", NULL);
    exposition_single(out, "ringmx_dovecot_connects_total", EXPOSITION_COUNTER,
                      "Connections to Dovecot that came to be.", sum.dovecot.connects);
    exposition_single(out, "ringmx_dovecot_connect_failures_total", EXPOSITION_COUNTER,
                      "Connections to Dovecot that did not, or that broke.", sum.dovecot.failures);
}
