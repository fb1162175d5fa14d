/* message_test.c — what a message may hold, what its author is told, and names that are unique. */
#include "runtime/core/message.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/core/clock.h"
#include "runtime/core/doc.h"
#include "runtime/core/id.h"
#include "runtime/core/nearest.h"
#include "runtime/core/utf8.h"
#include "spec/unit/check.h"

enum { LARGEST = 1 << 20 };

static nh_message *create(const char *json, nh_error *error) {
    nh_doc *doc = nh_doc_from_json(json, strlen(json), error);
    if (!CHECK(doc)) {
        printf("# %s: %s\n", json, error->message);
        return NULL;
    }
    nh_message *message = nh_message_create(nh_doc_read(doc), LARGEST, nh_wall(), NULL, error);
    nh_doc_unref(doc);
    return message;
}

static nh_message *create_of(const char *text) { /* ' stands for " */
    char json[512];
    nh_error error = {0};
    snprintf(json, sizeof json, "%s", text);
    for (char *quote = json; (quote = strchr(quote, '\''));)
        *quote = '"';
    nh_message *message = create(json, &error);
    if (!CHECK(message))
        printf("# %s: %s\n", json, error.message);
    return message;
}

static void good_messages_are_taken(void) {
    static const char *const good[] = {
        "{'title':'t'}",
        "{'body':''}",
        "{'template':'alert','variables':{'a':1}}",
        "{'body':'x','title':null,'priority':null,'retry':null}",
        "{'body':'x','variables':[],'metadata':[],'platform':[],'targets':{},'attachments':{}}",
        "{'body':'x','format':'markdown','priority':'urgent'}",
        ("{'body':'x','targets':['slack://a/b/c','oncall',{'platform':'slack','value':'#x'},"
         "{'value':'+123'}]}"),
        ("{'body':'x','attachments':[{'name':'a','content':'x'},{'path':'/x'},"
         "{'path':'/x','content':null}]}"),
        "{'body':'x','platform':{'slack':{'blocks':[1,2]},'feishu':[]}}",
        "{'body':'x','deliver_at':0,'expires_at':1e11,'timeout':0.001}",
        "{'body':'x','retry':{'attempts':1,'initial':0,'max':86400,'multiplier':1.5,'jitter':1}}",
        "{'body':'x','retry':{'attempts':100.0}}",
        "{'id':'my-own id','body':'x'}",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        nh_message_unref(create_of(good[i]));
}

/* Whatever stands in front of it, however deep. */
static void each_field_is_found(void) {
    nh_message *message =
        create_of("{'metadata':{'a':[1,{'b':[[],{}]}],'c':1e3},'variables':{'x':[[['y']]]},"
                  "'targets':['mailto://a@b.c',{'type':null,'value':'d@e.f'}],"
                  "'platform':{'slack':{'blocks':[1,[{'z':{}}]]},'feishu':{}},"
                  "'retry':{'attempts':3,'jitter':0.5},"
                  "'attachments':[{'path':'/x','name':'a'},{'name':'b','content':'c'}],"
                  "'body':'x','untrusted':true,'timeout':5,'id':'behind all','dedupe_key':'k',"
                  "'priority':'high'}");
    if (!message)
        return;
    CHECK_STR(nh_message_id(message), "behind all");
    CHECK_INT(message->keyed, 1);
    CHECK_INT(message->priority, NH_HIGH);
    CHECK(nh_message_times(message)->timeout == 5);
    nh_message_unref(message);
}

static uint32_t flow_of(const char *text) {
    nh_message *message = create_of(text);
    uint32_t flow = message ? message->flow : 0;
    nh_message_unref(message);
    return flow;
}

static void a_target_is_one_direction_however_it_is_written(void) {
    uint32_t one = flow_of("{'body':'x','targets':[{'platform':'slack','value':'#a'}]}");
    CHECK(one == flow_of("{'body':'x','targets':[{'value':'#a','type':'t','platform':'slack'}]}"));
    CHECK(one != flow_of("{'body':'x','targets':[{'value':'#b','platform':'slack'}]}"));
    CHECK(one != flow_of("{'body':'x','targets':[{'value':'#a'}]}"));
    one = flow_of("{'body':'x','targets':['https://a:b@host/c']}");
    CHECK(one == flow_of("{'body':'x','targets':['https://host/d']}"));
    CHECK(one != flow_of("{'body':'x','targets':['https://host/d','#a']}"));
}

static void bad_messages_name_the_field(void) {
    static const struct {
        const char *json; /* ' stands for " */
        nh_err code;
        const char *message;
    } bad[] = {
        {"[1]", NH_E_INVALID, "message: must be a table, not a list"},
        {"[]", NH_E_INVALID, "message: needs a title, a body or a template"},
        {"{}", NH_E_INVALID, "message: needs a title, a body or a template"},
        {"{'title':null}", NH_E_INVALID, "message: needs a title, a body or a template"},
        {"{'titel':'x'}", NH_E_INVALID, "titel: unknown field (did you mean 'title'?)"},
        {"{'body':'x','target':['a']}", NH_E_INVALID,
         "target: unknown field (did you mean 'targets'?)"},
        {"{'body':'x','xyzzy':1}", NH_E_INVALID, "xyzzy: unknown field"},
        {"{'body':'x','xyzzy':null}", NH_E_INVALID, "xyzzy: unknown field"},
        {"{'body':'x','':1}", NH_E_INVALID, ": unknown field"},
        {"{'title':5}", NH_E_INVALID, "title: must be a string, not a number"},
        {"{'body':['x']}", NH_E_INVALID, "body: must be a string, not a list"},
        {"{'body':true}", NH_E_INVALID, "body: must be a string, not a boolean"},
        {"{'body':'x','id':''}", NH_E_INVALID, "id: must have 1 to 128 bytes, not 0"},
        {"{'body':'x','id':'a\\u000ab'}", NH_E_INVALID,
         "id: control character 0x0A at byte 2 is not allowed"},
        {"{'body':'x','id':'a\\u007f'}", NH_E_INVALID,
         "id: control character 0x7F at byte 2 is not allowed"},
        {"{'body':'x','id':'a\\u0000b'}", NH_E_INVALID,
         "id: control character 0x00 at byte 2 is not allowed"},
        {"{'body':'x','id':7}", NH_E_INVALID, "id: must be a string, not a number"},
        {"{'body':'x','format':'rtf'}", NH_E_INVALID,
         "format: 'rtf' is not one of text, markdown, html"},
        {"{'body':'x','format':1}", NH_E_INVALID, "format: must be a string, not a number"},
        {"{'body':'x','priority':'Urgent'}", NH_E_INVALID,
         "priority: 'Urgent' is not one of low, normal, high, urgent"},
        {"{'body':'x','targets':'slack'}", NH_E_INVALID, "targets: must be a list, not a string"},
        {"{'body':'x','targets':{'a':1}}", NH_E_INVALID, "targets: must be a list, not a table"},
        {"{'body':'x','targets':['a',5]}", NH_E_INVALID,
         "targets[2]: must be a string or a table, not a number"},
        {"{'body':'x','targets':['']}", NH_E_INVALID,
         "targets[1]: must have 1 to 4096 bytes, not 0"},
        {"{'body':'x','targets':['a\\u000d\\u000aRCPT']}", NH_E_INVALID,
         "targets[1]: control character 0x0D at byte 2 is not allowed"},
        {"{'body':'x','targets':[{'platfrom':'a'}]}", NH_E_INVALID,
         "targets[1].platfrom: unknown field (did you mean 'platform'?)"},
        {"{'body':'x','targets':[{'type':'a'}]}", NH_E_INVALID,
         "targets[1].platform or value is missing"},
        {"{'body':'x','targets':[{'platform':null}]}", NH_E_INVALID,
         "targets[1].platform or value is missing"},
        {"{'body':'x','targets':[{'platform':3}]}", NH_E_INVALID,
         "targets[1].platform: must be a string, not a number"},
        {"{'body':'x','template':''}", NH_E_INVALID, "template: must have 1 to 512 bytes, not 0"},
        {"{'body':'x','variables':'a'}", NH_E_INVALID, "variables: must be a table, not a string"},
        {"{'body':'x','metadata':[1]}", NH_E_INVALID, "metadata: must be a table, not a list"},
        {"{'body':'x','attachments':'a'}", NH_E_INVALID,
         "attachments: must be a list, not a string"},
        {"{'body':'x','attachments':['a']}", NH_E_INVALID,
         "attachments[1]: must be a table, not a string"},
        {"{'body':'x','attachments':[{'name':'a'}]}", NH_E_INVALID,
         "attachments[1]: needs either content or path"},
        {"{'body':'x','attachments':[{'name':'a','content':null}]}", NH_E_INVALID,
         "attachments[1]: needs either content or path"},
        {"{'body':'x','attachments':[{'name':'a','content':'x','path':'y'}]}", NH_E_INVALID,
         "attachments[1]: needs only one of content or path"},
        {"{'body':'x','attachments':[{'content':'x'}]}", NH_E_INVALID,
         "attachments[1].name: is missing"},
        {"{'body':'x','attachments':[{'name':'a','content':5}]}", NH_E_INVALID,
         "attachments[1].content: must be a string, not a number"},
        {"{'body':'x','attachments':[{'path':'a','contenttype':'b'}]}", NH_E_INVALID,
         "attachments[1].contenttype: unknown field (did you mean 'content_type'?)"},
        {"{'body':'x','platform':{'slack':'x'}}", NH_E_INVALID, "platform.slack: must be a table"},
        {"{'body':'x','deliver_at':'now'}", NH_E_INVALID,
         "deliver_at: must be a number, not a string"},
        {"{'body':'x','deliver_at':-1}", NH_E_INVALID, "deliver_at: must be between 0 and 1e+11"},
        {"{'body':'x','expires_at':1e12}", NH_E_INVALID, "expires_at: must be between 0 and 1e+11"},
        {"{'body':'x','timeout':0}", NH_E_INVALID, "timeout: must be between 0.001 and 1e+09"},
        {"{'body':'x','retry':3}", NH_E_INVALID, "retry: must be a table, not a number"},
        {"{'body':'x','retry':{'attemps':3}}", NH_E_INVALID,
         "retry.attemps: unknown field (did you mean 'attempts'?)"},
        {"{'body':'x','retry':{'attempts':0}}", NH_E_INVALID,
         "retry.attempts: must be between 1 and 100"},
        {"{'body':'x','retry':{'attempts':1.5}}", NH_E_INVALID,
         "retry.attempts: must be a whole number"},
        {"{'body':'x','retry':{'initial':-1}}", NH_E_INVALID,
         "retry.initial: must be between 0 and 86400"},
        {"{'body':'x','retry':{'max':86401}}", NH_E_INVALID,
         "retry.max: must be between 0 and 86400"},
        {"{'body':'x','retry':{'multiplier':0.5}}", NH_E_INVALID,
         "retry.multiplier: must be between 1 and 100"},
        {"{'body':'x','retry':{'jitter':1.1}}", NH_E_INVALID,
         "retry.jitter: must be between 0 and 1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char json[512];
        nh_error error = {0};
        snprintf(json, sizeof json, "%s", bad[i].json);
        for (char *quote = json; (quote = strchr(quote, '\''));)
            *quote = '"';
        nh_message *message = create(json, &error);
        if (!CHECK(!message))
            printf("# taken: %s\n", json);
        CHECK_INT(error.code, bad[i].code);
        CHECK_STR(error.message, bad[i].message);
        nh_message_unref(message);
    }
    nh_error error = {0};
    CHECK(!create("{\"body\":\"x\",\"expires_at\":1000}", &error));
    CHECK_INT(error.code, NH_E_EXPIRED);
    CHECK(strncmp(error.message, "expires_at: lies ", 17) == 0);
}

/* A message {field = value} whose strings need not be what JSON can tell. */
static nh_err refuse(const char *field, nh_kind kind, const char *text, size_t length,
                     char message[NH_ERROR_MESSAGE_MAX]) {
    nh_error error = {0};
    nh_writer *writer = nh_writer_create();
    nh_writer_map(writer, 2);
    nh_writer_cstring(writer, "title");
    nh_writer_cstring(writer, "x");
    nh_writer_cstring(writer, field);
    if (kind == NH_BINARY)
        nh_writer_binary(writer, text, length);
    else if (kind == NH_SECRET)
        nh_writer_secret(writer, text, length);
    else
        nh_writer_string(writer, text, length);
    nh_doc *doc = nh_writer_finish(writer, NULL);
    nh_message *taken = nh_message_create(nh_doc_read(doc), LARGEST, nh_wall(), NULL, &error);
    CHECK(!taken);
    nh_message_unref(taken);
    nh_doc_unref(doc);
    nh_writer_destroy(writer);
    strcpy(message, error.message);
    return error.code;
}

static void strings_must_be_utf8_and_no_secret_is_printed(void) {
    char message[NH_ERROR_MESSAGE_MAX], long_text[5000];
    CHECK_INT(refuse("body", NH_STRING, "a\xFF", 2, message), NH_E_INVALID);
    CHECK_STR(message, "body: is not UTF-8");
    CHECK_INT(refuse("body", NH_BINARY, "ab", 2, message), NH_E_INVALID);
    CHECK_STR(message, "body: must be a string, not binary");
    CHECK_INT(refuse("body", NH_SECRET, "hunter2", 7, message), NH_E_INVALID);
    CHECK_STR(message, "body: must be a string, not a secret");
    CHECK_INT(refuse("priority", NH_SECRET, "hunter2", 7, message), NH_E_INVALID);
    CHECK_STR(message, "priority: must be a string, not a secret");
    CHECK_INT(refuse("priority", NH_STRING, "\xFF", 1, message), NH_E_INVALID);
    CHECK_STR(message, "priority: '' is not one of low, normal, high, urgent");
    CHECK_INT(refuse("\xFF", NH_STRING, "a", 1, message), NH_E_INVALID);
    CHECK_STR(message, "message: every key must be a name");
    memset(long_text, 'a', sizeof long_text);
    CHECK_INT(refuse("id", NH_STRING, long_text, 129, message), NH_E_INVALID);
    CHECK_STR(message, "id: must have 1 to 128 bytes, not 129");
    CHECK_INT(refuse("template", NH_STRING, long_text, 513, message), NH_E_INVALID);
    CHECK_STR(message, "template: must have 1 to 512 bytes, not 513");
}

static void lists_and_bytes_are_bounded(void) {
    static const struct {
        const char *field;
        size_t most;
        const char *message;
    } lists[] = {
        {"targets", NH_TARGETS_MAX, "targets: 1001 are given, at most 1000 are allowed"},
        {"attachments", NH_ATTACHMENTS_MAX, "attachments: 101 are given, at most 100 are allowed"}};
    for (size_t l = 0; l < 2; l++)
        for (size_t over = 0; over < 2; over++) {
            nh_error error = {0};
            nh_writer *writer = nh_writer_create();
            nh_writer_map(writer, 2);
            nh_writer_cstring(writer, "body");
            nh_writer_cstring(writer, "x");
            nh_writer_cstring(writer, lists[l].field);
            nh_writer_array(writer, lists[l].most + over);
            for (size_t i = 0; i < lists[l].most + over; i++) {
                if (l == 1) {
                    nh_writer_map(writer, 1);
                    nh_writer_cstring(writer, "path");
                }
                nh_writer_cstring(writer, "a");
            }
            nh_doc *doc = nh_writer_finish(writer, NULL);
            nh_message *message =
                nh_message_create(nh_doc_read(doc), LARGEST, nh_wall(), NULL, &error);
            CHECK_INT(message == NULL, over);
            CHECK_INT(error.code, over ? NH_E_TOO_LARGE : NH_OK);
            CHECK_STR(error.message, over ? lists[l].message : "");
            nh_message_unref(message);
            nh_doc_unref(doc);
            nh_writer_destroy(writer);
        }
    nh_error error = {0};
    nh_doc *doc = nh_doc_from_json("{\"body\":\"0123456789\"}", 21, NULL);
    size_t length;
    nh_doc_bytes(doc, &length);
    nh_message *message = nh_message_create(nh_doc_read(doc), length, nh_wall(), NULL, &error);
    CHECK(message);
    nh_message_unref(message);
    CHECK(!nh_message_create(nh_doc_read(doc), length - 1, nh_wall(), NULL, &error));
    CHECK_INT(error.code, NH_E_TOO_LARGE);
    CHECK_STR(error.message, "message: 17 bytes, at most 16 are allowed");
    nh_doc_unref(doc);
}

static void fields_are_read(void) {
    nh_error error;
    nh_message *message =
        create("{\"body\":\"x\",\"id\":\"own\",\"priority\":\"high\",\"timeout\":2,"
               "\"deliver_at\":5.5,\"expires_at\":9e9}",
               &error);
    CHECK_STR(nh_message_id(message), "own");
    CHECK_INT(message->priority, NH_HIGH);
    const nh_times *times = nh_message_times(message);
    CHECK(times->timeout == 2 && times->deliver_at == 5.5 && times->expires_at == 9e9);
    nh_message_unref(message);
    message = create("{\"body\":\"x\"}", &error);
    CHECK_INT(strlen(nh_message_id(message)), NH_ID_LENGTH);
    CHECK_INT(message->priority, NH_NORMAL);
    times = nh_message_times(message);
    CHECK(!message->timed && times->timeout < 0 && !times->deliver_at && !times->expires_at);
    nh_message_unref(message);
}

static void the_nearest_name_is_suggested(void) {
    static const char *const names[] = {"title", "body", "targets", "id"};
    static const struct {
        const char *text, *nearest;
    } cases[] = {
        {"titel", "title"},      {"tilte", "title"},   {"bdy", "body"}, {"target", "targets"},
        {"body", "body"},        {"completely", NULL}, {"", NULL},      {"di", "id"},
        {"targetss", "targets"}, {"xx", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_STR(nh_nearest(cases[i].text, strlen(cases[i].text), names, 4), cases[i].nearest);
    char large[100];
    memset(large, 't', sizeof large);
    CHECK(!nh_nearest(large, sizeof large, names, 4));
}

static void utf8_is_what_rfc_3629_says(void) {
    static const struct {
        const char *text;
        int valid;
    } cases[] = {{"", 1},
                 {"plain ascii, longer than eight", 1},
                 {"\xC2\x80", 1},
                 {"\xDF\xBF", 1},
                 {"\xE0\xA0\x80", 1},
                 {"\xED\x9F\xBF", 1},
                 {"\xEE\x80\x80", 1},
                 {"\xEF\xBF\xBF", 1},
                 {"\xF0\x90\x80\x80", 1},
                 {"\xF4\x8F\xBF\xBF", 1},
                 {"12345678\xC3\xA4", 1},
                 {"\x80", 0},
                 {"\xBF", 0},
                 {"\xC0\x80", 0}, /* overlong */
                 {"\xC1\xBF", 0},
                 {"\xE0\x9F\xBF", 0},
                 {"\xF0\x8F\xBF\xBF", 0},
                 {"\xED\xA0\x80", 0}, /* surrogates */
                 {"\xED\xBF\xBF", 0},
                 {"\xF4\x90\x80\x80", 0}, /* above U+10FFFF */
                 {"\xF5\x80\x80\x80", 0},
                 {"\xFF", 0},
                 {"\xFE", 0},
                 {"\xC3", 0}, /* cut */
                 {"\xE2\x82", 0},
                 {"\xF0\x9F\x98", 0},
                 {"\xC3\x41", 0},
                 {"\xE2\x82\x41", 0},
                 {"1234567\xFF", 0},
                 {"12345678\xFF", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length = strlen(cases[i].text);
        char *own = malloc(length + 1); /* of its size: a read beyond it is caught */
        memcpy(own, cases[i].text, length);
        own = realloc(own, length ? length : 1);
        if (!CHECK_INT(nh_utf8_valid(own, length), cases[i].valid))
            printf("# case %zu\n", i);
        free(own);
    }
    for (size_t length = 1; length < 80; length++) /* wherever it stands in a text */
        for (size_t at = 0; at < length; at++) {
            char *own = malloc(length); /* of its length: nothing is read beyond */
            memset(own, 'a', length);
            CHECK(nh_utf8_valid(own, length));
            own[at] = '\xE9';
            CHECK(!nh_utf8_valid(own, length));
            if (at > 0) {
                own[at - 1] = '\xC3';
                own[at] = '\xA9';
                CHECK(nh_utf8_valid(own, length));
                own[0] = '\x80';
                CHECK(!nh_utf8_valid(own, length));
            }
            free(own);
        }
    CHECK_INT(nh_utf8_floor("a\xE2\x82\xAC", 4), 4);
    CHECK_INT(nh_utf8_floor("a\xE2\x82\xAC", 3), 1);
    CHECK_INT(nh_utf8_floor("a\xE2\x82\xAC", 2), 1);
    CHECK_INT(nh_utf8_floor("a\xE2\x82\xAC", 1), 1);
    CHECK_INT(nh_utf8_floor("\xF0\x9F\x98\x80", 3), 0);
    CHECK_INT(nh_utf8_floor("", 0), 0);
}

enum { THREADS = 4, IDS = 250000 };
typedef char id[NH_ID_LENGTH + 1];
static id *ids;

static void *make_ids(void *from) {
    id *own = from;
    for (int i = 0; i < IDS; i++)
        nh_id_make(own[i]);
    return NULL;
}

static int by_name(const void *a, const void *b) {
    return memcmp(a, b, NH_ID_LENGTH);
}

static void a_million_ids_from_four_threads_differ(void) {
    pthread_t threads[THREADS];
    size_t same = 0, unsorted = 0;
    ids = calloc((size_t)THREADS * IDS, sizeof *ids);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, make_ids, ids + i * IDS);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS * IDS; i++) {
        CHECK(strspn(ids[i], "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == NH_ID_LENGTH);
        unsorted += i % IDS > 0 && memcmp(ids[i - 1], ids[i], 10) > 0; /* the time's digits */
    }
    CHECK_INT(unsorted, 0);
    qsort(ids, THREADS * IDS, sizeof *ids, by_name);
    for (int i = 1; i < THREADS * IDS; i++)
        same += by_name(ids[i - 1], ids[i]) == 0;
    CHECK_INT(same, 0);
    free(ids);
}

static void ids_differ_after_a_fork(void) {
    enum { COUNT = 1000 };
    int ends[2];
    id own[2 * COUNT];
    CHECK(pipe(ends) == 0);
    nh_id_make(own[0]);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < COUNT; i++) {
            nh_id_make(own[i]);
            if (write(ends[1], own[i], sizeof own[i]) != sizeof own[i])
                _exit(1);
        }
        _exit(0);
    }
    for (int i = 0; i < COUNT; i++) {
        nh_id_make(own[i]);
        size_t got = 0;
        for (ssize_t n; got < sizeof *own; got += (size_t)n)
            if ((n = read(ends[0], own[COUNT + i] + got, sizeof *own - got)) <= 0)
                break;
        CHECK_INT(got, sizeof *own);
    }
    waitpid(child, NULL, 0);
    close(ends[0]);
    close(ends[1]);
    CHECK(memcmp(own[0] + 10, own[COUNT] + 10, 8) != 0); /* the process's part is drawn anew */
    qsort(own, (size_t)2 * COUNT, sizeof *own, by_name);
    for (int i = 1; i < 2 * COUNT; i++)
        CHECK(by_name(own[i - 1], own[i]) != 0);
}

int main(void) {
    RUN(good_messages_are_taken);
    RUN(each_field_is_found);
    RUN(a_target_is_one_direction_however_it_is_written);
    RUN(bad_messages_name_the_field);
    RUN(strings_must_be_utf8_and_no_secret_is_printed);
    RUN(lists_and_bytes_are_bounded);
    RUN(fields_are_read);
    RUN(the_nearest_name_is_suggested);
    RUN(utf8_is_what_rfc_3629_says);
    RUN(a_million_ids_from_four_threads_differ);
    RUN(ids_differ_after_a_fork);
    return check_end();
}
