/* gate.c — see gate.h. What a host's answer says about it is decided here, from the status and the
 * transport's error; what it says about the message is the adapter's. Costs about 0.15 µs a
 * transfer. */
#include "runtime/work/gate.h"

#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"

nh_place nh_gate_place(const nh_value *request) {
    nh_place place = {.mail = false};
    size_t length;
    const char *url = nh_value_bytes(nh_value_get(request, "url"), &length);
    if (!url) {
        place.mail = true;
        place.host = nh_value_bytes(nh_value_get(request, "host"), &place.length);
        return place;
    }
    const char *end = url + length, *from = url;
    for (const char *at = url; at + 3 <= end; at++)
        if (memcmp(at, "://", 3) == 0) {
            from = at + 3;
            break;
        }
    const char *to = from;
    while (to < end && *to != '/' && *to != '?' && *to != '#') {
        if (*to == '@') /* what is before it is nobody's to see */
            from = to + 1;
        to++;
    }
    place.host = from;
    place.length = (size_t)(to - from);
    return place;
}

/* What came of a transfer, as far as it tells of the host. */
typedef struct news {
    nh_outcome outcome;
    nh_load load;
} news;

static news of_code(nh_err code) {
    return (news){nh_breaker_counts(code), nh_lane_load(code)};
}

static news of_http(int64_t status) {
    if (status == 429)
        return of_code(NH_E_RATE_LIMITED);
    if (status == 408)
        return of_code(NH_E_TIMEOUT);
    if (status < 500 || status > 599)
        return of_code(NH_OK);
    /* A server that has an error is not one that has too much to do. */
    return (news){NH_OUTCOME_FAILURE,
                  status == 503 || status == 504 ? NH_LOAD_TOO_MUCH : NH_LOAD_NONE};
}

/* 421: the server ends its service. All else, refusals and "try later", is about the mail. */
static news of_mail(int64_t status) {
    return of_code(status == 421 ? NH_E_UNAVAILABLE : NH_OK);
}

static news news_of(const nh_pass *pass, int status, const nh_value *response) {
    if (status > 0)
        return pass->place.mail ? of_mail(status) : of_http(status);
    if (!response)
        return (news){NH_OUTCOME_NONE, NH_LOAD_NONE};
    size_t length;
    char name[32];
    const char *error = nh_value_bytes(nh_value_get(response, "error"), &length);
    if (error && length < sizeof name) {
        memcpy(name, error, length);
        name[length] = '\0';
        return of_code(nh_err_from_name(name));
    }
    int64_t told = nh_value_int(nh_value_get(response, "status"), 200);
    return pass->place.mail ? of_mail(told) : of_http(told);
}

/* "account host": both have bounds of their own; what is beyond these shares a lane. */
static size_t name_lane(const nh_pass *pass, const char *account, char *to, size_t room) {
    size_t first = strnlen(account, room / 2), rest = room - first - 1;
    rest = pass->place.length < rest ? pass->place.length : rest;
    memcpy(to, account, first);
    to[first] = ' ';
    memcpy(to + first + 1, pass->place.host, rest);
    return first + 1 + rest;
}

bool nh_gate_enter(const nh_gate *gate, nh_pass *pass, const char *account, nh_priority priority,
                   uint64_t now) {
    char name[512];
    if (pass->place.length == 0 || !gate->lanes)
        return true;
    pass->held = true;
    size_t length = account ? name_lane(pass, account, name, sizeof name) : pass->place.length;
    return nh_lane_acquire(gate->lanes, account ? name : pass->place.host, length, priority,
                           &pass->slot, now);
}

nh_passage nh_gate_go(const nh_gate *gate, nh_pass *pass, uint64_t now, nh_refusal *refusal) {
    if (pass->place.length == 0 || !gate->breakers)
        return NH_PASSED;
    pass->watched = nh_breaker_before(gate->breakers, pass->place.host, pass->place.length, now,
                                      &pass->token, refusal) != NH_REFUSED;
    if (pass->watched)
        return NH_PASSED;
    if (pass->held && nh_lane_shut(gate->lanes, &pass->slot, nh_after(now, refusal->seconds),
                                   refusal->since, now))
        return NH_WAITS_OUTSIDE;
    nh_gate_leave(gate, pass, 0, NULL, now);
    return NH_TURNED_AWAY;
}

void nh_gate_leave(const nh_gate *gate, nh_pass *pass, int status, const nh_value *response,
                   uint64_t now) {
    news told = news_of(pass, status, response);
    bool closed =
        !pass->watched || nh_breaker_after(gate->breakers, pass->place.host, pass->place.length,
                                           pass->token, told.outcome, now);
    if (!closed && told.load == NH_LOAD_FINE) /* a lane grows when its host is well again */
        told.load = NH_LOAD_NONE;
    if (pass->held)
        nh_lane_release(gate->lanes, &pass->slot, told.load);
    pass->watched = pass->held = false;
}

bool nh_gate_cancel(const nh_gate *gate, nh_pass *pass) {
    if (pass->held && !nh_lane_cancel(gate->lanes, &pass->slot))
        return false;
    pass->held = false;
    return true;
}
