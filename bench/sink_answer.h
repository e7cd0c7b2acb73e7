/* The replies at the phases of the conversation: the good one with what follows from it, or what
 * the sink was told to do wrong there. */
#ifndef BENCH_SINK_ANSWER_H
#define BENCH_SINK_ANSWER_H

#include "bench/sink_session.h"

/* sink_answer replies at a phase, at once or, where a delay was asked for, when that is over. The
 * caller has checked that the good reply is due. */
void sink_answer(struct sink_session *session, enum sink_phase phase);

/* sink_answer_now does so without a further delay. */
void sink_answer_now(struct sink_session *session, enum sink_phase phase);

/* sink_answer_recipients goes on with LMTP's replies to a message, as far as there is room. */
void sink_answer_recipients(struct sink_session *session);

#endif
