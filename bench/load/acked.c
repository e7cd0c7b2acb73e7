/* See acked.h. */
#include "bench/load/acked.h"

#include <errno.h>
#include <unistd.h>

void acked_flush(struct acked *acked)
{
    for (size_t at = 0; at < acked->len && acked->error == 0;) {
        ssize_t wrote = write(acked->descriptor, acked->lines + at, acked->len - at);
        if (wrote > 0)
            at += (size_t)wrote;
        else if (wrote == 0 || errno != EINTR)
            acked->error = wrote == 0 ? -EIO : -errno;
    }
    acked->len = 0;
}

void acked_add(struct acked *acked, const struct mail *mail, const struct mail_draft *draft,
               uint32_t recipients)
{
    if (acked->descriptor < 0)
        return;
    if (acked->len + MAIL_ACKED_MAX > ACKED_SIZE)
        acked_flush(acked);
    acked->len += mail_acked(mail, draft, recipients, acked->lines + acked->len);
}
