/* address.h — which addresses a guarded request may connect to: the defence against requests that
 * others have us make to places only we can reach (SSRF).
 */
#ifndef NH_TRANSPORTS_ADDRESS_H
#define NH_TRANSPORTS_ADDRESS_H

#include <sys/socket.h>

#include "runtime/notifyhub.h"

#define NH_GUARD_RULES 64 /* most entries of an allow-list */

typedef struct nh_guard nh_guard;

/* Makes the guard of a request from its allow-list: an array (NULL: empty) of `10.0.0.0/8`,
 * `10.1.2.3:8080`, `fd00::/8`, `[fd00::]/8`, `[fd00::1]:443`, `10.0.0.0/8:443`. Names are not
 * allowed: they mean what somebody's DNS says. `proxied`: what is connected to is a proxy, which
 * resolves the target itself, out of our sight; so only an address that the list names may be one.
 * Errors: NH_E_INVALID naming the entry, NH_E_INTERNAL. */
nh_err nh_guard_create(const nh_value *allow, bool proxied, nh_guard **out, nh_error *error);
void nh_guard_destroy(nh_guard *guard); /* NULL is allowed */

/* NULL when the address may be connected to; else the rule it breaks, in words ("a loopback
 * address"): static, for an error's text. What is no IP address is refused. Thread: any. */
const char *nh_guard_refuses(const nh_guard *guard, const struct sockaddr *address);
/* The same for an address as text and a port, as libcurl tells those of a connection. */
const char *nh_guard_refuses_text(const nh_guard *guard, const char *address, int port);

#endif
