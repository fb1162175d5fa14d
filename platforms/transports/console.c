/* The console transport: prints lines on stdout or stderr, for first steps and for examples.
 *
 * Request and response are described in docs/platforms.md. Owned by one worker's thread; open →
 * start/cancel … → close. One message is written after the other, each whole, as far as one
 * instance goes; messages of up to PIPE_BUF bytes are whole among all writers of a pipe.
 *
 * Whoever reads a pipe or owns a terminal may stop reading, and the worker must go on. O_NONBLOCK
 * belongs to the open file, which we share with the shell and with the rest of the program, so it
 * is set on a file of our own: the same pipe or terminal, opened once more through /proc. Where
 * that cannot be done (no /proc, another owner) we ask poll before each write of at most PIPE_BUF
 * bytes, which then does not wait unless another writer comes between. Regular files never make a
 * writer wait; they must be written through the shared file, whose position the others move too.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platforms/transports/fields.h"
#include "platforms/transports/transports.h"

enum { CHUNKS_A_TURN = 64 };

typedef enum way { STRAIGHT, OWN_FILE, SOCKET, POLLED } way;

typedef struct print print;

typedef struct stream {
    nh_watch watch; /* first: the loop hands back its address */
    nh_loop *loop;
    const char *name;
    int fd;
    way way;
    bool opened;
    bool torn;           /* a message was stopped in its middle: the next one begins a line */
    print *first, **end; /* oldest first; end: where the next one is hung */
    nh_deferred more;    /* goes on after a full turn, where there is nothing to watch */
} stream;

struct print {
    nh_transfer *transfer;
    stream *stream;
    nh_span text;
    size_t written; /* of text and line feed */
    print *next;
    nh_timer timer;
};

enum { STREAMS = 2 };

struct nh_transport {
    double timeout;
    stream streams[STREAMS];
};

typedef struct console_request {
    nh_span text, stream;
} console_request;

static const nh_field fields[] = {
    {"text", NH_FIELD_BYTES, offsetof(console_request, text)},
    {"stream", NH_FIELD_BYTES, offsetof(console_request, stream)},
};

/* ------------------------------------------------------------------- stream */

/* Finds out how to write without waiting, at the first message. */
static void stream_open(stream *to) {
    struct stat info;
    int shared = to->fd;
    to->opened = true;
    to->way = STRAIGHT;
    if (fstat(shared, &info) != 0 || S_ISREG(info.st_mode))
        return;
    if (S_ISSOCK(info.st_mode)) {
        to->way = SOCKET;
        return;
    }
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", shared);
    int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    to->way = own >= 0 ? OWN_FILE : POLLED;
    if (own >= 0)
        to->fd = own;
}

static void stream_close(stream *to) {
    nh_watch_stop(to->loop, &to->watch);
    nh_loop_undefer(&to->more);
    if (to->way == OWN_FILE)
        close(to->fd);
}

static ssize_t put(const stream *to, const char *bytes, size_t length) {
    struct pollfd ask = {.fd = to->fd, .events = POLLOUT};
    switch (to->way) {
    case SOCKET:
        return send(to->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    case POLLED:
        if (poll(&ask, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
        break;
    case OWN_FILE:
    case STRAIGHT:
        break;
    }
    return write(to->fd, bytes, length);
}

/* Writes the next piece of a message: the text, then one line feed. */
static ssize_t put_piece(stream *to, const print *what) {
    char piece[PIPE_BUF];
    size_t length = 0, left = what->text.length + 1 - what->written;
    bool mend = to->torn && what->written == 0;
    if (mend)
        piece[length++] = '\n';
    size_t room = sizeof piece - length;
    size_t part = left < room ? left : room;
    size_t text = left - part == 0 ? part - 1 : part;
    if (text > 0)
        memcpy(piece + length, what->text.bytes + what->written, text);
    length += text;
    if (text < part)
        piece[length++] = '\n';
    ssize_t done = put(to, piece, length);
    if (done > 0 && mend) {
        to->torn = false;
        done--;
    }
    return done;
}

/* -------------------------------------------------------------------- queue */

/* Takes a message out of its stream's queue. A begun one leaves the stream in mid-line. */
static void dequeue(stream *to, print *what) {
    print **at = &to->first;
    while (*at != what)
        at = &(*at)->next;
    *at = what->next;
    if (!what->next)
        to->end = at;
    if (what->written > 0 && what->written <= what->text.length)
        to->torn = true;
    nh_timer_stop(to->loop, &what->timer);
}

static nh_doc *printed(void) {
    nh_writer *writer = nh_writer_create();
    if (!writer)
        return NULL;
    nh_writer_map(writer, 1);
    nh_writer_cstring(writer, "ok");
    nh_writer_bool(writer, true);
    nh_doc *response = nh_writer_finish(writer, NULL);
    nh_writer_destroy(writer);
    return response;
}

static void end(stream *to, print *what, nh_doc *response) {
    nh_transfer *transfer = what->transfer;
    dequeue(to, what);
    free(what);
    transfer->state = NULL;
    transfer->done(transfer, response);
}

static void end_failed(stream *to, print *what, nh_err code, const char *reason) {
    end(to, what, nh_response_error(code, what->written > 0, "%s: %s", to->name, reason));
}

static void on_timeout(nh_timer *timer) {
    print *what = (print *)(void *)((char *)timer - offsetof(print, timer));
    end_failed(what->stream, what, NH_E_TIMEOUT, "nobody reads it");
}

/* ------------------------------------------------------------------ writing */

static void wait_for_room(stream *to) {
    if (to->watch.fd >= 0 || nh_watch_start(to->loop, &to->watch, to->fd, NH_WRITABLE) == NH_OK)
        return;
    nh_loop_defer(to->loop, &to->more); /* what cannot be watched is always ready */
}

/* Writes what there is room for, at most CHUNKS_A_TURN pieces. */
static void pump(stream *to) {
    for (int budget = CHUNKS_A_TURN; to->first && budget > 0; budget--) {
        print *what = to->first;
        ssize_t done = put_piece(to, what);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EAGAIN)
            break;
        if (done < 0) {
            end_failed(to, what, NH_E_NETWORK, strerror(errno));
            continue;
        }
        what->written += (size_t)done;
        if (what->written > what->text.length)
            end(to, what, printed());
    }
    if (to->first)
        wait_for_room(to);
    else
        nh_watch_stop(to->loop, &to->watch);
}

static void on_ready(nh_watch *watch, unsigned events) {
    (void)events;
    pump((stream *)watch);
}

static void on_more(nh_deferred *deferred) {
    pump((stream *)(void *)((char *)deferred - offsetof(stream, more)));
}

/* ---------------------------------------------------------------- transport */

static nh_err read_request(const nh_transfer *transfer, console_request *request, nh_error *error) {
    *request = (console_request){.text = {NULL, 0}};
    nh_err failed = nh_fields_read(nh_doc_root(transfer->request->doc), "", fields,
                                   sizeof fields / sizeof *fields, request, error);
    if (failed)
        return failed;
    failed = nh_fields_take_body(transfer, "text", &request->text, error);
    if (failed)
        return failed;
    if (!request->text.bytes)
        return nh_fields_fail(error, NH_E_INVALID, "text: is missing");
    if (request->stream.bytes && !nh_span_is(request->stream, "stdout") &&
        !nh_span_is(request->stream, "stderr"))
        return nh_fields_fail(error, NH_E_INVALID, "stream: must be stdout or stderr");
    return NH_OK;
}

static void console_start(nh_transport *transport, nh_transfer *transfer) {
    console_request request;
    nh_error error = {NH_OK, ""};
    transfer->state = NULL;
    if (read_request(transfer, &request, &error) != NH_OK) {
        transfer->done(transfer, nh_response_error(error.code, false, "%s", error.message));
        return;
    }
    stream *to = &transport->streams[nh_span_is(request.stream, "stderr")];
    print *what = calloc(1, sizeof *what);
    if (!what || nh_timer_start(to->loop, &what->timer, transport->timeout) != NH_OK) {
        free(what);
        transfer->done(transfer, nh_response_error(NH_E_INTERNAL, false, "out of memory"));
        return;
    }
    if (!to->opened)
        stream_open(to);
    what->timer.fire = on_timeout;
    what->transfer = transfer;
    what->stream = to;
    what->text = request.text;
    transfer->state = what;
    *to->end = what;
    to->end = &what->next;
    if (to->first == what)
        nh_loop_defer(to->loop, &to->more);
}

static void console_cancel(nh_transport *transport, nh_transfer *transfer) {
    (void)transport;
    print *what = transfer->state;
    if (!what)
        return;
    dequeue(what->stream, what);
    free(what);
    transfer->state = NULL;
}

static void console_close(nh_transport *transport) {
    if (!transport)
        return;
    for (size_t i = 0; i < STREAMS; i++)
        stream_close(&transport->streams[i]);
    free(transport);
}

static nh_err console_open(nh_loop *loop, const nh_transport_limits *limits, nh_transport **out,
                           nh_error *error) {
    static const char *const names[STREAMS] = {"stdout", "stderr"};
    nh_transport *transport = calloc(1, sizeof *transport);
    if (!transport)
        return nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
    transport->timeout = limits->timeout;
    for (int i = 0; i < STREAMS; i++) {
        transport->streams[i] = (stream){
            .watch = {.ready = on_ready, .fd = -1},
            .loop = loop,
            .name = names[i],
            .fd = STDOUT_FILENO + i,
            .more = {.call = on_more},
        };
        transport->streams[i].end = &transport->streams[i].first;
    }
    *out = transport;
    return NH_OK;
}

const nh_transport_ops nh_console_transport = {
    .name = "console",
    .open = console_open,
    .start = console_start,
    .cancel = console_cancel,
    .close = console_close,
};
