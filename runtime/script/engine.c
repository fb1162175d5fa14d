/* engine.c — the Lua engine behind engine.h: checks a configuration once, loads the rules again and
 * again, and gives each worker a state of its own for each generation of them.
 *
 * Opening compiles the scripts and lets lib/main look at the configuration in a state that the
 * first worker then gets for its own; what it returns, with every default in place, is what the
 * workers' states are set up with.
 *
 * A reload reads the folder, loads it into a scratch state, runs the folder's own tests there, and
 * only then makes it the newest generation; whatever fails before leaves all as it was. Reloads
 * follow one another (`reloading`); `lock` guards the list of generations and is never held while a
 * script runs.
 */
#include <lauxlib.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/error.h"
#include "runtime/script/config.h"
#include "runtime/script/file.h"
#include "runtime/script/setup.h"
#include "runtime/script/task.h"
#include "runtime/script/value.h"
#include "runtime/script/vm.h"
#include "runtime/script/watch.h"
#include "runtime/store/shared.h"

enum {
    FOLDERS_MOST = 16,
    CONFIG_BYTES_MAX = 1 << 20,
    YOUNG_SECONDS = 1,
    TASKS_MANY = 1000, /* messages of a state, from which on it may be full because of them */
};

struct nh_engine {
    nh_bundle *bundle;
    nh_doc *config; /* with every default in place */
    nh_log *log;
    nh_limits limits;
    nh_shared *shared;
    char *folder; /* of the rules; NULL when there are none */
    nh_watch *watch;

    pthread_mutex_t reloading;
    pthread_mutex_t lock;
    nh_generation *generations; /* those in use, the newest first */
    nh_vm *prepared;            /* looked at the configuration; NULL once a worker has it */
    void (*published)(void *context);
    void *context;
    _Atomic uint64_t newest;
};

/* ----------------------------------------------------------- configuration */

/* A path of the configuration: relative ones are to be found beside its file. Owned; NULL when out
 * of memory. */
static char *place(const char *text, size_t length, const char *base) {
    const char *slash = base && *text != '/' ? strrchr(base, '/') : NULL;
    size_t prefix = slash ? (size_t)(slash + 1 - base) : 0;
    char *path = malloc(prefix + length + 1);
    if (!path)
        return NULL;
    memcpy(path, base ? base : "", prefix);
    memcpy(path + prefix, text, length);
    path[prefix + length] = '\0';
    return path;
}

/* Folders of script_path: a string or a list. */
static nh_err add_folder(const nh_value *value, const char *base, char **folders, size_t *count,
                         nh_error *error) {
    size_t length;
    const char *text = nh_value_bytes(value, &length);
    if (nh_value_kind(value) != NH_STRING || length == 0)
        return nh_fail(error, NH_E_CONFIG, "script_path: must be a folder or a list of folders");
    if (*count == FOLDERS_MOST)
        return nh_fail(error, NH_E_CONFIG, "script_path: more than %d folders", FOLDERS_MOST);
    if (!(folders[*count] = place(text, length, base)))
        return nh_fail_memory(error);
    ++*count;
    return NH_OK;
}

static nh_bundle *load_scripts(const nh_value *config, const char *base, nh_error *error) {
    char *folders[FOLDERS_MOST];
    size_t count = 0;
    nh_err failed = NH_OK;
    nh_bundle *bundle = NULL;
    const nh_value *path = nh_value_get(config, "script_path");
    if (nh_value_kind(path) == NH_ARRAY)
        for (size_t i = 0; i < nh_value_count(path) && !failed; i++)
            failed = add_folder(nh_value_at(path, i), base, folders, &count, error);
    else if (nh_value_kind(path) != NH_NIL)
        failed = add_folder(path, base, folders, &count, error);
    if (!failed)
        bundle = nh_bundle_create((const char *const *)folders, count, error);
    for (size_t i = 0; i < count; i++)
        free(folders[i]);
    return bundle;
}

/* Puts file and line before an error that begins with a key: "platforms.slack.tokn: unknown
 * option". */
static void locate(const char *path, nh_error *error) {
    char key[256], text[NH_ERROR_MESSAGE_MAX];
    nh_error unused;
    size_t length;
    if (!path || !error)
        return;
    size_t end = strcspn(error->message, ": \n");
    char *source = nh_file_read(path, CONFIG_BYTES_MAX, &length, &unused);
    if (source && end < sizeof key) {
        memcpy(key, error->message, end);
        key[end] = '\0';
        int line = nh_config_line(source, key);
        snprintf(text, sizeof text, "%s", error->message);
        if (line > 0)
            nh_fail(error, error->code, "%s:%d: %.900s", path, line, text);
        else
            nh_fail(error, error->code, "%s: %.900s", path, text);
    }
    free(source);
}

static nh_vm_setup setup_for(const nh_engine *engine, nh_generation *generation) {
    return (nh_vm_setup){.bundle = engine->bundle,
                         .config = engine->config,
                         .generation = generation,
                         .log = engine->log,
                         .limits = &engine->limits};
}

/* ------------------------------------------------------------- generations */

static void drop_generation(nh_engine *engine, nh_generation *generation) {
    pthread_mutex_lock(&engine->lock);
    bool last = --generation->refs == 0;
    for (nh_generation **link = &engine->generations; last && *link; link = &(*link)->next)
        if (*link == generation) {
            *link = generation->next;
            break;
        }
    pthread_mutex_unlock(&engine->lock);
    if (last) {
        nh_rules_unref(generation->rules);
        free(generation);
    }
}

/* Makes a generation the newest one; takes it. */
static void publish(nh_engine *engine, nh_generation *generation) {
    pthread_mutex_lock(&engine->lock);
    nh_generation *before = engine->generations;
    generation->next = before;
    generation->refs = 1;
    engine->generations = generation;
    atomic_store_explicit(&engine->newest, generation->number, memory_order_release);
    if (engine->published)
        engine->published(engine->context);
    pthread_mutex_unlock(&engine->lock);
    if (before) /* the reference of the newest */
        drop_generation(engine, before);
}

/* Loads the rules and tries them in a scratch state: their scripts run, and their tests. */
static nh_generation *load_generation(nh_engine *engine, nh_error *error) {
    nh_generation *made = calloc(1, sizeof *made);
    if (!made) {
        nh_fail_memory(error);
        return NULL;
    }
    made->number = atomic_load(&engine->newest) + 1;
    made->loaded_at = nh_wall();
    if (!engine->folder)
        return made;
    made->rules = nh_rules_load(engine->folder, NULL, error);
    if (!made->rules)
        goto fail;
    nh_vm_setup setup = setup_for(engine, made);
    setup.simulated = true;
    setup.log = NULL;
    nh_vm *vm = nh_vm_create(&setup, error);
    nh_err failed = vm ? nh_vm_set_up(vm, engine->config, error) : NH_E_SCRIPT;
    if (!failed) {
        nh_vm_push_main(vm, "self_test");
        failed = nh_vm_call_loading(vm, engine->config, 0, error);
    }
    nh_vm_destroy(vm);
    if (!failed)
        return made;
fail:
    nh_rules_unref(made->rules);
    free(made);
    return NULL;
}

static nh_err engine_reload(nh_engine *engine, nh_error *error) {
    if (!engine->folder)
        return nh_fail(
            error, NH_E_CONFIG,
            "there are no rules to load again: the configuration names no folder (rules)");
    nh_error fault;
    pthread_mutex_lock(&engine->reloading);
    nh_generation *made = load_generation(engine, &fault);
    uint64_t number = made ? made->number : atomic_load(&engine->newest);
    if (made)
        publish(engine, made);
    pthread_mutex_unlock(&engine->reloading);
    if (made) {
        nh_log_write(engine->log, NH_LOG_INFO, "rules loaded", nh_log_text("rules", engine->folder),
                     nh_log_int("generation", (int64_t)number));
        return NH_OK;
    }
    nh_log_write(engine->log, NH_LOG_ERROR, "rules not loaded, those before go on",
                 nh_log_text("rules", engine->folder), nh_log_int("generation", (int64_t)number),
                 nh_log_text("error", fault.message));
    return nh_fail(error, fault.code, "%s", fault.message);
}

/* The watcher's callback. */
static void changed(void *context) {
    engine_reload(context, NULL);
}

static void engine_subscribe(nh_engine *engine, void (*published)(void *context), void *context) {
    pthread_mutex_lock(&engine->lock);
    engine->published = published;
    engine->context = context;
    pthread_mutex_unlock(&engine->lock);
}

static uint64_t engine_generation(const nh_engine *engine) {
    return atomic_load_explicit(&engine->newest, memory_order_acquire);
}

static void engine_generations(nh_engine *engine, nh_writer *writer) {
    size_t count = 0;
    pthread_mutex_lock(&engine->lock);
    for (nh_generation *each = engine->generations; each; each = each->next)
        count++;
    nh_writer_array(writer, count);
    for (nh_generation *each = engine->generations; each; each = each->next) {
        nh_writer_map(writer, 3);
        nh_writer_cstring(writer, "number");
        nh_writer_int(writer, (int64_t)each->number);
        nh_writer_cstring(writer, "loaded_at");
        nh_writer_real(writer, each->loaded_at);
        nh_writer_cstring(writer, "messages");
        nh_writer_int(writer, (int64_t)atomic_load(&each->tasks));
    }
    pthread_mutex_unlock(&engine->lock);
}

/* ------------------------------------------------------- opening and closing */

static void engine_close(nh_engine *engine) {
    if (!engine)
        return;
    nh_watch_end(engine->watch);
    nh_vm_destroy(engine->prepared);
    if (engine->generations)
        drop_generation(engine, engine->generations);
    nh_shared_destroy(engine->shared);
    nh_doc_unref(engine->config);
    nh_bundle_destroy(engine->bundle);
    pthread_mutex_destroy(&engine->lock);
    pthread_mutex_destroy(&engine->reloading);
    free(engine->folder);
    free(engine);
}

static int64_t integer(const nh_value *map, const char *name, int64_t otherwise) {
    return nh_value_int(nh_value_get(map, name), otherwise);
}

static void read_limits(nh_limits *limits, const nh_value *given) {
    static const nh_limits standard = NH_LIMITS_DEFAULT;
    *limits = (nh_limits){
        .slice = nh_value_real(nh_value_get(given, "slice"), standard.slice),
        .state_memory = (size_t)integer(given, "state_memory", (int64_t)standard.state_memory),
        .message_memory =
            (size_t)integer(given, "message_memory", (int64_t)standard.message_memory),
        .depth = (int)integer(given, "depth", standard.depth),
        .string_bytes = (size_t)integer(given, "string_bytes", (int64_t)standard.string_bytes),
        .pattern_steps = (uint64_t)integer(given, "pattern_steps", (int64_t)standard.pattern_steps),
    };
}

/* Everything of the configuration that the engine itself follows. */
static nh_err read_config(nh_engine *engine, const char *base, nh_error *error) {
    const nh_value *root = nh_doc_root(engine->config);
    const nh_value *limits = nh_value_get(root, "limits");
    size_t length;
    const char *rules = nh_value_bytes(nh_value_get(root, "rules"), &length);
    read_limits(&engine->limits, limits);
    nh_shared_limits shared = {.entries = (size_t)integer(limits, "store_entries", 0),
                               .bytes = (size_t)integer(limits, "store_bytes", 0)};
    engine->shared = nh_shared_create(&shared, NULL, error);
    if (!engine->shared || (rules && !(engine->folder = place(rules, length, base))))
        return nh_fail_memory(error);
    return NH_OK;
}

/* The engine with a checked configuration and no rules yet; the error is located in the file. */
static nh_engine *make_engine(const nh_doc *config, nh_log *log, nh_error *error) {
    char path[PATH_MAX] = "";
    size_t length;
    const nh_value *root = nh_doc_root(config);
    const char *told = nh_value_bytes(nh_value_get(root, "config_file"), &length);
    if (told && length < sizeof path)
        memcpy(path, told, length);
    nh_engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        nh_fail_memory(error);
        return NULL;
    }
    pthread_mutex_init(&engine->lock, NULL);
    pthread_mutex_init(&engine->reloading, NULL);
    engine->log = log;
    read_limits(&engine->limits, NULL);
    engine->bundle = load_scripts(root, *path ? path : NULL, error);
    nh_vm_setup setup = setup_for(engine, NULL);
    engine->prepared = engine->bundle ? nh_vm_create(&setup, error) : NULL;
    if (engine->prepared) {
        engine->config = nh_vm_prepare(engine->prepared, config, error);
        if (!engine->config && error->code == NH_E_CONFIG)
            locate(*path ? path : NULL, error);
    }
    if (engine->config && read_config(engine, *path ? path : NULL, error) == NH_OK)
        return engine;
    engine_close(engine);
    return NULL;
}

static nh_err engine_restore(nh_engine *engine, const char *key, size_t length, const void *value,
                             size_t value_length, double expires_at, nh_error *error) {
    return nh_shared_load(engine->shared, key, length, value, value_length, expires_at, error);
}

static void engine_keep(nh_engine *engine,
                        void (*tell)(void *context, const char *key, size_t length,
                                     const void *value, size_t value_length, double expires_at),
                        void *context) {
    nh_shared_keep(engine->shared, &(nh_shared_journal){.changed = tell, .context = context});
}

static nh_err engine_open(const nh_doc *config, nh_log *log, nh_engine **out, nh_error *error) {
    nh_error fault = {.code = NH_E_INTERNAL};
    nh_engine *engine = make_engine(config, log, &fault);
    if (!engine)
        return nh_fail(error, fault.code, "%s", fault.message);
    nh_generation *first = load_generation(engine, &fault);
    if (!first)
        goto fail;
    publish(engine, first);
    const nh_value *reload = nh_value_get(nh_doc_root(engine->config), "reload");
    if (engine->folder && nh_value_bool(nh_value_get(reload, "watch"))) {
        const char *paths[] = {engine->folder};
        engine->watch = nh_watch_begin(paths, 1, changed, engine, log, &fault);
        if (!engine->watch)
            goto fail;
    }
    *out = engine;
    return NH_OK;
fail:
    engine_close(engine);
    return nh_fail(error, fault.code, "%s", fault.message);
}

static const nh_doc *engine_config(const nh_engine *engine) {
    return engine->config;
}

static nh_doc *engine_platforms(const nh_engine *engine, nh_error *error) {
    nh_vm_setup setup = setup_for(engine, NULL);
    nh_vm *vm = nh_vm_create(&setup, error);
    nh_doc *doc = vm ? nh_vm_ask(vm, "platforms", engine->config, error) : NULL;
    nh_vm_destroy(vm);
    return doc;
}

/* ------------------------------------------------------------------- tools */

/* {problems = {text…}} of what kept the rules from being loaded at all. */
static nh_doc *write_problems(const nh_problems *problems, nh_error *error) {
    nh_writer *writer = nh_writer_create();
    if (!writer) {
        nh_fail_memory(error);
        return NULL;
    }
    nh_writer_map(writer, 1);
    nh_writer_cstring(writer, "problems");
    nh_writer_array(writer, problems->count);
    for (size_t i = 0; i < problems->count; i++)
        nh_writer_cstring(writer, problems->lines[i]);
    nh_doc *doc = nh_writer_finish(writer, error);
    nh_writer_destroy(writer);
    return doc;
}

/* A question about rules, answered in a scratch state that can send nothing. Mistakes in the rules
 * are part of the answer of "check", and errors of the others. */
static nh_doc *engine_ask(const char *question, const nh_doc *config, const nh_doc *argument,
                          nh_error *error) {
    nh_error fault = {.code = NH_E_INTERNAL};
    nh_problems problems = {.count = 0};
    nh_doc *answer = NULL;
    nh_vm *vm = NULL;
    nh_generation generation = {.number = 1, .loaded_at = nh_wall()};
    bool check = strcmp(question, "check") == 0;
    nh_engine *engine = make_engine(config, NULL, &fault);
    if (engine && engine->folder)
        generation.rules = nh_rules_load(engine->folder, check ? &problems : NULL, &fault);
    if (!engine || (engine->folder && !generation.rules))
        goto done;
    nh_vm_setup setup = setup_for(engine, &generation);
    setup.simulated = true;
    setup.problems = &problems;
    vm = nh_vm_create(&setup, &fault);
    if (!vm || (!check && nh_vm_set_up(vm, engine->config, &fault) != NH_OK))
        goto done;
    /* A simulated message's pauses begin no new slice: it has the time of loading in all. */
    nh_vm_allow_loading(vm, engine->config);
    answer = nh_vm_ask(vm, question, check ? engine->config : argument, &fault);
done:
    if (!answer && check && fault.code != NH_E_INTERNAL) {
        nh_problems_add(&problems, fault.message);
        answer = write_problems(&problems, &fault);
    }
    nh_vm_destroy(vm);
    nh_problems_clear(&problems);
    nh_rules_unref(generation.rules);
    engine_close(engine);
    if (!answer)
        nh_fail(error, fault.code, "%s", fault.message);
    return answer;
}

/* ----------------------------------------------------------------- workers */

static nh_err vm_open(nh_engine *engine, const nh_host *host, nh_vm **out, nh_error *error) {
    pthread_mutex_lock(&engine->lock);
    nh_generation *generation = engine->generations;
    nh_vm *vm = engine->prepared;
    generation->refs++;
    engine->prepared = NULL;
    pthread_mutex_unlock(&engine->lock);
    nh_vm_setup setup = setup_for(engine, generation);
    setup.host = host;
    setup.shared = engine->shared;
    if (vm)
        nh_vm_adopt(vm, &setup);
    else
        vm = nh_vm_create(&setup, error);
    nh_err failed = vm ? nh_vm_set_up(vm, engine->config, error) : NH_E_SCRIPT;
    if (failed) {
        nh_vm_destroy(vm);
        drop_generation(engine, generation);
        return failed;
    }
    vm->engine = engine;
    vm->opened = nh_monotonic();
    *out = vm;
    return NH_OK;
}

static void vm_close(nh_vm *vm) {
    nh_engine *engine = vm->engine;
    nh_generation *generation = vm->setup.generation;
    nh_vm_destroy(vm);
    drop_generation(engine, generation);
}

static size_t vm_memory(const nh_vm *vm) {
    return vm->limiter.held;
}

/* A state that stays full after a collection is worn, but not a young one, which would be full
 * again at once. One that many messages have half filled (they sleep, as a rule) takes no more,
 * too: they need the other half when they wake, and a collection of a full state would come with
 * every message. */
static bool vm_worn(nh_vm *vm) {
    if (vm->tasks >= TASKS_MANY && vm->limiter.held > vm->limiter.limits.state_memory / 2)
        return true;
    if (!nh_limiter_is_high(&vm->limiter) ||
        nh_monotonic() - vm->opened < (uint64_t)YOUNG_SECONDS * NH_SECOND)
        return false;
    lua_gc(vm->L, LUA_GCCOLLECT);
    return nh_limiter_is_high(&vm->limiter);
}

static const nh_engine_ops ops = {
    .abi = NH_ENGINE_ABI,
    .open = engine_open,
    .close = engine_close,
    .config = engine_config,
    .platforms = engine_platforms,
    .load_config = nh_config_read,
    .ask = engine_ask,
    .reload = engine_reload,
    .subscribe = engine_subscribe,
    .generation = engine_generation,
    .generations = engine_generations,
    .vm_open = vm_open,
    .vm_close = vm_close,
    .vm_memory = vm_memory,
    .vm_worn = vm_worn,
    .task_start = nh_script_start,
    .task_stop = nh_script_stop,
    .restore = engine_restore,
    .keep = engine_keep,
    .op_done = nh_script_op_done,
};

NH_API const nh_engine_ops *nh_engine_entry(void);

const nh_engine_ops *nh_engine_entry(void) {
    return &ops;
}
