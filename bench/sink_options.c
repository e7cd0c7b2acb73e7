/* The command line: see sink_options.h. */
#include "bench/sink_options.h"

#include "bench/words.h"
#include "gateway/base/limits.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char usage[] =
    "usage: ringmx-sink [options]\n"
    "  --listen ADDRESS:PORT   (127.0.0.1:0; port 0: the kernel chooses); may be given often\n"
    "  --lmtp                  LMTP (RFC 2033) in place of SMTP\n"
    "  --threads N             each with its own connections (1)\n"
    "  --cpu N                 run the first thread there, the others on those that follow\n"
    "  --connections N         of each thread at once, at most (20000)\n"
    "  --hostname NAME         in the greeting and the certificate (sink.example)\n"
    "  --tls MODE              none (default), starttls, required, implicit\n"
    "  --certificate FILE --key FILE | --self-signed\n"
    "  --tls-min VERSION       1.2 (default), 1.3\n"
    "  --without EXTENSION     neither announce nor take it: PIPELINING, SIZE, 8BITMIME, "
    "SMTPUTF8,\n"
    "                          CHUNKING, BINARYMIME, ENHANCEDSTATUSCODES, DSN, STARTTLS, "
    "REQUIRETLS\n"
    "  --announce LINE         announce this, too\n"
    "  --size OCTETS           of a message, at most (0: no limit)\n"
    "  --refuse PHASE[=RATE]   5xx, always or at this rate: --refuse rcpt=10%\n"
    "  --tempfail PHASE[=RATE] 4xx\n"
    "  --drop PHASE[=RATE]     close without a reply\n"
    "  --delay PHASE=[RATE:]TIME   reply late: --delay dot=100ms, --delay rcpt=1%:5s\n"
    "  --seed N                makes other choices (1)\n"
    "  --log FILE              append a line for each accepted message\n"
    "  --count                 print totals at the end\n"
    "  --version, --help\n"
    "Phases: connect ehlo starttls mail rcpt data dot quit. Prints \"listening on ADDRESS:PORT\"\n"
    "for each --listen. SIGTERM and SIGINT end it in order: exit code 0.\n";

static const struct option long_options[] = {
    {"listen",      required_argument, NULL, 'l'},
    {"lmtp",        no_argument,       NULL, 'L'},
    {"threads",     required_argument, NULL, 't'},
    {"cpu",         required_argument, NULL, 'C'},
    {"connections", required_argument, NULL, 'c'},
    {"hostname",    required_argument, NULL, 'n'},
    {"tls",         required_argument, NULL, 'T'},
    {"certificate", required_argument, NULL, 'x'},
    {"key",         required_argument, NULL, 'k'},
    {"self-signed", no_argument,       NULL, 's'},
    {"tls-min",     required_argument, NULL, 'm'},
    {"without",     required_argument, NULL, 'w'},
    {"announce",    required_argument, NULL, 'a'},
    {"size",        required_argument, NULL, 'z'},
    {"refuse",      required_argument, NULL, 'R'},
    {"tempfail",    required_argument, NULL, 'F'},
    {"drop",        required_argument, NULL, 'D'},
    {"delay",       required_argument, NULL, 'Y'},
    {"seed",        required_argument, NULL, 'S'},
    {"log",         required_argument, NULL, 'o'},
    {"count",       no_argument,       NULL, 'N'},
    {"version",     no_argument,       NULL, 'V'},
    {"help",        no_argument,       NULL, 'H'},
    {NULL,          0,                 NULL, 0  },
};

/* In the order in which EHLO names them. */
static const struct {
    const char *name;
    unsigned bit;
} extensions[] = {
    {"PIPELINING",          SINK_PIPELINING         },
    {"SIZE",                SINK_SIZE               },
    {"8BITMIME",            SINK_8BITMIME           },
    {"SMTPUTF8",            SINK_SMTPUTF8           },
    {"CHUNKING",            SINK_CHUNKING           },
    {"BINARYMIME",          SINK_BINARYMIME         },
    {"ENHANCEDSTATUSCODES", SINK_ENHANCEDSTATUSCODES},
    {"DSN",                 SINK_DSN                },
    {"STARTTLS",            SINK_STARTTLS           },
    {"REQUIRETLS",          SINK_REQUIRETLS         },
};
enum { EXTENSION_COUNT = sizeof(extensions) / sizeof(extensions[0]) };

static void listen_add(struct sink_options *options, const char *text)
{
    if (options->listener_count == SINK_LISTENERS_MAX)
        words_die("--listen: at most %d addresses", SINK_LISTENERS_MAX);
    if (!listener_parse(text, &options->listeners[options->listener_count++]))
        words_die("--listen: %s is not ADDRESS:PORT, as 127.0.0.1:2525 or [::1]:0", text);
}

static void extension_leave_out(struct sink_options *options, const char *text)
{
    for (unsigned i = 0; i < EXTENSION_COUNT; i++) {
        if (strcasecmp(text, extensions[i].name) == 0) {
            options->extensions &= ~extensions[i].bit;
            if (!(options->extensions & SINK_CHUNKING)) /* RFC 3030 3 */
                options->extensions &= ~(unsigned)SINK_BINARYMIME;
            return;
        }
    }
    words_die("--without: %s is not announced at all", text);
}

static void line_announce(struct sink_options *options, const char *text)
{
    if (options->announced_count == SINK_LINES_MAX)
        words_die("--announce: at most %d lines", SINK_LINES_MAX);
    if (*text == '\0' || strpbrk(text, "\r\n") != NULL)
        words_die("--announce: a line has at least one character and no line ends");
    options->announced[options->announced_count++] = text;
}

static void number_take(struct sink_options *options, int option, const char *name)
{
    switch (option) {
    case 't': options->threads = (uint32_t)words_count(name, optarg, 1, LIMIT_WORKERS); break;
    case 'C': options->cpu = (int)words_count(name, optarg, 0, 1023); break;
    case 'c': options->connections_max = (uint32_t)words_count(name, optarg, 1, 1000000); break;
    case 'z': options->size_max = words_size(name, optarg, 0, UINT64_MAX / 2); break;
    case 'S': options->faults->seed = words_count(name, optarg, 0, UINT64_MAX); break;
    }
}

static void option_take(struct sink_options *options, int option, const char *name)
{
    static const char *const modes[] = {
        [SINK_TLS_NONE] = "none",
        [SINK_TLS_STARTTLS] = "starttls",
        [SINK_TLS_REQUIRED] = "required",
        [SINK_TLS_IMPLICIT] = "implicit",
        NULL,
    };
    static const char *const versions[] = {"1.2", "1.3", NULL};
    switch (option) {
    case 'l': listen_add(options, optarg); break;
    case 'L': options->lmtp = true; break;
    case 'n': options->hostname = optarg; break;
    case 'T': options->tls = (enum sink_tls)words_choice(name, optarg, modes); break;
    case 'x': options->certificate = optarg; break;
    case 'k': options->key = optarg; break;
    case 's': options->self_signed = true; break;
    case 'm': options->tls_1_3 = words_choice(name, optarg, versions) == 1; break;
    case 'w': extension_leave_out(options, optarg); break;
    case 'a': line_announce(options, optarg); break;
    case 'o': options->log = optarg; break;
    case 'N': options->count = true; break;
    case 'R': sink_fault_parse(options->faults, SINK_FAULT_REFUSE, name, optarg); break;
    case 'F': sink_fault_parse(options->faults, SINK_FAULT_TEMPFAIL, name, optarg); break;
    case 'D': sink_fault_parse(options->faults, SINK_FAULT_DROP, name, optarg); break;
    case 'Y': sink_fault_parse_delay(options->faults, name, optarg); break;
    case 'V': puts("ringmx-sink " RINGMX_VERSION); exit(0);
    case 'H': fputs(usage, stdout); exit(0);
    case '?': fputs(usage, stderr); exit(2);
    default: number_take(options, option, name); break;
    }
}

static void check(const struct sink_options *options)
{
    bool files = options->certificate != NULL && options->key != NULL;
    bool any = options->certificate != NULL || options->key != NULL || options->self_signed;
    if (options->tls == SINK_TLS_NONE && any)
        words_die("a certificate is for --tls starttls, required or implicit");
    if (options->tls != SINK_TLS_NONE && files == options->self_signed)
        words_die("--tls needs --certificate and --key, or --self-signed");
    if (strlen(options->hostname) > 253 || strpbrk(options->hostname, " \r\n") != NULL)
        words_die("--hostname: %s is no name", options->hostname);
    char text[SINK_EHLO_MAX];
    if (sink_options_ehlo(options, true, text) == 0 || sink_options_ehlo(options, false, text) == 0)
        words_die("the reply to EHLO would be too long");
}

void sink_options_read(struct sink_options *options, int argc, char **argv)
{
    struct sink_faults *faults = options->faults;
    *options = (struct sink_options){
        .threads = 1,
        .cpu = -1,
        .connections_max = 20000,
        .hostname = "sink.example",
        .extensions = SINK_EXTENSIONS_ALL,
        .faults = faults,
    };
    faults->seed = 1;
    words_program("ringmx-sink");
    int index = 0;
    for (int option; (option = getopt_long(argc, argv, "", long_options, &index)) != -1;)
        option_take(options, option, option == '?' ? "" : long_options[index].name);
    if (optind < argc)
        words_die("%s: what is this?", argv[optind]);
    if (options->listener_count == 0)
        listen_add(options, "127.0.0.1:0");
    check(options);
}

/* --- EHLO --- */

/* announced tells whether EHLO names an extension now. */
static bool announced(const struct sink_options *options, unsigned bit, bool secure)
{
    if (!(options->extensions & bit))
        return false;
    if (bit == SINK_STARTTLS)
        return !secure && (options->tls == SINK_TLS_STARTTLS || options->tls == SINK_TLS_REQUIRED);
    if (bit == SINK_REQUIRETLS)
        return secure; /* RFC 8689 2 */
    return true;
}

size_t sink_options_ehlo(const struct sink_options *options, bool secure, char *out)
{
    size_t at = (size_t)snprintf(out, SINK_EHLO_MAX, "250-%s\r\n", options->hostname);
    for (unsigned i = 0; i < EXTENSION_COUNT && at < SINK_EHLO_MAX; i++) {
        if (!announced(options, extensions[i].bit, secure))
            continue;
        size_t room = SINK_EHLO_MAX - at;
        if (extensions[i].bit == SINK_SIZE)
            at += (size_t)snprintf(out + at, room, "250-SIZE %llu\r\n",
                                   (unsigned long long)options->size_max);
        else
            at += (size_t)snprintf(out + at, room, "250-%s\r\n", extensions[i].name);
    }
    for (unsigned i = 0; i < options->announced_count && at < SINK_EHLO_MAX; i++)
        at += (size_t)snprintf(out + at, SINK_EHLO_MAX - at, "250-%s\r\n", options->announced[i]);
    if (at < SINK_EHLO_MAX)
        at += (size_t)snprintf(out + at, SINK_EHLO_MAX - at, "250 HELP\r\n");
    return at < SINK_EHLO_MAX ? at : 0;
}
