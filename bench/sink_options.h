/* What the sink is told on its command line. */
#ifndef BENCH_SINK_OPTIONS_H
#define BENCH_SINK_OPTIONS_H

#include "bench/sink_fault.h"
#include "gateway/io/listener.h"

enum { SINK_LISTENERS_MAX = 16, SINK_LINES_MAX = 16, SINK_EHLO_MAX = 900 };

enum sink_tls {
    SINK_TLS_NONE = 0,
    SINK_TLS_STARTTLS = 1, /* RFC 3207 */
    SINK_TLS_REQUIRED = 2, /* and no mail without it */
    SINK_TLS_IMPLICIT = 3, /* RFC 8314 */
};

/* What EHLO announces. What is left out is refused, too. */
enum sink_extension {
    SINK_PIPELINING = 1 << 0,
    SINK_SIZE = 1 << 1,
    SINK_8BITMIME = 1 << 2,
    SINK_SMTPUTF8 = 1 << 3,
    SINK_CHUNKING = 1 << 4,
    SINK_BINARYMIME = 1 << 5,
    SINK_ENHANCEDSTATUSCODES = 1 << 6,
    SINK_DSN = 1 << 7,
    SINK_STARTTLS = 1 << 8,
    SINK_REQUIRETLS = 1 << 9,
    SINK_EXTENSIONS_ALL = (1 << 10) - 1,
};

struct sink_options {
    union address_any listeners[SINK_LISTENERS_MAX];
    uint32_t listener_count;
    bool lmtp;
    uint32_t threads;
    int cpu;                  /* of the first thread, the others follow; -1: anywhere */
    uint32_t connections_max; /* of each thread */
    const char *hostname;
    enum sink_tls tls;
    const char *certificate, *key; /* files */
    bool self_signed;
    bool tls_1_3;                          /* not older */
    unsigned extensions;                   /* enum sink_extension bits */
    const char *announced[SINK_LINES_MAX]; /* more lines for EHLO */
    uint32_t announced_count;
    uint64_t size_max; /* octets of a message; 0: no limit */
    const char *log;   /* file; NULL: none */
    bool count;
    struct sink_faults *faults;
};

/* sink_options_read reads the command line, or says what is wrong with it and ends the program.
 * Borrows the strings. `options->faults` is the caller's. */
void sink_options_read(struct sink_options *options, int argc, char **argv);

/* sink_options_ehlo writes the reply to EHLO, inside TLS or not, to `out` of SINK_EHLO_MAX octets
 * and returns its length; 0: there is no room for it. */
size_t sink_options_ehlo(const struct sink_options *options, bool secure, char *out);

#endif
