/* What a submitted message may ask for besides delivery: to be held (FUTURERELEASE, RFC 4865), to
 * be delivered by a time (DELIVERBY, RFC 2852), to go before or after others (MT-PRIORITY, RFC
 * 6710). Other listeners know nothing of it. */
#ifndef GATEWAY_RECEIVE_TERMS_H
#define GATEWAY_RECEIVE_TERMS_H

#include "gateway/receive/submission.h"
#include "gateway/spool/envelope.h"

enum { TERMS_EHLO_MAX = 160 };

/* terms_rules returns what a session may ask for; NULL: nothing of it. */
const struct submission_rules *terms_rules(const struct session *session);

/* terms_ehlo writes the lines of EHLO that offer it, each "250-...", to `out` of TERMS_EHLO_MAX
 * octets, and returns their length. `rules` may be NULL. */
size_t terms_ehlo(const struct submission_rules *rules, uint64_t wall_us, char *out);

/* terms_offered: may a MAIL command say what this one says? Else its parameters are unknown (555),
 * whatever they hold. */
bool terms_offered(const struct submission_rules *rules, const struct command *mail);

/* terms_judge makes terms of what an offered MAIL command asks for, or does not: who says nothing
 * of a priority may have none above the highest, either. REPLY_NONE, or why not. */
enum reply terms_judge(const struct submission_rules *rules, const struct command *mail,
                       uint64_t wall_us, struct envelope_terms *out);

#endif
