/* rules.c — reads a folder of rules. What is read is one moment's picture as far as a file system
 * gives one: the watcher waits until a folder is quiet, each file is read whole before anything of
 * it is used, and a link that leads to the folder is followed once, so that a folder exchanged
 * meanwhile is not read in parts. Errors and chunks name files by the path that was given.
 */
#include "runtime/script/rules.h"

#include <dirent.h>
#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/core/error.h"
#include "runtime/script/file.h"

enum { TEMPLATE_BYTES_MAX = 256 << 10, DEPTH_MOST = 1 };

typedef struct template_file {
    char *name;
    char *text;
    size_t length;
} template_file;

struct nh_rules {
    atomic_uint refs;
    char *folder;
    nh_bundle *scripts;
    template_file *templates;
    size_t template_count;
};

/* What a load goes on with. */
typedef struct loading {
    nh_rules *rules;
    lua_State *L; /* compiles */
    nh_problems *problems;
    nh_error *error;
    char root[PATH_MAX]; /* where the folder really is */
    size_t files;
    bool failed;
} loading;

/* ---------------------------------------------------------------- problems */

void nh_problems_add(nh_problems *problems, const char *line) {
    if (problems->count == NH_RULES_PROBLEMS_MAX)
        return;
    char *copy = strdup(line);
    if (copy)
        problems->lines[problems->count++] = copy;
}

void nh_problems_clear(nh_problems *problems) {
    for (size_t i = 0; i < problems->count; i++)
        free(problems->lines[i]);
    problems->count = 0;
}

/* Notes a problem; returns whether to go on. */
static bool tolerate(loading *l, const nh_error *fault) {
    if (!l->failed && l->error)
        *l->error = *fault;
    l->failed = true;
    if (!l->problems)
        return false;
    nh_problems_add(l->problems, fault->message);
    return l->problems->count < NH_RULES_PROBLEMS_MAX;
}

/* ----------------------------------------------------------------- reading */

static bool has_suffix(const char *name, const char *suffix) {
    size_t length = strlen(name), tail = strlen(suffix);
    return length > tail && strcmp(name + length - tail, suffix) == 0;
}

static bool is_text(const char *name) {
    return has_suffix(name, ".txt") || has_suffix(name, ".md") || has_suffix(name, ".html");
}

/* The place to read what has this path below the folder. */
static const char *real_place(const loading *l, const char *path, char place[2 * PATH_MAX]) {
    snprintf(place, 2 * PATH_MAX, "%s%s", l->root, path + strlen(l->rules->folder));
    return place;
}

/* The text of a file; errors name it by its path as given. */
static char *read_text(const loading *l, const char *path, size_t most, size_t *length,
                       nh_error *error) {
    char place[2 * PATH_MAX];
    char *text = nh_file_read(real_place(l, path, place), most, length, error);
    const char *words = text ? NULL : strstr(error->message, place);
    if (words) {
        char rest[NH_ERROR_MESSAGE_MAX];
        snprintf(rest, sizeof rest, "%s", words + strlen(place));
        nh_fail(error, error->code, "%.500s%.400s", path, rest);
    }
    return text;
}

/* Editors leave files that look like others: "#name.lua#" and "name.lua~" do not end in .lua,
 * ".#name.lua" is hidden. */
static int visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static bool add_script(loading *l, const char *path, const char *name) {
    char chunk[PATH_MAX + 1];
    size_t length;
    nh_error fault;
    char *source = read_text(l, path, NH_SCRIPT_BYTES_MAX, &length, &fault);
    snprintf(chunk, sizeof chunk, "@%s", path);
    nh_err failed =
        source ? nh_bundle_add(l->rules->scripts, l->L, name, chunk, source, length, &fault)
               : fault.code;
    free(source);
    return !failed || tolerate(l, &fault);
}

static bool add_template(loading *l, const char *path, const char *name) {
    nh_rules *rules = l->rules;
    nh_error fault;
    template_file made = {.name = strdup(name)};
    made.text = read_text(l, path, TEMPLATE_BYTES_MAX, &made.length, &fault);
    template_file *grown =
        realloc(rules->templates, (rules->template_count + 1) * sizeof *rules->templates);
    if (grown)
        rules->templates = grown;
    if (made.name && made.text && grown) {
        rules->templates[rules->template_count++] = made;
        return true;
    }
    if (made.text)
        nh_fail_memory(&fault);
    free(made.name);
    free(made.text);
    return tolerate(l, &fault);
}

static bool walk(loading *l, const char *path, const char *prefix, int depth);

static bool visit(loading *l, const char *folder, const char *prefix, const char *entry,
                  int depth) {
    char path[PATH_MAX], name[PATH_MAX], place[2 * PATH_MAX];
    struct stat status;
    nh_error fault;
    if (snprintf(path, sizeof path, "%s/%s", folder, entry) >= (int)sizeof path ||
        snprintf(name, sizeof name, "%s%s", prefix, entry) >= (int)sizeof name) {
        nh_fail(&fault, NH_E_CONFIG, "%.500s: the path is too long", folder);
        return tolerate(l, &fault);
    }
    if (stat(real_place(l, path, place), &status) != 0)
        return true; /* gone since the folder was listed, or a link to nowhere: editors' locks */
    if (S_ISDIR(status.st_mode)) {
        snprintf(name, sizeof name, "%s%.255s.", prefix, entry);
        return depth == DEPTH_MOST || walk(l, path, name, depth + 1);
    }
    bool templates = strcmp(prefix, "templates.") == 0;
    bool script = has_suffix(entry, ".lua");
    if (!S_ISREG(status.st_mode) || !(script || (templates && is_text(entry))))
        return true;
    if (++l->files > NH_RULES_FILES_MAX) {
        nh_fail(&fault, NH_E_CONFIG, "%s: more than %d files", l->rules->folder,
                NH_RULES_FILES_MAX);
        return tolerate(l, &fault);
    }
    if (!script)
        return add_template(l, path, entry);
    name[strlen(name) - 4] = '\0';
    return add_script(l, path, name);
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* In the order of the bytes, not of a locale: the same everywhere. */
static bool walk(loading *l, const char *path, const char *prefix, int depth) {
    struct dirent **entries;
    char place[2 * PATH_MAX];
    nh_error fault;
    int count = scandir(real_place(l, path, place), &entries, visible, by_bytes);
    if (count < 0) {
        nh_fail(&fault, NH_E_CONFIG, "%s%s: %s", depth == 0 ? "rules: " : "", path,
                strerror(errno));
        return tolerate(l, &fault);
    }
    bool more = true;
    for (int i = 0; i < count; i++) {
        more = more && visit(l, path, prefix, entries[i]->d_name, depth);
        free(entries[i]);
    }
    free(entries);
    return more;
}

nh_rules *nh_rules_load(const char *folder, nh_problems *problems, nh_error *error) {
    nh_rules *rules = calloc(1, sizeof *rules);
    loading l = {.rules = rules, .L = luaL_newstate(), .problems = problems, .error = error};
    if (!rules || !l.L || !(rules->scripts = nh_bundle_new()) ||
        !(rules->folder = strdup(folder))) {
        nh_fail_memory(error);
        l.failed = true;
    } else {
        atomic_init(&rules->refs, 1);
        if (!realpath(folder, l.root)) /* the walk says what is wrong */
            snprintf(l.root, sizeof l.root, "%s", folder);
        walk(&l, folder, "", 0);
    }
    if (l.L)
        lua_close(l.L);
    if (!l.failed || (problems && problems->count > 0))
        return rules;
    if (rules) {
        atomic_store(&rules->refs, 1);
        nh_rules_unref(rules);
    }
    return NULL;
}

nh_rules *nh_rules_ref(nh_rules *rules) {
    atomic_fetch_add_explicit(&rules->refs, 1, memory_order_relaxed);
    return rules;
}

void nh_rules_unref(nh_rules *rules) {
    if (!rules || atomic_fetch_sub_explicit(&rules->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < rules->template_count; i++) {
        free(rules->templates[i].name);
        free(rules->templates[i].text);
    }
    free(rules->templates);
    nh_bundle_destroy(rules->scripts);
    free(rules->folder);
    free(rules);
}

const nh_bundle *nh_rules_scripts(const nh_rules *rules) {
    return rules->scripts;
}

const char *nh_rules_folder(const nh_rules *rules) {
    return rules->folder;
}

void nh_rules_push_templates(const nh_rules *rules, lua_State *L) {
    lua_createtable(L, 0, (int)rules->template_count);
    for (size_t i = 0; i < rules->template_count; i++) {
        lua_pushlstring(L, rules->templates[i].text, rules->templates[i].length);
        lua_setfield(L, -2, rules->templates[i].name);
    }
}
