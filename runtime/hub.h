/* hub.h — opening a hub with parts of one's own; tests put a fake engine and fake transports in. */
#ifndef NH_HUB_H
#define NH_HUB_H

#include "runtime/work/engine.h"
#include "runtime/work/transport.h"

nh_hub *nh_hub_open_with(const nh_doc *config, const nh_engine_ops *engine,
                         const nh_transport_ops *const *transports, nh_error *error);

#endif
