/* SPDX-License-Identifier: MIT */

/* What changes whether an agent runs, or whether it is there at all. */

#include <stdio.h>

#include "ctl-bus.h"
#include "ctl-verbs.h"
#include "string-util.h"

const Option delete_options[] = {
        { "yes", 'y', NULL, "do not ask" },
        {},
};

typedef struct Change {
        const char *method, *doing, *done;
        uint64_t timeout_usec;
} Change;

/* All of them are tried; the worst result counts. */
static int change_agents(Ctl *c, const Arguments *a, const Change *change) {
        int status = EXIT_SUCCESS;

        for (size_t i = 0; i < a->n_words; i++) {
                _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
                _cleanup_bus_message_ sd_bus_message *reply = NULL;
                _cleanup_free_ char *text = NULL;
                const char *id = a->words[i];
                uint32_t pid = 0;
                int r;

                r = ctl_call_agent(c, id, &error, &reply, change->timeout_usec, change->method, NULL);
                if (r < 0) {
                        status = ctl_fail_bus(c, r, &error, "cannot %s agent '%s'", change->doing, id);
                        continue;
                }
                if (sd_bus_message_has_signature(reply, "u") > 0)
                        (void) sd_bus_message_read(reply, "u", &pid);
                text = pid > 0 ? asprintf_new("%s %s (pid %u)", change->done, id, pid)
                               : asprintf_new("%s %s", change->done, id);
                if (!text)
                        return ctl_oom(c);
                if (!c->json)
                        (void) ctl_print_done(c, id, text);
        }
        return status;
}

/* With --json the agents as they are now, whatever happened to them. */
static int run_change(Ctl *c, const Arguments *a, const Change *change) {
        _cleanup_json_ json_object *agents = NULL;
        int status = change_agents(c, a, change);

        if (!c->json)
                return status;
        agents = json_object_new_array();
        if (!agents)
                return ctl_oom(c);
        for (size_t i = 0; i < a->n_words; i++) {
                _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
                json_object *agent = NULL;

                if (ctl_get_agent(c, a->words[i], &error, &agent) >= 0 && json_object_array_add(agents, agent) < 0) {
                        json_object_put(agent);
                        return ctl_oom(c);
                }
        }
        return MAX(status, ctl_print_json(c, agents));
}

int verb_agent_start(Ctl *c, const Arguments *a) {
        return run_change(c, a, &(Change) { "Start", "start", "started", CTL_START_TIMEOUT_USEC });
}

int verb_agent_stop(Ctl *c, const Arguments *a) {
        return run_change(c, a, &(Change) { "Stop", "stop", "stopped", CTL_STOP_TIMEOUT_USEC });
}

int verb_agent_pause(Ctl *c, const Arguments *a) {
        return run_change(c, a, &(Change) { "Pause", "pause", "pausing", CTL_CALL_TIMEOUT_USEC });
}

int verb_agent_resume(Ctl *c, const Arguments *a) {
        return run_change(c, a, &(Change) { "Resume", "resume", "resuming", CTL_CALL_TIMEOUT_USEC });
}

int verb_agent_restart(Ctl *c, const Arguments *a) {
        return run_change(c, a, &(Change) { "Restart", "restart", "restarted", CTL_STOP_TIMEOUT_USEC });
}

int verb_agent_refresh(Ctl *c, const Arguments *a) {
        return run_change(c, a, &(Change) { "Refresh", "refresh", "refreshed", CTL_CALL_TIMEOUT_USEC });
}

int verb_agent_archive(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_json_ json_object *o = NULL;
        const char *id = a->words[0], *path;
        int r;

        r = ctl_call_agent(c, id, &error, &reply, CTL_STOP_TIMEOUT_USEC, "Archive", NULL);
        if (r >= 0)
                r = sd_bus_message_read(reply, "s", &path);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot archive agent '%s'", id);
        ctl_say(c, "archived '%s' → %s", id, path);
        if (!c->json)
                return EXIT_SUCCESS;
        o = json_object_new_object();
        if (!o || json_put_string(o, "agent", id) < 0 || json_put_string(o, "path", path) < 0)
                return ctl_oom(c);
        return ctl_print_json(c, o);
}

/* 1: yes, 0: no. */
static int confirm(const char *question) {
        char answer[16];

        fprintf(stderr, "%s [y/N] ", question);
        return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

int verb_agent_delete(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *question = NULL, *text = NULL;
        _cleanup_json_ json_object *agent = NULL;
        const char *id = a->words[0];
        int r;

        if (!arguments_has(a, "yes")) {
                if (!isatty(STDIN_FILENO))
                        return ctl_refuse(c, "deleting agent '%s' cannot be undone: say --yes, or archive it", id);
                r = ctl_get_agent(c, id, &error, &agent);
                if (r < 0)
                        return ctl_fail_bus(c, r, &error, "cannot delete agent '%s'", id);
                question = asprintf_new("Delete agent '%s' with its memory, its conversations and its workspace?", id);
                if (!question)
                        return ctl_oom(c);
                if (!confirm(question))
                        return ctl_fail(c, "agent '%s' was not deleted", id);
        }
        r = ctl_call_agent(c, id, &error, NULL, CTL_STOP_TIMEOUT_USEC, "Delete", NULL);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot delete agent '%s'", id);
        text = strjoin("deleted ", id);
        return text ? ctl_print_done(c, id, text) : ctl_oom(c);
}
