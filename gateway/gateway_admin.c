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
        .connections_max = gateway->current->server.connections_max,
        .memory_max = gateway->memory.octets,
    };
    for (size_t i = 0; i < gateway->hand_count; i++)
        sources->workers[i] = (struct metrics_worker){
            .counters = &gateway->hands[i].server.counters,
            .worker = &gateway->hands[i].worker,
        };
    http_sources(gateway->http, sources);
}

void gateway_say_memory(struct gateway *gateway)
{
    uint64_t here = gateway->memory_here;
    bool too_much = here != 0 && gateway->memory.octets > here;
    struct log_line line =
        log_begin(gateway->log_port, too_much ? LOG_WARN : LOG_INFO, "memory_contract");
    log_number(&line, "octets", gateway->memory.octets);
    log_number(&line, "here", here);
    if (too_much)
        log_string(&line, "msg",
                   "load could need more than there is: ringmx --check tells what for");
    log_end(&line);
}

void gateway_admin_limits(struct gateway *gateway)
{
    uint64_t before = gateway->memory.octets;
    uint32_t most = gateway->initial->server.connections_max;
    uint32_t connections = gateway->current->server.connections_max;
    memory_contract_reloaded(gateway->initial, gateway->current, &gateway->memory);
    http_limits(gateway->http, &gateway->sources, connections < most ? connections : most,
                gateway->memory.octets);
    if (gateway->memory.octets != before)
        gateway_say_memory(gateway);
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
