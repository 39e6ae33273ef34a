/* The bootloader: no variables, nothing but what swap.c does, then the image. */
#include "flash.h"
#include "layout.h"
#include "swap.h"

#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08)

typedef void (*vector_t)(void);

void boot(void);

__attribute__((section(".vectors"), used)) static const vector_t VECTORS[2] = {(vector_t)(RAM + RAM_SIZE), boot};

void swap_going_on(void)
{
}

void boot(void)
{
    swap_at_boot();
    SCB_VTOR = IMAGE;
    __asm volatile("msr msp, %0\n"
                   "bx %1\n" ::"r"(flash_word(IMAGE)), "r"(flash_word(IMAGE + 4)));
    __builtin_unreachable();
}
