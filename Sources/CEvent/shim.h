#ifndef WEIR_CEVENT_SHIM_H
#define WEIR_CEVENT_SHIM_H
#include <event2/event.h>
#include <event2/event_struct.h>
#endif
