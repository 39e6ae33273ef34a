/* Who lives where in 256 KiB of flash and 16 KiB of RAM: for C and, through the preprocessor, for the linker. */
#ifndef LAYOUT_H
#define LAYOUT_H

#define PAGE 0x400

#define BOOT 0x0         /* the bootloader, one page */
#define IMAGE 0x400      /* the running image: where every image is linked to */
#define SLOT_PAGES 124   /* the largest image; one page more behind the running one is room to move it up */
#define SLOT 0x1F800     /* the free slot */
#define SWAP_STATE 0x3E800 /* three pages: swap.h */
#define JOURNAL 0x3F400  /* two areas of one page: rcp.h */
#define SETTINGS 0x3FC00 /* a page of the application's own */

#define FLASH_SIZE 0x40000

#define RAM 0x20000000
#define RAM_SIZE 0x4000

/* An image says its size and version itself, behind its 48 vectors. */
#define HEADER 0xC0
#define HEADER_MAGIC 0x49504352 /* "RCPI" */

#endif
