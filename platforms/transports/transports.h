/* transports.h — the protocols that are built in.
 */
#ifndef NH_TRANSPORTS_TRANSPORTS_H
#define NH_TRANSPORTS_TRANSPORTS_H

#include "runtime/work/transport.h"

extern const nh_transport_ops nh_http_transport;
extern const nh_transport_ops nh_smtp_transport;
extern const nh_transport_ops nh_console_transport;

/* All of them; ends with NULL. */
extern const nh_transport_ops *const nh_transports[];

#endif
