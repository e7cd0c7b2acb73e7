/* The thread of the control socket: see control.h. It waits in poll(2), reads requests, and gives
 * each client that has one under way a step in turn, as long as the client takes what was found
 * before. */
#include "gateway/admin/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/admin/task.h"
#include "gateway/admin/watchers.h"
#include "gateway/base/clock.h"

enum {
    CLIENTS_MAX = 16,
    LINE_MAX_LEN = 128 * 1024,    /* of a request: the most ids that one may have take 64 KiB */
    WAITING_MAX = 64 * 1024,      /* octets of an answer; no step is made while more wait */
    SILENT_US = 60 * 1000 * 1000, /* a client may be silent, or take nothing, for so long */
    POLL_MS = 1000,
    BACKLOG = 16,
};

struct control_client {
    int descriptor; /* -1: nobody */
    uint32_t uid;
    pid_t pid;
    bool ended; /* it will ask nothing more */
    char *line; /* LINE_MAX_LEN octets; what was read and is no whole request yet */
    size_t line_len;
    struct task *task; /* under way; NULL: none */
    int watcher;       /* its number while it watches dialogues; -1: it does not */
    struct output output;
    uint64_t active_us; /* when it last sent or took something */
};

struct control {
    struct sockaddr_un place;
    int listener;
    int bell; /* eventfd: stop */
    pthread_t thread;
    pthread_mutex_t lock; /* of house.routes, held during each step */
    struct log_port *log;
    struct watchers *watchers;
    struct control_client clients[CLIENTS_MAX];
    struct task_house house;
};

static void *run(void *argument);
static int open_socket(const struct sockaddr_un *place, char *error, size_t error_size);

/* --- start and end --- */

static bool fill_place(struct sockaddr_un *place, const char *path)
{
    size_t len = strlen(path);
    place->sun_family = AF_UNIX;
    if (len == 0 || len >= sizeof(place->sun_path))
        return false;
    memcpy(place->sun_path, path, len + 1);
    return true;
}

struct control *control_start(const struct control_options *options, char *error, size_t error_size)
{
    struct control *control = calloc(1, sizeof(*control));
    if (control == NULL || !fill_place(&control->place, options->path)) {
        snprintf(error, error_size, "%s",
                 control == NULL ? "out of memory" : "the path is empty or too long");
        free(control);
        return NULL;
    }
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        control->clients[i].descriptor = -1;
    control->log = log_port_new(options->log, "control");
    control->house.courier = options->courier;
    control->house.spool = options->spool;
    control->house.routes = options->routes;
    control->house.orders = options->orders;
    control->house.log = control->log;
    spool_read_quietly(&control->house.reader, true);
    spool_read_ahead(&control->house.reader, &control->house.ahead);
    pthread_mutex_init(&control->lock, NULL);
    control->watchers = watchers_new(options->trace);
    control->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    control->listener = open_socket(&control->place, error, error_size);
    bool open = control->bell >= 0 && control->listener >= 0 && control->watchers != NULL;
    if (open && pthread_create(&control->thread, NULL, run, control) == 0)
        return control;
    if (open || control->bell < 0 || control->watchers == NULL)
        snprintf(error, error_size, "no thread, descriptor or memory");
    if (control->listener >= 0) {
        unlink(control->place.sun_path);
        close(control->listener);
    }
    if (control->bell >= 0)
        close(control->bell);
    watchers_free(control->watchers);
    pthread_mutex_destroy(&control->lock);
    free(control);
    return NULL;
}

void control_configure(struct control *control, const struct routes *routes)
{
    pthread_mutex_lock(&control->lock);
    control->house.routes = routes;
    pthread_mutex_unlock(&control->lock);
}

void control_stop(struct control *control)
{
    if (control == NULL)
        return;
    while (write(control->bell, &(uint64_t){1}, sizeof(uint64_t)) < 0 && errno == EINTR)
        continue;
    pthread_join(control->thread, NULL);
    unlink(control->place.sun_path);
    close(control->listener);
    close(control->bell);
    watchers_free(control->watchers);
    spool_read_close(&control->house.reader);
    spool_ahead_free(&control->house.ahead);
    pthread_mutex_destroy(&control->lock);
    free(control);
}

/* --- the socket --- */

/* is_alive: does anybody answer at this socket? */
static bool is_alive(const struct sockaddr_un *place)
{
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool alive = descriptor >= 0 &&
                 (connect(descriptor, (const struct sockaddr *)place, sizeof(*place)) == 0 ||
                  errno == EAGAIN);
    if (descriptor >= 0)
        close(descriptor);
    return alive;
}

/* make_way removes a socket that a dead process has left. False: something is in the way. */
static bool make_way(const struct sockaddr_un *place, char *error, size_t error_size)
{
    struct stat status;
    const char *path = place->sun_path;
    if (lstat(path, &status) != 0)
        return true;
    if (!S_ISSOCK(status.st_mode))
        snprintf(error, error_size, "%s is there, and is no socket", path);
    else if (is_alive(place))
        snprintf(error, error_size, "another process answers at %s", path);
    else if (unlink(path) != 0)
        snprintf(error, error_size, "%s, which a dead process has left: %s", path, strerror(errno));
    else
        return true;
    return false;
}

static void make_folder(const char *path)
{
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return;
    snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
    (void)mkdir(folder, 0755); /* bind says why, if there is none */
}

static int open_socket(const struct sockaddr_un *place, char *error, size_t error_size)
{
    if (!make_way(place, error, error_size))
        return -1;
    make_folder(place->sun_path);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode before bind closes the gap in which others could connect. The umask applies to it,
     * so it is said again. */
    if (descriptor >= 0 && fchmod(descriptor, 0660) == 0 &&
        bind(descriptor, (const struct sockaddr *)place, sizeof(*place)) == 0 &&
        chmod(place->sun_path, 0660) == 0 && listen(descriptor, BACKLOG) == 0)
        return descriptor;
    snprintf(error, error_size, "%s: %s", place->sun_path, strerror(errno));
    if (descriptor >= 0)
        close(descriptor);
    return -1;
}

/* --- clients --- */

static void stop_watching(struct control *control, struct control_client *client)
{
    if (client->watcher < 0)
        return;
    watchers_remove(control->watchers, client->watcher);
    client->watcher = -1;
}

static void hang_up(struct control *control, struct control_client *client)
{
    stop_watching(control, client);
    if (client->descriptor >= 0) {
        (void)output_send(&client->output, client->descriptor); /* what fits, of its last words */
        close(client->descriptor);
    }
    task_free(client->task);
    output_free(&client->output);
    free(client->line);
    *client = (struct control_client){.descriptor = -1};
}

static void answer_error(struct control_client *client, const char *text)
{
    output_add(&client->output, json_pack("{s:o}", "error", output_text(bytes_of_string(text))));
}

static void take_client(struct control *control)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t peer_size = sizeof(peer);
    struct control_client *client = NULL;
    int descriptor = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (descriptor < 0)
        return;
    for (size_t i = 0; i < CLIENTS_MAX && client == NULL; i++)
        if (control->clients[i].descriptor < 0)
            client = &control->clients[i];
    char *line = client == NULL ? NULL : malloc(LINE_MAX_LEN);
    if (line == NULL) {
        static const char busy[] = "{\"error\":\"too many clients\"}\n";
        (void)!send(descriptor, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        close(descriptor);
        return;
    }
    (void)getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size);
    *client = (struct control_client){.descriptor = descriptor,
                                      .uid = peer.uid,
                                      .pid = peer.pid,
                                      .line = line,
                                      .watcher = -1,
                                      .active_us = clock_monotonic_us()};
}

/* asks: there is a request that can be looked at. */
static bool asks(const struct control_client *client)
{
    return client->task == NULL && client->watcher < 0 && client->line_len > 0 &&
           memchr(client->line, '\n', client->line_len) != NULL;
}

/* watch begins what has no end of itself. Who looks at the dialogues of others is written down. */
static void watch(struct control *control, struct control_client *client, struct inquiry *inquiry,
                  struct bytes text)
{
    const char *error;
    client->watcher = watchers_add(control->watchers, inquiry, &client->output, &error);
    inquiry_free(inquiry);
    if (client->watcher < 0) {
        answer_error(client, error);
        return;
    }
    struct log_line line = log_begin_audit(control->log, LOG_INFO, "control");
    log_string(&line, "action", "trace");
    log_bytes(&line, "request", text.data, text.len);
    log_number(&line, "uid", client->uid);
    log_end(&line);
}

/* hand_over gives a client to main, which goes on with it. The sockets are for whoever may be us.
 */
static void hand_over(struct control *control, struct control_client *client)
{
    if (control->house.orders == NULL) {
        answer_error(client, "there is nobody to do it");
    } else if (client->uid != 0 && client->uid != geteuid()) {
        answer_error(client, "only root and the user of the gateway may take over");
    } else if (output_waiting(&client->output) > 0 || client->line_len > 0) {
        answer_error(client, "handover must be the only request");
    } else if (!orders_hand_over(control->house.orders, client->descriptor, client->pid)) {
        answer_error(client, "another hand-over is under way");
    } else {
        client->descriptor = -1; /* not ours any more */
        hang_up(control, client);
    }
}

/* begin takes the next whole line, when there is one and nothing is under way. False: none. */
static bool begin(struct control *control, struct control_client *client)
{
    char error[INQUIRY_ERROR_MAX];
    struct inquiry inquiry;
    if (!asks(client))
        return false;
    const char *end = memchr(client->line, '\n', client->line_len);
    size_t len = (size_t)(end - client->line);
    struct bytes text = bytes_make(client->line, len);
    bool parsed = inquiry_parse(text, &inquiry, error);
    bool wants_all = parsed && inquiry.kind == INQUIRY_HANDOVER;
    if (!parsed)
        answer_error(client, error);
    else if (wants_all)
        inquiry_free(&inquiry);
    else if (inquiry.kind == INQUIRY_TRACE)
        watch(control, client, &inquiry, text);
    else if ((client->task = task_new(&inquiry, text, client->uid)) == NULL)
        answer_error(client, "out of memory");
    client->line_len -= len + 1;
    memmove(client->line, end + 1, client->line_len);
    if (wants_all)
        hand_over(control, client);
    return true;
}

static void read_some(struct control_client *client)
{
    ssize_t got = recv(client->descriptor, client->line + client->line_len,
                       LINE_MAX_LEN - client->line_len, MSG_DONTWAIT);
    if (got > 0) {
        client->line_len += (size_t)got;
        client->active_us = clock_monotonic_us();
        if (client->line_len == LINE_MAX_LEN && memchr(client->line, '\n', LINE_MAX_LEN) == NULL) {
            answer_error(client, "the request is too long");
            client->line_len = 0;
            client->ended = true;
        }
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        client->ended = true;
    }
}

static bool may_step(const struct control_client *client)
{
    return client->task != NULL && output_waiting(&client->output) < WAITING_MAX;
}

static void step(struct control *control, struct control_client *client)
{
    pthread_mutex_lock(&control->lock);
    bool more = task_step(client->task, &control->house, &client->output);
    pthread_mutex_unlock(&control->lock);
    if (more)
        return;
    task_free(client->task);
    client->task = NULL;
    client->active_us = clock_monotonic_us();
}

/* serve_client does for a client what can be done now. False: it is to be hung up on. */
static bool serve_client(struct control *control, struct control_client *client, short events)
{
    if ((events & (POLLIN | POLLHUP | POLLERR)) != 0 && !client->ended)
        read_some(client);
    if (client->task == NULL && output_waiting(&client->output) < WAITING_MAX)
        (void)begin(control, client);
    if (client->descriptor < 0)
        return true; /* it was handed over */
    if (may_step(client) && task_due_us(client->task) <= clock_monotonic_us())
        step(control, client);
    if (client->watcher >= 0 &&
        (client->ended || watchers_ended(control->watchers, client->watcher)))
        stop_watching(control, client);
    size_t waiting = output_waiting(&client->output);
    if (client->output.failed || !output_send(&client->output, client->descriptor))
        return false;
    size_t left = output_waiting(&client->output);
    uint64_t now_us = clock_monotonic_us();
    if (left < waiting)
        client->active_us = now_us;
    bool idle = client->task == NULL && left == 0;
    if (client->ended && idle && !asks(client))
        return false;
    bool watches = client->watcher >= 0 && left == 0; /* nothing need ever happen */
    if (watches)
        client->active_us = now_us;
    return may_step(client) || watches || asks(client) || now_us - client->active_us < SILENT_US;
}

/* How long until there is something to do for a client without hearing of it. */
static int wait_ms(const struct control_client *client, uint64_t now_us)
{
    if (client->descriptor >= 0 && output_waiting(&client->output) < WAITING_MAX && asks(client))
        return 0;
    if (client->descriptor < 0 || !may_step(client))
        return POLL_MS;
    uint64_t due_us = task_due_us(client->task);
    uint64_t ms = due_us > now_us ? (due_us - now_us + 999) / 1000 : 0;
    return ms < POLL_MS ? (int)ms : POLL_MS;
}

/* prepare says what to wait for. Returns how long: 0 when there is work. */
static int prepare(const struct control *control, struct pollfd *polled)
{
    uint64_t now_us = clock_monotonic_us();
    int timeout_ms = POLL_MS;
    polled[CLIENTS_MAX] = (struct pollfd){.fd = control->listener, .events = POLLIN};
    polled[CLIENTS_MAX + 1] = (struct pollfd){.fd = control->bell, .events = POLLIN};
    polled[CLIENTS_MAX + 2] =
        (struct pollfd){.fd = watchers_descriptor(control->watchers), .events = POLLIN};
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        const struct control_client *client = &control->clients[i];
        short events = 0;
        if (client->descriptor >= 0 && !client->ended && client->line_len < LINE_MAX_LEN)
            events |= POLLIN;
        if (client->descriptor >= 0 && output_waiting(&client->output) > 0)
            events |= POLLOUT;
        /* A client that will ask nothing more would be told of again and again. */
        polled[i] = (struct pollfd){.fd = events != 0 ? client->descriptor : -1, .events = events};
        int client_ms = wait_ms(client, now_us);
        timeout_ms = client_ms < timeout_ms ? client_ms : timeout_ms;
    }
    return timeout_ms;
}

static void *run(void *argument)
{
    struct control *control = argument;
    struct pollfd polled[CLIENTS_MAX + 3];
    for (;;) {
        int timeout_ms = prepare(control, polled);
        if (poll(polled, CLIENTS_MAX + 3, timeout_ms) < 0 && errno != EINTR)
            usleep(POLL_MS);
        if ((polled[CLIENTS_MAX + 1].revents & POLLIN) != 0)
            break;
        watchers_read(control->watchers);
        for (size_t i = 0; i < CLIENTS_MAX; i++) {
            struct control_client *client = &control->clients[i];
            if (client->descriptor >= 0 && !serve_client(control, client, polled[i].revents))
                hang_up(control, client);
        }
        if ((polled[CLIENTS_MAX].revents & POLLIN) != 0)
            take_client(control);
    }
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (control->clients[i].descriptor >= 0)
            hang_up(control, &control->clients[i]);
    return NULL;
}
