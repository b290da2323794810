/* SPDX-License-Identifier: MIT */

/* Calls that puffod passes on. A turn's events do not come through here: both ends of its pipe are given away, so that
 * this process may die and the stream goes on. */

#include <fcntl.h>

#include "agent-turn-bus.h"
#include "bus-util.h"
#include "pending.h"
#include "private-server.h"
#include "string-util.h"

#define CALL_TIMEOUT_USEC (60 * USEC_PER_SEC)
#define PARK_TIMEOUT_USEC (60 * USEC_PER_SEC)

/* Each is a message and mostly a pipe, of which we have as many as of descriptors, for all agents together. */
#define RELAYS_MAX 256U

struct Relay {
        LIST_ENTRY(Relay) relays;
        Agent *agent;           /* NULL: gone */
        sd_bus_message *call;
        char *agent_id;
        int stream;             /* the caller's end, or -EBADF */
        bool repeatable;        /* a lost connection is no answer: try again with the next one */
};

static void relay_unlink(Relay *r) {
        if (!r->agent)
                return;
        LIST_REMOVE(r, relays);
        r->agent->n_relays--;
        r->agent = NULL;
}

void relays_forget_agent(Agent *a) {
        while (!LIST_EMPTY(&a->relays))
                relay_unlink(LIST_FIRST(&a->relays));
}

static void relay_free(Relay *r) {
        relay_unlink(r);
        sd_bus_message_unref(r->call);
        safe_close(r->stream);
        free(r->agent_id);
        free(r);
}

static int park_again(Relay *relay) {
        return relay->agent ? pending_new(relay->agent, PENDING_RELAY, relay->call, PARK_TIMEOUT_USEC, NULL, NULL)
                            : -ENOENT;
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        Relay *relay = userdata;
        int r = 0;

        if (e) {
                if (!session_connection_was_lost(e) || !relay->repeatable || park_again(relay) < 0)
                        r = session_connection_was_lost(e) ? bus_reply_errorf(relay->call, PUFFO_ERROR_NOT_READY,
                                                                      "The session of agent '%s' ended "
                                                                      "while it was asked; ask again.",
                                                                      relay->agent_id)
                                                   : sd_bus_reply_method_error(relay->call, e);
        } else if (relay->stream >= 0)
                r = sd_bus_reply_method_return(relay->call, "h", relay->stream);
        else {
                r = sd_bus_message_new_method_return(relay->call, &reply);
                if (r >= 0)
                        r = sd_bus_message_copy(reply, m, /* all= */ 1);
                if (r >= 0)
                        r = sd_bus_send(NULL, reply, NULL);
        }
        if (r < 0)
                (void) sd_bus_reply_method_errno(relay->call, r, NULL);

        relay_free(relay);
        return 0;
}

int agent_session_is_there(Agent *a, sd_bus_message *message, sd_bus_error *reterr_error) {
        int r;

        r = agent_check_stays(a, reterr_error);
        if (r < 0)
                return r;
        if (session_link_is_up(a->link))
                return 1;
        if (a->state == AGENT_STOPPED || a->state == AGENT_STOPPING || a->state == AGENT_FAILED ||
            a->state == AGENT_MISSING)
                return bus_error_setf(reterr_error, PUFFO_ERROR_NOT_READY,
                                      "Agent '%s' is %s%s%s; 'puffoctl agent start %s' starts it.", a->home->id,
                                      agent_state_to_string(a->state), *a->status_text ? ": " : "", a->status_text,
                                      a->home->id);
        r = pending_new(a, PENDING_RELAY, message, PARK_TIMEOUT_USEC, NULL, reterr_error);
        return MIN(r, 0);
}

int agent_relay(Agent *a, sd_bus_message *message, sd_bus_message *call, int stream, bool repeatable,
                sd_bus_error *reterr_error) {
        Relay *relay;
        int r;

        if (a->n_relays >= RELAYS_MAX)
                return bus_error_setf(reterr_error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                      "The session of agent '%s' has %u calls to answer already; try again later.",
                                      a->home->id, a->n_relays);
        relay = new0(Relay, 1);
        if (!relay)
                return -ENOMEM;
        *relay = (Relay) {
                .agent = a,
                .call = sd_bus_message_ref(message),
                .agent_id = strdup(a->home->id),
                .stream = stream >= 0 ? fcntl(stream, F_DUPFD_CLOEXEC, 3) : -EBADF,
                .repeatable = repeatable,
        };
        LIST_INSERT_HEAD(&a->relays, relay, relays);
        a->n_relays++;
        r = !relay->agent_id ? -ENOMEM : stream >= 0 && relay->stream < 0 ? -EMFILE :
            session_link_call(a->link, call, on_reply, relay, CALL_TIMEOUT_USEC);
        if (r < 0) {
                relay_free(relay);
                return r;
        }
        return 1;
}

static int relay(Agent *a, sd_bus_message *message, const char *member, bool with_stream, bool repeatable,
                 sd_bus_error *reterr_error) {
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        _cleanup_close_ int reader = -EBADF, writer = -EBADF;
        int fds[2], r;

        r = sd_bus_message_rewind(message, true);
        if (r >= 0 && with_stream) {
                if (pipe2(fds, O_CLOEXEC) < 0)
                        return -errno;
                reader = fds[0];
                writer = fds[1];
        }
        if (r >= 0)
                r = session_link_new_call(a->link, member, &call);
        if (r >= 0)
                r = sd_bus_message_copy(call, message, /* all= */ 1);
        /* The message has a duplicate: the session's end is closed when it closes that. */
        if (r >= 0 && with_stream)
                r = sd_bus_message_append(call, "h", writer);
        return r < 0 ? r : agent_relay(a, message, call, reader, repeatable, reterr_error);
}

/* validate: the first argument is a turn id. */
static int relay_checked(sd_bus_message *message, Agent *a, const char *member, bool first_is_turn_id,
                         bool may_be_empty, bool with_stream, bool repeatable, sd_bus_error *reterr_error) {
        const char *id;
        int r;

        if (first_is_turn_id) {
                r = sd_bus_message_read(message, "s", &id);
                if (r < 0)
                        return r;
                if (!turn_id_is_valid(id) && !(may_be_empty && isempty(id)))
                        return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                              "'%.100s' is no turn id: 1 to 80 of A–Z, a–z, 0–9, '_' and '-'.", id);
        }
        r = agent_verify(a, message, "ai.puffo.agents.chat", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = agent_session_is_there(a, message, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        return relay(a, message, member, with_stream, repeatable, reterr_error);
}

int agent_method_submit(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        return relay_checked(message, userdata, "Submit", true, false, true, true, reterr_error);
}

int agent_method_open_stream(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        return relay_checked(message, userdata, "OpenStream", true, false, true, true, reterr_error);
}

int agent_method_interrupt(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        return relay_checked(message, userdata, "Interrupt", true, true, false, true, reterr_error);
}

int agent_method_get_turn(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        return relay_checked(message, userdata, "GetTurn", true, false, false, true, reterr_error);
}

int agent_method_delete_turn(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        return relay_checked(message, userdata, "DeleteTurn", true, false, false, true, reterr_error);
}

int agent_method_list_messages(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        return relay_checked(message, userdata, "ListMessages", false, false, false, true, reterr_error);
}
