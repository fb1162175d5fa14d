/* Transfers, and connections, on a worker's loop: libcurl's multi interface, and what needs none of
 * it.
 *
 * An nh_multi is owned by one worker's thread and shares nothing with others. Since libcurl scans a
 * CURLM's connections at each request, there is one for every SHARD_PLACES of them, made when it is
 * first needed; a job goes to the first with room, looking from where its origin points, so that it
 * finds the connections of the jobs like it. They share one cache of names. multi_socket.c stands
 * between libcurl and the loop. Users are called from nh_multi_drain, outside of libcurl, so they
 * may submit and cancel as they like.
 *
 * A job that is a connection to an address, without name, proxy or TLS, is dialled (dial.c):
 * libcurl is not even loaded for it.
 *
 * Easy handles are reset and reused, in slots, but for HTTP (see nh_multi_job.once). At most
 * limits.connections jobs have a place; the others wait, first come first served, and cost nothing
 * but their own structure. A place that becomes free is given away in a deferred call, so that a
 * cancel never ends another job.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platforms/transports/multi_parts.h"

enum {
    SPARE_HANDLES = 256,  /* idle easy handles that are kept, about 6 kB each */
    BUFFER_BYTES = 4096,  /* replies are short; libcurl's own 16 kB a transfer adds up */
    UPLOAD_BYTES = 16384, /* libcurl's least */
    DNS_SECONDS = 300,    /* each uncached look-up costs libcurl a thread */
    SHARD_PLACES = 50,    /* transfers of one CURLM, about; above, each costs libcurl more */
};

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

/* ------------------------------------------------------------------- jobs */

static void enlist(nh_multi *multi, nh_multi_job *job) {
    job->prev = NULL;
    job->next = multi->running;
    if (job->next)
        job->next->prev = job;
    multi->running = job;
    multi->running_count++;
    if (job->slot->shard)
        job->slot->shard->running++;
}

static void delist(nh_multi *multi, nh_multi_job *job) {
    *(job->prev ? &job->prev->next : &multi->running) = job->next;
    if (job->next)
        job->next->prev = job->prev;
    job->next = job->prev = NULL;
    multi->running_count--;
    if (job->slot->shard)
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
    if (slot->easy)
        curl_easy_cleanup(slot->easy);
    nh_dial_stop(&slot->dial);
    free(slot);
}

/* Takes a slot whose handle is in no CURLM, and perhaps may be used once only. */
static void recycle(nh_multi *multi, nh_multi_slot *slot, bool once) {
    if (once || !slot->easy || multi->spare_count == SPARE_HANDLES) {
        free_slot(slot);
        return;
    }
    curl_easy_reset(slot->easy); /* all but its share of the names */
    slot->next = multi->spare;
    multi->spare = slot;
    multi->spare_count++;
}

/* Loads libcurl, and makes the cache of names that all shards share. */
static nh_err open_names(nh_multi *multi, nh_error *error) {
    if (multi->names)
        return NH_OK;
    nh_err failed = nh_curl_load(error);
    if (failed)
        return failed;
    CURLSH *names = curl_share_init();
    if (!names || curl_share_setopt(names, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) != CURLSHE_OK) {
        curl_share_cleanup(names); /* NULL is fine */
        return fail(error, NH_E_INTERNAL, "out of memory");
    }
    multi->names = names;
    return NH_OK;
}

static bool open_shard(nh_multi_shard *shard) {
    if (shard->curl)
        return true;
    shard->curl = curl_multi_init();
    if (!shard->curl)
        return false;
    nh_multi_socket_serve(shard);
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

static void leave_libcurl(nh_multi_slot *slot) {
    if (!slot->easy) /* dialled */
        return;
    nh_multi_socket_leave(slot);
    curl_multi_remove_handle(slot->shard->curl, slot->easy);
}

/* Takes a running job off libcurl and gives its handle back after `respond`. */
static void end_running(nh_multi *multi, nh_multi_job *job, CURLcode code) {
    nh_multi_slot *slot = job->slot;
    nh_multi_end end = nh_multi_broken(job, code);
    /* Another address of the same name may have been fine. */
    end.refused =
        slot->refused && (code == CURLE_COULDNT_CONNECT || code == CURLE_ABORTED_BY_CALLBACK);
    if (end.refused) /* never the address: who wrote the message may not look around through us */
        snprintf(slot->detail, sizeof slot->detail,
                 "the guard refuses %s; to allow it, the operator adds it to guard_allow",
                 slot->refused);
    leave_libcurl(slot);
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
    nh_multi_socket_hand_over(job->slot, fd);
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

void nh_multi_drain(nh_multi_shard *shard) {
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
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(left * 1e3) + 1);
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, (long)DNS_SECONDS);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BYTES);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* Nothing from the environment: with http_proxy set, an address check would see the proxy. */
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
}

/* As libcurl tells it. */
static void end_dialled(nh_multi *multi, nh_multi_job *job, int fault) {
    const struct sockaddr_in *address = job->address;
    char host[INET_ADDRSTRLEN], text[128];
    unsigned long long ms = (nh_loop_now(multi->loop) - job->slot->started) / 1000000;
    inet_ntop(AF_INET, &address->sin_addr, host, sizeof host);
    if (fault == ETIMEDOUT)
        snprintf(job->slot->detail, sizeof job->slot->detail,
                 "Connection timed out after %llu milliseconds", ms);
    else
        snprintf(job->slot->detail, sizeof job->slot->detail,
                 "Failed to connect to %s port %d after %llu ms: %s", host,
                 ntohs(address->sin_port), ms, strerror_r(fault, text, sizeof text));
    end_running(multi, job, fault == ETIMEDOUT ? CURLE_OPERATION_TIMEDOUT : CURLE_COULDNT_CONNECT);
}

static void on_dialled(nh_dial *dial, int fault) {
    nh_multi_slot *slot = (nh_multi_slot *)(void *)((char *)dial - offsetof(nh_multi_slot, dial));
    nh_multi_job *job = slot->job;
    nh_multi *multi = job->multi;
    multi->inside++;
    if (fault)
        end_dialled(multi, job, fault);
    else
        job->opened(job, NULL, dial->fd);
    multi->inside--;
}

/* Connects without libcurl. The job is in no list. */
static void dial(nh_multi *multi, nh_multi_job *job) {
    nh_multi_end end = {.code = CURLE_OK};
    nh_multi_slot *slot = calloc(1, sizeof *slot);
    if (!slot)
        fail(&end.error, NH_E_INTERNAL, "out of memory");
    if (!slot || job->prepare(job, NULL, &end.error) != NH_OK) {
        free(slot);
        end_early(job, &end);
        return;
    }
    slot->job = job;
    slot->started = nh_loop_now(multi->loop);
    slot->dial.done = on_dialled;
    job->slot = slot;
    enlist(multi, job);
    const struct sockaddr *address = (const struct sockaddr *)job->address;
    if (!nh_multi_socket_passes(job, job->guard ? nh_guard_refuses(job->guard, address) : NULL)) {
        end_running(multi, job, CURLE_COULDNT_CONNECT);
        return;
    }
    double left = job->due > slot->started ? (double)(job->due - slot->started) / 1e9 : 0;
    double seconds = job->connect_timeout < left ? job->connect_timeout : left;
    int fault = nh_dial_start(&slot->dial, multi->loop, job->address, seconds);
    if (fault)
        end_dialled(multi, job, fault);
}

/* The job is in no list. */
static void start(nh_multi *multi, nh_multi_job *job) {
    nh_multi_end end = {.code = CURLE_OK};
    if (job->address) {
        dial(multi, job);
        return;
    }
    if (open_names(multi, &end.error) != NH_OK) {
        end_early(job, &end);
        return;
    }
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
    nh_multi_socket_set(job, slot->easy);
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
        leave_libcurl(job->slot);
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
    }
    *out = multi;
    return NH_OK;
}

void nh_multi_close(nh_multi *multi) {
    if (!multi)
        return;
    /* libcurl says good-bye on mail connections and waits for the answer: let it find the end of
     * the stream instead. */
    nh_multi_socket_end_input(multi);
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
    nh_multi_socket_free(multi);
    free(multi);
}

char *nh_multi_detail(const nh_multi_job *job) {
    return job->slot->detail;
}

nh_multi_end nh_multi_broken(const nh_multi_job *job, CURLcode code) {
    return (nh_multi_end){
        .started = true, .easy = job->slot->easy, .code = code, .detail = job->slot->detail};
}
