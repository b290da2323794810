/* SPDX-License-Identifier: MIT */

#include "bus-call.h"
#include "bus-util.h"
#include "event-util.h"
#include "string-util.h"

#define RETRY_WINDOW_USEC (5 * USEC_PER_SEC)
#define RETRY_USEC (250 * USEC_PER_MSEC)

struct BusCall {
        sd_event *event;                /* borrowed, as the bus */
        sd_bus *bus;
        BusCallSpec spec;
        char *path;
        sd_bus_slot *slot;
        sd_event_source *retry;
        uint64_t deadline_usec;
};

bool bus_error_is_transient(const sd_bus_error *error) {
        static const char *const names[] = {
                SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER, SD_BUS_ERROR_NO_REPLY,
                SD_BUS_ERROR_DISCONNECTED, SD_BUS_ERROR_NO_SERVER, SD_BUS_ERROR_TIMEOUT,
                "org.freedesktop.DBus.Error.TimedOut",          /* the bus's word for a start that takes too long */
        };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (sd_bus_error_has_name(error, names[i]))
                        return true;
        /* What the bus says when a start that it asked for went wrong, by itself or by systemd. */
        return error->name && (startswith(error->name, "org.freedesktop.DBus.Error.Spawn.") ||
                               startswith(error->name, "org.freedesktop.systemd1."));
}

static int bus_call_send(BusCall *c);

static int bus_call_on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        BusCall *c = userdata;
        int r = bus_call_send(c);

        if (r < 0) {
                _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

                (void) sd_bus_error_set_errno(&error, r);
                c->spec.done(NULL, &error, c->spec.userdata);
        }
        return 0;
}

static int bus_call_on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        BusCall *c = userdata;

        c->slot = sd_bus_slot_unref(c->slot);
        if (error && bus_error_is_transient(error) && now_boottime_usec() < c->deadline_usec &&
            event_arm_timer(c->event, &c->retry, RETRY_USEC, 1, bus_call_on_retry, c) >= 0)
                return 0;

        c->spec.done(error ? NULL : reply, error, c->spec.userdata);
        return 0;
}

static int bus_call_send(BusCall *c) {
        _cleanup_bus_message_ sd_bus_message *message = NULL;
        int r;

        r = sd_bus_message_new_method_call(c->bus, &message, PUFFO_BUS_NAME, c->path, c->spec.interface,
                                           c->spec.member);
        if (r < 0)
                return r;
        if (c->spec.append) {
                r = c->spec.append(message, c->spec.userdata);
                if (r < 0)
                        return r;
        }
        return sd_bus_call_async(c->bus, &c->slot, message, bus_call_on_reply, c, c->spec.timeout_usec);
}

int bus_call_start(BusCall **ret, sd_event *event, sd_bus *bus, const BusCallSpec *spec) {
        _cleanup_(bus_call_freep) BusCall *c = new0(BusCall, 1);
        int r;

        if (!c)
                return -ENOMEM;
        c->event = event;
        c->bus = bus;
        c->spec = *spec;
        c->path = strdup(spec->path);
        if (!c->path)
                return -ENOMEM;
        c->deadline_usec = now_boottime_usec() + (spec->retry_usec ?: RETRY_WINDOW_USEC);
        r = bus_call_send(c);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

BusCall* bus_call_free(BusCall *c) {
        if (!c)
                return NULL;
        sd_bus_slot_unref(c->slot);
        sd_event_source_disable_unref(c->retry);
        free(c->path);
        return mfree(c);
}
