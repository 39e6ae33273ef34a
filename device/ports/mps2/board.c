#include "board.h"

#include "layout.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART_DATA REGISTER(0x40004000)
#define UART_STATE REGISTER(0x40004004)
#define UART_CONTROL REGISTER(0x40004008)
#define UART_INTERRUPT REGISTER(0x4000400C)
#define UART_DIVIDER REGISTER(0x40004010)
#define SYSTICK_CONTROL REGISTER(0xE000E010)
#define SYSTICK_RELOAD REGISTER(0xE000E014)
#define SYSTICK_VALUE REGISTER(0xE000E018)
#define NVIC_ENABLE REGISTER(0xE000E100)
#define SCB_AIRCR REGISTER(0xE000ED0C)

enum { CLOCK_HZ = 25000000, BAUD = 115200 };
enum { TX_FULL = 1, RX_FULL = 2 };
enum { TX_ON = 1, RX_ON = 2, RX_INTERRUPTS = 8, RX_PENDING = 2, UART_RX_IRQ = 0 };

typedef void (*vector_t)(void);

extern uint32_t data_source[], data_begin[], data_end[], bss_begin[], bss_end[];
int main(void);
void reset(void);
void stop(void);
void tick(void);
void uart_irq(void);

static volatile uint32_t ms;
static uint32_t written_ms;

__attribute__((section(".vectors"), used)) static const vector_t VECTORS[17] = {
    (vector_t)(RAM + RAM_SIZE), reset, [2 ... 14] = stop, [15] = tick, [16 + UART_RX_IRQ] = uart_irq};

void reset(void)
{
    uint32_t *to = data_begin;
    for (const uint32_t *from = data_source; to < data_end;)
        *to++ = *from++;
    for (to = bss_begin; to < bss_end;)
        *to++ = 0;
    main();
    stop();
}

void stop(void) /* on trial the next start leads back */
{
    board_restart();
}

void tick(void)
{
    ms++;
}

void uart_irq(void)
{
    UART_INTERRUPT = RX_PENDING;
    while ((UART_STATE & RX_FULL) != 0)
        uart_received((uint8_t)UART_DATA);
}

void board_begin(void)
{
    SYSTICK_RELOAD = CLOCK_HZ / 1000 - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 7;
    UART_DIVIDER = CLOCK_HZ / BAUD;
    UART_CONTROL = TX_ON | RX_ON | RX_INTERRUPTS;
    NVIC_ENABLE = 1u << UART_RX_IRQ;
}

uint32_t board_ms(void)
{
    return ms;
}

uint32_t board_random(void)
{
    return SYSTICK_VALUE * 2654435761u; /* QEMU's start took a time of its own: no source of chance for a product */
}

void board_uart_write(const void *data, uint32_t size)
{
    const uint8_t *bytes = data;
    while (size-- > 0) {
        while ((UART_STATE & TX_FULL) != 0)
            ;
        UART_DATA = *bytes++;
    }
    written_ms = ms;
}

bool board_uart_is_idle(void)
{
    return (UART_STATE & TX_FULL) == 0 && ms - written_ms > 1; /* no flag tells when the last byte is out: it takes less than that */
}

void board_restart(void)
{
    SCB_AIRCR = 0x05FA0004;
    for (;;)
        ;
}

void board_sleep(uint32_t most_ms)
{
    (void)most_ms; /* the tick wakes it each millisecond */
    __asm volatile("wfi" ::: "memory");
}

void board_disable_interrupts(void)
{
    __asm volatile("cpsid i" ::: "memory");
}

void board_enable_interrupts(void)
{
    __asm volatile("cpsie i" ::: "memory");
}
