/* SPDX-License-Identifier: MIT */

#include "file-util.h"
#include "json-util.h"
#include "pairing.h"
#include "string-util.h"

#define PAIRING_SIZE_MAX MIB(1)

void pairing_done(Pairing *p) {
        free(p->slug);
        free(p->device_id);
        *p = (Pairing) {};
}

static int not_paired(char **ret_problem, const char *path, const char *why) {
        *ret_problem = strjoin(path, ": ", why, ", so nobody is paired");
        return *ret_problem ? 0 : -ENOMEM;
}

static int pairing_from_json(json_object *o, const char *path, Pairing *ret, char **ret_problem) {
        static const char *const keys[] = {
                "slug", "device_id", "root_public_key", "device_signing_public_key", "identity_cert", "device_cert",
                "paired_at",
        };
        _cleanup_(pairing_done) Pairing p = {};
        const char *slug, *device_id;
        json_object *paired_at;
        int64_t at;

        if (!json_object_is_type(o, json_type_object))
                return not_paired(ret_problem, path, "no JSON object");
        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (!json_object_object_get_ex(o, keys[i], NULL)) {
                        _cleanup_free_ char *why = strjoin("'", keys[i], "' is missing");

                        return why ? not_paired(ret_problem, path, why) : -ENOMEM;
                }

        slug = json_get_string(o, "slug");
        device_id = json_get_string(o, "device_id");
        if (isempty(slug) || isempty(device_id))
                return not_paired(ret_problem, path, "'slug' or 'device_id' is no text");
        paired_at = json_get(o, "paired_at");
        at = json_get_int(o, "paired_at", -1);
        if (!json_object_is_type(paired_at, json_type_int) || at < 0 || at > INT64_MAX / (int64_t) USEC_PER_MSEC)
                return not_paired(ret_problem, path, "'paired_at' is no number of milliseconds");

        p.slug = strdup(slug);
        p.device_id = strdup(device_id);
        if (!p.slug || !p.device_id)
                return -ENOMEM;
        p.paired_at_usec = (uint64_t) at * USEC_PER_MSEC;

        *ret = p;
        p = (Pairing) {};
        return 1;
}

int pairing_load(const char *path, Pairing *ret, char **ret_problem) {
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_object *o = NULL;
        size_t size;
        int r;

        *ret_problem = NULL;
        r = file_read(path, PAIRING_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return not_paired(ret_problem, path, strerror(-r));

        r = json_parse(text, size, &o);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return not_paired(ret_problem, path, "no JSON");
        return pairing_from_json(o, path, ret, ret_problem);
}

int pairing_release(const char *path) {
        if (unlink(path) < 0)
                return errno == ENOENT ? 0 : -errno;
        return 1;
}
