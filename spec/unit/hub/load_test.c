/* load_test.c — the real engine and the http transport against the real receiver: many threads on
 * one hub, and handles that nobody waits for.
 */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/notifyhub.h"
#include "spec/unit/check.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { THREADS = 10, EACH = 200, DROPPED = 5000, PATIENCE = 200, SANITIZED = 1 };
#else
enum { THREADS = 10, EACH = 1000, DROPPED = 50000, PATIENCE = 50, SANITIZED = 0 };
#endif

/* ---------------------------------------------------------------- receiver */

static pid_t receiver;
static int port;
static FILE *arrivals;

static void start_receiver(void) {
    int out[2];
    char line[128];
    if (pipe(out) != 0)
        abort();
    receiver = fork();
    if (receiver == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], STDOUT_FILENO);
        execl(NH_BUILD_DIR "/bin/notifyhub", "notifyhub", "receive", "--http", "0", "--json",
              (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    arrivals = fdopen(out[0], "r");
    if (!fgets(line, sizeof line, arrivals) ||
        sscanf(line, "listening http=127.0.0.1:%d", &port) != 1)
        printf("# the receiver did not start: %s\n", line);
    CHECK(port > 0);
}

/* Reads what arrives while the hub sends; each message's path is its number. */
static unsigned char seen[THREADS * EACH];

static void *read_arrivals(void *unused) {
    static char line[65536];
    (void)unused;
    while (fgets(line, sizeof line, arrivals)) {
        const char *path = strstr(line, "\"path\":\"/");
        int number = path ? atoi(path + 9) : -1;
        if (number >= 0 && number < THREADS * EACH)
            seen[number]++;
    }
    return NULL;
}

/* ----------------------------------------------------------------- sending */

static nh_hub *open_hub(const char *config) {
    nh_error error;
    nh_doc *doc = nh_doc_from_json(config, strlen(config), &error);
    nh_hub *hub = nh_hub_open(doc, &error);
    if (!CHECK(hub))
        printf("# %s\n", error.message);
    nh_doc_unref(doc);
    return hub;
}

typedef struct sender {
    pthread_t thread;
    nh_hub *hub;
    int first;
    int delivered;
    nh_handle *handles[EACH];
} sender;

static nh_handle *send_to(nh_hub *hub, const char *target) {
    char text[256];
    nh_error error;
    snprintf(text, sizeof text,
             "{\"body\":\"load\",\"retry\":{\"attempts\":1},\"targets\":[\"%s\"]}", target);
    nh_doc *doc = nh_doc_from_json(text, strlen(text), &error);
    nh_handle *handle = nh_hub_send_async(hub, doc, &error);
    while (!handle && error.code == NH_E_QUEUE_FULL) {
        usleep(2000);
        handle = nh_hub_send_async(hub, doc, &error);
    }
    if (!handle)
        printf("# %s\n", error.message);
    nh_doc_unref(doc);
    return handle;
}

/* Whether it was delivered; says what came of it else. */
static bool is_delivered(const nh_handle *handle, nh_receipt *receipt) {
    if (receipt && nh_receipt_status(receipt) == NH_DELIVERED)
        return true;
    nh_doc *doc = receipt ? nh_receipt_doc(receipt) : NULL;
    char *text = doc ? nh_doc_to_json(doc) : NULL;
    printf("# not delivered, in state %d: %s\n", handle ? (int)nh_handle_state(handle) : -1,
           text ? text : "no receipt");
    nh_free(text);
    nh_doc_unref(doc);
    return false;
}

static void *send_all(void *argument) {
    sender *own = argument;
    char target[96];
    for (int i = 0; i < EACH; i++) {
        /* What a busy machine takes its time for is no failure here: rto, cto. */
        snprintf(target, sizeof target, "json://127.0.0.1:%d/%d?rto=600&cto=600", port,
                 own->first + i);
        own->handles[i] = send_to(own->hub, target);
    }
    for (int i = 0; i < EACH; i++) {
        nh_receipt *receipt =
            own->handles[i] ? nh_handle_wait(own->handles[i], PATIENCE, NULL) : NULL;
        own->delivered += is_delivered(own->handles[i], receipt);
        nh_receipt_unref(receipt);
        nh_handle_unref(own->handles[i]);
    }
    return NULL;
}

static void ten_threads_share_a_hub_and_each_message_arrives_once(void) {
    static sender senders[THREADS];
    pthread_t reader;
    int delivered = 0, missing = 0, twice = 0;
    start_receiver();
    nh_hub *hub = open_hub("{\"workers\":{\"max\":2}}");
    pthread_create(&reader, NULL, read_arrivals, NULL);
    for (int i = 0; i < THREADS; i++) {
        senders[i].hub = hub;
        senders[i].first = i * EACH;
        pthread_create(&senders[i].thread, NULL, send_all, &senders[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(senders[i].thread, NULL);
        delivered += senders[i].delivered;
    }
    CHECK_INT(delivered, THREADS * EACH);
    CHECK_INT(nh_hub_close(hub, 5), 0);
    nh_hub_unref(hub);
    kill(receiver, SIGTERM); /* it writes out what it still has */
    pthread_join(reader, NULL);
    waitpid(receiver, NULL, 0);
    fclose(arrivals);
    for (int i = 0; i < THREADS * EACH; i++) {
        missing += seen[i] == 0;
        twice += seen[i] > 1;
    }
    CHECK_INT(missing, 0);
    CHECK_INT(twice, 0);
}

/* ------------------------------------------------------------------ memory */

static long resident(void) {
    long pages = 0, kept = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &pages, &kept) != 2)
        kept = -1;
    if (file)
        fclose(file);
    return kept * (sysconf(_SC_PAGESIZE) / 1024);
}

static int64_t pending(nh_hub *hub) {
    nh_doc *stats = nh_hub_stats(hub);
    int64_t count = nh_value_int(nh_value_get(nh_doc_root(stats), "pending"), -1);
    nh_doc_unref(stats);
    return count;
}

/* A target that no platform knows ends without a transfer: it is the way of the handle that counts.
 */
static long drop_handles(nh_hub *hub) {
    for (int i = 0; i < DROPPED; i++)
        nh_handle_unref(send_to(hub, "nowhere"));
    for (int i = 0; i < 6000 && pending(hub) > 0; i++)
        usleep(5000);
    CHECK_INT(pending(hub), 0);
    malloc_trim(0);
    return resident();
}

static void handles_that_nobody_waits_for_leak_nothing(void) {
    nh_hub *hub = open_hub("{\"workers\":{\"max\":2},\"queue\":{\"capacity\":5000}}");
    long warm = drop_handles(hub);
    long after = drop_handles(hub);
    printf("# %d handles dropped: %ld KiB resident before, %ld KiB after\n", DROPPED, warm, after);
    if (!SANITIZED) /* whose quarantine keeps what is freed; leaks it finds itself */
        CHECK(after <= warm + warm / 20);
    nh_hub_unref(hub);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    RUN(ten_threads_share_a_hub_and_each_message_arrives_once);
    RUN(handles_that_nobody_waits_for_leak_nothing);
    return check_end();
}
