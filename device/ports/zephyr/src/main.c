/*
 * The receiver on Zephyr (4.1 or newer) with MCUboot: copy this. The slot is MCUboot's secondary one, the journal is the storage partition, the line is
 * the devicetree's `zephyr,console`.
 */
#include <string.h>

#include <zephyr/app_version.h>
#include <zephyr/device.h>
#include <zephyr/dfu/mcuboot.h>
#include <zephyr/drivers/flash.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>
#include <zephyr/random/random.h>
#include <zephyr/storage/flash_map.h>
#include <zephyr/sys/reboot.h>

#include <rcp.h>
#include <rcp_sha256.h>

#define SLOT slot1_partition
#define JOURNAL storage_partition

enum {
    CHUNK = 1024,
    MAX_FRAME = CHUNK + RCP_DATA_OVERHEAD,
    WINDOW = 4 * CHUNK,
    RING = WINDOW + WINDOW / 16 + 1,
    UNIT = 64, /* a multiple of what the flash writes at once */
};

static const struct device *const line = DEVICE_DT_GET(DT_CHOSEN(zephyr_console));
static const struct device *const flash = FIXED_PARTITION_DEVICE(SLOT);

static uint8_t frame[RCP_FRAME_BUFFER(MAX_FRAME)], ring[RING];
static uint64_t unit[UNIT / 8];
static rcp_sha256_t hash;
static rcp_boot_t boot;
static rcp_t rcp;
K_SEM_DEFINE(has_come, 0, 1);

static bool read_flash(void *c, uint32_t address, uint8_t *to, uint32_t size)
{
    ARG_UNUSED(c);
    return flash_read(flash, (off_t)address, to, size) == 0;
}

static bool write_flash(void *c, uint32_t address, const uint8_t *from, uint32_t size)
{
    ARG_UNUSED(c);
    return flash_write(flash, (off_t)address, from, size) == 0;
}

static uint32_t block_at(uint32_t address)
{
    struct flash_pages_info page;
    return flash_get_page_info_by_offs(flash, (off_t)address, &page) == 0 ? (uint32_t)page.size : 0;
}

static bool erase_flash(void *c, uint32_t address)
{
    ARG_UNUSED(c);
    return flash_erase(flash, (off_t)address, block_at(address)) == 0;
}

static uint32_t now_ms(void *c)
{
    ARG_UNUSED(c);
    return k_uptime_get_32();
}

static void send(void *c, const uint8_t *data, uint32_t size)
{
    ARG_UNUSED(c);
    while (size-- > 0)
        uart_poll_out(line, *data++);
}

static bool has_sent(void *c)
{
    ARG_UNUSED(c);
    return uart_irq_tx_complete(line) != 0;
}

static void hash_begin(void *c)
{
    ARG_UNUSED(c);
    rcp_sha256_begin(&hash);
}

static void hash_add(void *c, const uint8_t *data, uint32_t size)
{
    ARG_UNUSED(c);
    rcp_sha256_add(&hash, data, size);
}

static void hash_end(void *c, uint8_t digest[32])
{
    ARG_UNUSED(c);
    rcp_sha256_end(&hash, digest);
}

static bool activate(void *c, const uint8_t sha256[32], uint32_t size, uint16_t trial_s)
{
    ARG_UNUSED(c);
    ARG_UNUSED(sha256);
    ARG_UNUSED(size);
    ARG_UNUSED(trial_s); /* the receiver counts the trial itself */
    return boot_request_upgrade(BOOT_UPGRADE_TEST) == 0;
}

static bool confirm(void *c)
{
    ARG_UNUSED(c);
    return boot_write_img_confirmed() == 0;
}

static void restart(void *c)
{
    ARG_UNUSED(c);
    sys_reboot(SYS_REBOOT_COLD); /* on trial MCUboot goes back */
}

static rcp_port_t port = {
    .frame = frame, .unit = (uint8_t *)unit, .ring = ring, .ring_size = sizeof ring,
    .max_frame = MAX_FRAME, .write_unit = UNIT, .window = WINDOW,
    .slot = FIXED_PARTITION_OFFSET(SLOT), .journal = FIXED_PARTITION_OFFSET(JOURNAL),
    .erase_ms = 100,
    .flash_read = read_flash, .flash_write = write_flash, .flash_erase = erase_flash,
    .now_ms = now_ms, .send = send, .sent = has_sent, .base_baud = 115200,
    .sha256_begin = hash_begin, .sha256_add = hash_add, .sha256_end = hash_end,
    .activate = activate, .confirm = confirm, .restart = restart,
    .app_id = "pump", .hardware_id = CONFIG_BOARD, .version = APP_VERSION_STRING,
    .features = RCP_FEATURE_TRIAL_BOOT, .boot_time_s = 60, /* MCUboot swaps the whole slot */
};

/* All that fits before what MCUboot keeps at the slot's end. */
static void measure(void)
{
    const uint32_t begin = boot_get_image_start_offset(FIXED_PARTITION_ID(SLOT)); /* a sector with MCUboot's "swap using offset" */
    const uint32_t end = (uint32_t)boot_get_area_trailer_status_offset(FIXED_PARTITION_ID(SLOT));
    port.erase_block = block_at(port.slot);
    port.slot += begin;
    port.slot_size = end - end % port.erase_block - begin;
    port.erase_ahead = port.slot_size; /* most chips receive nothing while they erase: all of it first */
    port.journal_area = port.erase_block;
}

static void on_interrupt(const struct device *device, void *c)
{
    uint8_t bytes[16];
    int n;
    ARG_UNUSED(c);
    while (uart_irq_update(device) && uart_irq_rx_ready(device)) {
        n = uart_fifo_read(device, bytes, sizeof bytes);
        for (int i = 0; i < n; i++)
            rcp_rx_byte(&rcp, bytes[i]);
    }
    k_sem_give(&has_come);
}

int main(void)
{
    measure();
    boot.boot_id = sys_rand32_get();
    boot.on_trial = !boot_is_img_confirmed();
    if (rcp_init(&rcp, &port, &boot) != RCP_OK)
        return 1; /* rcp_reason_t says what does not fit; an image on trial goes back at the next restart */
    uart_irq_callback_user_data_set(line, on_interrupt, NULL);
    uart_irq_rx_enable(line);
    for (;;) {
        rcp_poll(&rcp);
        /* The semaphore keeps a byte that came meanwhile: nothing is slept over. */
        if (!rcp_has_work(&rcp))
            k_sem_take(&has_come, rcp_idle_ms(&rcp) == UINT32_MAX ? K_FOREVER : K_MSEC(rcp_idle_ms(&rcp)));
    }
}
