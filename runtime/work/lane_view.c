/* lane_view.c — what is told of lanes. Any thread; a lane's figures are read under its lock.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/work/lane_parts.h"

/* Lock held. */
static nh_lane_view view_of(const lane *l, uint64_t now) {
    nh_lane_view view = {.limit = l->limit, .held = l->held, .again = l->again};
    for (int i = 0; i < KINDS * NH_PRIORITIES; i++) {
        const line *each = &l->lines[i / NH_PRIORITIES];
        int priority = i % NH_PRIORITIES;
        const nh_slot *first = each->first[priority];
        double age = first && now > first->since ? (double)(now - first->since) / 1e9 : 0;
        view.waiting[priority] += each->counts[priority];
        view.oldest = age > view.oldest ? age : view.oldest;
    }
    return view;
}

static bool look(nh_lanes *lanes, nh_entry *entry, uint64_t now, nh_lane_view *view) {
    *view = (nh_lane_view){0};
    if (!entry)
        return false;
    *view = view_of((lane *)entry, now);
    nh_keyed_leave(lanes->table, entry);
    return true;
}

void nh_lane_look(nh_lanes *lanes, const char *key, size_t length, uint64_t now,
                  nh_lane_view *view) {
    look(lanes, nh_keyed_enter(lanes->table, key, length, false, now), now, view);
}

bool nh_lane_look_named(nh_lanes *lanes, uint64_t name, uint64_t now, nh_lane_view *view) {
    return look(lanes, nh_keyed_find(lanes->table, name), now, view);
}

void nh_lanes_read(nh_lanes *lanes, nh_lane_figures *figures) {
    nh_keyed_read(lanes->table, &figures->table);
    figures->held = atomic_load_explicit(&lanes->held, memory_order_relaxed);
    figures->waiting = atomic_load_explicit(&lanes->waiting, memory_order_relaxed);
    figures->backoffs = atomic_load_explicit(&lanes->backoffs, memory_order_relaxed);
}

/* ----------------------------------------------------------------- writing */

void nh_lane_write_view(const nh_lane_view *view, nh_writer *writer) {
    unsigned all = 0;
    for (int priority = NH_LOW; priority < NH_PRIORITIES; priority++)
        all += view->waiting[priority];
    nh_writer_cstring(writer, "limit");
    nh_writer_int(writer, view->limit);
    nh_writer_cstring(writer, "in_flight");
    nh_writer_int(writer, view->held);
    nh_writer_cstring(writer, "waiting");
    nh_writer_int(writer, all);
    nh_writer_cstring(writer, "oldest");
    nh_writer_real(writer, view->oldest);
}

typedef struct shown {
    char key[NH_KEYED_KEY_MAX + 1];
    nh_lane_view view;
} shown;

typedef struct list {
    const nh_keyed *table;
    shown *at;
    size_t count, most;
    uint64_t now;
} list;

static bool collect(nh_entry *entry, void *user) {
    list *found = user;
    shown *one = &found->at[found->count++];
    memcpy(one->key, nh_keyed_key(found->table, entry), entry->length + 1);
    one->view = view_of((lane *)entry, found->now);
    return found->count < found->most;
}

/* The lanes are copied first: their number stands before them, and no lock is held while a writer
 * grows. */
void nh_lanes_write(nh_lanes *lanes, nh_writer *writer, size_t most, uint64_t now) {
    nh_keyed_figures figures;
    nh_keyed_read(lanes->table, &figures);
    list found = {.table = lanes->table, .now = now};
    found.most = figures.keys < most ? figures.keys : most;
    if (found.most > 0 && (found.at = malloc(found.most * sizeof *found.at)))
        nh_keyed_each(lanes->table, collect, &found);
    nh_writer_map(writer, found.count);
    for (size_t i = 0; i < found.count; i++) {
        nh_writer_cstring(writer, found.at[i].key);
        nh_writer_map(writer, NH_LANE_VIEW_PAIRS);
        nh_lane_write_view(&found.at[i].view, writer);
    }
    free(found.at);
}
