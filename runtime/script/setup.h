/* setup.h — a state's calls of lib/main that are about no message: what its configuration means,
 * what it is set up with, and the questions of tools. Thread: the state's.
 */
#ifndef NH_SCRIPT_SETUP_H
#define NH_SCRIPT_SETUP_H

#include "runtime/script/vm.h"

/* The configuration with every default in place: prepare(config, secrets), as in Lua a secret is a
 * string like any other. NULL and what is wrong with it. */
nh_doc *nh_vm_prepare(nh_vm *vm, const nh_doc *config, nh_error *error);
/* Gives a state a configuration that was prepared, and its rules' scripts a run. */
nh_err nh_vm_set_up(nh_vm *vm, const nh_doc *config, nh_error *error);
/* Calls a function of lib/main with a document (may be NULL) and returns what it returns as one;
 * NULL and an error. */
nh_doc *nh_vm_ask(nh_vm *vm, const char *function, const nh_doc *doc, nh_error *error);

/* Gives a state the time that loading may take (limits.loading); returns what it had. */
double nh_vm_allow_loading(nh_vm *vm, const nh_doc *config);
/* Calls what stands below its arguments on the state's stack with that time, and without results.
 */
nh_err nh_vm_call_loading(nh_vm *vm, const nh_doc *config, int arguments, nh_error *error);

#endif
