/* SPDX-License-Identifier: MIT */

#include <fcntl.h>

#include "approvals-bus.h"
#include "backup.h"
#include "batches.h"
#include "bus-util.h"
#include "conversation.h"
#include "crash-point.h"
#include "event-util.h"
#include "log.h"
#include "session.h"
#include "session-bus.h"
#include "turn-files.h"

#define TEXT_SIZE_MAX MIB(2)
#define INSTRUCTIONS_SIZE_MAX KIB(512)
#define HISTORY_SIZE_MAX KIB(512)
#define DOCUMENT_SIZE_MAX MIB(16)
#define SOURCE_SIZE_MAX 64
#define LIST_MAX 200U
#define PATH_SIZE_MAX 4096
#define PREPARE_MIN_USEC (1 * USEC_PER_SEC)
#define PREPARE_MAX_USEC (300 * USEC_PER_SEC)
#define PREPARE_CALLS_MAX 128U

struct SessionBus {
        Session *session;               /* borrowed */
        sd_bus_slot *slot;
        Backup *backup;
        sd_bus_message *backup_call;    /* answered when the backup is done */
        sd_bus_message **prepare_calls; /* … when the agent's CLI is ready, or cannot be */
        size_t n_prepare_calls;
};

static int invalid(sd_bus_error *reterr_error, const char *text) {
        return sd_bus_error_set(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, text);
}

/* The queue, or an error for the caller while there is no database. */
static TurnQueue* queue_get(SessionBus *b, sd_bus_error *reterr_error) {
        TurnQueue *q = session_queue(b->session);

        if (!q)
                (void) bus_error_setf(reterr_error, PUFFO_ERROR_NOT_READY, "%s", session_status_text(b->session));
        return q;
}

/* What an errno of the queue means to a caller. */
static int queue_error(SessionBus *b, sd_bus_error *reterr_error, int r, const char *id) {
        switch (r) {
        case -EAGAIN:
                return bus_error_setf(reterr_error, PUFFO_ERROR_NOT_READY, "%s", session_status_text(b->session));
        case -ENOBUFS:
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_QUEUE_FULL, "The agent's queue is full.");
        case -ENOENT:
                return bus_error_setf(reterr_error, PUFFO_ERROR_NO_SUCH_TURN, "Turn '%s' is not known.", id);
        case -EINPROGRESS:
                return bus_error_setf(reterr_error, PUFFO_ERROR_TURN_RUNNING, "Turn '%s' has not ended yet.", id);
        case -ESTALE:
                return bus_error_setf(reterr_error, PUFFO_ERROR_STREAM_GONE, "The stream of turn '%s' is gone.",
                                      id);
        case -EOPNOTSUPP:
                return sd_bus_error_set(reterr_error, SD_BUS_ERROR_NOT_SUPPORTED,
                                        "This agent's CLI has one conversation only, the main one.");
        case -EFBIG:
                return invalid(reterr_error, "A file is larger than 8 MiB.");
        case -EBADF:
                return invalid(reterr_error, "A file's descriptor is none of a regular file.");
        case -EINVAL:
                return invalid(reterr_error, "The stream must be the writing end of a pipe or socket.");
        case -EBUSY:
                return bus_error_setf(reterr_error, PUFFO_ERROR_FAILED, "Turn '%s' has too many readers.", id);
        default:
                (void) log_error_errno(r, "Failed to serve a call for turn '%s': %m", id);
                if (r == -EUCLEAN)
                        session_broken(b->session, r);
                return sd_bus_error_set_errnof(reterr_error, r, "The session failed: %m");
        }
}

static int read_id(sd_bus_message *m, bool empty_allowed, const char **ret, sd_bus_error *reterr_error) {
        const char *id;
        int r;

        r = sd_bus_message_read(m, "s", &id);
        if (r < 0)
                return r;
        if (!(empty_allowed && isempty(id)) && !turn_id_is_valid(id))
                return invalid(reterr_error, "A turn id is made of 1 to 80 of the characters A-Z a-z 0-9 _ -.");
        *ret = id;
        return 0;
}

/* The descriptor belongs to the message: ours is a duplicate. */
static int read_fd(sd_bus_message *m, int *ret) {
        int fd, r;

        r = sd_bus_message_read(m, "h", &fd);
        if (r < 0)
                return r;
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        *ret = fd;
        return 0;
}

static int read_text(sd_bus_message *m, const char *name, size_t max, const char **ret, sd_bus_error *reterr_error) {
        int r;

        r = sd_bus_message_read(m, "v", "s", ret);
        if (r < 0)
                return invalid(reterr_error, "A member of the turn has the wrong type.");
        if (strlen(*ret) > max)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "%s is longer than %zu bytes.",
                                      name, max);
        return 0;
}

static int read_submission(sd_bus_message *m, TurnSubmission *t, TurnFiles *files, sd_bus_error *reterr_error) {
        const struct { const char *name; const char **value; size_t max; } texts[] = {
                { "Text", &t->text, TEXT_SIZE_MAX },
                { "Instructions", &t->instructions, INSTRUCTIONS_SIZE_MAX },
                { "Conversation", &t->conversation, 80 },
                { "Previous", &t->previous, 80 },
                { "Document", &t->document, DOCUMENT_SIZE_MAX },
                { "Source", &t->source, SOURCE_SIZE_MAX },
                { "History", &t->history, HISTORY_SIZE_MAX },
        };
        const char *name;
        int r, store;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                size_t i = 0;

                r = sd_bus_message_read(m, "s", &name);
                if (r < 0)
                        return r;
                while (i < ELEMENTSOF(texts) && !streq(texts[i].name, name))
                        i++;
                if (i < ELEMENTSOF(texts))
                        r = read_text(m, name, texts[i].max, texts[i].value, reterr_error);
                else if (streq(name, "Store")) {
                        r = sd_bus_message_read(m, "v", "b", &store);
                        if (r < 0)
                                return invalid(reterr_error, "Store is no boolean.");
                        t->store = store;
                } else if (streq(name, "Files"))
                        r = turn_files_read(m, files, reterr_error);
                else
                        return invalid(reterr_error, "The turn has a member that is not known.");
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

static int check_submission(const TurnSubmission *t, const TurnFiles *files, sd_bus_error *reterr_error) {
        if (isempty(t->text) && files->n == 0)
                return invalid(reterr_error, "Text is missing.");
        if (!isempty(t->conversation) && !turn_id_is_valid(t->conversation))
                return invalid(reterr_error, "A conversation is named with the characters A-Z a-z 0-9 _ -.");
        if (!isempty(t->previous) && !turn_id_is_valid(t->previous))
                return invalid(reterr_error, "Previous is no turn id.");
        if (!isempty(t->previous) && !isempty(t->conversation))
                return invalid(reterr_error, "Previous and Conversation exclude each other.");
        if (streq_ptr(t->source, BATCHES_SOURCE))
                return invalid(reterr_error, "Source '" BATCHES_SOURCE "' is what messages of the chat service have.");
        return 0;
}

/* Puts a turn with files into the queue. One that is known has them already. */
static int submit_files(SessionBus *b, TurnQueue *q, TurnSubmission *t, const TurnFiles *files, int fd) {
        _cleanup_free_ char *workspace = NULL, *list = NULL;
        _cleanup_close_ int stream = fd;
        _cleanup_(turn_row_freep) TurnRow *known = NULL;
        int r;

        r = turn_queue_get(q, t->id, &known);
        if (r != 0)
                return r < 0 ? r : turn_queue_submit(q, t, session_accepts(b->session), TAKE_FD(stream));
        /* Who is refused has written nothing. */
        r = turn_queue_has_room(q, t->id, session_accepts(b->session));
        if (r >= 0)
                r = session_workspace(b->session, &workspace);
        if (r >= 0)
                r = session_note_files(b->session, t->id);
        if (r >= 0) {
                r = turn_files_save(files, workspace, t->id, &list);
                crash_point("files-saved");
                if (r >= 0) {
                        t->files = list;
                        r = turn_queue_submit(q, t, session_accepts(b->session), TAKE_FD(stream));
                }
                if (r < 0)
                        session_sweep_files(b->session);
        }
        return r;
}

static int method_submit(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;
        TurnSubmission t = { .store = true, .now_usec = now_realtime_usec() };
        TurnFiles files = {};
        _cleanup_close_ int fd = -EBADF;
        TurnQueue *q;
        int r;

        r = read_id(m, false, &t.id, reterr_error);
        if (r >= 0)
                r = read_submission(m, &t, &files, reterr_error);
        if (r >= 0)
                r = read_fd(m, &fd);
        if (r >= 0)
                r = check_submission(&t, &files, reterr_error);
        if (r < 0)
                return r;
        q = queue_get(b, reterr_error);
        if (!q)
                return -EUNATCH;

        t.main_only = session_is_main_only(b->session);
        r = files.n > 0 ? submit_files(b, q, &t, &files, TAKE_FD(fd))
                        : turn_queue_submit(q, &t, session_accepts(b->session), TAKE_FD(fd));
        if (r < 0)
                return queue_error(b, reterr_error, r, r == -ENOENT || r == -EINPROGRESS ? t.previous : t.id);
        return sd_bus_reply_method_return(m, NULL);
}

static int method_open_stream(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;
        _cleanup_close_ int fd = -EBADF;
        const char *id;
        TurnQueue *q;
        int r;

        r = read_id(m, false, &id, reterr_error);
        if (r >= 0)
                r = read_fd(m, &fd);
        if (r < 0)
                return r;
        q = queue_get(b, reterr_error);
        if (!q)
                return -EUNATCH;

        r = turn_queue_open_stream(q, id, TAKE_FD(fd));
        if (r < 0)
                return queue_error(b, reterr_error, r, id);
        return sd_bus_reply_method_return(m, NULL);
}

static int method_interrupt(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;
        const char *id;
        TurnQueue *q;
        int r;

        r = read_id(m, true, &id, reterr_error);
        if (r < 0)
                return r;
        q = queue_get(b, reterr_error);
        if (!q)
                return -EUNATCH;
        return sd_bus_reply_method_return(m, "b", turn_queue_interrupt(q, id) > 0);
}

static int append_messages(sd_bus_message *m, const TurnRow *t) {
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "Messages");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(sss)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sss)");
        for (size_t i = 0; i < t->n_items && r >= 0; i++) {
                r = sd_bus_message_open_container(m, 'r', "sss");
                if (r >= 0)
                        r = bus_append_text(m, t->items[i].item);
                if (r >= 0)
                        r = bus_append_text(m, t->items[i].text);
                if (r >= 0)
                        r = sd_bus_message_append(m, "s", t->items[i].complete ? "completed" : "incomplete");
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        for (unsigned i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_turn(sd_bus_message *m, const TurnRow *t) {
        const TurnUsage *u = &t->usage;
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = bus_append_text_entry(m, "Status", turn_status_to_string(t->status));
        if (r >= 0)
                r = bus_append_text_entry(m, "Document", t->document);
        if (r >= 0)
                r = bus_append_text_entry(m, "Conversation", t->conversation);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "CreatedAt", "t", t->created_usec);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "EndedAt", "t", t->ended_usec);
        if (r >= 0)
                r = append_messages(m, t);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "Usage", "a{st}", 6,
                                          "input_tokens", u->input_tokens, "cached_tokens", u->cached_tokens,
                                          "cache_write_tokens", u->cache_write_tokens,
                                          "output_tokens", u->output_tokens, "reasoning_tokens", u->reasoning_tokens,
                                          "cost_micro", u->cost_micro);
        if (r >= 0)
                r = bus_append_text_entry(m, "ErrorCode", t->error_code);
        if (r >= 0)
                r = bus_append_text_entry(m, "ErrorKind", t->error_kind);
        if (r >= 0)
                r = bus_append_text_entry(m, "ErrorMessage", t->error_message);
        if (r >= 0)
                r = bus_append_text_entry(m, "Reason", t->reason);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r;
}

static int method_get_turn(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_(turn_row_freep) TurnRow *t = NULL;
        const char *id;
        TurnQueue *q;
        int r;

        r = read_id(m, false, &id, reterr_error);
        if (r < 0)
                return r;
        q = queue_get(b, reterr_error);
        if (!q)
                return -EUNATCH;

        r = turn_queue_get(q, id, &t);
        if (r <= 0)
                return queue_error(b, reterr_error, r < 0 ? r : -ENOENT, id);
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = append_turn(reply, t);
        if (r < 0)
                return r;
        return sd_bus_message_send(reply);
}

static int method_delete_turn(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;
        const char *id;
        TurnQueue *q;
        int r;

        r = read_id(m, false, &id, reterr_error);
        if (r < 0)
                return r;
        q = queue_get(b, reterr_error);
        if (!q)
                return -EUNATCH;

        r = turn_queue_delete(q, id);
        crash_point("files-left");
        if (r <= 0)
                return queue_error(b, reterr_error, r < 0 ? r : -ENOENT, id);
        /* Who has a turn forgotten means what he has sent with it, too. */
        session_sweep_files(b->session);
        return sd_bus_reply_method_return(m, NULL);
}

/* a{sas}: those messages that came with files. */
static int append_files(sd_bus_message *m, const ConversationMessage *list, size_t n) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sas}");
        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_free_ char *id = NULL;

                if (isempty(list[i].files))
                        continue;
                id = asprintf_new("%" PRIi64, list[i].seq);
                if (!id)
                        return -ENOMEM;
                r = sd_bus_message_open_container(m, 'e', "sas");
                if (r >= 0)
                        r = sd_bus_message_append(m, "s", id);
                if (r >= 0)
                        r = turn_files_append_names(m, list[i].files);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_list(sd_bus_message *m, const ConversationMessage *list, size_t n, bool more) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "(sssts)");
        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_free_ char *id = asprintf_new("%" PRIi64, list[i].seq);

                if (!id)
                        return -ENOMEM;
                r = sd_bus_message_open_container(m, 'r', "sssts");
                if (r >= 0)
                        r = sd_bus_message_append(m, "ss", id, list[i].assistant ? "assistant" : "user");
                if (r >= 0)
                        r = bus_append_text(m, list[i].text);
                if (r >= 0)
                        r = sd_bus_message_append(m, "t", list[i].created_usec);
                if (r >= 0)
                        r = bus_append_text(m, list[i].turn);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", more);
        return r < 0 ? r : append_files(m, list, n);
}

static int method_list_messages(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        const char *conversation, *before;
        ConversationMessage *list;
        uint64_t seq = 0;
        uint32_t limit;
        bool more;
        size_t n;
        int r;

        r = sd_bus_message_read(m, "ssu", &conversation, &before, &limit);
        if (r < 0)
                return r;
        if (limit < 1 || limit > LIST_MAX)
                return invalid(reterr_error, "The limit is 1 to 200.");
        if (!isempty(before) && (parse_u64(before, &seq) < 0 || seq == 0 || seq > INT64_MAX))
                return invalid(reterr_error, "'before' is no message id.");
        if (!queue_get(b, reterr_error))
                return -EUNATCH;

        r = conversation_list(session_database(b->session), conversation, (int64_t) seq, limit, MIB(32), &list, &n,
                              &more);
        if (r < 0)
                return queue_error(b, reterr_error, r, "-");
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = append_list(reply, list, n, more);
        conversation_messages_free(list, n);
        if (r < 0)
                return r;
        return sd_bus_message_send(reply);
}

static int method_set_working_directory(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;
        const char *path;
        int r;

        r = sd_bus_message_read(m, "s", &path);
        if (r < 0)
                return r;
        if (!isempty(path) && (path[0] != '/' || strlen(path) >= PATH_SIZE_MAX))
                return invalid(reterr_error, "The working directory must be an absolute path.");
        for (const char *c = path; *c; c++)
                if ((unsigned char) *c < 0x20 || *c == 0x7f)
                        return invalid(reterr_error, "The working directory has control characters in it.");
        if (!queue_get(b, reterr_error))
                return -EUNATCH;

        r = session_set_working_directory(b->session, path);
        if (r < 0)
                return queue_error(b, reterr_error, r, "-");
        return sd_bus_reply_method_return(m, NULL);
}

static int method_reload(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;

        session_reload(b->session);
        return sd_bus_reply_method_return(m, NULL);
}

static int method_new_day(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;

        session_new_day(b->session);
        return sd_bus_reply_method_return(m, NULL);
}

static int reply_prepared(sd_bus_message *call, const char *fault) {
        return fault ? bus_reply_errorf(call, PUFFO_ERROR_NOT_READY, "%s", fault)
                     : sd_bus_reply_method_return(call, NULL);
}

static void on_prepared(const char *fault, void *userdata) {
        SessionBus *b = userdata;

        for (size_t i = 0; i < b->n_prepare_calls; i++) {
                int r = reply_prepared(b->prepare_calls[i], fault);

                if (r < 0)
                        (void) log_warning_errno(r, "Failed to answer a call, ignoring: %m");
                sd_bus_message_unref(b->prepare_calls[i]);
        }
        b->n_prepare_calls = 0;
}

static int method_prepare(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *fault = NULL;
        SessionBus *b = userdata;
        sd_bus_message **grown;
        uint64_t timeout;
        int r;

        r = sd_bus_message_read(m, "t", &timeout);
        if (r < 0)
                return r;
        if (b->n_prepare_calls >= PREPARE_CALLS_MAX)
                return sd_bus_error_set(reterr_error, SD_BUS_ERROR_LIMITS_EXCEEDED, "Too many wait already.");
        grown = reallocarray(b->prepare_calls, b->n_prepare_calls + 1, sizeof(sd_bus_message*));
        if (!grown)
                return -ENOMEM;
        b->prepare_calls = grown;
        r = session_prepare(b->session, CLAMP(timeout, PREPARE_MIN_USEC, PREPARE_MAX_USEC), &fault);
        if (r < 0)
                return sd_bus_error_set_errnof(reterr_error, r, "The CLI could not be made ready: %m");
        if (r == 0)
                return MIN(reply_prepared(m, fault), 0) ?: 1;
        grown[b->n_prepare_calls++] = sd_bus_message_ref(m);
        return 1;
}

static void backup_done(Backup *backup, int error, void *userdata) {
        SessionBus *b = userdata;
        _cleanup_bus_message_ sd_bus_message *call = TAKE_PTR(b->backup_call);
        int r;

        b->backup = backup_free(backup);
        if (error < 0)
                r = sd_bus_reply_method_errnof(call, error, "The copy could not be made: %m");
        else
                r = sd_bus_reply_method_return(call, NULL);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to answer a backup call, ignoring: %m");
}

static int method_backup(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = read_fd(m, &fd);
        if (r < 0)
                return r;
        if (b->backup)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_FAILED, "Another backup is under way.");
        if (!queue_get(b, reterr_error))
                return -EUNATCH;

        r = backup_new(&b->backup, session_event(b->session), session_database(b->session), TAKE_FD(fd), backup_done,
                       b);
        if (r == -EINVAL)
                return invalid(reterr_error, "The destination must be a file, pipe or socket.");
        if (r < 0)
                return sd_bus_error_set_errnof(reterr_error, r, "The copy could not be made: %m");
        b->backup_call = sd_bus_message_ref(m);
        return 1;
}

static int method_list_approvals(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;

        if (!queue_get(b, reterr_error))
                return -EUNATCH;
        return approvals_bus_list(session_approvals(b->session), session_id(b->session), m);
}

static int method_answer_approval(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionBus *b = userdata;

        if (!queue_get(b, reterr_error))
                return -EUNATCH;
        return approvals_bus_answer(session_approvals(b->session), m, reterr_error);
}

/* UNPRIVILEGED: in system mode puffod is of another uid; who it is was settled by where its socket lies. */
static const sd_bus_vtable session_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Submit", SD_BUS_ARGS("s", id, "a{sv}", turn, "h", stream), SD_BUS_NO_RESULT,
                                method_submit, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenStream", SD_BUS_ARGS("s", id, "h", stream), SD_BUS_NO_RESULT, method_open_stream,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Interrupt", SD_BUS_ARGS("s", id), SD_BUS_RESULT("b", ended), method_interrupt,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetTurn", SD_BUS_ARGS("s", id), SD_BUS_RESULT("a{sv}", turn), method_get_turn,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("DeleteTurn", SD_BUS_ARGS("s", id), SD_BUS_NO_RESULT, method_delete_turn,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListMessages", SD_BUS_ARGS("s", conversation, "s", before, "u", limit),
                                SD_BUS_RESULT("a(sssts)", messages, "b", more, "a{sas}", files), method_list_messages,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetWorkingDirectory", SD_BUS_ARGS("s", working_directory), SD_BUS_NO_RESULT,
                                method_set_working_directory, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListApprovals", SD_BUS_ARGS("b", all, "b", inputs),
                                SD_BUS_RESULT("aa{sv}", approvals), method_list_approvals, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("AnswerApproval",
                                SD_BUS_ARGS("s", id, "b", allow, "s", reason, "s", by, "s", token), SD_BUS_NO_RESULT,
                                method_answer_approval, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_reload, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Prepare", SD_BUS_ARGS("t", timeout_usec), SD_BUS_NO_RESULT, method_prepare,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("NewDay", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_new_day,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("BackupMessages", SD_BUS_ARGS("h", destination), SD_BUS_NO_RESULT, method_backup,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END
};

int session_bus_new(SessionBus **ret, sd_bus *bus, Session *session) {
        _cleanup_(session_bus_freep) SessionBus *b = new0(SessionBus, 1);
        int r;

        if (!b)
                return -ENOMEM;
        b->session = session;
        r = sd_bus_add_object_vtable(bus, &b->slot, PUFFO_PRIVATE_SESSION_PATH, PUFFO_PRIVATE_SESSION_INTERFACE,
                                     session_vtable, b);
        if (r < 0)
                return r;

        session_on_prepared(session, on_prepared, b);
        *ret = TAKE_PTR(b);
        return 0;
}

SessionBus* session_bus_free(SessionBus *b) {
        if (!b)
                return NULL;

        session_on_prepared(b->session, NULL, NULL);
        for (size_t i = 0; i < b->n_prepare_calls; i++)
                sd_bus_message_unref(b->prepare_calls[i]);
        free(b->prepare_calls);
        (void) backup_free(b->backup);
        (void) sd_bus_message_unref(b->backup_call);
        (void) sd_bus_slot_unref(b->slot);
        return mfree(b);
}
