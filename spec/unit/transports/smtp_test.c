/* The smtp transport against a real SMTP server (aiosmtpd) on loopback. */
#include "spec/unit/transports/harness.h"

#include <fcntl.h>
#include <sys/stat.h>

static char cert[128], key[128];

/* ---------------------------------------------------------------- mailboxes */

/* A server with its own directory. */
typedef struct mailbox {
    peer server;
    char dir[128];
    int seen; /* mails looked at */
} mailbox;

#define MAILBOX(...)                                                                               \
    mailbox box = mailbox_dir();                                                                   \
    box.server = peer_start("smtp_peer.py", "--dir", box.dir, __VA_ARGS__)

static mailbox mailbox_dir(void) {
    static int number_of;
    mailbox box = {{-1, 0}, "", 0};
    snprintf(box.dir, sizeof box.dir, "%s/box%d", scratch_dir(), ++number_of);
    mkdir(box.dir, 0700);
    return box;
}

static nh_doc *parse_output(const char *command) {
    static char text[1 << 20];
    FILE *out = popen(command, "r");
    size_t length = out ? fread(text, 1, sizeof text - 1, out) : 0;
    if (out)
        pclose(out);
    return nh_doc_from_json(text, length, NULL);
}

/* The next mail as a mail program sees it, and its envelope. NULL when there is none. */
static nh_doc *next_mail(mailbox *box, nh_doc **envelope) {
    char command[640];
    int index = ++box->seen;
    if (envelope) {
        snprintf(command, sizeof command, "cat %s/%04d.json", box->dir, index);
        *envelope = parse_output(command);
    }
    snprintf(command, sizeof command, "/usr/bin/python3 %s/spec/support/mail_view.py %s/%04d.eml",
             NH_SOURCE_DIR, box->dir, index);
    return parse_output(command);
}

static int connections(const mailbox *box) {
    char path[160];
    int count = -1;
    snprintf(path, sizeof path, "%s/connections", box->dir);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%d", &count) != 1)
        count = -1;
    if (file)
        fclose(file);
    return count;
}

static bool mail_exists(const mailbox *box, int index) {
    char path[160];
    snprintf(path, sizeof path, "%s/%04d.json", box->dir, index);
    return access(path, F_OK) == 0;
}

/* A plain mail with some more fields. */
#define MAIL                                                                                       \
    "{'host':'127.0.0.1','port':%d,'from':'me@example.com','text':'Hi',"                           \
    "'headers':[{'name':'Subject','value':'S'}],"

static const nh_value *reply_at(const nh_value *response, size_t index) {
    return nh_value_at(nh_value_get(response, "replies"), index);
}

static const nh_value *part_at(const nh_doc *mail, size_t index) {
    return nh_value_at(nh_value_get(nh_doc_root(mail), "parts"), index);
}

/* -------------------------------------------------------------------- tests */

static void composes_what_mail_programs_read(void) {
    MAILBOX(NULL);
    char path[192];
    snprintf(path, sizeof path, "%s/report.bin", box.dir);
    FILE *file = fopen(path, "w");
    fwrite("\0\1\2\377", 1, 4, file);
    fclose(file);
    const char *subject =
        "Gr\xC3\xBC\xC3\x9F"
        "e aus M\xC3\xBCnchen \xE2\x80\x94 \xE6\xB5\x8B\xE8\xAF\x95\xE6\xB5\x8B\xE8\xAF\x95"
        "\xE6\xB5\x8B\xE8\xAF\x95\xE6\xB5\x8B\xE8\xAF\x95\xE6\xB5\x8B\xE8\xAF\x95\xE6\xB5\x8B"
        "\xE8\xAF\x95\xE6\xB5\x8B\xE8\xAF\x95\xE6\xB5\x8B\xE8\xAF\x95\xE6\xB5\x8B\xE8\xAF\x95 "
        "and some more words so that it must be folded at least twice \xF0\x9F\x8E\x89 the end";
    const nh_value *response = ask(document(
        "{'host':'127.0.0.1','port':%d,'security':'none','from':'me@example.com','hello':'here."
        "example',"
        "'recipients':['you@example.com'],'headers':["
        "{'name':'From','value':'J\xC3\xBCrgen M\xC3\xBCller <me@example.com>'},"
        "{'name':'To','value':'\\'Doe, John\\' <you@example.com>, Someone With A Rather Long Name "
        "<someone.with.a.rather.long.address@example.com>, bare@example.com'},"
        "{'name':'Subject','value':'%s'},"
        "{'name':'Message-ID','value':'<0123456789.0123456789.0123456789.0123456789.0123456789."
        "0123456789@example.com>'},"
        "{'name':'X-Plain','value':'%s'}],"
        "'text':'.dot\\nZ\xC3\xA9ro\\r\\nlast','html':'<p>caf\xC3\xA9 <img "
        "src=\\'cid:logo\\'></p>',"
        "'attachments':[{'name':'\xE6\xB5\x8B\xE8\xAF\x95 \xE6\x96\x87\xE4\xBB\xB6 with a long "
        "name "
        "and more and more.pdf','content_type':'application/pdf','content':'PDF'},"
        "{'name':'logo.png','content_type':'image/png','content':'PNG','inline_id':'logo'},"
        "{'name':'report.bin','path':'%s'}]}",
        box.server.port, subject,
        "plain words only, yet far more of them than the seventy-eight columns that a line may "
        "have, so folded",
        path));
    CHECK_INT(number(response, "status"), 250);
    CHECK(has(field(response, "text"), "kept as 0001"));
    CHECK_INT(number(reply_at(response, 0), "code"), 250);

    nh_doc *envelope, *mail = next_mail(&box, &envelope);
    const nh_value *view = nh_doc_root(mail), *headers = nh_value_get(view, "headers");
    CHECK_STR(field(nh_doc_root(envelope), "from"), "me@example.com");
    CHECK_STR(field(nh_doc_root(envelope), "hello"), "here.example");
    CHECK_INT((long long)nh_value_count(nh_value_get(view, "defects")), 0);
    CHECK(!nh_value_bool(nh_value_get(view, "bare")));
    CHECK(nh_value_bool(nh_value_get(view, "ascii")));
    CHECK_INT(number(view, "longest"), 91); /* the Message-ID, which nobody may break */
    CHECK_STR(field(view, "shape"), "mixed(alternative(plain,related(html,png)),pdf,octet-stream)");
    CHECK_STR(field(headers, "Subject"), subject);
    CHECK_STR(field(headers, "From"), "J\xC3\xBCrgen M\xC3\xBCller <me@example.com>");
    CHECK(has(field(headers, "To"), "\"Doe, John\" <you@example.com>, Someone With"));
    CHECK(has(field(headers, "X-Plain"), "far more of them than the seventy-eight columns that"));
    CHECK_STR(field(part_at(mail, 0), "text"), ".dot\nZ\xC3\xA9ro\nlast");
    CHECK(has(field(part_at(mail, 1), "text"), "<p>caf\xC3\xA9 <img"));
    CHECK_STR(field(part_at(mail, 2), "content_id"), "<logo>");
    CHECK_STR(field(part_at(mail, 2), "disposition"), "inline");
    CHECK_STR(
        field(part_at(mail, 3), "filename"),
        "\xE6\xB5\x8B\xE8\xAF\x95 \xE6\x96\x87\xE4\xBB\xB6 with a long name and more and more.pdf");
    CHECK_STR(field(part_at(mail, 4), "filename"), "report.bin");
    CHECK_STR(field(part_at(mail, 4), "bytes"), "AAEC/w==");
    nh_doc_unref(envelope);
    nh_doc_unref(mail);
    CHECK_ERROR(ask(document(MAIL "'recipients':['a@b'],'security':'none',"
                                  "'attachments':[{'name':'x','path':'/nowhere/x.png'}]}",
                             box.server.port)),
                "invalid", "attachments[1].path: /nowhere/x.png");
    peer_stop(&box.server);
}

static void tells_each_recipient_its_reply(void) {
    MAILBOX("--reject", "^bad", "--defer", "^later", "--reject-from", "^spam", NULL);
    const nh_value *response =
        ask(document(MAIL "'security':'none','recipients':['good@b','bad@b','later@b','good2@b']}",
                     box.server.port));
    static const int codes[] = {250, 550, 451, 250};
    CHECK_INT(number(response, "status"), 250);
    for (size_t i = 0; i < 4; i++)
        CHECK_INT(number(reply_at(response, i), "code"), codes[i]);
    CHECK_STR(field(reply_at(response, 1), "address"), "bad@b");
    CHECK_STR(field(reply_at(response, 1), "text"), "5.1.1 no such user 5.1.1 bad@b is refused");
    nh_doc *envelope = NULL, *mail = next_mail(&box, &envelope);
    CHECK_INT((long long)nh_value_count(nh_value_get(nh_doc_root(envelope), "to")), 2);
    nh_doc_unref(mail);
    nh_doc_unref(envelope);

    response =
        ask(document(MAIL "'security':'none','recipients':['bad@b','bad2@b']}", box.server.port));
    CHECK_INT(number(response, "status"), 550);
    CHECK_INT(number(reply_at(response, 1), "code"), 550);
    response = ask(document("{'host':'127.0.0.1','port':%d,'security':'none','from':'spam@b',"
                            "'text':'x','recipients':['good@b']}",
                            box.server.port));
    CHECK_INT(number(response, "status"), 553);
    CHECK_INT(number(reply_at(response, 0), "code"), 553);
    CHECK(!mail_exists(&box, 2));
    peer_stop(&box.server);
}

static void tells_a_refused_content(void) {
    MAILBOX("--reject-data", "--reject", "^bad", NULL);
    const nh_value *response =
        ask(document(MAIL "'security':'none','recipients':['good@b','bad@b']}", box.server.port));
    CHECK_INT(number(response, "status"), 554);
    CHECK_INT(number(reply_at(response, 0), "code"), 554);
    CHECK_INT(number(reply_at(response, 1), "code"), 550);
    peer_stop(&box.server);
}

static void keeps_its_connection(void) {
    MAILBOX("--auth", "me:sesame", NULL);
    for (int i = 0; i < 20; i++)
        CHECK_INT(number(ask(document(MAIL "'security':'none','user':'me','password':'sesame',"
                                           "'recipients':['a%d@b']}",
                                      box.server.port, i)),
                         "status"),
                  250);
    CHECK_INT(connections(&box), 1);
    /* Another user must not send over this user's connection. */
    CHECK_ERROR(ask(document(MAIL "'security':'none','user':'you','password':'x',"
                                  "'recipients':['a@b']}",
                             box.server.port)),
                "auth", "535");
    peer_stop(&box.server);
}

static void sends_a_text_that_stands_beside(void) {
    MAILBOX(NULL);
    exchange one;
    exchange_start_with(&one,
                        document(MAIL "'security':'none','recipients':['a@b']}", box.server.port),
                        "hello", 5);
    CHECK_ERROR(nh_doc_root(one.response), "invalid", "text: stands in the request and beside it");
    exchange_free(&one);
    exchange_start_with(&one,
                        document("{'host':'127.0.0.1','port':%d,'from':'a@b','security':'none',"
                                 "'recipients':['a@b']}",
                                 box.server.port),
                        "hello", 5);
    turn_until(&one, 20);
    CHECK_INT(number(nh_doc_root(one.response), "status"), 250);
    nh_doc *mail = next_mail(&box, NULL);
    CHECK(has(field(part_at(mail, 0), "text"), "hello"));
    nh_doc_unref(mail);
    exchange_free(&one);
    peer_stop(&box.server);
}

static void finds_its_old_connection_closed(void) {
    MAILBOX("--idle", "0.4", NULL);
    for (int i = 0; i < 2; i++) {
        const nh_value *response =
            ask(document(MAIL "'security':'none','recipients':['a@b']}", box.server.port));
        CHECK_INT(number(response, "status"), 250);
        turn_for(0.8);
    }
    CHECK_INT(connections(&box), 2);
    peer_stop(&box.server);
}

/* A server that takes two mails over a connection and says so when the third comes. */
static void goes_on_when_a_connection_is_used_up(void) {
    MAILBOX("--mails", "2", NULL);
    for (int i = 0; i < 5; i++)
        CHECK_INT(
            number(ask(document(MAIL "'security':'none','recipients':['a@b']}", box.server.port)),
                   "status"),
            250);
    CHECK_INT(connections(&box), 3);
    CHECK(mail_exists(&box, 5));
    peer_stop(&box.server);
}

static void authenticates_in_every_way(void) {
    static const char *const ways[] = {"plain", "login", "cram-md5", "xoauth2"};
    MAILBOX("--auth", "me:sesame", NULL);
    for (int i = 0; i < 4; i++) {
        char realm[64]; /* a new connection for each: the server has to see the mechanism */
        snprintf(realm, sizeof realm, "'verify':%s", i % 2 ? "true" : "false");
        const nh_value *response;
        response = ask(document("{'host':'127.0.0.1','port':%d,'security':'none','from':'a@b',"
                                "'text':'x','auth':'%s','user':'me','password':'sesame',"
                                "'recipients':['a@b'],%s}",
                                box.server.port, ways[i], realm));
        CHECK_INT(number(response, "status"), 250);
        response = ask(document("{'host':'127.0.0.1','port':%d,'security':'none','from':'a@b',"
                                "'text':'x','auth':'%s','user':'me','password':'wrong',"
                                "'recipients':['a@b'],%s}",
                                box.server.port, ways[i], realm));
        CHECK_ERROR(response, "auth", "535");
        CHECK(!strstr(field(response, "message"), "wrong"));
        CHECK(!nh_value_bool(nh_value_get(response, "sent")));
    }
    CHECK_INT(number(ask(document(MAIL "'security':'none','recipients':['a@b']}", box.server.port)),
                     "status"),
              530);
    peer_stop(&box.server);
}

static void insists_on_tls(void) {
    MAILBOX("--starttls", "--cert", cert, "--key", key, NULL);
    mailbox without = mailbox_dir(), implicit = mailbox_dir();
    without.server = peer_start("smtp_peer.py", "--dir", without.dir, NULL);
    implicit.server = peer_start("smtp_peer.py", "--dir", implicit.dir, "--tls", "--cert", cert,
                                 "--key", key, NULL);

    /* First a plain connection to the same port: it must not serve those who want TLS. */
    CHECK_INT(number(ask(document(MAIL "'security':'none','recipients':['a@b']}", box.server.port)),
                     "status"),
              250);
    CHECK_ERROR(ask(document(MAIL "'recipients':['a@b']}", box.server.port)), "tls", "certificate");
    CHECK_INT(number(ask(document(MAIL "'verify':false,'recipients':['a@b']}", box.server.port)),
                     "status"),
              250);
    CHECK_ERROR(ask(document(MAIL "'recipients':['a@b']}", box.server.port)), "tls", "certificate");
    CHECK_INT(
        number(ask(document(MAIL "'ca_file':'%s','recipients':['a@b']}", box.server.port, cert)),
               "status"),
        250);
    static const bool tls[] = {false, true, true};
    for (int i = 0; i < 3; i++) {
        nh_doc *envelope = NULL, *mail = next_mail(&box, &envelope);
        CHECK(nh_value_bool(nh_value_get(nh_doc_root(envelope), "tls")) == tls[i]);
        nh_doc_unref(mail);
        nh_doc_unref(envelope);
    }
    CHECK(!mail_exists(&box, 4));

    CHECK_ERROR(ask(document(MAIL "'verify':false,'recipients':['a@b']}", without.server.port)),
                "tls", "does not offer TLS");
    CHECK(!mail_exists(&without, 1));
    CHECK_ERROR(ask(document(MAIL "'security':'tls','recipients':['a@b']}", implicit.server.port)),
                "tls", "certificate");
    CHECK_INT(number(ask(document(MAIL "'security':'tls','ca_file':'%s','recipients':['a@b']}",
                                  implicit.server.port, cert)),
                     "status"),
              250);
    peer_stop(&box.server);
    peer_stop(&without.server);
    peer_stop(&implicit.server);
}

static void asks_for_delivery_notifications(void) {
    MAILBOX("--dsn", NULL);
    CHECK_INT(number(ask(document(MAIL "'security':'none','recipients':['a+b@c'],"
                                       "'dsn':['success','failure']}",
                                  box.server.port)),
                     "status"),
              250);
    nh_doc *envelope = NULL, *mail = next_mail(&box, &envelope);
    const nh_value *options =
        nh_value_get(nh_value_get(nh_doc_root(envelope), "rcpt_options"), "a+b@c");
    size_t length = 0;
    const char *text = nh_value_bytes(nh_value_at(options, 0), &length);
    CHECK(text && length == 22 && memcmp(text, "NOTIFY=SUCCESS,FAILURE", 22) == 0);
    text = nh_value_bytes(nh_value_at(options, 1), &length);
    CHECK(text && length == 22 && memcmp(text, "ORCPT=rfc822;<a+2Bb@c>", 22) == 0);
    nh_doc_unref(mail);
    nh_doc_unref(envelope);
    peer_stop(&box.server);

    /* A server that does not know the extension says so; the wish is not dropped. */
    mailbox without = mailbox_dir();
    without.server = peer_start("smtp_peer.py", "--dir", without.dir, NULL);
    const nh_value *response = ask(document(
        MAIL "'security':'none','recipients':['a@b'],'dsn':['never']}", without.server.port));
    CHECK_INT(number(response, "status"), 555);
    peer_stop(&without.server);
}

static void never_lets_a_line_end_through(void) {
    static const char *const bad[] = {
        "'from':'a@b> SIZE=1 <x','recipients':['a@b']",
        "'from':'a@b','recipients':['a@b> NOTIFY=NEVER']",
        "'from':'a@b','recipients':['a@b\\r\\nDATA']",
        "'from':'a@b\\nRSET','recipients':['a@b']",
        "'from':'a@b','recipients':['a@b'],'headers':{'text':'a\\r\\nBcc: c@d'}",
        "'from':'a@b','recipients':['a@b'],'headers':{'X: y\\n':'a'}",
        "'from':'a@b','recipients':['a@b'],'attachments':[{'name':'a\\r\\nb','content':'x'}]",
        "'from':'a@b','recipients':['a@b'],'hello':'x\\r\\nQUIT'",
        "'from':'a@b','recipients':[]",
        "'from':'a@b','recipients':['a@b'],'security':'try'",
    };
    MAILBOX(NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const nh_value *response =
            ask(document("{'host':'127.0.0.1','port':%d,'text':'x',%s%s}", box.server.port, bad[i],
                         i == 9 ? "" : ",'security':'none'"));
        CHECK_STR(field(response, "error"), "invalid");
    }
    CHECK_INT(connections(&box), 0);
    /* In the text they are line ends, whatever they were. */
    CHECK_INT(number(ask(document("{'host':'127.0.0.1','port':%d,'security':'none','from':'a@b',"
                                  "'recipients':['a@b'],'text':'a\\n.\\nQUIT\\r.\\r\\n..\\rb'}",
                                  box.server.port)),
                     "status"),
              250);
    nh_doc *mail = next_mail(&box, NULL);
    CHECK_STR(field(nh_doc_root(mail), "shape"), "plain");
    CHECK_STR(field(part_at(mail, 0), "text"), "a\n.\nQUIT\n.\n..\nb\n"); /* as each mail ends */
    nh_doc_unref(mail);
    peer_stop(&box.server);
}

/* What needs no encoding is no multipart; what does is libcurl's to encode. */
static void wraps_only_what_has_to_be(void) {
    static const char *const mails[][2] = {
        {"'text':'one line'", "plain"},
        {"'text':'gr\xC3\xBC\xC3\x9F'", "mixed(plain)"},
        {"'text':'a','html':'<p>a'", "mixed(alternative(plain,html))"},
        {"'text':'a','attachments':[{'name':'a.txt','content':'x'}]", "mixed(plain,octet-stream)"},
    };
    MAILBOX(NULL);
    for (size_t i = 0; i < sizeof mails / sizeof *mails; i++) {
        CHECK_INT(
            number(ask(document("{'host':'127.0.0.1','port':%d,'security':'none','from':'a@b',"
                                "'recipients':['c@d'],'headers':{'Subject':'\xC3\xA4 b',"
                                "'X-Long':'%080d'},%s}",
                                box.server.port, 1, mails[i][0])),
                   "status"),
            250);
        nh_doc *mail = next_mail(&box, NULL);
        const nh_value *view = nh_doc_root(mail);
        CHECK_STR(field(view, "shape"), mails[i][1]);
        CHECK_STR(field(nh_value_get(view, "headers"), "Subject"), "\xC3\xA4 b");
        CHECK(nh_value_bool(nh_value_get(view, "ascii")));
        CHECK(!nh_value_bool(nh_value_get(view, "bare")));
        CHECK_INT((int)nh_value_count(nh_value_get(view, "defects")), 0);
        nh_doc_unref(mail);
    }
    peer_stop(&box.server);
}

/* libcurl says QUIT after a refusal and would wait for the answer, all other work with it. */
static void never_waits_for_a_good_bye(void) {
    MAILBOX("--quit-delay", "3", "--reject", "^bad", NULL);
    longest_turn = 0;
    double before = seconds_now();
    CHECK_INT(
        number(ask(document(MAIL "'security':'none','recipients':['bad@b']}", box.server.port)),
               "status"),
        550);
    CHECK_INT(
        number(ask(document(MAIL "'security':'none','recipients':['good@b']}", box.server.port)),
               "status"),
        250);
    transport_close();
    CHECK(longest_turn < 1);
    CHECK(seconds_now() - before < 2);
    transport_open(&nh_smtp_transport, default_limits());
    peer_stop(&box.server);
}

static void cancels_and_ends_in_time(void) {
    MAILBOX("--data-delay", "0.6", NULL);
    exchange one;
    const nh_value *response = ask(
        document(MAIL "'security':'none','timeout':0.3,'recipients':['a@b']}", box.server.port));
    CHECK_ERROR(response, "timeout", "127.0.0.1:");
    CHECK(nh_value_bool(nh_value_get(response, "sent")));
    exchange_start(&one, document(MAIL "'security':'none','recipients':['a@b']}", box.server.port));
    turn_for(0.01);
    ops->cancel(transport, &one.transfer);
    turn_for(0.9);
    CHECK_INT(one.done, 0);
    exchange_free(&one);
    response =
        ask(document("{'host':'127.0.0.1','port':1,'from':'a@b','text':'x','recipients':['a@b']}"));
    CHECK_ERROR(response, "network", "127.0.0.1:1: ");
    CHECK(!nh_value_bool(nh_value_get(response, "sent")));
    peer_stop(&box.server);
}

static void carries_many_at_once(void) {
    enum { MANY = 200 };
    static exchange each[MANY];
    MAILBOX(NULL);
    for (int i = 0; i < MANY; i++)
        exchange_start(&each[i], document(MAIL "'security':'none','recipients':['a%d@b']}",
                                          box.server.port, i));
    int accepted = 0;
    for (int i = 0; i < MANY; i++) {
        turn_until(&each[i], 30);
        accepted += each[i].done == 1 && number(nh_doc_root(each[i].response), "status") == 250;
        exchange_free(&each[i]);
    }
    CHECK_INT(accepted, MANY);
    CHECK(mail_exists(&box, MANY));
    peer_stop(&box.server);
}

int main(void) {
    make_certificate(cert, key, sizeof cert);
    transport_open(&nh_smtp_transport, default_limits());
    RUN(composes_what_mail_programs_read);
    RUN(tells_each_recipient_its_reply);
    RUN(tells_a_refused_content);
    RUN(keeps_its_connection);
    RUN(sends_a_text_that_stands_beside);
    RUN(finds_its_old_connection_closed);
    RUN(goes_on_when_a_connection_is_used_up);
    RUN(authenticates_in_every_way);
    RUN(insists_on_tls);
    RUN(asks_for_delivery_notifications);
    RUN(never_lets_a_line_end_through);
    RUN(wraps_only_what_has_to_be);
    RUN(never_waits_for_a_good_bye);
    RUN(cancels_and_ends_in_time);
    RUN(carries_many_at_once);
    transport_close();
    scratch_remove();
    return check_end();
}
