/* SPDX-License-Identifier: MIT */

#include "ctl-bus.h"
#include "ctl-verbs.h"
#include "string-util.h"

int verb_pairing_show(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *pairing = NULL;
        _cleanup_free_ char *time = NULL;
        int r;

        r = ctl_get_properties(c, PUFFO_BUS_PAIRING_PATH, PUFFO_BUS_PAIRING_INTERFACE, /* start= */ true, &error,
                               &pairing);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot show the pairing");
        if (c->json)
                return ctl_print_json(c, pairing);
        if (!json_get_bool(pairing, "paired", false)) {
                puts("not paired");
                return EXIT_SUCCESS;
        }
        time = text_time((uint64_t) json_get_int(pairing, "paired_at", 0));
        if (!time)
                return ctl_oom(c);
        printf("%12s: ", "Operator");
        (void) text_write_safe(stdout, strempty(json_get_string(pairing, "slug")));
        printf("\n%12s: ", "Device");
        (void) text_write_safe(stdout, strempty(json_get_string(pairing, "device_id")));
        printf("\n%12s: %s\n", "Since", time);
        return EXIT_SUCCESS;
}

int verb_pairing_unpair(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = ctl_new_call(c, &m, &error, PUFFO_BUS_PAIRING_PATH, PUFFO_BUS_PAIRING_INTERFACE, "Unpair");
        if (r >= 0)
                r = ctl_send_call(c, m, CTL_CALL_TIMEOUT_USEC, &error, NULL);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot unpair");
        ctl_say(c, "unpaired");
        return c->json ? verb_pairing_show(c, a) : EXIT_SUCCESS;
}
