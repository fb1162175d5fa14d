/* libcurl does not compare TLS options when it reuses a connection of the smtp scheme: a mail that
 * wants STARTTLS with a verified certificate could go over a plain connection to the same port. So
 * each combination of them (a realm) has a CURLM of its own. There are few; when there are many,
 * the one that was used least recently of those that are idle is closed. Thread: the worker's. A
 * look-up costs a walk over at most REALMS_MAX of them, most often one.
 */
#include "platforms/transports/smtp_realm.h"

#include <stdlib.h>
#include <string.h>

#include "platforms/transports/fields.h"

enum { REALMS_MAX = 32 };

struct nh_smtp_realm {
    nh_smtp_realm *next;
    nh_multi *multi;
    int security;
    bool verify;
    char ca_file[]; /* "" when none */
};

static bool fits(const nh_smtp_realm *realm, nh_smtp_trust trust) {
    nh_span file = trust.ca_file;
    return realm->security == trust.security && realm->verify == trust.verify &&
           strlen(realm->ca_file) == file.length &&
           (file.length == 0 || memcmp(realm->ca_file, file.bytes, file.length) == 0);
}

static void destroy(nh_smtp_realm *realm) {
    nh_multi_close(realm->multi);
    free(realm);
}

/* Closes the realm that was used least recently of those that are idle. */
static bool evict(nh_smtp_realms *realms) {
    nh_smtp_realm **victim = NULL;
    for (nh_smtp_realm **at = &realms->first; *at; at = &(*at)->next)
        if (nh_multi_idle((*at)->multi))
            victim = at;
    if (!victim)
        return false;
    nh_smtp_realm *gone = *victim;
    *victim = gone->next;
    realms->count--;
    destroy(gone);
    return true;
}

static nh_smtp_realm *create(nh_smtp_realms *realms, nh_smtp_trust trust, nh_error *error) {
    nh_span file = trust.ca_file;
    nh_smtp_realm *realm = calloc(1, sizeof *realm + file.length + 1);
    if (!realm) {
        nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
        return NULL;
    }
    realm->security = trust.security;
    realm->verify = trust.verify;
    if (file.length > 0)
        memcpy(realm->ca_file, file.bytes, file.length);
    if (nh_multi_open(realms->loop, &realms->limits, &realm->multi, error) != NH_OK) {
        free(realm);
        return NULL;
    }
    realms->count++;
    return realm;
}

nh_multi *nh_smtp_realms_of(nh_smtp_realms *realms, nh_smtp_trust trust, nh_error *error) {
    nh_smtp_realm **at = &realms->first;
    while (*at && !fits(*at, trust))
        at = &(*at)->next;
    nh_smtp_realm *realm = *at;
    if (realm) {
        *at = realm->next;
    } else if (realms->count >= REALMS_MAX && !evict(realms)) {
        nh_fields_fail(error, NH_E_UNAVAILABLE, "too many different TLS options in use");
        return NULL;
    } else if (!(realm = create(realms, trust, error))) {
        return NULL;
    }
    realm->next = realms->first;
    realms->first = realm;
    return realm->multi;
}

void nh_smtp_realms_close(nh_smtp_realms *realms) {
    while (realms->first) {
        nh_smtp_realm *realm = realms->first;
        realms->first = realm->next;
        destroy(realm);
    }
    realms->count = 0;
}
