/* address.c — the rules of a guard, on the address that a connection is really about to have.
 *
 * Any thread; a guard is immutable once made. It is asked after the name was resolved and before
 * the connect, so neither a name that changes its mind nor an unusual spelling (2130706433, 0x7f.1)
 * gets past it: by then an address is sixteen bytes. IPv4 inside IPv6 (mapped, NAT64, 6to4, Teredo)
 * is taken out and judged as IPv4 too. Everything that is not known to be public is refused:
 * of IPv6 only 2000::/3 is.
 *
 * The allow-list may open whatever it names, but for addresses of cloud metadata, where credentials
 * lie: these must be named one by one, since whoever opens 169.254.0.0/16 or 0.0.0.0/0 seldom means
 * them. Judging costs a pass over two tables of some twenty entries.
 */
#include "platforms/transports/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "platforms/transports/fields.h"

enum { ENTRY_MAX = 64, V4_PREFIX = 96 };

/* IPv4 is kept as its mapped form, ::ffff:a.b.c.d, so that a prefix is one kind of thing. */
typedef struct net {
    uint8_t bytes[16];
    uint8_t prefix; /* bits of 128 */
    uint16_t port;  /* 0: any */
} net;

struct nh_guard {
    bool proxied;
    size_t count;
    net allowed[];
};

typedef struct rule {
    const char *net;
    int prefix;
    const char *words;
} rule;

/* Credentials of the machine lie there. Most are inside of nets below; Azure's is a public one. */
static const rule metadata[] = {
    {"169.254.169.254", 32, "an address of cloud metadata"},
    {"169.254.170.2", 32, "an address of cloud metadata"},
    {"169.254.170.23", 32, "an address of cloud metadata"},
    {"100.100.100.200", 32, "an address of cloud metadata"},
    {"168.63.129.16", 32, "an address of cloud metadata"},
    {"192.0.0.192", 32, "an address of cloud metadata"},
    {"fd00:ec2::254", 128, "an address of cloud metadata"},
    {"fd00:ec2::23", 128, "an address of cloud metadata"},
    {"fd20:ce::254", 128, "an address of cloud metadata"},
};

/* https://www.iana.org/assignments/iana-ipv4-special-registry and its IPv6 sister. The first that
 * matches names the reason. */
static const rule blocked4[] = {
    {"0.0.0.0", 8, "an address of this host"},
    {"10.0.0.0", 8, "a private address"},
    {"100.64.0.0", 10, "an address behind a carrier's NAT"},
    {"127.0.0.0", 8, "a loopback address"},
    {"169.254.0.0", 16, "a link-local address"},
    {"172.16.0.0", 12, "a private address"},
    {"192.0.0.0", 24, "a reserved address"},
    {"192.0.2.0", 24, "an address for documentation"},
    {"192.88.99.0", 24, "a reserved address"},
    {"192.168.0.0", 16, "a private address"},
    {"198.18.0.0", 15, "an address for benchmarks"},
    {"198.51.100.0", 24, "an address for documentation"},
    {"203.0.113.0", 24, "an address for documentation"},
    {"224.0.0.0", 4, "a multicast address"},
    {"255.255.255.255", 32, "the broadcast address"},
    {"240.0.0.0", 4, "a reserved address"},
};

static const rule blocked6[] = {
    {"::", 128, "an address of this host"},
    {"::1", 128, "a loopback address"},
    {"64:ff9b:1::", 48, "a private address"},
    {"2001:2::", 48, "an address for benchmarks"},
    {"2001:db8::", 32, "an address for documentation"},
    {"3fff::", 20, "an address for documentation"},
    {"2001::", 23, "a reserved address"}, /* but Teredo, which is taken apart before */
    {"fc00::", 7, "a private address"},
    {"fe80::", 10, "a link-local address"},
    {"fec0::", 10, "a private address"},
    {"ff00::", 8, "a multicast address"},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};

/* --------------------------------------------------------------- addresses */

static void map4(const uint8_t four[4], uint8_t out[16]) {
    memcpy(out, mapped, sizeof mapped);
    memcpy(out + sizeof mapped, four, 4);
}

static bool is_mapped(const uint8_t bytes[16]) {
    return memcmp(bytes, mapped, sizeof mapped) == 0;
}

static bool within(const uint8_t bytes[16], const uint8_t base[16], unsigned prefix) {
    unsigned whole = prefix / 8, rest = prefix % 8;
    return memcmp(bytes, base, whole) == 0 &&
           (rest == 0 || ((bytes[whole] ^ base[whole]) & (0xFF00u >> rest & 0xFFu)) == 0);
}

/* Reads `1.2.3.4` or `fd00::1`, nothing else. */
static bool parse(const char *text, uint8_t out[16]) {
    uint8_t four[4];
    if (inet_pton(AF_INET6, text, out) == 1)
        return true;
    if (inet_pton(AF_INET, text, four) != 1)
        return false;
    map4(four, out);
    return true;
}

static const char *find(const rule *rules, size_t count, const uint8_t bytes[16]) {
    for (size_t i = 0; i < count; i++) {
        uint8_t base[16] = {0};
        parse(rules[i].net, base);
        if (within(bytes, base, (unsigned)(rules[i].prefix + (is_mapped(base) ? V4_PREFIX : 0))))
            return rules[i].words;
    }
    return NULL;
}

/* The IPv4 addresses that a packet to an IPv6 address ends up at, or passes: how many. */
static size_t unwrap(const uint8_t a[16], uint8_t out[2][16]) {
    static const uint8_t nat64[12] = {0x00, 0x64, 0xFF, 0x9B};
    static const uint8_t teredo[4] = {0x20, 0x01, 0x00, 0x00};
    if (memcmp(a, nat64, sizeof nat64) == 0) {
        map4(a + 12, out[0]);
        return 1;
    }
    if (a[0] == 0x20 && a[1] == 0x02) { /* 6to4 */
        map4(a + 2, out[0]);
        return 1;
    }
    if (memcmp(a, teredo, sizeof teredo) == 0) { /* its server, and its client's NAT, inverted */
        const uint8_t client[4] = {(uint8_t)~a[12], (uint8_t)~a[13], (uint8_t)~a[14],
                                   (uint8_t)~a[15]};
        map4(a + 4, out[0]);
        map4(client, out[1]);
        return 2;
    }
    return 0;
}

/* ----------------------------------------------------------------- judging */

static bool allows(const nh_guard *guard, const uint8_t bytes[16], int port, unsigned prefix) {
    for (size_t i = 0; i < guard->count; i++) {
        const net *each = &guard->allowed[i];
        /* ::/0 is of IPv6: a mapped address is inside of no net but IPv4 ones. */
        if (each->prefix >= prefix && is_mapped(each->bytes) == is_mapped(bytes) &&
            (each->port == 0 || each->port == port) && within(bytes, each->bytes, each->prefix))
            return true;
    }
    return false;
}

static const char *judge(const nh_guard *guard, const uint8_t bytes[16], int port) {
    uint8_t inner[2][16];
    const char *words = find(metadata, COUNT(metadata), bytes);
    if (words)
        return allows(guard, bytes, port, 128) ? NULL : words;
    if (allows(guard, bytes, port, 0))
        return NULL;
    if (guard->proxied)
        return "a proxy that the list does not name";
    if (is_mapped(bytes))
        return find(blocked4, COUNT(blocked4), bytes);
    size_t count = unwrap(bytes, inner);
    for (size_t i = 0; i < count && !words; i++)
        words = judge(guard, inner[i], port);
    if (count > 0)
        return words;
    words = find(blocked6, COUNT(blocked6), bytes);
    return words || (bytes[0] & 0xE0) == 0x20 ? words : "a reserved address";
}

const char *nh_guard_refuses(const nh_guard *guard, const struct sockaddr *address) {
    uint8_t bytes[16];
    if (address->sa_family == AF_INET) {
        struct sockaddr_in four;
        memcpy(&four, address, sizeof four);
        map4((const uint8_t *)&four.sin_addr, bytes);
        return judge(guard, bytes, ntohs(four.sin_port));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, address, sizeof six);
        memcpy(bytes, &six.sin6_addr, sizeof bytes);
        return judge(guard, bytes, ntohs(six.sin6_port));
    }
    return "not an IP address";
}

const char *nh_guard_refuses_text(const nh_guard *guard, const char *address, int port) {
    uint8_t bytes[16];
    if (!address || !parse(address, bytes))
        return "not an IP address";
    return judge(guard, bytes, port);
}

/* -------------------------------------------------------------- allow-list */

/* A whole decimal number from 0 to `most` up to the end of the text; -1 for anything else. */
static int number(const char *text, int most) {
    int value = 0;
    if (!*text || strlen(text) > 5)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        value = value * 10 + *text - '0';
    }
    return value <= most ? value : -1;
}

/* Cuts the text at the last `mark` behind `from` and returns what follows, or NULL. */
static char *cut(char *from, char mark) {
    char *at = strrchr(from, mark);
    if (at)
        *at++ = '\0';
    return at;
}

/* ADDRESS[/PREFIX][:PORT], an IPv6 address in brackets when a port follows. */
static bool parse_net(char *text, net *out) {
    char *tail = text, *close = text[0] == '[' ? strchr(text, ']') : NULL;
    bool bare6 = !close && strchr(text, ':') != strrchr(text, ':');
    if (text[0] == '[' && !close)
        return false;
    if (close) {
        tail = close + 1;
        if (*tail && *tail != '/' && *tail != ':')
            return false;
    }
    char *port = bare6 ? NULL : cut(tail, ':');
    char *prefix = cut(tail, '/');
    if (close) {
        if (*tail) /* something between the bracket and what was cut */
            return false;
        *close = '\0';
        text++;
    }
    if (!parse(text, out->bytes) || (close && !strchr(text, ':')))
        return false;
    bool four = !strchr(text, ':');
    int bits = prefix ? number(prefix, four ? 32 : 128) : four ? 32 : 128;
    int wanted = port ? number(port, 65535) : 0;
    if (bits < 0 || wanted < 0 || (port && wanted == 0))
        return false;
    out->prefix = (uint8_t)(bits + (four ? V4_PREFIX : 0));
    out->port = (uint16_t)wanted;
    /* ::ffff:10.0.0.0/104 would be an IPv4 net by another name. */
    return four || !is_mapped(out->bytes);
}

/* A bit behind the prefix is a slip of the pen, and which net was meant is anybody's guess. */
static bool has_host_bits(const net *one) {
    for (unsigned bit = one->prefix; bit < 128; bit++)
        if (one->bytes[bit / 8] & (0x80u >> bit % 8))
            return true;
    return false;
}

nh_err nh_guard_create(const nh_value *allow, bool proxied, nh_guard **out, nh_error *error) {
    size_t count = nh_value_count(allow);
    if (count > NH_GUARD_RULES)
        return nh_fields_fail(error, NH_E_INVALID, "guard_allow: has %zu entries, at most %d",
                              count, NH_GUARD_RULES);
    nh_guard *guard = calloc(1, sizeof *guard + count * sizeof(net));
    if (!guard)
        return nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
    guard->proxied = proxied;
    for (size_t i = 0; i < count; i++) {
        char text[ENTRY_MAX];
        size_t length = 0;
        const char *bytes = nh_value_bytes(nh_value_at(allow, i), &length);
        bool fits = bytes && length < sizeof text && !memchr(bytes, '\0', length);
        if (fits) {
            memcpy(text, bytes, length);
            text[length] = '\0';
        }
        net *one = &guard->allowed[guard->count++];
        if (!fits || !parse_net(text, one) || has_host_bits(one)) {
            nh_guard_destroy(guard);
            return nh_fields_fail(error, NH_E_INVALID,
                                  "guard_allow[%zu]: must be an address or a net with an optional "
                                  "port, such as 10.0.0.0/8, 10.1.2.3:8080 or [fd00::1]:443",
                                  i + 1);
        }
    }
    *out = guard;
    return NH_OK;
}

void nh_guard_destroy(nh_guard *guard) {
    free(guard);
}
