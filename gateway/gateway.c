/* Start, signals, reload and orderly stop: see gateway.h. Order of start: log, spool (recovery
 * fills the courier's queue), ports, TLS, writer, courier, control socket, workers. The stop goes
 * the other way, so that whatever was answered 250 is on disk before the writer ends. */
#include "gateway/gateway.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/gateway_inside.h"
#include "tls/crypto.h"

enum {
    DRAIN_S = 30,             /* what is in flight may take this long after SIGTERM */
    DESCRIPTORS_BESIDE = 512, /* for everything that is no connection */
    CONFIGURE_TRIES = 5000,   /* milliseconds */
    LOOK_S = 86400,           /* certificates grow old while nobody looks */
    BROKEN_DRAIN_S = 5,       /* in place of DRAIN_S, and once more, when the courier is broken */
};

/* --- start --- */

void gateway_say(struct gateway *gateway, enum log_level level, const char *event, const char *text)
{
    log_message(gateway->log_port, level, event, "%s", text);
}

static void raise_descriptor_limit(struct gateway *gateway)
{
    struct rlimit limit;
    const struct config *config = gateway->initial;
    rlim_t wanted = (rlim_t)config->server.connections_max + config->courier.connections_max +
                    DESCRIPTORS_BESIDE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    struct rlimit raised = {wanted, limit.rlim_max > wanted ? limit.rlim_max : wanted};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    log_message(gateway->log_port, LOG_WARN, "limit",
                "only %llu file descriptors are allowed, %llu are needed for limits.connections "
                "and deliver.connections: raise RLIMIT_NOFILE (ulimit -n)",
                (unsigned long long)limit.rlim_cur, (unsigned long long)wanted);
}

void gateway_say_lines(struct gateway *gateway, enum log_level level, const char *event, char *text)
{
    char *rest = text;
    char *line;
    while ((line = strsep(&rest, "\n")) != NULL)
        if (*line != '\0')
            gateway_say(gateway, level, event, line);
}

static void say_srs_warnings(struct gateway *gateway, const struct config *config)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return;
    config_srs_warnings(config, out);
    fclose(out);
    gateway_say_lines(gateway, LOG_WARN, "srs_warning", text);
    free(text);
}

static bool open_spool(struct gateway *gateway)
{
    char error[512] = "out of memory";
    struct spool_options options = gateway->initial->spool;
    struct courier_options courier = gateway->initial->courier;
    options.log = gateway->log;
    options.uuid = gateway->uuid;
    courier.log = gateway->log;
    gateway->courier = courier_new(&courier);
    if (gateway->courier != NULL)
        gateway->spool =
            spool_open(&options, courier_recovered, gateway->courier, error, sizeof(error));
    if (gateway->spool == NULL) {
        gateway_say(gateway, LOG_ERROR, "start_failed", error);
        return false;
    }
    if (courier_attach(gateway->courier, gateway->spool))
        return true;
    gateway_say(gateway, LOG_ERROR, "start_failed", "the courier can't be made: out of memory");
    return false;
}

/* open_listeners gives each worker its own socket for each address. When the kernel chooses a port,
 * the first worker's choice is everybody's. */
static bool open_listeners(struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->initial->listener_count; i++) {
        union address_any address = gateway->initial->listeners[i].address;
        char text[64];
        for (size_t n = 0; n < gateway->hand_count; n++) {
            int descriptor = listener_open(&address);
            if (descriptor < 0) {
                log_message(gateway->log_port, LOG_ERROR, "start_failed", "can't listen on %s: %s",
                            listener_format(&address, text), strerror(-descriptor));
                return false;
            }
            gateway->hands[n].listeners[i] = descriptor;
            gateway->hands[n].setup.worker.listener_count = (uint32_t)(i + 1);
        }
        gateway->initial->listeners[i].address = address;
    }
    return true;
}

static void wake_worker(void *worker)
{
    worker_wake(worker);
}

static void *hand_main(void *argument)
{
    struct hand *hand = argument;
    (void)server_run(&hand->server, &hand->worker, &hand->setup, &hand->ready, &hand->what);
    atomic_store(&hand->finished, true);
    return NULL;
}

/* cpu_for_worker returns the `index`th CPU that we may run on, or -1 when there are more workers
 * than CPUs. */
static int cpu_for_worker(size_t index, size_t count)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0 || (size_t)CPU_COUNT(&set) < count)
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &set) && index-- == 0)
            return cpu;
    return -1;
}

static void set_up_hand(struct gateway *gateway, size_t index)
{
    const struct config *config = gateway->initial;
    struct hand *hand = &gateway->hands[index];
    hand->setup.options = &config->server;
    hand->setup.spool = gateway->spool;
    hand->setup.staging = hand->staging;
    hand->setup.admission = gateway->admission;
    hand->setup.log = gateway->log;
    hand->setup.hop = courier_hop(gateway->courier);
    hand->setup.through_memory = config->through_memory;
    struct worker_options *worker = &hand->setup.worker;
    worker->index = (uint32_t)index;
    worker->cpu = cpu_for_worker(index, gateway->hand_count);
    worker->streams_max = config->server.connections_max;
    /* A connection that does its worst at once: two blocks of replies, a transaction and text put
     * aside; and recipients for those that do not stop at a few. */
    worker->blocks_max = config->server.connections_max * 4 + 65536;
    worker->buffer_count = config->io_buffer_count;
    worker->buffer_size = config->io_buffer_size;
    worker->baseline = config->io_baseline;
    worker->listeners = hand->listeners;
    worker->helpers = gateway->helpers;
    worker->records_max = config_has_tls(config) ? worker->streams_max : 0;
}

static bool start_hand(struct gateway *gateway, struct hand *hand)
{
    int error = pthread_create(&hand->thread, NULL, hand_main, hand);
    hand->started = error == 0;
    while (error == 0 && atomic_load(&hand->ready) == 0)
        usleep(1000);
    if (error == 0)
        error = atomic_load(&hand->ready) < 0 ? -atomic_load(&hand->ready) : 0;
    if (error != 0)
        log_message(gateway->log_port, LOG_ERROR, "start_failed", "worker: %s: %s",
                    hand->what == NULL ? "thread" : hand->what, strerror(error));
    return error == 0;
}

static void say_started(struct gateway *gateway)
{
    const struct worker *worker = &gateway->hands[0].worker;
    const struct uring_features *features = uring_features(worker->ring);
    char text[64];
    for (size_t i = 0; i < gateway->initial->listener_count; i++) {
        struct log_line line = log_begin(gateway->log_port, LOG_INFO, "listen");
        log_string(&line, "address",
                   listener_format(&gateway->initial->listeners[i].address, text));
        log_string(&line, "listener", gateway->initial->listeners[i].name);
        log_end(&line);
    }
    struct log_line line = log_begin(gateway->log_port, LOG_INFO, "start");
    log_string(&line, "version", RINGMX_VERSION);
    log_number(&line, "workers", gateway->hand_count);
    log_string(&line, "scanner", scan_kind_name(gateway->scanner));
    log_string(&line, "sync", spool_sync_used(gateway->spool));
    log_string(&line, "wake", features->message_register ? "message" : "eventfd");
    log_number(&line, "connection_octets", sizeof(struct stream) + sizeof(struct session));
    log_end(&line);
}

/* start_courier starts what is behind the workers: the spool's threads, then the courier. */
static bool start_courier(struct gateway *gateway)
{
    const char *what = "the spool's writer";
    uint32_t count;
    union address_any *addresses = gateway_addresses(gateway->initial, &count);
    int error = addresses == NULL || !courier_own(gateway->courier, addresses, count) ? -ENOMEM : 0;
    free(addresses);
    if (error == 0)
        error = spool_start(gateway->spool);
    if (error == 0)
        error = courier_start(gateway->courier, &what);
    if (error < 0)
        log_message(gateway->log_port, LOG_ERROR, "start_failed", "%s: %s", what, strerror(-error));
    return error == 0;
}

static bool start_control(struct gateway *gateway)
{
    char error[256];
    struct control_options options = {
        .path = gateway->initial->control_path,
        .courier = gateway->courier,
        .spool = gateway->spool,
        .routes = gateway->initial->routes,
        .log = gateway->log,
    };
    if (options.path == NULL)
        return true;
    gateway->control = control_start(&options, error, sizeof(error));
    if (gateway->control == NULL)
        log_message(gateway->log_port, LOG_ERROR, "start_failed", "admin.control: %s", error);
    return gateway->control != NULL;
}

static bool start(struct gateway *gateway)
{
    gateway->hands = calloc(gateway->initial->worker_count, sizeof(*gateway->hands));
    gateway->hand_count = gateway->hands == NULL ? 0 : gateway->initial->worker_count;
    gateway->admission = admission_new(gateway->initial->server.connections_max);
    if (gateway->hands == NULL || gateway->admission == NULL) {
        gateway_say(gateway, LOG_ERROR, "start_failed", "out of memory");
        return false;
    }
    if (!open_spool(gateway) || !open_listeners(gateway) || !gateway_tls_start(gateway))
        return false;
    for (size_t i = 0; i < gateway->hand_count; i++) {
        struct hand *hand = &gateway->hands[i];
        hand->staging = spool_port(gateway->spool, wake_worker, &hand->worker);
        if (hand->staging == NULL) {
            gateway_say(gateway, LOG_ERROR, "start_failed", "no memory for the staging rings");
            return false;
        }
    }
    if (!start_courier(gateway) || !start_control(gateway))
        return false;
    for (size_t i = 0; i < gateway->hand_count; i++) {
        set_up_hand(gateway, i);
        if (!start_hand(gateway, &gateway->hands[i]))
            return false;
    }
    say_srs_warnings(gateway, gateway->initial);
    say_started(gateway);
    return true;
}

/* --- reload --- */

static bool wait_configured(const struct gateway *gateway, const struct server_options *options)
{
    for (size_t i = 0; i < gateway->hand_count; i++) {
        int tries = CONFIGURE_TRIES;
        while (!server_configured(&gateway->hands[i].server, options) && --tries > 0)
            usleep(1000);
        if (tries == 0)
            return false;
    }
    return true;
}

static void adopt(struct gateway *gateway, struct config *loaded, struct contexts *contexts)
{
    struct config *old = gateway->current;
    struct contexts *old_contexts = gateway->contexts;
    log_configure(gateway->log, loaded->log.level, loaded->log.format);
    for (size_t i = 0; i < gateway->hand_count; i++)
        server_configure(&gateway->hands[i].server, &loaded->server);
    bool all = wait_configured(gateway, &loaded->server);
    courier_configure(gateway->courier, &loaded->courier.rules);
    if (gateway->control != NULL)
        control_configure(gateway->control, loaded->routes);
    gateway->current = loaded;
    gateway->contexts = contexts;
    /* Nobody looks at the old any more; else they stay, which only costs memory. */
    if (all && old != gateway->initial)
        config_free(old);
    if (all)
        contexts_free(old_contexts);
}

static void reload(struct gateway *gateway)
{
    char *text = NULL;
    size_t len = 0;
    struct contexts *contexts = NULL;
    FILE *errors = open_memstream(&text, &len);
    if (errors == NULL)
        return;
    struct config *loaded = config_load(gateway->path, errors);
    if (loaded != NULL)
        contexts = gateway_tls_contexts(gateway, loaded, errors);
    if (contexts != NULL)
        (void)config_restart_needed(gateway->initial, loaded, errors);
    fclose(errors);
    if (contexts == NULL) {
        gateway_say_lines(gateway, LOG_ERROR, "reload_failed", text);
        gateway_say(gateway, LOG_ERROR, "reload_failed", "the old configuration stays in force");
        config_free(loaded);
    } else {
        gateway_say_lines(gateway, LOG_WARN, "reload_needs_restart", text);
        gateway_tls_say(gateway, loaded);
        say_srs_warnings(gateway, loaded);
        adopt(gateway, loaded, contexts);
        gateway_say(gateway, LOG_INFO, "reloaded", gateway->path);
    }
    free(text);
}

/* --- signals and stop --- */

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL); /* inherited by every thread: only main takes them */
    signal(SIGPIPE, SIG_IGN);
}

static bool all_finished(const struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->hand_count; i++)
        if (gateway->hands[i].started && !atomic_load(&gateway->hands[i].finished))
            return false;
    return true;
}

static void note_all(struct gateway *gateway, uint32_t note)
{
    for (size_t i = 0; i < gateway->hand_count; i++)
        if (atomic_load(&gateway->hands[i].ready) == 1 && !atomic_load(&gateway->hands[i].finished))
            worker_note(&gateway->hands[i].worker, note);
}

/* serve waits for signals; false when a worker or the courier ended by itself. */
static bool serve(struct gateway *gateway, const sigset_t *set)
{
    time_t look_s = time(NULL) + LOOK_S;
    for (;;) {
        struct timespec second = {1, 0};
        int signal_number = sigtimedwait(set, NULL, &second);
        if (signal_number == SIGTERM || signal_number == SIGINT) {
            gateway_say(gateway, LOG_INFO, "drain", strsignal(signal_number));
            return true;
        }
        if (signal_number == SIGHUP)
            reload(gateway);
        if (time(NULL) >= look_s) {
            look_s += LOOK_S;
            gateway_tls_say_warnings(gateway, gateway->current);
        }
        if (courier_broken(gateway->courier)) {
            gateway_say(gateway, LOG_ERROR, "courier_failed", "the courier's ring broke: stopping");
            return false;
        }
        for (size_t i = 0; i < gateway->hand_count; i++)
            if (atomic_load(&gateway->hands[i].finished)) {
                gateway_say(gateway, LOG_ERROR, "worker_failed", "a worker's ring broke: stopping");
                return false;
            }
    }
}

/* A worker can't end while it waits for an answer of the courier's, and a broken courier may never
 * give one. What was answered 250 is on disk, so to end here is no more than a crash. */
static void leave_hard(struct gateway *gateway)
{
    gateway_say(gateway, LOG_ERROR, "stop", "workers wait for the courier in vain: ending at once");
    usleep(500 * 1000); /* for the log's thread */
    _exit(EX_SOFTWARE);
}

static void stop_hands(struct gateway *gateway, const sigset_t *set)
{
    bool broken = gateway->courier != NULL && courier_broken(gateway->courier);
    uint64_t patience_us = (uint64_t)(broken ? BROKEN_DRAIN_S : DRAIN_S) * 1000000;
    uint64_t deadline = clock_monotonic_us() + patience_us, end = UINT64_MAX;
    note_all(gateway, SERVER_NOTE_DRAIN);
    while (!all_finished(gateway)) {
        struct timespec tick = {0, 5 * 1000 * 1000};
        int again = sigtimedwait(set, NULL, &tick);
        bool impatient = again == SIGTERM || again == SIGINT; /* asked twice: now */
        if (impatient || clock_monotonic_us() > deadline) {
            note_all(gateway, SERVER_NOTE_ABORT);
            deadline = UINT64_MAX;
            end = clock_monotonic_us() + (uint64_t)BROKEN_DRAIN_S * 1000000;
        }
        if (clock_monotonic_us() > end && courier_broken(gateway->courier))
            leave_hard(gateway);
    }
    for (size_t i = 0; i < gateway->hand_count; i++)
        if (gateway->hands[i].started)
            pthread_join(gateway->hands[i].thread, NULL);
}

static void stop(struct gateway *gateway, const sigset_t *set)
{
    stop_hands(gateway, set);
    control_stop(gateway->control);
    helpers_free(gateway->helpers);
    contexts_free(gateway->contexts);
    explicit_bzero(&gateway->ticket_secret, sizeof(gateway->ticket_secret));
    for (size_t i = 0; i < gateway->hand_count; i++)
        for (uint32_t n = 0; n < gateway->hands[i].setup.worker.listener_count; n++)
            close(gateway->hands[i].listeners[n]);
    bool ended = gateway->courier == NULL || courier_stop(gateway->courier);
    if (gateway->spool != NULL)
        spool_stop(gateway->spool);
    courier_free(gateway->courier);
    if (gateway->spool != NULL && ended) /* else a thread that hangs has it to the last */
        spool_close(gateway->spool);
    admission_free(gateway->admission);
    free(gateway->hands);
    if (gateway->current != gateway->initial)
        config_free(gateway->current);
}

int gateway_run(const char *path, struct config *config)
{
    struct gateway gateway = {.path = path, .initial = config, .current = config};
    char message[512];
    sigset_t set;
    if (!uring_check(message, sizeof(message))) {
        fprintf(stderr, "ringmx: %s\n", message);
        config_free(config);
        return EX_CONFIG;
    }
    block_signals(&set);
    crypto_random(gateway.uuid, sizeof(gateway.uuid));
    gateway.log = log_new(&config->log);
    if (gateway.log == NULL) {
        fprintf(stderr, "ringmx: the log thread can't be started: %s\n", strerror(errno));
        config_free(config);
        return EX_OSERR;
    }
    gateway.log_port = log_port_new(gateway.log, "main");
    raise_descriptor_limit(&gateway);
    gateway.scanner = scan_choose_best(); /* before threads start */
    int exit_code = EX_CONFIG;
    if (start(&gateway))
        exit_code = serve(&gateway, &set) ? 0 : EX_SOFTWARE;
    stop(&gateway, &set);
    gateway_say(&gateway, LOG_INFO, "stop", exit_code == 0 ? "all is on disk" : "after a failure");
    log_free(gateway.log);
    config_free(config);
    return exit_code;
}
