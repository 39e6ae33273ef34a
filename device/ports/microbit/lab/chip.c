/*
 * What QEMU's chip lacks, for images and bootloader under test: flash that takes its time, and stops the processor meanwhile. The linker
 * puts these functions around the real ones (--wrap). Its instructions take no time to speak of; these waits do.
 */
#include "lab.h"

#include "../nrf51.h"

#define ERASE_MS 22u
#define PROGRAM_US 46u
#define WORDS 64u /* that are waited for at once, at the last of them: each for itself would take QEMU ten times as long */

void __real_flash_erase(uint32_t page);
void __real_flash_program(uint32_t address, uint32_t word);
void __wrap_flash_erase(uint32_t page);
void __wrap_flash_program(uint32_t address, uint32_t word);

#define TIMER2 0x4000A000u

void lab_wait_us(uint32_t us)
{
    REGISTER(TIMER2, 0x508) = TIMER_32_BITS;
    REGISTER(TIMER2, 0x510) = TIMER_1_MHZ;
    REGISTER(TIMER2, 0x00C) = 1; /* clear */
    REGISTER(TIMER2, 0x000) = 1; /* start */
    do {
        for (volatile uint32_t pause = 500; pause > 0; pause--)
            ; /* each look at a timer is dear to QEMU */
        REGISTER(TIMER2, 0x040) = 1; /* capture */
    } while (REGISTER(TIMER2, 0x540) < us);
}

/* A processor that stands still takes no byte from the UART, which holds six. */
static void stand_still(uint32_t us)
{
    uint32_t enabled;
    __asm volatile("mrs %0, primask\ncpsid i" : "=l"(enabled)::"memory");
    for (; us >= 500; us -= 500) {
        lab_wait_us(500); /* six bytes take 521 us at 115200 baud */
        while (UART_RXDRDY != 0) {
            UART_RXDRDY = 0;
            (void)UART_RXD;
        }
    }
    lab_wait_us(us);
    __asm volatile("msr primask, %0" ::"l"(enabled) : "memory");
}

void __wrap_flash_erase(uint32_t page)
{
    __real_flash_erase(page);
    stand_still(ERASE_MS * 1000);
}

void __wrap_flash_program(uint32_t address, uint32_t word)
{
    __real_flash_program(address, word);
    if (address / 4 % WORDS == WORDS - 1)
        lab_wait_us(WORDS * PROGRAM_US); /* not deaf: the UART holds what comes in 46 us */
}
