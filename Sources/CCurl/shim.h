#ifndef WEIR_CCURL_SHIM_H
#define WEIR_CCURL_SHIM_H
// curl_easy_setopt and its like are variadic, which Swift cannot call: one function per kind of
// argument. No logic.
//
// First, for the same reason as in CEvent: no header may define _GNU_SOURCE before fd_set is known.
#include <sys/types.h>
#include <sys/select.h>
// The checks of argument types are macros that want a constant option.
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

typedef size_t (*weir_curl_bytes_function)(char *bytes, size_t size, size_t count, void *context);
typedef int (*weir_curl_socket_function)(
    CURL *easy, curl_socket_t socket, int what, void *context, void *socket_context);
typedef int (*weir_curl_timer_function)(CURLM *multi, long milliseconds, void *context);

static inline CURLcode weir_curl_set_long(CURL *easy, CURLoption option, long value) {
    return curl_easy_setopt(easy, option, value);
}

static inline CURLcode weir_curl_set_offset(CURL *easy, CURLoption option, curl_off_t value) {
    return curl_easy_setopt(easy, option, value);
}

/// libcurl copies the string, but for CURLOPT_POSTFIELDS; NULL resets the option.
static inline CURLcode weir_curl_set_string(CURL *easy, CURLoption option, const char *value) {
    return curl_easy_setopt(easy, option, value);
}

/// libcurl does not copy the list: it must live until the transfer has ended.
static inline CURLcode weir_curl_set_list(
    CURL *easy, CURLoption option, struct curl_slist *list) {
    return curl_easy_setopt(easy, option, list);
}

static inline CURLcode weir_curl_set_pointer(CURL *easy, CURLoption option, void *pointer) {
    return curl_easy_setopt(easy, option, pointer);
}

/// libcurl copies the bytes.
static inline CURLcode weir_curl_set_blob(
    CURL *easy, CURLoption option, const void *bytes, size_t count) {
    struct curl_blob blob = {(void *)bytes, count, CURL_BLOB_COPY};
    return curl_easy_setopt(easy, option, &blob);
}

/// CURLOPT_WRITEFUNCTION or CURLOPT_HEADERFUNCTION.
static inline CURLcode weir_curl_set_bytes_function(
    CURL *easy, CURLoption option, weir_curl_bytes_function function) {
    return curl_easy_setopt(easy, option, function);
}

static inline CURLcode weir_curl_get_long(CURL *easy, CURLINFO info, long *value) {
    return curl_easy_getinfo(easy, info, value);
}

static inline CURLcode weir_curl_get_offset(CURL *easy, CURLINFO info, curl_off_t *value) {
    return curl_easy_getinfo(easy, info, value);
}

static inline CURLcode weir_curl_get_private(CURL *easy, void **pointer) {
    return curl_easy_getinfo(easy, CURLINFO_PRIVATE, pointer);
}

static inline CURLMcode weir_curl_multi_set_long(CURLM *multi, CURLMoption option, long value) {
    return curl_multi_setopt(multi, option, value);
}

static inline CURLMcode weir_curl_multi_set_functions(
    CURLM *multi, weir_curl_socket_function socket, weir_curl_timer_function timer,
    void *context) {
    CURLMcode code = curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket);
    if (code == CURLM_OK) code = curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, context);
    if (code == CURLM_OK) code = curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer);
    if (code == CURLM_OK) code = curl_multi_setopt(multi, CURLMOPT_TIMERDATA, context);
    return code;
}

/// The handle and the result of the next transfer that has ended; NULL where there is none.
static inline CURL *weir_curl_next_ended(CURLM *multi, CURLcode *result) {
    int left;
    CURLMsg *message;
    while ((message = curl_multi_info_read(multi, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        *result = message->data.result;
        return message->easy_handle;
    }
    return NULL;
}

#endif
