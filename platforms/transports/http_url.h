/* http_url.h — a URL taken apart, as far as it can be without a library.
 */
#ifndef NH_TRANSPORTS_HTTP_URL_H
#define NH_TRANSPORTS_HTTP_URL_H

#include <netinet/in.h>

#include "platforms/transports/text.h"

typedef struct nh_http_url {
    bool tls;
    nh_span host;
    nh_span port; /* digits; absent: the scheme's own */
    nh_span path; /* with the query; may be empty or begin with `?` */
} nh_http_url;

/* Takes a plain URL apart: spans of it. False for one that is not plain: with a user, a fragment,
 * an IPv6 address, capitals in the host, dots to be resolved, or bytes that a cleaner would change.
 * Such a URL may be good; libcurl knows what to make of it. */
bool nh_http_url_split(nh_span url, nh_http_url *out);

/* The address that its host is. False, and `out` untouched, for a name. */
bool nh_http_url_address(const nh_http_url *url, struct sockaddr_in *out);

/* Host and port, for people. User, path and query are left out: tokens sit there. */
nh_span nh_http_url_authority(nh_span url);

bool nh_http_url_has_scheme(nh_span url, const char *scheme); /* "http://" */

#endif
