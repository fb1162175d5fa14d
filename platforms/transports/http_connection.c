/* Bytes over an open connection. Thread: the worker's. Costs one system call each.
 *
 * Without TLS the descriptor is used directly, which libcurl allows for a CURLOPT_CONNECT_ONLY
 * connection: its own calls look for the connection among all others each time. But the first write
 * goes through libcurl, which so learns that the connection is in use; it would close one that
 * seems idle when another handle looks around. With TLS everything goes through libcurl.
 */
#include "platforms/transports/http_connection.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { TLS_RECORD = 16384 };

static ssize_t broke(nh_http_connection *own, const char *what, CURLcode how, CURLcode *code) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        *code = CURLE_AGAIN;
        return -1;
    }
    char *detail = nh_multi_detail(&own->job);
    char text[128];
    *code = how;
    snprintf(detail, CURL_ERROR_SIZE, "%s failure: %s", what, strerror_r(errno, text, sizeof text));
    return -1;
}

ssize_t nh_http_connection_send(nh_http_connection *own, const char *bytes, size_t length,
                                CURLcode *code) {
    size_t count = 0;
    *code = CURLE_OK;
    if (own->tied && !own->tls) {
        ssize_t sent;
        do
            sent = send(own->watch.fd, bytes, length, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        return sent < 0 ? broke(own, "Send", CURLE_SEND_ERROR, code) : sent;
    }
    if (own->tls && length > TLS_RECORD)
        length = TLS_RECORD;
    own->tied = true;
    *code = curl_easy_send(own->easy, bytes, length, &count);
    return *code == CURLE_OK ? (ssize_t)count : -1;
}

ssize_t nh_http_connection_recv(nh_http_connection *own, char *bytes, size_t size, CURLcode *code) {
    size_t count = 0;
    *code = CURLE_OK;
    if (!own->tls) {
        ssize_t came;
        do
            came = recv(own->watch.fd, bytes, size, MSG_DONTWAIT);
        while (came < 0 && errno == EINTR);
        return came < 0 ? broke(own, "Recv", CURLE_RECV_ERROR, code) : came;
    }
    *code = curl_easy_recv(own->easy, bytes, size, &count);
    return *code == CURLE_OK ? (ssize_t)count : -1;
}

bool nh_http_connection_rests(nh_http_connection *own) {
    char byte;
    CURLcode code;
    return nh_http_connection_recv(own, &byte, 1, &code) < 0 && code == CURLE_AGAIN;
}
