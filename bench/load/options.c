/* What the command line means as a whole: defaults, options that exclude or need one another, the
 * server's address. The words are options_parse's. */
#include "bench/load/options.h"

#include "bench/load/options_parse.h"
#include "bench/load/options_target.h"
#include "gateway/io/listener.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

const char *const load_phase_names[LOAD_PHASE_COUNT] = {
    [LOAD_PHASE_CONNECT] = "connect",   [LOAD_PHASE_EHLO] = "ehlo",
    [LOAD_PHASE_STARTTLS] = "starttls", [LOAD_PHASE_HANDSHAKE] = "handshake",
    [LOAD_PHASE_AUTH] = "auth",         [LOAD_PHASE_MAIL] = "mail",
    [LOAD_PHASE_RCPT] = "rcpt",         [LOAD_PHASE_DATA] = "data",
    [LOAD_PHASE_BODY] = "body",         [LOAD_PHASE_DOT] = "dot",
    [LOAD_PHASE_QUIT] = "quit",
};

static const struct load_options defaults = {
    .threads = 1,
    .cpu = -1,
    .connections = 10,
    .slow_rate = 1000,
    .helo = "load.example",
    .pipelined = true,
    .mail =
        {
               .size = 4096,
               .recipients = {1, 1},
               .domain = "example.org",
               .user = "user",
               .from = "load@sender.example",
               .seed = 1,
               },
    .tls = {.version_min = TLS_1_2, .version_max = TLS_1_3},
};

static const double default_seconds = 5, default_rate = 100;
static const uint32_t default_places = 1000; /* connections, when they arrive at a rate */

/* Pairs of which only one can be given. */
static const enum options_option excluding[][2] = {
    {OPTION_RATE,      OPTION_CONNECTION_RATE},
    {OPTION_SIZE,      OPTION_CORPUS         },
    {OPTION_PIPELINED, OPTION_LOCK_STEP      },
    {OPTION_IPV4,      OPTION_IPV6           },
    {OPTION_SWEEP,     OPTION_MESSAGES       },
    {OPTION_SWEEP,     OPTION_HISTOGRAM      },
};

/* Options that mean nothing without another. */
static const struct {
    enum options_option option, needed;
} needing[] = {
    {OPTION_CHUNK,          OPTION_BDAT },
    {OPTION_SLOW_RATE,      OPTION_SLOW },
    {OPTION_PROXY_SOURCES,  OPTION_PROXY},
    {OPTION_AUTH_MECHANISM, OPTION_AUTH },
};

static void check_pairs(const struct load_options *options, const struct options_given *given)
{
    for (size_t i = 0; i < sizeof(excluding) / sizeof(excluding[0]); i++)
        if (options_was_given(given, excluding[i][0]) && options_was_given(given, excluding[i][1]))
            words_die("--%s and --%s exclude each other", options_name(excluding[i][0]),
                      options_name(excluding[i][1]));
    for (size_t i = 0; i < sizeof(needing) / sizeof(needing[0]); i++)
        if (options_was_given(given, needing[i].option) &&
            !options_was_given(given, needing[i].needed))
            words_die("--%s needs --%s", options_name(needing[i].option),
                      options_name(needing[i].needed));
    if (options_was_given(given, OPTION_ARRIVALS) && options->loop == LOAD_LOOP_CLOSED)
        words_die("--arrivals needs --rate or --connection-rate");
    if (options->proxy_sources.family != AF_UNSPEC && options->proxy == LOAD_PROXY_NONE)
        words_die("--proxy-sources needs --proxy v1 or v2");
}

static void check_tls(const struct load_options *options, const struct options_given *given)
{
    enum load_tls_mode mode = options->tls.mode;
    for (enum options_option i = OPTION_TLS + 1; i <= OPTION_TLS_NAME; i++)
        if (mode == LOAD_TLS_NONE && options_was_given(given, i))
            words_die("--%s needs --tls starttls or --tls implicit", options_name(i));
    if (options->tls.version_min > options->tls.version_max)
        words_die("--tls-min is above --tls-max");
    if (options->aborts[LOAD_PHASE_STARTTLS] > 0 && mode != LOAD_TLS_STARTTLS)
        words_die("--abort starttls needs --tls starttls");
    if (options->aborts[LOAD_PHASE_HANDSHAKE] > 0 && mode == LOAD_TLS_NONE)
        words_die("--abort handshake needs --tls starttls or --tls implicit");
}

static void check_counts(const struct load_options *options)
{
    uint32_t sending = options->connections;
    if (sending + options->idle + options->slow == 0)
        words_die("no connections");
    if (sending == 0 && options->loop != LOAD_LOOP_CLOSED)
        words_die("--connections 0: nothing could be sent at this rate");
    if (sending == 0 && options->messages > 0)
        words_die("--connections 0: no message of --messages would be sent");
    if (options->threads > (sending > 0 ? sending : options->idle + options->slow))
        words_die("--threads %u: there are fewer connections", options->threads);
    if (options->cpu >= 0 && (uint32_t)options->cpu + options->threads > 1024)
        words_die("--cpu %d: no room for %u threads behind it", options->cpu, options->threads);
    if (options->messages == 0 && options->seconds <= 0)
        words_die("--seconds 0: the run would not begin");
    if (options->loop == LOAD_LOOP_CONNECTIONS && options->messages_per_connection.max == 0)
        words_die("--messages-per-connection 0: connections that arrive have to end");
}

static void check_name(const char *name, const char *value, size_t len_max)
{
    if (value[0] == '\0' || strlen(value) > len_max)
        words_die("--%s: \"%s\" has not 1 to %zu characters", name, value, len_max);
    for (const char *at = value; *at != '\0'; at++)
        if (*at <= ' ' || *at > '~' || strchr("<>\"\\(),;@", *at) != NULL)
            words_die("--%s: \"%s\" can't stand in a mailbox", name, value);
}

/* The names go into SMTP commands and header fields as they are. */
static void check_names(const struct load_options *options)
{
    enum { USER_MAX = 60, DOMAIN_MAX = 120, FROM_MAX = 120 };
    char from[FROM_MAX + 1];
    check_name("user", options->mail.user, USER_MAX);
    check_name("domain", options->mail.domain, DOMAIN_MAX);
    check_name("helo", options->helo, DOMAIN_MAX);
    int len = snprintf(from, sizeof from, "%s", options->mail.from);
    char *domain = strchr(from, '@');
    if (domain == NULL || (size_t)len > FROM_MAX)
        words_die("--from: \"%s\" is not an address of up to %d characters, as a@example.org",
                  options->mail.from, FROM_MAX);
    *domain = '\0';
    check_name("from", from, FROM_MAX);
    check_name("from", domain + 1, FROM_MAX);
}

static void peer_find(struct load_options *options, const struct options_given *given)
{
    char host[TARGET_HOST_MAX], port[TARGET_PORT_MAX];
    bool split = given->host != NULL || given->port != NULL;
    if (given->target != NULL && split)
        words_die("%s: --host and --port name another target", given->target);
    if (given->target == NULL && !split)
        words_die("the target is missing, as 127.0.0.1:2525 (ringmx-load --help lists the "
                  "options)");
    const char *name = given->host != NULL ? given->host : "127.0.0.1";
    const char *service = given->port != NULL ? given->port : "25";
    if (given->target != NULL) {
        target_split(given->target, host, port);
        name = host;
        service = port;
    }
    int family = AF_UNSPEC;
    if (options_was_given(given, OPTION_IPV4) || options_was_given(given, OPTION_IPV6))
        family = options_was_given(given, OPTION_IPV4) ? AF_INET : AF_INET6;
    target_find(name, service, family, options->sources.family, &options->peer, &options->peer_len);
    sa_family_t sources = options->sources.family;
    if (sources != AF_UNSPEC && sources != options->peer.ss_family)
        words_die("--sources has IPv%c addresses, and the server's address is of IPv%c",
                  sources == AF_INET ? '4' : '6', sources == AF_INET ? '6' : '4');
}

/* Reads who logs in. A password goes into TLS, or nowhere but this machine. */
static void logins_find(struct load_options *options, const struct options_given *given)
{
    union address_any peer;
    if (options->aborts[LOAD_PHASE_AUTH] > 0 && given->auth == NULL)
        words_die("--abort auth needs --auth");
    if (given->auth == NULL)
        return;
    memcpy(&peer, &options->peer, sizeof peer);
    if (options->tls.mode == LOAD_TLS_NONE && !listener_is_loopback(&peer))
        words_die("--auth needs --tls starttls or --tls implicit, but for a loopback address");
    logins_read(&options->logins, given->auth, given->mechanism);
}

/* What depends on the kind of run, unless it was given. */
static void defaults_complete(struct load_options *options, const struct options_given *given)
{
    if (options->sweep_p99_us > 0 && options->loop == LOAD_LOOP_CLOSED) {
        options->loop = LOAD_LOOP_MESSAGES;
        options->rate = default_rate;
    }
    if (options->loop == LOAD_LOOP_CONNECTIONS) {
        if (!options_was_given(given, OPTION_CONNECTIONS))
            options->connections = default_places;
        if (!options_was_given(given, OPTION_MESSAGES_PER_CONNECTION))
            options->messages_per_connection = (struct words_range){1, 1};
    }
    if (!options_was_given(given, OPTION_SECONDS) && options->messages == 0)
        options->seconds = default_seconds;
}

void options_read(struct load_options *options, int argc, char **argv)
{
    struct options_given given = {0};
    *options = defaults;
    words_program("ringmx-load");
    options_parse(options, &given, argc, argv);
    defaults_complete(options, &given);
    check_pairs(options, &given);
    check_tls(options, &given);
    check_counts(options);
    check_names(options);
    peer_find(options, &given);
    logins_find(options, &given);
    if (getrandom(&options->mail.run, sizeof options->mail.run, 0) < 0)
        words_die("getrandom: %s", strerror(errno));
}
