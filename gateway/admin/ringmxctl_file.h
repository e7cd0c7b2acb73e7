/* The users file as `ringmxctl user` changes it: all other lines stay as they are, octet for octet,
 * and who reads it meanwhile sees the old file or the new one. */
#ifndef GATEWAY_ADMIN_RINGMXCTL_FILE_H
#define GATEWAY_ADMIN_RINGMXCTL_FILE_H

#include "parser/bytes.h"

struct user_file;

/* user_file_open reads a file, and keeps others that want to change one in this folder waiting
 * until user_file_close. `make`: if there is none, it is as if it were empty. Returns 0, or an
 * errno. */
int user_file_open(const char *path, bool make, struct user_file **out)
    __attribute__((warn_unused_result));
void user_file_close(struct user_file *file);

/* user_file_has looks for a name, in any case of ASCII letters, user_file_locked tells whether that
 * user is locked out. user_file_each shows all. */
bool user_file_has(const struct user_file *file, struct bytes name);
bool user_file_locked(const struct user_file *file, struct bytes name);
void user_file_each(const struct user_file *file,
                    void (*show)(void *user, struct bytes name, struct bytes stored), void *user);

/* user_file_set writes the file with another password for a user, who is added if there is none,
 * and stays locked; an empty password takes the user out. Mode and owner stay; a new file is for
 * its owner alone, and for the group of a folder that only this group may read. Returns 0, or an
 * errno: then all is as before. */
int user_file_set(struct user_file *file, struct bytes name, struct bytes stored)
    __attribute__((warn_unused_result));

#endif
