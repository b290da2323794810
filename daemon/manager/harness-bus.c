/* SPDX-License-Identifier: MIT */

/* What a session says of its harness. Whose session it is, its connection tells (private-server.c). */

#include "bus-util.h"
#include "harness-unit.h"
#include "private-server.h"
#include "string-util.h"

static int find_harness(SessionLink *l, HarnessUnit **ret, sd_bus_error *reterr_error) {
        Agent *a = session_link_agent(l);

        if (!a)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_NO_SUCH_AGENT, "Register comes first.");
        *ret = a->harness;
        return 0;
}

int harness_method_start(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(harness_request_freep) HarnessRequest *request = NULL;
        HarnessUnit *h = NULL;
        int r;

        r = find_harness(userdata, &h, reterr_error);
        if (r >= 0)
                r = agent_check_stays(h->agent, reterr_error);
        if (r < 0)
                return r;
        /* Its session has less than any sandbox of tools: that is not to be had by asking. */
        if (!h->agent->config ||
            (h->agent->config->kind == RUNTIME_CHAT_LOCAL && (h->agent->config->kind_given || !h->agent->home->role)))
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_CONFIG,
                                      "Agent '%s' is of a kind that has no harness.", h->agent->home->id);
        if (!h->agent->config->running)
                return bus_error_setf(reterr_error, PUFFO_ERROR_NOT_READY, "Agent '%s' is being stopped.",
                                      h->agent->home->id);
        r = harness_request_read(&request, h->agent, message, reterr_error);
        return r < 0 ? r : harness_unit_start(h, message, TAKE_PTR(request), reterr_error);
}

int harness_method_stop(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        HarnessUnit *h = NULL;
        int r = find_harness(userdata, &h, reterr_error);

        return r < 0 ? r : harness_unit_wait_stopped(h, message, reterr_error);
}

int harness_method_freeze(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        HarnessUnit *h = NULL;
        int freeze, r;

        r = sd_bus_message_read(message, "b", &freeze);
        if (r >= 0)
                r = find_harness(userdata, &h, reterr_error);
        return r < 0 ? r : harness_unit_freeze(h, message, freeze, reterr_error);
}

int harness_method_wait(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        sd_id128_t invocation = SD_ID128_NULL;
        HarnessUnit *h = NULL;
        const void *id;
        size_t size;
        int r;

        r = sd_bus_message_read_array(message, 'y', &id, &size);
        if (r >= 0)
                r = find_harness(userdata, &h, reterr_error);
        if (r < 0)
                return r;
        if (size != sizeof(invocation))
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "An invocation has %zu bytes.",
                                      sizeof(invocation));
        memcpy(&invocation, id, size);
        return harness_unit_wait_ended(h, message, invocation, reterr_error);
}

int harness_append_end(sd_bus_message *m, const HarnessEnd *end) {
        return sd_bus_message_append(m, "a{sv}", 4, "Result", "s", end->result, "ExecMainCode", "i", end->code,
                                     "ExecMainStatus", "i", end->status, "MemoryMax", "t", end->memory_max);
}
