/* The smtp transport: SMTP, SMTPS and STARTTLS over libcurl, mails composed with its MIME interface
 * (mail.c).
 *
 * Request and response are described in docs/platforms.md. Owned by one worker's thread; open →
 * start/cancel … → close. Connections stay open and carry one mail after the other.
 *
 * A response tells what the server said: `status` and `text` are the reply that decided, `replies`
 * has what became of each recipient: its own refusal, else the decision about the whole mail. What
 * ends before the envelope (connection, greeting, TLS, authentication) is an error of the
 * transport; `sent` is false until DATA was asked for.
 *
 * libcurl tells what it says and hears through its debug and header functions; smtp_talk.c makes
 * sense of it. Each combination of TLS options has a CURLM of its own (smtp_realm.c).
 *
 * Before libcurl closes a connection it says QUIT and waits for the answer, without the loop: we
 * end the peer's half of the connection as soon as QUIT is out (on_command), so it waits for
 * nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platforms/transports/fields.h"
#include "platforms/transports/mail.h"
#include "platforms/transports/multi.h"
#include "platforms/transports/smtp_realm.h"
#include "platforms/transports/smtp_talk.h"
#include "platforms/transports/transports.h"

typedef enum security { STARTTLS, TLS, PLAIN, SECURITIES } security;

static const struct {
    const char *name, *scheme;
    int port;
    curl_usessl use;
} securities[SECURITIES] = {
    [STARTTLS] = {"starttls", "smtp", 587, CURLUSESSL_ALL}, /* TRY would go on in the clear */
    [TLS] = {"tls", "smtps", 465, CURLUSESSL_NONE},
    [PLAIN] = {"none", "smtp", 25, CURLUSESSL_NONE},
};

typedef enum mechanism {
    AUTH_NONE,
    AUTH_PLAIN,
    AUTH_LOGIN,
    AUTH_CRAM_MD5,
    AUTH_XOAUTH2,
    AUTHS
} mechanism;

static const struct {
    const char *name, *options;
} mechanisms[AUTHS] = {
    [AUTH_NONE] = {"none", NULL},
    [AUTH_PLAIN] = {"plain", "AUTH=PLAIN"},
    [AUTH_LOGIN] = {"login", "AUTH=LOGIN"},
    [AUTH_CRAM_MD5] = {"cram-md5", "AUTH=CRAM-MD5"},
    [AUTH_XOAUTH2] = {"xoauth2", "AUTH=XOAUTH2"},
};

struct nh_transport {
    nh_loop *loop;
    nh_transport_limits limits;
    nh_smtp_realms realms;
    nh_writer *writer;
    nh_text scratch; /* one option's text at a time; libcurl copies it */
};

typedef struct smtp_request {
    nh_span host, security, auth, user, password, from, text, html, ca_file, hello;
    const nh_value *recipients, *headers, *attachments, *dsn, *guard_allow;
    int port;
    double timeout, connect_timeout; /* 0: not named */
    bool verify, guard;
} smtp_request;

#define FIELD(name, type)                                                                          \
    { #name, NH_FIELD_##type, offsetof(smtp_request, name) }
static const nh_field fields[] = {
    FIELD(host, BYTES),      FIELD(port, PORT),        FIELD(security, BYTES),
    FIELD(auth, BYTES),      FIELD(user, BYTES),       FIELD(password, BYTES),
    FIELD(from, BYTES),      FIELD(recipients, LIST),  FIELD(headers, PAIRS),
    FIELD(text, BYTES),      FIELD(html, BYTES),       FIELD(attachments, LIST),
    FIELD(dsn, LIST),        FIELD(verify, BOOL),      FIELD(ca_file, BYTES),
    FIELD(timeout, SECONDS), FIELD(hello, BYTES),      FIELD(connect_timeout, SECONDS),
    FIELD(guard, BOOL),      FIELD(guard_allow, LIST),
};
#undef FIELD

typedef struct smtp_transfer {
    nh_multi_job job;
    nh_transport *transport;
    nh_transfer *transfer;
    smtp_request request; /* spans borrowed from the request's document */
    nh_guard *guard;
    security security;
    mechanism auth;
    size_t recipient_count;
    uint64_t due;
    bool fresh; /* second try, over a new connection */
    bool again; /* the first try found its old connection dead */

    /* One try. */
    struct curl_slist *recipients;
    nh_mail_made made;
    nh_smtp_talk talk;
} smtp_transfer;

#define COUNT(array) (sizeof(array) / sizeof *(array))

static smtp_transfer *of_job(nh_multi_job *job) {
    return (smtp_transfer *)(void *)((char *)job - offsetof(smtp_transfer, job));
}

static nh_err out_of_memory(nh_error *error) {
    return nh_fields_fail(error, NH_E_INTERNAL, "out of memory");
}

/* ------------------------------------------------------------------ checks */

/* Whether an address can stand between the angle brackets of a command: nothing may end them, or
 * the rest would be read as the command's parameters. */
static bool is_address(nh_span address) {
    bool quoted = false;
    for (size_t i = 0; i < address.length; i++) {
        unsigned char c = (unsigned char)address.bytes[i];
        if (c < 0x20 || c == 0x7F)
            return false;
        if (quoted && c == '\\' && i + 1 < address.length)
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && strchr(" <>(),;\\", c))
            return false;
    }
    return !quoted;
}

static nh_err check_recipients(smtp_transfer *mail, nh_error *error) {
    const nh_value *list = mail->request.recipients;
    mail->recipient_count = nh_value_count(list);
    if (mail->recipient_count == 0)
        return nh_fields_fail(error, NH_E_INVALID, "recipients: must name at least one");
    for (size_t i = 0; i < mail->recipient_count; i++) {
        nh_span address = nh_span_of(nh_value_at(list, i));
        if (!address.bytes || address.length == 0 || !is_address(address))
            return nh_fields_fail(error, NH_E_INVALID, "recipients[%zu]: is not an address", i + 1);
    }
    return NH_OK;
}

/* RFC 3461: NEVER alone, or any of the others. */
static nh_err check_dsn(const smtp_transfer *mail, nh_error *error) {
    static const char *const words[] = {"never", "success", "failure", "delay"};
    const nh_value *list = mail->request.dsn;
    for (size_t i = 0; i < nh_value_count(list); i++) {
        nh_span word = nh_span_of(nh_value_at(list, i));
        bool known = false;
        for (size_t w = 0; w < COUNT(words); w++)
            known |= nh_span_is(word, words[w]);
        if (!known || (nh_span_is(word, "never") && nh_value_count(list) > 1))
            return nh_fields_fail(error, NH_E_INVALID,
                                  "dsn: must be never alone, or any of success, failure, delay");
    }
    return NH_OK;
}

static nh_err read_request(smtp_transfer *mail, nh_error *error) {
    smtp_request *request = &mail->request;
    *request = (smtp_request){.verify = true};
    nh_err failed = nh_fields_read(nh_doc_root(mail->transfer->request->doc), "", fields,
                                   COUNT(fields), request, error);
    if (!failed)
        failed = nh_fields_take_body(mail->transfer, "text", &request->text, error);
    if (failed)
        return failed;

    while (mail->security < SECURITIES && request->security.bytes &&
           !nh_span_is(request->security, securities[mail->security].name))
        mail->security++;
    if (mail->security == SECURITIES)
        return nh_fields_fail(error, NH_E_INVALID, "security: must be starttls, tls or none");
    mail->auth = request->auth.bytes ? AUTH_NONE : request->user.bytes ? AUTH_PLAIN : AUTH_NONE;
    while (mail->auth < AUTHS && request->auth.bytes &&
           !nh_span_is(request->auth, mechanisms[mail->auth].name))
        mail->auth++;
    if (mail->auth == AUTHS)
        return nh_fields_fail(error, NH_E_INVALID,
                              "auth: must be plain, login, cram-md5, xoauth2 or none");
    if (mail->auth != AUTH_NONE && (!request->user.bytes || !request->password.bytes))
        return nh_fields_fail(error, NH_E_INVALID, "auth: needs user and password");
    if (!nh_span_is_host(request->host))
        return nh_fields_fail(error, NH_E_INVALID, "host: is not a host's name or address");
    if (request->hello.bytes && !nh_span_is_host(request->hello))
        return nh_fields_fail(error, NH_E_INVALID, "hello: is not a host's name or address");
    if (!request->port)
        request->port = securities[mail->security].port;
    if (!request->from.bytes || !is_address(request->from))
        return nh_fields_fail(error, NH_E_INVALID, "from: is not an address");
    if (!request->text.bytes && !request->html.bytes)
        return nh_fields_fail(error, NH_E_INVALID, "text, html: one of them is required");
    if (request->guard_allow && !request->guard)
        return nh_fields_fail(error, NH_E_INVALID, "guard_allow: needs guard = true");
    failed = check_recipients(mail, error);
    if (!failed)
        failed = check_dsn(mail, error);
    if (!failed && request->guard)
        failed = nh_guard_create(request->guard_allow, false, &mail->guard, error);
    return failed;
}

/* ---------------------------------------------------------------- envelope */

/* Puts an address as the xtext of RFC 3461. */
static void put_xtext(nh_text *out, nh_span text) {
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.bytes[i];
        if (c > 0x20 && c < 0x7F && c != '+' && c != '=')
            nh_text_putc(out, (char)c);
        else
            nh_text_put(out, (char[]){'+', hex[c >> 4], hex[c & 15]}, 3);
    }
}

/* libcurl 7.88 puts the address between < and > and knows no parameters. An address that closes the
 * first bracket itself and ends in a parameter whose value lacks its > comes out right:
 * RCPT TO:<a@b> NOTIFY=FAILURE ORCPT=rfc822;<a@b>, where xtext and RFC 5322 both allow the brackets
 * around the original recipient. is_address made sure that the address itself cannot do this. */
static nh_err put_dsn(const smtp_transfer *mail, nh_text *out, nh_span address, nh_error *error) {
    const nh_value *list = mail->request.dsn;
    for (size_t i = 0; i < address.length; i++)
        if ((unsigned char)address.bytes[i] > 0x7E)
            return nh_fields_fail(error, NH_E_INVALID,
                                  "dsn: cannot be asked for a recipient that is not ASCII");
    nh_text_puts(out, "> NOTIFY=");
    for (size_t i = 0; i < nh_value_count(list); i++) {
        nh_span word = nh_span_of(nh_value_at(list, i));
        if (i > 0)
            nh_text_putc(out, ',');
        for (size_t c = 0; c < word.length; c++)
            nh_text_putc(out, (char)(word.bytes[c] & ~0x20));
    }
    nh_text_puts(out, " ORCPT=rfc822;<");
    put_xtext(out, address);
    return NH_OK;
}

static nh_err append(struct curl_slist **list, nh_text *line, nh_error *error) {
    const char *text = nh_text_string(line);
    struct curl_slist *longer = text ? curl_slist_append(*list, text) : NULL;
    if (!longer)
        return out_of_memory(error);
    *list = longer;
    return NH_OK;
}

static nh_err set_envelope(smtp_transfer *mail, CURL *easy, nh_error *error) {
    const smtp_request *request = &mail->request;
    nh_text *scratch = &mail->transport->scratch;
    for (size_t i = 0; i < mail->recipient_count; i++) {
        nh_span address = nh_span_of(nh_value_at(request->recipients, i));
        nh_text_clear(scratch);
        nh_text_put(scratch, address.bytes, address.length);
        nh_err failed = NH_OK;
        if (nh_value_count(request->dsn) > 0)
            failed = put_dsn(mail, scratch, address, error);
        if (!failed)
            failed = append(&mail->recipients, scratch, error);
        if (failed)
            return failed;
    }
    curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, mail->recipients);
    curl_easy_setopt(easy, CURLOPT_MAIL_RCPT_ALLLOWFAILS, 1L);
    const char *from = nh_text_of(scratch, request->from);
    return from && curl_easy_setopt(easy, CURLOPT_MAIL_FROM, from) == CURLE_OK
               ? NH_OK
               : out_of_memory(error);
}

static nh_err set_content(smtp_transfer *mail, CURL *easy, nh_error *error) {
    const smtp_request *request = &mail->request;
    const nh_mail content = {
        .headers = request->headers,
        .text = request->text,
        .html = request->html,
        .attachments = request->attachments,
    };
    return nh_mail_compose(&content, easy, &mail->made, error);
}

/* -------------------------------------------------------------- conversation */

static int on_command(CURL *easy, curl_infotype type, char *bytes, size_t length, void *user) {
    (void)easy;
    smtp_transfer *mail = user;
    if (type == CURLINFO_HEADER_OUT && nh_smtp_talk_command(&mail->talk, bytes, length))
        nh_multi_hang_up(&mail->job);
    return 0;
}

static size_t on_line(char *bytes, size_t size, size_t count, void *user) {
    smtp_transfer *mail = user;
    return nh_smtp_talk_line(&mail->talk, bytes, size * count) ? size * count : 0;
}

/* ----------------------------------------------------------------- response */

static void write_reply(smtp_transfer *mail, nh_writer *writer, const char *code,
                        nh_smtp_reply what) {
    nh_span text = nh_smtp_talk_text(&mail->talk, what);
    nh_writer_cstring(writer, code);
    nh_writer_int(writer, what.code);
    nh_writer_cstring(writer, "text");
    nh_writer_string(writer, text.bytes, text.length);
}

static nh_doc *answer(smtp_transfer *mail, nh_smtp_reply decision) {
    nh_writer *writer = mail->transport->writer;
    nh_writer_map(writer, 3);
    write_reply(mail, writer, "status", decision);
    nh_writer_cstring(writer, "replies");
    nh_writer_array(writer, mail->recipient_count);
    for (size_t i = 0; i < mail->recipient_count; i++) {
        nh_smtp_reply own = i < mail->talk.replied ? mail->talk.replies[i] : decision;
        nh_writer_map(writer, 3);
        nh_writer_cstring(writer, "address");
        nh_writer_value(writer, nh_value_at(mail->request.recipients, i));
        write_reply(mail, writer, "code", nh_smtp_refuses(own) ? own : decision);
    }
    nh_doc *response = nh_writer_finish(writer, NULL);
    return response ? response : nh_response_error(NH_E_INTERNAL, true, "out of memory");
}

/* What the server refused before the envelope. */
static nh_err refusal_code(const smtp_transfer *mail) {
    if (mail->talk.last.code < 500)
        return NH_E_UNAVAILABLE;
    return mail->talk.phase == NH_SMTP_AUTH ? NH_E_AUTH : NH_E_REJECTED;
}

/* An old connection that the server had closed, or closes now, before anything of the mail went. */
static bool was_stale(const smtp_transfer *mail, const nh_multi_end *end) {
    long connects = 1;
    if (!end->easy || mail->fresh || mail->talk.phase > NH_SMTP_MAIL)
        return false;
    curl_easy_getinfo(end->easy, CURLINFO_NUM_CONNECTS, &connects);
    return connects == 0 && (mail->talk.last.code == 0 || mail->talk.last.code == 421) &&
           end->code != CURLE_OPERATION_TIMEDOUT;
}

static nh_doc *respond(nh_multi_job *job, const nh_multi_end *end) {
    smtp_transfer *mail = of_job(job);
    const smtp_request *request = &mail->request;
    bool sent = mail->talk.phase >= NH_SMTP_DATA;

    mail->again = end->code != CURLE_OK && was_stale(mail, end);
    if (mail->again)
        return NULL;
    if (end->easy && mail->talk.decision.code)
        return answer(mail, mail->talk.decision);
    if (end->easy && mail->talk.replied == mail->recipient_count &&
        nh_smtp_refuses(mail->talk.last) && !sent)
        return answer(mail, mail->talk.last);

    nh_err code = nh_multi_error(end);
    nh_span said = nh_smtp_talk_text(&mail->talk, mail->talk.last);
    int host = (int)request->host.length;
    if (end->easy && mail->talk.no_login)
        return nh_response_error(NH_E_AUTH, false,
                                 "%.*s:%d: the server offers no authentication; leave user and "
                                 "password out to send without",
                                 host, request->host.bytes, request->port);
    if (!end->easy && code != NH_E_TIMEOUT) /* about the request, not about the host */
        return nh_response_error(code, sent, "%s", end->error.message);
    if (end->easy && nh_smtp_refuses(mail->talk.last) && mail->talk.phase < NH_SMTP_MAIL)
        return nh_response_error(refusal_code(mail), false, "%.*s:%d: %d %.*s", host,
                                 request->host.bytes, request->port, mail->talk.last.code,
                                 (int)said.length, said.bytes);
    const char *text = nh_multi_text(end);
    if (end->easy && end->code == CURLE_LOGIN_DENIED)
        text = "the server does not offer this way to authenticate";
    return nh_response_error(code, sent, "%.*s:%d: %s", host, request->host.bytes, request->port,
                             text);
}

/* ------------------------------------------------------------------ transfer */

static nh_err set_url(smtp_transfer *mail, CURL *easy, nh_error *error) {
    const smtp_request *request = &mail->request;
    nh_text *url = &mail->transport->scratch;
    char port[8];
    bool bare =
        memchr(request->host.bytes, ':', request->host.length) && request->host.bytes[0] != '[';
    snprintf(port, sizeof port, ":%d/", request->port);
    nh_text_clear(url);
    nh_text_puts(url, securities[mail->security].scheme);
    nh_text_puts(url, bare ? "://[" : "://");
    nh_text_put(url, request->host.bytes, request->host.length);
    nh_text_puts(url, bare ? "]" : "");
    nh_text_puts(url, port);
    nh_text_put(url, request->hello.bytes, request->hello.length);
    const char *text = nh_text_string(url);
    return text && curl_easy_setopt(easy, CURLOPT_URL, text) == CURLE_OK ? NH_OK
                                                                         : out_of_memory(error);
}

static nh_err set_login(smtp_transfer *mail, CURL *easy, nh_error *error) {
    if (mail->auth == AUTH_NONE)
        return NH_OK;
    nh_text *scratch = &mail->transport->scratch;
    CURLoption secret = mail->auth == AUTH_XOAUTH2 ? CURLOPT_XOAUTH2_BEARER : CURLOPT_PASSWORD;
    const char *user = nh_text_of(scratch, mail->request.user);
    CURLcode code = user ? curl_easy_setopt(easy, CURLOPT_USERNAME, user) : CURLE_OUT_OF_MEMORY;
    const char *word = nh_text_of(scratch, mail->request.password);
    if (code == CURLE_OK)
        code = word ? curl_easy_setopt(easy, secret, word) : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_LOGIN_OPTIONS, mechanisms[mail->auth].options);
    curl_easy_setopt(easy, CURLOPT_SASL_IR, 1L); /* spares a round trip */
    return code == CURLE_OK ? NH_OK : out_of_memory(error);
}

static nh_err set_trust(smtp_transfer *mail, CURL *easy, nh_error *error) {
    const smtp_request *request = &mail->request;
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, request->verify ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, request->verify ? 2L : 0L);
    if (!request->ca_file.bytes)
        return NH_OK;
    const char *path = nh_text_of(&mail->transport->scratch, request->ca_file);
    if (!path)
        return out_of_memory(error);
    nh_err failed = nh_fields_file("ca_file", path, NULL, error);
    if (!failed && curl_easy_setopt(easy, CURLOPT_CAINFO, path) != CURLE_OK)
        failed = out_of_memory(error);
    return failed;
}

static nh_err prepare(nh_multi_job *job, CURL *easy, nh_error *error) {
    smtp_transfer *mail = of_job(job);
    double connect = mail->request.connect_timeout > 0 ? mail->request.connect_timeout
                                                       : mail->transport->limits.connect_timeout;
    if (!nh_smtp_talk_begin(&mail->talk, mail->recipient_count, mail->auth != AUTH_NONE))
        return out_of_memory(error);

    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect * 1e3) + 1);
    curl_easy_setopt(easy, CURLOPT_USE_SSL, (long)securities[mail->security].use);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, mail->fresh ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_line);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, mail);
    curl_easy_setopt(easy, CURLOPT_DEBUGFUNCTION, on_command);
    curl_easy_setopt(easy, CURLOPT_DEBUGDATA, mail);
    curl_easy_setopt(easy, CURLOPT_VERBOSE, 1L); /* else on_command is not called */

    static nh_err (*const steps[])(smtp_transfer *, CURL *, nh_error *) = {
        set_url, set_trust, set_login, set_envelope, set_content,
    };
    nh_err failed = NH_OK;
    for (size_t i = 0; i < COUNT(steps) && !failed; i++)
        failed = steps[i](mail, easy, error);
    return failed;
}

/* Frees what belongs to one try. */
static void clear_try(smtp_transfer *mail) {
    curl_slist_free_all(mail->recipients);
    nh_mail_clear(&mail->made);
    nh_smtp_talk_clear(&mail->talk);
    mail->recipients = NULL;
}

static void destroy(smtp_transfer *mail) {
    clear_try(mail);
    nh_smtp_talk_term(&mail->talk);
    nh_guard_destroy(mail->guard);
    free(mail);
}

static double seconds_left(const smtp_transfer *mail) {
    uint64_t now = nh_loop_now(mail->transport->loop);
    return mail->due > now ? (double)(mail->due - now) / 1e9 : 0;
}

static nh_multi *multi_of(smtp_transfer *mail, nh_error *error) {
    const nh_smtp_trust trust = {mail->security, mail->request.verify, mail->request.ca_file};
    return nh_smtp_realms_of(&mail->transport->realms, trust, error);
}

static void finish(nh_multi_job *job, nh_doc *response) {
    smtp_transfer *mail = of_job(job);
    nh_transfer *transfer = mail->transfer;
    if (mail->again) {
        nh_error error = {NH_OK, ""};
        clear_try(mail);
        mail->again = false;
        mail->fresh = true;
        mail->job.timeout = seconds_left(mail);
        nh_multi *multi = multi_of(mail, &error);
        if (multi) {
            nh_multi_submit(multi, &mail->job);
            return;
        }
        response = nh_response_error(error.code, false, "%s", error.message);
    }
    destroy(mail);
    transfer->state = NULL;
    transfer->done(transfer, response);
}

/* ----------------------------------------------------------------- transport */

static void smtp_start(nh_transport *transport, nh_transfer *transfer) {
    nh_error error = {NH_OK, ""};
    transfer->state = NULL;
    smtp_transfer *mail = calloc(1, sizeof *mail);
    if (!mail) {
        transfer->done(transfer, nh_response_error(NH_E_INTERNAL, false, "out of memory"));
        return;
    }
    mail->transport = transport;
    mail->transfer = transfer;
    nh_smtp_talk_init(&mail->talk, transport->limits.header_bytes);
    bool valid = read_request(mail, &error) == NH_OK;
    nh_multi *multi = valid ? multi_of(mail, &error) : NULL;
    if (!multi) {
        destroy(mail);
        transfer->done(transfer, nh_response_error(error.code, false, "%s", error.message));
        return;
    }
    double timeout = mail->request.timeout;
    mail->job = (nh_multi_job){
        .prepare = prepare,
        .respond = respond,
        .finish = finish,
        .timeout = timeout > 0 ? timeout : transport->limits.timeout,
        .guard = mail->guard,
    };
    mail->due = nh_loop_now(transport->loop) + (uint64_t)(mail->job.timeout * 1e9);
    transfer->state = mail;
    nh_multi_submit(multi, &mail->job);
}

static void smtp_cancel(nh_transport *transport, nh_transfer *transfer) {
    (void)transport;
    smtp_transfer *mail = transfer->state;
    if (!mail)
        return;
    nh_multi_cancel(&mail->job);
    destroy(mail);
    transfer->state = NULL;
}

static void smtp_close(nh_transport *transport) {
    if (!transport)
        return;
    nh_smtp_realms_close(&transport->realms);
    nh_writer_destroy(transport->writer);
    nh_text_term(&transport->scratch);
    free(transport);
}

static nh_err smtp_open(nh_loop *loop, const nh_transport_limits *limits, nh_transport **out,
                        nh_error *error) {
    nh_err failed = nh_curl_load(error);
    if (failed)
        return failed;
    nh_transport *transport = calloc(1, sizeof *transport);
    if (!transport)
        return out_of_memory(error);
    transport->loop = loop;
    transport->limits = *limits;
    transport->realms = (nh_smtp_realms){.loop = loop, .limits = *limits};
    nh_text_init(&transport->scratch, SIZE_MAX);
    transport->writer = nh_writer_create();
    if (!transport->writer) {
        smtp_close(transport);
        return out_of_memory(error);
    }
    *out = transport;
    return NH_OK;
}

const nh_transport_ops nh_smtp_transport = {
    .name = "smtp",
    .open = smtp_open,
    .start = smtp_start,
    .cancel = smtp_cancel,
    .close = smtp_close,
};
