/* tls.c — ports with certificates of every bad kind, made when the sink starts.
 *
 * One authority for all of them, made at the first call: who trusts it sees that what is wrong with
 * a certificate is its date or its name, and nothing else. A thread for each port serves one
 * connection after another.
 */
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "spec/support/hostile/hostile.h"

enum { DAY = 86400, PATIENCE = 10 /* seconds for a client */ };

typedef struct port {
    int listener;
    SSL_CTX *context;
} port;

static struct {
    EVP_PKEY *key;
    X509 *certificate;
} authority;

static void add_extension(X509 *to, int nid, const char *value) {
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    if (!extension || !X509_add_ext(to, extension, -1))
        hostile_fail("an extension of a certificate");
    X509_EXTENSION_free(extension);
}

/* A certificate for `key`, signed by the authority, or by itself when `own`. */
static X509 *make(EVP_PKEY *key, const char *subject, const char *names, long from, long to,
                  bool own) {
    static long serial = 1;
    X509 *made = X509_new();
    if (!made)
        hostile_fail("a certificate");
    X509_set_version(made, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made), from);
    X509_gmtime_adj(X509_getm_notAfter(made), to);
    X509_set_pubkey(made, key);
    X509_NAME *name = X509_get_subject_name(made);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)subject, -1, -1, 0);
    X509_set_issuer_name(made, own ? name : X509_get_subject_name(authority.certificate));
    if (names)
        add_extension(made, NID_subject_alt_name, names);
    else
        add_extension(made, NID_basic_constraints, "critical,CA:TRUE");
    if (!X509_sign(made, own ? key : authority.key, EVP_sha256()))
        hostile_fail("sign a certificate");
    return made;
}

static void make_authority(const char *directory) {
    char path[4096];
    snprintf(path, sizeof path, "%s/ca.pem", directory);
    authority.key = EVP_EC_gen("P-256");
    authority.certificate = make(authority.key, "hostile", NULL, -DAY, DAY, true);
    FILE *file = fopen(path, "we");
    if (!file || !PEM_write_X509(file, authority.certificate) || fclose(file) != 0)
        hostile_fail(path);
}

static void *serve(void *argument) {
    static const char said[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    const struct timeval patience = {.tv_sec = PATIENCE};
    port *own = argument;
    char request[16384];
    for (;;) {
        int fd = accept(own->listener, NULL, NULL);
        SSL *tls = fd < 0 ? NULL : SSL_new(own->context);
        if (!tls)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        SSL_set_fd(tls, fd);
        if (SSL_accept(tls) == 1 && SSL_read(tls, request, sizeof request) > 0 &&
            SSL_write(tls, said, sizeof said - 1) > 0)
            SSL_shutdown(tls);
        SSL_free(tls);
        close(fd);
    }
    return NULL;
}

int hostile_tls(const char *directory, hostile_certificate kind) {
    int number;
    pthread_t thread;
    port *made = calloc(1, sizeof *made);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    if (!authority.key)
        make_authority(directory);
    if (!made || !key)
        hostile_fail("out of memory");
    const char *names = kind == CERT_NAME ? "DNS:other.example" : "IP:127.0.0.1";
    long from = kind == CERT_EXPIRED ? -2 * DAY : -DAY, to = kind == CERT_EXPIRED ? -DAY : DAY;
    X509 *certificate = make(key, "sink", names, from, to, kind == CERT_SELF);
    made->context = SSL_CTX_new(TLS_server_method());
    if (!made->context || SSL_CTX_use_certificate(made->context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey(made->context, key) != 1)
        hostile_fail("a certificate");
    X509_free(certificate);
    EVP_PKEY_free(key);
    made->listener = hostile_listen(16, &number);
    if (pthread_create(&thread, NULL, serve, made) != 0)
        hostile_fail("a thread");
    return number;
}
