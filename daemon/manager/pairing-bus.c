/* SPDX-License-Identifier: MIT */

#include "bus-util.h"
#include "helpers.h"
#include "log.h"
#include "pairing.h"
#include "string-util.h"

int manager_reload_pairing(Manager *m) {
        _cleanup_free_ char *problem = NULL;
        Pairing p = {};
        int r;

        r = pairing_load(m->paths->pairing_json, &p, &problem);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        /* Once: the file is looked at with every other file that changes. */
        if (problem && !streq_ptr(problem, m->pairing_problem))
                log_warning("Not paired: %s", problem);
        free(m->pairing_problem);
        m->pairing_problem = TAKE_PTR(problem);

        if (m->paired != (r > 0) || !streq_ptr(m->pairing_slug, p.slug) ||
            !streq_ptr(m->pairing_device, p.device_id)) {
                m->paired = r > 0;
                m->paired_at = r > 0 ? p.paired_at_usec : 0;
                free(m->pairing_slug);
                free(m->pairing_device);
                m->pairing_slug = TAKE_PTR(p.slug);
                m->pairing_device = TAKE_PTR(p.device_id);
                if (m->bus && sd_bus_is_ready(m->bus) > 0) {
                        (void) sd_bus_emit_properties_changed(m->bus, PUFFO_BUS_PAIRING_PATH,
                                                              PUFFO_BUS_PAIRING_INTERFACE, "Paired", "Slug",
                                                              "DeviceId", "PairedAt", NULL);
                        (void) sd_bus_emit_signal(m->bus, PUFFO_BUS_PAIRING_PATH, PUFFO_BUS_PAIRING_INTERFACE,
                                                  "Changed", "b", m->paired);
                }
        }
        pairing_done(&p);
        return 0;
}

static int method_unpair(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Manager *m = userdata;
        int r;

        r = polkit_verify_async(m, message, "ai.puffo.pair", NULL, (uid_t) -1, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;

        r = pairing_release(m->paths->pairing_json);
        if (r == 0)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_NOT_PAIRED, "There is no pairing to release.");
        if (r < 0)
                return manager_error(reterr_error, r, "remove", m->paths->pairing_json);

        log_notice("The pairing with '%s' was released.", strempty(m->pairing_slug));
        (void) manager_reload_pairing(m);
        return sd_bus_reply_method_return(message, NULL);
}

static int get_paired(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        return sd_bus_message_append(reply, "b", ((Manager*) userdata)->paired);
}

bool pairing_property_is_private(const char *name) {
        return streq(name, "Slug") || streq(name, "DeviceId");
}

/* Of the machine's agents in system mode: the administrator's business. */
static int get_private(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        const Manager *m = userdata;
        int r;

        if (!reader_sees(m, 0)) {
                r = reader_refuse(m, property, reterr_error);
                return r < 0 ? r : sd_bus_message_append(reply, "s", "");
        }
        return bus_append_text(reply, streq(property, "Slug") ? m->pairing_slug : m->pairing_device);
}

static const sd_bus_vtable pairing_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Unpair", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_unpair, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("Changed", SD_BUS_ARGS("b", paired), 0),
        SD_BUS_PROPERTY("Paired", "b", get_paired, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Slug", "s", get_private, 0, SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
        SD_BUS_PROPERTY("DeviceId", "s", get_private, 0, SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
        SD_BUS_PROPERTY("PairedAt", "t", NULL, offsetof(Manager, paired_at), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

int pairing_export(Manager *m) {
        return sd_bus_add_object_vtable(m->bus, NULL, PUFFO_BUS_PAIRING_PATH, PUFFO_BUS_PAIRING_INTERFACE,
                                        pairing_vtable, m);
}
