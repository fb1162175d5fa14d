/* rules.h — one generation of the rules: the scripts and templates of a folder as they were read at
 * one moment.
 *
 * Every *.lua of the folder is a script of its own, run in name order; those of its subfolders are
 * modules that only a `require` runs ("sub.name"). *_test.lua are the folder's own tests, and
 * templates/ holds texts. Hidden files and editors' leavings are passed over. Counted, and
 * immutable once it is loaded.
 */
#ifndef NH_SCRIPT_RULES_H
#define NH_SCRIPT_RULES_H

#include "runtime/script/bundle.h"

typedef struct nh_rules nh_rules;

enum { NH_RULES_FILES_MAX = 1000, NH_RULES_PROBLEMS_MAX = 100 };

/* All that is wrong with a folder, for somebody to read: lines of "file:line: message". */
typedef struct nh_problems {
    char *lines[NH_RULES_PROBLEMS_MAX];
    size_t count;
} nh_problems;

void nh_problems_add(nh_problems *problems, const char *line);
void nh_problems_clear(nh_problems *problems);

/* Reads and compiles; runs nothing. With `problems` (may be NULL) it goes on after one, tells all
 * of them, and returns what is there without the broken files. Thread: any. Blocks: on the files.
 * Errors: NH_E_CONFIG, NH_E_INTERNAL. */
nh_rules *nh_rules_load(const char *folder, nh_problems *problems, nh_error *error);
nh_rules *nh_rules_ref(nh_rules *rules);
void nh_rules_unref(nh_rules *rules); /* NULL is allowed */

/* The scripts, each under its name without the suffix, in the order in which they run. */
const nh_bundle *nh_rules_scripts(const nh_rules *rules);
const char *nh_rules_folder(const nh_rules *rules);
/* Pushes {file name = text} [-0, +1]. May raise. */
void nh_rules_push_templates(const nh_rules *rules, lua_State *L);

#endif
