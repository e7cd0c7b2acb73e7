/* ringmx-null: the do-nothing yardstick. A single-threaded SMTP server over io_uring that uses the
 * ring as ringmx does, looks at no more of what it reads than it takes to answer, and keeps either
 * nothing (--memory) or every byte durably (--durable=direct, --durable=fdatasync) before its 250.
 * What ringmx costs above this program is the price of being a mail server.
 * It believes its client: the end of DATA is seen only at the end of a receive, so a client must
 * wait for the 250 before it sends more (RFC 5321 section 4.1.1.4); BDAT has no such limit. */
#include "bench/null_store.h"
#include "bench/words.h"

#include <errno.h>
#include <getopt.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    SLOT_COUNT = 65536,
    SQ_ENTRIES = 4096,
    CQ_ENTRIES = 65536,
    BUFFER_SIZE = 16384,
    BUFFER_COUNT = 2048, /* a power of two; 32 MiB, touched as needed */
    BUFFER_GROUP = 0,
    OUT_SIZE = 16384, /* replies to 1,000 pipelined RCPT commands */
    LINE_SIZE = 40,   /* "BDAT 18446744073709551615 LAST\r\n" */
};

enum kind { KIND_ACCEPT, KIND_RECEIVE, KIND_SEND, KIND_BELL };
enum mode { MODE_COMMAND, MODE_DATA, MODE_BDAT };

struct connection {
    int fd;
    uint32_t generation;
    uint32_t next; /* in the list of free or of starved slots */
    uint8_t debts; /* requests that the kernel holds */
    uint8_t mode;
    bool quitting; /* 221 is on its way */
    bool gone;     /* closed as soon as the debts are paid */
    bool chunk_last;
    uint8_t line_len; /* the part of a command line that an earlier receive brought */
    uint16_t out_len, out_busy;
    uint64_t chunk_left;
    char tail[5]; /* the last bytes of DATA so far */
    char line[LINE_SIZE];
};

/* A receive that found no room in the batch: it waits, and so does all that comes after it. */
struct parked {
    uint32_t slot, generation, buffer, len;
};

struct server {
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    uint8_t *buffers;
    uint32_t buffers_returned;
    int listener;
    struct connection *connections;
    char (*outs)[OUT_SIZE];
    uint32_t free_head, starved_head;
    struct parked parked[BUFFER_COUNT];
    uint32_t parked_first, parked_count;
    struct store store;
    uint64_t bell_value;
};

static const uint32_t SLOT_NONE = UINT32_MAX;

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("ringmx-null: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void *map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        die("no memory for %zu bytes", size);
    return memory;
}

/* ---- the ring ---- */

static uint64_t tag(enum kind kind, uint32_t generation, uint32_t slot)
{
    return (uint64_t)kind << 56 | (uint64_t)(generation & 0xffffff) << 32 | slot;
}

static struct io_uring_sqe *sqe_get(struct server *server)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&server->ring);
    while (sqe == NULL) {
        io_uring_submit(&server->ring);
        sqe = io_uring_get_sqe(&server->ring);
    }
    return sqe;
}

static void accept_arm(struct server *server)
{
    struct io_uring_sqe *sqe = sqe_get(server);
    io_uring_prep_multishot_accept(sqe, server->listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, tag(KIND_ACCEPT, 0, 0));
}

static void bell_arm(struct server *server)
{
    struct io_uring_sqe *sqe = sqe_get(server);
    io_uring_prep_read(sqe, server->store.bell, &server->bell_value, 8, 0);
    io_uring_sqe_set_data64(sqe, tag(KIND_BELL, 0, 0));
}

static void receive_arm(struct server *server, struct connection *connection)
{
    uint32_t slot = (uint32_t)(connection - server->connections);
    struct io_uring_sqe *sqe = sqe_get(server);
    io_uring_prep_recv_multishot(sqe, connection->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    io_uring_sqe_set_data64(sqe, tag(KIND_RECEIVE, connection->generation, slot));
    connection->debts++;
}

/* Handed to the kernel at the end of the turn, all at once. */
static void buffer_return(struct server *server, uint32_t buffer)
{
    io_uring_buf_ring_add(server->buffer_ring, server->buffers + (size_t)buffer * BUFFER_SIZE,
                          BUFFER_SIZE, (unsigned short)buffer, io_uring_buf_ring_mask(BUFFER_COUNT),
                          (int)server->buffers_returned++);
}

static void buffers_start(struct server *server)
{
    server->buffers = map((size_t)BUFFER_COUNT * BUFFER_SIZE);
    server->buffer_ring = map(BUFFER_COUNT * sizeof(struct io_uring_buf));
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)server->buffer_ring,
        .ring_entries = BUFFER_COUNT,
        .bgid = BUFFER_GROUP,
    };
    int result = io_uring_register_buf_ring(&server->ring, &registration, 0);
    if (result < 0)
        die("buffer ring: %s", strerror(-result));
    io_uring_buf_ring_init(server->buffer_ring);
    for (uint32_t i = 0; i < BUFFER_COUNT; i++)
        buffer_return(server, i);
    io_uring_buf_ring_advance(server->buffer_ring, BUFFER_COUNT);
    server->buffers_returned = 0;
}

static void ring_start(struct server *server)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                 IORING_SETUP_CLAMP,
        .cq_entries = CQ_ENTRIES,
    };
    int result = io_uring_queue_init_params(SQ_ENTRIES, &server->ring, &params);
    if (result < 0)
        die("io_uring: %s", strerror(-result));
    buffers_start(server);
    result =
        io_uring_register((unsigned)server->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    if (result < 0)
        die("io_uring: %s", strerror(-result));
    io_uring_register_ring_fd(&server->ring);
}

/* ---- connections ---- */

static void send_start(struct server *server, struct connection *connection)
{
    uint32_t slot = (uint32_t)(connection - server->connections);
    struct io_uring_sqe *sqe = sqe_get(server);
    connection->out_busy = connection->out_len;
    io_uring_prep_send(sqe, connection->fd, server->outs[slot], connection->out_busy,
                       MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data64(sqe, tag(KIND_SEND, connection->generation, slot));
    connection->debts++;
}

/* Ends both directions; the descriptor is closed when the kernel has given everything back. */
static void connection_drop(struct connection *connection)
{
    if (!connection->gone)
        shutdown(connection->fd, SHUT_RDWR);
    connection->gone = true;
}

static void connection_settle(struct server *server, struct connection *connection)
{
    if (!connection->gone || connection->debts > 0)
        return;
    close(connection->fd);
    uint32_t generation = connection->generation + 1;
    *connection = (struct connection){.fd = -1, .generation = generation};
    connection->next = server->free_head;
    server->free_head = (uint32_t)(connection - server->connections);
}

static void reply(struct server *server, struct connection *connection, const char *text,
                  size_t len)
{
    if (connection->out_len + len > OUT_SIZE) {
        connection_drop(connection); /* it sends and never reads */
        return;
    }
    char *out = server->outs[connection - server->connections];
    memcpy(out + connection->out_len, text, len);
    connection->out_len = (uint16_t)(connection->out_len + len);
}

#define REPLY(server, connection, text) reply(server, connection, text, sizeof(text) - 1)

/* One send in flight; what is answered meanwhile leaves in the next. */
static void reply_flush(struct server *server, struct connection *connection)
{
    if (connection->out_len > 0 && connection->out_busy == 0 && !connection->gone)
        send_start(server, connection);
}

static void message_end(struct server *server, struct connection *connection)
{
    if (server->store.durability == DURABLE_NOT)
        REPLY(server, connection, "250 2.0.0 ok\r\n");
    else
        store_wait(&server->store, (uint32_t)(connection - server->connections),
                   connection->generation);
}

/* ---- the little that is looked at ---- */

static void on_bdat(struct server *server, struct connection *connection, const char *line)
{
    char *end;
    connection->chunk_left = strtoull(line + 4, &end, 10);
    connection->chunk_last = strncasecmp(end, " LAST", 5) == 0;
    if (connection->chunk_left > 0)
        connection->mode = MODE_BDAT;
    else if (connection->chunk_last)
        message_end(server, connection);
    else
        REPLY(server, connection, "250 2.0.0 ok\r\n");
}

static void on_command(struct server *server, struct connection *connection, const char *line)
{
    switch (line[0] | 0x20) {
    case 'd':
        REPLY(server, connection, "354 go\r\n");
        connection->mode = MODE_DATA;
        memcpy(connection->tail, "\0\0\0\r\n", 5);
        break;
    case 'b': on_bdat(server, connection, line); break;
    case 'e':
        REPLY(server, connection,
              "250-null.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n");
        break;
    case 'q':
        REPLY(server, connection, "221 2.0.0 bye\r\n");
        connection->quitting = true;
        break;
    default: REPLY(server, connection, "250 2.0.0 ok\r\n"); break;
    }
}

/* Each of the three takes what is its own from the front of the bytes and returns how much. */
static size_t take_line(struct server *server, struct connection *connection, const uint8_t *bytes,
                        size_t len)
{
    const uint8_t *lf = memchr(bytes, '\n', len);
    size_t taken = lf != NULL ? (size_t)(lf - bytes) + 1 : len;
    size_t room = (size_t)(LINE_SIZE - 1 - connection->line_len);
    size_t kept = taken < room ? taken : room;
    memcpy(connection->line + connection->line_len, bytes, kept);
    connection->line_len = (uint8_t)(connection->line_len + kept);
    if (lf != NULL) {
        connection->line[connection->line_len] = '\0';
        connection->line_len = 0;
        on_command(server, connection, connection->line);
    }
    return taken;
}

static size_t take_data(struct server *server, struct connection *connection, const uint8_t *bytes,
                        size_t len)
{
    store_add(&server->store, (uint32_t)(connection - server->connections), bytes, len);
    if (len >= 5) {
        memcpy(connection->tail, bytes + len - 5, 5);
    } else {
        memmove(connection->tail, connection->tail + len, 5 - len);
        memcpy(connection->tail + 5 - len, bytes, len);
    }
    if (memcmp(connection->tail, "\r\n.\r\n", 5) == 0) {
        connection->mode = MODE_COMMAND;
        message_end(server, connection);
    }
    return len;
}

static size_t take_chunk(struct server *server, struct connection *connection, const uint8_t *bytes,
                         size_t len)
{
    size_t taken = len < connection->chunk_left ? len : (size_t)connection->chunk_left;
    store_add(&server->store, (uint32_t)(connection - server->connections), bytes, taken);
    connection->chunk_left -= taken;
    if (connection->chunk_left > 0)
        return taken;
    connection->mode = MODE_COMMAND;
    if (connection->chunk_last)
        message_end(server, connection);
    else
        REPLY(server, connection, "250 2.0.0 ok\r\n");
    return taken;
}

static void consume(struct server *server, struct connection *connection, uint32_t buffer,
                    size_t len)
{
    const uint8_t *bytes = server->buffers + (size_t)buffer * BUFFER_SIZE;
    size_t at = 0;
    while (at < len && !connection->quitting) {
        switch ((enum mode)connection->mode) {
        case MODE_COMMAND: at += take_line(server, connection, bytes + at, len - at); break;
        case MODE_DATA: at += take_data(server, connection, bytes + at, len - at); break;
        case MODE_BDAT: at += take_chunk(server, connection, bytes + at, len - at); break;
        }
    }
    buffer_return(server, buffer);
    reply_flush(server, connection);
}

static void unpark(struct server *server)
{
    while (server->parked_count > 0 && store_has_room(&server->store)) {
        struct parked parked = server->parked[server->parked_first];
        struct connection *connection = &server->connections[parked.slot];
        server->parked_first = (server->parked_first + 1) % BUFFER_COUNT;
        server->parked_count--;
        if (connection->generation == parked.generation && !connection->gone)
            consume(server, connection, parked.buffer, parked.len);
        else
            buffer_return(server, parked.buffer);
    }
}

/* ---- completions ---- */

static void on_accept(struct server *server, const struct io_uring_cqe *cqe)
{
    if ((cqe->flags & IORING_CQE_F_MORE) == 0)
        accept_arm(server);
    if (cqe->res < 0)
        return;
    uint32_t slot = server->free_head;
    if (slot == SLOT_NONE) {
        close(cqe->res);
        return;
    }
    struct connection *connection = &server->connections[slot];
    server->free_head = connection->next;
    connection->fd = cqe->res;
    receive_arm(server, connection);
    REPLY(server, connection, "220 null.example ESMTP\r\n");
    reply_flush(server, connection);
}

static void on_receive(struct server *server, struct connection *connection,
                       const struct io_uring_cqe *cqe)
{
    bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;
    connection->debts = (uint8_t)(connection->debts - !more);
    if (cqe->res <= 0 && cqe->res != -ENOBUFS)
        connection_drop(connection);
    if (cqe->res > 0) {
        uint32_t buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        uint32_t len = (uint32_t)cqe->res;
        if (connection->gone)
            buffer_return(server, buffer);
        else if (server->parked_count == 0 && store_has_room(&server->store))
            consume(server, connection, buffer, len);
        else
            server->parked[(server->parked_first + server->parked_count++) % BUFFER_COUNT] =
                (struct parked){(uint32_t)(connection - server->connections),
                                connection->generation, buffer, len};
    }
    if (more || connection->gone)
        return;
    connection->next = server->starved_head;
    server->starved_head = (uint32_t)(connection - server->connections);
    connection->debts++; /* for its place in the list */
}

/* Those whose receive has ended, most for want of buffers, try again when half are home. */
static void feed_starved(struct server *server)
{
    if (server->parked_count > BUFFER_COUNT / 2)
        return;
    uint32_t slot = server->starved_head;
    server->starved_head = SLOT_NONE;
    while (slot != SLOT_NONE) {
        struct connection *connection = &server->connections[slot];
        slot = connection->next;
        connection->debts--;
        if (!connection->gone)
            receive_arm(server, connection);
        connection_settle(server, connection);
    }
}

static void on_send(struct server *server, struct connection *connection,
                    const struct io_uring_cqe *cqe)
{
    connection->debts--;
    connection->out_busy = 0;
    if (cqe->res <= 0) {
        connection_drop(connection);
        return;
    }
    char *out = server->outs[connection - server->connections];
    connection->out_len = (uint16_t)(connection->out_len - cqe->res);
    memmove(out, out + cqe->res, connection->out_len);
    reply_flush(server, connection);
    if (connection->quitting && connection->out_len == 0)
        connection_drop(connection);
}

static void on_bell(struct server *server)
{
    const struct batch *batch = store_durable(&server->store);
    bell_arm(server);
    if (batch == NULL)
        return;
    for (uint32_t i = 0; i < batch->waiter_count; i++) {
        struct connection *connection = &server->connections[batch->waiters[i].slot];
        if (connection->generation != batch->waiters[i].generation || connection->gone)
            continue;
        REPLY(server, connection, "250 2.0.0 ok\r\n");
        reply_flush(server, connection);
    }
    store_done(&server->store);
}

static void dispatch(struct server *server, const struct io_uring_cqe *cqe)
{
    enum kind kind = (enum kind)(cqe->user_data >> 56);
    struct connection *connection = &server->connections[(uint32_t)cqe->user_data];
    switch (kind) {
    case KIND_ACCEPT: on_accept(server, cqe); return;
    case KIND_BELL: on_bell(server); return;
    case KIND_RECEIVE: on_receive(server, connection, cqe); break;
    case KIND_SEND: on_send(server, connection, cqe); break;
    }
    connection_settle(server, connection);
}

__attribute__((noreturn)) static void serve(struct server *server)
{
    accept_arm(server);
    if (server->store.durability != DURABLE_NOT)
        bell_arm(server);
    for (;;) {
        int result = io_uring_submit_and_wait(&server->ring, 1);
        if (result < 0 && result != -EINTR)
            die("io_uring_enter: %s", strerror(-result));
        struct io_uring_cqe *cqe;
        unsigned head, count = 0;
        io_uring_for_each_cqe(&server->ring, head, cqe)
        {
            dispatch(server, cqe);
            count++;
        }
        io_uring_cq_advance(&server->ring, count);
        store_hand_over(&server->store);
        unpark(server);
        io_uring_buf_ring_advance(server->buffer_ring, (int)server->buffers_returned);
        server->buffers_returned = 0;
        feed_starved(server);
    }
}

/* ---- start ---- */

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof address;
    const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* inherited by what it accepts */
    if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        die("port %u: %s", port, strerror(errno));
    printf("port=%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        die("--cpu %d: %s", cpu, strerror(errno));
}

static void options_read(int argc, char **argv, struct server *server, uint16_t *port)
{
    static const struct option options[] = {
        {"port",    required_argument, NULL, 'p'},
        {"dir",     required_argument, NULL, 'd'},
        {"cpu",     required_argument, NULL, 'c'},
        {"memory",  no_argument,       NULL, 'm'},
        {"durable", required_argument, NULL, 's'},
        {NULL,      0,                 NULL, 0  },
    };
    static const char *const ways[] = {"direct", "fdatasync", NULL};
    words_program("ringmx-null");
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p': *port = (uint16_t)words_count("port", optarg, 0, 65535); break;
        case 'd': server->store.dir = optarg; break;
        case 'c': pin((int)words_count("cpu", optarg, 0, CPU_SETSIZE - 1)); break;
        case 'm': server->store.durability = DURABLE_NOT; break;
        case 's':
            server->store.durability =
                words_choice("durable", optarg, ways) == 0 ? DURABLE_DIRECT : DURABLE_FDATASYNC;
            break;
        default:
            words_die("usage: ringmx-null [--port N] [--cpu N] [--memory | "
                      "--durable=direct|fdatasync --dir DIR]");
        }
    }
    if (optind < argc)
        words_die("%s: what is this?", argv[optind]);
    if (server->store.durability != DURABLE_NOT && server->store.dir == NULL)
        words_die("--durable needs --dir");
}

int main(int argc, char **argv)
{
    static struct server server;
    uint16_t port = 0;
    options_read(argc, argv, &server, &port);
    struct rlimit files = {SLOT_COUNT + 64, SLOT_COUNT + 64};
    if (setrlimit(RLIMIT_NOFILE, &files) < 0 && getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    server.connections = map(SLOT_COUNT * sizeof *server.connections);
    server.outs = map((size_t)SLOT_COUNT * OUT_SIZE);
    for (uint32_t i = 0; i < SLOT_COUNT; i++)
        server.connections[i] = (struct connection){.fd = -1, .next = i + 1};
    server.connections[SLOT_COUNT - 1].next = SLOT_NONE;
    server.starved_head = SLOT_NONE;
    ring_start(&server);
    store_start(&server.store);
    server.listener = listen_on(port);
    serve(&server);
}
