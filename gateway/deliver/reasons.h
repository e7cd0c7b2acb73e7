/* Why deliveries failed, each text kept once: a million messages may wait for one reason, and each
 * has room for a number only. The courier's thread. */
#ifndef GATEWAY_DELIVER_REASONS_H
#define GATEWAY_DELIVER_REASONS_H

#include <stdbool.h>
#include <stdint.h>

enum { REASONS_MAX = 4096, REASON_TEXT_MAX = 200, REASON_NONE = 0, REASON_OTHER = 1 };

struct reasons;

struct reasons *reasons_new(void) __attribute__((warn_unused_result));
void reasons_free(struct reasons *reasons);

/* reasons_note returns the number of a text (cut at REASON_TEXT_MAX; what is not printable becomes
 * "?"), new or known; REASON_OTHER when the table is full. One reference more; reasons_drop gives
 * one back, and a number whose last is gone may come to mean another text. */
uint16_t reasons_note(struct reasons *reasons, const char *text);
void reasons_drop(struct reasons *reasons, uint16_t reason);

/* reasons_text returns the text; constant while it is referred to. "" for REASON_NONE. */
const char *reasons_text(const struct reasons *reasons, uint16_t reason);

/* reasons_count returns how many refer to it now. */
uint32_t reasons_count(const struct reasons *reasons, uint16_t reason);

#endif
