/* names.c — what Lua and JSON call the states of a handle and the outcomes of a message. */
#include "runtime/notifyhub.h"

const char *nh_state_name(nh_state state) {
    static const char *const names[] = {[NH_SCHEDULED] = "scheduled",
                                        [NH_QUEUED] = "queued",
                                        [NH_RUNNING] = "running",
                                        [NH_SETTLED] = "settled",
                                        [NH_ACCEPTING] = "accepting"};
    return names[state];
}

const char *nh_status_name(nh_status status) {
    static const char *const names[] = {[NH_DELIVERED] = "delivered",
                                        [NH_PARTIAL] = "partial",
                                        [NH_FAILED] = "failed",
                                        [NH_CANCELLED] = "cancelled",
                                        [NH_EXPIRED] = "expired"};
    return names[status];
}
