/* The scene of passage_test and passage_odd_test: one client's questions, and what the next hop
 * says.
 */
#ifndef TESTS_UNIT_PASSAGE_SCENE_H
#define TESTS_UNIT_PASSAGE_SCENE_H

#include "tests/unit/next_hop.h"

#include "gateway/deliver/passage.c"
#include "gateway/deliver/patience.c"

#define SECOND UINT64_C(1000000)

static struct passages *passages;
static struct routes *table;
static uint64_t now_us;

static inline int set_up(void **state)
{
    (void)state;
    memset(&next_hop, 0, sizeof(next_hop));
    now_us = 1000 * SECOND;
    table = next_hop_routes();
    passages = passages_new(&(struct passages_options){.routes = table, .log = next_hop_log()});
    return passages == NULL;
}

static inline int tear_down(void **state)
{
    (void)state;
    assert_true(passages_at_rest(passages));
    assert_int_equal(passages->counters.open, 0);
    assert_true(list_empty(&passages->resting));
    passages_free(passages);
    routes_free(table);
    return 0;
}

static inline struct hop_question question_for(const char *mailbox)
{
    return (struct hop_question){
        .ask = HOP_RECIPIENT,
        .reverse_path = BYTES("sender@example.com"),
        .forward_path = bytes_of_string(mailbox),
        .patience_us = 5 * SECOND,
        .message_id = 77,
    };
}

static inline void ask(struct hop_question *question)
{
    passages_ask(passages, question, now_us);
}

/* heard says that this many questions have come back by now, the last of them with this answer. */
static inline void heard(uint32_t returned, enum hop_answer answer)
{
    assert_int_equal(next_hop.returned_count, returned);
    assert_int_equal(next_hop.returned[returned - 1]->answer, answer);
}

/* begin asks about a recipient that is accepted. */
static inline struct delivery *begin(struct hop_question *question, const char *mailbox)
{
    *question = question_for(mailbox);
    uint32_t returned = next_hop.returned_count;
    ask(question);
    struct delivery *delivery = next_hop.given[next_hop.given_count - 1];
    next_hop_connect(delivery);
    next_hop_answer(delivery, 0, 250, "fine");
    heard(returned + 1, HOP_ACCEPTED);
    assert_non_null(question->passage);
    return delivery;
}

static inline void another(struct hop_question *question, const char *mailbox)
{
    struct hop_passage *passage = question->passage;
    *question = question_for(mailbox);
    question->passage = passage;
    ask(question);
}

static inline void send_text(struct hop_question *question, const struct bytes *pieces,
                             uint32_t count)
{
    struct hop_passage *passage = question->passage;
    *question = question_for("");
    question->ask = HOP_TEXT;
    question->passage = passage;
    question->head = BYTES("Received: x\r\n");
    question->pieces = pieces;
    question->piece_count = count;
    question->size = question->head.len;
    for (uint32_t i = 0; i < count; i++)
        question->size += pieces[i].len;
    ask(question);
}

static inline void end(struct hop_question *question)
{
    uint32_t returned = next_hop.returned_count;
    question->ask = HOP_END;
    ask(question);
    heard(returned + 1, HOP_ACCEPTED);
    assert_null(question->passage);
}

static const struct bytes two_pieces[] = {
    {(const uint8_t *)"one ",    4},
    {(const uint8_t *)"two\r\n", 5}
};

#endif
