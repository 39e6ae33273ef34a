/*
 * What QEMU's chip lacks, for images and bootloader under test: flash that takes its time, and stops the processor meanwhile. The linker
 * puts these functions around the real ones (--wrap). Time is counted in instructions: with `-icount shift=6` each takes 64 ns, 16 MHz.
 */
#include "lab.h"

#include "../nrf51.h"

#define ERASE_MS 22u
#define PROGRAM_US 46u

void __real_flash_erase(uint32_t page);
void __real_flash_program(uint32_t address, uint32_t word);
void __wrap_flash_erase(uint32_t page);
void __wrap_flash_program(uint32_t address, uint32_t word);

/* Two instructions a turn. */
void lab_wait_us(uint32_t us)
{
    uint32_t turns = us * 125 / 16;
    __asm volatile("1: subs %0, %0, #1\n"
                   "bhi 1b\n"
                   : "+l"(turns)::"cc");
}

/* A processor that stands still takes no byte from the UART, which holds six. */
static void stand_still(uint32_t us)
{
    uint32_t enabled;
    __asm volatile("mrs %0, primask\ncpsid i" : "=l"(enabled)::"memory");
    for (; us >= 500; us -= 500) {
        lab_wait_us(500); /* six bytes take 521 us at 115200 baud */
        while (UART_ENABLE == UART_ON && UART_RXDRDY != 0) {
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
