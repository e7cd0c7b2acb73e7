/* See load_client.h. The ring, the connections and the clock. One send and one multishot receive
 * per connection are with the kernel, and a slot is used again only when both have come home. */
#include "bench/load_client.h"
#include "bench/load_dialogue.h"

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SQ_ENTRIES = 4096,
    CQ_ENTRIES = 65536,
    BUFFER_SIZE = 1024,
    BUFFER_COUNT = 8192, /* a power of two */
    BUFFER_GROUP = 0,
    OPENING_MAX = 512, /* fewer than any listen queue holds */
    EXCUSES_MAX = 10,  /* failures to connect that are shown */
    LARGE = 64 << 10,
};

static const uint64_t second_ns = 1000000000;
static const uint64_t retry_ns = 20000000;
static const uint64_t patience_ns = 60000000000;
static const uint64_t drain_ns = 30000000000;

enum kind { KIND_CONNECT, KIND_RECEIVE, KIND_SEND };

static const uint32_t SLOT_NONE = UINT32_MAX;

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * second_ns + (uint64_t)time.tv_nsec;
}

uint64_t client_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

void client_die(const char *what, int error)
{
    fprintf(stderr, "ringmx-load: %s: %s\n", what, strerror(error));
    exit(1);
}

static void *zeroed(size_t size)
{
    size_t rounded = (size + 4096) & ~(size_t)4095;
    void *memory = aligned_alloc(4096, rounded);
    if (memory == NULL)
        client_die("memory", ENOMEM);
    return memset(memory, 0, rounded);
}

/* ---- the ring ---- */

static uint32_t client_slot(const struct client *client, const struct connection *connection)
{
    return (uint32_t)(connection - client->connections);
}

static struct io_uring_sqe *sqe_get(struct client *client)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&client->ring);
    while (sqe == NULL) {
        io_uring_submit(&client->ring);
        sqe = io_uring_get_sqe(&client->ring);
    }
    return sqe;
}

/* Called when the request is prepared: the kernel holds one more. */
static void sqe_own(const struct client *client, struct io_uring_sqe *sqe,
                    struct connection *connection, enum kind kind)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)kind << 56 |
                                     (uint64_t)(connection->generation & 0xffffff) << 32 |
                                     client_slot(client, connection));
    connection->debts++;
}

static void receive_arm(struct client *client, struct connection *connection)
{
    struct io_uring_sqe *sqe = sqe_get(client);
    io_uring_prep_recv_multishot(sqe, connection->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    sqe_own(client, sqe, connection, KIND_RECEIVE);
}

/* Apart, so that sending in clear costs no more for it. */
__attribute__((noinline)) static void send_sealed(struct client *client,
                                                  struct connection *connection)
{
    struct iovec sealed = load_tls_fill(connection);
    if (sealed.iov_len == 0)
        return;
    struct io_uring_sqe *sqe = sqe_get(client);
    io_uring_prep_send(sqe, connection->fd, sealed.iov_base, sealed.iov_len,
                       MSG_NOSIGNAL | MSG_WAITALL);
    sqe_own(client, sqe, connection, KIND_SEND);
    connection->sending = true;
}

void client_send(struct client *client, struct connection *connection)
{
    if (connection->tls != NULL) {
        send_sealed(client, connection);
        return;
    }
    struct io_uring_sqe *sqe = sqe_get(client);
    io_uring_prep_sendmsg(sqe, connection->fd, &connection->message, MSG_NOSIGNAL | MSG_WAITALL);
    sqe_own(client, sqe, connection, KIND_SEND);
    connection->sending = true;
}

void client_say(const struct connection *connection, const void *octets, size_t len)
{
    (void)send(connection->fd, octets, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void buffer_return(struct client *client, uint32_t buffer)
{
    io_uring_buf_ring_add(client->buffer_ring, client->buffers + (size_t)buffer * BUFFER_SIZE,
                          BUFFER_SIZE, (unsigned short)buffer, io_uring_buf_ring_mask(BUFFER_COUNT),
                          (int)client->buffers_returned++);
}

static void ring_start(struct client *client)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                 IORING_SETUP_CLAMP,
        .cq_entries = CQ_ENTRIES,
    };
    int result = io_uring_queue_init_params(SQ_ENTRIES, &client->ring, &params);
    if (result < 0)
        client_die("io_uring", -result);
    io_uring_register_ring_fd(&client->ring);
    client->buffers = zeroed((size_t)BUFFER_COUNT * BUFFER_SIZE);
    client->buffer_ring = zeroed(BUFFER_COUNT * sizeof(struct io_uring_buf));
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)client->buffer_ring,
        .ring_entries = BUFFER_COUNT,
        .bgid = BUFFER_GROUP,
    };
    result = io_uring_register_buf_ring(&client->ring, &registration, 0);
    if (result < 0)
        client_die("buffer ring", -result);
    io_uring_buf_ring_init(client->buffer_ring);
    for (uint32_t i = 0; i < BUFFER_COUNT; i++)
        buffer_return(client, i);
    io_uring_buf_ring_advance(client->buffer_ring, BUFFER_COUNT);
    client->buffers_returned = 0;
}

/* ---- connections ---- */

static void queue_add(struct client *client, struct connection *connection, uint64_t at_ns)
{
    connection->retry_at_ns = at_ns;
    client->queue[(client->queue_first + client->queue_len++) % client->count] =
        client_slot(client, connection);
}

/* 127.1.0.2 and on: no two connections share an address, and none is the server's. */
static void source_bind(const struct client *client, const struct connection *connection)
{
    uint32_t slot = client_slot(client, connection);
    uint32_t host = 0x7f010000 + slot / 250 * 256 + 2 + slot % 250;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host)};
    const int one = 1;
    setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(connection->fd, (struct sockaddr *)&address, sizeof address) < 0)
        client_die("--many-sources", errno);
}

static void connection_open(struct client *client, struct connection *connection)
{
    const struct client_options *options = client->options;
    const int one = 1;
    connection->fd = socket(options->peer.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        client_die("socket", errno);
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (options->many_sources)
        source_bind(client, connection);
    connection->phase = PHASE_CONNECT;
    client->open++;
    client->opening++;
    struct io_uring_sqe *sqe = sqe_get(client);
    io_uring_prep_connect(sqe, connection->fd, (const struct sockaddr *)&options->peer,
                          options->peer_len);
    sqe_own(client, sqe, connection, KIND_CONNECT);
}

static void open_waiting(struct client *client)
{
    while (client->queue_len > 0 && client->opening < OPENING_MAX) {
        struct connection *connection = &client->connections[client->queue[client->queue_first]];
        if (connection->retry_at_ns > client->now_ns && !client->stopping)
            return;
        client->queue_first = (client->queue_first + 1) % client->count;
        client->queue_len--;
        if (!client->stopping)
            connection_open(client, connection);
    }
}

/* What the phase still owed is accounted for in connection_settle. */
void client_drop(struct connection *connection)
{
    if (!connection->gone)
        shutdown(connection->fd, SHUT_RDWR);
    connection->gone = true;
}

/* Says whether the connection ended in good order: after QUIT, and not in the middle. */
static bool account_end(struct client *client, const struct connection *connection)
{
    switch ((enum phase)connection->phase) {
    case PHASE_ENVELOPE:
    case PHASE_BODY:
        client->report->lost++;
        if (client->options->reconnect)
            client->begun--;
        return false;
    case PHASE_STARTTLS:
    case PHASE_HANDSHAKE: load_tls_failed(client, connection); return false;
    case PHASE_CONNECT: client->report->unopened++; return false;
    case PHASE_BANNER:
    case PHASE_EHLO:
    case PHASE_READY:
    case PHASE_RESET: client->report->broken++; return false;
    default: return connection->phase == PHASE_QUIT;
    }
}

/* Until the banner: the server may not have accepted it yet. */
static bool is_opening(const struct client *client, const struct connection *connection)
{
    return connection->phase == PHASE_CONNECT || connection->phase == PHASE_BANNER ||
           (connection->phase == PHASE_HANDSHAKE && client->options->tls.mode == LOAD_TLS_IMPLICIT);
}

static void connection_settle(struct client *client, struct connection *connection)
{
    if (!connection->gone || connection->debts > 0)
        return;
    close(connection->fd);
    client->open--;
    client->opening -= is_opening(client, connection);
    client->arrived += !connection->arrived;
    bool orderly = account_end(client, connection);
    if (connection->tls != NULL)
        load_tls_end(connection);
    uint32_t generation = connection->generation + 1;
    bool holds = connection->holds;
    *connection =
        (struct connection){.fd = -1, .generation = generation, .arrived = true, .holds = holds};
    uint64_t messages = client->options->messages;
    if (orderly && (messages == 0 || client->begun < messages))
        queue_add(client, connection, 0);
    else if (client->options->reconnect)
        queue_add(client, connection, client->now_ns + retry_ns);
}

/* ---- completions ---- */

static void on_connect(struct client *client, struct connection *connection, int result)
{
    connection->debts--;
    if (result < 0) {
        if (client->excuses++ < EXCUSES_MAX)
            fprintf(stderr, "ringmx-load: connect: %s\n", strerror(-result));
        client_drop(connection);
        return;
    }
    bool implicit = client->options->tls.mode == LOAD_TLS_IMPLICIT;
    connection->phase = implicit ? PHASE_HANDSHAKE : PHASE_BANNER;
    receive_arm(client, connection);
    dialogue_proceed(client, connection);
}

static void on_receive(struct client *client, struct connection *connection,
                       const struct io_uring_cqe *cqe)
{
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    connection->debts = (uint8_t)(connection->debts - !more);
    if (cqe->res > 0) {
        uint32_t buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        uint8_t *bytes = client->buffers + (size_t)buffer * BUFFER_SIZE;
        if (connection->tls != NULL)
            load_tls_receive(client, connection, bytes, (size_t)cqe->res);
        else
            dialogue_receive(client, connection, (const char *)bytes, (size_t)cqe->res);
        buffer_return(client, buffer);
    } else if (cqe->res != -ENOBUFS) {
        client_drop(connection);
    }
    if (more || connection->gone)
        return;
    connection->next_starved = client->starved;
    client->starved = client_slot(client, connection);
    connection->debts++; /* for its place in the list */
}

/* At the end of the turn all buffers are home again. */
static void feed_starved(struct client *client)
{
    uint32_t slot = client->starved;
    client->starved = SLOT_NONE;
    while (slot != SLOT_NONE) {
        struct connection *connection = &client->connections[slot];
        slot = connection->next_starved;
        connection->debts--;
        if (!connection->gone)
            receive_arm(client, connection);
        connection_settle(client, connection);
    }
}

/* Says whether some of the message is left. */
static bool message_sent(struct msghdr *message, size_t sent)
{
    while (message->msg_iovlen > 0 && sent >= message->msg_iov->iov_len) {
        sent -= message->msg_iov->iov_len;
        message->msg_iov++;
        message->msg_iovlen--;
    }
    if (message->msg_iovlen == 0)
        return false;
    message->msg_iov->iov_base = (char *)message->msg_iov->iov_base + sent;
    message->msg_iov->iov_len -= sent;
    return true;
}

static void on_send(struct client *client, struct connection *connection, int result)
{
    connection->debts--;
    connection->sending = false;
    if (result <= 0)
        client_drop(connection);
    size_t sent = result > 0 ? (size_t)result : 0;
    bool more = connection->tls != NULL ? load_tls_sent(connection, sent)
                                        : message_sent(&connection->message, sent);
    if (connection->gone)
        return;
    if (more) {
        client_send(client, connection);
        return;
    }
    if (client->mail->options.size > LARGE)
        connection->dot_ns = client_now_ns();
    if (connection->held)
        dialogue_proceed(client, connection);
}

static void dispatch(struct client *client, const struct io_uring_cqe *cqe)
{
    struct connection *connection = &client->connections[(uint32_t)cqe->user_data];
    switch ((enum kind)(cqe->user_data >> 56)) {
    case KIND_CONNECT: on_connect(client, connection, cqe->res); break;
    case KIND_RECEIVE: on_receive(client, connection, cqe); break;
    case KIND_SEND: on_send(client, connection, cqe->res); break;
    }
    connection_settle(client, connection);
}

static void turn(struct client *client)
{
    struct __kernel_timespec wait = {.tv_nsec = 10000000};
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    int result = client->options->spin
                     ? io_uring_submit_and_get_events(&client->ring)
                     : io_uring_submit_and_wait_timeout(&client->ring, &cqe, 1, &wait, NULL);
    if (result < 0 && result != -ETIME && result != -EINTR)
        client_die("io_uring_enter", -result);
    io_uring_for_each_cqe(&client->ring, head, cqe)
    {
        dispatch(client, cqe);
        count++;
    }
    io_uring_cq_advance(&client->ring, count);
    io_uring_buf_ring_advance(client->buffer_ring, (int)client->buffers_returned);
    client->buffers_returned = 0;
    feed_starved(client);
    dialogue_acked_flush(client);
    client->now_ns = client_now_ns();
}

/* ---- the run ---- */

static void mark(const struct client *client, const char *what)
{
    if (client->options->marks)
        fprintf(stderr, "%s\n", what);
}

/* Lets go all that wait, at once: with their first message, or with QUIT. */
static void release(struct client *client)
{
    for (uint32_t i = 0; i < client->count; i++)
        if (client->connections[i].phase == PHASE_READY)
            dialogue_next(client, &client->connections[i]);
}

static void stop(struct client *client)
{
    if (client->counting) {
        client->report->seconds = (double)(client->now_ns - client->start_ns) / 1e9;
        client->report->cpu_seconds =
            (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - client->cpu_ns) / 1e9;
        mark(client, "end");
    }
    client->counting = false;
    client->stopping = true;
    client->end_ns = client->now_ns;
    release(client);
}

static bool enough(const struct client *client)
{
    const struct client_options *options = client->options;
    const struct client_report *report = client->report;
    uint64_t over = report->acked + report->failed + (options->reconnect ? 0 : report->lost);
    if (options->messages > 0 && over >= options->messages)
        return true;
    if (client->open == 0 && client->queue_len == 0)
        return true;
    return options->seconds > 0 && client->counting &&
           (double)(client->now_ns - client->start_ns) >= options->seconds * 1e9;
}

/* Starts when every connection has come (or failed), measures after the warm-up, stops. */
static void watch(struct client *client)
{
    if (client->report->acked != client->acked_seen || client->options->connections == 0) {
        client->acked_seen = client->report->acked;
        client->progress_ns = client->now_ns;
    }
    if (!client->running &&
        (client->arrived == client->count || client->now_ns - client->progress_ns > patience_ns)) {
        client->running = true;
        client->start_ns =
            client->now_ns + (uint64_t)(client->options->warm_up_seconds * (double)second_ns);
        release(client);
    }
    if (client->running && !client->counting && client->now_ns >= client->start_ns) {
        client->counting = true;
        client->start_ns = client->now_ns;
        client->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        mark(client, "start");
    }
    if (enough(client) || client->now_ns - client->progress_ns > patience_ns)
        stop(client);
}

static void client_start(struct client *client)
{
    struct client_report *report = client->report;
    *report = (struct client_report){0};
    client->count = client->options->connections + client->options->idle;
    client->connections = zeroed(client->count * sizeof *client->connections);
    client->queue = zeroed(client->count * sizeof *client->queue);
    client->starved = SLOT_NONE;
    client->now_ns = client->progress_ns = client_now_ns();
    ring_start(client);
    load_tls_start(client);
    for (uint32_t i = 0; i < client->count; i++) {
        client->connections[i].holds = i >= client->options->connections;
        queue_add(client, &client->connections[i], 0);
    }
}

void client_run(const struct client_options *options, const struct mail *mail,
                struct client_report *report)
{
    static struct client client;
    client.options = options;
    client.mail = mail;
    client.report = report;
    client_start(&client);
    while (!client.stopping || (client.open > 0 && client.now_ns - client.end_ns < drain_ns)) {
        open_waiting(&client);
        turn(&client);
        if (!client.stopping)
            watch(&client);
    }
    for (uint32_t i = 0; i < client.count; i++) {
        unsigned phase = client.connections[i].phase;
        report->failed += phase == PHASE_ENVELOPE || phase == PHASE_BODY;
        if (phase == PHASE_STARTTLS || phase == PHASE_HANDSHAKE)
            load_tls_failed(&client, &client.connections[i]);
    }
    load_tls_finish(&client);
}
