/* Domains and their next hops: see config_routes.h. What a target may be is the table's own to say
 * (deliver/route.c). */
#include "gateway/config_routes.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway/config_aliases.h"
#include "gateway/config_recipients.h"
#include "parser/address.h"

static const char *const tls_modes[] = {[ROUTE_TLS_OPPORTUNISTIC] = "opportunistic",
                                        [ROUTE_TLS_NONE] = "none",
                                        [ROUTE_TLS_REQUIRED] = "required",
                                        [ROUTE_TLS_IMPLICIT] = "implicit",
                                        NULL};
static const char *const modes[] = {[false] = "spool", [true] = "through", NULL};
static const char *const verifications[] = {[false] = "none", [true] = "callahead", NULL};

/* The words that a domain and relay { } have in common. */
static struct route_options options_of(cfg_t *section, struct config_errors *errors)
{
    static const struct config_bounds connections = {CONFIG_COUNT, 1, 10000, 1};
    static const struct config_bounds rate = {CONFIG_COUNT, 0, 1000000, 1};
    struct route_options options = {0};
    options.tls = (enum route_tls)config_word_choice(section, "tls", tls_modes,
                                                     ROUTE_TLS_OPPORTUNISTIC, errors);
    options.tls_verify = config_word_choice(section, "tls_verify", config_booleans, false, errors);
    options.connections =
        (uint32_t)config_word_number(section, "connections", &connections, 0, errors);
    options.rate = (uint32_t)config_word_number(section, "rate", &rate, 0, errors);
    return options;
}

/* The targets of a section as routes_add wants them. */
struct targets {
    const char **texts; /* owned; the texts are the section's */
    unsigned count;
    int line; /* of the first */
};

static struct targets targets_of(cfg_t *section, struct config_errors *errors)
{
    struct targets targets = {.line = section->line};
    unsigned count = cfg_size(section, "deliver");
    targets.texts = count > 0 ? calloc(count, sizeof(*targets.texts)) : NULL;
    if (targets.texts == NULL) {
        if (count > 0)
            config_error(errors, section->line, "out of memory");
        return targets;
    }
    for (unsigned i = 0; i < count; i++)
        targets.texts[i] = config_value_at(section, "deliver", i)->text;
    targets.line = config_value_at(section, "deliver", 0)->line;
    targets.count = count;
    return targets;
}

static bool listens_v6(const struct sockaddr_in6 *listener, const char *host)
{
    struct in6_addr address = in6addr_loopback;
    if (strcasecmp(host, "localhost") != 0 && inet_pton(AF_INET6, host, &address) != 1)
        return false;
    if (IN6_IS_ADDR_UNSPECIFIED(&address))
        return true; /* connects to this machine */
    return memcmp(&address, &listener->sin6_addr, sizeof(address)) == 0 ||
           (IN6_IS_ADDR_UNSPECIFIED(&listener->sin6_addr) && IN6_IS_ADDR_LOOPBACK(&address));
}

static bool listens_v4(const struct sockaddr_in *listener, const char *host)
{
    struct in_addr address = {.s_addr = htonl(INADDR_LOOPBACK)};
    if (strcasecmp(host, "localhost") != 0 && inet_pton(AF_INET, host, &address) != 1)
        return false;
    if (address.s_addr == htonl(INADDR_ANY))
        return true;
    return address.s_addr == listener->sin_addr.s_addr ||
           (listener->sin_addr.s_addr == htonl(INADDR_ANY) &&
            ntohl(address.s_addr) >> 24 == IN_LOOPBACKNET);
}

/* Does a next hop name ourselves? Of a wildcard only the loopback is known here; the courier knows
 * the other addresses, and what names lead to (deliver/exchange_search.c). */
static bool is_ourselves(const struct config *config, const struct route_host *host)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const union address_any *listener = &config->listeners[i].address;
        bool v6 = listener->any.sa_family == AF_INET6;
        if (host->port == 0 ||
            ntohs(v6 ? listener->v6.sin6_port : listener->v4.sin_port) != host->port)
            continue;
        if (strcasecmp(host->name, config->hostname) == 0 ||
            (v6 ? listens_v6(&listener->v6, host->name) : listens_v4(&listener->v4, host->name)))
            return true;
    }
    return false;
}

/* Mail that we send to ourselves would come back to the same route until it has too many Received
 * fields. */
static void check_hosts(const struct config *config, cfg_t *section, const struct route *route,
                        struct config_errors *errors)
{
    bool fixed = route != NULL && (route->kind == ROUTE_SMTP || route->kind == ROUTE_LMTP);
    for (uint32_t i = 0; fixed && i < route->host_count; i++)
        if (is_ourselves(config, &route->hosts[i]))
            config_error(errors, config_value_at(section, "deliver", i)->line,
                         "%s.deliver: %s port %u is this gateway itself: mail would go round",
                         cfg_name(section), route->hosts[i].name, route->hosts[i].port);
}

static const struct route *route_of(const struct config *config, struct bytes domain)
{
    char mailbox[ADDRESS_DOMAIN_LEN_MAX + 2];
    int len =
        snprintf(mailbox, sizeof(mailbox), "@%.*s", (int)domain.len, (const char *)domain.data);
    return routes_find(config->routes, bytes_make(mailbox, (size_t)len), false);
}

static void fill_target(struct config *config, cfg_t *section, struct bytes name,
                        struct config_errors *errors, uint32_t *flags)
{
    const char *mistake;
    struct route_options options = options_of(section, errors);
    struct targets targets = targets_of(section, errors);
    options.through = config_word_choice(section, "mode", modes, false, errors);
    options.callahead = config_word_choice(section, "verify", verifications, false, errors);
    *flags = (options.through ? DIRECTORY_THROUGH : 0) |
             (options.callahead ? DIRECTORY_CALLAHEAD : 0) |
             (cfg_size(section, "deliver") == 0 ? DIRECTORY_NO_TARGET : 0);
    if (targets.count > 0 &&
        !routes_add(config->routes, name, targets.texts, targets.count, &options, &mistake))
        config_error(errors, targets.line, "%s.deliver: %s", cfg_name(section), mistake);
    else if (targets.count > 0)
        check_hosts(config, section, route_of(config, name), errors);
    free(targets.texts);
}

/* Returns the domain's index in the directory, or -1: it was told what is wrong. */
static int fill_domain(struct config *config, cfg_t *section, const char *folder,
                       struct config_errors *errors)
{
    struct bytes name = bytes_of_string(cfg_title(section));
    enum address_domain_kind kind;
    uint32_t flags;
    if (address_domain(name, true, &kind) != ADDRESS_OK || kind != ADDRESS_NAME) {
        config_error(errors, section->line, "\"%s\" is not a domain name", cfg_title(section));
        return -1;
    }
    int index = directory_add_domain(config->directory, name);
    if (index < 0) {
        config_error(errors, section->line,
                     index == -2 ? "domain \"%s\" is there already"
                                 : "domain \"%s\": out of memory",
                     cfg_title(section));
        return -1;
    }
    config->domain_count++;
    for (unsigned i = 0; i < cfg_size(section, "recipients"); i++)
        config_recipients_add(config->directory, index, config_value_at(section, "recipients", i),
                              folder, errors);
    fill_target(config, section, name, errors, &flags);
    directory_set_flags(config->directory, index, flags);
    return index;
}

/* A domain whose aliases lead elsewhere needs nothing else; one with recipients needs a target. */
static void check_domain(const struct config *config, cfg_t *section, int index,
                         struct config_errors *errors)
{
    bool targets = cfg_size(section, "deliver") > 0;
    bool recipients = cfg_size(section, "recipients") > 0;
    bool aliases = directory_has_aliases(config->directory, index);
    if (!recipients && !aliases)
        config_error(errors, section->line, "domain \"%s\" has no recipients", cfg_title(section));
    if (!targets && (recipients || !aliases))
        config_error(errors, section->line, "domain \"%s\" has no deliver", cfg_title(section));
}

/* Can there be mail for domains that are not ours? */
static bool has_foreign(cfg_t *root)
{
    static const char *const words[] = {"deliver", "tls", "tls_verify", "connections", "rate"};
    cfg_t *relay = cfg_getsec(root, "relay");
    bool said = false;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        said |= cfg_size(relay, words[i]) > 0;
    return said || cfg_size(root, "alias") > 0 || cfg_size(root, "aliases") > 0 ||
           cfg_size(cfg_getsec(root, "srs"), "domain") > 0;
}

static void fill_relay(struct config *config, cfg_t *section, struct config_errors *errors)
{
    static const char *const anywhere[] = {"mx:"};
    const char *mistake;
    struct route_options options = options_of(section, errors);
    struct targets targets = targets_of(section, errors);
    bool said = cfg_size(section, "deliver") > 0;
    if ((!said || targets.count > 0) &&
        !routes_add_foreign(config->routes, said ? targets.texts : anywhere,
                            said ? targets.count : 1, &options, &mistake))
        config_error(errors, targets.line, "%s.deliver: %s", cfg_name(section), mistake);
    else if (targets.count > 0)
        check_hosts(config, section, routes_find(config->routes, BYTES("@."), true), errors);
    free(targets.texts);
}

void config_routes_fill(struct config *config, cfg_t *root, const char *folder,
                        struct config_errors *errors)
{
    unsigned count = cfg_size(root, "domain");
    int *indexes = calloc(count > 0 ? count : 1, sizeof(*indexes));
    if (indexes == NULL) {
        config_error(errors, 0, "out of memory");
        return;
    }
    for (unsigned i = 0; i < count; i++)
        indexes[i] = fill_domain(config, cfg_getnsec(root, "domain", i), folder, errors);
    if (count == 0)
        config_error(errors, 0, "no domain: add domain \"example.org\" { ... }");
    if (has_foreign(root) || config_has_submission(config)) /* users write to everybody */
        fill_relay(config, cfg_getsec(root, "relay"), errors);
    config_aliases_fill(config->directory, root, folder, errors);
    for (unsigned i = 0; i < count; i++)
        if (indexes[i] >= 0)
            check_domain(config, cfg_getnsec(root, "domain", i), indexes[i], errors);
    free(indexes);
}
