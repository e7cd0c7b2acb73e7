/* Passwords that were right a short while ago, so that a client that logs in for each message does
 * not cost a hash each time. Keeps 64 bits of an HMAC under a key of this process for each: nobody
 * can compute them, and no password can be had from them. Shared by all workers; atomic words. */
#ifndef GATEWAY_POLICY_LOGIN_CACHE_H
#define GATEWAY_POLICY_LOGIN_CACHE_H

#include "parser/bytes.h"

struct login_cache;

struct login_cache *login_cache_new(uint32_t cells) __attribute__((warn_unused_result));
void login_cache_free(struct login_cache *cache);

/* login_cache_octets tells what a table of so many cells takes. */
uint64_t login_cache_octets(uint32_t cells);

/* login_cache_key digests a user, a password, and `proof`: what the password was compared with (the
 * stored hash; for another backend a constant), so that a changed password is another key. Never 0.
 */
uint64_t login_cache_key(const struct login_cache *cache, struct bytes user, struct bytes password,
                         struct bytes proof);

bool login_cache_has(const struct login_cache *cache, uint64_t key, uint64_t now_s);
void login_cache_put(struct login_cache *cache, uint64_t key, uint64_t until_s);

#endif
