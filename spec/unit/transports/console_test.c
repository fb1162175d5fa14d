/* The console transport on a pipe, a file and a socket in the place of stdout. */
#include "spec/unit/transports/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

static int saved;

/* Puts `fd` (closed then) in the place of stdout and opens the transport. */
static void open_on(int fd, double timeout) {
    nh_transport_limits limits = default_limits();
    limits.timeout = timeout;
    fflush(stdout);
    saved = dup(STDOUT_FILENO);
    dup2(fd, STDOUT_FILENO);
    close(fd);
    transport_open(&nh_console_transport, limits);
}

static void close_it(void) {
    transport_close();
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
}

static nh_doc *message(char letter, size_t length) {
    static char text[200001];
    memset(text, letter, length);
    text[length] = '\0';
    return document("{'text':'%s'}", text);
}

static size_t read_all(int fd, char *to, size_t room, const exchange *last) {
    size_t length = 0;
    for (double end = seconds_now() + 5; seconds_now() < end;) {
        if (!last->done)
            nh_loop_turn(loop, 0.001);
        ssize_t got = recv(fd, to + length, room - length, MSG_DONTWAIT);
        if (got < 0 && errno == ENOTSOCK)
            got = read(fd, to + length, room - length);
        if (got > 0)
            length += (size_t)got;
        else if (last->done)
            break;
    }
    return length;
}

/* A whole message: one letter up to its line feed. Returns its length, 0 when it is mixed. */
static size_t line_of(const char *text, size_t length) {
    size_t at = 0;
    while (at < length && text[at] == text[0])
        at++;
    return at < length && text[at] == '\n' ? at : 0;
}

static void check_three(int fd, exchange *each) {
    static char text[500000];
    size_t length = read_all(fd, text, sizeof text, &each[2]), at = 0;
    static const size_t lengths[] = {150000, 4096, 100};
    for (size_t i = 0; i < 3; i++) {
        size_t line = line_of(text + at, length - at);
        CHECK_INT((long long)line, (long long)lengths[i]);
        CHECK_INT(each[i].done, 1);
        CHECK(nh_value_bool(nh_value_get(nh_doc_root(each[i].response), "ok")));
        at += line + 1;
        exchange_free(&each[i]);
    }
    CHECK_INT((long long)at, (long long)length);
}

static void start_three(exchange *each) {
    exchange_start(&each[0], message('a', 150000));
    exchange_start(&each[1], message('b', 4096));
    exchange_start(&each[2], message('c', 100));
}

static void never_waits_for_a_slow_reader(void) {
    exchange each[3];
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    open_on(ends[1], 30);
    longest_turn = 0;
    start_three(each);
    turn_for(0.2); /* nobody reads: the pipe is full after 64 kB */
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    int begun = each[0].done;
    double longest = longest_turn;
    check_three(ends[0], each);
    close_it();
    CHECK(longest < 1);
    CHECK_INT(begun, 0);
    CHECK(!(flags & O_NONBLOCK)); /* the file is shared with the shell */
    close(ends[0]);
}

static void writes_to_a_socket(void) {
    exchange each[3];
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        abort();
    open_on(ends[1], 30);
    start_three(each);
    check_three(ends[0], each);
    close_it();
    close(ends[0]);
}

static void writes_to_a_file(void) {
    exchange each[3];
    char path[128];
    snprintf(path, sizeof path, "%s/out", scratch_dir());
    open_on(open(path, O_CREAT | O_RDWR | O_TRUNC, 0600), 30);
    start_three(each);
    int in = open(path, O_RDONLY);
    turn_until(&each[2], 5);
    check_three(in, each);
    close_it();
    close(in);
}

static void writes_a_text_that_stands_beside(void) {
    exchange one;
    char path[128], text[16];
    snprintf(path, sizeof path, "%s/beside", scratch_dir());
    open_on(open(path, O_CREAT | O_RDWR | O_TRUNC, 0600), 30);
    exchange_start_with(&one, document("{}"), "hello", 5);
    turn_until(&one, 5);
    int in = open(path, O_RDONLY);
    CHECK_INT(read(in, text, sizeof text), 6);
    CHECK(memcmp(text, "hello\n", 6) == 0);
    exchange_free(&one);
    close_it();
    close(in);
}

static void begins_a_line_after_a_torn_one(void) {
    exchange one, two, three;
    static char text[300000];
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    open_on(ends[1], 0.3);
    exchange_start(&one, message('a', 150000));
    exchange_start(&two, message('b', 10));
    turn_for(0.1);
    ops->cancel(transport, &one.transfer);
    turn_for(0.4);
    int timed_out = two.done;
    exchange_start(&three, message('c', 10));
    size_t length = read_all(ends[0], text, sizeof text, &three);
    close_it();
    CHECK_INT(one.done, 0);
    CHECK_INT(timed_out, 1);
    CHECK_ERROR(nh_doc_root(two.response), "timeout", "stdout");
    CHECK(length > 12 && memcmp(text + length - 13, "a\ncccccccccc\n", 13) == 0);
    exchange_free(&one);
    exchange_free(&two);
    exchange_free(&three);
    close(ends[0]);
}

static void tells_a_closed_reader(void) {
    exchange one;
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    signal(SIGPIPE, SIG_IGN);
    open_on(ends[1], 30);
    close(ends[0]);
    exchange_start(&one, message('a', 10));
    turn_until(&one, 5);
    close_it();
    CHECK_ERROR(nh_doc_root(one.response), "network", "stdout: Broken pipe");
    exchange_free(&one);
    transport_open(&nh_console_transport, default_limits());
    CHECK_ERROR(ask(document("{'text':'x','stream':'file'}")), "invalid", "stream");
    CHECK_ERROR(ask(document("{'txt':'x'}")), "invalid", "txt: unknown field");
    CHECK_ERROR(ask(document("{'stream':'stdout'}")), "invalid", "text: is missing");
    exchange_start_with(&one, document("{'text':'x'}"), "y", 1);
    CHECK_ERROR(nh_doc_root(one.response), "invalid", "text: stands in the request and beside it");
    exchange_free(&one);
    transport_close();
}

int main(void) {
    RUN(never_waits_for_a_slow_reader);
    RUN(writes_to_a_socket);
    RUN(writes_to_a_file);
    RUN(writes_a_text_that_stands_beside);
    RUN(begins_a_line_after_a_torn_one);
    RUN(tells_a_closed_reader);
    scratch_remove();
    return check_end();
}
