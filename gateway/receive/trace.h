/* The live trace: dialogues of chosen sessions, as they happen, for people who look for the reason
 * of something (docs/control.md). One thread watches for all watchers: it says what they want, and
 * reads what the workers write, lines of JSON, from a pipe. Workers never wait for it, and never
 * allocate; while nobody watches they look at one pointer of their own.
 *
 * What is never shown: octets of messages (only how many), arguments of AUTH, and lines that could
 * be either: those that are no command, and what stands behind a refused DATA. */
#ifndef GATEWAY_RECEIVE_TRACE_H
#define GATEWAY_RECEIVE_TRACE_H

#include "gateway/base/log.h"
#include "gateway/policy/networks.h"
#include "parser/command.h"

struct server;
struct session;
struct tls_info;
struct trace;
struct trace_filters;

enum {
    TRACE_WATCHERS_MAX = 8, /* bits in session.traced */
    TRACE_MAILBOX_LEN_MAX = ADDRESS_LEN_MAX,
};

/* Which sessions a watcher wants: those of clients in `networks`, from their beginning; those that
 * name the mailbox, or one in the domain, from RCPT on. Either may be NULL; both: either fits. */
struct trace_wish {
    struct networks *networks; /* owned */
    char *mailbox;             /* valid, or "@example.org"; owned */
};
void trace_wish_free(struct trace_wish *wish);

/* trace_new: workers of these indexes (0 to worker_count - 1) may join. NULL: no memory. trace_free
 * comes after the workers' end. */
struct trace *trace_new(uint32_t worker_count) __attribute__((warn_unused_result));
void trace_free(struct trace *trace);

/* --- of the thread that watches --- */

/* trace_watch adds a watcher and takes the wish; lines for it have a "generation" of *since or more
 * (those with less were for who had its number before). Returns its number, 0 to TRACE_WATCHERS_MAX
 * - 1, or -EBUSY (so many watch), -EAGAIN (the workers have not heard of the changes before yet),
 * or -errno; the wish is the caller's then. trace_unwatch ends it; lines that were written before
 * may still come. */
int trace_watch(struct trace *trace, struct trace_wish *wish, uint64_t *since)
    __attribute__((warn_unused_result));
void trace_unwatch(struct trace *trace, int number);

/* trace_settle gives back the memory that no worker looks at any more; call it now and then. */
void trace_settle(struct trace *trace);

/* trace_descriptor is the pipe to read from, non-blocking; -1 while nobody watches. Each line is an
 * object whose "watchers" has a bit for each number that it is for; one with "event":"log_dropped"
 * tells all of "count" lines that were lost. */
int trace_descriptor(const struct trace *trace);

/* --- of a worker --- */

struct trace_port {
    const struct trace_filters *filters; /* NULL: nobody watches */
    struct trace *trace;                 /* NULL: nobody ever will */
    struct log_port *log;
    uint64_t generation; /* of the filters */
    uint32_t index;
    uint8_t keep; /* watchers that were there before the last look */
};

/* trace_join and trace_leave surround a worker's turns. `wake` (any thread) makes the worker call
 * trace_look soon. `trace` may be NULL. */
void trace_join(struct server *server, struct trace *trace, void (*wake)(void *user), void *user);
void trace_leave(struct server *server);
void trace_look(struct server *server);

/* To be called while filters is not NULL: a connection was refused with this line; PROXY has told
 * who the client is, in place of its balancer; a session begins; XCLIENT has told who it is; a
 * command has come. */
void trace_refused(struct server *server, const union address_any *peer, struct bytes line);
void trace_proxied(struct session *session, const union address_any *balancer);
void trace_opened(struct session *session);
void trace_renamed(struct session *session);
void trace_command(struct session *session, struct bytes line, const struct command *command,
                   enum command_result result);

/* To be called for a session that is traced: a response to AUTH's challenge has come, of so many
 * octets; a reply leaves; the text has ended; TLS is active, or
 * has failed; the connection is gone. */
void trace_response(struct session *session, size_t octets);
void trace_reply(struct session *session, struct bytes line);
void trace_text(struct session *session);
void trace_tls(const struct session *session, const struct tls_info *info);
void trace_tls_failed(const struct session *session, const char *reason, const char *text);
void trace_closed(const struct session *session, int error);

#endif
