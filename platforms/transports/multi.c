/* libcurl's multi interface on a worker's loop.
 *
 * An nh_multi is owned by one worker's thread and shares nothing with others. Since libcurl scans a
 * CURLM's connections at each request, there is one for every SHARD_PLACES of them, made when it is
 * first needed; a job goes to the first with room, looking from where its origin points, so that it
 * finds the connections of the jobs like it. They share one cache of names. libcurl tells
 * which sockets and which timeout it cares about (on_socket, on_timer: these only write down and
 * arm, they never call libcurl); the loop's events go back through curl_multi_socket_action, and
 * after each such action the finished transfers are taken out (drain). Users are called from drain,
 * outside of libcurl, so they may submit and cancel as they like.
 *
 * Sockets stay in epoll for their life: libcurl stops asking about a connection after each response
 * and asks again at the next request, which would be two system calls a message. A socket that is
 * not asked about stays armed for reading until an event comes that nobody wants (the peer closed
 * an idle connection). Only sockets that were opened through open_socket are kept so, because only
 * for these libcurl tells the close; its resolver's own pairs come and go at once.
 *
 * A CURLM whose callback fails is dead for ever, so these never do: what could not be armed is
 * noted, and a deferred call (on_mend) ends the job that would wait in vain.
 *
 * Easy handles are reset and reused, in slots, but for HTTP (see nh_multi_job.once). At most
 * limits.connections jobs have one; the others
 * wait, first come first served, and cost nothing but their own structure. A place that becomes
 * free is given away in a deferred call, so that a cancel never ends another job.
 */
#include "platforms/transports/multi.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SPARE_HANDLES = 256,  /* idle easy handles that are kept, about 6 kB each */
    BUFFER_BYTES = 4096,  /* replies are short; libcurl's own 16 kB a transfer adds up */
    UPLOAD_BYTES = 16384, /* libcurl's least */
    DNS_SECONDS = 300,    /* each uncached look-up costs libcurl a thread */
    SOCKETS_LEAST = 64,
    SHARD_PLACES = 50, /* transfers of one CURLM, about; above, each costs libcurl more */
    SHARDS_MOST = 64,
};

/* One CURLM. */
typedef struct nh_multi_shard {
    nh_multi *multi;
    CURLM *curl;    /* NULL until needed */
    nh_timer timer; /* libcurl's one timeout */
    bool untimed;   /* it could not be armed */
    size_t running;
} nh_multi_shard;

struct nh_multi_slot {
    CURL *easy;
    nh_multi_shard *shard;
    nh_multi_slot *next; /* of the spare ones */
    const char *refused; /* the rule of the guard that an address broke */
    bool unwatched;      /* one of its sockets could not be armed */
    char detail[CURL_ERROR_SIZE];
};

typedef struct nh_multi_socket {
    nh_watch watch; /* first: the loop hands back its address */
    nh_multi *multi;
    nh_multi_shard *shard; /* whose connection it is */
    CURL *easy;            /* who uses it; NULL while idle. Compared, never called */
    unsigned wanted;       /* what libcurl asks for; may be less than watch.events */
    bool kept;             /* opened by open_socket and not closed */
} nh_multi_socket;

struct nh_multi {
    nh_loop *loop;
    nh_transport_limits limits;
    CURLSH *names; /* looked up once for all shards */
    nh_multi_shard shards[SHARDS_MOST];
    size_t shard_count;
    size_t shard_places; /* transfers, and connections kept, of each shard */
    nh_deferred pump;    /* starts those that wait */
    nh_deferred mend;    /* looks after what could not be armed */
    nh_multi_job *first; /* those that wait, oldest first */
    nh_multi_job *last;
    nh_multi_job *running; /* those that have a handle; no order */
    size_t running_count;
    unsigned inside;             /* loops over jobs under way, whose users may not close this now */
    bool (*give_up)(void *user); /* closes a connection that nobody uses */
    void *giver;
    nh_multi_slot *spare;
    size_t spare_count;
    nh_multi_socket **sockets; /* by descriptor; records live until close */
    size_t sockets_size;
};

static nh_multi_shard *of_timer(nh_timer *timer) {
    return (nh_multi_shard *)(void *)((char *)timer - offsetof(nh_multi_shard, timer));
}

static nh_multi *of_pump(nh_deferred *deferred) {
    return (nh_multi *)(void *)((char *)deferred - offsetof(nh_multi, pump));
}

static nh_multi *of_mend(nh_deferred *deferred) {
    return (nh_multi *)(void *)((char *)deferred - offsetof(nh_multi, mend));
}

static nh_multi_job *of_job_timer(nh_timer *timer) {
    return (nh_multi_job *)(void *)((char *)timer - offsetof(nh_multi_job, timer));
}

static nh_err fail(nh_error *error, nh_err code, const char *text) {
    if (error) {
        error->code = code;
        strncpy(error->message, text, sizeof error->message - 1);
        error->message[sizeof error->message - 1] = '\0';
    }
    return code;
}

/* ----------------------------------------------------------------- global */

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_code;

static void global_init(void) {
    global_code = curl_global_init(CURL_GLOBAL_DEFAULT);
}

nh_err nh_multi_global(nh_error *error) {
    pthread_once(&global_once, global_init);
    return global_code == CURLE_OK ? NH_OK : fail(error, NH_E_INTERNAL, "libcurl cannot start");
}

/* ---------------------------------------------------------------- sockets */

static void on_ready(nh_watch *watch, unsigned events);
static void drain(nh_multi_shard *shard);

static nh_multi_socket *socket_record(nh_multi *multi, curl_socket_t fd) {
    size_t index = (size_t)fd;
    if (index >= multi->sockets_size) {
        size_t size = multi->sockets_size ? multi->sockets_size : SOCKETS_LEAST;
        while (size <= index)
            size *= 2;
        nh_multi_socket **sockets = realloc(multi->sockets, size * sizeof(*sockets));
        if (!sockets)
            return NULL;
        memset(sockets + multi->sockets_size, 0, (size - multi->sockets_size) * sizeof(*sockets));
        multi->sockets = sockets;
        multi->sockets_size = size;
    }
    if (!multi->sockets[index]) {
        nh_multi_socket *socket = calloc(1, sizeof *socket);
        if (!socket)
            return NULL;
        *socket = (nh_multi_socket){.watch = {.ready = on_ready, .fd = -1}, .multi = multi};
        multi->sockets[index] = socket;
    }
    return multi->sockets[index];
}

/* Makes what epoll reports at least what is wanted. Reading may stay armed unasked. */
static nh_err arm(nh_multi_socket *socket, curl_socket_t fd) {
    nh_loop *loop = socket->multi->loop;
    if (socket->watch.fd < 0)
        return socket->wanted ? nh_watch_start(loop, &socket->watch, fd, socket->wanted) : NH_OK;
    if ((socket->watch.events & ~(unsigned)NH_READABLE) == (socket->wanted & NH_WRITABLE) &&
        (socket->wanted & ~socket->watch.events) == 0)
        return NH_OK;
    return nh_watch_change(loop, &socket->watch, socket->wanted);
}

/* Nobody will tell this job that its socket is ready. */
static void leave_unwatched(nh_multi *multi, const CURL *easy) {
    for (nh_multi_job *job = multi->running; job; job = job->next)
        if (job->slot->easy == easy)
            job->slot->unwatched = true;
    nh_loop_defer(multi->loop, &multi->mend);
}

static void disarm(nh_multi_socket *socket) {
    nh_watch_stop(socket->multi->loop, &socket->watch);
    socket->wanted = 0;
    socket->easy = NULL;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *unused) {
    (void)unused;
    nh_multi_shard *shard = user;
    nh_multi_socket *socket = socket_record(shard->multi, fd);
    if (!socket) {
        leave_unwatched(shard->multi, easy);
        return 0;
    }
    socket->shard = shard;
    if (what == CURL_POLL_REMOVE) {
        socket->wanted = 0;
        socket->easy = NULL;
        if (!socket->kept)
            disarm(socket);
        return 0;
    }
    socket->wanted =
        (what & CURL_POLL_IN ? NH_READABLE : 0u) | (what & CURL_POLL_OUT ? NH_WRITABLE : 0u);
    socket->easy = easy;
    if (arm(socket, fd))
        leave_unwatched(shard->multi, easy);
    return 0;
}

/* Of several addresses of a name the first that was refused is told. */
static bool passes(nh_multi_job *job, const char *refused) {
    if (refused && !job->slot->refused)
        job->slot->refused = refused;
    return !refused;
}

static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)purpose;
    nh_multi_job *job = user;
    if (!passes(job, job->guard ? nh_guard_refuses(job->guard, &address->addr) : NULL))
        return CURL_SOCKET_BAD;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    nh_multi_socket *record = socket_record(job->multi, fd);
    if (!record) {
        close(fd);
        return CURL_SOCKET_BAD;
    }
    disarm(record);
    record->kept = true;
    return fd;
}

/* Before a request goes, over a connection that may have been opened by one without this guard. */
static int check_connection(void *user, char *address, char *local, int port, int local_port) {
    (void)local, (void)local_port;
    nh_multi_job *job = user;
    return passes(job, nh_guard_refuses_text(job->guard, address, port)) ? CURL_PREREQFUNC_OK
                                                                         : CURL_PREREQFUNC_ABORT;
}

static int close_socket(void *user, curl_socket_t fd) {
    nh_multi *multi = user;
    if ((size_t)fd < multi->sockets_size && multi->sockets[fd]) {
        disarm(multi->sockets[fd]);
        multi->sockets[fd]->kept = false;
    }
    return close(fd);
}

static void on_ready(nh_watch *watch, unsigned events) {
    nh_multi_socket *socket = (nh_multi_socket *)watch;
    nh_multi *multi = socket->multi;
    curl_socket_t fd = watch->fd;

    if (socket->wanted == 0) { /* an idle connection: libcurl looks at it before it reuses it */
        disarm(socket);
        return;
    }
    /* A hang-up is for libcurl to find out by reading: told as an error it would lose the reply
     * that may still be there. */
    if (events & NH_HANGUP)
        events |= socket->wanted;
    if (events & (NH_READABLE | NH_WRITABLE) & ~socket->wanted)
        nh_watch_change(multi->loop, watch, socket->wanted);
    events &= socket->wanted;
    if (!events)
        return;
    int mask = (events & NH_READABLE ? CURL_CSELECT_IN : 0) |
               (events & NH_WRITABLE ? CURL_CSELECT_OUT : 0);
    int running;
    curl_multi_socket_action(socket->shard->curl, fd, mask, &running);
    drain(socket->shard);
}

void nh_multi_hang_up(const nh_multi_job *job) {
    const nh_multi *multi = job->multi;
    for (size_t fd = 0; fd < multi->sockets_size; fd++) {
        const nh_multi_socket *socket = multi->sockets[fd];
        if (socket && socket->kept && socket->easy == job->slot->easy)
            shutdown((int)fd, SHUT_RD);
    }
}

/* ---------------------------------------------------------------- timeout */

static int on_timer(CURLM *curl, long ms, void *user) {
    (void)curl;
    nh_multi_shard *shard = user;
    nh_loop *loop = shard->multi->loop;
    if (ms < 0) {
        nh_timer_stop(loop, &shard->timer);
        return 0;
    }
    if (nh_timer_start(loop, &shard->timer, (double)ms / 1e3)) {
        shard->untimed = true;
        nh_loop_defer(loop, &shard->multi->mend);
    }
    return 0;
}

static void on_timeout(nh_timer *timer) {
    nh_multi_shard *shard = of_timer(timer);
    int running;
    curl_multi_socket_action(shard->curl, CURL_SOCKET_TIMEOUT, 0, &running);
    drain(shard);
}

/* ------------------------------------------------------------------- jobs */

static void enlist(nh_multi *multi, nh_multi_job *job) {
    job->prev = NULL;
    job->next = multi->running;
    if (job->next)
        job->next->prev = job;
    multi->running = job;
    multi->running_count++;
    job->slot->shard->running++;
}

static void delist(nh_multi *multi, nh_multi_job *job) {
    *(job->prev ? &job->prev->next : &multi->running) = job->next;
    if (job->next)
        job->next->prev = job->prev;
    job->next = job->prev = NULL;
    multi->running_count--;
    job->slot->shard->running--;
}

static void enqueue(nh_multi *multi, nh_multi_job *job) {
    job->next = NULL;
    job->prev = multi->last;
    *(job->prev ? &job->prev->next : &multi->first) = job;
    multi->last = job;
}

static void dequeue(nh_multi *multi, nh_multi_job *job) {
    *(job->prev ? &job->prev->next : &multi->first) = job->next;
    *(job->next ? &job->next->prev : &multi->last) = job->prev;
    job->next = job->prev = NULL;
    nh_timer_stop(multi->loop, &job->timer);
}

static nh_multi_slot *take_slot(nh_multi *multi) {
    nh_multi_slot *slot = multi->spare;
    if (slot) {
        multi->spare = slot->next;
        multi->spare_count--;
        slot->detail[0] = '\0';
        slot->refused = NULL;
        slot->unwatched = false;
        return slot;
    }
    slot = calloc(1, sizeof *slot);
    if (!slot)
        return NULL;
    slot->easy = curl_easy_init();
    if (!slot->easy || curl_easy_setopt(slot->easy, CURLOPT_SHARE, multi->names) != CURLE_OK) {
        curl_easy_cleanup(slot->easy);
        free(slot);
        return NULL;
    }
    return slot;
}

static void free_slot(nh_multi_slot *slot) {
    curl_easy_cleanup(slot->easy);
    free(slot);
}

/* Takes a slot whose handle is in no CURLM, and perhaps may be used once only. */
static void recycle(nh_multi *multi, nh_multi_slot *slot, bool once) {
    if (once || multi->spare_count == SPARE_HANDLES) {
        free_slot(slot);
        return;
    }
    curl_easy_reset(slot->easy); /* all but its share of the names */
    slot->next = multi->spare;
    multi->spare = slot;
    multi->spare_count++;
}

static bool open_shard(nh_multi_shard *shard) {
    if (shard->curl)
        return true;
    shard->curl = curl_multi_init();
    if (!shard->curl)
        return false;
    curl_multi_setopt(shard->curl, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(shard->curl, CURLMOPT_SOCKETDATA, shard);
    curl_multi_setopt(shard->curl, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(shard->curl, CURLMOPT_TIMERDATA, shard);
    /* Its default, four times the handles under way, shrinks the cache as the load goes down. */
    curl_multi_setopt(shard->curl, CURLMOPT_MAXCONNECTS, (long)shard->multi->shard_places);
    return true;
}

/* The shard with room that the origin's jobs come to first. There is one: places are counted
 * before. */
static nh_multi_shard *choose_shard(nh_multi *multi, uint32_t origin) {
    size_t index = origin % multi->shard_count;
    while (multi->shards[index].running >= multi->shard_places)
        index = (index + 1) % multi->shard_count;
    return open_shard(&multi->shards[index]) ? &multi->shards[index] : NULL;
}

/* Takes a running job off libcurl and gives its handle back after `respond`. */
static void end_running(nh_multi *multi, nh_multi_job *job, CURLcode code) {
    nh_multi_slot *slot = job->slot;
    nh_multi_end end = {.easy = slot->easy, .code = code, .detail = slot->detail};
    /* Another address of the same name may have been fine. */
    end.refused =
        slot->refused && (code == CURLE_COULDNT_CONNECT || code == CURLE_ABORTED_BY_CALLBACK);
    if (end.refused) /* never the address: who wrote the message may not look around through us */
        snprintf(slot->detail, sizeof slot->detail,
                 "the guard refuses %s; to allow it, the operator adds it to guard_allow",
                 slot->refused);
    curl_multi_remove_handle(slot->shard->curl, slot->easy);
    delist(multi, job);
    nh_doc *response = job->respond(job, &end);
    recycle(multi, slot, job->once);
    job->slot = NULL;
    job->multi = NULL;
    if (multi->first)
        nh_loop_defer(multi->loop, &multi->pump);
    job->finish(job, response);
}

/* A connection stands: from now on it is the user's, with its handle and its place. */
static void hand_over(nh_multi *multi, nh_multi_job *job) {
    CURL *easy = job->slot->easy;
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK || fd == CURL_SOCKET_BAD) {
        end_running(multi, job, CURLE_NO_CONNECTION_AVAILABLE);
        return;
    }
    if ((size_t)fd < multi->sockets_size && multi->sockets[fd])
        disarm(multi->sockets[fd]);
    job->slot->detail[0] = '\0'; /* of an address that was tried before */
    job->opened(job, easy, fd);
}

/* Ends a job that has no handle and is in no list. */
static void end_early(nh_multi_job *job, nh_multi_end *end) {
    end->easy = NULL;
    end->detail = "";
    nh_doc *response = job->respond(job, end);
    job->multi = NULL;
    job->finish(job, response);
}

static void drain(nh_multi_shard *shard) {
    nh_multi *multi = shard->multi;
    CURLMsg *message;
    int left;
    multi->inside++;
    while ((message = curl_multi_info_read(shard->curl, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result; /* the message goes with the handle */
        nh_multi_job *job = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&job);
        if (job->opened && code == CURLE_OK)
            hand_over(multi, job);
        else
            end_running(multi, job, code);
    }
    multi->inside--;
}

static nh_multi_job *find_unwatched(const nh_multi *multi) {
    nh_multi_job *job = multi->running;
    while (job && !job->slot->unwatched)
        job = job->next;
    return job;
}

/* A timeout that could not be armed is over at once: libcurl then looks what there is to do. */
static void on_mend(nh_deferred *deferred) {
    nh_multi *multi = of_mend(deferred);
    nh_multi_job *job;
    multi->inside++;
    while ((job = find_unwatched(multi)))
        end_running(multi, job, CURLE_OUT_OF_MEMORY);
    for (size_t i = 0; i < multi->shard_count; i++) {
        nh_multi_shard *shard = &multi->shards[i];
        if (!shard->untimed)
            continue;
        shard->untimed = nh_timer_start(multi->loop, &shard->timer, 0) != NH_OK;
        if (shard->untimed)
            nh_loop_defer(multi->loop, &multi->mend);
    }
    multi->inside--;
}

/* Options that every transfer has, before the user's own. */
static void set_common(nh_multi *multi, nh_multi_job *job, nh_multi_slot *slot) {
    CURL *easy = slot->easy;
    uint64_t now = nh_loop_now(multi->loop);
    double left = job->due > now ? (double)(job->due - now) / 1e9 : 0;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, job);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot->detail);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Never wait for a resolver's thread when a transfer is stopped: the thread ends alone. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, job);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, multi);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(left * 1e3) + 1);
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, (long)DNS_SECONDS);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BYTES);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* Nothing from the environment: with http_proxy set, an address check would see the proxy. */
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
}

/* The job is in no list. */
static void start(nh_multi *multi, nh_multi_job *job) {
    nh_multi_end end = {.code = CURLE_OK};
    nh_multi_shard *shard = choose_shard(multi, job->origin);
    nh_multi_slot *slot = shard ? take_slot(multi) : NULL;
    if (!slot) {
        fail(&end.error, NH_E_INTERNAL, "out of memory");
        end_early(job, &end);
        return;
    }
    slot->shard = shard;
    set_common(multi, job, slot);
    if (job->prepare(job, slot->easy, &end.error) != NH_OK) {
        recycle(multi, slot, job->once);
        end_early(job, &end);
        return;
    }
    if (job->guard) {
        curl_easy_setopt(slot->easy, CURLOPT_PREREQFUNCTION, check_connection);
        curl_easy_setopt(slot->easy, CURLOPT_PREREQDATA, job);
    }
    job->slot = slot;
    if (curl_multi_add_handle(shard->curl, slot->easy) != CURLM_OK) {
        job->slot = NULL;
        recycle(multi, slot, job->once);
        fail(&end.error, NH_E_INTERNAL, "libcurl does not take the transfer");
        end_early(job, &end);
        return;
    }
    enlist(multi, job);
}

static void on_pump(nh_deferred *deferred) {
    nh_multi *multi = of_pump(deferred);
    multi->inside++;
    while (multi->first && multi->running_count < multi->limits.connections) {
        nh_multi_job *job = multi->first;
        dequeue(multi, job);
        start(multi, job);
    }
    multi->inside--;
}

static void on_waited_too_long(nh_timer *timer) {
    nh_multi_job *job = of_job_timer(timer);
    nh_multi_end end = {.code = CURLE_OPERATION_TIMEDOUT};
    fail(&end.error, NH_E_TIMEOUT, "no connection became free in time");
    dequeue(job->multi, job);
    end_early(job, &end);
}

void nh_multi_on_full(nh_multi *multi, bool (*give_up)(void *user), void *user) {
    multi->give_up = give_up;
    multi->giver = user;
}

const nh_multi_job *nh_multi_first_waiting(const nh_multi *multi) {
    return multi->first;
}

bool nh_multi_has_place(const nh_multi *multi) {
    return !multi->first && multi->running_count < multi->limits.connections;
}

void nh_multi_submit(nh_multi *multi, nh_multi_job *job) {
    job->multi = multi;
    job->slot = NULL;
    job->next = job->prev = NULL;
    job->timer = (nh_timer){.fire = on_waited_too_long};
    job->since = nh_loop_now(multi->loop);
    job->due = job->since + (uint64_t)(job->timeout * 1e9);
    if (!nh_multi_has_place(multi) && multi->give_up)
        multi->give_up(multi->giver);
    if (nh_multi_has_place(multi)) {
        start(multi, job);
        return;
    }
    if (nh_timer_start(multi->loop, &job->timer, job->timeout) != NH_OK) {
        nh_multi_end end = {.code = CURLE_OUT_OF_MEMORY};
        fail(&end.error, NH_E_INTERNAL, "out of memory");
        end_early(job, &end);
        return;
    }
    enqueue(multi, job);
}

void nh_multi_cancel(nh_multi_job *job) {
    nh_multi *multi = job->multi;
    if (!multi)
        return;
    if (job->slot) {
        curl_multi_remove_handle(job->slot->shard->curl, job->slot->easy);
        delist(multi, job);
        recycle(multi, job->slot, job->once);
        if (multi->first)
            nh_loop_defer(multi->loop, &multi->pump);
    } else {
        dequeue(multi, job);
    }
    job->slot = NULL;
    job->multi = NULL;
}

bool nh_multi_idle(const nh_multi *multi) {
    return !multi->first && !multi->running && !multi->inside;
}

/* --------------------------------------------------------- open and close */

nh_err nh_multi_open(nh_loop *loop, const nh_transport_limits *limits, nh_multi **out,
                     nh_error *error) {
    nh_err failed = nh_multi_global(error);
    if (failed)
        return failed;
    nh_multi *multi = calloc(1, sizeof *multi);
    if (!multi)
        return fail(error, NH_E_INTERNAL, "out of memory");
    multi->loop = loop;
    multi->limits = *limits;
    if (multi->limits.connections == 0)
        multi->limits.connections = 1;
    multi->pump.call = on_pump;
    multi->mend.call = on_mend;
    size_t connections = multi->limits.connections;
    size_t shards = connections / SHARD_PLACES;
    multi->shard_count = shards < 1 ? 1 : shards < SHARDS_MOST ? shards : SHARDS_MOST;
    multi->shard_places = (connections + multi->shard_count - 1) / multi->shard_count;
    for (size_t i = 0; i < multi->shard_count; i++) {
        multi->shards[i].multi = multi;
        multi->shards[i].timer.fire = on_timeout;
    }
    multi->names = curl_share_init();
    if (!multi->names || !open_shard(&multi->shards[0]) ||
        curl_share_setopt(multi->names, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) != CURLSHE_OK) {
        nh_multi_close(multi);
        return fail(error, NH_E_INTERNAL, "libcurl cannot open a multi handle");
    }
    *out = multi;
    return NH_OK;
}

void nh_multi_close(nh_multi *multi) {
    if (!multi)
        return;
    /* libcurl says good-bye on mail connections and waits for the answer: let it find the end of
     * the stream instead. */
    for (size_t fd = 0; fd < multi->sockets_size; fd++)
        if (multi->sockets[fd] && multi->sockets[fd]->kept)
            shutdown((int)fd, SHUT_RD);
    while (multi->spare) {
        nh_multi_slot *slot = multi->spare;
        multi->spare = slot->next;
        free_slot(slot);
    }
    for (size_t i = 0; i < multi->shard_count; i++) {
        if (multi->shards[i].curl)
            curl_multi_cleanup(multi->shards[i].curl); /* calls close_socket */
        nh_timer_stop(multi->loop, &multi->shards[i].timer);
    }
    if (multi->names)
        curl_share_cleanup(multi->names);
    nh_loop_undefer(&multi->pump);
    nh_loop_undefer(&multi->mend);
    for (size_t fd = 0; fd < multi->sockets_size; fd++) {
        if (multi->sockets[fd]) {
            disarm(multi->sockets[fd]);
            free(multi->sockets[fd]);
        }
    }
    free(multi->sockets);
    free(multi);
}

/* ----------------------------------------------------------------- errors */

/* What libcurl's codes mean here. `detail` tells that libcurl's own words for this failure name
 * nothing but hosts, addresses, certificates and system errors. Codes that are not listed are
 * internal. */
static const struct meaning {
    CURLcode curl;
    nh_err code;
    bool detail;
    const char *text;
} meanings[] = {
    {CURLE_UNSUPPORTED_PROTOCOL, NH_E_INVALID, false, "the protocol is not supported"},
    {CURLE_URL_MALFORMAT, NH_E_INVALID, false, "the URL is not valid"},
    {CURLE_COULDNT_RESOLVE_PROXY, NH_E_NETWORK, false, "the proxy's name is not known"},
    {CURLE_COULDNT_RESOLVE_HOST, NH_E_NETWORK, true, "the host's name is not known"},
    {CURLE_COULDNT_CONNECT, NH_E_NETWORK, true, "no connection"},
    {CURLE_WEIRD_SERVER_REPLY, NH_E_NETWORK, false, "the server's answer makes no sense"},
    {CURLE_BAD_FUNCTION_ARGUMENT, NH_E_NETWORK, false, "the server's answer makes no sense"},
    {CURLE_HTTP2, NH_E_NETWORK, false, "an HTTP/2 error"},
    {CURLE_HTTP2_STREAM, NH_E_NETWORK, false, "the server reset the HTTP/2 stream"},
    {CURLE_PARTIAL_FILE, NH_E_NETWORK, true, "the response ended early"},
    {CURLE_GOT_NOTHING, NH_E_NETWORK, false, "the server closed the connection without an answer"},
    {CURLE_SEND_ERROR, NH_E_NETWORK, true, "the connection broke while sending"},
    {CURLE_RECV_ERROR, NH_E_NETWORK, true, "the connection broke while receiving"},
    {CURLE_NO_CONNECTION_AVAILABLE, NH_E_NETWORK, false, "no connection available"},
    {CURLE_PROXY, NH_E_NETWORK, false, "the proxy failed"},
    {CURLE_BAD_CONTENT_ENCODING, NH_E_NETWORK, false, "the response's encoding is broken"},
    {CURLE_OPERATION_TIMEDOUT, NH_E_TIMEOUT, true, "timed out"},
    {CURLE_READ_ERROR, NH_E_INVALID, false, "an attachment could not be read"},
    {CURLE_ABORTED_BY_CALLBACK, NH_E_INVALID, false, "an attachment could not be read"},
    {CURLE_FILESIZE_EXCEEDED, NH_E_TOO_LARGE, false, "too large"},
    {CURLE_PEER_FAILED_VERIFICATION, NH_E_TLS, true, "the certificate is not trusted"},
    {CURLE_SSL_CONNECT_ERROR, NH_E_TLS, true, "the TLS handshake failed"},
    {CURLE_SSL_CERTPROBLEM, NH_E_INVALID, true, "the client's certificate or key is not usable"},
    {CURLE_SSL_CACERT_BADFILE, NH_E_INVALID, true,
     "the file of trusted certificates is not usable"},
    {CURLE_SSL_CIPHER, NH_E_TLS, false, "no common cipher"},
    {CURLE_SSL_ISSUER_ERROR, NH_E_TLS, false, "the certificate's issuer is not trusted"},
    {CURLE_USE_SSL_FAILED, NH_E_TLS, false, "the server does not offer TLS"},
    {CURLE_LOGIN_DENIED, NH_E_AUTH, false, "the server refused the credentials"},
    {CURLE_AUTH_ERROR, NH_E_AUTH, false, "the authentication failed"},
    {CURLE_OUT_OF_MEMORY, NH_E_INTERNAL, false, "out of memory"},
};

static const struct meaning *meaning_of(CURLcode code) {
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (meanings[i].curl == code)
            return &meanings[i];
    return NULL;
}

char *nh_multi_detail(const nh_multi_job *job) {
    return job->slot->detail;
}

nh_multi_end nh_multi_broken(const nh_multi_job *job, CURLcode code) {
    return (nh_multi_end){.easy = job->slot->easy, .code = code, .detail = job->slot->detail};
}

nh_err nh_multi_error(const nh_multi_end *end) {
    if (!end->easy)
        return end->error.code;
    if (end->refused)
        return NH_E_INVALID;
    /* A handshake that the network broke may succeed the next time. */
    long number = 0;
    if (end->code == CURLE_SSL_CONNECT_ERROR &&
        curl_easy_getinfo(end->easy, CURLINFO_OS_ERRNO, &number) == CURLE_OK &&
        (number == ECONNRESET || number == EPIPE || number == ETIMEDOUT))
        return NH_E_NETWORK;
    const struct meaning *meaning = meaning_of(end->code);
    return meaning ? meaning->code : NH_E_INTERNAL;
}

const char *nh_multi_text(const nh_multi_end *end) {
    if (!end->easy)
        return end->error.message;
    if (end->refused)
        return end->detail;
    const struct meaning *meaning = meaning_of(end->code);
    if (!meaning)
        return curl_easy_strerror(end->code);
    return meaning->detail && end->detail[0] ? end->detail : meaning->text;
}
