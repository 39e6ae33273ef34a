/*
 * The receiver on an ESP8266 with Sming: copy this.
 *
 * Two ROMs of one linked address lie in two megabytes of flash, so one image suits both: the device's configuration says
 * `slot_match: low20`. rBoot starts the new one as its *temporary ROM*, once: whatever restarts the chip then, a watchdog too, leads back
 * to the old one, and rboot_set_current_rom() keeps it. That is the trial boot.
 */
#include <SmingCore.h>
#include <Storage.h>
#include <driver/uart.h>
#include <esp_attr.h>
#include <espinc/uart_register.h>

extern "C" {
#include <rboot-api.h>
#include <spi_flash.h>
}

#define RCP_ISR IRAM_ATTR
#include "../../../rcp.h"
#include "../../../rcp_sha256.h"

namespace
{
constexpr uint32_t CHUNK = 1024, MAX_FRAME = CHUNK + RCP_DATA_OVERHEAD, WINDOW = 4 * CHUNK, RING = WINDOW + WINDOW / 16 + 1;
constexpr uint32_t UNIT = 64, SECTOR = SPI_FLASH_SEC_SIZE, BAUD = 115200, POLL_MS = 2;

uint8_t frame[RCP_FRAME_BUFFER(MAX_FRAME)], ring[RING];
uint32_t unit[UNIT / 4], bounce[UNIT / 4]; // words: the flash is read and written by nothing else
rcp_sha256_t hash;
rcp_port_t port; // in RAM, as everything that the interrupt looks at has to be
rcp_boot_t boot;
rcp_t rcp;
smg_uart_t *line;
SimpleTimer timer;

// ---- flash: addresses, sizes and buffers of the SDK's calls are multiples of four ----

bool readFlash(void *, uint32_t address, uint8_t *to, uint32_t size)
{
    while (size > 0) {
        const uint32_t start = address & ~3u, skip = address - start;
        const uint32_t n = size < sizeof bounce - skip ? size : sizeof bounce - skip;
        if (spi_flash_read(start, bounce, (skip + n + 3) & ~3u) != SPI_FLASH_RESULT_OK)
            return false;
        memcpy(to, reinterpret_cast<const uint8_t *>(bounce) + skip, n);
        address += n, to += n, size -= n;
    }
    return true;
}

bool writeFlash(void *, uint32_t address, const uint8_t *from, uint32_t size)
{
    memcpy(bounce, from, size); // one unit
    return spi_flash_write(address, bounce, size) == SPI_FLASH_RESULT_OK;
}

bool eraseFlash(void *, uint32_t address)
{
    return spi_flash_erase_sector(uint16_t(address / SECTOR)) == SPI_FLASH_RESULT_OK;
}

// ---- line and time ----

void IRAM_ATTR onInterrupt(smg_uart_t *, uint32_t)
{
    while (((READ_PERI_REG(UART_STATUS(UART0)) >> UART_RXFIFO_CNT_S) & UART_RXFIFO_CNT) != 0)
        rcp_rx_byte(&rcp, uint8_t(READ_PERI_REG(UART_FIFO(UART0))));
    CLEAR_PERI_REG_MASK(UART_INT_ENA(UART0), UART_TXFIFO_EMPTY_INT_ENA); // smg_uart_write() enables it, and nobody wants it
}

void send(void *, const uint8_t *data, uint32_t size)
{
    smg_uart_write(line, data, size); // waits while the FIFO is full
}

bool hasSent(void *)
{
    // The FIFO is empty a byte before the line is: two looks, POLL_MS apart, are longer than a byte takes.
    static bool wasEmpty;
    const bool isEmpty = ((READ_PERI_REG(UART_STATUS(UART0)) >> UART_TXFIFO_CNT_S) & UART_TXFIFO_CNT) == 0;
    const bool both = isEmpty && wasEmpty;
    wasEmpty = isEmpty && !both;
    return both;
}

uint32_t nowMs(void *)
{
    return millis();
}

// ---- SHA-256 ----

void hashBegin(void *)
{
    rcp_sha256_begin(&hash);
}

void hashAdd(void *, const uint8_t *data, uint32_t size)
{
    rcp_sha256_add(&hash, data, size);
}

void hashEnd(void *, uint8_t digest[32])
{
    rcp_sha256_end(&hash, digest);
}

// ---- rBoot ----

uint8_t runningRom()
{
    uint8_t rom;
    return rboot_get_last_boot_rom(&rom) ? rom : rboot_get_current_rom();
}

uint8_t freeRom()
{
    return runningRom() == 0 ? 1 : 0;
}

bool activate(void *, const uint8_t *, uint32_t, uint16_t)
{
    return rboot_set_temp_rom(freeRom());
}

bool confirm(void *)
{
    return rboot_set_current_rom(runningRom());
}

void restart(void *)
{
    system_restart(); // on trial this leads back: rBoot's temporary ROM is started once
}

bool isOnTrial()
{
    uint8_t mode;
    return rboot_get_last_boot_mode(&mode) && mode == MODE_TEMP_ROM && rboot_get_current_rom() != runningRom();
}

void describe()
{
    const auto slot = Storage::findPartition(freeRom() == 0 ? "rom0" : "rom1");
    const auto journal = Storage::findPartition("rcp");
    port.frame = frame;
    port.unit = reinterpret_cast<uint8_t *>(unit);
    port.ring = ring;
    port.ring_size = sizeof ring;
    port.max_frame = MAX_FRAME;
    port.write_unit = UNIT;
    port.window = WINDOW;
    port.erase_block = SECTOR;
    port.slot = port.slot_address = slot.address();
    port.has_slot_address = true; // compared in the low 20 bits
    port.slot_size = slot.size();
    port.journal = journal.address();
    port.journal_area = journal.size() / 2;
    port.erase_ahead = port.slot_size; // nothing is received while a sector is erased: all of them first
    port.erase_ms = 400;
    port.flash_read = readFlash;
    port.flash_write = writeFlash;
    port.flash_erase = eraseFlash;
    port.now_ms = nowMs;
    port.send = send;
    port.sent = hasSent;
    port.sha256_begin = hashBegin;
    port.sha256_add = hashAdd;
    port.sha256_end = hashEnd;
    port.activate = activate;
    port.confirm = confirm;
    port.restart = restart;
    port.base_baud = BAUD;
    port.app_id = "pump";
    port.hardware_id = "esp8266-4m";
    port.version = VERSION;
    port.features = RCP_FEATURE_TRIAL_BOOT;
    port.boot_time_s = 5;
}

void poll()
{
    rcp_poll(&rcp);
}
} // namespace

void init()
{
    describe();
    boot.boot_id = os_random();
    boot.on_trial = isOnTrial();
    if (rcp_init(&rcp, &port, &boot) != RCP_OK)
        return; // on trial the next restart leads back
    line = smg_uart_init(UART0, BAUD, UART_8N1, UART_FULL, UART_PIN_DEFAULT, 0, 0);
    smg_uart_set_options(line, 1 << UART_OPT_TXWAIT | 1 << UART_OPT_CALLBACK_RAW);
    smg_uart_set_callback(line, onInterrupt, nullptr);
    timer.initializeMs<POLL_MS>(poll).start();
}
