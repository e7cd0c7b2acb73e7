/* From the words of the command line to values, and which options were given at all; what they mean
 * together is options.c's. */
#ifndef BENCH_LOAD_OPTIONS_PARSE_H
#define BENCH_LOAD_OPTIONS_PARSE_H

#include "bench/load/options.h"

/* Each option; above all characters, as getopt_long wants it. */
enum options_option {
    OPTION_FIRST = 256,
    OPTION_HOST = OPTION_FIRST,
    OPTION_PORT,
    OPTION_IPV4,
    OPTION_IPV6,
    OPTION_LMTP,
    OPTION_HELO,
    OPTION_SOURCES,
    OPTION_PROXY,
    OPTION_PROXY_SOURCES,
    OPTION_CONNECTIONS,
    OPTION_MESSAGES_PER_CONNECTION,
    OPTION_MESSAGES,
    OPTION_SECONDS,
    OPTION_WARM_UP,
    OPTION_RATE,
    OPTION_CONNECTION_RATE,
    OPTION_ARRIVALS,
    OPTION_SWEEP,
    OPTION_SIZE,
    OPTION_CORPUS,
    OPTION_FROM,
    OPTION_RECIPIENTS,
    OPTION_DOMAIN,
    OPTION_USER,
    OPTION_SEED,
    OPTION_PIPELINED,
    OPTION_LOCK_STEP,
    OPTION_BDAT,
    OPTION_CHUNK,
    OPTION_TLS,
    OPTION_TLS_RESUME,
    OPTION_TLS_MIN,
    OPTION_TLS_MAX,
    OPTION_TLS_CIPHERS,
    OPTION_TLS_GROUPS,
    OPTION_TLS_CA,
    OPTION_TLS_NAME,
    OPTION_AUTH,
    OPTION_AUTH_MECHANISM,
    OPTION_IDLE,
    OPTION_SLOW,
    OPTION_SLOW_RATE,
    OPTION_ABORT,
    OPTION_RECONNECT,
    OPTION_THREADS,
    OPTION_CPU,
    OPTION_SPIN,
    OPTION_ACKED,
    OPTION_HISTOGRAM,
    OPTION_JSON,
    OPTION_MARKS,
    OPTION_QUIET,
    OPTION_VERSION,
    OPTION_HELP,
    OPTION_END,
};

/* What struct load_options has no place for. */
struct options_given {
    bool options[OPTION_END - OPTION_FIRST];
    const char *target; /* HOST:PORT, as it stands there; NULL: none */
    const char *host, *port;
    char *auth; /* of --auth; NULL: none */
    enum login_mechanism mechanism;
};

/* options_parse reads all words into `options` (the defaults before) and `given`; exits through
 * words_die with a message about the first that is wrong, and with 0 after --help and --version.
 * options_was_given looks an option up, options_name is its name without the hyphens. */
void options_parse(struct load_options *options, struct options_given *given, int argc,
                   char **argv);
bool options_was_given(const struct options_given *given, enum options_option option);
const char *options_name(enum options_option option);

/* The list of --help. */
extern const char options_usage[];

#endif
