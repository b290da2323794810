/* SPDX-License-Identifier: MIT */

#include "server-api.h"
#include "server-certs.h"

typedef struct CertCall {
        ServerCall *call;
        cert_fetched_t on_fetched;
        void *userdata;
} CertCall;

static void cert_call_free(CertCall *c) {
        server_call_free(c->call);
        free(c);
}

static void cert_call_on_done(ServerCall *call, const CallReply *reply, void *userdata) {
        CertCall *c = userdata;

        if (reply->failure != CALL_OK)
                c->on_fetched(NULL, reply->failure == CALL_MEMORY ? -ENOMEM : -EIO, reply->error, c->userdata);
        else if (!reply->json)
                c->on_fetched(NULL, -EBADMSG, "The server's answer is empty", c->userdata);
        else
                c->on_fetched(reply->json, 0, NULL, c->userdata);
        cert_call_free(c);
}

static int source_fetch(void *userdata, const char *const *slugs, size_t n_slugs, int64_t since,
                        cert_fetched_t on_fetched, void *fetched_userdata, void **ret_call) {
        CertCall *c = new0(CertCall, 1);
        int r;

        if (!c)
                return -ENOMEM;
        c->on_fetched = on_fetched;
        c->userdata = fetched_userdata;
        r = api_certs_sync(userdata, slugs, n_slugs, since, cert_call_on_done, c, &c->call);
        if (r < 0) {
                free(c);
                return r;
        }
        *ret_call = c;
        return 0;
}

static void source_cancel(void *userdata, void *call) {
        cert_call_free(call);
}

CertSource server_cert_source(ServerClient *c) {
        return (CertSource) { .fetch = source_fetch, .cancel = source_cancel, .userdata = c };
}
