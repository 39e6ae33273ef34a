#define _GNU_SOURCE 1 /* open_memstream */
#include "record.h"

#include "json.h"
#include "log.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char NAME[] = "device.json";

enum field_kind { TEXT, NUMBER, SECONDS, BOOLEAN };

typedef struct {
    const char *path;
    enum field_kind kind;
    size_t at, size;
} field_t;

#define FIELD(path, kind, member) {path, kind, offsetof(record_t, member), sizeof((record_t *)0)->member}

static const field_t FIELDS[] = {
    FIELD("app_id", TEXT, identity.app_id),
    FIELD("hardware_id", TEXT, identity.hardware_id),
    FIELD("device_id", TEXT, identity.device_id),
    FIELD("slot_address", NUMBER, identity.slot_address),
    FIELD("slot_size", NUMBER, identity.slot_size),
    FIELD("erase_block", NUMBER, identity.erase_block),
    FIELD("write_unit", NUMBER, identity.write_unit),
    FIELD("base_baud", NUMBER, identity.base_baud),
    FIELD("version", TEXT, version),
    FIELD("pending.version", TEXT, pending.version),
    FIELD("pending.trial_s", NUMBER, pending.trial_s),
    FIELD("pending.sha256", TEXT, pending.sha256),
    FIELD("trial.ends", SECONDS, trial.ends),
    FIELD("trial.sha256", TEXT, trial.sha256),
    FIELD("trial.previous_version", TEXT, trial.previous_version),
    FIELD("trial.previous_is_factory", BOOLEAN, trial.previous_is_factory),
    FIELD("reverted_sha256", TEXT, reverted_sha256),
};

static bool read_number(void *to, enum field_kind kind, const char *text)
{
    char *end;
    errno = 0;
    if (kind == SECONDS) {
        double seconds = strtod(text, &end);
        memcpy(to, &seconds, sizeof seconds);
    } else {
        unsigned long long number = strtoull(text, &end, 10);
        uint32_t fits = (uint32_t)number;
        memcpy(to, &fits, sizeof fits);
        if (*text == '-' || number > UINT32_MAX)
            return false;
    }
    return *end == '\0' && errno == 0;
}

static bool read_field(void *to, const field_t *field, enum json_kind kind, const char *text)
{
    if (kind == JSON_NULL) {
        memset(to, 0, field->size);
        return true;
    }
    if (field->kind == TEXT) {
        if (kind == JSON_TEXT && strlen(text) < field->size)
            strcpy(to, text);
        return kind == JSON_TEXT && strlen(text) < field->size;
    }
    if (field->kind == BOOLEAN) {
        *(bool *)to = kind == JSON_TRUE;
        return kind == JSON_TRUE || kind == JSON_FALSE;
    }
    return kind == JSON_NUMBER && read_number(to, field->kind, text);
}

static bool take(void *context, const char *path, enum json_kind kind, const char *text)
{
    record_t *record = context;
    for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++) {
        if (strcmp(path, FIELDS[i].path) != 0)
            continue;
        if (FIELDS[i].at == offsetof(record_t, identity.slot_address))
            record->identity.has_slot_address = kind != JSON_NULL;
        return read_field((uint8_t *)record + FIELDS[i].at, &FIELDS[i], kind, text);
    }
    return true; /* unknown: someone else's */
}

static const char *check(const record_t *record)
{
    if (!version_is_valid(record->version))
        return "it has no version like 1.2.3";
    if (record->pending.version[0] && !version_is_valid(record->pending.version))
        return "pending.version is none like 1.2.3";
    if (record->trial.previous_version[0] && !version_is_valid(record->trial.previous_version))
        return "trial.previous_version is none like 1.2.3";
    return identity_check(&record->identity);
}

bool record_load(record_t *record, const store_t *store)
{
    static const char HINT[] = "correct it, or remove the state directory for a new device";
    size_t size;
    uint8_t *text = store_read(store, NAME, &size);
    const char *wrong;
    if (text == NULL)
        return false;
    record->version[0] = '\0';
    wrong = strlen((char *)text) == size ? json_read((char *)text, take, record) : "a zero byte in it";
    if (wrong != NULL)
        fail(EXIT_FAILED, "%s/%s cannot be used: %s; %s", store->path, NAME, wrong, HINT);
    wrong = check(record);
    if (wrong != NULL)
        fail(EXIT_FAILED, "%s/%s cannot be used: %s; %s", store->path, NAME, wrong, HINT);
    free(text);
    return true;
}

static void write_text(FILE *to, const char *name, const char *text, const char *behind)
{
    fprintf(to, "%s\": ", name);
    json_write_text(to, text[0] ? text : NULL);
    fputs(behind, to);
}

static void write_identity(FILE *to, const identity_t *identity)
{
    write_text(to, "  \"app_id", identity->app_id, ",\n");
    write_text(to, "  \"hardware_id", identity->hardware_id, ",\n");
    write_text(to, "  \"device_id", identity->device_id, ",\n");
    if (identity->has_slot_address)
        fprintf(to, "  \"slot_address\": %u,\n", identity->slot_address);
    else
        fputs("  \"slot_address\": null,\n", to);
    fprintf(to, "  \"slot_size\": %u,\n  \"erase_block\": %u,\n", identity->slot_size, identity->erase_block);
    fprintf(to, "  \"write_unit\": %u,\n  \"base_baud\": %u,\n", identity->write_unit, identity->base_baud);
}

static void write_pending(FILE *to, const record_t *record)
{
    if (!record->pending.version[0]) {
        fputs("  \"pending\": null,\n", to);
        return;
    }
    fputs("  \"pending\": {\n", to);
    write_text(to, "    \"version", record->pending.version, ",\n");
    fprintf(to, "    \"trial_s\": %u,\n", record->pending.trial_s);
    write_text(to, "    \"sha256", record->pending.sha256, "\n  },\n");
}

static void write_trial(FILE *to, const record_t *record)
{
    if (!record->trial.previous_version[0]) {
        fputs("  \"trial\": null,\n", to);
        return;
    }
    fprintf(to, "  \"trial\": {\n    \"ends\": %.6f,\n", record->trial.ends);
    write_text(to, "    \"sha256", record->trial.sha256, ",\n");
    write_text(to, "    \"previous_version", record->trial.previous_version, ",\n");
    fprintf(to, "    \"previous_is_factory\": %s\n  },\n", record->trial.previous_is_factory ? "true" : "false");
}

void record_save(const record_t *record, const store_t *store)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    if (to == NULL)
        fail(EXIT_FAILED, "out of memory for %s", NAME);
    fputs("{\n", to);
    write_identity(to, &record->identity);
    write_text(to, "  \"version", record->version, ",\n");
    write_pending(to, record);
    write_trial(to, record);
    write_text(to, "  \"reverted_sha256", record->reverted_sha256, "\n}\n");
    if (fclose(to) != 0)
        fail(EXIT_FAILED, "out of memory for %s", NAME);
    store_write(store, NAME, text, size);
    free(text);
}
