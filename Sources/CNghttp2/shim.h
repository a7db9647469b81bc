#ifndef WEIR_CNGHTTP2_SHIM_H
#define WEIR_CNGHTTP2_SHIM_H
// First, for the same reason as in CEvent: no header may define _GNU_SOURCE before fd_set is known.
#include <sys/types.h>
#include <sys/select.h>
#include <nghttp2/nghttp2.h>
#endif
