/* SPDX-License-Identifier: MIT */

#include "config.h"
#include "gateway-handlers.h"
#include "json-util.h"

static int model_new(const MirroredAgent *a, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_put_string(o, "id", a->id) < 0 || json_put_string(o, "object", "model") < 0 ||
            json_put_int(o, "created", (int64_t) (a->created_usec / USEC_PER_SEC)) < 0 ||
            json_put_string(o, "owned_by", "agent-proxy") < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

int agent_object_new(const MirroredAgent *a, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_put_string(o, "agent", a->id) < 0 || json_put_string(o, "role", strempty(a->role)) < 0 ||
            json_put_string(o, "name", strempty(a->name)) < 0 || json_put_string(o, "state", strempty(a->state)) < 0 ||
            json_put_string(o, "status", strempty(a->status)) < 0 ||
            json_put_string(o, "status_text", strempty(a->status_text)) < 0 ||
            (a->pid > 0 ? json_put_int(o, "pid", a->pid) : json_put_null(o, "pid")) < 0 ||
            json_put_string(o, "workspace", strempty(a->workspace)) < 0 ||
            /* Turns may come and go between two looks at the state. */
            json_put_int(o, "last_turn_ms", (int64_t) (a->turn_usec / USEC_PER_MSEC)) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

/* One object for each agent that the client may use. */
static int list_new(const Call *c, int (*make)(const MirroredAgent *a, json_object **ret), json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();
        AgentMirror *m = c->gateway->agents;
        int r;

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < agent_mirror_size(m); i++) {
                json_object *o;

                if (!call_may_use(c, agent_mirror_get(m, i)))
                        continue;
                r = make(agent_mirror_get(m, i), &o);
                if (r < 0)
                        return r;
                if (json_object_array_add(list, o) < 0) {
                        json_object_put(o);
                        return -ENOMEM;
                }
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static int list_object_new(const Call *c, const char *member, bool openai,
                           int (*make)(const MirroredAgent *a, json_object **ret), json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *list;

        if (!o || (openai && json_put_string(o, "object", "list") < 0) || list_new(c, make, &list) < 0 ||
            json_put(o, member, list) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

void models_list(Call *c) {
        _cleanup_json_ json_object *o = NULL;

        if (list_object_new(c, "data", true, model_new, &o) < 0)
                call_reply_errno(c, -ENOMEM);
        else
                call_reply_json(c, 200, o);
}

int agents_object_new(const Call *c, json_object **ret) {
        return list_object_new(c, "agents", false, agent_object_new, ret);
}

void agents_list(Call *c) {
        _cleanup_json_ json_object *o = NULL;

        if (agents_object_new(c, &o) < 0)
                call_reply_errno(c, -ENOMEM);
        else
                call_reply_json(c, 200, o);
}

void models_get(Call *c) {
        MirroredAgent *a = agent_mirror_resolve(c->gateway->agents, c->match.argument);
        _cleanup_api_error_ ApiError e = {};
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *shown = NULL;

        if (!a || !call_may_use(c, a)) {
                shown = str_printable(c->match.argument, 100);
                (void) api_error_set(&e, 404, "model_not_found", "model",
                                     "The model `%s` does not exist or you do not have access to it.",
                                     strempty(shown));
                call_reply_error(c, &e);
        } else if (model_new(a, &o) < 0)
                call_reply_errno(c, -ENOMEM);
        else
                call_reply_json(c, 200, o);
}

void health_get(Call *c) {
        _cleanup_json_ json_object *o = json_object_new_object();
        AgentMirror *m = c->gateway->agents;
        bool loaded = agent_mirror_is_loaded(m);
        int64_t ready = 0;

        for (size_t i = 0; i < agent_mirror_size(m); i++)
                ready += mirrored_agent_is_ready(agent_mirror_get(m, i));
        if (!o || json_put_string(o, "status", loaded ? "ok" : "starting") < 0 ||
            (loaded && (json_put_string(o, "version", PROJECT_VERSION) < 0 ||
                        json_put_int(o, "agents", (int64_t) agent_mirror_size(m)) < 0 ||
                        json_put_int(o, "ready", ready) < 0)))
                call_reply_errno(c, -ENOMEM);
        else
                call_reply_json(c, loaded ? 200 : 503, o);
}
