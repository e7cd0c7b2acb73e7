/* Questions on their way to DNS servers: c-ares, its sockets on the worker's ring. Only for the
 * resolver (gateway/io/dns.c), and the only user of c-ares.
 *
 * There are two channels of c-ares, used in turn: one that has asked for a while rests until its
 * last answer has come, and closes its sockets then. So source ports change also when there is
 * never a moment without questions (RFC 5452 9.2); query ids are random in c-ares. EDNS is off: a
 * long answer comes over TCP, and no message is ever fragmented on its way. */
#ifndef GATEWAY_IO_DNS_CHANNEL_H
#define GATEWAY_IO_DNS_CHANNEL_H

#include "gateway/io/dns.h"

#include <stddef.h>

struct dns_channels;
struct dns_channel;

/* A question under way. The asker's memory; it stays until it was heard. */
struct dns_request {
    /* Exactly once, perhaps from within dns_channels_ask, and never once dns_channels_free was
     * called: a message (borrowed), or NULL and why there is none. May not ask. */
    void (*heard)(struct dns_request *request, const uint8_t *message, size_t len,
                  enum dns_status why);
    struct dns_channel *channel; /* that has it */
};

/* dns_channels_new makes both. `options` (borrowed) has no zero values any more. NULL: no memory,
 * or a broken /etc/resolv.conf. dns_channels_free (NULL is allowed) ends all questions in silence,
 * and every watch. */
struct dns_channels *dns_channels_new(struct worker *worker, const struct dns_options *options)
    __attribute__((warn_unused_result));
void dns_channels_free(struct dns_channels *channels);

/* dns_channels_ask asks for records of one type. */
void dns_channels_ask(struct dns_channels *channels, struct dns_request *request, const char *name,
                      enum dns_type type);

/* dns_channels_turn lets time-outs happen; dns_channels_next_us: when the next one is due. */
void dns_channels_turn(struct dns_channels *channels);
uint64_t dns_channels_next_us(const struct dns_channels *channels);

/* dns_channels_reload reads /etc/resolv.conf again, if the servers come from there, before a
 * question that begins with nothing under way. While it can't be read, the servers stay. */
void dns_channels_reload(struct dns_channels *channels);

#endif
