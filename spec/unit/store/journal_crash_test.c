/* journal_crash_test.c — what was accepted is there after the process or the power went: a child
 * sends and delivers and tells what it did through a pipe, until it is killed; then the next one.
 *
 *     unit_store_journal_crash [SECONDS]     60 or more: ten times as many power losses
 */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "spec/unit/store/journal_support.h"
#include "spec/unit/store/powerloss_vfs.h"

enum {
    SENDERS = 3,
    BATCH = 10,
    LEASE = 64,
    NUMBERS = 1 << 20,
    DELIVERED = 1 << 30, /* a bit in what the child tells */
};

static const nh_store_ops *ops = &nh_store_journal;
static int tell_fd;
static atomic_uint next_number;
static int cuts = 30; /* power losses */

/* -------------------------------------------------------------------- child */

static void tell(const uint32_t *numbers, size_t count) {
    const char *bytes = (const char *)numbers;
    size_t left = count * sizeof *numbers;
    while (left > 0) {
        ssize_t done = write(tell_fd, bytes, left);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            _exit(3);
        bytes += done;
        left -= (size_t)done;
    }
}

static void *send_until_killed(void *store) {
    uint32_t numbers[BATCH];
    for (;;) {
        uint32_t from = atomic_fetch_add(&next_number, BATCH);
        if (from + BATCH >= NUMBERS || support_fill(store, from, BATCH, NH_NORMAL, false))
            return NULL;
        for (uint32_t i = 0; i < BATCH; i++)
            numbers[i] = from + i;
        tell(numbers, BATCH); /* at most PIPE_BUF: in one piece */
    }
}

/* A delivery is told before it is acked, as a platform has it before we know. */
static void deliver_until_killed(nh_store *store) {
    support_row rows[LEASE];
    for (;;) {
        size_t count = support_lease(store, rows, LEASE, NULL);
        for (size_t i = 0; i < count; i++) {
            uint32_t number = rows[i].number | DELIVERED;
            tell(&number, 1);
            if (ops->ack(store, &rows[i].row, 1))
                _exit(4);
        }
        if (count == 0)
            usleep(1000);
    }
}

static void child_main(const char *vfs, bool deliver) {
    pthread_t threads[SENDERS];
    nh_store *store = support_open("crash", (nh_store_options){.vfs = vfs});
    if (!store)
        _exit(5);
    for (int i = 0; i < SENDERS; i++)
        if (pthread_create(&threads[i], NULL, send_until_killed, store))
            _exit(6);
    if (deliver)
        deliver_until_killed(store);
    for (;;)
        pause();
}

/* ------------------------------------------------------------------- parent */

typedef struct ledger {
    unsigned char accepted[NUMBERS], delivered[NUMBERS];
    unsigned accepted_count, delivered_count, highest;
} ledger;

static ledger book;

static void note(uint32_t told) {
    uint32_t number = told & (NUMBERS - 1);
    unsigned char *count = told & DELIVERED ? &book.delivered[number] : &book.accepted[number];
    if (*count < 255)
        ++*count;
    book.accepted_count += !(told & DELIVERED);
    book.delivered_count += told & DELIVERED ? 1 : 0;
    if (number > book.highest)
        book.highest = number;
}

/* Runs a child until it has told `tells` times and kills it, or until it ends by itself. Returns
 * how it ended. */
static int run_child(const char *vfs, bool deliver, unsigned tells) {
    int ends[2], status;
    uint32_t told;
    CHECK(pipe(ends) == 0);
    next_number = (book.highest / BATCH + 2 * SENDERS) * BATCH;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        tell_fd = ends[1];
        child_main(vfs, deliver);
    }
    close(ends[1]);
    for (unsigned i = 0; read(ends[0], &told, sizeof told) == sizeof told; i++) {
        note(told);
        if (i == tells)
            kill(child, SIGKILL);
    }
    close(ends[0]);
    waitpid(child, &status, 0);
    return status;
}

/* How many were accepted and are neither delivered nor in the journal. */
static unsigned lost(void) {
    static support_row rows[4096];
    nh_error error;
    nh_store_options options = {.path = support_path("crash")};
    nh_store *store = ops->open(&options, &error);
    if (!store)
        printf("# %s\n", error.message);
    for (size_t count; store && (count = support_lease(store, rows, 4096, NULL)) > 0;)
        for (size_t i = 0; i < count; i++)
            note(rows[i].number | DELIVERED);
    if (store)
        support_close(store);
    unsigned missing = 0;
    for (size_t i = 0; i < NUMBERS; i++)
        missing += book.accepted[i] && !book.delivered[i];
    return missing;
}

static unsigned duplicates(void) {
    unsigned count = 0;
    for (size_t i = 0; i < NUMBERS; i++)
        count += book.delivered[i] > 1 ? book.delivered[i] - 1u : 0;
    return count;
}

static void begin(unsigned seed) {
    support_forget("crash");
    memset(&book, 0, sizeof book);
    srand(seed);
}

static void nothing_accepted_is_lost_when_the_process_is_killed(void) {
    enum { KILLS = 25 };
    begin(1);
    for (int i = 0; i < KILLS; i++) {
        int status = run_child(NULL, i % 3 > 0, (unsigned)(rand() % 1500));
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    CHECK_INT(lost(), 0);
    /* What was told but not acked, acked but not written, and gathered while a commit ran. */
    CHECK(duplicates() <= KILLS * (LEASE + 2 * 256));
    printf("# %d kills: %u accepted, %u deliveries, %u twice\n", KILLS, book.accepted_count,
           book.delivered_count, duplicates());
}

static void nothing_accepted_is_lost_when_the_power_goes(void) {
    begin(2);
    powerloss.keep = true;
    for (int i = 0; i < cuts; i++) {
        powerloss.seed = (unsigned)rand();
        powerloss.cut_at_sync = i < 8 ? i + 1 : 1 + rand() % 200;
        int status = run_child("powerloss", i % 3 > 0, UINT32_MAX);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    powerloss.keep = false;
    powerloss.cut_at_sync = 0;
    unsigned missing = lost();
    CHECK_INT(missing, 0);
    CHECK(book.accepted_count > 0);
    printf("# %d cuts: %u accepted, %u deliveries, %u twice\n", cuts, book.accepted_count,
           book.delivered_count, duplicates());
    char what[96];
    snprintf(what, sizeof what, "accepted messages that are missing after %d power losses", cuts);
    check_scorecard(missing == 0, "R2", what, missing, book.accepted_count, "0");
}

/* The test above can fail: a disk that lies about syncs loses messages. */
static void a_lying_disk_is_noticed(void) {
    begin(3);
    powerloss.keep = powerloss.lie = true;
    powerloss.seed = 0;
    powerloss.cut_at_sync = 100;
    run_child("powerloss", false, UINT32_MAX);
    powerloss.keep = powerloss.lie = false;
    powerloss.cut_at_sync = 0;
    CHECK(book.accepted_count > 0);
    unsigned missing = lost();
    CHECK(missing > 0);
    check_scorecard(missing > 0, "R2", "the same on a disk that lies about syncs", missing,
                    book.accepted_count, "some: the test can fail");
}

int main(int count, char **arguments) {
    if (count > 1 && atoi(arguments[1]) >= 60)
        cuts *= 10;
    support_begin();
    powerloss_register(false);
    RUN(nothing_accepted_is_lost_when_the_process_is_killed);
    RUN(nothing_accepted_is_lost_when_the_power_goes);
    RUN(a_lying_disk_is_noticed);
    support_remove();
    return check_end();
}
