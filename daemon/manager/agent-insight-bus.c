/* SPDX-License-Identifier: MIT */

/* Looking into an agent: its journal, its processes, a copy of it to take away. */

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent-file.h"
#include "agent-turn-bus.h"
#include "bus-util.h"
#include "file-util.h"
#include "harness-unit.h"
#include "helpers.h"
#include "option.h"
#include "private-server.h"
#include "string-util.h"
#include "unit.h"

#define JOURNAL_LINES_DEFAULT 100U
#define COMMAND_LINE_MAX 4096U

/* --- journal --- */

/* Ids of messages and turns are a good deal shorter. */
#define NAME_MAX_SIZE 256U

static const RuntimeOption journal_options[] = {
        { "Follow", 'b' }, { "Lines", 'u' }, { "Since", 't' }, { "Envelope", 's' }, { "Turn", 's' }, {},
};

/* Each is a unit, for as long as its caller likes. They have numbers, so that the service manager knows how many of a
 * user's there are, whatever becomes of us. */
#define READERS_MAX 64U
#define READERS_OF_USER_MAX 16U         /* in system mode */

typedef struct JournalCall {
        Manager *manager;
        sd_bus_message *call;
        int stream, writer;
        char **argv;
        bool follow;
        uid_t uid;
        unsigned n_readers, first, n_tried;
} JournalCall;

static JournalCall* journal_call_free(JournalCall *j) {
        if (!j)
                return NULL;
        sd_bus_message_unref(j->call);
        safe_close(j->stream);
        safe_close(j->writer);
        strv_free(j->argv);
        return mfree(j);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(JournalCall*, journal_call_free);

static int on_journal_started(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error);

static int journal_start(JournalCall *j) {
        _cleanup_free_ char *name = asprintf_new("puffo-journal-%u-%u.service", (unsigned) j->uid,
                                                 (j->first + j->n_tried++) % j->n_readers);

        return name ? unit_start_reader(j->manager, name, (const char *const *) j->argv, j->writer, j->follow,
                                        on_journal_started, j)
                    : -ENOMEM;
}

static int on_journal_started(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(journal_call_freep) JournalCall *j = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        bool taken = sd_bus_error_has_name(e, "org.freedesktop.systemd1.UnitExists");
        int r;

        if (taken && j->n_tried < j->n_readers) {
                r = journal_start(j);
                if (r >= 0)
                        TAKE_PTR(j);
                else
                        (void) sd_bus_reply_method_errno(j->call, r, NULL);
        } else if (taken)
                (void) bus_reply_errorf(j->call, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                        "You have %u readers of journals open already; close some.", j->n_readers);
        else if (e)
                (void) sd_bus_reply_method_error(j->call, e);
        else
                (void) sd_bus_reply_method_return(j->call, "h", j->stream);
        return 0;
}

static int add_match(char ***argv, const char *field, const char *value) {
        _cleanup_free_ char *match = strjoin(field, value);

        return match ? strv_extend(argv, match) : -ENOMEM;
}

/* journalctl does it: what may be read of which journal, rotation and following are its trade. Anybody can log any
 * field, but those that begin with '_', which journald writes itself: one of them says in each case who has logged it.
 * In user mode the user may be allowed to read others' journals, whose units have the same names. */
static int journal_build(JournalCall *j, const Agent *a, const RuntimeOptions *o) {
        bool user = j->manager->scope == SCOPE_USER;
        const char *unit = user ? "_SYSTEMD_USER_UNIT=" : "_SYSTEMD_UNIT=";
        const char *envelope = runtime_options_string(o, "Envelope"), *turn = runtime_options_string(o, "Turn"),
                   *by_envelope = envelope ? "PUFFO_ENVELOPE=" : NULL, *by_turn = turn ? "PUFFO_TURN=" : NULL;
        uint64_t usec = runtime_options_number(o, "Since", 0);
        _cleanup_free_ char *uid = asprintf_new("%u", (unsigned) geteuid()),
                            *lines = asprintf_new("%" PRIu64,
                                                  runtime_options_number(o, "Lines", JOURNAL_LINES_DEFAULT)),
                            *since = asprintf_new("@%" PRIu64 ".%06" PRIu64, usec / USEC_PER_SEC, usec % USEC_PER_SEC);
        const struct {
                const char *field, *value;
        } words[] = {
                { "/usr/bin/journalctl", "" }, { "--output=json", "" }, { "--no-pager", "" }, { "--all", "" },
                { "--lines=", lines }, { usec > 0 ? "--since=" : NULL, since }, { j->follow ? "--follow" : NULL, "" },
                /* what it has said itself */
                { unit, a->unit }, { user ? "_UID=" : NULL, uid }, { by_envelope, envelope }, { by_turn, turn },
                { "+", "" },
                /* what the service manager has said of it */
                { user ? "USER_UNIT=" : "UNIT=", a->unit }, { user ? "_UID=" : "_PID=", user ? uid : "1" },
                { by_envelope, envelope }, { by_turn, turn }, { "+", "" },
                /* … and of what its tools run in, which has its output read by the session */
                { user ? "USER_UNIT=" : "UNIT=", a->harness->name }, { user ? "_UID=" : "_PID=", user ? uid : "1" },
                { by_envelope, envelope }, { by_turn, turn }, { "+", "" },
                /* what we have */
                { "PUFFO_AGENT=", a->home->id }, { unit, "puffod.service" }, { user ? "_UID=" : NULL, uid },
                { by_envelope, envelope }, { by_turn, turn },
        };
        int r = uid && lines && since ? 0 : -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(words) && r >= 0; i++)
                if (words[i].field)
                        r = add_match(&j->argv, words[i].field, words[i].value);
        return r;
}

static int check_name(const RuntimeOptions *o, const char *option, sd_bus_error *reterr_error) {
        const char *value = runtime_options_string(o, option);

        if (!value || (*value && strlen(value) <= NAME_MAX_SIZE))
                return 0;
        return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "Option '%s' takes 1 to %u bytes.", option,
                              NAME_MAX_SIZE);
}

int agent_method_open_journal(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(runtime_options_done) RuntimeOptions options = {};
        _cleanup_(journal_call_freep) JournalCall *j = NULL;
        Agent *a = userdata;
        int fds[2], r;

        r = options_read(message, journal_options, NULL, &options, reterr_error);
        if (r >= 0)
                r = check_name(&options, "Envelope", reterr_error);
        if (r >= 0)
                r = check_name(&options, "Turn", reterr_error);
        if (r < 0)
                return r;
        r = agent_verify(a, message, "ai.puffo.agents.chat", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;

        j = new0(JournalCall, 1);
        if (!j)
                return -ENOMEM;
        *j = (JournalCall) {
                .manager = a->manager,
                .call = sd_bus_message_ref(message),
                .stream = -EBADF,
                .writer = -EBADF,
                .follow = runtime_options_bool(&options, "Follow", false),
        };
        r = manager_sender_uid(message, &j->uid);
        if (r < 0)
                return r;
        j->n_readers = a->manager->scope == SCOPE_SYSTEM && j->uid != 0 ? READERS_OF_USER_MAX : READERS_MAX;
        j->first = randombytes_uniform(j->n_readers);
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        j->stream = fds[0];
        j->writer = fds[1];

        r = journal_build(j, a, &options);
        if (r >= 0)
                r = journal_start(j);
        if (r < 0)
                return r;
        TAKE_PTR(j);
        return 1;
}

/* --- processes --- */

static uint32_t parent_of(uint32_t pid) {
        _cleanup_free_ char *path = asprintf_new("/proc/%u/stat", pid), *stat = NULL;
        unsigned parent = 0;
        char *end;

        /* "pid (name, which may contain anything) state ppid …" */
        if (!path || file_read(path, KIB(4), &stat, NULL) < 0 || !(end = strrchr(stat, ')')) ||
            sscanf(end + 1, " %*c %u", &parent) != 1)
                return 0;
        return parent;
}

/* What looks like a key is nobody's business: the value behind "key", "token" or "secret", and "sk-…". */
static void mask_secrets(char *s) {
        static const char *const markers[] = {
                        "sk-", "api-key=", "api_key=", "apikey=", "token=", "secret=", "password="};

        for (size_t i = 0; i < ELEMENTSOF(markers); i++)
                for (char *p = strcasestr(s, markers[i]); p; p = strcasestr(p, markers[i])) {
                        p += strlen(markers[i]);
                        for (; *p && *p != ' '; p++)
                                *p = '*';
                }
}

static int append_processes(sd_bus_message *reply, sd_bus_message *m, const char *unit) {
        const char *command;
        uint32_t pid;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(sus)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(sus)", NULL, &pid, &command)) > 0) {
                _cleanup_free_ char *text = str_printable(command, COMMAND_LINE_MAX);

                if (!text)
                        return -ENOMEM;
                mask_secrets(text);
                r = sd_bus_message_append(reply, "(suus)", unit, pid, parent_of(pid), text);
                if (r < 0)
                        return r;
        }
        return r;
}

typedef struct ProcessCall {
        sd_bus_message *call, *reply;
        Manager *manager;
        char *harness_unit;
} ProcessCall;

static void process_call_free(ProcessCall *p) {
        sd_bus_message_unref(p->call);
        sd_bus_message_unref(p->reply);
        free(p->harness_unit);
        free(p);
}

/* A unit that is not there has no processes. */
static int on_harness_processes(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        ProcessCall *p = userdata;
        int r = 0;

        if (!sd_bus_message_is_method_error(m, NULL))
                r = append_processes(p->reply, m, p->harness_unit);
        if (r >= 0)
                r = sd_bus_message_close_container(p->reply);
        (void) (r < 0 ? sd_bus_reply_method_errno(p->call, r, NULL) : sd_bus_send(NULL, p->reply, NULL));
        process_call_free(p);
        return 0;
}

static int ask_processes(Manager *m, const char *unit, sd_bus_message_handler_t callback, void *userdata) {
        return sd_bus_call_method_async(m->bus, NULL, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                        "org.freedesktop.systemd1.Manager", "GetUnitProcesses", callback, userdata,
                                        "s", unit);
}

static int on_session_processes(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *unit = NULL;
        ProcessCall *p = userdata;
        int r = 0;

        unit = strjoin("puffo-session@", p->harness_unit + strlen("puffo-harness@"));
        if (!unit)
                r = -ENOMEM;
        else if (!sd_bus_message_is_method_error(m, NULL))
                r = append_processes(p->reply, m, unit);
        if (r >= 0)
                r = ask_processes(p->manager, p->harness_unit, on_harness_processes, p);
        if (r < 0) {
                (void) sd_bus_reply_method_errno(p->call, r, NULL);
                process_call_free(p);
        }
        return 0;
}

int agent_method_get_processes(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        ProcessCall *p;
        int r;

        r = agent_verify(a, message, "ai.puffo.agents.chat", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        p = new0(ProcessCall, 1);
        if (!p)
                return -ENOMEM;
        *p = (ProcessCall) {
                .call = sd_bus_message_ref(message),
                .manager = a->manager,
                .harness_unit = strjoin("puffo-harness@", a->unit + strlen("puffo-session@")),
        };
        r = p->harness_unit ? sd_bus_message_new_method_return(message, &p->reply) : -ENOMEM;
        if (r >= 0)
                r = sd_bus_message_open_container(p->reply, 'a', "(suus)");
        if (r >= 0)
                r = ask_processes(a->manager, a->unit, on_session_processes, p);
        if (r < 0) {
                process_call_free(p);
                return r;
        }
        return 1;
}

/* --- export --- */

static const RuntimeOption export_options[] = {
        { "Secrets", 'b' }, { "Workspace", 'b' }, { "Messages", 'b' }, {},
};

typedef struct ExportCall {
        Manager *manager;
        sd_bus_message *call;
        uid_t uid;
        char *agent_id;
        ExportFlags flags;
        bool messages;
        int destination, backup;
} ExportCall;

static void export_call_free(ExportCall *e) {
        transfer_end(e->manager, e->uid);
        sd_bus_message_unref(e->call);
        safe_close(e->destination);
        safe_close(e->backup);
        free(e->agent_id);
        free(e);
}

typedef struct ExportArgs {
        const Agent *agent;
        const ExportCall *call;
} ExportArgs;

static int export_run(void *userdata, char **ret_text) {
        const ExportArgs *args = userdata;
        _cleanup_close_ int stopped = -EBADF, wal = -EBADF;
        const Agent *a = args->agent;
        int messages = args->call->backup;

        if (args->call->messages && messages < 0) {
                /* An agent that has never run has none. */
                messages = stopped = agent_file_open(a->home->directory, "messages.db", O_RDONLY | O_NONBLOCK);
                if (stopped < 0 && stopped != -ENOENT)
                        return stopped;
                if (stopped >= 0)
                        wal = agent_file_open(a->home->directory, "messages.db-wal", O_RDONLY | O_NONBLOCK);
                if (wal < 0 && wal != -ENOENT && wal != -EBADF)
                        return wal;
        }
        return agent_home_export(a->home, a->config, args->call->flags, messages, wal, args->call->destination);
}

static void export_done(int r, const char *text, void *userdata) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        ExportCall *e = userdata;

        if (r < 0) {
                (void) manager_error(&error, r, "export agent", e->agent_id);
                (void) sd_bus_reply_method_error(e->call, &error);
        } else
                (void) sd_bus_reply_method_return(e->call, NULL);
        export_call_free(e);
}

static int export_start(ExportCall *e) {
        const Agent *a = manager_find_agent(e->manager, e->agent_id);
        ExportArgs args = { a, e };

        return a && a->config ? worker_run(e->manager->event, export_run, &args, TRANSFER_TIME_USEC, export_done, e)
                              : -ENOENT;
}

static int on_backup(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *error = sd_bus_message_get_error(m);
        ExportCall *e = userdata;
        int r;

        if (error) {
                (void) sd_bus_reply_method_error(e->call, error);
                export_call_free(e);
                return 0;
        }
        r = export_start(e);
        if (r < 0) {
                (void) sd_bus_reply_method_errno(e->call, r, NULL);
                export_call_free(e);
        }
        return 0;
}

/* The database belongs to the session; while there is one, it makes the copy. */
static int ask_for_backup(Agent *a, ExportCall *e) {
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        int r;

        e->backup = open(a->home->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (e->backup < 0)
                return -errno;
        r = session_link_new_call(a->link, "BackupMessages", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "h", e->backup);
        return r < 0 ? r : session_link_call(a->link, call, on_backup, e, 10 * 60 * USEC_PER_SEC);
}

int agent_method_export(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(runtime_options_done) RuntimeOptions options = {};
        Agent *a = userdata;
        uid_t uid = 0;
        ExportCall *e;
        int fd, r;

        r = sd_bus_message_read(message, "h", &fd);
        if (r >= 0)
                r = options_read(message, export_options, NULL, &options, reterr_error);
        if (r < 0)
                return r;
        r = agent_verify(a, message, "ai.puffo.agents.manage", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = agent_check_stays(a, reterr_error);
        if (r >= 0)
                r = manager_sender_uid(message, &uid);
        if (r >= 0)
                r = transfer_begin(a->manager, uid, reterr_error);
        if (r < 0)
                return r;

        e = new0(ExportCall, 1);
        if (!e) {
                transfer_end(a->manager, uid);
                return -ENOMEM;
        }
        *e = (ExportCall) {
                .manager = a->manager,
                .call = sd_bus_message_ref(message),
                .uid = uid,
                .agent_id = strdup(a->home->id),
                .flags = (runtime_options_bool(&options, "Secrets", false) ? EXPORT_SECRETS : 0) |
                         (runtime_options_bool(&options, "Workspace", false) ? EXPORT_WORKSPACE : 0),
                .messages = runtime_options_bool(&options, "Messages", false),
                .destination = fcntl(fd, F_DUPFD_CLOEXEC, 3),
                .backup = -EBADF,
        };
        r = e->agent_id && e->destination >= 0 ? 0 : -ENOMEM;
        if (r >= 0)
                r = e->messages && a->link ? ask_for_backup(a, e) : export_start(e);
        if (r < 0) {
                export_call_free(e);
                return manager_error(reterr_error, r, "export agent", a->home->id);
        }
        return 1;
}
