#include "layout.h"
ENTRY(_start)
MEMORY { FLASH (rx) : ORIGIN = WHERE, LENGTH = ROOM  MEM (rwx) : ORIGIN = RAM, LENGTH = RAM_SIZE }
SECTIONS {
    .text : {
        KEEP(*(.start))
        . = HEADER;
        KEEP(*(.header))
        *(.text*) *(.rodata*) *(.srodata*)
        . = ALIGN(4);
        data_source = .;
    } >FLASH
    .data : { data_begin = .; *(.data*) *(.sdata*) . = ALIGN(4); data_end = .; } >MEM AT >FLASH
    .bss (NOLOAD) : { bss_begin = .; *(.bss*) *(.sbss*) *(COMMON) . = ALIGN(4); bss_end = .; } >MEM
    image_size = SIZEOF(.text) + SIZEOF(.data);
}
