/* Questions that wait: see patience.h. Patience is the same for nearly all, so the list is in order
 * as they come. */
#include "gateway/deliver/patience.h"

#include "gateway/base/check.h"

#include <stdio.h>

static struct hop_question *question_of(struct list_node *node)
{
    return list_entry(node, struct hop_question, node);
}

void patience_init(struct patience *patience)
{
    list_init(&patience->waiting);
    patience->look_us = 0;
}

void patience_add(struct patience *patience, struct hop_question *question, uint64_t now_us)
{
    struct list_node *after = patience->waiting.head.previous;
    CHECK(!list_linked(&question->node));
    question->due_us = now_us + question->patience_us;
    if (list_empty(&patience->waiting))
        patience->look_us = now_us + PATIENCE_LOOK_US;
    /* A reload may have made patience shorter: then there are some to pass by. */
    while (after != &patience->waiting.head && question_of(after)->due_us > question->due_us)
        after = after->previous;
    question->node.previous = after;
    question->node.next = after->next;
    after->next->previous = &question->node;
    after->next = &question->node;
}

void patience_remove(struct hop_question *question)
{
    list_remove(&question->node);
}

struct hop_question *patience_expired(struct patience *patience, uint64_t now_us)
{
    struct list_node *node = list_first(&patience->waiting);
    if (node == NULL)
        return NULL;
    if (question_of(node)->due_us <= now_us) {
        list_remove(node);
        return question_of(node);
    }
    if (patience->look_us > now_us)
        return NULL;
    for (; node != &patience->waiting.head; node = node->next) { /* as many as clients wait */
        if (atomic_load_explicit(&question_of(node)->abandoned, memory_order_relaxed)) {
            list_remove(node);
            return question_of(node);
        }
    }
    patience->look_us = now_us + PATIENCE_LOOK_US;
    return NULL;
}

uint64_t patience_next_us(const struct patience *patience)
{
    struct list_node *node = list_first(&patience->waiting);
    if (node == NULL)
        return UINT64_MAX;
    uint64_t due_us = question_of(node)->due_us;
    return due_us < patience->look_us ? due_us : patience->look_us;
}

enum hop_answer patience_answer(const struct verdict *verdict)
{
    if (verdict->kind == VERDICT_ACCEPTED || verdict->kind == VERDICT_DELIVERED)
        return HOP_ACCEPTED;
    if (verdict->kind == VERDICT_REFUSED)
        return HOP_REFUSED;
    bool passes = verdict->code >= 400 && verdict->code != 421;
    return verdict->kind == VERDICT_DEFERRED && passes ? HOP_DEFERRED : HOP_UNREACHABLE;
}

void patience_judge(struct hop_question *question, const struct verdict *verdict)
{
    question->answer = patience_answer(verdict);
    question->code = verdict->code;
    question->status_class = verdict->status.class;
    question->status_subject = verdict->status.subject;
    question->status_detail = verdict->status.detail;
    if (question->answer == HOP_DEFERRED && verdict->code >= 500) {
        question->code = 452; /* RFC 5321 4.5.3.1.10: 552 that means too many recipients */
        question->status_class = 4;
        question->status_subject = 5;
        question->status_detail = 3;
    }
    snprintf(question->text, sizeof(question->text), "%s", verdict->text);
}

bool patience_concerns_mailbox(const struct verdict *verdict)
{
    unsigned code = verdict->code;
    return patience_answer(verdict) != HOP_REFUSED || (code >= 550 && code <= 554) || code == 556;
}

void patience_give_up(struct hop_question *question)
{
    patience_remove(question);
    question->answer = HOP_UNREACHABLE;
    question->code = 0;
    question->status_class = 0;
    question->text[0] = '\0';
    question->passage = NULL;
    hop_return(question);
}
