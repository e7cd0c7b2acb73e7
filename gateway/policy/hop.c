/* A question on its way back: see hop.h. */
#include "gateway/policy/hop.h"

#include "gateway/base/check.h"

static void came_back(struct post *post, struct worker *worker)
{
    struct hop_question *question = (struct hop_question *)(void *)post;
    CHECK(question->asker == worker);
    question->answered(question);
}

void hop_return(struct hop_question *question)
{
    CHECK(!list_linked(&question->node));
    question->post.arrived = came_back;
    post_send(question->asker, &question->post);
}
