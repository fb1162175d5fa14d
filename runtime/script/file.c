/* file.c — Thread: any. */
#include "runtime/script/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/core/error.h"

char *nh_file_read(const char *path, size_t most, size_t *length, nh_error *error) {
    char *content = NULL;
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &about) != 0) {
        nh_fail(error, NH_E_CONFIG, "%s: %s", path, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(about.st_mode)) {
        nh_fail(error, NH_E_CONFIG, "%s: not a regular file", path);
        goto fail;
    }
    if ((size_t)about.st_size > most) {
        nh_fail(error, NH_E_TOO_LARGE, "%s: %lld bytes, at most %zu are allowed", path,
                (long long)about.st_size, most);
        goto fail;
    }
    content = malloc((size_t)about.st_size + 1);
    if (!content) {
        nh_fail_memory(error);
        goto fail;
    }
    size_t have = 0;
    while (have < (size_t)about.st_size) {
        ssize_t got = read(fd, content + have, (size_t)about.st_size - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            nh_fail(error, NH_E_CONFIG, "%s: %s", path, strerror(errno));
            goto fail;
        }
        if (got == 0)
            break; /* it shrank meanwhile */
        have += (size_t)got;
    }
    content[have] = '\0';
    *length = have;
    close(fd);
    return content;
fail:
    free(content);
    if (fd >= 0)
        close(fd);
    return NULL;
}
