/* One connection of the load program and the SMTP dialogue on it; knows nothing of the ring. */
#ifndef BENCH_LOAD_DIALOGUE_H
#define BENCH_LOAD_DIALOGUE_H

#include "bench/load_client.h"

#include <liburing.h>
#include <stddef.h>
#include <sys/uio.h>

enum { ACKED_SIZE = 64 << 10 };

enum phase {
    PHASE_CLOSED,
    PHASE_CONNECT,
    PHASE_BANNER,
    PHASE_EHLO,
    PHASE_STARTTLS,
    PHASE_HANDSHAKE,
    PHASE_READY, /* waits for the common start, or only holds */
    PHASE_ENVELOPE,
    PHASE_BODY,
    PHASE_RESET,
    PHASE_QUIT,
    PHASE_LEAVING, /* nothing more to say: waits for the end of the stream */
};

struct connection {
    int fd;
    uint32_t generation;
    uint32_t next_starved;
    uint8_t debts; /* requests that the kernel holds */
    uint8_t phase;
    bool gone;    /* closed as soon as the debts are paid */
    bool sending; /* a send is with the kernel */
    bool held;    /* proceed was called meanwhile */
    bool arrived; /* was counted for the common start */
    bool holds;   /* sends no messages */
    bool refused; /* this transaction got a reply that it did not want */
    uint8_t code_len;
    char code[4];
    uint32_t replies;  /* to the commands of this envelope */
    uint32_t messages; /* begun on this connection */
    uint64_t number;
    struct load_tls *tls; /* from the ClientHello on; NULL: in clear */
    const struct mail_body *body;
    uint64_t mail_ns, dot_ns, retry_at_ns;
    struct msghdr message;
    struct iovec pieces[3];
    char header[MAIL_HEADER_MAX];
};

struct client {
    const struct client_options *options;
    const struct mail *mail;
    struct client_report *report;
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    uint8_t *buffers;
    uint32_t buffers_returned;
    struct connection *connections;
    uint32_t count, arrived, open, opening;
    uint32_t *queue; /* slots that want to connect, a ring of `count` */
    uint32_t queue_first, queue_len;
    uint32_t starved;
    uint64_t begun;    /* messages, without those that are tried again */
    uint64_t numbered; /* messages: each has an id of its own */
    uint64_t now_ns, start_ns, end_ns, cpu_ns;
    uint64_t acked_seen, progress_ns; /* when a message was last acknowledged */
    bool running, counting, stopping;
    uint32_t excuses;
    struct tls_context *tls_context;
    struct tls_session *tls_session; /* the newest ticket, or NULL */
    size_t acked_len;
    char acked[ACKED_SIZE];
};

/* Takes what the server sent; replies move the connection on. */
void dialogue_receive(struct client *client, struct connection *connection, const char *bytes,
                      size_t len);

/* Enters the phase that stands between two messages: the next begins, or QUIT, or it waits. */
void dialogue_next(struct client *client, struct connection *connection);

/* The TLS handshake is done: the dialogue goes on with the banner, or with EHLO once more. */
void dialogue_secured(struct client *client, struct connection *connection);

/* Sends what the phase begins with; waits with it while an earlier send is under way. */
void dialogue_proceed(struct client *client, struct connection *connection);

/* Writes the ids that wait to --acked. */
void dialogue_acked_flush(struct client *client);

/* Of load_client.c: hands connection->message to the kernel; sends a few octets at once, as far as
 * the kernel takes them, before the connection is dropped; ends both directions, and the slot is
 * used again when the kernel holds nothing of it; the time; the end of the program. */
void client_send(struct client *client, struct connection *connection);
void client_say(const struct connection *connection, const void *octets, size_t len);
void client_drop(struct connection *connection);
uint64_t client_now_ns(void);
__attribute__((noreturn)) void client_die(const char *what, int error);

#endif
