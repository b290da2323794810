/* SPDX-License-Identifier: MIT */

/* wire-client KEYS SLUG SERVER [CA-FILE]: the wire room's client as a program that tests can drive. It stays connected
 * to the server's stream, writes the id of each envelope to KEYS/ledger and to the disk before it takes it, and says
 * on stdout, one JSON object a line, what happens. Commands come on stdin, one a line; see commands[] below. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "event-util.h"
#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "message-seal.h"
#include "receiver.h"
#include "server-api.h"
#include "server-certs.h"
#include "stream.h"

typedef struct Program {
        sd_event *event;
        sd_event_source *input;
        HttpClient *http;
        Identity *identity;
        ServerClient *client;
        Stream *stream;
        CertCache *certs;
        Receiver *receiver;
        Envelope *envelope;     /* with the receiver */
        StrBuf line;
        char *directory;
        int ledger_fd;
        unsigned n_later, n_hold;
        uint64_t n_taken;
        ServerCall *calls[32];  /* that have no answer yet */
} Program;

static int call_keep(Program *p, ServerCall *call) {
        for (size_t i = 0; i < ELEMENTSOF(p->calls); i++)
                if (!p->calls[i]) {
                        p->calls[i] = call;
                        return 0;
                }
        (void) server_call_free(call);
        return -EBUSY;
}

static void call_answered(Program *p, ServerCall *call) {
        for (size_t i = 0; i < ELEMENTSOF(p->calls); i++)
                if (p->calls[i] == call)
                        p->calls[i] = NULL;
        (void) server_call_free(call);
}

static void say(json_object *o) {
        puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        (void) fflush(stdout);
        (void) json_object_put(o);
}

static void say_text(const char *key, const char *text) {
        json_object *o = json_object_new_object();

        (void) json_put_string(o, key, text);
        say(o);
}

/* --- the stream --- */

static void take(Program *p, json_object *o) {
        _cleanup_free_ char *line = strjoin(envelope_id(p->envelope), "\n");

        if (write(p->ledger_fd, line, strlen(line)) != (ssize_t) strlen(line) || fdatasync(p->ledger_fd) < 0) {
                (void) json_put_string(o, "verdict", "not written");
                stream_delivered(p->stream, DELIVERY_LATER);
                return;
        }
        p->n_taken++;
        (void) json_put_string(o, "verdict", "taken");
        stream_delivered(p->stream, DELIVERY_TAKEN);
}

static void put_message(json_object *o, const Message *m) {
        _cleanup_(strbuf_done) StrBuf content = {};

        (void) json_put_string(o, "thread", m->thread_root_id);
        (void) json_put_string(o, "channel", m->channel_id);
        (void) json_put_bool(o, "encrypted", m->encrypted);
        if (signed_value_format(m->content, &content) >= 0)
                (void) json_put(o, "content", json_tokener_parse(content.text));
}

static void on_received(Receiver *r, const Receipt *receipt, void *userdata) {
        static const char *const names[] = {
                [RECEIPT_MESSAGE] = "ok", [RECEIPT_REFUSED] = "refused", [RECEIPT_LATER] = "later",
        };
        json_object *o = json_object_new_object();
        Program *p = userdata;

        (void) json_put_string(o, "envelope", envelope_id(p->envelope));
        (void) json_put_string(o, "sender", envelope_claimed_sender(p->envelope));
        (void) json_put_string(o, "opened", names[receipt->kind]);
        (void) json_put_string(o, "problem", receipt->reason);
        if (receipt->message)
                put_message(o, receipt->message);

        if (receipt->kind == RECEIPT_LATER || p->n_later > 0) {
                p->n_later -= p->n_later > 0;
                (void) json_put_string(o, "verdict", "later");
                stream_delivered(p->stream, DELIVERY_LATER);
        } else if (p->n_hold > 0) {
                p->n_hold--;
                (void) json_put_string(o, "verdict", "held");
        } else
                take(p, o);
        say(o);
}

static void on_envelope(Stream *s, Envelope *e, void *userdata) {
        Program *p = userdata;

        p->envelope = e;
        receiver_take(p->receiver, e);
}

static void on_event(Stream *s, const char *space_id, const SignedValue *event, void *userdata) {
        json_object *o = json_object_new_object();

        (void) json_put_string(o, "event", strempty(signed_get_string(event, "kind")));
        (void) json_put_string(o, "space", space_id);
        say(o);
}

static void on_cert_update(Stream *s, const char *slug, void *userdata) {
        Program *p = userdata;

        cert_cache_invalidate(p->certs, slug);
        say_text("cert_update", slug);
}

static void on_state(Stream *s, StreamState state, const char *reason, void *userdata) {
        json_object *o = json_object_new_object();
        Program *p = userdata;

        (void) json_put_string(o, "state", stream_state_to_string(state));
        (void) json_put_string(o, "reason", reason);
        say(o);
        if (state == STREAM_STOPPED)
                (void) sd_event_exit(p->event, 0);
}

static void on_caught_up(Stream *s, void *userdata) {
        json_object *o = json_object_new_object();
        Program *p = userdata;

        (void) json_put_int(o, "caught_up", (int64_t) p->n_taken);
        say(o);
}

/* --- calls --- */

static void put_reply(json_object *o, const CallReply *reply) {
        static const char *const names[] = {
                [CALL_OK] = "ok", [CALL_NETWORK] = "network", [CALL_TLS] = "tls", [CALL_STATUS] = "status",
                [CALL_PROTOCOL] = "protocol", [CALL_KEYS] = "keys", [CALL_MEMORY] = "memory",
        };
        _cleanup_(strbuf_done) StrBuf json = {};

        (void) json_put_string(o, "reply", names[reply->failure]);
        (void) json_put_int(o, "status", reply->status);
        (void) json_put_string(o, "error", reply->error);
        (void) json_put_string(o, "code", reply->code);
        (void) json_put_bool(o, "transient", call_reply_is_transient(reply));
        (void) json_put_int(o, "size", (int64_t) reply->body_size);
        if (reply->json && signed_value_format(reply->json, &json) >= 0)
                (void) json_put(o, "json", json_tokener_parse(json.text));
}

static void on_reply(ServerCall *call, const CallReply *reply, void *userdata) {
        json_object *o = json_object_new_object();

        put_reply(o, reply);
        say(o);
        call_answered(userdata, call);
}

/* As on_reply(), and what the typed reader makes of it: how many, and the first. */
static void say_read(Program *p, ServerCall *call, const CallReply *reply, int r, char *error, size_t n,
                     const char *first) {
        json_object *o = json_object_new_object();

        put_reply(o, reply);
        (void) json_put_int(o, "read", r);
        (void) json_put_string(o, "read_error", error);
        (void) json_put_int(o, "n", (int64_t) n);
        (void) json_put_string(o, "first", n > 0 ? first : NULL);
        say(o);
        free(error);
        call_answered(p, call);
}

#define DEFINE_READER(name, type, reader, field) \
        static void on_##name(ServerCall *call, const CallReply *reply, void *userdata) { \
                _cleanup_free_ type *items = NULL; \
                char *error = NULL; \
                size_t n = 0; \
                int r = reply->failure == CALL_OK ? reader(reply, &items, &n, &error) : -ENODATA; \
                say_read(userdata, call, reply, r, error, n, n > 0 ? items[0].field : NULL); \
        } struct _cleanup_semicolon_

DEFINE_READER(spaces, Space, api_read_spaces, space_id);
DEFINE_READER(channels, Channel, api_read_channels, channel_id);
DEFINE_READER(members, Member, api_read_members, slug);
DEFINE_READER(profiles, Profile, api_read_profiles, slug);

static void on_invites(ServerCall *call, const CallReply *reply, void *userdata) {
        _cleanup_free_ Invite *invites = NULL;
        Program *p = userdata;
        size_t n = 0, left_out;
        char *error = NULL;
        int r = reply->failure == CALL_OK ? api_read_invites(reply, &invites, &n, &left_out, &error) : -ENODATA;

        for (size_t i = 0; i < n; i++) {
                ServerCall *answer;

                if (api_answer_invite(p->client, invites + i, INVITE_ACCEPT, on_reply, p, &answer) >= 0)
                        (void) call_keep(p, answer);
        }
        say_read(userdata, call, reply, r, error, n, n > 0 ? invites[0].event_id : NULL);
}

static void on_events(ServerCall *call, const CallReply *reply, void *userdata) {
        EventPage page = {};
        char *error = NULL;
        int r = reply->failure == CALL_OK ? api_read_event_page(reply, NULL, &page, &error) : -ENODATA;
        _cleanup_free_ char *cursor = page.next_cursor ? strdup(page.next_cursor) : NULL;

        say_read(userdata, call, reply, r, error, page.n_events, cursor);
        free(page.events);
}

static void on_uploaded(ServerCall *call, const CallReply *reply, void *userdata) {
        const char *id = NULL;
        char *error = NULL;
        int r = reply->failure == CALL_OK ? api_read_uploaded(reply, &id, &error) : -ENODATA;

        say_read(userdata, call, reply, r, error, !!id, id);
}

static int command_get(Program *p, char **w, ServerCall **ret) {
        return server_call_start(p->client, &(CallSpec) { .path = w[1], .on_done = on_reply, .userdata = p }, ret);
}

static int command_spaces(Program *p, char **w, ServerCall **ret) {
        return api_spaces(p->client, on_spaces, p, ret);
}

static int command_channels(Program *p, char **w, ServerCall **ret) {
        return api_channels(p->client, w[1], on_channels, p, ret);
}

static int command_members(Program *p, char **w, ServerCall **ret) {
        return api_channel_members(p->client, w[1], w[2], on_members, p, ret);
}

static int command_profiles(Program *p, char **w, ServerCall **ret) {
        return api_profiles(p->client, (const char *const*) w + 1, strv_length(w + 1), on_profiles, p, ret);
}

static int command_rename(Program *p, char **w, ServerCall **ret) {
        return api_change_profile(p->client, &(ProfileChange) { .display_name = w[1] }, on_reply, p, ret);
}

static int command_events(Program *p, char **w, ServerCall **ret) {
        return api_space_events(p->client, w[1], w[2], on_events, p, ret);
}

static int command_certs(Program *p, char **w, ServerCall **ret) {
        return api_certs_sync(p->client, (const char *const*) w + 1, strv_length(w + 1), 0, on_reply, p, ret);
}

static int command_accept(Program *p, char **w, ServerCall **ret) {
        return api_invites(p->client, on_invites, p, ret);
}

static int command_upload(Program *p, char **w, ServerCall **ret) {
        return api_upload_blob(p->client, w[1], strlen(w[1]), NULL, on_uploaded, p, ret);
}

static int command_download(Program *p, char **w, ServerCall **ret) {
        return api_download_blob(p->client, w[1], on_reply, p, ret);
}

static int command_heartbeat(Program *p, char **w, ServerCall **ret) {
        return api_heartbeat(p->client, AGENT_STATUS_BUSY, w[1], NULL, on_reply, p, ret);
}

static int command_run(Program *p, char **w, ServerCall **ret) {
        return api_processing_start(p->client, &(Run) { .message_id = w[1], .run_id = w[2] }, on_reply, p, ret);
}

static int command_ran(Program *p, char **w, ServerCall **ret) {
        Run run = { .message_id = w[1], .run_id = w[2], .error_text = w[3] };

        return api_processing_end(p->client, &run, on_reply, p, ret);
}

static int command_ran_all(Program *p, char **w, ServerCall **ret) {
        Run runs[] = { { .message_id = w[1], .run_id = w[2] }, { .message_id = w[1], .run_id = w[3], .error_text = "no" } };

        return api_processing_end_batch(p->client, runs, ELEMENTSOF(runs), on_reply, p, ret);
}

/* --- sending --- */

static void on_posted(ServerCall *call, const CallReply *reply, void *userdata) {
        PostedMessage posted = { .devices_queued = -1 };
        char *error = NULL;
        int r = reply->failure == CALL_OK ? api_read_posted(reply, &posted, &error) : -ENODATA;

        say_read(userdata, call, reply, r, error, posted.devices_queued < 0 ? 0 : (size_t) posted.devices_queued, "posted");
        free(posted.missing_devices);
}

static void on_sealed(MessageSeal *m, const SealedMessage *sealed, void *userdata) {
        json_object *o = json_object_new_object();
        ServerCall *call = NULL;
        Program *p = userdata;

        (void) json_put_int(o, "sealed", sealed->error);
        (void) json_put_string(o, "why", sealed->text);
        (void) json_put_bool(o, "transient", sealed->transient);
        (void) json_put_string(o, "id", sealed->envelope_id);
        (void) json_put_int(o, "devices", (int64_t) sealed->n_devices);
        say(o);
        if (sealed->error >= 0 &&
            (api_post_message(p->client, sealed->envelope, sealed->envelope_size, on_posted, p, &call) < 0 ||
             call_keep(p, call) < 0))
                say_text("refused", "cannot post");
        message_seal_free(m);
}

static int send_text(Program *p, MessageSealSpec spec, const char *text) {
        json_object *content = json_object_new_string(text);
        MessageSeal *m;
        int r;

        spec.client = p->client;
        spec.cache = p->certs;
        spec.content = json_object_to_json_string(content);
        spec.sent_at = now_realtime_ms();
        spec.on_sealed = on_sealed;
        spec.userdata = p;
        r = message_seal_new(&m, &spec);
        (void) json_object_put(content);
        return r;
}

static int command_dm(Program *p, char **w, ServerCall **ret) {
        return send_text(p, (MessageSealSpec) { .kind = ENVELOPE_DM, .recipient_slug = w[1] }, w[2]);
}

static int command_post(Program *p, char **w, ServerCall **ret) {
        return send_text(p, (MessageSealSpec) { .kind = ENVELOPE_CHANNEL, .space_id = w[1], .channel_id = w[2],
                                                .thread_root_id = w[4], .reply_to_id = w[4] }, w[3]);
}

/* --- the program --- */

static int command_later(Program *p, char **w, ServerCall **ret) {
        p->n_later = (unsigned) strtoul(w[1], NULL, 10);
        return 0;
}

static int command_hold(Program *p, char **w, ServerCall **ret) {
        p->n_hold++;
        return 0;
}

static int command_release(Program *p, char **w, ServerCall **ret) {
        stream_delivered(p->stream, DELIVERY_TAKEN);
        return 0;
}

static int command_probe(Program *p, char **w, ServerCall **ret) {
        stream_probe(p->stream);
        return 0;
}

static int command_stop(Program *p, char **w, ServerCall **ret) {
        stream_stop(p->stream);
        return 0;
}

static const struct {
        const char *name;
        unsigned n_words;       /* at least, the name included */
        int (*run)(Program *p, char **words, ServerCall **ret);
} commands[] = {
        { "get", 2, command_get },                      /* PATH */
        { "spaces", 1, command_spaces },
        { "channels", 2, command_channels },            /* SPACE */
        { "members", 3, command_members },              /* SPACE CHANNEL */
        { "profiles", 2, command_profiles },            /* SLUG… */
        { "rename", 2, command_rename },                /* NAME */
        { "events", 2, command_events },                /* SPACE [CURSOR] */
        { "certs", 2, command_certs },                  /* SLUG… */
        { "accept", 1, command_accept },                /* all invites */
        { "upload", 2, command_upload },                /* TEXT */
        { "download", 2, command_download },            /* BLOB */
        { "heartbeat", 1, command_heartbeat },          /* [MESSAGE] */
        { "run", 3, command_run },                      /* MESSAGE RUN */
        { "ran", 3, command_ran },                      /* MESSAGE RUN [ERROR] */
        { "ran-all", 4, command_ran_all },              /* MESSAGE RUN RUN */
        { "dm", 3, command_dm },                        /* SLUG TEXT */
        { "post", 4, command_post },                    /* SPACE CHANNEL TEXT [THREAD] */
        { "later", 2, command_later },                  /* N: put the next ones off */
        { "hold", 1, command_hold },                    /* the next one until "release" */
        { "release", 1, command_release },
        { "probe", 1, command_probe },
        { "stop", 1, command_stop },
};

static void run_command(Program *p, char *line) {
        _cleanup_(strv_freep) char **words = NULL;
        ServerCall *call = NULL;
        int r = -ENOSYS;

        for (char *state, *word = strtok_r(line, " ", &state); word; word = strtok_r(NULL, " ", &state))
                if (strv_extend(&words, word) < 0)
                        return;

        for (size_t i = 0; i < ELEMENTSOF(commands) && words; i++)
                if (streq(words[0], commands[i].name))
                        r = strv_length(words) >= commands[i].n_words ? commands[i].run(p, words, &call) : -EINVAL;
        if (r >= 0 && call)
                r = call_keep(p, call);
        if (r < 0)
                say_text("refused", strerror(-r));
}

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Program *p = userdata;
        char data[4096], *end;
        ssize_t n = read(fd, data, sizeof(data));

        if (n <= 0)
                return sd_event_exit(p->event, 0);
        if (strbuf_append(&p->line, data, (size_t) n) < 0)
                return -ENOMEM;
        while ((end = strchr(p->line.text, '\n'))) {
                size_t size = (size_t) (end - p->line.text) + 1;

                *end = 0;
                run_command(p, p->line.text);
                strbuf_consume(&p->line, size);
        }
        return 0;
}

static void program_done(Program *p) {
        for (size_t i = 0; i < ELEMENTSOF(p->calls); i++)
                (void) server_call_free(p->calls[i]);
        receiver_free(p->receiver);
        cert_cache_free(p->certs);
        stream_free(p->stream);
        server_client_free(p->client);
        http_client_free(p->http);
        identity_free(p->identity);
        sd_event_source_disable_unref(p->input);
        sd_event_unref(p->event);
        strbuf_done(&p->line);
        safe_close(p->ledger_fd);
}

/* Pins are a file each, so that a later run finds them. */
static int pin_get(void *userdata, const char *slug, CertPin *ret) {
        _cleanup_free_ char *path = strjoin((const char*) userdata, "/pin-", slug), *data = NULL;
        size_t size;
        int r = file_read(path, 4096, &data, &size);

        if (r == -ENOENT)
                return 0;
        if (r < 0 || size != sizeof(CertPin))
                return r < 0 ? r : -EBADMSG;
        memcpy(ret, data, size);
        return 1;
}

static int pin_put(void *userdata, const char *slug, const CertPin *pin) {
        _cleanup_free_ char *path = strjoin((const char*) userdata, "/pin-", slug);

        return file_write_atomic(path, pin, sizeof(*pin), 0600);
}

static int make_receiver(Program *p) {
        const char *policy = getenv("VERIFY_CERTS");
        CertCacheSpec spec = {
                .event = p->event,
                .source = server_cert_source(p->client),
                .pins = { .get = pin_get, .put = pin_put, .userdata = p->directory },
                .policy = policy ? cert_policy_from_string(policy) : CERT_POLICY_WARN,
        };
        int r = cert_cache_new(&p->certs, &spec);

        return r < 0 ? r : receiver_new(&p->receiver, p->identity, p->certs, on_received, p);
}

static int start(Program *p, char *argv[]) {
        /* Shorter than for people, so that tests end. */
        StreamTimes times = {
                .ping_interval_usec = USEC_PER_SEC,
                .pong_timeout_usec = 4 * USEC_PER_SEC,
                .put_off_min_usec = USEC_PER_SEC,
                .put_off_max_usec = 2 * USEC_PER_SEC,
                .pause_max_usec = 3 * USEC_PER_SEC,
                .handshake_usec = 2 * USEC_PER_SEC,
                .fetch_usec = getenv("FETCH_SECONDS") ? (uint64_t) atoi(getenv("FETCH_SECONDS")) * USEC_PER_SEC : 0,
        };
        StreamHandlers handlers = {
                .on_envelope = on_envelope,
                .on_event = on_event,
                .on_cert_update = on_cert_update,
                .on_state = on_state,
                .on_caught_up = on_caught_up,
                .userdata = p,
        };
        ServerClientSpec spec = { .key_directory = argv[1], .server_url = argv[3], .ca_file = argv[4] };
        _cleanup_free_ char *ledger = NULL, *error = NULL;
        int r = crypto_init();

        if (r >= 0)
                r = event_new(&p->event);
        if (r >= 0)
                r = identity_load(&p->identity, argv[1], argv[2], &error);
        if (error)
                say_text("refused", error);
        if (r >= 0)
                r = http_client_new(&p->http, p->event);
        if (r < 0)
                return r;

        p->directory = argv[1];
        ledger = path_join(argv[1], "ledger");
        p->ledger_fd = open(ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (p->ledger_fd < 0)
                return -errno;
        spec.event = p->event;
        spec.http = p->http;
        spec.identity = p->identity;
        r = server_client_new(&p->client, &spec);
        if (r >= 0)
                r = make_receiver(p);
        if (r >= 0)
                r = stream_new(&p->stream, p->client, p->event, &handlers, &times);
        return r < 0 ? r : sd_event_add_io(p->event, &p->input, STDIN_FILENO, EPOLLIN, on_input, p);
}

int main(int argc, char *argv[]) {
        _cleanup_(program_done) Program p = { .ledger_fd = -EBADF };
        int r;

        log_open("wire-client");
        if (argc < 4) {
                fprintf(stderr, "usage: wire-client KEYS SLUG SERVER [CA-FILE]\n");
                return 2;
        }
        r = start(&p, argv);
        if (r >= 0)
                r = sd_event_loop(p.event);
        return r < 0 ? log_error_errno(r, "Cannot run: %m"), 1 : 0;
}
