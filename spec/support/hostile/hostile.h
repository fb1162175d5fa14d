/* hostile.h — the parts of the hostile sink, see hostile.c. */
#ifndef SPEC_HOSTILE_H
#define SPEC_HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATH_MOST = 256, ID_MOST = 64, REQUEST_MOST = 1 << 20 };

/* What happens once an answer's bytes are out. */
typedef enum ending {
    THEN_READ,   /* the next request on this connection */
    THEN_CLOSE,  /* its end */
    THEN_RESET,  /* its end, by RST */
    THEN_HANG,   /* nothing, for ever */
    THEN_REPEAT, /* the last `repeat` bytes again and again, as fast as they are taken */
    THEN_DRIP    /* (instead of at once:) the bytes one a second, and then nothing */
} ending;

/* An answer, which belongs to whoever asked for it. */
typedef struct answer {
    int status;  /* for the ledger; 0: none that anybody could read */
    char *bytes; /* malloc'd */
    size_t length, size;
    size_t repeat; /* of THEN_REPEAT */
    double delay;  /* seconds before the first byte */
    ending then;
} answer;

/* The answer to the `attempt`th request (from 1) of an id for a path: see hostile.c for the paths.
 * `nth` is the request's number on its connection, from 1. */
answer hostile_answer(const char *path, unsigned attempt, unsigned nth);

/* Listens with a certificate that is not to be trusted, and answers 200 to whoever does; the thread
 * never ends. Returns the port. The authority that signed it is written to DIRECTORY/ca.pem. */
typedef enum hostile_certificate {
    CERT_GOOD,
    CERT_EXPIRED,
    CERT_NAME,
    CERT_SELF
} hostile_certificate;
int hostile_tls(const char *directory, hostile_certificate kind);

/* A socket that listens on a port of the system's choice; ends the program when there is none. */
int hostile_listen(int backlog, int *port);
_Noreturn void hostile_fail(const char *what);
double hostile_now(void); /* seconds of a clock that does not jump */

#endif
