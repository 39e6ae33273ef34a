/*
 * What QEMU's chip lacks, for images and bootloader under test: flash that takes its time, and stops the processor meanwhile. The linker
 * puts these functions around the real ones (--wrap). Its instructions take no time to speak of; these waits do.
 */
#include "lab.h"

#include "../nrf51.h"

#define ERASE_MS 22u
#define PROGRAM_US 46u

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
    do
        REGISTER(TIMER2, 0x040) = 1; /* capture */
    while (REGISTER(TIMER2, 0x540) < us);
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
    lab_wait_us(PROGRAM_US);
}
