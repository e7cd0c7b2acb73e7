/* Greylisting (RFC 6647): who writes for the first time is asked to come again. What is remembered
 * is the triplet of the client's network (IPv4 /24, IPv6 /64), reverse-path and recipient; and,
 * once a client has come again, its network, which is then not asked again. One table for all
 * workers, of bounded memory; with policy/shared one memory for all gateways. docs/edge.md has the
 * rules. */
#ifndef GATEWAY_POLICY_GREYLIST_H
#define GATEWAY_POLICY_GREYLIST_H

#include "gateway/io/listener.h"
#include "parser/bytes.h"

struct greylist;

struct greylist_rules {
    uint32_t delay_s;  /* before that it is too early; 0: no greylisting */
    uint32_t window_s; /* and after that it is the first time again */
    uint32_t keep_s;   /* who has come again is known for so long after the last time */
};

enum greylist_verdict {
    GREYLIST_KNOWN = 0, /* may pass */
    GREYLIST_EARLY = 1, /* 451 4.7.1: known since less than the delay */
    GREYLIST_FIRST = 2, /* 451 4.7.1: not known here, and noted now; other gateways may know more */
};

struct greylist *greylist_new(uint32_t cells) __attribute__((warn_unused_result));
void greylist_free(struct greylist *greylist);

/* greylist_key identifies a triplet, the same on all gateways (`secret` is theirs in common, or 0);
 * greylist_network_key a client's network. */
uint64_t greylist_key(uint64_t secret, const union address_any *peer, struct bytes reverse_path,
                      struct bytes mailbox);
uint64_t greylist_network_key(uint64_t secret, const union address_any *peer);

/* greylist_ask looks a triplet up at `now_s` (Unix time), and notes it. Any thread. */
enum greylist_verdict greylist_ask(struct greylist *greylist, const struct greylist_rules *rules,
                                   uint64_t triplet, uint64_t network, uint64_t now_s);

/* greylist_learn takes what another gateway knew: when the triplet was first seen, or (first_s 0)
 * that the network has come again. */
void greylist_learn(struct greylist *greylist, const struct greylist_rules *rules, uint64_t triplet,
                    uint64_t network, uint64_t first_s, uint64_t now_s);

#endif
