/* measure.c — runs a program and writes what it took into a file: seconds of the clock, seconds of
 * processor time (all threads, and children that it waited for), kilobytes of memory at the most.
 *
 *     measure FILE PROGRAM [ARGUMENT]...
 *
 * Its exit code is the program's; 127 when that could not be run.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds_of(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: measure FILE PROGRAM [ARGUMENT]...\n");
        return 2;
    }
    double started = now();
    pid_t child = fork();
    if (child == 0) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    int status;
    struct rusage usage;
    if (child < 0 || wait4(child, &status, 0, &usage) < 0) {
        perror("measure");
        return 127;
    }
    double seconds = now() - started;
    FILE *file = fopen(argv[1], "w");
    if (!file) {
        perror(argv[1]);
        return 127;
    }
    fprintf(file, "%.6f %.6f %ld\n", seconds,
            seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime), usage.ru_maxrss);
    fclose(file);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
