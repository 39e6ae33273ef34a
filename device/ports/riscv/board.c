#include "board.h"

#define REGISTER8(address) (*(volatile uint8_t *)(address))
#define REGISTER32(address) (*(volatile uint32_t *)(address))
#define UART_DATA REGISTER8(0x10000000u)
#define UART_INTERRUPTS REGISTER8(0x10000001u)
#define UART_FIFO REGISTER8(0x10000002u)
#define UART_STATUS REGISTER8(0x10000005u)
#define UART_HAS_BYTE 0x01u
#define UART_HAS_ROOM 0x20u
#define UART_IS_IDLE 0x40u
#define TIMER_COMPARE_LOW REGISTER32(0x02004000u)
#define TIMER_COMPARE_HIGH REGISTER32(0x02004004u)
#define TIMER_LOW REGISTER32(0x0200BFF8u)
#define TIMER_HIGH REGISTER32(0x0200BFFCu)
#define TICKS_PER_MS 10000u
#define RESET REGISTER32(0x00100000u)
#define RESET_WORD 0x7777u
#define INTERRUPT_PRIORITY(n) REGISTER32(0x0C000000u + 4u * (n))
#define INTERRUPTS_ENABLED REGISTER32(0x0C002000u)
#define INTERRUPT_CLAIM REGISTER32(0x0C200004u)
#define UART_INTERRUPT 10u
#define TIMER_AND_EXTERNAL 0x880u /* bits of mie */

void uart_begin(void)
{
    UART_FIFO = 1;       /* 16 bytes, and an interrupt at the first of them */
    UART_INTERRUPTS = 1; /* for received bytes */
    INTERRUPT_PRIORITY(UART_INTERRUPT) = 1;
    INTERRUPTS_ENABLED = 1u << UART_INTERRUPT;
}

bool uart_get(uint8_t *byte)
{
    if ((UART_STATUS & UART_HAS_BYTE) == 0)
        return false;
    *byte = UART_DATA;
    return true;
}

void uart_send(const uint8_t *data, uint32_t size)
{
    while (size-- > 0) {
        while ((UART_STATUS & UART_HAS_ROOM) == 0)
            ;
        UART_DATA = *data++;
    }
}

bool uart_has_sent(void)
{
    return (UART_STATUS & UART_IS_IDLE) != 0;
}

uint32_t clock_ticks(void)
{
    return TIMER_LOW;
}

uint32_t clock_ms(void)
{
    static uint32_t ms, counted;
    const uint32_t more = (clock_ticks() - counted) / TICKS_PER_MS;
    ms += more;
    counted += more * TICKS_PER_MS;
    return ms;
}

/* Until then or until a byte comes. No trap is ever taken: a pending interrupt ends WFI although they are off, so none is missed. */
void sleep_ms(uint32_t ms)
{
    const uint32_t now = TIMER_LOW, then = now + ms * TICKS_PER_MS;
    TIMER_COMPARE_HIGH = 0xFFFFFFFFu;
    TIMER_COMPARE_LOW = then;
    TIMER_COMPARE_HIGH = TIMER_HIGH + (then < now ? 1 : 0);
    __asm volatile("csrs mie, %0\n"
                   "wfi" ::"r"(TIMER_AND_EXTERNAL)
                   : "memory");
    INTERRUPT_CLAIM = INTERRUPT_CLAIM; /* taken note of: it comes again for what is still unread */
}

void restart(void)
{
    RESET = RESET_WORD;
    for (;;)
        ;
}
