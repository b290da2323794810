/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "fuzz.h"
#include "yaml-util.h"

/* What is accepted is written in a form that is accepted too, and written the same again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(yaml_document_freep) YamlDocument *d = NULL, *again = NULL;
        _cleanup_free_ char *error = NULL, *text = NULL, *text_again = NULL;
        size_t n, n_again;
        int r;

        r = yaml_document_parse(&d, (const char*) data, size, &error);
        if (r < 0) {
                if (r == -EBADMSG && !error)
                        abort();
                return 0;
        }
        if (yaml_document_dump(d, &text, &n) < 0)
                return 0;
        /* Escapes make a text longer: what was just small enough may be too large when it is written. */
        if (n > 512U * 1024U)
                return 0;
        if (yaml_document_parse(&again, text, n, &error) < 0 || yaml_document_dump(again, &text_again, &n_again) < 0 ||
            n_again != n || memcmp(text, text_again, n) != 0)
                abort();
        return 0;
}
