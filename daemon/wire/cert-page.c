/* SPDX-License-Identifier: MIT */

#include "cert-page.h"

static const char *const kind_names[_CERT_KIND_MAX] = {
        [CERT_IDENTITY] = "identity_cert",
        [CERT_SLUG_BINDING] = "slug_binding",
        [CERT_DEVICE] = "device_cert",
        [CERT_SUBKEY] = "subkey_cert",
        [CERT_DEVICE_REVOCATION] = "device_revocation",
};

const char* cert_kind_to_string(CertKind k) {
        return k >= 0 && k < _CERT_KIND_MAX ? kind_names[k] : NULL;
}

CertKind cert_kind_from_string(const char *s) {
        for (CertKind k = 0; s && k < _CERT_KIND_MAX; k++)
                if (streq(s, kind_names[k]))
                        return k;
        return _CERT_KIND_INVALID;
}

static int refuse(const char **reterr, const char *text) {
        *reterr = text;
        return -EBADMSG;
}

static bool is_true(const SignedValue *o, const char *key) {
        const SignedValue *v = signed_get(o, key);

        return v && v->type == SIGNED_TRUE;
}

static int read_entries(const SignedValue *entries, cert_entry_t on_entry, void *userdata, CertPageEnd *end) {
        for (const SignedValue *v = entries->child; v; v = v->next) {
                const CertEntry e = {
                        .kind = cert_kind_from_string(signed_get_string(v, "kind")),
                        .slug = signed_get_string(v, "slug"),
                        .cert = signed_get(v, "cert"),
                };
                int r;

                (void) signed_get_int(v, "seq", &end->since);
                if (e.kind < 0 || isempty(e.slug) || !e.cert)
                        continue;
                r = on_entry(&e, userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* One of the maps. The members of these two are named by slug, those of the others by something of their own. */
static int read_map(const SignedValue *map, CertKind kind, const char *slug, cert_entry_t on_entry, void *userdata,
                    CertPageEnd *end) {
        const bool by_slug = kind == CERT_IDENTITY || kind == CERT_SLUG_BINDING;

        if (!map || map->type != SIGNED_OBJECT)
                return 0;

        for (const SignedValue *v = map->child; v; v = v->next) {
                const SignedValue *inner = signed_get(v, "cert");
                const char *own = !by_slug                         ? signed_get_string(v, "slug") :
                                  strlen(v->key) == v->key_size ? v->key :
                                                                  NULL;
                const CertEntry e = {
                        .kind = kind,
                        .slug = by_slug ? own : own ?: slug,
                        .cert = inner && inner->type == SIGNED_OBJECT ? inner : v,
                };
                int r;

                if (isempty(e.slug)) {
                        end->unattributed |= !by_slug;
                        continue;
                }
                r = on_entry(&e, userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_maps(const SignedValue *cache, const char *slug, cert_entry_t on_entry, void *userdata,
                     CertPageEnd *end) {
        static const char *const names[_CERT_KIND_MAX] = {
                [CERT_IDENTITY] = "identities",
                [CERT_SLUG_BINDING] = "slug_bindings",
                [CERT_DEVICE] = "devices",
                [CERT_SUBKEY] = "subkeys",
                [CERT_DEVICE_REVOCATION] = "device_revocations",
        };
        int r = 0;

        for (CertKind k = 0; k < _CERT_KIND_MAX && r >= 0; k++)
                r = read_map(signed_get(cache, names[k]), k, slug, on_entry, userdata, end);
        return r;
}

/* A cursor that counts. It is a string; a number is no surprise either. */
static int read_cursor(const SignedValue *page, int64_t *ret) {
        const char *text = signed_get_string(page, "next_cursor");
        uint64_t n;
        int r;

        if (!text)
                return signed_get_int(page, "next_cursor", ret);
        if (!*text)
                return -ENOENT;
        r = parse_u64(text, &n);
        if (r < 0 || n > INT64_MAX)
                return -EINVAL;
        *ret = (int64_t) n;
        return 0;
}

int cert_page_read(const SignedValue *page, const char *slug, int64_t since, cert_entry_t on_entry, void *userdata,
                   CertPageEnd *ret, const char **reterr) {
        const SignedValue *entries = signed_get(page, "entries"), *cache = signed_get(page, "cache");
        CertPageEnd end = { .since = since };
        bool empty = true;
        int r = 0;

        if (signed_is_null(entries) && signed_is_null(cache))
                return refuse(reterr, "has neither entries nor a cache");
        if (!signed_is_null(entries) && entries->type != SIGNED_ARRAY)
                return refuse(reterr, "has entries that are no list");
        if (!signed_is_null(cache) && cache->type != SIGNED_OBJECT)
                return refuse(reterr, "has a cache that is no object");

        end.has_more = is_true(page, "has_more");
        if (!signed_is_null(entries)) {
                empty = !entries->child;
                r = read_entries(entries, on_entry, userdata, &end);
        }
        if (r >= 0 && !signed_is_null(cache)) {
                int64_t cursor = since;

                empty = false;
                r = read_cursor(page, &cursor);
                if (r == -EINVAL || r == -ERANGE)
                        return refuse(reterr, "has a next_cursor that is no number");
                if (signed_is_null(signed_get(page, "has_more")))
                        end.has_more = r >= 0;
                end.since = MAX(end.since, cursor);
                r = read_maps(cache, slug, on_entry, userdata, &end);
        }
        if (r < 0)
                return r;
        if (end.has_more && empty)
                return refuse(reterr, "is empty but says that there are more");
        if (end.has_more && end.since <= since)
                return refuse(reterr, "says that there are more but does not advance");

        *ret = end;
        return 0;
}
