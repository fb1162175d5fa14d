/* Takes apart what needs no interpretation. Everything that libcurl would change on the way (it
 * resolves dots, normalises addresses, decodes hosts) is not plain: so what is sent here is what
 * libcurl would send. Thread: any. Costs one pass over the URL.
 */
#include "platforms/transports/http_url.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

enum { AUTHORITY_MAX = 255 };

bool nh_http_url_has_scheme(nh_span url, const char *scheme) {
    size_t length = strlen(scheme);
    return url.length > length && strncasecmp(url.bytes, scheme, length) == 0;
}

nh_span nh_http_url_authority(nh_span url) {
    if (!url.bytes)
        return (nh_span){"", 0};
    const char *end = url.bytes + url.length;
    const char *start = memchr(url.bytes, ':', url.length);
    start = start && end - start > 3 ? start + 3 : end;
    const char *stop = start;
    while (stop < end && !strchr("/?#\\", *stop))
        stop++;
    for (const char *c = start; c < stop; c++)
        if (*c == '@')
            start = c + 1;
    size_t length = (size_t)(stop - start);
    return (nh_span){start, length < AUTHORITY_MAX ? length : AUTHORITY_MAX};
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_host_byte(char c) {
    return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '.' || c == '_';
}

static bool read_address(nh_span host, struct in_addr *out) {
    char text[INET_ADDRSTRLEN];
    if (host.length >= sizeof text)
        return false;
    memcpy(text, host.bytes, host.length);
    text[host.length] = '\0';
    return inet_pton(AF_INET, text, out) == 1;
}

/* A name, or an IPv4 address in its one usual form: 127.1, 0x7f.1 and 017700000001 mean one too. */
static bool is_plain_host(nh_span host) {
    size_t label = 0;
    struct in_addr unused;
    for (size_t i = 0; i + 1 < host.length; i++)
        if (host.bytes[i] == '.')
            label = i + 1;
    if (host.length == 0 || host.length > 253 || host.bytes[0] == '.' ||
        host.bytes[host.length - 1] == '.')
        return false;
    return !is_digit(host.bytes[label]) || read_address(host, &unused);
}

static bool is_plain_port(nh_span port) {
    unsigned value = 0;
    if (port.length == 0 || port.length > 5 || port.bytes[0] == '0')
        return false;
    for (size_t i = 0; i < port.length; i++) {
        if (!is_digit(port.bytes[i]))
            return false;
        value = value * 10 + (unsigned)(port.bytes[i] - '0');
    }
    return value <= 65535;
}

/* A segment `.` or `..`, also with an encoded dot, at a slash that `at` points behind. */
static bool is_dots(const char *at, const char *end) {
    for (int dots = 0; at < end && dots < 3; dots++) {
        if (*at == '.')
            at++;
        else if (end - at >= 3 && at[0] == '%' && at[1] == '2' && (at[2] | 0x20) == 'e')
            at += 3;
        else
            return dots > 0 && (*at == '/' || *at == '?');
    }
    return at == end && end[-1] != '/';
}

static bool is_plain_path(nh_span path) {
    const char *end = path.bytes + path.length;
    bool query = false;
    for (const char *c = path.bytes; c < end; c++) {
        if (*c <= 0x20 || *c >= 0x7F || strchr("\"#<>\\^`{|}", *c))
            return false;
        query |= *c == '?';
        if (*c == '/' && !query && c + 1 < end && (c[1] == '.' || c[1] == '%') &&
            is_dots(c + 1, end))
            return false;
    }
    return true;
}

static bool is_own_port(nh_span port, bool tls) {
    const char *own = tls ? "443" : "80";
    return port.length == strlen(own) && memcmp(port.bytes, own, port.length) == 0;
}

bool nh_http_url_split(nh_span url, nh_http_url *out) {
    out->tls = nh_http_url_has_scheme(url, "https://");
    if (!out->tls && !nh_http_url_has_scheme(url, "http://"))
        return false;
    const char *at = url.bytes + (out->tls ? 8 : 7), *end = url.bytes + url.length;
    const char *host = at;
    while (at < end && is_host_byte(*at))
        at++;
    out->host = (nh_span){host, (size_t)(at - host)};
    out->port = (nh_span){NULL, 0};
    if (at < end && *at == ':') {
        const char *port = ++at;
        while (at < end && is_digit(*at))
            at++;
        out->port = (nh_span){port, (size_t)(at - port)};
        if (!is_plain_port(out->port))
            return false;
        if (is_own_port(out->port, out->tls))
            out->port = (nh_span){NULL, 0};
    }
    out->path = (nh_span){at, (size_t)(end - at)};
    return (at == end || *at == '/' || *at == '?') && is_plain_host(out->host) &&
           is_plain_path(out->path);
}

bool nh_http_url_address(const nh_http_url *url, struct sockaddr_in *out) {
    struct in_addr address;
    unsigned port = url->tls ? 443 : 80;
    if (!read_address(url->host, &address))
        return false;
    if (url->port.bytes) {
        port = 0;
        for (size_t i = 0; i < url->port.length; i++)
            port = port * 10 + (unsigned)(url->port.bytes[i] - '0');
    }
    *out = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = address};
    return true;
}
