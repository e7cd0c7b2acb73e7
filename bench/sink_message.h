/* One message that the sink is being given: its envelope, and what is worth knowing of its text,
 * which is not kept: size, sum of the body, the two fields by which ringmx-load names it. It lives
 * in blocks of its worker from MAIL to the answer. */
#ifndef BENCH_SINK_MESSAGE_H
#define BENCH_SINK_MESSAGE_H

#include "bench/sink_fault.h"
#include "gateway/base/arena.h"
#include "parser/command.h"
#include "parser/scan.h"

enum {
    SINK_PATH_MAX = 2048, /* octets of a path with its parameters */
    SINK_FIELD_MAX = 64,  /* the longest header line that is looked at */
    SINK_ID_MAX = 40,     /* what is kept of the fields */
};

/* A path as the command has it (source route removed), brackets included, parameters behind it. */
struct sink_path {
    uint16_t len;
    char text[];
};

struct sink_recipient {
    struct sink_recipient *next;
    uint8_t fault; /* enum sink_fault: with LMTP the message is not accepted for all alike */
    struct sink_path path;
};

struct sink_message {
    struct arena arena; /* holds the message itself */
    struct sink_path *reverse_path;
    struct sink_recipient *candidate; /* of the RCPT under way */
    struct sink_recipient *recipients;
    struct sink_recipient *recipients_last;
    struct sink_recipient *answered; /* LMTP: the next whose reply is due */
    uint64_t number;                 /* once it is accepted */
    uint32_t recipient_count;
    uint32_t refused_count; /* RCPT commands that were not accepted */
    uint64_t octets;        /* of text, after dot-unstuffing */
    uint32_t sum;           /* CRC-32 of the body so far */
    bool binary, smtputf8;  /* MAIL said so */
    bool chunked;           /* BDAT */
    bool too_big;           /* it will be refused */
    bool in_body;           /* the empty line has passed */
    struct scan scan;
    uint8_t line_len; /* an unfinished header line; at most SINK_FIELD_MAX of it are kept */
    bool line_after_cr;
    uint8_t load_id_len, load_sum_len;
    char line[SINK_FIELD_MAX];
    char load_id[SINK_ID_MAX];
    char load_sum[SINK_ID_MAX];
};

/* sink_message_new begins a message with a MAIL command. NULL: no block to be had, or the path is
 * too long. sink_message_free gives the blocks back; NULL is allowed. */
struct sink_message *sink_message_new(struct blocks *blocks, const struct command *mail)
    __attribute__((warn_unused_result));
void sink_message_free(struct blocks *blocks, struct sink_message *message);

/* sink_message_propose keeps the forward-path of a RCPT command until it is known whether it is
 * accepted; sink_message_accept takes it. False: no room. */
bool sink_message_propose(struct blocks *blocks, struct sink_message *message,
                          const struct command *rcpt) __attribute__((warn_unused_result));
void sink_message_accept(struct sink_message *message);

/* sink_message_data takes text as DATA sends it from the front of `in`, and returns how many
 * octets; the end has been found when message->scan.position is SCAN_ENDED. sink_message_chunk
 * takes all of a piece of a BDAT chunk. */
size_t sink_message_data(struct sink_message *message, struct bytes in);
void sink_message_chunk(struct sink_message *message, struct bytes in);

/* sink_message_torn: it carries X-Load-Sum, and its body has another sum. */
bool sink_message_torn(const struct sink_message *message);

#endif
