/* Words of the command line: see ringmxctl_options.h. */
#include "gateway/admin/ringmxctl_options.h"

#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "gateway/admin/inquiry.h"
#include "gateway/base/id.h"

enum option_number {
    OPTION_DOMAIN = 256,
    OPTION_SENDER,
    OPTION_REASON,
    OPTION_DESTINATION,
    OPTION_STATE,
    OPTION_OLDER,
    OPTION_LIMIT,
    OPTION_IP,
    OPTION_RCPT,
    OPTION_ALL,
    OPTION_WAIT,
    OPTION_JSON,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option long_options[] = {
    {"socket",      required_argument, NULL, 's'               },
    {"domain",      required_argument, NULL, OPTION_DOMAIN     },
    {"sender",      required_argument, NULL, OPTION_SENDER     },
    {"reason",      required_argument, NULL, OPTION_REASON     },
    {"destination", required_argument, NULL, OPTION_DESTINATION},
    {"state",       required_argument, NULL, OPTION_STATE      },
    {"older-than",  required_argument, NULL, OPTION_OLDER      },
    {"limit",       required_argument, NULL, OPTION_LIMIT      },
    {"ip",          required_argument, NULL, OPTION_IP         },
    {"rcpt",        required_argument, NULL, OPTION_RCPT       },
    {"all",         no_argument,       NULL, OPTION_ALL        },
    {"wait",        no_argument,       NULL, OPTION_WAIT       },
    {"json",        no_argument,       NULL, OPTION_JSON       },
    {"help",        no_argument,       NULL, OPTION_HELP       },
    {"version",     no_argument,       NULL, OPTION_VERSION    },
    {NULL,          0,                 NULL, 0                 },
};

static void print_help(FILE *out)
{
    fputs(
        "usage: ringmxctl [-s SOCKET] queue list|summary [ID...] [FILTER...] [--json]\n"
        "       ringmxctl [-s SOCKET] queue show ID... [--json]\n"
        "       ringmxctl [-s SOCKET] queue retry|hold|release|remove ID...|FILTER...|--all\n"
        "       ringmxctl [-s SOCKET] destinations|status|reload|drain [--wait] [--json]\n"
        "       ringmxctl [-s SOCKET] trace --ip NET | --rcpt ADDRESS [--limit N] [--json]\n"
        "       ringmxctl user add|passwd|remove|list ... (ringmxctl user --help)\n"
        "       ringmxctl dkim key|record DOMAIN ... (ringmxctl dkim --help)\n"
        "\n"
        "  list     what waits, oldest first as a rule     retry    try again now\n"
        "  show     messages with all recipients           hold     keep until released\n"
        "  summary  counts by destination and reason       release  end the hold\n"
        "                                                  remove   drop, without a bounce\n"
        "Filters, which must all fit:\n"
        "      --domain D         a recipient is in this domain\n"
        "      --sender A         the reverse-path is this; @D: is in this domain; <>: is empty\n"
        "      --older-than TIME  in the queue for so long: 90s, 30m, 2h, 1d\n"
        "      --reason TEXT      the reason of the last failure has this text in it\n"
        "      --destination X    it goes to this destination, as the lists show it\n"
        "      --state S          ready, waiting, active, lined or held\n"
        "      --all              everything, for those that change something\n"
        "\n"
        "trace shows dialogues as they happen: of clients in a network (--ip 192.0.2.0/24), or\n"
        "those that name a recipient (--rcpt a@example.org, or @example.org), from RCPT on.\n"
        "\n"
        "reload loads the configuration again and says what is wrong, or needs a restart; drain\n"
        "ends the gateway in order, --wait until it has ended.\n"
        "\n"
        "      --limit N          list, trace: at most so many\n"
        "      --json             a JSON object a line\n"
        "  -s, --socket SOCKET    of the gateway (default: /run/ringmx/control)\n"
        "      --help, --version\n"
        "\n"
        "Exit codes: 0 done, 1 some messages are not in the queue or under way right now,\n"
        "64 wrong arguments, 69 no gateway answers, 75 not all is in force (reload) or on disk,\n"
        "76 it did not answer to the end, 77 no permission, 78 the configuration was refused. See\n"
        "ringmxctl(1).\n",
        out);
}

/* usage says what is wrong with the command line. */
__attribute__((format(printf, 2, 3))) static bool usage(int *exit_code, const char *format, ...)
{
    va_list arguments;
    *exit_code = EX_USAGE;
    fputs("ringmxctl: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs(" (ringmxctl --help says more)\n", stderr);
    return false;
}

/* number reads digits and at most one letter of `units`, whose factors are given. False: it is
 * something else, or 0. */
static bool number(const char *text, const char *units, const uint32_t *factors, int64_t *out)
{
    int64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *at - '0', &value))
            return false;
    const char *unit = *at == '\0' || at == text ? NULL : strchr(units, *at);
    if (unit != NULL && at[1] == '\0') {
        if (__builtin_mul_overflow(value, (int64_t)factors[unit - units], &value))
            return false;
        at++;
    }
    *out = value;
    return *at == '\0' && value > 0;
}

static void set(struct options *options, const char *key, json_t *value)
{
    json_object_set_new(options->request, key, value);
}

static bool set_text(struct options *options, const char *key, const char *text, int *exit_code)
{
    json_t *value = text[0] == '\0' ? NULL : json_string(text);
    if (value == NULL)
        return usage(exit_code, "--%s: it must be a text of UTF-8 that is not empty", key);
    set(options, key, value);
    return true;
}

static bool set_number(struct options *options, const char *key, const char *text, bool time,
                       int *exit_code)
{
    static const uint32_t seconds[] = {1, 60, 3600, 86400};
    int64_t value;
    if (!number(text, time ? "smhd" : "", seconds, &value))
        return usage(exit_code,
                     time ? "%s is no time: digits, and s, m, h or d" : "%s is no number above 0",
                     text);
    set(options, key, json_integer(value));
    return true;
}

static bool take_option(int option, const char *argument, struct options *options, int *exit_code)
{
    switch (option) {
    case 's': options->socket = argument; return true;
    case OPTION_DOMAIN: return set_text(options, "domain", argument, exit_code);
    case OPTION_SENDER: return set_text(options, "sender", argument, exit_code);
    case OPTION_REASON: return set_text(options, "reason", argument, exit_code);
    case OPTION_DESTINATION: return set_text(options, "destination", argument, exit_code);
    case OPTION_STATE: return set_text(options, "state", argument, exit_code);
    case OPTION_OLDER: return set_number(options, "older_than", argument, true, exit_code);
    case OPTION_IP: return set_text(options, "ip", argument, exit_code);
    case OPTION_RCPT: return set_text(options, "rcpt", argument, exit_code);
    case OPTION_LIMIT: return set_number(options, "limit", argument, false, exit_code);
    case OPTION_ALL: set(options, "all", json_true()); return true;
    case OPTION_WAIT: options->wait = true; return true;
    case OPTION_JSON: options->json = true; return true;
    case OPTION_HELP: print_help(stdout); return false;
    case OPTION_VERSION: printf("ringmxctl %s\n", RINGMX_VERSION); return false;
    default: *exit_code = EX_USAGE; return false; /* getopt has said why */
    }
}

static bool take_ids(struct options *options, char **ids, int count, int *exit_code)
{
    uint64_t id;
    if (count == 0)
        return true;
    if (count > INQUIRY_IDS_MAX)
        return usage(exit_code, "more than %d ids", INQUIRY_IDS_MAX);
    json_t *list = json_array();
    set(options, "ids", list);
    for (int i = 0; i < count; i++) {
        if (!id_parse(ids[i], strlen(ids[i]), &id))
            return usage(exit_code, "%s is not the id of a message", ids[i]);
        json_array_append_new(list, json_string(ids[i]));
    }
    return true;
}

/* A view, and how it is asked for. */
struct verb {
    const char *name;
    enum options_view view;
    bool needs; /* ids, a filter or --all */
};

static const struct verb verbs[] = {
    {"list",    OPTIONS_LIST,    false},
    {"show",    OPTIONS_SHOW,    true },
    {"summary", OPTIONS_SUMMARY, false},
    {"retry",   OPTIONS_ACT,     true },
    {"hold",    OPTIONS_ACT,     true },
    {"release", OPTIONS_ACT,     true },
    {"remove",  OPTIONS_ACT,     true },
};

/* What stands alone. */
static const struct verb plain[] = {
    {"destinations", OPTIONS_DESTINATIONS, false},
    {"status",       OPTIONS_STATUS,       false},
    {"drain",        OPTIONS_DRAIN,        false},
    {"reload",       OPTIONS_RELOAD,       false},
};

static bool take_verb(struct options *options, char **words, int count, int *exit_code)
{
    size_t filters = json_object_size(options->request);
    if (count == 0)
        return usage(exit_code, "queue, destinations, status, trace, reload or drain?");
    options->action = words[0];
    if (strcmp(words[0], "trace") == 0) {
        options->view = OPTIONS_TRACE;
        bool chooses = json_object_get(options->request, "ip") != NULL ||
                       json_object_get(options->request, "rcpt") != NULL;
        return (count == 1 && chooses) || usage(exit_code, "trace needs --ip or --rcpt");
    }
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
        if (strcmp(words[0], plain[i].name) == 0) {
            options->view = plain[i].view;
            return (count == 1 && filters == 0) || usage(exit_code, "%s has no filters", words[0]);
        }
    if (strcmp(words[0], "queue") != 0)
        return usage(exit_code, "unknown: %s", words[0]);
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]) && count > 1; i++) {
        if (strcmp(words[1], verbs[i].name) != 0)
            continue;
        options->action = verbs[i].name;
        options->view = verbs[i].view;
        if (verbs[i].needs && filters == 0 && count == 2)
            return usage(exit_code, "queue %s needs ids%s", words[1],
                         verbs[i].view == OPTIONS_ACT ? ", a filter, or --all" : "");
        return take_ids(options, words + 2, count - 2, exit_code);
    }
    return usage(exit_code, "queue list, show, summary, retry, hold, release or remove?");
}

bool options_parse(int count, char **values, struct options *options, int *exit_code)
{
    int option;
    *options = (struct options){.socket = "/run/ringmx/control", .request = json_object()};
    *exit_code = 0;
    while ((option = getopt_long(count, values, "s:", long_options, NULL)) != -1)
        if (!take_option(option, optarg, options, exit_code))
            return false;
    if (!take_verb(options, values + optind, count - optind, exit_code))
        return false;
    if (options->wait && options->view != OPTIONS_DRAIN)
        return usage(exit_code, "only drain has --wait");
    set(options, "do", json_string(options->action));
    return true;
}
