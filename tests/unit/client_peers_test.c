/* The client of SMTP and LMTP against servers that are not scripted: ringmx-sink, which checks
 * strictly and sums what it gets, and Postfix's smtp-sink, which keeps it. What is not installed or
 * not built is skipped, and says so. */
#include "tests/support/stage.h"
#include "tests/support/twice.h"
#include "tls/context.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { LARGE = 2000000, ARGUMENTS = 24 };

extern char **environ;

static char directory[] = "/tmp/ringmx-peers-XXXXXX";
static char *text; /* of LARGE octets: a header, then lines, some with dots */
static struct tls_context *plain;
static pid_t child;
static int child_out;

/* --- the server --- */

/* find_sink finds the program beside the test's own; NULL: it was not built. */
static const char *find_sink(void)
{
    static const char *const places[] = {"../../ringmx-sink", "../../../ringmx-sink",
                                         "../../../../build/ringmx-sink"};
    static char found[600];
    char own[400];
    ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);
    assert_in_range(len, 1, sizeof(own) - 1);
    own[len] = '\0';
    *strrchr(own, '/') = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        snprintf(found, sizeof(found), "%s/%s", own, places[i]);
        if (access(found, X_OK) == 0)
            return found;
    }
    return NULL;
}

static void child_start(const char *program, const char *const *arguments)
{
    char *argv[ARGUMENTS] = {(char *)(uintptr_t)program};
    int out[2], argc = 1;
    posix_spawn_file_actions_t actions;
    for (; arguments[argc - 1] != NULL; argc++)
        argv[argc] = (char *)(uintptr_t)arguments[argc - 1];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    assert_int_equal(posix_spawn(&child, program, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    child_out = out[0];
}

static void child_stop(void)
{
    int status;
    kill(child, SIGTERM);
    assert_int_equal(waitpid(child, &status, 0), child);
    close(child_out);
}

/* child_port reads where ringmx-sink listens. */
static uint16_t child_port(void)
{
    char line[200];
    size_t len = 0;
    while (len < sizeof(line) - 1 && read(child_out, line + len, 1) == 1 && line[len] != '\n')
        len++;
    line[len] = '\0';
    const char *colon = strrchr(line, ':');
    assert_non_null(colon);
    return (uint16_t)strtoul(colon + 1, NULL, 10);
}

/* --- mail --- */

static uint32_t sum_of(const char *data, size_t len)
{
    uint32_t sum = 0xffffffff;
    for (size_t i = 0; i < len; i++) {
        sum ^= (uint8_t)data[i];
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
    }
    return ~sum;
}

static struct parcel parcels[5];

/* pack makes five messages of different sizes, of whole lines, for three recipients each. */
static void pack(void)
{
    static const size_t lens[5] = {30, 5000, 200000, 300000, LARGE};
    for (int i = 0; i < 5; i++) {
        size_t len = lens[i];
        while (memcmp(text + len - 2, "\r\n", 2) != 0)
            len--;
        parcel_make(&parcels[i], text, len, 3);
        parcels[i].piece_max = 131072;
        postman.parcels[i] = &parcels[i];
    }
}

static void all_delivered(void)
{
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 3; j++) {
            const struct verdict *verdict = &parcels[i].recipients[j].verdict;
            if (verdict->kind != VERDICT_DELIVERED)
                print_message("parcel %d: %u %s\n", i, verdict->code, verdict->text);
            assert_int_equal(verdict->kind, VERDICT_DELIVERED);
        }
    assert_false(postman.why_given);
}

/* --- ringmx-sink --- */

/* logged checks what the sink has written about the five. */
static void logged(const char *path)
{
    char line[2000], wanted[100];
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    for (int i = 0; i < 5; i++) {
        assert_non_null(fgets(line, sizeof(line), file));
        const struct parcel *from = &parcels[i];
        const char *body = strstr(from->text, "\r\n\r\n") + 4;
        snprintf(wanted, sizeof(wanted), " sum=%08x size=%zu",
                 sum_of(body, from->text_len - (size_t)(body - from->text)), from->text_len);
        assert_non_null(strstr(line, wanted));
        assert_null(strstr(line, "bare_"));
        assert_non_null(
            strstr(line, "<user0@example.org>,<user1@example.org>,<user2@example.org>"));
    }
    assert_null(fgets(line, sizeof(line), file));
    fclose(file);
}

static void sink_once(void **state, const char *const *options, bool lmtp, enum route_tls tls)
{
    const char *program = find_sink();
    char log[100];
    const char *arguments[ARGUMENTS] = {"--log", log};
    int count = 2;
    if (program == NULL) {
        print_message("skipped: ringmx-sink is not built\n");
        skip();
    }
    snprintf(log, sizeof(log), "%s/log", directory);
    (void)unlink(log);
    for (; *options != NULL; options++)
        arguments[count++] = *options;
    if (lmtp)
        arguments[count++] = "--lmtp";
    child_start(program, arguments);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(child_port()),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    postman_init(&postman, state, NULL);
    memcpy(&postman.peer.address, &address, sizeof(address));
    postman.peer.address_len = sizeof(address);
    postman.peer.lmtp = lmtp;
    postman.peer.tls = tls;
    postman.setup.tls = plain;
    pack();
    postman_run(&postman);
    postman_free(&postman);
    child_stop();
    all_delivered();
    logged(log);
    for (int i = 0; i < 5; i++)
        assert_int_equal(parcels[i].delivery.tls_version, tls == ROUTE_TLS_NONE ? 0 : 13);
}

static void our_sink(void **state)
{
    const char *const *all = SCRIPT(NULL);
    const char *const *no_chunks = SCRIPT("--without", "CHUNKING", NULL);
    const char *const *lock_step = SCRIPT("--without", "PIPELINING", NULL);
    const char *const *old = SCRIPT("--without", "PIPELINING", "--without", "CHUNKING", "--without",
                                    "SIZE", "--without", "ENHANCEDSTATUSCODES", NULL);
    for (int lmtp = 0; lmtp < 2; lmtp++) {
        sink_once(state, all, lmtp, ROUTE_TLS_NONE);
        sink_once(state, no_chunks, lmtp, ROUTE_TLS_NONE);
        sink_once(state, lock_step, lmtp, ROUTE_TLS_NONE);
        sink_once(state, old, lmtp, ROUTE_TLS_NONE);
    }
}

static void our_sink_tls(void **state)
{
    sink_once(state, SCRIPT("--tls", "starttls", "--self-signed", NULL), false,
              ROUTE_TLS_OPPORTUNISTIC);
    sink_once(state, SCRIPT("--tls", "implicit", "--self-signed", NULL), false, ROUTE_TLS_IMPLICIT);
    sink_once(state, SCRIPT("--tls", "required", "--self-signed", "--without", "CHUNKING", NULL),
              false, ROUTE_TLS_REQUIRED);
}

/* --- smtp-sink --- */

/* kept checks what Postfix's has kept: each message as it was, with LF. */
static void kept(const char *path)
{
    size_t len = 0;
    char *whole = malloc(3 * LARGE);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(whole);
    len = fread(whole, 1, 3 * LARGE - 1, file);
    whole[len] = '\0';
    fclose(file);
    char *at = whole;
    for (int i = 0; i < 5; i++) {
        at = strstr(at, "Subject: many lines\n");
        assert_non_null(at);
        for (size_t j = 0; j < parcels[i].text_len; j++) {
            if (parcels[i].text[j] == '\r')
                continue;
            assert_int_equal(*at, parcels[i].text[j]);
            at++;
        }
        assert_int_equal(*at, '\n'); /* between two messages */
    }
    assert_null(strstr(at, "Subject: many lines\n"));
    free(whole);
}

static void await_socket(const char *path)
{
    struct stat status;
    for (int i = 0; i < 2000 && stat(path, &status) != 0; i++)
        usleep(1000);
    usleep(20000); /* from bind to listen */
}

static void postfix_once(void **state, const char *option, bool lmtp)
{
    static const char program[] = "/usr/sbin/smtp-sink";
    char path[100], dump[100], address[120];
    if (access(program, X_OK) != 0) {
        print_message("skipped: Postfix's smtp-sink is not installed\n");
        skip();
    }
    snprintf(path, sizeof(path), "%s/socket", directory);
    snprintf(dump, sizeof(dump), "%s/dump", directory);
    snprintf(address, sizeof(address), "unix:%s", path);
    (void)unlink(path);
    (void)unlink(dump);
    const char *arguments[ARGUMENTS] = {"-D", dump};
    int count = 2;
    if (option != NULL)
        arguments[count++] = option;
    if (lmtp)
        arguments[count++] = "-L";
    if (getuid() == 0) {
        arguments[count++] = "-u";
        arguments[count++] = "nobody";
    }
    arguments[count++] = address;
    arguments[count++] = "10";
    child_start(program, arguments);
    await_socket(path);
    postman_init(&postman, state, NULL);
    struct sockaddr_un unix_address = {.sun_family = AF_UNIX};
    snprintf(unix_address.sun_path, sizeof(unix_address.sun_path), "%s", path);
    memcpy(&postman.peer.address, &unix_address, sizeof(unix_address));
    postman.peer.address_len = sizeof(unix_address);
    postman.peer.lmtp = lmtp;
    pack();
    postman_run(&postman);
    postman_free(&postman);
    child_stop();
    all_delivered();
    kept(dump);
}

static void postfix_sink(void **state)
{
    for (int lmtp = 0; lmtp < 2; lmtp++) {
        postfix_once(state, NULL, lmtp);
        postfix_once(state, "-p", lmtp); /* no PIPELINING */
    }
    postfix_once(state, "-e", false); /* HELO only */
}

/* --- life --- */

static int set_up(void **state)
{
    static const char header[] = "Subject: many lines\r\n\r\n";
    const struct tls_client_options options = {.version_min = TLS_1_2, .version_max = TLS_1_3};
    char error[200];
    (void)state;
    if (mkdtemp(directory) == NULL || chmod(directory, 0777) != 0)
        return -1;
    text = malloc(LARGE + 1);
    if (text == NULL)
        return -1;
    memcpy(text, header, sizeof(header));
    for (size_t i = sizeof(header) - 1, line = 0, at = 0; i < LARGE; i++, at++) {
        size_t len = line % 50 + line / 700; /* of this line */
        text[i] = at == len ? '\r' : at == len + 1 ? '\n' : line % 3 == 0 && at < 2 ? '.' : 'x';
        if (at == len + 1) {
            line++;
            at = SIZE_MAX;
        }
    }
    text[LARGE] = '\0';
    plain = tls_context_client(&options, error, sizeof(error));
    return plain == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"log", "socket", "dump"};
    char path[100];
    (void)state;
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        (void)unlink(path);
    }
    tls_context_drop(plain);
    free(text);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(our_sink),
        TWICE(our_sink_tls),
        TWICE(postfix_sink),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
