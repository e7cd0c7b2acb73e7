/* The log lines about deliveries: one for each recipient and event; docs/delivery.md, "Log lines",
 * has their keys. */
#ifndef GATEWAY_DELIVER_OUTCOME_LOG_H
#define GATEWAY_DELIVER_OUTCOME_LOG_H

#include "gateway/base/log.h"
#include "gateway/deliver/delivery.h"
#include "gateway/policy/hop.h"

/* A message that nobody has read. */
void outcome_log_discarded(struct log_port *log, uint64_t message_id, uint32_t recipient_count,
                           uint64_t took_ms);

/* `delivery` and `verdict` may be NULL: no next hop was concerned. */
void outcome_log_delivered(struct log_port *log, uint64_t message_id, struct bytes mailbox,
                           const char *target, uint64_t took_ms, const struct delivery *delivery,
                           const struct verdict *verdict);

struct outcome_failure {
    uint64_t message_id;
    const struct delivery_recipient *recipient; /* with its verdict: REFUSED or DEFERRED */
    const char *target, *peer;                  /* peer "": none was asked */
    uint32_t attempts;                          /* this one included */
    uint64_t delay_us;                          /* until the next one; UINT64_MAX: there is none */
    bool held;                                  /* then it is held, not given up */
    bool nobody;                                /* could be told: the reverse-path is empty */
};

/* refused, deferred, expired or held: what it is follows from the verdict and the plan. */
void outcome_log_failed(struct log_port *log, const struct outcome_failure *failure);

/* The spool can't give the message; delay_us UINT64_MAX: it is held. */
void outcome_log_unreadable(struct log_port *log, uint64_t message_id, const char *error,
                            uint32_t attempts, uint64_t delay_us);

/* What the next hop said of a recipient while the client waited, or that it said nothing. */
void outcome_log_passed(struct log_port *log, uint64_t session_id, const struct delivery *delivery,
                        const struct delivery_recipient *recipient, enum hop_answer answer);

/* The text had left, and nobody knows whether it was taken (RFC 1047). */
void outcome_log_doubt(struct log_port *log, uint64_t session_id, const struct delivery *delivery);

/* By the operator. */
void outcome_log_removed(struct log_port *log, uint64_t message_id, struct bytes mailbox);

#endif
