#include "board.h"

#include "nrf51.h"

enum { TX_PIN = 24, RX_PIN = 25, TX_RING = 512 /* the longest answer, INFO, goes in whole */ };

static uint8_t tx_ring[TX_RING];
static volatile uint32_t tx_in, tx_out; /* counted without end */
static volatile bool is_sending;

void uart_irq(void);
void timer_irq(void);

/* ---- UART ---- */

void uart_begin(void)
{
    UART_PSELTXD = TX_PIN;
    UART_PSELRXD = RX_PIN;
    UART_BAUDRATE = UART_115200;
    UART_ENABLE = UART_ON;
    UART_INTENSET = UART_INT_RXDRDY | UART_INT_TXDRDY;
    UART_STARTTX = 1;
    UART_STARTRX = 1;
    NVIC_ENABLE = 1u << UART_IRQ;
}

static void send_next(void)
{
    is_sending = tx_out != tx_in;
    if (is_sending)
        UART_TXD = tx_ring[tx_out++ % TX_RING];
}

void uart_irq(void)
{
    while (UART_RXDRDY != 0) {
        UART_RXDRDY = 0; /* before the byte is read: behind it is the next one's */
        uart_received((uint8_t)UART_RXD);
    }
    if (UART_TXDRDY != 0) {
        UART_TXDRDY = 0;
        send_next();
    }
}

void uart_send(const uint8_t *data, uint32_t size)
{
    for (; size > 0; size--) {
        while (tx_in - tx_out == TX_RING)
            ;
        tx_ring[tx_in % TX_RING] = *data++;
        tx_in++;
    }
    __asm volatile("cpsid i" ::: "memory");
    if (!is_sending)
        send_next();
    __asm volatile("cpsie i" ::: "memory");
}

bool uart_has_sent(void)
{
    return !is_sending;
}

/* ---- clock ---- */

enum { NOW, WAKE }; /* the timer's compare registers */

void clock_begin(void)
{
    TIMER_BITMODE = TIMER_32_BITS;
    TIMER_PRESCALER = TIMER_1_MHZ;
    TIMER_INTENSET = TIMER_INT_COMPARE(WAKE);
    TIMER_START = 1;
    NVIC_ENABLE = 1u << TIMER_IRQ;
}

static uint32_t clock_us(void)
{
    TIMER_CAPTURE(NOW) = 1;
    return TIMER_CC(NOW);
}

/* No interrupt counts: those that come due while a page is erased would be lost. To be called at least once an hour. */
uint32_t clock_ms(void)
{
    static uint32_t ms, counted_us;
    const uint32_t more = (clock_us() - counted_us) / 1000;
    ms += more;
    counted_us += more * 1000;
    return ms;
}

void timer_irq(void)
{
    TIMER_COMPARE(WAKE) = 0;
}

void sleep_ms(uint32_t ms, bool (*is_awake)(void))
{
    __asm volatile("cpsid i" ::: "memory");
    TIMER_CC(WAKE) = clock_us() + ms * 1000;
    if (ms > 0 && !is_awake())
        __asm volatile("wfi" ::: "memory"); /* an interrupt ends it although it is not taken yet */
    __asm volatile("cpsie i" ::: "memory");
}

/* ---- the rest ---- */

uint32_t random_word(void)
{
    uint32_t word = 0;
    RNG_START = 1;
    for (uint32_t i = 0; i < 4; i++) {
        while (RNG_VALRDY == 0)
            ;
        RNG_VALRDY = 0;
        word = word << 8 | (RNG_VALUE & 0xFF);
    }
    RNG_STOP = 1;
    return word;
}

void restart(void)
{
    SCB_AIRCR = SCB_RESET;
    for (;;)
        ;
}
