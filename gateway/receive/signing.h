/* The DKIM signature of a submitted message while it passes: the body is hashed piece by piece, and
 * when the text is over, the signature is made, by a helper if it is RSA, while the session waits
 * (SESSION_ASK). Owned by the transaction; NULL there for mail that is not signed. */
#ifndef GATEWAY_RECEIVE_SIGNING_H
#define GATEWAY_RECEIVE_SIGNING_H

#include "gateway/receive/fixups.h"

struct signing;

/* signing_new: once the header section is whole, if its From domain has keys. NULL: nothing to be
 * signed, or (*refusal) no memory. signing_over tells whether it may be freed now (no helper works
 * on it), as asking_over does. */
struct signing *signing_new(struct session *session, const struct fixups *fixups,
                            enum reply *refusal);
bool signing_over(struct transaction *transaction) __attribute__((warn_unused_result));
void signing_free(struct signing *signing);

/* signing_body takes the next piece of the body as it is stored. */
void signing_body(struct signing *signing, struct bytes text);

/* signing_text_ended: the text is whole. False: the fields are made (signing_fields), go on. True:
 * the session waits, and hears session_commit. */
bool signing_text_ended(struct session *session) __attribute__((warn_unused_result));

/* signing_fields are the DKIM-Signature fields for envelope.added; empty: it failed, and the
 * message is sent without (the log says so). */
struct bytes signing_fields(const struct signing *signing);

#endif
