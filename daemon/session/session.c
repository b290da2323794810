/* SPDX-License-Identifier: MIT */

#include <sys/inotify.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "conversation.h"
#include "event-util.h"
#include "file-util.h"
#include "hands-launch.h"
#include "log.h"
#include "manager-link.h"
#include "prompt-files.h"
#include "role.h"
#include "run-socket.h"
#include "session-internal.h"
#include "turn-files.h"
#include "turn-flags.h"

#define OPEN_RETRY_MIN_USEC (10 * USEC_PER_SEC)
#define OPEN_RETRY_MAX_USEC (600 * USEC_PER_SEC)
#define WORKING_DIRECTORY "working_dir"

/* ---- configuration ---- */

/* Of a role agent that says nothing of it, the kind is not decided yet. */
static bool has_cli(const SessionConfig *c) {
        return c->agent && (c->agent->kind_given || !c->home->role) && hands_kind(c->agent) >= 0;
}

/* Told to whoever looks: of a role it is decided here. */
static int note_runtime(Session *s, const SessionConfig *c) {
        const AgentConfig *a = c->agent;
        int r;

        if (!a)
                return 0;
        r = free_and_strdup(&s->kind, runtime_kind_to_string(a->kind));
        if (r >= 0)
                r = free_and_strdup(&s->harness, a->kind == RUNTIME_CHAT_LOCAL ? "" : agent_config_harness(a));
        if (r >= 0)
                r = free_and_strdup(&s->provider, strempty(c->provider));
        return r < 0 ? r : MIN(free_and_strdup(&s->configured_model, strempty(c->model)), 0);
}

static int session_configure(Session *s, SessionConfig **ret) {
        _cleanup_(session_config_freep) SessionConfig *c = NULL;
        int r;

        r = session_config_load(&c, s->id, s->directory, s->agent);
        if (r < 0)
                return r;
        if (c->ignored)
                log_debug("%s; what was valid before stays in force.", c->ignored);
        else if (c->agent) {
                s->agent = agent_config_free(s->agent);
                (void) agent_config_copy(&s->agent, c->agent);
        }
        for (char **w = c->agent ? c->agent->warnings : NULL; w && *w && !ret; w++)
                log_warning("%s", *w);
        r = note_runtime(s, c);
        if (r < 0)
                return r;
        s->main_only = has_cli(c) && !hands_has_conversations(hands_kind(c->agent));
        s->turn_grace_usec = c->turn_grace_usec;
        s->retention_usec = c->retention_usec;
        s->queue_limit = c->queue_limit;
        if (s->queue)
                turn_queue_set_limit(s->queue, s->queue_limit);
        if (s->db) {
                r = free_and_strdup(&s->fault, c->fault);
                if (r >= 0)
                        r = free_and_strdup(&s->lacking, c->lacking);
                if (r < 0)
                        return r;
                r = budget_configure(s->budget, c);
                if (r < 0)
                        return r;
                if (r > 0)
                        chat_service_resume(s->service);
                if (c->agent)
                        approvals_set_timeout(s->approvals, c->agent->permission_timeout_usec);
                if (s->service && !s->stopping) {
                        r = chat_service_configure(s->service, c);
                        if (r < 0)
                                return r;
                }
                turn_queue_set_enabled(s->queue, !s->fault && !s->stopping);
                if (s->hands && s->service)
                        hands_set_tools(s->hands, chat_service_tools(s->service));
                if (s->hands && c->agent && !has_cli(c))
                        hands_drop(s->hands);
        }
        session_update(s);

        if (ret)
                *ret = TAKE_PTR(c);
        return 0;
}

/* An agent that was put into the home by hand, or by the original, comes without one. */
static void make_workspace(const SessionConfig *c) {
        int r = c->home->role ? 0 : directory_make(c->home->workspace, 0700);

        if (r < 0)
                (void) log_warning_errno(r, "Failed to make the workspace '%s', ignoring: %m", c->home->workspace);
}

/* A role agent finds a note for each day in its workspace. */
static void daily_note(Session *s, const SessionConfig *c) {
        time_t now = time(NULL);
        struct tm tm;
        int r;

        tzset();
        if (!c->home->role || !localtime_r(&now, &tm) || s->note_day == tm.tm_yday)
                return;
        r = role_daily_note_ensure(c->home->workspace);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to make today's note in '%s', ignoring: %m", c->home->workspace);
        else
                s->note_day = tm.tm_yday;
}

void session_new_day(Session *s) {
        _cleanup_(session_config_freep) SessionConfig *c = NULL;
        int r = session_configure(s, &c);

        if (r < 0)
                (void) log_error_errno(r, "Failed to read the configuration again: %m");
        else
                daily_note(s, c);
}

static void write_prompt(Session *s, const SessionConfig *c) {
        size_t n, n_names = 0;
        ToolBox *box = chat_service_tools(s->service);
        const Tool *tools = has_cli(c) ? tools_all(&n) : chat_tools.list(box, &n);
        _cleanup_free_ const char **names = new0(const char*, n + 1);
        int r;

        if (!names) {
                (void) log_oom();
                return;
        }
        for (size_t i = 0; i < n && box; i++)
                if (tool_is_offered(box, tools[i].name))
                        names[n_names++] = tools[i].name;
        r = prompt_files_write(c->home, c->agent, names);
        if (r < 0)
                (void) log_warning_errno(r, "Not all files of the agent's prompt could be written: %m");
}

bool session_is_main_only(Session *s) {
        return s->main_only;
}

int session_workspace(Session *s, char **ret) {
        _cleanup_(session_config_freep) SessionConfig *c = NULL;
        int r;

        r = session_config_load(&c, s->id, s->directory, s->agent);
        if (r < 0)
                return r;
        make_workspace(c);
        *ret = strdup(c->home->workspace);
        return *ret ? 0 : -ENOMEM;
}

/* For a turn. */
static int complete_config(Session *s, SessionConfig *c) {
        make_workspace(c);
        daily_note(s, c);
        return isempty(s->model) ? 0 : MIN(free_and_strdup(&c->model, s->model), 0);
}

static int chat_get_config(SessionConfig **ret, void *userdata) {
        Session *s = userdata;
        int r;

        r = session_configure(s, ret);
        return r < 0 ? r : complete_config(s, *ret);
}

static int session_open(Session *s);

/* Not before the chat service is there: a turn that is given up may be its. */
static void load_queue(Session *s) {
        int r;

        if (s->loaded)
                return;
        r = turn_queue_load(s->queue);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to take up the turns of an earlier process: %m");
                (void) sd_event_exit(s->event, EXIT_FAILURE);
                return;
        }
        s->loaded = true;
}

/* Another key, address or list of hosts counts from now on: a CLI that runs for long is not started anew for these. */
static void reload_outlet(Session *s) {
        int r = outlet_reload(s->outlet);

        if (r < 0)
                (void) log_warning_errno(r, "The CLI's way to its model could not be told of a change, it goes on as "
                                         "before: %m");
}

void session_reload(Session *s) {
        _cleanup_(session_config_freep) SessionConfig *c = NULL;
        int r;

        if (!s->db && session_open(s) < 0)
                return;
        r = session_configure(s, &c);
        if (r < 0)
                (void) log_error_errno(r, "Failed to read the configuration again: %m");
        else {
                make_workspace(c);
                daily_note(s, c);
                if (s->hands)
                        hands_reload(s->hands, c);
                if (s->outlet)
                        reload_outlet(s);
                if (s->hands)
                        session_prepare_configured(s, c);
                if (c->agent && (chat_service_tools(s->service) || has_cli(c)))
                        write_prompt(s, c);
        }
        load_queue(s);
        if (!s->ask_hook && ask_hook_new(&s->ask_hook, s->approvals, s->directory) < 0)
                (void) log_oom();
        session_sweep(s);
}

static int on_watch(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        Session *s = userdata;

        if (event->len > 0 && streq(event->name, "agent.yml"))
                session_reload(s);
        else if (event->len > 0)
                ask_hook_look(s->ask_hook, event->name);
        return 0;
}

/* ---- turns ---- */

void session_broken(Session *s, int error) {
        (void) log_error_errno(error, "'%s' is damaged, restarting: %m", s->database_path);
        (void) sd_event_exit(s->event, EXIT_FAILURE);
}

/* Files with which the agent asks for something before the next batch (message-pipeline §10.1). */
static void take_flags(Session *s, const SessionConfig *c) {
        _cleanup_(turn_flags_done) TurnFlags flags = {};
        int r;

        if (!c->agent)
                return;
        r = turn_flags_take(c->home->workspace, &flags);
        if (r < 0)
                (void) log_warning_errno(r, "A request in '%s/.puffo-agent' could not be taken: %m",
                                         c->home->workspace);
        if (flags.model) {
                log_info("The agent asks for the model '%s'.", isempty(flags.model) ? "that is configured" :
                                                                                      flags.model);
                free(s->model);
                s->model = TAKE_PTR(flags.model);
        }
        if (flags.reload)
                write_prompt(s, c);
        if (r > 0)
                hands_drop(s->hands);
}

/* Read once: whoever answers the turn gets it as it is now. */
static int driver_start(Turn *t, TurnRow *row_taken, void *userdata) {
        _cleanup_(session_config_freep) SessionConfig *c = NULL;
        _cleanup_(turn_row_freep) TurnRow *row = row_taken;
        Session *s = userdata;
        int r;

        r = session_configure(s, &c);
        if (r < 0)
                return r;
        if (streq(t->source, BATCHES_SOURCE))
                take_flags(s, c);
        r = complete_config(s, c);
        if (r < 0)
                return r;
        chat_service_begun(s->service, t);
        s->by_hands = has_cli(c);
        return s->by_hands ? hands_start(s->hands, t, TAKE_PTR(row), TAKE_PTR(c)) :
                             chat_start(s->chat, t, TAKE_PTR(row));
}

static bool driver_offer(uint64_t waiting_since_usec, void *userdata) {
        Session *s = userdata;

        return s->service && chat_service_offer(s->service, waiting_since_usec);
}

static void driver_ending(Turn *t, TurnResult *result, void *userdata) {
        Session *s = userdata;

        chat_service_ending(s->service, t, result);
}

static int driver_also(Database *db, const char *id, const TurnResult *result, void *userdata) {
        Session *s = userdata;

        return s->service ? chat_service_also(s->service, db, id, result) : 0;
}

static void driver_ended(Turn *t, const TurnResult *result, void *userdata) {
        Session *s = userdata;

        chat_service_ended(s->service, t, result);
}

static void driver_cancel(Turn *t, void *userdata) {
        Session *s = userdata;

        if (!s->by_hands)
                chat_cancel(s->chat);
        else if (s->hands)
                hands_cancel(s->hands);
}

static void driver_changed(void *userdata) {
        session_update(userdata);
}

static void driver_broken(int error, void *userdata) {
        session_broken(userdata, error);
}

static void approval_answered(const ApprovalRow *row, void *userdata) {
        Session *s = userdata;

        if (s->link)
                manager_link_approval_answered(s->link, row);
}

static void chat_on_end(Turn *t, TurnResult *result, void *userdata) {
        Session *s = userdata;

        turn_queue_end(s->queue, t, result);
        session_sweep(s);
}

static ToolBox* chat_get_box(void *userdata) {
        Session *s = userdata;

        return s->service ? chat_service_tools(s->service) : NULL;
}

static void chat_on_left(void *userdata) {
        Session *s = userdata;

        s->left = true;
        session_update(s);
}

static ManagerLink* get_link(void *userdata) {
        return ((Session*) userdata)->link;
}

static void chat_on_tools_going(void *userdata) {
        Session *s = userdata;

        if (s->chat)
                chat_drop_tools(s->chat);
        if (s->hands)
                hands_set_tools(s->hands, NULL);
}

static void on_tool_ended(const char *key, const char *name, json_object *arguments, const ToolResult *result,
                          void *userdata) {
        Session *s = userdata;

        if (s->hands)
                hands_tool_called(s->hands, key, name, json_object_to_json_string(arguments), result);
}

static int outlet_get_config(SessionConfig **ret, void *userdata) {
        return session_configure(userdata, ret);
}

static int run_socket(Session *s, const char *below, const char *name) {
        _cleanup_free_ char *path = path_join(s->directory, below);

        return path ? run_socket_open(path, name) : -ENOMEM;
}

static Outlet* get_outlet(void *userdata) {
        Session *s = userdata;
        int model, proxy, r;

        if (s->outlet)
                return s->outlet;
        /* The first to ask may be the hands that take a CLI over, before s->budget is set. */
        model = run_socket(s, HANDS_MODEL_SOCKET, "model");
        proxy = model < 0 ? -EBADF : run_socket(s, HANDS_PROXY_SOCKET, "proxy");
        r = model < 0 ? model : outlet_new(&s->outlet, &(OutletSpec) {
                .event = s->event, .agent = s->id, .model_fd = model, .proxy_fd = proxy < 0 ? -EBADF : proxy,
                .budget = s->hands_spec.budget,
                .get_config = outlet_get_config, .userdata = s,
        });
        if (r < 0)
                (void) log_error_errno(r, "The CLI's way to its model could not be set up: %m");
        return s->outlet;
}

static Approvals* get_approvals(void *userdata) {
        return session_approvals(userdata);
}

static const char* get_working_directory(void *userdata) {
        return session_working_directory(userdata);
}

void session_on_connected(Session *s, ManagerLink *link) {
        unit_calls_connected(s->unit_calls, link);
        if (s->hands)
                hands_connected(s->hands);
}

static void chat_on_health(ChatHealth health, void *userdata) {
        Session *s = userdata;

        if (health == CHAT_HEALTH_OK)
                chat_service_resume(s->service);
        if (s->health == health)
                return;
        s->health = health;
        session_update(s);
}

static void chat_on_waiting(const char *text, void *userdata) {
        Session *s = userdata;

        if (!text && !s->waiting)
                return;
        if (free_and_strdup(&s->waiting, text) >= 0)
                session_update(s);
}

int session_set_working_directory(Session *s, const char *path) {
        int r;

        r = session_value_set(s->db, WORKING_DIRECTORY, isempty(path) ? NULL : path);
        if (r >= 0)
                r = free_and_strdup(&s->working_directory, path);
        if (r < 0)
                return r;
        session_update(s);
        return 0;
}

/* ---- the database ---- */

/* The operator hears of each hour or day once, whatever restarts there are: the key says which. */
static void on_exceeded(Budget *b, const BudgetVerdict *v, void *userdata) {
        Session *s = userdata;
        _cleanup_free_ char *why = budget_verdict_to_text(v), *text = NULL, *key = NULL;
        static const char *const fields[] = { PUFFO_MESSAGE_BUDGET_EXCEEDED, NULL };
        int r = -ENOMEM;

        if (why) {
                (void) log_fields(LOG_NOTICE, 0, fields, "The budget is used up: %s.", why);
                key = asprintf_new("budget/%d/%" PRIu64, (int) v->kind, v->since_usec / USEC_PER_SEC);
                text = strjoin("My budget is used up: ", why, ". Messages wait until then; nothing is lost.");
        }
        if (key && text)
                r = chat_service_tell_operator(s->service, key, text);
        if (r < 0)
                (void) log_warning_errno(r, "The operator could not be told that the budget is used up: %m");
        session_update(s);
}

static int open_parts(Session *s) {
        _cleanup_(database_freep) Database *db = NULL;
        _cleanup_(turn_queue_freep) TurnQueue *queue = NULL;
        _cleanup_(budget_freep) Budget *budget = NULL;
        _cleanup_(chat_freep) Chat *chat = NULL;
        _cleanup_(approvals_freep) Approvals *approvals = NULL;
        _cleanup_(hands_freep) Hands *hands = NULL;
        _cleanup_(chat_service_freep) ChatService *service = NULL;
        _cleanup_free_ char *directory = NULL;
        int r;

        r = session_database_open(s, &db);
        if (r >= 0)
                r = session_value_get(db, WORKING_DIRECTORY, &directory);
        if (r >= 0)
                r = turn_queue_new(&queue, s->event, db, &(TurnDriver) {
                        .start = driver_start, .cancel = driver_cancel, .ending = driver_ending,
                        .also = driver_also, .ended = driver_ended, .offer = driver_offer,
                        .changed = driver_changed, .broken = driver_broken, .patient_source = BATCHES_SOURCE,
                        .userdata = s,
                });
        if (r < 0)
                return r;
        r = budget_new(&budget, &(BudgetSpec) { .db = db, .on_exceeded = on_exceeded, .userdata = s });
        if (r < 0)
                return r;
        s->chat_spec.db = db;
        s->hands_spec.db = db;
        s->chat_spec.budget = s->hands_spec.budget = budget;
        r = chat_new(&chat, &s->chat_spec);
        if (r >= 0)
                r = approvals_new(&approvals, &(ApprovalsSpec) {
                        .event = s->event, .db = db, .agent = s->id, .on_changed = driver_changed,
                        .on_answered = approval_answered, .on_broken = driver_broken, .userdata = s,
                });
        if (r >= 0)
                r = hands_new(&hands, &s->hands_spec);
        if (r >= 0)
                r = chat_service_new(&service, &(ChatServiceSpec) {
                        .event = s->event, .db = db, .queue = queue, .approvals = approvals,
                        .directory = s->directory,
                        .on_changed = driver_changed, .on_broken = driver_broken, .on_left = chat_on_left,
                        .on_tools_going = chat_on_tools_going, .on_tool_ended = on_tool_ended,
                        .get_link = get_link, .userdata = s,
                });
        if (r < 0) {
                s->outlet = outlet_free(s->outlet);     /* it asks the budget that goes with the others */
                return r;
        }

        free(s->working_directory);
        s->working_directory = TAKE_PTR(directory);
        s->budget = TAKE_PTR(budget);
        s->chat = TAKE_PTR(chat);
        s->approvals = TAKE_PTR(approvals);
        s->hands = TAKE_PTR(hands);
        s->service = TAKE_PTR(service);
        s->queue = TAKE_PTR(queue);
        if (s->queue_limit > 0)
                turn_queue_set_limit(s->queue, s->queue_limit);
        s->db = TAKE_PTR(db);
        return 0;
}

static int on_reopen(sd_event_source *source, uint64_t usec, void *userdata) {
        session_reload(userdata);
        return 0;
}

/* For as long as it lasts; a configuration that is put right meanwhile counts with the next try. */
static void tell_distress(Session *s, const char *why) {
        _cleanup_(session_config_freep) SessionConfig *c = NULL;
        _cleanup_free_ char *text = strjoin("StorageError: the messages cannot be opened: ", why);
        int r = text ? session_config_load(&c, s->id, s->directory, s->agent) : -ENOMEM;

        if (s->distress || s->stopping)
                return;
        if (r >= 0)
                r = distress_new(&s->distress, s->event, c, text);
        if (r < 0)
                (void) log_warning_errno(r, "The agent's people cannot be told that it does not answer: %m");
}

/* Without its database an agent can promise nothing: it stays up, says why, and tries again. */
static int session_open(Session *s) {
        const char *why;
        int r, k;

        r = open_parts(s);
        if (r >= 0) {
                s->distress = distress_free(s->distress);
                return 0;
        }

        free(s->fault);
        why = r == -EPROTONOSUPPORT ? "made by a newer version of this program" : strerror(-r);
        s->fault = asprintf_new("%s: %s", s->database_path, why);
        s->open_pause_usec = CLAMP(s->open_pause_usec * 2, OPEN_RETRY_MIN_USEC, OPEN_RETRY_MAX_USEC);
        k = event_arm_timer(s->event, &s->reopen, s->open_pause_usec, USEC_PER_SEC, on_reopen, s);
        if (k < 0)
                (void) log_warning_errno(k, "Failed to arm a timer, ignoring: %m");
        tell_distress(s, why);
        session_update(s);
        return log_error_errno(r, "Failed to open '%s': %m", s->database_path);
}

/* ---- life ---- */

static int session_init(Session *s, const SessionSpec *spec) {
        int r;

        s->event = spec->event;
        s->started_usec = now_realtime_usec();
        s->note_day = -1;
        s->sweep_usec = spec->sweep_usec ?: DAY_USEC;
        s->chat_spec = (ChatSpec) {
                .event = spec->event, .backend = spec->backend, .retry_min_usec = spec->retry_min_usec,
                .retry_max_usec = spec->retry_max_usec, .get_config = chat_get_config, .on_end = chat_on_end,
                .get_box = chat_get_box,
                .on_health = chat_on_health, .on_waiting = chat_on_waiting, .on_broken = driver_broken,
                .userdata = s,
        };
        s->id = strdup(spec->id);
        s->directory = strdup(spec->directory);
        r = unit_calls_new(&s->unit_calls);
        if (r < 0 || !s->directory)
                return -ENOMEM;
        s->hands_spec = (HandsSpec) {
                .event = spec->event, .backend = spec->cli_backend ?: unit_calls_backend(s->unit_calls),
                .directory = s->directory, .retry_min_usec = spec->retry_min_usec,
                .retry_max_usec = spec->retry_max_usec, .get_config = chat_get_config, .get_box = chat_get_box,
                .get_approvals = get_approvals, .get_outlet = get_outlet,
                .get_working_directory = get_working_directory, .on_end = chat_on_end, .on_health = chat_on_health,
                .on_waiting = chat_on_waiting, .on_broken = driver_broken, .on_prepared = session_hands_prepared,
                .userdata = s,
        };
        s->database_path = path_join(spec->directory, "messages.db");
        s->runtime_path = path_join(spec->directory, "runtime.json");
        if (!s->id || !s->directory || !s->database_path || !s->runtime_path)
                return -ENOMEM;

        r = sd_event_add_defer(s->event, &s->update, session_on_update, s);
        if (r < 0)
                return r;
        /* One update for all changes of a loop iteration. */
        return sd_event_source_set_priority(s->update, SD_EVENT_PRIORITY_IDLE);
}

int session_new(Session **ret, const SessionSpec *spec) {
        _cleanup_(session_freep) Session *s = new0(Session, 1);
        int r;

        if (!s)
                return log_oom();
        r = session_init(s, spec);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the session: %m");
        r = sd_event_add_inotify(s->event, &s->watch, s->directory, IN_CLOSE_WRITE|IN_MOVED_TO|IN_ONLYDIR, on_watch,
                                 s);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to watch '%s', changes count when a turn begins: %m",
                                         s->directory);

        session_reload(s);
        /* The first report and READY=1 shall already tell the truth. */
        session_refresh(s);
        if (spec->socket) {
                r = manager_link_new(&s->link, s, spec->socket);
                if (r < 0)
                        return log_error_errno(r, "Failed to set up the connection to puffod: %m");
        }

        *ret = TAKE_PTR(s);
        return 0;
}

void session_stop(Session *s) {
        if (s->stopping)
                return;
        s->stopping = true;
        (void) sd_notify(0, "STOPPING=1\nSTATUS=stopping");
        if (s->queue)
                turn_queue_set_enabled(s->queue, false);
        session_stop_go_on(s);
}

Session* session_free(Session *s) {
        int r;

        if (!s)
                return NULL;

        (void) sd_event_source_disable_unref(s->watch);
        (void) sd_event_source_disable_unref(s->trim);
        (void) sd_event_source_disable_unref(s->stop_timer);
        (void) sd_event_source_disable_unref(s->drain_timer);
        (void) sd_event_source_disable_unref(s->reopen);
        (void) sd_event_source_disable_unref(s->prepare);
        s->distress = distress_free(s->distress);
        (void) sd_event_source_disable_unref(s->sweep);
        if (s->runtime_path && s->written.status)
                session_runtime_write(s, "stopped");
        /* First: what the CLI is doing is not to be broken off, it goes on with the next process. */
        s->hands = hands_free(s->hands);
        if (s->queue)
                turn_queue_abandon(s->queue);
        s->service = chat_service_free(s->service);
        s->ask_hook = ask_hook_free(s->ask_hook);
        s->queue = turn_queue_free(s->queue);
        s->chat = chat_free(s->chat);
        s->approvals = approvals_free(s->approvals);
        s->outlet = outlet_free(s->outlet);
        if (s->unit_calls)
                s->unit_calls = unit_calls_free(s->unit_calls);
        s->link = manager_link_free(s->link);
        s->budget = budget_free(s->budget);
        s->agent = agent_config_free(s->agent);
        if (s->db) {
                r = database_checkpoint(s->db);
                if (r < 0)
                        (void) log_warning_errno(r, "Failed to fold the WAL into '%s', ignoring: %m",
                                                 s->database_path);
        }
        s->db = database_free(s->db);
        (void) sd_event_source_disable_unref(s->update);
        free(s->id);
        free(s->directory);
        free(s->database_path);
        free(s->runtime_path);
        free(s->lacking);
        free(s->kind);
        free(s->harness);
        free(s->provider);
        free(s->configured_model);
        free(s->unready);
        free(s->fault);
        free(s->waiting);
        free(s->status_text);
        free(s->working_directory);
        free(s->model);
        free(s->written_error);
        return mfree(s);
}
