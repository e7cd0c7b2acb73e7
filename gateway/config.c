/* One load: the text, then libconfuse's tree of values, each with its line (config_text.c has
 * looked at the form before), then the fields, part by part. Here are those of the machine and its
 * listeners; the neighbours config_*.c have the rest. */
#include "gateway/config.h"

#include <confuse.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/config_deliver.h"
#include "gateway/config_edge.h"
#include "gateway/config_routes.h"
#include "gateway/config_srs.h"
#include "gateway/config_submission.h"
#include "gateway/config_tls.h"
#include "gateway/config_words.h"
#include "parser/address.h"

/* One load. */
struct loader {
    cfg_t *root;
    struct config *config;
    char *folder; /* of the configuration file */
    struct config_errors errors;
};

static char *read_text(struct loader *loader, const char *path, size_t *len);
static bool parse(struct loader *loader, char *text, size_t len);
static void fill(struct loader *loader);

struct config *config_load(const char *path, FILE *out)
{
    struct loader loader = {
        .errors = {.path = path, .out = out}
    };
    size_t len;
    char *text = read_text(&loader, path, &len);
    loader.config = calloc(1, sizeof(*loader.config));
    const char *slash = strrchr(path, '/');
    loader.folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path));
    loader.root = cfg_init(config_words(), CFGF_NONE);
    if (loader.config == NULL || loader.folder == NULL || loader.root == NULL)
        config_error(&loader.errors, 0, "out of memory");
    else
        loader.errors.paths = &loader.config->paths;
    if (loader.errors.paths != NULL && text != NULL && parse(&loader, text, len))
        fill(&loader);
    cfg_free(loader.root);
    free(loader.folder);
    free(text);
    if (loader.errors.count == 0)
        return loader.config;
    config_free(loader.config);
    return NULL;
}

void config_free(struct config *config)
{
    if (config == NULL)
        return;
    for (size_t i = 0; i < config->listener_count; i++) {
        free(config->listeners[i].name);
        free(config->listeners[i].client_ca);
        if (!config->listeners[i].owns_networks)
            continue;
        networks_free(config->listeners[i].proxy);
        networks_free(config->listeners[i].xclient);
    }
    config_tls_free(config);
    srs_free(config->srs);
    free(config->srs_secret);
    free(config->ca_path);
    free(config->control_path);
    config_edge_free(config);
    config_submission_free(config);
    config_paths_free(&config->paths);
    routes_free(config->routes);
    directory_free(config->directory);
    free(config->spool_path);
    free(config->hostname);
    free(config);
}

/* Returns the text, owned and with a final NUL, or NULL when it was told why not. */
static char *read_text(struct loader *loader, const char *path, size_t *len)
{
    enum { CONFIG_SIZE_MAX = 64 << 20 };
    char *text = NULL;
    size_t size = 0;
    *len = 0;
    errno = 0;
    FILE *file = fopen(path, "re");
    while (file != NULL && !feof(file) && !ferror(file) && size < CONFIG_SIZE_MAX) {
        size = size == 0 ? 64 * 1024 : size * 2;
        char *larger = realloc(text, size);
        if (larger == NULL)
            break;
        text = larger;
        *len += fread(text + *len, 1, size - 1 - *len, file);
    }
    bool whole = file != NULL && feof(file) && !ferror(file);
    if (!whole) {
        config_error(&loader->errors, 0, "%s", errno != 0 ? strerror(errno) : "too long");
        free(text);
        text = NULL;
    }
    if (file != NULL)
        fclose(file);
    if (text != NULL)
        text[*len] = '\0';
    return text;
}

/* libconfuse gives its error function nothing to find the loader by, and is not reentrant itself.
 */
static _Thread_local struct config_errors *parse_errors;

__attribute__((format(printf, 2, 0))) static void parse_error(cfg_t *section, const char *format,
                                                              va_list arguments)
{
    char message[512];
    vsnprintf(message, sizeof(message), format, arguments);
    config_error(parse_errors, section->line, "%s", message);
}

static bool parse(struct loader *loader, char *text, size_t len)
{
    if (!config_text_prepare(text, len, config_words(), &loader->errors))
        return false;
    size_t count = loader->errors.count;
    parse_errors = &loader->errors;
    cfg_set_error_function(loader->root, parse_error);
    int result = cfg_parse_buf(loader->root, text);
    parse_errors = NULL;
    if (result != CFG_SUCCESS && loader->errors.count == count)
        config_error(&loader->errors, 0, "can't be read (out of memory?)");
    return result == CFG_SUCCESS;
}

static void fill_hostname(struct loader *loader)
{
    char system_name[256] = "";
    enum address_domain_kind kind;
    const struct config_value *value = config_value_at(loader->root, "hostname", 0);
    if (value == NULL)
        gethostname(system_name, sizeof(system_name) - 1);
    const char *name = value != NULL ? value->text : system_name;
    bool valid = address_domain(bytes_of_string(name), false, &kind) == ADDRESS_OK;
    if (!valid || kind != ADDRESS_NAME)
        config_error(&loader->errors, value != NULL ? value->line : 0,
                     value != NULL
                         ? "hostname: \"%s\" is not a domain name"
                         : "this machine's name \"%s\" is not a domain name: set hostname",
                     name);
    loader->config->hostname = strdup(name);
}

static void fill_spool_path(struct loader *loader)
{
    const struct config_value *value =
        config_value_at(cfg_getsec(loader->root, "spool"), "path", 0);
    if (value != NULL && value->text[0] == '\0')
        config_error(&loader->errors, value->line, "spool.path is empty");
    loader->config->spool_path = strdup(value != NULL ? value->text : "/var/spool/ringmx");
}

static uint32_t cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    uint32_t count = (uint32_t)CPU_COUNT(&set);
    return count > LIMIT_WORKERS ? LIMIT_WORKERS : count;
}

static bool is_any_port(const union address_any *address)
{
    return (address->any.sa_family == AF_INET6 ? address->v6.sin6_port : address->v4.sin_port) == 0;
}

/* add_address adds a listener like `model`, whose strings it borrows, with an address of its own.
 */
static void add_address(struct loader *loader, const struct config_listener *model,
                        const struct config_value *value)
{
    struct config *config = loader->config;
    struct config_listener listener = *model;
    if (!listener_parse(value->text, &listener.address)) {
        config_error(&loader->errors, value->line,
                     "\"%s\" is not an address like \"192.0.2.1:25\" or \"[2001:db8::1]:25\"",
                     value->text);
        return;
    }
    for (size_t i = 0; i < config->listener_count && !is_any_port(&listener.address); i++)
        if (memcmp(&config->listeners[i].address, &listener.address, sizeof(listener.address)) == 0)
            config_error(&loader->errors, value->line,
                         "%s is already an address of listener \"%s\"", value->text,
                         config->listeners[i].name);
    if (config->listener_count == LIMIT_LISTENERS) {
        config_error(&loader->errors, value->line, "more than %d addresses", LIMIT_LISTENERS);
        return;
    }
    listener.name = strdup(model->name);
    listener.client_ca = model->client_ca != NULL ? strdup(model->client_ca) : NULL;
    if (listener.name == NULL || (listener.client_ca == NULL) != (model->client_ca == NULL))
        config_error(&loader->errors, value->line, "out of memory");
    config->listeners[config->listener_count++] = listener;
}

static void fill_listener(struct loader *loader, cfg_t *section)
{
    struct config_listener model = {.name = strdup(cfg_title(section))};
    config_submission_listener(&model, section, &loader->errors);
    config_tls_listener(&model, loader->root, section, loader->folder, &loader->errors);
    model.proxy = config_networks(section, "proxy", &loader->errors);
    model.xclient = config_networks(section, "xclient", &loader->errors);
    model.owns_networks = true;
    if (cfg_size(section, "address") == 0)
        config_error(&loader->errors, section->line, "listener \"%s\" has no address",
                     cfg_title(section));
    for (unsigned i = 0; i < cfg_size(section, "address") && model.name != NULL; i++) {
        size_t count = loader->config->listener_count;
        add_address(loader, &model, config_value_at(section, "address", i));
        model.owns_networks &= count == loader->config->listener_count;
    }
    if (model.owns_networks) {
        networks_free(model.proxy);
        networks_free(model.xclient);
    }
    if (model.name == NULL)
        config_error(&loader->errors, section->line, "out of memory");
    free(model.client_ca);
    free(model.name);
}

/* The fields that borrow, and those that no word sets. */
static void fill_rest(struct config *config)
{
    config->server.hostname = config->hostname;
    config->server.directory = config->directory;
    config->spool.path = config->spool_path;
    config->spool.writer_cpu = -1;
    config->courier.hostname = config->hostname;
    config->courier.rules.routes = config->routes;
    config->courier.rules.directory = config->directory;
    config->courier.rules.srs = config->srs;
    config->courier.ca = config->ca_path;
    config->courier.baseline = config->io_baseline;
    config->courier.cpu = -1;
    config->server.exempt = config->exempt;
    config->log.descriptor = config->log.output == LOG_STDOUT ? STDOUT_FILENO : STDERR_FILENO;
    if (config->worker_count == 0)
        config->worker_count = cpu_count();
}

static void fill(struct loader *loader)
{
    struct config *config = loader->config;
    config->directory = directory_new();
    config->routes = routes_new();
    if (config->directory == NULL || config->routes == NULL) {
        config_error(&loader->errors, 0, "out of memory");
        return;
    }
    config_words_fill(config, loader->root, &loader->errors);
    fill_hostname(loader);
    fill_spool_path(loader);
    config_tls_fill(config, loader->root, loader->folder, &loader->errors);
    for (unsigned i = 0; i < cfg_size(loader->root, "listener"); i++)
        fill_listener(loader, cfg_getnsec(loader->root, "listener", i));
    if (cfg_size(loader->root, "listener") == 0)
        config_error(&loader->errors, 0, "no listener: add listener \"mx\" { address = ... }");
    /* An alias may lead to an address of SRS. */
    config_srs_fill(config, loader->root, loader->folder, &loader->errors);
    config_routes_fill(config, loader->root, loader->folder, &loader->errors);
    config_deliver_fill(config, loader->root, loader->folder, &loader->errors);
    config_edge_fill(config, loader->root, loader->folder, &loader->errors);
    config_submission_fill(config, loader->root, loader->folder, &loader->errors);
    fill_rest(config);
    config_tls_try(config, &loader->errors);
}
