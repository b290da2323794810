/* SPDX-License-Identifier: MIT */

/* What the service manager says of a harness's unit. */

#include "bus-util.h"
#include "event-util.h"
#include "harness-unit.h"
#include "log.h"
#include "string-util.h"
#include "unit-property.h"

#define RETRY_USEC (10 * USEC_PER_SEC)

/* Of an a{sv} the entries that are in members; 0. */
static int read_properties(sd_bus_message *m, int (*take)(HarnessUnit *h, const char *name, sd_bus_message *m),
                           HarnessUnit *h) {
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *name;

                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = take(h, name, m);
                if (r == 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return MIN(r, 0);
}

/* > 0: it was one of ours. */
static int take_unit_property(HarnessUnit *h, const char *name, sd_bus_message *m) {
        const char *text;
        const void *id;
        size_t size;
        int r;

        if (streq(name, "ActiveState") || streq(name, "FreezerState")) {
                r = sd_bus_message_read(m, "v", "s", &text);
                if (r < 0)
                        return r;
                if (*name == 'A')
                        r = free_and_strdup(&h->active, text);
                else
                        h->frozen = streq(text, "frozen") || streq(text, "freezing");
                return r < 0 ? r : 1;
        }
        if (!streq(name, "InvocationID"))
                return 0;
        r = sd_bus_message_enter_container(m, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_read_array(m, 'y', &id, &size);
        if (r >= 0) {
                h->invocation = SD_ID128_NULL;
                if (size == sizeof(h->invocation))
                        memcpy(&h->invocation, id, size);
                r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : 1;
}

static int take_service_property(HarnessUnit *h, const char *name, sd_bus_message *m) {
        const char *text;
        int r;

        if (streq(name, "Result")) {
                r = sd_bus_message_read(m, "v", "s", &text);
                if (r >= 0)
                        r = free_and_strdup(&h->result, text);
        } else if (streq(name, "ExecMainCode"))
                r = sd_bus_message_read(m, "v", "i", &h->code);
        else if (streq(name, "ExecMainStatus"))
                r = sd_bus_message_read(m, "v", "i", &h->status);
        else if (streq(name, "MemoryMax"))
                r = sd_bus_message_read(m, "v", "t", &h->memory_max);
        else
                return 0;
        return r < 0 ? r : 1;
}

static int on_properties(HarnessUnit *h, sd_bus_message *m,
                         int (*take)(HarnessUnit *h, const char *name, sd_bus_message *m)) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        int r = e ? -EIO : read_properties(m, take, h);

        if (r < 0) {
                (void) log_agent(h->agent, LOG_WARNING, r,
                                 "The state of unit '%s' is not told, asking again later: %s", h->name,
                                 e ? e->message ?: e->name : strerror(-r));
                h->unread = true;
        }
        return r;
}

static int on_unit_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        (void) on_properties(userdata, m, take_unit_property);
        return 0;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        HarnessUnit *h = userdata;

        h->retry = sd_event_source_disable_unref(h->retry);
        harness_unit_refresh(h);
        manager_queue_settle(h->agent->manager);
        return 0;
}

static void retry_later(HarnessUnit *h) {
        int r = event_arm_timer(h->agent->manager->event, &h->retry, RETRY_USEC, 0, on_retry, h);

        if (r < 0)
                (void) log_agent(h->agent, LOG_ERR, r, "Failed to arm a timer: %m");
}

/* The last of the answers: they come in the order of the questions. */
static int on_service_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        HarnessUnit *h = userdata;

        (void) on_properties(h, m, take_service_property);
        if (h->unread) {
                /* Nothing is decided on half of it, or on what was known before. */
                h->refreshing = false;
                retry_later(h);
        } else
                harness_unit_on_seen(h);
        return 0;
}

static int on_referenced(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        HarnessUnit *h = userdata;

        h->referenced = !sd_bus_message_is_method_error(m, NULL);
        h->referencing = false;
        return 0;
}

static int ask_properties(HarnessUnit *h) {
        static const struct {
                const char *interface;
                sd_bus_message_handler_t handler;
        } questions[] = {
                { SYSTEMD_UNIT, on_unit_properties },
                { SYSTEMD_SERVICE, on_service_properties },
        };
        int r = 0;

        h->unread = false;
        /* Ours before it is looked at: one that ends between the two answers is still there for the second. */
        if (!h->referenced && !h->referencing && !h->job) {
                h->refresh_slots[3] = sd_bus_slot_unref(h->refresh_slots[3]);
                r = sd_bus_call_method_async(h->agent->manager->bus, &h->refresh_slots[3], SYSTEMD, SYSTEMD_PATH,
                                             SYSTEMD_MANAGER, "RefUnit", on_referenced, h, "s", h->name);
                h->referencing = r >= 0;
        }
        for (size_t i = 0; i < ELEMENTSOF(questions) && r >= 0; i++) {
                h->refresh_slots[i + 1] = sd_bus_slot_unref(h->refresh_slots[i + 1]);
                r = sd_bus_call_method_async(h->agent->manager->bus, &h->refresh_slots[i + 1], SYSTEMD, h->path,
                                             "org.freedesktop.DBus.Properties", "GetAll", questions[i].handler, h, "s",
                                             questions[i].interface);
        }
        return r;
}

static int on_listed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        HarnessUnit *h = userdata;
        int r = 0;

        if (e) {
                (void) log_agent(h->agent, LOG_WARNING, 0,
                                 "The state of unit '%s' is not told, asking again later: %s", h->name,
                                 e->message ?: e->name);
                h->refreshing = false;
                retry_later(h);
                return 0;
        }
        if (sd_bus_message_enter_container(m, 'a', "(ssssssouso)") > 0 && sd_bus_message_at_end(m, false) == 0)
                r = ask_properties(h);
        else {
                h->active = mfree(h->active);
                h->referenced = h->referencing = false;
                harness_unit_on_seen(h);
        }
        if (r < 0) {
                (void) log_agent(h->agent, LOG_ERR, r, "Failed to ask for the state of unit '%s': %m", h->name);
                h->refreshing = false;
                retry_later(h);
        }
        return 0;
}

/* By pattern, as sessions are looked at: asking for what is not loaded would load it. */
void harness_unit_refresh(HarnessUnit *h) {
        int r;

        if (h->refreshing) {
                h->refresh_again = true;
                return;
        }
        h->refresh_again = false;
        h->refresh_slots[0] = sd_bus_slot_unref(h->refresh_slots[0]);
        r = sd_bus_call_method_async(h->agent->manager->bus, &h->refresh_slots[0], SYSTEMD, SYSTEMD_PATH,
                                     SYSTEMD_MANAGER, "ListUnitsByPatterns", on_listed, h, "asas", 0, 1, h->name);
        h->refreshing = r >= 0;
        if (r < 0) {
                (void) log_agent(h->agent, LOG_ERR, r, "Failed to ask for the state of unit '%s': %m", h->name);
                retry_later(h);
        }
}
