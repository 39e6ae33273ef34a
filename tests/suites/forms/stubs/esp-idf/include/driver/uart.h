#pragma once
#include <stddef.h>
#include <stdint.h>
#include "esp_err.h"
#include "freertos/FreeRTOS.h"
#define CONFIG_IDF_TARGET "esp32c3"
typedef int uart_port_t;
enum { UART_NUM_0, UART_NUM_1 };
enum { UART_DATA_8_BITS = 3, UART_PARITY_DISABLE = 0, UART_STOP_BITS_1 = 1, UART_PIN_NO_CHANGE = -1 };
typedef struct {
    int baud_rate, data_bits, parity, stop_bits, flow_ctrl;
    uint8_t rx_flow_ctrl_thresh;
    int source_clk;
} uart_config_t;
esp_err_t uart_driver_install(uart_port_t port, int rx_size, int tx_size, int queue_size, void **queue, int intr_alloc_flags);
esp_err_t uart_param_config(uart_port_t port, const uart_config_t *config);
esp_err_t uart_set_pin(uart_port_t port, int tx, int rx, int rts, int cts);
int uart_write_bytes(uart_port_t port, const void *src, size_t size);
int uart_read_bytes(uart_port_t port, void *buf, uint32_t length, TickType_t ticks_to_wait);
esp_err_t uart_wait_tx_done(uart_port_t port, TickType_t ticks_to_wait);
