/*
 * The bootloader: one page. It has no data and no interrupts of its own. A Cortex-M0 takes every vector from address 0, so each of them
 * but the reset leads on to the running image's.
 */
#include <stdbool.h>

#include "flash.h"
#include "layout.h"
#include "nrf51.h"
#include "swap.h"

#ifndef WATCHDOG_S
#define WATCHDOG_S 4u /* longer than the longest round of the main loop: its sleep, and the work */
#endif

typedef void (*vector_t)(void);

void boot(void);
void forward(void);

__attribute__((naked)) void forward(void)
{
    __asm volatile("mrs r0, ipsr\n"
                   "lsls r0, r0, #2\n"
                   "ldr r1, =%c0\n"
                   "ldr r0, [r1, r0]\n"
                   "bx r0\n" ::"i"(IMAGE));
}

__attribute__((section(".vectors"), used)) static const vector_t VECTORS[48] = {
    (vector_t)(RAM + RAM_SIZE), boot, [2 ... 47] = forward};

void swap_going_on(void)
{
    watchdog_feed();
}

/* What cannot even be an image would not get as far as a fault that anything catches. */
static bool can_start(void)
{
    return flash_word(IMAGE) - RAM - 1 < RAM_SIZE && flash_word(IMAGE + 4) - IMAGE < SLOT_PAGES * PAGE;
}

void boot(void)
{
    WDT_CRV = WATCHDOG_S * WDT_SECOND;
    WDT_START = 1; /* for ever: an image that does not feed it is started three times, and goes back */
    watchdog_feed(); /* after a restart by software it still runs */
    swap_at_boot();
    if (!can_start()) {
        swap_give_up();
        swap_at_boot();
    }
    __asm volatile("msr msp, %0\n"
                   "bx %1\n" ::"r"(flash_word(IMAGE)), "r"(flash_word(IMAGE + 4)));
    __builtin_unreachable();
}
