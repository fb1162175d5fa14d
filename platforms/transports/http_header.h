/* http_header.h — the header of a response, from its lines to a map.
 */
#ifndef NH_TRANSPORTS_HTTP_HEADER_H
#define NH_TRANSPORTS_HTTP_HEADER_H

#include "platforms/transports/text.h"
#include "runtime/work/transport.h"

typedef struct nh_http_header {
    nh_text lines; /* of the last header, "name:value\n" each, names in lower case */
    size_t bytes;  /* of all headers that came, 1xx included */
    size_t most;   /* that may come */
    bool too_large;
    bool counted; /* set by the caller: lines are counted, not kept */
} nh_http_header;

void nh_http_header_init(nh_http_header *header, size_t most);
void nh_http_header_term(nh_http_header *header);
/* Takes a line. Returns false when the transfer has to end: too large, or out of memory. */
bool nh_http_header_line(nh_http_header *header, const char *bytes, size_t length);
/* Writes it as a map; the values of a name that came twice are joined with commas. `scratch` is
 * used on the way. False when out of memory: what was written is of no use then. */
bool nh_http_header_write(nh_http_header *header, nh_text *scratch, nh_writer *writer);

#endif
