/* signals.h — SIGTERM and SIGHUP for a command whose hubs belong to a script. */
#ifndef NH_CLI_SIGNALS_H
#define NH_CLI_SIGNALS_H

#include <stdbool.h>
#include <stddef.h>

#define CLI_DRAIN_SECONDS 30 /* what SIGTERM leaves to accepted messages */

/* From now on SIGTERM drains every hub of the process, and a second one ends the process; SIGHUP
 * reloads their rules, and what fails is told on stderr in the name of `command`. `interrupt` is
 * called in the signal handler at SIGTERM, and again when the hubs are drained and the caller has
 * not stopped: it has whatever runs end. A SIGHUP that was ignored stays so (nohup). For the
 * process' first thread, once. False when a thread or descriptors are lacking. */
bool cli_signals_start(const char *command, void (*interrupt)(void));

bool cli_signals_terminated(void); /* whether SIGTERM came */

/* Gives the signals back to their defaults and waits until what they started is over. `left`: how
 * many messages SIGTERM settled undelivered. Does nothing when they were not started. */
void cli_signals_stop(size_t *left);

/* Whether SIGHUP tells, as it once did, that the terminal is gone. To be called once before. */
void cli_terminal_remember(void);
bool cli_terminal_is_gone(void);

#endif
