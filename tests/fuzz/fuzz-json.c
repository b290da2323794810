/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "fuzz.h"
#include "json-util.h"

/* What is accepted is written in a form that is accepted too, and written the same again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ json_object *o = NULL, *again = NULL;
        const char *text, *text_again;
        size_t n, n_again;

        if (json_parse((const char*) data, size, &o) < 0 || !o)
                return 0;
        text = json_text(o, &n);
        if (!text)
                return 0;
        if (json_parse(text, n, &again) < 0 || !again)
                abort();
        text_again = json_text(again, &n_again);
        if (!text_again || n_again != n || memcmp(text, text_again, n) != 0)
                abort();
        return 0;
}
