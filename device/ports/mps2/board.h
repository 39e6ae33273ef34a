/* An MPS2 board as QEMU's mps2-an385: CMSDK UART 0, SysTick. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stdint.h>

void board_begin(void);
uint32_t board_ms(void);
uint32_t board_random(void);
void board_uart_write(const void *data, uint32_t size);
bool board_uart_is_idle(void);
void board_restart(void);
void board_sleep(uint32_t ms);
void board_disable_interrupts(void);
void board_enable_interrupts(void);
void uart_received(uint8_t byte); /* the application has it */

#endif
