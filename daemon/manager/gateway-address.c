/* SPDX-License-Identifier: MIT */

/* Where the HTTP face can be reached: its socket unit says so. puffod itself has no network. */

#include "bus-util.h"
#include "manager.h"
#include "string-util.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define GATEWAY_SOCKET "puffo-gateway.socket"

static void set_addresses(Manager *m, char **addresses) {
        bool same = strv_length(addresses) == strv_length(m->addresses);

        for (size_t i = 0; same && addresses && addresses[i]; i++)
                same = streq(addresses[i], m->addresses[i]);
        strv_free(m->addresses);
        m->addresses = addresses;
        if (!same)
                (void) sd_bus_emit_properties_changed(m->bus, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, "Addresses",
                                                      NULL);
}

/* a(ss): kind and address of each listener. */
static int on_listen(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        const char *kind, *address;
        char **addresses = NULL;
        Manager *m = userdata;

        if (sd_bus_message_is_method_error(message, NULL) ||
            sd_bus_message_enter_container(message, 'v', "a(ss)") <= 0 ||
            sd_bus_message_enter_container(message, 'a', "(ss)") <= 0)
                return 0;
        while (sd_bus_message_read(message, "(ss)", &kind, &address) > 0) {
                _cleanup_free_ char *url = strjoin("http://", address);

                if (streq(kind, "Stream") && *address != '/' && (!url || strv_extend(&addresses, url) < 0))
                        break;
        }
        set_addresses(m, addresses);
        return 0;
}

static int on_listed(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *path = NULL;
        const char *active = "inactive";
        Manager *m = userdata;

        if (!sd_bus_message_is_method_error(message, NULL) &&
            sd_bus_message_enter_container(message, 'a', "(ssssssouso)") > 0)
                (void) sd_bus_message_read(message, "(ssssssouso)", NULL, NULL, NULL, &active, NULL, NULL, NULL, NULL,
                                           NULL, NULL);
        if (!streq(active, "active")) {
                set_addresses(m, NULL);
                return 0;
        }
        if (sd_bus_path_encode("/org/freedesktop/systemd1/unit", GATEWAY_SOCKET, &path) >= 0)
                (void) sd_bus_call_method_async(m->bus, NULL, SYSTEMD, path, "org.freedesktop.DBus.Properties", "Get",
                                                on_listen, m, "ss", "org.freedesktop.systemd1.Socket", "Listen");
        return 0;
}

static int ask(Manager *m) {
        return sd_bus_call_method_async(m->bus, NULL, SYSTEMD, "/org/freedesktop/systemd1",
                                        "org.freedesktop.systemd1.Manager", "ListUnitsByPatterns", on_listed, m,
                                        "asas", 0, 1, GATEWAY_SOCKET);
}

static int on_changed(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        (void) ask(userdata);
        return 0;
}

int gateway_address_watch(Manager *m) {
        _cleanup_free_ char *path = NULL;
        int r;

        r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", GATEWAY_SOCKET, &path);
        if (r >= 0)
                r = sd_bus_match_signal_async(m->bus, NULL, SYSTEMD, path, "org.freedesktop.DBus.Properties",
                                              "PropertiesChanged", on_changed, NULL, m);
        return r < 0 ? r : ask(m);
}
