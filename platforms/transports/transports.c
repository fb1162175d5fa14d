/* The table through which the core finds protocols by name. A new one is a file here and a line
 * below.
 */
#include "platforms/transports/transports.h"

const nh_transport_ops *const nh_transports[] = {
    &nh_http_transport,
    &nh_smtp_transport,
    &nh_console_transport,
    NULL,
};
