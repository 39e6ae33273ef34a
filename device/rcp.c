/*
 * Theory of operation.
 *
 * rcp_rx_byte() only fills the ring. rcp_poll() takes bytes from it until one frame is whole, answers it, and then does one slice of what
 * the state asks for: erase one block, write one record, hash for RCP_HASH_MS, restart when the line has drained. Nothing ever waits.
 *
 * Image data goes to flash through the port's write unit, so there are four offsets, in this order:
 *
 *     durable <= written <= received <= credit <= erased
 *
 * `durable` is what the journal knows, `written` is in flash and was read back (written_crc), `received` includes what lies in the unit.
 * The gateway was promised that it may send up to `credit`, and only erased flash is promised. After a restart everything begins again at
 * `durable`, so the blocks behind it are erased again: what a torn write left there is never programmed a second time.
 *
 * `hashed` follows `written`: what is read back goes into the SHA-256 at once. Only after a restart it starts from 0 and catches up, a slice
 * in each rcp_poll(); FINISH is answered when it has.
 *
 * The journal is two areas. The one in use begins with a copy of what is to be remembered; progress marks follow. When it is full, or
 * anything but progress has changed (`unsaved`), the other area is erased, one block in each rcp_poll(), and begins with a copy under the next
 * generation. A cut leaves one of the two whole. What must not happen before the record is there waits for it: erasing the slot for a new
 * image (in PREPARE) and setting the boot flag (in ACTIVATING). Each record's CRC-32 is seeded with its area's generation, so remnants are not
 * records; what is not blank is not written. Records pass through the write unit, too: they are only written while no part of an image is in it.
 *
 * With RCP_BLE the link may be packets: the ring then holds each with its length before it, a frame may come in fragments, and DATA
 * without CRC is made whole in the frame buffer before it is looked at.
 */
#include "rcp.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

#if UINT_MAX < 0xFFFFFFFFu || CHAR_BIT != 8
#error "RCP needs an int of 32 bits and bytes of 8: AVR, MSP430 and the like are too small (device/README.md says why)"
#endif
#if RCP_ERASED != 0xFFu && RCP_ERASED != 0x00u
#error "RCP_ERASED is what a byte of erased flash reads: 0xFF or 0x00"
#endif

enum frame_type {
    HELLO = 0x01, INFO, OFFER, ACCEPT, HAVE_IT, REFUSE, FINISH, FINISHED, ACTIVATE, ACTIVATED, CONFIRM, CONFIRMED, ABORT, ABORTED, BUSY,
    NOT_NOW, SET_BAUD, BAUD_OK, ERROR, DATA = 0x40, ACK, NAK
};

/* Codes as a byte: the two halves of 0x0n0m. */
enum code {
    NO_SESSION = 0x11, BAD_STATE, OTHER_BOOT, STILL_ON_TRIAL, RESTARTING, NOT_STAGED,
    DIGEST_MISMATCH = 0x21, FLASH_READ,
    MALFORMED = 0x31, UNKNOWN_TYPE, UNKNOWN_CRITICAL_TAG, UNKNOWN_ENCODING, TOO_LARGE, ALREADY_TRIED, FLASH_FAILED, PROTOCOL_VERSION,
    BAUD, NOT_RUNNING
};

/* In PREPARE, HASH and ACTIVATING it works and answers BUSY; from ACTIVATING on there is no way back. */
enum state { IDLE, RECV, FULL, STAGED, PREPARE, HASH, ACTIVATING, RESTART };
enum image_state { CONFIRMED_IMAGE, ON_TRIAL, REVERTED };
enum tried_end { UNKNOWN_END, STARTED, KEPT, GIVEN_UP };
enum { LEAD = RCP_FRAME_LEAD, HEADER_SIZE = 2, CRC_SIZE = 4, SMALL_FRAME = 44, SLICE = 64, CELL = 16, SHA_SIZE = 32, ANY_SIZE = 255 };

#define PROTOCOL 1u
#define PROGRESS_STEP 4096u      /* a journal record at most this often */
#define SESSION_IN_USE_S 10u     /* longer than any gap a living gateway makes */
#define ANOTHER_GATEWAY 1u       /* a NOT_NOW reason */
#define SILENCE_FIRST_S 1u       /* nothing valid was heard at a new speed */
#define SILENCE_LATER_S 3u
#define BUSY_REPEAT_MS 2000u     /* said again after this; promised is BUSY_SPARE_MS and one erase more */
#define BUSY_SPARE_MS 500u
#define HIGHEST_BAUD 20000000u   /* keeps the tolerance's arithmetic in 32 bits */

/* Records lie in cells of CELL bytes or one write unit; the copy at an area's begin has COPY_ROOM or a write unit. */
#define COPY_ROOM 128u
#define CRC_OF_ALL 0x2144DF1Cu /* CRC-32 of anything with its CRC-32 behind it */

/* Called from several places: put into each of them it would only cost code. */
#ifdef __GNUC__
#define APART __attribute__((noinline))
#else
#define APART
#endif

/* What is taken for granted, in a form that C99 has. */
#define ASSERT(name, condition) typedef char rcp_assert_##name[(condition) ? 1 : -1]

typedef struct {
    char byte;
    uint32_t number;
} number_place_t;

ASSERT(numbers_are_aligned, offsetof(number_place_t, number) == 4); /* so that an interrupt sees whole indices */
ASSERT(copy_has_no_gaps, sizeof(rcp_journal_t) == 88);
ASSERT(mark_has_no_gaps, sizeof(rcp_mark_t) == 12);
ASSERT(small_frame_is_large_enough, SMALL_FRAME >= LEAD + HEADER_SIZE + SHA_SIZE + CRC_SIZE + 1);

#if RCP_BLE
enum { FRAGMENT = 0x60, FRAGMENT_LAST = 0x10, FRAGMENT_NUMBER = 0x0F, FRAGMENTS = 16, NO_FRAGMENT = 255, SHORT_DATA = 0x80 };
enum { LEAST_PACKET = 20, MOST_PACKET = 512, LENGTH_SIZE = 2, QUIET_FRAMES = 6 /* a quarter of what a gateway has in flight */ };
#endif

/* ---- bytes ---- */

static uint32_t crc32(uint32_t crc, const void *data, uint32_t size)
{
    static const uint32_t NIBBLE[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const uint8_t *p = (const uint8_t *)data;
    for (crc = ~crc; size > 0; size--) {
        crc ^= *p++;
        crc = crc >> 4 ^ NIBBLE[crc & 15u];
        crc = crc >> 4 ^ NIBBLE[crc & 15u];
    }
    return ~crc;
}

static uint32_t get(const uint8_t *p, unsigned size)
{
    uint32_t value = 0;
    while (size-- > 0)
        value = value << 8 | p[size];
    return value;
}

static uint8_t *put(uint8_t *p, uint32_t value, unsigned size)
{
    for (; size > 0; size--, value >>= 8)
        *p++ = (uint8_t)value;
    return p;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static bool same_sha256(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, SHA_SIZE) == 0;
}

/* ---- sending ---- */

static void put_on_line(const rcp_t *r, const uint8_t *data, uint32_t size)
{
    r->port->send(r->port->context, data, size);
}

#if RCP_BLE
/* Sends a packet, or fragments: each one's head goes before its bytes, over the last one of what has been sent. */
static void send_packets(const rcp_t *r, uint8_t *frame, uint32_t size)
{
    const uint32_t most = r->packet - 1;
    uint32_t head = FRAGMENT;
    if (size <= r->packet) {
        put_on_line(r, frame, size);
        return;
    }
    if (size > FRAGMENTS * most)
        return;
    for (uint32_t n; size > 0; frame += n, size -= n) {
        n = smaller(size, most);
        frame[-1] = (uint8_t)(n < size ? head : head | FRAGMENT_LAST);
        put_on_line(r, frame - 1, n + 1);
        head++;
    }
}
#endif

/*
 * Sends 00 | COBS(frame and its CRC) | 00, made in place. The frame lies LEAD bytes into `buffer`; behind it is room for the CRC, the last
 * delimiter and, where the frame is longer than 254 bytes, one more code.
 */
static void send_frame(const rcp_t *r, uint8_t *buffer, uint32_t size)
{
    uint8_t *at = buffer + LEAD, *code = buffer + 1;
    uint8_t *end = put(at + size, crc32(0, at, size), CRC_SIZE);
#if RCP_BLE
    if (r->packet != 0) {
        send_packets(r, at, size + CRC_SIZE);
        return;
    }
#endif
    for (; at != end; at++) {
        const uint32_t run = (uint32_t)(at - code);
        if (run == 255) { /* so long without a zero: a code between */
            memmove(at + 1, at, (uint32_t)(end - at));
            end++;
        } else if (*at != 0) {
            continue;
        }
        *code = (uint8_t)run;
        code = at;
    }
    *code = (uint8_t)(end - code);
    *end = 0;
    buffer[0] = 0;
    put_on_line(r, buffer, (uint32_t)(end - buffer) + 1);
}

/* In the session that asked. */
static void send(const rcp_t *r, uint32_t type, const void *body, uint32_t size)
{
    uint8_t buffer[SMALL_FRAME];
    buffer[LEAD] = (uint8_t)type;
    buffer[LEAD + 1] = r->asked;
    memcpy(buffer + LEAD + HEADER_SIZE, body, size);
    send_frame(r, buffer, HEADER_SIZE + size);
}

/* A frame with up to three numbers; of the last one only `size` bytes. */
static void send_numbers(rcp_t *r, uint32_t type, const uint32_t *numbers, uint32_t size)
{
    uint8_t body[12];
    for (uint32_t at = 0; at < size; at += 4)
        put(body + at, *numbers++, 4);
    send(r, type, body, size);
}

static void send_offsets(rcp_t *r, uint32_t type, uint32_t second)
{
    const uint32_t numbers[3] = {r->received, second, r->credit};
    r->asked = r->session;
#if RCP_BLE
    r->quiet = 0;
    r->told = r->received;
#endif
    send_numbers(r, type, numbers, 12);
}

static void acknowledge(rcp_t *r)
{
    send_offsets(r, ACK, r->journal.durable);
}

/* Says once per pass from where to go on. */
static void gap(rcp_t *r)
{
    if (r->state != RECV || r->pass_nak)
        return;
    r->pass_nak = true;
    send_offsets(r, NAK, r->journal.durable);
}

static void new_pass(rcp_t *r)
{
    r->pass_nak = false;
    r->pass_next = 0;
}

#if RCP_EVENTS
static void tell(const rcp_t *r, rcp_event_t event, uint32_t value)
{
    if (r->port->event != NULL)
        r->port->event(r->port->context, event, value);
}
#else
#define tell(r, event, value) ((void)0)
#endif

/* ---- flash ---- */

static bool flash_read(const rcp_t *r, uint32_t address, void *to, uint32_t size)
{
    return r->port->flash_read(r->port->context, address, (uint8_t *)to, size);
}

static bool blank(const rcp_t *r, uint32_t address, uint32_t size)
{
    uint8_t bytes[CELL];
    for (uint32_t n; size > 0; address += n, size -= n) {
        n = smaller(size, CELL);
        if (!flash_read(r, address, bytes, n))
            return false;
        for (uint32_t i = 0; i < n; i++)
            if (bytes[i] != RCP_ERASED)
                return false;
    }
    return true;
}

#if RCP_BLOCK_SIZES
bool rcp_are_edges(const rcp_port_t *p, uint32_t address, uint32_t size)
{
    while (size > 0) {
        const uint32_t n = p->block_size(p->context, address);
        if (n == 0 || n > size || n > p->erase_block || (n & (p->write_unit - 1)) != 0)
            return false;
        address += n;
        size -= n;
    }
    return true;
}
#endif

/* Erases the next block of what begins at `start`, of which `*done` bytes are. */
static bool erase_block(const rcp_t *r, uint32_t start, uint32_t *done)
{
    const rcp_port_t *p = r->port;
    const uint32_t address = start + *done;
#if RCP_BLOCK_SIZES
    *done += p->block_size(p->context, address);
#else
    *done += p->erase_block;
#endif
    return p->flash_erase(p->context, address);
}

/* Writes the unit, of which `size` bytes are in use, to a place that is blank. */
static bool write_unit(rcp_t *r, uint32_t address, uint32_t size)
{
    const rcp_port_t *p = r->port;
    memset(p->unit + size, RCP_ERASED, p->write_unit - size);
    return blank(r, address, p->write_unit) && p->flash_write(p->context, address, p->unit, p->write_unit);
}

/* ---- the journal ---- */

static uint32_t cell(const rcp_t *r)
{
    return larger(r->port->write_unit, CELL);
}

static uint32_t first_mark(const rcp_t *r)
{
    return larger(r->port->write_unit, COPY_ROOM);
}

/* Writes a record whose last word is its CRC. */
static bool write_record(rcp_t *r, uint32_t address, void *record, uint32_t size)
{
    const uint32_t unit = r->port->write_unit;
    uint8_t *from = (uint8_t *)record;
    put(from + size - CRC_SIZE, crc32(r->journal.generation, record, size - CRC_SIZE), CRC_SIZE);
    for (uint32_t n; size > 0; from += n, size -= n, address += n) {
        n = smaller(size, unit);
        /* cppcheck-suppress uninitvar ; the record's CRC is there since put() above */
        memcpy(r->port->unit, from, n);
        if (!write_unit(r, address, n))
            return false;
    }
    return true;
}

/*
 * Erases a block of the other area, or begins it when all are. Until its copy is whole the area in use stays in force. Returns an error code
 * or 0; where nobody asked for the record, it goes with the next one.
 */
static uint32_t save(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    const uint32_t other = 2 * p->journal + p->journal_area - r->area;
    bool is_done;
    if (r->spare < p->journal_area) {
        is_done = erase_block(r, other, &r->spare);
        if (is_done)
            return 0;
    } else {
        r->journal.durable = r->next_durable;
        r->journal.crc = r->next_crc;
        r->journal.generation++;
        is_done = write_record(r, other, &r->journal, sizeof r->journal);
        if (is_done) {
            r->area = other;
            r->mark_at = first_mark(r);
        } else {
            r->journal.generation--; /* marks may still go to the area in use */
        }
    }
    r->unsaved = false;
    r->spare = 0;
    return is_done || r->state == IDLE ? 0 : FLASH_FAILED;
}

/* What the next record says of progress goes behind the last one; where that fails, it waits for the other area. */
static void save_progress(rcp_t *r)
{
    rcp_mark_t mark;
    mark.durable = r->next_durable = r->written;
    mark.crc = r->next_crc = r->written_crc;
    r->unsaved = r->unsaved || r->mark_at >= r->port->journal_area || !write_record(r, r->area + r->mark_at, &mark, sizeof mark);
    if (r->unsaved)
        return;
    r->journal.durable = r->written;
    r->journal.crc = r->written_crc;
    r->mark_at += cell(r);
}

static bool is_sound(uint32_t generation, const void *record, uint32_t size)
{
    return crc32(generation, record, size) == CRC_OF_ALL;
}

/* Behind the last sound mark may be a torn one. It is not blank, so the next mark begins another area. */
static void read_marks(rcp_t *r)
{
    rcp_mark_t mark;
    for (r->mark_at = first_mark(r); r->mark_at < r->port->journal_area; r->mark_at += cell(r)) {
        if (!flash_read(r, r->area + r->mark_at, &mark, sizeof mark) || !is_sound(r->journal.generation, &mark, sizeof mark))
            return;
        r->journal.durable = mark.durable;
        r->journal.crc = mark.crc;
    }
}

static void read_journal(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    rcp_journal_t copy, *m = &r->journal;
    r->area = p->journal + p->journal_area; /* so that the first record goes to area 0 */
    for (uint32_t at = p->journal; at <= p->journal + p->journal_area; at += p->journal_area) {
        if (flash_read(r, at, &copy, sizeof copy) && copy.generation > m->generation && is_sound(copy.generation, &copy, sizeof copy)) {
            *m = copy;
            r->area = at;
        }
    }
    read_marks(r);
}

/* ---- the image in the slot ---- */

static void begin_hash(rcp_t *r)
{
    r->hashed = 0;
    r->port->sha256_begin(r->port->context);
}

static void begin_at_durable(rcp_t *r)
{
    r->written = r->erased = r->next_durable = r->journal.durable;
    r->written_crc = r->next_crc = r->journal.crc;
    begin_hash(r);
}

/* Another image is received from now on, or none: size 0. */
APART static void begin_image(rcp_t *r, uint32_t size)
{
    r->journal.size = size;
    r->journal.durable = r->journal.crc = 0;
    r->unsaved = true;
    begin_at_durable(r);
}

/* Afterwards there is nothing of any image in the slot, if that is wanted. */
static void end_session(rcp_t *r, bool forget)
{
    r->state = IDLE;
    r->session = 0;
    if (forget && r->journal.size != 0)
        begin_image(r, 0);
}

/* So many bytes behind what was received, or the image's end. */
static uint32_t reach(const rcp_t *r, uint32_t bytes)
{
    return r->received + smaller(r->journal.size - r->received, bytes);
}

/* How far erasing has to be ahead of what was received. */
static bool erase_is_due(const rcp_t *r)
{
    return r->erased < reach(r, r->port->window + r->port->erase_ahead);
}

/* Credit grows in steps of whole chunks or half windows. */
static bool grow_credit(rcp_t *r)
{
    const uint32_t edge = smaller(reach(r, r->port->window), r->erased), step = smaller(r->chunk, r->port->window / 2);
    if (edge <= r->credit || (edge != r->journal.size && edge - r->credit < step))
        return false;
    r->credit = edge;
    return true;
}

static uint32_t erase_next(rcp_t *r)
{
    if (!erase_block(r, r->port->slot, &r->erased))
        return FLASH_FAILED;
    if (r->state == RECV && grow_credit(r))
        acknowledge(r);
    return 0;
}

/* Writes what is in the unit and reads it back. Returns an error code or 0. */
static uint32_t store_unit(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    const uint32_t address = p->slot + r->written, size = r->received - r->written;
    uint32_t step;
    if (!write_unit(r, address, size))
        return FLASH_FAILED;
    if (!flash_read(r, address, p->unit, size))
        return FLASH_READ;
    if (r->hashed == r->written) {
        p->sha256_add(p->context, p->unit, size);
        r->hashed += size;
    }
    r->written += size;
    r->written_crc = crc32(r->written_crc, p->unit, size);
    step = r->written - r->next_durable;
    if (r->written == r->journal.size || (step >= PROGRESS_STEP && rcp_are_edges(p, p->slot + r->next_durable, step))) {
        save_progress(r);
        tell(r, RCP_EVENT_PROGRESS, r->written);
    }
    return 0;
}

/* The unit holds what was received and is not written. */
static uint32_t take_bytes(rcp_t *r, const uint8_t *data, uint32_t size)
{
    const rcp_port_t *p = r->port;
    for (uint32_t n; size > 0; data += n, size -= n) {
        const uint32_t filled = r->received - r->written;
        n = smaller(size, p->write_unit - filled);
        memcpy(p->unit + filled, data, n);
        r->received += n;
        if (filled + n == p->write_unit || r->received == r->journal.size) {
            uint32_t code = store_unit(r);
            if (code != 0)
                return code;
        }
    }
    return 0;
}

/* What is wrong with the image or the flash ends the session, and nothing is left of the image. */
static void say_error(rcp_t *r, uint32_t type, uint32_t code)
{
    if (code == FLASH_FAILED || code == FLASH_READ || code == DIGEST_MISMATCH)
        end_session(r, true);
    if (code < 0x100) /* not from the OFFER hook */
        code += 15 * (code & 0xF0);
    tell(r, RCP_EVENT_ERROR, code);
    send_numbers(r, type, &code, 2);
}

/* ---- TLV ---- */

typedef struct {
    uint8_t tag, least, most;
} rule_t;

typedef struct {
    uint8_t count, required; /* the required ones come first */
    rule_t rules[6];
} rules_t;

/* Reads a body from the front; what is wrong first decides. A value's size is the byte before it. Returns an error code or 0. */
static uint32_t read_tags(const uint8_t *body, uint32_t size, const rules_t *rules, const uint8_t **values)
{
    const uint8_t *end = body + size;
    memset(values, 0, sizeof *values * rules->count);
    while (body != end) {
        const rule_t *rule = rules->rules;
        uint32_t i = 0, tag, n;
        if (end - body < 2 || body[1] > end - body - 2)
            return MALFORMED;
        tag = body[0];
        n = body[1];
        body += 2;
        for (; i < rules->count && rule->tag != tag; rule++)
            i++;
        if (i < rules->count) {
            if (values[i] != NULL || n < rule->least || n > rule->most)
                return MALFORMED;
            values[i] = body;
        } else if (tag >= 0x80) {
            return UNKNOWN_CRITICAL_TAG;
        }
        body += n;
    }
    for (uint32_t i = 0; i < rules->required; i++)
        if (values[i] == NULL)
            return MALFORMED;
    return 0;
}

/* Of a value that read_tags() has found. */
static uint32_t value_size(const uint8_t *value)
{
    return *(value - 1);
}

/* ---- identity ---- */

enum { FIRST_TAG = 0x10, RING_TAG = 0x18, SLOT_ADDRESS_TAG = 0x19, TRIED_TAG = 0x20, END_TAG = 0x22 };
/* In rcp_port_t a pointer to a text, and a number of 32 bits; in rcp_boot_t a number, and a pointer to bytes; bytes in rcp_t. */
enum kind { TEXT, NUMBER, BOOT_NUMBER, BOOT_BYTES, STATE };
#define ROW(kind, size, type, field) {kind, size, (uint16_t)offsetof(type, field)}

/* The tags from FIRST_TAG on. Of numbers the low bytes are sent. */
typedef struct {
    uint8_t kind, size;
    uint16_t offset;
} identity_t;

static const identity_t IDENTITY[] = {
    ROW(TEXT, 0, rcp_port_t, app_id),
    ROW(TEXT, 0, rcp_port_t, hardware_id),
    ROW(TEXT, 0, rcp_port_t, device_id),
    ROW(TEXT, 0, rcp_port_t, version),
    ROW(BOOT_NUMBER, 4, rcp_boot_t, boot_id),
    ROW(STATE, 1, rcp_t, image_state),
    ROW(NUMBER, 2, rcp_port_t, max_frame),
    ROW(NUMBER, 4, rcp_port_t, window),
    ROW(NUMBER, 4, rcp_port_t, ring_size),
    ROW(NUMBER, 4, rcp_port_t, slot_address),
    ROW(NUMBER, 4, rcp_port_t, slot_size),
    ROW(NUMBER, 4, rcp_port_t, erase_block),
    ROW(NUMBER, 2, rcp_port_t, write_unit),
    ROW(NUMBER, 2, rcp_port_t, boot_time_s),
    ROW(NUMBER, 4, rcp_port_t, features),
    ROW(BOOT_BYTES, SHA_SIZE, rcp_boot_t, running_sha256),
    ROW(STATE, SHA_SIZE, rcp_t, journal.tried_sha256),
    ROW(STATE, 1, rcp_t, journal.tried_count),
};

static uint8_t *put_identity(const rcp_t *r, uint8_t *at)
{
    const uint32_t end = r->journal.tried_count > 0 ? END_TAG : TRIED_TAG;
    for (uint32_t tag = FIRST_TAG; tag < end; tag++) {
        const identity_t *const row = &IDENTITY[tag - FIRST_TAG];
        const uint32_t kind = row->kind;
        uint32_t size = row->size;
        const void *value = kind <= NUMBER ? (const void *)r->port : kind == STATE ? (const void *)r : (const void *)r->boot;
        uint8_t number[4];
        if (tag == SLOT_ADDRESS_TAG && !r->port->has_slot_address)
            continue;
        value = (const uint8_t *)value + row->offset;
        if (kind == NUMBER || kind == BOOT_NUMBER) {
            put(number, *(const uint32_t *)value - (tag == RING_TAG), 4); /* the ring holds one byte less than its buffer */
            value = number;
        } else if (kind != STATE) {
            value = *(const void *const *)value;
            if (value == NULL)
                continue;
            if (kind == TEXT)
                size = (uint32_t)strlen((const char *)value);
        }
        at[0] = (uint8_t)tag;
        at[1] = (uint8_t)size;
        memcpy(at + 2, value, size);
        at += 2 + size;
    }
    return at;
}

static uint32_t on_hello(rcp_t *r, uint8_t *body, uint32_t size)
{
    static const rules_t RULES = {4, 4, {{0x01, 4, 4}, {0x02, 1, 1}, {0x03, 1, 1}, {0x04, 1, 64}}};
    static const uint8_t PROTOCOLS[] = {0x02, 1, PROTOCOL, 0x03, 1, PROTOCOL};
    const uint8_t *v[4];
    uint8_t *const info = r->port->frame + LEAD, *at = info + HEADER_SIZE + 6;
    uint32_t code = read_tags(body, size, &RULES, v);
    if (code != 0)
        return code;
    if (*v[1] > *v[2])
        return MALFORMED;
    r->hello_gateway = crc32(0, v[3], value_size(v[3]));
    info[0] = INFO; /* from here on INFO is written over HELLO; the session is 0 in both */
    memmove(info + HEADER_SIZE, v[0] - 2, 6); /* the nonce with its tag */
    memcpy(at, PROTOCOLS, sizeof PROTOCOLS);
    at += sizeof PROTOCOLS;
    at = put_identity(r, at);
    send_frame(r, r->port->frame, (uint32_t)(at - info));
    return 0;
}

static bool runs(const rcp_t *r, const uint8_t *sha256)
{
    return r->boot->running_sha256 != NULL && same_sha256(sha256, r->boot->running_sha256);
}

/* ---- OFFER ---- */

enum offer_tag { IMAGE_SHA256, IMAGE_SIZE, IMAGE_VERSION, ENCODING, FROM_ZERO, SECOND_TRY, OFFER_TAGS };
#define RUNS_IT 1u /* among the codes: HAVE_IT is the answer */

/* The order is that of protocol.md, section 4. */
static uint32_t judge_offer(const rcp_t *r, const rcp_offer_t *offer, const uint8_t *const *v)
{
    const rcp_port_t *p = r->port;
    if (*v[ENCODING] != 0)
        return UNKNOWN_ENCODING;
    if (runs(r, offer->sha256))
        return RUNS_IT;
    if (r->image_state == ON_TRIAL)
        return STILL_ON_TRIAL;
    if (r->session_gateway != 0 && r->session != 0 && r->hello_gateway != r->session_gateway && /* 0: no HELLO came before its OFFER */
        r->now_ms - r->session_ms < SESSION_IN_USE_S * 1000)
        return RCP_NOT_NOW(SESSION_IN_USE_S, ANOTHER_GATEWAY);
    if (offer->size == 0 || offer->size > p->slot_size)
        return TOO_LARGE;
    if (r->journal.tried_count > (v[SECOND_TRY] != NULL ? 1 : 0) && same_sha256(offer->sha256, r->journal.tried_sha256))
        return ALREADY_TRIED;
    return p->offer != NULL ? p->offer(p->context, offer) : 0;
}

/* Goes on with the image, or begins it; PREPARE sees to it that the journal knows of a new one before flash is touched. */
static void take_up(rcp_t *r, const rcp_offer_t *offer, bool from_zero)
{
    rcp_journal_t *m = &r->journal;
    const bool same = offer->size == m->size && same_sha256(offer->sha256, m->sha256) &&
                      (m->durable == m->size || rcp_are_edges(r->port, r->port->slot, m->durable)); /* an update may have other blocks */
    const bool repeated = same && r->session == r->asked;
    r->busy_due = true;
    if (repeated && r->state == PREPARE)
        return;
    if (!repeated) {
        r->session = r->asked;
        r->session_gateway = r->hello_gateway;
        r->session_ms = r->now_ms;
        r->credit = r->chunk = 0;
    }
    if (!same || (from_zero && !repeated)) {
        memcpy(m->sha256, offer->sha256, SHA_SIZE);
        begin_image(r, offer->size);
    }
    r->received = r->written;
    r->state = PREPARE;
    tell(r, RCP_EVENT_OFFER, offer->size);
}

static void accept(rcp_t *r)
{
    r->state = r->received == r->journal.size ? FULL : RECV;
    new_pass(r);
    grow_credit(r);
    send_offsets(r, ACCEPT, r->written_crc);
    tell(r, RCP_EVENT_STARTED, r->received);
}

static uint32_t on_offer(rcp_t *r, uint8_t *body, uint32_t size)
{
    static const rules_t RULES = {
        OFFER_TAGS, 4, {{0x30, 32, 32}, {0x31, 4, 4}, {0x32, 5, 62}, {0x33, 1, 1}, {0x34, 0, 0}, {0x35, 0, 0}}};
    const uint8_t *v[OFFER_TAGS];
    rcp_offer_t offer;
    uint32_t code;
    if (r->state >= ACTIVATING)
        return RESTARTING;
    code = read_tags(body, size, &RULES, v);
    if (code == 0) {
        offer.sha256 = v[IMAGE_SHA256];
        offer.size = get(v[IMAGE_SIZE], 4);
        offer.version = (const char *)v[IMAGE_VERSION];
        offer.version_size = value_size(v[IMAGE_VERSION]);
        code = judge_offer(r, &offer, v);
        if (code == 0)
            take_up(r, &offer, v[FROM_ZERO] != NULL);
    }
    if (code == RUNS_IT) {
        send(r, HAVE_IT, v[IMAGE_SHA256], SHA_SIZE);
    } else if (code >= RCP_NOT_NOW(1, 0)) {
        const uint32_t numbers[2] = {code >> 16, code};
        send_numbers(r, NOT_NOW, numbers, 5);
    } else if (code != 0) {
        say_error(r, REFUSE, code);
    }
    return 0;
}

/* ---- DATA ---- */

#if RCP_BLE
/* Whether the gateway can wait for its ACK, which costs a packet: for a quarter of the window or ring, while it may send one chunk more. */
static bool may_wait(rcp_t *r, uint32_t chunk)
{
    const uint32_t room = smaller(r->port->window, r->port->ring_size);
    return r->packet != 0 && r->state == RECV && ++r->quiet < QUIET_FRAMES && (r->received - r->told) * 4 < room &&
           chunk <= r->credit - r->received;
}
#endif

static uint32_t on_data(rcp_t *r, uint8_t *body, uint32_t size)
{
    const uint32_t offset = get(body, 4);
    uint32_t code;
    size -= 4;
    if (r->state != RECV || size == 0) {
        acknowledge(r);
        return 0;
    }
    if (offset > r->credit || size > r->credit - offset)
        return MALFORMED;
    if (offset < r->pass_next)
        new_pass(r);
    r->pass_next = offset + 1;
    if (offset > r->received) {
        gap(r);
        return 0;
    }
    if (size > r->received - offset) {
        uint32_t known = r->received - offset;
        code = take_bytes(r, body + 4 + known, size - known);
        if (code != 0)
            return code;
        r->chunk = size;
        r->pass_nak = false;
        if (r->received == r->journal.size)
            r->state = FULL;
#if RCP_BLE
        if (may_wait(r, size))
            return 0;
#endif
        grow_credit(r);
    }
    acknowledge(r);
    return 0;
}

/* ---- FINISH ---- */

static uint32_t on_finish(rcp_t *r, uint8_t *body, uint32_t size)
{
    (void)body, (void)size;
    if (r->state == STAGED) {
        send(r, FINISHED, r->journal.sha256, SHA_SIZE);
    } else if (r->state == RECV) {
        new_pass(r);
        gap(r);
    } else {
        r->state = HASH;
        r->busy_due = true;
    }
    return 0;
}

/* Reads back what was in flash before a restart, for as long as one slice of work may take. Returns an error code or 0. */
static uint32_t catch_up(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    uint8_t bytes[SLICE];
    do {
        const uint32_t n = smaller(r->written - r->hashed, SLICE);
        if (!flash_read(r, p->slot + r->hashed, bytes, n))
            return FLASH_READ;
        p->sha256_add(p->context, bytes, n);
        r->hashed += n;
    } while (r->hashed < r->written && p->now_ms(p->context) - r->now_ms < RCP_HASH_MS);
    return 0;
}

/* All is hashed. Returns an error code or 0. */
static uint32_t judge_hash(rcp_t *r)
{
    uint8_t digest[SHA_SIZE];
    r->port->sha256_end(r->port->context, digest);
    begin_hash(r); /* for the next FINISH: an ABORT or OFFER may come between */
    if (!same_sha256(digest, r->journal.sha256))
        return DIGEST_MISMATCH;
    r->state = STAGED;
    tell(r, RCP_EVENT_STAGED, r->written);
    return on_finish(r, NULL, 0);
}

/* ---- ACTIVATE and CONFIRM ---- */

static uint32_t on_activate(rcp_t *r, uint8_t *body, uint32_t size)
{
    rcp_journal_t *m = &r->journal;
    (void)size;
    if (r->state == STAGED) {
        if (!same_sha256(body, m->sha256))
            return NOT_STAGED;
        if (get(body + 32, 4) != r->boot->boot_id)
            return OTHER_BOOT;
        m->tried_count = same_sha256(m->tried_sha256, body) ? 2 : 1; /* a third OFFER is refused */
        memcpy(m->tried_sha256, body, SHA_SIZE);
        m->tried_end = UNKNOWN_END;
        m->trial_s = (uint16_t)get(body + 36, 2);
        r->unsaved = true;
        r->image_state = CONFIRMED_IMAGE;
        r->state = ACTIVATING;
        r->busy_ms = r->now_ms; /* BUSY is only said when it takes long */
        r->busy_due = false;
        return 0;
    }
    if (r->state != RESTART)
        return NOT_STAGED;
    send(r, ACTIVATED, body, 0);
    return 0;
}

/* The record of the trial is there: now the boot flag. Returns an error code or 0. */
static uint32_t set_flag(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    const rcp_journal_t *m = &r->journal;
    if (!p->activate(p->context, m->sha256, m->size, m->trial_s))
        return FLASH_FAILED;
    r->state = RESTART;
    send(r, ACTIVATED, m->sha256, 0);
    tell(r, RCP_EVENT_RESTART, 0);
    return 0;
}

/*
 * What became of the image tried last, as far as it shows at this boot. A port that says on_trial, while it runs another image than the one that
 * was tried, is wrong: it was taken back, and the flag is still there.
 */
static void judge_trial(rcp_t *r)
{
    rcp_journal_t *m = &r->journal;
    const uint8_t *const running = r->boot->running_sha256, *const reverted = r->boot->reverted_sha256;
    uint8_t end = r->boot->on_trial ? (uint8_t)STARTED : m->tried_end;
    if ((reverted != NULL && same_sha256(reverted, m->tried_sha256)) ||
        (end == STARTED && m->tried_count > 0 && running != NULL && !same_sha256(running, m->tried_sha256)))
        end = GIVEN_UP;
    r->image_state = end == GIVEN_UP ? REVERTED : r->boot->on_trial ? ON_TRIAL : CONFIRMED_IMAGE;
    r->unsaved = end != m->tried_end;
    m->tried_end = end;
}

static uint32_t on_confirm(rcp_t *r, uint8_t *body, uint32_t size)
{
    static const rules_t RULES = {3, 1, {{0x01, 4, 4}, {0x30, 32, 32}, {0x32, 5, 62}}};
    const rcp_port_t *p = r->port;
    const uint8_t *v[3];
    uint32_t code = read_tags(body, size, &RULES, v);
    if (code != 0)
        return code;
    if (v[1] != NULL ? v[2] != NULL : v[2] == NULL)
        return MALFORMED;
    if (v[1] != NULL ? !runs(r, v[1])
                     : p->version == NULL || strlen(p->version) != value_size(v[2]) || memcmp(p->version, v[2], value_size(v[2])) != 0)
        return NOT_RUNNING;
    if (r->image_state == ON_TRIAL) {
        if (!p->confirm(p->context))
            return FLASH_FAILED;
        r->journal.tried_end = KEPT;
        r->unsaved = true; /* a cut before it is recorded is found out at the next boot */
        r->image_state = CONFIRMED_IMAGE;
        tell(r, RCP_EVENT_CONFIRMED, 0);
    }
    send(r, CONFIRMED, v[0] - 2, 6); /* the nonce with its tag */
    return 0;
}

/* ---- ABORT and SET_BAUD ---- */

static uint32_t on_abort(rcp_t *r, uint8_t *body, uint32_t size)
{
    (void)size;
    if (r->asked != 0 && r->asked != r->session)
        return NO_SESSION;
    if (r->state < ACTIVATING) {
        end_session(r, *body != 0);
    }
    send(r, ABORTED, body, 0);
    return 0;
}

static uint32_t on_set_baud(rcp_t *r, uint8_t *body, uint32_t size)
{
    const rcp_port_t *p = r->port;
    const uint32_t baud = get(body, 4);
    uint32_t actual = 0, numbers[2] = {baud, 0};
    (void)size;
    if (r->state >= ACTIVATING)
        return RESTARTING;
    if (r->state != IDLE)
        return BAD_STATE;
    if ((p->features & RCP_FEATURE_SET_BAUD) != 0 && baud <= HIGHEST_BAUD)
        actual = p->baud_possible(p->context, baud);
    if (actual == 0 || actual > HIGHEST_BAUD || (actual > baud ? actual - baud : baud - actual) * 200 > baud * 3) /* 1.5 % */
        return BAUD;
    numbers[1] = actual;
    send_numbers(r, BAUD_OK, numbers, sizeof numbers);
    r->next_baud = numbers[0];
    r->raised = true;
    return 0;
}

static void switch_baud(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    p->set_baud(p->context, r->next_baud);
    r->next_baud = 0;
    r->silence_s = SILENCE_FIRST_S;
    r->heard_ms = r->now_ms;
}

/* ---- frames ---- */

enum scope { NO, NEW, OWN, ANY }; /* session: 0, one that the frame begins, this one, any */

typedef struct {
    uint8_t type, scope, least, most; /* sizes of the body */
    uint32_t (*take)(rcp_t *r, uint8_t *body, uint32_t size); /* returns an error code or 0 */
} request_t;

static const request_t REQUESTS[] = {
    {HELLO, NO, 0, ANY_SIZE, on_hello}, {OFFER, NEW, 0, ANY_SIZE, on_offer},  {FINISH, OWN, 0, 0, on_finish},
    {ACTIVATE, OWN, 38, 38, on_activate}, {CONFIRM, NO, 0, ANY_SIZE, on_confirm}, {ABORT, ANY, 1, 1, on_abort},
    {SET_BAUD, NO, 4, 4, on_set_baud},  {DATA, OWN, 4, ANY_SIZE, on_data},
};

/* In these BUSY answers whatever comes in the session. */
static bool is_busy(const rcp_t *r)
{
    return r->state >= PREPARE && r->state <= ACTIVATING;
}

/* Returns an error code or 0. */
static uint32_t take_frame(rcp_t *r, uint8_t *frame, uint32_t size)
{
    const uint32_t type = frame[0], session = frame[1];
    const request_t *request = REQUESTS;
    uint32_t scope;
    r->asked = (uint8_t)session;
    r->heard_ms = r->now_ms;
    r->silence_s = SILENCE_LATER_S;
    for (; request->type != type; request++)
        if (request->type == DATA) /* the last one */
            return (type > 0 && type <= ERROR) || type == ACK || type == NAK ? 0 : UNKNOWN_TYPE; /* devices send those */
    scope = request->scope;
    if (size < request->least || (request->most != ANY_SIZE && size > request->most))
        return MALFORMED;
    if (scope == NO ? session != 0 : session == 0 && scope != ANY)
        return MALFORMED;
    if (scope == OWN) {
        if (session != r->session)
            return NO_SESSION;
        r->session_ms = r->now_ms;
        if (is_busy(r) && !(r->state == PREPARE && type == ACTIVATE)) {
            r->busy_due = true;
            return 0;
        }
        if (r->state == RESTART && type != ACTIVATE)
            return RESTARTING;
    }
    return request->take(r, frame + HEADER_SIZE, size);
}

/* A run of bytes between delimiters has come to its end. Returns an error code or 0. */
static uint32_t end_frame(rcp_t *r)
{
    uint8_t *frame = r->port->frame + LEAD;
    const uint32_t size = r->frame_size;
    const bool whole = r->cobs_left == 0 && size >= HEADER_SIZE + CRC_SIZE && size <= r->port->max_frame;
    r->cobs_zero = false;
    r->cobs_left = 0;
    r->frame_size = 0;
    if (whole && crc32(0, frame, size) == CRC_OF_ALL)
        return take_frame(r, frame, size - (HEADER_SIZE + CRC_SIZE));
    gap(r);
    return 0;
}

static void store(rcp_t *r, uint8_t byte)
{
    const uint32_t at = r->frame_size++; /* too long shows at the end */
    if (at < r->port->max_frame)
        r->port->frame[LEAD + at] = byte;
}

static uint8_t next_byte(rcp_t *r)
{
    uint32_t out = r->ring_out;
    const uint8_t byte = ((const volatile uint8_t *)r->ring)[out++];
    r->ring_out = out == r->port->ring_size ? 0 : out;
    return byte;
}

/* Takes bytes until a frame ends. Returns an error code or 0. */
static uint32_t take_from_ring(rcp_t *r)
{
    while (r->ring_out != r->ring_in) {
        uint8_t byte = next_byte(r);
        if (byte == 0) {
            if (r->cobs_left == 0 && !r->cobs_zero && r->frame_size == 0)
                continue; /* nothing lies between two delimiters */
            r->idle_ms = 0;
            return end_frame(r);
        }
        if (r->cobs_left == 0) { /* a code */
            const bool zero = r->cobs_zero;
            r->cobs_left = (uint8_t)(byte - 1);
            r->cobs_zero = byte != 255;
            byte = 0;
            if (!zero)
                continue;
        } else {
            r->cobs_left--;
        }
        store(r, byte);
    }
    return 0;
}

#if RCP_BLE
static void store_rest(rcp_t *r, uint32_t size)
{
    for (; size > 0; size--)
        store(r, next_byte(r));
}

/* DATA that came without its CRC and half of its offset: the one meant is the nearest to the one expected. Returns an error code or 0. */
static uint32_t take_short_data(rcp_t *r, uint32_t session, uint32_t size)
{
    uint8_t *frame = r->port->frame + LEAD;
    if (size >= 2) {
        uint32_t low = next_byte(r);
        low |= (uint32_t)next_byte(r) << 8;
        size -= 2;
        *put(frame, DATA, 1) = (uint8_t)session;
        put(frame + HEADER_SIZE, r->received + (((low - r->received) & 0xFFFFu) ^ 0x8000u) - 0x8000u, 4);
        r->frame_size = HEADER_SIZE + 4;
    }
    store_rest(r, size);
    size = r->frame_size;
    r->frame_size = 0;
    if (size >= HEADER_SIZE + 4 && size <= r->port->max_frame - CRC_SIZE && (r->port->features & RCP_FEATURE_SHORT_DATA) != 0)
        return take_frame(r, frame, size - HEADER_SIZE);
    gap(r);
    return 0;
}

/* Takes a packet: a frame, a fragment of one, or DATA without CRC. Returns an error code or 0. */
static uint32_t take_packet(rcp_t *r)
{
    uint32_t size, head, number;
    if (r->ring_out == r->ring_in)
        return 0;
    r->idle_ms = 0;
    size = next_byte(r);
    size |= (uint32_t)next_byte(r) << 8;
    head = next_byte(r);
    number = head & FRAGMENT_NUMBER;
    if ((head & ~(uint32_t)(FRAGMENT_LAST | FRAGMENT_NUMBER)) != FRAGMENT) {
        r->next_fragment = NO_FRAGMENT;
        r->frame_size = 0;
        if (head >= SHORT_DATA)
            return take_short_data(r, head - SHORT_DATA, size - 1);
        store(r, (uint8_t)head);
    } else if (number == 0 || number == r->next_fragment) {
        r->next_fragment = (uint8_t)(number + 1);
        if (number == 0)
            r->frame_size = 0;
    } else { /* one is missing: what comes cannot be whole */
        r->next_fragment = NO_FRAGMENT;
        r->frame_size = r->port->max_frame + 1;
        head |= FRAGMENT_LAST;
    }
    store_rest(r, size - 1);
    if (r->next_fragment != NO_FRAGMENT && (head & FRAGMENT_LAST) == 0)
        return 0;
    r->next_fragment = NO_FRAGMENT;
    return end_frame(r);
}
#endif

/* ---- work ---- */

static void say_busy(rcp_t *r)
{
    const uint32_t ms = BUSY_REPEAT_MS + BUSY_SPARE_MS + r->port->erase_ms;
    r->heard_ms = r->now_ms; /* this time does not count against a raised speed */
    if (!r->busy_due && r->now_ms - r->busy_ms < BUSY_REPEAT_MS)
        return;
    r->busy_due = false;
    r->busy_ms = r->now_ms;
    send_numbers(r, BUSY, &ms, 4);
}

/* Whether all that was said has left the line; asked again soon. */
static bool has_left(rcp_t *r)
{
    r->idle_ms = 1;
    return r->port->sent(r->port->context);
}

/* What the state waits for is done. Returns an error code or 0. */
static uint32_t move_on(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    if (r->state == HASH)
        return judge_hash(r);
    if (r->state == ACTIVATING)
        return set_flag(r);
    if (r->state == RESTART) {
        if (has_left(r))
            p->restart(p->context);
    }
    return 0;
}

static void begin_slice(rcp_t *r)
{
    r->idle_ms = 0;
    if (is_busy(r))
        say_busy(r);
}

/* One slice of what the state asks for. Returns an error code or 0. */
static uint32_t work(rcp_t *r)
{
    r->asked = r->session;
    if (r->unsaved && (r->state != RECV || r->received == r->written || r->spare < r->port->journal_area)) {
        begin_slice(r);
        return save(r);
    }
    if (r->state >= RECV && r->state <= HASH) {
        if (erase_is_due(r)) {
            begin_slice(r);
            return erase_next(r);
        }
        if (r->state == PREPARE)
            accept(r);
        if (r->hashed < r->written && r->state != STAGED) {
            begin_slice(r);
            return catch_up(r);
        }
    }
    return move_on(r);
}

/* Whether `limit_ms` have gone by since a time. */
static bool is_over(rcp_t *r, uint32_t since_ms, uint32_t limit_ms)
{
    uint32_t gone = r->now_ms - since_ms;
    if (gone >= limit_ms)
        return true;
    r->idle_ms = smaller(r->idle_ms, limit_ms - gone);
    return false;
}

static void look_at_clock(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    if (r->raised && r->next_baud == 0 && is_over(r, r->heard_ms, r->silence_s * 1000u)) {
        r->next_baud = p->base_baud;
        r->raised = false;
    }
    if (r->next_baud != 0 && has_left(r))
        switch_baud(r);
    if (r->image_state == ON_TRIAL && r->journal.tried_count > 0 && is_over(r, r->started_ms, r->journal.trial_s * 1000u)) {
        tell(r, RCP_EVENT_RESTART, 1);
        p->restart(p->context);
    }
}

/* ---- what the porter calls ---- */

void rcp_start(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot)
{
    r->ring = NULL; /* from here on interrupts leave it alone */
    memset(r, 0, sizeof *r);
    if (port == NULL)
        return;
    r->port = port;
    r->boot = boot;
    r->started_ms = port->now_ms(port->context);
    read_journal(r);
    judge_trial(r);
    begin_at_durable(r);
    r->ring = port->ring;
}

RCP_ISR bool rcp_rx_byte(rcp_t *r, uint8_t byte)
{
    volatile uint8_t *const ring = r->ring; /* volatile: the byte is there before ring_in moves */
    uint32_t in;
    if (ring == NULL)
        return false;
    ring[r->ring_in] = byte; /* one place is always free */
    in = r->ring_in + 1;
    if (in == r->port->ring_size)
        in = 0;
    if (in == r->ring_out)
        return false;
    r->ring_in = in;
    return true;
}

#if RCP_BLE
void rcp_connected(rcp_t *r, uint32_t max_packet)
{
    r->packet = larger(smaller(max_packet, MOST_PACKET), LEAST_PACKET);
    r->cobs_zero = false;
    r->next_fragment = NO_FRAGMENT;
    r->frame_size = 0;
    r->cobs_left = 0;
    r->ring_out = r->ring_in;
}

RCP_ISR bool rcp_rx_packet(rcp_t *r, const uint8_t *packet, uint32_t size)
{
    volatile uint8_t *ring = r->ring;
    const uint32_t out = r->ring_out;
    uint32_t in = r->ring_in, room;
    if (ring == NULL || size == 0 || size > MOST_PACKET)
        return false;
    room = out - in - 1; /* one stays free, or full would look as empty */
    if (out <= in)
        room += r->port->ring_size;
    if (size + LENGTH_SIZE > room)
        return false;
    for (uint32_t i = 0; i < size + LENGTH_SIZE; i++) {
        ring[in++] = (uint8_t)(i < LENGTH_SIZE ? size >> 8 * i : packet[i - LENGTH_SIZE]);
        if (in == r->port->ring_size)
            in = 0;
    }
    r->ring_in = in; /* only now is it there */
    return true;
}
#endif

void rcp_poll(rcp_t *r)
{
    uint32_t code;
    if (r->ring == NULL)
        return;
    r->now_ms = r->port->now_ms(r->port->context);
    r->idle_ms = UINT32_MAX;
#if RCP_BLE
    if (r->packet != 0)
        code = take_packet(r);
    else
#endif
        code = take_from_ring(r);
    if (code == 0)
        code = work(r);
    if (code != 0)
        say_error(r, ERROR, code);
    look_at_clock(r);
}
