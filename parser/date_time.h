/* The date-time of RFC 3339, as parameters of commands have it. Pure. */
#ifndef PARSER_DATE_TIME_H
#define PARSER_DATE_TIME_H

#include "parser/bytes.h"

/* date_time_read reads a date-time (RFC 3339 5.6), all of `text`: "2026-11-29T12:00:00Z", with a
 * fraction or an offset; "T" and "Z" in any case. Sets *seconds since 1970, a
 * part of one counted as a whole. False: it is none, or before 1970. A leap second counts as the
 * one after it. */
bool date_time_read(struct bytes text, uint64_t *seconds) __attribute__((warn_unused_result));

#endif
