/* SPDX-License-Identifier: MIT */

/* See lazy-library.h. The functions are declared by curl.h; its macros that check arguments stay with the callers. */
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#include <stdarg.h>

#include "lazy-library.h"

/* The file that everybody else of Debian's calls by this name: libcurl with OpenSSL. */
static const char file[] = "libcurl.so.4";
static void *handle;

/* What follows an option is a long, a pointer or a curl_off_t. */
static_assert(sizeof(long) == sizeof(void*) && sizeof(curl_off_t) == sizeof(void*), "arguments cannot be passed on");

#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...) {
        va_list ap;
        void *argument;

        va_start(ap, option);
        argument = va_arg(ap, void*);
        va_end(ap);
        return LAZY(curl_easy_setopt)(easy, option, argument);
}

CURLcode curl_easy_getinfo(CURL *easy, CURLINFO info, ...) {
        va_list ap;
        void *argument;

        va_start(ap, info);
        argument = va_arg(ap, void*);
        va_end(ap);
        return LAZY(curl_easy_getinfo)(easy, info, argument);
}

CURLMcode curl_multi_setopt(CURLM *multi, CURLMoption option, ...) {
        va_list ap;
        void *argument;

        va_start(ap, option);
        argument = va_arg(ap, void*);
        va_end(ap);
        return LAZY(curl_multi_setopt)(multi, option, argument);
}

CURLcode curl_global_init(long flags) {
        return LAZY(curl_global_init)(flags);
}

void curl_global_cleanup(void) {
        LAZY(curl_global_cleanup)();
}

CURL* curl_easy_init(void) {
        return LAZY(curl_easy_init)();
}

void curl_easy_cleanup(CURL *easy) {
        LAZY(curl_easy_cleanup)(easy);
}

CURLHcode curl_easy_header(CURL *easy, const char *name, size_t index, unsigned int origin, int request,
                           struct curl_header **ret) {
        return LAZY(curl_easy_header)(easy, name, index, origin, request, ret);
}

struct curl_header* curl_easy_nextheader(CURL *easy, unsigned int origin, int request, struct curl_header *previous) {
        return LAZY(curl_easy_nextheader)(easy, origin, request, previous);
}

CURLcode curl_easy_pause(CURL *easy, int action) {
        return LAZY(curl_easy_pause)(easy, action);
}

CURLcode curl_easy_recv(CURL *easy, void *data, size_t size, size_t *ret) {
        return LAZY(curl_easy_recv)(easy, data, size, ret);
}

CURLcode curl_easy_send(CURL *easy, const void *data, size_t size, size_t *ret) {
        return LAZY(curl_easy_send)(easy, data, size, ret);
}

const char* curl_easy_strerror(CURLcode code) {
        return LAZY(curl_easy_strerror)(code);
}

void curl_free(void *p) {
        LAZY(curl_free)(p);
}

CURLM* curl_multi_init(void) {
        return LAZY(curl_multi_init)();
}

CURLMcode curl_multi_cleanup(CURLM *multi) {
        return LAZY(curl_multi_cleanup)(multi);
}

CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy) {
        return LAZY(curl_multi_add_handle)(multi, easy);
}

CURLMcode curl_multi_remove_handle(CURLM *multi, CURL *easy) {
        return LAZY(curl_multi_remove_handle)(multi, easy);
}

CURLMcode curl_multi_assign(CURLM *multi, curl_socket_t fd, void *p) {
        return LAZY(curl_multi_assign)(multi, fd, p);
}

CURLMsg* curl_multi_info_read(CURLM *multi, int *ret_left) {
        return LAZY(curl_multi_info_read)(multi, ret_left);
}

CURLMcode curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int events, int *ret_running) {
        return LAZY(curl_multi_socket_action)(multi, fd, events, ret_running);
}

struct curl_slist* curl_slist_append(struct curl_slist *list, const char *text) {
        return LAZY(curl_slist_append)(list, text);
}

void curl_slist_free_all(struct curl_slist *list) {
        LAZY(curl_slist_free_all)(list);
}

CURLU* curl_url(void) {
        return LAZY(curl_url)();
}

void curl_url_cleanup(CURLU *url) {
        LAZY(curl_url_cleanup)(url);
}

CURLUcode curl_url_get(CURLU *url, CURLUPart part, char **ret, unsigned int flags) {
        return LAZY(curl_url_get)(url, part, ret, flags);
}

CURLUcode curl_url_set(CURLU *url, CURLUPart part, const char *text, unsigned int flags) {
        return LAZY(curl_url_set)(url, part, text, flags);
}
