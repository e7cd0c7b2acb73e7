/* The Sender Rewriting Scheme: a forwarder says MAIL FROM with an address of its own, so that SPF
 * passes at the next hop, and finds the way back when that is answered. SRS0 and SRS1 as postsrsd
 * and libsrs2 write them (HMAC-SHA1 in base64, cut; a timestamp of days in base32), so that both
 * can read ours, and we theirs. PURE but for the secrets. Immutable once built. */
#ifndef GATEWAY_POLICY_SRS_H
#define GATEWAY_POLICY_SRS_H

#include "gateway/policy/budget.h"
#include "parser/address.h"

struct srs;

enum { SRS_SECRETS_MAX = 8, SRS_LEN_MAX = 512, SRS_HASH_SAFE = 12 };

struct srs_options {
    struct bytes domain;         /* of the addresses that we make; copied */
    const struct bytes *secrets; /* copied; the first is used for making, all for reading; 1..8 */
    uint32_t secret_count;
    uint32_t max_age_days; /* of an address that comes back; 0: 21 */
    uint32_t hash_length;  /* characters of the hash, made and at least read; 0: 4 */
    char separator;        /* '=', '+' or '-'; 0: '=' */
    /* Of wrong hashes, borrowed, outlives all; NULL: any number. It is not needed, and not touched,
     * when hashes are too long to be guessed (SRS_HASH_SAFE). */
    struct budget *failures;
};

struct srs *srs_new(const struct srs_options *options) __attribute__((warn_unused_result));
void srs_free(struct srs *srs); /* wipes the secrets */

enum srs_result {
    SRS_OK = 0,
    SRS_NOT_OURS = 1, /* no SRS address, or not of our domain */
    SRS_FORGED = 2,   /* the hash is wrong */
    SRS_EXPIRED = 3,
    SRS_TOO_LONG = 4, /* the result would not be a valid mailbox: keep the address as it is */
    SRS_LATER = 5,    /* too many were forged of late: not even looked at */
};

/* srs_forward writes the reverse-path under which mail from `mailbox` is forwarded (SRS0, or SRS1
 * for an SRS address of another forwarder) to `out` of SRS_LEN_MAX octets. `now_s`: Unix time. The
 * empty reverse-path, one in our own domain, and one whose domain is no name with a dot (a literal,
 * "localhost"), stay as they are (SRS_NOT_OURS: nothing was written). */
enum srs_result srs_forward(const struct srs *srs, struct bytes mailbox, uint64_t now_s, char *out,
                            size_t *len);

/* srs_reverse reads an address that srs_forward made (local part in any case, quoted or not), and
 * writes whom it stands for. */
enum srs_result srs_reverse(const struct srs *srs, const struct address *address, uint64_t now_s,
                            char *out, size_t *len);

/* srs_is_ours: is this domain the one of our SRS addresses? */
bool srs_is_ours(const struct srs *srs, struct bytes domain);

#endif
