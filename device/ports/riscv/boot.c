/* The bootloader: no variables, nothing but what swap.c does, then the image. */
#include "flash.h"
#include "layout.h"
#include "swap.h"

void boot(void);

void swap_going_on(void)
{
}

void boot(void)
{
    swap_at_boot();
    __asm volatile("fence.i\n"
                   "jr %0" ::"r"(IMAGE));
}
