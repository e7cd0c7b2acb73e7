/* Words and their bounds are tables, then come the checks that need more than one word. libconfuse
 * turns the text into a tree of values, each with its line; config_text.c has looked at the form
 * before. */
#include "gateway/config.h"

#include <confuse.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/config_recipients.h"
#include "gateway/config_text.h"
#include "gateway/config_tls.h"
#include "gateway/config_value.h"
#include "parser/address.h"

#define VALUE(name)  CFG_PTR_CB(name, NULL, CFGF_NODEFAULT, config_value_parse, free)
#define VALUES(name) CFG_PTR_LIST_CB(name, NULL, CFGF_NODEFAULT, config_value_parse, free)

static cfg_opt_t limits_words[] = {
    VALUE("connections"),  VALUE("connections_per_ip"), VALUE("message_size"),
    VALUE("recipients"),   VALUE("bad_commands"),       VALUE("command_timeout"),
    VALUE("data_timeout"), VALUE("min_data_rate"),      CFG_END()};
static cfg_opt_t spool_words[] = {VALUE("path"), VALUE("segment_size"), VALUE("sync"),
                                  VALUE("staging_size"), CFG_END()};
static cfg_opt_t queue_words[] = {VALUE("retry_min"), VALUE("retry_max"), VALUE("lifetime"),
                                  CFG_END()};
static cfg_opt_t io_words[] = {VALUE("features"), VALUE("buffers"), VALUE("buffer_size"),
                               CFG_END()};
static cfg_opt_t listener_words[] = {VALUES("address"), VALUE("role"),      VALUE("tls"),
                                     VALUE("tls_min"),  VALUE("client_ca"), CFG_END()};
static cfg_opt_t certificate_words[] = {VALUE("chain"), VALUE("key"), VALUE("self_signed"),
                                        CFG_END()};
static cfg_opt_t tls_words[] = {VALUE("ticket_secret"), VALUE("ticket_lifetime"), VALUE("helpers"),
                                CFG_END()};
static cfg_opt_t domain_words[] = {VALUES("recipients"), VALUE("deliver"), CFG_END()};
static cfg_opt_t log_words[] = {VALUE("level"), VALUE("format"), CFG_END()};

enum { NAMED = CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES };

static cfg_opt_t words[] = {VALUE("hostname"),
                            VALUE("workers"),
                            CFG_SEC("limits", limits_words, CFGF_NONE),
                            CFG_SEC("spool", spool_words, CFGF_NONE),
                            CFG_SEC("listener", listener_words, NAMED),
                            CFG_SEC("certificate", certificate_words, NAMED),
                            CFG_SEC("tls", tls_words, CFGF_NONE),
                            CFG_SEC("domain", domain_words, NAMED),
                            CFG_SEC("queue", queue_words, CFGF_NONE),
                            CFG_SEC("io", io_words, CFGF_NONE),
                            CFG_SEC("log", log_words, CFGF_NONE),
                            CFG_END()};

/* A word that is a number. `to` and `width` say which field of struct config it fills. */
struct number_word {
    const char *section;
    const char *name;
    enum config_unit unit;
    uint64_t min, max, fallback;
    uint64_t multiple_of; /* 0: a power of two */
    size_t to, width;
};

enum { KIB = 1 << 10, MIB = 1 << 20, MINUTE = 60, HOUR = 3600, DAY = 86400 };

#define GIB         (1024ull * MIB)
#define INTO(field) offsetof(struct config, field), sizeof(((struct config *)0)->field)

/* Section, word, field; at least, at most, when it is not set; unit, a multiple of what. */
#define NUMBER(section, word, field, min, max, fallback, unit, multiple_of)                        \
    {                                                                                              \
        section, word, unit, min, max, fallback, multiple_of, INTO(field)                          \
    }
#define COUNT(...) NUMBER(__VA_ARGS__, CONFIG_COUNT, 1)
#define SIZE(...)  NUMBER(__VA_ARGS__, CONFIG_SIZE, 1)
#define TIME(...)  NUMBER(__VA_ARGS__, CONFIG_TIME, 1)

static const struct number_word numbers[] = {
    COUNT(NULL, "workers", worker_count, 0, LIMIT_WORKERS, 0),
    COUNT("limits", "connections", server.connections_max, 1, 1000000, 50000),
    COUNT("limits", "connections_per_ip", server.connections_per_ip_max, 1, 1000000, 100),
    SIZE("limits", "message_size", server.message_size_max, KIB, 2 * GIB, 50 * MIB),
    COUNT("limits", "recipients", server.recipients_max, 1, LIMIT_RECIPIENTS, 1000),
    COUNT("limits", "bad_commands", server.bad_commands_max, 1, 1000, 20),
    TIME("limits", "command_timeout", server.command_timeout_s, 1, DAY, 5 * MINUTE),
    TIME("limits", "data_timeout", server.data_timeout_s, 1, DAY, 10 * MINUTE),
    SIZE("limits", "min_data_rate", server.data_rate_min, 0, GIB, KIB),
    NUMBER("spool", "segment_size", spool.segment_size, 4ull * LIMIT_RECORD, 2 * GIB, 64 * MIB,
           CONFIG_SIZE, LIMIT_BLOCK),
    NUMBER("spool", "staging_size", spool.staging_size, MIB, GIB, 8 * MIB, CONFIG_SIZE, 0),
    TIME("queue", "retry_min", courier.retry_min_s, 1, 30 * DAY, MINUTE),
    TIME("queue", "retry_max", courier.retry_max_s, 1, 30 * DAY, HOUR),
    TIME("queue", "lifetime", courier.lifetime_s, 1, 30 * DAY, 5 * DAY),
    TIME("tls", "ticket_lifetime", ticket_lifetime_s, 1, 7 * DAY, 12 * HOUR),
    COUNT("tls", "helpers", tls_helpers, 0, 64, 1),
    NUMBER("io", "buffers", io_buffer_count, 2, 32768, 2048, CONFIG_COUNT, 0),
    SIZE("io", "buffer_size", io_buffer_size, KIB, MIB, 16 * KIB),
};

/* A word with a closed set of values, up to a NULL; the index is what the field gets. */
struct choice_word {
    const char *section;
    const char *name;
    const char *const *choices;
    unsigned fallback;
    size_t to, width;
};

static const char *const syncs[] = {[SPOOL_SYNC_AUTO] = "auto",
                                    [SPOOL_SYNC_DSYNC] = "dsync",
                                    [SPOOL_SYNC_FDATASYNC] = "fdatasync",
                                    [SPOOL_SYNC_NONE] = "none",
                                    NULL};
static const char *const levels[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug", NULL};
static const char *const formats[] = {[LOG_LOGFMT] = "logfmt", [LOG_JSON] = "json", NULL};
static const char *const features[] = {[false] = "auto", [true] = "baseline", NULL};

static const struct choice_word choices[] = {
    {"spool", "sync",     syncs,    SPOOL_SYNC_AUTO, INTO(spool.sync) },
    {"log",   "level",    levels,   LOG_INFO,        INTO(log.level)  },
    {"log",   "format",   formats,  LOG_LOGFMT,      INTO(log.format) },
    {"io",    "features", features, false,           INTO(io_baseline)},
};

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
    loader.root = cfg_init(words, CFGF_NONE);
    if (loader.config == NULL || loader.folder == NULL || loader.root == NULL)
        config_error(&loader.errors, 0, "out of memory");
    else if (text != NULL && parse(&loader, text, len))
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
    }
    config_tls_free(config);
    routes_free(config->routes);
    directory_free(config->directory);
    free(config->spool_path);
    free(config->hostname);
    free(config);
}

/* Returns the text, owned and with a final NUL, or NULL when it was told why not. */
static char *read_text(struct loader *loader, const char *path, size_t *len)
{
    enum { CONFIG_SIZE_MAX = 64 * MIB };
    char *text = NULL;
    size_t size = 0;
    *len = 0;
    errno = 0;
    FILE *file = fopen(path, "re");
    while (file != NULL && !feof(file) && !ferror(file) && size < CONFIG_SIZE_MAX) {
        size = size == 0 ? 64 * KIB : size * 2;
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
    if (!config_text_prepare(text, len, words, &loader->errors))
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

static cfg_t *section_of(struct loader *loader, const char *name)
{
    return name == NULL ? loader->root : cfg_getsec(loader->root, name);
}

/* The name of a word as people look for it: "limits.recipients", "workers". */
struct full_name {
    char text[64];
};

static struct full_name full_name(const char *section, const char *word)
{
    struct full_name name;
    snprintf(name.text, sizeof(name.text), "%s%s%s", section == NULL ? "" : section,
             section == NULL ? "" : ".", word);
    return name;
}

static void store(struct config *config, size_t to, size_t width, uint64_t number)
{
    CHECK(width == sizeof(uint8_t) || width == sizeof(uint32_t) || width == sizeof(uint64_t));
    memcpy((uint8_t *)config + to, &number, width); /* little-endian, as every machine of ours */
}

static void fill_number(struct loader *loader, const struct number_word *word)
{
    static const char *const forms[] = {
        [CONFIG_COUNT] = "a number",
        [CONFIG_SIZE] = "a size (digits, then k, M, G or nothing)",
        [CONFIG_TIME] = "a time (digits, then s, m, h, d or nothing)",
    };
    char min[CONFIG_NUMBER_TEXT], max[CONFIG_NUMBER_TEXT];
    const struct full_name name = full_name(word->section, word->name);
    const struct config_value *value =
        config_value_at(section_of(loader, word->section), word->name, 0);
    uint64_t number = word->fallback;

    if (value != NULL && !config_value_number(value->text, word->unit, &number))
        config_error(&loader->errors, value->line, "%s: \"%s\" is not %s", name.text, value->text,
                     forms[word->unit]);
    else if (number < word->min || number > word->max)
        config_error(&loader->errors, value->line, "%s: %s is not between %s and %s", name.text,
                     value->text, config_value_format(word->min, word->unit, min),
                     config_value_format(word->max, word->unit, max));
    else if (word->multiple_of == 0 && (number & (number - 1)) != 0)
        config_error(&loader->errors, value->line, "%s: %s is not a power of two", name.text,
                     value->text);
    else if (word->multiple_of > 1 && number % word->multiple_of != 0)
        config_error(&loader->errors, value->line, "%s: %s is not a multiple of %s", name.text,
                     value->text, config_value_format(word->multiple_of, word->unit, min));
    store(loader->config, word->to, word->width, number);
}

static void fill_choice(struct loader *loader, const struct choice_word *word)
{
    const struct full_name name = full_name(word->section, word->name);
    const struct config_value *value =
        config_value_at(section_of(loader, word->section), word->name, 0);
    int index = (int)word->fallback;
    char known[64];
    if (value != NULL)
        index = config_value_choice(value->text, word->choices, known, sizeof(known));
    if (index < 0)
        config_error(&loader->errors, value->line, "%s: \"%s\" is none of %s", name.text,
                     value->text, known);
    else
        store(loader->config, word->to, word->width, (uint64_t)index);
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
    const struct config_value *value = config_value_at(section_of(loader, "spool"), "path", 0);
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
    const struct config_value *role = config_value_at(section, "role", 0);
    if (role != NULL && strcmp(role->text, "mx") != 0)
        config_error(&loader->errors, role->line, "listener.role: \"%s\" is not mx, the only role",
                     role->text);
    config_tls_listener(&model, loader->root, section, loader->folder, &loader->errors);
    if (cfg_size(section, "address") == 0)
        config_error(&loader->errors, section->line, "listener \"%s\" has no address",
                     cfg_title(section));
    for (unsigned i = 0; i < cfg_size(section, "address") && model.name != NULL; i++)
        add_address(loader, &model, config_value_at(section, "address", i));
    if (model.name == NULL)
        config_error(&loader->errors, section->line, "out of memory");
    free(model.client_ca);
    free(model.name);
}

static void fill_domain(struct loader *loader, cfg_t *section)
{
    struct config *config = loader->config;
    struct config_errors *errors = &loader->errors;
    const struct config_value *deliver = config_value_at(section, "deliver", 0);
    struct bytes name = bytes_of_string(cfg_title(section));
    enum address_domain_kind kind;
    const char *mistake;
    if (address_domain(name, true, &kind) != ADDRESS_OK || kind != ADDRESS_NAME) {
        config_error(errors, section->line, "\"%s\" is not a domain name", cfg_title(section));
        return;
    }
    int index = directory_add_domain(config->directory, name);
    if (index < 0) {
        config_error(errors, section->line,
                     index == -2 ? "domain \"%s\" is there already"
                                 : "domain \"%s\": out of memory",
                     cfg_title(section));
        return;
    }
    config->domain_count++;
    if (cfg_size(section, "recipients") == 0)
        config_error(errors, section->line, "domain \"%s\" has no recipients", cfg_title(section));
    for (unsigned i = 0; i < cfg_size(section, "recipients"); i++)
        config_recipients_add(config->directory, index, config_value_at(section, "recipients", i),
                              loader->folder, errors);
    if (deliver == NULL)
        config_error(errors, section->line, "domain \"%s\" has no deliver", cfg_title(section));
    else if (!routes_add(config->routes, name, deliver->text, &mistake))
        config_error(errors, deliver->line, "domain.deliver: \"%s\": %s", deliver->text, mistake);
}

/* What must not be larger than what. The line to blame is one that was written, not a default. */
static void check_order(struct loader *loader, const char *low_name, uint32_t low,
                        const char *high_name, uint32_t high)
{
    cfg_t *queue = section_of(loader, "queue");
    const struct config_value *value = config_value_at(queue, high_name, 0);
    if (value == NULL)
        value = config_value_at(queue, low_name, 0);
    if (low > high)
        config_error(&loader->errors, value != NULL ? value->line : 0,
                     "queue.%s is longer than queue.%s", low_name, high_name);
}

/* The fields that borrow, and those that no word sets. */
static void fill_rest(struct config *config)
{
    config->server.hostname = config->hostname;
    config->server.directory = config->directory;
    config->spool.path = config->spool_path;
    config->spool.writer_cpu = -1;
    config->courier.hostname = config->hostname;
    config->courier.routes = config->routes;
    config->courier.cpu = -1;
    config->log.descriptor = STDERR_FILENO;
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
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        fill_number(loader, &numbers[i]);
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
        fill_choice(loader, &choices[i]);
    fill_hostname(loader);
    fill_spool_path(loader);
    config_tls_fill(config, loader->root, loader->folder, &loader->errors);
    for (unsigned i = 0; i < cfg_size(loader->root, "listener"); i++)
        fill_listener(loader, cfg_getnsec(loader->root, "listener", i));
    for (unsigned i = 0; i < cfg_size(loader->root, "domain"); i++)
        fill_domain(loader, cfg_getnsec(loader->root, "domain", i));
    fill_rest(config);

    if (cfg_size(loader->root, "listener") == 0)
        config_error(&loader->errors, 0, "no listener: add listener \"mx\" { address = ... }");
    if (cfg_size(loader->root, "domain") == 0)
        config_error(&loader->errors, 0, "no domain: add domain \"example.org\" { ... }");
    check_order(loader, "retry_min", config->courier.retry_min_s, "retry_max",
                config->courier.retry_max_s);
    check_order(loader, "retry_max", config->courier.retry_max_s, "lifetime",
                config->courier.lifetime_s);
    config_tls_try(config, &loader->errors);
}
