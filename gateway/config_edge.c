/* Networks, greylist, Redis, admin addresses and user: see config_edge.h. */
#include "gateway/config_edge.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "gateway/config_file.h"
#include "gateway/config_warnings.h"

enum { SECRET_LEN_MIN = 16, SECRET_LEN_MAX = 1024, PREFIX_LEN_MAX = 64, PENDING_MAX = 10000 };

static void add_network(struct networks *networks, const char *section, const char *word,
                        const struct config_value *value, struct config_errors *errors)
{
    switch (networks_add(networks, value->text)) {
    case NETWORKS_ADDED: return;
    case NETWORKS_NO_NETWORK:
        config_error(errors, value->line,
                     "%s.%s: \"%s\" is not a network like \"192.0.2.0/24\" or \"2001:db8::/32\"",
                     section, word, value->text);
        return;
    case NETWORKS_HOST_BITS:
        config_error(errors, value->line, "%s.%s: \"%s\" has bits behind its prefix", section, word,
                     value->text);
        return;
    case NETWORKS_NO_MEMORY: config_error(errors, value->line, "out of memory"); return;
    }
}

struct networks *config_networks(cfg_t *section, const char *word, struct config_errors *errors)
{
    unsigned count = cfg_size(section, word);
    if (count == 0)
        return NULL;
    struct networks *networks = networks_new();
    if (networks == NULL)
        config_error(errors, section->line, "out of memory");
    for (unsigned i = 0; i < count && networks != NULL; i++)
        add_network(networks, section->name, word, config_value_at(section, word, i), errors);
    return networks;
}

/* copy returns the text of a word, owned; NULL: it is not there. */
static char *copy(cfg_t *section, const char *word, struct config_errors *errors)
{
    const struct config_value *value = config_value_at(section, word, 0);
    char *text = value == NULL ? NULL : strdup(value->text);
    if (value != NULL && text == NULL)
        config_error(errors, value->line, "out of memory");
    return text;
}

/* read_secret reads the first line of the file that a word names. NULL: the word is not there, or
 * it was told what is wrong. */
static char *read_secret(cfg_t *section, const char *word, size_t len_min, const char *folder,
                         struct config_errors *errors)
{
    size_t len;
    const struct config_value *value = config_value_at(section, word, 0);
    char *path = config_word_path(section, word, folder, errors);
    if (path == NULL)
        return NULL;
    char *text = config_file_read(path, &len);
    if (text == NULL)
        config_error(errors, value->line, "%s.%s: %s: %s", cfg_name(section), word, path,
                     strerror(errno));
    else
        text[strcspn(text, "\r\n")] = '\0';
    if (text != NULL && (strlen(text) < len_min || strlen(text) > SECRET_LEN_MAX)) {
        config_error(errors, value->line, "%s.%s: the first line of %s has %zu to %d octets",
                     cfg_name(section), word, path, len_min, SECRET_LEN_MAX);
        free(text);
        text = NULL;
    }
    free(path);
    return text;
}

/* A greylist key is no secret to keep for long: it only may not be guessed from outside. */
static uint64_t digest(const char *text)
{
    uint64_t value = 0xcbf29ce484222325u;
    for (; *text != '\0'; text++)
        value = (value ^ (uint8_t)*text) * 0x100000001b3u;
    return value == 0 ? 1 : value;
}

static void fill_greylist(struct config *config, cfg_t *section, const char *folder,
                          struct config_errors *errors)
{
    const struct greylist_rules *rules = &config->server.greylist;
    char *secret = read_secret(section, "secret", SECRET_LEN_MIN, folder, errors);
    if (secret != NULL)
        config->server.greylist_secret = digest(secret);
    free(secret);
    if (rules->delay_s > 0 && rules->window_s <= rules->delay_s)
        config_error(errors, section->line, "greylist.window is not longer than greylist.delay");
}

static void fill_redis_address(struct config *config, const struct config_value *value,
                               struct config_errors *errors)
{
    struct redis_options *redis = &config->sharing.redis;
    if (strncmp(value->text, "unix:", 5) != 0) {
        if (!listener_parse(value->text, &redis->address))
            config_error(errors, value->line,
                         "redis.address: \"%s\" is not an address like \"192.0.2.1:6379\" or "
                         "\"unix:/run/redis/redis.sock\"",
                         value->text);
        return;
    }
    size_t len = strlen(value->text + 5);
    if (len == 0 || len >= sizeof(((struct sockaddr_un *)0)->sun_path))
        config_error(errors, value->line, "redis.address: a path has 1 to %zu octets",
                     sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    config->redis_path = strdup(value->text + 5);
    if (config->redis_path == NULL)
        config_error(errors, value->line, "out of memory");
}

static void fill_redis(struct config *config, cfg_t *section, const char *folder,
                       struct config_errors *errors)
{
    const struct config_value *address = config_value_at(section, "address", 0);
    const struct config_value *prefix = config_value_at(section, "prefix", 0);
    struct shared_options *sharing = &config->sharing;
    config->redis_user = copy(section, "user", errors);
    config->redis_prefix = prefix != NULL ? copy(section, "prefix", errors) : strdup("ringmx");
    config->redis_password = read_secret(section, "password", 1, folder, errors);
    if (prefix != NULL && (prefix->text[0] == '\0' || strlen(prefix->text) > PREFIX_LEN_MAX))
        config_error(errors, prefix->line, "redis.prefix has 1 to %d octets", PREFIX_LEN_MAX);
    if (config->redis_user != NULL && config->redis_password == NULL)
        config_error(errors, section->line, "redis has a user and no password");
    if (address == NULL) {
        if (config->redis_user != NULL || config->redis_password != NULL || prefix != NULL)
            config_error(errors, section->line, "redis has no address");
        return;
    }
    fill_redis_address(config, address, errors);
    config->has_redis = true;
    sharing->redis.path = config->redis_path;
    sharing->redis.user = config->redis_user;
    sharing->redis.password = config->redis_password;
    sharing->redis.pending_max = PENDING_MAX;
    sharing->prefix = config->redis_prefix;
}

static void fill_address(union address_any *address, cfg_t *section, const char *word,
                         struct config_errors *errors)
{
    const struct config_value *value = config_value_at(section, word, 0);
    if (value != NULL && !listener_parse(value->text, address))
        config_error(errors, value->line,
                     "admin.%s: \"%s\" is not an address like \"127.0.0.1:9125\"", word,
                     value->text);
}

/* fill_user checks that user and group exist; who they are is looked up when they are needed. */
static void fill_user(struct config *config, cfg_t *section, struct config_errors *errors)
{
    const struct config_value *user = config_value_at(section, "user", 0);
    const struct config_value *group = config_value_at(section, "group", 0);
    if (user != NULL && getpwnam(user->text) == NULL)
        config_error(errors, user->line, "sandbox.user: there is no user \"%s\"", user->text);
    if (group != NULL && getgrnam(group->text) == NULL)
        config_error(errors, group->line, "sandbox.group: there is no group \"%s\"", group->text);
    if (group != NULL && user == NULL)
        config_error(errors, group->line, "sandbox.group needs sandbox.user");
    config->user = copy(section, "user", errors);
    config->group = copy(section, "group", errors);
}

void config_edge_fill(struct config *config, cfg_t *root, const char *folder,
                      struct config_errors *errors)
{
    cfg_t *admin = cfg_getsec(root, "admin");
    config->exempt = config_networks(cfg_getsec(root, "limits"), "exempt", errors);
    fill_greylist(config, cfg_getsec(root, "greylist"), folder, errors);
    fill_redis(config, cfg_getsec(root, "redis"), folder, errors);
    fill_address(&config->http, admin, "http", errors);
    fill_address(&config->agent, admin, "agent", errors);
    fill_user(config, cfg_getsec(root, "sandbox"), errors);
}

/* warn_of_all: nothing that tells the balancer from its clients is left. */
static void warn_of_all(const char *word, const char *name, const struct networks *networks,
                        FILE *out)
{
    if (networks_contain_all(networks))
        fprintf(out,
                "warning: listener \"%s\": %s holds all addresses: every client may say who it "
                "is\n",
                name, word);
}

void config_edge_warnings(const struct config *config, FILE *out)
{
    const uint32_t(*rates)[RATE_SCOPES] = config->server.rates.per_minute;
    bool counts = config->server.greylist.delay_s > 0;
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if (i > 0 && strcmp(listener->name, config->listeners[i - 1].name) == 0)
            continue; /* another address of the same */
        warn_of_all("proxy", listener->name, listener->proxy, out);
        warn_of_all("xclient", listener->name, listener->xclient, out);
    }
    for (int i = 0; i < RATE_KINDS * RATE_SCOPES; i++)
        counts |= rates[i / RATE_SCOPES][i % RATE_SCOPES] > 0;
    if (config->has_redis && !counts)
        fprintf(out, "warning: redis has nothing to do: there is neither a rate in limits nor "
                     "greylist.delay\n");
}

void config_edge_free(struct config *config)
{
    if (config->redis_password != NULL)
        explicit_bzero(config->redis_password, strlen(config->redis_password));
    free(config->redis_password);
    free(config->redis_user);
    free(config->redis_prefix);
    free(config->redis_path);
    networks_free(config->exempt);
    free(config->user);
    free(config->group);
}
