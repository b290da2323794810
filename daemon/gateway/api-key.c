/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <strings.h>

#include "api-key.h"
#include "string-util.h"

#define MAC_TEXT_SIZE sodium_base64_ENCODED_LEN(crypto_auth_hmacsha256_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING)
#define COOKIES_MAX 16U

static const char blanks[] = " \t\r\n";

void api_keys_done(ApiKeys *k) {
        if (k->hashes)
                sodium_memzero(k->hashes, k->n * sizeof(*k->hashes));
        if (k->cookies)
                sodium_memzero(k->cookies, k->n * sizeof(*k->cookies));
        free(k->hashes);
        free(k->cookies);
        *k = (ApiKeys) {};
}

/* As realloc(), leaving no copy behind. */
static void* secret_grow(void *old, size_t n, size_t size) {
        void *p = calloc(n + 1, size);

        if (p && old) {
                memcpy(p, old, n * size);
                sodium_memzero(old, n * size);
                free(old);
        }
        return p;
}

static int keys_add(ApiKeys *k, const char *key, size_t n) {
        static const unsigned char label[] = "agent-proxy cookie";      /* its NUL goes in, too */
        crypto_auth_hmacsha256_state *cookies;
        unsigned char (*hashes)[32];

        hashes = secret_grow(k->hashes, k->n, sizeof(*hashes));
        if (!hashes)
                return -ENOMEM;
        k->hashes = hashes;
        cookies = secret_grow(k->cookies, k->n, sizeof(*cookies));
        if (!cookies)
                return -ENOMEM;
        k->cookies = cookies;
        (void) crypto_hash_sha256(hashes[k->n], (const unsigned char*) key, n);
        (void) crypto_auth_hmacsha256_init(cookies + k->n, (const unsigned char*) key, n);
        (void) crypto_auth_hmacsha256_update(cookies + k->n, label, sizeof(label));
        k->n++;
        return 0;
}

int api_keys_add(ApiKeys *k, const char *list) {
        for (const char *p = list; *p; ) {
                size_t n;
                int r;

                p += strspn(p, " \t\r\n,");
                n = strcspn(p, ",");
                for (const char *end = p + n; n > 0 && strchr(blanks, end[-1]); end--)
                        n--;
                if (n > 0) {
                        r = keys_add(k, p, n);
                        if (r < 0)
                                return r;
                }
                p += strcspn(p, ",");
        }
        return 0;
}

/* Which of the keys this is, or SIZE_MAX. Blanks around it do not count; the time it takes tells nothing. */
static size_t keys_find(const ApiKeys *k, const char *key) {
        size_t n, found = SIZE_MAX;
        unsigned char hash[32];

        key += strspn(key, blanks);
        n = strlen(key);
        while (n > 0 && strchr(blanks, key[n - 1]))
                n--;
        (void) crypto_hash_sha256(hash, (const unsigned char*) key, n);
        for (size_t i = 0; i < k->n; i++)
                if (sodium_memcmp(hash, k->hashes[i], sizeof(hash)) == 0)
                        found = i;
        sodium_memzero(hash, sizeof(hash));
        return found;
}

ApiKeyVerdict api_keys_check(const ApiKeys *k, const char *authorization) {
        if (!authorization || strncasecmp(authorization, "Bearer", 6) != 0 || !strchr(" \t", authorization[6]) ||
            !authorization[6] || !authorization[6 + strspn(authorization + 6, blanks)])
                return API_KEY_MISSING;
        return keys_find(k, authorization + 6) != SIZE_MAX ? API_KEY_OK : API_KEY_WRONG;
}

static void cookie_mac(const ApiKeys *k, size_t i, const char *expiry, size_t n, char ret[static MAC_TEXT_SIZE]) {
        crypto_auth_hmacsha256_state state = k->cookies[i];
        unsigned char mac[crypto_auth_hmacsha256_BYTES];

        (void) crypto_auth_hmacsha256_update(&state, (const unsigned char*) expiry, n);
        (void) crypto_auth_hmacsha256_final(&state, mac);
        (void) sodium_bin2base64(ret, MAC_TEXT_SIZE, mac, sizeof(mac), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        sodium_memzero(&state, sizeof(state));
}

int api_keys_make_cookie(const ApiKeys *k, const char *key, uint64_t expiry, char **ret) {
        char mac[MAC_TEXT_SIZE], text[24];
        size_t i = keys_find(k, key);

        if (i == SIZE_MAX)
                return -EKEYREJECTED;
        (void) snprintf(text, sizeof(text), "%" PRIu64, expiry);
        cookie_mac(k, i, text, strlen(text), mac);
        *ret = strjoin(text, ".", mac);
        return *ret ? 0 : -ENOMEM;
}

static bool cookie_holds(const ApiKeys *k, const char *value, size_t n, uint64_t now_seconds) {
        const char *dot = memchr(value, '.', n);
        char mac[MAC_TEXT_SIZE], text[24];
        uint64_t expiry;
        bool ok = false;
        size_t digits;

        digits = dot ? (size_t) (dot - value) : 0;
        if (digits == 0 || digits >= sizeof(text) || n - digits - 1 != MAC_TEXT_SIZE - 1)
                return false;
        memcpy(text, value, digits);
        text[digits] = 0;
        for (size_t i = 0; i < k->n; i++) {
                cookie_mac(k, i, text, digits, mac);
                ok |= sodium_memcmp(mac, dot + 1, MAC_TEXT_SIZE - 1) == 0;
        }
        return ok && parse_u64(text, &expiry) >= 0 && expiry > now_seconds;
}

bool api_keys_check_cookie(const ApiKeys *k, const char *header, uint64_t now_seconds) {
        unsigned seen = 0;

        /* Other servers of this host can add cookies of the same name (they do not know ports): ours is among them. */
        for (const char *p = strempty(header); *p && seen < COOKIES_MAX; ) {
                const char *value = NULL;
                size_t n;

                p += strspn(p, " \t;");
                value = startswith(p, PAGE_COOKIE "=");
                n = strcspn(p, ";");
                if (value) {
                        size_t length = n - strlen(PAGE_COOKIE "=");

                        while (length > 0 && strchr(blanks, value[length - 1]))
                                length--;
                        if (cookie_holds(k, value, length, now_seconds))
                                return true;
                        seen++;
                }
                p += n;
        }
        return false;
}

const char* page_cookie_find(const char *header) {
        for (const char *p = strempty(header); *p; p += strcspn(p, ";")) {
                p += strspn(p, " \t;");
                if (startswith(p, PAGE_COOKIE "="))
                        return p;
        }
        return NULL;
}
