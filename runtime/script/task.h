/* task.h — a message's coroutines. */
#ifndef NH_SCRIPT_TASK_H
#define NH_SCRIPT_TASK_H

#include "runtime/script/vm.h"

void nh_script_start(nh_vm *vm, nh_task *task, const nh_task_message *message);
void nh_script_stop(nh_vm *vm, nh_task *task, nh_err reason);
void nh_script_op_done(nh_vm *vm, nh_op *op, const nh_doc *response);

#endif
