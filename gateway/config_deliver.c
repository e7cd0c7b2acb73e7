/* The schedule of retries, the resolver, the client's CAs and time-outs, the control socket: see
 * config_deliver.h. */
#include "gateway/config_deliver.h"

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum { MINUTE = 60, HOUR = 3600, DAY = 86400, MIB = 1 << 20 };

static void fill_schedule(struct courier_options *courier, cfg_t *section,
                          struct config_errors *errors)
{
    static const uint32_t usual[] = {MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR};
    static const struct config_bounds bounds = {CONFIG_TIME, 1, 30 * DAY, 1};
    unsigned count = cfg_size(section, "schedule");
    if (count == 0) {
        memcpy(courier->schedule_s, usual, sizeof(usual));
        courier->schedule_count = sizeof(usual) / sizeof(usual[0]);
        return;
    }
    if (count > QUEUE_SCHEDULE_MAX) {
        config_error(errors, config_value_at(section, "schedule", QUEUE_SCHEDULE_MAX)->line,
                     "queue.schedule: more than %d times", QUEUE_SCHEDULE_MAX);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t time_s = 1;
        if (config_number_checked(config_value_at(section, "schedule", i), "queue.schedule",
                                  &bounds, &time_s, errors))
            courier->schedule_s[i] = (uint32_t)time_s;
    }
    courier->schedule_count = count;
}

/* A warning that never comes was meant otherwise. */
static void check_warning(const struct courier_rules *rules, cfg_t *section,
                          struct config_errors *errors)
{
    const struct config_value *value = config_value_at(section, "warn_after", 0);
    if (value != NULL && rules->warn_after_s > 0 && rules->warn_after_s >= rules->lifetime_s)
        config_error(errors, value->line, "queue.warn_after is not shorter than queue.lifetime");
}

/* An address with or without a port. */
static bool parse_server(const char *text, union address_any *out)
{
    char full[80];
    size_t len = strlen(text);
    if (listener_parse(text, out))
        return (out->any.sa_family == AF_INET6 ? out->v6.sin6_port : out->v4.sin_port) != 0;
    if (len == 0 || len > 60)
        return false;
    bool bare_v6 = strchr(text, ':') != NULL && text[0] != '[';
    snprintf(full, sizeof(full), bare_v6 ? "[%s]:53" : "%s:53", text);
    return listener_parse(full, out);
}

static void fill_resolver(struct config *config, cfg_t *section, struct config_errors *errors)
{
    struct dns_options *dns = &config->courier.dns;
    unsigned count = cfg_size(section, "address");
    dns->timeout_ms = config->resolver_timeout_s * 1000;
    for (unsigned i = 0; i < count; i++) {
        const struct config_value *value = config_value_at(section, "address", i);
        if (i == DNS_SERVERS_MAX) {
            config_error(errors, value->line, "resolver.address: more than %d addresses",
                         DNS_SERVERS_MAX);
            return;
        }
        if (parse_server(value->text, &dns->servers[i]))
            dns->server_count = i + 1;
        else
            config_error(errors, value->line,
                         "resolver.address: \"%s\" is not an address like \"192.0.2.53\" or "
                         "\"[2001:db8::53]:5353\"",
                         value->text);
    }
}

static void fill_ca(struct config *config, cfg_t *section, const char *folder,
                    struct config_errors *errors)
{
    char error[1024];
    config->ca_path = config_word_path(section, "ca", folder, errors);
    if (config->ca_path == NULL)
        return;
    struct tls_client_options options = {.version_max = TLS_1_3, .ca = config->ca_path};
    struct tls_context *context = tls_context_client(&options, error, sizeof(error));
    if (context == NULL)
        config_error(errors, config_value_at(section, "ca", 0)->line, "deliver.ca: %s", error);
    tls_context_drop(context);
}

static void fill_through(struct config *config, cfg_t *section, struct config_errors *errors)
{
    const struct config_value *value = config_value_at(section, "memory", 0);
    if (value != NULL && config->through_memory > 0 && config->through_memory < MIB)
        config_error(errors, value->line, "through.memory: %s is neither 0 nor at least 1M",
                     value->text);
    config->server.through_patience_ms = config->through_patience_s * 1000;
}

static void fill_timeouts(struct client_timeouts *timeouts)
{
    timeouts->greeting_s = timeouts->command_s;
    timeouts->data_s = timeouts->end_s;
    timeouts->block_s = timeouts->end_s;
}

static void fill_control(struct config *config, cfg_t *section, struct config_errors *errors)
{
    static const struct sockaddr_un place;
    const struct config_value *value = config_value_at(section, "control", 0);
    if (value == NULL)
        return;
    if (value->text[0] == '\0' || strlen(value->text) >= sizeof(place.sun_path)) {
        config_error(errors, value->line, "admin.control: a path has 1 to %zu octets",
                     sizeof(place.sun_path) - 1);
        return;
    }
    config->control_path = strdup(value->text);
    if (config->control_path == NULL)
        config_error(errors, value->line, "out of memory");
}

void config_deliver_fill(struct config *config, cfg_t *root, const char *folder,
                         struct config_errors *errors)
{
    fill_schedule(&config->courier, cfg_getsec(root, "queue"), errors);
    check_warning(&config->courier.rules, cfg_getsec(root, "queue"), errors);
    fill_resolver(config, cfg_getsec(root, "resolver"), errors);
    fill_ca(config, cfg_getsec(root, "deliver"), folder, errors);
    fill_timeouts(&config->courier.timeouts);
    fill_through(config, cfg_getsec(root, "through"), errors);
    fill_control(config, cfg_getsec(root, "admin"), errors);
}
