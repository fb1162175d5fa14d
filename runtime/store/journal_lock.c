/* journal_lock.c — an open file description lock on a file beside the journal.
 *
 * Any thread, while opening. The kernel drops the lock when the process ends, however it ends, so a
 * lock file that is left behind means nothing and is never removed: removing it would let two
 * processes lock two files of one name. The file holds the owner's process id, for people. It is a
 * file of its own because closing any descriptor of the journal itself would drop SQLite's locks.
 */
#include "runtime/store/journal_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/core/error.h"

static long owner_of(int fd) {
    char text[32];
    ssize_t length = pread(fd, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    return strtol(text, NULL, 10);
}

int nh_journal_lock(const char *path, nh_error *error) {
    char name[PATH_MAX], text[32];
    if (snprintf(name, sizeof name, "%s.lock", path) >= (int)sizeof name) {
        nh_error_set(error, NH_E_CONFIG, "queue.journal: the path is too long: %s", path);
        return -1;
    }
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        nh_error_set(error, NH_E_JOURNAL, "%s: cannot be opened: %s", name, strerror(errno));
        return -1;
    }
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        if (errno != EAGAIN && errno != EACCES)
            nh_error_set(error, NH_E_JOURNAL, "%s: cannot be locked: %s", name, strerror(errno));
        else
            nh_error_set(error, NH_E_JOURNAL,
                         "%s: process %ld has this journal open; end that one first, or give this "
                         "one a journal of its own",
                         path, owner_of(fd));
        close(fd);
        return -1;
    }
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    /* On a full disk the id is missing; the lock holds all the same. */
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)length, 0) < 0)
        errno = 0;
    return fd;
}
