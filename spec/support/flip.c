/* flip.c — a resolver for the specs, by LD_PRELOAD: the name flip.example has the addresses of the
 * variable NH_FLIP, separated by commas and in this order; all other names are the system's.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

__attribute__((visibility("default"))) int getaddrinfo(const char *name, const char *service,
                                                       const struct addrinfo *hints,
                                                       struct addrinfo **found) {
    resolver *real = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *answers = getenv("NH_FLIP");
    if (!name || !answers || strcmp(name, "flip.example") != 0)
        return real(name, service, hints, found);
    struct addrinfo **end = found;
    char copy[256], *rest = NULL;
    *found = NULL;
    strncpy(copy, answers, sizeof copy - 1);
    copy[sizeof copy - 1] = '\0';
    for (char *one = strtok_r(copy, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
        int failed = real(one, service, hints, end); /* a list of one: the system frees it as one */
        if (failed)
            return failed;
        while (*end)
            end = &(*end)->ai_next;
    }
    return *found ? 0 : EAI_NONAME;
}
