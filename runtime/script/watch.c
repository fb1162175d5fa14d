/* watch.c — inotify says when to look, a digest of what is there says whether something changed.
 *
 * The thread that nh_watch_begin makes owns everything but `stopping` and the descriptor that wakes
 * it. It sleeps until inotify has an event that could matter. When things have been quiet for
 * QUIET, or LATEST has passed since the first event, it settles: it sets its watches anew (folders
 * may have come, gone or been exchanged), looks at all files, and calls `changed` when an event
 * named a file of ours, or when the digest is another one.
 *
 * The digest is a sum over the files' names, inodes, sizes, modes and times, so it costs a stat a
 * file and no memory. It is what tells a change where events cannot: after the queue overflowed,
 * when a folder was exchanged by a link or a rename, and where there is no inotify at all.
 *
 * An `interest` is a folder and, unless all of it counts, one name in it. For a path /a/b/rules
 * these are `rules` in /a/b and the whole of /a/b/rules; when a part of the path is a link, the
 * link's name in its folder and the same for what it points to; when a part is missing, its name in
 * the last folder that is there. So deleting, making anew, renaming and turning a link are all
 * seen, and a busy folder above ours wakes the thread but never makes it look.
 */
#include "runtime/script/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/error.h"
#include "runtime/core/fork.h"

#define MILLISECOND (NH_SECOND / 1000)
static const uint64_t QUIET = 100 * MILLISECOND, LATEST = NH_SECOND;
static const uint64_t POLL = NH_SECOND; /* between two looks without inotify */

enum { LINKS_MOST = 16, INTERESTS_MOST = 4096, FILES_MOST = 20000, EVENT_BYTES = 16 << 10 };

static const uint32_t FOLDER_EVENTS = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                                      IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK |
                                      IN_MASK_ADD;
static const uint32_t FILE_EVENTS = IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB;

typedef struct interest {
    int wd;
    bool sure;  /* an event of this name is a change, whatever the digest says */
    char *name; /* NULL: the files that count (scripts) */
} interest;

struct nh_watch {
    /* Immutable. */
    char *paths[NH_WATCH_PATHS_MOST]; /* absolute */
    size_t count;
    void (*changed)(void *context);
    void *context;
    nh_log *log;
    unsigned fork_generation;
    pthread_t thread;
    int wake; /* eventfd */

    atomic_bool stopping;

    /* The thread's. */
    int inotify; /* -1: looks every second */
    interest *interests;
    size_t interest_count, interest_room;
    size_t files; /* counted in the look under way */
    uint64_t digest;
    uint64_t first, last; /* first and last event since the last settling; 0: none */
    bool sure;
    uint64_t next_poll;
};

/* ------------------------------------------------------------------- names */

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name), size = strlen(end);
    return length > size && strcmp(name + length - size, end) == 0;
}

/* What editors and the like keep beside the files they edit. */
static bool is_ignored(const char *name) {
    static const char *const ends[] = {"~", ".swp", ".swx", ".swo", ".tmp", ".bak"};
    if (*name == '.' || *name == '#' || strcmp(name, "4913") == 0)
        return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i]))
            return true;
    return false;
}

static bool is_script(const char *name) {
    static const char *const ends[] = {".lua", ".txt", ".md", ".html"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i]))
            return !is_ignored(name);
    return false;
}

/* --------------------------------------------------------------- interests */

/* From now on it looks every second. */
static void fall_back(nh_watch *watch, const char *path, int reason) {
    nh_log_write(watch->log, NH_LOG_WARN, "cannot watch files, looking every second instead",
                 nh_log_text("path", path), nh_log_text("error", strerror(reason)),
                 nh_log_text("hint", reason == ENOSPC ? "raise fs.inotify.max_user_watches"
                                                      : "raise fs.inotify.max_user_instances"));
    if (watch->inotify >= 0)
        close(watch->inotify);
    watch->inotify = -1;
}

/* Keeps an interest in `name` of a folder, or in its scripts when name is NULL. */
static void want(nh_watch *watch, const char *folder, const char *name, bool sure) {
    uint32_t events = FOLDER_EVENTS | (sure ? FILE_EVENTS : 0);
    if (watch->inotify < 0)
        return;
    int wd = inotify_add_watch(watch->inotify, folder, events);
    if (wd < 0) {
        /* Gone meanwhile or not ours to read: its own parent tells when that changes. */
        if (errno == ENOSPC || errno == ENOMEM)
            fall_back(watch, folder, errno);
        return;
    }
    if (watch->interest_count == watch->interest_room) {
        size_t room = watch->interest_room ? 2 * watch->interest_room : 16;
        interest *more = room <= INTERESTS_MOST
                             ? realloc(watch->interests, room * sizeof *watch->interests)
                             : NULL;
        if (!more) {
            fall_back(watch, folder, room <= INTERESTS_MOST ? ENOMEM : ENOSPC);
            return;
        }
        watch->interests = more;
        watch->interest_room = room;
    }
    char *copy = name ? strdup(name) : NULL;
    if (name && !copy) {
        fall_back(watch, folder, ENOMEM);
        return;
    }
    watch->interests[watch->interest_count++] = (interest){wd, sure, copy};
}

/* Joins `link` read at `folder` and what came after it in the path. False when it is too long. */
static bool join(char out[PATH_MAX], const char *folder, const char *link, const char *rest) {
    const char *base = *link == '/' ? "" : folder;
    return snprintf(out, PATH_MAX, "%s%s%s%s", base, *base ? "/" : "", link, rest) < PATH_MAX;
}

/* Wants all that decides which file or folder the absolute path names. */
static void want_way(nh_watch *watch, const char *path, int links) {
    char part[PATH_MAX], target[PATH_MAX], next[PATH_MAX];
    struct stat about;
    const char *name = path;
    while (*(name += strspn(name, "/"))) {
        const char *rest = name + strcspn(name, "/");
        char component[NAME_MAX + 1];
        if (rest - name > NAME_MAX)
            return;
        snprintf(part, sizeof part, "%.*s", (int)(rest - path), path);
        snprintf(component, sizeof component, "%.*s", (int)(rest - name), name);
        bool last = rest[strspn(rest, "/")] == '\0';
        int missing = lstat(part, &about);
        char folder[PATH_MAX];
        snprintf(folder, sizeof folder, "%.*s", name - path > 1 ? (int)(name - path - 1) : 1, path);
        if (missing || last || S_ISLNK(about.st_mode))
            want(watch, folder, component, last && !missing && S_ISREG(about.st_mode));
        if (missing)
            return;
        if (S_ISLNK(about.st_mode)) {
            ssize_t length = readlink(part, target, sizeof target - 1);
            if (length <= 0 || links == LINKS_MOST)
                return;
            target[length] = '\0';
            if (join(next, folder, target, rest))
                want_way(watch, next, links + 1);
            return;
        }
        name = rest;
    }
}

/* -------------------------------------------------------------------- look */

static uint64_t mix(uint64_t digest, uint64_t word) {
    digest = (digest ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return digest ^ digest >> 29;
}

static uint64_t digest_of(const char *path, const struct stat *about) {
    uint64_t digest = UINT64_C(0xCBF29CE484222325);
    for (const char *c = path; *c; c++)
        digest = (digest ^ (unsigned char)*c) * UINT64_C(0x100000001B3);
    digest = mix(digest, about->st_ino);
    digest = mix(digest, about->st_dev);
    digest = mix(digest, about->st_mode);
    if (S_ISDIR(about->st_mode)) /* its time tells of files that do not count, too */
        return digest;
    digest = mix(digest, (uint64_t)about->st_size);
    digest = mix(digest, (uint64_t)about->st_mtim.tv_sec);
    return mix(digest, (uint64_t)about->st_mtim.tv_nsec);
}

static bool is_link(const char *path) {
    struct stat about;
    return lstat(path, &about) == 0 && S_ISLNK(about.st_mode);
}

/* Adds the scripts of a folder, and those of the folders in it when `deeper`. */
static void look_into(nh_watch *watch, const char *folder, bool deeper) {
    char path[PATH_MAX];
    struct stat about;
    want(watch, folder, NULL, true);
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    for (struct dirent *entry; watch->files < FILES_MOST && (entry = readdir(dir));) {
        if (is_ignored(entry->d_name) ||
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= (int)sizeof path ||
            stat(path, &about) != 0)
            continue;
        watch->files++;
        bool inner = deeper && S_ISDIR(about.st_mode);
        if (!inner && !is_script(entry->d_name))
            continue;
        watch->digest += digest_of(path, &about);
        if (is_link(path))
            want_way(watch, path, 0);
        if (inner)
            look_into(watch, path, false);
    }
    closedir(dir);
}

/* Makes the digest; and the interests, before what they are about is looked at, so that nothing is
 * missed in between. */
static void look(nh_watch *watch) {
    interest *before = watch->interests;
    size_t count = watch->interest_count;
    watch->interests = NULL;
    watch->interest_count = watch->interest_room = 0;
    watch->digest = 0;
    watch->files = 0;
    for (size_t i = 0; i < watch->count; i++) {
        struct stat about;
        want_way(watch, watch->paths[i], 0);
        if (stat(watch->paths[i], &about) != 0)
            continue;
        watch->digest += digest_of(watch->paths[i], &about);
        if (S_ISDIR(about.st_mode))
            look_into(watch, watch->paths[i], true);
    }
    for (size_t i = 0; i < count; i++) {
        bool still = watch->inotify < 0;
        for (size_t k = 0; k < watch->interest_count && !still; k++)
            still = watch->interests[k].wd == before[i].wd;
        if (!still)
            inotify_rm_watch(watch->inotify, before[i].wd);
        free(before[i].name);
    }
    free(before);
}

/* ------------------------------------------------------------------ events */

static void note(nh_watch *watch, bool sure) {
    watch->last = nh_monotonic();
    if (watch->first == 0)
        watch->first = watch->last;
    watch->sure |= sure;
}

static void judge(nh_watch *watch, const struct inotify_event *event) {
    static const uint32_t about_itself =
        IN_Q_OVERFLOW | IN_IGNORED | IN_UNMOUNT | IN_DELETE_SELF | IN_MOVE_SELF;
    const char *name = event->len ? event->name : "";
    if (event->mask & about_itself) {
        note(watch, false);
        return;
    }
    for (size_t i = 0; i < watch->interest_count; i++) {
        const interest *in = &watch->interests[i];
        if (in->wd != event->wd)
            continue;
        if (in->name ? strcmp(in->name, name) == 0 : is_script(name))
            note(watch, in->sure && !(event->mask & IN_ATTRIB));
        else if (!in->name && event->mask & IN_ISDIR && !is_ignored(name))
            note(watch, false); /* a folder with scripts in it, perhaps */
    }
}

static void read_events(nh_watch *watch) {
    _Alignas(struct inotify_event) char events[EVENT_BYTES];
    ssize_t length = read(watch->inotify, events, sizeof events);
    for (ssize_t at = 0; at < length;) {
        const struct inotify_event *event = (const struct inotify_event *)(events + at);
        judge(watch, event);
        at += (ssize_t)(sizeof *event + event->len);
    }
}

/* Without inotify: a look that finds another digest is what an event would have been. */
static void poll_files(nh_watch *watch) {
    uint64_t before = watch->digest;
    look(watch);
    if (watch->digest != before)
        note(watch, true);
    watch->next_poll = nh_monotonic() + (watch->first ? QUIET : POLL);
}

/* When the events that came are to be acted on; UINT64_MAX when none came. */
static uint64_t due(const nh_watch *watch) {
    if (watch->first == 0)
        return UINT64_MAX;
    uint64_t quiet = watch->last + QUIET, latest = watch->first + LATEST;
    return quiet < latest ? quiet : latest;
}

static void settle(nh_watch *watch) {
    uint64_t before = watch->digest;
    bool sure = watch->sure;
    watch->first = watch->last = 0;
    watch->sure = false;
    look(watch);
    if ((sure || watch->digest != before) && !atomic_load(&watch->stopping))
        watch->changed(watch->context);
}

static void *watch_main(void *argument) {
    nh_watch *watch = argument;
    while (!atomic_load(&watch->stopping)) {
        struct pollfd fds[] = {{.fd = watch->wake, .events = POLLIN},
                               {.fd = watch->inotify, .events = POLLIN}};
        uint64_t now = nh_monotonic(), until = due(watch);
        if (watch->inotify < 0 && watch->next_poll < until)
            until = watch->next_poll;
        int wait = until == UINT64_MAX ? -1
                   : until <= now      ? 0
                                       : (int)((until - now) / MILLISECOND) + 1;
        int ready = poll(fds, 2, wait); /* a descriptor of -1 is passed over */
        if (ready > 0 && fds[1].revents)
            read_events(watch);
        now = nh_monotonic();
        if (watch->inotify < 0 && now >= watch->next_poll)
            poll_files(watch);
        if (now >= due(watch))
            settle(watch);
    }
    return NULL;
}

/* -------------------------------------------------------------- life cycle */

static nh_err take_path(nh_watch *watch, const char *path, nh_error *error) {
    char folder[PATH_MAX] = "", absolute[PATH_MAX];
    if (*path == '\0' || watch->count == NH_WATCH_PATHS_MOST)
        return nh_fail(error, NH_E_CONFIG, "to be watched: 1 to %d paths that are not empty",
                       NH_WATCH_PATHS_MOST);
    if (*path != '/' && !getcwd(folder, sizeof folder))
        return nh_fail(error, NH_E_CONFIG, "%s: %s", path, strerror(errno));
    if (snprintf(absolute, sizeof absolute, "%s%s%s", folder, *folder ? "/" : "", path) >=
        (int)sizeof absolute)
        return nh_fail(error, NH_E_CONFIG, "%s: the path is too long", path);
    size_t length = strlen(absolute);
    while (length > 1 && absolute[length - 1] == '/')
        absolute[--length] = '\0';
    char *copy = strdup(absolute);
    if (!copy)
        return nh_fail_memory(error);
    watch->paths[watch->count++] = copy;
    return NH_OK;
}

static void destroy(nh_watch *watch) {
    if (watch->inotify >= 0)
        close(watch->inotify);
    if (watch->wake >= 0)
        close(watch->wake);
    for (size_t i = 0; i < watch->interest_count; i++)
        free(watch->interests[i].name);
    free(watch->interests);
    for (size_t i = 0; i < watch->count; i++)
        free(watch->paths[i]);
    free(watch);
}

static int spawn(nh_watch *watch) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&watch->thread, NULL, watch_main, watch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

nh_watch *nh_watch_begin(const char *const *paths, size_t count, void (*changed)(void *context),
                         void *context, nh_log *log, nh_error *error) {
    nh_watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        nh_fail_memory(error);
        return NULL;
    }
    watch->changed = changed;
    watch->context = context;
    watch->log = log;
    watch->fork_generation = nh_fork_generation();
    watch->inotify = -1;
    watch->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watch->wake < 0) {
        nh_fail(error, NH_E_INTERNAL, "eventfd: %s", strerror(errno));
        goto fail;
    }
    for (size_t i = 0; i < count; i++)
        if (take_path(watch, paths[i], error) != NH_OK)
            goto fail;
    watch->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch->inotify < 0)
        fall_back(watch, count ? paths[0] : "", errno);
    look(watch);
    watch->next_poll = nh_monotonic() + POLL;
    int failed = spawn(watch);
    if (!failed)
        return watch;
    nh_fail(error, NH_E_INTERNAL, "watching thread: %s", strerror(failed));
fail:
    destroy(watch);
    return NULL;
}

void nh_watch_end(nh_watch *watch) {
    if (!watch)
        return;
    if (watch->fork_generation == nh_fork_generation()) {
        uint64_t one = 1;
        atomic_store(&watch->stopping, true);
        while (write(watch->wake, &one, sizeof one) < 0 && errno == EINTR)
            ;
        pthread_join(watch->thread, NULL);
    }
    destroy(watch);
}
