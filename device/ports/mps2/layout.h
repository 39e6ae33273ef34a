/* Who lives where on an MPS2 board with a Cortex-M3 (AN385): its flash is RAM, as its makers load code into it. */
#ifndef LAYOUT_H
#define LAYOUT_H

#define PAGE 0x1000

#define BOOT 0x0
#define IMAGE 0x1000
#define SLOT_PAGES 60
#define SLOT 0x40000
#define SWAP_STATE 0x80000 /* three pages */
#define JOURNAL 0x84000
#define FLASH_SIZE 0x86000

#define RAM 0x20000000
#define RAM_SIZE 0x10000

#define HEADER 0x100
#define HEADER_MAGIC 0x49504352 /* "RCPI" */

#endif
