/* What libcurl's failures mean here, and words for them. Thread: any. */
#include <errno.h>

#include "platforms/transports/multi.h"

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

nh_err nh_multi_error(const nh_multi_end *end) {
    if (!end->started)
        return end->error.code;
    if (end->refused)
        return NH_E_INVALID;
    /* A handshake that the network broke may succeed the next time. */
    long number = 0;
    if (end->easy && end->code == CURLE_SSL_CONNECT_ERROR &&
        curl_easy_getinfo(end->easy, CURLINFO_OS_ERRNO, &number) == CURLE_OK &&
        (number == ECONNRESET || number == EPIPE || number == ETIMEDOUT))
        return NH_E_NETWORK;
    const struct meaning *meaning = meaning_of(end->code);
    return meaning ? meaning->code : NH_E_INTERNAL;
}

const char *nh_multi_text(const nh_multi_end *end) {
    if (!end->started)
        return end->error.message;
    if (end->refused)
        return end->detail;
    const struct meaning *meaning = meaning_of(end->code);
    if (!meaning)
        return end->easy ? curl_easy_strerror(end->code) : "an internal error";
    return meaning->detail && end->detail[0] ? end->detail : meaning->text;
}
