/*
 * ESP-IDF and its bootloader with rollback as a process, for the port in device/ports/esp-idf: its stubs with something behind them. Flash is
 * a file, the UART a pty, a reset starts the program again. A cell that is programmed twice, or one of the running image, ends it.
 *
 *     esp_idf FOLDER    FOLDER/flash.bin is there; FOLDER/port becomes the pty
 *
 * An image is a line of text: "VERSION good SIZE", or "VERSION hangs SIZE", which the watchdog ends.
 */
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "driver/uart.h"
#include "esp_app_desc.h"
#include "esp_image_format.h"
#include "esp_ota_ops.h"
#include "esp_random.h"
#include "esp_system.h"
#include "esp_timer.h"

enum { FLASH_SIZE = 4 << 20, OTADATA = 0xD000, SECTOR = 4096, TICK_MS = 10 };

static const esp_partition_t SLOTS[2] = {{.address = 0x10000, .size = 0x180000, .label = "ota_0"},
                                         {.address = 0x190000, .size = 0x180000, .label = "ota_1"}};
static const esp_partition_t JOURNAL = {.address = 0x310000, .size = 0x2000, .label = "rcp"};
static char **arguments;
static char *folder;
static uint8_t *flash;
static int master, slave, running;

void app_main(void);

static void demand(bool is_so, const char *what)
{
    if (is_so)
        return;
    fprintf(stderr, "fault: %s\n", what);
    exit(2);
}

/* Of the real otadata what matters: the slot to boot, and a state for each; erased: undefined. */
static uint8_t *boot_slot(void)
{
    return flash + OTADATA;
}

static int8_t *state_of(int slot)
{
    return (int8_t *)flash + OTADATA + 1 + slot;
}

static void choose_slot(void)
{
    running = *boot_slot() == 1 ? 1 : 0;
    if (*state_of(running) == ESP_OTA_IMG_NEW) {
        *state_of(running) = ESP_OTA_IMG_PENDING_VERIFY;
    } else if (*state_of(running) == ESP_OTA_IMG_PENDING_VERIFY) { /* it was started, and nobody confirmed it */
        *state_of(running) = ESP_OTA_IMG_ABORTED;
        running = 1 - running;
        *boot_slot() = (uint8_t)running;
    }
}

static void open_flash(void)
{
    char path[256];
    int file;
    snprintf(path, sizeof path, "%s/flash.bin", folder);
    file = open(path, O_RDWR);
    flash = mmap(NULL, FLASH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    demand(file >= 0 && flash != MAP_FAILED, "flash.bin");
}

/* The pty outlives a reset: its ends are handed on to the next life. */
static void open_port(void)
{
    struct termios raw = {0};
    char name[64], port[256], ends[32];
    if (getenv("PTY") != NULL) {
        demand(sscanf(getenv("PTY"), "%d %d", &master, &slave) == 2, "PTY");
        return;
    }
    cfmakeraw(&raw);
    demand(openpty(&master, &slave, name, &raw, NULL) == 0, "openpty");
    snprintf(port, sizeof port, "%s/port", folder);
    unlink(port);
    demand(symlink(name, port) == 0, "symlink");
    snprintf(ends, sizeof ends, "%d %d", master, slave);
    setenv("PTY", ends, 1);
}

static bool is_hanging(void)
{
    return strstr((const char *)flash + SLOTS[running].address, " good ") == NULL;
}

/* ---- what the port asks for ---- */

const esp_app_desc_t *esp_app_get_description(void)
{
    static esp_app_desc_t description;
    demand(sscanf((const char *)flash + SLOTS[running].address, "%31s", description.version) == 1, "no image");
    return &description;
}

uint32_t esp_random(void)
{
    uint32_t number = 0;
    const int file = open("/dev/urandom", O_RDONLY);
    demand(read(file, &number, sizeof number) == sizeof number, "urandom");
    close(file);
    return number;
}

int64_t esp_timer_get_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void esp_restart(void)
{
    execv(arguments[0], arguments);
    abort();
}

void stub_abort(void)
{
    demand(false, "ESP_ERROR_CHECK");
}

esp_err_t uart_driver_install(uart_port_t port, int rx_size, int tx_size, int queue_size, void **queue, int flags)
{
    (void)port, (void)rx_size, (void)tx_size, (void)queue_size, (void)queue, (void)flags;
    return ESP_OK;
}

esp_err_t uart_param_config(uart_port_t port, const uart_config_t *config)
{
    (void)port, (void)config;
    return ESP_OK;
}

esp_err_t uart_set_pin(uart_port_t port, int tx, int rx, int rts, int cts)
{
    (void)port, (void)tx, (void)rx, (void)rts, (void)cts;
    return ESP_OK;
}

int uart_write_bytes(uart_port_t port, const void *src, size_t size)
{
    (void)port;
    return (int)write(master, src, size);
}

int uart_read_bytes(uart_port_t port, void *buf, uint32_t length, TickType_t ticks)
{
    struct pollfd wait = {.fd = master, .events = POLLIN};
    (void)port;
    return poll(&wait, 1, (int)(ticks * TICK_MS)) == 1 ? (int)read(master, buf, length) : 0;
}

esp_err_t uart_wait_tx_done(uart_port_t port, TickType_t ticks)
{
    (void)port, (void)ticks;
    return ESP_OK;
}

static uint8_t *place(const esp_partition_t *in, size_t offset, size_t size)
{
    demand(offset <= in->size && size <= in->size - offset, "beyond a partition");
    return flash + in->address + offset;
}

const esp_partition_t *esp_partition_find_first(esp_partition_type_t type, esp_partition_subtype_t subtype, const char *label)
{
    return type == ESP_PARTITION_TYPE_DATA && subtype == 0x40 && strcmp(label, "rcp") == 0 ? &JOURNAL : NULL;
}

esp_err_t esp_partition_read(const esp_partition_t *in, size_t offset, void *to, size_t size)
{
    memcpy(to, place(in, offset, size), size);
    return ESP_OK;
}

esp_err_t esp_partition_write(const esp_partition_t *in, size_t offset, const void *from, size_t size)
{
    uint8_t *const at = place(in, offset, size);
    demand(in != &SLOTS[running], "a write into the running image");
    for (size_t i = 0; i < size; i++)
        demand(at[i] == 0xFF, "a cell that is programmed twice");
    memcpy(at, from, size);
    return ESP_OK;
}

esp_err_t esp_partition_erase_range(const esp_partition_t *in, size_t offset, size_t size)
{
    demand(offset % SECTOR == 0 && size % SECTOR == 0, "an erase off the sectors");
    demand(in != &SLOTS[running], "an erase of the running image");
    memset(place(in, offset, size), 0xFF, size);
    return ESP_OK;
}

esp_err_t esp_image_get_metadata(const esp_partition_pos_t *part, esp_image_metadata_t *metadata)
{
    return sscanf((const char *)flash + part->offset, "%*s %*s %u", &metadata->image_len) == 1 ? ESP_OK : -1;
}

const esp_partition_t *esp_ota_get_running_partition(void)
{
    return &SLOTS[running];
}

const esp_partition_t *esp_ota_get_next_update_partition(const esp_partition_t *start_from)
{
    (void)start_from;
    return &SLOTS[1 - running];
}

const esp_partition_t *esp_ota_get_last_invalid_partition(void)
{
    const int8_t state = *state_of(1 - running);
    return state == ESP_OTA_IMG_INVALID || state == ESP_OTA_IMG_ABORTED ? &SLOTS[1 - running] : NULL;
}

esp_err_t esp_ota_get_state_partition(const esp_partition_t *partition, esp_ota_img_states_t *ota_state)
{
    *ota_state = *state_of(partition == &SLOTS[1]);
    return ESP_OK;
}

esp_err_t esp_ota_set_boot_partition(const esp_partition_t *partition)
{
    *boot_slot() = partition == &SLOTS[1];
    *state_of(*boot_slot()) = ESP_OTA_IMG_NEW;
    return ESP_OK;
}

esp_err_t esp_ota_mark_app_valid_cancel_rollback(void)
{
    *state_of(running) = ESP_OTA_IMG_VALID;
    return ESP_OK;
}

esp_err_t esp_ota_mark_app_invalid_rollback_and_reboot(void)
{
    *state_of(running) = ESP_OTA_IMG_INVALID;
    *boot_slot() = (uint8_t)(1 - running);
    esp_restart();
}

int main(int count, char **words)
{
    demand(count == 2, "esp_idf FOLDER");
    arguments = words;
    folder = words[1];
    open_flash();
    open_port();
    choose_slot();
    if (is_hanging()) {
        sleep(1); /* the watchdog's time */
        esp_restart();
    }
    app_main();
    demand(false, "app_main() has returned");
}
