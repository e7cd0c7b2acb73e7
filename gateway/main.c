/* The program: arguments, then start, signals and orderly stop. */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>

#include "gateway/config.h"
#include "gateway/config_warnings.h"
#include "gateway/gateway.h"
#include "gateway/gateway_memory.h"
#include "gateway/gateway_sandbox.h"
#include "tls/crypto.h"

struct arguments {
    const char *config_path;
    bool check;    /* look at the configuration, then end */
    bool takeover; /* from the process that runs */
};

static bool parse_arguments(int count, char **values, struct arguments *arguments, int *exit_code);
static int check(const char *path, const struct config *config);

/* defer_reload: SIGHUP while the configuration is read would end us. It waits for the signalfd. */
static void defer_reload(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

int main(int count, char **values)
{
    struct arguments arguments = {.config_path = "/etc/ringmx/ringmx.conf"};
    int exit_code;
    defer_reload();
    if (!parse_arguments(count, values, &arguments, &exit_code))
        return exit_code;

    struct config *config = config_load(arguments.config_path, stderr);
    if (config == NULL)
        return EX_CONFIG;
    if (arguments.takeover && config->control_path == NULL) {
        fputs("ringmx: --takeover needs admin.control in the configuration\n", stderr);
        config_free(config);
        return EX_CONFIG;
    }
    if (!arguments.check)
        return gateway_run(arguments.config_path, config, arguments.takeover);
    exit_code = check(arguments.config_path, config);
    config_free(config);
    return exit_code;
}

static void print_help(FILE *out)
{
    fputs(
        "usage: ringmx [-c FILE] [--check | --takeover]\n"
        "\n"
        "  -c, --config FILE  the configuration (default: /etc/ringmx/ringmx.conf)\n"
        "      --check        look at the configuration, say all that is wrong with it, and end\n"
        "      --takeover     take sockets and spool over from the process that runs\n"
        "      --help         print this\n"
        "      --version      print the version\n"
        "\n"
        "Runs in the foreground. SIGHUP reloads the configuration, SIGTERM finishes what is in\n"
        "flight and ends. Exit codes: 0 all is well, 64 wrong arguments, 78 the configuration is\n"
        "wrong or this system can't run ringmx, 1 anything else. See ringmx(8), ringmx.conf(5).\n",
        out);
}

/* True: go on. False: end with *exit_code. */
static bool parse_arguments(int count, char **values, struct arguments *arguments, int *exit_code)
{
    enum { OPTION_CHECK = 256, OPTION_HELP, OPTION_TAKEOVER, OPTION_VERSION };
    static const struct option options[] = {
        {"config",   required_argument, NULL, 'c'            },
        {"check",    no_argument,       NULL, OPTION_CHECK   },
        {"help",     no_argument,       NULL, OPTION_HELP    },
        {"takeover", no_argument,       NULL, OPTION_TAKEOVER},
        {"version",  no_argument,       NULL, OPTION_VERSION },
        {NULL,       0,                 NULL, 0              },
    };
    *exit_code = 0;
    int option;
    while ((option = getopt_long(count, values, "c:", options, NULL)) != -1) {
        switch (option) {
        case 'c': arguments->config_path = optarg; break;
        case OPTION_CHECK: arguments->check = true; break;
        case OPTION_TAKEOVER: arguments->takeover = true; break;
        case OPTION_HELP: print_help(stdout); return false;
        case OPTION_VERSION:
            printf("ringmx %s (%s)\n", RINGMX_VERSION, crypto_library());
            return false;
        default:
            print_help(stderr);
            *exit_code = EX_USAGE;
            return false;
        }
    }
    if (optind < count) {
        fprintf(stderr, "ringmx: unexpected argument: %s\n", values[optind]);
        *exit_code = EX_USAGE;
        return false;
    }
    return true;
}

static int check(const char *path, const struct config *config)
{
    struct memory_contract contract;
    memory_contract(config, &contract); /* first: it counts what is there now */
    config_tls_warnings(config, time(NULL), stdout);
    config_srs_warnings(config, stdout);
    (void)sandbox_unwritable(config, stdout);
    config_edge_warnings(config, stdout);
    config_submission_warnings(config, stdout);
    printf("%s: all is well: %zu addresses to listen on, %zu certificates, %zu domains, "
           "%zu recipients\n",
           path, config->listener_count, config->certificate_count, config->domain_count,
           directory_recipient_count(config->directory));
    memory_print(&contract, stdout);
    return 0;
}
