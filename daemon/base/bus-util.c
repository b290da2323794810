/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <sys/socket.h>

#include "bus-util.h"
#include "string-util.h"

#define ERROR_TEXT_MAX 2000U

static int error_setv(sd_bus_error *e, const char *name, const char *format, va_list ap) {
        _cleanup_free_ char *text = NULL, *shown = NULL;

        if (vasprintf(&text, format, ap) < 0) {
                text = NULL;
                return sd_bus_error_set_errno(e, -ENOMEM);
        }
        shown = str_printable(text, ERROR_TEXT_MAX);
        return shown ? sd_bus_error_set(e, name, shown) : sd_bus_error_set_errno(e, -ENOMEM);
}

int bus_error_setf(sd_bus_error *e, const char *name, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = error_setv(e, name, format, ap);
        va_end(ap);
        return r;
}

int bus_reply_errorf(sd_bus_message *call, const char *name, const char *format, ...) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        va_list ap;

        va_start(ap, format);
        (void) error_setv(&error, name, format, ap);
        va_end(ap);
        return sd_bus_reply_method_error(call, &error);
}

int bus_append_text(sd_bus_message *m, const char *s) {
        _cleanup_free_ char *clean = NULL;

        if (s && !utf8_is_interchangeable(s, strlen(s))) {
                clean = utf8_to_interchangeable(s);
                if (!clean)
                        return -ENOMEM;
        }
        return sd_bus_message_append_basic(m, 's', clean ?: strempty(s));
}

int bus_append_text_entry(sd_bus_message *m, const char *key, const char *s) {
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', key);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "s");
        if (r >= 0)
                r = bus_append_text(m, s);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int bus_append_strings(sd_bus_message *m, char entry, const char *key, char *const *values) {
        int r;

        r = sd_bus_message_open_container(m, entry, "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", key);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_append_strv(m, (char**) values);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* One message each time: others have their turn in between, and a handler may free the connection. */
static int on_early_call(sd_event_source *s, void *userdata) {
        sd_bus *bus = userdata;
        int r = sd_bus_process(bus, NULL);

        if (r > 0)
                return 0;
        if (r < 0) /* seen again, and made the end of the connection, by the bus's own source */
                (void) shutdown(sd_bus_get_fd(bus), SHUT_RDWR);
        return sd_event_source_set_enabled(s, SD_EVENT_OFF);
}

static int on_connected(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        return sd_event_source_set_enabled(userdata, SD_EVENT_ON);
}

int bus_heed_early_calls(sd_bus *bus, sd_event *event, sd_event_source **ret) {
        sd_event_source *s;
        int r;

        r = sd_event_add_defer(event, &s, on_early_call, bus);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(s, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_bus_set_connected_signal(bus, 1);
        if (r >= 0)
                r = sd_bus_match_signal_async(bus, NULL, NULL, "/org/freedesktop/DBus/Local",
                                              "org.freedesktop.DBus.Local", "Connected", on_connected, NULL, s);
        if (r < 0) {
                sd_event_source_disable_unref(s);
                return r;
        }
        *ret = s;
        return 0;
}
