/* A DNS server for tests, in a thread of its own, on UDP and TCP of one loopback port. It answers
 * from a table of lines, and can misbehave in many ways. (That answers of a real server are
 * understood is shown with nsd.)
 *
 * A line is "NAME TTL TYPE DATA": A, AAAA, CNAME, or MX with "PREFERENCE NAME" ("." is the root).
 * CNAMEs are followed. A name without lines does not exist; denials come with a SOA record. Or it
 * is "NAME TTL HABIT [NUMBER]", for all questions about NAME:
 *
 *   SERVFAIL REFUSED        that code
 *   SILENT [n]              no answer (to the first n questions; then as the other lines say)
 *   SLOW ms                 an answer after a while
 *   TRUNCATED               over UDP nothing but the TC flag
 *   WRONG-ID WRONG-NAME     first an answer with another id, or to another question; then the true
 *   NO-SOA REFERRAL         a denial without SOA, with or without NS records
 *   FOREIGN                 an address that belongs to another name
 *   GARBAGE CUT LOOP        after the question noise; half a record; a name that never ends
 *   SHORT                   a record of the type asked for, whose data has three octets
 *   ODD-NAME                MX with names that are no host names, and one that is
 *   CHAIN n                 n CNAMEs, then an address
 *   MANY n                  n addresses */
#ifndef TESTS_SUPPORT_NAME_SERVER_H
#define TESTS_SUPPORT_NAME_SERVER_H

#include "gateway/io/listener.h"

#include <pthread.h>
#include <stdatomic.h>

enum { NAME_SERVER_PORTS_MAX = 4096 };

struct name_server {
    union address_any address;
    const char *const *_Atomic lines; /* borrowed; NULL ends them; may be changed */
    uint32_t negative_s;              /* MINIMUM of the SOA; its TTL is one more */
    _Atomic uint32_t udp, tcp;        /* questions so far */
    _Atomic uint32_t ports;           /* different source ports, of UDP */
    _Atomic uint32_t ids;             /* different query ids */
    uint8_t port_seen[65536 / 8], id_seen[65536 / 8];
    int udp_descriptor, tcp_descriptor, stop_descriptor;
    pthread_t thread;
};

/* name_server_start opens the sockets and starts the thread; name_server_stop ends both. */
void name_server_start(struct name_server *server, const char *const *lines);
void name_server_stop(struct name_server *server);

#endif
