/* The commands that the sink understands. */
#ifndef BENCH_SINK_VERBS_H
#define BENCH_SINK_VERBS_H

#include "bench/sink_session.h"

/* sink_verbs_run carries out a command line, given without its CR LF. `more_behind`: octets came
 * together with it, behind it. */
void sink_verbs_run(struct sink_session *session, struct bytes line, bool more_behind);

/* sink_verbs_chunk_end answers a BDAT chunk whose octets have all come. */
void sink_verbs_chunk_end(struct sink_session *session);

#endif
