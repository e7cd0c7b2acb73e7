/* The words of Dovecot's lines, which tabs divide. Pure; works in the line itself. */
#ifndef GATEWAY_IO_DOVECOT_WORDS_H
#define GATEWAY_IO_DOVECOT_WORDS_H

#include "gateway/io/dovecot.h"

/* dovecot_word cuts off the word before the next tab; NULL: there is none. */
char *dovecot_word(char **rest);

/* dovecot_number reads a whole word as a number. */
bool dovecot_number(const char *text, uint32_t *out) __attribute__((warn_unused_result));

/* dovecot_read takes apart what follows the number of OK, FAIL or CONT. Words of later versions are
 * skipped. The answer points into the line. False: it makes no sense. */
bool dovecot_read(const char *verb, char *rest, struct dovecot_answer *answer)
    __attribute__((warn_unused_result));

#endif
