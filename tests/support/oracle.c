/* Answers by the octets: see oracle.h. A passage is a piece of memory, so that the sanitizer sees
 * one that is used after its end, or never ended. */
#include "tests/support/oracle.h"

#include "gateway/base/check.h"

#include <stdio.h>
#include <stdlib.h>

static void add_domain(struct directory *directory, const char *name, const char *recipient,
                       uint32_t flags)
{
    int index = directory_add_domain(directory, bytes_of_string(name));
    CHECK(index >= 0 && directory_add_recipient(directory, index, bytes_of_string(recipient)));
    directory_set_flags(directory, index, flags);
}

struct directory *oracle_directory(void)
{
    struct directory *directory = directory_new();
    add_domain(directory, "example.org", "alice", 0);
    CHECK(directory_add_recipient(directory, 0, BYTES("b+*")));
    add_domain(directory, "x.org", "*", 0);
    add_domain(directory, "t.org", "*", DIRECTORY_THROUGH);
    add_domain(directory, "c.org", "*", DIRECTORY_CALLAHEAD);
    return directory;
}

static const uint32_t waits[] = {0, 3, 10, ORACLE_PATIENCE};

/* The octet that decides. */
static uint8_t omen(const struct hop_question *question)
{
    if (question->ask == HOP_END)
        return 0;
    if (question->ask != HOP_TEXT)
        return question->forward_path.len > 0 ? question->forward_path.data[0] : 0;
    return question->piece_count > 0 ? question->pieces[0].data[0] : 1;
}

static void check_text(const struct hop_question *question)
{
    size_t size = question->head.len;
    for (uint32_t i = 0; i < question->piece_count; i++)
        size += question->pieces[i].len;
    CHECK(question->head.len > 2 && size == question->size);
    CHECK(question->head.data[question->head.len - 1] == '\n');
}

void oracle_ask(void *user, struct hop_question *question)
{
    struct oracle *oracle = user;
    CHECK(oracle->out_count < ORACLE_OUT_MAX);
    CHECK(question->ask == HOP_RECIPIENT ||
          (question->passage == NULL) == (question->ask == HOP_CALLAHEAD));
    if (question->ask == HOP_TEXT)
        check_text(question);
    oracle->turns[oracle->out_count] = waits[omen(question) >> 2 & 3];
    oracle->out[oracle->out_count++] = question;
}

static void judge(struct hop_question *question)
{
    static const uint16_t codes[] = {
        [HOP_ACCEPTED] = 250, [HOP_DEFERRED] = 450, [HOP_REFUSED] = 550, [HOP_UNREACHABLE] = 0};
    enum hop_answer answer = (enum hop_answer)(omen(question) & 3);
    if (atomic_load(&question->abandoned) || (omen(question) >> 2 & 3) == 3)
        answer = HOP_UNREACHABLE;
    if (question->ask == HOP_END)
        answer = HOP_ACCEPTED;
    question->answer = answer;
    question->code = codes[answer];
    question->status_class = answer == HOP_ACCEPTED ? 2 : 5; /* which may not fit */
    question->status_subject = question->status_detail = 0;
    question->dsn = omen(question) & 1 << 4;
    question->passed = true;
    for (uint32_t i = 0; i < HOP_RECIPIENTS_MAX; i++)
        question->outcomes[i] = i % 2 ? HOP_DEFERRED : HOP_ACCEPTED;
    question->mixed = question->ask == HOP_TEXT && (omen(question) & 1 << 5);
    /* A message that is passed is known by the words that one in the spool has. */
    snprintf(question->text, sizeof(question->text), "%s\001\xff",
             question->ask == HOP_TEXT ? "Ok: queued as " : "Said ");
}

/* look_after_passage opens one, keeps it, or ends it, as the answer wants. */
static void look_after_passage(struct oracle *oracle, struct hop_question *question)
{
    bool stays = question->ask == HOP_RECIPIENT && question->answer != HOP_UNREACHABLE;
    if (question->ask == HOP_CALLAHEAD)
        return;
    if (stays && question->passage == NULL) {
        question->passage = malloc(1);
        CHECK(question->passage != NULL);
        oracle->open_count++;
    } else if (!stays && question->passage != NULL) {
        free(question->passage);
        question->passage = NULL;
        oracle->open_count--;
    }
}

void oracle_turn(struct oracle *oracle)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < oracle->out_count; i++) {
        struct hop_question *question = oracle->out[i];
        if (oracle->turns[i] > 0 && !atomic_load(&question->abandoned)) {
            oracle->turns[left] = oracle->turns[i] - 1;
            oracle->out[left++] = question;
            continue;
        }
        judge(question);
        look_after_passage(oracle, question);
        hop_return(question);
    }
    oracle->out_count = left;
}

bool oracle_at_rest(const struct oracle *oracle)
{
    return oracle->out_count == 0 && oracle->open_count == 0;
}
