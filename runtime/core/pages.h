/* pages.h — memory by pages for what comes and goes by the thousand. */
#ifndef NH_CORE_PAGES_H
#define NH_CORE_PAGES_H

#include <stddef.h>

enum {
    NH_PAGE = 4096,
    NH_RUN_LEAST = 8, /* pages; nobody is given fewer than these and fewer than asked for */
    NH_RUN_MOST = 128,
};

/* Counted: runs that are out keep it. Thread: any. */
typedef struct nh_pages nh_pages;

nh_pages *nh_pages_create(void); /* NULL when out of memory */
nh_pages *nh_pages_ref(nh_pages *pages);
void nh_pages_unref(nh_pages *pages); /* NULL is allowed */

/* A run of at most `want` pages (1 to NH_RUN_MOST), and how many it has; not cleared. NULL when out
 * of memory. */
void *nh_pages_take(nh_pages *pages, size_t want, size_t *got);
/* Gives back pages of a run, all or some. */
void nh_pages_give(nh_pages *pages, void *at, size_t count);

#endif
