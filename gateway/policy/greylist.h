/* Greylisting (RFC 6647): who writes for the first time is asked to come again. What is remembered
 * is the triplet of the client's network (IPv4 /24, IPv6 /64), reverse-path and recipient; and,
 * once a client has come again, its network, which is then not asked again. One table for all
 * workers, of bounded memory; with policy/shared one memory for all gateways. Lock-free: each thing
 * known is one atomic word. docs/edge.md has the rules. */
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
    GREYLIST_PASSED = 3, /* as KNOWN, and other gateways should hear of it: the network has come
                            again just now, or is still there after a while */
};

/* greylist_new makes room for `cells` triplets, rounded up to a power of two, and a quarter as many
 * networks, of 8 octets each; memory is used as they come. When there are more, the oldest near by
 * is forgotten; all triplets of one network share a part of the room (GREYLIST_SPREAD cells), so
 * that no client drives out all others. Owned; NULL: no memory. */
enum { GREYLIST_CELLS = 1 << 20, GREYLIST_SPREAD = 4096 };
struct greylist *greylist_new(uint32_t cells) __attribute__((warn_unused_result));
void greylist_free(struct greylist *greylist);

/* greylist_key identifies a triplet, the same on all gateways (`secret` is theirs in common, or 0),
 * in any case of letters; greylist_network_key a client's network. Both have 64 bits of a SHA-256,
 * never 0. Where they lie in the table depends on a random seed of its own. */
uint64_t greylist_key(uint64_t secret, const union address_any *peer, struct bytes reverse_path,
                      struct bytes mailbox);
uint64_t greylist_network_key(uint64_t secret, const union address_any *peer);

/* greylist_knows is for networks alone, so that the triplet of one that is known need not be made:
 * GREYLIST_KNOWN, _PASSED, or _FIRST (it is not known, and nothing was noted). Any thread. */
enum greylist_verdict greylist_knows(struct greylist *greylist, const struct greylist_rules *rules,
                                     uint64_t network, uint64_t now_s);

/* greylist_ask looks a triplet of a network up at `now_s` (Unix time), and notes it. Any thread. */
enum greylist_verdict greylist_ask(struct greylist *greylist, const struct greylist_rules *rules,
                                   uint64_t triplet, uint64_t network, uint64_t now_s);

/* greylist_learn takes what another gateway knew: when the triplet was first seen, or (first_s 0)
 * that the network has come again. Returns what greylist_ask would have said. A time that can't be
 * (to come, or before the window) is not learnt: GREYLIST_EARLY. */
enum greylist_verdict greylist_learn(struct greylist *greylist, const struct greylist_rules *rules,
                                     uint64_t triplet, uint64_t network, uint64_t first_s,
                                     uint64_t now_s);

#endif
