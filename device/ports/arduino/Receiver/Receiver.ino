/*
 * The receiver on an ESP32 of any kind with its Arduino core (3.x): copy this. Arduino has no word for flash and bootloaders; slots.c asks
 * ESP-IDF, which is below. Partitions: two OTA slots and `rcp, data, 0x40, , 0x2000` for the journal (partitions.csv beside this file).
 */
#include <rcp.h>

#include "slots.h"

static const uint32_t BAUD = 115200, CHUNK = 1024, MAX_FRAME = CHUNK + RCP_DATA_OVERHEAD, WINDOW = 4 * CHUNK;
static const uint32_t RING = WINDOW + WINDOW / 16 + 1, UNIT = 64;

static uint8_t frame[RCP_FRAME_BUFFER(MAX_FRAME)], ring[RING];
static uint32_t unit[UNIT / 4];
static rcp_port_t port;
static rcp_boot_t boot;
static rcp_t rcp;

/* Without it the core confirms each image before setup(), and there is no trial. */
extern "C" bool verifyRollbackLater()
{
    return true;
}

static uint32_t nowMs(void *)
{
    return millis();
}

static void sendFrame(void *, const uint8_t *data, uint32_t size)
{
    Serial1.write(data, size);
}

static bool hasSent(void *)
{
    Serial1.flush(); /* returns when the last bit has left: less than a frame's time */
    return true;
}

void setup()
{
    Serial1.setRxBufferSize(RING);
    Serial1.begin(BAUD);
    boot.boot_id = esp_random();
    if (!slots_describe(&port, &boot))
        return;
    port.frame = frame;
    port.unit = reinterpret_cast<uint8_t *>(unit);
    port.ring = ring;
    port.ring_size = sizeof ring;
    port.max_frame = MAX_FRAME;
    port.write_unit = UNIT;
    port.window = WINDOW;
    port.erase_ahead = port.slot_size; /* the core's interrupt waits while a sector is erased: all of them first */
    port.erase_ms = 400;
    port.now_ms = nowMs;
    port.send = sendFrame;
    port.sent = hasSent;
    port.base_baud = BAUD;
    port.app_id = "pump";
    port.hardware_id = "esp32";
    port.version = "1.0.0";
    port.boot_time_s = 10;
    rcp_init(&rcp, &port, &boot); /* where the port cannot be used, the receiver stays off */
}

void loop()
{
    while (Serial1.available() > 0 && rcp_rx_byte(&rcp, Serial1.read()))
        ;
    rcp_poll(&rcp);
}
