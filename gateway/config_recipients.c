/* Recipients from the configuration and from files: see config_recipients.h. */
#include "gateway/config_recipients.h"

#include <errno.h>

#include "gateway/config_file.h"

enum { SHOWN_MAX = 80 /* octets of a bad pattern that are shown */ };

/* Where patterns go. */
struct place {
    struct directory *directory;
    int domain;
};

static void add(void *user, struct bytes pattern, int line, struct config_errors *errors)
{
    const struct place *place = user;
    errno = 0;
    if (directory_add_recipient(place->directory, place->domain, pattern))
        return;
    if (errno == ENOMEM)
        config_error(errors, line, "out of memory");
    else
        config_error(
            errors, line, "recipient \"%.*s\" is none of: a local part, a local part with +*, or *",
            (int)(pattern.len < SHOWN_MAX ? pattern.len : SHOWN_MAX), (const char *)pattern.data);
}

void config_recipients_add(struct directory *directory, int domain,
                           const struct config_value *value, const char *folder,
                           struct config_errors *errors)
{
    struct place place = {directory, domain};
    if (value->text[0] == '@')
        config_file_lines(value, "recipients", folder, add, &place, errors);
    else
        add(&place, bytes_of_string(value->text), value->line, errors);
}
