/* The name of a recipient's Maildir: a template of the configuration filled with the recipient's
 * domain and user. PURE. What the network sends can become part of a file name here and nowhere
 * else, so this is where it is made harmless. */
#ifndef GATEWAY_DELIVER_FOLDER_H
#define GATEWAY_DELIVER_FOLDER_H

#include "parser/bytes.h"

enum {
    FOLDER_PATH_MAX = 2048, /* octets of a whole path, final NUL included */
    FOLDER_NAME_MAX = 255,  /* octets of one component: what Linux file systems take */
};

struct folder {
    uint32_t len;
    uint32_t prefix_len; /* the part before the first component that has a variable: the
                            administrator's, trusted */
    char path[FOLDER_PATH_MAX];
};

/* folder_template_error returns what is wrong with a template (constant), or NULL. Legal: %d the
 * domain, %u the user, %% a percent sign, and no "." or ".." component from the first variable on.
 */
const char *folder_template_error(const char *template);

/* folder_make fills a legal template. `domain` is in lower case. %u is the local part of `mailbox`
 * without its quotes (RFC 5321 4.1.2), in lower case, and without "+tag" (where something is left
 * before the plus sign). In both, an octet outside [a-z0-9._+=@-] and a dot at the beginning become
 * %XX, and an empty user becomes "%empty"; so two users never share a name, and no value is "..",
 * holds a slash, or hides. 0, or -ENAMETOOLONG. */
int folder_make(struct folder *folder, const char *template, struct bytes domain,
                struct bytes mailbox) __attribute__((warn_unused_result));

#endif
