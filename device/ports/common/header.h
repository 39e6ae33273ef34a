/* What an image says of itself, for its own receiver and for tools. */
#ifndef HEADER_H
#define HEADER_H

#include <stdint.h>

#define STACK_PAINT 0x57A1C0DEu

typedef struct {
    uint32_t magic; /* HEADER_MAGIC */
    uint32_t size;  /* of the whole image, from its vectors on */
    char version[24];
} image_header_t;

extern const image_header_t image_header;

#endif
