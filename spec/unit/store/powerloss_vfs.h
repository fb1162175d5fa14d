/* powerloss_vfs.h — a VFS for SQLite whose disk forgets what was not synced, and can fail.
 *
 * Writes to the journal and its log stay in memory until the file is synced; reads see them. So
 * when the process ends, the real file has what a disk would have after a power loss at the worst.
 * `powerloss_cut` ends it with the usual: some of the unsynced sectors have made it, in any order.
 * Sizes follow the writes that were synced. All of it is called by one thread at a time.
 */
#ifndef NH_SPEC_POWERLOSS_VFS_H
#define NH_SPEC_POWERLOSS_VFS_H

#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    bool keep;              /* unsynced writes are kept back; otherwise all passes through */
    bool lie;               /* a sync says that it was done and does nothing */
    atomic_int sync_fails;  /* so many syncs fail from now on */
    atomic_int main_fails;  /* so many of the journal's own file: its log is being moved there */
    atomic_int sync_ms;     /* a sync takes so long */
    atomic_bool full;       /* the disk is full: nothing grows, nothing is written */
    atomic_int cut_at_sync; /* > 0: the power goes at that sync, counting down */
    unsigned seed;
} powerloss;

typedef struct powerloss_write {
    struct powerloss_write *next;
    sqlite3_int64 at;
    int length; /* -1: the file ends at `at` */
    unsigned char bytes[];
} powerloss_write;

typedef struct powerloss_file {
    sqlite3_file base; /* first */
    struct powerloss_file *next;
    powerloss_write *writes, **last;
    sqlite3_int64 size;
    bool main;
    sqlite3_file real[]; /* of the system's VFS, behind this one */
} powerloss_file;

static powerloss_file *powerloss_files;

static inline powerloss_file *powerloss_of(sqlite3_file *file) {
    return (powerloss_file *)file;
}

static inline void powerloss_forget(powerloss_file *f) {
    while (f->writes) {
        powerloss_write *write = f->writes;
        f->writes = write->next;
        free(write);
    }
    f->last = &f->writes;
}

/* The power goes: some sectors of what was not synced are on the disk all the same. */
static inline void powerloss_cut(void) {
    enum { SECTOR = 512 };
    srand(powerloss.seed);
    int odds = rand() % 3; /* none, half, nearly all */
    for (powerloss_file *f = powerloss_files; f; f = f->next)
        for (powerloss_write *w = f->writes; w; w = w->next)
            for (int at = 0; at < w->length; at += SECTOR) {
                int length = w->length - at < SECTOR ? w->length - at : SECTOR;
                if (rand() % 8 < odds * 3 + odds / 2)
                    f->real->pMethods->xWrite(f->real, w->bytes + at, length, w->at + at);
            }
    kill(getpid(), SIGKILL);
}

static int powerloss_close(sqlite3_file *file) {
    powerloss_file *f = powerloss_of(file);
    powerloss_file **at = &powerloss_files;
    while (*at && *at != f)
        at = &(*at)->next;
    if (*at)
        *at = f->next;
    powerloss_forget(f);
    return f->real->pMethods->xClose(f->real);
}

static int powerloss_read(sqlite3_file *file, void *into, int length, sqlite3_int64 at) {
    powerloss_file *f = powerloss_of(file);
    if (!powerloss.keep)
        return f->real->pMethods->xRead(f->real, into, length, at);
    sqlite3_int64 there = f->size - at < length ? f->size - at : length;
    memset(into, 0, (size_t)length);
    int code = f->real->pMethods->xRead(f->real, into, length, at);
    if (code && code != SQLITE_IOERR_SHORT_READ)
        return code;
    for (powerloss_write *w = f->writes; w; w = w->next) {
        sqlite3_int64 end = w->length < 0 ? at + length : w->at + w->length;
        sqlite3_int64 from = w->at > at ? w->at : at;
        sqlite3_int64 to = end < at + length ? end : at + length;
        if (from < to && w->length < 0)
            memset((char *)into + (from - at), 0, (size_t)(to - from));
        else if (from < to)
            memcpy((char *)into + (from - at), w->bytes + (from - w->at), (size_t)(to - from));
    }
    return there < length ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

static int powerloss_add(powerloss_file *f, const void *bytes, int length, sqlite3_int64 at) {
    powerloss_write *write = malloc(sizeof *write + (length > 0 ? (size_t)length : 0));
    if (!write)
        return SQLITE_NOMEM;
    *write = (powerloss_write){.at = at, .length = length};
    if (length > 0)
        memcpy(write->bytes, bytes, (size_t)length);
    *f->last = write;
    f->last = &write->next;
    return SQLITE_OK;
}

static int powerloss_pwrite(sqlite3_file *file, const void *bytes, int length, sqlite3_int64 at) {
    powerloss_file *f = powerloss_of(file);
    if (powerloss.full)
        return SQLITE_FULL;
    if (!powerloss.keep)
        return f->real->pMethods->xWrite(f->real, bytes, length, at);
    if (f->size < at + length)
        f->size = at + length;
    return powerloss_add(f, bytes, length, at);
}

static int powerloss_truncate(sqlite3_file *file, sqlite3_int64 size) {
    powerloss_file *f = powerloss_of(file);
    if (!powerloss.keep)
        return f->real->pMethods->xTruncate(f->real, size);
    f->size = size;
    return powerloss_add(f, NULL, -1, size);
}

static int powerloss_sync(sqlite3_file *file, int flags) {
    powerloss_file *f = powerloss_of(file);
    if (powerloss.sync_ms > 0)
        usleep((useconds_t)powerloss.sync_ms * 1000);
    if (powerloss.sync_fails > 0) {
        powerloss.sync_fails--;
        return SQLITE_IOERR_FSYNC;
    }
    if (f->main && powerloss.main_fails > 0) {
        powerloss.main_fails--;
        return SQLITE_IOERR_FSYNC;
    }
    if (powerloss.cut_at_sync > 0 && --powerloss.cut_at_sync == 0)
        powerloss_cut();
    if (!powerloss.keep)
        return f->real->pMethods->xSync(f->real, flags);
    if (powerloss.lie)
        return SQLITE_OK;
    int code = SQLITE_OK;
    for (powerloss_write *w = f->writes; w && !code; w = w->next)
        code = w->length < 0 ? f->real->pMethods->xTruncate(f->real, w->at)
                             : f->real->pMethods->xWrite(f->real, w->bytes, w->length, w->at);
    if (!code)
        powerloss_forget(f);
    return code;
}

static int powerloss_size(sqlite3_file *file, sqlite3_int64 *size) {
    powerloss_file *f = powerloss_of(file);
    if (!powerloss.keep)
        return f->real->pMethods->xFileSize(f->real, size);
    *size = f->size;
    return SQLITE_OK;
}

static int powerloss_lock(sqlite3_file *file, int level) {
    sqlite3_file *real = powerloss_of(file)->real;
    return real->pMethods->xLock(real, level);
}

static int powerloss_unlock(sqlite3_file *file, int level) {
    sqlite3_file *real = powerloss_of(file)->real;
    return real->pMethods->xUnlock(real, level);
}

static int powerloss_reserved(sqlite3_file *file, int *out) {
    sqlite3_file *real = powerloss_of(file)->real;
    return real->pMethods->xCheckReservedLock(real, out);
}

static int powerloss_control(sqlite3_file *file, int op, void *argument) {
    (void)file, (void)op, (void)argument;
    return SQLITE_NOTFOUND; /* no hint may go past what is kept back */
}

static int powerloss_sector(sqlite3_file *file) {
    (void)file;
    return 512;
}

static int powerloss_device(sqlite3_file *file) {
    (void)file;
    return 0; /* promises nothing */
}

static const sqlite3_io_methods powerloss_methods = {
    .iVersion = 1,
    .xClose = powerloss_close,
    .xRead = powerloss_read,
    .xWrite = powerloss_pwrite,
    .xTruncate = powerloss_truncate,
    .xSync = powerloss_sync,
    .xFileSize = powerloss_size,
    .xLock = powerloss_lock,
    .xUnlock = powerloss_unlock,
    .xCheckReservedLock = powerloss_reserved,
    .xFileControl = powerloss_control,
    .xSectorSize = powerloss_sector,
    .xDeviceCharacteristics = powerloss_device,
};

static int powerloss_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                          int *out) {
    sqlite3_vfs *real = vfs->pAppData;
    powerloss_file *f = powerloss_of(file);
    int code = real->xOpen(real, name, f->real, flags, out);
    file->pMethods = NULL;
    if (code)
        return code;
    f->writes = NULL;
    f->main = (flags & SQLITE_OPEN_MAIN_DB) != 0;
    powerloss_forget(f);
    code = f->real->pMethods->xFileSize(f->real, &f->size);
    file->pMethods = &powerloss_methods;
    f->next = powerloss_files;
    powerloss_files = f;
    return code;
}

/* Registers it under the name "powerloss"; `for_all`: for whoever names no other one, too. */
static inline void powerloss_register(bool for_all) {
    static sqlite3_vfs vfs;
    sqlite3_vfs *real = sqlite3_vfs_find(NULL);
    vfs = *real;
    vfs.zName = "powerloss";
    vfs.pAppData = real;
    vfs.pNext = NULL;
    vfs.szOsFile = (int)sizeof(powerloss_file) + real->szOsFile;
    vfs.xOpen = powerloss_open;
    sqlite3_vfs_register(&vfs, for_all);
}

#endif
