/* ringmx-load: a load generator for SMTP servers. This file reads the options; load_client has the
 * connections, load_dialogue what is said on them, load_tls their TLS, load_mail the messages,
 * load_histogram the durations, load_report what is printed. */
#include "bench/load_client.h"
#include "bench/load_mail.h"
#include "bench/load_report.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

struct load_options {
    struct client_options client;
    struct mail_options mail;
    const char *host, *port, *acked;
    const char *tls_only; /* an option that was given and makes no sense without --tls */
    bool json;
};

static const char usage[] =
    "usage: ringmx-load --port N [options]\n"
    "  --host NAME                   server (127.0.0.1)\n"
    "  --connections N               that send, in a closed loop (10)\n"
    "  --idle N                      more connections that only hold after EHLO (0)\n"
    "  --messages-per-connection N   then QUIT and connect again (0: without end)\n"
    "  --messages N                  stop after N messages\n"
    "  --seconds S                   stop after S seconds (5, unless --messages is given)\n"
    "  --warm-up S                   run so long before measuring (0)\n"
    "  --size OCTETS                 of each message (4096)\n"
    "  --recipients N                of each message (1): user, or user0 to userN-1\n"
    "  --domain NAME --user NAME     of the recipients (example.org, user)\n"
    "  --pipelined | --lock-step     commands in one group (default), or one by one\n"
    "  --bdat                        BDAT in place of DATA\n"
    "  --tls none|starttls|implicit  (none)\n"
    "  --tls-resume                  new connections try the newest ticket of this run\n"
    "  --tls-min 1.2|1.3 --tls-max 1.2|1.3\n"
    "  --tls-ciphers LIST            of TLS 1.2, as BoringSSL writes them\n"
    "  --tls-groups LIST             as X25519:P-256\n"
    "  --tls-ca FILE                 the server's certificate must be signed by one of these\n"
    "  --tls-name NAME               SNI; with --tls-ca it must be in the certificate\n"
    "  --spin                        never sleep: the server does not pay for waking this program\n"
    "  --many-sources                each connection from its own address in 127.0.0.0/8\n"
    "  --reconnect                   a lost connection is no failure, but tried again\n"
    "  --acked FILE                  append the X-Load-Id of each acknowledged message\n"
    "  --cpu N                       run on this CPU\n"
    "  --json                        report in JSON\n"
    "  --marks                       print start and end of the measured time to stderr\n"
    "  --version, --help\n"
    "Exits 1 if any transaction or handshake failed. X-Load-Sum is the CRC-32 (zlib) of the body "
    "with CRLF.\n";

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("ringmx-load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

static double number_read(const char *name, const char *text, double max)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= 0) || number > max)
        die("--%s: %s is not a number from 0 to %.0f", name, text, max);
    return number;
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        die("--cpu %d: %s", cpu, strerror(errno));
}

/* Options of TLS, behind all letters. */
enum {
    OPTION_TLS_RESUME = 256,
    OPTION_TLS_MIN,
    OPTION_TLS_MAX,
    OPTION_TLS_CIPHERS,
    OPTION_TLS_GROUPS,
    OPTION_TLS_CA,
    OPTION_TLS_NAME,
};

static const struct option long_options[] = {
    {"host",                    required_argument, NULL, 'h'               },
    {"port",                    required_argument, NULL, 'p'               },
    {"connections",             required_argument, NULL, 'c'               },
    {"idle",                    required_argument, NULL, 'i'               },
    {"messages-per-connection", required_argument, NULL, 'm'               },
    {"messages",                required_argument, NULL, 'n'               },
    {"seconds",                 required_argument, NULL, 's'               },
    {"warm-up",                 required_argument, NULL, 'w'               },
    {"size",                    required_argument, NULL, 'z'               },
    {"recipients",              required_argument, NULL, 'r'               },
    {"domain",                  required_argument, NULL, 'd'               },
    {"user",                    required_argument, NULL, 'u'               },
    {"acked",                   required_argument, NULL, 'a'               },
    {"cpu",                     required_argument, NULL, 'C'               },
    {"pipelined",               no_argument,       NULL, 'P'               },
    {"lock-step",               no_argument,       NULL, 'L'               },
    {"bdat",                    no_argument,       NULL, 'B'               },
    {"tls",                     required_argument, NULL, 't'               },
    {"tls-resume",              no_argument,       NULL, OPTION_TLS_RESUME },
    {"tls-min",                 required_argument, NULL, OPTION_TLS_MIN    },
    {"tls-max",                 required_argument, NULL, OPTION_TLS_MAX    },
    {"tls-ciphers",             required_argument, NULL, OPTION_TLS_CIPHERS},
    {"tls-groups",              required_argument, NULL, OPTION_TLS_GROUPS },
    {"tls-ca",                  required_argument, NULL, OPTION_TLS_CA     },
    {"tls-name",                required_argument, NULL, OPTION_TLS_NAME   },
    {"spin",                    no_argument,       NULL, 'Z'               },
    {"many-sources",            no_argument,       NULL, 'S'               },
    {"reconnect",               no_argument,       NULL, 'R'               },
    {"json",                    no_argument,       NULL, 'J'               },
    {"marks",                   no_argument,       NULL, 'M'               },
    {"version",                 no_argument,       NULL, 'V'               },
    {"help",                    no_argument,       NULL, 'H'               },
    {NULL,                      0,                 NULL, 0                 },
};

static void option_number(struct load_options *options, int option, const char *name)
{
    struct client_options *client = &options->client;
    switch (option) {
    case 'c': client->connections = (uint32_t)number_read(name, optarg, 1e6); break;
    case 'i': client->idle = (uint32_t)number_read(name, optarg, 2e6); break;
    case 'm': client->messages_per_connection = (uint32_t)number_read(name, optarg, 1e9); break;
    case 'n': client->messages = (uint64_t)number_read(name, optarg, 1e12); break;
    case 's': client->seconds = number_read(name, optarg, 1e6); break;
    case 'w': client->warm_up_seconds = number_read(name, optarg, 1e6); break;
    case 'z': options->mail.size = (size_t)number_read(name, optarg, 1e9); break;
    case 'r': options->mail.recipients = (uint32_t)number_read(name, optarg, 1e5); break;
    case 'C': pin((int)number_read(name, optarg, 1023)); break;
    }
}

static enum load_tls_mode mode_read(const char *text)
{
    static const char *const modes[] = {
        [LOAD_TLS_NONE] = "none",
        [LOAD_TLS_STARTTLS] = "starttls",
        [LOAD_TLS_IMPLICIT] = "implicit",
    };
    for (unsigned i = 0; i <= LOAD_TLS_IMPLICIT; i++)
        if (strcmp(text, modes[i]) == 0)
            return (enum load_tls_mode)i;
    die("--tls: %s is not none, starttls or implicit", text);
}

static enum tls_version version_read(const char *name, const char *text)
{
    if (strcmp(text, "1.2") == 0)
        return TLS_1_2;
    if (strcmp(text, "1.3") == 0)
        return TLS_1_3;
    die("--%s: %s is not 1.2 or 1.3", name, text);
}

static void option_tls(struct load_options *options, int option, const char *name)
{
    struct load_tls_options *tls = &options->client.tls;
    options->tls_only = name;
    switch (option) {
    case OPTION_TLS_RESUME: tls->resume = true; break;
    case OPTION_TLS_MIN: tls->version_min = version_read(name, optarg); break;
    case OPTION_TLS_MAX: tls->version_max = version_read(name, optarg); break;
    case OPTION_TLS_CIPHERS: tls->ciphers = optarg; break;
    case OPTION_TLS_GROUPS: tls->groups = optarg; break;
    case OPTION_TLS_CA: tls->ca = optarg; break;
    case OPTION_TLS_NAME: tls->name = optarg; break;
    }
}

static void option_take(struct load_options *options, int option, const char *name)
{
    struct client_options *client = &options->client;
    switch (option) {
    case 'h': options->host = optarg; break;
    case 'p': options->port = optarg; break;
    case 'd': options->mail.domain = optarg; break;
    case 'u': options->mail.user = optarg; break;
    case 'a': options->acked = optarg; break;
    case 'P': client->pipelined = true; break;
    case 'L': client->pipelined = false; break;
    case 't': client->tls.mode = mode_read(optarg); break;
    case 'B': options->mail.bdat = true; break;
    case 'S': client->many_sources = true; break;
    case 'Z': client->spin = true; break;
    case 'R': client->reconnect = true; break;
    case 'J': options->json = true; break;
    case 'M': client->marks = true; break;
    case 'V': puts("ringmx-load " RINGMX_VERSION); exit(0);
    case 'H': fputs(usage, stdout); exit(0);
    case '?': fputs(usage, stderr); exit(2);
    default:
        if (option >= OPTION_TLS_RESUME)
            option_tls(options, option, name);
        else
            option_number(options, option, name);
        break;
    }
}

static void options_read(struct load_options *options, int argc, char **argv)
{
    int index = 0;
    for (int option; (option = getopt_long(argc, argv, "", long_options, &index)) != -1;)
        option_take(options, option, long_options[index].name);
    if (optind < argc)
        die("%s: what is this?", argv[optind]);
    if (options->port == NULL)
        die("--port is missing");
    if (options->client.connections + options->client.idle == 0)
        die("no connections");
    if (options->mail.recipients == 0)
        die("no recipients");
    if (options->client.messages == 0 && options->client.seconds <= 0)
        options->client.seconds = 5;
    if (options->client.tls.mode == LOAD_TLS_NONE && options->tls_only != NULL)
        die("--%s: without --tls starttls or --tls implicit?", options->tls_only);
    if (options->client.tls.version_min > options->client.tls.version_max)
        die("--tls-min is above --tls-max");
    if (strlen(options->mail.user) > 60 || strlen(options->mail.domain) > 120)
        die("the recipient is too long");
}

static void peer_find(struct load_options *options)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(options->host, options->port, &hints, &found);
    if (error != 0)
        die("%s port %s: %s", options->host, options->port, gai_strerror(error));
    memcpy(&options->client.peer, found->ai_addr, found->ai_addrlen);
    options->client.peer_len = found->ai_addrlen;
    freeaddrinfo(found);
    const uint8_t *address = (const uint8_t *)&options->client.peer;
    if (options->client.many_sources &&
        (options->client.peer.ss_family != AF_INET || address[4] != 127))
        die("--many-sources needs a server on 127.0.0.0/8");
}

static void files_allow(rlim_t count)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= count)
        return;
    struct rlimit wanted = {count, limit.rlim_max > count ? limit.rlim_max : count};
    if (setrlimit(RLIMIT_NOFILE, &wanted) < 0)
        die("%llu files are needed; raise the limit (ulimit -n)", (unsigned long long)count);
}

int main(int argc, char **argv)
{
    static struct client_report report;
    static struct mail mail;
    struct load_options options = {
        .client = {.connections = 10,
                   .pipelined = true,
                   .tls = {.version_min = TLS_1_2, .version_max = TLS_1_3},
                   .acked = -1                                                                },
        .mail = {.size = 4096,      .recipients = 1, .domain = "example.org", .user = "user"},
        .host = "127.0.0.1",
    };
    options_read(&options, argc, argv);
    peer_find(&options);
    files_allow(options.client.connections + options.client.idle + 64);
    if (getrandom(&options.mail.run, sizeof options.mail.run, 0) < 0)
        die("getrandom: %s", strerror(errno));
    if (options.acked != NULL) {
        options.client.acked = open(options.acked, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (options.client.acked < 0)
            die("%s: %s", options.acked, strerror(errno));
    }
    mail_start(&mail, &options.mail);
    options.mail = mail.options;
    client_run(&options.client, &mail, &report);
    report_print(&report, &options.client, options.mail.size, options.json);
    return report_failed(&report, &options.client);
}
