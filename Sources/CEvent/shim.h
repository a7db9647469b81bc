#ifndef WEIR_CEVENT_SHIM_H
#define WEIR_CEVENT_SHIM_H
// First, because libevent's headers define _GNU_SOURCE, which renames a member of fd_set: the modules
// of Swift and of this package have it without, and the compiler refuses two definitions of one type.
#include <sys/types.h>
#include <sys/select.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#endif
