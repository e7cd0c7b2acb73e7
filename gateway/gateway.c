/* The start: see gateway.h. Its order: sockets, while we may still bind them; least privilege,
 * before there is any thread; log, TLS; then the process before has to go; spool (recovery fills
 * the courier's queue), writer, courier, control socket, workers. The stop goes the other way, so
 * that whatever was answered 250 is on disk before the writer ends. What comes between is in
 * gateway_serve.c, gateway_reload.c and gateway_stop.c. */
#include "gateway/gateway.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "gateway/config_warnings.h"
#include "gateway/gateway_life.h"
#include "gateway/gateway_limits.h"
#include "gateway/gateway_sandbox.h"
#include "tls/crypto.h"

enum {
    LOCK_PATIENCE_MS = 5000, /* the process before may be dying */
};

/* --- start --- */

void gateway_say(struct gateway *gateway, enum log_level level, const char *event, const char *text)
{
    log_message(gateway->log_port, level, event, "%s", text);
}

void gateway_say_lines(struct gateway *gateway, enum log_level level, const char *event, char *text)
{
    char *rest = text;
    char *line;
    while ((line = strsep(&rest, "\n")) != NULL)
        if (*line != '\0')
            gateway_say(gateway, level, event, line);
}

static void say_warnings(struct gateway *gateway, const struct config *config, const char *event,
                         void (*tell)(const struct config *config, FILE *out))
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return;
    tell(config, out);
    fclose(out);
    gateway_say_lines(gateway, LOG_WARN, event, text);
    free(text);
}

void gateway_say_warnings(struct gateway *gateway, const struct config *config)
{
    say_warnings(gateway, config, "srs_warning", config_srs_warnings);
    say_warnings(gateway, config, "submission_warning", config_submission_warnings);
}

static bool open_spool(struct gateway *gateway)
{
    char error[512] = "out of memory";
    bool in_use = false;
    struct spool_options options = gateway->initial->spool;
    struct courier_options courier = gateway->initial->courier;
    options.log = gateway->log;
    options.uuid = gateway->uuid;
    options.patience_ms = gateway->takeover ? LOCK_PATIENCE_MS : 0;
    options.in_use = &in_use;
    courier.log = gateway->log;
    gateway->courier = courier_new(&courier);
    if (gateway->courier != NULL)
        gateway->spool =
            spool_open(&options, courier_recovered, gateway->courier, error, sizeof(error));
    if (gateway->spool == NULL) {
        gateway_say(gateway, LOG_ERROR, "start_failed", error);
        if (gateway->takeover && in_use)
            gateway->start_code = EX_TEMPFAIL;
        return false;
    }
    if (courier_attach(gateway->courier, gateway->spool))
        return true;
    gateway_say(gateway, LOG_ERROR, "start_failed", "the courier can't be made: out of memory");
    return false;
}

static void wake_worker(void *worker)
{
    worker_wake(worker);
}

static void *hand_main(void *argument)
{
    struct hand *hand = argument;
    char name[16]; /* for top and the status page */
    snprintf(name, sizeof(name), "worker %u", hand->setup.worker.index % 1000);
    pthread_setname_np(pthread_self(), name);
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
    hand->setup.rates = gateway->rates;
    hand->setup.greylist = gateway->greylist;
    hand->setup.attempts = gateway->attempts;
    hand->setup.quotas = gateway->quotas;
    hand->setup.signers = gateway->helpers;
    hand->setup.authentication = config_has_submission(config) ? &gateway->logins : NULL;
    hand->setup.sharing = config->has_redis ? &config->sharing : NULL;
    hand->setup.log = gateway->log;
    hand->setup.trace = gateway->trace;
    hand->setup.hop = courier_hop(gateway->courier);
    hand->setup.through_memory = config->through_memory;
    struct worker_options *worker = &hand->setup.worker;
    worker->index = (uint32_t)index;
    worker->cpu = cpu_for_worker(index, gateway->hand_count);
    worker->streams_max = memory_pools(config).streams;
    worker->blocks_max = memory_pools(config).blocks;
    worker->buffer_count = config->io_buffer_count;
    worker->buffer_size = config->io_buffer_size;
    worker->baseline = config->io_baseline;
    worker->listeners = hand->sockets;
    worker->listener_of = hand->listener_of;
    worker->listener_count = hand->socket_count;
    worker->helpers = gateway->helpers;
    worker->records_max = config_has_tls(config) ? worker->streams_max : 0;
}

static bool start_hand(struct gateway *gateway, struct hand *hand)
{
    char hint[256];
    int error = pthread_create(&hand->thread, NULL, hand_main, hand);
    hand->started = error == 0;
    while (error == 0 && atomic_load(&hand->ready) == 0)
        usleep(1000);
    if (error == 0)
        error = atomic_load(&hand->ready) < 0 ? -atomic_load(&hand->ready) : 0;
    gateway_limits_hint(gateway, -error, hint, sizeof(hint));
    if (error != 0)
        log_message(gateway->log_port, LOG_ERROR, "start_failed", "worker: %s: %s%s",
                    hand->what == NULL ? "thread" : hand->what, strerror(error), hint);
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
    char hint[256];
    const char *what = "the spool's writer";
    uint32_t count;
    union address_any *addresses = gateway_addresses(gateway->initial, &count);
    int error = addresses == NULL || !courier_own(gateway->courier, addresses, count) ? -ENOMEM : 0;
    free(addresses);
    if (error == 0)
        error = spool_start(gateway->spool);
    if (error == 0)
        error = courier_start(gateway->courier, &what);
    gateway_limits_hint(gateway, error, hint, sizeof(hint));
    if (error < 0)
        log_message(gateway->log_port, LOG_ERROR, "start_failed", "%s: %s%s", what,
                    strerror(-error), hint);
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
        .orders = gateway->orders,
        .trace = gateway->trace,
    };
    if (options.path == NULL)
        return true;
    gateway->control = control_start(&options, error, sizeof(error));
    if (gateway->control == NULL)
        log_message(gateway->log_port, LOG_ERROR, "start_failed", "admin.control: %s", error);
    return gateway->control != NULL;
}

static bool make_shared(struct gateway *gateway)
{
    bool missing = false;
    gateway->admission = admission_new(gateway->initial->server.connections_max);
    gateway->trace = trace_new((uint32_t)gateway->hand_count);
    gateway->rates = rates_new(memory_rate_cells(gateway->initial));
    gateway->greylist = greylist_new(GREYLIST_CELLS); /* a reload may want it */
    if (config_has_submission(gateway->initial)) {    /* else only a restart can want them */
        gateway->attempts = attempts_new(ATTEMPTS_CELLS);
        gateway->quotas = quotas_new(QUOTAS_CELLS);
        missing = gateway->attempts == NULL || gateway->quotas == NULL;
    }
    gateway->initial->sharing.rates = gateway->rates;
    gateway->initial->sharing.greylist = gateway->greylist;
    if (missing || gateway->admission == NULL || gateway->rates == NULL ||
        gateway->greylist == NULL) {
        gateway_say(gateway, LOG_ERROR, "start_failed", "out of memory");
        return false;
    }
    return true;
}

/* inherit gets the sockets that are there already. */
static bool inherit(struct gateway *gateway)
{
    char error[512];
    const struct config *config = gateway->initial;
    if (!inherit_from_systemd(&gateway->inherited, error, sizeof(error))) {
        gateway_say(gateway, LOG_ERROR, "start_failed", error);
        return false;
    }
    if (!gateway->takeover)
        return true;
    if (inherit_from_old(&gateway->inherited, config->control_path, config->spool_path,
                         gateway->signals, error, sizeof(error)))
        return true;
    if (error[0] == '\0') {
        gateway_say(gateway, LOG_WARN, "takeover", "there is no process to take over from");
        return true;
    }
    log_message(gateway->log_port, LOG_ERROR, "start_failed", "takeover: %s", error);
    if (gateway->inherited.temporary)
        gateway->start_code = EX_TEMPFAIL;
    return false;
}

static void say_unused(struct gateway *gateway)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return;
    inherit_unused(&gateway->inherited, out);
    fclose(out);
    gateway_say_lines(gateway, LOG_WARN, "socket_unused", text);
    free(text);
}

static void say_unreadable(struct gateway *gateway)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return;
    (void)sandbox_unreadable(gateway->initial, gateway->path, out);
    fclose(out);
    gateway_say_lines(gateway, LOG_WARN, "sandbox", text);
    free(text);
}

/* confine gives up what is not needed any more; there is no thread yet. */
static bool confine(struct gateway *gateway)
{
    char error[512] = "";
    const struct config *config = gateway->initial;
    if (!sandbox_drop(config, error, sizeof(error)) ||
        !sandbox_files(config, gateway->path, error, sizeof(error))) {
        gateway_say(gateway, LOG_ERROR, "start_failed", error);
        return false;
    }
    if (error[0] != '\0')
        gateway_say(gateway, LOG_WARN, "sandbox", error);
    if (config->user != NULL)
        say_unreadable(gateway);
    else if (geteuid() == 0)
        gateway_say(gateway, LOG_WARN, "sandbox",
                    "ringmx stays root, with all capabilities: sandbox.user names whom to become");
    return true;
}

/* prepare does all that can be done while another process still has the spool. */
static bool prepare(struct gateway *gateway)
{
    gateway->hands = calloc(gateway->initial->worker_count, sizeof(*gateway->hands));
    gateway->hand_count = gateway->hands == NULL ? 0 : gateway->initial->worker_count;
    if (gateway->hands == NULL) {
        gateway_say(gateway, LOG_ERROR, "start_failed", "out of memory");
        return false;
    }
    gateway_limits_raise(gateway);
    if (!inherit(gateway) || !gateway_sockets_open(gateway))
        return false;
    say_unused(gateway);
    if (!confine(gateway))
        return false;
    if (!log_start(gateway->log)) {
        gateway_say(gateway, LOG_ERROR, "start_failed", "the log thread can't be started");
        return false;
    }
    return make_shared(gateway) && gateway_tls_start(gateway) && gateway_logins_start(gateway) &&
           (gateway->inherited.old == 0 || gateway_limits_rehearse(gateway));
}

static bool take_over(struct gateway *gateway)
{
    char error[256];
    handover_notify("STATUS=Waiting for the process before");
    if (inherit_commit(&gateway->inherited, gateway->signals, error, sizeof(error))) {
        gateway->later |= gateway->inherited.reload ? GATEWAY_RELOAD : 0;
        return true;
    }
    log_message(gateway->log_port, LOG_ERROR, "start_failed", "takeover: %s", error);
    gateway->start_code = EX_TEMPFAIL;
    return false;
}

static bool make_ports(struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->hand_count; i++) {
        struct hand *hand = &gateway->hands[i];
        hand->staging = spool_port(gateway->spool, wake_worker, &hand->worker);
        if (hand->staging == NULL) {
            gateway_say(gateway, LOG_ERROR, "start_failed", "no memory for the staging rings");
            return false;
        }
    }
    return true;
}

static bool start_hands(struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->hand_count; i++) {
        set_up_hand(gateway, i);
        if (!start_hand(gateway, &gateway->hands[i]))
            return false;
    }
    return true;
}

static bool start(struct gateway *gateway)
{
    char error[512] = "";
    if (!prepare(gateway) || !take_over(gateway) || !gateway_admin_start(gateway))
        return false;
    handover_notify("STATUS=Reading the spool");
    if (!open_spool(gateway))
        return false;
    atomic_store(&gateway->health.spool, gateway->spool);
    if (!make_ports(gateway) || !start_courier(gateway) || !start_control(gateway) ||
        !gateway_sockets_listen(gateway) || !start_hands(gateway))
        return false;
    inherit_close(&gateway->inherited);
    gateway_say_warnings(gateway, gateway->initial);
    gateway_admin_sources(gateway);
    if (!sandbox_calls(gateway->initial, error, sizeof(error))) {
        gateway_say(gateway, LOG_ERROR, "start_failed", error);
        return false;
    }
    if (error[0] != '\0')
        gateway_say(gateway, LOG_WARN, "sandbox", error);
    atomic_store(&gateway->health.phase, HEALTH_SERVING);
    gateway_say_memory(gateway);
    say_started(gateway);
    handover_notify("MAINPID=%d\nREADY=1\nSTATUS=Serving", (int)getpid());
    return true;
}

/* --- the end --- */

/* stop ends all behind the workers. False: a thread that hangs still has the spool. */
static bool stop(struct gateway *gateway)
{
    control_stop(gateway->control);
    trace_free(gateway->trace);
    contexts_free(gateway->contexts);
    explicit_bzero(&gateway->ticket_secret, sizeof(gateway->ticket_secret));
    gateway_sockets_close(gateway, false);
    bool ended = gateway->courier == NULL || courier_stop(gateway->courier);
    if (gateway->spool != NULL)
        spool_stop(gateway->spool);
    gateway_admin_stop(gateway);
    gateway_logins_stop(gateway);
    helpers_free(gateway->helpers); /* who asks for figures has looked at them */
    atomic_store(&gateway->health.spool, NULL);
    courier_free(gateway->courier);
    if (gateway->spool != NULL && ended) /* else a thread that hangs has it to the last */
        spool_close(gateway->spool);
    admission_free(gateway->admission);
    rates_free(gateway->rates);
    attempts_free(gateway->attempts);
    quotas_free(gateway->quotas);
    greylist_free(gateway->greylist);
    for (size_t i = 0; i < gateway->hand_count; i++) {
        free(gateway->hands[i].sockets);
        free(gateway->hands[i].listener_of);
    }
    free(gateway->hands);
    inherit_close(&gateway->inherited);
    gateway_sockets_close(gateway, true);
    free(gateway->sockets);
    if (gateway->current != gateway->initial)
        config_free(gateway->current);
    return ended;
}

/* run serves, and returns the exit code. */
static int run(struct gateway *gateway)
{
    bool good = start(gateway);
    int exit_code = !good ? gateway->start_code : gateway_serve(gateway) ? 0 : EX_SOFTWARE;
    if (!gateway->yielding)
        gateway_drain(gateway);
    bool closed = stop(gateway);
    gateway_say(gateway, LOG_INFO, "stop", exit_code == 0 ? "all is on disk" : "after a failure");
    if (!closed || gateway_yield_gone(gateway) || !gateway->yielding)
        return exit_code; /* when a thread has the spool to the last, our end says the rest */
    gateway_say(gateway, LOG_ERROR, "handover", "who wanted to take over has failed too late");
    return EX_TEMPFAIL;
}

/* begin makes what must be there before anything can be said. False: it was said on stderr. */
static bool begin(struct gateway *gateway)
{
    char message[512];
    struct log_options log = gateway->initial->log;
    if (!uring_check(message, sizeof(message))) {
        fprintf(stderr, "ringmx: %s\n", message);
        return false;
    }
    crypto_random(gateway->uuid, sizeof(gateway->uuid));
    log.later = true;
    gateway->log = log_new(&log);
    gateway->orders = orders_new();
    if (gateway_signals_open(gateway) && gateway->log != NULL && gateway->orders != NULL)
        return true;
    fprintf(stderr, "ringmx: no memory or descriptors: %s\n", strerror(errno));
    return false;
}

int gateway_run(const char *path, struct config *config, bool takeover)
{
    struct gateway gateway = {.path = path,
                              .initial = config,
                              .current = config,
                              .yield = {.descriptor = -1},
                              .signals = -1,
                              .takeover = takeover,
                              .start_code = EX_CONFIG};
    int exit_code = EX_CONFIG;
    memory_contract(config, &gateway.memory); /* first: it counts what is there now */
    gateway.memory_here = memory_here();
    if (begin(&gateway)) {
        gateway.log_port = log_port_new(gateway.log, "main");
        gateway.scanner = scan_choose_best(); /* before threads start */
        exit_code = run(&gateway);
    }
    log_free(gateway.log);
    orders_free(gateway.orders);
    if (gateway.signals >= 0)
        close(gateway.signals);
    config_free(config);
    return exit_code;
}
