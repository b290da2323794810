/* SPDX-License-Identifier: MIT */

#include "agent-turn-bus.h"
#include "bus-util.h"
#include "private-server.h"
#include "staff-bus.h"
#include "string-util.h"

#define TURN_PREFIX "ask-"
/* What the asked agent's log and listing call such a turn. */
#define SOURCE ROLE_MANAGER

int staff_check_boss(const Agent *a, sd_bus_error *reterr_error) {
        if (!a)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_NO_SUCH_AGENT, "Register comes first.");
        if (a->home->role && agent_is_manager(a))
                return 0;
        return bus_error_setf(reterr_error, SD_BUS_ERROR_ACCESS_DENIED,
                              "Only the agent '" ROLE_MANAGER "' has others work for it; '%s' does not.",
                              a->home->id);
}

/* Those of somebody else are as good as none. */
static int find_asked(Agent *boss, const char *text, Agent **ret, sd_bus_error *reterr_error) {
        Agent *a = manager_find_agent_lenient(boss->manager, text);

        if (!a || !a->config || a->owner != boss->owner)
                return bus_error_setf(reterr_error, PUFFO_ERROR_NO_SUCH_AGENT,
                                      "There is no agent '%.80s'; hire_agent makes one.", text);
        if (a == boss)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "That is you.");
        *ret = a;
        return 0;
}

static int check_turn(const char *turn, sd_bus_error *reterr_error) {
        if (turn_id_is_valid(turn) && startswith(turn, TURN_PREFIX))
                return 0;
        return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "'%.100s' is no id of a question.", turn);
}

static int append_question(sd_bus_message *call, const char *turn, const char *text, int stream) {
        int r;

        r = sd_bus_message_append(call, "s", turn);
        if (r >= 0)
                r = sd_bus_message_append(call, "a{sv}", 2, "Text", "s", text, "Source", "s", SOURCE);
        return r < 0 ? r : sd_bus_message_append(call, "h", stream);
}

int staff_ask(Agent *boss, sd_bus_message *message, sd_bus_error *reterr_error) {
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        const char *id, *turn, *text;
        int r, stream;
        Agent *a;

        r = sd_bus_message_read(message, "sssh", &id, &turn, &text, &stream);
        if (r >= 0)
                r = check_turn(turn, reterr_error);
        if (r >= 0)
                r = find_asked(boss, id, &a, reterr_error);
        if (r < 0)
                return r;
        if (!a->config->running)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_NOT_READY,
                                        "It is stopped; hire_agent starts it again.");
        r = agent_session_is_there(a, message, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = session_link_new_call(a->link, "Submit", &call);
        if (r >= 0)
                r = append_question(call, turn, text, stream);
        return r < 0 ? r : agent_relay(a, message, call, -EBADF, /* repeatable= */ true, reterr_error);
}

int staff_interrupt(Agent *boss, sd_bus_message *message, sd_bus_error *reterr_error) {
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        const char *id, *turn;
        Agent *a;
        int r;

        r = sd_bus_message_read(message, "ss", &id, &turn);
        if (r >= 0)
                r = check_turn(turn, reterr_error);
        if (r >= 0)
                r = find_asked(boss, id, &a, reterr_error);
        if (r >= 0)
                r = agent_session_is_there(a, message, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = session_link_new_call(a->link, "Interrupt", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "s", turn);
        return r < 0 ? r : agent_relay(a, message, call, -EBADF, /* repeatable= */ true, reterr_error);
}
