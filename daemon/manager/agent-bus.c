/* SPDX-License-Identifier: MIT */

#include <sys/stat.h>

#include "agent.h"
#include "agent-login-bus.h"
#include "agent-turn-bus.h"
#include "bus-util.h"
#include "event-util.h"
#include "file-util.h"
#include "harness-unit.h"
#include "helpers.h"
#include "log.h"
#include "option.h"
#include "pending.h"
#include "private-server.h"
#include "string-util.h"
#include "unit.h"

#define PROFILE_SIZE_MAX KIB(256)

int agent_verify(Agent *a, sd_bus_message *message, const char *action, sd_bus_error *reterr_error) {
        return polkit_verify_async(a->manager, message, action, a->home->id, a->owner, reterr_error);
}

#define MANAGE "ai.puffo.agents.manage"

/* Stop: the grace time of a turn, the session's own stop time, that of what runs its tools, and some. */
static uint64_t gone_timeout(const Agent *a) {
        return a->manager->config->turn_grace_usec + 50 * USEC_PER_SEC;
}

/* Reads the file anew, so that nothing is written over what somebody has just changed. */
static int reload_before_change(Agent *a, sd_bus_error *reterr_error) {
        _cleanup_free_ char *error = NULL;
        int r = agent_check_stays(a, reterr_error);

        if (r < 0)
                return r;
        r = agent_load(a, &error);
        if (r == -EBADMSG)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_CONFIG, "Repair the file first: %s",
                                      strempty(error));
        return r < 0 ? manager_error(reterr_error, r, "read", a->home->config_path) : 0;
}

static int set_desired(Agent *a, bool running, sd_bus_error *reterr_error) {
        int r = reload_before_change(a, reterr_error);

        if (r < 0)
                return r;
        r = agent_set_desired(a, running);
        return r < 0 ? manager_error(reterr_error, r, "write", a->home->config_path) : r;
}

/* Wants it running, now: a start that was put off is tried at once. */
static int want_running(Agent *a, sd_bus_message *message, sd_bus_error *reterr_error) {
        int r = set_desired(a, true, reterr_error);

        if (r < 0)
                return r;
        a->retry = sd_event_source_disable_unref(a->retry);
        return 0;
}

static int wait_until_ready(Agent *a, sd_bus_message *message, bool prepare, sd_bus_error *reterr_error) {
        Pending *p;
        int r = pending_new(a, PENDING_READY, message, a->manager->connect_timeout_usec, &p, reterr_error);

        if (r < 0)
                return r;
        p->prepare = prepare;
        agent_evaluate(a);
        return 1;
}

static int method_start(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        int r;

        r = agent_verify(a, message, MANAGE, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = want_running(a, message, reterr_error);
        return r < 0 ? r : wait_until_ready(a, message, /* prepare= */ false, reterr_error);
}

static int method_connect(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        Agent *a = userdata;
        const char *directory;
        int r;

        r = sd_bus_message_read(message, "s", &directory);
        if (r < 0)
                return r;
        if (*directory != '/' || strlen(directory) > 4096)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "'%.200s' is no absolute path.",
                                      directory);
        r = agent_verify(a, message, "ai.puffo.agents.chat", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;

        r = want_running(a, message, reterr_error);
        if (r >= 0)
                r = free_and_strdup(&a->working_directory, directory);
        if (r < 0)
                return r;
        /* A session that is not there yet reports what it had; it is told when it registers. */
        a->working_directory_pending = true;
        a->dirty |= AGENT_DIRTY_REPORT;
        agent_tell_working_directory(a);
        return wait_until_ready(a, message, /* prepare= */ true, reterr_error);
}

void agent_tell_working_directory(Agent *a) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;

        if (!a->link || !a->working_directory_pending)
                return;
        if (session_link_new_call(a->link, "SetWorkingDirectory", &m) >= 0 &&
            sd_bus_message_append(m, "s", a->working_directory) >= 0 &&
            session_link_call(a->link, m, NULL, NULL, 0) >= 0)
                a->working_directory_pending = false;
}

static int method_resume(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        int r;

        r = agent_verify(a, message, MANAGE, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = want_running(a, message, reterr_error);
        if (r < 0)
                return r;
        agent_evaluate(a);
        return sd_bus_reply_method_return(message, NULL);
}

static int want_stopped(Agent *a, sd_bus_error *reterr_error) {
        int r = set_desired(a, false, reterr_error);

        if (r < 0)
                return r;
        a->stop_refused = false;
        manager_queue_settle(a->manager);
        return 0;
}

static int method_pause(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        int r;

        r = agent_verify(a, message, MANAGE, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = want_stopped(a, reterr_error);
        if (r < 0)
                return r;
        agent_evaluate(a);
        return sd_bus_reply_method_return(message, NULL);
}

static int method_stop(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        int r;

        r = agent_verify(a, message, MANAGE, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = a->removing ? 0 : want_stopped(a, reterr_error);
        if (r >= 0)
                r = pending_new(a, PENDING_GONE, message, gone_timeout(a), NULL, reterr_error);
        if (r < 0)
                return r;
        agent_evaluate(a);
        return 1;
}

static int method_restart(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        int r;

        r = agent_verify(a, message, MANAGE, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = agent_check_stays(a, reterr_error);
        if (r < 0)
                return r;
        if (a->state == AGENT_STOPPED || a->state == AGENT_STOPPING || a->state == AGENT_MISSING)
                return bus_error_setf(reterr_error, PUFFO_ERROR_NOT_READY,
                                      "Agent '%s' is %s; 'puffoctl agent start %s' starts it.", a->home->id,
                                      agent_state_to_string(a->state), a->home->id);
        r = agent_restart_unit(a);
        return r < 0 ? r : sd_bus_reply_method_return(message, NULL);
}

static int remove_agent(Agent *a, sd_bus_message *message, PendingKind kind, sd_bus_error *reterr_error) {
        int r;

        r = agent_verify(a, message, MANAGE, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (agent_is_manager(a))
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_FAILED,
                                        "The agent '" ROLE_MANAGER
                                        "' is always there; it can be stopped, not removed.");
        r = agent_check_stays(a, reterr_error);
        if (r < 0)
                return r;

        a->removing = true;
        r = pending_new(a, kind, message, gone_timeout(a), NULL, reterr_error);
        if (r < 0) {
                a->removing = false;
                return r;
        }
        agent_evaluate(a);
        return 1;
}

static int method_archive(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        return remove_agent(userdata, message, PENDING_ARCHIVE, reterr_error);
}

static int method_delete(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        return remove_agent(userdata, message, PENDING_DELETE, reterr_error);
}

/* --- configuration --- */

static int save_and_apply(Agent *a, sd_bus_message *message, sd_bus_error *reterr_error) {
        int r = agent_save(a);

        if (r < 0)
                return manager_error(reterr_error, r, "write", a->home->config_path);
        agent_configuration_changed(a);
        return sd_bus_reply_method_return(message, NULL);
}

static int method_set_runtime(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(runtime_options_done) RuntimeOptions options = {};
        _cleanup_(agent_config_freep) AgentConfig *changed = NULL;
        _cleanup_free_ char *error = NULL;
        Agent *a = userdata;
        int r;

        r = runtime_options_read(message, NULL, &options, reterr_error);
        if (r < 0)
                return r;
        r = agent_verify(a, message, MANAGE, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = reload_before_change(a, reterr_error);
        if (r < 0)
                return r;

        /* On a copy from the file: nothing of a refused change stays behind in memory. */
        r = agent_config_load(&changed, a->home->config_path, a->home->id, &error);
        if (r < 0)
                return manager_error(reterr_error, r, "read", a->home->config_path);
        r = runtime_options_apply(&options, changed, reterr_error);
        if (r < 0)
                return r;
        r = agent_config_check(changed, &error);
        if (r == -EINVAL)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_CONFIG, "%s", error);
        if (r < 0)
                return r;

        agent_config_free(a->config);
        a->config = TAKE_PTR(changed);
        return save_and_apply(a, message, reterr_error);
}

static int method_set_display_name(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *before = NULL, *error = NULL;
        Agent *a = userdata;
        const char *name;
        int r;

        r = sd_bus_message_read(message, "s", &name);
        if (r < 0)
                return r;
        if (strlen(name) > 256)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                        "A display name has at most 256 bytes.");
        r = agent_verify(a, message, MANAGE, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = reload_before_change(a, reterr_error);
        if (r < 0)
                return r;

        before = TAKE_PTR(a->config->display_name);
        a->config->display_name = strdup(name);
        r = a->config->display_name ? agent_config_check(a->config, &error) : -ENOMEM;
        if (r < 0) {
                free(a->config->display_name);
                a->config->display_name = TAKE_PTR(before);
        }
        if (r == -EINVAL)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "%s", error);
        return r < 0 ? r : save_and_apply(a, message, reterr_error);
}

static int method_refresh(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        int r;

        r = agent_verify(a, message, MANAGE, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = reload_before_change(a, reterr_error);
        if (r < 0)
                return r;
        agent_configuration_changed(a);
        return sd_bus_reply_method_return(message, NULL);
}

/* --- properties --- */

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, sd_bus_error *reterr_error) {
        const Agent *a = userdata;
        bool waiting = streq_ptr(a->reported_status, AGENT_WAITING_APPROVAL);
        const struct {
                const char *name, *value;
        } texts[] = {
                { "Id", a->home->id },
                { "Role", a->home->role },
                { "Name", a->home->name },
                { "State", agent_state_to_string(a->state) },
                { "Status", a->state == AGENT_BUSY ? (waiting ? AGENT_WAITING_APPROVAL : "busy") :
                            a->state == AGENT_FAILED || a->state == AGENT_MISSING ? "error" : "idle" },
                { "Desired", a->config->running ? "running" : "stopped" },
                { "HarnessState", harness_unit_state(a->harness) },
                { "HarnessUnit", a->harness->name },
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                if (streq(texts[i].name, property))
                        return sd_bus_message_append(reply, "s", strempty(texts[i].value));
        return -EINVAL;
}

/* What its files and its session say. The rest is what the service manager shows of the unit anyway, and whose it is.
 */
static const char *const private_names[] = {
        "DisplayName", "StatusText", "RuntimeKind", "Provider", "Model", "Harness", "SandboxProfile", "Slug",
        "OperatorSlug", "Directory", "Workspace", "WorkingDirectory", "QueueLength", "MessagesProcessed", "LastEvent",
        "Health", NULL,
};

bool agent_property_is_private(const char *name) {
        return strv_contains((char *const *) private_names, name);
}

static int get_private_number(sd_bus *bus, const char *path, const char *interface, const char *property,
                              sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        const Agent *a = userdata;
        bool seen = reader_sees(a->manager, a->owner);
        int r;

        if (!seen) {
                r = reader_refuse(a->manager, property, reterr_error);
                if (r < 0)
                        return r;
        }
        if (streq(property, "QueueLength"))
                return sd_bus_message_append(reply, "u", seen ? a->queue_length : 0);
        return sd_bus_message_append(reply, "t", !seen ? 0 : streq(property, "LastEvent") ? a->last_event
                                                                                          : a->messages_processed);
}

static int get_private_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                            sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        const Agent *a = userdata;
        bool decided = agent_decides_itself(a) && runtime_kind_from_string(strempty(a->decided_kind)) >= 0 &&
                       session_link_is_up(a->link);
        const char *kind = runtime_kind_to_string(a->config->kind),
                *harness = a->config->kind == RUNTIME_CHAT_LOCAL ? "" : agent_config_harness(a->config);
        const struct {
                const char *name, *value;
        } texts[] = {
                { "DisplayName", a->config->display_name },
                { "StatusText", a->status_text },
                { "WorkingDirectory", a->working_directory },
                { "Health", a->reported_health },
                { "RuntimeKind", decided ? a->decided_kind : kind },
                { "Provider", decided ? strempty(a->decided_provider) : a->model.provider },
                { "Model", decided ? strempty(a->decided_model) : a->model.model },
                { "Harness", decided ? strempty(a->decided_harness) : harness },
                { "SandboxProfile", sandbox_profile_to_string(a->config->sandbox) },
                { "Slug", a->config->slug },
                { "OperatorSlug", a->config->operator_slug },
                { "Directory", a->home->directory },
                { "Workspace", a->home->workspace },
        };
        int r;

        if (!reader_sees(a->manager, a->owner)) {
                r = reader_refuse(a->manager, property, reterr_error);
                return r < 0 ? r : sd_bus_message_append(reply, "s", "");
        }
        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                if (streq(texts[i].name, property))
                        return bus_append_text(reply, texts[i].value);
        return -EINVAL;
}

#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define CONST SD_BUS_VTABLE_PROPERTY_CONST
#define INVALIDATES SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION
#define ANYBODY SD_BUS_VTABLE_UNPRIVILEGED

static const sd_bus_vtable agent_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Start", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", pid), method_start, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Stop", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_stop, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Pause", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_pause, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Resume", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_resume, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Restart", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_restart, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Archive", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", path), method_archive, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Delete", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_delete, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Export", SD_BUS_ARGS("h", destination, "a{sv}", options), SD_BUS_NO_RESULT,
                                agent_method_export, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("SetRuntime", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                                method_set_runtime, ANYBODY | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("SetDisplayName", SD_BUS_ARGS("s", name), SD_BUS_NO_RESULT,
                                method_set_display_name, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("ReadProfile", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", text),
                                agent_method_read_profile, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("WriteProfile", SD_BUS_ARGS("s", text), SD_BUS_NO_RESULT,
                                agent_method_write_profile, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("ListMemory", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(stt)", topics),
                                agent_method_list_memory, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("ReadMemory", SD_BUS_ARGS("s", topic), SD_BUS_RESULT("s", text),
                                agent_method_read_memory, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("ListFiles", SD_BUS_ARGS("s", directory), SD_BUS_RESULT("a(sstt)", entries),
                                agent_method_list_files, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("OpenFile", SD_BUS_ARGS("s", path), SD_BUS_RESULT("h", file),
                                agent_method_open_file, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("ListMessages", SD_BUS_ARGS("s", conversation, "s", before, "u", limit),
                                SD_BUS_RESULT("a(sssts)", messages, "b", more, "a{sas}", files),
                                agent_method_list_messages, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("OpenJournal", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("h", stream),
                                agent_method_open_journal, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Submit", SD_BUS_ARGS("s", id, "a{sv}", turn), SD_BUS_RESULT("h", stream),
                                agent_method_submit, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("OpenStream", SD_BUS_ARGS("s", id), SD_BUS_RESULT("h", stream),
                                agent_method_open_stream, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Interrupt", SD_BUS_ARGS("s", id), SD_BUS_RESULT("b", ended),
                                agent_method_interrupt, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("GetTurn", SD_BUS_ARGS("s", id), SD_BUS_RESULT("a{sv}", turn),
                                agent_method_get_turn, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("DeleteTurn", SD_BUS_ARGS("s", id), SD_BUS_NO_RESULT, agent_method_delete_turn,
                                ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Connect", SD_BUS_ARGS("s", working_directory), SD_BUS_RESULT("u", pid),
                                method_connect, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("Refresh", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_refresh, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("GetLogin", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", operator_login, "a{sv}", view),
                                agent_method_get_login, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("RefreshLogin", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", result),
                                agent_method_refresh_login, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("GetProcesses", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(suus)", processes),
                                agent_method_get_processes, ANYBODY),
        SD_BUS_PROPERTY("Id", "s", get_text, 0, CONST),
        SD_BUS_PROPERTY("Role", "s", get_text, 0, CONST),
        SD_BUS_PROPERTY("Name", "s", get_text, 0, CONST),
        SD_BUS_PROPERTY("DisplayName", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("State", "s", get_text, 0, CHANGES),
        SD_BUS_PROPERTY("Status", "s", get_text, 0, CHANGES),
        SD_BUS_PROPERTY("StatusText", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("Desired", "s", get_text, 0, CHANGES),
        SD_BUS_PROPERTY("Unit", "s", NULL, offsetof(Agent, unit), CONST),
        SD_BUS_PROPERTY("Slice", "s", NULL, offsetof(Agent, slice), CONST),
        SD_BUS_PROPERTY("MainPID", "u", NULL, offsetof(Agent, unit_state.main_pid), CHANGES),
        SD_BUS_PROPERTY("Restarts", "u", NULL, offsetof(Agent, unit_state.n_restarts), CHANGES),
        SD_BUS_PROPERTY("HarnessState", "s", get_text, 0, CHANGES),
        SD_BUS_PROPERTY("HarnessUnit", "s", get_text, 0, CONST),
        SD_BUS_PROPERTY("RuntimeKind", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("Provider", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("Model", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("Harness", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("SandboxProfile", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("Slug", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("OperatorSlug", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("Directory", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("Workspace", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("WorkingDirectory", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("QueueLength", "u", get_private_number, 0, INVALIDATES),
        SD_BUS_PROPERTY("MessagesProcessed", "t", get_private_number, 0, INVALIDATES),
        SD_BUS_PROPERTY("CreatedAt", "t", NULL, offsetof(Agent, created_at), CHANGES),
        SD_BUS_PROPERTY("LastEvent", "t", get_private_number, 0, INVALIDATES),
        SD_BUS_PROPERTY("Health", "s", get_private_text, 0, INVALIDATES),
        SD_BUS_PROPERTY("Owner", "u", NULL, offsetof(Agent, owner), CHANGES),
        SD_BUS_VTABLE_END,
};

static void announce(Agent *a) {
        a->announced = true;
        a->dirty = 0;
        (void) sd_bus_emit_object_added(a->manager->bus, a->path);
        /* What is not for everybody was left out of that: it is to be asked for. */
        if (a->manager->scope == SCOPE_SYSTEM)
                (void) sd_bus_emit_properties_changed_strv(a->manager->bus, a->path, PUFFO_BUS_AGENT_INTERFACE,
                                                           (char**) private_names);
        (void) sd_bus_emit_signal(a->manager->bus, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, "AgentAdded", "so",
                                  a->home->id, a->path);
}

void agent_emit_changed(Agent *a) {
        static char *const state[] = {(char *) "State",
                                      (char *) "Status",
                                      (char *) "StatusText",
                                      (char *) "Desired",
                                      (char *) "MainPID",
                                      (char *) "Restarts",
                                      (char *) "HarnessState",
                                      NULL};
        static char *const config[] = {(char *) "DisplayName",
                                       (char *) "Desired",
                                       (char *) "RuntimeKind",
                                       (char *) "Provider",
                                       (char *) "Model",
                                       (char *) "Harness",
                                       (char *) "SandboxProfile",
                                       (char *) "Slug",
                                       (char *) "OperatorSlug",
                                       (char *) "Workspace",
                                       (char *) "CreatedAt",
                                       (char *) "Owner",
                                       NULL};
        static char *const report[] = { (char*) "WorkingDirectory", (char*) "QueueLength", (char*) "MessagesProcessed",
                                        (char*) "LastEvent", (char*) "Health", NULL };
        char *names[32];
        size_t n = 0;

        if (!a->config)
                return;
        if (!a->announced)
                announce(a);
        if (a->dirty == 0)
                return;
        for (char *const *s = state; *s && a->dirty & AGENT_DIRTY_STATE; s++)
                names[n++] = *s;
        for (char *const *s = config; *s && a->dirty & AGENT_DIRTY_CONFIG; s++)
                if (!(a->dirty & AGENT_DIRTY_STATE) || !streq(*s, "Desired"))
                        names[n++] = *s;
        for (char *const *s = report; *s && a->dirty & AGENT_DIRTY_REPORT; s++)
                names[n++] = *s;
        names[n] = NULL;
        a->dirty = 0;
        (void) sd_bus_emit_properties_changed_strv(a->manager->bus, a->path, PUFFO_BUS_AGENT_INTERFACE, names);
}

/* Looked up anew for each call: an agent may go while a call waits for polkit. */
static int find_agent(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found,
                      sd_bus_error *reterr_error) {
        _cleanup_free_ char *id = NULL;
        Agent *a;
        int r;

        r = sd_bus_path_decode(path, PUFFO_BUS_AGENT_PREFIX, &id);
        if (r <= 0)
                return r;
        a = manager_find_agent(userdata, id);
        if (!a || !a->config)
                return 0;
        *ret_found = a;
        return 1;
}

static int enumerate_agents(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes,
                            sd_bus_error *reterr_error) {
        Manager *m = userdata;
        char **nodes = NULL;

        for (size_t i = 0; i < m->n_agents; i++)
                if (m->agents[i]->config && strv_extend(&nodes, m->agents[i]->path) < 0) {
                        strv_free(nodes);
                        return -ENOMEM;
                }
        *ret_nodes = nodes;
        return 0;
}

int agent_export(Manager *m) {
        int r = sd_bus_add_fallback_vtable(m->bus, NULL, PUFFO_BUS_AGENT_PREFIX, PUFFO_BUS_AGENT_INTERFACE,
                                           agent_vtable, find_agent, m);

        return r < 0 ? r : sd_bus_add_node_enumerator(m->bus, NULL, PUFFO_BUS_AGENT_PREFIX, enumerate_agents, m);
}
