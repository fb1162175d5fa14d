/* watch_test.c — real folders and files, changed as editors, shells and Kubernetes do. What must
 * happen is waited for; what must not is looked for after a while, which no slow machine can fail.
 */
#include "runtime/script/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "spec/unit/check.h"

static char root[64];
static atomic_int calls;
static atomic_bool held;

static void changed(void *context) {
    (void)context;
    atomic_fetch_add(&calls, 1);
    while (atomic_load(&held))
        usleep(1000);
}

__attribute__((format(printf, 1, 2))) static const char *at(const char *format, ...) {
    static char paths[4][PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    int length = snprintf(path, PATH_MAX, "%s/", root);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path + length, PATH_MAX - (size_t)length, format, arguments);
    va_end(arguments);
    return path;
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void begin(void) {
    snprintf(root, sizeof root, "/tmp/nh-watch-XXXXXX");
    CHECK(mkdtemp(root));
    CHECK(mkdir(at("rules"), 0755) == 0);
    put(at("rules/a.lua"), "return 1");
    atomic_store(&calls, 0);
}

static nh_watch *watch(const char *path) {
    nh_error error;
    nh_watch *made = nh_watch_begin(&path, 1, changed, NULL, NULL, &error);
    if (!CHECK(made))
        printf("# %s\n", error.message);
    return made;
}

/* Waits for a call beyond `before`. */
static bool called_since(int before) {
    uint64_t until = nh_after(nh_monotonic(), 50);
    while (atomic_load(&calls) <= before && nh_monotonic() < until)
        usleep(2000);
    return atomic_load(&calls) > before;
}

static bool nothing_happens(void) {
    int before = atomic_load(&calls);
    usleep(300000);
    return atomic_load(&calls) == before;
}

/* A write that a slow machine stretches may be told twice: waits for the last of it. */
static void settle(void) {
    uint64_t until = nh_after(nh_monotonic(), 50);
    while (!nothing_happens() && nh_monotonic() < until)
        ;
}

static void end(nh_watch *watching) {
    char command[128];
    nh_watch_end(watching);
    snprintf(command, sizeof command, "rm -rf %s", root);
    CHECK(system(command) == 0); // NOLINT
}

static void a_saved_file_is_told(void) {
    begin();
    nh_watch *w = watch(at("rules"));
    CHECK(nothing_happens());
    put(at("rules/a.lua"), "return 2");
    CHECK(called_since(0));
    settle();
    int before = atomic_load(&calls);
    put(at("rules/.a.lua.new"), "return 3");
    CHECK(rename(at("rules/.a.lua.new"), at("rules/a.lua")) == 0);
    CHECK(called_since(before));
    settle();
    before = atomic_load(&calls);
    CHECK(unlink(at("rules/a.lua")) == 0);
    CHECK(called_since(before));
    end(w);
}

static void files_that_do_not_count_are_not(void) {
    static const char *const names[] = {".a.lua.swp", "a.lua~", "4913",    "#a.lua#",
                                        ".#a.lua",    "a.swp",  "log.csv", "a.lua.bak"};
    begin();
    nh_watch *w = watch(at("rules"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        put(at("rules/%s", names[i]), "x");
        unlink(at("rules/%s", names[i]));
    }
    put(at("elsewhere.lua"), "x");
    CHECK(nothing_happens());
    CHECK_INT(calls, 0);
    end(w);
}

static void a_folder_may_go_and_come(void) {
    begin();
    nh_watch *w = watch(at("rules"));
    unlink(at("rules/a.lua"));
    CHECK(rmdir(at("rules")) == 0);
    CHECK(called_since(0));
    int before = atomic_load(&calls);
    CHECK(mkdir(at("rules"), 0755) == 0);
    put(at("rules/a.lua"), "return 2");
    CHECK(called_since(before));
    settle();
    before = atomic_load(&calls);
    put(at("rules/a.lua"), "return 3");
    CHECK(called_since(before));
    settle();
    before = atomic_load(&calls);
    CHECK(rename(at("rules"), at("old")) == 0);
    CHECK(called_since(before));
    settle();
    before = atomic_load(&calls);
    put(at("old/a.lua"), "return 4");
    CHECK(nothing_happens());
    CHECK(rename(at("old"), at("rules")) == 0);
    CHECK(called_since(before));
    end(w);
}

static void what_is_not_there_yet_is_waited_for(void) {
    begin();
    nh_watch *w = watch(at("later/deep/rules"));
    CHECK(mkdir(at("later"), 0755) == 0);
    CHECK(nothing_happens());
    CHECK(mkdir(at("later/deep"), 0755) == 0);
    CHECK(nothing_happens());
    CHECK(mkdir(at("later/deep/rules"), 0755) == 0);
    put(at("later/deep/rules/a.lua"), "return 1");
    CHECK(called_since(0));
    end(w);
}

static void folders_inside_count(void) {
    begin();
    nh_watch *w = watch(at("rules"));
    CHECK(mkdir(at("rules/templates"), 0755) == 0);
    CHECK(called_since(0));
    settle();
    int before = atomic_load(&calls);
    put(at("rules/templates/mail.html"), "<p>");
    CHECK(called_since(before));
    end(w);
}

static void a_single_file_is_watched_alone(void) {
    begin();
    put(at("notifyhub.lua"), "return {}");
    nh_watch *w = watch(at("notifyhub.lua"));
    put(at("other.lua"), "x");
    CHECK(nothing_happens());
    CHECK_INT(calls, 0);
    put(at("new"), "return { 1 }");
    CHECK(rename(at("new"), at("notifyhub.lua")) == 0);
    CHECK(called_since(0));
    settle();
    int before = atomic_load(&calls);
    put(at("notifyhub.lua"), "return { 2 }");
    CHECK(called_since(before));
    end(w);
}

/* rules -> current/rules, and current -> v1, which is turned to v2. */
static void a_link_on_the_way_may_be_turned(void) {
    begin();
    mkdir(at("v1"), 0755), mkdir(at("v2"), 0755);
    mkdir(at("v1/rules"), 0755), mkdir(at("v2/rules"), 0755);
    put(at("v1/rules/a.lua"), "return 1");
    put(at("v2/rules/a.lua"), "return 1");
    CHECK(symlink("v1", at("current")) == 0);
    CHECK(symlink("current/rules", at("linked")) == 0);
    nh_watch *w = watch(at("linked"));
    CHECK(symlink("v2", at("next")) == 0);
    CHECK(rename(at("next"), at("current")) == 0);
    CHECK(called_since(0));
    settle();
    int before = atomic_load(&calls);
    put(at("v1/rules/a.lua"), "return 9");
    CHECK(nothing_happens());
    CHECK_INT(calls, before);
    put(at("v2/rules/a.lua"), "return 2");
    CHECK(called_since(before));
    end(w);
}

/* A ConfigMap: every file is a link through ..data, which is renamed into place. */
static void a_config_map_is_followed(void) {
    begin();
    mkdir(at("map"), 0755), mkdir(at("map/..1"), 0755), mkdir(at("map/..2"), 0755);
    put(at("map/..1/a.lua"), "return 1");
    put(at("map/..2/a.lua"), "return 1");
    CHECK(symlink("..1", at("map/..data")) == 0);
    CHECK(symlink("..data/a.lua", at("map/a.lua")) == 0);
    nh_watch *w = watch(at("map"));
    CHECK(symlink("..2", at("map/..data_tmp")) == 0);
    CHECK(rename(at("map/..data_tmp"), at("map/..data")) == 0);
    CHECK(called_since(0));
    end(w);
}

static void a_burst_is_one_change(void) {
    begin();
    nh_watch *w = watch(at("rules"));
    uint64_t start = nh_monotonic();
    for (int i = 0; i < 1000; i++)
        put(at("rules/a.lua"), i % 2 ? "return 1" : "return 22");
    double took = (double)(nh_monotonic() - start) / (double)NH_SECOND;
    CHECK(called_since(0));
    settle();
    /* Two; on a machine that is stopped in between, one more for each pause. */
    CHECK(atomic_load(&calls) <= 2 + (int)(took / 0.1));
    end(w);
}

/* More events than the queue of the kernel takes, while nobody reads them. */
static void an_overflow_loses_no_change(void) {
    begin();
    nh_watch *w = watch(at("rules"));
    atomic_store(&held, true);
    put(at("rules/a.lua"), "return 2");
    CHECK(called_since(0));
    for (int i = 0; i < 6000; i++)
        put(at("rules/%c.csv", 'a' + i % 2), "x");
    put(at("rules/a.lua"), "return 33");
    atomic_store(&held, false);
    CHECK(called_since(1));
    end(w);
}

static void *stop(void *w) {
    nh_watch_end(w);
    return NULL;
}

static void nothing_is_told_after_the_end(void) {
    pthread_t stopper;
    begin();
    nh_watch *w = watch(at("rules"));
    atomic_store(&held, true);
    put(at("rules/a.lua"), "return 2");
    CHECK(called_since(0));
    pthread_create(&stopper, NULL, stop, w); /* waits for the call that is held */
    put(at("rules/a.lua"), "return 3");
    atomic_store(&held, false);
    pthread_join(stopper, NULL);
    int before = atomic_load(&calls);
    put(at("rules/a.lua"), "return 4");
    CHECK(nothing_happens());
    CHECK_INT(calls, before);
    end(NULL);
}

static void paths_are_checked(void) {
    nh_error error;
    char path[PATH_MAX + 2];
    const char *list[] = {path};
    memset(path, 'x', sizeof path);
    path[PATH_MAX + 1] = '\0';
    CHECK(!nh_watch_begin(list, 1, changed, NULL, NULL, &error));
    CHECK_INT(error.code, NH_E_CONFIG);
    *path = '\0';
    CHECK(!nh_watch_begin(list, 1, changed, NULL, NULL, &error));
    CHECK_INT(error.code, NH_E_CONFIG);
    nh_watch_end(NULL);
}

static void a_forked_child_only_frees(void) {
    begin();
    nh_watch *w = watch(at("rules"));
    pid_t child = fork();
    if (child == 0) {
        nh_watch_end(w);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    put(at("rules/a.lua"), "return 2");
    CHECK(called_since(0));
    end(w);
}

static atomic_int warnings;

static void count_warning(void *context, nh_log_level level, const char *line, size_t length) {
    (void)context, (void)line, (void)length;
    warnings += level == NH_LOG_WARN;
}

/* The kernel says of inotify_add_watch what it says when max_user_watches is reached. Holds for
 * this thread and those it makes, for ever: must be the last test. */
static void without_inotify_it_looks_now_and_then(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_inotify_add_watch, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSPC),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    nh_log_options options = {NH_LOG_WARN, NH_LOG_LOGFMT, NH_LOG_CALLBACK, count_warning, NULL};
    nh_log *log = nh_log_create(&options, NULL);
    begin();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        printf("# not tested: no seccomp here\n");
        end(NULL);
        nh_log_destroy(log);
        return;
    }
    const char *path = at("rules");
    nh_watch *w = nh_watch_begin(&path, 1, changed, NULL, log, NULL);
    CHECK_INT(warnings, 1);
    put(at("rules/a.lua"), "return 22");
    CHECK(called_since(0));
    int before = atomic_load(&calls);
    put(at("rules/b.lua"), "return 1");
    CHECK(called_since(before));
    CHECK_INT(warnings, 1);
    end(w);
    nh_log_destroy(log);
}

int main(void) {
    RUN(a_saved_file_is_told);
    RUN(files_that_do_not_count_are_not);
    RUN(a_folder_may_go_and_come);
    RUN(what_is_not_there_yet_is_waited_for);
    RUN(folders_inside_count);
    RUN(a_single_file_is_watched_alone);
    RUN(a_link_on_the_way_may_be_turned);
    RUN(a_config_map_is_followed);
    RUN(a_burst_is_one_change);
    RUN(an_overflow_loses_no_change);
    RUN(nothing_is_told_after_the_end);
    RUN(paths_are_checked);
    RUN(a_forked_child_only_frees);
    RUN(without_inotify_it_looks_now_and_then);
    return check_end();
}
