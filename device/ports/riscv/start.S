/* The first instructions of bootloader and image: a stack, memory with its contents, then C. A trap resets. */
#include "layout.h"
    .section .start, "ax"
    .globl _start
_start:
    la t0, trap
    csrw mtvec, t0
    li sp, RAM + RAM_SIZE
    la t0, bss_begin
    la t1, bss_end
1:  bgeu t0, t1, 2f
    sw zero, 0(t0)
    addi t0, t0, 4
    j 1b
2:  la t0, data_begin
    la t1, data_end
    la t2, data_source
3:  bgeu t0, t1, 4f
    lw t3, 0(t2)
    sw t3, 0(t0)
    addi t0, t0, 4
    addi t2, t2, 4
    j 3b
4:  call ENTRY
    .balign 4
trap:
    li t0, 0x100000
    li t1, 0x7777
    sw t1, 0(t0)
    j trap
