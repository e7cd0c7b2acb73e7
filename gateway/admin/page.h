/* The status page, as it stands in page.html, and the policy that its own style and script, and
 * nothing else, may be used. */
#ifndef GATEWAY_ADMIN_PAGE_H
#define GATEWAY_ADMIN_PAGE_H

#include "parser/bytes.h"

enum { PAGE_POLICY_MAX = 512 };

/* page_html is the whole page; constant. */
struct bytes page_html(void);

/* page_policy writes the value of Content-Security-Policy to `out` of PAGE_POLICY_MAX octets. */
void page_policy(char *out);

#endif
