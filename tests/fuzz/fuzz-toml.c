/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "fuzz.h"
#include "toml.h"

/* What is accepted is a table, what is refused has a reason. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *fault = NULL;
        int r;

        r = toml_parse((const char*) data, size, &o, &fault);
        if (r < 0 ? r == -EBADMSG && !fault : !json_object_is_type(o, json_type_object))
                abort();
        return 0;
}
