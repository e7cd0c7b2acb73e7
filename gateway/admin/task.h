/* A request on its way to being answered, a step at a time: each step looks at a bounded part of
 * the queue, so an answer of a million lines takes no more memory than one of a few hundred, and
 * other clients have their turns between. */
#ifndef GATEWAY_ADMIN_TASK_H
#define GATEWAY_ADMIN_TASK_H

#include "gateway/admin/inquiry.h"
#include "gateway/admin/orders.h"
#include "gateway/admin/output.h"
#include "gateway/deliver/courier_queue.h"
#include "gateway/spool/reader.h"

enum { TASK_ROWS = 512 /* in one step */ };

/* What all tasks of a thread share. */
struct task_house {
    struct courier *courier;
    struct spool *spool;
    struct orders *orders;       /* NULL: main can't be asked */
    const struct routes *routes; /* may change between steps */
    struct log_port *log;
    struct spool_reader reader; /* quiet, and */
    struct spool_ahead ahead;
    struct courier_row rows[TASK_ROWS];
    struct courier_destination destinations[TASK_ROWS / 4];
    uint8_t marks[COURIER_MARKS_SIZE];
};

struct task;

/* task_new begins to answer a request, which it takes. `text`, which was parsed, and `uid`, whose
 * it is, are for the log. NULL: no memory (the request is freed). */
struct task *task_new(struct inquiry *inquiry, struct bytes text, uint32_t uid)
    __attribute__((warn_unused_result));

/* task_step adds what one step finds to `output`. True: there is more to come. */
bool task_step(struct task *task, struct task_house *house, struct output *output);

/* task_due_us says when the next step makes sense (monotonic): later than now when it waits for the
 * disk. */
uint64_t task_due_us(const struct task *task);

void task_free(struct task *task);

#endif
