/* The parameters of MAIL and RCPT: RFC 5321 4.1.2 esmtp-param, SIZE (RFC 1870), BODY (RFC 6152,
 * 3030), SMTPUTF8 (RFC 6531), RET, ENVID, NOTIFY, ORCPT (RFC 3461, 6533), AUTH (RFC 4954 5),
 * REQUIRETLS (RFC 8689). Part of command, for it alone. */
#ifndef PARSER_COMMAND_PARAMETERS_H
#define PARSER_COMMAND_PARAMETERS_H

#include "parser/bytes.h"
#include "parser/command.h"

/* command_parameters reads `text`, all that follows the path of the MAIL or RCPT command that
 * out->verb names, without white space at its end: nothing, or parameters with one or more spaces
 * before each. It stops at the first that is wrong. Borrows: what it sets in `out` points into
 * `text`. */
enum command_result command_parameters(struct bytes text, struct command *out)
    __attribute__((warn_unused_result));

/* command_number reads 1*20DIGIT, all of `text` (RFC 1870 5), and saturates at UINT64_MAX. False
 * for anything else. */
bool command_number(struct bytes text, uint64_t *value) __attribute__((warn_unused_result));

#endif
