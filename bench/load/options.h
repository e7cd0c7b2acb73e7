/* What the command line of ringmx-load asks for (docs/load.md, docs/man/ringmx-load.1). */
#ifndef BENCH_LOAD_OPTIONS_H
#define BENCH_LOAD_OPTIONS_H

#include "bench/load/login.h"
#include "bench/load/mail.h"
#include "bench/words.h"
#include "tls/tls.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum load_loop { LOAD_LOOP_CLOSED = 0, LOAD_LOOP_MESSAGES = 1, LOAD_LOOP_CONNECTIONS = 2 };
enum load_arrivals { LOAD_ARRIVALS_POISSON = 0, LOAD_ARRIVALS_CONSTANT = 1 };
enum load_tls_mode {
    LOAD_TLS_NONE = 0,
    LOAD_TLS_STARTTLS = 1, /* RFC 3207 */
    LOAD_TLS_IMPLICIT = 2, /* RFC 8314 */
};
enum load_proxy { LOAD_PROXY_NONE = 0, LOAD_PROXY_V1 = 1, LOAD_PROXY_V2 = 2 };

/* Where a connection can be broken off, and where it can fail. */
enum load_phase {
    LOAD_PHASE_CONNECT = 0,
    LOAD_PHASE_EHLO,
    LOAD_PHASE_STARTTLS,
    LOAD_PHASE_HANDSHAKE,
    LOAD_PHASE_AUTH,
    LOAD_PHASE_MAIL,
    LOAD_PHASE_RCPT,
    LOAD_PHASE_DATA,
    LOAD_PHASE_BODY,
    LOAD_PHASE_DOT,
    LOAD_PHASE_QUIT,
    LOAD_PHASE_COUNT,
};
extern const char *const load_phase_names[LOAD_PHASE_COUNT];

/* Addresses under a prefix, as 127.0.0.0/8: family AF_UNSPEC when there is none. */
struct load_prefix {
    sa_family_t family;
    uint8_t length;      /* bits */
    uint8_t address[16]; /* network order; 4 octets with AF_INET */
};

struct load_tls_options {
    enum load_tls_mode mode;
    bool resume; /* each new connection tries the newest ticket of its thread */
    enum tls_version version_min, version_max;
    const char *ciphers, *groups; /* of tls_client_options; NULL: those of tls/ */
    const char *ca;               /* file; NULL: the server is not verified */
    const char *name;             /* SNI, and verified if there is a ca; NULL: neither */
};

struct load_options {
    struct sockaddr_storage peer;
    socklen_t peer_len;
    bool lmtp;
    uint32_t threads;
    int cpu;              /* of the first thread, the others follow; -1: not pinned */
    uint32_t connections; /* that send, of all threads */
    uint32_t idle;        /* that only hold, after EHLO */
    uint32_t slow;        /* that send slowly */
    uint32_t slow_rate;   /* octets a second, of each */
    struct words_range messages_per_connection; /* then QUIT and connect anew; max 0: no end */
    uint64_t messages;                          /* stop after so many; 0: by time */
    double seconds, warm_up_seconds;            /* measured time; 0 with `messages`: no limit */
    enum load_loop loop;
    enum load_arrivals arrivals;
    double rate;           /* messages or connections a second, of all threads */
    uint64_t sweep_p99_us; /* find the knee for this; 0: one run */
    struct mail_options mail;
    const char *helo; /* the name that EHLO and LHLO say */
    bool pipelined;
    struct load_tls_options tls;
    struct logins logins;       /* of --auth; count 0: none */
    struct load_prefix sources; /* of the connections' own addresses */
    enum load_proxy proxy;
    struct load_prefix proxy_sources; /* invented ones for the header; none: the real ones */
    double aborts[LOAD_PHASE_COUNT];  /* share of the times that the phase is reached */
    bool spin;                        /* look for completions without ever sleeping */
    bool reconnect;                   /* a lost connection is tried again and no failure */
    bool marks; /* "start" and "end" of the measured time, to stderr, as they happen */
    bool quiet; /* no progress line even on a terminal */
    bool json;
    const char *acked;     /* file, or NULL */
    const char *histogram; /* file for all steps of all histograms, or NULL */
};

/* options_read reads the command line and the target's address; exits with 2 and a message when
 * something is wrong, with 0 after --help and --version. Strings stay those of `argv`. */
void options_read(struct load_options *options, int argc, char **argv);

#endif
