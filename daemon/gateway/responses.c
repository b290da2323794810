/* SPDX-License-Identifier: MIT */

#include "bus-call.h"
#include "bus-util.h"
#include "gateway-handlers.h"
#include "guard.h"
#include "json-util.h"
#include "responses-object.h"

#define PAGE_DEFAULT 20
#define PAGE_MAX 100

static void response_reply_not_found(Call *c) {
        _cleanup_free_ char *shown = str_printable(c->match.argument, 100);
        _cleanup_api_error_ ApiError e = {};

        (void) api_error_set(&e, 404, NULL, NULL, "Response with id '%s' not found.", strempty(shown));
        call_reply_error(c, &e);
}

/* The agent that a response's id leads to, or NULL after an answer of 404 (401). */
static MirroredAgent* response_call_agent(Call *c) {
        const char *id = c->match.argument;
        _cleanup_api_error_ ApiError e = {};
        MirroredAgent *a;

        a = response_id_is_valid(id) ? agent_mirror_find_hash(c->gateway->agents, id + strlen(RESPONSE_ID_PREFIX))
                                     : NULL;
        if (!a) {
                response_reply_not_found(c);
                return NULL;
        }
        if (!call_may_use(c, a)) {
                (void) guard_set_stranger(&e);
                call_reply_error(c, &e);
                return NULL;
        }
        return a;
}

static int append_id(sd_bus_message *message, void *userdata) {
        Call *c = userdata;

        return bus_append_text(message, c->match.argument);
}

static void response_call(Call *c, const char *member, void (*done)(sd_bus_message*, const sd_bus_error*, void*)) {
        MirroredAgent *a = response_call_agent(c);
        int r;

        if (!a)
                return;
        c->bus_call = bus_call_free(c->bus_call);
        r = bus_call_start(&c->bus_call, c->gateway->event, c->gateway->bus, &(BusCallSpec) {
                .path = a->path,
                .interface = PUFFO_BUS_AGENT_INTERFACE,
                .member = member,
                .append = append_id,
                .done = done,
                .userdata = c,
        });
        if (r < 0)
                call_reply_errno(c, r);
}

static void reply_bus_error(Call *c, const sd_bus_error *error) {
        if (sd_bus_error_has_name(error, PUFFO_ERROR_NO_SUCH_TURN) ||
            sd_bus_error_has_name(error, PUFFO_ERROR_NO_SUCH_AGENT) ||
            sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_OBJECT))
                response_reply_not_found(c);
        else
                call_reply_bus_error(c, error);
}

/* False after an answer: the turn is none of a response, or an error. */
static bool read_record(Call *c, sd_bus_message *reply, const sd_bus_error *error, TurnRecord *ret) {
        int r;

        if (error) {
                reply_bus_error(c, error);
                return false;
        }
        r = turn_record_read(reply, ret);
        if (r < 0)
                call_reply_errno(c, r);
        else if (!ret->document)
                response_reply_not_found(c);
        return r >= 0 && ret->document;
}

static void reply_record(Call *c, const TurnRecord *record) {
        _cleanup_json_ json_object *response = NULL;
        int r = response_from_turn(record, &response);

        if (r < 0)
                call_reply_errno(c, r);
        else
                call_reply_json(c, 200, response);
}

/* --- GET --- */

static bool query_is_true(const char *value) {
        return value && (streq(value, "true") || streq(value, "1"));
}

static void get_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        _cleanup_(turn_record_done) TurnRecord record = {};
        _cleanup_api_error_ ApiError e = {};
        Call *c = userdata;
        const char *after = http_exchange_query(c->exchange, "starting_after");
        uint64_t number = 0;
        MirroredAgent *a;

        if (!read_record(c, reply, error, &record))
                return;
        if (!query_is_true(http_exchange_query(c->exchange, "stream"))) {
                reply_record(c, &record);
                return;
        }
        if (after && (parse_u64(after, &number) < 0 || number > INT32_MAX)) {
                (void) api_error_set(&e, 400, "invalid_value", "starting_after",
                                     "Invalid 'starting_after': expected the sequence number of an event.");
                call_reply_error(c, &e);
                return;
        }
        a = response_call_agent(c);
        if (a)
                response_stream_again(c, a, &record, after ? (int64_t) number : -1);
}

void responses_get(Call *c) {
        response_call(c, "GetTurn", get_done);
}

/* --- DELETE --- */

static void delete_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        _cleanup_json_ json_object *o = json_object_new_object();
        Call *c = userdata;

        if (error)
                reply_bus_error(c, error);
        else if (!o || json_put_string(o, "id", c->match.argument) < 0 ||
                 json_put_string(o, "object", "response") < 0 || json_put_bool(o, "deleted", true) < 0)
                call_reply_errno(c, -ENOMEM);
        else
                call_reply_json(c, 200, o);
}

void responses_delete(Call *c) {
        response_call(c, "DeleteTurn", delete_done);
}

/* --- cancel --- */

static void cancel_check_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        _cleanup_(turn_record_done) TurnRecord record = {};
        _cleanup_api_error_ ApiError e = {};
        Call *c = userdata;

        if (!read_record(c, reply, error, &record))
                return;
        if (turn_record_is_running(&record) ||
            json_get_bool(json_get(record.document, "response"), "background", false)) {
                reply_record(c, &record);
                return;
        }
        (void) api_error_set(&e, 400, "response_not_cancellable", NULL, "Cannot cancel a synchronous response.");
        call_reply_error(c, &e);
}

static void cancel_ended_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        _cleanup_(turn_record_done) TurnRecord record = {};
        Call *c = userdata;

        if (!read_record(c, reply, error, &record))
                return;
        /* It was told to end; whether it is through with that already is not the client's business. */
        if (turn_record_is_running(&record)) {
                free(record.status);
                record.status = strdup("cancelled");
                if (!record.status) {
                        call_reply_errno(c, -ENOMEM);
                        return;
                }
        }
        reply_record(c, &record);
}

static void interrupt_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        Call *c = userdata;
        int ended = 0, r;

        if (error) {
                reply_bus_error(c, error);
                return;
        }
        r = sd_bus_message_read(reply, "b", &ended);
        if (r < 0)
                call_reply_errno(c, r);
        else
                response_call(c, "GetTurn", ended ? cancel_ended_done : cancel_check_done);
}

void responses_cancel(Call *c) {
        response_call(c, "Interrupt", interrupt_done);
}

/* --- input items --- */

static int page_parse(Call *c, unsigned *ret_limit, bool *ret_ascending, ApiError *e) {
        const char *limit = http_exchange_query(c->exchange, "limit"),
                   *order = http_exchange_query(c->exchange, "order");
        uint32_t n = PAGE_DEFAULT;

        if (limit && (parse_u32(limit, &n) < 0 || n < 1 || n > PAGE_MAX))
                return api_error_set(e, 400, "invalid_value", "limit", "Invalid 'limit': expected 1 to %d.", PAGE_MAX);
        if (order && !streq(order, "asc") && !streq(order, "desc"))
                return api_error_set(e, 400, "invalid_value", "order", "Invalid 'order': expected 'asc' or 'desc'.");
        *ret_limit = n;
        *ret_ascending = order && streq(order, "asc");
        return 0;
}

static void input_items_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        _cleanup_(turn_record_done) TurnRecord record = {};
        _cleanup_json_ json_object *page = NULL;
        _cleanup_api_error_ ApiError e = {};
        Call *c = userdata;
        bool ascending = false;
        unsigned limit = 0;

        if (!read_record(c, reply, error, &record))
                return;
        if (page_parse(c, &limit, &ascending, &e) < 0)
                call_reply_error(c, &e);
        else if (input_items_page(json_get(record.document, "input"), limit, ascending,
                                  http_exchange_query(c->exchange, "after"), &page) < 0)
                call_reply_errno(c, -ENOMEM);
        else
                call_reply_json(c, 200, page);
}

void responses_input_items(Call *c) {
        response_call(c, "GetTurn", input_items_done);
}
