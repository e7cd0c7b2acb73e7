/* Questions of clients that wait (policy/hop.h): until when each must have an answer, who has given
 * up, and what a next hop's verdict means as an answer. What passages and callaheads have in
 * common. */
#ifndef GATEWAY_DELIVER_PATIENCE_H
#define GATEWAY_DELIVER_PATIENCE_H

#include "gateway/deliver/delivery.h"
#include "gateway/policy/hop.h"

enum { PATIENCE_LOOK_US = 100000 /* abandoned questions are looked for so often */ };

struct patience {
    struct list waiting; /* questions, by due_us */
    uint64_t look_us;    /* when abandoned ones are looked for next */
};

void patience_init(struct patience *patience);

/* patience_add lets a question wait; patience_remove takes it out again before it is answered. */
void patience_add(struct patience *patience, struct hop_question *question, uint64_t now_us);
void patience_remove(struct hop_question *question);

/* patience_expired takes one out that must be answered now, or returns NULL. Call it until it
 * returns NULL. */
struct hop_question *patience_expired(struct patience *patience, uint64_t now_us);

/* patience_next_us returns when patience_expired is to be called next; UINT64_MAX: nobody waits. */
uint64_t patience_next_us(const struct patience *patience);

/* patience_answer says what a verdict is as an answer: 2xx, 4xx and 5xx of the next hop; all else
 * (no reply, 421, which is the end of a connection) is HOP_UNREACHABLE, unless it is REFUSED by our
 * own lights. patience_judge writes it with code, status and text. The question stays where it is.
 */
enum hop_answer patience_answer(const struct verdict *verdict);
void patience_judge(struct hop_question *question, const struct verdict *verdict);

/* patience_concerns_mailbox tells of a reply to RCPT whether it is about the mailbox. Of 5xx these
 * are 550 to 554 (RFC 5321 4.2.2) and 556 (RFC 7504); others (503, 530, ...) are between us and the
 * next hop. */
bool patience_concerns_mailbox(const struct verdict *verdict);

/* patience_give_up answers and returns a question: HOP_UNREACHABLE, and no passage any more. */
void patience_give_up(struct hop_question *question);

#endif
