/* SPDX-License-Identifier: MIT */

#include <sodium.h>
#include <strings.h>

#include "api-key.h"

static const char blanks[] = " \t\r\n";

void api_keys_done(ApiKeys *k) {
        if (k->hashes)
                sodium_memzero(k->hashes, k->n * sizeof(*k->hashes));
        free(k->hashes);
        *k = (ApiKeys) {};
}

int api_keys_add(ApiKeys *k, const char *list) {
        for (const char *p = list; *p; ) {
                unsigned char (*grown)[32];
                size_t n;

                p += strspn(p, " \t\r\n,");
                n = strcspn(p, ",");
                for (const char *end = p + n; n > 0 && strchr(blanks, end[-1]); end--)
                        n--;
                if (n > 0) {
                        grown = reallocarray(k->hashes, k->n + 1, sizeof(*grown));
                        if (!grown)
                                return -ENOMEM;
                        k->hashes = grown;
                        (void) crypto_hash_sha256(k->hashes[k->n++], (const unsigned char*) p, n);
                }
                p += strcspn(p, ",");
        }
        return 0;
}

ApiKeyVerdict api_keys_check(const ApiKeys *k, const char *authorization) {
        unsigned char hash[32];
        bool found = false;
        size_t n;

        if (!authorization || strncasecmp(authorization, "Bearer", 6) != 0 || !strchr(" \t", authorization[6]) ||
            !authorization[6])
                return API_KEY_MISSING;
        authorization += 6;
        authorization += strspn(authorization, blanks);
        n = strlen(authorization);
        while (n > 0 && strchr(blanks, authorization[n - 1]))
                n--;
        if (n == 0)
                return API_KEY_MISSING;

        (void) crypto_hash_sha256(hash, (const unsigned char*) authorization, n);
        for (size_t i = 0; i < k->n; i++)       /* all of them, so that time does not tell which */
                found |= sodium_memcmp(hash, k->hashes[i], sizeof(hash)) == 0;
        sodium_memzero(hash, sizeof(hash));
        return found ? API_KEY_OK : API_KEY_WRONG;
}
