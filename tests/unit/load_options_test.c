/* The command line of ringmx-load: what it comes to, and which combinations are refused, with which
 * words. */
#include "bench/load/options_parse.h"
#include "bench/load/options_target.h"
#include "tests/support/exits.h"

#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORDS_MAX = 16 };

/* The words of a command line that is given as one text. */
struct words {
    char text[256];
    char *list[WORDS_MAX + 1];
    int count;
};

static void words_split(struct words *words, const char *text)
{
    snprintf(words->text, sizeof words->text, "%s", text);
    words->list[0] = (char *)(uintptr_t) "ringmx-load";
    words->count = 1;
    for (char *at = words->text; at != NULL && *at != '\0' && words->count < WORDS_MAX;)
        words->list[words->count++] = strsep(&at, " ");
    words->list[words->count] = NULL;
}

/* The strings in the result are those of a static text: they are good until the next call. */
static struct load_options options_of(const char *text)
{
    static struct words words;
    struct load_options options;
    words_split(&words, text);
    options_read(&options, words.count, words.list);
    return options;
}

static void read_one(const void *text)
{
    options_of(text);
}

/* As in libc, but two.example has two addresses: 127.0.0.2 and 127.0.0.1. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **found)
{
    int (*const ask)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
            RTLD_NEXT, "getaddrinfo");
    if (host == NULL || strcmp(host, "two.example") != 0)
        return ask(host, port, hints, found);
    int error = ask("127.0.0.2", port, hints, found);
    return error != 0 ? error : ask("127.0.0.1", port, hints, &(*found)->ai_next);
}

struct refusal {
    const char *text, *said;
};

static void refused(const struct refusal *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char said[1024], expected[512];
        int code = exits_run(read_one, cases[i].text, said, sizeof said);
        snprintf(expected, sizeof expected, "ringmx-load: %s\n", cases[i].said);
        if (code != 2 || strcmp(said, expected) != 0)
            fail_msg("\"%s\": %d, %s", cases[i].text, code, said);
    }
}

#define REFUSED(...)                                                                               \
    do {                                                                                           \
        const struct refusal cases[] = {__VA_ARGS__};                                              \
        refused(cases, sizeof(cases) / sizeof(cases[0]));                                          \
    } while (0)

static void defaults(void **state)
{
    (void)state;
    struct load_options options = options_of("127.0.0.1:2525");
    const struct sockaddr_in *peer = (const struct sockaddr_in *)&options.peer;
    assert_int_equal(peer->sin_family, AF_INET);
    assert_int_equal(options.peer_len, sizeof *peer);
    assert_int_equal(ntohs(peer->sin_port), 2525);
    assert_int_equal(ntohl(peer->sin_addr.s_addr), INADDR_LOOPBACK);
    assert_int_equal(options.connections, 10);
    assert_int_equal(options.threads, 1);
    assert_int_equal(options.cpu, -1);
    assert_int_equal(options.loop, LOAD_LOOP_CLOSED);
    assert_true(options.seconds == 5 && options.warm_up_seconds == 0);
    assert_int_equal(options.messages, 0);
    assert_int_equal(options.messages_per_connection.max, 0);
    assert_true(options.pipelined && !options.lmtp && !options.spin && !options.json);
    assert_int_equal(options.mail.sizes, MAIL_SIZES_FIXED);
    assert_int_equal(options.mail.size, 4096);
    assert_int_equal(options.mail.recipients.min, 1);
    assert_int_equal(options.mail.recipients.max, 1);
    assert_string_equal(options.mail.user, "user");
    assert_string_equal(options.mail.from, "load@sender.example");
    assert_string_equal(options.helo, "load.example");
    assert_string_equal(options.mail.domain, "example.org");
    assert_int_equal(options.tls.mode, LOAD_TLS_NONE);
    assert_int_equal(options.tls.version_min, TLS_1_2);
    assert_int_equal(options.tls.version_max, TLS_1_3);
    assert_int_equal(options.sources.family, AF_UNSPEC);
    assert_int_equal(options.proxy, LOAD_PROXY_NONE);
    assert_int_equal(options.sweep_p99_us, 0);
    assert_null(options.acked);
    uint32_t run = options.mail.run;
    for (int i = 0; i < 3 && run == options.mail.run; i++)
        run = options_of("127.0.0.1").mail.run;
    assert_int_not_equal(run, options.mail.run);
}

static uint16_t port_of(const struct load_options *options)
{
    return ntohs(options->peer.ss_family == AF_INET
                     ? ((const struct sockaddr_in *)&options->peer)->sin_port
                     : ((const struct sockaddr_in6 *)&options->peer)->sin6_port);
}

static void targets(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int family;
        uint16_t port;
    } good[] = {
        {"127.0.0.1",                 AF_INET,  25   },
        {"127.0.0.1:26",              AF_INET,  26   },
        {"127.0.0.1:65535",           AF_INET,  65535},
        {"[::1]:2525",                AF_INET6, 2525 },
        {"[::1]",                     AF_INET6, 25   },
        {"::1",                       AF_INET6, 25   },
        {"-6 ::1",                    AF_INET6, 25   },
        {"--port 2525",               AF_INET,  2525 },
        {"--host ::1 --port 2525",    AF_INET6, 2525 },
        {"--host 127.0.0.9",          AF_INET,  25   },
        {"-4 localhost:99",           AF_INET,  99   },
        {"--ipv4 localhost",          AF_INET,  25   },
        {"--json 127.0.0.1:1 --lmtp", AF_INET,  1    },
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct load_options options = options_of(good[i].text);
        assert_int_equal(options.peer.ss_family, good[i].family);
        assert_int_equal(port_of(&options), good[i].port);
    }
    REFUSED({"", "the target is missing, as 127.0.0.1:2525 (ringmx-load --help lists the options)"},
            {"127.0.0.1 ::1", "::1: there is a target already (127.0.0.1)"},
            {"127.0.0.1 --port 25", "127.0.0.1: --host and --port name another target"},
            {"127.0.0.1:0", "--port: \"0\" is not a number from 1 to 65535"},
            {"127.0.0.1:65536", "--port: \"65536\" is not a number from 1 to 65535"},
            {"-6 127.0.0.1", "127.0.0.1 port 25: Address family for hostname not supported"},
            {"-4 -6 127.0.0.1", "--ipv4 and --ipv6 exclude each other"});
    static const char *const none[] = {":25",    "127.0.0.1:", "[::1",  "[::1]x",
                                       "[::1]:", "[]:25",      "/tmp/x"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        char said[256];
        snprintf(said, sizeof said,
                 "%s: the target is not HOST:PORT, as 127.0.0.1:2525, [::1]:2525 or mx.example.org",
                 none[i]);
        REFUSED({none[i], said});
    }
}

static void prefixes(void **state)
{
    (void)state;
    struct load_options options = options_of("127.0.0.1 --sources 127.1.2.3/9");
    static const uint8_t v4[] = {127, 0, 0, 0}, v4_all[] = {127, 1, 2, 3};
    assert_int_equal(options.sources.family, AF_INET);
    assert_int_equal(options.sources.length, 9);
    assert_memory_equal(options.sources.address, v4, 4);
    options = options_of("127.0.0.1 --proxy v1 --proxy-sources 127.1.2.3");
    assert_int_equal(options.proxy, LOAD_PROXY_V1);
    assert_int_equal(options.proxy_sources.length, 32);
    assert_memory_equal(options.proxy_sources.address, v4_all, 4);
    options = options_of("127.0.0.1 --proxy v2 --proxy-sources ::/8"); /* as if through a proxy */
    assert_int_equal(options.proxy_sources.family, AF_INET6);
    options = options_of("::1 --sources fd00:1:2:ffff::1/49");
    static const uint8_t v6[16] = {0xfd, 0, 0, 1, 0, 2, 0x80};
    assert_int_equal(options.sources.family, AF_INET6);
    assert_int_equal(options.sources.length, 49);
    assert_memory_equal(options.sources.address, v6, 16);
    options = options_of("::1 --sources ::/0");
    assert_int_equal(options.sources.length, 0);
    REFUSED({"127.0.0.1 --sources 127.0.0.0/33", "--sources: \"33\" is not a number from 0 to 32"},
            {"::1 --sources ::1/129", "--sources: \"129\" is not a number from 0 to 128"},
            {"127.0.0.1 --sources 127.0.0/8",
             "--sources: \"127.0.0/8\" is not an address or a prefix, as 127.0.0.0/8 or fd00::/64"},
            {"127.0.0.1 --sources localhost",
             "--sources: \"localhost\" is not an address or a prefix, as 127.0.0.0/8 or fd00::/64"},
            {"127.0.0.1 --sources fd00::/8",
             "--sources has IPv6 addresses, and the server's address is of IPv4"},
            {"-6 ::1 --sources 127.0.0.0/8",
             "--sources has IPv4 addresses, and the server's address is of IPv6"},
            {"127.0.0.1 --proxy-sources 10.0.0.0/8", "--proxy-sources needs --proxy"},
            {"127.0.0.1 --proxy none --proxy-sources 10.0.0.0/8",
             "--proxy-sources needs --proxy v1 or v2"});
}

/* Of a name with several addresses, the first where somebody is; if nobody is, the first. */
static void somebody(void **state)
{
    (void)state;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr_in *peer;
    socklen_t len = sizeof here;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    char text[64];
    assert_int_equal(bind(listener, (const struct sockaddr *)&here, sizeof here), 0);
    assert_int_equal(listen(listener, 5), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&here, &len), 0);
    snprintf(text, sizeof text, "two.example:%u", ntohs(here.sin_port));
    struct load_options options = options_of(text);
    peer = (const struct sockaddr_in *)&options.peer;
    assert_int_equal(ntohl(peer->sin_addr.s_addr), INADDR_LOOPBACK);
    close(listener);
    options = options_of(text);
    assert_int_equal(ntohl(peer->sin_addr.s_addr), INADDR_LOOPBACK + 1);
}

static void loops(void **state)
{
    (void)state;
    struct load_options options = options_of("127.0.0.1 --rate 2.5");
    assert_int_equal(options.loop, LOAD_LOOP_MESSAGES);
    assert_true(options.rate == 2.5 && options.connections == 10);
    assert_int_equal(options.arrivals, LOAD_ARRIVALS_POISSON);
    assert_int_equal(options.messages_per_connection.max, 0);
    options = options_of("127.0.0.1 --connection-rate 100 --arrivals constant");
    assert_int_equal(options.loop, LOAD_LOOP_CONNECTIONS);
    assert_int_equal(options.arrivals, LOAD_ARRIVALS_CONSTANT);
    assert_int_equal(options.connections, 1000);
    assert_int_equal(options.messages_per_connection.min, 1);
    assert_int_equal(options.messages_per_connection.max, 1);
    options =
        options_of("127.0.0.1 --connection-rate 100 --connections 7 --messages-per-connection 2-5");
    assert_int_equal(options.connections, 7);
    assert_int_equal(options.messages_per_connection.min, 2);
    assert_int_equal(options.messages_per_connection.max, 5);
    options = options_of("127.0.0.1 --sweep 20ms");
    assert_int_equal(options.sweep_p99_us, 20000);
    assert_int_equal(options.loop, LOAD_LOOP_MESSAGES);
    assert_true(options.rate == 100 && options.seconds == 5);
    options = options_of("127.0.0.1 --sweep 1 --connection-rate 9 --arrivals poisson");
    assert_int_equal(options.sweep_p99_us, 1000000);
    assert_int_equal(options.loop, LOAD_LOOP_CONNECTIONS);
    assert_true(options.rate == 9);
    options = options_of("127.0.0.1 --messages 100");
    assert_true(options.messages == 100 && options.seconds == 0);
    options = options_of("127.0.0.1 --messages 100 --seconds 1m --warm-up 500ms");
    assert_true(options.seconds == 60 && options.warm_up_seconds == 0.5);
    REFUSED(
        {"127.0.0.1 --rate 5 --connection-rate 5",
         "--rate and --connection-rate exclude each other"},
        {"127.0.0.1 --rate 0", "--rate: \"0\" is not a number from 0.01 to 10000000"},
        {"127.0.0.1 --arrivals poisson", "--arrivals needs --rate or --connection-rate"},
        {"127.0.0.1 --rate 1 --arrivals late", "--arrivals: \"late\" is not poisson or constant"},
        {"127.0.0.1 --sweep 0", "--sweep: no server answers in no time"},
        {"127.0.0.1 --sweep 1ms --messages 9", "--sweep and --messages exclude each other"},
        {"127.0.0.1 --sweep 1ms --histogram x", "--sweep and --histogram exclude each other"},
        {"127.0.0.1 --seconds 0", "--seconds 0: the run would not begin"},
        {"127.0.0.1 --connection-rate 5 --messages-per-connection 0",
         "--messages-per-connection 0: connections that arrive have to end"},
        {"127.0.0.1 --messages-per-connection 0-5",
         "--messages-per-connection: \"0-5\": 0 stands for no end, and does not begin a range"});
}

static void counts(void **state)
{
    (void)state;
    struct load_options options = options_of(
        "127.0.0.1 --connections 4 --idle 5 --slow 6 --slow-rate 2k --threads 4 --cpu 3 --spin");
    assert_int_equal(options.idle, 5);
    assert_int_equal(options.slow, 6);
    assert_int_equal(options.slow_rate, 2000);
    assert_int_equal(options.threads, 4);
    assert_int_equal(options.cpu, 3);
    assert_true(options.spin);
    options = options_of("127.0.0.1 --connections 0 --idle 5 --threads 2");
    assert_int_equal(options.connections, 0);
    options = options_of("127.0.0.1 --connections 0 --idle 1 --slow 1");
    assert_int_equal(options.slow, 1);
    REFUSED({"127.0.0.1 --connections 0", "no connections"},
            {"127.0.0.1 --connections 0 --idle 1 --rate 5",
             "--connections 0: nothing could be sent at this rate"},
            {"127.0.0.1 --connections 0 --slow 1 --messages 5",
             "--connections 0: no message of --messages would be sent"},
            {"127.0.0.1 --connections 3 --threads 4", "--threads 4: there are fewer connections"},
            {"127.0.0.1 --connections 0 --idle 1 --threads 2",
             "--threads 2: there are fewer connections"},
            {"127.0.0.1 --threads 0", "--threads: \"0\" is not a number from 1 to 48"},
            {"127.0.0.1 --cpu 1023 --threads 2", "--cpu 1023: no room for 2 threads behind it"},
            {"127.0.0.1 --slow-rate 5", "--slow-rate needs --slow"},
            {"127.0.0.1 --connections 1e3",
             "--connections: \"1e3\" is not a number from 0 to 1000000"});
}

static void mail(void **state)
{
    (void)state;
    struct load_options options =
        options_of("127.0.0.1 --size 64k --recipients 2-9 --user u --domain d --seed 7");
    assert_int_equal(options.mail.size, 64000);
    assert_int_equal(options.mail.recipients.min, 2);
    assert_int_equal(options.mail.recipients.max, 9);
    assert_string_equal(options.mail.user, "u");
    assert_string_equal(options.mail.domain, "d");
    assert_int_equal(options.mail.seed, 7);
    options = options_of("127.0.0.1 --size lognormal:20k:1.5 --lock-step --bdat --chunk 1Ki");
    assert_int_equal(options.mail.sizes, MAIL_SIZES_LOGNORMAL);
    assert_int_equal(options.mail.size, 20000);
    assert_int_equal(options.mail.size_max, 10000000);
    assert_true(options.mail.sigma == 1.5 && !options.pipelined && options.mail.bdat);
    assert_int_equal(options.mail.chunk, 1024);
    options = options_of("127.0.0.1 --size lognormal:20M:0:30M");
    assert_int_equal(options.mail.size_max, 30000000);
    options = options_of("127.0.0.1 --size lognormal:20M:0");
    assert_int_equal(options.mail.size_max, 20000000);
    options = options_of("127.0.0.1 --corpus /some/where");
    assert_int_equal(options.mail.sizes, MAIL_SIZES_CORPUS);
    assert_string_equal(options.mail.corpus, "/some/where");
    REFUSED({"127.0.0.1 --size 5 --corpus x", "--size and --corpus exclude each other"},
            {"127.0.0.1 --chunk 5", "--chunk needs --bdat"},
            {"127.0.0.1 --pipelined --lock-step", "--pipelined and --lock-step exclude each other"},
            {"127.0.0.1 --size lognormal:5",
             "--size: \"lognormal:5\" is not lognormal:MEDIAN:SIGMA "
             "or lognormal:MEDIAN:SIGMA:MAX"},
            {"127.0.0.1 --size lognormal:5:11", "--size: \"11\" is not a number from 0 to 10"},
            {"127.0.0.1 --size lognormal:5:1:x",
             "--size: \"x\" is not a size from 1 to 1000000000, as 4096, 64k or 1Mi"},
            {"127.0.0.1 --size lognormal:5:1:4",
             "--size: \"lognormal:5:1:4\": the largest size is below the median"},
            {"127.0.0.1 --size lognormal:000000000000000000000000000000000000005:1",
             "--size: \"000000000000000000000000000000000000005:1\" is too long"},
            {"127.0.0.1 --user a>b", "--user: \"a>b\" can't stand in a mailbox"},
            {"127.0.0.1 --domain a@b", "--domain: \"a@b\" can't stand in a mailbox"},
            {"127.0.0.1 --user ", "--user: the value is missing (ringmx-load --help lists the "
                                  "options)"});
    options = options_of("127.0.0.1 --from a.b@mx.example.net --helo [192.0.2.1]");
    assert_string_equal(options.mail.from, "a.b@mx.example.net");
    assert_string_equal(options.helo, "[192.0.2.1]");
    REFUSED({"127.0.0.1 --from a", "--from: \"a\" is not an address of up to 120 characters, as "
                                   "a@example.org"},
            {"127.0.0.1 --from @b", "--from: \"\" has not 1 to 120 characters"},
            {"127.0.0.1 --from a@", "--from: \"\" has not 1 to 120 characters"},
            {"127.0.0.1 --from a@b@c", "--from: \"b@c\" can't stand in a mailbox"},
            {"127.0.0.1 --helo a>b", "--helo: \"a>b\" can't stand in a mailbox"},
            {"127.0.0.1 --auth-mechanism login", "--auth-mechanism needs --auth"},
            {"127.0.0.1 --auth a:b --auth-mechanism cram-md5",
             "--auth-mechanism: \"cram-md5\" is not plain or login"},
            {"127.0.0.1 --abort auth=1%", "--abort auth needs --auth"},
            {"192.0.2.1 --auth a:b",
             "--auth needs --tls starttls or --tls implicit, but for a loopback address"});
    char text[200], said[256];
    snprintf(text, sizeof text, "127.0.0.1 --from a@%0119d", 0);
    snprintf(said, sizeof said,
             "--from: \"a@%0119d\" is not an address of up to 120 characters, as a@example.org", 0);
    REFUSED({text, said});
    snprintf(text, sizeof text, "127.0.0.1 --helo %0121d", 0);
    snprintf(said, sizeof said, "--helo: \"%0121d\" has not 1 to 120 characters", 0);
    REFUSED({text, said});
    snprintf(text, sizeof text, "127.0.0.1 --user %061d", 0);
    snprintf(said, sizeof said, "--user: \"%061d\" has not 1 to 60 characters", 0);
    REFUSED({text, said});
}

static void tls(void **state)
{
    (void)state;
    struct load_options options = options_of(
        "127.0.0.1 --tls starttls --tls-resume --tls-min 1.3 --tls-ciphers C --tls-groups "
        "G --tls-ca F --tls-name N");
    assert_int_equal(options.tls.mode, LOAD_TLS_STARTTLS);
    assert_true(options.tls.resume);
    assert_int_equal(options.tls.version_min, TLS_1_3);
    assert_string_equal(options.tls.ciphers, "C");
    assert_string_equal(options.tls.groups, "G");
    assert_string_equal(options.tls.ca, "F");
    assert_string_equal(options.tls.name, "N");
    options = options_of("127.0.0.1 --tls implicit --tls-max 1.2");
    assert_int_equal(options.tls.mode, LOAD_TLS_IMPLICIT);
    assert_int_equal(options.tls.version_max, TLS_1_2);
    static const char *const only[] = {"--tls-resume",    "--tls-min 1.2",  "--tls-max 1.3",
                                       "--tls-ciphers x", "--tls-groups x", "--tls-ca x",
                                       "--tls-name x"};
    for (size_t i = 0; i < sizeof(only) / sizeof(only[0]); i++) {
        char text[128], said[128];
        for (int none = 0; none < 2; none++) {
            snprintf(text, sizeof text, "127.0.0.1 %s %s", only[i], none ? "--tls none" : "");
            snprintf(said, sizeof said, "%.*s needs --tls starttls or --tls implicit",
                     (int)strcspn(only[i], " "), only[i]);
            if (!none)
                text[strlen(text) - 1] = '\0';
            REFUSED({text, said});
        }
    }
    REFUSED(
        {"127.0.0.1 --tls perhaps", "--tls: \"perhaps\" is not none, starttls or implicit"},
        {"127.0.0.1 --tls starttls --tls-min 1.1", "--tls-min: \"1.1\" is not 1.2 or 1.3"},
        {"127.0.0.1 --tls starttls --tls-min 1.3 --tls-max 1.2", "--tls-min is above --tls-max"});
}

static void aborts(void **state)
{
    (void)state;
    struct load_options options =
        options_of("127.0.0.1 --abort body=10% --abort connect=0.5 --abort quit=1 --reconnect");
    assert_true(options.aborts[LOAD_PHASE_BODY] == 0.1);
    assert_true(options.aborts[LOAD_PHASE_CONNECT] == 0.5);
    assert_true(options.aborts[LOAD_PHASE_QUIT] == 1);
    assert_true(options.aborts[LOAD_PHASE_EHLO] == 0);
    assert_true(options.reconnect);
    REFUSED(
        {"127.0.0.1 --abort body", "--abort: \"body\" is not PHASE=RATE, as body=10%"},
        {"127.0.0.1 --abort lunch=1", "--abort: \"lunch\" is not connect, ehlo, starttls, "
                                      "handshake, auth, mail, rcpt, data, body, "
                                      "dot or quit"},
        {"127.0.0.1 --abort body=2", "--abort: \"2\" is not a rate from 0 to 1, as 10% or 0.1"},
        {"127.0.0.1 --abort starttls=1", "--abort starttls needs --tls starttls"},
        {"127.0.0.1 --tls implicit --abort starttls=1", "--abort starttls needs --tls starttls"},
        {"127.0.0.1 --abort handshake=1",
         "--abort handshake needs --tls starttls or --tls implicit"});
}

static void results(void **state)
{
    (void)state;
    struct load_options options =
        options_of("127.0.0.1 --json --marks --quiet --acked A --histogram H --lmtp");
    assert_true(options.json && options.marks && options.quiet && options.lmtp);
    assert_string_equal(options.acked, "A");
    assert_string_equal(options.histogram, "H");
}

static void unknown_ones(void **state)
{
    (void)state;
    REFUSED(
        {"127.0.0.1 --bogus", "unknown option --bogus (ringmx-load --help lists them)"},
        {"127.0.0.1 -x", "unknown option -x (ringmx-load --help lists them)"},
        {"127.0.0.1 --many-sources",
         "unknown option --many-sources (ringmx-load --help lists them)"},
        {"127.0.0.1 --tls-m 1.2",
         "unknown or ambiguous option --tls-m (ringmx-load --help lists them)"},
        {"127.0.0.1 --rate", "--rate: the value is missing (ringmx-load --help lists the options)"},
        {"127.0.0.1 --json=3", "--json=3: --json takes no value"});
}

/* --help names each option, and --version the version. */
static void help(void **state)
{
    (void)state;
    static char said[16384];
    assert_int_equal(exits_run(read_one, "--help", said, sizeof said), 0);
    assert_string_equal(said, options_usage);
    for (enum options_option option = OPTION_FIRST; option < OPTION_END; option++) {
        char name[64];
        snprintf(name, sizeof name, "--%s", options_name(option));
        if (strstr(options_usage, name) == NULL)
            fail_msg("%s is not in --help", name);
    }
    for (const char *line = options_usage; *line != '\0'; line = strchr(line, '\n') + 1)
        assert_true(strcspn(line, "\n") <= 100);
    assert_int_equal(exits_run(read_one, "--version", said, sizeof said), 0);
    assert_string_equal(said, "ringmx-load " RINGMX_VERSION "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults), cmocka_unit_test(targets), cmocka_unit_test(prefixes),
        cmocka_unit_test(somebody), cmocka_unit_test(loops),   cmocka_unit_test(counts),
        cmocka_unit_test(mail),     cmocka_unit_test(tls),     cmocka_unit_test(aborts),
        cmocka_unit_test(results),  cmocka_unit_test(help),    cmocka_unit_test(unknown_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
