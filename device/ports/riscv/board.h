/* QEMU's `virt` with a 32-bit hart: a 16550 UART, the CLINT's timer, a register that resets. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stdint.h>

void uart_begin(void);
bool uart_get(uint8_t *byte);
void uart_send(const uint8_t *data, uint32_t size);
bool uart_has_sent(void);
uint32_t clock_ms(void);
uint32_t clock_ticks(void); /* 10 MHz */
void sleep_ms(uint32_t ms);
void restart(void);

#endif
