/* engine_load.h — the engine of this process. */
#ifndef NH_WORK_ENGINE_LOAD_H
#define NH_WORK_ENGINE_LOAD_H

#include "runtime/work/engine.h"

/* Borrowed, static; NULL when the shared object cannot be opened. Thread: any. Blocks: at the first
 * call, on the file. */
const nh_engine_ops *nh_engine_load(nh_error *error);

#endif
