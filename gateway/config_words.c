/* Words and their bounds are tables: see config_words.h. A word that is not here has a function of
 * its own in config.c or one of its neighbours. */
#include "gateway/config_words.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"

#define VALUE(name)  CFG_PTR_CB(name, NULL, CFGF_NODEFAULT, config_value_parse, free)
#define VALUES(name) CFG_PTR_LIST_CB(name, NULL, CFGF_NODEFAULT, config_value_parse, free)

static cfg_opt_t limits_words[] = {VALUE("connections"),
                                   VALUE("connections_per_ip"),
                                   VALUE("message_size"),
                                   VALUE("recipients"),
                                   VALUE("bad_commands"),
                                   VALUE("command_timeout"),
                                   VALUE("data_timeout"),
                                   VALUE("min_data_rate"),
                                   VALUE("connections_per_network"),
                                   VALUE("connection_rate"),
                                   VALUE("connection_rate_network"),
                                   VALUE("message_rate"),
                                   VALUE("message_rate_network"),
                                   VALUES("exempt"),
                                   VALUE("greet_delay"),
                                   VALUE("tarpit_after"),
                                   VALUE("tarpit"),
                                   CFG_END()};
static cfg_opt_t greylist_words[] = {VALUE("delay"), VALUE("window"), VALUE("keep"),
                                     VALUE("secret"), CFG_END()};
static cfg_opt_t redis_words[] = {VALUE("address"),  VALUE("user"),   VALUE("password"),
                                  VALUE("database"), VALUE("prefix"), VALUE("timeout_ms"),
                                  CFG_END()};
static cfg_opt_t drain_words[] = {VALUE("notice"), VALUE("timeout"), VALUE("handover"), CFG_END()};
static cfg_opt_t sandbox_words[] = {VALUE("user"), VALUE("group"), VALUE("seccomp"),
                                    VALUE("landlock"), CFG_END()};
static cfg_opt_t spool_words[] = {VALUE("path"), VALUE("segment_size"), VALUE("sync"),
                                  VALUE("staging_size"), CFG_END()};
static cfg_opt_t queue_words[] = {VALUES("schedule"),   VALUE("lifetime"), VALUE("warn_after"),
                                  VALUE("bounce_size"), VALUE("messages"), CFG_END()};
static cfg_opt_t io_words[] = {VALUE("features"), VALUE("buffers"), VALUE("buffer_size"),
                               CFG_END()};
static cfg_opt_t listener_words[] = {VALUES("address"), VALUE("role"),      VALUE("tls"),
                                     VALUE("tls_min"),  VALUE("client_ca"), VALUES("proxy"),
                                     VALUES("xclient"), VALUE("auth"),      CFG_END()};
static cfg_opt_t certificate_words[] = {VALUE("chain"), VALUE("key"), VALUE("self_signed"),
                                        CFG_END()};
static cfg_opt_t tls_words[] = {VALUE("ticket_secret"), VALUE("ticket_lifetime"), VALUE("helpers"),
                                VALUE("handshakes"), CFG_END()};
static cfg_opt_t domain_words[] = {VALUES("recipients"), VALUES("deliver"), VALUE("mode"),
                                   VALUE("verify"),      VALUE("tls"),      VALUE("tls_verify"),
                                   VALUE("connections"), VALUE("rate"),     CFG_END()};
static cfg_opt_t relay_words[] = {VALUES("deliver"),    VALUE("tls"),  VALUE("tls_verify"),
                                  VALUE("connections"), VALUE("rate"), CFG_END()};
static cfg_opt_t alias_words[] = {VALUES("to"), CFG_END()};
static cfg_opt_t srs_words[] = {VALUE("domain"), VALUE("secret"), VALUE("max_age"),
                                VALUE("hash_length"), CFG_END()};
static cfg_opt_t resolver_words[] = {VALUES("address"), VALUE("timeout"), VALUE("tries"),
                                     VALUE("cache"), CFG_END()};
static cfg_opt_t deliver_words[] = {VALUE("connections"),
                                    VALUE("idle"),
                                    VALUE("ca"),
                                    VALUE("smtp_port"),
                                    VALUE("ipv6"),
                                    VALUE("connect_timeout"),
                                    VALUE("data_timeout"),
                                    VALUE("command_timeout"),
                                    VALUE("store_threads"),
                                    CFG_END()};
static cfg_opt_t through_words[] = {VALUE("patience"), VALUE("memory"), VALUE("cache"), CFG_END()};
static cfg_opt_t auth_words[] = {VALUE("users"),
                                 VALUE("dovecot"),
                                 VALUE("timeout_ms"),
                                 VALUE("domain"),
                                 VALUE("cache"),
                                 VALUE("helpers"),
                                 VALUE("delay_ms"),
                                 VALUE("failures_per_ip"),
                                 VALUE("failures_per_network"),
                                 VALUE("failures_per_user"),
                                 CFG_END()};
static cfg_opt_t submission_words[] = {VALUE("message_size"),
                                       VALUE("recipients"),
                                       VALUE("messages_per_hour"),
                                       VALUE("recipients_per_hour"),
                                       VALUE("senders"),
                                       VALUE("from"),
                                       VALUE("sender"),
                                       VALUE("results"),
                                       VALUE("hold"),
                                       VALUE("deliver_by"),
                                       VALUE("priority"),
                                       CFG_END()};
static cfg_opt_t sender_words[] = {VALUES("addresses"), CFG_END()};
static cfg_opt_t dkim_words[] = {VALUES("keys"), CFG_END()};
static cfg_opt_t admin_words[] = {VALUE("control"), VALUE("http"), VALUE("agent"), CFG_END()};
static cfg_opt_t log_words[] = {VALUE("level"), VALUE("format"), VALUE("output"), VALUE("repeats"),
                                CFG_END()};

enum { NAMED = CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES };

static cfg_opt_t words[] = {VALUE("hostname"),
                            VALUE("workers"),
                            VALUES("aliases"),
                            CFG_SEC("limits", limits_words, CFGF_NONE),
                            CFG_SEC("spool", spool_words, CFGF_NONE),
                            CFG_SEC("listener", listener_words, NAMED),
                            CFG_SEC("certificate", certificate_words, NAMED),
                            CFG_SEC("tls", tls_words, CFGF_NONE),
                            CFG_SEC("domain", domain_words, NAMED),
                            CFG_SEC("relay", relay_words, CFGF_NONE),
                            CFG_SEC("alias", alias_words, NAMED),
                            CFG_SEC("srs", srs_words, CFGF_NONE),
                            CFG_SEC("resolver", resolver_words, CFGF_NONE),
                            CFG_SEC("queue", queue_words, CFGF_NONE),
                            CFG_SEC("deliver", deliver_words, CFGF_NONE),
                            CFG_SEC("through", through_words, CFGF_NONE),
                            CFG_SEC("admin", admin_words, CFGF_NONE),
                            CFG_SEC("io", io_words, CFGF_NONE),
                            CFG_SEC("log", log_words, CFGF_NONE),
                            CFG_SEC("greylist", greylist_words, CFGF_NONE),
                            CFG_SEC("redis", redis_words, CFGF_NONE),
                            CFG_SEC("drain", drain_words, CFGF_NONE),
                            CFG_SEC("sandbox", sandbox_words, CFGF_NONE),
                            CFG_SEC("auth", auth_words, CFGF_NONE),
                            CFG_SEC("submission", submission_words, CFGF_NONE),
                            CFG_SEC("sender", sender_words, NAMED),
                            CFG_SEC("dkim", dkim_words, NAMED),
                            CFG_END()};

cfg_opt_t *config_words(void)
{
    return words;
}

/* A word that is a number. `to` and `width` say which field of struct config it fills. */
struct number_word {
    const char *section;
    const char *name;
    struct config_bounds bounds;
    uint64_t fallback;
    size_t to, width;
};

enum { KIB = 1 << 10, MIB = 1 << 20, MINUTE = 60, HOUR = 3600, DAY = 86400 };

#define GIB         (1024ull * MIB)
#define INTO(field) offsetof(struct config, field), sizeof(((struct config *)0)->field)

/* Section, word, field; at least, at most, when it is not set; unit, a multiple of what. */
#define NUMBER(section, word, field, min, max, fallback, unit, multiple_of)                        \
    {                                                                                              \
        section, word, {unit, min, max, multiple_of}, fallback, INTO(field)                        \
    }
#define COUNT(...) NUMBER(__VA_ARGS__, CONFIG_COUNT, 1)
#define SIZE(...)  NUMBER(__VA_ARGS__, CONFIG_SIZE, 1)
#define TIME(...)  NUMBER(__VA_ARGS__, CONFIG_TIME, 1)

static const struct number_word numbers[] = {
    COUNT(NULL, "workers", worker_count, 0, LIMIT_WORKERS, 0),
    COUNT("limits", "connections", server.connections_max, 1, 1000000, 10000),
    COUNT("limits", "connections_per_ip", server.connections_per_ip_max, 0, 1000000, 100),
    COUNT("limits", "connections_per_network", server.connections_per_network_max, 0, 1000000, 0),
    COUNT("limits", "connection_rate", server.rates.per_minute[RATE_CONNECTIONS][RATE_ADDRESS], 0,
          1000000, 0),
    COUNT("limits", "connection_rate_network",
          server.rates.per_minute[RATE_CONNECTIONS][RATE_NETWORK], 0, 1000000, 0),
    COUNT("limits", "message_rate", server.rates.per_minute[RATE_MESSAGES][RATE_ADDRESS], 0,
          1000000, 0),
    COUNT("limits", "message_rate_network", server.rates.per_minute[RATE_MESSAGES][RATE_NETWORK], 0,
          1000000, 0),
    TIME("limits", "greet_delay", server.greet_delay_s, 0, 30, 0),
    COUNT("limits", "tarpit_after", server.tarpit_after, 0, 1000, 3),
    TIME("limits", "tarpit", server.tarpit_s, 0, 60, 0),
    SIZE("limits", "message_size", server.message_size_max, KIB, 2 * GIB, 50 * MIB),
    COUNT("limits", "recipients", server.recipients_max, 1, LIMIT_RECIPIENTS, 1000),
    COUNT("limits", "bad_commands", server.bad_commands_max, 1, 1000, 20),
    TIME("limits", "command_timeout", server.command_timeout_s, 1, DAY, 5 * MINUTE),
    TIME("limits", "data_timeout", server.data_timeout_s, 1, DAY, 10 * MINUTE),
    SIZE("limits", "min_data_rate", server.data_rate_min, 0, GIB, KIB),
    NUMBER("spool", "segment_size", spool.segment_size, 4ull * LIMIT_RECORD, 2 * GIB, 64 * MIB,
           CONFIG_SIZE, LIMIT_BLOCK),
    NUMBER("spool", "staging_size", spool.staging_size, MIB, GIB, 8 * MIB, CONFIG_SIZE, 0),
    TIME("queue", "lifetime", courier.rules.lifetime_s, 1, 30 * DAY, 5 * DAY),
    TIME("queue", "warn_after", courier.rules.warn_after_s, 0, 30 * DAY, 0),
    SIZE("queue", "bounce_size", courier.rules.bounce_original_max, 0, 10 * MIB, 50 * KIB),
    TIME("resolver", "timeout", resolver_timeout_s, 1, 30, 2),
    COUNT("resolver", "tries", courier.dns.tries, 1, 10, 2),
    COUNT("resolver", "cache", courier.dns.cache_max, 1, 10000000, 65536),
    COUNT("deliver", "connections", courier.connections_max, 1, 100000, 1000),
    TIME("deliver", "idle", courier.idle_s, 1, HOUR, 10),
    COUNT("deliver", "smtp_port", courier.smtp_port, 1, 65535, 25),
    TIME("deliver", "connect_timeout", courier.timeouts.connect_s, 1, HOUR, 30),
    TIME("deliver", "command_timeout", courier.timeouts.command_s, 1, HOUR, 5 * MINUTE),
    /* 0: client.h has one for each step */
    TIME("deliver", "data_timeout", courier.timeouts.end_s, 1, HOUR, 0),
    COUNT("deliver", "store_threads", courier.store_threads, 1, 64, 2),
    TIME("through", "patience", through_patience_s, 1, MINUTE, 5),
    SIZE("through", "memory", through_memory, 0, 16 * GIB, 64 * MIB),
    TIME("through", "cache", courier.hop_cache_s, 1, DAY, 2 * HOUR),
    TIME("tls", "ticket_lifetime", ticket_lifetime_s, 1, 7 * DAY, 12 * HOUR),
    COUNT("tls", "helpers", tls_helpers, 0, 64, 1),
    COUNT("tls", "handshakes", server.handshakes_max, 0, 1000000, 1000),
    TIME("greylist", "delay", server.greylist.delay_s, 0, HOUR, 0),
    TIME("greylist", "window", server.greylist.window_s, MINUTE, 30 * DAY, 2 * DAY),
    TIME("greylist", "keep", server.greylist.keep_s, HOUR, 365 * DAY, 35 * DAY),
    COUNT("redis", "database", sharing.redis.database, 0, 1000000, 0),
    COUNT("redis", "timeout_ms", sharing.redis.timeout_ms, 1, 10000, 100),
    TIME("drain", "notice", drain_notice_s, 0, HOUR, 0),
    TIME("drain", "timeout", drain_timeout_s, 1, HOUR, 30),
    TIME("drain", "handover", handover_timeout_s, 1, HOUR, 5),
    COUNT("log", "repeats", log.repeats, 0, 1000000, 100),
    COUNT("auth", "timeout_ms", dovecot.timeout_ms, 10, 60000, 10000),
    TIME("auth", "cache", authentication.cache_s, 0, DAY, 5 * MINUTE),
    COUNT("auth", "helpers", auth_helpers, 1, 64, 1),
    COUNT("auth", "delay_ms", server.auth_delay_ms, 0, 30000, 2000),
    COUNT("auth", "failures_per_ip", server.attempts.per_address, 0, 1000000, 20),
    COUNT("auth", "failures_per_network", server.attempts.per_network, 0, 1000000, 200),
    COUNT("auth", "failures_per_user", server.attempts.per_user, 0, 1000000, 50),
    SIZE("submission", "message_size", submission.message_size_max, 0, 2 * GIB, 0),
    COUNT("submission", "recipients", submission.recipients_max, 0, LIMIT_RECIPIENTS, 0),
    COUNT("submission", "messages_per_hour", submission.messages_per_hour, 0, 1000000, 0),
    COUNT("submission", "recipients_per_hour", submission.recipients_per_hour, 0, 1000000, 0),
    TIME("submission", "hold", submission.hold_max_s, 0, 365 * DAY, 0),
    TIME("submission", "deliver_by", submission.deliver_by_s, 0, 30 * DAY, 0),
    COUNT("queue", "messages", spool.messages_max, 1000, 1000000000, 1000000),
    NUMBER("io", "buffers", io_buffer_count, 2, 32768, 2048, CONFIG_COUNT, 0),
    SIZE("io", "buffer_size", io_buffer_size, KIB, MIB, 16 * KIB),
};

/* A word with a closed set of values, up to a NULL; the index is what the field gets. */
struct choice_word {
    const char *section;
    const char *name;
    const char *const *choices;
    int fallback;
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
static const char *const outputs[] = {
    [LOG_STDERR] = "stderr", [LOG_STDOUT] = "stdout", [LOG_JOURNAL] = "journal", NULL};
static const char *const switches[] = {[false] = "off", [true] = "auto", NULL};
static const char *const senders[] = {[SUBMISSION_SENDER_KEEP] = "keep",
                                      [SUBMISSION_SENDER_ADD] = "add",
                                      [SUBMISSION_SENDER_FORCE] = "force",
                                      NULL};
static const char *const froms[] = {[false] = "own", [true] = "any", NULL};
static const char *const features[] = {[false] = "auto", [true] = "baseline", NULL};

static const struct choice_word choices[] = {
    {"spool",      "sync",     syncs,           SPOOL_SYNC_AUTO,       INTO(spool.sync)         },
    {"log",        "level",    levels,          LOG_INFO,              INTO(log.level)          },
    {"log",        "format",   formats,         LOG_LOGFMT,            INTO(log.format)         },
    {"io",         "features", features,        false,                 INTO(io_baseline)        },
    {"deliver",    "ipv6",     config_booleans, true,                  INTO(courier.ipv6)       },
    {"log",        "output",   outputs,         LOG_STDERR,            INTO(log.output)         },
    {"sandbox",    "seccomp",  switches,        true,                  INTO(seccomp)            },
    {"submission", "sender",   senders,         SUBMISSION_SENDER_ADD, INTO(submission.sender)  },
    {"submission", "from",     froms,           false,                 INTO(submission.from_any)},
    {"submission", "results",  config_booleans, false,                 INTO(submission.results) },
    {"sandbox",    "landlock", switches,        true,                  INTO(landlock)           },
};

static cfg_t *section_of(cfg_t *root, const char *name)
{
    return name == NULL ? root : cfg_getsec(root, name);
}

static void store(struct config *config, size_t to, size_t width, uint64_t number)
{
    CHECK(width == sizeof(uint8_t) || width == sizeof(uint16_t) || width == sizeof(uint32_t) ||
          width == sizeof(uint64_t));
    memcpy((uint8_t *)config + to, &number, width); /* little-endian, as every machine of ours */
}

void config_words_fill(struct config *config, cfg_t *root, struct config_errors *errors)
{
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        const struct number_word *word = &numbers[i];
        store(config, word->to, word->width,
              config_word_number(section_of(root, word->section), word->name, &word->bounds,
                                 word->fallback, errors));
    }
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
        const struct choice_word *word = &choices[i];
        store(config, word->to, word->width,
              (uint64_t)config_word_choice(section_of(root, word->section), word->name,
                                           word->choices, word->fallback, errors));
    }
}
