/* curl_smtp.c — a peer for the benchmark: what libcurl's SMTP costs alone. Sends a mail of 600
 * bytes COUNT times to smtp://HOST:PORT, one after the other on one connection, with one easy
 * handle that is set once. Prints mails a second and microseconds of processor time a mail.
 *
 *     curl_smtp URL COUNT
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BODY_BYTES = 300 };

typedef struct mail {
    char text[1024];
    size_t length, sent;
} mail;

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void compose(mail *m) {
    char body[BODY_BYTES + 1];
    memset(body, 'x', BODY_BYTES);
    for (size_t i = 70; i < BODY_BYTES; i += 72) /* lines */
        memcpy(body + i, "\r\n", 2);
    body[BODY_BYTES] = '\0';
    m->length = (size_t)snprintf(
        m->text, sizeof m->text,
        "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nFrom: <bench@example.com>\r\n"
        "To: <sink@example.com>\r\nSubject: bench\r\nMessage-ID: <1@example.com>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 7bit\r\n\r\n%s\r\n",
        body);
}

static size_t read_mail(char *to, size_t size, size_t count, void *user) {
    mail *m = user;
    size_t left = m->length - m->sent, part = left < size * count ? left : size * count;
    memcpy(to, m->text + m->sent, part);
    m->sent += part;
    return part;
}

static int send_one(CURL *easy, mail *m) {
    m->sent = 0;
    CURLcode result = curl_easy_perform(easy);
    if (result != CURLE_OK)
        fprintf(stderr, "curl_smtp: %s\n", curl_easy_strerror(result));
    return result != CURLE_OK;
}

int main(int argc, char **argv) {
    size_t count = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (count == 0) {
        fprintf(stderr, "usage: curl_smtp URL COUNT\n");
        return 2;
    }
    mail m = {0};
    compose(&m);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURL *easy = curl_easy_init();
    struct curl_slist *to = curl_slist_append(NULL, "<sink@example.com>");
    curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_MAIL_FROM, "<bench@example.com>");
    curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, to);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, read_mail);
    curl_easy_setopt(easy, CURLOPT_READDATA, &m);
    int failed = send_one(easy, &m); /* the connection */
    double started = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; i < count && !failed; i++)
        failed = send_one(easy, &m);
    double seconds = now(CLOCK_MONOTONIC) - started;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("%.0f %.2f\n", (double)count / seconds, cpu / (double)count * 1e6);
    curl_slist_free_all(to);
    curl_easy_cleanup(easy);
    curl_global_cleanup();
    return failed;
}
