/* `ringmxctl dkim`: makes keys that sign mail, and says what DNS must have. Works without a running
 * gateway, which reads the keys at its start and at each reload. docs/submission.md. */
#ifndef GATEWAY_ADMIN_RINGMXCTL_DKIM_H
#define GATEWAY_ADMIN_RINGMXCTL_DKIM_H

/* dkim_command does what the command line from "dkim" on says, and returns the exit code. */
int dkim_command(int count, char **values);

#endif
