/* smtp_realm.h — a CURLM for each combination of TLS options.
 */
#ifndef NH_TRANSPORTS_SMTP_REALM_H
#define NH_TRANSPORTS_SMTP_REALM_H

#include "platforms/transports/multi.h"
#include "platforms/transports/text.h"

/* What connections must have in common to be used for one another. */
typedef struct nh_smtp_trust {
    int security; /* the caller's numbers */
    bool verify;
    nh_span ca_file; /* absent when none */
} nh_smtp_trust;

typedef struct nh_smtp_realm nh_smtp_realm;
typedef struct nh_smtp_realms {
    nh_loop *loop;
    nh_transport_limits limits;
    nh_smtp_realm *first; /* used last */
    size_t count;
} nh_smtp_realms;

/* The CURLM for these options, made when it is new: borrowed, until the next call. NULL with the
 * error written. */
nh_multi *nh_smtp_realms_of(nh_smtp_realms *realms, nh_smtp_trust trust, nh_error *error);
void nh_smtp_realms_close(nh_smtp_realms *realms);

#endif
