/* scenario.h — a short life of a hub, with something of all that it does. */
#ifndef NH_SPEC_SCENARIO_H
#define NH_SPEC_SCENARIO_H

/* Where the rules and files are, the journal of this life (nothing is there before), and where the
 * peer listens ("127.0.0.1:8080"). */
typedef struct scenario {
    const char *folder, *journal, *http, *smtp;
} scenario;

/* Opens a hub with a journal, sends, reloads, cancels, asks, closes; opens it once more, for its
 * dead letters. Whatever fails must be told, and what was accepted must settle once. Prints what
 * does not hold and returns how often that was. */
int scenario_run(const scenario *s);

/* Writes the rules into the folder. */
void scenario_prepare(const char *folder);

#endif
