/* replay.c — feeds a fuzz target what files hold, in place of libFuzzer: each file that is named,
 * and each of a folder. So what a fuzzer once found is tried by every build, with every compiler.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "spec/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *count, char ***arguments);
__attribute__((weak)) int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count, (void)arguments;
    return 0;
}

static size_t inputs;

static void feed(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
    struct stat status;
    fstat(fileno(file), &status);
    size_t size = (size_t)status.st_size;
    uint8_t *data = malloc(size ? size : 1);
    MUST(data && fread(data, 1, size, file) == size);
    fclose(file);
    printf("# %s\n", path);
    fflush(stdout); /* the last one named is the one that failed */
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    inputs++;
}

static void feed_all(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) {
        feed(path);
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        feed(name);
    }
    closedir(folder);
}

int main(int count, char **arguments) {
    LLVMFuzzerInitialize(&count, &arguments);
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < count; i++)
        feed_all(arguments[i]);
    printf("# %zu inputs\n", inputs);
    return inputs == 0; /* a corpus that is not there would pass */
}
