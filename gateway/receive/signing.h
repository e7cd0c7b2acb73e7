/* The DKIM signature of a submitted message while it passes: the body is hashed piece by piece, and
 * when the text is over, the signature is made, by a helper if it is RSA, while the session waits
 * (SESSION_ASK). Owned by the transaction; NULL there for mail that is not signed. */
#ifndef GATEWAY_RECEIVE_SIGNING_H
#define GATEWAY_RECEIVE_SIGNING_H

#include "gateway/receive/fixups.h"

struct signing;

enum { SIGNING_LEN_MAX = DKIM_KEYS_MAX * DKIM_FIELD_MAX };

/* signing_new: once the header section is whole, if its From domain has keys. NULL: nothing to be
 * signed, or (*refusal) no memory. It lies in the transaction's arena; the header of `fixups` is
 * hashed at once, so that its block needs not wait for the body. signing_over tells whether it may
 * be freed now (no helper works on it), as asking_over does. signing_free: NULL is allowed. */
struct signing *signing_new(struct session *session, const struct fixups *fixups,
                            enum reply *refusal) __attribute__((warn_unused_result));
bool signing_over(const struct transaction *transaction) __attribute__((warn_unused_result));
void signing_free(struct signing *signing);

/* signing_body takes the next piece of the body as it is stored. */
void signing_body(struct signing *signing, struct bytes text);

/* signing_text_ended: the text is whole. False: go on: there is nothing to be signed, or the fields
 * are made, or that failed, and the transaction has REPLY_SIGNING_FAILED as its refusal: unsigned
 * it might be refused far away. True: the session waits, and hears session_commit. */
bool signing_text_ended(struct session *session) __attribute__((warn_unused_result));

/* signing_fields writes the DKIM-Signature fields to `out` of SIGNING_LEN_MAX octets, and returns
 * their length; 0: none. */
size_t signing_fields(const struct signing *signing, char *out);

#endif
