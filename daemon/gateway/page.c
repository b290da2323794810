/* SPDX-License-Identifier: MIT */

#include <strings.h>

#include "gateway-handlers.h"
#include "page.h"

/* What the page may do is what it needs: nothing from elsewhere, nothing inline, and nobody's frame around it. */
#define CONTENT_SECURITY_POLICY \
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; " \
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static const PageFile* page_find(const char *path) {
        const char *rest;

        if (streq(path, "/") || streq(path, "/web"))
                return &page_index;

        rest = startswith(path, "/web/");
        rest = rest ? startswith(rest, page_version) : NULL;
        if (!rest || *rest != '/')
                return NULL;
        for (size_t i = 0; i < page_n_files; i++)
                if (streq(page_files[i].name, rest + 1))
                        return page_files + i;
        return NULL;
}

/* Whether a list such as "br;q=0.9, gzip" has gzip and does not refuse it (RFC 9110 §12.5.3). */
static bool takes_gzip(const char *accept) {
        for (const char *p = accept; p && *p; ) {
                size_t n, name;
                const char *q;

                p += strspn(p, " \t");
                n = strcspn(p, ",");
                name = strcspn(p, ",; \t");
                q = memmem(p, n, "q=", 2);
                if (name == strlen("gzip") && strncasecmp(p, "gzip", name) == 0)
                        return !q || strtod(q + 2, NULL) > 0;
                p += n;
                p += *p == ',';
        }
        return false;
}

/* "*" or a list of tags; ours is made of digits between quotes, so it is found only where it is meant. */
static bool has_etag(const char *if_none_match, const char *etag) {
        return if_none_match && (streq(if_none_match, "*") || strstr(if_none_match, strchr(etag, '"')));
}

static int page_add_headers(Call *c, const PageFile *f, bool gzip) {
        const char *const headers[][2] = {
                { "x-request-id", c->request_id },
                { "Content-Security-Policy", CONTENT_SECURITY_POLICY },
                { "X-Content-Type-Options", "nosniff" },
                { "Referrer-Policy", "no-referrer" },
                { "Cross-Origin-Opener-Policy", "same-origin" },
                { "Cache-Control", f == &page_index ? "no-cache" : "public, max-age=31536000, immutable" },
                { "ETag", f->etag },
                { "Vary", "Accept-Encoding" },
                { "Content-Encoding", gzip ? "gzip" : NULL },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(headers) && r >= 0; i++)
                if (headers[i][1])
                        r = http_exchange_add_header(c->exchange, headers[i][0], headers[i][1]);
        return r;
}

void page_get(Call *c) {
        const PageFile *f = page_find(http_exchange_path(c->exchange));
        bool unchanged, gzip;
        int r;

        if (!f) {
                _cleanup_api_error_ ApiError e = {};

                (void) api_error_set(&e, 404, NULL, NULL, "The page has no such file (any more): load it again.");
                call_reply_error(c, &e);
                return;
        }

        unchanged = has_etag(http_exchange_header(c->exchange, "If-None-Match"), f->etag);
        gzip = !unchanged && takes_gzip(http_exchange_header(c->exchange, "Accept-Encoding"));
        r = page_add_headers(c, f, gzip);
        if (r >= 0 && unchanged)
                r = http_exchange_reply_static(c->exchange, 304, NULL, NULL, 0);
        else if (r >= 0)
                r = http_exchange_reply_static(c->exchange, 200, f->type, gzip ? f->gzip : f->data,
                                               gzip ? f->gzip_size : f->size);
        if (r < 0)
                http_exchange_abort(c->exchange);
}
