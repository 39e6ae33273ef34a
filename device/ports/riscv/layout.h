/* Who lives where: RAM is flash as well here, which QEMU's `virt` machine has none of that suits. */
#ifndef LAYOUT_H
#define LAYOUT_H

#define PAGE 0x1000

#define BOOT 0x80000000
#define IMAGE 0x80001000
#define SLOT_PAGES 60
#define SLOT 0x80040000
#define SWAP_STATE 0x80080000 /* two pages are enough, three are taken */
#define JOURNAL 0x80084000
#define FLASH_SIZE 0x86000

#define RAM 0x80100000
#define RAM_SIZE 0x10000

#define HEADER 0xC0
#define HEADER_MAGIC 0x49504352 /* "RCPI" */

#endif
