/* SPDX-License-Identifier: MIT */

/* Who sees what in system mode. A property getter knows nothing of who reads, and cannot wait for polkit; so whoever
 * reads is looked at before the call gets to the objects. What a getter is asked for outside of such a call goes into
 * a signal, which everybody on the bus receives. */

#include "agent.h"
#include "bus-util.h"
#include "helpers.h"
#include "string-util.h"

bool reader_sees(const Manager *m, uid_t owner) {
        if (m->scope == SCOPE_USER)
                return true;
        if (!m->reader || sd_bus_get_current_message(m->bus) != m->reader)
                return false;
        return m->reader_sees_all || m->reader_uid == owner;
}

int reader_refuse(const Manager *m, const char *what, sd_bus_error *reterr_error) {
        sd_bus_message *current = sd_bus_get_current_message(m->bus);

        if (!current || sd_bus_message_is_method_call(current, "org.freedesktop.DBus.Properties", "Get") <= 0)
                return 0;
        return bus_error_setf(reterr_error, SD_BUS_ERROR_ACCESS_DENIED,
                              "'%.80s' is shown to the owner only, or to whom polkit allows ai.puffo.agents.inspect.",
                              what);
}

static bool all_belong_to(const Manager *m, uid_t uid) {
        for (size_t i = 0; i < m->n_agents; i++)
                if (m->agents[i]->owner != uid)
                        return false;
        return true;
}

int reader_identify(Manager *m, sd_bus_message *call, const Agent *agent, sd_bus_error *reterr_error) {
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        bool all = false;
        uid_t uid;
        int r;

        m->reader = sd_bus_message_unref(m->reader);
        if (m->scope == SCOPE_USER)
                return 1;
        if (sd_bus_query_sender_creds(call, SD_BUS_CREDS_EUID, &creds) < 0 || sd_bus_creds_get_euid(creds, &uid) < 0)
                return 1;

        if (uid == 0)
                all = true;
        else if (agent ? agent->owner != uid : !all_belong_to(m, uid)) {
                r = polkit_ask_quietly(m, call, "ai.puffo.agents.inspect", &all, reterr_error);
                if (r <= 0)
                        return r;
        }
        m->reader = sd_bus_message_ref(call);
        m->reader_uid = uid;
        m->reader_sees_all = all;
        return 1;
}

/* Whether the answer can have something in it that is not for everybody. *ret_agent: all of it is of that one. */
static bool reads_private(Manager *m, sd_bus_message *call, const Agent **ret_agent) {
        const char *interface, *property = NULL;
        _cleanup_free_ char *id = NULL;

        *ret_agent = NULL;
        if (sd_bus_message_is_method_call(call, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects") > 0)
                return true;
        if (sd_bus_message_is_method_call(call, "org.freedesktop.DBus.Properties", "Get") > 0) {
                if (sd_bus_message_read(call, "ss", &interface, &property) < 0)
                        return false;
        } else if (sd_bus_message_is_method_call(call, "org.freedesktop.DBus.Properties", "GetAll") <= 0 ||
                   sd_bus_message_read(call, "s", &interface) < 0)
                return false;

        if (property && !agent_property_is_private(property) && !pairing_property_is_private(property))
                return false;
        if (sd_bus_path_decode(strempty(sd_bus_message_get_path(call)), PUFFO_BUS_AGENT_PREFIX, &id) > 0)
                *ret_agent = manager_find_agent(m, id);
        return *ret_agent || streq_ptr(sd_bus_message_get_path(call), PUFFO_BUS_PAIRING_PATH);
}

static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        const Agent *agent;
        Manager *m = userdata;
        int r;

        m->reader = sd_bus_message_unref(m->reader);
        if (!reads_private(m, message, &agent))
                return 0;
        r = sd_bus_message_rewind(message, true);
        if (r >= 0)
                r = reader_identify(m, message, agent, &error);
        if (r < 0) {
                (void) sd_bus_reply_method_errno(message, r, &error);
                return 1;
        }
        return r == 0;
}

int reader_watch(Manager *m) {
        return m->scope == SCOPE_USER ? 0 : sd_bus_add_filter(m->bus, NULL, on_message, m);
}
