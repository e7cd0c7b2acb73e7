/* Delivery status notifications (RFC 3464, in a multipart/report of RFC 3462 and 6522; asked for as
 * RFC 3461 says): the composing. Text goes out piece by piece, so that the original may have any
 * size. Putting them into the spool is deliver/notify's. */
#ifndef GATEWAY_DELIVER_BOUNCE_H
#define GATEWAY_DELIVER_BOUNCE_H

#include "gateway/deliver/delivery.h"
#include "gateway/spool/envelope.h"

enum bounce_action {
    BOUNCE_FAILED = 0,
    BOUNCE_DELAYED = 1,
    BOUNCE_RELAYED = 2,    /* to a server without DSN; only for NOTIFY=SUCCESS */
    BOUNCE_DELIVERED = 3,  /* into a Maildir; only for NOTIFY=SUCCESS */
    BOUNCE_RELAYED_BY = 4, /* with DELIVERBY, to a server that does not know it, or in trace mode;
                              unless NOTIFY=NEVER (RFC 2852 4) */
};

struct bounce_recipient {
    struct bytes forward_path, orcpt;
    const struct verdict *verdict;
    const char *peer; /* Remote-MTA; "": none was asked */
};

struct bounce {
    enum bounce_action action;
    const struct envelope *envelope; /* of the original */
    const struct bounce_recipient *recipients;
    uint32_t recipient_count;
    const char *hostname;    /* ours: Reporting-MTA, From: MAILER-DAEMON@hostname */
    const char *id;          /* of the notification, for Message-ID and boundary */
    uint64_t now_us;         /* wall */
    uint64_t retry_until_us; /* DELAYED: wall time of the end of the lifetime */
    uint32_t original_max;   /* of the original with RET=FULL at most this many octets; more, and
                                only its header goes back (RFC 3461 4.3) */
};

/* bounce_wanted says whether a recipient with these NOTIFY bits (0: none given) is to be told about
 * (RFC 3461 4.1, 5.2), in a message from `reverse_path`: never when that is <>. */
bool bounce_wanted(enum bounce_action action, uint8_t notify, struct bytes reverse_path);

/* bounce_same_verdict: would the same be said of both? */
bool bounce_same_verdict(const struct verdict *a, const struct verdict *b);

/* bounce_write calls `out` with the notification piece by piece: header, the part for people, the
 * machine's part (message/delivery-status, or message/global-delivery-status of RFC 6533 when an
 * address is not ASCII), and the original (message/rfc822) or its header (text/rfc822-headers),
 * which `text` gives, behind what was added to it. Only the header, too, when MIME has no way for
 * the whole (a line of more than 998 octets, a bare CR or LF, a NUL). `text` NULL: the original
 * can't be read, and nothing of it goes back; nor does anything of one with REQUIRETLS (RFC 8689
 * 5). Lines of at most 998 octets, 7 bit but for a whole original and for addresses in UTF-8
 * (Content-Transfer-Encoding says so); what a next hop or a sender wrote can't add header fields or
 * lines. 0; what `out` or `text` returned if that was not 0. */
int bounce_write(const struct bounce *bounce, const struct delivery_text *text,
                 int (*out)(void *user, struct bytes piece), void *user)
    __attribute__((warn_unused_result));

#endif
