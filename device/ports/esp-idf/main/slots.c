#include "slots.h"

#include "esp_image_format.h"
#include "esp_ota_ops.h"
#include "esp_partition.h"
#include "esp_system.h"

#include "rcp_sha256.h"

enum { SECTOR = 4096, PIECE = 256, JOURNAL_SUBTYPE = 0x40 };

static const esp_partition_t *slot, *journal;
static uint8_t running[32], reverted[32];
static rcp_sha256_t hash;
static bool is_on_trial;

/* ---- flash: the receiver's addresses are those of the chip ---- */

static const esp_partition_t *partition_at(uint32_t address)
{
    return address - journal->address < journal->size ? journal : slot;
}

static bool read_flash(void *c, uint32_t address, uint8_t *to, uint32_t size)
{
    const esp_partition_t *const in = partition_at(address);
    (void)c;
    return esp_partition_read(in, address - in->address, to, size) == ESP_OK;
}

static bool write_flash(void *c, uint32_t address, const uint8_t *from, uint32_t size)
{
    const esp_partition_t *const in = partition_at(address);
    (void)c;
    return esp_partition_write(in, address - in->address, from, size) == ESP_OK;
}

static bool erase_flash(void *c, uint32_t address)
{
    const esp_partition_t *const in = partition_at(address);
    (void)c;
    return esp_partition_erase_range(in, address - in->address, SECTOR) == ESP_OK;
}

/* ---- SHA-256 ---- */

static void hash_begin(void *c)
{
    (void)c;
    rcp_sha256_begin(&hash);
}

static void hash_add(void *c, const uint8_t *data, uint32_t size)
{
    (void)c;
    rcp_sha256_add(&hash, data, size);
}

static void hash_end(void *c, uint8_t digest[32])
{
    (void)c;
    rcp_sha256_end(&hash, digest);
}

/* Of the whole file, as the gateway sends it. esp_partition_get_sha256() leaves out the hash that is appended to it. */
static const uint8_t *hash_image(const esp_partition_t *in, uint8_t digest[32])
{
    static uint8_t piece[PIECE];
    esp_image_metadata_t image;
    esp_partition_pos_t place;
    if (in == NULL)
        return NULL;
    place.offset = in->address;
    place.size = in->size;
    if (esp_image_get_metadata(&place, &image) != ESP_OK)
        return NULL;
    rcp_sha256_begin(&hash);
    for (uint32_t at = 0, n; at < image.image_len; at += n) {
        n = image.image_len - at < PIECE ? image.image_len - at : PIECE;
        if (esp_partition_read(in, at, piece, n) != ESP_OK)
            return NULL;
        rcp_sha256_add(&hash, piece, n);
    }
    rcp_sha256_end(&hash, digest);
    return digest;
}

/* ---- the bootloader ---- */

static bool activate(void *c, const uint8_t sha256[32], uint32_t size, uint16_t trial_s)
{
    (void)c, (void)sha256, (void)size, (void)trial_s; /* the receiver counts the trial itself */
    return esp_ota_set_boot_partition(slot) == ESP_OK;
}

static bool confirm(void *c)
{
    (void)c;
    is_on_trial = false;
    return esp_ota_mark_app_valid_cancel_rollback() == ESP_OK;
}

static void restart(void *c)
{
    (void)c;
    if (is_on_trial)
        esp_ota_mark_app_invalid_rollback_and_reboot(); /* returns only where it cannot go back */
    esp_restart();
}

bool slots_describe(rcp_port_t *port, rcp_boot_t *boot)
{
    const esp_partition_t *const here = esp_ota_get_running_partition();
    esp_ota_img_states_t state;
    slot = esp_ota_get_next_update_partition(NULL);
    journal = esp_partition_find_first(ESP_PARTITION_TYPE_DATA, (esp_partition_subtype_t)JOURNAL_SUBTYPE, "rcp");
    if (slot == NULL || journal == NULL)
        return false;
    is_on_trial = esp_ota_get_state_partition(here, &state) == ESP_OK && state == ESP_OTA_IMG_PENDING_VERIFY;
    boot->on_trial = is_on_trial;
    boot->running_sha256 = hash_image(here, running);
    boot->reverted_sha256 = hash_image(esp_ota_get_last_invalid_partition(), reverted);
    port->erase_block = SECTOR;
    port->slot = slot->address;
    port->slot_size = slot->size;
    port->journal = journal->address;
    port->journal_area = journal->size / 2;
    port->flash_read = read_flash;
    port->flash_write = write_flash;
    port->flash_erase = erase_flash;
    port->sha256_begin = hash_begin;
    port->sha256_add = hash_add;
    port->sha256_end = hash_end;
    port->activate = activate;
    port->confirm = confirm;
    port->restart = restart;
    port->features = RCP_FEATURE_TRIAL_BOOT;
    return true;
}
