/* ringmx-sink: an SMTP and LMTP server that takes all mail and keeps none, built on the parts of
 * ringmx that read and write. A next hop for tests and benchmarks: it accounts for each message
 * that it accepted, and refuses, delays or breaks off where it is told to. */
#include "bench/sink_server.h"
#include "parser/scan.h"
#include "tls/context.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PATIENCE_S = 3 /* for messages in flight, after SIGTERM */ };

struct thread {
    struct sink_server server;
    pthread_t thread;
    _Atomic int ready;
    int log;
    int result;
    const char *what;
};

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("ringmx-sink: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* --- start --- */

static void files_allow(const struct sink_options *options)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)options->connections_max * options->threads + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* with fewer, connections are refused with 421 */
}

/* self_signed_load makes a key and a certificate that live in files for a moment. */
static struct certificate *self_signed_load(const char *hostname)
{
    char folder[] = "/tmp/ringmx-sink-XXXXXX", chain[64], key[64], error[512];
    if (mkdtemp(folder) == NULL)
        die("%s: %s", folder, strerror(errno));
    snprintf(chain, sizeof(chain), "%s/chain.pem", folder);
    snprintf(key, sizeof(key), "%s/key.pem", folder);
    struct certificate *certificate = NULL;
    if (certificate_make_self_signed(hostname, chain, key, error, sizeof(error)))
        certificate = certificate_load(chain, key, error, sizeof(error));
    unlink(chain);
    unlink(key);
    rmdir(folder);
    if (certificate == NULL)
        die("%s", error);
    return certificate;
}

/* contexts_make gives each thread its own; all take the same tickets. */
static void contexts_make(const struct sink_options *options, struct thread *threads)
{
    char error[512];
    if (options->tls == SINK_TLS_NONE)
        return;
    struct certificate *certificate =
        options->self_signed
            ? self_signed_load(options->hostname)
            : certificate_load(options->certificate, options->key, error, sizeof(error));
    if (certificate == NULL)
        die("%s", error);
    struct ticket_secret tickets;
    ticket_secret_random(&tickets, 12 * 3600);
    const struct tls_server_options server = {
        .certificates = &certificate,
        .certificate_count = 1,
        .version_min = options->tls_1_3 ? TLS_1_3 : TLS_1_2,
        .tickets = &tickets,
    };
    for (uint32_t i = 0; i < options->threads; i++) {
        threads[i].server.tls = tls_context_server(&server, error, sizeof(error));
        if (threads[i].server.tls == NULL)
            die("%s", error);
    }
    certificate_drop(certificate);
}

/* listeners_open: each thread has a socket for each address; the first learns the port. */
static void listeners_open(struct sink_options *options, struct thread *threads)
{
    char text[64];
    for (uint32_t i = 0; i < options->listener_count; i++) {
        for (uint32_t t = 0; t < options->threads; t++) {
            int descriptor = listener_open(&options->listeners[i]);
            if (descriptor < 0)
                die("%s: %s", listener_format(&options->listeners[i], text), strerror(-descriptor));
            threads[t].server.listeners[i] = descriptor;
        }
    }
}

static void *serve(void *argument)
{
    struct thread *thread = argument;
    thread->result = sink_server_run(&thread->server, thread->log, &thread->ready, &thread->what);
    if (thread->result < 0 && atomic_load(&thread->ready) == 1)
        die("thread %u: %s", thread->server.index, strerror(-thread->result));
    return NULL;
}

static void threads_start(const struct sink_options *options, struct thread *threads, int log)
{
    for (uint32_t i = 0; i < options->threads; i++) {
        threads[i].server.options = options;
        threads[i].server.index = i;
        threads[i].log = log;
        int error = pthread_create(&threads[i].thread, NULL, serve, &threads[i]);
        if (error != 0)
            die("thread: %s", strerror(error));
    }
    char message[512];
    for (uint32_t i = 0; i < options->threads; i++) {
        while (atomic_load(&threads[i].ready) == 0)
            usleep(200);
        if (atomic_load(&threads[i].ready) == 1)
            continue;
        if (!uring_check(message, sizeof(message)))
            die("%s", message);
        die("%s: %s", threads[i].what, strerror(-atomic_load(&threads[i].ready)));
    }
}

/* --- the end --- */

static void tell_all(const struct sink_options *options, struct thread *threads, uint32_t note)
{
    for (uint32_t i = 0; i < options->threads; i++)
        worker_note(&threads[i].server.worker, note);
}

/* wait_for_end returns when a signal has come and every thread has ended; what is still in flight
 * after some seconds is broken off. */
static void wait_for_end(const struct sink_options *options, struct thread *threads,
                         const sigset_t *signals)
{
    int number;
    sigwait(signals, &number);
    tell_all(options, threads, SINK_NOTE_DRAIN);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    bool patient = true;
    for (uint32_t i = 0; i < options->threads; i++) {
        if (patient && pthread_timedjoin_np(threads[i].thread, NULL, &until) == 0)
            continue;
        if (patient)
            tell_all(options, threads, SINK_NOTE_ABORT);
        patient = false;
        pthread_join(threads[i].thread, NULL);
    }
}

static void counters_add(struct sink_counters *sum, const struct sink_counters *more)
{
    sum->connections += more->connections;
    sum->messages += more->messages;
    sum->recipients += more->recipients;
    sum->octets += more->octets;
    sum->torn += more->torn;
    sum->tls += more->tls;
    sum->tls_failed += more->tls_failed;
    for (unsigned phase = 0; phase < SINK_PHASE_COUNT; phase++) {
        sum->delayed[phase] += more->delayed[phase];
        for (unsigned fault = 0; fault < SINK_FAULT_COUNT; fault++)
            sum->faults[phase][fault] += more->faults[phase][fault];
    }
}

static void print_key(const char *key, const char *phase, uint64_t value)
{
    if (value > 0)
        printf(" %s_%s=%llu", key, phase, (unsigned long long)value);
}

static void print_counters(const struct sink_options *options, const struct thread *threads)
{
    struct sink_counters sum = {0};
    for (uint32_t i = 0; i < options->threads; i++)
        counters_add(&sum, &threads[i].server.counters);
    printf("event=totals connections=%llu messages=%llu recipients=%llu octets=%llu torn=%llu",
           (unsigned long long)sum.connections, (unsigned long long)sum.messages,
           (unsigned long long)sum.recipients, (unsigned long long)sum.octets,
           (unsigned long long)sum.torn);
    if (options->tls != SINK_TLS_NONE)
        printf(" tls=%llu tls_failed=%llu", (unsigned long long)sum.tls,
               (unsigned long long)sum.tls_failed);
    for (unsigned phase = 0; phase < SINK_PHASE_COUNT; phase++) {
        for (unsigned fault = SINK_FAULT_NONE + 1; fault < SINK_FAULT_COUNT; fault++)
            print_key(sink_fault_names[fault], sink_phase_names[phase], sum.faults[phase][fault]);
        print_key("delayed", sink_phase_names[phase], sum.delayed[phase]);
    }
    putchar('\n');
}

int main(int argc, char **argv)
{
    static struct sink_faults faults;
    static struct sink_options options = {.faults = &faults};
    sink_options_read(&options, argc, argv);
    files_allow(&options);
    (void)scan_choose_best();
    struct thread *threads = calloc(options.threads, sizeof(*threads));
    if (threads == NULL)
        die("no memory");
    int log = -1;
    if (options.log != NULL)
        log = open(options.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (options.log != NULL && log < 0)
        die("%s: %s", options.log, strerror(errno));
    contexts_make(&options, threads);
    listeners_open(&options, threads);

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    threads_start(&options, threads, log);
    char text[64];
    for (uint32_t i = 0; i < options.listener_count; i++)
        printf("listening on %s\n", listener_format(&options.listeners[i], text));
    fflush(stdout);
    wait_for_end(&options, threads, &signals);
    if (options.count)
        print_counters(&options, threads);
    for (uint32_t i = 0; i < options.threads; i++)
        tls_context_drop(threads[i].server.tls);
    free(threads);
    return 0;
}
