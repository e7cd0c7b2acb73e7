/* Reading the words: see options_parse.h. */
#include "bench/load/options_parse.h"

#include "bench/load/options_target.h"
#include "gateway/base/limits.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS_MAX = 1000000, MESSAGE_MAX = 1000000000, LOGNORMAL_MAX = 10000000 };

static const struct option long_options[] = {
    {"host",                    required_argument, NULL, OPTION_HOST                   },
    {"port",                    required_argument, NULL, OPTION_PORT                   },
    {"ipv4",                    no_argument,       NULL, OPTION_IPV4                   },
    {"ipv6",                    no_argument,       NULL, OPTION_IPV6                   },
    {"lmtp",                    no_argument,       NULL, OPTION_LMTP                   },
    {"helo",                    required_argument, NULL, OPTION_HELO                   },
    {"sources",                 required_argument, NULL, OPTION_SOURCES                },
    {"proxy",                   required_argument, NULL, OPTION_PROXY                  },
    {"proxy-sources",           required_argument, NULL, OPTION_PROXY_SOURCES          },
    {"connections",             required_argument, NULL, OPTION_CONNECTIONS            },
    {"messages-per-connection", required_argument, NULL, OPTION_MESSAGES_PER_CONNECTION},
    {"messages",                required_argument, NULL, OPTION_MESSAGES               },
    {"seconds",                 required_argument, NULL, OPTION_SECONDS                },
    {"warm-up",                 required_argument, NULL, OPTION_WARM_UP                },
    {"rate",                    required_argument, NULL, OPTION_RATE                   },
    {"connection-rate",         required_argument, NULL, OPTION_CONNECTION_RATE        },
    {"arrivals",                required_argument, NULL, OPTION_ARRIVALS               },
    {"sweep",                   required_argument, NULL, OPTION_SWEEP                  },
    {"size",                    required_argument, NULL, OPTION_SIZE                   },
    {"corpus",                  required_argument, NULL, OPTION_CORPUS                 },
    {"from",                    required_argument, NULL, OPTION_FROM                   },
    {"recipients",              required_argument, NULL, OPTION_RECIPIENTS             },
    {"domain",                  required_argument, NULL, OPTION_DOMAIN                 },
    {"user",                    required_argument, NULL, OPTION_USER                   },
    {"seed",                    required_argument, NULL, OPTION_SEED                   },
    {"pipelined",               no_argument,       NULL, OPTION_PIPELINED              },
    {"lock-step",               no_argument,       NULL, OPTION_LOCK_STEP              },
    {"bdat",                    no_argument,       NULL, OPTION_BDAT                   },
    {"chunk",                   required_argument, NULL, OPTION_CHUNK                  },
    {"tls",                     required_argument, NULL, OPTION_TLS                    },
    {"tls-resume",              no_argument,       NULL, OPTION_TLS_RESUME             },
    {"tls-min",                 required_argument, NULL, OPTION_TLS_MIN                },
    {"tls-max",                 required_argument, NULL, OPTION_TLS_MAX                },
    {"tls-ciphers",             required_argument, NULL, OPTION_TLS_CIPHERS            },
    {"tls-groups",              required_argument, NULL, OPTION_TLS_GROUPS             },
    {"tls-ca",                  required_argument, NULL, OPTION_TLS_CA                 },
    {"tls-name",                required_argument, NULL, OPTION_TLS_NAME               },
    {"auth",                    required_argument, NULL, OPTION_AUTH                   },
    {"auth-mechanism",          required_argument, NULL, OPTION_AUTH_MECHANISM         },
    {"idle",                    required_argument, NULL, OPTION_IDLE                   },
    {"slow",                    required_argument, NULL, OPTION_SLOW                   },
    {"slow-rate",               required_argument, NULL, OPTION_SLOW_RATE              },
    {"abort",                   required_argument, NULL, OPTION_ABORT                  },
    {"reconnect",               no_argument,       NULL, OPTION_RECONNECT              },
    {"threads",                 required_argument, NULL, OPTION_THREADS                },
    {"cpu",                     required_argument, NULL, OPTION_CPU                    },
    {"spin",                    no_argument,       NULL, OPTION_SPIN                   },
    {"acked",                   required_argument, NULL, OPTION_ACKED                  },
    {"histogram",               required_argument, NULL, OPTION_HISTOGRAM              },
    {"json",                    no_argument,       NULL, OPTION_JSON                   },
    {"marks",                   no_argument,       NULL, OPTION_MARKS                  },
    {"quiet",                   no_argument,       NULL, OPTION_QUIET                  },
    {"version",                 no_argument,       NULL, OPTION_VERSION                },
    {"help",                    no_argument,       NULL, OPTION_HELP                   },
    {NULL,                      0,                 NULL, 0                             },
};

bool options_was_given(const struct options_given *given, enum options_option option)
{
    return given->options[option - OPTION_FIRST];
}

const char *options_name(enum options_option option)
{
    return long_options[option - OPTION_FIRST].name;
}

/* part_copy copies what `text` has up to `len` to `out`, which has room for `size` octets; what is
 * longer is no word of ours. */
static const char *part_copy(const char *name, const char *text, size_t len, char *out, size_t size)
{
    if (len >= size)
        words_die("--%s: \"%s\" is too long", name, text);
    memcpy(out, text, len);
    out[len] = '\0';
    return out;
}

/* "4096" or "lognormal:MEDIAN:SIGMA[:MAX]". */
static void size_take(struct mail_options *mail, const char *name, const char *text)
{
    static const char prefix[] = "lognormal:";
    if (strncmp(text, prefix, sizeof prefix - 1) != 0) {
        mail->size = (size_t)words_size(name, text, 0, MESSAGE_MAX);
        return;
    }
    char part[32];
    const char *median = text + sizeof prefix - 1;
    const char *sigma = strchr(median, ':');
    if (sigma++ == NULL)
        words_die("--%s: \"%s\" is not lognormal:MEDIAN:SIGMA or lognormal:MEDIAN:SIGMA:MAX", name,
                  text);
    const char *max = strchr(sigma, ':');
    mail->sizes = MAIL_SIZES_LOGNORMAL;
    part_copy(name, median, (size_t)(sigma - 1 - median), part, sizeof part);
    mail->size = (size_t)words_size(name, part, 1, MESSAGE_MAX);
    part_copy(name, sigma, max != NULL ? (size_t)(max - sigma) : strlen(sigma), part, sizeof part);
    mail->sigma = words_number(name, part, 0, 10);
    if (max != NULL)
        mail->size_max = (size_t)words_size(name, max + 1, 1, MESSAGE_MAX);
    else
        mail->size_max = mail->size > LOGNORMAL_MAX ? mail->size : LOGNORMAL_MAX;
    if (mail->size_max < mail->size)
        words_die("--%s: \"%s\": the largest size is below the median", name, text);
}

/* "PHASE=RATE" */
static void abort_take(struct load_options *options, const char *name, const char *text)
{
    static const char *words[LOAD_PHASE_COUNT + 1];
    char phase[16];
    for (unsigned i = 0; i < LOAD_PHASE_COUNT; i++)
        words[i] = load_phase_names[i];
    const char *rate = strchr(text, '=');
    if (rate == NULL)
        words_die("--%s: \"%s\" is not PHASE=RATE, as body=10%%", name, text);
    part_copy(name, text, (size_t)(rate - text), phase, sizeof phase);
    options->aborts[words_choice(name, phase, words)] = words_rate(name, rate + 1);
}

/* 0 stands for no end, and only alone. */
static struct words_range batch_read(const char *name, const char *text)
{
    struct words_range range = words_range(name, text, 0, MESSAGE_MAX);
    if (range.min == 0 && range.max > 0)
        words_die("--%s: \"%s\": 0 stands for no end, and does not begin a range", name, text);
    return range;
}

static void option_target(struct load_options *options, struct options_given *given, int option,
                          const char *name)
{
    static const char *const proxies[] = {"none", "v1", "v2", NULL};
    switch (option) {
    case OPTION_HOST: given->host = optarg; break;
    case OPTION_PORT: given->port = optarg; break;
    case OPTION_LMTP: options->lmtp = true; break;
    case OPTION_HELO: options->helo = optarg; break;
    case OPTION_SOURCES: options->sources = target_prefix(name, optarg); break;
    case OPTION_PROXY: options->proxy = (enum load_proxy)words_choice(name, optarg, proxies); break;
    case OPTION_PROXY_SOURCES: options->proxy_sources = target_prefix(name, optarg); break;
    }
}

static void option_load(struct load_options *options, int option, const char *name)
{
    static const char *const arrivals[] = {"poisson", "constant", NULL};
    switch (option) {
    case OPTION_CONNECTIONS:
        options->connections = (uint32_t)words_count(name, optarg, 0, CONNECTIONS_MAX);
        break;
    case OPTION_MESSAGES_PER_CONNECTION:
        options->messages_per_connection = batch_read(name, optarg);
        break;
    case OPTION_MESSAGES:
        options->messages = words_count(name, optarg, 1, UINT64_C(9999999999)); /* as ids can be */
        break;
    case OPTION_SECONDS: options->seconds = (double)words_duration_us(name, optarg) / 1e6; break;
    case OPTION_WARM_UP:
        options->warm_up_seconds = (double)words_duration_us(name, optarg) / 1e6;
        break;
    case OPTION_RATE:
        options->loop = LOAD_LOOP_MESSAGES;
        options->rate = words_number(name, optarg, 0.01, 1e7);
        break;
    case OPTION_CONNECTION_RATE:
        options->loop = LOAD_LOOP_CONNECTIONS;
        options->rate = words_number(name, optarg, 0.01, 1e7);
        break;
    case OPTION_ARRIVALS:
        options->arrivals = (enum load_arrivals)words_choice(name, optarg, arrivals);
        break;
    case OPTION_SWEEP:
        options->sweep_p99_us = words_duration_us(name, optarg);
        if (options->sweep_p99_us == 0)
            words_die("--%s: no server answers in no time", name);
        break;
    }
}

static void option_mail(struct load_options *options, int option, const char *name)
{
    struct mail_options *mail = &options->mail;
    switch (option) {
    case OPTION_SIZE: size_take(mail, name, optarg); break;
    case OPTION_CORPUS:
        mail->sizes = MAIL_SIZES_CORPUS;
        mail->corpus = optarg;
        break;
    case OPTION_FROM: mail->from = optarg; break;
    case OPTION_RECIPIENTS: mail->recipients = words_range(name, optarg, 1, 100000); break;
    case OPTION_DOMAIN: mail->domain = optarg; break;
    case OPTION_USER: mail->user = optarg; break;
    case OPTION_SEED: mail->seed = words_count(name, optarg, 0, UINT64_MAX); break;
    case OPTION_PIPELINED: options->pipelined = true; break;
    case OPTION_LOCK_STEP: options->pipelined = false; break;
    case OPTION_BDAT: mail->bdat = true; break;
    case OPTION_CHUNK: mail->chunk = (size_t)words_size(name, optarg, 1, MESSAGE_MAX); break;
    }
}

static void option_tls(struct load_tls_options *tls, int option, const char *name)
{
    static const char *const modes[] = {"none", "starttls", "implicit", NULL};
    static const char *const versions[] = {"1.2", "1.3", NULL};
    static const enum tls_version version_of[] = {TLS_1_2, TLS_1_3};
    switch (option) {
    case OPTION_TLS: tls->mode = (enum load_tls_mode)words_choice(name, optarg, modes); break;
    case OPTION_TLS_RESUME: tls->resume = true; break;
    case OPTION_TLS_MIN: tls->version_min = version_of[words_choice(name, optarg, versions)]; break;
    case OPTION_TLS_MAX: tls->version_max = version_of[words_choice(name, optarg, versions)]; break;
    case OPTION_TLS_CIPHERS: tls->ciphers = optarg; break;
    case OPTION_TLS_GROUPS: tls->groups = optarg; break;
    case OPTION_TLS_CA: tls->ca = optarg; break;
    case OPTION_TLS_NAME: tls->name = optarg; break;
    }
}

static void option_auth(struct options_given *given, int option, const char *name)
{
    static const char *const mechanisms[] = {"plain", "login", NULL};
    if (option == OPTION_AUTH)
        given->auth = optarg;
    else
        given->mechanism = (enum login_mechanism)words_choice(name, optarg, mechanisms);
}

static void option_rest(struct load_options *options, int option, const char *name)
{
    switch (option) {
    case OPTION_IDLE:
        options->idle = (uint32_t)words_count(name, optarg, 0, 2 * CONNECTIONS_MAX);
        break;
    case OPTION_SLOW:
        options->slow = (uint32_t)words_count(name, optarg, 0, CONNECTIONS_MAX);
        break;
    case OPTION_SLOW_RATE:
        options->slow_rate = (uint32_t)words_size(name, optarg, 1, MESSAGE_MAX);
        break;
    case OPTION_ABORT: abort_take(options, name, optarg); break;
    case OPTION_RECONNECT: options->reconnect = true; break;
    case OPTION_THREADS:
        options->threads = (uint32_t)words_count(name, optarg, 1, LIMIT_WORKERS);
        break;
    case OPTION_CPU: options->cpu = (int)words_count(name, optarg, 0, 1023); break;
    case OPTION_SPIN: options->spin = true; break;
    case OPTION_ACKED: options->acked = optarg; break;
    case OPTION_HISTOGRAM: options->histogram = optarg; break;
    case OPTION_JSON: options->json = true; break;
    case OPTION_MARKS: options->marks = true; break;
    case OPTION_QUIET: options->quiet = true; break;
    case OPTION_VERSION: puts("ringmx-load " RINGMX_VERSION); exit(0);
    case OPTION_HELP: fputs(options_usage, stdout); exit(0);
    }
}

/* name_begins tells whether an option begins with this word. */
static bool name_begins(const char *word)
{
    if (strncmp(word, "--", 2) != 0)
        return false;
    for (enum options_option option = OPTION_FIRST; option < OPTION_END; option++)
        if (strncmp(options_name(option), word + 2, strcspn(word + 2, "=")) == 0)
            return true;
    return false;
}

/* getopt_long has found no option of ours: `word` is where it stands. */
__attribute__((noreturn)) static void option_unknown(int option, const char *word)
{
    if (option == ':')
        words_die("%s: the value is missing (ringmx-load --help lists the options)", word);
    if (optopt >= OPTION_FIRST && strchr(word, '=') != NULL)
        words_die("%s: --%s takes no value", word, options_name((enum options_option)optopt));
    if (optopt != 0)
        words_die("unknown option -%c (ringmx-load --help lists them)", optopt);
    words_die("unknown%s option %s (ringmx-load --help lists them)",
              name_begins(word) ? " or ambiguous" : "", word);
}

void options_parse(struct load_options *options, struct options_given *given, int argc, char **argv)
{
    opterr = 0;
    optind = 0; /* begins anew, also when it was called before */
    for (;;) {
        int option = getopt_long(argc, argv, ":46", long_options, NULL);
        if (option == -1)
            break;
        option = option == '4' ? OPTION_IPV4 : option == '6' ? OPTION_IPV6 : option;
        if (option < OPTION_FIRST)
            option_unknown(option, argv[optind - 1]);
        given->options[option - OPTION_FIRST] = true;
        const char *name = options_name((enum options_option)option);
        if (option <= OPTION_PROXY_SOURCES)
            option_target(options, given, option, name);
        else if (option <= OPTION_SWEEP)
            option_load(options, option, name);
        else if (option <= OPTION_CHUNK)
            option_mail(options, option, name);
        else if (option <= OPTION_TLS_NAME)
            option_tls(&options->tls, option, name);
        else if (option <= OPTION_AUTH_MECHANISM)
            option_auth(given, option, name);
        else
            option_rest(options, option, name);
    }
    if (optind < argc)
        given->target = argv[optind++];
    if (optind < argc)
        words_die("%s: there is a target already (%s)", argv[optind], given->target);
}
