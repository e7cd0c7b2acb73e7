/* HTTP and the agent-check: see http.h. One thread polls for both and answers; another one takes a
 * sample each second and counts the queue, piece by piece, which may have to wait for the courier:
 * so /healthz never does. Connections are bounded in number, memory and time. */
#include "gateway/admin/http.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gateway/admin/agent.h"
#include "gateway/admin/http_clients.h"
#include "gateway/admin/page.h"
#include "gateway/admin/status.h"
#include "gateway/base/bell.h"
#include "gateway/base/clock.h"

enum {
    CONNECTION_MEMORY = 16 * 1024,
    IDLE_S = 15,
    FAREWELL_US = 200 * 1000, /* for what is under way when we stop */
    FAREWELL_TURN_US = 5 * 1000,
    STACK_SIZE = 256 * 1024,
    NICE = 10,
    POLL_MS = 1000,
    SECOND_US = 1000 * 1000,
    TURNS_MAX = 2000, /* in a second; then there is a pause in each */
    PAUSE_US = 1000,
    /* In the array that is polled. */
    POLL_BELL = 0,
    POLL_HTTP = 1,
    POLL_AGENT = 2,
    POLLS = POLL_AGENT + AGENT_POLLS,
};

struct http {
    struct http_options options;
    struct log_port *log;
    struct MHD_Daemon *daemon; /* NULL: none */
    int listener;              /* that MHD listens at no more; -1: it does, or there is none */
    struct agent agent;
    struct http_clients clients;
    char policy[PAGE_POLICY_MAX];
    int bell; /* eventfd: stop */
    pthread_t thread, sampling;
    bool has_thread, has_sampling;
    struct bell alarm; /* of the sampling thread */
    _Atomic bool stopping;
    pthread_mutex_t stepping; /* held during a step of the census, which may take long */
    pthread_mutex_t lock;     /* of what follows; never held for long */
    const struct metrics_sources *sources; /* NULL: none */
    struct sampler *sampler;
};

static void *serve(void *argument);
static void *sample(void *argument);
static enum MHD_Result answer(void *user, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_len, void **request);
static void connection_noted(void *user, struct MHD_Connection *connection, void **place,
                             enum MHD_ConnectionNotificationCode code);
static void request_noted(void *user, struct MHD_Connection *connection, void **request,
                          enum MHD_RequestTerminationCode code);

/* No place of ours has a %XX in its name, and %00 would end one early. */
static size_t keep_escapes(void *user, struct MHD_Connection *connection, char *text)
{
    (void)user, (void)connection;
    return strlen(text);
}

/* --- start and end --- */

/* open_socket returns a socket that listens, -1 when none is wanted, or -errno - 1. */
static int open_socket(struct http *http, union address_any *address, int descriptor,
                       const char *what)
{
    char text[64];
    if (descriptor < 0 && address->any.sa_family == AF_UNSPEC)
        return -1;
    if (descriptor < 0)
        descriptor = listener_open_alone(address);
    else
        (void)listener_begin(descriptor); /* it may have been bound only */
    if (descriptor < 0)
        return descriptor - 1;
    socklen_t len = sizeof(*address);
    (void)getsockname(descriptor, &address->any, &len);
    (void)fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
    struct log_line line = log_begin(http->log, LOG_INFO, "admin_listen");
    log_string(&line, "address", listener_format(address, text));
    log_string(&line, "for", what);
    log_end(&line);
    return descriptor;
}

static bool open_agent(struct http *http, char *error, size_t error_size)
{
    char text[64];
    int descriptor =
        open_socket(http, &http->options.agent, http->options.agent_descriptor, "agent");
    agent_init(&http->agent, descriptor < 0 ? -1 : descriptor, http->options.health);
    if (descriptor >= -1)
        return true;
    snprintf(error, error_size, "admin.agent: can't listen on %s: %s",
             listener_format(&http->options.agent, text), strerror(-descriptor - 1));
    return false;
}

static bool open_daemon(struct http *http, char *error, size_t error_size)
{
    char text[64];
    int descriptor =
        open_socket(http, &http->options.address, http->options.address_descriptor, "http");
    if (descriptor == -1)
        return true;
    page_policy(http->policy);
    if (descriptor >= 0)
        http->daemon = MHD_start_daemon(
            MHD_USE_EPOLL, 0, NULL, NULL, answer, http, MHD_OPTION_LISTEN_SOCKET, descriptor,
            MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CLIENTS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
            (unsigned)IDLE_S, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
            MHD_OPTION_NOTIFY_CONNECTION, connection_noted, http, MHD_OPTION_NOTIFY_COMPLETED,
            request_noted, http, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    if (http->daemon != NULL)
        return true;
    snprintf(error, error_size, "admin.http: can't serve %s: %s",
             listener_format(&http->options.address, text),
             strerror(descriptor < 0 ? -descriptor - 1 : ENOMEM));
    if (descriptor >= 0)
        close(descriptor);
    return false;
}

static bool start_threads(struct http *http)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all); /* signals are for main */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
    http->has_thread = pthread_create(&http->thread, &attributes, serve, http) == 0;
    http->has_sampling =
        http->has_thread && pthread_create(&http->sampling, &attributes, sample, http) == 0;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return http->has_sampling;
}

struct http *http_start(const struct http_options *options, char *error, size_t error_size)
{
    struct http *http = calloc(1, sizeof(*http));
    if (http == NULL) {
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    http->options = *options;
    http->log = log_port_new(options->log, "http");
    pthread_mutex_init(&http->lock, NULL);
    pthread_mutex_init(&http->stepping, NULL);
    http->listener = -1;
    http_clients_init(&http->clients);
    agent_init(&http->agent, -1, options->health);
    http->sampler = sampler_new();
    http->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    snprintf(error, error_size, "no memory, thread or descriptor");
    if (http->sampler != NULL && http->bell >= 0 && open_daemon(http, error, error_size) &&
        open_agent(http, error, error_size) && start_threads(http))
        return http;
    http_stop(http);
    return NULL;
}

void http_sources(struct http *http, const struct metrics_sources *sources)
{
    if (http == NULL)
        return;
    pthread_mutex_lock(&http->stepping);
    pthread_mutex_lock(&http->lock);
    http->sources = sources;
    pthread_mutex_unlock(&http->lock);
    pthread_mutex_unlock(&http->stepping);
    bell_ring(&http->alarm);
}

void http_limits(struct http *http, struct metrics_sources *sources, uint32_t connections_max,
                 uint64_t memory_max)
{
    if (http == NULL)
        return;
    pthread_mutex_lock(&http->lock);
    sources->connections_max = connections_max;
    sources->memory_max = memory_max;
    pthread_mutex_unlock(&http->lock);
}

/* quiesce takes the socket that listens from MHD. Another process may listen at it, too, so it is
 * closed later, and no more. */
static void quiesce(struct http *http)
{
    if (http->daemon != NULL && http->listener < 0)
        http->listener = MHD_quiesce_daemon(http->daemon);
}

void http_stop(struct http *http)
{
    if (http == NULL)
        return;
    atomic_store(&http->stopping, true);
    bell_ring(&http->alarm);
    while (http->bell >= 0 && write(http->bell, &(uint64_t){1}, sizeof(uint64_t)) < 0 &&
           errno == EINTR)
        continue;
    if (http->has_sampling)
        pthread_join(http->sampling, NULL);
    if (http->has_thread)
        pthread_join(http->thread, NULL);
    agent_close(&http->agent);
    quiesce(http);
    if (http->daemon != NULL)
        MHD_stop_daemon(http->daemon);
    if (http->listener >= 0)
        close(http->listener);
    if (http->bell >= 0)
        close(http->bell);
    sampler_free(http->sampler);
    pthread_mutex_destroy(&http->stepping);
    pthread_mutex_destroy(&http->lock);
    free(http);
}

/* --- the thread that samples --- */

static void take_sample(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    if (http->sources != NULL)
        sampler_take(http->sampler, http->sources, clock_monotonic_us(), clock_wall_us() / 1000000);
    pthread_mutex_unlock(&http->lock);
}

/* step looks at a piece of the queue. Returns when it wants to go on. */
static uint64_t step(struct http *http)
{
    uint64_t wait_us = SECOND_US;
    pthread_mutex_lock(&http->stepping);
    if (http->sources != NULL && http->sources->census != NULL)
        wait_us = (uint64_t)queue_census_step(http->sources->census) * 1000;
    pthread_mutex_unlock(&http->stepping);
    return clock_monotonic_us() + wait_us;
}

static void *sample(void *argument)
{
    struct http *http = argument;
    uint64_t step_us = 0, sample_us = 0;
    pthread_setname_np(pthread_self(), "sampler");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    while (!atomic_load(&http->stopping)) {
        uint64_t now_us = clock_monotonic_us();
        if (now_us >= sample_us) {
            take_sample(http);
            /* In the middle of a second of the clock, so that each has one row. */
            sample_us = now_us + SECOND_US + SECOND_US / 2 - clock_wall_us() % SECOND_US;
        }
        if (now_us >= step_us)
            step_us = step(http);
        uint64_t next_us = step_us < sample_us ? step_us : sample_us;
        now_us = clock_monotonic_us();
        if (next_us > now_us)
            (void)bell_wait(&http->alarm, next_us - now_us);
    }
    return NULL;
}

/* --- the thread that answers --- */

/* finish answers those who are here, for a moment. */
static void finish(struct http *http)
{
    uint64_t until_us = clock_monotonic_us() + FAREWELL_US;
    quiesce(http);
    while (http->daemon != NULL && MHD_run(http->daemon) == MHD_YES &&
           !http_clients_answered(&http->clients) && clock_monotonic_us() < until_us)
        usleep(FAREWELL_TURN_US);
}

static int wait_ms(const struct http *http)
{
    MHD_UNSIGNED_LONG_LONG ms = POLL_MS;
    if (http->daemon == NULL || MHD_get_timeout(http->daemon, &ms) != MHD_YES || ms > POLL_MS)
        return POLL_MS;
    return (int)ms;
}

static int polled_descriptor(const struct http *http)
{
    const union MHD_DaemonInfo *info =
        http->daemon == NULL ? NULL : MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    return info == NULL ? -1 : info->epoll_fd;
}

static void *serve(void *argument)
{
    struct http *http = argument;
    struct pollfd polled[POLLS];
    uint64_t second_us = 0;
    uint32_t turns = 0;
    pthread_setname_np(pthread_self(), "http");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    polled[POLL_BELL] = (struct pollfd){.fd = http->bell, .events = POLLIN};
    polled[POLL_HTTP] = (struct pollfd){.fd = polled_descriptor(http), .events = POLLIN};
    while (!atomic_load(&http->stopping)) {
        agent_prepare(&http->agent, &polled[POLL_AGENT]);
        if (poll(polled, POLLS, wait_ms(http)) < 0 && errno != EINTR)
            usleep(PAUSE_US);
        if (http->daemon != NULL)
            (void)MHD_run(http->daemon);
        uint64_t now_us = clock_monotonic_us();
        agent_serve(&http->agent, &polled[POLL_AGENT], now_us);
        http_clients_tidy(&http->clients);
        if (now_us - second_us >= SECOND_US) {
            http_clients_end_slow(&http->clients);
            second_us = now_us;
            turns = 0;
        }
        /* Without descriptors a connection that waits would be told of again and again. */
        if (++turns > TURNS_MAX)
            usleep(PAUSE_US);
    }
    finish(http);
    return NULL;
}

/* connection_noted keeps a list of what MHD has. `place` is our memory for the connection. */
static void connection_noted(void *user, struct MHD_Connection *connection, void **place,
                             enum MHD_ConnectionNotificationCode code)
{
    struct http *http = user;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        http_client_gone(*place);
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    *place = info == NULL ? NULL : http_clients_add(&http->clients, info->connect_fd);
}

static struct http_client *client_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

static void request_noted(void *user, struct MHD_Connection *connection, void **request,
                          enum MHD_RequestTerminationCode code)
{
    (void)user, (void)request, (void)code;
    http_client_progress(client_of(connection), HTTP_IDLE);
}

/* --- answers --- */

/* What is answered; `text` is owned when it is `made`, and constant else. */
struct reply_text {
    unsigned status;
    const char *type;
    const char *text; /* NULL: no memory */
    size_t len;
    bool made;
};

#define PLAIN       "text/plain; charset=utf-8"
#define NO_PAGE     "default-src 'none'; frame-ancestors 'none'"
#define METHODS     "GET, HEAD"
#define TEXT_FORMAT "text/plain; version=0.0.4; charset=utf-8"

static struct reply_text plain(unsigned status, const char *text)
{
    return (struct reply_text){status, PLAIN, text, strlen(text), false};
}

static struct reply_text answer_page(struct http *http, struct MHD_Connection *connection)
{
    (void)http, (void)connection;
    struct bytes html = page_html();
    return (struct reply_text){MHD_HTTP_OK, "text/html; charset=utf-8", (const char *)html.data,
                               html.len, false};
}

static struct reply_text answer_alive(struct http *http, struct MHD_Connection *connection)
{
    (void)connection;
    if (health_trouble(http->options.health) == HEALTH_COURIER_BROKEN)
        return plain(MHD_HTTP_SERVICE_UNAVAILABLE, "courier_broken");
    return plain(MHD_HTTP_OK, "ok");
}

static struct reply_text answer_ready(struct http *http, struct MHD_Connection *connection)
{
    (void)connection;
    enum health_trouble trouble = health_trouble(http->options.health);
    return plain(trouble == HEALTH_READY ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                 health_word(trouble));
}

static struct reply_text answer_metrics(struct http *http, struct MHD_Connection *connection)
{
    (void)connection;
    struct reply_text reply = {.status = MHD_HTTP_OK, .type = TEXT_FORMAT, .made = true};
    pthread_mutex_lock(&http->lock);
    bool known = http->sources != NULL;
    if (known)
        reply.text = metrics_text(http->sources, &reply.len);
    pthread_mutex_unlock(&http->lock);
    return known ? reply : plain(MHD_HTTP_SERVICE_UNAVAILABLE, "starting, or ending");
}

static struct reply_text answer_status(struct http *http, struct MHD_Connection *connection)
{
    const char *since = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "since");
    struct status_facts facts = {
        .health = http->options.health,
        .log = http->options.log,
        .wall_us = clock_wall_us(),
        .since = since == NULL ? 0 : strtoull(since, NULL, 10),
    };
    struct reply_text reply = {.status = MHD_HTTP_OK, .type = "application/json", .made = true};
    pthread_mutex_lock(&http->lock);
    facts.sources = http->sources;
    facts.sampler = http->sampler;
    reply.text = status_text(&facts, &reply.len);
    pthread_mutex_unlock(&http->lock);
    return reply;
}

static const struct {
    const char *path;
    struct reply_text (*answer)(struct http *http, struct MHD_Connection *connection);
} places[] = {
    {"/healthz",     answer_alive  },
    {"/readyz",      answer_ready  },
    {"/metrics",     answer_metrics},
    {"/status.json", answer_status },
    {"/",            answer_page   },
};

static bool is_reading(const char *method)
{
    return strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
}

static struct reply_text find_answer(struct http *http, struct MHD_Connection *connection,
                                     const char *url, const char *method)
{
    if (!is_reading(method))
        return plain(MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD");
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (strcmp(url, places[i].path) == 0)
            return places[i].answer(http, connection);
    return plain(MHD_HTTP_NOT_FOUND, "no such page");
}

static void add_headers(struct MHD_Response *response, const struct reply_text *reply,
                        const char *policy)
{
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "Content-Security-Policy", policy);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
    if (reply->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, METHODS);
}

static enum MHD_Result answer(void *user, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_len, void **request)
{
    (void)version, (void)upload, (void)upload_len;
    struct http *http = user;
    http_client_progress(client_of(connection), HTTP_ANSWERING);
    /* A reply at the first call, before a body could come, ends the connection. */
    if (*request == NULL && is_reading(method)) {
        *request = http;
        return MHD_YES;
    }
    struct reply_text reply = find_answer(http, connection, url, method);
    struct MHD_Response *response =
        reply.text == NULL ? NULL
                           : MHD_create_response_from_buffer(
                                 reply.len, (void *)(uintptr_t)reply.text,
                                 reply.made ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (response == NULL) {
        if (reply.made)
            free((void *)(uintptr_t)reply.text);
        return MHD_NO; /* no memory: MHD closes the connection */
    }
    add_headers(response, &reply, strcmp(url, "/") == 0 ? http->policy : NO_PAGE);
    enum MHD_Result result = MHD_queue_response(connection, reply.status, response);
    MHD_destroy_response(response);
    return result;
}
