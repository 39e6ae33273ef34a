/*
 * The receiver on an ESP32 of any kind with ESP-IDF (5.3 or newer): copy this. Two slots and rollback are the bootloader's. An image on trial
 * that spins starves the idle task, and the task watchdog resets the chip (sdkconfig.defaults). For one that waits for ever, let it watch this
 * task, too: esp_task_wdt_add() once, esp_task_wdt_reset() after rcp_poll(). slots.c is shared with the Arduino sketch.
 */
#include "driver/uart.h"
#include "esp_app_desc.h"
#include "esp_random.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"

#include "rcp.h"
#include "slots.h"

enum {
    LINE = UART_NUM_1,
    TX_PIN = 17,
    RX_PIN = 16,
    BAUD = 115200,
    CHUNK = 1024,
    MAX_FRAME = CHUNK + RCP_DATA_OVERHEAD,
    WINDOW = 4 * CHUNK,
    RING = WINDOW + WINDOW / 16 + 1,
    UNIT = 64,
    DRIVER_RING = RING,
    LONGEST_SLEEP_MS = 1000,
};

static uint8_t frame[RCP_FRAME_BUFFER(MAX_FRAME)], ring[RING];
static uint32_t unit[UNIT / 4];
static rcp_port_t port;
static rcp_boot_t boot;
static rcp_t rcp;

static uint32_t now_ms(void *c)
{
    (void)c;
    return (uint32_t)(esp_timer_get_time() / 1000);
}

static void send(void *c, const uint8_t *data, uint32_t size)
{
    (void)c;
    uart_write_bytes(LINE, data, size);
}

static bool has_sent(void *c)
{
    (void)c;
    return uart_wait_tx_done(LINE, 0) == ESP_OK;
}

static void describe(void)
{
    port.frame = frame;
    port.unit = (uint8_t *)unit;
    port.ring = ring;
    port.ring_size = sizeof ring;
    port.max_frame = MAX_FRAME;
    port.write_unit = UNIT;
    port.window = WINDOW;
    port.erase_ahead = port.erase_block; /* the UART's interrupt goes on while a sector is erased */
    port.erase_ms = 400;
    port.now_ms = now_ms;
    port.send = send;
    port.sent = has_sent;
    port.base_baud = BAUD;
    port.app_id = "pump";
    port.hardware_id = CONFIG_IDF_TARGET;
    port.version = esp_app_get_description()->version; /* "1.0.0": PROJECT_VER, or the tag */
    port.boot_time_s = 10;
}

static void open_line(void)
{
    const uart_config_t config = {
        .baud_rate = BAUD, .data_bits = UART_DATA_8_BITS, .parity = UART_PARITY_DISABLE, .stop_bits = UART_STOP_BITS_1,
    };
    ESP_ERROR_CHECK(uart_driver_install(LINE, DRIVER_RING, 0, 0, NULL, 0));
    ESP_ERROR_CHECK(uart_param_config(LINE, &config));
    ESP_ERROR_CHECK(uart_set_pin(LINE, TX_PIN, RX_PIN, UART_PIN_NO_CHANGE, UART_PIN_NO_CHANGE));
}

/* Waits for the first byte, and takes all that is there. */
static void receive(uint32_t ms)
{
    uint8_t byte;
    if (ms > LONGEST_SLEEP_MS)
        ms = LONGEST_SLEEP_MS;
    while (uart_read_bytes(LINE, &byte, 1, pdMS_TO_TICKS(ms)) == 1) {
        if (!rcp_rx_byte(&rcp, byte))
            return;
        ms = 0;
    }
}

void app_main(void)
{
    boot.boot_id = esp_random();
    if (!slots_describe(&port, &boot))
        return;
    describe();
    if (rcp_init(&rcp, &port, &boot) != RCP_OK)
        return; /* an image on trial goes back at the next restart */
    open_line();
    for (;;) {
        rcp_poll(&rcp);
        receive(rcp_has_work(&rcp) ? 0 : rcp_idle_ms(&rcp));
    }
}
