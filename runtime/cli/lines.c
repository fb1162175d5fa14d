/* lines.c — lines out of a descriptor, for a command that has other things to wait for as well.
 *
 * A regular file is always ready; a pipe is asked with poll before each read, so that its flags,
 * which other processes share, stay as they are. One buffer, which grows to the longest line and no
 * further than the limit; the lines are handed out in place.
 */
#include "runtime/cli/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_CAPACITY 65536

struct cli_lines {
    int fd;
    const char *name;
    bool regular;
    off_t start; /* where a regular file was when it was opened */
    size_t longest;
    char *buffer;
    size_t capacity, from, to; /* unread bytes are [from, to) */
    size_t searched;           /* and up to here there is no newline */
    size_t number;
    bool ended;   /* the input is */
    bool stopped; /* by the caller */
    const char *problem;
};

cli_lines *cli_lines_open(const char *path, size_t longest) {
    bool is_stdin = strcmp(path, "-") == 0;
    struct stat about;
    cli_lines *lines = calloc(1, sizeof *lines);
    if (!lines)
        return NULL;
    lines->name = is_stdin ? "stdin" : path;
    lines->longest = longest;
    lines->capacity = FIRST_CAPACITY;
    lines->buffer = malloc(lines->capacity);
    lines->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (!lines->buffer || lines->fd < 0 || fstat(lines->fd, &about) != 0)
        goto fail;
    if (S_ISDIR(about.st_mode)) {
        errno = EISDIR;
        goto fail;
    }
    lines->regular = S_ISREG(about.st_mode);
    if (lines->regular)
        lines->start = lseek(lines->fd, 0, SEEK_CUR);
    return lines;

fail:;
    int cause = errno;
    cli_lines_close(lines);
    errno = cause;
    return NULL;
}

void cli_lines_close(cli_lines *lines) {
    if (!lines)
        return;
    if (lines->fd > STDERR_FILENO)
        close(lines->fd);
    free(lines->buffer);
    free(lines);
}

static cli_lines_state broken(cli_lines *lines, const char *problem) {
    lines->problem = problem;
    return CLI_BROKEN;
}

/* Makes room for more of the line that the buffer begins with. */
static bool make_room(cli_lines *lines) {
    if (lines->from > 0) {
        memmove(lines->buffer, lines->buffer + lines->from, lines->to - lines->from);
        lines->to -= lines->from;
        lines->searched -= lines->from;
        lines->from = 0;
    }
    if (lines->to < lines->capacity)
        return true;
    char *grown = realloc(lines->buffer, lines->capacity * 2);
    if (!grown)
        return false;
    lines->buffer = grown;
    lines->capacity *= 2;
    return true;
}

/* Reads once. CLI_LINE: there is more in the buffer. */
static cli_lines_state fill(cli_lines *lines) {
    if (lines->to - lines->from > lines->longest)
        return broken(lines, "the line is too long");
    if (!make_room(lines))
        return broken(lines, "out of memory");
    for (;;) {
        struct pollfd ready = {.fd = lines->fd, .events = POLLIN};
        if (!lines->regular && poll(&ready, 1, 0) == 0)
            return CLI_LATER;
        ssize_t got = read(lines->fd, lines->buffer + lines->to, lines->capacity - lines->to);
        if (got > 0) {
            lines->to += (size_t)got;
            return CLI_LINE;
        }
        if (got == 0)
            return CLI_END;
        if (errno == EAGAIN)
            return CLI_LATER;
        if (errno != EINTR)
            return broken(lines, strerror(errno));
    }
}

static bool is_blank(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
            return false;
    return true;
}

cli_lines_state cli_lines_next(cli_lines *lines, const char **text, size_t *length) {
    for (;;) {
        char *newline = memchr(lines->buffer + lines->searched, '\n', lines->to - lines->searched);
        if (!newline && !lines->ended) {
            lines->searched = lines->to;
            cli_lines_state state = fill(lines);
            if (state == CLI_END)
                lines->ended = true;
            else if (state != CLI_LINE) {
                lines->number += state == CLI_BROKEN;
                return state;
            }
            continue;
        }
        if (!newline && (lines->from == lines->to || lines->stopped))
            return CLI_END;
        *text = lines->buffer + lines->from;
        *length = newline ? (size_t)(newline - *text) : lines->to - lines->from;
        lines->from += *length + (newline ? 1 : 0);
        lines->searched = lines->from;
        lines->number++;
        if (!is_blank(*text, *length))
            return CLI_LINE;
    }
}

bool cli_lines_stop(cli_lines *lines) {
    bool cut = lines->regular && !(lines->ended && lines->from == lines->to);
    lines->stopped = !lines->ended; /* what stands last without a newline may be half a line */
    lines->ended = true;
    if (lines->regular)
        lines->from = lines->searched = lines->to;
    return cut;
}

const char *cli_lines_name(const cli_lines *lines) {
    return lines->name;
}

size_t cli_lines_number(const cli_lines *lines) {
    return lines->number;
}

const char *cli_lines_problem(const cli_lines *lines) {
    return lines->problem;
}

int cli_lines_fd(const cli_lines *lines) {
    return lines->fd;
}

bool cli_lines_rewind(cli_lines *lines) {
    if (!lines->regular || lseek(lines->fd, lines->start, SEEK_SET) < 0)
        return false;
    lines->from = lines->to = lines->searched = lines->number = 0;
    lines->ended = lines->stopped = false;
    return true;
}
