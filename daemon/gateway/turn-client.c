/* SPDX-License-Identifier: MIT */

#include <fcntl.h>

#include "bus-call.h"
#include "bus-util.h"
#include "event-util.h"
#include "turn-client.h"
#include "turn-stream.h"

/* puffod parks a call up to 60 s while the agent starts. */
#define CALL_TIMEOUT_USEC (70 * USEC_PER_SEC)
#define LOST_USEC (60 * USEC_PER_SEC)
#define REOPEN_USEC (250 * USEC_PER_MSEC)

struct TurnClient {
        sd_event *event;                /* borrowed, as the bus */
        sd_bus *bus;
        TurnClientSpec spec;
        char *path, *id;
        BusCall *call;
        TurnStream *stream;
        sd_event_source *reopen;
        uint64_t lost_usec;             /* boottime of the stream's loss; 0: it is well */
        bool open, paused;
};

static void client_call_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata);
static void client_record_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata);

static void client_fail(TurnClient *c, const char *message) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        (void) sd_bus_error_set(&error, PUFFO_ERROR_FAILED, message);
        c->spec.on_failed(&error, c->spec.userdata);
}

static int client_append(sd_bus_message *message, void *userdata) {
        TurnClient *c = userdata;
        int r;

        r = sd_bus_message_append(message, "s", c->id);
        if (r < 0 || !c->spec.append)
                return r;
        return c->spec.append(message, c->spec.userdata);
}

static int client_append_id(sd_bus_message *message, void *userdata) {
        TurnClient *c = userdata;

        return sd_bus_message_append(message, "s", c->id);
}

static int client_call(TurnClient *c) {
        BusCallSpec spec = {
                .path = c->path,
                .interface = PUFFO_BUS_AGENT_INTERFACE,
                .member = c->spec.append ? "Submit" : "OpenStream",
                .append = client_append,
                .done = client_call_done,
                .userdata = c,
                .timeout_usec = CALL_TIMEOUT_USEC,
        };

        if (c->lost_usec > 0)
                spec.retry_usec = LOST_USEC;
        return bus_call_start(&c->call, c->event, c->bus, &spec);
}

static int client_get_record(TurnClient *c) {
        return bus_call_start(&c->call, c->event, c->bus, &(BusCallSpec) {
                .path = c->path,
                .interface = PUFFO_BUS_AGENT_INTERFACE,
                .member = "GetTurn",
                .append = client_append_id,
                .done = client_record_done,
                .userdata = c,
        });
}

static void client_record_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        _cleanup_(turn_record_done) TurnRecord record = {};
        TurnClient *c = userdata;

        c->call = bus_call_free(c->call);
        if (error)
                c->spec.on_failed(error, c->spec.userdata);
        else if (turn_record_read(reply, &record) < 0 || turn_record_is_running(&record))
                client_fail(c, "The event stream of the turn is gone.");
        else
                c->spec.on_record(&record, c->spec.userdata);
}

static int client_on_reopen(sd_event_source *s, uint64_t usec, void *userdata) {
        TurnClient *c = userdata;

        if (client_call(c) < 0)
                client_fail(c, "Out of memory.");
        return 0;
}

static void client_reopen_later(TurnClient *c) {
        if (c->lost_usec == 0)
                c->lost_usec = now_boottime_usec();
        if (now_boottime_usec() - c->lost_usec > LOST_USEC)
                client_fail(c, "The agent's session did not come back.");
        else if (event_arm_timer(c->event, &c->reopen, REOPEN_USEC, 1, client_on_reopen, c) < 0)
                client_fail(c, "Out of memory.");
}

static int client_on_event(json_object *event, void *userdata) {
        TurnClient *c = userdata;

        c->lost_usec = 0;
        return c->spec.on_event(event, c->spec.userdata);
}

static void client_on_end(int error, void *userdata) {
        TurnClient *c = userdata;

        c->stream = turn_stream_free(c->stream);
        client_reopen_later(c);
}

static int client_open_stream(TurnClient *c, sd_bus_message *reply) {
        int fd, r;

        r = sd_bus_message_read(reply, "h", &fd);
        if (r < 0)
                return r;
        /* The message owns its descriptors. */
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return -errno;
        r = turn_stream_new(&c->stream, c->event, fd, &(TurnStreamSpec) {
                .on_event = client_on_event,
                .on_end = client_on_end,
                .userdata = c,
        });
        if (r < 0)
                return r;
        return c->paused ? turn_stream_set_paused(c->stream, true) : 0;
}

static void client_call_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        TurnClient *c = userdata;

        c->call = bus_call_free(c->call);
        if (error && c->open) {
                if (sd_bus_error_has_name(error, PUFFO_ERROR_STREAM_GONE)) {
                        if (client_get_record(c) < 0)
                                client_fail(c, "Out of memory.");
                } else if (bus_error_is_transient(error) || sd_bus_error_has_name(error, PUFFO_ERROR_NOT_READY))
                        client_reopen_later(c);
                else
                        c->spec.on_failed(error, c->spec.userdata);
                return;
        }
        if (error) {
                c->spec.on_failed(error, c->spec.userdata);
                return;
        }
        if (client_open_stream(c, reply) < 0) {
                client_fail(c, "The event stream of the turn could not be opened.");
                return;
        }
        if (c->open)
                c->spec.on_reopened(c->spec.userdata);
        else {
                c->open = true;
                c->spec.on_open(c->spec.userdata);
        }
}

int turn_client_new(TurnClient **ret, sd_event *event, sd_bus *bus, const TurnClientSpec *spec) {
        _cleanup_(turn_client_freep) TurnClient *c = new0(TurnClient, 1);
        int r;

        if (!c)
                return -ENOMEM;
        c->event = event;
        c->bus = bus;
        c->spec = *spec;
        c->path = strdup(spec->agent_path);
        c->id = strdup(spec->id);
        if (!c->path || !c->id)
                return -ENOMEM;
        r = client_call(c);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

TurnClient* turn_client_free(TurnClient *c) {
        if (!c)
                return NULL;
        bus_call_free(c->call);
        turn_stream_free(c->stream);
        sd_event_source_disable_unref(c->reopen);
        free(c->path);
        free(c->id);
        return mfree(c);
}

void turn_client_set_paused(TurnClient *c, bool paused) {
        c->paused = paused;
        if (c->stream)
                (void) turn_stream_set_paused(c->stream, paused);
}

bool turn_client_is_open(TurnClient *c) {
        return c->open;
}
