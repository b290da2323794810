/* SPDX-License-Identifier: MIT */

/* See lazy-library.h. */

#include <openssl/evp.h>
#include <openssl/params.h>

#include "lazy-library.h"

static const char file[] = "libcrypto.so.3";
static void *handle;

int EVP_Digest(const void *data, size_t size, unsigned char *ret, unsigned int *ret_size, const EVP_MD *type,
               ENGINE *engine) {
        return LAZY(EVP_Digest)(data, size, ret, ret_size, type, engine);
}

int EVP_EncodeBlock(unsigned char *ret, const unsigned char *data, int size) {
        return LAZY(EVP_EncodeBlock)(ret, data, size);
}

const EVP_MD* EVP_sha1(void) {
        return LAZY(EVP_sha1)();
}

EVP_MAC* EVP_MAC_fetch(OSSL_LIB_CTX *library, const char *name, const char *properties) {
        return LAZY(EVP_MAC_fetch)(library, name, properties);
}

void EVP_MAC_free(EVP_MAC *mac) {
        LAZY(EVP_MAC_free)(mac);
}

EVP_MAC_CTX* EVP_MAC_CTX_new(EVP_MAC *mac) {
        return LAZY(EVP_MAC_CTX_new)(mac);
}

void EVP_MAC_CTX_free(EVP_MAC_CTX *context) {
        LAZY(EVP_MAC_CTX_free)(context);
}

int EVP_MAC_CTX_set_params(EVP_MAC_CTX *context, const OSSL_PARAM params[]) {
        return LAZY(EVP_MAC_CTX_set_params)(context, params);
}

int EVP_MAC_init(EVP_MAC_CTX *context, const unsigned char *key, size_t size, const OSSL_PARAM params[]) {
        return LAZY(EVP_MAC_init)(context, key, size, params);
}

int EVP_MAC_update(EVP_MAC_CTX *context, const unsigned char *data, size_t size) {
        return LAZY(EVP_MAC_update)(context, data, size);
}

int EVP_MAC_final(EVP_MAC_CTX *context, unsigned char *ret, size_t *ret_size, size_t size) {
        return LAZY(EVP_MAC_final)(context, ret, ret_size, size);
}

OSSL_PARAM OSSL_PARAM_construct_end(void) {
        return LAZY(OSSL_PARAM_construct_end)();
}

OSSL_PARAM OSSL_PARAM_construct_utf8_string(const char *key, char *text, size_t size) {
        return LAZY(OSSL_PARAM_construct_utf8_string)(key, text, size);
}
