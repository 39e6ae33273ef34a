/* An image whose receiver never hears a byte. */
#include "../nrf51.h"

#define UART_STOPRX REGISTER(0x40002000u, 0x004)

void __real_uart_begin(void);
void __wrap_uart_begin(void);

void __wrap_uart_begin(void)
{
    __real_uart_begin();
    UART_STOPRX = 1;
}
