#include "layout.h"
ENTRY(reset)
MEMORY { FLASH (rx) : ORIGIN = IMAGE, LENGTH = SLOT_PAGES * PAGE  RAM_ (rwx) : ORIGIN = RAM, LENGTH = RAM_SIZE }
SECTIONS {
    .text : {
        KEEP(*(.vectors))
        . = HEADER;
        KEEP(*(.header))
        *(.text*) *(.rodata*)
        . = ALIGN(4);
        data_source = .;
    } >FLASH
    .data : { data_begin = .; *(.data*) . = ALIGN(4); data_end = .; } >RAM_ AT >FLASH
    .bss (NOLOAD) : { bss_begin = .; *(.bss*) *(COMMON) . = ALIGN(4); bss_end = .; } >RAM_
    stack_end = .;
    image_size = SIZEOF(.text) + SIZEOF(.data);
    ASSERT(RAM + RAM_SIZE - stack_end >= 0x800, "there is no room for a stack")
    /DISCARD/ : { *(.ARM.*) }
}
