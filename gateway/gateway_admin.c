/* The gateway and its admin address: it answers from before the spool is read until the courier has
 * ended, and learns in between where the figures come from. */
#include "gateway/gateway_inside.h"

#include <time.h>

bool gateway_admin_start(struct gateway *gateway)
{
    char error[256];
    const struct config *config = gateway->initial;
    struct http_options options = {
        .address = config->http,
        .agent = config->agent,
        .address_descriptor = gateway_sockets_copy(gateway, SOCKET_HTTP),
        .agent_descriptor = gateway_sockets_copy(gateway, SOCKET_AGENT),
        .health = &gateway->health,
        .log = gateway->log,
    };
    if (config->http.any.sa_family == AF_UNSPEC && config->agent.any.sa_family == AF_UNSPEC)
        return true;
    gateway->http = http_start(&options, error, sizeof(error));
    if (gateway->http == NULL)
        gateway_say(gateway, LOG_ERROR, "start_failed", error);
    return gateway->http != NULL;
}

void gateway_admin_sources(struct gateway *gateway)
{
    struct metrics_sources *sources = &gateway->sources;
    if (gateway->http == NULL)
        return;
    *sources = (struct metrics_sources){
        .worker_count = (uint32_t)gateway->hand_count,
        .spool = gateway->spool,
        .courier = gateway->courier,
        .admission = gateway->admission,
        .helpers = gateway->helpers,
        .log = gateway->log,
        .health = &gateway->health,
        .census = queue_census_new(gateway->courier),
        .expiries = gateway->expiries,
        .version = RINGMX_VERSION,
        .started_s = (uint64_t)time(NULL),
        .connections_max = gateway->initial->server.connections_max,
        .memory_max = gateway->memory,
    };
    for (size_t i = 0; i < gateway->hand_count; i++)
        sources->workers[i] = (struct metrics_worker){
            .counters = &gateway->hands[i].server.counters,
            .worker = &gateway->hands[i].worker,
        };
    http_sources(gateway->http, sources);
}

void gateway_admin_stop(struct gateway *gateway)
{
    http_stop(gateway->http);
    gateway->http = NULL;
    queue_census_free(gateway->sources.census);
    gateway->sources.census = NULL;
    expiries_free(gateway->expiries);
    gateway->expiries = NULL;
}
