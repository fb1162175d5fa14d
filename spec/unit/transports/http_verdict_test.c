/* The two ways of the http transport against one another: the same bytes of a server must have the
 * same verdict, status, header and body. libcurl is the oracle; where our reader is meant to be
 * stricter, the table says so and why. */
#include "spec/unit/transports/harness.h"
#include "spec/unit/transports/script_peer.h"

enum { MUTATIONS = 2000, SECONDS = 6 };

typedef struct way {
    nh_loop *loop;
    nh_transport *transport;
} way;

static way direct, multi;
static nh_transport_counts counts;

#define OK   "HTTP/1.1 200 OK\r\n"
#define CODE "Transfer-Encoding: chunked\r\n"

static const struct test {
    const char *bytes;
    /* NULL: as libcurl. Else what our reader says instead ("" for success), and the reason. */
    const char *ours, *reason;
} tests[] = {
    /* the ways that a body ends */
    {OK "Content-Length: 5\r\n\r\nhello", NULL, NULL},
    {OK "content-length:5\r\n\r\nhello", NULL, NULL},
    {OK "Content-Length: 0\r\n\r\n", NULL, NULL},
    {OK "Content-Length: 5\r\n\r\nhello and more", NULL, NULL},
    {OK "Content-Length: 5\r\n\r\nhel", NULL, NULL},
    {OK "\r\nup to the end", NULL, NULL},
    {OK "Connection: close\r\n\r\nup to the end", NULL, NULL},
    {OK "\r\n", NULL, NULL},
    {"HTTP/1.0 200 OK\r\n\r\nold", NULL, NULL},
    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nold", NULL, NULL},
    {OK CODE "\r\n5\r\nhello\r\n0\r\n\r\n", NULL, NULL},
    {OK CODE "\r\n5;a=b;c\r\nhello\r\n6\r\n world\r\n00\r\n\r\n", NULL, NULL},
    {OK CODE "\r\n5\r\nhello\r\n0\r\nX-Trailer: yes\r\nB: c\r\n\r\n", NULL, NULL},
    {OK CODE "\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", NULL, NULL},
    {OK CODE "\r\n5\r\nhel", NULL, NULL},
    {OK CODE "\r\n5\r\nhello\r\n", NULL, NULL},
    {OK CODE "\r\n5\r\nhello\r\n0\r\n", NULL, NULL},
    {OK CODE "\r\n\r\n", NULL, NULL},
    {OK CODE "\r\nx\r\n", NULL, NULL},
    {OK CODE "\r\n5\r\nhelloX\r\n0\r\n\r\n", NULL, NULL},
    {OK CODE "\r\nfffffffffffffffff\r\n", NULL, NULL},
    {OK CODE "\r\nffffffffffffffff\r\n", NULL, NULL},
    {OK CODE "\r\n5\nhello\n0\n\n", NULL, NULL},
    {OK "Content-Length: 99\r\n" CODE "\r\n2\r\nok\r\n0\r\n\r\n", NULL, NULL},
    {OK CODE "Content-Length: 99\r\n\r\n2\r\nok\r\n0\r\n\r\n", NULL, NULL},
    /* no body */
    {"HTTP/1.1 204 No Content\r\n\r\n", NULL, NULL},
    {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", NULL, NULL},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", NULL, NULL},
    {"HTTP/1.1 204 No Content\r\n" CODE "\r\n", NULL, NULL},
    /* more than one */
    {"HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 2\r\n\r\nok", NULL, NULL},
    {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 7\r\n\r\n" OK
     "Content-Length: 2\r\n\r\nok",
     NULL, NULL},
    {"HTTP/1.1 100 Continue\r\n\r\n", NULL, NULL},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" OK CODE
     "\r\n2\r\nok\r\n0\r\n\r\n",
     NULL, NULL},
    /* status lines */
    {"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {"HTTP/1.1 999 What\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno", NULL, NULL},
    {"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", NULL, NULL},
    {"HTTP/1.1 2000 OK\r\n\r\n", NULL, NULL},
    {"HTTP/1.1 099 OK\r\n\r\n", NULL, NULL},
    {"HTTP/1.1 20 OK\r\n\r\n", NULL, NULL},
    {"HTTP/1.2 200 OK\r\n\r\n", NULL, NULL},
    {"HTTP/3.7 200 OK\r\n\r\n", NULL, NULL},
    {"HTTP 200 OK\r\n\r\n", NULL, NULL},
    {"220 mail.example ESMTP\r\n", NULL, NULL},
    {"<html>what</html>", NULL, NULL},
    {"", NULL, NULL},
    {"HTT", NULL, NULL},
    {"HTTP/1.1 200 OK", NULL, NULL},
    /* fields */
    {OK "X-Twice: a\r\nX-Twice: b\r\nContent-Length: 0\r\n\r\n", NULL, NULL},
    {OK "X-Colons: a:b:c\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n", NULL, NULL},
    {OK "X-Blank:  \t a b \t\r\nContent-Length: 0\r\n\r\n", NULL, NULL},
    {OK "X-Long: a\r\n b\r\n\tc\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {OK "X\xC3\xA9: \xFF\xFE\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {OK ": no name\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {OK "X Y: z\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {OK "X : z\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {OK "no colon\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", NULL, NULL},
    {OK "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    {OK "Content-Length: 2, 2\r\n\r\nok", NULL, NULL},
    {OK "Content-Length: -2\r\n\r\nok", NULL, NULL},
    {OK "Content-Length: two\r\n\r\nok", NULL, NULL},
    {OK "Content-Length:\r\n\r\nok", NULL, NULL},
    {OK "Content-Length: ,2\r\n\r\nok", NULL, NULL},
    {OK "Transfer-Encoding: chunkedx\r\n\r\nok", NULL, NULL},
    {OK CODE "\r\n2\r\nok\r\n0\r\nno colon\r\n\r\n", NULL, NULL},
    {OK " folded: first\r\nContent-Length: 2\r\n\r\nok", NULL, NULL},
    /* where we are stricter: what two readers would read in two ways */
    {OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "network",
     "two lengths: libcurl takes the last"},
    {OK "Content-Length: 2, 3\r\n\r\nabc", "network", "two lengths: libcurl takes the first"},
    {OK "Content-Length: 2x\r\n\r\nok", "network", "no number: libcurl stops at the x"},
    {OK "Content-Length: +2\r\n\r\nok", "network", "no number: libcurl skips the sign"},
    {OK "Content-Length: 99999999999999999999\r\n\r\nok", "network",
     "no length that can be: libcurl reads to the end"},
    {OK "Content-Length : 2\r\n\r\nok", "network",
     "a length to some: libcurl takes it for another field"},
    {OK "Transfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "network",
     "a coding to some: libcurl takes it for another field"},
    {OK "Transfer-Encoding: identity\r\n\r\nok", "network", "a coding that nobody asked for"},
    {OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "network",
     "a coding that nobody asked for"},
    {OK "Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "network",
     "coded twice: libcurl decodes once"},
    {OK CODE "\r\n2x\r\nok\r\n0\r\n\r\n", "network", "no number: libcurl stops at the x"},
    {OK CODE "\r\n2\r\nok\r\r\n0\r\n\r\n", "network", "no end of line: libcurl skips all CRs"},
    {"HTTP/1.1 200x OK\r\nContent-Length: 2\r\n\r\nok", "network", "no status: libcurl stops"},
    {"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok", "network", "another protocol's line"},
    {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nwhat", "network",
     "a protocol that nobody asked for: libcurl takes it for the answer"},
    {OK "X: a\rb\r\nContent-Length: 2\r\n\r\nok", "network",
     "a line's end to some: libcurl takes it for a part of the value"},
    {OK "X-Cut: a\r\n", "network", "ends inside of the header: libcurl takes it for whole"},
    {OK "X-Cu", "network", "ends inside of the header: libcurl takes it for whole"},
};

static void use(const way *which) {
    loop = which->loop;
    transport = which->transport;
}

static way open_way(bool through_multi) {
    nh_transport_limits limits = default_limits();
    limits.response_bytes = 2000;
    limits.header_bytes = 4000;
    limits.http_multi = through_multi;
    limits.counts = &counts;
    transport_open(&nh_http_transport, limits);
    return (way){loop, transport};
}

/* What becomes of a request whose server plays the script. Owned. */
static nh_doc *verdict_of(const way *which, script what, const char *method) {
    exchange one;
    use(which);
    player_play(what);
    exchange_start(&one, document("{'url':'http://%s:%d/','method':'%s','timeout':60}",
                                  player_host(), player.port, method));
    turn_until(&one, 70);
    CHECK_INT(one.done, 1);
    nh_doc *verdict = one.response;
    one.response = NULL;
    exchange_free(&one);
    return verdict;
}

/* The code of a failure; "" of a success. */
static const char *code_of(const nh_doc *verdict) {
    const char *code = field(nh_doc_root(verdict), "error");
    return code ? code : "";
}

static bool is_same(const nh_doc *one, const nh_doc *other) {
    if (*code_of(one) || *code_of(other))
        return strcmp(code_of(one), code_of(other)) == 0;
    char *a = nh_doc_to_json(one), *b = nh_doc_to_json(other);
    bool same = strcmp(a, b) == 0;
    nh_free(a);
    nh_free(b);
    return same;
}

static void show(const char *what, const char *bytes, size_t length) {
    printf("# %s: ", what);
    for (size_t i = 0; i < length && i < 400; i++)
        printf(bytes[i] >= 0x20 && bytes[i] < 0x7F ? "%c" : "\\x%02X", (unsigned char)bytes[i]);
    printf("\n");
}

static void show_verdicts(const script *what, const nh_doc *ours, const nh_doc *theirs) {
    char *a = nh_doc_to_json(ours), *b = nh_doc_to_json(theirs);
    show("bytes", what->bytes, what->length);
    printf("# direct: %s\n# multi:  %s\n", a, b);
    nh_free(a);
    nh_free(b);
}

static void agrees_with_libcurl_but_where_it_says_so(void) {
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        script what = {.bytes = tests[i].bytes, .length = strlen(tests[i].bytes)};
        nh_doc *ours = verdict_of(&direct, what, "GET"), *theirs = verdict_of(&multi, what, "GET");
        bool good = tests[i].ours
                        ? strcmp(code_of(ours), tests[i].ours) == 0 && !is_same(ours, theirs)
                        : is_same(ours, theirs);
        CHECK(good);
        if (!good)
            show_verdicts(&what, ours, theirs);
        nh_doc_unref(ours);
        nh_doc_unref(theirs);
    }
    CHECK(atomic_load(&counts.http_direct) > 0);
    CHECK_INT((int)atomic_load(&counts.http_direct), (int)atomic_load(&counts.http_multi));
}

static void agrees_about_heads(void) {
    static const char *const heads[] = {
        OK "Content-Length: 5\r\n\r\n",
        OK CODE "\r\n",
        OK "\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n",
        OK "Content-Length: 5\r\n\r\nhello",
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        script what = {.bytes = heads[i], .length = strlen(heads[i])};
        nh_doc *ours = verdict_of(&direct, what, "HEAD"),
               *theirs = verdict_of(&multi, what, "HEAD");
        CHECK(is_same(ours, theirs));
        if (!is_same(ours, theirs))
            show_verdicts(&what, ours, theirs);
        nh_doc_unref(ours);
        nh_doc_unref(theirs);
    }
}

/* Wherever the network cuts it. (The fuzz target http_response has every cut of much more.) */
static void does_not_mind_where_bytes_are_cut(void) {
    static const char bytes[] = "HTTP/1.1 100 Continue\r\n\r\n" OK "X-Long: a\r\n b\r\n" CODE
                                "\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nB: c\r\n\r\n";
    script what = {.bytes = bytes, .length = sizeof bytes - 1};
    nh_doc *whole = verdict_of(&direct, what, "POST");
    CHECK_STR(field(nh_doc_root(whole), "body"), "hello world");
    for (what.split = 1; what.split < what.length; what.split++) {
        nh_doc *cut = verdict_of(&direct, what, "POST");
        CHECK(is_same(whole, cut));
        if (!is_same(whole, cut))
            show_verdicts(&what, cut, whole);
        nh_doc_unref(cut);
    }
    nh_doc_unref(whole);
}

static void caps_what_it_reads_as_libcurl(void) {
    static char bytes[9000];
    static const struct cap {
        const char *head;
        size_t filler;
        const char *tail, *code;
        bool laxer; /* libcurl is: it takes the beginning of a header for one, and any extension */
    } caps[] = {
        {OK "Content-Length: 2000\r\n\r\n", 2000, "", "", false},
        {OK "Content-Length: 2001\r\n\r\n", 2001, "", "too_large", false},
        {OK "\r\n", 2001, "", "too_large", false},
        {OK CODE "\r\n7d1\r\n", 2001, "\r\n0\r\n\r\n", "too_large", false},
        {OK "X: ", 3900, "\r\nContent-Length: 0\r\n\r\n", "", false},
        {OK "X: ", 4000, "\r\nContent-Length: 0\r\n\r\n", "too_large", false},
        {OK "X: ", 5000, "", "too_large", true},
        {OK CODE "\r\n2;", 5000, "\r\nok\r\n0\r\n\r\n", "too_large", true},
    };
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++) {
        size_t head = strlen(caps[i].head), tail = strlen(caps[i].tail);
        memcpy(bytes, caps[i].head, head);
        memset(bytes + head, 'x', caps[i].filler);
        memcpy(bytes + head + caps[i].filler, caps[i].tail, tail);
        script what = {.bytes = bytes, .length = head + caps[i].filler + tail};
        nh_doc *ours = verdict_of(&direct, what, "GET"), *theirs = verdict_of(&multi, what, "GET");
        CHECK_STR(code_of(ours), caps[i].code);
        CHECK(is_same(ours, theirs) == !caps[i].laxer);
        if (is_same(ours, theirs) == caps[i].laxer)
            show_verdicts(&what, ours, theirs);
        nh_doc_unref(ours);
        nh_doc_unref(theirs);
    }
}

/* -------------------------------------------------------------- mutations */

static uint64_t chance = 20240607; /* of xorshift */

static size_t below(size_t most) {
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance % most;
}

/* Changes some bytes: other ones, fewer, more, or a line twice. Returns the new length. */
static size_t mutate(char *bytes, size_t length, size_t room) {
    static const char alphabet[] = "\r\n\t :;,/.0129afHTPxX-\\\"\x01\x7F\xFF";
    for (size_t changes = 1 + below(4); changes > 0 && length > 1; changes--) {
        size_t at = below(length), count = 1 + below(4);
        switch (below(4)) {
        case 0:
            bytes[at] = alphabet[below(sizeof alphabet - 1)];
            break;
        case 1:
            count = count < length - at ? count : length - at;
            memmove(bytes + at, bytes + at + count, length - at - count);
            length -= count;
            break;
        case 2:
            if (length + 1 > room)
                break;
            memmove(bytes + at + 1, bytes + at, length - at);
            bytes[at] = alphabet[below(sizeof alphabet - 1)];
            length++;
            break;
        default: {
            const char *end = memchr(bytes + at, '\n', length - at);
            size_t line = end ? (size_t)(end + 1 - bytes) - at : 0;
            if (length + line > room)
                break;
            memmove(bytes + at + line, bytes + at, length - at);
            length += line;
        }
        }
    }
    return length;
}

/* Ours may refuse what libcurl takes. It never takes what libcurl refuses, nor reads it otherwise.
 */
static void is_never_laxer_than_libcurl(void) {
    double end = seconds_now() + SECONDS;
    int tried = 0, taken = 0, refused = 0;
    for (; tried < MUTATIONS && seconds_now() < end; tried++) {
        char bytes[1024];
        const char *from = tests[below(sizeof tests / sizeof *tests)].bytes;
        size_t length = strlen(from);
        memcpy(bytes, from, length); // NOLINT(bugprone-not-null-terminated-result): it is no string
        length = mutate(bytes, length, sizeof bytes);
        script what = {.bytes = bytes, .length = length};
        nh_doc *ours = verdict_of(&direct, what, "GET"), *theirs = verdict_of(&multi, what, "GET");
        bool stricter = !*code_of(theirs) && strcmp(code_of(ours), "network") == 0;
        bool good = stricter || is_same(ours, theirs);
        taken += !*code_of(ours);
        refused += stricter;
        CHECK(good);
        if (!good)
            show_verdicts(&what, ours, theirs);
        nh_doc_unref(ours);
        nh_doc_unref(theirs);
    }
    printf("# %d mutations, %d taken, %d taken by libcurl only\n", tried, taken, refused);
    CHECK(tried > 10 && taken > 0);
}

int main(void) {
    player_start();
    multi = open_way(true);
    direct = open_way(false);
    RUN(agrees_with_libcurl_but_where_it_says_so);
    RUN(agrees_about_heads);
    RUN(does_not_mind_where_bytes_are_cut);
    RUN(caps_what_it_reads_as_libcurl);
    RUN(is_never_laxer_than_libcurl);
    use(&direct);
    transport_close();
    use(&multi);
    transport_close();
    player_stop();
    return check_end();
}
