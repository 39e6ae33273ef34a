/* What the chip gives the application: a line, a clock, chance. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stdint.h>

void uart_begin(void); /* 115200 baud on the pins of the interface chip; bytes go to uart_received() */
void uart_received(uint8_t byte); /* the application has it; called from the interrupt */
void uart_send(const uint8_t *data, uint32_t size); /* waits only where its ring is full */
bool uart_has_sent(void); /* the last bit has left */

void clock_begin(void);
uint32_t clock_ms(void);
void sleep_ms(uint32_t ms, bool (*is_awake)(void)); /* or until an interrupt; not at all if is_awake() says so, with interrupts off */

uint32_t random_word(void);
_Noreturn void restart(void);

#endif
