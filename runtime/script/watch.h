/* watch.h — tells when files of scripts have changed. */
#ifndef NH_SCRIPT_WATCH_H
#define NH_SCRIPT_WATCH_H

#include "runtime/core/log.h"

typedef struct nh_watch nh_watch;

enum { NH_WATCH_PATHS_MOST = 64 };

/* Watches folders and single files, each given by its path, whether it is there yet or not, and
 * calls `changed` from a thread of its own after each change: 100 ms after the last one, and at the
 * latest 1 s after the first. Of a folder count its *.lua, *.txt, *.md and *.html and those of the
 * folders directly in it. Files of editors (.*, *~, *.swp, 4913 …) never count. Links are followed,
 * and a link that is turned to another place is a change.
 *
 * Where inotify is not to be had (a limit of the system, told once in the log), it looks every
 * second instead. `log` may be NULL. Thread: any. Blocks: on the first look at the files. Errors:
 * NH_E_CONFIG for a path that cannot be, NH_E_INTERNAL. */
nh_watch *nh_watch_begin(const char *const *paths, size_t count, void (*changed)(void *context),
                         void *context, nh_log *log, nh_error *error);

/* Stops and frees; afterwards `changed` is not called any more. NULL is allowed. Thread: any but
 * the one that `changed` runs in. Blocks: while `changed` runs. In a forked child, which has no
 * such thread, it only frees. */
void nh_watch_end(nh_watch *watch);

#endif
