/* The SMTP clients of the load program: one thread, one ring, a closed loop on each connection (the
 * next message starts when the last one is answered). Every reply code is checked. */
#ifndef BENCH_LOAD_CLIENT_H
#define BENCH_LOAD_CLIENT_H

#include "bench/load_histogram.h"
#include "bench/load_mail.h"
#include "bench/load_tls.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct client_options {
    struct sockaddr_storage peer;
    socklen_t peer_len;
    uint32_t connections;             /* that send */
    uint32_t idle;                    /* that only hold, after EHLO */
    uint32_t messages_per_connection; /* then QUIT and connect anew; 0: without end */
    uint64_t messages;                /* stop after so many; 0: by time */
    double seconds, warm_up_seconds;
    bool pipelined;
    bool spin;         /* look for completions without ever sleeping */
    bool many_sources; /* each connection from an own address in 127.0.0.0/8 */
    bool reconnect;    /* a lost connection is tried again and no failure */
    bool marks;        /* "start" and "end" of the measured time, to stderr, as they happen */
    struct load_tls_options tls;
    int acked; /* descriptor that takes the ids of acknowledged messages, or -1 */
};

struct client_report {
    uint64_t acked;         /* 250 to the last byte of the message */
    uint64_t counted;       /* those within the measured time */
    uint64_t failed;        /* transactions refused, or unfinished at the end */
    uint64_t lost;          /* transactions whose connection ended under them */
    uint64_t opened;        /* connections that got their banner */
    uint64_t unopened;      /* attempts to connect that failed */
    uint64_t broken;        /* connections that ended when no transaction ran */
    uint64_t codes[1000];   /* unexpected replies; 0: no reply code at all */
    double seconds;         /* measured */
    double cpu_seconds;     /* of this thread, in the measured time */
    struct histogram whole; /* counted messages, from sending MAIL to the 250 */
    struct load_tls_report tls;
    struct histogram dot; /* from handing the last byte to the kernel (see client_run) to the 250 */
};

/* Runs to the end. The time of the last byte is when its send was submitted for a message up to
 * 64 KiB, and when its send completed for a larger one. */
void client_run(const struct client_options *options, const struct mail *mail,
                struct client_report *report);

#endif
