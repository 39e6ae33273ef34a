/*
 * Theory of operation.
 *
 * rcp_rx_byte() only fills the ring. rcp_poll() takes bytes from it until one frame is whole, answers it, and then does one slice of what
 * the state asks for: erase a block, hash a kilobyte, wait for the line to drain before a restart. Nothing ever waits.
 *
 * Image data goes to flash through the port's write unit, so there are four offsets, in this order:
 *
 *     durable <= written <= received <= credit <= erased
 *
 * `durable` is what the journal knows, `written` is in flash and read back (written_crc), `received` includes what lies in the unit. The
 * gateway was promised that it may send up to `credit`, and only erased flash is promised. After a restart everything begins again at
 * `durable`, so the blocks behind it are erased again: what a torn write left there is never programmed a second time.
 *
 * The journal is two areas. The one in use begins with a full copy of `memory` and goes on with progress marks and further copies; when it is
 * full the other one is erased and begins with a copy under the next generation. A cut leaves one of the two whole. Each record's
 * CRC-32 is seeded with its area's generation, so remnants are not records; cells that are not blank are skipped and never written.
 */
#include "rcp.h"

#include <string.h>

enum frame_type {
    HELLO = 0x01, INFO, OFFER, ACCEPT, HAVE_IT, REFUSE, FINISH, FINISHED, ACTIVATE, ACTIVATED, CONFIRM, CONFIRMED, ABORT, ABORTED, BUSY,
    NOT_NOW, SET_BAUD, BAUD_OK, ERROR, DATA = 0x40, ACK, NAK
};
#define FROM_GATEWAY (1ul << HELLO | 1ul << OFFER | 1ul << FINISH | 1ul << ACTIVATE | 1ul << CONFIRM | 1ul << ABORT | 1ul << SET_BAUD)

enum code {
    NO_SESSION = 0x0101, BAD_STATE, OTHER_BOOT, TRIAL_RUNS, RESTARTING, NOT_STAGED,
    DIGEST_MISMATCH = 0x0201, FLASH_READ,
    MALFORMED = 0x0301, UNKNOWN_TYPE, UNKNOWN_CRITICAL_TAG, UNKNOWN_ENCODING, TOO_LARGE, ALREADY_TRIED, FLASH_FAILED, PROTOCOL_VERSION,
    BAUD, NOT_RUNNING
};

enum state { IDLE, PREPARE, RECV, FULL, HASH, STAGED, RESTART };
enum rcp_tried_end { UNKNOWN_END, STARTED, KEPT, GIVEN_UP };
enum { CRC_SIZE = 4, SMALL_FRAME = 44, SLICE = 64, HASH_BYTES = 1024, CELL = 16 };

#define PROTOCOL 1u
#define PROGRESS_STEP 4096u      /* a journal record at most this often */
#define SESSION_IN_USE_MS 10000u /* longer than any gap a living gateway makes */
#define BAUD_FIRST_MS 1000u      /* at a new speed nothing valid was heard */
#define BAUD_LATER_MS 3000u
#define BUSY_REPEAT_MS 2000u     /* said again after this; promised is BUSY_SPARE_MS and one erase more */
#define BUSY_SPARE_MS 500u
#define HIGHEST_BAUD 20000000u   /* keeps the tolerance's arithmetic in 32 bits */

typedef struct {
    uint32_t generation;
    rcp_memory_t memory;
    uint32_t crc;
} copy_t;

typedef struct {
    uint32_t mark; /* never blank */
    uint32_t durable;
    uint32_t image_crc;
    uint32_t crc;
} progress_t;

#define PROGRESS_MARK 0x52504350u

/* ---- bytes ---- */

static uint32_t crc32(uint32_t crc, const void *data, uint32_t size)
{
    static const uint32_t NIBBLE[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const uint8_t *p = data;
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

static void put(uint8_t *p, uint32_t value, unsigned size)
{
    for (; size > 0; size--, value >>= 8)
        *p++ = (uint8_t)value;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static bool same_sha256(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, 32) == 0;
}

static uint32_t now(const rcp_t *r)
{
    return r->port->now_ms(r->port->context);
}

/* ---- sending ---- */

static void put_on_line(const rcp_t *r, const uint8_t *data, uint32_t size)
{
    r->port->send(r->port->context, data, size);
}

/* Sends 00 | COBS(frame and its CRC) | 00; there must be room for the CRC behind the frame. */
static void send_frame(const rcp_t *r, uint8_t *frame, uint32_t size)
{
    uint8_t code = 0;
    uint32_t at = 0;
    put(frame + size, crc32(0, frame, size), CRC_SIZE);
    size += CRC_SIZE;
    put_on_line(r, &code, 1);
    for (;;) {
        uint32_t run = 0;
        while (run < 254 && at + run < size && frame[at + run] != 0)
            run++;
        code = (uint8_t)(run + 1);
        put_on_line(r, &code, 1);
        put_on_line(r, frame + at, run);
        at += run;
        if (at == size)
            break;
        at += run < 254; /* the zero is in the code */
    }
    code = 0;
    put_on_line(r, &code, 1);
}

static void send(const rcp_t *r, uint8_t type, uint8_t session, const void *body, uint32_t size)
{
    uint8_t frame[SMALL_FRAME];
    frame[0] = type;
    frame[1] = session;
    memcpy(frame + 2, body, size);
    send_frame(r, frame, size + 2);
}

/* A body of up to three numbers, each `width` bytes. */
static void answer(const rcp_t *r, uint8_t type, uint32_t a, unsigned width)
{
    uint8_t body[4];
    put(body, a, width);
    send(r, type, r->asked, body, width);
}

static void error(const rcp_t *r, uint32_t code)
{
    answer(r, ERROR, code, 2);
}

static void send_three(const rcp_t *r, uint8_t type, uint32_t a, uint32_t b, uint32_t c)
{
    uint8_t body[12];
    put(body, a, 4);
    put(body + 4, b, 4);
    put(body + 8, c, 4);
    send(r, type, r->session, body, sizeof body);
}

static void busy(rcp_t *r, uint8_t session)
{
    uint8_t body[4];
    put(body, BUSY_REPEAT_MS + BUSY_SPARE_MS + r->port->erase_ms, 4);
    r->busy_ms = now(r);
    send(r, BUSY, session, body, sizeof body);
}

/* ---- flash ---- */

static bool flash_read(const rcp_t *r, uint32_t address, void *to, uint32_t size)
{
    return r->port->flash_read(r->port->context, address, to, size);
}

static bool flash_erase(const rcp_t *r, uint32_t address)
{
    return r->port->flash_erase(r->port->context, address);
}

static bool blank(const rcp_t *r, uint32_t address, uint32_t size)
{
    uint8_t cell[CELL];
    while (size > 0) {
        uint32_t n = smaller(size, CELL);
        if (!flash_read(r, address, cell, n))
            return false;
        for (uint32_t i = 0; i < n; i++)
            if (cell[i] != 0xFF)
                return false;
        address += n;
        size -= n;
    }
    return true;
}

/* Writes the unit, filled up with FF, to a place that is blank. */
static bool write_unit(rcp_t *r, uint32_t address)
{
    const rcp_port_t *p = r->port;
    memset(p->unit + r->unit_fill, 0xFF, (size_t)(p->write_unit - r->unit_fill));
    r->unit_fill = 0;
    return blank(r, address, p->write_unit) && p->flash_write(p->context, address, p->unit, p->write_unit);
}

/* ---- the journal ---- */

static uint32_t padded(const rcp_t *r, uint32_t size)
{
    uint32_t cell = r->port->write_unit > CELL ? r->port->write_unit : CELL;
    return (size + cell - 1) & ~(cell - 1);
}

static uint32_t area(const rcp_t *r)
{
    return r->port->journal + r->journal_at * r->port->journal_area;
}

/* Appends a record whose last word is its CRC. */
static bool append(rcp_t *r, void *record, uint32_t size)
{
    uint8_t *from = record;
    uint32_t address = area(r) + r->journal_end;
    uint32_t crc = crc32(r->generation, record, size - CRC_SIZE);
    if (padded(r, size) > r->port->journal_area - r->journal_end)
        return false;
    memcpy(from + size - CRC_SIZE, &crc, CRC_SIZE);
    r->journal_end += padded(r, size); /* whatever comes of it, never again there */
    while (size > 0) {
        uint32_t n = smaller(size, r->port->write_unit);
        memcpy(r->port->unit, from, n);
        r->unit_fill = (uint16_t)n;
        if (!write_unit(r, address))
            return false;
        address += r->port->write_unit;
        from += n;
        size -= n;
    }
    return true;
}

static bool append_copy(rcp_t *r)
{
    copy_t copy;
    copy.generation = r->generation;
    copy.memory = r->memory;
    return append(r, &copy, sizeof copy);
}

/* Until its copy is whole, the area that was in use stays in force. */
static bool begin_area(rcp_t *r)
{
    bool done = true;
    r->journal_at ^= 1u;
    for (uint32_t at = 0; done && at < r->port->journal_area; at += r->port->erase_block)
        done = flash_erase(r, area(r) + at);
    r->generation++;
    r->journal_end = 0;
    if (done && append_copy(r))
        return true;
    r->journal_at ^= 1u;
    r->generation--;
    r->journal_end = r->port->journal_area;
    return false;
}

static bool save(rcp_t *r)
{
    return append_copy(r) || begin_area(r);
}

static bool save_progress(rcp_t *r)
{
    progress_t mark = {PROGRESS_MARK, r->written, r->written_crc, 0};
    r->memory.durable = r->written;
    r->memory.crc = r->written_crc;
    return append(r, &mark, sizeof mark) || begin_area(r);
}

static bool read_record(const rcp_t *r, uint32_t generation, uint32_t at, void *record, uint32_t size)
{
    uint32_t crc;
    if (size > r->port->journal_area - at || !flash_read(r, area(r) + at, record, size))
        return false;
    memcpy(&crc, (uint8_t *)record + size - CRC_SIZE, CRC_SIZE);
    return crc == crc32(generation, record, size - CRC_SIZE);
}

static bool read_copy(const rcp_t *r, uint32_t at, copy_t *copy)
{
    return flash_read(r, area(r) + at, copy, sizeof copy->generation) && read_record(r, copy->generation, at, copy, sizeof *copy);
}

/* Reads on behind the area's first copy, and finds the end: behind the last cell that is not blank. */
static void replay(rcp_t *r)
{
    copy_t copy;
    progress_t mark;
    uint32_t at = padded(r, sizeof copy);
    r->journal_end = at;
    while (at < r->port->journal_area) {
        uint32_t size = padded(r, sizeof mark);
        bool is_blank = blank(r, area(r) + at, size);
        if (is_blank) {
            at += size;
            continue;
        }
        if (read_record(r, r->generation, at, &mark, sizeof mark) && mark.mark == PROGRESS_MARK) {
            r->memory.durable = mark.durable;
            r->memory.crc = mark.image_crc;
        } else if (read_record(r, r->generation, at, &copy, sizeof copy) && copy.generation == r->generation) {
            r->memory = copy.memory;
            size = padded(r, sizeof copy);
        }
        at += size;
        r->journal_end = at;
    }
}

static void read_journal(rcp_t *r)
{
    copy_t copy;
    r->journal_end = r->port->journal_area; /* an empty journal: the first record begins area 0 */
    uint8_t newest = 1;
    bool found = false;
    for (r->journal_at = 0; r->journal_at < 2; r->journal_at++)
        if (read_copy(r, 0, &copy) && (!found || copy.generation > r->generation)) {
            found = true;
            newest = (uint8_t)r->journal_at;
            r->generation = copy.generation;
            r->memory = copy.memory;
        }
    r->journal_at = newest;
    if (found)
        replay(r);
}

/* ---- the image in the slot ---- */

/* What lies behind `durable` is not to be relied on, and not to be written before it is erased. */
static void rewind_to_durable(rcp_t *r)
{
    r->written = r->erased = r->memory.durable;
    r->written_crc = r->memory.crc;
}

static bool forget(rcp_t *r)
{
    r->memory.size = r->memory.durable = r->memory.crc = 0;
    rewind_to_durable(r);
    return save(r);
}

static void end_session(rcp_t *r, uint32_t code)
{
    r->asked = r->session;
    r->state = IDLE;
    error(r, code);
}

static void flash_failed(rcp_t *r)
{
    rewind_to_durable(r);
    end_session(r, FLASH_FAILED);
}

/* Writes the unit and reads it back: the CRC is that of what is in flash. */
static uint32_t write_through(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    uint32_t size = r->unit_fill, address = p->slot + r->written;
    if (!write_unit(r, address))
        return FLASH_FAILED;
    if (!flash_read(r, address, p->unit, size))
        return FLASH_READ;
    r->written_crc = crc32(r->written_crc, p->unit, size);
    r->written += size;
    uint32_t step = p->erase_block > PROGRESS_STEP ? p->erase_block : PROGRESS_STEP;
    if ((r->written & (step - 1)) != 0 && r->written != r->memory.size)
        return 0;
    return save_progress(r) ? 0 : FLASH_FAILED;
}

static uint32_t take_bytes(rcp_t *r, const uint8_t *bytes, uint32_t size)
{
    uint32_t code = 0;
    while (size > 0 && code == 0) {
        uint32_t n = smaller(size, (uint32_t)(r->port->write_unit - r->unit_fill));
        memcpy(r->port->unit + r->unit_fill, bytes, n);
        r->unit_fill = (uint16_t)(r->unit_fill + n);
        r->received += n;
        bytes += n;
        size -= n;
        if (r->unit_fill == r->port->write_unit || r->received == r->memory.size)
            code = write_through(r);
    }
    return code;
}

/* The offset `ahead` bytes from what was received, or the image's end. */
static uint32_t ahead(const rcp_t *r, uint32_t bytes)
{
    return r->received + smaller(bytes, r->memory.size - r->received);
}

static uint32_t to_erase(const rcp_t *r)
{
    return ahead(r, r->port->window + r->port->erase_ahead);
}

/* Credit only grows, in steps that are worth a frame, and never beyond what is erased. */
static bool grow_credit(rcp_t *r)
{
    uint32_t limit = smaller(ahead(r, r->port->window), r->erased), step = smaller(r->chunk, r->port->window / 2);
    if (r->written == r->memory.size)
        limit = r->memory.size;
    if (limit <= r->credit || (limit != r->memory.size && limit - r->credit < step))
        return false;
    r->credit = limit;
    return true;
}

static void progress(rcp_t *r, uint8_t type)
{
    send_three(r, type, r->received, r->memory.durable, r->credit);
}

static void gap(rcp_t *r)
{
    if (r->state == RECV && !r->pass_nak) {
        r->pass_nak = true;
        progress(r, NAK);
    }
}

static void accept(rcp_t *r)
{
    r->state = r->written == r->memory.size ? FULL : RECV;
    grow_credit(r);
    send_three(r, ACCEPT, r->received, r->written_crc, r->credit);
}

/* ---- TLV ---- */

enum field { NONCE, PROTOCOL_MIN, PROTOCOL_MAX, GATEWAY_ID, SHA256, SIZE, VERSION, ENCODING, FROM_ZERO, SECOND_TRY, FIELDS };

static const struct { uint8_t tag, shortest, longest; } FIELD[FIELDS] = {
    {0x01, 4, 4}, {0x02, 1, 1}, {0x03, 1, 1}, {0x04, 1, 64}, {0x30, 32, 32}, {0x31, 4, 4}, {0x32, 5, 62}, {0x33, 1, 1}, {0x34, 0, 0}, {0x35, 0, 0}};

#define BIT(field) (1u << (field))
#define HELLO_FIELDS (BIT(NONCE) | BIT(PROTOCOL_MIN) | BIT(PROTOCOL_MAX) | BIT(GATEWAY_ID))
#define OFFER_MUST (BIT(SHA256) | BIT(SIZE) | BIT(VERSION) | BIT(ENCODING))
#define OFFER_FIELDS (OFFER_MUST | BIT(FROM_ZERO) | BIT(SECOND_TRY))
#define CONFIRM_FIELDS (BIT(NONCE) | BIT(SHA256) | BIT(VERSION))

/* Points `found` to the values of the fields that are allowed here; a value's length is the byte before it. */
static uint32_t read_fields(const uint8_t *body, uint32_t size, unsigned allowed, unsigned must, const uint8_t *found[FIELDS])
{
    uint8_t seen[32] = {0};
    memset(found, 0, FIELDS * sizeof found[0]);
    while (size > 0) {
        if (size < 2 || body[1] > size - 2)
            return MALFORMED;
        uint8_t tag = body[0], length = body[1], bit = (uint8_t)(1u << (tag & 7u));
        unsigned i = 0;
        if (seen[tag >> 3] & bit)
            return MALFORMED;
        seen[tag >> 3] |= bit;
        while (i < FIELDS && !(FIELD[i].tag == tag && allowed & BIT(i)))
            i++;
        if (i == FIELDS) {
            if (tag & 0x80u)
                return UNKNOWN_CRITICAL_TAG;
        } else {
            if (length < FIELD[i].shortest || length > FIELD[i].longest)
                return MALFORMED;
            found[i] = body + 2;
            must &= ~BIT(i);
        }
        body += 2u + length;
        size -= 2u + length;
    }
    return must ? MALFORMED : 0;
}

static uint8_t *put_field(uint8_t *to, uint8_t tag, const void *value, uint32_t size)
{
    to[0] = tag;
    to[1] = (uint8_t)size;
    memcpy(to + 2, value, size);
    return to + 2 + size;
}

static uint8_t *put_text(uint8_t *to, uint8_t tag, const char *text)
{
    return text ? put_field(to, tag, text, (uint32_t)strlen(text)) : to;
}

static uint8_t *put_number(uint8_t *to, uint8_t tag, uint32_t value, unsigned size)
{
    to[0] = tag;
    to[1] = (uint8_t)size;
    put(to + 2, value, size);
    return to + 2 + size;
}

/* ---- HELLO, CONFIRM, SET_BAUD, ABORT ---- */

static uint32_t image_state(const rcp_t *r)
{
    return r->image_state == RCP_CONFIRMED && r->memory.tried_end == GIVEN_UP ? RCP_REVERTED : r->image_state;
}

static void hello(rcp_t *r, const uint8_t *body, uint32_t size)
{
    const rcp_port_t *p = r->port;
    const uint8_t *found[FIELDS];
    uint8_t *f = p->frame;
    uint32_t code = read_fields(body, size, HELLO_FIELDS, HELLO_FIELDS, found);
    if (code == 0 && *found[PROTOCOL_MIN] > *found[PROTOCOL_MAX])
        code = MALFORMED;
    if (code) {
        error(r, code);
        return;
    }
    r->hello_gateway = crc32(0, found[GATEWAY_ID], found[GATEWAY_ID][-1]);
    uint32_t nonce = get(found[NONCE], 4); /* before INFO overwrites HELLO */
    *f++ = INFO;
    *f++ = 0;
    f = put_number(f, 0x01, nonce, 4);
    f = put_number(f, 0x02, PROTOCOL, 1);
    f = put_number(f, 0x03, PROTOCOL, 1);
    f = put_text(f, 0x10, p->app_id);
    f = put_text(f, 0x11, p->hardware_id);
    f = put_text(f, 0x12, p->device_id);
    f = put_text(f, 0x13, p->version);
    f = put_number(f, 0x14, p->boot_id, 4);
    f = put_number(f, 0x15, image_state(r), 1);
    f = put_number(f, 0x16, p->max_frame, 2);
    f = put_number(f, 0x17, p->window, 4);
    f = put_number(f, 0x18, p->ring_size - 1, 4);
    if (p->has_slot_address)
        f = put_number(f, 0x19, p->slot_address, 4);
    f = put_number(f, 0x1A, p->slot_size, 4);
    f = put_number(f, 0x1B, p->erase_block, 4);
    f = put_number(f, 0x1C, p->write_unit, 2);
    f = put_number(f, 0x1D, p->boot_time_s, 2);
    f = put_number(f, 0x1E, p->features, 4);
    if (p->running_sha256)
        f = put_field(f, 0x1F, p->running_sha256, 32);
    if (r->memory.tried_count) {
        f = put_field(f, 0x20, r->memory.tried_sha256, 32);
        f = put_number(f, 0x21, r->memory.tried_count, 1);
    }
    send_frame(r, p->frame, (uint32_t)(f - p->frame));
}

static bool runs(const rcp_t *r, const uint8_t *sha256, const uint8_t *version)
{
    const rcp_port_t *p = r->port;
    if (sha256)
        return p->running_sha256 && same_sha256(sha256, p->running_sha256);
    return p->version && strlen(p->version) == version[-1] && memcmp(p->version, version, version[-1]) == 0;
}

static void confirm(rcp_t *r, const uint8_t *body, uint32_t size)
{
    const uint8_t *found[FIELDS];
    uint8_t answered[6];
    uint32_t code = read_fields(body, size, CONFIRM_FIELDS, BIT(NONCE), found);
    if (code == 0 && !found[SHA256] == !found[VERSION])
        code = MALFORMED;
    if (code == 0 && !runs(r, found[SHA256], found[VERSION]))
        code = NOT_RUNNING;
    if (code == 0 && r->image_state == RCP_ON_TRIAL) {
        if (r->port->confirm(r->port->context)) {
            r->image_state = RCP_CONFIRMED;
            r->memory.tried_end = KEPT;
            save(r);
        } else {
            code = FLASH_FAILED;
        }
    }
    if (code) {
        error(r, code);
        return;
    }
    put_field(answered, 0x01, found[NONCE], 4);
    send(r, CONFIRMED, 0, answered, sizeof answered);
}

static void set_baud(rcp_t *r, uint32_t baud)
{
    const rcp_port_t *p = r->port;
    uint8_t body[8];
    uint32_t actual = 0;
    if (r->state != IDLE) {
        error(r, r->state == RESTART ? RESTARTING : BAD_STATE);
        return;
    }
    if (p->features & RCP_FEATURE_SET_BAUD && baud <= HIGHEST_BAUD)
        actual = p->baud_possible(p->context, baud);
    uint32_t off = actual > baud ? actual - baud : baud - actual;
    if (actual == 0 || actual > 2 * HIGHEST_BAUD || off * 100 > baud + baud / 2) {
        error(r, BAUD);
        return;
    }
    put(body, baud, 4);
    put(body + 4, actual, 4);
    send(r, BAUD_OK, 0, body, sizeof body);
    r->next_baud = baud;
}

static void abort_session(rcp_t *r, bool discard)
{
    if (r->asked && r->state != IDLE && r->asked != r->session) {
        error(r, NO_SESSION);
        return;
    }
    if (r->state != RESTART) {
        r->state = IDLE;
        if (discard && r->memory.size && !forget(r)) {
            error(r, FLASH_FAILED);
            return;
        }
    }
    send(r, ABORTED, r->asked, NULL, 0);
}

/* ---- OFFER ---- */

static uint32_t refusal(const rcp_t *r, const uint8_t *const *found, uint32_t size)
{
    const rcp_port_t *p = r->port;
    const rcp_memory_t *m = &r->memory;
    bool in_use = r->state != IDLE && now(r) - r->session_ms < SESSION_IN_USE_MS;
    if (r->image_state == RCP_ON_TRIAL)
        return TRIAL_RUNS;
    if (in_use && r->hello_gateway != r->session_gateway)
        return RCP_NOT_NOW(SESSION_IN_USE_MS / 1000, 1);
    if (size == 0 || size > p->slot_size)
        return TOO_LARGE;
    if (m->tried_count && same_sha256(found[SHA256], m->tried_sha256) && !(found[SECOND_TRY] && m->tried_count == 1))
        return ALREADY_TRIED;
    if (p->offer) {
        rcp_offer_t offer;
        memcpy(offer.sha256, found[SHA256], 32);
        offer.size = size;
        offer.version = (const char *)found[VERSION];
        offer.version_size = found[VERSION][-1];
        return p->offer(p->context, &offer);
    }
    return 0;
}

/* The journal says that this image is next before anything of it is written. */
static bool begin_image(rcp_t *r, const uint8_t *sha256, uint32_t size)
{
    memcpy(r->memory.sha256, sha256, 32);
    r->memory.size = size;
    r->memory.durable = r->memory.crc = 0;
    rewind_to_durable(r);
    return save(r);
}

static void take_offer(rcp_t *r, const uint8_t *const *found, uint32_t size)
{
    bool known = r->memory.size == size && same_sha256(found[SHA256], r->memory.sha256);
    bool fresh = !known || (found[FROM_ZERO] && r->written > 0);
    bool repeated = known && r->state != IDLE && r->session == r->asked;
    if (!repeated || fresh)
        r->credit = r->chunk = 0;
    r->session = r->asked;
    r->session_gateway = r->hello_gateway;
    r->session_ms = now(r);
    if (fresh && !begin_image(r, found[SHA256], size)) {
        r->memory.size = 0;
        end_session(r, FLASH_FAILED);
        return;
    }
    if (r->state == PREPARE && repeated && !fresh) {
        busy(r, r->session);
        return;
    }
    r->received = r->written;
    r->unit_fill = 0;
    r->pass_nak = false;
    r->pass_offset = UINT32_MAX;
    r->state = PREPARE;
    if (r->written == size || r->erased >= to_erase(r))
        accept(r);
    else if (r->port->erase_ms)
        busy(r, r->session);
}

static void offer(rcp_t *r, const uint8_t *body, uint32_t size)
{
    const uint8_t *found[FIELDS];
    uint32_t code = read_fields(body, size, OFFER_FIELDS, OFFER_MUST, found);
    if (r->state == RESTART) {
        error(r, RESTARTING);
        return;
    }
    if (code == 0 && *found[ENCODING] != 0)
        code = UNKNOWN_ENCODING;
    if (code == 0 && runs(r, found[SHA256], NULL)) {
        send(r, HAVE_IT, r->asked, r->port->running_sha256, 32);
        return;
    }
    if (code == 0)
        code = refusal(r, found, get(found[SIZE], 4));
    if (code & 0x80000000u) {
        uint8_t wait[5];
        put(wait, code & 0xFFFFu, 4);
        wait[4] = (uint8_t)(code >> 16);
        send(r, NOT_NOW, r->asked, wait, sizeof wait);
    } else if (code) {
        answer(r, REFUSE, code, 2);
    } else {
        take_offer(r, found, get(found[SIZE], 4));
    }
}

/* ---- DATA, FINISH, ACTIVATE ---- */

static void data(rcp_t *r, uint32_t offset, const uint8_t *bytes, uint32_t size)
{
    if (offset > r->credit || size > r->credit - offset) {
        error(r, MALFORMED);
        return;
    }
    if (offset <= r->pass_offset)
        r->pass_nak = false;
    r->pass_offset = offset;
    r->chunk = size;
    if (offset > r->received) {
        gap(r);
        return;
    }
    uint32_t known = r->received - offset;
    if (size > known) {
        uint32_t code = take_bytes(r, bytes + known, size - known);
        if (code) {
            rewind_to_durable(r);
            end_session(r, code);
            return;
        }
        r->pass_nak = false;
        if (r->written == r->memory.size)
            r->state = FULL;
        grow_credit(r);
    }
    progress(r, ACK);
}

static void finish(rcp_t *r)
{
    if (r->state == RECV) {
        r->pass_nak = true;
        progress(r, NAK);
    } else if (r->state == STAGED) {
        send(r, FINISHED, r->session, r->memory.sha256, 32);
    } else {
        r->state = HASH;
        r->hashed = 0;
        r->port->sha256_begin(r->port->context);
        busy(r, r->session);
    }
}

static void activate(rcp_t *r, const uint8_t *body)
{
    const rcp_port_t *p = r->port;
    rcp_memory_t *m = &r->memory;
    uint32_t code = 0;
    if (r->state == RESTART) {
        send(r, ACTIVATED, r->session, NULL, 0);
        return;
    }
    if (r->state != STAGED || !same_sha256(body, m->sha256))
        code = NOT_STAGED;
    else if (get(body + 32, 4) != p->boot_id)
        code = OTHER_BOOT;
    if (code) {
        error(r, code);
        return;
    }
    if (!m->tried_count || !same_sha256(m->tried_sha256, body))
        m->tried_count = 0;
    memcpy(m->tried_sha256, body, 32);
    m->tried_count = (uint8_t)(m->tried_count + 1);
    m->tried_end = UNKNOWN_END;
    m->trial_s = (uint16_t)get(body + 36, 2);
    if (!save(r) || !p->activate(p->context, m->tried_sha256, m->size, m->trial_s)) {
        end_session(r, FLASH_FAILED);
        return;
    }
    r->state = RESTART;
    send(r, ACTIVATED, r->session, NULL, 0);
}

/* ---- frames ---- */

static void session_frame(rcp_t *r, uint8_t type, const uint8_t *body, uint32_t size)
{
    bool waits = r->state == HASH || (r->state == PREPARE && type != ACTIVATE);
    if (r->state == IDLE || r->asked != r->session) {
        error(r, NO_SESSION);
        return;
    }
    r->session_ms = now(r);
    if (waits)
        busy(r, r->session);
    else if (type == ACTIVATE)
        activate(r, body);
    else if (r->state == RESTART)
        error(r, RESTARTING);
    else if (type == FINISH)
        finish(r);
    else if (r->state == RECV && size > 4)
        data(r, get(body, 4), body + 4, size - 4);
    else
        progress(r, ACK);
}

/* Whether the body's size and the session's number are as section 2 says; TLV bodies are read later. */
static bool well_formed(uint8_t type, uint8_t session, uint32_t size)
{
    switch (type) {
    case HELLO:
    case CONFIRM:
        return session == 0;
    case SET_BAUD:
        return session == 0 && size == 4;
    case ABORT:
        return size == 1;
    case FINISH:
        return session != 0 && size == 0;
    case ACTIVATE:
        return session != 0 && size == 38;
    case DATA:
        return session != 0 && size >= 4;
    default: /* OFFER */
        return session != 0;
    }
}

static void frame(rcp_t *r, const uint8_t *f, uint32_t size)
{
    uint8_t type = f[0];
    const uint8_t *body = f + 2;
    bool small = type > 0 && type <= ERROR;
    r->asked = f[1];
    r->heard_ms = now(r);
    r->switched_first = false;
    size -= 2;
    if (type == ACK || type == NAK || (small && !(FROM_GATEWAY >> type & 1u)))
        return;
    if (!small && type != DATA)
        error(r, UNKNOWN_TYPE);
    else if (!well_formed(type, r->asked, size))
        error(r, MALFORMED);
    else if (type == HELLO)
        hello(r, body, size);
    else if (type == OFFER)
        offer(r, body, size);
    else if (type == CONFIRM)
        confirm(r, body, size);
    else if (type == ABORT)
        abort_session(r, body[0] != 0);
    else if (type == SET_BAUD)
        set_baud(r, get(body, 4));
    else
        session_frame(r, type, body, size);
}

static void frame_byte(rcp_t *r, uint8_t byte)
{
    if (r->frame_size < r->port->max_frame)
        r->port->frame[r->frame_size++] = byte;
    else
        r->frame_bad = true;
}

static void frame_end(rcp_t *r)
{
    uint8_t *f = r->port->frame;
    uint32_t size = r->frame_size;
    bool bad = r->frame_bad || r->cobs_left != 0 || size < 2 + CRC_SIZE;
    if (!bad) {
        size -= CRC_SIZE;
        bad = get(f + size, 4) != crc32(0, f, size);
    }
    if (bad)
        gap(r);
    else
        frame(r, f, size);
}

/* One wire byte into the COBS decoder. True: it ended a frame, or what should have been one. */
static bool wire_byte(rcp_t *r, uint8_t byte)
{
    bool ended = false;
    if (byte == 0) {
        ended = r->frame_begun;
        if (ended)
            frame_end(r);
        r->frame_size = 0;
        r->cobs_left = 0;
        r->cobs_zero = r->frame_begun = r->frame_bad = false;
    } else if (r->cobs_left == 0) {
        if (r->cobs_zero)
            frame_byte(r, 0);
        r->cobs_zero = byte != 0xFF;
        r->cobs_left = (uint8_t)(byte - 1u);
        r->frame_begun = true;
    } else {
        frame_byte(r, byte);
        r->cobs_left--;
    }
    return ended;
}

static void take_input(rcp_t *r)
{
    bool ended = false;
    while (!ended && r->ring_out != r->ring_in) {
        uint32_t at = r->ring_out;
        uint8_t byte = ((volatile uint8_t *)r->port->ring)[at];
        r->ring_out = at + 1 == r->port->ring_size ? 0 : at + 1;
        ended = wire_byte(r, byte);
    }
}

/* ---- work of its own ---- */

static void erase_some(rcp_t *r)
{
    if (r->erased < to_erase(r)) {
        if (!flash_erase(r, r->port->slot + r->erased)) {
            flash_failed(r);
            return;
        }
        r->erased += r->port->erase_block;
    }
    if (r->state == PREPARE && r->erased >= to_erase(r))
        accept(r);
    else if (r->state == RECV && r->ring_in == r->ring_out && !r->frame_begun && grow_credit(r))
        progress(r, ACK);
}

static void hash_some(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    uint8_t bytes[SLICE];
    uint32_t end = r->hashed + smaller(HASH_BYTES, r->memory.size - r->hashed), code = DIGEST_MISMATCH;
    while (r->hashed < end) {
        uint32_t n = smaller(SLICE, end - r->hashed);
        if (!flash_read(r, p->slot + r->hashed, bytes, n)) {
            code = FLASH_READ;
            break;
        }
        p->sha256_add(p->context, bytes, n);
        r->hashed += n;
    }
    if (r->hashed < r->memory.size && code == DIGEST_MISMATCH)
        return;
    p->sha256_end(p->context, bytes);
    if (code == DIGEST_MISMATCH && same_sha256(bytes, r->memory.sha256)) {
        r->state = STAGED;
        finish(r);
    } else {
        forget(r);
        end_session(r, code);
    }
}

static void change_speed(rcp_t *r, uint32_t baud)
{
    r->port->set_baud(r->port->context, baud);
    r->baud = baud;
    r->next_baud = 0;
    r->heard_ms = now(r);
    r->switched_first = true;
}

static uint32_t left(uint32_t since, uint32_t limit, uint32_t at)
{
    return at - since < limit ? limit - (at - since) : 0;
}

static uint32_t trial_left(const rcp_t *r)
{
    if (r->image_state != RCP_ON_TRIAL || r->memory.trial_s == 0)
        return UINT32_MAX;
    return left(r->started_ms, r->memory.trial_s * 1000u, now(r));
}

static uint32_t speed_left(const rcp_t *r)
{
    if (r->baud == r->port->base_baud)
        return UINT32_MAX;
    return left(r->heard_ms, r->switched_first ? BAUD_FIRST_MS : BAUD_LATER_MS, now(r));
}

bool rcp_rx_byte(rcp_t *r, uint8_t byte)
{
    uint32_t at = r->ring_in, next = at + 1 == r->port->ring_size ? 0 : at + 1;
    if (next == r->ring_out)
        return false;
    ((volatile uint8_t *)r->port->ring)[at] = byte;
    r->ring_in = next;
    return true;
}

void rcp_poll(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    take_input(r);
    if (r->state == PREPARE || r->state == HASH) {
        r->heard_ms = r->session_ms = now(r);
        if (r->heard_ms - r->busy_ms >= BUSY_REPEAT_MS && (r->state == HASH || p->erase_ms))
            busy(r, r->session);
    }
    if (r->state == PREPARE || r->state == RECV)
        erase_some(r);
    else if (r->state == HASH)
        hash_some(r);
    if (r->next_baud && p->sent(p->context))
        change_speed(r, r->next_baud);
    else if (speed_left(r) == 0)
        change_speed(r, p->base_baud);
    if ((r->state == RESTART && p->sent(p->context)) || trial_left(r) == 0)
        p->restart(p->context);
}

uint32_t rcp_idle_ms(const rcp_t *r)
{
    bool erases = r->state == RECV && r->erased < to_erase(r);
    if (r->ring_in != r->ring_out || r->state == PREPARE || r->state == HASH || erases)
        return 0;
    if (r->next_baud || r->state == RESTART)
        return 1;
    return smaller(trial_left(r), speed_left(r));
}

/* The bootloader may not know what became of the image tried last; the journal and what runs now say it. */
static void settle_trial(rcp_t *r)
{
    const rcp_port_t *p = r->port;
    rcp_memory_t *m = &r->memory;
    uint8_t end = m->tried_end;
    if (m->tried_count == 0)
        return;
    if (r->image_state == RCP_ON_TRIAL)
        end = STARTED;
    else if (p->running_sha256 && same_sha256(p->running_sha256, m->tried_sha256))
        end = KEPT;
    else if (r->image_state == RCP_REVERTED || (end == STARTED && p->running_sha256))
        end = GIVEN_UP;
    if (end != m->tried_end) {
        m->tried_end = end;
        save(r);
    }
}

static bool is_power_of_two(uint32_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

bool rcp_init(rcp_t *r, const rcp_port_t *port)
{
    uint32_t block = port->erase_block - 1;
    memset(r, 0, sizeof *r);
    r->port = port;
    if (!is_power_of_two(port->erase_block) || !is_power_of_two(port->write_unit) || port->write_unit > port->erase_block)
        return false;
    if ((port->slot_size | port->journal_area) & block || port->journal_area < padded(r, sizeof(copy_t)) + padded(r, sizeof(progress_t)))
        return false;
    if (port->max_frame < RCP_MIN_FRAME || port->window == 0 || port->ring_size < 2 || port->erase_ahead < port->erase_block)
        return false;
    if (port->erase_ahead > UINT32_MAX - port->window)
        return false;
    r->image_state = (uint8_t)port->image_state;
    r->baud = port->base_baud;
    r->started_ms = now(r);
    read_journal(r);
    if (r->memory.size > port->slot_size || r->memory.durable > r->memory.size)
        r->memory.size = r->memory.durable = r->memory.crc = 0;
    rewind_to_durable(r);
    settle_trial(r);
    return true;
}
