#include "layout.h"
MEMORY { FLASH (rx) : ORIGIN = WHERE, LENGTH = ROOM  MEM (rwx) : ORIGIN = RAM, LENGTH = RAM_SIZE }
SECTIONS {
    .text : {
        KEEP(*(.vectors))
        . = HEADER;
        KEEP(*(.header))
        *(.text*) *(.rodata*)
        . = ALIGN(4);
        data_source = .;
    } >FLASH
    .data : { data_begin = .; *(.data*) . = ALIGN(4); data_end = .; } >MEM AT >FLASH
    .bss (NOLOAD) : { bss_begin = .; *(.bss*) *(COMMON) . = ALIGN(4); bss_end = .; } >MEM
    image_size = SIZEOF(.text) + SIZEOF(.data);
}
