/* receipt.h — the receipt of a message that went well, as most do. */
#ifndef NH_SCRIPT_RECEIPT_H
#define NH_SCRIPT_RECEIPT_H

#include "runtime/script/vm.h"

/* Makes a state ready for it, once. May raise. */
void nh_receipt_open(lua_State *L);

/* Packs the receipt of a message all of whose entries were delivered, from its context (a registry
 * reference) and the number of its rules' generation, 0: none; borrowed until the state makes its
 * next document. With `table` the same is pushed as a table, for callbacks [-0, +1]; when this
 * fails nothing is. */
nh_err nh_receipt_delivered(nh_vm *vm, int context, lua_Integer generation, bool table,
                            nh_packed *receipt);

#endif
