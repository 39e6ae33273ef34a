#pragma once
#include <stddef.h>
#include <stdint.h>

#define UART0 0
#define UART_PIN_DEFAULT (255)
enum smg_uart_format_t { UART_8N1 = 0x1C };
enum smg_uart_mode_t { UART_FULL, UART_RX_ONLY, UART_TX_ONLY };
enum smg_uart_option_bits_t { UART_OPT_TXWAIT, UART_OPT_CALLBACK_RAW };
typedef uint8_t uart_options_t;
struct smg_uart_t;
typedef void (*smg_uart_callback_t)(smg_uart_t *uart, uint32_t status);

smg_uart_t *smg_uart_init(uint8_t uart_nr, uint32_t baudrate, smg_uart_format_t format, smg_uart_mode_t mode, uint8_t tx_pin,
                          size_t rx_size, size_t tx_size = 0);
void smg_uart_set_options(smg_uart_t *uart, uart_options_t options);
void smg_uart_set_callback(smg_uart_t *uart, smg_uart_callback_t callback, void *param);
size_t smg_uart_write(smg_uart_t *uart, const void *buffer, size_t size);
