/* The resolver against a real name server, nsd, which compresses names, cuts long answers and
 * denies as such servers do. Without nsd (make deps-test) it is skipped. */
#include "gateway/io/dns.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/asker.h"

#define NSD "/usr/sbin/nsd"

static const char configuration[] = "server:\n"
                                    "  ip-address: 127.0.0.1@%u\n"
                                    "  username: \"\"\n"
                                    "  chroot: \"\"\n"
                                    "  zonesdir: \"%s\"\n"
                                    "  zonelistfile: \"%s/zone.list\"\n"
                                    "  xfrdfile: \"%s/xfrd.state\"\n"
                                    "  xfrdir: \"%s\"\n"
                                    "  pidfile: \"\"\n"
                                    "  database: \"\"\n"
                                    "  logfile: \"%s/log\"\n"
                                    "  server-count: 1\n"
                                    "  rrl-ratelimit: 0\n"
                                    "remote-control:\n"
                                    "  control-enable: no\n"
                                    "zone:\n"
                                    "  name: \"example.test\"\n"
                                    "  zonefile: \"%s/zone\"\n"
                                    "zone:\n"
                                    "  name: \"lame.test\"\n"
                                    "  zonefile: \"%s/missing\"\n";

static const char zone_head[] = "$ORIGIN example.test.\n"
                                "$TTL 3600\n"
                                "@ 900 IN SOA ns hostmaster 1 3600 600 86400 120\n"
                                "@ IN NS ns\n"
                                "ns IN A 127.0.0.1\n"
                                "@ IN MX 10 mx1.mail\n"
                                "@ 60 IN MX 5 mx2.mail\n"
                                "@ IN MX 20 Elsewhere.test.\n"
                                "mx1.mail IN A 192.0.2.1\n"
                                "mx1.mail IN AAAA 2001:db8::1\n"
                                "null IN MX 0 .\n"
                                "alias 30 IN CNAME alias2\n"
                                "alias2 40 IN CNAME @\n"
                                "out IN CNAME elsewhere.test.\n"
                                "dangling IN CNAME gone\n"
                                "below IN NS ns.below\n"
                                "ns.below IN A 127.0.0.1\n"
                                "*.wild IN MX 7 mx1.mail\n";

static char folder[64];
static pid_t process;
static union address_any address;

static void write_file(const char *name, const char *format, ...)
{
    char path[128];
    va_list values;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    va_start(values, format);
    vfprintf(file, format, values);
    va_end(values);
    fclose(file);
}

static void write_zone(void)
{
    static char text[65536];
    size_t len = (size_t)snprintf(text, sizeof(text), "%s", zone_head);
    for (int i = 0; i < 100; i++) /* more than fit into a datagram */
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                "many IN MX %d a-rather-long-name-%d.mail\n", i, i);
    write_file("zone", "%s", text);
}

/* choose_port finds one that is free now, for UDP and TCP, and hopefully still when nsd takes it.
 */
static unsigned choose_port(void)
{
    socklen_t len = sizeof(address.v4);
    for (int i = 0; i < 100; i++) {
        int probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        address.v4 =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        assert_int_equal(bind(probe, &address.any, len), 0);
        assert_int_equal(getsockname(probe, &address.any, &len), 0);
        bool both = bind(tcp, &address.any, len) == 0;
        close(probe);
        close(tcp);
        if (both)
            return ntohs(address.v4.sin_port);
    }
    fail_msg("no port that is free for UDP and TCP");
    return 0;
}

static void launch(void)
{
    char path[128];
    write_file("nsd.conf", configuration, choose_port(), folder, folder, folder, folder, folder,
               folder, folder);
    snprintf(path, sizeof(path), "%s/nsd.conf", folder);
    process = fork();
    assert_true(process >= 0);
    if (process == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        execl(NSD, NSD, "-d", "-c", path, (char *)NULL);
        _exit(127);
    }
}

static int set_up(void **state)
{
    (void)state;
    if (access(NSD, X_OK) != 0)
        return 0;
    snprintf(folder, sizeof(folder), "/tmp/ringmx-nsd-XXXXXX");
    assert_non_null(mkdtemp(folder));
    write_zone();
    launch();
    return 0;
}

static int tear_down(void **state)
{
    static const char *const files[] = {"zone", "nsd.conf", "zone.list", "xfrd.state", "log"};
    (void)state;
    if (process <= 0)
        return 0;
    kill(process, SIGTERM);
    waitpid(process, NULL, 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
        unlink(path);
    }
    return rmdir(folder) == 0 ? 0 : -1;
}

static bool has_ended(void)
{
    return waitpid(process, NULL, WNOHANG) == process;
}

/* begin waits until nsd answers. One that has ended lost its port to another: it gets a new one. */
static void begin(void)
{
    static const char *const none[] = {NULL};
    int launches = 1;
    if (process <= 0)
        skip();
    asker_begin(none, (struct dns_options){.servers = {address}, .server_count = 1});
    for (int i = 0; i < 400 && ask_now("ns.example.test", DNS_A)->status != DNS_FOUND; i++) {
        dns_forget(asker.dns);
        wait_ms(50);
        if (!has_ended())
            continue;
        assert_in_range(++launches, 1, 5);
        asker_end();
        launch();
        asker_begin(none, (struct dns_options){.servers = {address}, .server_count = 1});
    }
    ask_is(ask_now("ns.example.test", DNS_A), DNS_FOUND, 3600, 1);
}

static void records(void **state)
{
    (void)state;
    begin();
    struct ask *found = ask_now("Example.TEST", DNS_MX);
    ask_is(found, DNS_FOUND, 60, 3); /* or each its own TTL: the least */
    const char *by_preference[3] = {NULL};
    for (uint32_t i = 0; i < 3; i++)
        by_preference[found->records[i].preference / 10] = found->records[i].name;
    assert_string_equal(by_preference[0], "mx2.mail.example.test");
    assert_string_equal(by_preference[1], "mx1.mail.example.test");
    assert_string_equal(by_preference[2], "elsewhere.test");
    found = ask_now("mx1.mail.example.test", DNS_A);
    ask_is(found, DNS_FOUND, 3600, 1);
    assert_int_equal(ask_v4(&found->records[0]), 0xc0000201);
    ask_is(ask_now("mx1.mail.example.test", DNS_AAAA), DNS_FOUND, 3600, 1);
    found = ask_now("null.example.test", DNS_MX);
    ask_is(found, DNS_FOUND, 3600, 1);
    assert_string_equal(found->records[0].name, "");
    ask_is(ask_now("anything.wild.example.test", DNS_MX), DNS_FOUND, 3600, 1);
    found = ask_now("alias.example.test", DNS_MX);
    ask_is(found, DNS_FOUND, 30, 3);
    asker_end();
}

static void denials(void **state)
{
    (void)state;
    begin();
    ask_is(ask_now("gone.example.test", DNS_MX), DNS_NO_NAME, 120, 0);
    ask_is(ask_now("mail.example.test", DNS_MX), DNS_NO_DATA, 120,
           0); /* only below it is something */
    ask_is(ask_now("null.example.test", DNS_AAAA), DNS_NO_DATA, 120, 0);
    ask_is(ask_now("dangling.example.test", DNS_A), DNS_NO_NAME, 120, 0);
    asker_end();
}

/* It is no resolver: what it does not know itself is no denial. */
static void no_resolver(void **state)
{
    (void)state;
    begin();
    ask_is(ask_now("x.below.example.test", DNS_MX), DNS_FAILED, 5, 0); /* a referral */
    ask_is(ask_now("out.example.test", DNS_A), DNS_FAILED, 5, 0);      /* half of a chain */
    ask_is(ask_now("elsewhere.test", DNS_A), DNS_FAILED, 5, 0);        /* REFUSED */
    ask_is(ask_now("lame.test", DNS_A), DNS_FAILED, 5, 0);             /* SERVFAIL */
    asker_end();
}

static void over_tcp(void **state)
{
    (void)state;
    begin();
    struct ask *found = ask_now("many.example.test", DNS_MX);
    ask_is(found, DNS_FOUND, 3600, DNS_RECORDS_MAX);
    for (uint32_t i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof(name), "a-rather-long-name-%u.mail.example.test",
                 found->records[i].preference);
        assert_string_equal(found->records[i].name, name);
    }
    asker_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),
        cmocka_unit_test(denials),
        cmocka_unit_test(no_resolver),
        cmocka_unit_test(over_tcp),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
