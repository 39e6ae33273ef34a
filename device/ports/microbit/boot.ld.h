#include "layout.h"
ENTRY(boot)
MEMORY { FLASH (rx) : ORIGIN = BOOT, LENGTH = PAGE }
SECTIONS {
    .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } >FLASH
    .data : { *(.data*) } >FLASH
    .bss : { *(.bss*) *(COMMON) } >FLASH
    ASSERT(SIZEOF(.data) == 0 && SIZEOF(.bss) == 0, "the bootloader has no variables: nothing would set them up")
    /DISCARD/ : { *(.ARM.*) }
}
