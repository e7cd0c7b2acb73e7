/* `ringmxctl user`: who may log in, by the users file. Works without a running gateway, which reads
 * the file at its start and at each reload. docs/submission.md. */
#ifndef GATEWAY_ADMIN_RINGMXCTL_USER_H
#define GATEWAY_ADMIN_RINGMXCTL_USER_H

/* user_command does what the command line from "user" on says, and returns the exit code. */
int user_command(int count, char **values);

#endif
