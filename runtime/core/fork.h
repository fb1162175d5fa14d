/* fork.h — tells a process from the one it was forked from: threads do not survive fork, so what
 * needs them is dead. */
#ifndef NH_CORE_FORK_H
#define NH_CORE_FORK_H

/* A number that differs between this process and the ones it was forked from. Costs a load. Thread:
 * any. */
unsigned nh_fork_generation(void);

#endif
